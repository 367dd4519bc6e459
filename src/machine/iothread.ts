/**
 * An iothread as the other threads see it: its AioContext, and the few things that the main loop asks of it.
 *
 * A command is a number that grows, with its kind in the low bits, in `requested`; the iothread carries out the latest
 * one and stores it in `done`. Only the main loop commands, and it waits for QUIESCE and QUIT. A RESUME that is
 * overtaken by a QUIESCE need not happen.
 *
 * *The wait ends*: an iothread takes no lock that the main loop holds; requests in flight end by themselves.
 */
import { atomicI32, padTo, struct, type ViewOf } from '@smp86/atomics-sync';
import { AioContext } from '../aio/aio-context.ts';
import type { ClockSystem } from '../timer/clock.ts';

export const IOTHREAD_COMMAND = {
  /** Take no more requests; done when none is in flight and everything is on stable storage. */
  QUIESCE: 0,
  /** Go on. */
  RESUME: 1,
  /** Close the images, and end. Quiesced before. */
  QUIT: 2,
} as const;
const KIND_BITS = 2;
const MAX_SEQUENCE = 2 ** (30 - KIND_BITS);
/** Bottom halves of an iothread's context: it schedules few. */
const BOTTOM_HALVES = 1024;

const IothreadState = struct({
  requested: atomicI32,
  done: atomicI32,
  pad: padTo(64),
});

export class Iothread {
  readonly context: AioContext;
  readonly #state: ViewOf<typeof IothreadState>;

  static size(): number {
    return IothreadState.size + AioContext.size({ maxBottomHalves: BOTTOM_HALVES });
  }

  /** In zeroed memory. */
  static init(clocks: ClockSystem, at: number): Iothread {
    AioContext.init(clocks, at + IothreadState.size, { maxBottomHalves: BOTTOM_HALVES });
    return new Iothread(clocks, at);
  }
  static attach(clocks: ClockSystem, at: number): Iothread {
    return new Iothread(clocks, at);
  }

  private constructor(clocks: ClockSystem, at: number) {
    this.context = AioContext.attach(clocks, at + IothreadState.size);
    this.#state = IothreadState.at(clocks.buffer, at);
  }

  /** *Thread:* main loop. */
  command(kind: number): void {
    const { requested } = this.#state;
    const sequence = ((requested.load() >>> KIND_BITS) % MAX_SEQUENCE) + 1;
    requested.store((sequence << KIND_BITS) | kind);
    this.context.notify();
  }

  /** Waits until the last command is carried out. *Thread:* main loop. *May block:* as long as the disk takes. */
  waitDone(): void {
    const { requested, done } = this.#state;
    const wanted = requested.load();
    for (;;) {
      const seen = done.load();
      if (seen === wanted) return;
      done.wait(seen);
    }
  }

  /** The command to carry out, or undefined. *Thread:* the iothread. */
  get pending(): number | undefined {
    const { requested, done } = this.#state;
    const wanted = requested.load();
    return wanted === done.load() ? undefined : wanted;
  }

  /** *Thread:* the iothread. `command` came from `pending`. */
  finish(command: number): void {
    this.#state.done.store(command);
    this.#state.done.notify();
  }
}

/** The kind in a command. */
export function commandKind(command: number): number {
  return command & ((1 << KIND_BITS) - 1);
}
