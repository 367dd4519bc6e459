/**
 * The software TLB, which generated code probes (docs/plan-boot.md, "Memory accesses of generated code"). Entries are for
 * 4 KiB each, whatever the guest's page size. A write entry exists only for a page whose dirty bit is set, that is RAM,
 * and that no decoded code came from.
 */
import { viewsOf } from '@smp86/atomics-sync';
import {
  CODE_TLB_ENTRIES,
  invalidTag,
  JUMP,
  JUMP_ENTRIES,
  JUMP_ENTRY_SIZE,
  MMU,
  TLB_ENTRIES,
  TLB_SET,
  tlbSetOffset,
  WRITE_CLASSES,
  WRITE_PLACES_OFFSET,
} from '../env.ts';
import { ACCESS, PAGE } from './page-walk.ts';

/** Bits of an entry's info word, below the host page. */
const INFO_GLOBAL = 1;
const INFO_IN_LOCAL = 4;
const INFO_IN_GLOBAL = 8;

const READ_WORDS = TLB_SET.READ >>> 2;
const WRITE_WORDS = TLB_SET.WRITE >>> 2;
const CODE_WORDS = TLB_SET.CODE >>> 2;
const SET_WORDS = TLB_SET.SIZE >>> 2;
const FIRST_SET = tlbSetOffset(0) >>> 2;
const SET_ENTRY_WORDS = TLB_SET.ENTRIES_END >>> 2;
const JUMP_WORDS = TLB_SET.JUMPS >>> 2;
const LOSS_WORDS = TLB_SET.LOSSES >>> 2;
const JOURNAL = 8192;

/** Halves of the tag of a data entry for a linear page address. */
function dataTag(pageLo: number): number {
  return (pageLo - 1) >>> 0;
}
function dataTagHigh(pageLo: number, hi: number): number {
  return pageLo === 0 ? (hi - 1) >>> 0 : hi;
}
function isValid(tagLow: number): boolean {
  return (tagLow & 3) !== 1;
}

/** `set`: its first word. */
function countLoss(u32: Uint32Array<SharedArrayBuffer>, set: number): void {
  const at = set + LOSS_WORDS;
  if (++u32[at] === 0) u32[at + 1]++;
}

/*
 * Where a page's write entries are. When a page becomes code, every vCPU's are looked for, and there are 49152. So a word for each
 * class of wasm pages (one page of 512 MiB in two) has the places of two entries, 16 bits each.
 *
 * *Invariant:* a valid write entry's place is in the word of its page's class, or the word says MANY. Only fills write
 * the words, and only when the entry at a listed place has gone, or is of another class by now, is another put there; so
 * entries can be removed by anybody without a word being written. A word that says MANY is written anew by the vCPU
 * itself when it looked at all entries for it. *Order:* see `fillWrite`.
 */
const W_WRITE_PLACES = WRITE_PLACES_OFFSET >>> 2;
/** In the high half: look at all entries. */
const MANY = 0xffff;
if (MMU.COUNT * TLB_ENTRIES >= MANY) throw new Error('places of write entries do not fit 16 bits');

/** Number of the class of a wasm page, given by its address or an info word. */
function classOf(hostPage: number): number {
  return (hostPage >>> 12) & (WRITE_CLASSES - 1);
}
/** Word of the write entry at a place, from the first set's start. Place 0 is none. */
function wordOfPlace(place: number): number {
  const n = place - 1;
  return Math.floor(n / TLB_ENTRIES) * SET_WORDS + WRITE_WORDS + (n & (TLB_ENTRIES - 1)) * 4;
}
/** The word of a class, `places`, with one more entry in it. `first`: word of set 0. */
function withPlace(
  u32: Uint32Array<SharedArrayBuffer>,
  first: number,
  hostPage: number,
  places: number,
  place: number,
): number {
  const a = places & 0xffff;
  const b = places >>> 16;
  if (b === MANY || a === place || b === place) return places;
  const isFree = (other: number): boolean => {
    if (other === 0) return true;
    const t = first + wordOfPlace(other);
    return !isValid(u32[t]) || classOf(u32[t + 3]) !== classOf(hostPage);
  };
  if (isFree(a)) return ((b << 16) | place) >>> 0;
  if (isFree(b)) return ((place << 16) | a) >>> 0;
  return (MANY << 16) >>> 0;
}

/** A vCPU's. *Thread:* vCPU. */
export class Tlb {
  readonly #u32: Uint32Array<SharedArrayBuffer>;
  readonly #w: number;
  /** First word of set 0. */
  readonly #first: number;
  /** Word indices of entries filled since the last flush, local and global ones; over JOURNAL: too many. */
  readonly #local = new Int32Array(JOURNAL);
  #localCount = 0;
  readonly #globals = new Int32Array(JOURNAL);
  #globalCount = 0;
  /** Hashed 2 MiB and 1 GiB regions of which pieces of large pages are in the TLB. */
  readonly #largeRegions = new Uint8Array(1024);
  readonly #hugeRegions = new Uint8Array(256);
  #anyLarge = false;
  /** A bit for each set that got a code entry which is not global since such were dropped. */
  #localCode = 0;

  /** `w`: first word of the vCPU's block. */
  constructor(u32: Uint32Array<SharedArrayBuffer>, w: number) {
    this.#u32 = u32;
    this.#w = w;
    this.#first = w + FIRST_SET;
    this.#clearAll();
  }

  /** Wasm address of a byte whose page has an entry for such an access; −1: none. Nothing is changed. */
  find(lo: number, hi: number, access: number, index: number): number {
    const u32 = this.#u32;
    const code = access === ACCESS.FETCH;
    const t =
      this.#first +
      index * SET_WORDS +
      (code
        ? CODE_WORDS + ((lo >>> 12) & (CODE_TLB_ENTRIES - 1)) * 4
        : (access === ACCESS.WRITE ? WRITE_WORDS : READ_WORDS) + ((lo >>> 12) & (TLB_ENTRIES - 1)) * 4);
    const pageLo = (lo & ~4095) >>> 0;
    if (u32[t] !== (code ? pageLo : dataTag(pageLo))) return -1;
    if (u32[t + 1] !== (code ? hi : dataTagHigh(pageLo, hi))) return -1;
    return ((u32[t + 3] & ~4095) | (lo & 4095)) >>> 0;
  }

  // --- entries come ---

  /** Code at wasm page `hostPage` (its address). */
  fillCode(lo: number, hi: number, hostPage: number, global: boolean, index: number): void {
    const t = this.#first + index * SET_WORDS + CODE_WORDS + ((lo >>> 12) & (CODE_TLB_ENTRIES - 1)) * 4;
    if (isValid(this.#u32[t])) this.#codeLost(index);
    if (!global) this.#localCode |= 1 << index;
    this.#u32[t] = (lo & ~4095) >>> 0;
    this.#u32[t + 1] = hi;
    // in place of an addend: the page's code descriptor, none yet (tier0/code-cache.ts)
    this.#u32[t + 2] = 0;
    this.#note(t, hostPage, global);
  }
  fillRead(lo: number, hi: number, hostPage: number, global: boolean, index: number): void {
    const t = this.#first + index * SET_WORDS + READ_WORDS + ((lo >>> 12) & (TLB_ENTRIES - 1)) * 4;
    this.#fillData(t, lo, hi, hostPage, global);
  }
  /** False: it is a code page, and has no entry. */
  fillWrite(
    lo: number,
    hi: number,
    hostPage: number,
    global: boolean,
    index: number,
    codeMap: Uint8Array<SharedArrayBuffer>,
  ): boolean {
    const u32 = this.#u32;
    const place = 1 + index * TLB_ENTRIES + ((lo >>> 12) & (TLB_ENTRIES - 1));
    const t = this.#first + wordOfPlace(place);
    this.#fillData(t, lo, hi, hostPage, global);
    // Another vCPU may have made it a code page meanwhile: it sets the map first, then looks at the class's word and,
    // as that says, at entries. If this store of the word (each fill has one, even of the same value) comes before its
    // look, it reads this or a later one, and so sees the entry as it is now or later; if after, the map is set when it is read here.
    const at = this.#w + W_WRITE_PLACES + classOf(hostPage);
    Atomics.store(u32, at, withPlace(u32, this.#first, hostPage, u32[at], place));
    if (Atomics.load(codeMap, hostPage >>> 12) === 0) return true;
    this.#invalidate(t);
    return false;
  }

  #fillData(t: number, lo: number, hi: number, hostPage: number, global: boolean): void {
    const u32 = this.#u32;
    const pageLo = (lo & ~4095) >>> 0;
    u32[t] = dataTag(pageLo);
    u32[t + 1] = dataTagHigh(pageLo, hi);
    u32[t + 2] = hostPage - pageLo;
    this.#note(t, hostPage, global);
  }
  /** Puts an entry into the journals. */
  #note(t: number, hostPage: number, global: boolean): void {
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
    u32[t + 3] = (hostPage | info) >>> 0;
  }

  /** A piece of a large page, of this size (PAGE), is in the TLB. */
  noteLarge(lo: number, hi: number, size: number): void {
    this.#anyLarge = true;
    if (size === PAGE.HUGE) {
      this.#hugeRegions[this.#hugeHash(lo, hi)] = 1;
    } else {
      this.#largeRegions[this.#regionHash(lo, hi)] = 1;
      // a 4 MiB page is two regions
      if (size === PAGE.LARGE_4M) this.#largeRegions[this.#regionHash(lo ^ 0x200000, hi)] = 1;
    }
  }

  // --- entries go ---

  /** What regions found of code holds no longer. */
  codeLost(): void {
    for (let set = 0; set < MMU.COUNT; set++) this.#codeLost(set);
  }
  #codeLost(index: number): void {
    countLoss(this.#u32, this.#first + index * SET_WORDS);
  }

  /** What is known of a jump to a linear address: no region begins there any more. The entry's place is `jumpEntry`'s. */
  forgetJump(lo: number, hi: number, index: number): void {
    const entry = ((lo ^ (lo >>> 12)) & (JUMP_ENTRIES - 1)) * (JUMP_ENTRY_SIZE >>> 2);
    const t = this.#first + index * SET_WORDS + JUMP_WORDS + entry;
    if (this.#u32[t] !== lo || this.#u32[t + 1] !== hi) return;
    this.#u32[t + JUMP.LOSSES / 4] = 0;
    this.#u32[t + JUMP.LOSSES / 4 + 1] = 0;
  }

  /** Empties the entry at word `t`. */
  #invalidate(t: number): void {
    this.#u32[t] = invalidTag((t - this.#first) >>> 2);
  }

  #clearAll(): void {
    const u32 = this.#u32;
    this.codeLost();
    forEachEntry(this.#first, (t) => {
      this.#invalidate(t);
      u32[t + 3] = 0;
    });
    this.#localCount = 0;
    this.#localCode = 0;
    this.#globalCount = 0;
    u32.fill(0, this.#w + W_WRITE_PLACES, this.#w + W_WRITE_PLACES + WRITE_CLASSES);
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
    this.#localCode = 0;
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
    for (let set = 0; set < MMU.COUNT; set++) {
      if ((this.#localCode & (1 << set)) !== 0) this.#codeLost(set);
    }
    this.#localCode = 0;
    if (this.#localCount > JOURNAL) {
      forEachEntry(this.#first, (t) => {
        const info = u32[t + 3];
        if ((info & INFO_GLOBAL) === 0) this.#invalidate(t);
        u32[t + 3] = info & ~INFO_IN_LOCAL;
      });
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
    const first = this.#first + index * SET_WORDS + CODE_WORDS;
    this.#codeLost(index);
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
    for (let set = 0, t = this.#first; set < MMU.COUNT; set++, t += SET_WORDS) {
      const read = t + READ_WORDS + entry;
      const write = t + WRITE_WORDS + entry;
      const code = t + CODE_WORDS + codeEntry;
      if (u32[read] === dataTag(page)) this.#invalidate(read);
      if (u32[write] === dataTag(page)) this.#invalidate(write);
      if (u32[code] === page) {
        this.#codeLost(set);
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
}

/** Calls `use` with the word of each entry of all sets. `first`: word of set 0. */
function forEachEntry(first: number, use: (t: number) => void): void {
  for (let set = 0; set < MMU.COUNT; set++) {
    const start = first + set * SET_WORDS;
    for (let t = start; t < start + SET_ENTRY_WORDS; t += 4) use(t);
  }
}

/** Calls `use` with place and word of each valid write entry. `first`: word of set 0. */
function forEachWriteEntry(
  u32: Uint32Array<SharedArrayBuffer>,
  first: number,
  use: (place: number, t: number) => void,
): void {
  for (let set = 0; set < MMU.COUNT; set++) {
    const start = first + set * SET_WORDS + WRITE_WORDS;
    for (let i = 0; i < TLB_ENTRIES; i++) {
      if (isValid(u32[start + i * 4])) use(1 + set * TLB_ENTRIES + i, start + i * 4);
    }
  }
}

/** Words of a vCPU's write entries for a wasm page. `w`: first word of the vCPU's block. */
function writeEntriesOf(u32: Uint32Array<SharedArrayBuffer>, w: number, hostPage: number): number[] {
  const first = w + FIRST_SET;
  const isOne = (t: number): boolean => isValid(u32[t]) && (u32[t + 3] & ~4095) >>> 0 === hostPage;
  const places = Atomics.load(u32, w + W_WRITE_PLACES + classOf(hostPage));
  if (places === 0) return [];
  if (places >>> 16 !== MANY) {
    const listed = [places & 0xffff, places >>> 16].filter((place) => place !== 0);
    return listed.map((place) => first + wordOfPlace(place)).filter(isOne);
  }
  const found: number[] = [];
  forEachWriteEntry(u32, first, (_, t) => {
    if (isOne(t)) found.push(t);
  });
  return found;
}

/**
 * Has a vCPU a write entry for a wasm page? *Thread:* any; the page's code map was set before, atomically. False: no
 * store of that vCPU to the page is under way that its slow path will not see, since only the vCPU itself and
 * exclusive sections remove entries, and it removes none between a probe and its store.
 */
export function hasWriteEntryFor(buffer: SharedArrayBuffer, base: number, hostPage: number): boolean {
  return writeEntriesOf(viewsOf(buffer).u32, base >>> 2, hostPage).length > 0;
}

/**
 * Removes a vCPU's write entries for a wasm page, whose code map was set before. *Thread:* the vCPU's (`own`), or any in an
 * exclusive section: a store whose probe was already done may else follow.
 */
export function dropWriteEntriesOf(
  buffer: SharedArrayBuffer,
  base: number,
  hostPage: number,
  own: boolean,
): void {
  const u32 = viewsOf(buffer).u32;
  const w = base >>> 2;
  const first = w + FIRST_SET;
  for (const t of writeEntriesOf(u32, w, hostPage)) Atomics.store(u32, t, invalidTag((t - first) >>> 2));
  const at = w + W_WRITE_PLACES + classOf(hostPage);
  if (!own || u32[at] >>> 16 !== MANY) return;
  let places = 0;
  forEachWriteEntry(u32, first, (place, t) => {
    if (classOf(u32[t + 3]) === classOf(hostPage)) places = withPlace(u32, first, hostPage, places, place);
  });
  Atomics.store(u32, at, places);
}

/** Makes a vCPU look all its code up again. *Thread:* any, while the vCPU stands still. */
export function dropCodeEntriesOf(buffer: SharedArrayBuffer, base: number): void {
  const u32 = viewsOf(buffer).u32;
  const first = (base >>> 2) + FIRST_SET;
  for (let set = 0; set < MMU.COUNT; set++) {
    countLoss(u32, first + set * SET_WORDS);
    const start = first + set * SET_WORDS + CODE_WORDS;
    for (let t = start; t < start + CODE_TLB_ENTRIES * 4; t += 4) u32[t] = invalidTag((t - first) >>> 2);
  }
}
