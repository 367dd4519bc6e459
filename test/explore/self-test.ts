/** Scenarios that are wrong in a known way, or small enough for all their schedules. */
import { AtomicI32, Mutex } from '@smp86/atomics-sync';
import type { Model, Scenario } from '../../src/explore/scenario.ts';
import { ONE_PAUSE } from '../../src/explore/scenarios/mutex.ts';

/** Two or more threads with the same kind of body. */
function threads(name: string, count: number, body: (model: Model, index: number) => () => void): Scenario {
  return {
    name,
    title: name,
    threads: Array.from({ length: count }, (_, i) => `thread ${i}`),
    patches: [],
    thread: body,
  };
}
const word = (model: Model, name: string): AtomicI32 => new AtomicI32(model.buffer, model.place(name, 4, 4));

const unlocked = threads('unlocked counter', 2, (model) => {
  const words = new Int32Array(model.buffer);
  const at = model.place('counter', 4) >>> 2;
  return () => {
    model.step();
    words[at] = words[at] + 1;
  };
});

const lostUpdate: Scenario = {
  ...threads('lost update', 2, (model) => {
    const x = word(model, 'x');
    return () => x.store(x.load() + 1);
  }),
  end(model: Model) {
    if (word(model, 'x').load() !== 2) throw new RangeError('an update was lost');
  },
};

const twoLocks: Scenario = {
  ...threads('two locks in two orders', 2, (model, index) => {
    const a = new Mutex(model.buffer, model.place(index === 0 ? 'a' : 'b', Mutex.BYTES));
    const b = new Mutex(model.buffer, model.place(index === 0 ? 'b' : 'a', Mutex.BYTES));
    return () => {
      a.lock();
      b.lock();
      b.unlock();
      a.unlock();
    };
  }),
  patches: [ONE_PAUSE],
};

const lateSleep = threads('sleep after a look', 2, (model, index) => {
  const bell = word(model, 'bell');
  if (index === 0) {
    return () => {
      if (bell.load() === 0) bell.wait(0);
    };
  }
  return () => {
    const before = bell.add(1);
    if (before !== 0) bell.notify();
  };
});

const politeness = threads('politeness', 2, (model, index) => {
  const mine = word(model, `wants ${index}`);
  const other = word(model, `wants ${1 - index}`);
  return () => {
    for (;;) {
      mine.store(1);
      if (other.load() === 0) break;
      mine.store(0);
    }
  };
});

const throws = threads('a throw', 1, (model) => {
  const x = word(model, 'x');
  return () => {
    if (x.load() === 0) throw new RangeError('as intended');
  };
});

const onlyTimeout: Scenario = {
  ...threads('only a timeout', 1, (model) => {
    const x = word(model, 'x');
    return () => void x.wait(0, 1000);
  }),
  timeoutsAreLosses: true,
};

const choice = threads('a choice', 1, (model) => {
  return () => {
    const n = model.choose(3);
    model.assert(n !== 2, 'the third choice');
  };
});

const nowhere: Scenario = {
  ...threads('nowhere', 1, (model) => {
    const x = word(model, 'x');
    return () => {
      if (x.load() === 1) model.reached('the other side');
    };
  }),
  reaches: ['the other side'],
};

const freed = threads('use after free', 2, (model, index) => {
  const x = new AtomicI32(model.buffer, model.place('x', 64, 64));
  if (index === 0) return () => model.free(x.address, 64);
  return () => x.store(1);
});

/** A plain access: found at the access itself. */
const freedPlain = threads('plain use after free', 2, (model, index) => {
  const words = new Int32Array(model.buffer);
  const at = model.place('x', 64, 64);
  if (index === 0) return () => model.free(at, 64);
  return () => {
    model.step();
    words[at >>> 2] = 1;
  };
});

/** The memory is given back when the other has told that it needs it no more. */
const freedInTurn = threads('free in turn', 2, (model, index) => {
  const x = new AtomicI32(model.buffer, model.place('x', 64, 64));
  const done = word(model, 'done');
  if (index === 0) {
    return () => {
      while (done.load() === 0) done.wait(0);
      model.free(x.address, 64);
    };
  }
  return () => {
    x.store(1);
    done.store(1);
    done.notify();
  };
});

const mixed = threads('mixed access', 2, (model, index) => {
  const x = word(model, 'x');
  const words = new Int32Array(model.buffer);
  const at = model.place('x', 4, 4) >>> 2;
  if (index === 0) return () => x.store(1);
  return () => {
    model.step();
    words[at] = 2;
  };
});

/** Steps in closures that methods of arrays call. */
const closures = threads('closures', 2, (model, index) => {
  const all = [word(model, 'x'), word(model, 'y')];
  if (index === 0) return () => all.forEach((x) => x.store(1));
  return () => {
    const seen = all.map((x) => x.load());
    model.assert(seen[0] === seen[1], 'between two stores of a forEach');
  };
});

/** What a thread forgets is forgotten, what it still knows is not: the second value counts, although the first comes back. */
const deadStore = threads('dead store', 2, (model, index) => {
  const x = word(model, 'x');
  if (index === 0) {
    return () => {
      x.store(1);
      x.store(0);
    };
  }
  return () => {
    const old = { value: 0 };
    old.value = x.load();
    for (let i = 0; i < 2; i++) x.load();
    model.assert(old.value === 0 || x.load() === 1, 'a field kept what the word was');
  };
});

const spinning = threads('spinning', 2, (model, index) => {
  const x = word(model, 'x');
  if (index === 0) return () => x.store(1);
  return () => {
    while (x.load() === 0) continue;
  };
});

const writers = threads('three writers', 3, (model, index) => {
  const x = word(model, 'x');
  const y = word(model, 'y');
  return () => {
    const old = x.load();
    y.store(old * 3 + index);
    x.store(y.load() + index);
  };
});

const lockers: Scenario = {
  ...threads('two lockers', 2, (model, index) => {
    const mutex = new Mutex(model.buffer, model.place('mutex', Mutex.BYTES));
    const words = new Int32Array(model.buffer);
    const at = model.place('order', 4) >>> 2;
    return () => {
      mutex.lock();
      words[at] = words[at] * 2 + index + 1;
      mutex.unlock();
    };
  }),
  patches: [ONE_PAUSE],
};

const sleepers = threads('sleepers', 3, (model, index) => {
  const x = word(model, 'x');
  const out = word(model, 'out');
  if (index === 2) {
    return () => {
      x.store(1);
      x.notify(1);
      x.store(2);
      x.notify();
    };
  }
  return () => {
    const result = x.wait(0, index === 0 ? 1000 : Infinity);
    out.store(out.load() * 4 + result + 1);
  };
});

/** A plain access after a step, and ghosts: what the explorer learns of a step only when it has made it. */
const plainThenAtomic: Scenario = threads('plain then atomic', 3, (model, index) => {
  const { ghost } = model;
  const x = word(model, `x${index}`);
  const out = word(model, 'out');
  return () => {
    x.store(1);
    ghost[0] = ghost[0] * 3 + index;
    x.store(ghost[0]);
    if (index === 0) out.store(ghost[0]);
  };
});

export const scenarios: readonly Scenario[] = [
  unlocked,
  lostUpdate,
  twoLocks,
  lateSleep,
  politeness,
  throws,
  onlyTimeout,
  choice,
  nowhere,
  freed,
  freedPlain,
  freedInTurn,
  mixed,
  closures,
  deadStore,
  spinning,
  writers,
  lockers,
  sleepers,
  plainThenAtomic,
];
