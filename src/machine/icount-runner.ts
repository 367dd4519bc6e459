/**
 * Round robin with icount: the vCPUs of a machine in turn on one thread, each turn a slice of at most as many instructions
 * as there are until the next VIRTUAL timer. What the guest can observe depends on executed instructions alone:
 *
 * - A turn ends when its budget is used up, at HLT and PAUSE, and when an instruction causes an interrupt for any vCPU;
 *   never for a kick of another thread. After a stop the same vCPU goes on.
 * - VIRTUAL timers of the main loop's group are run here, between turns, with the BQL held.
 * - While all vCPUs are idle, VIRTUAL jumps to the next timer (sleep=off), or passes as host time does (sleep=on).
 */
import { CLOCK } from '../timer/clock-state.ts';
import { ALIGNED_TURN, type Icount, type IcountOptions, LONGEST_TURN, type Slice } from '../timer/icount.ts';
import type { SharedTimer } from '../timer/timer.ts';
import { CpuEnv, VCPU_BLOCK_SIZE } from '../cpu/env.ts';
import type { Board } from './board.ts';
import type { Pause, Vcpu } from './vcpu.ts';

const BUDGET = CpuEnv.offsetOf('budget') >>> 2;
/** With align: warnings that are printed at most, and by how many seconds more the guest must be late for another. */
const MAX_LATE_WARNINGS = 100;
const LATE_STEP = 1;

/** What the thread does for a turn. */
export interface TurnTaker {
  /** Applies a reset. */
  prepare(vcpu: Vcpu): void;
  turn(vcpu: Vcpu): Pause;
  /** Waits until the machine runs. */
  park(vcpus: readonly Vcpu[]): void;
}

/** *Thread:* the vCPU thread. */
export class IcountRunner implements Slice {
  private readonly board: Board;
  private readonly icount: Icount;
  private readonly options: IcountOptions;
  private readonly vcpus: readonly Vcpu[];
  private readonly taker: TurnTaker;
  private readonly i32: Int32Array<SharedArrayBuffer>;
  /** Word of the running vCPU's budget, and what it was when it was last looked at. */
  private word = 0;
  private given = 0;
  /** The vCPU whose turn is next. */
  private next = 0;
  /** Its turn was interrupted by a stop, and ends at this VIRTUAL time. */
  private interrupted = false;
  private turnEnd = 0;
  private warned = false;
  private lateWarnings = 0;
  private late = 0;

  constructor(
    board: Board,
    icount: Icount,
    options: IcountOptions,
    vcpus: readonly Vcpu[],
    taker: TurnTaker,
  ) {
    this.board = board;
    this.icount = icount;
    this.options = options;
    this.vcpus = vcpus;
    this.taker = taker;
    this.i32 = board.mem.views.i32;
  }

  take(): number {
    const left = this.i32[this.word];
    const executed = this.given - left;
    this.given = left;
    return executed;
  }
  limit(n: number): void {
    if (n >= this.i32[this.word]) return;
    this.i32[this.word] = n;
    this.given = n;
  }

  /** Executes until the machine quits. */
  run(): void {
    const { board, vcpus, icount, options } = this;
    const { quit } = board.control;
    while (quit.load() === 0) {
      // read before anything is looked at: a kick that comes after the look ends the sleep below
      const seq = vcpus[0].kickSequence;
      if (vcpus.some((v) => v.stopRequested)) {
        this.taker.park(vcpus);
        continue;
      }
      this.endWarp();
      board.bql.with(() => board.clocks.mainGroup.lists[CLOCK.VIRTUAL].run());
      const vcpu = this.choose();
      if (vcpu !== undefined) {
        if (!options.align || !this.align(seq)) this.turn(vcpu);
        continue;
      }
      const deadline = icount.idleDeadline();
      if (deadline === 0) continue;
      if (deadline !== Infinity) {
        if (!options.sleep) {
          icount.skip(deadline);
          continue;
        }
        icount.startWarp(deadline, this.warpTimer());
      } else if (!options.sleep) this.warnOnce();
      vcpus[0].sleepUnlessKicked(seq);
    }
  }

  /** The next vCPU that has something to do. */
  private choose(): Vcpu | undefined {
    const { vcpus } = this;
    for (let i = 0; i < vcpus.length; i++) {
      const vcpu = vcpus[(this.next + i) % vcpus.length];
      if (vcpu.idle) continue;
      this.next = vcpu.index;
      return vcpu;
    }
    return undefined;
  }

  private turn(vcpu: Vcpu): void {
    const { icount } = this;
    this.taker.prepare(vcpu);
    const now = this.board.clocks.now(CLOCK.VIRTUAL);
    // a turn that a stop has interrupted ends when it would have ended
    if (!this.interrupted || now >= this.turnEnd)
      this.turnEnd = now + (this.options.align ? ALIGNED_TURN : LONGEST_TURN);
    const budget = icount.budget(this.turnEnd - now);
    // a timer became due since they were run
    if (budget === 0) return;
    this.word = ((this.board.layout.vcpus + vcpu.index * VCPU_BLOCK_SIZE) >>> 2) + BUDGET;
    this.i32[this.word] = budget;
    this.given = budget;
    icount.slice = this;
    try {
      this.interrupted = this.taker.turn(vcpu) === 'stop';
      if (!this.interrupted) this.next = vcpu.index + 1;
    } finally {
      icount.fold();
      icount.slice = undefined;
    }
  }

  private warpTimer(): SharedTimer {
    return this.board.icountTimers!.warp;
  }
  private endWarp(): void {
    if (!this.options.sleep) return;
    this.warpTimer().del();
    this.icount.endWarp(this.options.shift === 'auto');
  }

  /** Waits for host time. True when it did: look again then. */
  private align(seq: number): boolean {
    const delay = this.icount.alignmentDelay();
    if (delay > 0) {
      this.board.signals[0].sleep(seq, delay);
      return true;
    }
    const late = -this.icount.ahead() / 1e9;
    if (late > this.late + LATE_STEP && this.lateWarnings < MAX_LATE_WARNINGS) {
      this.lateWarnings++;
      this.late = late;
      this.board.warn(`the guest is ${late.toFixed(1)} seconds late`);
    }
    return false;
  }

  private warnOnce(): void {
    if (this.warned) return;
    this.warned = true;
    this.board.warn('icount sleep=off and no timer is set: nothing can happen before there is input');
  }
}
