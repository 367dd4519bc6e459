/**
 * I/O limits: QEMU's leaky buckets. Each request adds its bytes and its one operation to buckets that leak at the rate
 * of the limit; a request waits while a bucket it would add to is fuller than it may be. (QEMU: docs/throttle.txt.)
 */
import { BlockError } from './errors.ts';
import type { BlockContext, ContextTimer } from './node.ts';

const KINDS = ['bps-total', 'bps-read', 'bps-write', 'iops-total', 'iops-read', 'iops-write'] as const;
type Kind = (typeof KINDS)[number];
const NS_PER_S = 1e9;
/** Without a burst rate a bucket holds what leaks in this part of a second. */
const DEFAULT_BURST = 0.1;
const LARGEST = 1e15;

/** `-drive throttling.*`: `bps-total`, `iops-read-max`, `bps-write-max-length`, `iops-size` …; 0 or absent: no limit. */
export type ThrottleLimits = Readonly<Record<string, number>>;

interface Bucket {
  /** Per second. */
  readonly average: number;
  /** Burst rate, per second; 0: none. */
  readonly max: number;
  /** Seconds of a burst. */
  readonly burstLength: number;
  level: number;
  burstLevel: number;
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
}

/** Drives that share limits. All of them live in one context. *Thread:* the context's. */
export class ThrottleGroup {
  readonly #buckets = new Map<Kind, Bucket>();
  #opSize = 0;
  /** One for reads, one for writes. */
  readonly #timers: readonly [ContextTimer, ContextTimer];
  readonly #members: Member[] = [];
  /** Whose turn it is. */
  readonly #next: [number, number] = [0, 0];
  #leakedAt: number;

  /** `createTimer`: of the context, on VIRTUAL. Throws EINVAL. */
  constructor(limits: ThrottleLimits, createTimer: NonNullable<BlockContext['createTimer']>) {
    this.configure(limits);
    this.#timers = [
      createTimer(() => this.#onTimer(0), 'throttle-read', false),
      createTimer(() => this.#onTimer(1), 'throttle-write', false),
    ];
    this.#leakedAt = this.#timers[0].now();
  }

  /** Other limits; the buckets are empty then. Throws EINVAL. */
  configure(limits: ThrottleLimits): void {
    checkThrottleLimits(limits);
    this.#buckets.clear();
    for (const kind of KINDS) {
      const average = limits[kind] ?? 0;
      if (average === 0) continue;
      this.#buckets.set(kind, {
        average,
        max: limits[`${kind}-max`] ?? 0,
        burstLength: limits[`${kind}-max-length`] ?? 1,
        level: 0,
        burstLevel: 0,
      });
    }
    this.#opSize = limits['iops-size'] ?? 0;
  }

  /** One more drive of the group. */
  join(): Throttle {
    const member = new Member(this);
    this.#members.push(member);
    return member;
  }

  leave(member: Throttle): void {
    const index = this.#members.findIndex((each) => each === member);
    if (index >= 0) this.#members.splice(index, 1);
  }

  /** The limits do not wait for who will never run again. */
  close(): void {
    for (const timer of this.#timers) timer.del();
  }

  /** Counts a request that goes now; or says that it has to wait. */
  admit(direction: 0 | 1, bytes: number, queued: boolean): boolean {
    if (!queued && this.#members.some((member) => member.queues[direction].length > 0)) return false;
    const wait = this.#waitNs(direction);
    if (wait > 0) {
      if (!this.#timers[direction].pending) this.#timers[direction].mod(this.#timers[direction].now() + wait);
      return false;
    }
    this.count(direction, bytes);
    return true;
  }

  /** Adds a request to the buckets. */
  count(direction: 0 | 1, bytes: number): void {
    this.#leak();
    const operations = this.#opSize > 0 && bytes > this.#opSize ? bytes / this.#opSize : 1;
    for (const [kind, bucket] of this.#buckets) {
      if (!concerns(kind, direction)) continue;
      const amount = kind.startsWith('bps') ? bytes : operations;
      bucket.level += amount;
      if (bucket.burstLength > 1) bucket.burstLevel += amount;
    }
  }

  #leak(): void {
    const now = this.#timers[0].now();
    const seconds = (now - this.#leakedAt) / NS_PER_S;
    if (seconds <= 0) return;
    this.#leakedAt = now;
    for (const bucket of this.#buckets.values()) {
      bucket.level = Math.max(0, bucket.level - bucket.average * seconds);
      bucket.burstLevel = Math.max(0, bucket.burstLevel - bucket.max * seconds);
    }
  }

  #waitNs(direction: 0 | 1): number {
    this.#leak();
    let wait = 0;
    for (const [kind, bucket] of this.#buckets) {
      if (concerns(kind, direction)) wait = Math.max(wait, bucketWait(bucket));
    }
    return wait * NS_PER_S;
  }

  #onTimer(direction: 0 | 1): void {
    const members = this.#members;
    for (;;) {
      // in turn, one request each
      const turn = this.#next[direction];
      const step = members.findIndex(
        (_, i) => members[(turn + i) % members.length].queues[direction].length > 0,
      );
      if (step < 0) return;
      const { queues } = members[(turn + step) % members.length];
      const [waiting] = queues[direction];
      if (!this.admit(direction, waiting.bytes, true)) return;
      this.#next[direction] = (turn + step + 1) % members.length;
      queues[direction].shift();
      waiting.go();
    }
  }
}

function concerns(kind: Kind, direction: 0 | 1): boolean {
  return kind.endsWith('total') || kind.endsWith(direction === 1 ? 'write' : 'read');
}

/** Seconds until the bucket is no fuller than it may be. */
function bucketWait({ average, max, burstLength, level, burstLevel }: Bucket): number {
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
    if (this.#group.admit(direction, bytes, false)) return undefined;
    return new Promise((go) => this.queues[direction].push({ bytes, go }));
  }

  suspend(): void {
    this.#suspended++;
    for (const direction of [0, 1] as const) {
      for (const { bytes, go } of this.queues[direction].splice(0)) {
        this.#group.count(direction, bytes);
        go();
      }
    }
  }
  resume(): void {
    this.#suspended--;
  }
}
