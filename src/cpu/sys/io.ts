/**
 * IN, OUT, INS, OUTS: permission (IOPL, then the TSS's I/O bitmap), accesses through the port bus.
 * SDM 1 chapter 19 (19.5); SDM 2 IN, OUT, INS, OUTS.
 */
import { CpuEnv, SEG } from '../env.ts';
import { FLAG } from '../flags.ts';
import type { Cpu } from './cpu.ts';
import { noteIo } from './debug.ts';
import { segmentAllows } from './segment-limits.ts';
import { IMPLICIT } from './segments.ts';
import {
  ATTR,
  REG,
  SEG_ATTR,
  SEG_BASE,
  SEG_LIMIT,
  STATUS,
  VEC,
  W_BUDGET,
  W_EFLAGS,
  W_SCRATCH,
  W_TR,
} from './words.ts';

const W_EXIT_REQUEST = CpuEnv.offsetOf('exitRequest') >>> 2;

/** True when the ports may be accessed; otherwise an exception is set. */
export function ioAllowed(cpu: Cpu, port: number, size: number): boolean {
  if (!cpu.protectedMode()) return true;
  const v86 = cpu.v86();
  if (!v86 && cpu.cpl <= cpu.iopl()) return true;
  const u32 = cpu.u32;
  const tr = cpu.w + W_TR;
  const attr = u32[tr + SEG_ATTR];
  const limit = u32[tr + SEG_LIMIT];
  // only a 32- or 64-bit TSS has a bitmap
  if ((attr & ATTR.P) !== 0 && (attr & (9 << 8)) === 9 << 8 && limit >= 0x67) {
    const mmu = cpu.mmu;
    const baseLo = u32[tr + SEG_BASE];
    const baseHi = u32[tr + SEG_BASE + 1];
    if (!readTss16(cpu, baseLo, baseHi, 0x66)) return false;
    const at = mmu.block16[0] + (port >>> 3);
    // the bitmap is read two bytes at a time, so a byte follows the last one
    if (at + 1 <= limit) {
      if (!readTss16(cpu, baseLo, baseHi, at)) return false;
      if (((mmu.block16[0] >>> (port & 7)) & ((1 << size) - 1)) === 0) return true;
    }
  }
  cpu.raise(VEC.GP, 0);
  return false;
}

function readTss16(cpu: Cpu, baseLo: number, baseHi: number, offset: number): boolean {
  const lo = (baseLo + offset) >>> 0;
  const hi = lo < baseLo && cpu.longMode() ? (baseHi + 1) >>> 0 : baseHi;
  return cpu.mmu.readBlock(lo, hi, 2, IMPLICIT);
}

/** IN: operand 1 is the port. */
export function portIn(cpu: Cpu, size: number): number {
  const port = cpu.op(1) & 0xffff;
  if (!ioAllowed(cpu, port, size)) return STATUS.EXCEPTION;
  noteIo(cpu, port, size);
  cpu.setResult(cpu.ports.read(port, size) >>> 0, 0);
  return STATUS.NEXT;
}

/** OUT: operand 0 is the port, operand 1 the value. */
export function portOut(cpu: Cpu, size: number): number {
  const port = cpu.op(0) & 0xffff;
  if (!ioAllowed(cpu, port, size)) return STATUS.EXCEPTION;
  noteIo(cpu, port, size);
  const value = cpu.op(1);
  cpu.ports.write(port, size, size === 4 ? value : value & ((1 << (size * 8)) - 1));
  // the device may have asked for an interrupt, or moved memory (A20): not only at the next jump
  if (Atomics.load(cpu.i32, cpu.w + W_EXIT_REQUEST) === 0) return STATUS.NEXT;
  cpu.advance();
  return STATUS.LOOKUP;
}

/** Most steps of a repeated instruction before interrupts are looked at. */
const MAX_STEPS = 4096;

/** Reads a register as wide as an address. */
function wideLo(cpu: Cpu, n: number, addressSize: number): number {
  const lo = cpu.reg(n);
  return addressSize === 2 ? lo & 0xffff : lo;
}

/** Adds to a register as wide as an address. */
function step(cpu: Cpu, n: number, addressSize: number, delta: number): void {
  const lo = cpu.reg(n);
  if (addressSize === 2) cpu.writeReg(n, 2, lo + delta, 0);
  else if (addressSize === 4) cpu.setReg(n, lo + delta, 0);
  else {
    const sum = lo + delta;
    cpu.setReg(n, sum, cpu.regHigh(n) + Math.floor(sum / 4294967296));
  }
}

/**
 * INS (`input`) and OUTS. Steps until the count is used up or something wants attention; then the
 * instruction is looked up again, with the registers as they stand. env.scratch[5] is the source segment,
 * [6] the repeat prefix (0: none), [7] the address size in bytes.
 */
export function portString(cpu: Cpu, size: number, input: boolean): number {
  const u32 = cpu.u32;
  const w = cpu.w;
  const segment = input ? SEG.ES : u32[w + W_SCRATCH + 10];
  const repeated = u32[w + W_SCRATCH + 12] !== 0;
  const addressSize = u32[w + W_SCRATCH + 14] || (cpu.code64() ? 8 : cpu.get(CODE_SIZE) === 1 ? 4 : 2);
  const port = cpu.reg(REG.DX) & 0xffff;
  if (!ioAllowed(cpu, port, size)) return STATUS.EXCEPTION;
  noteIo(cpu, port, size);
  const mmu = cpu.mmu;
  const index = mmu.index();
  const pointer = input ? REG.DI : REG.SI;
  const delta = (u32[w + W_EFLAGS] & FLAG.DF) !== 0 ? -size : size;
  const seg = cpu.segWord(segment);
  const wide = cpu.code64();
  const based = !wide || segment === SEG.FS || segment === SEG.GS;
  const baseLo = based ? u32[seg + SEG_BASE] : 0;
  const baseHi = based && wide ? u32[seg + SEG_BASE + 1] : 0;
  for (let steps = 0; ; steps++) {
    if (repeated) {
      const left = wideLo(cpu, REG.CX, addressSize);
      const over = left === 0 && (addressSize !== 8 || cpu.regHigh(REG.CX) === 0);
      if (!over && steps > 0 && (steps >= MAX_STEPS || Atomics.load(cpu.i32, w + W_EXIT_REQUEST) !== 0)) {
        return STATUS.LOOKUP;
      }
      // each further step is counted, and finding the count used up too; see sem/string.ts
      if (steps > 0 && --cpu.i32[w + W_BUDGET] < 0 && cpu.counting && !over) {
        cpu.i32[w + W_BUDGET]++;
        return STATUS.LOOKUP;
      }
      if (over) return STATUS.NEXT;
    }
    const offset = wideLo(cpu, pointer, addressSize);
    if (!wide && !segmentAllows(cpu, segment, offset, size, input)) {
      return cpu.raise(segment === SEG.SS ? VEC.SS : VEC.GP, 0);
    }
    const sum = baseLo + offset;
    const lo = sum >>> 0;
    const hi = wide
      ? (baseHi + (addressSize === 8 ? cpu.regHigh(pointer) : 0) + (sum > 0xffffffff ? 1 : 0)) >>> 0
      : 0;
    if (input) {
      // the destination must be good before the device is asked
      if (!mmu.probeWrite(lo, hi, size, index)) return STATUS.EXCEPTION;
      mmu.block32[0] = cpu.ports.read(port, size);
      if (!mmu.writeBlock(lo, hi, size, index)) return STATUS.EXCEPTION;
    } else {
      if (!mmu.readBlock(lo, hi, size, index)) return STATUS.EXCEPTION;
      const value = size === 4 ? mmu.block32[0] : size === 2 ? mmu.block16[0] : mmu.block[0];
      cpu.ports.write(port, size, value);
    }
    step(cpu, pointer, addressSize, delta);
    if (!repeated) return STATUS.NEXT;
    step(cpu, REG.CX, addressSize, -1);
  }
}
const CODE_SIZE = CpuEnv.offsetOf('codeSize') >>> 2;
