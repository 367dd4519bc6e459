/**
 * Semaphore: a count of permits on a futex word.
 *
 *   count    permits to be had, 0 … 2^31-1
 *   waiters  threads that have announced that they may sleep
 *
 * acquire: take one by compare-exchange while count > 0; else waiters + 1, sleep while count is 0,
 *          waiters - 1, and from the start.
 * release: count + n; if there are waiters, wake n of them.
 *
 * No wake-up is lost: the waiter announces itself, then the futex tests the count; the releaser
 * raises the count, then reads waiters. All four are in one order, so either the releaser sees the
 * waiter or the waiter sees the count. A woken thread may find that a running one was faster; then
 * the permit is in use, and its release wakes the next.
 */
import { checkPlace, SyncError } from './errors.ts';
import { opsFor, WAIT_TIMED_OUT, type SyncOps } from './sync-ops.ts';

const WAITERS = 4;

/** A counting semaphore. All-zero memory is one without permits. *Thread:* any. */
export class Semaphore {
  static readonly BYTES = 8;
  static readonly ALIGN = 4;
  readonly address: number;
  readonly ops: SyncOps;

  constructor(buffer: SharedArrayBuffer, at: number, ops: SyncOps = opsFor(buffer)) {
    checkPlace(buffer, at, Semaphore.BYTES, Semaphore.ALIGN);
    this.address = at;
    this.ops = ops;
  }

  /** Only while no other thread can know it. @throws SyncError `bad-argument` */
  init(permits: number): void {
    if (!Number.isInteger(permits) || permits < 0 || permits > 0x7fffffff) {
      throw new SyncError('bad-argument', `a semaphore cannot have ${permits} permits`);
    }
    this.ops.store(this.address, permits);
    this.ops.store(this.address + WAITERS, 0);
  }

  /** Permits that can be had now: stale as soon as it is read. */
  get available(): number {
    return this.ops.load(this.address);
  }

  /** *May block:* no. */
  tryAcquire(): boolean {
    for (;;) {
      const count = this.ops.load(this.address);
      if (count === 0) return false;
      if (this.ops.compareExchange(this.address, count, count - 1) === count) return true;
    }
  }

  /** *May block:* yes. */
  acquire(): void {
    this.acquireUntil(Infinity);
  }

  /** False if there was no permit within `timeoutNs`. *May block:* yes. */
  acquireTimed(timeoutNs: number): boolean {
    return this.tryAcquire() || this.acquireUntil(this.ops.now() + timeoutNs);
  }

  private acquireUntil(deadline: number): boolean {
    let timedOut = false;
    while (!this.tryAcquire()) {
      if (timedOut) return false;
      const left = deadline === Infinity ? Infinity : deadline - this.ops.now();
      if (left <= 0) return false;
      this.ops.add(this.address + WAITERS, 1);
      timedOut = this.ops.wait(this.address, 0, left) === WAIT_TIMED_OUT;
      this.ops.add(this.address + WAITERS, -1);
    }
    return true;
  }

  /** For a thread that must not block. Settles with a permit taken. */
  async acquireAsync(): Promise<void> {
    while (!this.tryAcquire()) {
      this.ops.add(this.address + WAITERS, 1);
      await this.ops.waitAsync(this.address, 0, Infinity);
      this.ops.add(this.address + WAITERS, -1);
    }
  }

  /** Gives `permits` back (or adds them). *May block:* no. */
  release(permits = 1): void {
    this.ops.add(this.address, permits);
    if (this.ops.load(this.address + WAITERS) !== 0) this.ops.notify(this.address, permits);
  }
}
