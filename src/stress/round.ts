/** One round: a fresh memory, its threads, the watchdog over them, and what must hold at the end. *Thread:* host. */
import { keepAlive, registerMemory, type SyncOps, type ViewOf } from '@smp86/atomics-sync';
import { Worker } from 'node:worker_threads';
import { AioContext } from '../aio/aio-context.ts';
import { MainLoop } from '../aio/main-loop.ts';
import { workerEnvironment } from '../machine/compile-cache.ts';
import { CLOCK, CLOCK_COUNT, CLOCK_NAMES, type ClockType } from '../timer/clock-state.ts';
import { ClockSystem } from '../timer/clock.ts';
import type { SharedTimer } from '../timer/timer.ts';
import { BUCKETS, Histogram } from './histogram.ts';
import { Inspector } from './inspect.ts';
import {
  AWAITED_PER_ARMER,
  BOTTOM_HALVES,
  MAX_VIOLATIONS,
  PHASE,
  type Plan,
  planRound,
  StressState,
  ThreadState,
  type ThreadView,
  TICKETS_PER_ARMER,
  TICKETS_PER_PRODUCER,
  TicketState,
  type TicketView,
  ViolationState,
} from './layout.ts';
import { cpusFor, type Placement } from './placement.ts';
import { mixSeed } from './random.ts';
import type { StressScenario } from './scenarios.ts';
import { STEADY_CLOCKS, type RoleName, type ThreadData } from './stage.ts';
import type { Tempo } from './tempo.ts';
import { CALLBACK, type CheckName, CHECK_NAMES, OPERATION_NAMES, type OperationName } from './vocabulary.ts';

export interface RoundOptions {
  readonly scenario: StressScenario;
  /** What `--threads` says. */
  readonly threads: number;
  readonly seconds: number;
  readonly seed: number;
  readonly tempo: Tempo;
  readonly placement: Placement;
  readonly cpus: readonly number[];
  /** An operation that takes longer, in seconds, is a hang. */
  readonly hang: number;
  readonly fault?: string;
  /** Called a few times a second. */
  readonly tick?: (progress: RoundProgress) => void;
}

export interface RoundProgress {
  readonly callbacks: number;
}

export interface Violation {
  /** A check, or `hang`. */
  readonly check: CheckName | 'hang';
  readonly thread: string;
  readonly message: string;
}

export interface RoundResult {
  readonly threads: number;
  /** From the start of the threads' work to its end. */
  readonly seconds: number;
  readonly operations: ReadonlyMap<OperationName, Histogram>;
  readonly checks: ReadonlyMap<CheckName, number>;
  readonly violations: readonly Violation[];
  /** State of everything at the first violation. */
  readonly dump: string | undefined;
}

/** How often the host looks, ms. */
const LOOK = 200;
/** How long threads may take to start, s. */
const START_LIMIT = 60;
const LOOPS: readonly RoleName[] = ['main-loop', 'context'];
const PAGE = 65536;

interface Member {
  readonly role: RoleName;
  readonly index: number;
  readonly name: string;
}

/** Plays one round to its end. It does not throw for what the threads do wrong. */
export async function runRound(options: RoundOptions): Promise<RoundResult> {
  return await new Round(options).run();
}

class Round {
  readonly #options: RoundOptions;
  readonly #plan: Plan;
  readonly #memory: WebAssembly.Memory;
  readonly #buffer: SharedArrayBuffer;
  readonly #ops: SyncOps;
  readonly #clocks: ClockSystem;
  readonly #state: ViewOf<typeof StressState>;
  readonly #members: readonly Member[];
  readonly #workers = new Set<Worker>();
  readonly #inspector: Inspector;
  readonly #contexts: AioContext[] = [];
  readonly #timers: SharedTimer[] = [];
  readonly #hostViolations: Violation[] = [];
  /** Checks that the host made. */
  readonly #held = new Map<CheckName, number>();
  #mainLoop: MainLoop | undefined;
  #dump: string | undefined;
  #starts = 0;

  constructor(options: RoundOptions) {
    this.#options = options;
    const plan = (this.#plan = planRound(options.scenario.cast(options.threads)));
    const pages = Math.ceil(plan.bytes / PAGE);
    this.#memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.#ops = registerMemory(this.#memory);
    this.#buffer = this.#memory.buffer as unknown as SharedArrayBuffer;
    this.#state = StressState.at(this.#buffer, plan.state);
    this.#state.go.init(false);
    this.#clocks = ClockSystem.init(this.#buffer, plan.clocks, plan.limits);
    this.#clocks.enableTicks();
    this.#clocks.clockEnable(CLOCK.VIRTUAL, true);
    this.#members = membersOf(plan);
    this.#inspector = new Inspector({
      buffer: this.#buffer,
      ops: this.#ops,
      plan,
      clocks: this.#clocks,
      names: this.#members.map((m) => m.name),
    });
    this.#furnish();
  }

  /** Loops, timers and bottom halves that are there from the beginning. */
  #furnish(): void {
    const plan = this.#plan;
    const loops = { maxBottomHalves: BOTTOM_HALVES };
    if (plan.cast.mainLoop) {
      this.#mainLoop = MainLoop.init(this.#clocks, plan.mainLoop, { bql: this.#state.bql, ...loops });
    }
    for (const at of plan.contexts) this.#contexts.push(AioContext.init(this.#clocks, at, loops));
    const homes = [...this.#contexts, ...(this.#mainLoop ? [this.#mainLoop.context] : [])];
    for (let i = 0; i < plan.cast.armers * TICKETS_PER_ARMER; i++) {
      const own = i % TICKETS_PER_ARMER;
      const home = homes[(own + Math.floor(i / TICKETS_PER_ARMER)) % homes.length];
      const awaited = own < AWAITED_PER_ARMER;
      // HOST may jump, and half of the others are to be on VIRTUAL
      const type = awaited ? STEADY_CLOCKS[own] : own % 2 === 0 ? CLOCK.VIRTUAL : (own >> 1) % CLOCK_COUNT;
      const timer = this.#clocks.createTimer({
        clock: type as ClockType,
        callback: CALLBACK.TIMER,
        arg: i,
        group: home.group.index,
      });
      this.#timers.push(timer);
      const ticket = this.#ticket(plan.timerTickets, i);
      ticket.index.store(timer.index);
      ticket.home = timer.list.index;
      ticket.awaited.store(awaited ? 1 : 0);
    }
    for (let i = 0; i < plan.cast.users; i++) {
      const ticket = this.#ticket(plan.userTickets, i);
      ticket.index.store(-1);
      ticket.awaited.store(1);
    }
    for (let i = 0; i < plan.cast.producers * TICKETS_PER_PRODUCER; i++) {
      const ticket = this.#ticket(plan.bottomHalfTickets, i);
      const producer = Math.floor(i / TICKETS_PER_PRODUCER);
      const own = i % TICKETS_PER_PRODUCER;
      // taking back is tested against an awaited one of the same context
      const home = (producer + (own < 2 || own === TICKETS_PER_PRODUCER - 1 ? 0 : own)) % homes.length;
      ticket.home = home;
      ticket.awaited.store(own === 0 ? 1 : 0);
      if (own === TICKETS_PER_PRODUCER - 1) continue;
      ticket.index.store(homes[home].createBottomHalf(CALLBACK.BOTTOM_HALF, i).index);
    }
  }

  #ticket(from: number, index: number): TicketView {
    return TicketState.at(this.#buffer, from + index * TicketState.size);
  }
  #thread(index: number): ThreadView {
    return ThreadState.at(this.#buffer, this.#plan.threads + index * ThreadState.size);
  }

  async run(): Promise<RoundResult> {
    const { seconds, hang } = this.#options;
    this.#members.forEach((_, i) => this.#start(i));
    let begin = this.#clocks.hostNow();
    let end = begin;
    const every = (phase: number, which: (m: Member) => boolean): boolean =>
      this.#members.every((m, i) => !which(m) || this.#thread(i).phase.load() >= phase);
    try {
      if (!(await this.#until(() => every(PHASE.READY, () => true), START_LIMIT, 'threads start')))
        return this.#result(0);
      begin = this.#clocks.hostNow();
      this.#state.go.set();
      await this.#until(() => this.#clocks.hostNow() - begin > seconds * 1e9, Infinity, '');
      this.#state.stop.store(1);
      end = this.#clocks.hostNow();
      const active = (m: Member): boolean => !LOOPS.includes(m.role);
      if (!(await this.#until(() => every(PHASE.DONE, active), hang * 2, 'threads come to their end'))) {
        return this.#result(end - begin);
      }
      if (!(await this.#settle())) return this.#result(end - begin);
      for (const context of this.#contexts) context.requestStop();
      this.#mainLoop?.requestStop();
      if (await this.#until(() => every(PHASE.DONE, () => true), hang, 'loops end')) this.#checkEnd();
      return this.#result(end - begin);
    } finally {
      await Promise.all([...this.#workers].map((worker) => worker.terminate()));
    }
  }

  #start(slot: number): void {
    const { role, index, name } = this.#members[slot];
    const { seed, tempo, placement, cpus, fault } = this.#options;
    const data: ThreadData = {
      memory: this.#memory,
      plan: this.#plan,
      tempo,
      slot,
      role,
      index,
      seed: mixSeed(seed, slot, this.#starts++),
      cpus: cpusFor(placement, slot, cpus),
      fault,
    };
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const url = new URL(`./worker.${extension}`, import.meta.url);
    const worker = new Worker(url, { workerData: data, name, env: workerEnvironment() });
    this.#workers.add(worker);
    worker.on('error', (error) => {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.#violation({ check: 'no-error', thread: name, message: `the thread ended with ${text}` });
    });
    worker.once('exit', () => {
      this.#workers.delete(worker);
      // an iothread that has lived often enough is replaced, as when an iothread object is deleted and added
      if (role === 'iothread' && this.#state.stop.load() === 0 && this.#hostViolations.length === 0) {
        this.#thread(slot).phase.store(PHASE.STARTING);
        this.#start(slot);
      }
    });
  }

  #violation(violation: Violation): void {
    this.#hostViolations.push(violation);
    this.#dump ??= this.#inspector.dump();
    this.#state.stop.store(1);
    this.#state.news.add(1);
    this.#state.news.notify();
  }

  /** Looks now and then until `condition` holds; false after a violation, a hang or `limit` seconds. */
  async #until(condition: () => boolean, limit: number, what: string): Promise<boolean> {
    const { news } = this.#state;
    const begin = this.#clocks.hostNow();
    for (;;) {
      const seen = news.load();
      if (this.#state.violations.load() > 0 || this.#hostViolations.length > 0) {
        this.#dump ??= this.#inspector.dump();
        return false;
      }
      if (condition()) return true;
      const elapsed = (this.#clocks.hostNow() - begin) / 1e9;
      if (elapsed > limit) {
        this.#violation({ check: 'hang', thread: 'host', message: `waited ${limit} s until ${what}` });
        return false;
      }
      const hangNs = this.#options.hang * 1e9;
      const stuck = [...this.#inspector.stuck(hangNs), ...this.#inspector.overdue(hangNs)];
      if (stuck.length > 0) {
        this.#violation({ check: 'hang', thread: 'watchdog', message: stuck.join('; ') });
        return false;
      }
      this.#options.tick?.(this.#progress());
      await keepAlive(news.waitAsync(seen, LOOK * 1e6));
    }
  }

  #progress(): RoundProgress {
    let callbacks = 0;
    const lists = this.#plan.maxGroups * CLOCK_COUNT;
    for (let list = 0; list < lists; list++) callbacks += this.#ops.load(this.#plan.ran + list * 4);
    return { callbacks };
  }

  /** The threads that arm have ended: every timer fires, every bottom half is called. */
  async #settle(): Promise<boolean> {
    const { hang } = this.#options;
    const plan = this.#plan;
    const bottomHalves = (): string[] => {
      const open: string[] = [];
      for (let i = 0; i < plan.cast.producers * TICKETS_PER_PRODUCER; i++) {
        const ticket = this.#ticket(plan.bottomHalfTickets, i);
        if (ticket.armed.load() !== ticket.seen.load()) open.push(`bottom half ticket ${i}`);
      }
      return open;
    };
    const { oneshotsScheduled, oneshotsCalled } = this.#state;
    const expected = (at: number, i: number): number =>
      this.#bottomHalvesOf(i) - this.#inspector.bottomHalvesInUse(at);
    const settled = (): boolean =>
      this.#inspector.busyLists().length === 0 &&
      bottomHalves().length === 0 &&
      oneshotsScheduled.load() === oneshotsCalled.load() &&
      plan.contexts.every((at, i) => expected(at, i) === 0);
    if (!(await this.#untilQuietly(settled, hang))) {
      const scheduled = `${oneshotsScheduled.load()} oneshots scheduled, ${oneshotsCalled.load()} called`;
      const lists = this.#inspector.busyLists();
      this.#violation({
        check: lists.length > 0 ? 'timer-fired' : bottomHalves().length > 0 ? 'bh-called' : 'oneshot-called',
        thread: 'host',
        message: `${hang} s after the last: ${[...lists, ...bottomHalves(), scheduled].join(', ')}`,
      });
      return false;
    }
    return true;
  }

  async #untilQuietly(condition: () => boolean, limit: number): Promise<boolean> {
    const begin = this.#clocks.hostNow();
    while (!condition()) {
      if (this.#clocks.hostNow() - begin > limit * 1e9 || this.#hostViolations.length > 0) return false;
      await keepAlive(this.#state.news.waitAsync(this.#state.news.load(), 20e6));
    }
    return true;
  }

  /** Number of bottom halves that context `home` was furnished with. */
  #bottomHalvesOf(home: number): number {
    const plan = this.#plan;
    let n = 0;
    for (let i = 0; i < plan.cast.producers * TICKETS_PER_PRODUCER; i++) {
      if (i % TICKETS_PER_PRODUCER === TICKETS_PER_PRODUCER - 1) continue;
      if (this.#ticket(plan.bottomHalfTickets, i).home === home) n++;
    }
    return n;
  }

  /** All threads have ended. */
  #checkEnd(): void {
    const { cast } = this.#plan;
    const state = this.#state;
    const fail = (check: CheckName, message: string): void =>
      this.#violation({ check, thread: 'host', message });
    for (let i = 0; i < cast.armers * TICKETS_PER_ARMER; i++) {
      const ticket = this.#ticket(this.#plan.timerTickets, i);
      if (ticket.armed.load() === ticket.seen.load()) continue;
      fail('timer-fired', `timer ${i}: armed ${ticket.armed.load()}, last call saw ${ticket.seen.load()}`);
    }
    for (let kind = 0; kind < cast.holders; kind++) {
      const posted = state.posted[kind].load();
      const handled = state.handled[kind].load();
      if (posted === handled) this.#held.set('request-arrived', (this.#held.get('request-arrived') ?? 0) + 1);
      else fail('request-arrived', `request ${kind}: posted ${posted}, handled ${handled}`);
    }
    const oneshots = state.oneshotsCalled.load();
    if (oneshots > 0) this.#held.set('oneshot-called', oneshots);
    const locks = this.#inspector.heldLocks();
    if (locks.length > 0) fail('nothing-left', `held at the end: ${locks.join(', ')}`);
    const groups = this.#inspector.groupsInUse();
    if (groups > 0) fail('nothing-left', `${groups} timer groups were not given back`);
    const leaked = this.#plan.limits.maxTimers - this.#timers.length - this.#inspector.freeTimers();
    if (leaked !== 0) fail('nothing-left', `${leaked} timers were not given back`);
    CLOCK_NAMES.forEach((name, type) => {
      if (!this.#clocks.isEnabled(type as ClockType)) fail('nothing-left', `${name} stays disabled`);
    });
    this.#held.set('nothing-left', 1);
    this.#held.set('no-error', this.#starts);
  }

  #result(ns: number): RoundResult {
    const operations = new Map<OperationName, Histogram>();
    const checks = new Map<CheckName, number>(this.#held);
    const violations = [...this.#hostViolations];
    this.#members.forEach((_, i) => {
      const thread = this.#thread(i);
      OPERATION_NAMES.forEach((name, number) => {
        let histogram = operations.get(name);
        if (histogram === undefined) operations.set(name, (histogram = new Histogram()));
        for (let b = 0; b < BUCKETS; b++) {
          const n = thread.buckets[number * BUCKETS + b];
          if (n > 0) histogram.addBucket(b, n);
        }
        histogram.max = Math.max(histogram.max, thread.longest[number]);
      });
      CHECK_NAMES.forEach((name, number) => {
        if (thread.checks[number] > 0) checks.set(name, (checks.get(name) ?? 0) + thread.checks[number]);
      });
    });
    for (let i = 0; i < Math.min(this.#state.violations.load(), MAX_VIOLATIONS); i++) {
      const v = ViolationState.at(this.#buffer, this.#plan.violations + i * ViolationState.size);
      const text = new Uint8Array(v.text.subarray(0, v.length.load()));
      violations.push({
        check: CHECK_NAMES[v.check],
        thread: this.#members[v.thread].name,
        message: Buffer.from(text).toString(),
      });
    }
    for (const [name, histogram] of operations) if (histogram.count === 0) operations.delete(name);
    return {
      threads: this.#members.length,
      seconds: ns / 1e9,
      operations,
      checks,
      violations,
      dump: this.#dump,
    };
  }
}

function membersOf({ cast }: Plan): Member[] {
  const counts: [RoleName, number][] = [
    ['main-loop', cast.mainLoop ? 1 : 0],
    ['context', cast.contexts],
    ['iothread', cast.iothreads],
    ['armer', cast.armers],
    ['toggler', cast.togglers],
    ['producer', cast.producers],
    ['user', cast.users],
    ['holder', cast.holders],
    ['reader', cast.readers],
    ['ticker', cast.tickers],
    ['stopper', cast.stoppers],
  ];
  return counts.flatMap(([role, count]) =>
    Array.from({ length: count }, (_, index) => ({
      role,
      index,
      name: count > 1 ? `${role} ${index}` : role,
    })),
  );
}
