/**
 * The software TLB and the slow memory paths behind it (docs/plan-boot.md, "Memory accesses of generated
 * code"). Entries are for 4 KiB each, whatever the guest's page size. A write entry exists only for a page
 * whose dirty bit is set, that is RAM, and that no decoded code came from.
 *
 * Which segment an address came from is not known here, so a non-canonical address is #GP(0) also for the
 * stack segment; stack helpers check their addresses beforehand and raise #SS(0).
 */
import { CODE_TLB_ENTRIES, EXIT, MMU, invalidTag, TLB_ENTRIES, TLB_SET, tlbSetOffset } from '../env.ts';
import { CpuEnv } from '../env.ts';
import { viewsOf } from '@smp86/atomics-sync';
import type { Cpu } from './cpu.ts';
import { ACCESS, PAGE, PageWalk } from './page-walk.ts';
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

/** Bits of an entry's info word, below the host page. */
const INFO_GLOBAL = 1;
const INFO_IN_LOCAL = 4;
const INFO_IN_GLOBAL = 8;

const READ_WORDS = TLB_SET.READ >>> 2;
const WRITE_WORDS = TLB_SET.WRITE >>> 2;
const CODE_WORDS = TLB_SET.CODE >>> 2;
const SET_WORDS = TLB_SET.SIZE >>> 2;
const FIRST_SET = tlbSetOffset(0) >>> 2;
const W_CODE_LOSSES = CpuEnv.offsetOf('codeLosses') >>> 2;
const EXIT_REQUEST = CpuEnv.offsetOf('exitRequest') >>> 2;
const JOURNAL = 2048;

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
  /** First word of TLB set 0. */
  readonly #tlb: number;

  // --- result of `resolve` ---
  /** Wasm address, or −1: device memory (or a ROM, for a write) at physical `paHi:paLo`. */
  host = -1;
  paLo = 0;
  paHi = 0;
  /** Decoded code came from the page. */
  code = false;

  /** Word indices of entries filled since the last flush, local and global ones; over JOURNAL: too many. */
  readonly #local = new Int32Array(JOURNAL);
  #localCount = 0;
  readonly #globals = new Int32Array(JOURNAL);
  #globalCount = 0;
  /** Hashed 2 MiB and 1 GiB regions of which pieces of large pages are in the TLB. */
  readonly #largeRegions = new Uint8Array(1024);
  readonly #hugeRegions = new Uint8Array(256);
  #anyLarge = false;

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
    this.#tlb = cpu.w + FIRST_SET;
    this.pageWalk = new PageWalk(cpu);
    this.#clearAll();
  }

  // --- TLB ---

  /** The MMU index in force: `env.tlbSet`. */
  index(): number {
    return (this.#u32[this.#w + W_TLB_SET] - FIRST_SET * 4) / TLB_SET.SIZE;
  }

  /** Code of some page has to be translated again. */
  codeLost(): void {
    const u32 = this.#u32;
    const at = this.#w + W_CODE_LOSSES;
    if (++u32[at] === 0) u32[at + 1]++;
  }

  /** Empties the entry at word `t`. */
  #invalidate(t: number): void {
    this.#u32[t] = invalidTag((t - this.#tlb) >>> 2);
  }

  #clearAll(): void {
    const u32 = this.#u32;
    this.codeLost();
    const end = this.#tlb + MMU.COUNT * SET_WORDS;
    for (let t = this.#tlb; t < end; t += 4) {
      this.#invalidate(t);
      u32[t + 3] = 0;
    }
    this.#localCount = 0;
    this.#globalCount = 0;
    this.#largeRegions.fill(0);
    this.#hugeRegions.fill(0);
    this.#anyLarge = false;
  }

  /** Drops every translation. */
  flushAll(): void {
    if (this.#localCount > JOURNAL || this.#globalCount > JOURNAL) {
      this.#clearAll();
      return;
    }
    const u32 = this.#u32;
    this.codeLost();
    for (let i = 0; i < this.#localCount; i++) {
      const t = this.#local[i];
      this.#invalidate(t);
      u32[t + 3] = 0;
    }
    for (let i = 0; i < this.#globalCount; i++) {
      const t = this.#globals[i];
      this.#invalidate(t);
      u32[t + 3] = 0;
    }
    this.#localCount = 0;
    this.#globalCount = 0;
    if (this.#anyLarge) {
      this.#largeRegions.fill(0);
      this.#hugeRegions.fill(0);
      this.#anyLarge = false;
    }
  }

  /** Drops every translation that is not global (a write to CR3). */
  flushNonGlobal(): void {
    const u32 = this.#u32;
    this.codeLost();
    if (this.#localCount > JOURNAL) {
      const end = this.#tlb + MMU.COUNT * SET_WORDS;
      for (let t = this.#tlb; t < end; t += 4) {
        const info = u32[t + 3];
        if ((info & INFO_GLOBAL) === 0) this.#invalidate(t);
        u32[t + 3] = info & ~INFO_IN_LOCAL;
      }
    } else {
      for (let i = 0; i < this.#localCount; i++) {
        const t = this.#local[i];
        const info = u32[t + 3];
        if ((info & INFO_GLOBAL) === 0) this.#invalidate(t);
        u32[t + 3] = info & ~INFO_IN_LOCAL;
      }
    }
    this.#localCount = 0;
  }

  /** Drops the code entries of one set: code is to be looked up afresh. */
  dropCode(index: number): void {
    const first = this.#tlb + index * SET_WORDS + CODE_WORDS;
    this.codeLost();
    for (let t = first; t < first + CODE_TLB_ENTRIES * 4; t += 4) this.#invalidate(t);
  }

  /** Drops the translations of the page that holds a linear address, global or not (INVLPG). */
  flushPage(lo: number, hi: number): void {
    if (
      this.#anyLarge &&
      (this.#largeRegions[this.#regionHash(lo, hi)] !== 0 || this.#hugeRegions[this.#hugeHash(lo, hi)] !== 0)
    ) {
      this.flushAll();
      return;
    }
    const u32 = this.#u32;
    const page = (lo & ~4095) >>> 0;
    const entry = ((lo >>> 12) & (TLB_ENTRIES - 1)) * 4;
    const codeEntry = ((lo >>> 12) & (CODE_TLB_ENTRIES - 1)) * 4;
    for (let set = 0, t = this.#tlb; set < MMU.COUNT; set++, t += SET_WORDS) {
      const read = t + READ_WORDS + entry;
      const write = t + WRITE_WORDS + entry;
      const code = t + CODE_WORDS + codeEntry;
      if (u32[read] === page) this.#invalidate(read);
      if (u32[write] === page) this.#invalidate(write);
      if (u32[code] === page) {
        this.codeLost();
        this.#invalidate(code);
      }
    }
  }

  #regionHash(lo: number, hi: number): number {
    return ((lo >>> 21) ^ (hi << 3)) & 1023;
  }
  #hugeHash(lo: number, hi: number): number {
    return ((lo >>> 30) ^ (hi << 2)) & 255;
  }

  /** Removes write entries for a wasm page that has become a code page. */
  dropWriteEntries(hostPage: number): void {
    dropWriteEntriesOf(this.#cpu.views.buffer, this.#cpu.base, hostPage);
  }

  #install(t: number, pageLo: number, hi: number, hostPage: number, global: boolean): void {
    const u32 = this.#u32;
    let info = u32[t + 3] & (INFO_IN_LOCAL | INFO_IN_GLOBAL);
    if (global) {
      if ((info & INFO_IN_GLOBAL) === 0) {
        if (this.#globalCount < JOURNAL) this.#globals[this.#globalCount] = t;
        if (this.#globalCount <= JOURNAL) this.#globalCount++;
      }
      info |= INFO_IN_GLOBAL | INFO_GLOBAL;
    } else {
      if ((info & INFO_IN_LOCAL) === 0) {
        if (this.#localCount < JOURNAL) this.#local[this.#localCount] = t;
        if (this.#localCount <= JOURNAL) this.#localCount++;
      }
      info |= INFO_IN_LOCAL;
    }
    u32[t] = pageLo;
    u32[t + 1] = hi;
    u32[t + 2] = hostPage - pageLo;
    u32[t + 3] = (hostPage | info) >>> 0;
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
    if (walk.size !== PAGE.SMALL) this.#noteLarge(lo, hi, walk.size);
    const pageLo = (lo & ~4095) >>> 0;
    const set = this.#tlb + index * SET_WORDS;
    if (access === ACCESS.FETCH) {
      const t = set + CODE_WORDS + ((lo >>> 12) & (CODE_TLB_ENTRIES - 1)) * 4;
      if ((this.#u32[t] & 1) === 0) this.codeLost();
      this.#install(t, pageLo, hi, hostPage, walk.global);
      // in place of that address: the page's code descriptor, none yet (tier0/code-cache.ts)
      this.#u32[t + 2] = 0;
      return true;
    }
    const entry = ((lo >>> 12) & (TLB_ENTRIES - 1)) * 4;
    this.#install(set + READ_WORDS + entry, pageLo, hi, hostPage, walk.global);
    if (access === ACCESS.WRITE && !code) {
      const t = set + WRITE_WORDS + entry;
      this.#install(t, pageLo, hi, hostPage, walk.global);
      // Another vCPU may have made it a code page meanwhile: it sets the map first, then looks at our entries.
      // The atomic store puts the entry in memory before the map is read.
      Atomics.store(this.#u32, t, pageLo);
      if (Atomics.load(mem.codeMap, hostPage >>> 12) !== 0) {
        this.#invalidate(t);
        this.code = true;
      }
    }
    return true;
  }

  #noteLarge(lo: number, hi: number, size: number): void {
    this.#anyLarge = true;
    if (size === PAGE.HUGE) {
      this.#hugeRegions[this.#hugeHash(lo, hi)] = 1;
    } else {
      this.#largeRegions[this.#regionHash(lo, hi)] = 1;
      // a 4 MiB page is two regions
      if (size === PAGE.LARGE_4M) this.#largeRegions[this.#regionHash(lo ^ 0x200000, hi)] = 1;
    }
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
    const u32 = this.#u32;
    const t =
      this.#tlb +
      index * SET_WORDS +
      (access === ACCESS.FETCH
        ? CODE_WORDS + ((lo >>> 12) & (CODE_TLB_ENTRIES - 1)) * 4
        : (access === ACCESS.WRITE ? WRITE_WORDS : READ_WORDS) + ((lo >>> 12) & (TLB_ENTRIES - 1)) * 4);
    if (u32[t] === (lo & ~4095) >>> 0 && u32[t + 1] === hi) {
      this.host = ((u32[t + 3] & ~4095) | (lo & 4095)) >>> 0;
      this.code = false;
      return true;
    }
    if (!this.canonical(hi, VEC.GP)) return false;
    return this.fillTlb(lo, hi, access, index);
  }

  /** Wasm address of a code byte whose page is in the TLB; −1 when it is not. Nothing is changed. */
  codeHost(lo: number, hi: number): number {
    const u32 = this.#u32;
    const t = this.#tlb + this.index() * SET_WORDS + CODE_WORDS + ((lo >>> 12) & (CODE_TLB_ENTRIES - 1)) * 4;
    if (u32[t] !== (lo & ~4095) >>> 0 || u32[t + 1] !== hi) return -1;
    return ((u32[t + 3] & ~4095) | (lo & 4095)) >>> 0;
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

/**
 * Has a vCPU a write entry for a wasm page? *Thread:* any; the page's code map was set before, atomically. False: no
 * store of that vCPU to the page is under way that its slow path will not see, since only the vCPU itself and
 * exclusive sections remove entries, and it removes none between a probe and its store.
 */
export function hasWriteEntryFor(buffer: SharedArrayBuffer, base: number, hostPage: number): boolean {
  const u32 = viewsOf(buffer).u32;
  const first = (base >>> 2) + FIRST_SET;
  for (let set = 0; set < MMU.COUNT; set++) {
    const start = first + set * SET_WORDS + WRITE_WORDS;
    for (let t = start; t < start + TLB_ENTRIES * 4; t += 4) {
      if ((u32[t + 3] & ~4095) >>> 0 === hostPage && (u32[t] & 1) === 0) return true;
    }
  }
  return false;
}

/**
 * Removes, from any thread, a vCPU's write entries for a wasm page. A store whose probe was already done may
 * still follow: the caller sets the code map first and then waits until that vCPU has left generated code.
 */
export function dropWriteEntriesOf(buffer: SharedArrayBuffer, base: number, hostPage: number): void {
  const u32 = viewsOf(buffer).u32;
  const first = (base >>> 2) + FIRST_SET;
  for (let set = 0; set < MMU.COUNT; set++) {
    const start = first + set * SET_WORDS + WRITE_WORDS;
    for (let t = start; t < start + TLB_ENTRIES * 4; t += 4) {
      if ((u32[t + 3] & ~4095) >>> 0 === hostPage) Atomics.store(u32, t, invalidTag((t - first) >>> 2));
    }
  }
}
