/** Names of what is measured and of what is checked; their numbers index tables in shared memory. */

export const OPERATION_NAMES = [
  'clock disable',
  'clock enable',
  'timer mod',
  'timer modAnticipate',
  'timer del',
  'timer create',
  'timer release',
  'timer lateness',
  'bh create',
  'bh schedule',
  'bh oneshot',
  'bh cancel',
  'bh delete',
  'bh schedule to call',
  'context create',
  'context destroy',
  'bql lock',
  'request post',
  'ticks disable',
  'ticks enable',
  'clock read',
  'machine stop',
  'machine cont',
] as const;
export type OperationName = (typeof OPERATION_NAMES)[number];

const numbers = <T extends string>(names: readonly T[]): Readonly<Record<T, number>> =>
  Object.fromEntries(names.map((name, i) => [name, i])) as Record<T, number>;

export const OPERATION = numbers(OPERATION_NAMES);

/** Invariants, as reports call them, and what is counted for each. */
export const CHECKS = {
  /** Callbacks that found their clock enabled, at their begin and end. */
  'virtual-callback': 'VIRTUAL callbacks: their clock was not disabled',
  'disabled-callback': 'callbacks of other clocks: their clock was not disabled',
  /** Windows between a disabling call's return and the enabling one. */
  'disabled-window': 'windows of a disabled clock: no callback ran',
  'misuse-refused': 'callbacks that disabled their own clock: refused',
  'timer-fired': 'armed timers: fired',
  'timer-early': 'awaited timers: not early',
  'bh-called': 'scheduled bottom halves: called',
  'bh-cancelled': 'cancelled or deleted bottom halves: not called afterwards',
  'oneshot-called': 'oneshot bottom halves: called once each',
  'time-monotonic': 'readings: not before another',
  'time-stopped': 'stops: time stood still',
  'bql-excludes': 'sections under the BQL: alone',
  'cache-cleaned': 'cleanings of a metadata cache: nothing left but what was used since the last one',
  'disk-content': 'reads of a disk: what was written',
  'request-arrived': 'last requests of a kind: arrived',
  'nothing-left': 'ends of a round: locks free, timers, bottom halves and groups given back',
  'guest-quiet': 'guests: no lockup, stall or unstable clock source',
  'guest-time': 'guests: their clocks kept to VIRTUAL',
  'no-error': 'threads: ended without an error',
} as const;
export type CheckName = keyof typeof CHECKS;
export const CHECK_NAMES = Object.keys(CHECKS) as CheckName[];
export const CHECK = numbers(CHECK_NAMES);

/** Callback numbers that every loop's thread registers. */
export const CALLBACK = { TIMER: 1, BOTTOM_HALF: 2, ONESHOT: 3, RELEASE: 4, RETIRE: 5 } as const;
