/** What the threads of a round share, besides the clock system and the loops that they strain. */
import {
  array,
  atomicI32,
  atomicNs,
  bytes,
  Event,
  f64,
  i32,
  Mutex,
  padTo,
  placed,
  struct,
  u32,
  type ViewOf,
} from '@smp86/atomics-sync';
import { AioContext } from '../aio/aio-context.ts';
import { MainLoop, REQUEST_KINDS } from '../aio/main-loop.ts';
import { CLOCK_COUNT } from '../timer/clock-state.ts';
import { ClockSystem } from '../timer/clock.ts';
import { BUCKETS } from './histogram.ts';
import { CHECK_NAMES, OPERATION_NAMES } from './vocabulary.ts';

export const PHASE = { STARTING: 0, READY: 1, RUNNING: 2, DONE: 3 } as const;

export const StressState = struct({
  go: placed(Event),
  /** 1: threads other than loops come to their end. */
  stop: atomicI32,
  /** Changes when the host should look before its next turn. */
  news: atomicI32,
  violations: atomicI32,
  pad0: padTo(64),
  bql: placed(Mutex),
  pad1: padTo(64),
  /** By clock type: held by who switches the clock, so that on and off do not race. Order: these, ticks, BQL. */
  switches: array(placed(Mutex), CLOCK_COUNT),
  ticksOwner: placed(Mutex),
  pad2: padTo(64),
  /** By clock type: 1 from the return of a disabling call until the clock is about to be enabled. */
  disabled: array(atomicI32, CLOCK_COUNT),
  pad3: padTo(64),
  /** Last readings of VIRTUAL, VIRTUAL_RT, REALTIME and TSC. */
  readings: array(atomicNs, 4),
  /** Two plain words, equal whenever nobody holds the BQL. */
  bqlFirst: i32,
  bqlSecond: i32,
  pad4: padTo(64),
  /** By kind: argument last posted, argument last handled. One thread posts a kind. */
  posted: array(atomicI32, REQUEST_KINDS),
  handled: array(atomicI32, REQUEST_KINDS),
  oneshotsScheduled: atomicI32,
  oneshotsCalled: atomicI32,
  pad5: padTo(64),
});

/** One thread. Written by that thread, read by the watchdog. */
export const ThreadState = struct({
  phase: atomicI32,
  /** Node's number, which timer lists know their runner by. */
  threadId: atomicI32,
  /** Operation in progress, or -1, and when it began (REALTIME). */
  operation: atomicI32,
  /** Futex word that it sleeps on, or 0; the value it saw there; since when; for how long at most. */
  waitAddress: atomicI32,
  waitExpected: atomicI32,
  operationSince: atomicNs,
  waitSince: atomicNs,
  waitTimeout: atomicNs,
  pad: padTo(64),
  /** Counters that only this thread adds to. */
  checks: array(f64, CHECK_NAMES.length),
  longest: array(f64, OPERATION_NAMES.length),
  buckets: array(u32, OPERATION_NAMES.length * BUCKETS),
  pad1: padTo(64),
});
export type ThreadView = ViewOf<typeof ThreadState>;

/** A timer or a bottom half, and what became of it. */
export const TicketState = struct({
  /** Counted up before it is armed or scheduled; the callback copies it to `seen`. */
  armed: atomicI32,
  seen: atomicI32,
  calls: atomicI32,
  /** 1: its owner waits for each call, so the expiry is known to the callback. */
  awaited: atomicI32,
  expire: atomicNs,
  done: placed(Event),
  /** Timer's or bottom half's number. */
  index: atomicI32,
  /** Timer: its list. Bottom half: its context. */
  home: i32,
  /** Slot whose user it is; -1 for none. */
  slot: i32,
  pad: padTo(64),
});
export type TicketView = ViewOf<typeof TicketState>;

export const SLOT = { CLOSED: 0, OPEN: 1, CLOSING: 2 } as const;

/** A place in which an iothread makes, runs and destroys one context after another. */
export const SlotState = struct({
  lock: placed(Mutex),
  /** Lock: `lock`. */
  state: i32,
  users: i32,
  generation: i32,
  pad: padTo(64),
});
export type SlotView = ViewOf<typeof SlotState>;

const VIOLATION_TEXT = 480;
export const MAX_VIOLATIONS = 16;
export const ViolationState = struct({
  /** Bytes of text, stored last; 0 while it is being written. */
  length: atomicI32,
  thread: i32,
  check: i32,
  pad: padTo(16),
  text: bytes(VIOLATION_TEXT),
});

/** Numbers of what there is in a round. */
export interface Cast {
  readonly contexts: number;
  /** So many of the contexts have a disk. */
  readonly disks: number;
  readonly mainLoop: boolean;
  readonly armers: number;
  readonly togglers: number;
  readonly producers: number;
  readonly iothreads: number;
  readonly users: number;
  readonly holders: number;
  readonly readers: number;
  readonly tickers: number;
  readonly stoppers: number;
  /** How often at most a callback arms its own timer for the past, one call after the other. */
  readonly burst: number;
}

export const TICKETS_PER_ARMER = 12;
/** The first of an armer's timers are awaited, one for each loop at most. */
export const AWAITED_PER_ARMER = 3;
export const TICKETS_PER_PRODUCER = 8;
export const BOTTOM_HALVES = 512;
/** Bottom halves of the context in a slot. */
export const SLOT_BOTTOM_HALVES = 64;

/** Where everything lies. Sent to every thread. */
export interface Plan {
  readonly cast: Cast;
  readonly state: number;
  readonly threads: number;
  readonly maxThreads: number;
  readonly violations: number;
  /** Atomic words: callbacks that ran, by list. */
  readonly ran: number;
  readonly maxGroups: number;
  readonly timerTickets: number;
  readonly bottomHalfTickets: number;
  readonly userTickets: number;
  readonly slots: number;
  readonly clocks: number;
  readonly mainLoop: number;
  readonly contexts: readonly number[];
  /** Contexts of the slots. */
  readonly slotContexts: readonly number[];
  readonly limits: { readonly maxTimers: number; readonly maxLists: number };
  readonly bytes: number;
}

/** Lays a round out. */
export function planRound(cast: Cast): Plan {
  let end = 64; // address 0 means none
  const take = (size: number, count = 1): number => {
    const at = end;
    end += Math.ceil((size * count) / 64) * 64;
    return at;
  };
  const timers = cast.armers * TICKETS_PER_ARMER;
  const maxGroups = 1 + cast.contexts + cast.iothreads;
  const limits = {
    maxTimers: timers + cast.users + cast.iothreads + 2 * cast.disks + 8,
    maxLists: maxGroups * CLOCK_COUNT,
  };
  const loops = { maxBottomHalves: BOTTOM_HALVES };
  const maxThreads = threadsOf(cast);
  const plan = {
    cast,
    maxThreads,
    maxGroups,
    limits,
    state: take(StressState.size),
    threads: take(ThreadState.size, maxThreads),
    violations: take(ViolationState.size, MAX_VIOLATIONS),
    ran: take(4, maxGroups * CLOCK_COUNT),
    timerTickets: take(TicketState.size, timers),
    bottomHalfTickets: take(TicketState.size, cast.producers * TICKETS_PER_PRODUCER),
    userTickets: take(TicketState.size, cast.users),
    slots: take(SlotState.size, cast.iothreads),
    clocks: take(ClockSystem.layout(limits).size),
    mainLoop: take(MainLoop.size(loops)),
    contexts: Array.from({ length: cast.contexts }, () => take(AioContext.size(loops))),
    slotContexts: Array.from({ length: cast.iothreads }, () =>
      take(AioContext.size({ maxBottomHalves: SLOT_BOTTOM_HALVES })),
    ),
  };
  return { ...plan, bytes: end };
}

/** Number of threads that a round starts. */
export function threadsOf(cast: Cast): number {
  const { mainLoop, disks: _, ...counts } = cast;
  return Object.values(counts).reduce((sum, n) => sum + n, mainLoop ? 1 : 0);
}
