/**
 * How any thread wakes the one that sleeps until a timer list's deadline or for its AioContext's work.
 *
 * `notified` is both the hint and the futex word: set after the work was made visible, cleared before
 * work is looked for. `notifyMe` tells notifiers that someone sleeps or is about to, so that a
 * notification of a busy loop costs a store and a load. The argument is in docs/clocks.md.
 */
import { atomicI32, struct, type ViewOf } from '@smp86/atomics-sync';

export const NotifierState = struct({
  /** 1 from a notification until it is accepted. */
  notified: atomicI32,
  /** Number of waits in progress or about to begin. Changed by the waiting thread only. */
  notifyMe: atomicI32,
});
export type NotifierStateView = ViewOf<typeof NotifierState>;

/** What may send a notification later. */
export interface Courier {
  /** True: the notification is left out, and made up for. */
  holdsBack(notifier: Notifier): boolean;
}

/** A view of one notifier in shared memory. */
export class Notifier {
  readonly #state: NotifierStateView;
  /** Asked at each notification of this view. *Thread:* the notifying one. */
  courier: Courier | undefined;

  constructor(state: NotifierStateView) {
    this.#state = state;
  }

  /** By which another thread makes its view. */
  get address(): number {
    return this.#state.notified.address;
  }

  /**
   * Makes the waiter's current or next wait return. Call it after storing what the waiter is to see.
   * *Thread:* any. *Lock:* none. *May block:* no.
   */
  notify(): void {
    if (this.courier !== undefined && this.courier.holdsBack(this)) return;
    this.#state.notified.store(1);
    if (this.#state.notifyMe.load() !== 0) this.#state.notified.notify();
  }

  /** True when a notification has not been accepted yet. *Thread:* any. */
  get notified(): boolean {
    return this.#state.notified.load() !== 0;
  }

  /** Clears the notification; look for work afterwards, never before. *Thread:* owner. */
  accept(): void {
    // an exchange, not a store: what is looked at next must not be read before the flag is clear
    if (this.#state.notified.load() !== 0) this.#state.notified.exchange(0);
  }

  /**
   * Sleeps until a notification, at most `timeout` ns (`Infinity`: no limit; 0: returns at once). A
   * notification since the last `accept` makes it return at once. It may return early.
   * *Thread:* owner. *May block:* yes.
   */
  wait(timeout: number): void {
    if (timeout <= 0) return;
    const { notified, notifyMe } = this.#state;
    notifyMe.add(1);
    // the engine counts whole microseconds and cuts off the rest, which would wake up just too early
    notified.wait(0, Math.ceil(timeout / 1000) * 1000);
    notifyMe.add(-1);
  }
}
