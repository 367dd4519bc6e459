/**
 * The slow memory paths behind the software TLB (docs/plan-boot.md, "Memory accesses of generated code").
 *
 * Which segment an address came from is not known here, so a non-canonical address is #GP(0) also for the
 * stack segment; stack helpers check their addresses beforehand and raise #SS(0).
 */
import { CpuEnv, EXIT, TLB_SET, tlbSetOffset } from '../env.ts';
import type { Cpu } from './cpu.ts';
import { ACCESS, PAGE, PageWalk } from './page-walk.ts';
import { Tlb } from './tlb.ts';
import {
  VEC,
  W_CODE_SIZE,
  W_EFER,
  EFER,
  W_SLOW_ADDR,
  W_SLOW_VALUE,
  W_STAT_TLB_FILLS,
  W_TLB_SET,
} from './words.ts';

const EXIT_REQUEST = CpuEnv.offsetOf('exitRequest') >>> 2;

/** Bytes at the start of the vCPU's scratch area that the slow paths use. */
export const SCRATCH_DATA_SIZE = 64;

/** Where the bytes of a read-modify-write in progress go. */
const RMW_DIRECT = 0;
const RMW_COPY = 1;

/** *Thread:* vCPU. Nothing here throws; a false or −1 result means an exception is set. */
export class Mmu {
  readonly #cpu: Cpu;
  readonly pageWalk: PageWalk;
  readonly #u8: Uint8Array<SharedArrayBuffer>;
  readonly #u32: Uint32Array<SharedArrayBuffer>;
  readonly #i32: Int32Array<SharedArrayBuffer>;
  readonly #w: number;
  readonly tlb: Tlb;

  // --- result of `resolve` ---
  /** Wasm address, or −1: device memory (or a ROM, for a write) at physical `paHi:paLo`. */
  host = -1;
  paLo = 0;
  paHi = 0;
  /** Decoded code came from the page. */
  code = false;

  /** Private copy of a block of guest memory; see `readBlock`, `writeBlock`. */
  readonly block = new Uint8Array(4096);
  readonly block16 = new Uint16Array(this.block.buffer);
  readonly block32 = new Uint32Array(this.block.buffer);

  // a read-modify-write between begin and commit
  #rmwKind = RMW_DIRECT;
  #rmwSize = 0;
  #rmwHost = -1;
  #rmwPaLo = 0;
  #rmwPaHi = 0;
  #rmwHost2 = -1;
  #rmwPaLo2 = 0;
  #rmwPaHi2 = 0;
  /** Bytes of the operand in the first page. */
  #rmwFirst = 0;
  readonly #rmwOld = new Uint8Array(16);

  /** Set by debug.ts: any data breakpoint is enabled, so slow paths and fills look at DR0–DR3. */
  dataBreakpoints = false;
  /** Called for each slow access while `dataBreakpoints`; true when the page must stay out of the TLB. */
  onDataAccess: (lo: number, hi: number, size: number, write: boolean) => void = () => {};
  isWatchedPage: (lo: number, hi: number) => boolean = () => false;

  constructor(cpu: Cpu) {
    this.#cpu = cpu;
    this.#u8 = cpu.u8;
    this.#u32 = cpu.u32;
    this.#i32 = cpu.i32;
    this.#w = cpu.w;
    this.tlb = new Tlb(cpu.u32, cpu.w);
    this.pageWalk = new PageWalk(cpu);
  }

  /** The MMU index in force: `env.tlbSet`. */
  index(): number {
    return (this.#u32[this.#w + W_TLB_SET] - tlbSetOffset(0)) / TLB_SET.SIZE;
  }

  /**
   * Walks the page tables for one page and fills the TLB where the page is memory. True: `host`, `code`
   * and, for device memory, `paLo`/`paHi` are set. False: an exception is set. The address is canonical.
   */
  fillTlb(lo: number, hi: number, access: number, index: number): boolean {
    const cpu = this.#cpu;
    const walk = this.pageWalk;
    const stat = this.#w + W_STAT_TLB_FILLS;
    if (++this.#u32[stat] === 0) this.#u32[stat + 1]++;
    if (!walk.walk(lo, hi, access, index)) {
      cpu.raisePageFault(lo, hi, walk.error);
      return false;
    }
    const paLo = walk.paLo;
    const paHi = walk.paHi;
    const mem = cpu.mem;
    const host = access === ACCESS.WRITE ? mem.writeOffset(paLo, paHi) : mem.hostOffset(paLo, paHi);
    this.paLo = paLo;
    this.paHi = paHi;
    this.host = host;
    this.code = false;
    if (host < 0) return true;

    const hostPage = host - (lo & 4095);
    const code = Atomics.load(mem.codeMap, hostPage >>> 12) !== 0;
    this.code = code;
    if (this.dataBreakpoints && access !== ACCESS.FETCH && this.isWatchedPage(lo, hi)) {
      // without an entry nobody sees that a store may be under way: it is treated as one to a code page
      this.code = true;
      return true;
    }
    const { tlb } = this;
    if (walk.size !== PAGE.SMALL) tlb.noteLarge(lo, hi, walk.size);
    if (access === ACCESS.FETCH) {
      tlb.fillCode(lo, hi, hostPage, walk.global, index);
      return true;
    }
    tlb.fillRead(lo, hi, hostPage, walk.global, index);
    if (
      access === ACCESS.WRITE &&
      !code &&
      !tlb.fillWrite(lo, hi, hostPage, walk.global, index, mem.codeMap)
    ) {
      this.code = true;
    }
    return true;
  }

  /** True when an address is canonical, or no 64-bit mode is on. Otherwise notes `vector`(0). */
  canonical(hi: number, vector: number): boolean {
    if (((hi + 0x8000) & 0xffff0000) === 0) return true;
    this.#cpu.raise(vector, 0);
    return false;
  }

  /** The second page of an access, at `nextLo`: no access reaches over the end of the canonical addresses. */
  #reaches(nextLo: number, hi: number): boolean {
    return nextLo !== 0 || this.canonical(this.#nextHigh(nextLo, hi), VEC.GP);
  }

  /**
   * Finds where an address within one page lies for an access through MMU index `index`, from the TLB or
   * by a walk. Results and failure as for `fillTlb`.
   */
  resolve(lo: number, hi: number, access: number, index: number): boolean {
    const host = this.tlb.find(lo, hi, access, index);
    if (host >= 0) {
      this.host = host;
      this.code = false;
      return true;
    }
    if (!this.canonical(hi, VEC.GP)) return false;
    return this.fillTlb(lo, hi, access, index);
  }

  /** Wasm address of a code byte whose page is in the TLB; −1 when it is not. Nothing is changed. */
  codeHost(lo: number, hi: number): number {
    return this.tlb.find(lo, hi, ACCESS.FETCH, this.index());
  }

  /** Physical address without side effects on the guest but A bits: for debuggers. Null: not mapped. */
  translate(lo: number, hi: number, access: number, index: number): { lo: number; hi: number } | null {
    if (((hi + 0x8000) & 0xffff0000) !== 0) return null;
    if (!this.pageWalk.walk(lo, hi, access, index)) return null;
    return { lo: this.pageWalk.paLo, hi: this.pageWalk.paHi };
  }

  /**
   * Wasm address of a code byte, or −1 with an exception set. Code in device memory is #UD: what a bus
   * without a device returns, FF FF, is an undefined opcode.
   */
  fetchTranslate(lo: number, hi: number): number {
    if (!this.resolve(lo, hi, ACCESS.FETCH, this.index())) return -1;
    if (this.host < 0) this.#cpu.raiseUd();
    return this.host;
  }

  /** High half of the address of the page after `lo`'s: addresses wrap at 4 GiB outside 64-bit code. */
  #nextHigh(nextLo: number, hi: number): number {
    if (nextLo !== 0) return hi;
    const u32 = this.#u32;
    if ((u32[this.#w + W_EFER] & EFER.LMA) === 0) return 0;
    return hi === 0 && u32[this.#w + W_CODE_SIZE] !== 2 ? 0 : (hi + 1) >>> 0;
  }

  // --- slow paths of generated code ---

  /** Makes the bytes at env.slowAddr readable. Returns a wasm address, or −1: exception. */
  slowLoad(size: number): number {
    const lo = this.#u32[this.#w + W_SLOW_ADDR];
    const hi = this.#u32[this.#w + W_SLOW_ADDR + 1];
    const index = this.index();
    if (this.dataBreakpoints) this.onDataAccess(lo, hi, size, false);
    if ((lo & 4095) + size <= 4096) {
      if (!this.resolve(lo, hi, ACCESS.READ, index)) return -1;
      if (this.host >= 0) return this.host;
    }
    const area = this.#cpu.scratchArea;
    return this.#read(lo, hi, size, index, this.#u8, area) ? area : -1;
  }

  /** Stores env.slowValue (and slowValueHigh) at env.slowAddr. Returns 0, or −1: exception. */
  slowStore(size: number): number {
    const u32 = this.#u32;
    const w = this.#w;
    const lo = u32[w + W_SLOW_ADDR];
    const hi = u32[w + W_SLOW_ADDR + 1];
    const index = this.index();
    if (this.dataBreakpoints) this.onDataAccess(lo, hi, size, true);
    if ((lo & 4095) + size <= 4096) {
      if (!this.resolve(lo, hi, ACCESS.WRITE, index)) return -1;
      const host = this.host;
      if (host >= 0) {
        this.#storeValue(host, size);
        if (this.code || this.#unlisted(host)) this.#cpu.codeCache.written(host, size);
        return 0;
      }
    }
    return this.#write(lo, hi, size, index, this.#u8, (w + W_SLOW_VALUE) << 2) ? 0 : -1;
  }

  /**
   * After a store to a page that debug registers keep out of the TLB, so that nobody who makes it code waits for the
   * store: has it become code? The exchange puts the store before the look.
   */
  #unlisted(host: number): boolean {
    if (!this.dataBreakpoints) return false;
    Atomics.exchange(this.#u32, this.#w + W_SLOW_ADDR, 0);
    return Atomics.load(this.#cpu.mem.codeMap, host >>> 12) !== 0;
  }

  /** Stores slowValue in one piece where x86 does (aligned), else bytewise. */
  #storeValue(host: number, size: number): void {
    const value = this.#w + W_SLOW_VALUE;
    const u32 = this.#u32;
    if (size === 4 && (host & 3) === 0) u32[host >>> 2] = u32[value];
    else if (size === 8 && (host & 7) === 0) this.#cpu.u64[host >>> 3] = this.#cpu.u64[value >>> 1];
    else if (size === 1) this.#u8[host] = u32[value];
    else if (size === 2 && (host & 1) === 0) this.#cpu.u16[host >>> 1] = u32[value];
    else if (size === 16 && (host & 7) === 0) {
      const u64 = this.#cpu.u64;
      u64[host >>> 3] = u64[value >>> 1];
      u64[(host >>> 3) + 1] = u64[(value >>> 1) + 1];
    } else {
      const from = value << 2;
      for (let i = 0; i < size; i++) this.#u8[host + i] = this.#u8[from + i];
    }
  }

  /**
   * Starts a read-modify-write of the operand at env.slowAddr: checks that it can be written. Returns the
   * wasm address of the operand, or of a copy in the scratch area (then `rmwCommit` follows), or −1.
   */
  rmwBegin(size: number): number {
    const lo = this.#u32[this.#w + W_SLOW_ADDR];
    const hi = this.#u32[this.#w + W_SLOW_ADDR + 1];
    const index = this.index();
    if (this.dataBreakpoints) this.onDataAccess(lo, hi, size, true);
    this.#rmwSize = size;
    const first = Math.min(size, 4096 - (lo & 4095));
    this.#rmwFirst = first;
    const nextLo = ((lo & ~4095) + 4096) >>> 0;
    if (first < size && !this.#reaches(nextLo, hi)) return -1;
    if (!this.resolve(lo, hi, ACCESS.WRITE, index)) return -1;
    if (first === size && this.host >= 0 && !this.code && !this.dataBreakpoints) {
      this.#rmwKind = RMW_DIRECT;
      return this.host;
    }
    this.#rmwKind = RMW_COPY;
    this.#rmwHost = this.host;
    this.#rmwPaLo = this.paLo;
    this.#rmwPaHi = this.paHi;
    if (first < size) {
      if (!this.resolve(nextLo, this.#nextHigh(nextLo, hi), ACCESS.WRITE, index)) return -1;
      this.#rmwHost2 = this.host;
      this.#rmwPaLo2 = this.paLo;
      this.#rmwPaHi2 = this.paHi;
    }
    const area = this.#cpu.scratchArea;
    this.#readPiece(this.#rmwHost, this.#rmwPaLo, this.#rmwPaHi, first, this.#u8, area);
    if (first < size) {
      this.#readPiece(this.#rmwHost2, this.#rmwPaLo2, this.#rmwPaHi2, size - first, this.#u8, area + first);
    }
    for (let i = 0; i < size; i++) this.#rmwOld[i] = this.#u8[area + i];
    return area;
  }

  /** Writes the new value from the scratch area. Returns 0, or −1: the instruction runs again. */
  rmwCommit(size: number): number {
    if (this.#rmwKind === RMW_DIRECT || size !== this.#rmwSize) return 0;
    const area = this.#cpu.scratchArea;
    const first = this.#rmwFirst;
    const host = this.#rmwHost;
    if (first === size && host >= 0 && size <= 8 && (host & (size - 1)) === 0) {
      if (!this.#exchange(host, size, area)) {
        this.#cpu.raise(VEC.RETRY, -1);
        return -1;
      }
      this.#cpu.codeCache.written(host, size);
      return 0;
    }
    this.#writePiece(host, this.#rmwPaLo, this.#rmwPaHi, first, this.#u8, area);
    if (first < size) {
      this.#writePiece(this.#rmwHost2, this.#rmwPaLo2, this.#rmwPaHi2, size - first, this.#u8, area + first);
    }
    return 0;
  }

  /** Compare-exchange of the copy's new value, as locked instructions on a code page need it. */
  #exchange(host: number, size: number, area: number): boolean {
    const old = this.#rmwOld;
    const cpu = this.#cpu;
    if (size === 1) return Atomics.compareExchange(this.#u8, host, old[0], this.#u8[area]) === old[0];
    if (size === 2) {
      const before = old[0] | (old[1] << 8);
      return Atomics.compareExchange(cpu.u16, host >>> 1, before, cpu.u16[area >>> 1]) === before;
    }
    const low = old[0] | (old[1] << 8) | (old[2] << 16) | (old[3] << 24);
    if (size === 4) {
      return Atomics.compareExchange(this.#i32, host >>> 2, low, this.#i32[area >>> 2]) === low;
    }
    const high = old[4] | (old[5] << 8) | (old[6] << 16) | (old[7] << 24);
    const before = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    return Atomics.compareExchange(cpu.u64, host >>> 3, before, cpu.u64[area >>> 3]) === before;
  }

  // --- blocks of memory, for instructions done in TypeScript ---

  /**
   * Reads `length` (up to 4096) bytes at a linear address into `block`, through MMU index `index`. All or
   * nothing: false means an exception is set.
   */
  readBlock(lo: number, hi: number, length: number, index: number): boolean {
    if (this.dataBreakpoints) this.onDataAccess(lo, hi, length, false);
    return this.#read(lo, hi, length, index, this.block, 0);
  }

  /** Writes the first `length` bytes of `block`. All or nothing. */
  writeBlock(lo: number, hi: number, length: number, index: number): boolean {
    if (this.dataBreakpoints) this.onDataAccess(lo, hi, length, true);
    return this.#write(lo, hi, length, index, this.block, 0);
  }

  /** As `readBlock` into any array. */
  readBytes(lo: number, hi: number, length: number, into: Uint8Array, at: number, index: number): boolean {
    if (this.dataBreakpoints) this.onDataAccess(lo, hi, length, false);
    return this.#read(lo, hi, length, index, into, at);
  }

  /** As `writeBlock` from any array. */
  writeBytes(lo: number, hi: number, length: number, from: Uint8Array, at: number, index: number): boolean {
    if (this.dataBreakpoints) this.onDataAccess(lo, hi, length, true);
    return this.#write(lo, hi, length, index, from, at);
  }

  /** Checks that `length` (up to 4096) bytes can be written, and writes nothing. */
  probeWrite(lo: number, hi: number, length: number, index: number): boolean {
    if (!this.resolve(lo, hi, ACCESS.WRITE, index)) return false;
    if ((lo & 4095) + length <= 4096) return true;
    const nextLo = ((lo & ~4095) + 4096) >>> 0;
    return this.resolve(nextLo, this.#nextHigh(nextLo, hi), ACCESS.WRITE, index);
  }

  #read(lo: number, hi: number, length: number, index: number, into: Uint8Array, at: number): boolean {
    const first = Math.min(length, 4096 - (lo & 4095));
    const nextLo = ((lo & ~4095) + 4096) >>> 0;
    if (first < length && !this.#reaches(nextLo, hi)) return false;
    if (!this.resolve(lo, hi, ACCESS.READ, index)) return false;
    if (first === length) {
      this.#readPiece(this.host, this.paLo, this.paHi, length, into, at);
      return true;
    }
    const host = this.host;
    const paLo = this.paLo;
    const paHi = this.paHi;
    if (!this.resolve(nextLo, this.#nextHigh(nextLo, hi), ACCESS.READ, index)) return false;
    this.#readPiece(host, paLo, paHi, first, into, at);
    this.#readPiece(this.host, this.paLo, this.paHi, length - first, into, at + first);
    return true;
  }

  #write(lo: number, hi: number, length: number, index: number, from: Uint8Array, at: number): boolean {
    const first = Math.min(length, 4096 - (lo & 4095));
    const nextLo = ((lo & ~4095) + 4096) >>> 0;
    if (first < length && !this.#reaches(nextLo, hi)) return false;
    if (!this.resolve(lo, hi, ACCESS.WRITE, index)) return false;
    if (first === length) {
      this.#writePiece(this.host, this.paLo, this.paHi, length, from, at);
      return true;
    }
    const host = this.host;
    const paLo = this.paLo;
    const paHi = this.paHi;
    if (!this.resolve(nextLo, this.#nextHigh(nextLo, hi), ACCESS.WRITE, index)) return false;
    this.#writePiece(host, paLo, paHi, first, from, at);
    this.#writePiece(this.host, this.paLo, this.paHi, length - first, from, at + first);
    return true;
  }

  /** Copies from one page: memory, a ROM, or a device in pieces of 4, 2 and 1. */
  #readPiece(host: number, paLo: number, paHi: number, length: number, into: Uint8Array, at: number): void {
    const mem = this.#cpu.mem;
    if (host < 0) host = mem.hostOffset(paLo, paHi);
    if (host >= 0) {
      if (((host | at | length | into.byteOffset) & 3) === 0 && into === this.block) {
        // by words, so that an aligned word of the guest's is read in one piece
        for (let i = 0; i < length; i += 4) this.block32[(at + i) >>> 2] = this.#u32[(host + i) >>> 2];
        return;
      }
      for (let i = 0; i < length; i++) into[at + i] = this.#u8[host + i];
      return;
    }
    for (let i = 0; i < length;) {
      const n = length - i >= 4 ? 4 : length - i >= 2 ? 2 : 1;
      let value = mem.readDevice(paLo + i, paHi, n);
      for (let k = 0; k < n; k++) {
        into[at + i + k] = value;
        value >>>= 8;
      }
      i += n;
    }
  }

  #writePiece(host: number, paLo: number, paHi: number, length: number, from: Uint8Array, at: number): void {
    const mem = this.#cpu.mem;
    if (host >= 0) {
      if (((host | at | length) & 3) === 0 && from === this.block) {
        for (let i = 0; i < length; i += 4) this.#u32[(host + i) >>> 2] = this.block32[(at + i) >>> 2];
      } else {
        for (let i = 0; i < length; i++) this.#u8[host + i] = from[at + i];
      }
      if (mem.codeMap[host >>> 12] !== 0) this.#cpu.codeCache.written(host, length);
      return;
    }
    for (let i = 0; i < length;) {
      const n = length - i >= 4 ? 4 : length - i >= 2 ? 2 : 1;
      let value = 0;
      for (let k = n - 1; k >= 0; k--) value = (value << 8) | from[at + i + k];
      mem.writeDevice(paLo + i, paHi, n, value);
      i += n;
    }
  }

  /** Makes generated code return at its next check. */
  kickSelf(): void {
    Atomics.or(this.#i32, this.#w + EXIT_REQUEST, EXIT.KICK);
  }
}
