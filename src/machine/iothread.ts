/**
 * Iothreads as the other threads see them: places for them in shared memory, the few things that the main loop asks of
 * one, and which drive lives where.
 *
 * A command is a number that grows, with its kind in the low bits, in `requested`; the iothread carries out the latest
 * one and stores it in `done`. Only the main loop commands, and it waits for QUIESCE, REHOME and QUIT. A RESUME that is
 * overtaken by a QUIESCE need not happen.
 *
 * *The wait ends*: an iothread takes no lock that the main loop holds; requests in flight end by themselves.
 *
 * A place is used again after its iothread has ended. Its timer group stays with it: who still thinks that a drive lives
 * there notifies a thread that has nothing to do, or nobody, which does no harm.
 *
 * **A drive moves** (main loop, BQL): home = none; the old iothread lets go of it: requests in flight end, its images
 * are closed; home = the new one, which opens them and looks at the drive's queues.
 * *No request is lost*: who has a request stores it (K), then loads the home (H) and notifies. The main loop stores the
 * new home (S), then commands; the new iothread looks at the queues (L). If S comes before H the new one is
 * notified after K. Else K < H < S < L, and L finds the request.
 */
import { type AtomicI32, atomicI32, i32, padTo, struct, type ViewOf } from '@smp86/atomics-sync';
import { AioContext } from '../aio/aio-context.ts';
import type { ClockSystem } from '../timer/clock.ts';
import type { Notifier } from '../timer/notifier.ts';

export const IOTHREAD_COMMAND = {
  /** Take no more requests; done when none is in flight and everything is on stable storage. */
  QUIESCE: 0,
  /** Go on. */
  RESUME: 1,
  /** Close the images, and end. Quiesced before. */
  QUIT: 2,
  /** Let go of drives that have another home, and take those that have this one. */
  REHOME: 3,
} as const;
const KIND_BITS = 2;
const MAX_SEQUENCE = 2 ** (30 - KIND_BITS);
/** Bottom halves of an iothread's context: it schedules few. */
const BOTTOM_HALVES = 1024;
/** Home of a drive that is on its way. */
export const NOWHERE = -1;

const IothreadState = struct({
  requested: atomicI32,
  done: atomicI32,
  /** 1: there is one here. Written by the main loop, under the BQL. */
  alive: atomicI32,
  /** The place's timer group. Constant. */
  group: i32,
  pad: padTo(64),
});

/** A place for an iothread. */
export class Iothread {
  readonly #clocks: ClockSystem;
  readonly #at: number;
  readonly #state: ViewOf<typeof IothreadState>;
  #context: AioContext | undefined;

  static size(): number {
    return IothreadState.size + AioContext.size({ maxBottomHalves: BOTTOM_HALVES });
  }

  constructor(clocks: ClockSystem, at: number) {
    this.#clocks = clocks;
    this.#at = at;
    this.#state = IothreadState.at(clocks.buffer, at);
  }

  /** Gives the place its timer group. *Thread:* the one that makes the machine. */
  create(): this {
    this.#state.group = this.#clocks.createGroup().index;
    return this;
  }

  /** Makes the context of an iothread here. *Thread:* any, while none is alive here. */
  init(): this {
    const { requested, done, group } = this.#state;
    requested.store(0);
    done.store(0);
    this.#context = AioContext.init(this.#clocks, this.#at + IothreadState.size, {
      maxBottomHalves: BOTTOM_HALVES,
      group: this.#clocks.group(group),
    });
    return this;
  }

  /** *Thread:* the iothread; any while nobody runs it. */
  get context(): AioContext {
    this.#context ??= AioContext.attach(this.#clocks, this.#at + IothreadState.size);
    return this.#context;
  }

  /** *Thread:* any. */
  get alive(): boolean {
    return this.#state.alive.load() !== 0;
  }
  /** *Thread:* main loop. *Lock:* BQL. */
  set alive(on: boolean) {
    this.#state.alive.store(on ? 1 : 0);
  }

  get groupNotifier(): Notifier {
    return this.#clocks.group(this.#state.group).notifier;
  }
  /** Makes the iothread look for work. *Thread:* any. *Lock:* none. */
  notify(): void {
    this.groupNotifier.notify();
  }

  /** *Thread:* main loop. */
  command(kind: number): void {
    const { requested } = this.#state;
    const sequence = ((requested.load() >>> KIND_BITS) % MAX_SEQUENCE) + 1;
    requested.store((sequence << KIND_BITS) | kind);
    this.notify();
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

/** How a move ended. LOST: the drive is nowhere, neither iothread could open it. */
export const MOVE = { DONE: 0, REFUSED: 1, FAILED: 2, LOST: 3 } as const;

/** All iothreads and all drives of a machine. */
export class IothreadTable {
  readonly iothreads: readonly Iothread[];
  /** Place of the iothread that each drive lives in, or NOWHERE. Written under the BQL, or by that iothread when told to. */
  readonly homes: readonly AtomicI32[];

  constructor(iothreads: readonly Iothread[], homes: readonly AtomicI32[]) {
    this.iothreads = iothreads;
    this.homes = homes;
  }

  /** A drive has a request, which is stored. *Thread:* any. *Lock:* any. */
  wake(drive: number): void {
    const home = this.homes[drive].load();
    if (home !== NOWHERE) this.iothreads[home].notify();
  }

  // --- main loop, BQL ---

  /** Tells every iothread. */
  command(kind: number): void {
    for (const iothread of this.iothreads) if (iothread.alive) iothread.command(kind);
  }
  /** Tells every iothread, and waits until all have done it. *May block:* as long as the disks take. */
  commandAndWait(kind: number): void {
    this.command(kind);
    for (const iothread of this.iothreads) if (iothread.alive) iothread.waitDone();
  }

  /** The machine ends, which is stored: tells iothreads that are being made, and were told nothing else. */
  quit(): void {
    for (const iothread of this.iothreads) if (!iothread.alive) iothread.notify();
  }

  /** There is an iothread at this place: its thread has begun to run. */
  add(place: number, running: boolean): void {
    const iothread = this.iothreads[place];
    iothread.alive = true;
    if (running) iothread.command(IOTHREAD_COMMAND.RESUME);
  }

  /** Ends an iothread, unless a drive lives there. True if it has ended. *May block:* until its callbacks have returned. */
  remove(place: number): boolean {
    if (this.homes.some((home) => home.load() === place)) return false;
    const iothread = this.iothreads[place];
    // a command may be overtaken by the next
    iothread.waitDone();
    iothread.command(IOTHREAD_COMMAND.QUIT);
    iothread.waitDone();
    iothread.alive = false;
    return true;
  }

  /** Moves a drive; gives one of MOVE. *May block:* until its requests in flight are done, and it is opened again. */
  move(drive: number, to: number): number {
    const home = this.homes[drive];
    const from = home.load();
    if (from === to) return MOVE.DONE;
    home.store(NOWHERE);
    this.#rehome(from);
    // it keeps a drive that it cannot let go of
    if (home.load() !== NOWHERE) return MOVE.REFUSED;
    home.store(to);
    this.#rehome(to);
    if (home.load() === to) return MOVE.DONE;
    home.store(from);
    this.#rehome(from);
    return home.load() === from ? MOVE.FAILED : MOVE.LOST;
  }
  #rehome(place: number): void {
    const iothread = this.iothreads[place];
    iothread.waitDone();
    iothread.command(IOTHREAD_COMMAND.REHOME);
    iothread.waitDone();
  }
}
