/**
 * The cache of decoded code, in shared memory, shared by all vCPUs.
 *
 * Per physical page and code size there is a *descriptor*: 4096 words that give the record of the instruction at
 * each page offset (0: not decoded), then a header. Records of a page lie in chunks listed in the header.
 *
 * Protocol. Changes are made under `lock`. Readers (generated code) take no lock: they find a descriptor through
 * their code TLB, load a word of its table and execute the record. A record is complete before its address is
 * stored in the table. Invalidation zeroes the table and overwrites the handler number of every record of the page
 * with RELOOKUP, so that a vCPU that is already in the page's code leaves it at its next record. Memory of a dead
 * page is reused only by `flushAll`, which needs all vCPUs to stand still.
 *
 * Before a page's first decoding its `codeMap` byte is set and every vCPU's write-TLB entry for it is dropped, with
 * the other vCPUs standing still (`pageBecomesCode`): a store either precedes the decoding or takes the slow path.
 */
import { Mutex, type Views, viewsOf } from '@smp86/atomics-sync';
import { REGION } from '../../jit/layout.ts';
import { PSEUDO, RECORD, RECORD_SIZE } from './record.ts';
import type { Translator } from './translate.ts';

const TABLE_SIZE = 4096 * 4;
/** Words of the header, after the table. */
const HEADER = { CODE_SIZE: 0, HOST_PAGE: 1, NEXT: 2, CHUNKS: 3, ALIVE: 4, REGIONS: 5, COVERED: 8 } as const;
/** A bit per byte of the page that decoded instructions came from. */
const COVERED_SIZE = 512;
const DESC_SIZE = TABLE_SIZE + HEADER.COVERED * 4 + COVERED_SIZE;
/** At ALIVE_OFFSET of a descriptor whose page has not been invalidated. */
export const ALIVE = 0x616c6976;
export const ALIVE_OFFSET = TABLE_SIZE + HEADER.ALIVE * 4;
/** Chunk header: next chunk, number of records. */
const CHUNK_HEADER = RECORD_SIZE;

/** Shared words at the start of the area. */
const AREA = {
  TOP: 0,
  GENERATION: 1,
  PAGES: 2,
  INVALIDATIONS: 3,
  MAILS: 4,
  LOCK: 64,
  FLUSH_LOCK: 96,
} as const;

const PAGE_TABLE = 128;
const MAX_INSTRUCTION = 15;

/** Wasm address of the first byte for descriptors and chunks: after the page table. */
function firstFree(buffer: SharedArrayBuffer, layout: CodeCacheLayout): number {
  return layout.base + PAGE_TABLE + Math.ceil(buffer.byteLength / 4096) * 4;
}

/** Areas of the machine's memory that the cache uses. */
export interface CodeCacheLayout {
  /** The cache's own area: header, page table, descriptors and chunks. */
  readonly base: number;
  readonly size: number;
  /** One byte per 4 KiB page of wasm memory. */
  readonly codeMap: number;
}

export interface CodeCacheHooks {
  /** Drops the write-TLB entries for a wasm page in every vCPU; no other vCPU is between a probe and its store when this returns. */
  pageBecomesCode(hostPage: number): void;
  /** Regions are no longer valid: every vCPU must leave generated code soon. */
  regionsDropped?(): void;
  /** All other vCPUs stand still while `body` runs and look their code up again afterwards; the caller's code is gone too. */
  exclusively(body: () => void): void;
}

/**
 * *Thread:* vCPU (each makes its own over the same memory); `written` from any thread. A thread that only calls that
 * needs no translator.
 */
export class CodeCache {
  /** A read-modify-write of any word is a full barrier. */
  private readonly barrier = new Int32Array(1);
  private readonly views: Views;
  private readonly u32: Uint32Array<SharedArrayBuffer>;
  private readonly u8: Uint8Array<SharedArrayBuffer>;
  private readonly base: number;
  private readonly end: number;
  /** Wasm address of the page table: a word per 4 KiB page of wasm memory. */
  private readonly pageTable: number;
  private readonly firstFree: number;
  private readonly codeMap: number;
  private readonly lock: Mutex;
  private readonly flushLock: Mutex;
  private readonly hooks: CodeCacheHooks;
  private readonly translator: Translator | undefined;

  constructor(
    buffer: SharedArrayBuffer,
    layout: CodeCacheLayout,
    translator: Translator | undefined,
    hooks: CodeCacheHooks,
  ) {
    this.views = viewsOf(buffer);
    this.u32 = this.views.u32;
    this.u8 = this.views.u8;
    this.base = layout.base;
    this.end = layout.base + layout.size;
    this.codeMap = layout.codeMap;
    this.lock = new Mutex(buffer, layout.base + AREA.LOCK);
    this.flushLock = new Mutex(buffer, layout.base + AREA.FLUSH_LOCK);
    this.hooks = hooks;
    this.translator = translator;
    this.pageTable = layout.base + PAGE_TABLE;
    this.firstFree = firstFree(buffer, layout);
  }

  /** Sets up the area. Once per machine, before any vCPU runs. */
  static init(buffer: SharedArrayBuffer, layout: CodeCacheLayout): void {
    viewsOf(buffer).u32[(layout.base >>> 2) + AREA.TOP] = firstFree(buffer, layout);
  }
  /**
   * Forgets everything, as `flushAll`, from a thread that is no vCPU. All vCPUs stand still, and flush their TLBs
   * before they go on (a machine reset).
   */
  static clear(buffer: SharedArrayBuffer, layout: CodeCacheLayout): void {
    const { u8, u32 } = viewsOf(buffer);
    const area = layout.base >>> 2;
    // the JIT worker may be at it, although no vCPU is
    const lock = new Mutex(buffer, layout.base + AREA.LOCK);
    const flushLock = new Mutex(buffer, layout.base + AREA.FLUSH_LOCK);
    flushLock.lock();
    lock.lock();
    const table = layout.base + PAGE_TABLE;
    const free = firstFree(buffer, layout);
    u32.fill(0, table >>> 2, free >>> 2);
    u8.fill(0, layout.codeMap, layout.codeMap + ((free - table) >>> 2));
    u32[area + AREA.TOP] = free;
    u32[area + AREA.PAGES] = 0;
    u32[area + AREA.GENERATION]++;
    lock.unlock();
    flushLock.unlock();
  }
  private word(index: number, value: number): void {
    this.u32[(this.base >>> 2) + index] = value;
  }
  private get(index: number): number {
    return this.u32[(this.base >>> 2) + index];
  }
  /** Bytes in use, and bytes there are. */
  get used(): number {
    return this.get(AREA.TOP) - this.firstFree;
  }
  get size(): number {
    return this.end - this.firstFree;
  }
  get invalidations(): number {
    return this.get(AREA.INVALIDATIONS);
  }
  /** Times that a page became code, since all was dropped. */
  get pages(): number {
    return this.get(AREA.PAGES);
  }
  /** Modules that the JIT worker has sent to each vCPU worker so far (wrapping). */
  get mails(): number {
    return Atomics.load(this.u32, (this.base >>> 2) + AREA.MAILS);
  }
  mailSent(): void {
    Atomics.add(this.u32, (this.base >>> 2) + AREA.MAILS, 1);
  }
  /** Bumped by every full flush: a descriptor from before it must not be used. */
  get generation(): number {
    return this.get(AREA.GENERATION);
  }

  /**
   * Record for the code at wasm address `host` in `codeSize`; 0 when the instruction crosses the page's end. `fresh`: it
   * has been decoded just now, and is what the translator has.
   */
  lookup(host: number, codeSize: number): { desc: number; record: number; fresh: boolean } {
    this.lock.lock();
    try {
      const desc = this.descriptor(host >>> 12, codeSize);
      const offset = host & 4095;
      let record = this.u32[(desc >>> 2) + offset];
      this.result.fresh = record === 0;
      if (record === 0) record = this.decode(desc, host, codeSize);
      this.result.desc = desc;
      this.result.record = record;
      return this.result;
    } finally {
      this.lock.unlock();
    }
  }
  private readonly result = { desc: 0, record: 0, fresh: false };

  /** Does this record come before an instruction that goes on in the next page? */
  crosses(record: number): boolean {
    return this.views.u16[(record + RECORD.HANDLER) >>> 1] === PSEUDO.CROSSING;
  }
  /**
   * As `lookup`, for an instruction that goes on at wasm address `second`, a page's start: descriptors of both pages.
   * Undefined when there is no record for it with that page.
   */
  lookupCrossing(
    host: number,
    second: number,
    codeSize: number,
  ): { readonly desc: number; readonly next: number } | undefined {
    return this.locked(() => {
      const next = this.descriptor(second >>> 12, codeSize);
      const desc = this.descriptor(host >>> 12, codeSize);
      // the lock was free while one was made
      if (!this.isAlive(next)) return undefined;
      const record = this.recordAt(desc, host & 4095);
      if (record !== 0) {
        const known = this.crosses(record) ? this.u32[(record + RECORD.CHAIN) >>> 2] : next;
        if (known === next) return { desc, next };
        // it went on in another page then; one that is gone makes room
        if (!this.isAlive(known)) this.u32[(desc >>> 2) + (host & 4095)] = 0;
        return undefined;
      }
      return this.decodeCrossing(desc, host, next, second, codeSize) ? { desc, next } : undefined;
    });
  }
  private decodeCrossing(
    desc: number,
    host: number,
    next: number,
    second: number,
    codeSize: number,
  ): boolean {
    const { translator, u8 } = this;
    if (translator === undefined) throw new Error('this thread decodes nothing');
    const offset = host & 4095;
    const first = 4096 - offset;
    const bytes = new Uint8Array(first + MAX_INSTRUCTION);
    bytes.set(u8.subarray(host, host + first));
    bytes.set(u8.subarray(second, second + MAX_INSTRUCTION), first);
    const length = translator.crossing(bytes, offset, codeSize, next);
    if (length <= first) return false;
    const records = this.keepRecords(desc);
    this.cover(desc, offset, 4096);
    this.cover(next, 0, length - first);
    Atomics.store(this.u32, (desc >>> 2) + offset, records);
    return true;
  }

  /** Makes room when the area is nearly full. Must be called without the lock, before `lookup`. */
  reserve(): void {
    if (this.get(AREA.TOP) + DESC_SIZE + 65536 > this.end) this.flushAll();
  }

  private allocate(bytes: number): number {
    const at = this.get(AREA.TOP);
    this.word(AREA.TOP, at + Math.ceil(bytes / 32) * 32);
    return at;
  }

  private descriptor(hostPage: number, codeSize: number): number {
    const slot = (this.pageTable >>> 2) + hostPage;
    const first = this.u32[slot];
    for (let d = first; d !== 0; d = this.header(d, HEADER.NEXT)) {
      if (this.header(d, HEADER.CODE_SIZE) === codeSize) return d;
    }
    if (this.u8[this.codeMap + hostPage] === 0) {
      Atomics.store(this.u8, this.codeMap + hostPage, 1);
      // other vCPUs may want the lock to finish their store: stand-still needs it free
      this.lock.unlock();
      this.hooks.pageBecomesCode(hostPage);
      this.lock.lock();
      // the page may have been decoded, or even invalidated, by another vCPU meanwhile
      return this.descriptor(hostPage, codeSize);
    }
    const desc = this.allocate(DESC_SIZE);
    this.u8.fill(0, desc, desc + DESC_SIZE);
    const h = (desc + TABLE_SIZE) >>> 2;
    this.u32[h + HEADER.CODE_SIZE] = codeSize;
    this.u32[h + HEADER.HOST_PAGE] = hostPage;
    this.u32[h + HEADER.NEXT] = this.u32[slot];
    this.u32[h + HEADER.ALIVE] = ALIVE;
    Atomics.store(this.u32, slot, desc);
    this.word(AREA.PAGES, this.get(AREA.PAGES) + 1);
    return desc;
  }
  private header(desc: number, field: number): number {
    return this.u32[((desc + TABLE_SIZE) >>> 2) + field];
  }

  /** Decodes a run at `host` and publishes it. Gives its record, 0 when the first instruction crosses the page's end. */
  private decode(desc: number, host: number, codeSize: number): number {
    const { translator, u32 } = this;
    const table = desc >>> 2;
    const offset = host & 4095;
    if (translator === undefined) throw new Error('this thread decodes nothing');
    if (!translator.run(this.u8, host, offset, codeSize, (o) => u32[table + o])) return 0;
    const records = this.keepRecords(desc);
    this.cover(desc, offset, Math.min(4096, offset + translator.length));
    for (let i = 0; i < translator.instructions; i++) {
      const o = translator.starts[i];
      if (u32[table + o] === 0)
        Atomics.store(u32, table + o, records + translator.startRecord[i] * RECORD_SIZE);
    }
    return records;
  }

  /** Makes what was translated a chunk of the page's. Gives its first record. */
  private keepRecords(desc: number): number {
    const { translator, u32 } = this;
    const { count, buffer } = translator as Translator;
    const bytes = count * RECORD_SIZE;
    const chunk = this.allocate(CHUNK_HEADER + bytes);
    const h = (desc + TABLE_SIZE) >>> 2;
    u32[chunk >>> 2] = u32[h + HEADER.CHUNKS];
    u32[(chunk >>> 2) + 1] = count;
    u32[h + HEADER.CHUNKS] = chunk;
    this.u8.set(buffer.subarray(0, bytes), chunk + CHUNK_HEADER);
    return chunk + CHUNK_HEADER;
  }

  /**
   * Guest memory from which code may have been decoded has been written (before this call: a decoding in between
   * would go unseen). *Thread:* any. *Lock:* takes the cache's own.
   */
  written(host: number, length: number): void {
    // Who makes the page code sets the map and then reads the bytes; we stored the bytes and now read the map. Between a
    // plain store and a load that needs a full barrier, so that one of the two sees the other's.
    Atomics.or(this.barrier, 0, 0);
    const last = (host + Math.max(length, 1) - 1) >>> 12;
    for (let page = host >>> 12; page <= last; page++) {
      if (this.u8[this.codeMap + page] === 0) continue;
      const from = Math.max(host, page * 4096) & 4095;
      const to = page === last ? (host + Math.max(length, 1) - 1) & 4095 : 4095;
      this.lock.lock();
      if (this.covers(page, from, to)) this.invalidate(page);
      this.lock.unlock();
    }
  }

  private covers(page: number, from: number, to: number): boolean {
    const first = this.u32[(this.pageTable >>> 2) + page];
    for (let d = first; d !== 0; d = this.header(d, HEADER.NEXT)) {
      const covered = d + TABLE_SIZE + HEADER.COVERED * 4;
      for (let o = from; o <= to; o++) if ((this.u8[covered + (o >> 3)] >> (o & 7)) & 1) return true;
    }
    return false;
  }

  private invalidate(page: number): void {
    const { u32, views } = this;
    const slot = (this.pageTable >>> 2) + page;
    for (let d = u32[slot]; d !== 0; d = this.header(d, HEADER.NEXT)) {
      u32[((d + TABLE_SIZE) >>> 2) + HEADER.ALIVE] = 0;
      this.dropRegions(d);
      u32.fill(0, d >>> 2, (d + TABLE_SIZE) >>> 2);
      for (let chunk = this.header(d, HEADER.CHUNKS); chunk !== 0; chunk = u32[chunk >>> 2]) {
        const count = u32[(chunk >>> 2) + 1];
        for (let i = 0; i < count; i++) {
          const record = chunk + CHUNK_HEADER + i * RECORD_SIZE;
          // pseudo records need no change, and one-way: a handler becomes RELOOKUP
          Atomics.store(views.u16, (record + RECORD.HANDLER) >>> 1, PSEUDO.RELOOKUP);
        }
      }
    }
    Atomics.store(u32, slot, 0);
    Atomics.store(this.u8, this.codeMap + page, 0);
    this.word(AREA.INVALIDATIONS, this.get(AREA.INVALIDATIONS) + 1);
  }

  // --- regions of tier 1 (jit/); all under the lock ---

  /** Runs `body` with the lock held. */
  locked<T>(body: () => T): T {
    this.lock.lock();
    try {
      return body();
    } finally {
      this.lock.unlock();
    }
  }
  /**
   * Runs `body` while the memory of descriptions stays theirs; not at all when all code was dropped since `generation`.
   * *Lock:* holds off flushes and resets, which wait for it: `body` takes no lock.
   */
  unflushed(generation: number, body: () => void): boolean {
    this.flushLock.lock();
    try {
      if (this.generation !== generation) return false;
      body();
      return true;
    } finally {
      this.flushLock.unlock();
    }
  }
  isAlive(desc: number): boolean {
    return this.header(desc, HEADER.ALIVE) === ALIVE;
  }
  /** Is `desc` a descriptor of the wasm page at `page` now? */
  isDescriptor(desc: number, page: number): boolean {
    const first = this.u32[(this.pageTable >>> 2) + (page >>> 12)];
    for (let d = first; d !== 0; d = this.header(d, HEADER.NEXT)) if (d === desc) return true;
    return false;
  }
  codeSizeOf(desc: number): number {
    return this.header(desc, HEADER.CODE_SIZE);
  }
  /** Wasm address of the descriptor's page. */
  pageOf(desc: number): number {
    return (this.header(desc, HEADER.HOST_PAGE) << 12) >>> 0;
  }
  recordAt(desc: number, offset: number): number {
    return this.u32[(desc >>> 2) + offset];
  }
  /** Marks bytes [from, to) of the page as having been decoded: writing them invalidates. */
  cover(desc: number, from: number, to: number): void {
    const covered = desc + TABLE_SIZE + HEADER.COVERED * 4;
    for (let o = from; o < to; o++) this.u8[covered + (o >> 3)] |= 1 << (o & 7);
  }
  /** Zeroed room for a region's description; 0 when the area is full, until the next vCPU that decodes code flushes it. */
  reserveDescription(bytes: number): number {
    if (this.get(AREA.TOP) + bytes + DESC_SIZE > this.end) return 0;
    const at = this.allocate(bytes);
    this.u8.fill(0, at, at + bytes);
    return at;
  }
  /**
   * Makes a region the handler of its entries' records, unless they have one that is a region's (`from` on); it is
   * dropped when one of its pages is invalidated. `old`: description of a region that it takes the place of, 0: none.
   */
  publishRegion(
    description: number,
    handler: number,
    from: number,
    descriptors: readonly number[],
    old = 0,
  ): void {
    const { u32 } = this;
    const { u16 } = this.views;
    // A vCPU that enters the old one looks whether it is valid after it has read which entry it is: what it reads may be
    // the new one's number, but then it finds the old one ended.
    const replaces = old !== 0 && Atomics.exchange(this.views.u8, old + REGION.VALID, 0) !== 0;
    const oldHandler = replaces ? from + u32[(old + REGION.SLOT) >>> 2] : 0;
    for (const desc of descriptors) {
      const node = this.allocate(32) >>> 2;
      const head = ((desc + TABLE_SIZE) >>> 2) + HEADER.REGIONS;
      this.u32[node] = this.u32[head];
      this.u32[node + 1] = description;
      this.u32[head] = node << 2;
    }
    const count = u32[(description + REGION.ENTRY_COUNT) >>> 2];
    for (let i = 0; i < count; i++) {
      const at = (description + REGION.ENTRIES + i * 8) >>> 2;
      const record = u32[at];
      const before = record === 0 ? 0 : u16[(record + RECORD.HANDLER) >>> 1];
      if (record === 0 || (before >= from && before !== oldHandler)) {
        u32[at] = 0;
        continue;
      }
      u16[(record + RECORD.SEQ) >>> 1] = i;
      Atomics.store(u16, (record + RECORD.HANDLER) >>> 1, handler);
    }
    if (!replaces) return;
    this.forgetEntries(old, oldHandler);
    // a vCPU that is inside would not hear of a later change of its code
    this.hooks.regionsDropped?.();
  }
  /** Ends the regions that have code in a descriptor's page. */
  private dropRegions(desc: number): void {
    const { u32 } = this;
    let any = false;
    for (let node = this.header(desc, HEADER.REGIONS); node !== 0; node = u32[node >>> 2]) {
      if (this.endRegion(u32[(node >>> 2) + 1])) any = true;
    }
    // vCPUs that are inside leave at their next check
    if (any) this.hooks.regionsDropped?.();
  }
  /** Ends a region: code is decoded afresh where it was entered. False when it had ended before. *Lock:* the cache's. */
  dropRegion(description: number): boolean {
    const ended = this.endRegion(description);
    // a vCPU that is inside would not hear of a later change of its code
    if (ended) this.hooks.regionsDropped?.();
    return ended;
  }
  private endRegion(description: number): boolean {
    if (Atomics.exchange(this.views.u8, description + REGION.VALID, 0) === 0) return false;
    this.forgetEntries(description);
    return true;
  }
  /** Code is decoded afresh at a region's entries, or at those alone whose records still have `handler`. */
  private forgetEntries(description: number, handler = 0): void {
    const { u32 } = this;
    const w = description >>> 2;
    const count = u32[w + REGION.ENTRY_COUNT / 4];
    for (let i = 0; i < count; i++) {
      const at = w + REGION.ENTRIES / 4 + i * 2;
      const record = u32[at];
      if (record === 0) continue;
      if (handler !== 0 && this.views.u16[(record + RECORD.HANDLER) >>> 1] !== handler) continue;
      const distance = u32[at + 1] >> 16;
      for (let p = 0; p < u32[w + REGION.PAGES / 4]; p++) {
        const page = w + REGION.PAGE_LIST / 4 + p * 2;
        // a page that was invalidated has an empty table, or belongs to nobody
        if ((u32[page] | 0) !== distance) continue;
        const slot = (u32[page + 1] >>> 2) + this.views.u16[(record + RECORD.OFFSET) >>> 1];
        if (u32[slot] === record) u32[slot] = 0;
      }
      Atomics.store(this.views.u16, (record + RECORD.HANDLER) >>> 1, PSEUDO.RELOOKUP);
    }
  }

  /** Forgets everything; all vCPUs look their code up again. */
  flushAll(): void {
    const { generation } = this;
    this.hooks.exclusively(() => {
      // another vCPU may have done it before this one's turn came
      if (this.generation !== generation) return;
      this.flushLock.lock();
      this.lock.lock();
      const pages = (this.firstFree - this.pageTable) >>> 2;
      this.u32.fill(0, this.pageTable >>> 2, this.firstFree >>> 2);
      this.u8.fill(0, this.codeMap, this.codeMap + pages);
      this.word(AREA.TOP, this.firstFree);
      this.word(AREA.PAGES, 0);
      this.word(AREA.GENERATION, this.get(AREA.GENERATION) + 1);
      this.lock.unlock();
      this.flushLock.unlock();
    });
  }
}
