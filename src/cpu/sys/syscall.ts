/**
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, RDFSBASE and its family, RDTSC(P), RDPMC, RDPID.
 * SDM 2; APM 3 for SYSCALL and SYSRET outside 64-bit mode, SYSENTER in long mode.
 */
import { SEG } from '../env.ts';
import { FLAG } from '../flags.ts';
import type { Cpu } from './cpu.ts';
import { noteStep } from './debug.ts';
import { setSegmentRaw } from './descriptors.ts';
import { getEflags, setEflags } from './eflags.ts';
import { guestTsc } from './msr.ts';
import {
  FLAT,
  CR4,
  EFER,
  REG,
  SEG_BASE,
  STATUS,
  VEC,
  W_CPL,
  W_CR4,
  W_CSTAR,
  W_EFER,
  W_EFLAGS,
  W_KERNEL_GS_BASE,
  W_LSTAR,
  W_NEXT_IP,
  W_SFMASK,
  W_STAR,
  W_SYSENTER_CS,
  W_SYSENTER_EIP,
  W_SYSENTER_ESP,
  W_TSC_AUX,
} from './words.ts';

function flatSegments(cpu: Cpu, cs: number, codeAttr: number, ss: number, cpl: number): void {
  const dpl = cpl === 3 ? FLAT.DPL3 : 0;
  setSegmentRaw(cpu, cpu.segWord(SEG.CS), (cs & 0xfffc) | cpl, 0, 0xffffffff, codeAttr | dpl);
  setSegmentRaw(cpu, cpu.segWord(SEG.SS), (ss & 0xfffc) | cpl, 0, 0xffffffff, FLAT.DATA | dpl);
  cpu.set(W_CPL, cpl);
  cpu.updateMode();
}

/** SYSCALL. */
export function syscall(cpu: Cpu): number {
  const u32 = cpu.u32;
  const w = cpu.w;
  if (!cpu.model.syscall || (u32[w + W_EFER] & EFER.SCE) === 0 || !cpu.protectedMode()) return cpu.raiseUd();
  const code64 = cpu.code64();
  if (cpu.model.intel && !code64) return cpu.raiseUd();
  const selector = u32[w + W_STAR + 1] & 0xffff;
  const nextLo = u32[w + W_NEXT_IP];
  const nextHi = u32[w + W_NEXT_IP + 1];
  if (cpu.longMode()) {
    const flags = getEflags(cpu) & ~FLAG.RF;
    cpu.setReg(REG.CX, nextLo, nextHi);
    cpu.setReg(11, flags, 0);
    setEflags(cpu, flags & ~u32[w + W_SFMASK]);
    flatSegments(cpu, selector, FLAT.CODE64, selector + 8, 0);
    const entry = w + (code64 ? W_LSTAR : W_CSTAR);
    cpu.setIp(u32[entry], u32[entry + 1]);
    stepByNewFlags(cpu);
    return STATUS.LOOKUP;
  }
  cpu.setReg(REG.CX, nextLo, 0);
  u32[w + W_EFLAGS] &= ~(FLAG.VM | FLAG.IF | FLAG.RF);
  flatSegments(cpu, selector, FLAT.CODE32, selector + 8, 0);
  cpu.setIp(u32[w + W_STAR], 0);
  stepByNewFlags(cpu);
  return STATUS.LOOKUP;
}

/**
 * After SYSCALL and SYSRET it is the new TF that tells whether a single-step trap follows, so that one masked by
 * IA32_FMASK does not hit the kernel's first instruction (APM 3 SYSCALL).
 */
function stepByNewFlags(cpu: Cpu): void {
  cpu.delivered = true;
  noteStep(cpu);
}

/** SYSRET: to 64-bit code with a 64-bit operand, else to 32-bit code. */
export function sysret(cpu: Cpu, size: number): number {
  const u32 = cpu.u32;
  const w = cpu.w;
  if (!cpu.model.syscall || (u32[w + W_EFER] & EFER.SCE) === 0 || !cpu.protectedMode()) return cpu.raiseUd();
  const code64 = cpu.code64();
  if (cpu.model.intel && !code64) return cpu.raiseUd();
  if (cpu.cpl !== 0) return cpu.raiseGp(0);
  const selector = u32[w + W_STAR + 1] >>> 16;
  const lo = cpu.reg(REG.CX);
  const hi = cpu.regHigh(REG.CX);
  if (code64 && size === 8) {
    if (!cpu.mmu.canonical(hi, VEC.GP)) return STATUS.EXCEPTION;
    setEflags(cpu, cpu.reg(11) & 0x3c7fd7);
    flatSegments(cpu, selector + 16, FLAT.CODE64, selector + 8, 3);
    cpu.setIp(lo, hi);
  } else {
    if (cpu.longMode()) setEflags(cpu, cpu.reg(11) & 0x3c7fd7);
    else u32[w + W_EFLAGS] |= FLAG.IF;
    flatSegments(cpu, selector, FLAT.CODE32, selector + 8, 3);
    cpu.setIp(lo, 0);
  }
  stepByNewFlags(cpu);
  cpu.flagsLoaded();
  return STATUS.LOOKUP;
}

/** SYSENTER. AMD's CPUs have it in legacy mode only. */
export function sysenter(cpu: Cpu): number {
  const u32 = cpu.u32;
  const w = cpu.w;
  const long = cpu.longMode();
  if (!cpu.model.sysenter || (long && !cpu.model.intel)) return cpu.raiseUd();
  const selector = u32[w + W_SYSENTER_CS] & 0xfffc;
  if (!cpu.protectedMode() || selector === 0) return cpu.raiseGp(0);
  u32[w + W_EFLAGS] &= ~(FLAG.VM | FLAG.IF | FLAG.RF);
  flatSegments(cpu, selector, long ? FLAT.CODE64 : FLAT.CODE32, selector + 8, 0);
  cpu.setReg(REG.SP, u32[w + W_SYSENTER_ESP], long ? u32[w + W_SYSENTER_ESP + 1] : 0);
  cpu.setIp(u32[w + W_SYSENTER_EIP], long ? u32[w + W_SYSENTER_EIP + 1] : 0);
  return STATUS.LOOKUP;
}

/** SYSEXIT. */
export function sysexit(cpu: Cpu, size: number): number {
  if (!cpu.model.sysenter || (cpu.longMode() && !cpu.model.intel)) return cpu.raiseUd();
  const selector = cpu.get(W_SYSENTER_CS) & 0xfffc;
  if (!cpu.protectedMode() || selector === 0 || cpu.cpl !== 0) return cpu.raiseGp(0);
  const ipLo = cpu.reg(REG.DX);
  const ipHi = cpu.regHigh(REG.DX);
  const spLo = cpu.reg(REG.CX);
  const spHi = cpu.regHigh(REG.CX);
  if (size === 8) {
    if (!cpu.mmu.canonical(ipHi, VEC.GP) || !cpu.mmu.canonical(spHi, VEC.GP)) return STATUS.EXCEPTION;
    flatSegments(cpu, selector + 32, FLAT.CODE64, selector + 40, 3);
    cpu.setIp(ipLo, ipHi);
    cpu.setReg(REG.SP, spLo, spHi);
  } else {
    flatSegments(cpu, selector + 16, FLAT.CODE32, selector + 24, 3);
    cpu.setIp(ipLo, 0);
    cpu.setReg(REG.SP, spLo, 0);
  }
  return STATUS.LOOKUP;
}

/** SWAPGS. */
export function swapgs(cpu: Cpu): number {
  if (!cpu.code64()) return cpu.raiseUd();
  if (cpu.cpl !== 0) return cpu.raiseGp(0);
  const u32 = cpu.u32;
  const gs = cpu.segWord(SEG.GS) + SEG_BASE;
  const kernel = cpu.w + W_KERNEL_GS_BASE;
  const lo = u32[gs];
  const hi = u32[gs + 1];
  u32[gs] = u32[kernel];
  u32[gs + 1] = u32[kernel + 1];
  u32[kernel] = lo;
  u32[kernel + 1] = hi;
  return STATUS.NEXT;
}

function noFsGsBase(cpu: Cpu): boolean {
  return !cpu.code64() || (cpu.get(W_CR4) & CR4.FSGSBASE) === 0;
}

/** RDFSBASE, RDGSBASE. */
export function readSegmentBase(cpu: Cpu, seg: number): number {
  if (noFsGsBase(cpu)) return cpu.raiseUd();
  const at = cpu.segWord(seg) + SEG_BASE;
  cpu.setResult(cpu.u32[at], cpu.u32[at + 1]);
  return STATUS.NEXT;
}

/** WRFSBASE, WRGSBASE. */
export function writeSegmentBase(cpu: Cpu, seg: number, size: number): number {
  if (noFsGsBase(cpu)) return cpu.raiseUd();
  const hi = size === 8 ? cpu.opHigh(0) : 0;
  if (!cpu.mmu.canonical(hi, VEC.GP)) return STATUS.EXCEPTION;
  const at = cpu.segWord(seg) + SEG_BASE;
  cpu.u32[at] = cpu.op(0);
  cpu.u32[at + 1] = hi;
  return STATUS.NEXT;
}

/** RDTSC; with `aux` RDTSCP. */
export function rdtsc(cpu: Cpu, aux: boolean): number {
  if (aux && !cpu.model.rdtscp) return cpu.raiseUd();
  if ((cpu.get(W_CR4) & CR4.TSD) !== 0 && cpu.cpl !== 0) return cpu.raiseGp(0);
  guestTsc(cpu, cpu.pair);
  cpu.setReg(REG.AX, cpu.pair[0], 0);
  cpu.setReg(REG.DX, cpu.pair[1], 0);
  if (aux) cpu.setReg(REG.CX, cpu.get(W_TSC_AUX), 0);
  return STATUS.NEXT;
}

/** RDPID. */
export function rdpid(cpu: Cpu): number {
  if (!cpu.model.rdpid) return cpu.raiseUd();
  cpu.setResult(cpu.get(W_TSC_AUX), 0);
  return STATUS.NEXT;
}

/** RDPMC: the four counters of AMD's read as 0; there are no others. */
export function rdpmc(cpu: Cpu): number {
  if ((cpu.get(W_CR4) & CR4.PCE) === 0 && cpu.cpl !== 0 && cpu.protectedMode()) return cpu.raiseGp(0);
  if (cpu.model.intel || cpu.reg(REG.CX) > 3) return cpu.raiseGp(0);
  cpu.setReg(REG.AX, 0, 0);
  cpu.setReg(REG.DX, 0, 0);
  return STATUS.NEXT;
}
