/**
 * A timer list: the timers of one clock that one thread runs, in shared memory. Any thread arms and
 * disarms; only the owner runs. The order is (expiry, insertion): equal expiries fire first in, first out.
 *
 * The list is a heap, so that arming costs O(log n) whatever its length; the earliest expiry is also kept in a word of
 * its own, read without the lock.
 */
import { viewsOf, type Event, type Mutex } from '@smp86/atomics-sync';
import { threadId } from 'node:worker_threads';
import type { CallbackRegistry } from './callback-registry.ts';
import {
  CLOCK,
  CLOCK_NAMES,
  type ClockLayout,
  type ClockType,
  HeapEntry,
  TimerListState,
  type TimerListStateView,
  TimerState,
} from './clock-state.ts';
import { ClockError } from './errors.ts';
import type { Icount } from './icount.ts';
import type { Notifier } from './notifier.ts';

/** Identifies a thread in shared memory; 0 is none. */
const SELF = threadId + 1;

/** Longest expiry: pending, but never due. */
const LATEST = 2 ** 63;
/** Last number of an insertion: after it those that are pending are numbered afresh. */
const LAST_SEQ = 2 ** 31 - 1;

/** What a list needs of its clock. */
export interface ListClock {
  now(type: ClockType): number;
  isEnabled(type: ClockType): boolean;
  /** True when the clock's value does not grow by itself at present. */
  standsStill(type: ClockType): boolean;
  readonly callbacks: CallbackRegistry;
  /** Absent: VIRTUAL is not made of instructions. */
  readonly icount?: Icount | undefined;
}

const CALLBACK = TimerState.offsetOf('callback') >>> 2;
const ARG = TimerState.offsetOf('arg') >>> 2;
const ATTRIBUTES = TimerState.offsetOf('attributes') >>> 2;
/** A HeapEntry as float64, the expiry first, and as i32. */
const ENTRY_F64 = HeapEntry.size >>> 3;
const ENTRY_I32 = HeapEntry.size >>> 2;
const SEQ = HeapEntry.offsetOf('seq') >>> 2;
const TIMER = HeapEntry.offsetOf('timer') >>> 2;
const WORDS = TimerState.size >>> 2;

/** A thread's view of one list. */
export class TimerList {
  readonly type: ClockType;
  /** group * 4 + clock type. */
  readonly index: number;
  readonly #state: TimerListStateView;
  readonly #lock: Mutex;
  readonly #done: Event;
  readonly #clock: ListClock;
  readonly #notifier: Notifier;
  readonly #i32: Int32Array<SharedArrayBuffer>;
  /** A heap in which each entry has four children: half as deep as one of two, and they lie side by side. */
  readonly #heap: Heap;
  /** Expiry of each timer. */
  readonly #expiries: Float64Array<SharedArrayBuffer>;
  /** Index of timer 0's first word in the view. */
  readonly #word: number;
  /** Where `count` and `nextSeq` are: struct fields cost more than all the rest of arming. */
  readonly #count: number;
  readonly #nextSeq: number;

  constructor(
    buffer: SharedArrayBuffer,
    base: number,
    layout: ClockLayout,
    index: number,
    state: TimerListStateView,
    clock: ListClock,
    notifier: Notifier,
  ) {
    const views = viewsOf(buffer);
    this.type = (index & 3) as ClockType;
    this.index = index;
    this.#state = state;
    this.#lock = state.lock;
    this.#done = state.done;
    this.#clock = clock;
    this.#notifier = notifier;
    this.#i32 = views.i32;
    const { maxTimers } = layout;
    this.#expiries = new Float64Array(buffer, base + layout.expiries, maxTimers);
    const heap = base + layout.heaps + index * layout.heapSize;
    this.#heap = {
      keys: new Float64Array(buffer, heap, maxTimers * ENTRY_F64),
      timers: new Int32Array(buffer, heap, maxTimers * ENTRY_I32),
      places: new Int32Array(buffer, base + layout.places, maxTimers),
    };
    this.#word = (base + layout.timers) >>> 2;
    const at = state.head.address - TimerListState.offsetOf('head');
    this.#count = (at + TimerListState.offsetOf('count')) >>> 2;
    this.#nextSeq = (at + TimerListState.offsetOf('nextSeq')) >>> 2;
  }

  /** Earliest expiry in ns, or `Infinity`. *Thread:* any. *Lock:* none. */
  get head(): number {
    return this.#state.head.load();
  }

  /** Wakes the owner so that it computes its deadline afresh. *Thread:* any. *Lock:* none. */
  notify(): void {
    const { icount } = this.#clock;
    if (icount !== undefined && this.type === CLOCK.VIRTUAL) {
      icount.rearmed(this.head);
      // those of the main loop's group are run by the thread that executes guest code
      if (this.index === CLOCK.VIRTUAL) return;
    }
    this.#notifier.notify();
  }

  /**
   * Ns until the earliest timer is due: 0 when due now, `Infinity` when there is none, the clock is
   * disabled, or it stands still. Stale at once, which is harmless: whatever makes it earlier notifies.
   * *Thread:* any. *Lock:* none.
   */
  deadline(): number {
    const head = this.#state.head.load();
    if (head === Infinity || !this.#clock.isEnabled(this.type)) return Infinity;
    const left = head - this.#clock.now(this.type);
    if (left <= 0) return 0;
    return this.#clock.standsStill(this.type) ? Infinity : left;
  }

  /**
   * As `deadline`, over the timers all of whose attributes are in `mask`, and without regard to
   * whether the clock stands still. *Thread:* any. *Lock:* the list's, inside.
   */
  deadlineOf(mask: number): number {
    if (this.#state.head.load() === Infinity || !this.#clock.isEnabled(this.type)) return Infinity;
    let earliest = Infinity;
    this.#lock.lock();
    const { keys, timers } = this.#heap;
    for (let at = this.#i32[this.#count] - 1; at >= 0; at--) {
      const timer = timers[at * ENTRY_I32 + TIMER];
      if ((this.#i32[this.#word + timer * WORDS + ATTRIBUTES] & ~mask) !== 0) continue;
      earliest = Math.min(earliest, keys[at * ENTRY_F64]);
    }
    this.#lock.unlock();
    return earliest === Infinity ? Infinity : Math.max(0, earliest - this.#clock.now(this.type));
  }

  /** Number of timers pending. *Thread:* any. */
  get count(): number {
    return this.#i32[this.#count];
  }

  /** True when a timer is due and may run. *Thread:* any. *Lock:* none. */
  hasExpired(): boolean {
    return this.deadline() === 0;
  }

  /** Arms or moves timer `timer` to `expire` ns; a past or negative time is due at once. */
  mod(timer: number, expire: number): void {
    const when = normalise(expire);
    this.#lock.lock();
    const isHead = this.#set(timer, when);
    this.#lock.unlock();
    if (isHead) this.notify();
  }

  /** As `mod`, but does nothing when the timer is pending at `expire` or before. */
  modAnticipate(timer: number, expire: number): void {
    const when = normalise(expire);
    let isHead = false;
    this.#lock.lock();
    const place = this.#heap.places[timer];
    if (place === 0 || when < this.#heap.keys[(place - 1) * ENTRY_F64]) isHead = this.#set(timer, when);
    this.#lock.unlock();
    if (isHead) this.notify();
  }

  /** Disarms timer `timer`, pending or not. Does not wait for its callback and notifies no one. */
  del(timer: number): void {
    this.#lock.lock();
    if (this.#heap.places[timer] !== 0) {
      this.#remove(timer);
      this.#publishHead();
    }
    this.#lock.unlock();
  }

  /**
   * Runs the callbacks of the timers that are due at the time of the call, and of those armed
   * meanwhile for that time or before. Returns whether one ran.
   * *Thread:* owner. *Lock:* the main loop's lists: BQL, over the whole pass; else none.
   * Throws `list-running` when another thread is in a pass.
   */
  run(): boolean {
    const state = this.#state;
    if (state.head.load() === Infinity) return false;
    const nested = state.runner.load() === SELF;
    if (!nested && state.runner.compareExchange(0, SELF) !== 0) {
      throw new ClockError(
        'list-running',
        `list ${this.index} (${CLOCK_NAMES[this.type]}) is being run by another thread`,
      );
    }
    const outer = state.current.load();
    let progress = false;
    // the order matters: a disabler that stored its flag before this reset is seen below; one that
    // stores it after the test finds the event reset and waits
    if (!nested) this.#done.reset();
    try {
      if (this.#clock.isEnabled(this.type)) {
        const now = this.#clock.now(this.type);
        for (;;) {
          const timer = this.#take(now);
          if (timer < 0) break;
          progress = true;
          state.current.store(timer);
          this.#clock.callbacks.run(this.#takenCallback, this.#takenArg);
        }
      }
    } finally {
      state.current.store(outer);
      if (!nested) {
        // the runner is cleared first, so that who waited for the event may run the list
        state.runner.store(0);
        this.#done.set();
      }
    }
    return progress;
  }

  /** Waits until no pass is in progress. *Thread:* any but the runner. *May block:* yes. */
  waitDone(): void {
    this.#done.wait();
  }

  /** Timer whose callback the calling thread is in, or -1. */
  get currentOfThisThread(): number {
    return this.#state.runner.load() === SELF ? this.#state.current.load() : -1;
  }

  /** What `#take` found: callback number and argument of the timer it unlinked. */
  #takenCallback = 0;
  #takenArg = 0;
  /** Unlinks the first timer if it is due at `now`; -1 when none is. */
  #take(now: number): number {
    this.#lock.lock();
    let timer = -1;
    if (this.#i32[this.#count] > 0) {
      if (this.#heap.keys[0] <= now) {
        const first = this.#heap.timers[TIMER];
        timer = first;
        // read under the lock: once it is dropped the timer may be released and made anew
        const word = this.#word + first * WORDS;
        this.#takenCallback = this.#i32[word + CALLBACK];
        this.#takenArg = this.#i32[word + ARG];
        this.#remove(first);
        this.#publishHead();
      }
    }
    this.#lock.unlock();
    return timer;
  }

  /** Puts a timer into the heap, or elsewhere in it; true when it is the first. Lock: the list's. */
  #set(timer: number, when: number): boolean {
    let seq = this.#i32[this.#nextSeq];
    if (seq === LAST_SEQ) seq = this.#renumber();
    this.#i32[this.#nextSeq] = seq + 1;
    this.#storeExpire(timer, when);
    const place = this.#heap.places[timer];
    const from = place === 0 ? this.#i32[this.#count]++ : place - 1;
    const at = settle(this.#heap, this.#i32[this.#count], from, when, seq, timer);
    // the head is another one only if this one was it or is it
    if (from === 0 || at === 0) this.#publishHead();
    return at === 0;
  }

  /** Takes a timer out of the heap. The caller publishes the head. Lock: the list's. */
  #remove(timer: number): void {
    const { keys, timers, places } = this.#heap;
    const hole = places[timer] - 1;
    places[timer] = 0;
    const last = this.#i32[this.#count] - 1;
    this.#i32[this.#count] = last;
    this.#storeExpire(timer, -1);
    if (hole === last) return;
    // the last entry fills the hole, or what has to go there in its stead
    const entry = last * ENTRY_I32;
    settle(this.#heap, last, hole, keys[last * ENTRY_F64], timers[entry + SEQ], timers[entry + TIMER]);
  }

  /** Numbers the pending timers afresh, in the order in which they fire; returns the next number. Lock: the list's. */
  #renumber(): number {
    const { keys, timers, places } = this.#heap;
    const count = this.#i32[this.#count];
    const entries = Array.from({ length: count }, (_, at) => ({
      when: keys[at * ENTRY_F64],
      seq: timers[at * ENTRY_I32 + SEQ],
      timer: timers[at * ENTRY_I32 + TIMER],
    }));
    entries.sort((a, b) => a.when - b.when || a.seq - b.seq);
    // what is in order is a heap
    entries.forEach(({ when, timer }, at) => {
      keys[at * ENTRY_F64] = when;
      timers[at * ENTRY_I32 + SEQ] = at;
      timers[at * ENTRY_I32 + TIMER] = timer;
      places[timer] = at + 1;
    });
    return count;
  }

  #publishHead(): void {
    const state = this.#state;
    const head = this.#i32[this.#count] === 0 ? Infinity : this.#heap.keys[0];
    // only lock holders write it, so that comparing first is safe and spares the store
    if (state.head.load() !== head) state.head.store(head);
  }

  /** An aligned 8-byte store, never torn for the readers of `expire` without the lock. */
  #storeExpire(timer: number, when: number): void {
    this.#expiries[timer] = when;
  }
}

/** A list's heap: views of its entries, and of the places of all timers. */
interface Heap {
  readonly keys: Float64Array<SharedArrayBuffer>;
  readonly timers: Int32Array<SharedArrayBuffer>;
  readonly places: Int32Array<SharedArrayBuffer>;
}

/**
 * Puts a timer with this key into the hole `start` of a heap of `count` entries, having moved others so that it may be
 * there; returns its place. One function on arrays, since this is what arming costs. Lock: the list's.
 */
function settle(heap: Heap, count: number, start: number, when: number, seq: number, timer: number): number {
  const { keys, timers, places } = heap;
  let at = start;
  let key = at * ENTRY_F64;
  // what is above and fires later comes down
  while (at > 0) {
    const parent = (at - 1) >> 2;
    const from = parent * ENTRY_F64;
    const above = keys[from];
    const entry = parent * ENTRY_I32;
    if (above < when || (above === when && timers[entry + SEQ] < seq)) break;
    const moved = timers[entry + TIMER];
    keys[key] = above;
    timers[at * ENTRY_I32 + SEQ] = timers[entry + SEQ];
    timers[at * ENTRY_I32 + TIMER] = moved;
    places[moved] = at + 1;
    at = parent;
    key = from;
  }
  // or else what is below and fires earlier comes up
  if (at === start) {
    for (let child = at * 4 + 1; child < count; child = at * 4 + 1) {
      child = firstOf(heap, child, count);
      const from = child * ENTRY_F64;
      const below = keys[from];
      const entry = child * ENTRY_I32;
      if (when < below || (when === below && seq < timers[entry + SEQ])) break;
      const moved = timers[entry + TIMER];
      keys[key] = below;
      timers[at * ENTRY_I32 + SEQ] = timers[entry + SEQ];
      timers[at * ENTRY_I32 + TIMER] = moved;
      places[moved] = at + 1;
      at = child;
      key = from;
    }
  }
  keys[key] = when;
  timers[at * ENTRY_I32 + SEQ] = seq;
  timers[at * ENTRY_I32 + TIMER] = timer;
  places[timer] = at + 1;
  return at;
}

/** Which of the up to four entries from `child` on fires first. */
function firstOf({ keys, timers }: Heap, child: number, count: number): number {
  if (child + 3 < count) {
    const key = child * ENTRY_F64;
    const a = keys[key];
    const b = keys[key + ENTRY_F64];
    const c = keys[key + 2 * ENTRY_F64];
    const d = keys[key + 3 * ENTRY_F64];
    // no branch depends on who is first, which no processor can foresee
    const left = Math.min(a, b);
    const right = Math.min(c, d);
    if (a !== b && c !== d && left !== right) {
      const inRight = +(right < left);
      return child + 2 * inRight + (inRight & +(d < c)) + ((1 - inRight) & +(b < a));
    }
  }
  let first = child;
  for (let other = child + 1; other < count && other < child + 4; other++) {
    const a = keys[first * ENTRY_F64];
    const b = keys[other * ENTRY_F64];
    if (b < a || (b === a && timers[other * ENTRY_I32 + SEQ] < timers[first * ENTRY_I32 + SEQ]))
      first = other;
  }
  return first;
}

/** A whole number of ns, not before 0; never early, so fractions go up. */
function normalise(expire: number): number {
  if (!(expire > 0)) return 0;
  return expire >= LATEST ? LATEST : Math.ceil(expire);
}
