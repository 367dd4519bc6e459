/**
 * Races that real threads meet too rarely, made certain: what another thread does is run in the
 * middle of an operation, at a chosen atomic operation of it.
 */
import { describe, expect, test } from 'vitest';
import {
  Barrier,
  Condition,
  Event,
  EventCount,
  jsSyncOps,
  keepAlive,
  Mutex,
  Once,
  Semaphore,
  SeqLock,
  SpscRecordRing,
  SpscRing,
  type SyncOps,
  WAIT_NOT_EQUAL,
  WAIT_TIMED_OUT,
} from '@smp86/atomics-sync';

type OpName = 'load' | 'store' | 'add' | 'exchange' | 'compareExchange' | 'wait' | 'notify';

/** Operations that run `other` once, just before or after the `nth` (from 1) operation `name`. */
function interleaved(
  buffer: SharedArrayBuffer,
  when: 'before' | 'after',
  nth: number,
  name: OpName,
  other: () => void,
): SyncOps & { readonly met: boolean } {
  const ops = jsSyncOps(buffer);
  const plain = ops[name] as (...args: number[]) => number;
  let count = 0;
  return {
    ...ops,
    [name]: (...args: number[]) => {
      const now = ++count === nth;
      if (now && when === 'before') other();
      const result = plain(...args);
      if (now && when === 'after') other();
      return result;
    },
    get met() {
      return count >= nth;
    },
  };
}

const memory = () => new SharedArrayBuffer(4096);
const wordOf = (buffer: SharedArrayBuffer, at: number) => new Int32Array(buffer)[at / 4];

describe('Mutex', () => {
  test('an unlock just before the sleep keeps the locker awake', () => {
    const buffer = memory();
    const holder = new Mutex(buffer, 0);
    holder.lock();
    const ops = interleaved(buffer, 'before', 1, 'wait', () => holder.unlock());
    new Mutex(buffer, 0, ops).lock();
    expect(ops.met).toBe(true);
  });

  test('a lock that is free at the last moment of a timed lock is taken', () => {
    const buffer = memory();
    const holder = new Mutex(buffer, 0);
    holder.lock();
    const ops = interleaved(buffer, 'after', 1, 'wait', () => holder.unlock());
    expect(new Mutex(buffer, 0, ops).lockTimed(1e6)).toBe(true);
  });

  test('a thread that has slept takes the lock as contended: the next sleeper is woken', () => {
    const buffer = memory();
    const holder = new Mutex(buffer, 0);
    holder.lock();
    new Mutex(
      buffer,
      0,
      interleaved(buffer, 'before', 1, 'wait', () => holder.unlock()),
    ).lock();
    expect(wordOf(buffer, 0)).toBe(2);
  });

  test('an unlock while an async locker announces itself is not missed', async () => {
    const buffer = memory();
    for (const [when, nth, name] of [
      ['before', 1, 'add'],
      ['after', 1, 'load'],
      ['after', 1, 'exchange'],
    ] as const) {
      const holder = new Mutex(buffer, 0);
      holder.lock();
      const ops = interleaved(buffer, when, nth, name, () => holder.unlock());
      const other = new Mutex(buffer, 0, ops);
      await keepAlive(other.lockAsync());
      expect(ops.met).toBe(true);
      other.unlock();
    }
  });

  test('a sleeper that only awaits does not take the wake-up of one that blocks', async () => {
    const buffer = memory();
    const holder = new Mutex(buffer, 0);
    holder.lock();
    const lock = new Mutex(buffer, 0).lockAsync();
    const blocked = jsSyncOps(buffer).waitAsync(0, 2, Infinity); // a thread in the futex of the state
    holder.unlock();
    expect(await keepAlive(blocked)).toBe(0);
    await keepAlive(lock);
  });
});

describe('Event', () => {
  test('a set just before the sleep keeps the waiter awake', () => {
    const buffer = memory();
    const event = new Event(buffer, 0);
    event.init(false);
    const ops = interleaved(buffer, 'before', 1, 'wait', () => event.set());
    new Event(buffer, 0, ops).wait();
    expect(ops.met).toBe(true);
  });

  test('a set between the look and the mark keeps the waiter awake', () => {
    const buffer = memory();
    const event = new Event(buffer, 0);
    event.init(false);
    new Event(
      buffer,
      0,
      interleaved(buffer, 'before', 1, 'compareExchange', () => event.set()),
    ).wait();
    expect(event.isSet()).toBe(true);
  });

  test('two resets race with a waiter: its mark stays', () => {
    const buffer = memory();
    const event = new Event(buffer, 0);
    const ops = interleaved(buffer, 'after', 1, 'load', () => {
      event.reset();
      event.waitTimed(0);
    });
    new Event(buffer, 0, ops).reset();
    expect(wordOf(buffer, 0)).toBe(-1);
  });

  test('a set during a reset is either seen before it or kept', () => {
    const buffer = memory();
    const event = new Event(buffer, 0);
    event.init(false);
    new Event(
      buffer,
      0,
      interleaved(buffer, 'after', 1, 'load', () => event.set()),
    ).reset();
    expect(event.isSet()).toBe(true);
  });
});

describe('Condition', () => {
  test('a signal between the unlock and the sleep is not lost', () => {
    const buffer = memory();
    const mutex = new Mutex(buffer, 0);
    const ops = interleaved(buffer, 'before', 1, 'wait', () => {
      mutex.lock();
      new Condition(buffer, 64).signal();
      mutex.unlock();
    });
    mutex.lock();
    expect(new Condition(buffer, 64, ops).wait(mutex)).toBe(true);
  });

  test('a signal after the unlock of the signaller is not lost', () => {
    const buffer = memory();
    const mutex = new Mutex(buffer, 0);
    const ops = interleaved(buffer, 'before', 1, 'wait', () => {
      mutex.lock();
      mutex.unlock();
      new Condition(buffer, 64).signal();
    });
    mutex.lock();
    expect(new Condition(buffer, 64, ops).wait(mutex)).toBe(true);
  });
});

describe('Semaphore', () => {
  test.each(['before', 'after'] as const)(
    'a release %s the announcement of a sleeper is not lost',
    (when) => {
      const buffer = memory();
      const ops = interleaved(buffer, when, 1, 'add', () => new Semaphore(buffer, 0).release());
      new Semaphore(buffer, 0, ops).acquire();
      expect(wordOf(buffer, 0)).toBe(0);
    },
  );
});

describe('Barrier', () => {
  test('a fast thread may begin the next round before the last has left this one', async () => {
    const buffer = memory();
    const other = new Barrier(buffer, 0);
    other.init(2);
    const first = other.waitAsync();
    let second: Promise<boolean> | undefined;
    // The last of round one has bumped the generation and not yet woken anybody.
    const ops = interleaved(buffer, 'before', 1, 'notify', () => {
      second = other.waitAsync();
    });
    const barrier = new Barrier(buffer, 0, ops);
    expect(barrier.wait()).toBe(true);
    expect(await keepAlive(first)).toBe(false);
    expect(barrier.wait()).toBe(true);
    expect(await keepAlive(second!)).toBe(false);
  });

  test('nobody is counted for the next round and forgotten', async () => {
    const buffer = memory();
    const other = new Barrier(buffer, 0);
    other.init(2);
    const first = other.waitAsync();
    let second: Promise<boolean> | undefined;
    const ops = interleaved(buffer, 'after', 2, 'add', () => {
      second = other.waitAsync();
    });
    new Barrier(buffer, 0, ops).wait();
    await keepAlive(first);
    expect(wordOf(buffer, 0)).toBe(1);
    expect(other.wait()).toBe(true);
    await keepAlive(second!);
  });
});

describe('Once', () => {
  test('an end just before the sleep keeps the waiter awake', async () => {
    const buffer = memory();
    let end = () => {};
    const work = new Once(buffer, 0).runAsync(() => new Promise((resolve) => (end = resolve)));
    // The worker's end, as its thread would do it.
    const ops = interleaved(buffer, 'before', 1, 'wait', () => {
      jsSyncOps(buffer).exchange(0, 3);
    });
    expect(new Once(buffer, 0, ops).run(() => {})).toBe(false);
    end();
    await work;
  });
});

describe('SeqLock', () => {
  test('a reader that has given up spinning does not sleep past the end of the section', () => {
    const buffer = memory();
    const lock = new SeqLock(buffer, 0);
    lock.writeBegin();
    const ops = interleaved(buffer, 'before', 1, 'wait', () => lock.writeEnd());
    const seq = new SeqLock(buffer, 0, ops).readBegin();
    expect(ops.met).toBe(true);
    expect(seq).toBe(2);
  });

  test('a reader that begins during a section waits for its end', () => {
    const buffer = memory();
    const lock = new SeqLock(buffer, 0);
    lock.writeBegin();
    const ops = interleaved(buffer, 'after', 7, 'load', () => lock.writeEnd());
    expect(new SeqLock(buffer, 0, ops).readBegin()).toBe(2);
  });
});

describe('EventCount', () => {
  test('a mark that a waker takes away with another one is honoured', () => {
    const buffer = memory();
    const waiter = new EventCount(buffer, 0);
    const first = waiter.prepare();
    let second = 0;
    const ops = interleaved(buffer, 'before', 1, 'store', () => {
      second = waiter.prepare();
    });
    new EventCount(buffer, 0, ops).wake();
    expect(waiter.wait(first, 0)).toBe(WAIT_NOT_EQUAL);
    expect(waiter.wait(second, 0)).toBe(WAIT_NOT_EQUAL);
  });

  test('a mark set after the clearing stays for the next waker', () => {
    const buffer = memory();
    const waiter = new EventCount(buffer, 0);
    waiter.prepare();
    let key = 0;
    const ops = interleaved(buffer, 'after', 1, 'add', () => {
      key = waiter.prepare();
    });
    new EventCount(buffer, 0, ops).wake();
    expect(waiter.wait(key, 0)).toBe(WAIT_TIMED_OUT);
    waiter.wake();
    expect(waiter.wait(key, 0)).toBe(WAIT_NOT_EQUAL);
  });
});

describe('rings', () => {
  test('bytes written while the consumer is on its way to sleep wake it', () => {
    const buffer = memory();
    const ops = interleaved(buffer, 'before', 1, 'wait', () => void new SpscRing(buffer, 0, 64).writeByte(5));
    const ring = new SpscRing(buffer, 0, 64, ops);
    expect(ring.waitData()).toBe(true);
    expect(ring.readByte()).toBe(5);
  });

  test('space made while the producer is on its way to sleep wakes it', () => {
    const buffer = memory();
    const other = new SpscRing(buffer, 0, 64);
    other.write(new Uint8Array(64));
    const ops = interleaved(buffer, 'before', 1, 'wait', () => other.consume(3));
    expect(new SpscRing(buffer, 0, 64, ops).waitSpace(3)).toBe(true);
  });

  test('the last record before a close is never missed', () => {
    // Wherever in the consumer's wait the producer pushes and closes.
    for (let nth = 1; nth <= 8; nth++) {
      const buffer = memory();
      const producer = new SpscRecordRing(buffer, 0, 64);
      const ops = interleaved(buffer, 'after', nth, 'load', () => {
        producer.push(new Uint8Array([nth]));
        producer.close();
      });
      expect(new SpscRecordRing(buffer, 0, 64, ops).pop(1e6)).toEqual(new Uint8Array([nth]));
    }
  });
});
