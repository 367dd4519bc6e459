/**
 * SpscRecordRing: records of bytes, whole and in order, from one producer to one consumer, without a
 * lock. Positions, sleeping and the memory-order argument: ring-header.ts.
 *
 * A record is a length (u32) and its bytes, padded to 4. It lies in one piece: if it does not fit
 * before the end of the data area, the length word there is SKIP and the record starts at the
 * beginning. The word for SKIP always fits, since positions are multiples of 4. A record may take
 * half the capacity, so that with the skipped piece it fits into an empty ring wherever the tail is.
 *
 * A skipped piece and its record are published, and released, by one store.
 */
import { SyncError } from './errors.ts';
import { RING_ALIGN, RING_HEADER_BYTES, RingHeader } from './ring-header.ts';
import { viewsOf } from './struct.ts';
import { opsFor, type SyncOps } from './sync-ops.ts';

const LENGTH_BYTES = 4;
const SKIP = 0xffffffff;

/** Bytes that a record of `length` takes. */
function sizeOf(length: number): number {
  return LENGTH_BYTES + ((length + 3) & ~3);
}

/**
 * A ring of records. All-zero memory is an empty one. *Thread:* producer's methods in one thread at
 * a time, consumer's in one. *Lock:* none.
 */
export class SpscRecordRing {
  static readonly ALIGN = RING_ALIGN;
  readonly capacity: number;
  /** Longest record in bytes. */
  readonly maxLength: number;
  /** Consumer: where the record that `peek` found begins (a multiple of 4). */
  recordAddress = 0;
  private readonly header: RingHeader;
  private readonly u8: Uint8Array<SharedArrayBuffer>;
  private readonly u32: Uint32Array<SharedArrayBuffer>;
  private readonly base: number;
  private readonly mask: number;

  /** Bytes that a ring of this capacity (a power of two, at least 16) takes. */
  static bytesFor(capacity: number): number {
    return RING_HEADER_BYTES + capacity;
  }

  constructor(buffer: SharedArrayBuffer, at: number, capacity: number, ops: SyncOps = opsFor(buffer)) {
    this.header = new RingHeader(buffer, at, capacity, ops);
    this.capacity = capacity;
    this.maxLength = capacity / 2 - LENGTH_BYTES;
    const views = viewsOf(buffer);
    this.u8 = views.u8;
    this.u32 = views.u32;
    this.base = this.header.base;
    this.mask = capacity - 1;
  }

  /** Empties it. Only while no other thread can know it. */
  init(): void {
    this.header.init();
  }

  get isEmpty(): boolean {
    return this.header.used() === 0;
  }

  // --- producer ---

  /** Bytes between the tail and the place of a record of `length`. */
  private skipFor(length: number): number {
    if (length < 0 || length > this.maxLength) {
      throw new SyncError('record-too-long', `a record of ${length} bytes in a ring for ${this.maxLength}`);
    }
    const toEnd = this.capacity - (this.header.tail() & this.mask);
    return sizeOf(length) <= toEnd ? 0 : toEnd;
  }

  /**
   * Address (a multiple of 4) where a record of `length` bytes is to be written, for `commit` with
   * the same length; -1 if there is no room. *May block:* no. @throws SyncError `record-too-long`
   */
  reserve(length: number): number {
    const skip = this.skipFor(length);
    if (this.header.free() < skip + sizeOf(length)) return -1;
    return this.base + ((this.header.tail() + skip) & this.mask) + LENGTH_BYTES;
  }

  /** Publishes the record written where `reserve(length)` said. *May block:* no. */
  commit(length: number): void {
    const skip = this.skipFor(length);
    const tail = this.header.tail();
    if (skip !== 0) this.u32[(this.base + (tail & this.mask)) >>> 2] = SKIP;
    const start = (tail + skip) | 0;
    this.u32[(this.base + (start & this.mask)) >>> 2] = length;
    this.header.publish((start + sizeOf(length)) | 0);
  }

  /** Puts a record in; false if there is no room. *May block:* no. @throws SyncError `record-too-long` */
  tryPush(record: Uint8Array): boolean {
    const at = this.reserve(record.length);
    if (at < 0) return false;
    this.u8.set(record, at);
    this.commit(record.length);
    return true;
  }

  /** As `tryPush`, sleeping for room; false if there is none and the time is over or the ring closed. *May block:* yes. */
  push(record: Uint8Array, timeoutNs = Infinity): boolean {
    return this.waitSpace(record.length, timeoutNs) && this.tryPush(record);
  }

  /** As `push` for a thread that must not block. */
  async pushAsync(record: Uint8Array, timeoutNs = Infinity): Promise<boolean> {
    return (await this.waitSpaceAsync(record.length, timeoutNs)) && this.tryPush(record);
  }

  /** Sleeps until a record of `length` bytes fits; false if there is none and the time is over or the ring closed. *May block:* yes. */
  waitSpace(length: number, timeoutNs = Infinity): boolean {
    return this.header.waitFree(this.needed(length), timeoutNs);
  }
  /** As `waitSpace` for a thread that must not block. */
  waitSpaceAsync(length: number, timeoutNs = Infinity): Promise<boolean> {
    return this.header.waitFreeAsync(this.needed(length), timeoutNs);
  }

  /** Free bytes that a record of `length` needs where the tail is now. @throws SyncError `record-too-long` */
  needed(length: number): number {
    return this.skipFor(length) + sizeOf(length);
  }
  /** Sleeps until so many bytes are free: for producers that share their side. *May block:* yes. */
  waitFree(bytes: number, timeoutNs: number): boolean {
    return this.header.waitFree(bytes, timeoutNs);
  }
  waitFreeAsync(bytes: number, timeoutNs: number): Promise<boolean> {
    return this.header.waitFreeAsync(bytes, timeoutNs);
  }

  // --- consumer ---

  /** Length of the next record, or -1; its bytes begin at `recordAddress` and stay until `consume`. *May block:* no. */
  peek(): number {
    if (this.header.used() === 0) return -1;
    let place = this.base + (this.header.head() & this.mask);
    let length = this.u32[place >>> 2];
    if (length === SKIP) {
      place = this.base;
      length = this.u32[place >>> 2];
    }
    this.recordAddress = place + LENGTH_BYTES;
    return length;
  }

  /** The next record where it lies, until `consume`. *May block:* no. */
  peekView(): Uint8Array<SharedArrayBuffer> | undefined {
    const length = this.peek();
    if (length < 0) return undefined;
    return this.u8.subarray(this.recordAddress, this.recordAddress + length);
  }

  /** Drops the next record. *May block:* no. @throws SyncError `bad-argument` if there is none */
  consume(): void {
    const length = this.peek();
    if (length < 0) throw new SyncError('bad-argument', 'no record to consume');
    const head = this.header.head();
    const place = (this.recordAddress - LENGTH_BYTES - this.base - head) & this.mask;
    this.header.release((head + place + sizeOf(length)) | 0);
  }

  /** Moves the next record to `dst`; its length, or -1. *May block:* no. @throws SyncError `bad-argument` if `dst` is too short */
  popInto(dst: Uint8Array): number {
    const length = this.peek();
    if (length < 0) return -1;
    if (length > dst.length)
      throw new SyncError('bad-argument', `record of ${length} bytes for ${dst.length}`);
    dst.set(this.u8.subarray(this.recordAddress, this.recordAddress + length));
    this.consume();
    return length;
  }

  /** Takes the next record out, as a copy. *May block:* no. */
  tryPop(): Uint8Array<ArrayBuffer> | undefined {
    const length = this.peek();
    if (length < 0) return undefined;
    const record = new Uint8Array(length);
    this.popInto(record);
    return record;
  }

  /** As `tryPop`, sleeping for a record; undefined if the time is over or the ring closed and empty. *May block:* yes. */
  pop(timeoutNs = Infinity): Uint8Array<ArrayBuffer> | undefined {
    return this.waitData(timeoutNs) ? this.tryPop() : undefined;
  }
  /** As `pop` for a thread that must not block. */
  async popAsync(timeoutNs = Infinity): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return (await this.waitDataAsync(timeoutNs)) ? this.tryPop() : undefined;
  }

  /** Sleeps until there is a record; false if the time is over or the ring closed and empty. *May block:* yes. */
  waitData(timeoutNs = Infinity): boolean {
    return this.header.waitUsed(1, timeoutNs);
  }
  /** As `waitData` for a thread that must not block. */
  waitDataAsync(timeoutNs = Infinity): Promise<boolean> {
    return this.header.waitUsedAsync(1, timeoutNs);
  }

  // --- both ---

  /**
   * Ends all waits, now and later: nothing more is to come, or nobody reads any more. What is in the
   * ring can still be read. *Thread:* any.
   */
  close(): void {
    this.header.close();
  }
  get closed(): boolean {
    return this.header.closed();
  }
}
