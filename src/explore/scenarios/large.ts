/** Scenarios of five and more threads: too many schedules to try all, so random ones. */
import { Mutex, setOwnerId } from '@smp86/atomics-sync';
import { AioContext } from '../../aio/aio-context.ts';
import { ClockSystem } from '../../timer/clock.ts';
import { CLOCK } from '../../timer/clock-state.ts';
import type { Model, Scenario } from '../scenario.ts';
import { placeClocks, STILL } from './clock.ts';
import { ONE_PAUSE } from './mutex.ts';

const CALLBACK = 1;
const BOTTOM_HALF = 2;
const DISABLED = 0;
const RUNNING = 1;
const CALLS = 2;
const LEFT = 3;
const GROUPS = 3;
const OPTIONS = { maxBottomHalves: 4 };

function placeContext(model: Model, group: number): number {
  return model.place(`context${group}`, AioContext.size(OPTIONS), 64);
}
function attach(model: Model, index: number): ClockSystem {
  setOwnerId(index + 1);
  return ClockSystem.attach(model.buffer, placeClocks(model, GROUPS), { source: STILL });
}

/**
 * Two iothreads that run until they are told to stop; two threads that switch a clock under a lock, two that arm
 * timers, disarm them and schedule bottom halves of both, one of which stops the iothreads in the end.
 */
const everything: Scenario = {
  name: 'everything',
  title: 'two iothreads, two switchers of a clock, two armers and schedulers, who stop the iothreads at last',
  threads: ['iothread 1', 'iothread 2', 'switcher 1', 'switcher 2', 'armer 1', 'armer 2'],
  random: true,
  bytes: 32768,
  patches: [ONE_PAUSE],
  setup(model: Model) {
    const clocks = ClockSystem.init(model.buffer, placeClocks(model, GROUPS), {
      maxTimers: 2,
      maxLists: GROUPS * 4,
      source: STILL,
    });
    for (let g = 1; g < GROUPS; g++) {
      const context = AioContext.init(clocks, placeContext(model, g), OPTIONS);
      clocks.createTimer({ clock: CLOCK.REALTIME, callback: CALLBACK, group: context.group.index });
      context.createBottomHalf(BOTTOM_HALF, g);
    }
    model.ghost[LEFT] = 2;
  },
  thread(model: Model, index: number) {
    const { ghost } = model;
    const clocks = attach(model, index);
    const contexts = [1, 2].map((g) => AioContext.attach(clocks, placeContext(model, g)));
    if (index < 2) {
      clocks.callbacks.register(CALLBACK, () => {
        model.assert(ghost[DISABLED] === 0, 'a callback starts while its clock is disabled');
        ghost[RUNNING]++;
        model.step();
        model.assert(ghost[DISABLED] === 0, 'a callback runs while its clock is disabled');
        ghost[RUNNING]--;
        ghost[CALLS]++;
      });
      clocks.callbacks.register(BOTTOM_HALF, () => {
        ghost[CALLS]++;
      });
      const context = contexts[index];
      return () => {
        while (!context.stopRequested) context.poll(true);
      };
    }
    if (index < 4) {
      const lock = new Mutex(model.buffer, model.place('bql', Mutex.BYTES));
      return () => {
        for (let i = 0; i < 2; i++) {
          lock.lock();
          clocks.clockEnable(CLOCK.REALTIME, false);
          ghost[DISABLED]++;
          model.assert(ghost[RUNNING] === 0, 'clockEnable returned while a callback was running');
          model.step();
          ghost[DISABLED]--;
          clocks.clockEnable(CLOCK.REALTIME, true);
          lock.unlock();
        }
      };
    }
    const timers = [clocks.timer(0), clocks.timer(1)];
    const halves = contexts.map((c) => c.bottomHalf(0));
    return () => {
      for (let i = 0; i < 2; i++) {
        timers[i].mod(index);
        halves[i].schedule();
        timers[1 - i].modAnticipate(1);
        contexts[i].scheduleOneshot(BOTTOM_HALF, index);
        timers[i].del();
      }
      ghost[LEFT]--;
      if (ghost[LEFT] > 0) return;
      for (let i = 0; i < 2; i++) contexts[i].requestStop();
    };
  },
};

/** As the exhaustive one, with more of everything. */
const mutex: Scenario = {
  name: 'mutex-many',
  title: 'Mutex: six threads take it three times each',
  threads: ['locker 1', 'locker 2', 'locker 3', 'locker 4', 'locker 5', 'locker 6'],
  random: true,
  patches: [ONE_PAUSE],
  thread(model: Model, index: number) {
    const { ghost } = model;
    setOwnerId(index + 1);
    const lock = new Mutex(model.buffer, model.place('mutex', Mutex.BYTES));
    const words = new Int32Array(model.buffer);
    const at = model.place('counter', 4) >>> 2;
    return () => {
      for (let i = 0; i < 3; i++) {
        lock.lock();
        ghost[RUNNING]++;
        model.assert(ghost[RUNNING] === 1, 'two threads hold the mutex');
        words[at] = words[at] + 1;
        model.step();
        ghost[RUNNING]--;
        lock.unlock();
      }
    };
  },
};

export const scenarios: readonly Scenario[] = [everything, mutex];
