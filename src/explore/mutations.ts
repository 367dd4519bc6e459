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

function plant(file: string) {
  return (name: string, scenario: string, note: string, find: string, replace: string): Mutation => ({
    name,
    scenario,
    note,
    patches: [{ file, find, replace }],
  });
}

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
const clock = plant('src/timer/clock.ts');
const list = plant('src/timer/timer-list.ts');
const notifier = plant('src/timer/notifier.ts');
const context = plant('src/aio/aio-context.ts');
const bottomHalf = plant('src/aio/bottom-half.ts');
const mainLoop = plant('src/aio/main-loop.ts');
const exclusive = plant('src/machine/exclusive.ts');
const signals = plant('src/machine/signals.ts');
const mainThread = plant('src/machine/main-loop-thread.ts');
const vcpuThread = plant('src/machine/vcpu-thread.ts');
const board = plant('src/machine/board.ts');

const SET_LINE =
  'if (this.ops.exchange(this.address, SET) === BUSY) this.ops.notify(this.address, Infinity);';

const PRIMITIVES: readonly Mutation[] = [
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

const CLOCKS: readonly Mutation[] = [
  list(
    'list-enabled-first',
    'clock-enable',
    'a pass looks whether the clock is enabled, and resets the done-event after that',
    'if (!nested) this.#done.reset();\n    try {\n      if (this.#clock.isEnabled(this.type)) {',
    'const enabled = this.#clock.isEnabled(this.type);\n    if (!nested) this.#done.reset();\n    try {\n      if (enabled) {',
  ),
  list(
    'list-done-not-set',
    'clock-enable',
    'a pass that finds the clock disabled does not set the done-event',
    'state.runner.store(0);\n        this.#done.set();',
    'state.runner.store(0);\n        if (progress) this.#done.set();',
  ),
  list(
    'list-done-early',
    'clock-enable',
    'the done-event is set before the last callback has returned',
    'state.current.store(timer);\n',
    'state.current.store(timer);\n          this.#done.set();\n',
  ),
  list(
    'list-no-reset',
    'clock-enable',
    'a pass does not reset the done-event',
    'if (!nested) this.#done.reset();',
    '',
  ),
  list(
    'list-take-unlocked',
    'clock-enable',
    'a timer is taken from the heap without the lock',
    'this.#lock.lock();\n    let timer = -1;',
    'let timer = -1;',
  ),
  list(
    'list-notify-first',
    'arm-poll',
    'mod notifies before the timer is in the list',
    'const isHead = this.#insert(timer, when);\n    this.#lock.unlock();\n    if (isHead) this.#notifier.notify();',
    'this.#notifier.notify();\n    this.#insert(timer, when);\n    this.#lock.unlock();',
  ),
  list(
    'list-head-unpublished',
    'arm-poll',
    'an armed timer does not become the published head',
    'this.#siftUp(at);\n    this.#publishHead();\n    return',
    'this.#siftUp(at);\n    return',
  ),
  list(
    'list-no-notify',
    'arm-poll',
    'a new head notifies nobody',
    'const isHead = this.#insert(timer, when);\n    this.#lock.unlock();\n    if (isHead) this.#notifier.notify();',
    'this.#insert(timer, when);\n    this.#lock.unlock();',
  ),
  list(
    'list-runner-not-claimed',
    'clock-enable',
    'a callback is called with the list locked',
    'const timer = this.#take(now);\n          if (timer < 0) break;',
    'const timer = this.#take(now);\n          if (timer < 0) break;\n          this.#lock.lock();',
  ),
  clock(
    'clock-wait-first',
    'clock-enable',
    'clockEnable waits for the passes before it stores the flag',
    'const was = this.#state.enabled[type].exchange(on ? 1 : 0);\n    if (on) {',
    'if (!on) {\n      for (let g = 0; g < this.layout.maxGroups; g++) this.#usedGroup(g)?.lists[type].waitDone();\n      this.#state.enabled[type].store(0);\n      return;\n    }\n    const was = this.#state.enabled[type].exchange(on ? 1 : 0);\n    if (on) {',
  ),
  clock(
    'clock-no-wait',
    'clock-enable',
    'clockEnable does not wait',
    'for (let g = 0; g < this.layout.maxGroups; g++) this.#usedGroup(g)?.lists[type].waitDone();',
    '',
  ),
  clock(
    'clock-first-list',
    'clock-lists',
    'clockEnable waits for the main loop only',
    'for (let g = 0; g < this.layout.maxGroups; g++) this.#usedGroup(g)?.lists[type].waitDone();',
    'this.#usedGroup(0)?.lists[type].waitDone();',
  ),
  clock(
    'clock-notify-first',
    'clock-wake',
    'enabling notifies before the flag is stored',
    'const was = this.#state.enabled[type].exchange(on ? 1 : 0);',
    'if (on) this.#notify(type);\n    const was = this.#state.enabled[type].exchange(on ? 1 : 0) || 1;',
  ),
  clock(
    'clock-no-notify',
    'clock-wake',
    'enabling notifies nobody',
    'if (was === 0) this.#notify(type);\n      return;',
    'return;',
  ),
  clock(
    'clock-unchanged-no-wait',
    'clock-disablers',
    'clockEnable returns at once when the clock is disabled already',
    'if (on) {\n      if (was === 0)',
    'if (on || was === 0) {\n      if (on && was === 0)',
  ),
  clock(
    'clock-host-time-outside',
    'clock-ticks',
    'the host is read before the section begins',
    'const seq = ticksSeq.readBegin();\n      const now = this.#virtualRtUnlocked();',
    'const host = this.#source.monotonic();\n      const seq = ticksSeq.readBegin();\n      const now = this.#state.ticksOffset.load() + (this.#state.ticksEnabled.load() !== 0 ? host : 0);',
  ),
  clock(
    'clock-enabled-outside',
    'clock-ticks',
    'ticksEnabled is stored outside the write section',
    'state.ticksEnabled.store(on);\n      state.ticksSeq.writeEnd();',
    'state.ticksSeq.writeEnd();\n      state.ticksEnabled.store(on);',
  ),
];

const LOOPS: readonly Mutation[] = [
  notifier(
    'notify-look-first',
    'notify-poll',
    'notify looks whether somebody sleeps before it sets the flag',
    'this.#state.notified.store(1);\n    if (this.#state.notifyMe.load() !== 0) this.#state.notified.notify();',
    'const asleep = this.#state.notifyMe.load() !== 0;\n    this.#state.notified.store(1);\n    if (asleep) this.#state.notified.notify();',
  ),
  notifier(
    'notify-me-late',
    'notify-poll',
    'the owner raises notify_me after it has looked at the flag',
    'notifyMe.add(1);\n    // the engine counts whole microseconds and cuts off the rest, which would wake up just too early\n    notified.wait(0,',
    'if (notified.load() !== 0) return;\n    notifyMe.add(1);\n    notified.wait(notified.load(),',
  ),
  notifier(
    'notify-no-wake',
    'notify-poll',
    'notify does not wake',
    'if (this.#state.notifyMe.load() !== 0) this.#state.notified.notify();',
    '',
  ),
  notifier(
    'notify-plain-wait',
    'notify-poll',
    'the owner does not announce its sleep',
    'notifyMe.add(1);',
    'notifyMe.add(0);',
  ),
  context(
    'poll-accept-late',
    'notify-poll',
    'the notification is accepted after the owner has looked whether it may sleep',
    'this.group.notifier.wait(this.timeout());',
    'const timeout = this.timeout();\n    this.group.notifier.accept();\n    this.group.notifier.wait(timeout);',
  ),
  context(
    'stop-no-notify',
    'iothread-stop',
    'requestStop does not notify',
    'this.#state.stop.store(1);\n    this.notify();',
    'this.#state.stop.store(1);',
  ),
  context(
    'stop-notify-first',
    'iothread-stop',
    'requestStop notifies before it stores the flag',
    'this.#state.stop.store(1);\n    this.notify();',
    'this.notify();\n    this.#state.stop.store(1);',
  ),
  bottomHalf(
    'bh-clear-late',
    'bh-schedule',
    'PENDING and SCHEDULED are cleared after the call',
    'callbacks.run(callback, arg);',
    'this.#ops.or(this.#flags(index), BH.PENDING);\n      callbacks.run(callback, arg);\n      this.#ops.and(this.#flags(index), ~(BH.PENDING | BH.SCHEDULED | BH.IDLE));',
  ),
  bottomHalf(
    'bh-link-always',
    'bh-schedule',
    'schedule links a bottom half that is linked already',
    'if ((old & BH.PENDING) === 0) {',
    'if (old >= 0) {',
  ),
  bottomHalf(
    'bh-push-in-two',
    'bh-schedule-two',
    'the stack is pushed to by load and store',
    'const seen = this.#top.compareExchange(top, index + 1);',
    'const seen = top;\n        this.#top.store(index + 1);',
  ),
  bottomHalf(
    'bh-take-in-two',
    'bh-schedule-two',
    'the stack is taken by load and store',
    'const newest = this.#top.exchange(0);',
    'const newest = this.#top.load();\n    this.#top.store(0);',
  ),
  bottomHalf(
    'bh-cancel-pending',
    'bh-cancel',
    'cancel clears PENDING too',
    'this.#ops.and(this.#flags(index), ~BH.SCHEDULED);',
    'this.#ops.and(this.#flags(index), ~(BH.SCHEDULED | BH.PENDING));',
  ),
  bottomHalf('bh-no-notify', 'bh-schedule', 'schedule does not notify', 'if (notify) this.#notify();', ''),
  bottomHalf(
    'bh-notify-first',
    'bh-schedule',
    'schedule notifies before the bottom half is linked',
    'const old = this.#ops.or(this.#flags(index), BH.PENDING | flags);',
    'if (notify) this.#notify();\n    notify = false;\n    const old = this.#ops.or(this.#flags(index), BH.PENDING | flags);',
  ),
  bottomHalf(
    'bh-free-unlocked',
    'bh-oneshot',
    'a number is freed without the lock',
    'state.freeLock.lock();\n    this.#i32[this.#word(index) + NEXT] = state.free;\n    state.free = index + 1;\n    state.freeLock.unlock();',
    'this.#i32[this.#word(index) + NEXT] = state.free;\n    state.free = index + 1;',
  ),
  mainLoop(
    'mainloop-unlocked',
    'bql-clock',
    'the main loop runs its timers without the BQL',
    'this.#bql.lock();\n    // held over the whole pass',
    'this.context.dispatch();\n    this.#bql.lock();\n    // held over the whole pass',
  ),
  mainLoop(
    'mainloop-sleeps-locked',
    'bql-clock',
    'the main loop sleeps with the BQL',
    'this.#bql.unlock();\n    // a deadline needs no lock: what changes it notifies\n    if (!nonblocking) this.context.wait();',
    'if (!nonblocking) this.context.wait();\n    this.#bql.unlock();',
  ),
  mainLoop(
    'mainloop-take-in-two',
    'mainloop-post',
    'requests are taken by load and store',
    'const requests = this.#state.requests.exchange(0);',
    'const requests = this.#state.requests.load();\n    this.#state.requests.store(0);',
  ),
  mainLoop(
    'mainloop-post-late',
    'mainloop-post',
    'post notifies before the request can be seen',
    'this.#state.requests.or(1 << kind);\n    this.context.notify();',
    'this.context.notify();\n    this.#state.requests.or(1 << kind);',
  ),
];

const MACHINE: readonly Mutation[] = [
  exclusive(
    'exclusive-look-first',
    'exclusive',
    'a vCPU reads pending before it stores running',
    'Atomics.store(words, running, 1);\n      if (Atomics.load(words, this.pending) === 0) return;',
    'const free = Atomics.load(words, this.pending) === 0;\n      Atomics.store(words, running, 1);\n      if (free) return;',
  ),
  exclusive(
    'exclusive-wake-one',
    'exclusive',
    'the end of a section wakes one vCPU',
    'Atomics.notify(words, this.pending);',
    'Atomics.notify(words, this.pending, 1);',
  ),
  exclusive(
    'exclusive-uncounted',
    'exclusive',
    'a vCPU that leaves guest code does not tell who waits for it',
    'Atomics.add(words, this.progress, 1);\n      Atomics.notify(words, this.progress);',
    '',
  ),
  exclusive(
    'exclusive-progress-late',
    'exclusive',
    'the starter reads progress after it has looked at running',
    'const seen = Atomics.load(words, this.progress);\n        if (Atomics.load(words, running) === 0) break;',
    'if (Atomics.load(words, running) === 0) break;\n        const seen = Atomics.load(words, this.progress);',
  ),
  exclusive(
    'exclusive-unlocked',
    'exclusive-vcpus',
    'two sections may start at once',
    'this.lock.lock();',
    '',
  ),
  exclusive(
    'exclusive-keeps-running',
    'exclusive-vcpus',
    'a vCPU that starts a section goes on counting as running',
    'if (wasRunning) this.execEnd(self);',
    '',
  ),
  exclusive(
    'exclusive-pending-left',
    'exclusive',
    'pending is cleared after the sleepers were woken',
    'Atomics.store(words, this.pending, 0);\n    Atomics.notify(words, this.pending);',
    'Atomics.notify(words, this.pending);\n    Atomics.store(words, this.pending, 0);',
  ),
  signals(
    'kick-no-sequence',
    'kick-sleep',
    'a kick does not change kickSeq',
    'Atomics.add(words, together[0] + OFF.kickSeq, 1);\n',
    '',
  ),
  signals(
    'kick-no-notify',
    'kick-sleep',
    'a kick does not wake',
    'Atomics.notify(words, together[0] + OFF.kickSeq);',
    '',
  ),
  signals(
    'kick-no-exit',
    'kick-exit',
    'a kick does not set exitRequest',
    'for (const at of together) Atomics.or(words, at + OFF.exitRequest, EXIT.KICK);',
    '',
  ),
  signals(
    'kick-own-word',
    'kick-together',
    "a kick changes the vCPU's own kickSeq, and its worker sleeps on another",
    'Atomics.add(words, together[0] + OFF.kickSeq, 1);',
    'Atomics.add(words, this.at + OFF.kickSeq, 1);',
  ),
  signals(
    'kick-first',
    'kick-sleep',
    'an interrupt kicks before the request can be seen',
    'const old = Atomics.or(this.words, this.at + OFF.interruptRequest, bits);',
    'this.kick();\n    const old = Atomics.or(this.words, this.at + OFF.interruptRequest, bits) | bits;',
  ),
  signals(
    'kick-first-only',
    'kick-exit',
    'an interrupt kicks only when none at all was requested',
    'if ((old & bits) !== bits) this.kick();',
    'if (old === 0) this.kick();',
  ),
  mainThread(
    'stop-clock-left',
    'pause',
    'stop leaves the virtual clock enabled',
    'board.clocks.clockEnable(CLOCK.VIRTUAL, false);',
    '',
  ),
  mainThread(
    'stop-no-wait',
    'pause',
    'stop does not wait for the vCPUs',
    'if (stopped === board.config.cpus) break;',
    'if (stopped >= 0) break;',
  ),
  board(
    'stop-no-kick',
    'pause',
    'a vCPU that sleeps is not told to stop',
    '      1,\n    );\n    this.signals[index].kick();',
    '      1,\n    );',
  ),
  board(
    'start-no-kick',
    'start',
    'a parked vCPU is not told to go on',
    '0);\n      this.signals[i].kick();',
    '0);',
  ),
  vcpuThread('park-no-notify', 'pause', 'a vCPU parks without telling', 'stoppedCpus.notify();', ''),
  vcpuThread(
    'park-late-look',
    'pause-resume',
    'a parked vCPU reads its kick sequence after it has looked whether to go on',
    'const seq = vcpus[0].kickSequence;\n      if (vcpus.every((v) => v.stopRequested) && quit.load() === 0) vcpus[0].sleepUnlessKicked(seq);',
    'vcpus[0].sleepUnlessKicked(vcpus[0].kickSequence);',
  ),
  vcpuThread(
    'park-count-left',
    'pause-resume',
    'a vCPU that goes on still counts as stopped',
    'stoppedCpus.add(-vcpus.length);',
    '',
  ),
  vcpuThread(
    'in-turn-late-look',
    'pause-in-turn',
    'the worker of several vCPUs reads its kick sequence after it has looked for stop requests',
    'if (!ran) first.sleepUnlessKicked(seq);',
    'if (!ran) first.sleepUnlessKicked(first.kickSequence);',
  ),
];

export const MUTATIONS: readonly Mutation[] = [...PRIMITIVES, ...CLOCKS, ...LOOPS, ...MACHINE];
