/**
 * I/O limits: QEMU's leaky buckets. Each request adds its bytes and its one operation to buckets that leak at the rate
 * of the limit; a request waits while a bucket it would add to is fuller than it may be. (QEMU: docs/throttle.txt.)
 */
import { array, f64, i32, Mutex, padTo, placed, struct, u32, type ViewOf } from '@smp86/atomics-sync';
import { BlockError } from './errors.ts';

const KINDS = ['bps-total', 'bps-read', 'bps-write', 'iops-total', 'iops-read', 'iops-write'] as const;
type Kind = (typeof KINDS)[number];
const NS_PER_S = 1e9;
/** Without a burst rate a bucket holds what leaks in this part of a second. */
const DEFAULT_BURST = 0.1;
const LARGEST = 1e15;

/** `-drive throttling.*`: `bps-total`, `iops-read-max`, `bps-write-max-length`, `iops-size` …; 0 or absent: no limit. */
export type ThrottleLimits = Readonly<Record<string, number>>;

/** Most iothreads that share a group. */
export const MAX_HOMES = 32;

/**
 * What the iothreads of a group share. All of it is under `lock`, below which a timer list's lock is taken.
 *
 * *Who waits goes on*: while `waiting` of a direction is not 0, `turn` is one of its iothreads, whose timer is pending or
 * its callback about to look. It is so when the first request waits; who lets a request go, or drains its queue, hands
 * the turn on and arms the timer of who has it then, whatever thread that lives in. VIRTUAL runs or stops for all of them.
 */
export const ThrottleGroupState = struct({
  lock: placed(Mutex),
  /** When the buckets last leaked; VIRTUAL, ns. */
  leakedAt: f64,
  levels: array(f64, KINDS.length),
  burstLevels: array(f64, KINDS.length),
  /** By direction: a bit for each iothread with requests that wait. */
  waiting: array(u32, 2),
  /** By direction: the iothread whose turn it is. */
  turn: array(i32, 2),
  /** Numbers of timers: by iothread, then direction. */
  timers: array(i32, 2 * MAX_HOMES),
  pad: padTo(64),
});
type GroupView = ViewOf<typeof ThrottleGroupState>;

/** One limit; its levels are in the group's state. */
interface Bucket {
  readonly kind: Kind;
  /** Place of its levels. */
  readonly index: number;
  /** Per second. */
  readonly average: number;
  /** Burst rate, per second; 0: none. */
  readonly max: number;
  /** Seconds of a burst. */
  readonly burstLength: number;
}

/** A timer on VIRTUAL that any thread may arm, by its number. */
export interface NumberedTimer {
  readonly index: number;
  /** Ns. */
  mod(expire: number): void;
  del(): void;
}

/** Clock and timers of an iothread. */
export interface ThrottleClock {
  /** VIRTUAL, ns. */
  now(): number;
  createTimer(callback: () => void, name: string): NumberedTimer;
  /** Another iothread's. */
  timer(index: number): NumberedTimer;
}

function bad(message: string): BlockError {
  return new BlockError('EINVAL', message);
}

/** Throws EINVAL, with QEMU's texts, for limits that make no sense. */
export function checkThrottleLimits(limits: ThrottleLimits): void {
  const get = (key: string) => limits[key] ?? 0;
  for (const unit of ['bps', 'iops']) {
    const both = (suffix: string) =>
      get(`${unit}-total${suffix}`) > 0 &&
      (get(`${unit}-read${suffix}`) > 0 || get(`${unit}-write${suffix}`) > 0);
    if (both('') || both('-max')) {
      throw bad('bps/iops/max total values and read/write values cannot be used at the same time');
    }
  }
  if (get('iops-size') > 0 && !KINDS.some((kind) => kind.startsWith('iops') && get(kind) > 0)) {
    throw bad('iops size requires an iops value to be set');
  }
  for (const kind of KINDS) {
    const average = get(kind);
    const max = get(`${kind}-max`);
    const length = limits[`${kind}-max-length`] ?? 1;
    if (average > LARGEST || max > LARGEST || average < 0 || max < 0) {
      throw bad(`bps/iops/max values must be within [0, ${LARGEST}]`);
    }
    if (length === 0) throw bad('the burst length cannot be 0');
    if (length > 1 && max === 0) throw bad('burst length set without burst rate');
    if (max > 0 && max * length > LARGEST) throw bad('burst length too high for this burst rate');
    if (max > 0 && average === 0) throw bad('bps_max/iops_max require corresponding bps/iops values');
    if (max > 0 && max < average) throw bad('bps_max/iops_max cannot be lower than bps/iops');
  }
}

/** A request that waits. */
interface Waiting {
  readonly bytes: number;
  go(): void;
}

/** What a backend of the group does. */
export interface Throttle {
  /** Undefined: the request may go at once, and is counted. Else it may when that resolves. */
  wait(isWrite: boolean, bytes: number): Promise<void> | undefined;
  /** Nothing waits from here on, and what waits goes (before a drain). Pair with `resume`. */
  suspend(): void;
  resume(): void;
  /** It is closed. Suspended; no request of it is under way. */
  leave(): void;
}

/** The drives of one iothread that share limits, perhaps with those of others. *Thread:* the iothread's. */
export class ThrottleGroup {
  readonly #state: GroupView;
  /** Number of this iothread. */
  readonly #home: number;
  readonly #clock: ThrottleClock;
  readonly #buckets: readonly Bucket[];
  readonly #opSize: number;
  readonly #members: Member[] = [];
  /** Whose turn it is among the members. */
  readonly #next: [number, number] = [0, 0];

  /** `state`: in zeroed memory at first. Throws EINVAL. */
  constructor(limits: ThrottleLimits, state: GroupView, home: number, clock: ThrottleClock) {
    checkThrottleLimits(limits);
    this.#state = state;
    this.#home = home;
    this.#clock = clock;
    this.#buckets = KINDS.map((kind, index) => ({
      kind,
      index,
      average: limits[kind] ?? 0,
      max: limits[`${kind}-max`] ?? 0,
      burstLength: limits[`${kind}-max-length`] ?? 1,
    })).filter(({ average }) => average > 0);
    this.#opSize = limits['iops-size'] ?? 0;
    for (const direction of [0, 1] as const) {
      const name = `throttle-${direction === 0 ? 'read' : 'write'}`;
      state.timers[2 * home + direction] = clock.createTimer(() => this.#onTimer(direction), name).index;
    }
  }

  /** One more drive of the group. */
  join(): Throttle {
    const member = new Member(this);
    this.#members.push(member);
    return member;
  }

  /** One less; none of its requests waits. */
  leave(member: Member): void {
    this.#members.splice(this.#members.indexOf(member), 1);
  }

  /** Counts a request that goes now; or says that it has to wait, in its member's queue. */
  admit(direction: 0 | 1, bytes: number): boolean {
    const state = this.#state;
    state.lock.lock();
    try {
      if (state.waiting[direction] === 0) {
        const wait = this.#waitNs(direction);
        if (wait <= 0) {
          this.#count(direction, bytes);
          return true;
        }
        state.turn[direction] = this.#home;
        this.#arm(direction, this.#home, wait);
      }
      // whoever waits already comes first
      state.waiting[direction] |= 1 << this.#home;
      return false;
    } finally {
      state.lock.unlock();
    }
  }

  /** Adds a request that nothing holds up to the buckets. */
  count(direction: 0 | 1, bytes: number): void {
    this.#state.lock.lock();
    this.#count(direction, bytes);
    this.#state.lock.unlock();
  }

  /** A member's queue was emptied. */
  drained(direction: 0 | 1): void {
    this.#state.lock.lock();
    this.#passTurn(direction);
    this.#state.lock.unlock();
  }

  #arm(direction: 0 | 1, home: number, wait: number): void {
    this.#clock.timer(this.#state.timers[2 * home + direction]).mod(this.#clock.now() + wait);
  }

  /** Whether a member has a request that waits. */
  #queued(direction: 0 | 1): boolean {
    return this.#members.some(({ queues }) => queues[direction].length > 0);
  }

  /** Says whether requests wait here; if it is this iothread's turn, it is the next one's that waits. Lock held. */
  #passTurn(direction: 0 | 1): void {
    const state = this.#state;
    const bit = 1 << this.#home;
    if (this.#queued(direction)) state.waiting[direction] |= bit;
    else state.waiting[direction] &= ~bit;
    const waiting = state.waiting[direction];
    if (waiting === 0 || state.turn[direction] !== this.#home) return;
    let next = this.#home;
    do next = (next + 1) % MAX_HOMES;
    while ((waiting & (1 << next)) === 0);
    state.turn[direction] = next;
    this.#arm(direction, next, this.#waitNs(direction));
  }

  #count(direction: 0 | 1, bytes: number): void {
    this.#leak();
    const { levels, burstLevels } = this.#state;
    const operations = this.#opSize > 0 && bytes > this.#opSize ? bytes / this.#opSize : 1;
    for (const { kind, index, burstLength } of this.#buckets) {
      if (!concerns(kind, direction)) continue;
      const amount = kind.startsWith('bps') ? bytes : operations;
      levels[index] += amount;
      if (burstLength > 1) burstLevels[index] += amount;
    }
  }

  #leak(): void {
    const state = this.#state;
    const now = this.#clock.now();
    const seconds = (now - state.leakedAt) / NS_PER_S;
    if (seconds <= 0) return;
    state.leakedAt = now;
    for (const { index, average, max } of this.#buckets) {
      state.levels[index] = Math.max(0, state.levels[index] - average * seconds);
      state.burstLevels[index] = Math.max(0, state.burstLevels[index] - max * seconds);
    }
  }

  #waitNs(direction: 0 | 1): number {
    this.#leak();
    const { levels, burstLevels } = this.#state;
    let wait = 0;
    for (const bucket of this.#buckets) {
      const { kind, index } = bucket;
      if (concerns(kind, direction))
        wait = Math.max(wait, bucketWait(bucket, levels[index], burstLevels[index]));
    }
    return Math.ceil(wait * NS_PER_S);
  }

  #onTimer(direction: 0 | 1): void {
    const waiting = this.#letOneGo(direction);
    waiting?.go();
  }

  /** If it is this iothread's turn and the buckets allow it: the next member's first request. */
  #letOneGo(direction: 0 | 1): Waiting | undefined {
    const state = this.#state;
    state.lock.lock();
    try {
      if (state.turn[direction] !== this.#home || !this.#queued(direction)) return undefined;
      const wait = this.#waitNs(direction);
      if (wait > 0) {
        this.#arm(direction, this.#home, wait);
        return undefined;
      }
      const members = this.#members;
      let turn = this.#next[direction] % members.length;
      while (members[turn].queues[direction].length === 0) turn = (turn + 1) % members.length;
      this.#next[direction] = turn + 1;
      const waiting = members[turn].queues[direction].shift();
      if (waiting !== undefined) this.#count(direction, waiting.bytes);
      this.#passTurn(direction);
      return waiting;
    } finally {
      state.lock.unlock();
    }
  }
}

function concerns(kind: Kind, direction: 0 | 1): boolean {
  return kind.endsWith('total') || kind.endsWith(direction === 1 ? 'write' : 'read');
}

/** Seconds until the bucket is no fuller than it may be. */
function bucketWait({ average, max, burstLength }: Bucket, level: number, burstLevel: number): number {
  const size = max === 0 ? average * DEFAULT_BURST : max * burstLength;
  if (level > size) return (level - size) / average;
  if (burstLength > 1) {
    const burstSize = max * DEFAULT_BURST;
    if (burstLevel > burstSize) return (burstLevel - burstSize) / max;
  }
  return 0;
}

/** One drive of a group. */
class Member implements Throttle {
  readonly queues: readonly [Waiting[], Waiting[]] = [[], []];
  readonly #group: ThrottleGroup;
  #suspended = 0;

  constructor(group: ThrottleGroup) {
    this.#group = group;
  }

  wait(isWrite: boolean, bytes: number): Promise<void> | undefined {
    const direction = isWrite ? 1 : 0;
    if (this.#suspended > 0) {
      this.#group.count(direction, bytes);
      return undefined;
    }
    if (this.#group.admit(direction, bytes)) return undefined;
    return new Promise((go) => this.queues[direction].push({ bytes, go }));
  }

  suspend(): void {
    this.#suspended++;
    for (const direction of [0, 1] as const) {
      const all = this.queues[direction].splice(0);
      if (all.length === 0) continue;
      for (const { bytes } of all) this.#group.count(direction, bytes);
      this.#group.drained(direction);
      for (const { go } of all) go();
    }
  }
  resume(): void {
    this.#suspended--;
  }
  leave(): void {
    this.#group.leave(this);
  }
}
