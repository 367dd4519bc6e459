/**
 * Event: QEMU's QemuEvent on one futex word. Level-triggered: once set, every wait returns until
 * somebody resets it. Any thread may set, reset and wait, without a mutex.
 *
 *   SET  = 0   waits return at once
 *   FREE = 1   reset; nobody waits
 *   BUSY = -1  reset; somebody may sleep, so set has to notify
 *
 * set:   exchange with SET; wake all if it was BUSY.
 * reset: if SET, OR with FREE. The OR leaves FREE and BUSY as they are (1|1 = 1, -1|1 = -1), so
 *        BUSY never becomes FREE and no sleeper is forgotten, even when resets race.
 * wait:  SET returns; FREE becomes BUSY by compare-exchange (if that meets SET, return); then sleep
 *        if it is still BUSY, which the futex checks.
 *
 * A sleeper leaves only for a set: BUSY is left through set's exchange alone, and set then wakes
 * everybody. The set may be one from before this wait, though: a setter that is delayed between its exchange
 * and its notify wakes who has gone to sleep meanwhile, after a reset. Where another thread may set, a
 * waiter therefore looks at its condition again (`while (!condition) { reset; if (!condition) wait }`);
 * where one thread sets and resets, as the runner of a timer list does, its notify is never that late.
 * Sleeping on while the value is BUSY would be no cure: with two waiters, one's reset and BUSY would keep
 * the other asleep after the set that was meant for both.
 *
 * A thread on its way to sleep can miss a set: if between its BUSY and its sleep
 * the event is set, reset by another thread, and made BUSY by a third, it sleeps until the next set.
 * So whoever resets must be the only waiter, or (as with a timer list's done-event) be sure to set
 * again.
 *
 * The pattern waiter { reset; if (!condition) wait } against notifier { condition = true; set } is
 * safe: all operations are in one order. If set comes before reset, the condition is seen after
 * it; if reset comes first, set is not swallowed and the wait returns. This holds for a condition in
 * a plain word too: set is an exchange even when the event is set already, and so a full barrier
 * after the caller's store, which a load alone would not be; a reset that finds the event set is a
 * full barrier before the caller's load, and one that finds it reset leaves the later set to be seen.
 */
import { checkPlace } from './errors.ts';
import { opsFor, WAIT_TIMED_OUT, type SyncOps } from './sync-ops.ts';

const SET = 0;
const FREE = 1;
const BUSY = -1;

/** A flag that threads can sleep on. All-zero memory is an event that is set. *Thread:* any. */
export class Event {
  static readonly BYTES = 4;
  static readonly ALIGN = 4;
  readonly address: number;
  readonly ops: SyncOps;

  constructor(buffer: SharedArrayBuffer, at: number, ops: SyncOps = opsFor(buffer)) {
    checkPlace(buffer, at, Event.BYTES, Event.ALIGN);
    this.address = at;
    this.ops = ops;
  }

  /** Only while no other thread can know it. */
  init(set: boolean): void {
    this.ops.store(this.address, set ? SET : FREE);
  }

  isSet(): boolean {
    return this.ops.load(this.address) === SET;
  }

  /** Sets it and wakes everybody who waits. *May block:* no. */
  set(): void {
    if (this.ops.exchange(this.address, SET) === BUSY) this.ops.notify(this.address, Infinity);
  }

  /** *May block:* no. */
  reset(): void {
    if (this.ops.load(this.address) === SET) this.ops.or(this.address, FREE);
  }

  /** Returns when the event is set, was set during the wait, or rarely too early (see above). *May block:* yes. */
  wait(): void {
    if (!this.mustSleep()) return;
    this.ops.wait(this.address, BUSY, Infinity);
  }

  /** As `wait`, for at most `timeoutNs`; false if the event was not set. *May block:* yes. */
  waitTimed(timeoutNs: number): boolean {
    if (!this.mustSleep()) return true;
    if (this.ops.wait(this.address, BUSY, timeoutNs) !== WAIT_TIMED_OUT) return true;
    return this.isSet();
  }

  /** As `waitTimed` for a thread that must not block. Grain of the timeout: 1 ms. */
  async waitAsync(timeoutNs = Infinity): Promise<boolean> {
    const deadline = timeoutNs === Infinity ? Infinity : this.ops.now() + timeoutNs;
    let left = timeoutNs;
    while (this.mustSleep()) {
      const result = this.ops.waitAsync(this.address, BUSY, left);
      if ((typeof result === 'number' ? result : await result) !== WAIT_TIMED_OUT) return true;
      // The engine's timer may be early.
      left = deadline - this.ops.now();
      if (left <= 0) return this.isSet();
    }
    return true;
  }

  /** Announces a sleeper; false if the event is set. */
  private mustSleep(): boolean {
    const state = this.ops.load(this.address);
    if (state === SET) return false;
    return state === BUSY || this.ops.compareExchange(this.address, FREE, BUSY) !== SET;
  }
}
