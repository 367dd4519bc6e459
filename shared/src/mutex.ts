/**
 * Mutex: a futex lock of three states.
 *
 *   FREE      nobody holds it
 *   HELD      held; nobody sleeps on it
 *   CONTENDED held; somebody may sleep on it, so the holder notifies when it unlocks
 *
 * lock: FREE → HELD by compare-exchange; after a few pauses, exchange with CONTENDED: the old value
 * FREE means that the lock is ours (held as CONTENDED: one notify too many at worst), anything else
 * means sleep while CONTENDED. unlock: exchange with FREE, and if it was CONTENDED wake one.
 *
 * No wake-up is lost: a thread sleeps only if the word was CONTENDED at the moment of going to
 * sleep (the futex checks), and whoever replaces CONTENDED by FREE wakes one. The woken thread takes
 * the lock as CONTENDED, so those that still sleep are woken in their turn. There is no hand-over: a
 * running thread may overtake a woken one, which is what keeps the lock from convoying.
 *
 * A thread that cannot block sleeps on a second word, `asyncSeq`, for it may take long to react to a
 * wake-up, and meanwhile no blocked thread should miss its own. It raises `asyncCount` before it
 * marks the lock CONTENDED, so the unlock that takes the mark away sees the count and bumps the
 * sequence. All async waiters are woken then: those that lose mark the lock again.
 *
 * Memory order: the exchange of an unlock and the compare-exchange or exchange of the next lock are
 * on the same word and sequentially consistent, so what the old holder wrote happens before what
 * the new one reads.
 *
 * `owner` is a plain word that only the holder writes: `held()` compares it with the calling
 * thread's own id, and the thread's own last write decides that comparison, whatever the others do.
 */
import { checkPlace, SyncError } from './errors.ts';
import { viewsOf } from './struct.ts';
import { opsFor, WAIT_TIMED_OUT, type SyncOps } from './sync-ops.ts';

const FREE = 0;
const HELD = 1;
const CONTENDED = 2;

/** Pauses before a thread sleeps. More of them cost time when there are more threads than cores. */
const MAX_PAUSES = 40;

const OWNER = 4;
const ASYNC_SEQ = 8;
const ASYNC_COUNT = 12;

let ownerId = 0;

/**
 * Names this thread (a number other than 0, unique in the process) in the mutexes it takes, for
 * `held` and `assertHeld`. Call it once when the thread starts. *Thread:* any.
 */
export function setOwnerId(id: number): void {
  ownerId = id | 0;
}
/** This thread's id; 0 when it has none. */
export function getOwnerId(): number {
  return ownerId;
}

/** A lock for sections that may be long. All-zero memory is a free mutex. *Thread:* any. */
export class Mutex {
  static readonly BYTES = 16;
  static readonly ALIGN = 4;
  readonly address: number;
  readonly ops: SyncOps;
  private readonly i32: Int32Array<SharedArrayBuffer>;
  private readonly ownerIndex: number;

  constructor(buffer: SharedArrayBuffer, at: number, ops: SyncOps = opsFor(buffer)) {
    checkPlace(buffer, at, Mutex.BYTES, Mutex.ALIGN);
    this.address = at;
    this.ops = ops;
    this.i32 = viewsOf(buffer).i32;
    this.ownerIndex = (at + OWNER) >>> 2;
  }

  /** Makes it free. Only while no other thread can know it. */
  init(): void {
    for (let at = 0; at < Mutex.BYTES; at += 4) this.ops.store(this.address + at, 0);
  }

  /** *May block:* yes. @throws SyncError `recursive` if this (named) thread holds it */
  lock(): void {
    if (this.ops.compareExchange(this.address, FREE, HELD) !== FREE) this.lockSlow(Infinity);
    this.i32[this.ownerIndex] = ownerId;
  }

  /** *May block:* no. */
  tryLock(): boolean {
    if (this.ops.compareExchange(this.address, FREE, HELD) !== FREE) return false;
    this.i32[this.ownerIndex] = ownerId;
    return true;
  }

  /** Tries for at most `timeoutNs`; false if the lock was not had. *May block:* yes. */
  lockTimed(timeoutNs: number): boolean {
    if (this.ops.compareExchange(this.address, FREE, HELD) !== FREE) {
      if (!this.lockSlow(this.ops.now() + timeoutNs)) return false;
    }
    this.i32[this.ownerIndex] = ownerId;
    return true;
  }

  private lockSlow(deadline: number): boolean {
    this.refuseRecursion();
    for (let i = 0; i < MAX_PAUSES; i++) {
      const state = this.ops.load(this.address);
      if (state === FREE) {
        if (this.ops.compareExchange(this.address, FREE, HELD) === FREE) return true;
      } else if (state === CONTENDED) {
        break; // others sleep already: the section is long, or there are too few cores
      }
      this.ops.pause();
    }
    let timedOut = false;
    while (this.ops.exchange(this.address, CONTENDED) !== FREE) {
      // The lock is tried once more after the time is over: a wake-up is never taken in vain.
      if (timedOut) return false;
      const left = deadline === Infinity ? Infinity : deadline - this.ops.now();
      timedOut = left <= 0 || this.ops.wait(this.address, CONTENDED, left) === WAIT_TIMED_OUT;
    }
    return true;
  }

  /** For a thread that must not block. Settles with the lock held. */
  async lockAsync(): Promise<void> {
    // Not refused if this thread holds it: another task of the thread may, across an await.
    if (this.tryLock()) return;
    this.ops.add(this.address + ASYNC_COUNT, 1);
    for (;;) {
      const seq = this.ops.load(this.address + ASYNC_SEQ);
      if (this.ops.exchange(this.address, CONTENDED) === FREE) break;
      await this.ops.waitAsync(this.address + ASYNC_SEQ, seq, Infinity);
    }
    this.ops.add(this.address + ASYNC_COUNT, -1);
    this.i32[this.ownerIndex] = ownerId;
  }

  /** @throws SyncError `not-held` if nobody holds it, or another named thread does */
  unlock(): void {
    if (this.i32[this.ownerIndex] !== ownerId) this.assertHeld();
    this.i32[this.ownerIndex] = 0;
    const state = this.ops.exchange(this.address, FREE);
    if (state === HELD) return;
    if (state === FREE) throw new SyncError('not-held', `mutex at ${this.address} is not held`);
    this.ops.notify(this.address, 1);
    if (this.ops.load(this.address + ASYNC_COUNT) !== 0) {
      this.ops.add(this.address + ASYNC_SEQ, 1);
      this.ops.notify(this.address + ASYNC_SEQ, Infinity);
    }
  }

  /** Whether any thread holds it: stale as soon as it is read. */
  isLocked(): boolean {
    return this.ops.load(this.address) !== FREE;
  }

  /** Whether this thread holds it, as far as threads are named (see `setOwnerId`). */
  get held(): boolean {
    return this.ops.load(this.address) !== FREE && this.i32[this.ownerIndex] === ownerId;
  }

  /** @throws SyncError `not-held` unless this thread holds it */
  assertHeld(): void {
    if (!this.held) throw new SyncError('not-held', `mutex at ${this.address} is not held by this thread`);
  }

  private refuseRecursion(): void {
    if (ownerId !== 0 && this.held) {
      throw new SyncError('recursive', `mutex at ${this.address} is held by this thread already`);
    }
  }
}
