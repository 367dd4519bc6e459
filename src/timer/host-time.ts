/**
 * Host time. Every thread reads `process.hrtime()` and subtracts one start second that all threads
 * of a machine share, so values of different threads compare directly. (Calibrating
 * `performance.now()` per thread would be off by up to a millisecond.)
 */

/** Where a clock system takes host time from; tests give a settable one. */
export interface HostSource {
  /** Monotonic ns, integer, since the machine's start second; never decreases across threads. */
  monotonic(): number;
  /** Wall clock in milliseconds since 1970 (UTC); may jump. */
  wallMs(): number;
  /** Ns by which the wall clock may be later than `wallMs` says: what it counts in. */
  readonly wallGrain: number;
}

/** Monotonic ns since `startSecond`. *Thread:* any. *Lock:* none. *May block:* no. */
export function hostNow(startSecond: number): number {
  const time = process.hrtime();
  return (time[0] - startSecond) * 1e9 + time[1];
}

/** The start second for a machine created now: the second before, so that time 0 is never seen. */
export function chooseStartSecond(): number {
  return process.hrtime()[0] - 1;
}

/** Engines since 2026 have it; it counts microseconds. */
const now = typeof Temporal === 'undefined' ? undefined : Temporal.Now.instant;

/** The real host clocks. */
export class SystemTime implements HostSource {
  readonly startSecond: number;
  /** A microsecond and what the conversions to and from float64 may lose of it; or that of `Date`. */
  readonly wallGrain = now === undefined ? 1e6 : 2000;

  constructor(startSecond: number) {
    this.startSecond = startSecond;
  }
  monotonic(): number {
    return hostNow(this.startSecond);
  }
  wallMs(): number {
    return now === undefined ? Date.now() : Number(now().epochNanoseconds) / 1e6;
  }
}

/** A host that stands still until it is moved: for tests within one thread. */
export class ManualTime implements HostSource {
  ns = 0;
  wall = 0;
  wallGrain = 1e6;

  monotonic(): number {
    return this.ns;
  }
  wallMs(): number {
    return this.wall;
  }
}
