/**
 * The main loop: the context whose callbacks run with the BQL held, whose group is number 0, and to which
 * any thread posts requests that concern the machine as a whole (reset, power off, stop).
 */
import { array, atomicI32, padTo, struct, u32, type ViewOf } from '@smp86/atomics-sync';
import type { ClockSystem } from '../timer/clock.ts';
import { reduceTimerSlack } from '../timer/timer-slack.ts';
import { AioContext, type AioOptions, type Lock, microtasksDrained } from './aio-context.ts';
import { AioError } from './errors.ts';

/** Kinds of requests are 0 to 31. */
export const REQUEST_KINDS = 32;

export const MainLoopState = struct({
  magic: u32,
  /** Bit k: a request of kind k is waiting. */
  requests: atomicI32,
  /** Argument of the last request of each kind. */
  args: array(atomicI32, REQUEST_KINDS),
  pad: padTo(64),
});
const MAIN_LOOP_MAGIC = 0x6d6c7031;

export interface MainLoopOptions extends Pick<AioOptions, 'maxBottomHalves'> {
  readonly bql: Lock;
}

/** A thread's view of the main loop. */
export class MainLoop {
  /** Its bottom halves and timers. */
  readonly context: AioContext;
  readonly #state: ViewOf<typeof MainLoopState>;
  readonly #bql: Lock;
  readonly #handlers: (((arg: number) => void) | undefined)[] = [];

  /** Bytes of a main loop; place it at a multiple of 64. */
  static size(options: Pick<AioOptions, 'maxBottomHalves'> = {}): number {
    return MainLoopState.size + AioContext.size(options);
  }

  /** Makes the machine's main loop at `offset` of the clock system's buffer. *Thread:* any, once. */
  static init(clocks: ClockSystem, offset: number, options: MainLoopOptions): MainLoop {
    const state = MainLoopState.at(clocks.buffer, offset);
    new Uint8Array(clocks.buffer, offset, MainLoopState.size).fill(0);
    AioContext.init(clocks, offset + MainLoopState.size, { ...options, group: clocks.mainGroup });
    state.magic = MAIN_LOOP_MAGIC;
    return new MainLoop(clocks, offset, options.bql);
  }

  /** A view for another thread. Throws `not-initialised`. */
  static attach(clocks: ClockSystem, offset: number, bql: Lock): MainLoop {
    return new MainLoop(clocks, offset, bql);
  }

  private constructor(clocks: ClockSystem, offset: number, bql: Lock) {
    const state = MainLoopState.at(clocks.buffer, offset);
    if (state.magic !== MAIN_LOOP_MAGIC) {
      throw new AioError('not-initialised', `no main loop at offset ${offset}`);
    }
    this.#state = state;
    this.#bql = bql;
    this.context = AioContext.attach(clocks, offset + MainLoopState.size, bql);
    this.context.addPoller({
      poll: () => this.#handleRequests(),
      ready: () => state.requests.load() !== 0,
    });
  }

  /**
   * Asks the main loop for something. It never fails, so that a guest may cause as many as it likes: a request
   * of a kind that is still waiting is merged with it, and the last argument counts.
   * *Thread:* any. *Lock:* none. *May block:* no.
   */
  post(kind: number, arg = 0): void {
    if (!(kind >= 0 && kind < REQUEST_KINDS)) throw new RangeError(`request kind ${kind}`);
    this.#state.args[kind].store(arg);
    this.#state.requests.or(1 << kind);
    this.context.notify();
  }

  /** What the loop does for requests of `kind`, with the BQL held. *Thread:* main loop. */
  onRequest(kind: number, handler: (arg: number) => void): void {
    this.#handlers[kind] = handler;
  }

  /** Makes the loop's current or next wait end. *Thread:* any. */
  notify(): void {
    this.context.notify();
  }

  /**
   * One turn: sleeps with the BQL released until the soonest deadline or a notification (not when
   * `nonblocking`), then bottom halves, requests and pollers, and timers with the BQL held.
   * *Thread:* main loop. *Lock:* BQL on entry and return. *May block:* yes. Throws `unknown-request`.
   */
  mainLoopWait(nonblocking = false): boolean {
    this.#bql.unlock();
    // a deadline needs no lock: what changes it notifies
    if (!nonblocking) this.context.wait();
    this.#bql.lock();
    // held over the whole pass, so that a clock is never disabled under the BQL by one who waits for a
    // callback that waits for the BQL
    return this.context.dispatch();
  }

  /**
   * Turns until `requestStop`; takes the BQL for itself. Coroutines advance between turns, with the BQL held.
   * *Thread:* main loop. *Lock:* none on entry and return. *May block:* yes, the thread.
   */
  async run(): Promise<void> {
    reduceTimerSlack();
    this.#bql.lock();
    try {
      while (!this.context.stopRequested) {
        this.mainLoopWait();
        await microtasksDrained();
      }
    } finally {
      this.#bql.unlock();
    }
  }

  /** Ends `run` after its current turn. *Thread:* any. */
  requestStop(): void {
    this.context.requestStop();
  }

  #handleRequests(): boolean {
    if (this.#state.requests.load() === 0) return false;
    const requests = this.#state.requests.exchange(0);
    for (let kind = 0; kind < REQUEST_KINDS; kind++) {
      if ((requests & (1 << kind)) === 0) continue;
      const handler = this.#handlers[kind];
      if (handler === undefined) throw new AioError('unknown-request', `no handler for request kind ${kind}`);
      handler(this.#state.args[kind].load());
    }
    return true;
  }
}
