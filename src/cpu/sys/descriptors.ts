/**
 * Segment and gate descriptors in the guest's GDT and LDT (SDM 3A 3.4.5, 3.5, 5.8.3).
 */
import { MMU } from '../env.ts';
import type { Cpu } from './cpu.ts';
import { ACCESS } from './page-walk.ts';
import {
  ATTR,
  SEG_ATTR,
  SEG_BASE,
  SEG_LIMIT,
  SEG_SELECTOR,
  VEC,
  W_GDT_BASE,
  W_GDT_LIMIT,
  W_LDTR,
} from './words.ts';

/** Result of reading a descriptor. */
export const READ = {
  OK: 0,
  /** Outside its table (or no LDT): the caller raises what its instruction says. */
  LIMIT: 1,
  /** An exception is set. */
  FAULT: 2,
} as const;

/** Types of system descriptors (S = 0), SDM 3A table 3-2. */
export const TYPE = {
  TSS16: 1,
  LDT: 2,
  TSS16_BUSY: 3,
  CALL16: 4,
  TASK_GATE: 5,
  INT16: 6,
  TRAP16: 7,
  TSS32: 9,
  TSS32_BUSY: 11,
  CALL32: 12,
  INT32: 14,
  TRAP32: 15,
} as const;

/** A descriptor as read: reusable. Words are unsigned. */
export class Descriptor {
  selector = 0;
  lo = 0;
  hi = 0;
  /** Third dword of a 16-byte descriptor: base or offset bits 63:32. */
  top = 0;
  /** Linear address of the descriptor. */
  addrLo = 0;
  addrHi = 0;

  get base(): number {
    return ((this.lo >>> 16) | ((this.hi & 0xff) << 16) | (this.hi & 0xff000000)) >>> 0;
  }
  /** In bytes, scaled by G. */
  get limit(): number {
    const raw = (this.lo & 0xffff) | (this.hi & 0xf0000);
    return (this.hi & ATTR.G) !== 0 ? ((raw << 12) | 0xfff) >>> 0 : raw;
  }
  get attr(): number {
    return this.hi & ATTR.MASK;
  }
  get type(): number {
    return (this.hi >>> 8) & 15;
  }
  get dpl(): number {
    return (this.hi >>> 13) & 3;
  }
  get present(): boolean {
    return (this.hi & ATTR.P) !== 0;
  }
  /** Code or data, not a system descriptor. */
  get segment(): boolean {
    return (this.hi & ATTR.S) !== 0;
  }
  get code(): boolean {
    return (this.hi & (ATTR.S | ATTR.CODE)) === (ATTR.S | ATTR.CODE);
  }
  get conforming(): boolean {
    return (this.hi & ATTR.DC) !== 0;
  }
  /** Data and writable. */
  get writableData(): boolean {
    return (this.hi & (ATTR.S | ATTR.CODE | ATTR.RW)) === (ATTR.S | ATTR.RW);
  }
  /** Data, or code that can be read. */
  get readable(): boolean {
    return (this.hi & ATTR.S) !== 0 && (this.hi & (ATTR.CODE | ATTR.RW)) !== ATTR.CODE;
  }
  get long(): boolean {
    return (this.hi & ATTR.L) !== 0;
  }
  get big(): boolean {
    return (this.hi & ATTR.DB) !== 0;
  }
  /** Gates: target offset (low 32 bits) and selector. */
  get gateOffset(): number {
    return ((this.lo & 0xffff) | (this.hi & 0xffff0000)) >>> 0;
  }
  get gateSelector(): number {
    return this.lo >>> 16;
  }
}

/** Reads 8 bytes of the GDT or LDT. The null selector is the caller's business. */
export function readDescriptor(cpu: Cpu, selector: number, out: Descriptor): number {
  return read(cpu, selector, out, 8);
}

/** Reads a system descriptor, which has 16 bytes in long mode. */
export function readSystemDescriptor(cpu: Cpu, selector: number, out: Descriptor): number {
  return read(cpu, selector, out, cpu.longMode() ? 16 : 8);
}

function read(cpu: Cpu, selector: number, out: Descriptor, length: number): number {
  const u32 = cpu.u32;
  let baseLo: number;
  let baseHi: number;
  let limit: number;
  if ((selector & 4) !== 0) {
    const ldtr = cpu.w + W_LDTR;
    if ((u32[ldtr + SEG_ATTR] & ATTR.P) === 0) return READ.LIMIT;
    baseLo = u32[ldtr + SEG_BASE];
    baseHi = u32[ldtr + SEG_BASE + 1];
    limit = u32[ldtr + SEG_LIMIT];
  } else {
    baseLo = u32[cpu.w + W_GDT_BASE];
    baseHi = u32[cpu.w + W_GDT_BASE + 1];
    limit = u32[cpu.w + W_GDT_LIMIT];
  }
  const offset = selector & 0xfff8;
  if (offset + length - 1 > limit) return READ.LIMIT;
  const lo = (baseLo + offset) >>> 0;
  const hi = lo < baseLo && cpu.longMode() ? (baseHi + 1) >>> 0 : baseHi;
  const mmu = cpu.mmu;
  if (!mmu.readBlock(lo, hi, length, MMU.KERNEL)) return READ.FAULT;
  out.selector = selector;
  out.lo = mmu.block32[0];
  out.hi = mmu.block32[1];
  out.top = length === 16 ? mmu.block32[2] : 0;
  out.addrLo = lo;
  out.addrHi = hi;
  return READ.OK;
}

/**
 * Reads a descriptor; when it lies outside its table raises `vector` with the selector as error code.
 * False: an exception is set.
 */
export function needDescriptor(
  cpu: Cpu,
  selector: number,
  out: Descriptor,
  vector: number = VEC.GP,
  ext = 0,
): boolean {
  const result = readDescriptor(cpu, selector, out);
  if (result === READ.OK) return true;
  if (result === READ.LIMIT) cpu.raise(vector, (selector & 0xfffc) | ext);
  return false;
}

/** Changes bits of a descriptor's type byte in guest memory, atomically. False: exception. */
export function changeTypeBits(cpu: Cpu, d: Descriptor, set: number, clear: number): boolean {
  const lo = (d.addrLo + 5) >>> 0;
  const hi = lo < 5 ? d.addrHi + 1 : d.addrHi;
  const mmu = cpu.mmu;
  if (!mmu.resolve(lo, hi, ACCESS.WRITE, MMU.KERNEL)) return false;
  d.hi = ((d.hi & ~(clear << 8)) | (set << 8)) >>> 0;
  const host = mmu.host;
  if (host < 0) {
    mmu.block[0] = d.hi >>> 8;
    return mmu.writeBlock(lo, hi, 1, MMU.KERNEL);
  }
  if (set !== 0) Atomics.or(cpu.u8, host, set);
  if (clear !== 0) Atomics.and(cpu.u8, host, ~clear & 255);
  if (mmu.code) cpu.codeCache.written(host, 1);
  return true;
}

/** Sets the accessed bit of a code or data descriptor. False: exception. */
export function markAccessed(cpu: Cpu, d: Descriptor): boolean {
  return (d.hi & ATTR.ACCESSED) !== 0 || changeTypeBits(cpu, d, 1, 0);
}

/** Puts a descriptor's contents into the segment register at word `at` of `cpu.u32`. */
export function setSegment(cpu: Cpu, at: number, selector: number, d: Descriptor): void {
  const u32 = cpu.u32;
  u32[at + SEG_BASE] = d.base;
  u32[at + SEG_BASE + 1] = 0;
  u32[at + SEG_LIMIT] = d.limit;
  u32[at + SEG_ATTR] = d.attr;
  u32[at + SEG_SELECTOR] = selector;
}

/** Sets all parts of the segment register at word `at`, with a 32-bit base. */
export function setSegmentRaw(
  cpu: Cpu,
  at: number,
  selector: number,
  base: number,
  limit: number,
  attr: number,
): void {
  const u32 = cpu.u32;
  u32[at + SEG_BASE] = base;
  u32[at + SEG_BASE + 1] = 0;
  u32[at + SEG_LIMIT] = limit;
  u32[at + SEG_ATTR] = attr;
  u32[at + SEG_SELECTOR] = selector;
}
