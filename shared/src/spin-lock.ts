/**
 * SpinLock: for sections of a few dozen instructions. It spins longer than a Mutex, but never
 * without bound: the holder may have lost its core, and then only sleeping helps.
 *
 *   FREE, HELD, CONTENDED as in mutex.ts, with the same argument for wake-ups and memory order.
 *
 * It differs from Mutex in its size (one word, so that it fits into small structs), its number of
 * pauses, and in having no owner and no async form: a thread that must not block may use it, since
 * its sections are short.
 */
import { checkPlace, SyncError } from './errors.ts';
import { opsFor, type SyncOps } from './sync-ops.ts';

const FREE = 0;
const HELD = 1;
const CONTENDED = 2;

/** Some 5 to 10 µs: a futex round trip. */
const MAX_PAUSES = 200;

/** A lock for short sections. All-zero memory is a free one. *Thread:* any. */
export class SpinLock {
  static readonly BYTES = 4;
  static readonly ALIGN = 4;
  readonly address: number;
  readonly ops: SyncOps;

  constructor(buffer: SharedArrayBuffer, at: number, ops: SyncOps = opsFor(buffer)) {
    checkPlace(buffer, at, SpinLock.BYTES, SpinLock.ALIGN);
    this.address = at;
    this.ops = ops;
  }

  /** Makes it free. Only while no other thread can know it. */
  init(): void {
    this.ops.store(this.address, FREE);
  }

  /** *May block:* briefly. */
  lock(): void {
    if (this.ops.compareExchange(this.address, FREE, HELD) !== FREE) this.lockSlow();
  }

  /** *May block:* no. */
  tryLock(): boolean {
    return this.ops.compareExchange(this.address, FREE, HELD) === FREE;
  }

  private lockSlow(): void {
    for (let i = 0; i < MAX_PAUSES; i++) {
      // Only a load while it is held: the holder keeps the cache line.
      const free = this.ops.load(this.address) === FREE;
      if (free && this.ops.compareExchange(this.address, FREE, HELD) === FREE) return;
      this.ops.pause();
    }
    while (this.ops.exchange(this.address, CONTENDED) !== FREE) {
      this.ops.wait(this.address, CONTENDED, Infinity);
    }
  }

  /** @throws SyncError `not-held` if nobody holds it */
  unlock(): void {
    const state = this.ops.exchange(this.address, FREE);
    if (state === FREE) throw new SyncError('not-held', `spin lock at ${this.address} is not held`);
    if (state === CONTENDED) this.ops.notify(this.address, 1);
  }
}
