/**
 * EventCount: lets threads sleep until something lock-free changes, such as the position of a ring.
 *
 *   seq      bumped by every wake-up that had somebody to wake
 *   waiting  1: somebody may sleep
 *
 * waiter: key = prepare() (read seq, then waiting := 1); test what it waits for; wait(key) sleeps
 *         while seq is as read.
 * waker:  makes the change; wake(): if waiting: waiting := 0, seq + 1, wake all.
 *
 * No wake-up is lost. The change comes before the waker's look at waiting, the waiter's mark before
 * its test, all in one order: the waker sees the mark or the waiter sees the change. If two
 * waiters mark and one waker clears both marks, the bump that follows is after both readings of
 * seq (each waiter reads before it marks), so both are woken or do not go to sleep. A mark set after
 * the clearing stays for the next waker. The price is a wake-up too many now and then: waiters test
 * in a loop.
 *
 * With nobody waiting, wake() is one atomic load.
 */
import { checkPlace } from './errors.ts';
import { opsFor, type SyncOps, type WaitResult } from './sync-ops.ts';

const WAITING = 4;

/** Sleeping and waking for lock-free structures. All-zero memory: nobody waits. *Thread:* any. */
export class EventCount {
  static readonly BYTES = 8;
  static readonly ALIGN = 4;
  readonly address: number;
  readonly ops: SyncOps;

  constructor(buffer: SharedArrayBuffer, at: number, ops: SyncOps = opsFor(buffer)) {
    checkPlace(buffer, at, EventCount.BYTES, EventCount.ALIGN);
    this.address = at;
    this.ops = ops;
  }

  /** Only while no other thread can know it. */
  init(): void {
    this.ops.store(this.address, 0);
    this.ops.store(this.address + WAITING, 0);
  }

  /** Announces a waiter, before it tests what it waits for; the result is for `wait`. *May block:* no. */
  prepare(): number {
    const key = this.ops.load(this.address);
    this.ops.store(this.address + WAITING, 1);
    return key;
  }

  /** Sleeps until a wake-up after `prepare` gave `key`. *May block:* yes. */
  wait(key: number, timeoutNs = Infinity): WaitResult {
    return this.ops.wait(this.address, key, timeoutNs);
  }

  /** As `wait` for a thread that must not block. */
  waitAsync(key: number, timeoutNs = Infinity): WaitResult | Promise<WaitResult> {
    return this.ops.waitAsync(this.address, key, timeoutNs);
  }

  /** Wakes all waiters, after the change that they wait for was made. *May block:* no. */
  wake(): void {
    if (this.ops.load(this.address + WAITING) === 0) return;
    this.ops.store(this.address + WAITING, 0);
    this.ops.add(this.address, 1);
    this.ops.notify(this.address, Infinity);
  }
}
