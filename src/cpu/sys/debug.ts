/**
 * Debug registers, breakpoints and single stepping (SDM 3B chapter 18). The vCPU loop runs one instruction
 * at a time while `debugActive`, with `instructionBreakpoint` before and `debugTrap` after it.
 */
import { SEG } from '../env.ts';
import { FLAG } from '../flags.ts';
import type { Cpu } from './cpu.ts';
import { CR4, DR7_ENABLES, SEG_BASE, STATUS, VEC, W_CR4, W_DR, W_EFLAGS, W_IP } from './words.ts';

const DR6_FIXED = 0xffff0ff0;
/** Bits that DR6 keeps: B0–B3, BD, BS, BT. */
const DR6_KNOWN = 0xe00f;
const DR6_BD = 1 << 13;
const DR6_BS = 1 << 14;
const DR7_FIXED = 0x400;
const DR7_KNOWN = 0xffff23ff;
const DR7_GD = 1 << 13;

/** R/W field of a breakpoint in DR7. */
const ON = { EXECUTE: 0, WRITE: 1, IO: 2, ACCESS: 3 } as const;

function dr(cpu: Cpu, n: number): number {
  return cpu.u32[cpu.w + W_DR + n * 2];
}
function drHigh(cpu: Cpu, n: number): number {
  return cpu.u32[cpu.w + W_DR + n * 2 + 1];
}
function enabled(dr7: number, n: number): boolean {
  return ((dr7 >>> (n * 2)) & 3) !== 0;
}
function condition(dr7: number, n: number): number {
  return (dr7 >>> (16 + n * 4)) & 3;
}
/** Length in bytes: 1, 2, 8, 4. */
function extent(dr7: number, n: number): number {
  const code = (dr7 >>> (18 + n * 4)) & 3;
  return code === 2 ? 8 : code + 1;
}

/** Debug register number of an operand, with the DR4/DR5 aliases; −1: #UD is set. */
function registerNumber(cpu: Cpu, n: number): number {
  if (n === 4 || n === 5) {
    if ((cpu.get(W_CR4) & CR4.DE) !== 0) {
      cpu.raiseUd();
      return -1;
    }
    return n + 2;
  }
  if (n > 7) {
    cpu.raiseUd();
    return -1;
  }
  return n;
}

/** General detection: any access while DR7.GD is a debug fault. */
function generalDetect(cpu: Cpu): boolean {
  const w = cpu.w + W_DR;
  if ((cpu.u32[w + 14] & DR7_GD) === 0) return false;
  cpu.u32[w + 14] &= ~DR7_GD;
  cpu.u32[w + 12] |= DR6_BD;
  cpu.raise(VEC.DB, -1);
  return true;
}

/** MOV from DRn. */
export function movFromDr(cpu: Cpu): number {
  if (cpu.cpl !== 0) return cpu.raiseGp(0);
  const n = registerNumber(cpu, cpu.op(1));
  if (n < 0 || generalDetect(cpu)) return STATUS.EXCEPTION;
  cpu.setResult(dr(cpu, n), drHigh(cpu, n));
  return STATUS.NEXT;
}

/** MOV to DRn. */
export function movToDr(cpu: Cpu): number {
  if (cpu.cpl !== 0) return cpu.raiseGp(0);
  const n = registerNumber(cpu, cpu.op(0));
  if (n < 0 || generalDetect(cpu)) return STATUS.EXCEPTION;
  const lo = cpu.op(1);
  const hi = cpu.opHigh(1);
  if (n >= 6 && hi !== 0) return cpu.raiseGp(0);
  if (n === 6) {
    cpu.set64(W_DR + 12, ((lo & DR6_KNOWN) | DR6_FIXED) >>> 0, 0);
    return STATUS.NEXT;
  }
  if (n === 7) cpu.set64(W_DR + 14, ((lo & DR7_KNOWN) | DR7_FIXED) >>> 0, 0);
  else cpu.set64(W_DR + n * 2, lo, hi);
  updateBreakpoints(cpu);
  // the next instruction may be one that breaks
  cpu.advance();
  return STATUS.LOOKUP;
}

/** Makes the MMU watch the pages of data breakpoints. After any change of DR0–DR3 or DR7 (also by a debugger or snapshot). */
export function updateBreakpoints(cpu: Cpu): void {
  const dr7 = dr(cpu, 7);
  let data = false;
  for (let n = 0; n < 4; n++) {
    const kind = condition(dr7, n);
    if (enabled(dr7, n) && (kind === ON.WRITE || kind === ON.ACCESS)) data = true;
  }
  const mmu = cpu.mmu;
  if (!data && !mmu.dataBreakpoints) return;
  mmu.dataBreakpoints = data;
  mmu.isWatchedPage = (lo, hi) => watched(cpu, lo, hi);
  mmu.onDataAccess = (lo, hi, size, write) => noteAccess(cpu, lo, hi, size, write);
  mmu.tlb.flushAll();
}

function watched(cpu: Cpu, lo: number, hi: number): boolean {
  const dr7 = dr(cpu, 7);
  for (let n = 0; n < 4; n++) {
    const kind = condition(dr7, n);
    if (!enabled(dr7, n) || (kind !== ON.WRITE && kind !== ON.ACCESS)) continue;
    if (((dr(cpu, n) ^ lo) & ~4095) === 0 && drHigh(cpu, n) === hi) return true;
  }
  return false;
}

/** Compares an access of `size` bytes with the data breakpoints; hits are reported after the instruction. */
function noteAccess(cpu: Cpu, lo: number, hi: number, size: number, write: boolean): void {
  const dr7 = dr(cpu, 7);
  for (let n = 0; n < 4; n++) {
    if (!enabled(dr7, n)) continue;
    const kind = condition(dr7, n);
    if (!(kind === ON.ACCESS || (kind === ON.WRITE && write)) || drHigh(cpu, n) !== hi) continue;
    const length = extent(dr7, n);
    const start = (dr(cpu, n) & ~(length - 1)) >>> 0;
    if (start < lo + size && lo < start + length) {
      cpu.pendingDebug |= 1 << n;
      cpu.mmu.kickSelf();
    }
  }
}

/** Compares a port access with the I/O breakpoints (CR4.DE). */
export function noteIo(cpu: Cpu, port: number, size: number): void {
  const dr7 = dr(cpu, 7);
  if ((dr7 & DR7_ENABLES) === 0 || (cpu.get(W_CR4) & CR4.DE) === 0) return;
  for (let n = 0; n < 4; n++) {
    if (!enabled(dr7, n) || condition(dr7, n) !== ON.IO) continue;
    const length = extent(dr7, n);
    const start = (dr(cpu, n) & ~(length - 1)) >>> 0;
    if (start < port + size && port < start + length) {
      cpu.pendingDebug |= 1 << n;
      cpu.mmu.kickSelf();
    }
  }
}

/** A single-step trap is due before the next instruction: TF came with the one just done (SYSCALL, SYSRET). */
export function noteStep(cpu: Cpu): void {
  if ((cpu.get(W_EFLAGS) & FLAG.TF) !== 0) cpu.pendingDebug |= DR6_BS;
}

/** True while the loop must run single instructions: TF, an enabled breakpoint, or a debug trap pending. */
export function debugActive(cpu: Cpu): boolean {
  return (cpu.get(W_EFLAGS) & FLAG.TF) !== 0 || (dr(cpu, 7) & DR7_ENABLES) !== 0 || cpu.pendingDebug !== 0;
}

/** Before an instruction: true when a breakpoint on it fires; the #DB (a fault) is then set. RF lets one instruction pass. */
export function instructionBreakpoint(cpu: Cpu): boolean {
  const flags = cpu.w + W_EFLAGS;
  if ((cpu.u32[flags] & FLAG.RF) !== 0) {
    cpu.u32[flags] &= ~FLAG.RF;
    return false;
  }
  const dr7 = dr(cpu, 7);
  if ((dr7 & DR7_ENABLES) === 0) return false;
  const cs = cpu.segWord(SEG.CS);
  let lo = cpu.get(W_IP);
  let hi = cpu.get(W_IP + 1);
  if (!cpu.code64()) {
    lo = (lo + cpu.u32[cs + SEG_BASE]) >>> 0;
    hi = 0;
  }
  let hits = 0;
  for (let n = 0; n < 4; n++) {
    if (enabled(dr7, n) && condition(dr7, n) === ON.EXECUTE && dr(cpu, n) === lo && drHigh(cpu, n) === hi) {
      hits |= 1 << n;
    }
  }
  if (hits === 0) return false;
  setDr6(cpu, hits);
  cpu.raise(VEC.DB, -1);
  return true;
}

function setDr6(cpu: Cpu, bits: number): void {
  const at = cpu.w + W_DR + 12;
  cpu.u32[at] = ((cpu.u32[at] & ~15) | bits) >>> 0;
}

/**
 * After an instruction that began with TF as given: true when a debug trap is due; the #DB is set and is to be
 * delivered as KIND.TRAP.
 */
export function debugTrap(cpu: Cpu, stepped: boolean): boolean {
  const bits = cpu.pendingDebug | (stepped ? DR6_BS : 0);
  cpu.pendingDebug = 0;
  if (bits === 0) return false;
  setDr6(cpu, bits);
  cpu.raise(VEC.DB, -1);
  return true;
}

/** One step of the loop while `debugActive`: `before` the instruction, or after it (see the two above). */
export function debugCheck(cpu: Cpu, before: boolean, stepped: boolean): boolean {
  return before ? instructionBreakpoint(cpu) : debugTrap(cpu, stepped);
}
