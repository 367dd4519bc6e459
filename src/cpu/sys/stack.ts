/**
 * Stack accesses of helper instructions and of deliveries: a whole frame is read or written at once, after
 * all its bytes have been found accessible, so that a fault leaves everything as it was.
 */
import { MMU, SEG } from '../env.ts';
import type { Cpu } from './cpu.ts';
import type { Descriptor } from './descriptors.ts';
import { ATTR, REG, SEG_ATTR, SEG_BASE, SEG_LIMIT, VEC, W_EXC_VECTOR, W_STACK_SIZE } from './words.ts';

/** Most items of a frame: a call gate with 31 parameters and what goes with it. */
const MAX_ITEMS = 48;

/** A stack: segment and pointer. Reusable; `width` 0, 1, 2 for 16-, 32-, 64-bit pointers. */
export class Stack {
  base = 0;
  limit = 0;
  attr = 0;
  width = 1;
  spLo = 0;
  spHi = 0;
  /** MMU index of accesses. */
  index = 0;
  /** Error code of #SS: 0, or the selector of a stack being switched to. */
  error = 0;
  /** Exception for a violation of limits. */
  vector: number = VEC.SS;
  readonly #lo = new Uint32Array(MAX_ITEMS);
  readonly #hi = new Uint32Array(MAX_ITEMS);
  #count = 0;

  /** The current stack. */
  current(cpu: Cpu): this {
    const ss = cpu.segWord(SEG.SS);
    const u32 = cpu.u32;
    this.base = u32[ss + SEG_BASE];
    this.limit = u32[ss + SEG_LIMIT];
    this.attr = u32[ss + SEG_ATTR];
    this.width = u32[cpu.w + W_STACK_SIZE];
    this.spLo = cpu.reg(REG.SP);
    this.spHi = cpu.regHigh(REG.SP);
    this.index = cpu.mmu.index();
    this.error = 0;
    this.vector = VEC.SS;
    this.#count = 0;
    return this;
  }

  /** A stack of another privilege level, described by `d`; `error` as for #SS. */
  other(d: Descriptor, spLo: number, cpl: number, error: number): this {
    this.base = d.base;
    this.limit = d.limit;
    this.attr = d.attr;
    this.width = d.big ? 1 : 0;
    this.spLo = spLo;
    this.spHi = 0;
    this.index = cpl === 3 ? MMU.USER : MMU.KERNEL;
    this.error = error;
    this.vector = VEC.SS;
    this.#count = 0;
    return this;
  }

  /** A flat 64-bit stack. */
  flat(spLo: number, spHi: number, index: number): this {
    this.base = 0;
    this.limit = 0xffffffff;
    this.attr = ATTR.P | ATTR.S | ATTR.RW | ATTR.DB;
    this.width = 2;
    this.spLo = spLo;
    this.spHi = spHi;
    this.index = index;
    this.error = 0;
    this.vector = VEC.SS;
    this.#count = 0;
    return this;
  }

  /** Adds a value to the frame to be written, in push order. */
  push(lo: number, hi: number): void {
    this.#lo[this.#count] = lo;
    this.#hi[this.#count] = hi;
    this.#count++;
  }

  /** Moves the pointer by `n` bytes, as wide as the stack's pointer. */
  move(n: number): void {
    if (this.width === 2) {
      const lo = this.spLo + n;
      this.spHi = (this.spHi + Math.floor(lo / 4294967296)) >>> 0;
      this.spLo = lo >>> 0;
    } else if (this.width === 1) this.spLo = (this.spLo + n) >>> 0;
    else this.spLo = ((this.spLo & 0xffff0000) | ((this.spLo + n) & 0xffff)) >>> 0;
  }

  /** Writes the frame, `size` bytes an item, and moves the pointer. False: exception, nothing changed. */
  write(cpu: Cpu, size: number): boolean {
    const count = this.#count;
    this.#count = 0;
    const length = count * size;
    const oldLo = this.spLo;
    const oldHi = this.spHi;
    this.move(-length);
    const mmu = cpu.mmu;
    const block16 = mmu.block16;
    const block32 = mmu.block32;
    for (let i = 0; i < count; i++) {
      const at = count - 1 - i;
      if (size === 2) block16[at] = this.#lo[i];
      else if (size === 4) block32[at] = this.#lo[i];
      else {
        block32[at * 2] = this.#lo[i];
        block32[at * 2 + 1] = this.#hi[i];
      }
    }
    if (this.#access(cpu, length, true)) return true;
    if (cpu.get(W_EXC_VECTOR) === VEC.PF) this.#faultAsPushed(cpu, count, size);
    this.spLo = oldLo;
    this.spHi = oldHi;
    return false;
  }

  /** The frame cannot be written. The fault is that of the first item pushed, the one at the highest address. */
  #faultAsPushed(cpu: Cpu, count: number, size: number): void {
    for (let i = count - 1; i >= 0; i--) {
      const offset = this.spLo + i * size;
      const lo = this.width === 2 ? offset : this.base + (this.width === 1 ? offset : offset & 0xffff);
      const hi = this.width === 2 ? this.spHi + (offset > 0xffffffff ? 1 : 0) : 0;
      if (!cpu.mmu.probeWrite(lo >>> 0, hi, size, this.index)) return;
    }
  }

  /** Reads `count` items of `size` bytes at the pointer into the MMU's block (`itemLo`, `itemHi`); the pointer stays. */
  read(cpu: Cpu, count: number, size: number): boolean {
    return this.#access(cpu, count * size, false);
  }

  #access(cpu: Cpu, length: number, write: boolean): boolean {
    const mmu = cpu.mmu;
    if (this.width === 2) {
      if (!mmu.canonical(this.spHi, VEC.SS)) {
        cpu.raise(VEC.SS, this.error);
        return false;
      }
      return write
        ? mmu.writeBlock(this.spLo, this.spHi, length, this.index)
        : mmu.readBlock(this.spLo, this.spHi, length, this.index);
    }
    const offset = this.width === 1 ? this.spLo : this.spLo & 0xffff;
    const wrap = this.width === 1 ? 0x100000000 : 0x10000;
    if (offset + length <= wrap) {
      if (!this.#within(offset, length)) {
        cpu.raise(this.vector, this.error);
        return false;
      }
      const lo = (this.base + offset) >>> 0;
      return write ? mmu.writeBlock(lo, 0, length, this.index) : mmu.readBlock(lo, 0, length, this.index);
    }
    // the frame wraps around the end of the stack segment
    const first = wrap - offset;
    const rest = length - first;
    if (!this.#within(offset, first) || !this.#within(0, rest)) {
      cpu.raise(this.vector, this.error);
      return false;
    }
    const lo = (this.base + offset) >>> 0;
    const lo2 = this.base;
    const bytes = mmu.block;
    if (write) {
      return (
        mmu.probeWrite(lo, 0, first, this.index) &&
        mmu.probeWrite(lo2, 0, rest, this.index) &&
        mmu.writeBytes(lo, 0, first, bytes, 0, this.index) &&
        mmu.writeBytes(lo2, 0, rest, bytes, first, this.index)
      );
    }
    return (
      mmu.readBytes(lo, 0, first, bytes, 0, this.index) &&
      mmu.readBytes(lo2, 0, rest, bytes, first, this.index)
    );
  }

  #within(offset: number, length: number): boolean {
    if (length === 0) return true;
    if ((this.attr & (ATTR.CODE | ATTR.DC)) === ATTR.DC) {
      const top = (this.attr & ATTR.DB) !== 0 ? 0xffffffff : 0xffff;
      return offset > this.limit && offset + length - 1 <= top;
    }
    return offset + length - 1 <= this.limit;
  }

  /** Makes the pointer the guest's rSP, as wide as the stack says. */
  commit(cpu: Cpu): void {
    if (this.width === 0) cpu.writeReg(REG.SP, 2, this.spLo, 0);
    else cpu.setReg(REG.SP, this.spLo, this.width === 2 ? this.spHi : 0);
  }
}

/** Item `i` of what `Stack.read` read. */
export function itemLo(cpu: Cpu, i: number, size: number): number {
  const mmu = cpu.mmu;
  return size === 2 ? mmu.block16[i] : mmu.block32[size === 4 ? i : i * 2];
}
export function itemHi(cpu: Cpu, i: number, size: number): number {
  return size === 8 ? cpu.mmu.block32[i * 2 + 1] : 0;
}
