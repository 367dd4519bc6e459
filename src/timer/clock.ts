/**
 * The clocks of one machine and its timer lists, over one area of shared memory. The creating thread
 * calls `ClockSystem.init`, every other one `ClockSystem.attach`. Protocols: docs/clocks.md.
 */
import { AtomicNs, opsFor, type SyncOps, viewsOf } from '@smp86/atomics-sync';
import type { Clock } from '../hw/device.ts';
import { CallbackRegistry } from './callback-registry.ts';
import {
  ALL_ATTRIBUTES,
  CLOCK,
  CLOCK_COUNT,
  CLOCK_MAGIC,
  CLOCK_NAMES,
  type ClockLayout,
  type ClockLimits,
  clockLayout,
  ClockState,
  type ClockStateView,
  type ClockType,
  DEFAULT_LIMITS,
  EXPIRY_SIZE,
  PLACE_SIZE,
  TimerGroupState,
  type TimerGroupStateView,
  TimerState,
  type TimerStateView,
  VIRTUAL_MODE,
  type VirtualMode,
} from './clock-state.ts';
import { ClockError } from './errors.ts';
import { Icount, type IcountOptions } from './icount.ts';
import { chooseStartSecond, type HostSource, SystemTime } from './host-time.ts';
import { type ListClock } from './timer-list.ts';
import { SharedTimer, type TimerOptions } from './timer.ts';
import { TimerGroup } from './timer-group.ts';

/** A jump of the host's wall clock is seen by HOST after so many ns at the latest. */
const WALL_INTERVAL = 1e6;

/** What `init` may be told. */
export interface ClockOptions extends Partial<ClockLimits> {
  /** Default: the host's clocks. Another source must be given to every thread that attaches. */
  readonly source?: HostSource;
  readonly callbacks?: CallbackRegistry;
  readonly virtualMode?: VirtualMode;
  /** With mode ICOUNT: the shift; default 0. */
  readonly icountShift?: IcountOptions['shift'];
  /** TSC ticks per second of VIRTUAL; default 1e9. */
  readonly tscHz?: number;
}

/** What `attach` may be told. */
export interface AttachOptions {
  readonly source?: HostSource;
  readonly callbacks?: CallbackRegistry;
}

/** A thread's view of a machine's clocks and timers. */
export class ClockSystem implements ListClock {
  /** Functions of this thread, by callback number. */
  readonly callbacks: CallbackRegistry;
  readonly buffer: SharedArrayBuffer;
  readonly offset: number;
  readonly layout: ClockLayout;
  /** In mode ICOUNT. */
  readonly icount: Icount | undefined;
  readonly #source: HostSource;
  readonly #state: ClockStateView;
  readonly #groups: (TimerGroup | undefined)[] = [];
  readonly #views: ClockView[];
  readonly #ops: SyncOps;
  /** Host time at which the wall clock is to be looked at again. */
  #wallLookAt = -Infinity;

  /** Bytes and offsets of a clock system of these capacities; place it at a multiple of 64. */
  static layout(limits: Partial<ClockLimits> = {}): ClockLayout {
    return clockLayout({ ...DEFAULT_LIMITS, ...limits });
  }

  /**
   * Makes a clock system at `offset`: ticks disabled, VIRTUAL disabled, the other clocks enabled, and
   * the main loop's group (number 0). *Thread:* the creating one, before any attaches. Throws `already-initialised`.
   */
  static init(buffer: SharedArrayBuffer, offset: number, options: ClockOptions = {}): ClockSystem {
    const layout = ClockSystem.layout(limitsOf(options));
    const state = ClockState.at(buffer, offset);
    if (state.magic === CLOCK_MAGIC) {
      throw new ClockError('already-initialised', `there is a clock system at offset ${offset}`);
    }
    new Uint8Array(buffer, offset, layout.timers).fill(0);
    state.maxTimers = layout.maxTimers;
    state.maxGroups = layout.maxGroups;
    const source = options.source ?? new SystemTime((state.startSecond = chooseStartSecond()));
    state.wallBaseMs = Math.floor(source.wallMs() / 1000) * 1000;
    state.hostOffset.store((source.wallMs() - state.wallBaseMs) * 1e6 - source.monotonic());
    state.virtualMode.store(options.virtualMode ?? VIRTUAL_MODE.HOST);
    Icount.init(state, options.icountShift ?? 0);
    state.tscHz.store(options.tscHz ?? 1e9);
    for (let type = 0; type < CLOCK_COUNT; type++) state.enabled[type].store(type === CLOCK.VIRTUAL ? 0 : 1);
    state.freeTimer = -1;
    for (let g = 0; g < layout.maxGroups; g++) {
      const group = TimerGroupState.at(buffer, offset + layout.groups + g * TimerGroupState.size);
      for (const list of group.lists) {
        list.head.store(Infinity);
        list.current.store(-1);
      }
    }
    state.magic = CLOCK_MAGIC;
    const clocks = new ClockSystem(buffer, offset, layout, source, options.callbacks);
    clocks.createGroup();
    return clocks;
  }

  /** A view for another thread. Throws `not-initialised`. */
  static attach(buffer: SharedArrayBuffer, offset: number, options: AttachOptions = {}): ClockSystem {
    const state = ClockState.at(buffer, offset);
    if (state.magic !== CLOCK_MAGIC) {
      throw new ClockError('not-initialised', `no clock system at offset ${offset}`);
    }
    const layout = clockLayout({ maxTimers: state.maxTimers, maxLists: state.maxGroups * CLOCK_COUNT });
    const source = options.source ?? new SystemTime(state.startSecond);
    return new ClockSystem(buffer, offset, layout, source, options.callbacks);
  }

  private constructor(
    buffer: SharedArrayBuffer,
    offset: number,
    layout: ClockLayout,
    source: HostSource,
    callbacks: CallbackRegistry = new CallbackRegistry(),
  ) {
    this.buffer = buffer;
    this.offset = offset;
    this.layout = layout;
    this.callbacks = callbacks;
    this.#source = source;
    this.#ops = opsFor(buffer);
    this.#state = ClockState.at(buffer, offset);
    if (this.virtualMode === VIRTUAL_MODE.ICOUNT) this.icount = new Icount(this.#state, this);
    this.#views = CLOCK_NAMES.map((_, type) => new ClockView(this, type as ClockType));
  }

  // --- reading -----------------------------------------------------------------------------------

  /** Host monotonic ns since the machine's start second. *Thread:* any. *Lock:* none. */
  hostNow(): number {
    return this.#source.monotonic();
  }

  /** Value of clock `type` in ns. *Thread:* any. *Lock:* none. *May block:* no. */
  now(type: ClockType): number {
    switch (type) {
      case CLOCK.REALTIME:
        return this.#source.monotonic();
      case CLOCK.VIRTUAL:
        return this.#virtual();
      case CLOCK.HOST:
        return this.#wallClock();
      case CLOCK.VIRTUAL_RT:
        return this.#virtualRt();
    }
  }

  /** Clock `type` as devices take it. */
  clock(type: ClockType): Clock {
    return this.#views[type];
  }

  /** Wall-clock milliseconds since 1970 (UTC) at which HOST is 0. Constant. */
  get wallBaseMs(): number {
    return this.#state.wallBaseMs;
  }

  /** TSC: VIRTUAL in ticks of `tscHz`; never decreases. *Thread:* any. *Lock:* none. */
  ticks(): number {
    this.icount?.fold();
    const state = this.#state;
    for (;;) {
      const seq = state.ticksSeq.readBegin();
      const ticks = this.#scale(this.#virtualUnlocked()) + state.tscOffset.load();
      if (!state.ticksSeq.readRetry(seq)) return ticks;
    }
  }

  /** As `ticks`, low and high half to `out[at]` and `out[at + 1]`. */
  readTsc(out: Uint32Array, at = 0): void {
    const ticks = this.ticks();
    out[at] = ticks % 4294967296;
    out[at + 1] = Math.floor(ticks / 4294967296);
  }

  /** VIRTUAL time in ns at which the TSC reaches `ticks`: for TSC-deadline timers. *Thread:* any. *Lock:* none. */
  virtualAtTick(ticks: number): number {
    const hz = this.tscHz;
    const scaled = ticks - this.#state.tscOffset.load();
    return hz === 1e9 ? scaled : Math.ceil(scaled / (hz / 1e9));
  }

  /** TSC ticks per second of VIRTUAL. */
  get tscHz(): number {
    return this.#state.tscHz.load();
  }

  #virtual(): number {
    if (this.#state.virtualMode.load() === VIRTUAL_MODE.MANUAL) return this.#state.manualVirtual.load();
    return this.icount === undefined ? this.#virtualRt() : this.#instructionTime(this.icount);
  }

  #instructionTime(icount: Icount): number {
    icount.fold();
    const { ticksSeq } = this.#state;
    for (;;) {
      const seq = ticksSeq.readBegin();
      const now = icount.virtualUnlocked();
      if (!ticksSeq.readRetry(seq)) return now;
    }
  }

  #virtualRt(): number {
    const { ticksSeq } = this.#state;
    for (;;) {
      const seq = ticksSeq.readBegin();
      const now = this.#virtualRtUnlocked();
      if (!ticksSeq.readRetry(seq)) return now;
    }
  }

  #virtualRtUnlocked(): number {
    const state = this.#state;
    const offset = state.ticksOffset.load();
    // host time is read inside the section: if it were read before, a stop in between could yield
    // a value that is later than the one at which the clock stopped
    return state.ticksEnabled.load() !== 0 ? offset + this.#source.monotonic() : offset;
  }

  #virtualUnlocked(): number {
    const state = this.#state;
    if (this.icount !== undefined) return this.icount.virtualUnlocked();
    return state.virtualMode.load() === VIRTUAL_MODE.MANUAL
      ? state.manualVirtual.load()
      : this.#virtualRtUnlocked();
  }

  #scale(ns: number): number {
    const hz = this.#state.tscHz.load();
    return hz === 1e9 ? ns : Math.floor(ns * (hz / 1e9));
  }

  /**
   * The wall clock has a grain; monotonic time plus an offset has none but does not follow
   * jumps. So the offset is moved whenever the two cannot both be right. Reading the wall clock costs much
   * more than the rest, so it is looked at once in a millisecond.
   */
  #wallClock(): number {
    const state = this.#state;
    const offset = state.hostOffset.load();
    const before = this.#source.monotonic();
    if (before < this.#wallLookAt) return before + offset;
    const wall = (this.#source.wallMs() - state.wallBaseMs) * 1e6;
    const { wallGrain } = this.#source;
    const after = this.#source.monotonic();
    // when the thread was interrupted in between, the two times say little: the next reading looks again
    if (after - before <= wallGrain) this.#wallLookAt = before + WALL_INTERVAL;
    // the wall clock was read between the two, and it means some moment in [wall, wall + grain)
    let right = offset;
    if (after + offset < wall) right = wall - after;
    else if (before + offset >= wall + wallGrain) right = wall + wallGrain - 1 - before;
    if (right !== offset) state.hostOffset.store(right);
    return after + right;
  }

  // --- starting, stopping, setting ---------------------------------------------------------------

  /** Whether VIRTUAL_RT (and VIRTUAL, in mode HOST) runs. */
  get ticksEnabled(): boolean {
    return this.#state.ticksEnabled.load() !== 0;
  }

  /** Lets VIRTUAL_RT and the TSC run on from where they stopped. Idempotent. *Lock:* BQL. */
  enableTicks(): void {
    this.#setTicks(1);
    this.#notify(CLOCK.VIRTUAL);
    this.#notify(CLOCK.VIRTUAL_RT);
  }

  /** Stops them. Idempotent. Timers are another matter: see `clockEnable`. *Lock:* BQL. */
  disableTicks(): void {
    this.#setTicks(0);
  }

  #setTicks(on: 0 | 1): void {
    const state = this.#state;
    state.ticksLock.lock();
    if (state.ticksEnabled.load() !== on) {
      state.ticksSeq.writeBegin();
      const now = this.#source.monotonic();
      state.ticksOffset.store(state.ticksOffset.load() + (on ? -now : now));
      state.ticksEnabled.store(on);
      state.ticksSeq.writeEnd();
    }
    state.ticksLock.unlock();
  }

  get virtualMode(): VirtualMode {
    return this.#state.virtualMode.load() as VirtualMode;
  }

  /**
   * Sets VIRTUAL in mode MANUAL; it may go back, the TSC then repeats its value. *Lock:* BQL.
   * Throws `not-manual` in another mode.
   */
  setVirtual(ns: number): void {
    if (this.virtualMode !== VIRTUAL_MODE.MANUAL) {
      throw new ClockError('not-manual', 'VIRTUAL is not set by hand');
    }
    this.#change(() => this.#state.manualVirtual.store(Math.floor(ns)));
    this.#notify(CLOCK.VIRTUAL);
  }

  /**
   * Moves VIRTUAL in mode MANUAL forward to `to`, stopping at every expiry in `group` on the way and
   * running its VIRTUAL timers there. *Thread:* the group's owner. *Lock:* BQL.
   */
  warpTo(to: number, group: TimerGroup = this.mainGroup): void {
    const list = group.lists[CLOCK.VIRTUAL];
    list.run();
    for (;;) {
      const now = this.now(CLOCK.VIRTUAL);
      if (now >= to) return;
      this.setVirtual(Math.min(to, now + list.deadlineOf(ALL_ATTRIBUTES)));
      list.run();
    }
  }

  /** Changes the TSC's frequency; its value does not go back. *Lock:* BQL. */
  setTscHz(hz: number): void {
    if (!(hz >= 1) || hz > 1e11) throw new RangeError(`TSC frequency ${hz} Hz is not in 1..1e11`);
    this.#change(() => this.#state.tscHz.store(hz));
  }

  /** Makes a change that may set the scaled clock back, and moves the TSC's offset so that it repeats its value. */
  #change(apply: () => void): void {
    const state = this.#state;
    state.ticksLock.lock();
    state.ticksSeq.writeBegin();
    const virtual = this.#virtualUnlocked();
    const before = this.#scale(virtual);
    apply();
    const after = this.#scale(
      state.virtualMode.load() === VIRTUAL_MODE.HOST ? virtual : this.#virtualUnlocked(),
    );
    if (after < before) state.tscOffset.store(state.tscOffset.load() + (before - after));
    state.ticksSeq.writeEnd();
    state.ticksLock.unlock();
  }

  /** True when the value of clock `type` does not grow at present. *Thread:* any. */
  standsStill(type: ClockType): boolean {
    if (type === CLOCK.VIRTUAL && this.virtualMode !== VIRTUAL_MODE.HOST) return true;
    return (type === CLOCK.VIRTUAL || type === CLOCK.VIRTUAL_RT) && !this.ticksEnabled;
  }

  // --- timers as a whole -------------------------------------------------------------------------

  /** Whether timers of clock `type` may run. *Thread:* any. *Lock:* none. */
  isEnabled(type: ClockType): boolean {
    return this.#state.enabled[type].load() !== 0;
  }

  /**
   * Lets the timers of a clock run, or not. When a disabling call returns, no callback of the clock
   * is running in any thread, and none will start before the clock is enabled again.
   * *Thread:* any but one in a callback of that clock. *Lock:* BQL, so that on and off do not race; a
   * list's owner that needs the BQL holds it over its pass. *May block:* yes, until running passes end.
   * Throws `disabled-in-callback`.
   */
  clockEnable(type: ClockType, on: boolean): void {
    if (!on) this.#refuseInCallback(type);
    const was = this.#state.enabled[type].exchange(on ? 1 : 0);
    if (on) {
      if (was === 0) this.#notify(type);
      return;
    }
    for (let g = 0; g < this.layout.maxGroups; g++) this.#usedGroup(g)?.lists[type].waitDone();
  }

  /** A callback that disabled its own clock would wait for itself. */
  #refuseInCallback(type: ClockType): void {
    for (let g = 0; g < this.layout.maxGroups; g++) {
      const timer = this.#usedGroup(g)?.lists[type].currentOfThisThread ?? -1;
      if (timer < 0) continue;
      const name = this.callbacks.nameOf(this.timerState(timer).callback);
      throw new ClockError(
        'disabled-in-callback',
        `clock ${CLOCK_NAMES[type]} cannot be disabled by a callback of its own timer ${timer} (${name})`,
      );
    }
  }

  #notify(type: ClockType): void {
    for (let g = 0; g < this.layout.maxGroups; g++) this.#usedGroup(g)?.lists[type].notify();
  }

  /**
   * Ns until the earliest timer of clock `type` in any list whose attributes are all in `mask`; `Infinity`
   * when there is none or the clock is disabled. *Thread:* any.
   */
  deadline(type: ClockType, mask: number = ALL_ATTRIBUTES): number {
    let soonest = Infinity;
    for (let g = 0; g < this.layout.maxGroups; g++) {
      const group = this.#usedGroup(g);
      if (group !== undefined) soonest = Math.min(soonest, group.lists[type].deadlineOf(mask));
    }
    return soonest;
  }

  /**
   * icount: ns until the earliest VIRTUAL timer whose attributes are all in `mask`. Those of the main loop's group
   * count when they are due; of another group its thread is told, since nobody waits for it.
   * *Thread:* executing.
   */
  virtualDeadline(mask: number = ALL_ATTRIBUTES): number {
    let soonest = this.mainGroup.lists[CLOCK.VIRTUAL].deadlineOf(mask);
    for (let g = 1; g < this.layout.maxGroups; g++) {
      const group = this.#usedGroup(g);
      if (group === undefined || group.lists[CLOCK.VIRTUAL].head === Infinity) continue;
      const deadline = group.lists[CLOCK.VIRTUAL].deadlineOf(mask);
      if (deadline > 0) soonest = Math.min(soonest, deadline);
      else group.notifier.notify();
    }
    return soonest;
  }

  // --- groups ------------------------------------------------------------------------------------

  #groupState(index: number): TimerGroupStateView {
    return TimerGroupState.at(this.buffer, this.offset + this.layout.groups + index * TimerGroupState.size);
  }

  #usedGroup(index: number): TimerGroup | undefined {
    const address = this.offset + this.layout.groups + index * TimerGroupState.size;
    if (this.#ops.load(address + TimerGroupState.offsetOf('used')) === 0) return undefined;
    return (this.#groups[index] ??= new TimerGroup(this, index, this.#groupState(index)));
  }

  /** Group `index`; 0 is the main loop's. Throws `no-group`. *Thread:* any. */
  group(index: number): TimerGroup {
    const group = index >= 0 && index < this.layout.maxGroups ? this.#usedGroup(index) : undefined;
    if (group === undefined) throw new ClockError('no-group', `there is no timer group ${index}`);
    return group;
  }

  /** The main loop's group. */
  get mainGroup(): TimerGroup {
    return this.group(0);
  }

  /** Makes a group of four lists, reached by every enable and deadline from now on. Throws `no-group-left`. */
  createGroup(): TimerGroup {
    const state = this.#state;
    state.tableLock.lock();
    let index = 0;
    while (index < this.layout.maxGroups && this.#usedGroup(index) !== undefined) index++;
    if (index < this.layout.maxGroups) {
      const group = this.#groupState(index);
      // whoever waited on it last may have ended in the middle of a wait
      group.notifier.notified.store(0);
      group.notifier.notifyMe.store(0);
      group.used.store(1);
    }
    state.tableLock.unlock();
    if (index === this.layout.maxGroups) {
      throw new ClockError('no-group-left', `all ${this.layout.maxGroups} timer groups are in use`);
    }
    return this.group(index);
  }

  /** Gives a group back. *Thread:* its owner. Throws `timers-left` when a timer of it is pending. */
  releaseGroup(group: TimerGroup): void {
    for (const list of group.lists) {
      if (list.count > 0) {
        throw new ClockError(
          'timers-left',
          `group ${group.index} has pending ${CLOCK_NAMES[list.type]} timers`,
        );
      }
    }
    this.#state.tableLock.lock();
    this.#groupState(group.index).used.store(0);
    this.#state.tableLock.unlock();
  }

  // --- single timers -----------------------------------------------------------------------------

  /** The struct of timer `index`. */
  timerState(index: number): TimerStateView {
    return TimerState.at(this.buffer, this.offset + this.layout.timers + index * TimerState.size);
  }

  /**
   * Makes a timer, not pending. Its number (`index`) is the same for all threads. Throws `no-timer-left`.
   * *Thread:* any. *May block:* shortly.
   */
  createTimer(options: TimerOptions): SharedTimer {
    const group = this.group(options.group ?? 0);
    const scale = options.scale ?? 1;
    if (!Number.isInteger(scale) || scale < 1) throw new RangeError(`timer scale ${scale} ns`);
    const callback =
      typeof options.callback === 'number'
        ? options.callback
        : this.callbacks.add(options.callback, options.name);
    const state = this.#state;
    state.tableLock.lock();
    const index = this.#takeTimer();
    if (index >= 0) {
      const timer = this.timerState(index);
      timer.callback = callback;
      timer.arg = options.arg ?? 0;
      timer.scale = scale;
      timer.attributes = options.attributes ?? 0;
      timer.list = group.index * CLOCK_COUNT + options.clock;
    }
    state.tableLock.unlock();
    if (index < 0) {
      throw new ClockError('no-timer-left', `all ${this.layout.maxTimers} timers are in use`);
    }
    return this.timer(index);
  }

  #expiry(index: number): AtomicNs {
    return new AtomicNs(this.buffer, this.offset + this.layout.expiries + index * EXPIRY_SIZE, this.#ops);
  }

  /** A timer that is in no use, or -1. Lock: tableLock. */
  #takeTimer(): number {
    const state = this.#state;
    const index = state.freeTimer;
    if (index >= 0) {
      state.freeTimer = this.timerState(index).nextFree;
      return index;
    }
    const fresh = state.freshTimer.load();
    if (fresh === this.layout.maxTimers) return -1;
    this.#expiry(fresh).store(-1);
    viewsOf(this.buffer).i32[(this.offset + this.layout.places + fresh * PLACE_SIZE) >>> 2] = 0;
    state.freshTimer.store(fresh + 1);
    return fresh;
  }

  /** A view of timer `index`, made by any thread. Throws `no-timer`. */
  timer(index: number): SharedTimer {
    const exists = index >= 0 && index < this.#state.freshTimer.load();
    const list = exists ? this.timerState(index).list : -1;
    if (list < 0) throw new ClockError('no-timer', `there is no timer ${index}`);
    return new SharedTimer(
      this.timerState(index).scale,
      this.#expiry(index),
      index,
      this.group(list >> 2).lists[list & 3],
    );
  }

  /** Gives a timer's number back. Throws `timer-pending`. */
  releaseTimer(timer: SharedTimer): void {
    if (timer.pending) throw new ClockError('timer-pending', `timer ${timer.index} is pending`);
    const state = this.#state;
    state.tableLock.lock();
    const timerState = this.timerState(timer.index);
    if (timerState.list >= 0) {
      timerState.list = -1;
      timerState.nextFree = state.freeTimer;
      state.freeTimer = timer.index;
    }
    state.tableLock.unlock();
  }
}

function limitsOf(options: ClockOptions): ClockLimits {
  return {
    maxTimers: options.maxTimers ?? DEFAULT_LIMITS.maxTimers,
    maxLists: options.maxLists ?? DEFAULT_LIMITS.maxLists,
  };
}

/** One clock of a system, as devices see it. */
export class ClockView implements Clock {
  readonly #clocks: ClockSystem;
  readonly type: ClockType;

  constructor(clocks: ClockSystem, type: ClockType) {
    this.#clocks = clocks;
    this.type = type;
  }
  now(): number {
    return this.#clocks.now(this.type);
  }
}
