import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  Barrier,
  Condition,
  keepAlive,
  Mutex,
  Once,
  Semaphore,
  SeqLock,
  setOwnerId,
  SpinLock,
  SyncError,
} from '@smp86/atomics-sync';

let buffer: SharedArrayBuffer;
beforeEach(() => {
  buffer = new SharedArrayBuffer(4096);
});
afterEach(() => setOwnerId(0));

/** Lets everything happen that is ready to. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 5));
const codeOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    if (error instanceof SyncError) return error.code;
    throw error;
  }
  return 'nothing thrown';
};

test('a primitive is refused at a misaligned place or outside the buffer', () => {
  expect(codeOf(() => new Mutex(buffer, 2))).toBe('misaligned');
  expect(codeOf(() => new Mutex(buffer, -4))).toBe('misaligned');
  expect(codeOf(() => new Mutex(buffer, 4088))).toBe('out-of-range');
});

describe('Mutex', () => {
  test('is free in zeroed memory, and held from lock to unlock', () => {
    const mutex = new Mutex(buffer, 64);
    expect(mutex.isLocked()).toBe(false);
    mutex.lock();
    expect(mutex.isLocked()).toBe(true);
    expect(mutex.tryLock()).toBe(false);
    mutex.unlock();
    expect(mutex.tryLock()).toBe(true);
  });

  test('a timed lock gives up when its time is over', () => {
    const mutex = new Mutex(buffer, 64);
    mutex.lock();
    const start = performance.now();
    expect(mutex.lockTimed(3e6)).toBe(false);
    expect(performance.now() - start).toBeGreaterThan(2.9);
    expect(mutex.lockTimed(0)).toBe(false);
    mutex.unlock();
    expect(mutex.lockTimed(0)).toBe(true);
  });

  test('unlocking a free one is an error', () => {
    expect(codeOf(() => new Mutex(buffer, 64).unlock())).toBe('not-held');
  });

  test('knows its owner among named threads', () => {
    const mutex = new Mutex(buffer, 64);
    setOwnerId(1);
    expect(codeOf(() => mutex.assertHeld())).toBe('not-held');
    mutex.lock();
    mutex.assertHeld();
    setOwnerId(2);
    expect(mutex.held).toBe(false);
    expect(codeOf(() => mutex.assertHeld())).toBe('not-held');
    expect(codeOf(() => mutex.unlock())).toBe('not-held');
    setOwnerId(1);
    mutex.unlock();
    expect(mutex.held).toBe(false);
  });

  test('a named thread that would wait for itself is told so', () => {
    const mutex = new Mutex(buffer, 64);
    setOwnerId(1);
    mutex.lock();
    expect(codeOf(() => mutex.lock())).toBe('recursive');
    expect(mutex.tryLock()).toBe(false);
  });

  test('tasks of one thread that await it get it one after the other', async () => {
    const mutex = new Mutex(buffer, 64);
    setOwnerId(1);
    const log: string[] = [];
    const task = async (name: string) => {
      await mutex.lockAsync();
      log.push(`${name} in`);
      await settle();
      log.push(`${name} out`);
      mutex.unlock();
    };
    await keepAlive(Promise.all([task('a'), task('b'), task('c')]));
    expect(log.map((line) => line.slice(2))).toEqual(['in', 'out', 'in', 'out', 'in', 'out']);
    expect(mutex.isLocked()).toBe(false);
  });

  test('init frees it', () => {
    const mutex = new Mutex(buffer, 64);
    mutex.lock();
    mutex.init();
    expect(mutex.tryLock()).toBe(true);
  });
});

describe('SpinLock', () => {
  test('is held from lock to unlock', () => {
    const lock = new SpinLock(buffer, 0);
    lock.lock();
    expect(lock.tryLock()).toBe(false);
    lock.unlock();
    expect(lock.tryLock()).toBe(true);
    lock.unlock();
    expect(codeOf(() => lock.unlock())).toBe('not-held');
  });
});

describe('Condition', () => {
  test('a wait releases the mutex and ends with it held', async () => {
    const mutex = new Mutex(buffer, 0);
    const condition = new Condition(buffer, 64);
    mutex.lock();
    const wait = condition.waitAsync(mutex);
    expect(mutex.tryLock()).toBe(true);
    condition.signal();
    mutex.unlock();
    expect(await keepAlive(wait)).toBe(true);
    expect(mutex.tryLock()).toBe(false);
  });

  test('a wait times out, and holds the mutex then', () => {
    const mutex = new Mutex(buffer, 0);
    const condition = new Condition(buffer, 64);
    mutex.lock();
    expect(condition.wait(mutex, 1e6)).toBe(false);
    expect(mutex.isLocked()).toBe(true);
  });

  test('signal wakes one, broadcast all', async () => {
    const mutex = new Mutex(buffer, 0);
    const condition = new Condition(buffer, 64);
    let woken = 0;
    const waiter = async () => {
      await mutex.lockAsync();
      await condition.waitAsync(mutex);
      woken++;
      mutex.unlock();
    };
    const all = Promise.all([waiter(), waiter(), waiter(), waiter()]);
    await settle();
    condition.signal();
    await settle();
    expect(woken).toBe(1);
    condition.broadcast();
    await keepAlive(all);
    expect(woken).toBe(4);
  });

  test('a signal with nobody waiting is not remembered', () => {
    const mutex = new Mutex(buffer, 0);
    const condition = new Condition(buffer, 64);
    condition.signal();
    mutex.lock();
    expect(condition.wait(mutex, 1000)).toBe(false);
  });
});

describe('Semaphore', () => {
  test('gives as many permits as it has', () => {
    const semaphore = new Semaphore(buffer, 0);
    expect(semaphore.tryAcquire()).toBe(false);
    semaphore.init(2);
    semaphore.acquire();
    expect(semaphore.tryAcquire()).toBe(true);
    expect(semaphore.tryAcquire()).toBe(false);
    expect(semaphore.acquireTimed(1e6)).toBe(false);
    semaphore.release(3);
    expect(semaphore.available).toBe(3);
    expect(semaphore.acquireTimed(0)).toBe(true);
  });

  test('a release of several wakes several', async () => {
    const semaphore = new Semaphore(buffer, 0);
    let had = 0;
    const task = async () => {
      await semaphore.acquireAsync();
      had++;
    };
    const all = [task(), task(), task()];
    await settle();
    semaphore.release(2);
    await settle();
    expect(had).toBe(2);
    semaphore.release();
    await keepAlive(Promise.all(all));
    expect(semaphore.available).toBe(0);
  });

  test('a negative number of permits is refused', () => {
    expect(codeOf(() => new Semaphore(buffer, 0).init(-1))).toBe('bad-argument');
  });
});

describe('Barrier', () => {
  test('lets all through when the last has come, round after round', async () => {
    const barrier = new Barrier(buffer, 0);
    barrier.init(3);
    for (let round = 0; round < 3; round++) {
      let through = 0;
      const come = async () => {
        const last = await barrier.waitAsync();
        through++;
        return last;
      };
      const early = [come(), come()];
      await settle();
      expect(through).toBe(0);
      expect(barrier.wait()).toBe(true);
      expect(await keepAlive(Promise.all(early))).toEqual([false, false]);
    }
  });

  test('a barrier of one holds nobody', () => {
    const barrier = new Barrier(buffer, 0);
    barrier.init(1);
    expect(barrier.wait()).toBe(true);
    expect(codeOf(() => barrier.init(0))).toBe('bad-argument');
  });
});

describe('Once', () => {
  test('runs the first work only', () => {
    const once = new Once(buffer, 0);
    const log: number[] = [];
    expect(once.run(() => log.push(1))).toBe(true);
    expect(once.run(() => log.push(2))).toBe(false);
    expect(once.isDone()).toBe(true);
    expect(log).toEqual([1]);
  });

  test('work that throws is tried again by the next', () => {
    const once = new Once(buffer, 0);
    const fail = () => {
      throw new RangeError('no');
    };
    expect(() => once.run(fail)).toThrow(RangeError);
    expect(once.isDone()).toBe(false);
    expect(once.run(() => {})).toBe(true);
  });

  test('async callers wait for the one that works, and take over if it fails', async () => {
    const once = new Once(buffer, 0);
    const log: string[] = [];
    const first = once.runAsync(async () => {
      await settle();
      throw new RangeError('no');
    });
    const second = once.runAsync(async () => {
      log.push('second');
      await settle();
    });
    const third = once.runAsync(() => void log.push('third'));
    await expect(keepAlive(first)).rejects.toThrow(RangeError);
    const ran = await keepAlive(Promise.all([second, third]));
    expect(ran.filter(Boolean)).toHaveLength(1);
    expect(log).toHaveLength(1);
  });
});

describe('SeqLock', () => {
  test('a reader retries exactly if a write section came between', () => {
    const lock = new SeqLock(buffer, 0);
    const seq = lock.readBegin();
    expect(lock.readRetry(seq)).toBe(false);
    lock.writeBegin();
    expect(lock.readRetry(seq)).toBe(true);
    lock.writeEnd();
    expect(lock.readRetry(seq)).toBe(true);
    expect(lock.readRetry(lock.readBegin())).toBe(false);
  });
});
