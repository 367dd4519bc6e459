/**
 * CPU throttling: each vCPU sleeps for a percentage of the time. A timer on VIRTUAL_RT gives every vCPU a piece of work
 * once a period, and the work is to sleep. The period grows with the percentage, so that between two sleeps there are
 * always 10 ms.
 *
 * State: `percent`, 0 when off, written by any thread; `scheduled` of a vCPU is 1 from when its sleep was queued until
 * it is over, so no vCPU has two. The timer reads `percent` at each tick and ends when that is 0.
 */
import { array, atomicI32, padTo, struct, type ViewOf } from '@smp86/atomics-sync';
import type { Clock, Timer } from '../hw/device.ts';
import type { Bql } from './bql.ts';
import { CPU_WORK, type CpuWork } from './cpu-work.ts';
import { MAX_CPUS } from './machine-options.ts';
import type { VcpuSignals } from './signals.ts';

export const ThrottleState = struct({
  percent: atomicI32,
  pad0: padTo(64),
  /** By vCPU. */
  scheduled: array(atomicI32, MAX_CPUS),
  pad1: padTo(64),
});

/** ns that a vCPU runs between two sleeps. */
const TIME_SLICE = 10e6;
const MIN_PERCENT = 1;
const MAX_PERCENT = 99;

export interface ThrottleParts {
  /** On VIRTUAL_RT, of the main loop. */
  readonly timer: Timer;
  readonly virtualRt: Clock;
  readonly realtime: Clock;
  readonly cpuWork: CpuWork;
  readonly bql: Bql;
  readonly signals: readonly VcpuSignals[];
}

/** A thread's view of it. */
export class Throttle {
  readonly #state: ViewOf<typeof ThrottleState>;
  readonly #parts: ThrottleParts;

  constructor(state: ViewOf<typeof ThrottleState>, parts: ThrottleParts) {
    this.#state = state;
    this.#parts = parts;
  }

  /** 0: off. *Thread:* any. */
  get percent(): number {
    return this.#state.percent.load();
  }

  /** Sets the percentage, brought to 1 … 99; 0 turns it off. Takes effect with `start`. *Thread:* any. */
  set(percent: number): void {
    const whole = Math.trunc(percent);
    this.#state.percent.store(whole === 0 ? 0 : Math.min(Math.max(whole, MIN_PERCENT), MAX_PERCENT));
  }

  /** Begins to throttle if `percent` says so and it has not begun. *Thread:* main loop. *Lock:* BQL. */
  start(): void {
    if (!this.#parts.timer.pending) this.onTimer();
  }

  /** *Thread:* main loop. *Lock:* BQL. */
  onTimer(): void {
    const { percent } = this;
    if (percent === 0) return;
    const { timer, virtualRt, cpuWork, signals } = this.#parts;
    for (let i = 0; i < signals.length; i++) {
      if (this.#state.scheduled[i].exchange(1) === 0) cpuWork.asyncRunOnCpu(i, CPU_WORK.THROTTLE, i);
    }
    timer.mod(virtualRt.now() + Math.floor(TIME_SLICE / (1 - percent / 100)));
  }

  /**
   * The vCPU's sleep. It ends early when `stopped` says so after a kick.
   * *Thread:* the vCPU's. *Lock:* BQL, let go while it sleeps. *May block:* yes.
   */
  sleep(cpu: number, stopped: () => boolean): void {
    const share = this.percent / 100;
    if (share !== 0) {
      const { realtime, bql, signals } = this.#parts;
      const end = realtime.now() + Math.floor((share / (1 - share)) * TIME_SLICE) + 1;
      bql.unlock();
      for (;;) {
        const seq = signals[cpu].sequence;
        const left = end - realtime.now();
        if (left <= 0 || stopped()) break;
        signals[cpu].sleep(seq, left);
      }
      bql.lock();
    }
    this.#state.scheduled[cpu].store(0);
  }
}
