/** Faults in the commands to iothreads. */
import { type Mutation, plant } from './mutation.ts';

const iothread = plant('src/machine/iothread.ts');

export const IOTHREAD: readonly Mutation[] = [
  iothread(
    'iothread-notify-first',
    'iothread-commands',
    'an iothread is notified of a command before the command is there',
    'requested.store((sequence << KIND_BITS) | kind);\n    this.notify();',
    'this.notify();\n    requested.store((sequence << KIND_BITS) | kind);',
  ),
  iothread(
    'iothread-finish-silent',
    'iothread-commands',
    'nobody is woken when a command is carried out',
    'this.#state.done.notify();',
    '',
  ),
  iothread(
    'iothread-any-done',
    'iothread-commands',
    'the main loop goes on when any command was carried out',
    'if (seen === wanted) return;\n      done.wait(seen);',
    'if (seen !== 0) return;\n      done.wait(seen);',
  ),
];
