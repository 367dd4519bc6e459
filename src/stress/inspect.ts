/** The state of a round in words: what each thread does and waits for, and every lock, event, list and loop. */
import { Mutex, type SyncOps, viewsOf, type ViewOf } from '@smp86/atomics-sync';
import { AioState } from '../aio/aio-context.ts';
import { BottomHalfState, BottomHalvesState } from '../aio/bottom-half.ts';
import { MainLoopState } from '../aio/main-loop.ts';
import {
  CLOCK_COUNT,
  CLOCK_NAMES,
  ClockState,
  type ClockType,
  TimerGroupState,
  TimerState,
} from '../timer/clock-state.ts';
import type { ClockSystem } from '../timer/clock.ts';
import {
  PHASE,
  type Plan,
  SlotState,
  StressState,
  ThreadState,
  type ThreadView,
  TicketState,
} from './layout.ts';
import { OPERATION_NAMES } from './vocabulary.ts';

export interface Inspected {
  readonly buffer: SharedArrayBuffer;
  readonly ops: SyncOps;
  readonly plan: Plan;
  readonly clocks: ClockSystem;
  /** Names of the threads, by their place in the table. */
  readonly names: readonly string[];
}

const MUTEX_OWNER = 4;
const seconds = (ns: number): string => `${(ns / 1e9).toFixed(3)} s`;
const EVENT_NAMES = new Map([
  [0, 'set'],
  [1, 'reset'],
  [-1, 'reset, waited for'],
]);

export class Inspector {
  readonly #world: Inspected;
  /** Name of each futex word. */
  readonly #words = new Map<number, string>();
  readonly #locks: { readonly name: string; readonly lock: Mutex }[] = [];
  /** By list: when it was first seen with a due timer after so many callbacks. */
  readonly #due = new Map<number, { readonly ran: number; readonly since: number }>();
  readonly #events: { readonly name: string; readonly address: number }[] = [];

  constructor(world: Inspected) {
    this.#world = world;
    const { buffer, plan } = world;
    const state = StressState.at(buffer, plan.state);
    this.#event('go', state.go.address);
    this.#lock('BQL', state.bql);
    state.switches.forEach((lock, type) => this.#lock(`switch of ${CLOCK_NAMES[type]}`, lock));
    this.#lock('owner of the ticks', state.ticksOwner);
    const clocks = ClockState.at(buffer, plan.clocks);
    this.#lock('table of timers and groups', clocks.tableLock);
    this.#lock('writers of the ticks', clocks.ticksLock);
    for (let g = 0; g < plan.maxGroups; g++) {
      const group = this.#group(g);
      this.#words.set(group.notifier.notified.address, `group ${g}: notification`);
      group.lists.forEach((list, type) => {
        this.#lock(`list ${g}/${CLOCK_NAMES[type]}`, list.lock);
        this.#event(`list ${g}/${CLOCK_NAMES[type]} done`, list.done.address);
      });
    }
    for (const { name, at } of this.#loops()) {
      this.#lock(`free bottom halves of ${name}`, BottomHalvesState.at(buffer, at + AioState.size).freeLock);
    }
    for (let i = 0; i < plan.cast.iothreads; i++) this.#lock(`slot ${i}`, this.#slot(i).lock);
    this.#ticketWords('timer', plan.timerTickets, plan.bottomHalfTickets);
    this.#ticketWords('bottom half', plan.bottomHalfTickets, plan.userTickets);
    this.#ticketWords('user', plan.userTickets, plan.slots);
  }

  #lock(name: string, lock: Mutex): void {
    this.#locks.push({ name, lock });
    this.#words.set(lock.address, `lock: ${name}`);
  }
  #event(name: string, address: number): void {
    this.#events.push({ name, address });
    this.#words.set(address, `event: ${name}`);
  }
  #ticketWords(what: string, from: number, to: number): void {
    for (let i = 0; from + (i + 1) * TicketState.size <= to; i++) {
      const { done } = TicketState.at(this.#world.buffer, from + i * TicketState.size);
      this.#words.set(done.address, `event: ${what} ticket ${i} done`);
    }
  }
  #group(index: number): ViewOf<typeof TimerGroupState> {
    const { buffer, plan, clocks } = this.#world;
    return TimerGroupState.at(buffer, plan.clocks + clocks.layout.groups + index * TimerGroupState.size);
  }
  #slot(index: number): ViewOf<typeof SlotState> {
    return SlotState.at(this.#world.buffer, this.#world.plan.slots + index * SlotState.size);
  }
  #thread(index: number): ThreadView {
    return ThreadState.at(this.#world.buffer, this.#world.plan.threads + index * ThreadState.size);
  }
  #loops(): { name: string; at: number }[] {
    const { contexts, slotContexts, mainLoop, cast } = this.#world.plan;
    return [
      ...(cast.mainLoop ? [{ name: 'main loop', at: mainLoop + MainLoopState.size }] : []),
      ...contexts.map((at, i) => ({ name: `context ${i}`, at })),
      ...slotContexts.map((at, i) => ({ name: `context of slot ${i}`, at })),
    ];
  }

  /** Locks that somebody holds, by name. */
  heldLocks(): string[] {
    return this.#locks.filter(({ lock }) => lock.isLocked()).map(({ name }) => name);
  }

  /**
   * Lists that have had a due timer for `ns`, while their clock was enabled, and ran no callback. To be called now and
   * then: that a timer is armed for the distant past does not mean that it has waited since.
   */
  overdue(ns: number): string[] {
    const { clocks, plan, ops } = this.#world;
    const now = clocks.hostNow();
    const found: string[] = [];
    for (let g = 0; g < plan.maxGroups; g++) {
      const group = this.#group(g);
      group.lists.forEach((list, type) => {
        const index = g * CLOCK_COUNT + type;
        const ran = ops.load(plan.ran + index * 4);
        const due =
          group.used.load() !== 0 &&
          clocks.isEnabled(type as ClockType) &&
          list.head.load() <= clocks.now(type as ClockType);
        const seen = this.#due.get(index);
        if (!due) this.#due.delete(index);
        else if (seen === undefined || seen.ran !== ran) this.#due.set(index, { ran, since: now });
        else if (now - seen.since > ns) {
          found.push(`list ${g}/${CLOCK_NAMES[type]}: a timer is due for ${seconds(now - seen.since)}`);
        }
      });
    }
    return found;
  }

  /** Lists with timers or in a pass. */
  busyLists(): string[] {
    const found: string[] = [];
    for (let g = 0; g < this.#world.plan.maxGroups; g++) {
      const group = this.#group(g);
      if (group.used.load() === 0) continue;
      group.lists.forEach((list, type) => {
        if (list.head.load() === Infinity && list.runner.load() === 0) return;
        found.push(`list ${g}/${CLOCK_NAMES[type]}: ${list.count} timers`);
      });
    }
    return found;
  }

  /** Groups in use, the main loop's not counted. */
  groupsInUse(): number {
    let used = 0;
    for (let g = 1; g < this.#world.plan.maxGroups; g++) used += this.#group(g).used.load() === 0 ? 0 : 1;
    return used;
  }

  /** Timers that can still be made. */
  freeTimers(): number {
    const { buffer, plan, clocks } = this.#world;
    const state = ClockState.at(buffer, plan.clocks);
    let free = plan.limits.maxTimers - state.freshTimer.load();
    let index = state.freeTimer;
    for (; index >= 0 && free <= plan.limits.maxTimers; free++) {
      index = TimerState.at(buffer, plan.clocks + clocks.layout.timers + index * TimerState.size).nextFree;
    }
    return free;
  }

  /** Bottom halves in use in a context at `at`. */
  bottomHalvesInUse(at: number): number {
    const { buffer } = this.#world;
    const state = BottomHalvesState.at(buffer, at + AioState.size);
    const table = at + AioState.size + BottomHalvesState.size;
    let free = 0;
    for (let link = state.free; link !== 0 && free <= state.capacity; free++) {
      link = BottomHalfState.at(buffer, table + (link - 1) * BottomHalfState.size).next;
    }
    return state.fresh - free;
  }

  /** Threads whose operation has been going on for longer than `ns`. */
  stuck(ns: number): string[] {
    const now = this.#world.clocks.hostNow();
    return this.#world.names.flatMap((name, i) => {
      const thread = this.#thread(i);
      const operation = thread.operation.load();
      const since = now - thread.operationSince.load();
      const running = thread.phase.load() === PHASE.RUNNING;
      return running && operation >= 0 && since > ns
        ? [`${name}: ${OPERATION_NAMES[operation]} for ${seconds(since)}`]
        : [];
    });
  }

  /** Everything. */
  dump(): string {
    return [
      ...this.#section('threads', this.#threads()),
      ...this.#section('locks held', this.#lockLines()),
      ...this.#section('events that are not set', this.#eventLines()),
      ...this.#section('clocks', this.#clockLines()),
      ...this.#section('timer lists in use', this.#listLines()),
      ...this.#section('loops', this.#loopLines()),
    ].join('\n');
  }

  #section(title: string, lines: readonly string[]): string[] {
    return [`${title}:`, ...(lines.length === 0 ? ['  none'] : lines.map((line) => `  ${line}`))];
  }

  #threadName(owner: number): string {
    return owner === 0 ? 'the host' : (this.#world.names[owner - 1] ?? `thread ${owner}`);
  }

  #threads(): string[] {
    const { ops, clocks, names } = this.#world;
    const now = clocks.hostNow();
    return names.map((name, i) => {
      const thread = this.#thread(i);
      const parts = [`${name}: ${['starting', 'ready', 'runs', 'done'][thread.phase.load()]}`];
      const operation = thread.operation.load();
      if (operation >= 0 && thread.phase.load() === PHASE.RUNNING) {
        parts.push(`${OPERATION_NAMES[operation]} for ${seconds(now - thread.operationSince.load())}`);
      }
      const address = thread.waitAddress.load();
      if (address !== 0) {
        const timeout = thread.waitTimeout.load();
        parts.push(
          `waits for ${this.#words.get(address) ?? `word ${address}`} to change from ${thread.waitExpected.load()}` +
            ` (is ${ops.load(address)}), since ${seconds(now - thread.waitSince.load())},` +
            (timeout === Infinity ? ' without limit' : ` at most ${seconds(timeout)}`),
        );
      }
      return parts.join('; ');
    });
  }

  #lockLines(): string[] {
    const { i32 } = viewsOf(this.#world.buffer);
    return this.#locks
      .filter(({ lock }) => lock.isLocked())
      .map(({ name, lock }) => {
        const contended = this.#world.ops.load(lock.address) === 2 ? ', others may sleep on it' : '';
        return `${name}: held by ${this.#threadName(i32[(lock.address + MUTEX_OWNER) >>> 2])}${contended}`;
      });
  }

  #eventLines(): string[] {
    return this.#events.flatMap(({ name, address }) => {
      const value = this.#world.ops.load(address);
      return value === 0 ? [] : [`${name}: ${EVENT_NAMES.get(value) ?? value}`];
    });
  }

  #clockLines(): string[] {
    const { clocks, buffer, plan } = this.#world;
    const { disabled } = StressState.at(buffer, plan.state);
    return CLOCK_NAMES.map((name, type) => {
      const on = clocks.isEnabled(type as ClockType) ? 'enabled' : 'disabled';
      const window = disabled[type].load() === 0 ? '' : ', in a window in which no callback may run';
      const still = clocks.standsStill(type as ClockType) ? ', stands still' : '';
      return `${name}: ${on}${window}, ${seconds(clocks.now(type as ClockType))}${still}`;
    });
  }

  #listLines(): string[] {
    const { clocks, plan, buffer } = this.#world;
    const lines: string[] = [];
    for (let g = 0; g < plan.maxGroups; g++) {
      const group = this.#group(g);
      if (group.used.load() === 0) continue;
      const { notified, notifyMe } = group.notifier;
      lines.push(`group ${g}: notified ${notified.load()}, waits in progress ${notifyMe.load()}`);
      for (let type = 0; type < CLOCK_COUNT; type++) {
        const list = group.lists[type];
        const head = list.head.load();
        const left = head - clocks.now(type as ClockType);
        const due =
          head === Infinity
            ? 'empty'
            : left > 0
              ? `first in ${seconds(left)}`
              : `first ${seconds(-left)} late`;
        const runner = list.runner.load();
        const name = this.#world.names.find((_, i) => this.#thread(i).threadId.load() + 1 === runner);
        const ran = viewsOf(buffer).i32[(plan.ran >>> 2) + g * CLOCK_COUNT + type];
        const pass =
          runner === 0 ? '' : `, in a pass of ${name ?? runner}, callback of timer ${list.current.load()}`;
        lines.push(`  ${CLOCK_NAMES[type]}: ${list.count} timers, ${due}, ${ran} callbacks${pass}`);
      }
    }
    return lines;
  }

  #loopLines(): string[] {
    const { buffer } = this.#world;
    return this.#loops().flatMap(({ name, at }) => {
      const state = AioState.at(buffer, at);
      if (state.magic === 0) return [];
      const halves = BottomHalvesState.at(buffer, at + AioState.size);
      return [
        `${name}: group ${state.group}, stop ${state.stop.load()}, ${this.bottomHalvesInUse(at)} bottom halves in use, ` +
          `stack ${halves.top.load() === 0 ? 'empty' : 'not empty'}, slice ${halves.sliceFirst === 0 ? 'empty' : 'not empty'}`,
      ];
    });
  }
}
