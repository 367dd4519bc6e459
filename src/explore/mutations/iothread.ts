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
  iothread(
    'iothread-rehome-no-wait',
    'iothread-move',
    'a drive gets its new home before the old one has let go of it',
    'iothread.command(IOTHREAD_COMMAND.REHOME);\n    iothread.waitDone();',
    'iothread.command(IOTHREAD_COMMAND.REHOME);',
  ),
  iothread(
    'iothread-rehome-first',
    'iothread-move',
    'the new iothread is told before the drive has its new home',
    'home.store(to);\n    this.#rehome(to);',
    'this.#rehome(to);\n    home.store(to);',
  ),
  iothread(
    'iothread-remove-in-use',
    'iothread-move',
    'an iothread ends although a drive lives in it',
    'if (this.homes.some((home) => home.load() === place)) return false;',
    '',
  ),
];
