/**
 * A timer list: the timers of one clock that one thread runs, in shared memory. Any thread arms and
 * disarms; only the owner runs. The order is (expiry, insertion): equal expiries fire first in, first out.
 *
 * The list is a binary heap of timer numbers, so that arming costs O(log n) whatever its length; the
 * earliest expiry is also kept in a word of its own, read without the lock.
 */
import { viewsOf, type Event, type Mutex } from '@smp86/atomics-sync';
import { threadId } from 'node:worker_threads';
import type { CallbackRegistry } from './callback-registry.ts';
import {
  CLOCK,
  CLOCK_NAMES,
  type ClockLayout,
  type ClockType,
  HEAP_ENTRY,
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

const EXPIRE = TimerState.offsetOf('expire') >>> 3;
const CALLBACK = TimerState.offsetOf('callback') >>> 2;
const ARG = TimerState.offsetOf('arg') >>> 2;
const ATTRIBUTES = TimerState.offsetOf('attributes') >>> 2;
/** Fields of a heap entry; the expiry is first. */
const SEQ = 1;
const TIMER = 2;
const WORDS = TimerState.size >>> 2;
const DOUBLES = TimerState.size >>> 3;

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
  readonly #f64: Float64Array<SharedArrayBuffer>;
  /** A heap in which each entry has four children: half as deep as one of two, and they lie side by side. */
  readonly #heap: Float64Array<SharedArrayBuffer>;
  /** By timer, apart from the timers and close together: see `ClockLayout.places`. */
  readonly #places: Int32Array<SharedArrayBuffer>;
  /** Index of timer 0's first word in the views. */
  readonly #word: number;
  readonly #double: number;

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
    this.#f64 = views.f64;
    this.#places = new Int32Array(buffer, base + layout.places, layout.maxTimers);
    const entries = layout.maxTimers * HEAP_ENTRY;
    this.#heap = new Float64Array(buffer, base + layout.heaps + index * entries * 8, entries);
    this.#word = (base + layout.timers) >>> 2;
    this.#double = (base + layout.timers) >>> 3;
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
    for (let at = (this.#state.count - 1) * HEAP_ENTRY; at >= 0; at -= HEAP_ENTRY) {
      const timer = this.#heap[at + TIMER];
      if ((this.#i32[this.#word + timer * WORDS + ATTRIBUTES] & ~mask) !== 0) continue;
      earliest = Math.min(earliest, this.#heap[at]);
    }
    this.#lock.unlock();
    return earliest === Infinity ? Infinity : Math.max(0, earliest - this.#clock.now(this.type));
  }

  /** Number of timers pending. *Thread:* any. */
  get count(): number {
    return this.#state.count;
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
    const place = this.#places[timer];
    if (place === 0 || when < this.#heap[(place - 1) * HEAP_ENTRY]) isHead = this.#set(timer, when);
    this.#lock.unlock();
    if (isHead) this.notify();
  }

  /** Disarms timer `timer`, pending or not. Does not wait for its callback and notifies no one. */
  del(timer: number): void {
    this.#lock.lock();
    if (this.#places[timer] !== 0) {
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
    if (this.#state.count > 0) {
      if (this.#heap[0] <= now) {
        const first = this.#heap[TIMER];
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
    const state = this.#state;
    const seq = state.nextSeq;
    state.nextSeq = seq + 1;
    this.#storeExpire(timer, when);
    const place = this.#places[timer];
    const pending = place !== 0;
    let at = (pending ? place - 1 : state.count++) * HEAP_ENTRY;
    const up = this.#siftUp(at, when, seq);
    at = up === at && pending ? this.#siftDown(at, when, seq) : up;
    this.#place(at, when, seq, timer);
    this.#publishHead();
    return at === 0;
  }

  /** Takes a timer out of the heap. The caller publishes the head. Lock: the list's. */
  #remove(timer: number): void {
    const state = this.#state;
    const heap = this.#heap;
    const hole = (this.#places[timer] - 1) * HEAP_ENTRY;
    this.#places[timer] = 0;
    const last = (state.count - 1) * HEAP_ENTRY;
    state.count--;
    this.#storeExpire(timer, -1);
    if (hole === last) return;
    // the last entry fills the hole, or what has to go there in its stead
    const when = heap[last];
    const seq = heap[last + SEQ];
    const up = this.#siftUp(hole, when, seq);
    const at = up === hole ? this.#siftDown(hole, when, seq) : up;
    this.#place(at, when, seq, heap[last + TIMER]);
  }

  #place(at: number, when: number, seq: number, timer: number): void {
    const heap = this.#heap;
    heap[at] = when;
    heap[at + SEQ] = seq;
    heap[at + TIMER] = timer;
    this.#places[timer] = at / HEAP_ENTRY + 1;
  }

  #move(from: number, to: number): void {
    const heap = this.#heap;
    this.#place(to, heap[from], heap[from + SEQ], heap[from + TIMER]);
  }

  /** Moves entries above the hole `at` down until one with this key may be in the hole; returns where that is. */
  #siftUp(at: number, when: number, seq: number): number {
    const heap = this.#heap;
    while (at > 0) {
      const parent = ((at / HEAP_ENTRY - 1) >>> 2) * HEAP_ENTRY;
      if (!before(when, seq, heap[parent], heap[parent + SEQ])) break;
      this.#move(parent, at);
      at = parent;
    }
    return at;
  }

  /** As `#siftUp`, downwards. */
  #siftDown(at: number, when: number, seq: number): number {
    const heap = this.#heap;
    const end = this.#state.count * HEAP_ENTRY;
    for (;;) {
      let child = at * 4 + HEAP_ENTRY;
      if (child >= end) return at;
      const past = Math.min(child + 4 * HEAP_ENTRY, end);
      for (let other = child + HEAP_ENTRY; other < past; other += HEAP_ENTRY) {
        if (before(heap[other], heap[other + SEQ], heap[child], heap[child + SEQ])) child = other;
      }
      if (!before(heap[child], heap[child + SEQ], when, seq)) return at;
      this.#move(child, at);
      at = child;
    }
  }

  #publishHead(): void {
    const state = this.#state;
    const head = state.count === 0 ? Infinity : this.#heap[0];
    // only lock holders write it, so that comparing first is safe and spares the store
    if (state.head.load() !== head) state.head.store(head);
  }

  /** An aligned 8-byte store, never torn for the readers of `expire` without the lock. */
  #storeExpire(timer: number, when: number): void {
    this.#f64[this.#double + timer * DOUBLES + EXPIRE] = when;
  }
}

/** True when the first of two keys fires first. */
function before(when: number, seq: number, otherWhen: number, otherSeq: number): boolean {
  return when < otherWhen || (when === otherWhen && seq < otherSeq);
}

/** A whole number of ns, not before 0; never early, so fractions go up. */
function normalise(expire: number): number {
  if (!(expire > 0)) return 0;
  return expire >= LATEST ? LATEST : Math.ceil(expire);
}
