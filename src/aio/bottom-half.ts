/**
 * Bottom halves: calls put off to the next turn of a context's loop, from any thread. A table in shared
 * memory holds for each a callback number, an argument and flags; scheduled ones hang on a stack that any
 * thread pushes to and the owner takes as a whole.
 */
import {
  type AtomicI32,
  atomicI32,
  EventCount,
  i32,
  Mutex,
  opsFor,
  padTo,
  placed,
  struct,
  type SyncOps,
  u32,
  type ViewOf,
  viewsOf,
} from '@smp86/atomics-sync';
import { threadId } from 'node:worker_threads';
import type { CallbackRegistry } from '../timer/callback-registry.ts';
import { AioError } from './errors.ts';

/** Bits of a bottom half's flags; every change is one atomic operation. */
const BH = {
  /** On the stack or in the slice. */
  PENDING: 1,
  /** To be called when it is reached. */
  SCHEDULED: 2,
  /** Its number is free again after the call. */
  ONESHOT: 4,
  /** Not progress, and not urgent. */
  IDLE: 8,
  /** Its number is free again when it is reached. */
  DELETED: 16,
} as const;

/** Identifies a thread in shared memory; 0 is none. */
const SELF = threadId + 1;

/** An idle bottom half is run after this many ns at the latest. */
export const IDLE_DELAY = 10e6;

export const BottomHalfState = struct({
  flags: atomicI32,
  /** Next in the stack, slice or free list: number + 1, 0 at the end. */
  next: i32,
  callback: i32,
  arg: i32,
});

export const BottomHalvesState = struct({
  /** Protects `free` and `fresh`. */
  freeLock: placed(Mutex),
  /** First of those given back: number + 1, 0 at the end. */
  free: i32,
  /** Numbers from this one on were never used, and their memory was never touched. */
  fresh: u32,
  capacity: u32,
  /** Thread id + 1 of the thread that calls them, 0 before its first turn. */
  owner: atomicI32,
  /** Wakes those who wait for a number to be given back. */
  room: placed(EventCount),
  /** Top of the stack of scheduled ones: number + 1, 0 when empty. Pushed by any thread. */
  top: atomicI32,
  /** Those taken from the stack and not called yet. Owner only. */
  sliceFirst: i32,
  sliceLast: i32,
  pad: padTo(64),
});

const FLAGS = BottomHalfState.offsetOf('flags');
const NEXT = BottomHalfState.offsetOf('next') >>> 2;
const CALLBACK = BottomHalfState.offsetOf('callback') >>> 2;
const ARG = BottomHalfState.offsetOf('arg') >>> 2;

/** What bottom halves need of their context. */
export interface BottomHalvesHome {
  /** Wakes the owner. */
  notify(): void;
  /** Why the calling thread must not wait for the owner; undefined when it may. */
  whyNotWait(): string | undefined;
}

/** A thread's view of a context's bottom halves. */
export class BottomHalves {
  readonly #ops: SyncOps;
  readonly #i32: Int32Array<SharedArrayBuffer>;
  readonly #state: ViewOf<typeof BottomHalvesState>;
  readonly #top: AtomicI32;
  readonly #table: number;
  readonly #home: BottomHalvesHome;
  /** True while this thread, the owner then, is in `run`. */
  #running = false;
  #isOwner = false;
  /** The owner's own one-shots for which there was no number: callback and argument, in turn. */
  readonly #overflow: number[] = [];
  /** Those before it were called. */
  #overflowAt = 0;

  static size(capacity: number): number {
    return BottomHalvesState.size + Math.ceil((capacity * BottomHalfState.size) / 64) * 64;
  }

  /** Fills in memory at `at`, of which the first `BottomHalvesState.size` bytes are zero. */
  static init(buffer: SharedArrayBuffer, at: number, capacity: number): void {
    BottomHalvesState.at(buffer, at).capacity = capacity;
  }

  constructor(buffer: SharedArrayBuffer, at: number, home: BottomHalvesHome) {
    this.#ops = opsFor(buffer);
    this.#i32 = viewsOf(buffer).i32;
    this.#state = BottomHalvesState.at(buffer, at);
    this.#top = this.#state.top;
    this.#table = at + BottomHalvesState.size;
    this.#home = home;
  }

  /** A new one, not scheduled. Throws `no-bottom-half-left`. *Thread:* any. *May block:* shortly. */
  create(callback: number, arg: number): number {
    const link = this.#take();
    if (link === 0) throw this.#noneLeft('');
    return this.#fill(link, callback, arg, 0);
  }

  /**
   * Makes one and schedules it; its number is free again after the call. When all are in use it waits until
   * the owner has called one. *Thread:* any. *May block:* yes; the owner does not.
   * Throws `no-bottom-half-left` instead of waiting for ever.
   */
  scheduleOneshot(callback: number, arg: number): void {
    let link = this.#take();
    if (link === 0) {
      if (this.#state.owner.load() === SELF) {
        this.#overflow.push(callback, arg);
        return;
      }
      link = this.#waitForOne();
    }
    this.#enqueue(this.#fill(link, callback, arg, BH.ONESHOT), BH.SCHEDULED);
  }

  #waitForOne(): number {
    const { room } = this.#state;
    for (;;) {
      const key = room.prepare();
      const link = this.#take();
      if (link !== 0) return link;
      const why = this.#home.whyNotWait();
      if (why !== undefined) throw this.#noneLeft(`, and ${why}`);
      room.wait(key);
    }
  }

  /** Makes those who wait look again whether they may. *Thread:* any. */
  wakeWaiters(): void {
    this.#state.room.wake();
  }

  #noneLeft(why: string): AioError {
    return new AioError(
      'no-bottom-half-left',
      `all ${this.#state.capacity} bottom halves of the context are in use${why}`,
    );
  }

  /** Has it called in the owner's next turn; once, however often it is scheduled before that. *Thread:* any. */
  schedule(index: number): void {
    this.#enqueue(index, BH.SCHEDULED);
  }

  /**
   * As `schedule`, but one that schedules itself so from its own call is not called again before something
   * else wakes the owner, or 10 ms later.
   */
  scheduleIdle(index: number): void {
    // the owner looks at the stack before it sleeps; woken by itself it would not sleep at all
    this.#enqueue(index, BH.SCHEDULED | BH.IDLE, !this.#running);
  }

  /** Takes back a `schedule` whose call has not begun. *Thread:* any. */
  cancel(index: number): void {
    this.#ops.and(this.#flags(index), ~BH.SCHEDULED);
  }

  /** Cancels it and frees its number, in the owner's next turn. *Thread:* any. */
  delete(index: number): void {
    this.#enqueue(index, BH.DELETED);
  }

  /**
   * Calls those scheduled before this call, in the order in which they were first scheduled; what they
   * schedule is left for the next. When nested in a callback it goes on with what the outer call has left.
   * Returns whether one that is not idle was called. *Thread:* owner.
   */
  run(callbacks: CallbackRegistry): boolean {
    if (!this.#isOwner) {
      this.#isOwner = true;
      this.#state.owner.store(SELF);
    }
    this.#takeStack();
    if (this.#state.sliceFirst === 0 && this.#overflow.length === 0) return false;
    const outer = this.#running;
    this.#running = true;
    try {
      const end = this.#overflow.length;
      const progress = this.#runSlice(callbacks);
      return this.#runOverflow(callbacks, end) || progress;
    } finally {
      this.#running = outer;
    }
  }

  /** Calls the first `end` of those that overflowed; what they add is left for the next turn. */
  #runOverflow(callbacks: CallbackRegistry, end: number): boolean {
    const overflow = this.#overflow;
    if (this.#overflowAt >= end) return false;
    while (this.#overflowAt < end) {
      const at = this.#overflowAt;
      this.#overflowAt = at + 2;
      callbacks.run(overflow[at], overflow[at + 1]);
    }
    if (this.#overflowAt === overflow.length) overflow.length = this.#overflowAt = 0;
    return true;
  }

  #runSlice(callbacks: CallbackRegistry): boolean {
    const state = this.#state;
    let progress = false;
    for (;;) {
      const link = state.sliceFirst;
      if (link === 0) return progress;
      const index = link - 1;
      const word = this.#word(index);
      state.sliceFirst = this.#i32[word + NEXT];
      if (state.sliceFirst === 0) state.sliceLast = 0;
      const callback = this.#i32[word + CALLBACK];
      const arg = this.#i32[word + ARG];
      // before the call, so that the callback, and whoever gives it work meanwhile, can schedule it again
      const flags = this.#ops.and(this.#flags(index), ~(BH.PENDING | BH.SCHEDULED | BH.IDLE));
      const free = (flags & (BH.DELETED | BH.ONESHOT)) !== 0;
      if (free) this.#free(index);
      if ((flags & (BH.SCHEDULED | BH.DELETED)) !== BH.SCHEDULED) continue;
      if ((flags & BH.IDLE) === 0) progress = true;
      callbacks.run(callback, arg);
    }
  }

  /** Ns that the owner may sleep: 0 when one is scheduled, 10 ms when only idle ones are. *Thread:* owner. */
  timeout(): number {
    if (this.#overflow.length > 0) return 0;
    return Math.min(this.#timeoutOf(this.#state.sliceFirst), this.#timeoutOf(this.#top.load()));
  }

  /** Links of what is on the stack do not change until the owner takes it, so they can be followed. */
  #timeoutOf(first: number): number {
    let timeout = Infinity;
    for (let link = first; link !== 0; link = this.#i32[this.#word(link - 1) + NEXT]) {
      const flags = this.#ops.load(this.#flags(link - 1));
      if ((flags & BH.DELETED) !== 0) return 0;
      if ((flags & BH.SCHEDULED) === 0) continue;
      if ((flags & BH.IDLE) === 0) return 0;
      timeout = IDLE_DELAY;
    }
    return timeout;
  }

  #flags(index: number): number {
    return this.#table + index * BottomHalfState.size + FLAGS;
  }

  #word(index: number): number {
    return (this.#table + index * BottomHalfState.size) >>> 2;
  }

  #enqueue(index: number, flags: number, notify = true): void {
    const old = this.#ops.or(this.#flags(index), BH.PENDING | flags);
    if ((old & BH.PENDING) === 0) {
      // only who sets PENDING links it, so its `next` is ours until the push succeeds; and since the owner
      // takes all or nothing, the top cannot leave and come back with another `next`
      const next = this.#word(index) + NEXT;
      let top = this.#top.load();
      for (;;) {
        this.#i32[next] = top;
        const seen = this.#top.compareExchange(top, index + 1);
        if (seen === top) break;
        top = seen;
      }
    }
    if (notify) this.#home.notify();
  }

  /** Appends what is on the stack to the slice, oldest first. */
  #takeStack(): void {
    if (this.#top.load() === 0) return;
    const newest = this.#top.exchange(0);
    let first = 0;
    for (let link = newest; link !== 0;) {
      const next = this.#word(link - 1) + NEXT;
      const older = this.#i32[next];
      this.#i32[next] = first;
      first = link;
      link = older;
    }
    const state = this.#state;
    if (state.sliceFirst === 0) state.sliceFirst = first;
    else this.#i32[this.#word(state.sliceLast - 1) + NEXT] = first;
    state.sliceLast = newest;
  }

  /** Number + 1 of one that is in no use; 0 when there is none. */
  #take(): number {
    const state = this.#state;
    state.freeLock.lock();
    let link = state.free;
    if (link !== 0) state.free = this.#i32[this.#word(link - 1) + NEXT];
    else if (state.fresh < state.capacity) state.fresh = link = state.fresh + 1;
    state.freeLock.unlock();
    return link;
  }

  #fill(link: number, callback: number, arg: number, flags: number): number {
    const word = this.#word(link - 1);
    this.#i32[word + CALLBACK] = callback;
    this.#i32[word + ARG] = arg;
    this.#ops.store(this.#flags(link - 1), flags);
    return link - 1;
  }

  #free(index: number): void {
    const state = this.#state;
    state.freeLock.lock();
    this.#i32[this.#word(index) + NEXT] = state.free;
    state.free = index + 1;
    state.freeLock.unlock();
    state.room.wake();
  }
}
