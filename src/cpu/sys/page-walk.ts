/**
 * The page walk: linear to physical through the guest's tables (SDM 3A chapter 4). 32-bit paging with PSE
 * and PSE-36, PAE paging, 4-level paging. Addresses and entries are pairs of 32-bit halves; an 8-byte entry
 * is read by one 8-byte load, so it is never seen half written.
 */
import { MMU } from '../env.ts';
import type { Cpu } from './cpu.ts';
import { CR0, CR4, EFER, W_CR0, W_CR3, W_CR4, W_EFER, W_PDPTE } from './words.ts';

/** Kinds of access. */
export const ACCESS = { READ: 0, WRITE: 1, FETCH: 2 } as const;

/** Error code of #PF (SDM 3A 4.7). */
export const PF = { P: 1, W: 2, U: 4, RSVD: 8, I: 16 } as const;

/** Bits of a paging-structure entry. */
export const PTE = {
  P: 1 << 0,
  RW: 1 << 1,
  US: 1 << 2,
  A: 1 << 5,
  D: 1 << 6,
  PS: 1 << 7,
  G: 1 << 8,
  /** In the high half. */
  NX: 1 << 31,
} as const;

/** How large the page is that a walk ended at. */
export const PAGE = { SMALL: 0, LARGE: 1, HUGE: 2, LARGE_4M: 3 } as const;

const OK = 0;
const FAULT = 1;
/** An entry changed while its accessed or dirty bit was being set. */
const AGAIN = 2;

/** *Thread:* vCPU. */
export class PageWalk {
  readonly #cpu: Cpu;
  // --- results of the last walk ---
  /** Physical address of the byte asked for. */
  paLo = 0;
  paHi = 0;
  /** The page is writable for this kind of access and its dirty bit is set. */
  writable = false;
  global = false;
  size: number = PAGE.SMALL;
  /** Error code, when the walk failed. */
  error = 0;

  // the entry being looked at
  #lo = 0;
  #hi = 0;
  readonly #double = new Float64Array(1);
  readonly #halves = new Uint32Array(this.#double.buffer);
  /** Reserved bits of the high half of every 8-byte entry: bits 51:MAXPHYADDR, and NX when it is off. */
  #reservedHigh = 0;
  #user = false;
  #writeProtect = false;
  #smap = false;
  #smep = false;
  #noExecute = false;
  #access = 0;

  constructor(cpu: Cpu) {
    this.#cpu = cpu;
  }

  /**
   * Walks the tables for an access of kind `access` through MMU index `index`; sets A and D bits as the
   * access does. False: `error` holds the error code of the #PF. The address is canonical.
   */
  walk(lo: number, hi: number, access: number, index: number): boolean {
    const u32 = this.#cpu.u32;
    const w = this.#cpu.w;
    const cr0 = u32[w + W_CR0];
    if ((cr0 & CR0.PG) === 0) {
      this.paLo = lo;
      this.paHi = 0;
      this.writable = true;
      this.global = false;
      this.size = PAGE.SMALL;
      return true;
    }
    const cr4 = u32[w + W_CR4];
    const efer = u32[w + W_EFER];
    this.#access = access;
    this.#user = index === MMU.USER;
    this.#writeProtect = this.#user || (cr0 & CR0.WP) !== 0;
    this.#smap = index === MMU.KERNEL && (cr4 & CR4.SMAP) !== 0;
    this.#smep = (cr4 & CR4.SMEP) !== 0;
    this.#noExecute = (efer & EFER.NXE) !== 0 && (cr4 & CR4.PAE) !== 0;
    for (;;) {
      const result =
        (efer & EFER.LMA) !== 0
          ? this.#walk4(lo, hi, cr4)
          : (cr4 & CR4.PAE) !== 0
            ? this.#walkPae(lo, cr4)
            : this.#walk32(lo, cr4);
      if (result !== AGAIN) return result === OK;
    }
  }

  #fault(bits: number): number {
    this.error =
      bits |
      (this.#access === ACCESS.WRITE ? PF.W : 0) |
      (this.#user ? PF.U : 0) |
      (this.#access === ACCESS.FETCH && (this.#smep || this.#noExecute) ? PF.I : 0);
    return FAULT;
  }

  /** Reads the 8-byte entry at a physical address. */
  #load8(paLo: number, paHi: number): void {
    const mem = this.#cpu.mem;
    const host = mem.hostOffset(paLo, paHi);
    if (host < 0) {
      this.#lo = mem.readDevice(paLo, paHi, 4) | 0;
      this.#hi = mem.readDevice(paLo + 4, paHi, 4) | 0;
      return;
    }
    this.#double[0] = this.#cpu.views.f64[host >>> 3];
    this.#lo = this.#halves[0] | 0;
    this.#hi = this.#halves[1] | 0;
    if ((this.#hi & 0x7ff00000) === 0x7ff00000) {
      // as a double this is a NaN, which the copy may have quieted
      const u32 = this.#cpu.u32;
      do {
        this.#lo = Atomics.load(u32, host >>> 2) | 0;
        this.#hi = Atomics.load(u32, (host >>> 2) + 1) | 0;
      } while ((Atomics.load(u32, host >>> 2) | 0) !== this.#lo);
    }
  }

  #load4(paLo: number, paHi: number): void {
    const mem = this.#cpu.mem;
    const host = mem.hostOffset(paLo, paHi);
    this.#lo = host < 0 ? mem.readDevice(paLo, paHi, 4) | 0 : this.#cpu.i32[host >>> 2];
    this.#hi = 0;
  }

  /** Sets bits in the low half of the entry just read. False: the entry is no longer what was read. */
  #setBits(paLo: number, paHi: number, bits: number): boolean {
    if ((this.#lo & bits) === bits) return true;
    const mem = this.#cpu.mem;
    const host = mem.writeOffset(paLo, paHi);
    if (host < 0) {
      mem.writeDevice(paLo, paHi, 4, this.#lo | bits);
      return true;
    }
    const old = Atomics.compareExchange(this.#cpu.i32, host >>> 2, this.#lo, this.#lo | bits);
    if (old !== this.#lo) return false;
    this.#lo |= bits;
    if (mem.codeMap[host >>> 12] !== 0) this.#cpu.codeCache.written(host, 4);
    return true;
  }

  /** True when the entry allows NX nowhere and has no reserved bit. */
  #reserved8(extraLow: number): boolean {
    return (this.#hi & this.#reservedHigh) !== 0 || (this.#lo & extraLow) !== 0;
  }

  #walk4(lo: number, hi: number, cr4: number): number {
    const cpu = this.#cpu;
    this.#reservedHigh = cpu.model.reservedHigh | (this.#noExecute ? 0 : PTE.NX);
    const cr3 = cpu.get(W_CR3);
    let tableLo = cr3 & ~4095;
    let tableHi = cpu.get(W_CR3 + 1) & 0x000fffff;
    let rights = PTE.RW | PTE.US;
    let nx = 0;

    let at = (tableLo | (((hi >>> 7) & 0x1ff) << 3)) >>> 0;
    this.#load8(at, tableHi);
    if ((this.#lo & PTE.P) === 0) return this.#fault(0);
    if (this.#reserved8(PTE.PS)) return this.#fault(PF.P | PF.RSVD);
    if (!this.#setBits(at, tableHi, PTE.A)) return AGAIN;
    rights &= this.#lo;
    nx |= this.#hi;
    tableLo = this.#lo & ~4095;
    tableHi = this.#hi & 0x000fffff;

    at = (tableLo | ((((hi & 0x7f) << 2) | (lo >>> 30)) << 3)) >>> 0;
    this.#load8(at, tableHi);
    if ((this.#lo & PTE.P) === 0) return this.#fault(0);
    if ((this.#lo & PTE.PS) !== 0) {
      if (!cpu.model.hugePages || this.#reserved8(0x3fffe000)) return this.#fault(PF.P | PF.RSVD);
      return this.#leaf(at, tableHi, rights & this.#lo, nx | this.#hi, lo, 0x3fffffff, PAGE.HUGE, cr4);
    }
    if (this.#reserved8(0)) return this.#fault(PF.P | PF.RSVD);
    if (!this.#setBits(at, tableHi, PTE.A)) return AGAIN;
    rights &= this.#lo;
    nx |= this.#hi;
    return this.#walk2(this.#lo & ~4095, this.#hi & 0x000fffff, lo, rights, nx, cr4);
  }

  /** The last two levels of PAE and 4-level paging. */
  #walk2(tableLo: number, tableHi: number, lo: number, rights: number, nx: number, cr4: number): number {
    let at = (tableLo | (((lo >>> 21) & 0x1ff) << 3)) >>> 0;
    this.#load8(at, tableHi);
    if ((this.#lo & PTE.P) === 0) return this.#fault(0);
    if ((this.#lo & PTE.PS) !== 0) {
      if (this.#reserved8(0x001fe000)) return this.#fault(PF.P | PF.RSVD);
      return this.#leaf(at, tableHi, rights & this.#lo, nx | this.#hi, lo, 0x1fffff, PAGE.LARGE, cr4);
    }
    if (this.#reserved8(0)) return this.#fault(PF.P | PF.RSVD);
    if (!this.#setBits(at, tableHi, PTE.A)) return AGAIN;
    rights &= this.#lo;
    nx |= this.#hi;
    tableLo = this.#lo & ~4095;
    tableHi = this.#hi & 0x000fffff;
    at = (tableLo | (((lo >>> 12) & 0x1ff) << 3)) >>> 0;
    this.#load8(at, tableHi);
    if ((this.#lo & PTE.P) === 0) return this.#fault(0);
    if (this.#reserved8(0)) return this.#fault(PF.P | PF.RSVD);
    return this.#leaf(at, tableHi, rights & this.#lo, nx | this.#hi, lo, 0xfff, PAGE.SMALL, cr4);
  }

  /** PAE paging: the four directory-pointer entries are registers, loaded with CR3 (SDM 3A 4.4.1). */
  #walkPae(lo: number, cr4: number): number {
    const cpu = this.#cpu;
    // bits 62:52 are reserved here, ignored in 4-level paging
    this.#reservedHigh = cpu.model.reservedHigh | 0x7ff00000 | (this.#noExecute ? 0 : PTE.NX);
    const word = W_PDPTE + (lo >>> 30) * 2;
    const entry = cpu.get(word);
    if ((entry & PTE.P) === 0) return this.#fault(0);
    return this.#walk2(entry & ~4095, cpu.get(word + 1) & 0x000fffff, lo, PTE.RW | PTE.US, 0, cr4);
  }

  #walk32(lo: number, cr4: number): number {
    const cpu = this.#cpu;
    let at = ((cpu.get(W_CR3) & ~4095) | ((lo >>> 22) << 2)) >>> 0;
    this.#load4(at, 0);
    if ((this.#lo & PTE.P) === 0) return this.#fault(0);
    if ((this.#lo & PTE.PS) !== 0 && (cr4 & CR4.PSE) !== 0) {
      // bits 20:13 are physical address bits 39:32 (PSE-36), bit 21 is reserved
      const high = (this.#lo >>> 13) & 0xff;
      if ((this.#lo & (1 << 21)) !== 0 || (high & cpu.model.reservedHigh) !== 0) {
        return this.#fault(PF.P | PF.RSVD);
      }
      this.#hi = high;
      return this.#leaf(at, 0, this.#lo, 0, lo, 0x3fffff, PAGE.LARGE_4M, cr4);
    }
    if (!this.#setBits(at, 0, PTE.A)) return AGAIN;
    const rights = this.#lo;
    at = ((this.#lo & ~4095) | (((lo >>> 12) & 0x3ff) << 2)) >>> 0;
    this.#load4(at, 0);
    if ((this.#lo & PTE.P) === 0) return this.#fault(0);
    return this.#leaf(at, 0, rights & this.#lo, 0, lo, 0xfff, PAGE.SMALL, cr4);
  }

  /** Rights of the whole walk, then A and D of the entry that maps the page. */
  #leaf(
    atLo: number,
    atHi: number,
    rights: number,
    nx: number,
    lo: number,
    offsetMask: number,
    size: number,
    cr4: number,
  ): number {
    const access = this.#access;
    const userPage = (rights & PTE.US) !== 0;
    if (this.#user) {
      if (!userPage) return this.#fault(PF.P);
    } else if (userPage && (access === ACCESS.FETCH ? this.#smep : this.#smap)) {
      return this.#fault(PF.P);
    }
    const mayWrite = (rights & PTE.RW) !== 0 || !this.#writeProtect;
    if (access === ACCESS.WRITE) {
      if (!mayWrite) return this.#fault(PF.P);
    } else if (access === ACCESS.FETCH && this.#noExecute && (nx & PTE.NX) !== 0) {
      return this.#fault(PF.P);
    }
    const paHi = this.#hi & 0x000fffff;
    if (!this.#setBits(atLo, atHi, access === ACCESS.WRITE ? PTE.A | PTE.D : PTE.A)) return AGAIN;
    this.paLo = ((this.#lo & ~offsetMask & ~4095) | (lo & offsetMask)) >>> 0;
    this.paHi = paHi;
    this.writable = mayWrite && (this.#lo & PTE.D) !== 0;
    this.global = (this.#lo & PTE.G) !== 0 && (cr4 & CR4.PGE) !== 0;
    this.size = size;
    return OK;
  }
}
