/** Mutex: exclusion, and nobody sleeps for ever. */
import { Mutex, setOwnerId } from '@smp86/atomics-sync';
import type { Model, Patch, Scenario } from '../scenario.ts';

/** Each pause is one more look at a word that may have changed at any time; one look does what forty do. */
export const ONE_PAUSE: Patch = {
  file: 'shared/src/mutex.ts',
  find: 'const MAX_PAUSES = 40;',
  replace: 'const MAX_PAUSES = 1;',
};

const INSIDE = 0;
const ENTERED = 1;

/** Takes the lock `rounds` times; `words` is plain memory that it protects. */
function work(model: Model, mutex: Mutex, words: Int32Array, at: number, rounds: number): void {
  const { ghost } = model;
  for (let i = 0; i < rounds; i++) {
    mutex.lock();
    ghost[INSIDE]++;
    model.assert(ghost[INSIDE] === 1, 'two threads hold the mutex');
    words[at] = words[at] + 1;
    model.step();
    ghost[INSIDE]--;
    mutex.unlock();
    ghost[ENTERED]++;
  }
}

function scenario(name: string, rounds: readonly number[]): Scenario {
  return {
    name,
    title: `Mutex: ${rounds.length} threads take it ${rounds.join(', ')} times`,
    threads: rounds.map((_, i) => `locker ${i + 1}`),
    patches: [ONE_PAUSE],
    thread(model: Model, index: number) {
      setOwnerId(index + 1);
      const mutex = new Mutex(model.buffer, model.place('mutex', Mutex.BYTES));
      const words = new Int32Array(model.buffer);
      const at = model.place('counter', 4) >>> 2;
      return () => work(model, mutex, words, at, rounds[index]);
    },
    end(model: Model) {
      const words = new Int32Array(model.buffer);
      const total = rounds.reduce((a, b) => a + b, 0);
      model.assert(words[model.place('counter', 4) >>> 2] === total, 'every section was counted');
      model.assert(words[model.place('mutex', Mutex.BYTES) >>> 2] === 0, 'the mutex is free');
    },
  };
}

export const scenarios: readonly Scenario[] = [
  scenario('mutex', [1, 1, 1]),
  scenario('mutex-again', [2, 2, 1]),
];
