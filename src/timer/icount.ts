/**
 * VIRTUAL driven by executed instructions: VIRTUAL = bias + instructions × 2^shift ns. The bias is the time that
 * passed while nothing could be executed (warp), and what keeps VIRTUAL continuous when the shift changes.
 *
 * One thread executes guest code, in slices: at most as many instructions as there are until the next VIRTUAL timer of
 * the main loop's group, which that thread runs itself, so a timer is due at an exact instruction. `instructions` is
 * behind by what the present slice has executed; the executing thread adds that (`fold`) before it reads the
 * clock, other threads see an earlier time. All words are written under `ticksLock` in a section of `ticksSeq`.
 *
 * Who arms a VIRTUAL timer tells `rearmed`: the executing thread shortens its slice, another one kicks it.
 */
import { ATTRIBUTE, CLOCK, type ClockStateView, type ClockType } from './clock-state.ts';
import type { SharedTimer } from './timer.ts';

/** `-icount`. */
export interface IcountOptions {
  /** 2^shift ns pass with each instruction; auto: so that VIRTUAL keeps to host time. */
  readonly shift: number | 'auto';
  /** VIRTUAL waits for host time. */
  readonly align: boolean;
  /** While all vCPUs are idle time passes as on the host; else the next timer comes at once. */
  readonly sleep: boolean;
}

export const MAX_SHIFT = 10;
const AUTO_FIRST_SHIFT = 3;
/** The shift moves when the distance to host time grows by this many ns. */
const WOBBLE = 1e8;
/** Periods of the adjustment, ns. */
const ADJUST_RT = 1e9;
const ADJUST_VIRTUAL = 1e8;
/** With align: how far VIRTUAL may be ahead of host time, ns. */
const ALIGN_AHEAD = 3e6;
/** How long a turn may be, ns: as without icount. With align shorter, so that host time is looked at. */
export const LONGEST_TURN = 1e8;
export const ALIGNED_TURN = 1e7;
/** No warp is under way. */
const NO_WARP = -1;

/** The slice that is being executed. */
export interface Slice {
  /** Instructions executed since the last call. */
  take(): number;
  /** At most `n` from now on. Call `take` before it. */
  limit(n: number): void;
}

/** What icount needs of its clock system. */
export interface IcountClocks {
  now(type: ClockType): number;
  /** Ns until the next VIRTUAL timer whose attributes are all in `mask`; see ClockSystem. */
  virtualDeadline(mask?: number): number;
}

/** A thread's view. */
export class Icount {
  /** In the executing thread, during a slice. */
  slice: Slice | undefined;
  /** In other threads: makes the executing thread look at its deadline. */
  kick: (() => void) | undefined;
  readonly #state: ClockStateView;
  readonly #clocks: IcountClocks;

  constructor(state: ClockStateView, clocks: IcountClocks) {
    this.#state = state;
    this.#clocks = clocks;
  }

  /** *Thread:* the creating one. */
  static init(state: ClockStateView, shift: IcountOptions['shift']): void {
    state.icountShift.store(shift === 'auto' ? AUTO_FIRST_SHIFT : shift);
    state.icountWarpStart.store(NO_WARP);
  }

  /** Instructions executed so far; all of them in the executing thread, else up to the last fold. *Thread:* any. */
  get instructions(): number {
    this.fold();
    return this.#state.icountInstructions.load();
  }
  get shift(): number {
    return this.#state.icountShift.load();
  }

  /** VIRTUAL from the words as they stand: within a section, or where they cannot change. */
  virtualUnlocked(): number {
    const { icountBias, icountInstructions, icountShift } = this.#state;
    return icountBias.load() + icountInstructions.load() * 2 ** icountShift.load();
  }

  /** Counts what the present slice has executed. *Thread:* any; does nothing but in the executing one. */
  fold(): void {
    const n = this.slice === undefined ? 0 : this.slice.take();
    if (n === 0) return;
    const { icountInstructions } = this.#state;
    this.#begin();
    icountInstructions.store(icountInstructions.load() + n);
    this.#end();
  }

  /** A VIRTUAL timer became the first of its list, due at `when`, or the clock was enabled. *Thread:* any. */
  rearmed(when: number): void {
    if (this.slice !== undefined) {
      this.fold();
      this.slice.limit(this.#instructionsFor(when - this.#clocks.now(CLOCK.VIRTUAL)));
    } else if (this.kick !== undefined) this.kick();
  }

  /** Shortens the slice to the deadline as it is now. *Thread:* executing. */
  refresh(): void {
    this.fold();
    this.slice?.limit(this.budget());
  }

  /** Instructions until the next timer, `ns` at most: 0 when one is due. *Thread:* executing. */
  budget(ns = Infinity): number {
    return this.#instructionsFor(Math.min(this.#clocks.virtualDeadline(), ns));
  }
  #instructionsFor(ns: number): number {
    if (ns <= 0) return 0;
    return Math.ceil(Math.min(ns, LONGEST_TURN) / 2 ** this.#state.icountShift.load());
  }

  /** Ns until the next timer that concerns the guest; `Infinity`: none. *Thread:* executing, between slices. */
  idleDeadline(): number {
    return this.#clocks.virtualDeadline(~ATTRIBUTE.EXTERNAL);
  }

  /** Lets VIRTUAL jump ahead. *Thread:* executing, between slices. */
  skip(ns: number): void {
    const { icountBias } = this.#state;
    this.#begin();
    icountBias.store(icountBias.load() + ns);
    this.#end();
  }

  /**
   * From now on time passes as on the host, until `endWarp`: nothing is executed. `timer` is to end it, on
   * VIRTUAL_RT, `deadline` ns from now at the latest. *Thread:* executing, between slices.
   */
  startWarp(deadline: number, timer: SharedTimer): void {
    const { icountWarpStart } = this.#state;
    const now = this.#clocks.now(CLOCK.VIRTUAL_RT);
    this.#begin();
    const start = icountWarpStart.load();
    icountWarpStart.store(start === NO_WARP ? now : Math.min(start, now));
    this.#end();
    timer.modAnticipate(now + deadline);
  }

  /** Adds the time that the warp has taken. Nothing happens when there is none. *Thread:* executing, or the timer's. */
  endWarp(auto: boolean): void {
    const { icountWarpStart, icountBias } = this.#state;
    if (icountWarpStart.load() === NO_WARP) return;
    const now = this.#clocks.now(CLOCK.VIRTUAL_RT);
    this.#begin();
    const start = icountWarpStart.load();
    if (start !== NO_WARP) {
      const elapsed = Math.max(0, now - start);
      // a clock that is adjusted to host time does not pass it
      const room = auto ? Math.max(0, now - this.virtualUnlocked()) : Infinity;
      icountBias.store(icountBias.load() + Math.min(elapsed, room));
      icountWarpStart.store(NO_WARP);
    }
    this.#end();
  }

  /** shift=auto: one step towards host time. VIRTUAL does not jump. *Thread:* any. */
  adjust(): void {
    this.fold();
    const { icountShift, icountBias, icountInstructions, icountLastDelta } = this.#state;
    const host = this.#clocks.now(CLOCK.VIRTUAL_RT);
    this.#begin();
    const virtual = this.virtualUnlocked();
    const delta = virtual - host;
    const last = icountLastDelta.load();
    const shift = icountShift.load();
    let next = shift;
    if (delta > 0 && last + WOBBLE < delta * 2 && shift > 0) next = shift - 1;
    else if (delta < 0 && last - WOBBLE > delta * 2 && shift < MAX_SHIFT) next = shift + 1;
    icountLastDelta.store(delta);
    icountShift.store(next);
    icountBias.store(virtual - icountInstructions.load() * 2 ** next);
    this.#end();
  }
  /** When to adjust next, by the clock of the timer that does. */
  nextAdjustment(type: ClockType): number {
    return this.#clocks.now(type) + (type === CLOCK.VIRTUAL ? ADJUST_VIRTUAL : ADJUST_RT);
  }

  /** Ns that VIRTUAL is ahead of host time; negative: behind. *Thread:* any. */
  ahead(): number {
    return this.#clocks.now(CLOCK.VIRTUAL) - this.#clocks.now(CLOCK.VIRTUAL_RT);
  }
  /** Ns to wait before the next slice with align, 0: none. *Thread:* executing. */
  alignmentDelay(): number {
    const ahead = this.ahead();
    return ahead > ALIGN_AHEAD ? ahead : 0;
  }

  #begin(): void {
    this.#state.ticksLock.lock();
    this.#state.ticksSeq.writeBegin();
  }
  #end(): void {
    this.#state.ticksSeq.writeEnd();
    this.#state.ticksLock.unlock();
  }
}
