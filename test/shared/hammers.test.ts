import { describe, expect, test } from 'vitest';
import { Barrier, Event, jsSyncOps, Semaphore } from '@smp86/atomics-sync';
import { AT, bufferOf, hammer, sharedMemory } from './hammer.ts';

const counterOf = (memory: WebAssembly.Memory) => new Int32Array(memory.buffer)[AT.COUNTER >>> 2];
const four = (role: string) => [role, role, role, role];

describe('on real threads', { timeout: 20_000 }, () => {
  test.for(['all', 'none', 'mixed'] as const)(
    'a mutex excludes four threads (wasm ops: %s)',
    async (wasm) => {
      const memory = sharedMemory();
      await hammer(memory, four('mutex'), 20_000, wasm);
      expect(counterOf(memory)).toBe(80_000);
    },
  );

  test('a mutex excludes threads that await it from threads that block', async () => {
    const memory = sharedMemory();
    await hammer(memory, ['mutexAsync', 'mutex', 'mutexAsync', 'mutex'], 3000);
    expect(counterOf(memory)).toBe(12_000);
  });

  test('a spin lock excludes four threads', async () => {
    const memory = sharedMemory();
    await hammer(memory, four('spinLock'), 20_000, 'mixed');
    expect(counterOf(memory)).toBe(80_000);
  });

  test('no set of an event is missed by reset-test-wait', async () => {
    const memory = sharedMemory();
    new Event(bufferOf(memory), AT.A, jsSyncOps(bufferOf(memory))).init(false);
    await hammer(memory, ['eventWaiter', 'eventNotifier'], 5000, 'mixed');
    expect(counterOf(memory)).toBe(5000);
  });

  test('an event wakes several waiters', async () => {
    const memory = sharedMemory();
    await hammer(memory, ['eventWaiter', 'eventWaiter', 'eventNotifier'], 2000);
    expect(counterOf(memory)).toBe(2000);
  });

  test('two threads take turns through a condition', async () => {
    const memory = sharedMemory();
    await hammer(memory, ['conditionPingPong', 'conditionPingPong'], 5000, 'mixed');
    expect(counterOf(memory)).toBe(10_000);
  });

  test('signals of conditions are not lost between producers and consumers', async () => {
    const memory = sharedMemory();
    const [, a, , b] = (await hammer(memory, four('conditionQueue'), 3000)) as number[];
    expect(a + b).toBe(3000 * 3001);
  });

  test('a barrier keeps four threads in step for 1000 rounds', async () => {
    const memory = sharedMemory();
    new Barrier(bufferOf(memory), AT.A).init(4);
    const leads = (await hammer(memory, four('barrier'), 1000, 'mixed')) as number[];
    expect(leads.reduce((a, b) => a + b)).toBe(1000);
  });

  test('a semaphore lets no more threads in than it has permits', async () => {
    const memory = sharedMemory();
    const semaphore = new Semaphore(bufferOf(memory), AT.A);
    semaphore.init(2);
    const most = (await hammer(memory, four('semaphore'), 5000)) as number[];
    expect(Math.max(...most)).toBeLessThanOrEqual(2);
    expect(semaphore.available).toBe(2);
  });

  test('one thread does what is to be done once, and the others wait for it', async () => {
    const memory = sharedMemory();
    await hammer(memory, four('once'), 2000);
    expect(counterOf(memory)).toBe(2000);
  });

  test('a seqlock shows no mixture of two writes', async () => {
    const memory = sharedMemory();
    const seen = (await hammer(memory, ['seqWriter', 'seqReader', 'seqReader'], 20_000)) as number[];
    expect(seen[1]).toBeGreaterThan(0);
  });

  test('a byte ring delivers every byte in order', async () => {
    const results = await hammer(sharedMemory(), ['byteProducer', 'byteConsumer'], 1_000_000);
    expect(results[1]).toBe(1_000_000);
  });

  test('a record ring delivers 100000 records whole and in order', async () => {
    const results = await hammer(sharedMemory(), ['recordProducer', 'recordConsumer'], 100_000, 'mixed');
    expect(results[1]).toBe(100_000);
  });

  test('a ring of many producers keeps the order of each', async () => {
    const roles = ['manyProducer', 'manyProducer', 'manyProducer', 'manyConsumer'];
    const results = await hammer(sharedMemory(), roles, 10_000);
    expect(results[3]).toBe(true);
  });
});
