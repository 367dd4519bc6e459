/**
 * What stress adds to a thread's atomic operations: a note of every futex wait, which the watchdog reads when
 * something hangs, and delays between operations, which widen every window of every protocol.
 */
import type { SyncOps } from '@smp86/atomics-sync';
import type { ThreadView } from './layout.ts';
import { Random } from './random.ts';

/** Longest delay: pauses, and now and then a sleep of so many µs. */
const MAX_PAUSES = 300;
const MAX_SLEEP = 60;

const DELAYED = ['load', 'compareExchange', 'exchange', 'add', 'or', 'and', 'loadF64', 'notify'] as const;

export class Seam {
  readonly #ops: SyncOps;
  readonly #raw: SyncOps;
  readonly #self: ThreadView;
  readonly #now: () => number;

  /** `ops` is changed in place by `install`: it is what all primitives of the thread use. */
  constructor(ops: SyncOps, raw: SyncOps, self: ThreadView, now: () => number) {
    this.#ops = ops;
    this.#raw = raw;
    this.#self = self;
    this.#now = now;
  }

  /** `rate`: one operation in so many is delayed; 0: none. */
  install(rate: number, seed: number): void {
    this.#traceWaits();
    if (rate > 0) this.#delay(rate, new Random(seed ^ 0x5eed));
  }

  #traceWaits(): void {
    const raw = this.#raw;
    const { waitAddress, waitExpected, waitSince, waitTimeout } = this.#self;
    this.#ops.wait = (address, expected, timeout) => {
      raw.storeF64(waitSince.address, this.#now());
      raw.storeF64(waitTimeout.address, timeout);
      raw.store(waitExpected.address, expected);
      raw.store(waitAddress.address, address);
      const result = raw.wait(address, expected, timeout);
      raw.store(waitAddress.address, 0);
      return result;
    };
  }

  #delay(rate: number, random: Random): void {
    const nap = new Int32Array(new SharedArrayBuffer(4));
    const raw = this.#raw;
    const pause = (): void => {
      if (!random.oneIn(rate)) return;
      if (random.oneIn(8)) Atomics.wait(nap, 0, 0, random.below(MAX_SLEEP) / 1000);
      else for (let i = random.below(MAX_PAUSES); i > 0; i--) raw.pause();
    };
    const ops = this.#ops as unknown as Record<string, (a: number, b: number, c: number) => number>;
    for (const name of DELAYED) {
      const original = ops[name];
      ops[name] = (a, b, c) => {
        const result = original(a, b, c);
        pause();
        return result;
      };
    }
    for (const name of ['store', 'storeF64']) {
      const original = ops[name];
      // before the store as well: what was read is old by then
      ops[name] = (a, b, c) => {
        pause();
        return original(a, b, c);
      };
    }
  }
}
