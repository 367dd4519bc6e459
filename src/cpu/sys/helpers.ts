/**
 * The instructions done in TypeScript, by the decoder's names (docs/plan-boot.md, "Instructions done in
 * TypeScript"). Conventions beyond those:
 *
 * - Of an operand that is a segment, control or debug register, the operand word holds its number.
 * - CALLF and JMPF through memory are `callf_mem` and `jmpf_mem`: the far pointer is at slowAddr.
 * - A result that goes to operand 0 is left in scratch[4] whether operand 0 is a register or memory; the caller
 *   stores it. LDS, LES, LFS, LGS, LSS: also with STATUS.LOOKUP.
 * - INS and OUTS: scratch[5] is the source segment, scratch[6] the repeat prefix (0: none), scratch[7] the address
 *   size in bytes. Other string instructions are not done here.
 * - Helpers read and write `env.regs`, `env.eflags` and the lazy flags directly.
 */
import { SEG } from '../env.ts';
import { FLAG } from '../flags.ts';
import * as control from './control-registers.ts';
import type { Cpu } from './cpu.ts';
import * as debug from './debug.ts';
import { getEflags } from './eflags.ts';
import { deliver, KIND } from './exceptions.ts';
import { callFar, jmpFar, retFar } from './far-transfer.ts';
import * as io from './io.ts';
import { iret } from './iret.ts';
import { rdmsr, wrmsr } from './msr.ts';
import * as segments from './segments.ts';
import * as stackOps from './stack-ops.ts';
import * as system from './syscall.ts';
import {
  CR4,
  REG,
  SEG_BASE,
  STATUS,
  VEC,
  W_APIC_BASE,
  W_CR0,
  W_CR4,
  W_IP,
  W_LDTR,
  W_NEXT_IP,
  W_TR,
  W_XCR0,
} from './words.ts';

/** A helper instruction: operand size in bytes to a STATUS. *Thread:* vCPU. Never throws for what a guest does. */
export type Helper = (cpu: Cpu, size: number) => number;

/** Delivers a software interrupt. */
function softwareInterrupt(cpu: Cpu, vector: number): number {
  return deliver(cpu, vector, -1, KIND.SOFTWARE) ? STATUS.LOOKUP : STATUS.SPECIAL;
}

function int(cpu: Cpu): number {
  if (cpu.v86() && cpu.iopl() !== 3) return cpu.raiseGp(0);
  return softwareInterrupt(cpu, cpu.op(0) & 255);
}

function into(cpu: Cpu): number {
  if ((getEflags(cpu) & FLAG.OF) === 0) return STATUS.NEXT;
  return softwareInterrupt(cpu, VEC.OF);
}

/** INT1 (ICEBP): a debug trap without a privilege check. */
function int1(cpu: Cpu): number {
  cpu.advance();
  return deliver(cpu, VEC.DB, -1, KIND.TRAP) ? STATUS.LOOKUP : STATUS.SPECIAL;
}

function farPointer(cpu: Cpu, size: number): boolean {
  const mmu = cpu.mmu;
  return mmu.readBlock(cpu.addrLo, cpu.addrHi, size + 2, mmu.index());
}

function jmpfMem(cpu: Cpu, size: number): number {
  if (!farPointer(cpu, size)) return STATUS.EXCEPTION;
  const { block16, block32 } = cpu.mmu;
  if (size === 2) return jmpFar(cpu, block16[1], block16[0], 0);
  if (size === 4) return jmpFar(cpu, block16[2], block32[0], 0);
  return jmpFar(cpu, block16[4], block32[0], block32[1]);
}

function callfMem(cpu: Cpu, size: number): number {
  if (!farPointer(cpu, size)) return STATUS.EXCEPTION;
  const { block16, block32 } = cpu.mmu;
  if (size === 2) return callFar(cpu, block16[1], block16[0], 0, size);
  if (size === 4) return callFar(cpu, block16[2], block32[0], 0, size);
  return callFar(cpu, block16[4], block32[0], block32[1], size);
}

const RETF_IMMEDIATE = 0xca;

/** RETF; whether it has an immediate is seen in its bytes: CA lo hi, or CB after prefixes. */
function retf(cpu: Cpu, size: number): number {
  let release = 0;
  const nextLo = cpu.get(W_NEXT_IP);
  if (((nextLo - cpu.get(W_IP)) | 0) >= 3) {
    const wide = cpu.code64();
    const at = nextLo - 3;
    const base = wide ? 0 : cpu.u32[cpu.segWord(SEG.CS) + SEG_BASE];
    const hi = wide ? (cpu.get(W_NEXT_IP + 1) - (at < 0 ? 1 : 0)) >>> 0 : 0;
    const host = cpu.mmu.fetchTranslate((at + base) >>> 0, hi);
    if (host < 0) return STATUS.EXCEPTION;
    if (cpu.u8[host] === RETF_IMMEDIATE) release = cpu.op(0) & 0xffff;
  }
  return retFar(cpu, release, size);
}

/** BOUND: signed index in operand 0, the pair of bounds at slowAddr. */
function bound(cpu: Cpu, size: number): number {
  const mmu = cpu.mmu;
  const shift = size === 2 ? 16 : 0;
  const index = (cpu.op(0) << shift) >> shift;
  // the upper bound is not read when the lower one is violated
  if (!mmu.readBlock(cpu.addrLo, cpu.addrHi, size, mmu.index())) return STATUS.EXCEPTION;
  const low = size === 2 ? (mmu.block16[0] << 16) >> 16 : mmu.block32[0] | 0;
  if (index < low) return cpu.raise(VEC.BR, -1);
  if (!mmu.readBlock(cpu.addrLo, cpu.addrHi, size * 2, mmu.index())) return STATUS.EXCEPTION;
  const high = size === 2 ? (mmu.block16[1] << 16) >> 16 : mmu.block32[1] | 0;
  return index > high ? cpu.raise(VEC.BR, -1) : STATUS.NEXT;
}

const cpuidOut = new Uint32Array(4);
const cpuidState = { apicId: 0, osxsave: false, xcr0: 1, apicEnabled: false };

function cpuid(cpu: Cpu): number {
  cpuidState.apicId = cpu.env.apicId;
  cpuidState.osxsave = (cpu.get(W_CR4) & CR4.OSXSAVE) !== 0;
  cpuidState.xcr0 = cpu.get(W_XCR0);
  cpuidState.apicEnabled = (cpu.get(W_APIC_BASE) & (1 << 11)) !== 0;
  cpu.model.cpuid(cpu.reg(REG.AX), cpu.reg(REG.CX), cpuidState, cpuidOut);
  cpu.setReg(REG.AX, cpuidOut[0], 0);
  cpu.setReg(REG.BX, cpuidOut[1], 0);
  cpu.setReg(REG.CX, cpuidOut[2], 0);
  cpu.setReg(REG.DX, cpuidOut[3], 0);
  return STATUS.NEXT;
}

function hlt(cpu: Cpu): number {
  if (cpu.cpl !== 0) return cpu.raiseGp(0);
  cpu.advance();
  return STATUS.HALT;
}

/** INVD, WBINVD: there is no cache to write back. */
function cacheControl(cpu: Cpu): number {
  return cpu.cpl !== 0 ? cpu.raiseGp(0) : STATUS.NEXT;
}

function monitor(cpu: Cpu): number {
  if (!cpu.model.monitor || cpu.cpl !== 0) return cpu.raiseUd();
  if (cpu.reg(REG.CX) !== 0) return cpu.raiseGp(0);
  const wide = cpu.code64();
  const base = wide ? 0 : cpu.u32[cpu.segWord(SEG.DS) + SEG_BASE];
  const mmu = cpu.mmu;
  const lo = (cpu.reg(REG.AX) + base) >>> 0;
  return mmu.readBlock(lo, wide ? cpu.regHigh(REG.AX) : 0, 1, mmu.index()) ? STATUS.NEXT : STATUS.EXCEPTION;
}

/** MWAIT may end for any reason (SDM 2): here at once, since no store of another vCPU is watched for. */
function mwait(cpu: Cpu): number {
  if (!cpu.model.monitor || cpu.cpl !== 0) return cpu.raiseUd();
  return cpu.reg(REG.CX) > 1 ? cpu.raiseGp(0) : STATUS.NEXT;
}

const undefinedOpcode: Helper = (cpu) => cpu.raiseUd();

/** Every helper by name. */
export const HELPERS: Readonly<Record<string, Helper>> = {
  jmpf: (cpu) => jmpFar(cpu, cpu.op(1), cpu.op(0), 0),
  jmpf_mem: jmpfMem,
  callf: (cpu, size) => callFar(cpu, cpu.op(1), cpu.op(0), 0, size),
  callf_mem: callfMem,
  retf,
  iret,
  int,
  int3: (cpu) => softwareInterrupt(cpu, VEC.BP),
  into,
  int1,
  bound,
  ud: undefinedOpcode,
  rsm: undefinedOpcode,
  rdpkru: undefinedOpcode,
  wrpkru: undefinedOpcode,

  mov_to_sreg: stackOps.movToSegment,
  mov_from_sreg: stackOps.movFromSegment,
  push_sreg: stackOps.pushSegment,
  pop_sreg: stackOps.popSegment,
  lds: (cpu, size) => segments.loadFarPointer(cpu, SEG.DS, size),
  les: (cpu, size) => segments.loadFarPointer(cpu, SEG.ES, size),
  lss: (cpu, size) => segments.loadFarPointer(cpu, SEG.SS, size),
  lfs: (cpu, size) => segments.loadFarPointer(cpu, SEG.FS, size),
  lgs: (cpu, size) => segments.loadFarPointer(cpu, SEG.GS, size),
  pusha: stackOps.pusha,
  popa: stackOps.popa,
  pushf: stackOps.pushf,
  popf: stackOps.popf,
  enter: stackOps.enter,
  cli: stackOps.cli,
  sti: stackOps.sti,
  clac: (cpu) => stackOps.setAc(cpu, false),
  stac: (cpu) => stackOps.setAc(cpu, true),

  lgdt: (cpu, size) => segments.loadTable(cpu, false, size),
  lidt: (cpu, size) => segments.loadTable(cpu, true, size),
  sgdt: (cpu) => segments.storeTable(cpu, false),
  sidt: (cpu) => segments.storeTable(cpu, true),
  lldt: segments.lldt,
  ltr: segments.ltr,
  sldt: (cpu) => segments.storeSystemSelector(cpu, W_LDTR),
  str: (cpu) => segments.storeSystemSelector(cpu, W_TR),
  smsw: (cpu) => segments.smsw(cpu, cpu.get(W_CR0)),
  lmsw: control.lmsw,
  clts: control.clts,
  lar: segments.lar,
  lsl: segments.lsl,
  verr: (cpu) => segments.verify(cpu, false),
  verw: (cpu) => segments.verify(cpu, true),
  arpl: segments.arpl,

  mov_from_cr: control.movFromCr,
  mov_to_cr: control.movToCr,
  mov_from_dr: debug.movFromDr,
  mov_to_dr: debug.movToDr,
  invlpg: control.invlpg,
  invpcid: control.invpcid,
  xgetbv: control.xgetbv,
  xsetbv: control.xsetbv,
  invd: cacheControl,
  wbinvd: cacheControl,
  rdmsr,
  wrmsr,
  rdtsc: (cpu) => system.rdtsc(cpu, false),
  rdtscp: (cpu) => system.rdtsc(cpu, true),
  rdpmc: system.rdpmc,
  rdpid: system.rdpid,
  cpuid,
  hlt,
  monitor,
  mwait,

  syscall: system.syscall,
  sysret: system.sysret,
  sysenter: system.sysenter,
  sysexit: system.sysexit,
  swapgs: system.swapgs,
  rdfsbase: (cpu) => system.readSegmentBase(cpu, SEG.FS),
  rdgsbase: (cpu) => system.readSegmentBase(cpu, SEG.GS),
  wrfsbase: (cpu, size) => system.writeSegmentBase(cpu, SEG.FS, size),
  wrgsbase: (cpu, size) => system.writeSegmentBase(cpu, SEG.GS, size),

  in: io.portIn,
  out: io.portOut,
  ins: (cpu, size) => io.portString(cpu, size, true),
  outs: (cpu, size) => io.portString(cpu, size, false),
};
