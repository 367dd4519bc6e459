/** Event: set, reset and wait by several threads. */
import { Event } from '@smp86/atomics-sync';
import type { Model, Scenario } from '../scenario.ts';

const CONDITION = 0;
const WOKEN = 1;
const RESETS = 2;

/** Thread 0 makes a condition true and sets; the others wait for it with reset, look, wait. */
const pattern: Scenario = {
  name: 'event',
  title: 'Event: reset, look, wait of one thread; a condition and set of two others',
  threads: ['waiter', 'notifier 1', 'notifier 2'],
  setup(model: Model) {
    new Event(model.buffer, model.place('event', Event.BYTES)).init(false);
  },
  thread(model: Model, index: number) {
    const { ghost } = model;
    const event = new Event(model.buffer, model.place('event', Event.BYTES));
    if (index === 0) {
      return () => {
        for (;;) {
          event.reset();
          if (ghost[CONDITION] === 2) break;
          event.wait();
        }
      };
    }
    return () => {
      model.step();
      ghost[CONDITION]++;
      event.set();
    };
  },
};

/** Two waiters, who do not reset, and one set: both have to be woken. */
const waiters: Scenario = {
  name: 'event-waiters',
  title: 'Event: two waiters and one set',
  threads: ['waiter 1', 'waiter 2', 'notifier'],
  setup(model: Model) {
    new Event(model.buffer, model.place('event', Event.BYTES)).init(false);
  },
  thread(model: Model, index: number) {
    const { ghost } = model;
    const event = new Event(model.buffer, model.place('event', Event.BYTES));
    if (index < 2) {
      return () => {
        event.wait();
        model.assert(ghost[CONDITION] === 1, 'a wait returned before the event was set');
        ghost[WOKEN]++;
      };
    }
    return () => {
      model.step();
      ghost[CONDITION] = 1;
      event.set();
    };
  },
  end(model: Model) {
    model.assert(model.ghost[WOKEN] === 2, 'both waiters went on');
  },
};

/** Resets race with a waiter; when all of them are done the event is set. */
const resets: Scenario = {
  name: 'event-reset',
  title: 'Event: one waits while two reset, and the later of these sets',
  threads: ['waiter', 'resetter 1', 'resetter 2'],
  setup(model: Model) {
    new Event(model.buffer, model.place('event', Event.BYTES)).init(true);
  },
  thread(model: Model, index: number) {
    const { ghost } = model;
    const event = new Event(model.buffer, model.place('event', Event.BYTES));
    if (index === 0) return () => event.wait();
    return () => {
      event.reset();
      ghost[RESETS]++;
      if (ghost[RESETS] === 2) event.set();
    };
  },
};

/** A timed wait says whether the event was set, and a late set is never needed. */
const timed: Scenario = {
  name: 'event-timed',
  title: 'Event: two timed waits and a set',
  threads: ['waiter 1', 'waiter 2', 'notifier'],
  setup(model: Model) {
    new Event(model.buffer, model.place('event', Event.BYTES)).init(false);
  },
  thread(model: Model, index: number) {
    const { ghost } = model;
    const event = new Event(model.buffer, model.place('event', Event.BYTES));
    if (index < 2) {
      return () => {
        if (event.waitTimed(1000)) model.assert(ghost[CONDITION] === 1, 'the event was not set');
      };
    }
    return () => {
      model.step();
      ghost[CONDITION] = 1;
      event.set();
    };
  },
};

export const scenarios: readonly Scenario[] = [pattern, waiters, resets, timed];
