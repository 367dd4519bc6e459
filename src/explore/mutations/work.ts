/** Faults in what vCPU threads do for others, and in icount. */
import { type Mutation, plant } from './mutation.ts';

const work = plant('src/machine/cpu-work.ts');
const icount = plant('src/timer/icount.ts');
const runner = plant('src/machine/icount-runner.ts');
const list = plant('src/timer/timer-list.ts');

export const WORK: readonly Mutation[] = [
  work(
    'work-no-kick',
    'run-on-cpu',
    'a vCPU that sleeps is not told of its work',
    'this.#signals[cpu].kick();\n    return ticket;',
    'return ticket;',
  ),
  work(
    'work-kick-first',
    'run-on-cpu',
    'the kick comes before the work can be seen',
    'state.waiting.store((state.queued - state.taken) | 0);\n    }\n    state.lock.unlock();\n    if (full) throw new CpuWorkError(`${CAPACITY} items wait for vCPU ${cpu}`);\n    this.#signals[cpu].kick();\n    return ticket;',
    'this.#signals[cpu].kick();\n      state.waiting.store((state.queued - state.taken) | 0);\n    }\n    state.lock.unlock();\n    return ticket;',
  ),
  work(
    'work-taken-unlocked',
    'run-on-cpu',
    'the lock is let go before the item is taken from the queue',
    'state.taken = (state.taken + 1) | 0;\n      state.waiting.store((state.queued - state.taken) | 0);\n      state.lock.unlock();',
    'state.lock.unlock();\n      state.taken = (state.taken + 1) | 0;\n      state.waiting.store((state.queued - state.taken) | 0);',
  ),
  work(
    'work-done-first',
    'run-on-cpu',
    'work counts as done before its function has run',
    'this.#running = 1;',
    'this.#running = 1;\n      state.done.add(1);\n      state.progress.add(1);\n      state.progress.notify();',
  ),
  work(
    'work-no-progress',
    'run-on-cpu',
    'nobody is told that work is done',
    'state.progress.add(1);\n        state.progress.notify();\n        if',
    'if',
  ),
  work(
    'work-late-look',
    'run-on-cpu',
    'a waiter looks whether its work is done before it reads what it sleeps on',
    'const seen = state.progress.load();\n      if (this.#isDone(cpu, ticket)) return true;',
    'if (this.#isDone(cpu, ticket)) return true;\n      const seen = state.progress.load();',
  ),
  work(
    'work-waiter-not-kicked',
    'run-on-cpu',
    'a vCPU that waits is not told that its work is done',
    'if (waiter >= 0) this.#signals[waiter].kick();',
    '',
  ),
  work(
    'work-waiter-idle',
    'run-on-cpu-cross',
    'a vCPU that waits leaves its own work alone',
    'if (this.pending(self)) this.process(self);\n      else ',
    '',
  ),
  work(
    'work-waiter-late',
    'run-on-cpu-cross',
    'a vCPU that waits reads its kick sequence after it has looked',
    'else this.#signals[self].sleep(seq);',
    'else this.#signals[self].sleep(this.#signals[self].sequence);',
  ),
  work(
    'work-bql-kept',
    'run-on-cpu',
    'run_on_cpu waits with the BQL held',
    'if (held) this.#bql.unlock();\n    const done = self < 0 ? this.#waitOutside(cpu, ticket) : this.#waitAsVcpu(self, cpu, ticket);\n    if (held) this.#bql.lock();',
    'const done = self < 0 ? this.#waitOutside(cpu, ticket) : this.#waitAsVcpu(self, cpu, ticket);',
  ),
  work(
    'work-safe-not-exclusive',
    'run-on-cpu-safe',
    'safe work runs without an exclusive section',
    'if (exclusive !== 0) this.#runExclusively(cpu, callback, arg);',
    'if (exclusive !== 0) this.callbacks.run(callback, arg);',
  ),
  work(
    'work-safe-not-ended',
    'run-on-cpu-safe',
    'the exclusive section of safe work is not ended',
    'this.#exclusive.end(cpu);',
    '',
  ),
  work(
    'work-waiter-not-running',
    'run-on-cpu-running',
    'a vCPU that goes on in guest code after it has waited does not count as running',
    'if (running) this.#exclusive.execStart(self);',
    '',
  ),
  work(
    'work-waiter-running',
    'run-on-cpu-running',
    'a vCPU that waits in guest code counts as running',
    'if (running) this.#exclusive.execEnd(self);',
    '',
  ),
  work(
    'work-closed-silently',
    'run-on-cpu-end',
    'a thread that ends tells nobody',
    'state.closed.store(1);\n    state.progress.add(1);\n    state.progress.notify();',
    'state.closed.store(1);',
  ),
  work(
    'work-closed-not-kicked',
    'run-on-cpu-end',
    'a thread that ends does not kick a vCPU that waits for it',
    'for (const s of this.#signals) s.kick();',
    '',
  ),
  work(
    'work-closed-one-look',
    'run-on-cpu-end',
    'work that was done just before the end counts as not done',
    'if (state.closed.load() !== 0) return this.#isDone(cpu, ticket);',
    'if (state.closed.load() !== 0) return false;',
  ),
  icount(
    'icount-no-kick',
    'icount-idle',
    'who arms a timer does not tell the thread that executes',
    '} else if (this.kick !== undefined) this.kick();',
    '}',
  ),
  runner(
    'icount-late-look',
    'icount-idle',
    'the executing thread reads its kick sequence after it has looked for timers',
    'vcpus[0].sleepUnlessKicked(seq);',
    'vcpus[0].sleepUnlessKicked(vcpus[0].kickSequence);',
  ),
  list(
    'icount-notify-loop',
    'icount-idle',
    'a VIRTUAL timer of the main loop wakes the main loop, which leaves it alone',
    'icount.rearmed(this.head);',
    '',
  ),
];
