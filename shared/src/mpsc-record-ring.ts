/**
 * MpscRecordRing: records from any number of producers to one consumer: an SpscRecordRing whose
 * producer's side is held by one thread at a time, under a Mutex in front of it. The consumer
 * takes no lock.
 *
 * A producer copies its record and publishes it with the mutex held; it never sleeps for space with
 * it. To wait it computes, under the mutex, how much must be free, releases the mutex, sleeps until
 * that is free, and tries again: another producer may have taken the room, or moved the tail. All
 * sleeping producers are woken by a release of space (event-count.ts), so none is forgotten.
 *
 * Records of one producer stay in order. Memory order: between producers the mutex orders the tail;
 * towards the consumer ring-header.ts applies.
 */
import { Mutex } from './mutex.ts';
import { RING_ALIGN } from './ring-header.ts';
import { SpscRecordRing } from './spsc-record-ring.ts';
import { opsFor, type SyncOps } from './sync-ops.ts';

/**
 * A ring of records with many producers. All-zero memory is an empty one. *Thread:* producers' methods
 * any, consumer's in one thread at a time. *Lock:* its own, inside.
 */
export class MpscRecordRing {
  static readonly ALIGN = RING_ALIGN;
  readonly capacity: number;
  /** Longest record in bytes. */
  readonly maxLength: number;
  private readonly ops: SyncOps;
  private readonly mutex: Mutex;
  private readonly ring: SpscRecordRing;

  /** Bytes that a ring of this capacity (a power of two, at least 16) takes. */
  static bytesFor(capacity: number): number {
    return RING_ALIGN + SpscRecordRing.bytesFor(capacity);
  }

  constructor(buffer: SharedArrayBuffer, at: number, capacity: number, ops: SyncOps = opsFor(buffer)) {
    this.ops = ops;
    this.mutex = new Mutex(buffer, at, ops);
    this.ring = new SpscRecordRing(buffer, at + RING_ALIGN, capacity, ops);
    this.capacity = capacity;
    this.maxLength = this.ring.maxLength;
  }

  /** Empties it. Only while no other thread can know it. */
  init(): void {
    this.mutex.init();
    this.ring.init();
  }

  get isEmpty(): boolean {
    return this.ring.isEmpty;
  }

  // --- producers ---

  /** Puts a record in; false if there is no room. *May block:* for another producer's copy. @throws SyncError `record-too-long` */
  tryPush(record: Uint8Array): boolean {
    this.mutex.lock();
    try {
      return this.ring.tryPush(record);
    } finally {
      this.mutex.unlock();
    }
  }

  /** As `tryPush`, sleeping for room; false if there is none and the time is over or the ring closed. *May block:* yes. */
  push(record: Uint8Array, timeoutNs = Infinity): boolean {
    const deadline = timeoutNs === Infinity ? Infinity : this.ops.now() + timeoutNs;
    for (;;) {
      if (this.tryPush(record)) return true;
      const left = deadline === Infinity ? Infinity : deadline - this.ops.now();
      if (!this.ring.waitFree(this.needed(record.length), left)) return false;
    }
  }

  /** As `push` for a thread that must not block (longer than another producer's copy takes). */
  async pushAsync(record: Uint8Array, timeoutNs = Infinity): Promise<boolean> {
    const deadline = timeoutNs === Infinity ? Infinity : this.ops.now() + timeoutNs;
    for (;;) {
      if (this.tryPush(record)) return true;
      const left = deadline === Infinity ? Infinity : deadline - this.ops.now();
      if (!(await this.ring.waitFreeAsync(this.needed(record.length), left))) return false;
    }
  }

  private needed(length: number): number {
    this.mutex.lock();
    try {
      return this.ring.needed(length);
    } finally {
      this.mutex.unlock();
    }
  }

  // --- consumer: see SpscRecordRing ---

  /** Length of the next record, or -1; its bytes begin at `recordAddress`. */
  peek(): number {
    return this.ring.peek();
  }
  get recordAddress(): number {
    return this.ring.recordAddress;
  }
  peekView(): Uint8Array<SharedArrayBuffer> | undefined {
    return this.ring.peekView();
  }
  consume(): void {
    this.ring.consume();
  }
  popInto(dst: Uint8Array): number {
    return this.ring.popInto(dst);
  }
  tryPop(): Uint8Array<ArrayBuffer> | undefined {
    return this.ring.tryPop();
  }
  pop(timeoutNs = Infinity): Uint8Array<ArrayBuffer> | undefined {
    return this.ring.pop(timeoutNs);
  }
  popAsync(timeoutNs = Infinity): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return this.ring.popAsync(timeoutNs);
  }
  waitData(timeoutNs = Infinity): boolean {
    return this.ring.waitData(timeoutNs);
  }
  waitDataAsync(timeoutNs = Infinity): Promise<boolean> {
    return this.ring.waitDataAsync(timeoutNs);
  }

  // --- all ---

  /** Ends all waits, now and later. *Thread:* any. */
  close(): void {
    this.ring.close();
  }
  get closed(): boolean {
    return this.ring.closed;
  }
}
