/** Faults in the primitives of the shared package. */
import { type Mutation, plant } from './mutation.ts';

const event = plant('shared/src/event.ts');
const mutex = plant('shared/src/mutex.ts');
const condition = plant('shared/src/condition.ts');
const semaphore = plant('shared/src/semaphore.ts');
const ring = plant('shared/src/spsc-ring.ts');
const header = plant('shared/src/ring-header.ts');
const count = plant('shared/src/event-count.ts');
const seqLock = plant('shared/src/seq-lock.ts');
const spinLock = plant('shared/src/spin-lock.ts');
const once = plant('shared/src/once.ts');
const barrier = plant('shared/src/barrier.ts');

const SET_LINE =
  'if (this.ops.exchange(this.address, SET) === BUSY) this.ops.notify(this.address, Infinity);';

export const PRIMITIVES: readonly Mutation[] = [
  event(
    'event-wake-one',
    'event-waiters',
    'set wakes one instead of all',
    SET_LINE,
    SET_LINE.replace('Infinity', '1'),
  ),
  event('event-no-notify', 'event', 'set does not wake', SET_LINE, 'this.ops.exchange(this.address, SET);'),
  event(
    'event-busy-to-free',
    'event-reset',
    'reset stores FREE, so that BUSY becomes FREE',
    'this.ops.or(this.address, FREE);',
    'this.ops.store(this.address, FREE);',
  ),
  event(
    'event-no-recheck',
    'event',
    'wait marks BUSY by a store, without looking again',
    'return state === BUSY || this.ops.compareExchange(this.address, FREE, BUSY) !== SET;',
    'if (state !== BUSY) this.ops.store(this.address, BUSY);\n    return true;',
  ),
  event(
    'event-set-in-two',
    'event',
    'set loads and stores instead of exchanging',
    SET_LINE,
    'const old = this.ops.load(this.address);\n    this.ops.store(this.address, SET);\n    if (old === BUSY) this.ops.notify(this.address, Infinity);',
  ),
  event(
    'event-reset-exchange',
    'event-reset',
    'reset does not look: it makes any state FREE',
    'if (this.ops.load(this.address) === SET) this.ops.or(this.address, FREE);',
    'this.ops.exchange(this.address, FREE);',
  ),
  event(
    'event-timed-lies',
    'event-timed',
    'a timed wait says set when the time was over',
    'return this.isSet();\n  }\n\n  /** As `waitTimed`',
    'return true;\n  }\n\n  /** As `waitTimed`',
  ),
  mutex(
    'mutex-held-not-contended',
    'mutex',
    'a thread that slept takes the lock as HELD',
    'while (this.ops.exchange(this.address, CONTENDED) !== FREE) {',
    'while (this.ops.compareExchange(this.address, FREE, HELD) !== FREE) {\n      this.ops.compareExchange(this.address, HELD, CONTENDED);',
  ),
  mutex(
    'mutex-no-notify',
    'mutex',
    'unlock does not wake',
    'this.ops.notify(this.address, 1);\n    if',
    'if',
  ),
  mutex(
    'mutex-notify-first',
    'mutex',
    'unlock wakes before the lock is free',
    'const state = this.ops.exchange(this.address, FREE);\n    if (state === HELD) return;',
    'const state = this.ops.load(this.address);\n    if (state === CONTENDED) this.ops.notify(this.address, 1);\n    this.ops.store(this.address, FREE);\n    if (state !== FREE) return;',
  ),
  mutex(
    'mutex-unlock-in-two',
    'mutex',
    'unlock looks, then stores',
    'const state = this.ops.exchange(this.address, FREE);',
    'const state = this.ops.load(this.address);\n    this.ops.store(this.address, FREE);',
  ),
  mutex(
    'mutex-plain-unlock',
    'mutex',
    'dropped barrier: unlock is a plain store',
    'const state = this.ops.exchange(this.address, FREE);',
    'const state = this.ops.load(this.address);\n    this.i32[this.address >>> 2] = FREE;',
  ),
  mutex(
    'mutex-check-then-store',
    'mutex',
    'lock looks and stores instead of exchanging by comparison',
    'if (this.ops.compareExchange(this.address, FREE, HELD) === FREE) return true;',
    'this.ops.store(this.address, HELD);\n        return true;',
  ),
  mutex(
    'mutex-sleep-on-held',
    'mutex',
    'sleeps while HELD instead of while CONTENDED',
    'this.ops.wait(this.address, CONTENDED, left) === WAIT_TIMED_OUT',
    'this.ops.wait(this.address, HELD, left) === WAIT_TIMED_OUT',
  ),
  condition(
    'condition-late-look',
    'condition',
    'wait reads the sequence after it has released the mutex',
    'const seq = this.ops.load(this.address);\n    mutex.unlock();\n    const result = this.ops.wait',
    'mutex.unlock();\n    const seq = this.ops.load(this.address);\n    const result = this.ops.wait',
  ),
  condition(
    'condition-no-sequence',
    'condition',
    "the registry package's: nothing changes when it is signalled, so a signal before the sleep is lost",
    'this.ops.add(this.address, 1);\n    this.ops.notify(this.address, count);',
    'this.ops.notify(this.address, count);',
  ),
  condition(
    'condition-late-announcement',
    'condition',
    'wait announces itself after it has released the mutex',
    'this.ops.add(this.address + WAITERS, 1);\n    const seq = this.ops.load(this.address);\n    mutex.unlock();\n    const result = this.ops.wait',
    'const seq = this.ops.load(this.address);\n    mutex.unlock();\n    this.ops.add(this.address + WAITERS, 1);\n    const result = this.ops.wait',
  ),
  condition(
    'condition-notify-first',
    'condition',
    'signal wakes before it changes the sequence',
    'this.ops.add(this.address, 1);\n    this.ops.notify(this.address, count);',
    'this.ops.notify(this.address, count);\n    this.ops.add(this.address, 1);',
  ),
  condition(
    'condition-broadcast-one',
    'condition-broadcast',
    'broadcast wakes one',
    'this.wake(Infinity);',
    'this.wake(1);',
  ),
  condition(
    'condition-no-relock',
    'condition',
    'wait comes back without the mutex',
    'this.ops.add(this.address + WAITERS, -1);\n    mutex.lock();',
    'this.ops.add(this.address + WAITERS, -1);',
  ),
  semaphore(
    'semaphore-wake-at-zero',
    'semaphore-release',
    "the registry package's: release wakes only when there was no permit before",
    'this.ops.add(this.address, permits);\n    if (this.ops.load(this.address + WAITERS) !== 0) this.ops.notify(this.address, permits);',
    'if (this.ops.add(this.address, permits) === 0) this.ops.notify(this.address, permits);',
  ),
  semaphore(
    'semaphore-check-then-take',
    'semaphore',
    'acquire looks, then takes',
    'if (this.ops.compareExchange(this.address, count, count - 1) === count) return true;',
    'this.ops.add(this.address, -1);\n      return true;',
  ),
  semaphore(
    'semaphore-no-announcement',
    'semaphore-release',
    'a waiter does not announce itself',
    'this.ops.add(this.address + WAITERS, 1);\n      timedOut',
    'timedOut',
  ),
  semaphore(
    'semaphore-look-first',
    'semaphore-release',
    'release looks for waiters before it adds the permit',
    'this.ops.add(this.address, permits);\n    if (this.ops.load(this.address + WAITERS) !== 0)',
    'const waiters = this.ops.load(this.address + WAITERS);\n    this.ops.add(this.address, permits);\n    if (waiters !== 0)',
  ),
  semaphore(
    'semaphore-wake-one',
    'semaphore-release-two',
    'release of two wakes one',
    'this.ops.notify(this.address, permits);',
    'this.ops.notify(this.address, 1);',
  ),
  ring(
    'ring-publish-first',
    'spsc',
    'the tail moves before the bytes are there',
    'const tail = this.header.tail();\n    if (n <= BLOCK_COPY) {\n      for (let i = 0; i < n; i++) this.u8[this.base + ((tail + i)',
    'const tail = this.header.tail();\n    this.header.publish((tail + n) | 0);\n    if (n <= BLOCK_COPY) {\n      for (let i = 0; i < n; i++) this.u8[this.base + ((tail + i)',
  ),
  ring(
    'ring-release-first',
    'spsc',
    'the head moves before the bytes are read',
    'const head = this.header.head();\n    if (n <= BLOCK_COPY) {',
    'const head = this.header.head();\n    this.header.release((head + n) | 0);\n    this.header.release(head);\n    if (n <= BLOCK_COPY) {',
  ),
  header(
    'ring-no-wake',
    'spsc',
    'publish does not wake the consumer',
    'this.data.wake();\n  }\n  /** Consumer',
    '}\n  /** Consumer',
  ),
  header(
    'ring-no-recheck',
    'spsc',
    'waitUsed does not look again after it has announced itself',
    'const closed = this.closed();\n      if (this.used() >= bytes) return true;\n      const left = deadline === Infinity ? Infinity : deadline - this.ops.now();\n      if (closed || left <= 0) return false;\n      this.data.wait',
    'const left = deadline === Infinity ? Infinity : deadline - this.ops.now();\n      this.data.wait(key, left);\n      const closed = this.closed();\n      if (this.used() >= bytes) return true;\n      if (closed || left <= 0) return false;\n      if (false) this.data.wait',
  ),
  header(
    'ring-close-overtakes',
    'spsc',
    'closed is read after the bytes are counted: what came in between is lost',
    'const closed = this.closed();\n      if (this.used() >= bytes) return true;\n      const left = deadline === Infinity ? Infinity : deadline - this.ops.now();\n      if (closed || left <= 0) return false;\n      this.data.wait',
    'if (this.used() >= bytes) return true;\n      const closed = this.closed();\n      const left = deadline === Infinity ? Infinity : deadline - this.ops.now();\n      if (closed || left <= 0) return false;\n      this.data.wait',
  ),
  count(
    'event-count-clear-late',
    'spsc-full',
    'wake clears the mark after it has changed the sequence',
    'this.ops.store(this.address + WAITING, 0);\n    this.ops.add(this.address, 1);',
    'this.ops.add(this.address, 1);\n    this.ops.store(this.address + WAITING, 0);',
  ),
  count(
    'event-count-no-mark',
    'spsc-full',
    'prepare does not mark',
    'this.ops.store(this.address + WAITING, 1);\n    return key;',
    'return key;',
  ),
  seqLock(
    'seqlock-no-begin',
    'seqlock',
    'a write section is not opened',
    'writeBegin(): void {\n    this.ops.add(this.address, 1);',
    'writeBegin(): void {\n    this.ops.add(this.address, 2);',
  ),
  seqLock('seqlock-no-wake', 'seqlock', 'the end of a section wakes nobody', 'this.ended.wake();', ''),
  seqLock(
    'seqlock-no-retry',
    'seqlock',
    'a reader never reads again',
    'return this.ops.load(this.address) !== seq;',
    'return this.ops.load(this.address) < seq;',
  ),
  spinLock(
    'spinlock-held',
    'spinlock',
    'a thread that slept takes the lock as HELD',
    'while (this.ops.exchange(this.address, CONTENDED) !== FREE) {',
    'while (this.ops.compareExchange(this.address, FREE, HELD) !== FREE) {\n      this.ops.compareExchange(this.address, HELD, CONTENDED);',
  ),
  once(
    'once-wake-one',
    'once',
    'the end wakes one',
    '=== WAITED) this.ops.notify(this.address, Infinity);',
    '=== WAITED) this.ops.notify(this.address, 1);',
  ),
  once(
    'once-throws-done',
    'once',
    'a failure counts as done',
    'let end = NEW;\n        try {\n          work();',
    'let end = DONE;\n        try {\n          work();',
  ),
  barrier(
    'barrier-bump-first',
    'barrier',
    'the next round begins before the count is 0',
    'this.ops.store(this.address + ARRIVED, 0);\n    this.ops.add(this.address + GENERATION, 1);',
    'this.ops.add(this.address + GENERATION, 1);\n    this.ops.store(this.address + ARRIVED, 0);',
  ),
];
