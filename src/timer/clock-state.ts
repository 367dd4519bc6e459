/** Layout of the clock system in shared memory. Who may write what, and in which order: docs/clocks.md. */
import {
  array,
  atomicI32,
  atomicNs,
  Event,
  i32,
  Mutex,
  ns,
  padTo,
  placed,
  SeqLock,
  struct,
  u32,
  type ViewOf,
} from '@smp86/atomics-sync';
import { NotifierState } from './notifier.ts';

/** Clock types. */
export const CLOCK = {
  /** Host monotonic time; never stops. */
  REALTIME: 0,
  /** Guest time: stops with the machine. Its timers start disabled. */
  VIRTUAL: 1,
  /** Host wall clock; may jump. */
  HOST: 2,
  /** Monotonic time while ticks are enabled, whatever drives VIRTUAL. */
  VIRTUAL_RT: 3,
} as const;
export type ClockType = (typeof CLOCK)[keyof typeof CLOCK];
export const CLOCK_COUNT = 4;
export const CLOCK_NAMES = ['REALTIME', 'VIRTUAL', 'HOST', 'VIRTUAL_RT'] as const;

/** What drives VIRTUAL. */
export const VIRTUAL_MODE = {
  /** VIRTUAL is VIRTUAL_RT. */
  HOST: 0,
  /** VIRTUAL is a number that changes only by `setVirtual` (tests). */
  MANUAL: 1,
  /** VIRTUAL is made of executed instructions; see icount.ts. */
  ICOUNT: 2,
} as const;
export type VirtualMode = (typeof VIRTUAL_MODE)[keyof typeof VIRTUAL_MODE];

/** Timer attributes (bits). */
export const ATTRIBUTE = {
  /** Does not change guest state: left out of deadlines that concern only the guest. */
  EXTERNAL: 1,
} as const;
/** Mask that lets every timer count. */
export const ALL_ATTRIBUTES = -1;

export const ClockState = struct({
  /** CLOCK_MAGIC once initialised. */
  magic: u32,
  maxTimers: u32,
  maxGroups: u32,
  /** First timer given back, -1 at the end. Lock: tableLock. */
  freeTimer: i32,
  /** Timers from this one on never existed, and their memory was never touched. Lock: tableLock; read without. */
  freshTimer: atomicI32,
  /** Host second that is time 0. Constant. */
  startSecond: ns,
  /** Wall-clock ms since 1970 that is HOST time 0; a whole second. Constant. */
  wallBaseMs: ns,
  /** HOST - REALTIME as last estimated. */
  hostOffset: atomicNs,
  /** Protects the timer free list and the group table. */
  tableLock: placed(Mutex),
  pad0: padTo(64),
  /** Excludes writers of the fields that `ticksSeq` covers. */
  ticksLock: placed(Mutex),
  ticksSeq: placed(SeqLock),
  ticksEnabled: atomicI32,
  virtualMode: atomicI32,
  /** VIRTUAL_RT, less host time while ticks are enabled. */
  ticksOffset: atomicNs,
  /** VIRTUAL in mode MANUAL. */
  manualVirtual: atomicNs,
  tscHz: atomicNs,
  /** TSC less scaled VIRTUAL. */
  tscOffset: atomicNs,
  /** Mode ICOUNT: instructions executed; ns to add to what they are worth; log2 of an instruction's ns. */
  icountInstructions: atomicNs,
  icountBias: atomicNs,
  icountShift: atomicI32,
  /** VIRTUAL_RT when the warp began; -1: none. */
  icountWarpStart: atomicNs,
  /** VIRTUAL less VIRTUAL_RT at the last adjustment. */
  icountLastDelta: atomicNs,
  pad1: padTo(64),
  /** Per clock type: 1 when its timers may run. */
  enabled: array(atomicI32, CLOCK_COUNT),
  pad2: padTo(64),
});
export type ClockStateView = ViewOf<typeof ClockState>;
export const CLOCK_MAGIC = 0x6b6c6331;

/** One list: the timers of one clock in one group. */
export const TimerListState = struct({
  /** Protects the heap, `count`, `nextSeq` and the timers that are in the list. */
  lock: placed(Mutex),
  /** Not set while a pass over the list may be running callbacks. */
  done: placed(Event),
  /** Earliest expiry; Infinity when empty. Written under the lock, read without. */
  head: atomicNs,
  /** Number given to the next insertion: equal expiries fire in this order. Lock: the list's. */
  nextSeq: i32,
  count: i32,
  /** Thread id + 1 of the thread in a pass, else 0. */
  runner: atomicI32,
  /** Timer whose callback runs, else -1. Written by the runner. */
  current: atomicI32,
  pad: padTo(64),
});
export type TimerListStateView = ViewOf<typeof TimerListState>;

/** One thread's four lists and the way to wake it. */
export const TimerGroupState = struct({
  used: atomicI32,
  notifier: NotifierState,
  pad: padTo(64),
  lists: array(TimerListState, CLOCK_COUNT),
});
export type TimerGroupStateView = ViewOf<typeof TimerGroupState>;

/*
 * What changes when a timer is armed is in two tables of its own, so that what many timers need when they move is close
 * together: its expiry in ns, a float64, -1 when not pending, written under its list's lock and read without; and
 * its place in the list's heap + 1, an int32, 0 when not pending, under the lock.
 */
export const EXPIRY_SIZE = 8;
export const PLACE_SIZE = 4;

/** One timer; constant from creation to release. */
export const TimerState = struct({
  /** ns per unit of the arguments of `mod` and its like. */
  scale: ns,
  callback: i32,
  arg: i32,
  /** Index of the list: group * 4 + clock type. -1: free. */
  list: i32,
  /** Bits of ATTRIBUTE. */
  attributes: i32,
  nextFree: i32,
  pad: padTo(64),
});
export type TimerStateView = ViewOf<typeof TimerState>;

/**
 * An entry of a list's heap. Keys are in the heap, so that comparing does not touch the timers, which lie apart. Four
 * fill a cache line, and the heap begins 16 bytes before one: so the children of an entry are in one line.
 * Lock: the list's.
 */
export const HeapEntry = struct({
  expire: ns,
  timer: i32,
  /** Number of the insertion. */
  seq: i32,
});
const LINE = 64;

/** Capacities of a clock system. */
export interface ClockLimits {
  readonly maxTimers: number;
  /** Four lists to a group. */
  readonly maxLists: number;
}
/** 4 million: 304 MB, and 64 MB for each list. */
const MOST_TIMERS = 2 ** 22;
export const DEFAULT_LIMITS: ClockLimits = { maxTimers: 512, maxLists: 128 };

/** Byte offsets, from the start of the clock system's area, of its tables. */
export interface ClockLayout {
  readonly maxTimers: number;
  readonly maxGroups: number;
  readonly groups: number;
  readonly timers: number;
  /** Of each timer: expiry; place. */
  readonly expiries: number;
  readonly places: number;
  /** A heap for each list: `maxTimers` of HeapEntry, `heapSize` bytes from one to the next. */
  readonly heaps: number;
  readonly heapSize: number;
  readonly size: number;
}

/** Computes the layout for `limits`. Throws RangeError when they are out of range. */
export function clockLayout(limits: ClockLimits): ClockLayout {
  const { maxTimers, maxLists } = limits;
  if (!Number.isInteger(maxTimers) || maxTimers < 1 || maxTimers > MOST_TIMERS) {
    throw new RangeError(`maxTimers ${maxTimers} is not in 1..${MOST_TIMERS}`);
  }
  if (!Number.isInteger(maxLists) || maxLists < CLOCK_COUNT || maxLists > 4096) {
    throw new RangeError(`maxLists ${maxLists} is not in ${CLOCK_COUNT}..4096`);
  }
  const maxGroups = Math.ceil(maxLists / CLOCK_COUNT);
  const groups = ClockState.size;
  const timers = groups + maxGroups * TimerGroupState.size;
  const expiries = timers + maxTimers * TimerState.size;
  const lines = (bytes: number): number => Math.ceil(bytes / LINE) * LINE;
  const places = expiries + lines(maxTimers * EXPIRY_SIZE);
  const heaps = lines(places + maxTimers * PLACE_SIZE) + LINE - HeapEntry.size;
  const heapSize = lines(maxTimers * HeapEntry.size);
  const size = lines(heaps + maxGroups * CLOCK_COUNT * heapSize);
  return { maxTimers, maxGroups, groups, timers, expiries, places, heaps, heapSize, size };
}

/** Bytes of a clock system with default limits. Place it at a multiple of 64. */
export const TIMER_AREA_SIZE = clockLayout(DEFAULT_LIMITS).size;
