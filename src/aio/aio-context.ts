/**
 * An AioContext: an event loop of one thread, with bottom halves and a timer list group, that any thread
 * may give work to. All of it is in shared memory but the functions and pollers, which are the owner's.
 */
import { atomicI32, i32, Mutex, padTo, placed, struct, u32, type ViewOf } from '@smp86/atomics-sync';
import type { Callback } from '../timer/callback-registry.ts';
import type { ClockSystem } from '../timer/clock.ts';
import type { TimerGroup } from '../timer/timer-group.ts';
import { reduceTimerSlack } from '../timer/timer-slack.ts';
import { BottomHalves, BottomHalvesState } from './bottom-half.ts';
import { BusyPolling, type PollParameters } from './busy-polling.ts';
import { AioError } from './errors.ts';

export const AioState = struct({
  magic: u32,
  /** Its timer group's number. */
  group: i32,
  maxBottomHalves: u32,
  stop: atomicI32,
  /** Held by the owner while it does what there is to do, and by who keeps it from that. */
  lock: placed(Mutex),
  pad: padTo(64),
});
const AIO_MAGIC = 0x61696f31;

/** What `init` may be told. */
export interface AioOptions {
  /** Memory is touched as they come into use. Default 65536. */
  readonly maxBottomHalves?: number;
  /** Default: a new group. */
  readonly group?: TimerGroup;
}
const DEFAULT_BOTTOM_HALVES = 65_536;

/** A lock under which a context's callbacks run: the BQL, or what stands for it. */
export interface Lock {
  lock(): void;
  unlock(): void;
  /** Whether the calling thread holds it. */
  readonly held: boolean;
}

/** A context's own lock; one thread may take it more than once, through one view. */
class ContextLock implements Lock {
  readonly #mutex: Mutex;
  #depth = 0;

  constructor(mutex: Mutex) {
    this.#mutex = mutex;
  }
  lock(): void {
    if (this.#depth === 0) this.#mutex.lock();
    this.#depth++;
  }
  unlock(): void {
    this.#depth--;
    if (this.#depth === 0) this.#mutex.unlock();
  }
  get held(): boolean {
    return this.#depth > 0;
  }
}

/** A source of events that the owner looks at in every turn: a completion queue, a request ring. */
export interface Poller {
  /** Handles what is there; returns whether there was something. *Thread:* owner. */
  poll(): boolean;
  /** Whether there is something: asked before the owner sleeps. Whoever adds something calls `notify` after it. */
  ready(): boolean;
  /** Ns after which the owner is to look, whoever notifies; default: never. */
  timeout?(): number;
  /** The owner is about to sleep: whoever adds something has to notify from now on. True: there is something. */
  sleep?(): boolean;
}

/** A bottom half as the threads see it. */
export class BottomHalf {
  /** Its number, by which other threads find it. */
  readonly index: number;
  readonly #all: BottomHalves;

  constructor(all: BottomHalves, index: number) {
    this.#all = all;
    this.index = index;
  }
  /** Has it called in the owner's next turn; once, however often it is scheduled before that. *Thread:* any. */
  schedule(): void {
    this.#all.schedule(this.index);
  }
  /** As `schedule`; but scheduled so by its own call, it waits for another event or 10 ms. */
  scheduleIdle(): void {
    this.#all.scheduleIdle(this.index);
  }
  /** Takes back a `schedule` whose call has not begun. *Thread:* any. */
  cancel(): void {
    this.#all.cancel(this.index);
  }
  /** Cancels it and gives its number back. *Thread:* any. */
  delete(): void {
    this.#all.delete(this.index);
  }
}

/** A thread's view of a context. */
export class AioContext {
  readonly clocks: ClockSystem;
  readonly offset: number;
  /** Its timers: `clocks.createTimer({ group: context.group.index, … })`. */
  readonly group: TimerGroup;
  readonly #state: ViewOf<typeof AioState>;
  readonly #bottomHalves: BottomHalves;
  readonly #pollers: Poller[] = [];
  #polling: BusyPolling | undefined;
  /** Under which its callbacks run. */
  readonly #lock: Lock;
  /** Its own: taken for each turn. Undefined: the owner holds another one anyway. */
  readonly #own: ContextLock | undefined;

  /** Bytes of a context; place it at a multiple of 64. */
  static size(options: AioOptions = {}): number {
    return AioState.size + BottomHalves.size(options.maxBottomHalves ?? DEFAULT_BOTTOM_HALVES);
  }

  /** Makes a context at `offset` of the clock system's buffer. *Thread:* any, before another attaches to it. */
  static init(clocks: ClockSystem, offset: number, options: AioOptions = {}): AioContext {
    const capacity = options.maxBottomHalves ?? DEFAULT_BOTTOM_HALVES;
    if (!Number.isInteger(capacity) || capacity < 1) throw new RangeError(`${capacity} bottom halves`);
    const state = AioState.at(clocks.buffer, offset);
    new Uint8Array(clocks.buffer, offset, AioState.size + BottomHalvesState.size).fill(0);
    state.group = (options.group ?? clocks.createGroup()).index;
    state.maxBottomHalves = capacity;
    BottomHalves.init(clocks.buffer, offset + AioState.size, capacity);
    state.magic = AIO_MAGIC;
    return new AioContext(clocks, offset);
  }

  /**
   * A view of a context that was made by any thread; `lock` is what its callbacks run under, if anything.
   * Throws `not-initialised`.
   */
  static attach(clocks: ClockSystem, offset: number, lock?: Lock): AioContext {
    return new AioContext(clocks, offset, lock);
  }

  private constructor(clocks: ClockSystem, offset: number, lock?: Lock) {
    const state = AioState.at(clocks.buffer, offset);
    if (state.magic !== AIO_MAGIC) throw new AioError('not-initialised', `no context at offset ${offset}`);
    this.clocks = clocks;
    this.offset = offset;
    this.#state = state;
    this.group = clocks.group(state.group);
    this.#own = lock === undefined ? new ContextLock(state.lock) : undefined;
    this.#lock = lock ?? this.#own!;
    const { notifier } = this.group;
    this.#bottomHalves = new BottomHalves(clocks.buffer, offset + AioState.size, {
      notify: () => notifier.notify(),
      whyNotWait: () => {
        if (this.stopRequested) return 'its loop ends';
        return this.#lock.held ? 'the caller holds the lock that its loop needs' : undefined;
      },
    });
  }

  /** Makes the owner look for work. Call it after adding the work. *Thread:* any. *Lock:* none. */
  notify(): void {
    this.group.notifier.notify();
  }

  /**
   * A new bottom half. A function is registered in the calling thread, which has to be the owner, and stays
   * registered; other threads give a number that the owner registers. Throws `no-bottom-half-left`.
   */
  createBottomHalf(callback: number | Callback, arg = 0, name?: string): BottomHalf {
    const id = typeof callback === 'number' ? callback : this.clocks.callbacks.add(callback, name);
    return new BottomHalf(this.#bottomHalves, this.#bottomHalves.create(id, arg));
  }

  /** The view of a bottom half that another thread made. */
  bottomHalf(index: number): BottomHalf {
    return new BottomHalf(this.#bottomHalves, index);
  }

  /**
   * Has callback number `callback` called once in the owner's next turn. When the owner is so far behind that all
   * bottom halves are in use, another thread waits for it. *Thread:* any. *May block:* yes, then. Throws
   * `no-bottom-half-left` when the owner's loop ends, or needs a lock that the caller holds.
   */
  scheduleOneshot(callback: number, arg = 0): void {
    this.#bottomHalves.scheduleOneshot(callback, arg);
  }

  /** Has a coroutine (`Coroutine`, by its number) go on in its context. More than once is once. *Thread:* any. */
  coSchedule(coroutine: number): void {
    this.#bottomHalves.schedule(coroutine);
  }

  /** Whether, and how long, `wait` looks at the pollers before it sleeps; at first not. *Thread:* owner. */
  setPolling(parameters: PollParameters): void {
    this.#polling = parameters.maxNs === 0 ? undefined : new BusyPolling(parameters);
  }

  /** *Thread:* owner. */
  addPoller(poller: Poller): void {
    this.#pollers.push(poller);
  }

  /** *Thread:* owner. */
  removePoller(poller: Poller): void {
    const at = this.#pollers.indexOf(poller);
    if (at >= 0) this.#pollers.splice(at, 1);
  }

  /** Ns that the owner may sleep; 0 when there is something to do. *Thread:* owner. */
  timeout(): number {
    for (const poller of this.#pollers) if (poller.ready()) return 0;
    let timeout = this.#bottomHalves.timeout();
    for (const poller of this.#pollers) {
      if (poller.timeout !== undefined) timeout = Math.min(timeout, poller.timeout());
    }
    return timeout === 0 ? 0 : Math.min(timeout, this.group.deadline());
  }

  /** Sleeps until there may be something to do. *Thread:* owner. *Lock:* not the BQL. *May block:* yes. */
  wait(): void {
    // a notification after the timeout was computed is still there and ends the wait at once
    if (this.#polling === undefined || this.#pollers.length === 0) this.#sleep(this.timeout());
    else this.#pollAndWait(this.#polling);
  }

  #sleep(timeout: number): void {
    let left = timeout;
    if (timeout > 0) for (const poller of this.#pollers) if (poller.sleep?.() === true) left = 0;
    this.group.notifier.wait(left);
  }

  #pollAndWait(polling: BusyPolling): void {
    const start = this.clocks.hostNow();
    const left = polling.poll(
      this.timeout(),
      () => this.group.notifier.notified || this.#pollers.some((poller) => poller.ready()),
      () => this.clocks.hostNow(),
    );
    this.#sleep(left);
    polling.adapt(this.clocks.hostNow() - start);
  }

  /**
   * Keeps the owner out of its callbacks, pollers and coroutines until `release`; when it returns, it is in none. More
   * than once, through one view, counts. *Thread:* any. *Lock:* BQL or none; not in a callback of another
   * context, whose owner would be kept waiting. *May block:* until the owner's turn ends.
   */
  acquire(): void {
    this.#lock.lock();
  }
  /** Lets the owner go on. */
  release(): void {
    this.#lock.unlock();
  }

  /** Does what there is to do: bottom halves, events, timers; returns whether there was something. *Thread:* owner. */
  dispatch(): boolean {
    this.#own?.lock();
    try {
      return this.#dispatch();
    } finally {
      this.#own?.unlock();
    }
  }

  #dispatch(): boolean {
    // accept first: who adds work after we looked notifies again
    this.group.notifier.accept();
    let progress = this.#bottomHalves.run(this.clocks.callbacks);
    for (const poller of this.#pollers) if (poller.poll()) progress = true;
    if (this.group.run()) progress = true;
    return progress;
  }

  /**
   * One turn, after a wait when `blocking`. For threads whose work is all synchronous: coroutines that wait
   * on a promise advance in `run` only. *Thread:* owner. *May block:* when `blocking`.
   */
  poll(blocking: boolean): boolean {
    if (blocking) this.wait();
    return this.dispatch();
  }

  /** Turns until `requestStop`; coroutines advance between them. *Thread:* owner. *May block:* yes, the thread. */
  async run(): Promise<void> {
    reduceTimerSlack();
    while (!this.stopRequested) {
      await this.#turn();
      if (!this.stopRequested) this.wait();
    }
  }

  /** Coroutines go on under the lock, too. */
  async #turn(): Promise<void> {
    this.#own?.lock();
    try {
      this.#dispatch();
      await microtasksDrained();
    } finally {
      this.#own?.unlock();
    }
  }

  get stopRequested(): boolean {
    return this.#state.stop.load() !== 0;
  }

  /** Ends `run` after its current turn. *Thread:* any. */
  requestStop(): void {
    this.#state.stop.store(1);
    this.#bottomHalves.wakeWaiters();
    this.notify();
  }

  /** Gives the timer group back. *Thread:* owner, after its loop. Throws `timers-left`. */
  close(): void {
    this.clocks.releaseGroup(this.group);
  }
}

/** Resolves when no microtask is left: a bare `await` would advance each coroutine by one step only. */
export function microtasksDrained(): Promise<void> {
  return new Promise(process.nextTick);
}
