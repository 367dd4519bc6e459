/** Semaphore: never more inside than there are permits, and no permit sleeps. */
import { Semaphore } from '@smp86/atomics-sync';
import type { Model, Scenario } from '../scenario.ts';

const INSIDE = 0;
const GOT = 1;

function semaphore(model: Model): Semaphore {
  return new Semaphore(model.buffer, model.place('semaphore', Semaphore.BYTES));
}

function exclusion(name: string, permits: number, rounds: readonly number[]): Scenario {
  return {
    name,
    title: `Semaphore: ${rounds.length} threads, ${permits} permit${permits === 1 ? '' : 's'}, taken ${rounds.join(', ')} times`,
    threads: rounds.map((_, i) => `thread ${i + 1}`),
    setup(model: Model) {
      semaphore(model).init(permits);
    },
    thread(model: Model, index: number) {
      const { ghost } = model;
      const s = semaphore(model);
      return () => {
        for (let i = 0; i < rounds[index]; i++) {
          s.acquire();
          ghost[INSIDE]++;
          model.assert(ghost[INSIDE] <= permits, 'more threads inside than permits');
          model.step();
          ghost[INSIDE]--;
          s.release();
        }
      };
    },
    end(model: Model) {
      model.assert(semaphore(model).available === permits, 'all permits are back');
    },
  };
}

function releases(name: string, given: readonly number[]): Scenario {
  return {
    name,
    title: `Semaphore: two threads wait, one releases ${given.join(' and then ')}`,
    threads: ['taker 1', 'taker 2', 'giver'],
    setup(model: Model) {
      semaphore(model).init(0);
    },
    thread(model: Model, index: number) {
      const { ghost } = model;
      const s = semaphore(model);
      if (index < 2) {
        return () => {
          s.acquire();
          ghost[GOT]++;
        };
      }
      return () => {
        for (let i = 0; i < given.length; i++) s.release(given[i]);
      };
    },
    end(model: Model) {
      model.assert(model.ghost[GOT] === 2, 'both got a permit');
      model.assert(semaphore(model).available === 0, 'no permit is left');
    },
  };
}

const timed: Scenario = {
  name: 'semaphore-timed',
  title: 'Semaphore: one waits, one waits for a time, one releases two',
  threads: ['taker', 'impatient taker', 'giver'],
  setup(model: Model) {
    semaphore(model).init(0);
  },
  thread(model: Model, index: number) {
    const { ghost } = model;
    const s = semaphore(model);
    if (index === 0) {
      return () => {
        s.acquire();
        ghost[GOT]++;
      };
    }
    if (index === 1) {
      return () => {
        if (s.acquireTimed(1000)) ghost[GOT]++;
      };
    }
    return () => {
      s.release();
      s.release();
    };
  },
  end(model: Model) {
    model.assert(semaphore(model).available === 2 - model.ghost[GOT], 'every permit was got or is left');
  },
};

export const scenarios: readonly Scenario[] = [
  exclusion('semaphore', 1, [1, 1, 1]),
  exclusion('semaphore-again', 1, [2, 2, 1]),
  exclusion('semaphore-two', 2, [1, 1, 1]),
  releases('semaphore-release', [1, 1]),
  releases('semaphore-release-two', [2]),
  timed,
];
