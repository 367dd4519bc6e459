/** One thread's view of a round: what it shares with the others, its random numbers, what it measures and checks. */
import { registerMemory, setOwnerId, type SyncOps, type ViewOf } from '@smp86/atomics-sync';
import { threadId } from 'node:worker_threads';
import { AioContext } from '../aio/aio-context.ts';
import { MainLoop } from '../aio/main-loop.ts';
import { CallbackRegistry } from '../timer/callback-registry.ts';
import { CLOCK, CLOCK_COUNT, CLOCK_NAMES, type ClockType } from '../timer/clock-state.ts';
import { ClockSystem } from '../timer/clock.ts';
import { bucketOf, BUCKETS } from './histogram.ts';
import {
  MAX_VIOLATIONS,
  PHASE,
  type Plan,
  SlotState,
  type SlotView,
  StressState,
  ThreadState,
  type ThreadView,
  TicketState,
  type TicketView,
  ViolationState,
} from './layout.ts';
import { Random } from './random.ts';
import { Seam } from './seam.ts';
import type { Tempo } from './tempo.ts';
import { CHECK, type CheckName, OPERATION, type OperationName } from './vocabulary.ts';

export type RoleName =
  | 'main-loop'
  | 'context'
  | 'armer'
  | 'toggler'
  | 'producer'
  | 'iothread'
  | 'user'
  | 'holder'
  | 'reader'
  | 'ticker'
  | 'stopper';

/** What a thread is started with. */
export interface ThreadData {
  readonly memory: WebAssembly.Memory;
  readonly plan: Plan;
  readonly tempo: Tempo;
  /** Its place in the table of threads. */
  readonly slot: number;
  readonly role: RoleName;
  /** 0 … among the threads of this role. */
  readonly index: number;
  readonly seed: number;
  /** CPUs it may use, as `taskset` takes them. */
  readonly cpus: string | undefined;
  /** Name of a fault to plant. */
  readonly fault: string | undefined;
}

export class Stage {
  readonly data: ThreadData;
  readonly plan: Plan;
  readonly state: ViewOf<typeof StressState>;
  readonly self: ThreadView;
  readonly clocks: ClockSystem;
  readonly callbacks = new CallbackRegistry();
  readonly random: Random;
  /** For what is measured and recorded: neither delayed nor traced. */
  readonly raw: SyncOps;
  readonly #buffer: SharedArrayBuffer;
  readonly #napWord = new Int32Array(new SharedArrayBuffer(4));
  #mainLoop: MainLoop | undefined;
  readonly #contexts: AioContext[] = [];

  constructor(data: ThreadData) {
    this.data = data;
    this.plan = data.plan;
    this.random = new Random(data.seed);
    const ops = registerMemory(data.memory);
    this.raw = { ...ops };
    this.#buffer = data.memory.buffer as unknown as SharedArrayBuffer;
    setOwnerId(data.slot + 1);
    this.state = StressState.at(this.#buffer, data.plan.state);
    this.self = ThreadState.at(this.#buffer, data.plan.threads + data.slot * ThreadState.size);
    this.self.threadId.store(threadId);
    this.clocks = ClockSystem.attach(this.#buffer, data.plan.clocks, { callbacks: this.callbacks });
    new Seam(ops, this.raw, this.self, () => this.clocks.hostNow()).install(data.tempo.seam, data.seed);
  }

  // --- the others ---------------------------------------------------------------------------------

  get stopping(): boolean {
    return this.state.stop.load() !== 0;
  }

  get mainLoop(): MainLoop {
    return (this.#mainLoop ??= MainLoop.attach(this.clocks, this.plan.mainLoop, this.state.bql));
  }

  /** Context `index`; the one after the last is the main loop's, where there is a main loop. */
  context(index: number): AioContext {
    if (index === this.plan.contexts.length) return this.mainLoop.context;
    return (this.#contexts[index] ??= AioContext.attach(this.clocks, this.plan.contexts[index]));
  }

  timerTicket(index: number): TicketView {
    return TicketState.at(this.#buffer, this.plan.timerTickets + index * TicketState.size);
  }
  bottomHalfTicket(index: number): TicketView {
    return TicketState.at(this.#buffer, this.plan.bottomHalfTickets + index * TicketState.size);
  }
  userTicket(index: number): TicketView {
    return TicketState.at(this.#buffer, this.plan.userTickets + index * TicketState.size);
  }
  slotState(index: number): SlotView {
    return SlotState.at(this.#buffer, this.plan.slots + index * SlotState.size);
  }

  /** Counts a callback of a list. */
  countRun(list: number): void {
    this.raw.add(this.plan.ran + list * 4, 1);
  }
  /** Callbacks that ran on all lists of a clock. */
  runsOf(type: ClockType): number {
    let sum = 0;
    for (let group = 0; group < this.plan.maxGroups; group++) {
      sum = (sum + this.raw.load(this.plan.ran + (group * CLOCK_COUNT + type) * 4)) | 0;
    }
    return sum;
  }

  // --- time ---------------------------------------------------------------------------------------

  /** Sleeps at random, or not. */
  nap(longest = this.data.tempo.nap): void {
    if (longest > 0 && !this.random.oneIn(4)) this.sleep(this.random.below(longest));
  }

  sleep(us: number): void {
    Atomics.wait(this.#napWord, 0, 0, us / 1000);
  }

  /** Spends time in a callback, mostly none. */
  dawdle(): void {
    const { callback } = this.data.tempo;
    if (callback === 0 || !this.random.oneIn(8)) return;
    if (this.random.oneIn(4)) return this.sleep(this.random.below(callback));
    const until = this.clocks.hostNow() + this.random.below(callback * 200);
    while (this.clocks.hostNow() < until) this.raw.pause();
  }

  // --- measuring ----------------------------------------------------------------------------------

  /** Tells the watchdog of an operation, and returns the time for `end`. */
  begin(operation: OperationName): number {
    const now = this.clocks.hostNow();
    this.raw.storeF64(this.self.operationSince.address, now);
    this.raw.store(this.self.operation.address, OPERATION[operation]);
    return now;
  }

  end(operation: OperationName, since: number): void {
    this.raw.store(this.self.operation.address, -1);
    this.record(operation, this.clocks.hostNow() - since);
  }

  record(operation: OperationName, ns: number): void {
    const number = OPERATION[operation];
    const { self } = this;
    self.buckets[number * BUCKETS + bucketOf(ns)]++;
    if (ns > self.longest[number]) self.longest[number] = ns;
  }

  // --- checking -----------------------------------------------------------------------------------

  /** Counts a check that held. */
  held(check: CheckName, n = 1): void {
    this.self.checks[CHECK[check]] += n;
  }

  check(check: CheckName, holds: boolean, message: () => string): void {
    if (holds) this.held(check);
    else this.fail(check, message());
  }

  /** Records a violation, and ends the round. */
  fail(check: CheckName, message: string): void {
    const { state } = this;
    const index = state.violations.add(1);
    if (index < MAX_VIOLATIONS) {
      const at = this.plan.violations + index * ViolationState.size;
      const violation = ViolationState.at(this.#buffer, at);
      violation.thread = this.data.slot;
      violation.check = CHECK[check];
      const text = Buffer.from(message).subarray(0, violation.text.length);
      violation.text.set(text);
      violation.length.store(text.length);
    }
    state.stop.store(1);
    this.tellHost();
  }

  tellHost(): void {
    this.state.news.add(1);
    this.state.news.notify();
  }

  /** Waits for the others, with everything that may compile lazily loaded. */
  ready(): void {
    this.self.operation.store(-1);
    this.self.phase.store(PHASE.READY);
    this.tellHost();
    this.state.go.wait();
    this.self.phase.store(PHASE.RUNNING);
  }

  done(): void {
    this.self.phase.store(PHASE.DONE);
    this.tellHost();
  }
}

export const clockName = (type: number): string => CLOCK_NAMES[type as ClockType];
/** Clocks that only go forward. */
export const STEADY_CLOCKS = [CLOCK.VIRTUAL, CLOCK.VIRTUAL, CLOCK.REALTIME, CLOCK.VIRTUAL_RT] as const;
