/** Faults planted in the shipped sources, each of which the explorer has to find. */
import type { Patch } from './scenario.ts';

export interface Mutation {
  readonly name: string;
  /** Where it has to show. */
  readonly scenario: string;
  readonly patches: readonly Patch[];
  /** What was done to the source. */
  readonly note: string;
}

function mutation(
  name: string,
  scenario: string,
  note: string,
  file: string,
  find: string,
  replace: string,
): Mutation {
  return { name, scenario, note, patches: [{ file, find, replace }] };
}

const EVENT = 'shared/src/event.ts';
const MUTEX = 'shared/src/mutex.ts';

export const MUTATIONS: readonly Mutation[] = [
  // --- Event ---
  mutation(
    'event-wake-one',
    'event-waiters',
    'set wakes one waiter instead of all',
    EVENT,
    'if (this.ops.exchange(this.address, SET) === BUSY) this.ops.notify(this.address, Infinity);',
    'if (this.ops.exchange(this.address, SET) === BUSY) this.ops.notify(this.address, 1);',
  ),
  mutation(
    'event-no-notify',
    'event',
    'set does not wake',
    EVENT,
    'if (this.ops.exchange(this.address, SET) === BUSY) this.ops.notify(this.address, Infinity);',
    'this.ops.exchange(this.address, SET);',
  ),
  mutation(
    'event-busy-to-free',
    'event-reset',
    'reset stores FREE, so that BUSY becomes FREE',
    EVENT,
    'this.ops.or(this.address, FREE);',
    'this.ops.store(this.address, FREE);',
  ),
  mutation(
    'event-no-recheck',
    'event',
    'wait marks BUSY by a store, without looking again',
    EVENT,
    'return state === BUSY || this.ops.compareExchange(this.address, FREE, BUSY) !== SET;',
    'if (state !== BUSY) this.ops.store(this.address, BUSY);\n    return true;',
  ),
  mutation(
    'event-set-by-two',
    'event',
    'set loads and stores instead of exchanging',
    EVENT,
    'if (this.ops.exchange(this.address, SET) === BUSY) this.ops.notify(this.address, Infinity);',
    'const old = this.ops.load(this.address);\n    this.ops.store(this.address, SET);\n    if (old === BUSY) this.ops.notify(this.address, Infinity);',
  ),
  mutation(
    'event-reset-exchange',
    'event-reset',
    'reset does not look: it makes any state FREE',
    EVENT,
    'if (this.ops.load(this.address) === SET) this.ops.or(this.address, FREE);',
    'this.ops.exchange(this.address, FREE);',
  ),
  // --- Mutex ---
  mutation(
    'mutex-held-not-contended',
    'mutex',
    'a thread that slept takes the lock as HELD',
    MUTEX,
    'while (this.ops.exchange(this.address, CONTENDED) !== FREE) {',
    'while (this.ops.compareExchange(this.address, FREE, HELD) !== FREE) {\n      this.ops.compareExchange(this.address, HELD, CONTENDED);',
  ),
  mutation(
    'mutex-no-notify',
    'mutex',
    'unlock does not wake',
    MUTEX,
    'this.ops.notify(this.address, 1);\n    if',
    'if',
  ),
  mutation(
    'mutex-plain-unlock',
    'mutex',
    'unlock looks, then stores',
    MUTEX,
    'const state = this.ops.exchange(this.address, FREE);',
    'const state = this.ops.load(this.address);\n    this.ops.store(this.address, FREE);',
  ),
  mutation(
    'mutex-check-then-store',
    'mutex',
    'lock looks and stores instead of exchanging by comparison',
    MUTEX,
    'if (this.ops.compareExchange(this.address, FREE, HELD) === FREE) return true;',
    'this.ops.store(this.address, HELD);\n        return true;',
  ),
  mutation(
    'mutex-sleep-on-held',
    'mutex',
    'sleeps while HELD, and so does not sleep when CONTENDED: never by a wake-up',
    MUTEX,
    'this.ops.wait(this.address, CONTENDED, left) === WAIT_TIMED_OUT',
    'this.ops.wait(this.address, HELD, left) === WAIT_TIMED_OUT',
  ),
];
