/**
 * The local APIC's timer: one-shot, periodic, TSC-deadline. Intel SDM vol. 3A, "APIC Timer".
 *
 * Nothing ticks: the current count is computed from the load time. One undivided tick is 1 ns. An
 * interrupt comes initial count + 1 ticks after the load, as the compatible machine has it.
 */
import type { Clock, Timer } from '../device.ts';
import {
  LVT_MASKED,
  LVT_TIMER,
  LVT_TIMER_DEADLINE,
  LVT_TIMER_MODE,
  LVT_TIMER_PERIODIC,
  type LapicStateView,
} from './lapic-state.ts';

/** Behind this many periods the timer stops catching up one by one; see `rearm`. */
const MAX_BACKLOG = 1000;

export interface LapicTimerDeps {
  /** VIRTUAL. */
  readonly clock: Clock;
  /** On VIRTUAL. */
  readonly timer: Timer;
  /** VIRTUAL time at which this vCPU's TSC reads high:low. */
  tscToNs(low: number, high: number): number;
}

/** *Thread:* any. *Lock:* BQL. */
export class LapicTimer {
  readonly #state: LapicStateView;
  readonly #clock: Clock;
  readonly #timer: Timer;
  readonly #deps: LapicTimerDeps;

  constructor(state: LapicStateView, deps: LapicTimerDeps) {
    this.#state = state;
    this.#clock = deps.clock;
    this.#timer = deps.timer;
    this.#deps = deps;
  }

  reset(): void {
    const s = this.#state;
    s.initialCount = 0;
    s.divide = 0;
    s.loadTime = this.#clock.now();
    this.#setDeadline(0, 0);
    this.#disarm();
  }

  /** The LVT timer entry, which the caller has stored, was `old`. */
  lvtChanged(old: number): void {
    const s = this.#state;
    const lvt = s.lvt[LVT_TIMER];
    const now = this.#clock.now();
    const deadline = LVT_TIMER_DEADLINE;
    if (((lvt ^ old) & deadline) !== 0) {
      // "A transition between TSC-deadline mode and the other modes disarms the timer."
      s.initialCount = 0;
      this.#setDeadline(0, 0);
    } else if ((old & LVT_MASKED) !== 0 && s.deadlineTime <= now) {
      this.#setDeadline(0, 0); // passed unseen while masked
    }
    this.#update(now);
  }

  setInitialCount(value: number): void {
    const s = this.#state;
    // "In TSC-deadline mode, writes to the initial-count register are ignored."
    if (this.#mode === LVT_TIMER_DEADLINE) return;
    s.initialCount = value;
    s.loadTime = this.#clock.now();
    this.#update(s.loadTime);
  }

  /** Changes the rate of the count at once, the armed interrupt only when it is next computed. */
  setDivide(value: number): void {
    this.#state.divide = value & 0xb;
  }

  get currentCount(): number {
    const s = this.#state;
    const mode = this.#mode;
    if (mode === LVT_TIMER_DEADLINE || s.initialCount === 0) return 0;
    const d = this.#ticks(this.#clock.now());
    if (mode === LVT_TIMER_PERIODIC) return s.initialCount - (d % (s.initialCount + 1));
    return d >= s.initialCount ? 0 : s.initialCount - d;
  }

  /** Writes IA32_TSC_DEADLINE; ignored outside TSC-deadline mode. */
  writeDeadline(low: number, high: number): void {
    if (this.#mode !== LVT_TIMER_DEADLINE) return;
    this.#setDeadline(low, high);
    this.#update(this.#clock.now());
  }

  /** True when the deadline has passed without an interrupt, because it is masked. */
  get deadlineLost(): boolean {
    const s = this.#state;
    return (s.lvt[LVT_TIMER] & LVT_MASKED) !== 0 && s.deadlineTime <= this.#clock.now();
  }

  /** The TSC of this vCPU was moved: the deadline is at another time now. */
  tscChanged(): void {
    const s = this.#state;
    if (s.deadlineLow === 0 && s.deadlineHigh === 0) return;
    this.#setDeadline(s.deadlineLow, s.deadlineHigh);
    this.#update(this.#clock.now());
  }

  /** The timer's callback came: true when there is an interrupt to deliver; then `rearm` follows. */
  get due(): boolean {
    return this.#state.nextTime >= 0;
  }

  /** After the delivery: the next interrupt, counted from the scheduled time, not from now. */
  rearm(): void {
    const s = this.#state;
    if (this.#mode === LVT_TIMER_DEADLINE) {
      this.#setDeadline(0, 0);
      this.#disarm();
      return;
    }
    let from = s.nextTime;
    const now = this.#clock.now();
    // A late callback catches up period by period, but a guest can ask for a period of 2 ns: then the
    // pass that works the backlog off would never end.
    if (now - from > MAX_BACKLOG * (s.initialCount + 1) * this.#tickNs) from = now;
    this.#update(from);
  }

  get #mode(): number {
    return this.#state.lvt[LVT_TIMER] & LVT_TIMER_MODE;
  }

  /** Nanoseconds of a divided tick: 2 4 8 16 32 64 128 1 for divide codes 0..7. */
  get #tickNs(): number {
    const d = this.#state.divide;
    return 1 << ((((d & 3) | ((d >>> 1) & 4)) + 1) & 7);
  }

  #ticks(now: number): number {
    return Math.floor((now - this.#state.loadTime) / this.#tickNs);
  }

  #setDeadline(low: number, high: number): void {
    const s = this.#state;
    s.deadlineLow = low;
    s.deadlineHigh = high;
    s.deadlineTime = low === 0 && high === 0 ? Infinity : this.#deps.tscToNs(low, high);
  }

  #disarm(): void {
    this.#state.nextTime = -1;
    this.#timer.del();
  }

  #update(now: number): void {
    const s = this.#state;
    const next = this.#next(now);
    // A deadline further away than time reaches (104 days) never comes.
    if (next < 0 || next > Number.MAX_SAFE_INTEGER) {
      this.#disarm();
    } else {
      s.nextTime = next;
      this.#timer.mod(next);
    }
  }

  /** Time of the first interrupt after `now`, or -1. */
  #next(now: number): number {
    const s = this.#state;
    if ((s.lvt[LVT_TIMER] & LVT_MASKED) !== 0) return -1;
    const count = s.initialCount;
    switch (this.#mode) {
      case LVT_TIMER_DEADLINE:
        return s.deadlineTime === Infinity ? -1 : Math.max(0, s.deadlineTime);
      case LVT_TIMER_PERIODIC: {
        if (count === 0) return -1;
        const periods = Math.floor(this.#ticks(now) / (count + 1)) + 1;
        return s.loadTime + periods * (count + 1) * this.#tickNs;
      }
      case 0:
        return this.#ticks(now) >= count ? -1 : s.loadTime + (count + 1) * this.#tickNs;
      default:
        return -1; // reserved mode
    }
  }
}
