/**
 * Adaptive busy polling: before an owner sleeps it looks at its pollers for a while, since going to sleep and being
 * woken costs more than what it waits for may take. How long is learnt from how long the last waits were.
 */

/** QEMU's parameters of an iothread: poll-max-ns, poll-grow, poll-shrink. */
export interface PollParameters {
  /** Longest time to poll, ns; 0: never. */
  readonly maxNs: number;
  /** Factor by which the time grows; 0: the default, 2. */
  readonly grow?: number;
  /** Divisor by which it shrinks; 0, the default: at once to nothing. */
  readonly shrink?: number;
}

/** What an iothread polls for unless told otherwise; the main loop does not poll. */
export const IOTHREAD_POLL_MAX_NS = 32_768;

/** Where polling begins, ns. */
const FIRST_NS = 4000;

/** One owner's polling. *Thread:* owner. */
export class BusyPolling {
  readonly #maxNs: number;
  readonly #grow: number;
  readonly #shrink: number;
  #ns = 0;

  /** Throws RangeError. */
  constructor({ maxNs, grow = 0, shrink = 0 }: PollParameters) {
    for (const n of [maxNs, grow, shrink]) {
      if (!Number.isSafeInteger(n) || n < 0) throw new RangeError(`polling parameter ${n}`);
    }
    this.#maxNs = maxNs;
    this.#grow = grow === 0 ? 2 : grow;
    this.#shrink = shrink;
  }

  /** Ns that it polls at present. */
  get ns(): number {
    return this.#ns;
  }

  /**
   * Looks until `ready` or until the polling time or `timeout` ns are over; returns what is left of `timeout`, which
   * is 0 when `ready`.
   */
  poll(timeout: number, ready: () => boolean, now: () => number): number {
    const limit = Math.min(timeout, this.#ns);
    if (!(limit > 0)) return timeout;
    const start = now();
    for (;;) {
      if (ready()) return 0;
      const elapsed = now() - start;
      if (elapsed >= limit) return Math.max(0, timeout - elapsed);
    }
  }

  /** Learns from a wait that took `blocked` ns, polling included. */
  adapt(blocked: number): void {
    if (blocked <= this.#ns) return;
    if (blocked > this.#maxNs) {
      // polling would not have helped
      this.#ns = this.#shrink === 0 ? 0 : Math.floor(this.#ns / this.#shrink);
    } else if (blocked < this.#maxNs) {
      this.#ns = Math.min(this.#ns === 0 ? FIRST_NS : this.#ns * this.#grow, this.#maxNs);
    }
  }
}
