/**
 * FXSAVE, FXRSTOR, the XSAVE family, FNSAVE, FRSTOR, FNSTENV, FLDENV: helper instructions that access their
 * memory operand themselves (docs/plan-boot.md). Source: Intel SDM vol. 2, instruction pages; vol. 1, chapter 13.
 * *Thread:* vCPU.
 */
import type { Cpu } from '../sys/cpu.ts';
import { CR0, CR4, REG, STATUS, VEC, W_CR0, W_CR4, W_XCR0 } from '../sys/words.ts';
import type { Helper } from '../sem/misc-helpers.ts';
import { EXCEPTIONS, FPU, FSW } from './layout.ts';
import {
  initControl,
  initX87,
  initXmm,
  initYmmHigh,
  MXCSR_INIT,
  MXCSR_MASK,
  MXCSR_WORD,
  putEnvironment,
  putRegisters,
  putX87,
  putXmm,
  putYmmHigh,
  setControlStatus,
  statusWord,
  takeEnvironment,
  takeRegisters,
  takeX87,
  takeXmm,
  takeYmmHigh,
  x87InUse,
  xmmInUse,
  ymmHighInUse,
} from './state.ts';

/** Bits of XCR0 and of XSTATE_BV. */
const X87 = 1;
const SSE = 2;
const AVX = 4;
const SUPPORTED = X87 | SSE | AVX;
/** Bit 31 of the upper half of XCOMP_BV: compacted format. */
const COMPACTED = 0x80000000;
const LEGACY_SIZE = 512;
const HEADER_SIZE = 64;
/** The one extended component so far, right after the header in both formats. */
const AVX_OFFSET = LEGACY_SIZE + HEADER_SIZE;
const AVX_SIZE = 256;
const HEADER_WORD = LEGACY_SIZE >>> 2;
/** What FXSAVE leaves alone: bytes 464–511; outside 64-bit code also XMM8–15. */
const FXSAVE_SIZE = 416;
const FXSAVE_SIZE_32 = 288;

/** #NM when the x87 is off. Gives 0 or STATUS.EXCEPTION. */
function checkX87(cpu: Cpu): number {
  return cpu.get(W_CR0) & (CR0.EM | CR0.TS) ? cpu.raise(VEC.NM, -1) : STATUS.NEXT;
}
/** The same, then #MF for a waiting exception. */
function checkWaiting(cpu: Cpu): number {
  if (checkX87(cpu) !== STATUS.NEXT) return STATUS.EXCEPTION;
  return cpu.u16[(cpu.base + FPU.status) >>> 1] & FSW.ES ? cpu.raise(VEC.MF, -1) : STATUS.NEXT;
}

function xmmCount(cpu: Cpu): number {
  return cpu.code64() ? 16 : 8;
}
function read(cpu: Cpu, length: number): boolean {
  return cpu.mmu.readBlock(cpu.addrLo, cpu.addrHi, length, cpu.mmu.index());
}
function write(cpu: Cpu, length: number): boolean {
  return cpu.mmu.writeBlock(cpu.addrLo, cpu.addrHi, length, cpu.mmu.index());
}

// --- environment and FSAVE ---

function storeEnvironment(cpu: Cpu, size: number): number {
  if (checkX87(cpu) !== STATUS.NEXT || !write(cpu, putEnvironment(cpu, size))) return STATUS.EXCEPTION;
  // all exceptions are masked afterwards
  setControlStatus(cpu, cpu.u16[(cpu.base + FPU.control) >>> 1] | EXCEPTIONS, statusWord(cpu));
  return STATUS.NEXT;
}

function loadEnvironment(cpu: Cpu, size: number): number {
  if (checkWaiting(cpu) !== STATUS.NEXT || !read(cpu, size === 2 ? 14 : 28)) return STATUS.EXCEPTION;
  takeEnvironment(cpu, size);
  return STATUS.NEXT;
}

function save(cpu: Cpu, size: number): number {
  if (checkX87(cpu) !== STATUS.NEXT) return STATUS.EXCEPTION;
  const at = putEnvironment(cpu, size);
  putRegisters(cpu, at);
  if (!write(cpu, at + 80)) return STATUS.EXCEPTION;
  initControl(cpu);
  return STATUS.NEXT;
}

function restore(cpu: Cpu, size: number): number {
  const at = size === 2 ? 14 : 28;
  if (checkWaiting(cpu) !== STATUS.NEXT || !read(cpu, at + 80)) return STATUS.EXCEPTION;
  takeEnvironment(cpu, size);
  takeRegisters(cpu, at);
  return STATUS.NEXT;
}

// --- FXSAVE ---

function fxsave(cpu: Cpu, size: number): number {
  if (checkX87(cpu) !== STATUS.NEXT) return STATUS.EXCEPTION;
  if (cpu.addrLo & 15) return cpu.raiseGp(0);
  const count = xmmCount(cpu);
  putX87(cpu, size === 8);
  cpu.mmu.block32[6] = cpu.get(MXCSR_WORD);
  cpu.mmu.block32[7] = MXCSR_MASK;
  putXmm(cpu, count);
  return write(cpu, count === 16 ? FXSAVE_SIZE : FXSAVE_SIZE_32) ? STATUS.NEXT : STATUS.EXCEPTION;
}

function fxrstor(cpu: Cpu, size: number): number {
  if (checkX87(cpu) !== STATUS.NEXT) return STATUS.EXCEPTION;
  if (cpu.addrLo & 15) return cpu.raiseGp(0);
  if (!read(cpu, LEGACY_SIZE)) return STATUS.EXCEPTION;
  const mxcsr = cpu.mmu.block32[6];
  if (mxcsr & ~MXCSR_MASK) return cpu.raiseGp(0);
  takeX87(cpu, size === 8);
  cpu.set(MXCSR_WORD, mxcsr);
  takeXmm(cpu, xmmCount(cpu));
  return STATUS.NEXT;
}

// --- XSAVE ---

/** Checks common to the family. Gives 0 or STATUS.EXCEPTION. */
function checkXsave(cpu: Cpu): number {
  if ((cpu.get(W_CR4) & CR4.OSXSAVE) === 0) return cpu.raiseUd();
  if (cpu.get(W_CR0) & CR0.TS) return cpu.raise(VEC.NM, -1);
  if (cpu.addrLo & 63) return cpu.raiseGp(0);
  return STATUS.NEXT;
}

/** XINUSE: the components that are not in their initial configuration. */
export function componentsInUse(cpu: Cpu): number {
  const count = xmmCount(cpu);
  return (x87InUse(cpu) ? X87 : 0) | (xmmInUse(cpu, count) ? SSE : 0) | (ymmHighInUse(cpu, count) ? AVX : 0);
}

/** Bytes that the components of `mask` need, legacy region and header included. */
function areaSize(mask: number): number {
  return mask & AVX ? AVX_OFFSET + AVX_SIZE : AVX_OFFSET;
}

/** Stores the components of `mask` in the block. */
function putComponents(cpu: Cpu, mask: number, wide: boolean): void {
  const count = xmmCount(cpu);
  if (mask & X87) putX87(cpu, wide);
  if (mask & SSE) putXmm(cpu, count);
  if (mask & AVX) putYmmHigh(cpu, count, AVX_OFFSET);
}

/** XSAVE, and XSAVEOPT, which need not store components in their initial configuration. */
function xsaveStandard(cpu: Cpu, size: number, optimized: boolean): number {
  if (checkXsave(cpu) !== STATUS.NEXT) return STATUS.EXCEPTION;
  const requested = cpu.get(W_XCR0) & cpu.reg(REG.AX) & SUPPORTED;
  const length = areaSize(requested);
  // what is not to be changed is written back as it was
  if (!read(cpu, length)) return STATUS.EXCEPTION;
  const inUse = componentsInUse(cpu);
  const { block32 } = cpu.mmu;
  putComponents(cpu, optimized ? requested & inUse : requested, size === 8);
  if (requested & (SSE | AVX)) {
    block32[6] = cpu.get(MXCSR_WORD);
    block32[7] = MXCSR_MASK;
  }
  block32[HEADER_WORD] = (block32[HEADER_WORD] & ~requested) | (requested & inUse);
  return write(cpu, length) ? STATUS.NEXT : STATUS.EXCEPTION;
}

function xsavec(cpu: Cpu, size: number): number {
  if (checkXsave(cpu) !== STATUS.NEXT) return STATUS.EXCEPTION;
  const xcr0 = cpu.get(W_XCR0);
  const requested = xcr0 & cpu.reg(REG.AX) & SUPPORTED;
  let inUse = componentsInUse(cpu);
  // here MXCSR belongs to the SSE state
  if (cpu.get(MXCSR_WORD) !== MXCSR_INIT) inUse |= SSE;
  const stored = requested & inUse;
  const length = areaSize(requested);
  if (!read(cpu, length)) return STATUS.EXCEPTION;
  const { block32 } = cpu.mmu;
  putComponents(cpu, stored, size === 8);
  if (stored & SSE) {
    block32[6] = cpu.get(MXCSR_WORD);
    block32[7] = MXCSR_MASK;
  }
  // the rest of the header is not written
  block32[HEADER_WORD] = stored;
  block32[HEADER_WORD + 1] = 0;
  block32[HEADER_WORD + 2] = requested;
  block32[HEADER_WORD + 3] = COMPACTED;
  return write(cpu, length) ? STATUS.NEXT : STATUS.EXCEPTION;
}

/** Is the header of a standard or compacted image, in the block, one that XRSTOR accepts? */
function validHeader(cpu: Cpu): boolean {
  const { block32 } = cpu.mmu;
  const xcr0 = cpu.get(W_XCR0);
  const state = block32[HEADER_WORD];
  const format = block32[HEADER_WORD + 2];
  const formatHigh = block32[HEADER_WORD + 3];
  const compacted = formatHigh !== 0;
  if (block32[HEADER_WORD + 1] !== 0 || (state & ~xcr0) !== 0) return false;
  if (compacted) {
    if (formatHigh !== COMPACTED || (format & ~xcr0) !== 0 || (state & ~format) !== 0) return false;
  } else if (format !== 0) return false;
  // bytes 16–23 are reserved in both formats, the rest of the header in the compacted one
  const end = compacted ? HEADER_SIZE / 4 : 6;
  for (let i = 4; i < end; i++) if (block32[HEADER_WORD + i] !== 0) return false;
  return true;
}

function xrstor(cpu: Cpu, size: number): number {
  if (checkXsave(cpu) !== STATUS.NEXT) return STATUS.EXCEPTION;
  const requested = cpu.get(W_XCR0) & cpu.reg(REG.AX) & SUPPORTED;
  if (!read(cpu, areaSize(requested))) return STATUS.EXCEPTION;
  if (!validHeader(cpu)) return cpu.raiseGp(0);
  const { block32 } = cpu.mmu;
  const state = block32[HEADER_WORD];
  const compacted = block32[HEADER_WORD + 3] !== 0;
  const loadMxcsr = compacted ? (requested & state & SSE) !== 0 : (requested & (SSE | AVX)) !== 0;
  const mxcsr = loadMxcsr ? block32[6] : MXCSR_INIT;
  if (mxcsr & ~MXCSR_MASK) return cpu.raiseGp(0);
  const count = xmmCount(cpu);
  if (requested & X87) {
    if (state & X87) takeX87(cpu, size === 8);
    else initX87(cpu);
  }
  if (loadMxcsr || (compacted && requested & SSE)) cpu.set(MXCSR_WORD, mxcsr);
  if (requested & SSE) {
    if (state & SSE) takeXmm(cpu, count);
    else initXmm(cpu, count);
  }
  if (requested & AVX) {
    if (state & AVX) takeYmmHigh(cpu, count, AVX_OFFSET);
    else initYmmHigh(cpu, count);
  }
  return STATUS.NEXT;
}

/** By instruction name. */
export const STATE_HELPERS: Readonly<Record<string, Helper>> = {
  fnstenv: storeEnvironment,
  fldenv: loadEnvironment,
  fnsave: save,
  frstor: restore,
  fxsave,
  fxrstor,
  xsave: (cpu, size) => xsaveStandard(cpu, size, false),
  xsaveopt: (cpu, size) => xsaveStandard(cpu, size, true),
  xsavec,
  xrstor,
};
