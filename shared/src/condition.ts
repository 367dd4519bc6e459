/**
 * Condition: threads sleep on a sequence number until a signal changes it.
 *
 *   seq      bumped by every signal and broadcast that may have somebody to wake
 *   waiters  threads between announcing themselves and having stopped to sleep
 *
 * wait:   with the mutex held: waiters + 1, read seq; unlock; sleep while seq is as read; waiters - 1;
 *         lock.
 * signal: if there are waiters: seq + 1, then wake one (broadcast: all).
 *
 * No wake-up is lost. A waiter announces itself and reads seq before it releases the mutex, so
 * whoever changes the predicate under the mutex later finds waiters > 0 and bumps seq after that
 * reading. Then the waiter either sleeps and is woken, or finds seq changed and does not go to
 * sleep. Nor can a thread that began to wait after the bump take the wake-up of one that slept
 * before: the futex wakes in order of arrival. A wake-up may be one too many (a thread that found
 * seq changed used none), so the predicate is tested in a loop, as with every condition variable.
 * (A sequence of 32 bits misleads a waiter only if exactly 2^32 signals come between its reading
 * of seq and its sleep.)
 *
 * The predicate must change under the mutex; signalling may be done with it or after it.
 */
import { checkPlace } from './errors.ts';
import type { Mutex } from './mutex.ts';
import { opsFor, WAIT_TIMED_OUT, type SyncOps } from './sync-ops.ts';

const WAITERS = 4;

/** A condition variable. All-zero memory is one that nobody waits on. *Thread:* any. */
export class Condition {
  static readonly BYTES = 8;
  static readonly ALIGN = 4;
  readonly address: number;
  readonly ops: SyncOps;

  constructor(buffer: SharedArrayBuffer, at: number, ops: SyncOps = opsFor(buffer)) {
    checkPlace(buffer, at, Condition.BYTES, Condition.ALIGN);
    this.address = at;
    this.ops = ops;
  }

  /** Only while no other thread can know it. */
  init(): void {
    this.ops.store(this.address, 0);
    this.ops.store(this.address + WAITERS, 0);
  }

  /**
   * Releases the mutex, sleeps until signalled or for at most `timeoutNs`, takes the mutex again.
   * False if the time was over. *Lock:* `mutex`. *May block:* yes.
   */
  wait(mutex: Mutex, timeoutNs = Infinity): boolean {
    this.ops.add(this.address + WAITERS, 1);
    const seq = this.ops.load(this.address);
    mutex.unlock();
    const result = this.ops.wait(this.address, seq, timeoutNs);
    this.ops.add(this.address + WAITERS, -1);
    mutex.lock();
    return result !== WAIT_TIMED_OUT;
  }

  /** As `wait` for a thread that must not block; a timeout may be early by its grain of 1 ms. *Lock:* `mutex`. */
  async waitAsync(mutex: Mutex, timeoutNs = Infinity): Promise<boolean> {
    this.ops.add(this.address + WAITERS, 1);
    const seq = this.ops.load(this.address);
    mutex.unlock();
    const result = await this.ops.waitAsync(this.address, seq, timeoutNs);
    this.ops.add(this.address + WAITERS, -1);
    await mutex.lockAsync();
    return result !== WAIT_TIMED_OUT;
  }

  /** Wakes one waiter, if there is any. *May block:* no. */
  signal(): void {
    this.wake(1);
  }

  /** Wakes all waiters. *May block:* no. */
  broadcast(): void {
    this.wake(Infinity);
  }

  private wake(count: number): void {
    if (this.ops.load(this.address + WAITERS) === 0) return;
    this.ops.add(this.address, 1);
    this.ops.notify(this.address, count);
  }
}
