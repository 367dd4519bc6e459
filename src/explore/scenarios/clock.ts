/** clockEnable against a list's owner against whoever arms and disarms. */
import { setOwnerId } from '@smp86/atomics-sync';
import { ClockSystem } from '../../timer/clock.ts';
import { CLOCK, CLOCK_NAMES, ClockState, TimerGroupState, TimerListState } from '../../timer/clock-state.ts';
import { NotifierState } from '../../timer/notifier.ts';
import type { HostSource } from '../../timer/host-time.ts';
import type { SharedTimer } from '../../timer/timer.ts';
import type { Model, Scenario } from '../scenario.ts';
import { ONE_PAUSE } from './mutex.ts';

/** A host that stands still; the clocks started at 0 and stand at 1000 ns: what is due stays due. */
export const STILL: HostSource = { monotonic: () => 1000, wallMs: () => 0, wallGrain: 1e6 };
const START: HostSource = { monotonic: () => 0, wallMs: () => 0, wallGrain: 1e6 };
const TIMERS = 2;
const CALLBACK = 1;

/** Above 0: the clock is disabled, as the disabler has been told. */
const DISABLED = 0;
const RUNNING = 1;
const RUNS = 2;

/** The clock system of a scenario, with `groups` groups. */
export function placeClocks(model: Model, groups: number): number {
  const at = model.place('clocks', ClockSystem.layout({ maxTimers: TIMERS, maxLists: groups * 4 }).size, 64);
  labels(model, at, groups);
  return at;
}
/** Names the words of a clock system for tables. */
function labels(model: Model, at: number, groups: number): void {
  for (const field of [
    'tableLock',
    'ticksLock',
    'ticksSeq',
    'ticksEnabled',
    'virtualMode',
    'ticksOffset',
  ] as const) {
    model.label(field, at + ClockState.offsetOf(field), ClockState.fields[field].size);
  }
  for (let type = 0; type < 4; type++) {
    model.label(`enabled ${CLOCK_NAMES[type]}`, at + ClockState.offsetOf('enabled') + 4 * type, 4);
  }
  for (let g = 0; g < groups; g++) {
    const group =
      at + ClockSystem.layout({ maxTimers: TIMERS, maxLists: groups * 4 }).groups + g * TimerGroupState.size;
    const notifier = group + TimerGroupState.offsetOf('notifier');
    model.label(`group${g}.used`, group, 4);
    model.label(`group${g}.notified`, notifier + NotifierState.offsetOf('notified'), 4);
    model.label(`group${g}.notifyMe`, notifier + NotifierState.offsetOf('notifyMe'), 4);
    for (let type = 0; type < 4; type++) {
      const list = group + TimerGroupState.offsetOf('lists') + type * TimerListState.size;
      for (const field of ['lock', 'done', 'head', 'count', 'runner', 'current', 'nextSeq'] as const) {
        model.label(
          `${CLOCK_NAMES[type]}${g}.${field}`,
          list + TimerListState.offsetOf(field),
          TimerListState.fields[field].size,
        );
      }
    }
  }
}
/** Two timers with callback 1 in group `group`, the first one armed and due. */
function setup(model: Model, groups: number, enabled: boolean): void {
  const clocks = ClockSystem.init(model.buffer, placeClocks(model, groups), {
    maxTimers: TIMERS,
    maxLists: groups * 4,
    source: START,
  });
  clocks.enableTicks();
  for (let g = 1; g < groups; g++) clocks.createGroup();
  for (let i = 0; i < TIMERS; i++) {
    clocks.createTimer({ clock: CLOCK.VIRTUAL, callback: CALLBACK, group: i % groups, arg: i });
  }
  clocks.clockEnable(CLOCK.VIRTUAL, enabled);
  clocks.timer(0).mod(5);
}
function attach(model: Model, index: number, groups: number): ClockSystem {
  setOwnerId(index + 1);
  return ClockSystem.attach(model.buffer, placeClocks(model, groups), { source: STILL });
}
/** Gives callback 1 its function: it must never run while the clock is disabled. */
function register(model: Model, clocks: ClockSystem, then: (arg: number) => void): void {
  const { ghost } = model;
  clocks.callbacks.register(CALLBACK, (arg) => {
    model.assert(ghost[DISABLED] === 0, 'a callback starts while its clock is disabled');
    ghost[RUNNING]++;
    model.step();
    model.assert(ghost[DISABLED] === 0, 'a callback runs while its clock is disabled');
    ghost[RUNNING]--;
    ghost[RUNS]++;
    model.reached('callback');
    then(arg);
  });
}
/** Disables VIRTUAL, and enables it again when it has looked. */
function offAndOn(model: Model, clocks: ClockSystem): void {
  const { ghost } = model;
  clocks.clockEnable(CLOCK.VIRTUAL, false);
  ghost[DISABLED]++;
  model.assert(ghost[RUNNING] === 0, 'clockEnable returned while a callback was running');
  model.step();
  ghost[DISABLED]--;
  clocks.clockEnable(CLOCK.VIRTUAL, true);
}

function enable(
  name: string,
  title: string,
  body: (timers: readonly SharedTimer[]) => void,
  rearm: boolean,
): Scenario {
  return {
    name,
    title,
    threads: ['owner', 'disabler', 'armer'],
    bytes: 8192,
    patches: [ONE_PAUSE],
    reaches: ['callback'],
    setup: (model: Model) => setup(model, 1, true),
    thread(model: Model, index: number) {
      const clocks = attach(model, index, 1);
      const timers = [clocks.timer(0), clocks.timer(1)];
      if (index === 0) {
        register(model, clocks, (arg) => {
          if (rearm) timers[arg].mod(2000);
        });
        const list = clocks.mainGroup.lists[CLOCK.VIRTUAL];
        return () => {
          list.run();
          list.run();
        };
      }
      if (index === 1) return () => offAndOn(model, clocks);
      return () => body(timers);
    },
  };
}

const modifyDelete = enable(
  'clock-enable',
  'clockEnable off and on, against two passes of the owner, against modify and delete',
  (timers) => {
    timers[1].mod(7);
    timers[0].del();
  },
  false,
);
const anticipate = enable(
  'clock-enable-rearm',
  'as before, with callbacks that arm their timer again, against modifyAnticipate and modify',
  (timers) => {
    timers[0].modAnticipate(3);
    timers[1].mod(3000);
  },
  true,
);

/** Two owners, each with a due timer, and a disabler who has to wait for both. */
const lists: Scenario = {
  name: 'clock-lists',
  title: 'clockEnable off and on, against the passes of two owners',
  threads: ['owner 1', 'owner 2', 'disabler'],
  bytes: 8192,
  patches: [ONE_PAUSE],
  reaches: ['callback'],
  setup(model: Model) {
    setup(model, 2, true);
    attach(model, 3, 2).timer(1).mod(5);
  },
  thread(model: Model, index: number) {
    const clocks = attach(model, index, 2);
    if (index === 2) return () => offAndOn(model, clocks);
    register(model, clocks, () => {});
    const list = clocks.group(index).lists[CLOCK.VIRTUAL];
    return () => {
      list.run();
      list.run();
    };
  },
};

/** Two threads disable; neither may return while a callback runs. */
const disablers: Scenario = {
  name: 'clock-disablers',
  title: 'two threads disable a clock, against a pass of the owner',
  threads: ['owner', 'disabler 1', 'disabler 2'],
  bytes: 8192,
  patches: [ONE_PAUSE],
  reaches: ['callback'],
  setup: (model: Model) => setup(model, 1, true),
  thread(model: Model, index: number) {
    const { ghost } = model;
    const clocks = attach(model, index, 1);
    if (index === 0) {
      register(model, clocks, () => {});
      const list = clocks.mainGroup.lists[CLOCK.VIRTUAL];
      return () => {
        list.run();
        list.run();
      };
    }
    return () => {
      clocks.clockEnable(CLOCK.VIRTUAL, false);
      ghost[DISABLED]++;
      model.assert(ghost[RUNNING] === 0, 'clockEnable returned while a callback was running');
    };
  },
};

/** Nobody else wakes the owner: an enable or an arm that it sleeps through is a deadlock. */
const wake: Scenario = {
  name: 'clock-wake',
  title:
    'the owner sleeps until its timer is due: the clock is enabled, and another timer is armed and one put off',
  threads: ['owner', 'enabler', 'armer'],
  bytes: 8192,
  patches: [ONE_PAUSE],
  reaches: ['callback'],
  setup: (model: Model) => setup(model, 1, false),
  thread(model: Model, index: number) {
    const { ghost } = model;
    const clocks = attach(model, index, 1);
    if (index === 0) {
      register(model, clocks, () => {});
      const group = clocks.mainGroup;
      return () => {
        while (ghost[RUNS] < 1) {
          group.notifier.wait(group.deadline());
          group.notifier.accept();
          group.run();
        }
      };
    }
    if (index === 1) return () => clocks.clockEnable(CLOCK.VIRTUAL, true);
    const timers = [clocks.timer(0), clocks.timer(1)];
    return () => {
      timers[0].mod(Infinity);
      timers[1].mod(9);
    };
  },
};

/** Readers of a clock that is stopped and started never see it go back, from one to the next. */
const ticks: Scenario = {
  name: 'clock-ticks',
  title: 'VIRTUAL_RT stops and starts while host time goes on; two threads read it',
  threads: ['stopper', 'reader 1', 'reader 2'],
  bytes: 8192,
  patches: [
    ONE_PAUSE,
    // one more look at a word does what forty do
    { file: 'shared/src/seq-lock.ts', find: 'const MAX_PAUSES = 40;', replace: 'const MAX_PAUSES = 1;' },
  ],
  setup: (model: Model) => setup(model, 1, true),
  thread(model: Model, index: number) {
    const { ghost } = model;
    setOwnerId(index + 1);
    // host time moves on with every look of the stopper
    const source: HostSource = {
      monotonic: () => {
        if (index === 0) ghost[HOST_TIME] += 5;
        return 1000 + ghost[HOST_TIME];
      },
      wallMs: () => 0,
      wallGrain: 1e6,
    };
    const clocks = ClockSystem.attach(model.buffer, placeClocks(model, 1), { source });
    if (index === 0) {
      return () => {
        clocks.disableTicks();
        clocks.enableTicks();
      };
    }
    return () => {
      model.step();
      const before = ghost[SEEN];
      const now = clocks.now(CLOCK.VIRTUAL_RT);
      model.assert(now >= before, 'the clock went back');
      if (now > ghost[SEEN]) ghost[SEEN] = now;
    };
  },
};
const HOST_TIME = 3;
const SEEN = 4;

export const scenarios: readonly Scenario[] = [modifyDelete, anticipate, lists, disablers, wake, ticks];
