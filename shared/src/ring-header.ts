/**
 * What all rings have in common: two positions, ways to wait for them, and a flag.
 *
 *   tail    bytes ever put in, modulo 2^32; written by the producer only
 *   head    bytes ever taken out, modulo 2^32; written by the consumer only
 *   data    EventCount: consumers asleep until tail moves
 *   space   EventCount: producers asleep until head moves
 *   closed  1: the producer will put nothing more
 *
 * tail - head is the number of bytes in the ring, 0 … capacity; a position modulo the capacity (a
 * power of two) is a place in the data area. Positions and flags are on two cache lines, the
 * producer's and the consumer's.
 *
 * Memory order: the producer writes the data (plain), then stores tail; the consumer loads tail,
 * then reads the data: released by the one, acquired by the other. The same the other way round for
 * head: the consumer has read before the producer can overwrite. No word has two writers at a time,
 * so no read-modify-write is needed. For sleeping see event-count.ts: the stores of the positions
 * come before `wake` looks for waiters.
 *
 * The objects hold no position of their own: which thread is the producer, or the consumer, may
 * change if a lock that they share orders the change.
 */
import { checkPlace, SyncError } from './errors.ts';
import { EventCount } from './event-count.ts';
import type { SyncOps } from './sync-ops.ts';

const TAIL = 0;
const CLOSED = 4;
const SPACE = 8;
const HEAD = 64;
const DATA = 72;

/** Bytes before the data area: two cache lines. */
export const RING_HEADER_BYTES = 128;
export const RING_ALIGN = 64;

/** Smallest capacity: a record ring must be able to hold a record. */
const MIN_CAPACITY = 16;
const MAX_CAPACITY = 2 ** 30;

export class RingHeader {
  readonly ops: SyncOps;
  readonly capacity: number;
  /** Address of the data area. */
  readonly base: number;
  private readonly at: number;
  private readonly data: EventCount;
  private readonly space: EventCount;

  constructor(buffer: SharedArrayBuffer, at: number, capacity: number, ops: SyncOps) {
    if (
      capacity < MIN_CAPACITY ||
      capacity > MAX_CAPACITY ||
      2 ** Math.round(Math.log2(capacity)) !== capacity
    ) {
      throw new SyncError(
        'bad-argument',
        `a ring's capacity is a power of two from ${MIN_CAPACITY} to 2^30, not ${capacity}`,
      );
    }
    checkPlace(buffer, at, RING_HEADER_BYTES + capacity, RING_ALIGN);
    this.ops = ops;
    this.capacity = capacity;
    this.base = at + RING_HEADER_BYTES;
    this.at = at;
    this.data = new EventCount(buffer, at + DATA, ops);
    this.space = new EventCount(buffer, at + SPACE, ops);
  }

  init(): void {
    this.ops.store(this.at + TAIL, 0);
    this.ops.store(this.at + HEAD, 0);
    this.ops.store(this.at + CLOSED, 0);
    this.data.init();
    this.space.init();
  }

  tail(): number {
    return this.ops.load(this.at + TAIL);
  }
  head(): number {
    return this.ops.load(this.at + HEAD);
  }
  /** Bytes in the ring. */
  used(): number {
    // Head first: a tail read later can only be further on. Seen by a third thread, which is neither
    // producer nor consumer, the difference may be too large; hence the limit.
    const head = this.head();
    return Math.min((this.tail() - head) | 0, this.capacity);
  }
  free(): number {
    return this.capacity - this.used();
  }

  /** Producer: the bytes up to `tail` are written. */
  publish(tail: number): void {
    this.ops.store(this.at + TAIL, tail);
    this.data.wake();
  }
  /** Consumer: the bytes up to `head` may be overwritten. */
  release(head: number): void {
    this.ops.store(this.at + HEAD, head);
    this.space.wake();
  }

  close(): void {
    this.ops.store(this.at + CLOSED, 1);
    this.data.wake();
    this.space.wake();
  }
  closed(): boolean {
    return this.ops.load(this.at + CLOSED) !== 0;
  }

  /** False if there are fewer than `bytes`, and the time is over or the ring closed. */
  waitUsed(bytes: number, timeoutNs: number): boolean {
    if (this.used() >= bytes) return true;
    const deadline = timeoutNs === Infinity ? Infinity : this.ops.now() + timeoutNs;
    for (;;) {
      const key = this.data.prepare();
      // Closed is read before the data are counted: nothing comes in after it was seen.
      const closed = this.closed();
      if (this.used() >= bytes) return true;
      const left = deadline === Infinity ? Infinity : deadline - this.ops.now();
      if (closed || left <= 0) return false;
      this.data.wait(key, left);
    }
  }

  /** False if fewer than `bytes` are free, and the time is over or the ring closed. */
  waitFree(bytes: number, timeoutNs: number): boolean {
    if (this.free() >= bytes) return true;
    const deadline = timeoutNs === Infinity ? Infinity : this.ops.now() + timeoutNs;
    for (;;) {
      const key = this.space.prepare();
      if (this.free() >= bytes) return true;
      const left = deadline === Infinity ? Infinity : deadline - this.ops.now();
      if (left <= 0 || this.closed()) return false;
      this.space.wait(key, left);
    }
  }

  async waitUsedAsync(bytes: number, timeoutNs: number): Promise<boolean> {
    if (this.used() >= bytes) return true;
    const deadline = timeoutNs === Infinity ? Infinity : this.ops.now() + timeoutNs;
    for (;;) {
      const key = this.data.prepare();
      const closed = this.closed();
      if (this.used() >= bytes) return true;
      const left = deadline === Infinity ? Infinity : deadline - this.ops.now();
      if (closed || left <= 0) return false;
      await this.data.waitAsync(key, left);
    }
  }

  async waitFreeAsync(bytes: number, timeoutNs: number): Promise<boolean> {
    if (this.free() >= bytes) return true;
    const deadline = timeoutNs === Infinity ? Infinity : this.ops.now() + timeoutNs;
    for (;;) {
      const key = this.space.prepare();
      if (this.free() >= bytes) return true;
      const left = deadline === Infinity ? Infinity : deadline - this.ops.now();
      if (left <= 0 || this.closed()) return false;
      await this.space.waitAsync(key, left);
    }
  }
}
