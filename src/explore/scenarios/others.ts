/** SeqLock, SpinLock, Once, Barrier. */
import { AtomicI32, Barrier, Once, SeqLock, SpinLock } from '@smp86/atomics-sync';
import type { Model, Patch, Scenario } from '../scenario.ts';

/** Each pause is one more look; see `ONE_PAUSE` of the mutex. */
const SEQ_LOCK_PAUSES: Patch = {
  file: 'shared/src/seq-lock.ts',
  find: 'const MAX_PAUSES = 40;',
  replace: 'const MAX_PAUSES = 1;',
};
const SPIN_LOCK_PAUSES: Patch = {
  file: 'shared/src/spin-lock.ts',
  find: 'const MAX_PAUSES = 200;',
  replace: 'const MAX_PAUSES = 1;',
};

const INSIDE = 0;
const RUNS = 1;

const seqLock: Scenario = {
  name: 'seqlock',
  title: 'SeqLock: one writes two words twice, two read them together',
  threads: ['writer', 'reader 1', 'reader 2'],
  patches: [SEQ_LOCK_PAUSES],
  thread(model: Model, index: number) {
    const lock = new SeqLock(model.buffer, model.place('lock', SeqLock.BYTES));
    const x = new AtomicI32(model.buffer, model.place('x', 4, 4));
    const y = new AtomicI32(model.buffer, model.place('y', 4, 4));
    if (index === 0) {
      return () => {
        for (let i = 1; i <= 2; i++) {
          lock.writeBegin();
          x.store(i);
          y.store(i);
          lock.writeEnd();
        }
      };
    }
    return () => {
      for (;;) {
        const seq = lock.readBegin();
        const a = x.load();
        const b = y.load();
        if (lock.readRetry(seq)) continue;
        model.assert(a === b, 'half of a write was read');
        break;
      }
    };
  },
};

const spinLock: Scenario = {
  name: 'spinlock',
  title: 'SpinLock: three threads take it',
  threads: ['locker 1', 'locker 2', 'locker 3'],
  patches: [SPIN_LOCK_PAUSES],
  thread(model: Model, index: number) {
    const { ghost } = model;
    const lock = new SpinLock(model.buffer, model.place('lock', SpinLock.BYTES));
    const words = new Int32Array(model.buffer);
    const at = model.place('counter', 4) >>> 2;
    return () => {
      for (let i = index === 0 ? 2 : 1; i > 0; i--) {
        lock.lock();
        ghost[INSIDE]++;
        model.assert(ghost[INSIDE] === 1, 'two threads hold the lock');
        words[at] = words[at] + 1;
        model.step();
        ghost[INSIDE]--;
        lock.unlock();
      }
    };
  },
};

const once: Scenario = {
  name: 'once',
  title: 'Once: three threads come, the first try fails, the second does it',
  threads: ['thread 1', 'thread 2', 'thread 3'],
  thread(model: Model) {
    const { ghost } = model;
    const first = new Once(model.buffer, model.place('once', Once.BYTES));
    return () => {
      try {
        first.run(() => {
          ghost[INSIDE]++;
          model.assert(ghost[INSIDE] === 1, 'two do it at once');
          model.step();
          ghost[INSIDE]--;
          ghost[RUNS]++;
          if (ghost[RUNS] === 1) throw new RangeError('the first fails');
        });
        model.assert(ghost[RUNS] === 2, 'run returned before it was done');
      } catch (error) {
        model.assert(error instanceof RangeError, String(error));
      }
    };
  },
  end(model: Model) {
    model.assert(model.ghost[RUNS] === 2, 'it was tried twice');
  },
};

const barrier: Scenario = {
  name: 'barrier',
  title: 'Barrier: three threads meet twice',
  threads: ['thread 1', 'thread 2', 'thread 3'],
  setup(model: Model) {
    new Barrier(model.buffer, model.place('barrier', Barrier.BYTES)).init(3);
  },
  thread(model: Model) {
    const { ghost } = model;
    const b = new Barrier(model.buffer, model.place('barrier', Barrier.BYTES));
    return () => {
      for (let round = 1; round <= 2; round++) {
        ghost[RUNS]++;
        b.wait();
        model.assert(ghost[RUNS] >= 3 * round, 'a thread went on before all had come');
      }
    };
  },
};

export const scenarios: readonly Scenario[] = [seqLock, spinLock, once, barrier];
