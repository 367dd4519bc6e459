/** Commands of the main loop to an iothread. */
import { setOwnerId } from '@smp86/atomics-sync';
import { commandKind, Iothread, IOTHREAD_COMMAND } from '../../machine/iothread.ts';
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

export const scenarios: readonly Scenario[] = [commands];
