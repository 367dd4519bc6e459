/** Commands of the main loop to an iothread. */
import { AtomicI32, setOwnerId } from '@smp86/atomics-sync';
import {
  commandKind,
  Iothread,
  IOTHREAD_COMMAND,
  IothreadTable,
  MOVE,
  NOWHERE,
} from '../../machine/iothread.ts';
import { ClockSystem } from '../../timer/clock.ts';
import type { Model, Patch, Scenario } from '../scenario.ts';
import { placeClocks, STILL } from './clock.ts';
import { ONE_PAUSE } from './mutex.ts';

/** None is used. */
const FEW_BOTTOM_HALVES: Patch = {
  file: 'src/machine/iothread.ts',
  find: 'const BOTTOM_HALVES = 1024;',
  replace: 'const BOTTOM_HALVES = 1;',
};
const GROUPS = 2;
/** What the iothread is: see STATES. */
const STATE = 1;
const STATES = { QUIESCED: 0, RUNNING: 1, ENDED: 2 } as const;

function area(model: Model): number {
  return model.place('iothread', Iothread.size(), 64);
}

const commands: Scenario = {
  name: 'iothread-commands',
  title: 'the main loop resumes an iothread, quiesces it at once and waits, resumes it and ends it',
  threads: ['main loop', 'iothread'],
  bytes: 16384,
  patches: [ONE_PAUSE, FEW_BOTTOM_HALVES],
  setup(model: Model) {
    const clocks = ClockSystem.init(model.buffer, placeClocks(model, GROUPS), {
      maxTimers: 2,
      maxLists: GROUPS * 4,
      source: STILL,
    });
    new Iothread(clocks, area(model)).create().init();
  },
  thread(model: Model, index: number) {
    const { ghost } = model;
    setOwnerId(index + 1);
    const clocks = ClockSystem.attach(model.buffer, placeClocks(model, GROUPS), { source: STILL });
    const iothread = new Iothread(clocks, area(model));
    if (index === 0) {
      return () => {
        iothread.command(IOTHREAD_COMMAND.RESUME);
        iothread.command(IOTHREAD_COMMAND.QUIESCE);
        iothread.waitDone();
        model.assert(ghost[STATE] === STATES.QUIESCED, 'not quiesced after the wait');
        iothread.command(IOTHREAD_COMMAND.RESUME);
        iothread.command(IOTHREAD_COMMAND.QUIT);
        iothread.waitDone();
        model.assert(ghost[STATE] === STATES.ENDED, 'not ended after the wait');
      };
    }
    iothread.context.addPoller({
      ready: () => iothread.pending !== undefined,
      poll: () => {
        const command = iothread.pending;
        if (command === undefined) return false;
        const kind = commandKind(command);
        model.step();
        ghost[STATE] =
          kind === IOTHREAD_COMMAND.QUIT
            ? STATES.ENDED
            : kind === IOTHREAD_COMMAND.RESUME
              ? STATES.RUNNING
              : STATES.QUIESCED;
        iothread.finish(command);
        return true;
      },
    });
    return () => {
      while (ghost[STATE] !== STATES.ENDED) iothread.context.poll(true);
    };
  },
};

// --- a drive moves, an iothread comes and goes ---

/** Requests that were served; 1: an iothread has the drive open. */
const SERVED = 2;
const OPEN = 3;
/** 1: the drive cannot be opened in the new iothread. */
const PLACES = 2;

interface Parts {
  readonly table: IothreadTable;
  /** A request that nobody has taken, as a queue's bit in `kicks`. */
  readonly request: AtomicI32;
}

function parts(model: Model, index: number): Parts {
  setOwnerId(index + 1);
  const clocks = ClockSystem.attach(model.buffer, placeClocks(model, PLACES + 1), { source: STILL });
  const iothreads = [0, 1].map((place) => new Iothread(clocks, placeOf(model, place)));
  const home = new AtomicI32(model.buffer, model.place('home', 4));
  return {
    table: new IothreadTable(iothreads, [home]),
    request: new AtomicI32(model.buffer, model.place('request', 4)),
  };
}
function placeOf(model: Model, place: number): number {
  return model.place(`iothread ${place}`, Iothread.size(), 64);
}
/** The two places; the drive lives at the first. */
function setupPlaces(model: Model, alive: number): void {
  const clocks = ClockSystem.init(model.buffer, placeClocks(model, PLACES + 1), {
    maxTimers: 2,
    maxLists: (PLACES + 1) * 4,
    source: STILL,
  });
  for (let place = 0; place < PLACES; place++) {
    const iothread = new Iothread(clocks, placeOf(model, place)).create().init();
    iothread.alive = place < alive;
  }
}

interface Tenant {
  open: boolean;
}

/**
 * What an iothread's thread does: takes requests of a drive that is open here, and carries out commands. `has`: the drive is
 * open here at first.
 */
function serve(model: Model, { table, request }: Parts, place: number, has: boolean): Tenant {
  const { ghost } = model;
  const iothread = table.iothreads[place];
  const { context } = iothread;
  const home = table.homes[0];
  const tenant: Tenant = { open: has };
  context.addPoller({
    ready: () => tenant.open && request.load() !== 0,
    poll: () => {
      if (!tenant.open || request.load() === 0) return false;
      request.exchange(0);
      model.assert(ghost[OPEN] === 1, 'a request is served while the drive is closed');
      ghost[SERVED]++;
      return true;
    },
  });
  context.addPoller({
    ready: () => iothread.pending !== undefined,
    poll: () => {
      const command = iothread.pending;
      if (command === undefined) return false;
      if (commandKind(command) === IOTHREAD_COMMAND.QUIT) context.requestStop();
      else if (tenant.open && home.load() === NOWHERE) {
        tenant.open = false;
        ghost[OPEN]--;
      } else if (!tenant.open && home.load() === place) {
        ghost[OPEN]++;
        model.assert(ghost[OPEN] === 1, 'the drive is open twice');
        tenant.open = true;
      }
      iothread.finish(command);
      return true;
    },
  });
  return tenant;
}

const FEW: readonly Patch[] = [ONE_PAUSE, FEW_BOTTOM_HALVES];

const move: Scenario = {
  name: 'iothread-move',
  title: 'a drive moves from one iothread to another while a vCPU has a request; then the first one ends',
  threads: ['main loop', 'iothread 0', 'iothread 1', 'vcpu'],
  bytes: 16384,
  patches: FEW,
  preemptions: 3,
  reaches: ['moved'],
  setup(model: Model) {
    setupPlaces(model, PLACES);
    model.ghost[OPEN] = 1;
  },
  thread(model: Model, index: number) {
    const { ghost } = model;
    const own = parts(model, index);
    const { table, request } = own;
    if (index === 0) {
      return () => {
        model.assert(table.move(0, 1) === MOVE.DONE, 'not moved');
        model.assert(!table.remove(1), 'an iothread ends that a drive lives in');
        model.assert(table.remove(0), 'an iothread that nobody uses does not end');
        model.reached('moved');
      };
    }
    if (index === 3) {
      return () => {
        request.store(1);
        table.wake(0);
      };
    }
    const place = index - 1;
    const tenant = serve(model, own, place, place === 0);
    const { context } = table.iothreads[place];
    return () => {
      // the second one goes on until it has the drive and there is no request left
      while (!context.stopRequested && (place === 0 || !tenant.open || ghost[SERVED] < 1)) context.poll(true);
    };
  },
  end(model: Model) {
    model.assert(model.ghost[SERVED] === 1, 'the request was served once');
  },
};

export const scenarios: readonly Scenario[] = [commands, move];
