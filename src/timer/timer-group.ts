/** A timer list group: the four lists, one per clock, that one thread runs, and how to wake that thread. */
import { CLOCK, type ClockLayout, type TimerGroupStateView } from './clock-state.ts';
import { Notifier } from './notifier.ts';
import { type ListClock, TimerList } from './timer-list.ts';

/** Where a group lies, and its clock system. */
export interface GroupHome extends ListClock {
  readonly buffer: SharedArrayBuffer;
  readonly offset: number;
  readonly layout: ClockLayout;
}

/** A thread's view of one group. */
export class TimerGroup {
  readonly index: number;
  /** By clock type. */
  readonly lists: readonly TimerList[];
  /** Wakes the owner. */
  readonly notifier: Notifier;
  readonly #state: TimerGroupStateView;
  /** icount: the main loop leaves its VIRTUAL timers to the thread that executes guest code. */
  readonly #leavesVirtual: boolean;

  constructor(home: GroupHome, index: number, state: TimerGroupStateView) {
    this.index = index;
    this.#state = state;
    this.#leavesVirtual = index === 0 && home.icount !== undefined;
    this.notifier = new Notifier(state.notifier);
    this.lists = state.lists.map(
      (list, type) =>
        new TimerList(home.buffer, home.offset, home.layout, index * 4 + type, list, home, this.notifier),
    );
  }

  /** False once the group was released. */
  get used(): boolean {
    return this.#state.used.load() !== 0;
  }

  /** Ns until the owner has a timer to run: 0 now, `Infinity` none. *Thread:* any. *Lock:* none. */
  deadline(): number {
    const lists = this.lists;
    const virtual = this.#leavesVirtual ? Infinity : lists[1].deadline();
    return Math.min(lists[0].deadline(), virtual, lists[2].deadline(), lists[3].deadline());
  }

  /** Runs what is due on all four clocks; see `TimerList.run`. *Thread:* owner. */
  run(): boolean {
    let progress = false;
    for (let type = 0; type < 4; type++) {
      if (this.#leavesVirtual && type === CLOCK.VIRTUAL) continue;
      if (this.lists[type].run()) progress = true;
    }
    return progress;
  }
}
