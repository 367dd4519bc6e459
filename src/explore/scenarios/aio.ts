/** Event loops: notify against poll, bottom halves, timers that wake the owner, stop, groups that are given back. */
import { AtomicI32, setOwnerId } from '@smp86/atomics-sync';
import { AioContext } from '../../aio/aio-context.ts';
import { ClockSystem } from '../../timer/clock.ts';
import { CLOCK } from '../../timer/clock-state.ts';
import type { Model, Scenario } from '../scenario.ts';
import { placeClocks, STILL } from './clock.ts';
import { ONE_PAUSE } from './mutex.ts';

const CALL = 1;
const SEEN = 1;
const CALLS = 2;
const STOPPED = 3;
/** Work given to bottom half i, and what of it its calls have seen. */
const GIVEN_TO = 4;
const SEEN_OF = 6;

const GROUPS = 2;

interface ContextOptions {
  readonly bottomHalves?: number;
}
function area(model: Model, options: ContextOptions): number {
  const maxBottomHalves = options.bottomHalves ?? 1;
  return model.place('context', AioContext.size({ maxBottomHalves }), 64);
}
/** A context in group 1, with `created` bottom halves of callback 1. */
function setup(model: Model, created = 0, options: ContextOptions = {}): void {
  const clocks = ClockSystem.init(model.buffer, placeClocks(model, GROUPS), {
    maxTimers: 2,
    maxLists: GROUPS * 4,
    source: STILL,
  });
  const context = AioContext.init(clocks, area(model, options), {
    maxBottomHalves: options.bottomHalves ?? 1,
  });
  for (let i = 0; i < created; i++) context.createBottomHalf(CALL, i);
}
function attach(model: Model, index: number, options: ContextOptions = {}): AioContext {
  setOwnerId(index + 1);
  const clocks = ClockSystem.attach(model.buffer, placeClocks(model, GROUPS), { source: STILL });
  return AioContext.attach(clocks, area(model, options));
}
const SETTINGS = { bytes: 16384, patches: [ONE_PAUSE] } as const;

/** Two threads give requests to a loop that sleeps whenever it sees none. */
const notifyPoll: Scenario = {
  ...SETTINGS,
  name: 'notify-poll',
  title: 'notify against poll: two threads add a request and notify, the owner polls until it has both',
  threads: ['owner', 'requester 1', 'requester 2'],
  setup: (model: Model) => setup(model),
  thread(model: Model, index: number) {
    const { ghost } = model;
    const context = attach(model, index);
    const requests = new AtomicI32(model.buffer, model.place('requests', 4));
    if (index === 0) {
      context.addPoller({
        ready: () => requests.load() !== 0,
        poll: () => {
          const n = requests.exchange(0);
          ghost[SEEN] += n;
          return n > 0;
        },
      });
      return () => {
        while (ghost[SEEN] < 2) context.poll(true);
      };
    }
    return () => {
      requests.add(1);
      context.notify();
    };
  },
};

/** The owner runs until it has seen all work, given by schedules of bottom halves: `work[i]` is for number i. */
function ownerUntil(model: Model, context: AioContext, work: readonly number[]): () => void {
  const { ghost } = model;
  context.clocks.callbacks.register(CALL, (arg) => {
    ghost[CALLS]++;
    model.step();
    ghost[SEEN_OF + arg] = ghost[GIVEN_TO + arg];
  });
  return () => {
    while (ghost[SEEN_OF] < work[0] || ghost[SEEN_OF + 1] < work[1]) context.poll(true);
  };
}

function scheduling(name: string, title: string, halves: 1 | 2): Scenario {
  return {
    ...SETTINGS,
    name,
    title,
    threads: ['owner', 'scheduler 1', 'scheduler 2'],
    setup: (model: Model) => setup(model, halves, { bottomHalves: halves }),
    thread(model: Model, index: number) {
      const { ghost } = model;
      const context = attach(model, index, { bottomHalves: halves });
      if (index === 0) return ownerUntil(model, context, halves === 1 ? [2, 0] : [1, 1]);
      const number = (index - 1) % halves;
      const bh = context.bottomHalf(number);
      return () => {
        model.step();
        ghost[GIVEN_TO + number]++;
        bh.schedule();
      };
    },
    end(model: Model) {
      model.assert(model.ghost[CALLS] <= 2, 'a bottom half was called too often');
    },
  };
}

/** Whoever cancels and schedules again gets a call after that. */
const cancel: Scenario = {
  ...SETTINGS,
  name: 'bh-cancel',
  title: 'a bottom half is scheduled; another thread cancels and schedules it again',
  threads: ['owner', 'scheduler', 'canceller'],
  setup: (model: Model) => setup(model, 1),
  thread(model: Model, index: number) {
    const { ghost } = model;
    const context = attach(model, index);
    if (index === 0) return ownerUntil(model, context, [2, 0]);
    const bh = context.bottomHalf(0);
    if (index === 1) {
      return () => {
        model.step();
        ghost[GIVEN_TO]++;
        bh.schedule();
        bh.cancel();
        bh.schedule();
      };
    }
    return () => {
      bh.cancel();
      model.step();
      ghost[GIVEN_TO]++;
      bh.schedule();
    };
  },
};

/** Numbers of one-shot bottom halves come back, each once. */
const oneshot: Scenario = {
  ...SETTINGS,
  name: 'bh-oneshot',
  title: 'two threads schedule one-shot bottom halves; every number comes back',
  threads: ['owner', 'scheduler 1', 'scheduler 2'],
  setup: (model: Model) => setup(model, 0, { bottomHalves: 2 }),
  thread(model: Model, index: number) {
    const { ghost } = model;
    const context = attach(model, index, { bottomHalves: 2 });
    if (index === 0) {
      context.clocks.callbacks.register(CALL, () => {
        ghost[CALLS]++;
        model.assert(ghost[CALLS] <= 2, 'a one-shot was called twice');
      });
      return () => {
        while (ghost[CALLS] < 2) context.poll(true);
      };
    }
    return () => context.scheduleOneshot(CALL, index);
  },
  end(model: Model) {
    const context = attach(model, 3, { bottomHalves: 2 });
    const a = context.createBottomHalf(CALL);
    const b = context.createBottomHalf(CALL);
    model.assert(a.index !== b.index, 'one number was given twice');
  },
};

/** More one-shots than numbers: who finds none waits until the owner gives one back. */
const full: Scenario = {
  ...SETTINGS,
  name: 'bh-full',
  title: 'two threads schedule one-shot bottom halves where there is one number',
  threads: ['owner', 'scheduler 1', 'scheduler 2'],
  setup: (model: Model) => setup(model),
  thread(model: Model, index: number) {
    const { ghost } = model;
    const context = attach(model, index);
    if (index === 0) {
      context.clocks.callbacks.register(CALL, () => {
        ghost[CALLS]++;
      });
      return () => {
        while (ghost[CALLS] < 2) context.poll(true);
      };
    }
    return () => context.scheduleOneshot(CALL, index);
  },
};

/** Nobody waits for a number of a loop that has ended. */
const fullStop: Scenario = {
  ...SETTINGS,
  name: 'bh-full-stop',
  title:
    'two threads schedule one-shot bottom halves where there is one number, and the loop is told to stop',
  threads: ['owner', 'scheduler', 'scheduler and stopper'],
  reaches: ['called', 'refused'],
  setup: (model: Model) => setup(model),
  thread(model: Model, index: number) {
    const context = attach(model, index);
    if (index === 0) {
      context.clocks.callbacks.register(CALL, () => model.reached('called'));
      return () => void context.run();
    }
    return () => {
      try {
        context.scheduleOneshot(CALL, index);
      } catch {
        model.reached('refused');
        model.assert(context.stopRequested, 'refused while the loop runs');
      }
      if (index === 2) context.requestStop();
    };
  },
};

/** A deleted one is not called any more, and its number comes back once. */
const remove: Scenario = {
  ...SETTINGS,
  name: 'bh-delete',
  title: 'one thread schedules and deletes a bottom half, another schedules a one-shot',
  threads: ['owner', 'deleter', 'scheduler'],
  setup: (model: Model) => setup(model, 1, { bottomHalves: 2 }),
  thread(model: Model, index: number) {
    const { ghost } = model;
    const context = attach(model, index, { bottomHalves: 2 });
    if (index === 0) {
      context.clocks.callbacks.register(CALL, (arg) => {
        if (arg === 0) model.assert(ghost[STOPPED] === 0, 'called after it was deleted and freed');
        else ghost[CALLS]++;
      });
      return () => {
        while (ghost[CALLS] < 1 || ghost[STOPPED] < 1) context.poll(true);
        context.poll(false);
      };
    }
    if (index === 1) {
      const bh = context.bottomHalf(0);
      return () => {
        bh.schedule();
        bh.delete();
        context.notify();
        model.step();
        ghost[STOPPED] = 1;
        context.notify();
      };
    }
    return () => context.scheduleOneshot(CALL, 7);
  },
};

/** Nobody wakes the owner but the arming itself. */
const arm: Scenario = {
  ...SETTINGS,
  name: 'arm-poll',
  title: 'two threads arm timers of a context that sleeps; the owner polls until both have fired',
  threads: ['owner', 'armer 1', 'armer 2'],
  setup(model: Model) {
    setup(model);
    const clocks = ClockSystem.attach(model.buffer, placeClocks(model, GROUPS), { source: STILL });
    for (let i = 0; i < 2; i++) clocks.createTimer({ clock: CLOCK.REALTIME, callback: CALL, group: 1 });
  },
  thread(model: Model, index: number) {
    const { ghost } = model;
    const context = attach(model, index);
    if (index === 0) {
      context.clocks.callbacks.register(CALL, () => {
        ghost[CALLS]++;
      });
      return () => {
        while (ghost[CALLS] < 2) context.poll(true);
      };
    }
    const timer = context.clocks.timer(index - 1);
    return () => timer.mod(index);
  },
};

/** An iothread's whole life: its loop ends, whatever comes in meanwhile, and its group is given back. */
const stop: Scenario = {
  ...SETTINGS,
  name: 'iothread-stop',
  title: 'an iothread runs until it is told to stop, while another thread schedules and a clock is switched',
  threads: ['iothread', 'stopper', 'scheduler'],
  setup: (model: Model) => setup(model, 1),
  thread(model: Model, index: number) {
    const { ghost } = model;
    const context = attach(model, index);
    if (index === 0) {
      context.clocks.callbacks.register(CALL, () => {
        ghost[CALLS]++;
        model.assert(ghost[STOPPED] === 0, 'a callback after the loop has ended');
      });
      return () => {
        void context.run();
        ghost[STOPPED] = 1;
        model.assert(context.stopRequested, 'the loop ended by itself');
        context.close();
      };
    }
    if (index === 1) return () => context.requestStop();
    const bh = context.bottomHalf(0);
    return () => {
      bh.schedule();
      context.clocks.clockEnable(CLOCK.REALTIME, false);
    };
  },
};

/** A group is given back by one thread while a second makes one and a third disables a clock. */
const reuse: Scenario = {
  ...SETTINGS,
  name: 'group-reuse',
  title: 'a group is given back, another thread makes one and runs it, a third disables a clock',
  threads: ['leaver', 'newcomer', 'disabler'],
  setup(model: Model) {
    setup(model);
    ClockSystem.attach(model.buffer, placeClocks(model, GROUPS), { source: STILL }).createTimer({
      clock: CLOCK.REALTIME,
      callback: CALL,
      group: 1,
    });
  },
  thread(model: Model, index: number) {
    const { ghost } = model;
    const context = attach(model, index);
    const { clocks } = context;
    clocks.callbacks.register(CALL, () => {
      model.assert(ghost[STOPPED] === 0, 'a callback while its clock is disabled');
      model.step();
      model.assert(ghost[STOPPED] === 0, 'a callback while its clock is disabled');
      ghost[CALLS]++;
    });
    const timer = clocks.timer(0);
    if (index === 0) {
      return () => {
        timer.mod(1);
        context.poll(false);
        timer.del();
        context.close();
        ghost[SEEN] = 1;
      };
    }
    if (index === 1) {
      return () => {
        model.step();
        // the timer is the newcomer's now
        if (ghost[SEEN] === 0) return;
        const group = clocks.createGroup();
        model.reached('a new group');
        timer.mod(1);
        group.run();
      };
    }
    return () => {
      clocks.clockEnable(CLOCK.REALTIME, false);
      ghost[STOPPED] = 1;
    };
  },
  reaches: ['a new group'],
};

/** Above 0: a callback of the context runs; a thread has acquired it. */
const INSIDE = 8;
const ACQUIRED = 9;

const acquire: Scenario = {
  ...SETTINGS,
  name: 'context-acquire',
  title:
    'a thread acquires a context twice over and schedules, another one acquires it, against its callbacks',
  threads: ['owner', 'acquirer 1', 'acquirer 2'],
  reaches: ['a callback'],
  setup: (model: Model) => setup(model, 1),
  thread(model: Model, index: number) {
    const { ghost } = model;
    const context = attach(model, index);
    if (index === 0) {
      context.clocks.callbacks.register(CALL, () => {
        model.reached('a callback');
        model.assert(ghost[ACQUIRED] === 0, 'a callback runs in a context that was acquired');
        ghost[INSIDE]++;
        model.step();
        model.assert(ghost[ACQUIRED] === 0, 'a callback runs in a context that was acquired');
        ghost[INSIDE]--;
        ghost[CALLS]++;
      });
      return () => {
        while (ghost[CALLS] < 1) context.poll(true);
      };
    }
    const bh = context.bottomHalf(0);
    return () => {
      context.acquire();
      ghost[ACQUIRED]++;
      model.assert(ghost[ACQUIRED] === 1 && ghost[INSIDE] === 0, 'acquired while somebody is inside');
      if (index === 1) {
        context.acquire();
        bh.schedule();
        context.release();
      } else model.step();
      model.assert(ghost[ACQUIRED] === 1 && ghost[INSIDE] === 0, 'acquired while somebody is inside');
      ghost[ACQUIRED]--;
      context.release();
    };
  },
};

/** Who ends a loop gives its memory back when the loop and the others have let go of it. */
const giveBack: Scenario = {
  ...SETTINGS,
  name: 'context-free',
  title: 'a loop is told to stop; its memory is given back when it has ended and a scheduler has returned',
  threads: ['owner', 'stopper', 'scheduler'],
  setup: (model: Model) => setup(model, 1),
  thread(model: Model, index: number) {
    const context = attach(model, index);
    const ended = new AtomicI32(model.buffer, model.place('ended', 4));
    const end = (): void => {
      ended.add(1);
      ended.notify();
    };
    if (index === 0) {
      context.clocks.callbacks.register(CALL, () => {});
      return () => {
        while (!context.stopRequested) context.poll(true);
        context.close();
        end();
      };
    }
    if (index === 2) {
      return () => {
        context.bottomHalf(0).schedule();
        end();
      };
    }
    return () => {
      context.requestStop();
      for (let n = ended.load(); n < 2; n = ended.load()) ended.wait(n);
      model.free(area(model, {}), Math.ceil(AioContext.size({ maxBottomHalves: 1 }) / 64) * 64);
    };
  },
};

export const scenarios: readonly Scenario[] = [
  acquire,
  giveBack,
  notifyPoll,
  scheduling('bh-schedule', 'two threads schedule the same bottom half', 1),
  scheduling('bh-schedule-two', 'two threads schedule a bottom half each', 2),
  cancel,
  oneshot,
  full,
  fullStop,
  remove,
  arm,
  stop,
  reuse,
];
