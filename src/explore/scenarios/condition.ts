/** Condition: tokens are given under the mutex, and whoever waits for one gets it. */
import { Condition, Mutex, setOwnerId } from '@smp86/atomics-sync';
import type { Model, Scenario } from '../scenario.ts';
import { ONE_PAUSE } from './mutex.ts';

const TAKEN = 0;

interface Parts {
  readonly mutex: Mutex;
  readonly condition: Condition;
  readonly words: Int32Array;
  /** Index of the number of tokens, protected by the mutex. */
  readonly tokens: number;
}

function parts(model: Model, index: number): Parts {
  setOwnerId(index + 1);
  return {
    mutex: new Mutex(model.buffer, model.place('mutex', Mutex.BYTES)),
    condition: new Condition(model.buffer, model.place('condition', Condition.BYTES)),
    words: new Int32Array(model.buffer),
    tokens: model.place('tokens', 4) >>> 2,
  };
}

/** Waits for a token and takes it; without end when `timeout` is `Infinity`. */
function take(model: Model, { mutex, condition, words, tokens }: Parts, timeout: number): void {
  const { ghost } = model;
  mutex.lock();
  while (words[tokens] === 0) if (!condition.wait(mutex, timeout)) break;
  if (words[tokens] > 0) {
    words[tokens] = words[tokens] - 1;
    ghost[TAKEN]++;
  }
  mutex.unlock();
}

function give({ mutex, condition, words, tokens }: Parts, inside: boolean): void {
  mutex.lock();
  words[tokens] = words[tokens] + 1;
  if (inside) condition.signal();
  mutex.unlock();
  if (!inside) condition.signal();
}

const signals: Scenario = {
  name: 'condition',
  title: 'Condition: two wait for a token each, one gives two and signals each, in and after the section',
  threads: ['taker 1', 'taker 2', 'giver'],
  patches: [ONE_PAUSE],
  thread(model: Model, index: number) {
    const p = parts(model, index);
    if (index < 2) return () => take(model, p, Infinity);
    return () => {
      give(p, true);
      give(p, false);
    };
  },
  end(model: Model) {
    model.assert(model.ghost[TAKEN] === 2, 'both tokens were taken');
  },
};

const timed: Scenario = {
  name: 'condition-timed',
  title: 'Condition: as before, and one of the two does not wait for ever',
  threads: ['impatient taker', 'taker', 'giver'],
  patches: [ONE_PAUSE],
  thread(model: Model, index: number) {
    const p = parts(model, index);
    if (index < 2) return () => take(model, p, index === 0 ? 1000 : Infinity);
    return () => {
      give(p, true);
      give(p, false);
    };
  },
};

const broadcast: Scenario = {
  name: 'condition-broadcast',
  title: 'Condition: two wait for one word, one broadcast wakes both',
  threads: ['waiter 1', 'waiter 2', 'broadcaster'],
  patches: [ONE_PAUSE],
  thread(model: Model, index: number) {
    const { mutex, condition, words, tokens } = parts(model, index);
    if (index < 2) {
      return () => {
        mutex.lock();
        while (words[tokens] === 0) condition.wait(mutex);
        mutex.unlock();
      };
    }
    return () => {
      mutex.lock();
      words[tokens] = 1;
      mutex.unlock();
      condition.broadcast();
    };
  },
};

export const scenarios: readonly Scenario[] = [signals, timed, broadcast];
