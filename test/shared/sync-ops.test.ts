import { afterEach, describe, expect, test } from 'vitest';
import {
  jsSyncOps,
  keepAlive,
  opsFor,
  registerMemory,
  SyncError,
  type SyncOps,
  WAIT_NOT_EQUAL,
  WAIT_OK,
  WAIT_TIMED_OUT,
  wasmSyncOps,
} from '@smp86/atomics-sync';
import { bufferOf, sharedMemory } from './hammer.ts';

const memory = sharedMemory();
const buffer = bufferOf(memory);
afterEach(() => new Uint8Array(buffer).fill(0));

const implementations: [string, SyncOps][] = [
  ['wasm', wasmSyncOps(memory)],
  ['Atomics', jsSyncOps(buffer)],
];

describe.each(implementations)('%s operations', (_, ops) => {
  test('load and store a signed word', () => {
    ops.store(8, -5);
    expect(ops.load(8)).toBe(-5);
    expect(new Int32Array(buffer)[2]).toBe(-5);
    ops.store(8, 0xffffffff);
    expect(ops.load(8)).toBe(-1);
  });

  test('read-modify-write operations return the old value', () => {
    ops.store(8, 12);
    expect(ops.add(8, 3)).toBe(12);
    expect(ops.or(8, 16)).toBe(15);
    expect(ops.and(8, 24)).toBe(31);
    expect(ops.exchange(8, 7)).toBe(24);
    expect(ops.load(8)).toBe(7);
  });

  test('add wraps round at 32 bits', () => {
    ops.store(8, 0x7fffffff);
    expect(ops.add(8, 1)).toBe(0x7fffffff);
    expect(ops.load(8)).toBe(-0x80000000);
  });

  test('compare-exchange stores only on the expected value', () => {
    ops.store(8, -1);
    expect(ops.compareExchange(8, 1, 5)).toBe(-1);
    expect(ops.load(8)).toBe(-1);
    expect(ops.compareExchange(8, -1, 5)).toBe(-1);
    expect(ops.load(8)).toBe(5);
  });

  test.each([0, -0, 1.5, 2 ** 53 - 1, -1, Infinity])('a float64 keeps its value: %d', (value) => {
    ops.storeF64(16, value);
    expect(ops.loadF64(16)).toBe(value);
    expect(new Float64Array(buffer)[2]).toBe(value);
  });

  test('wait returns at once on another value', () => {
    ops.store(8, 1);
    expect(ops.wait(8, 0, Infinity)).toBe(WAIT_NOT_EQUAL);
  });

  test.each([0, -1, -Infinity])('wait with the time over (%d ns) does not sleep', (timeout) => {
    expect(ops.wait(8, 0, timeout)).toBe(WAIT_TIMED_OUT);
  });

  test('wait sleeps for its timeout', () => {
    const start = ops.now();
    expect(ops.wait(8, 0, 2e6)).toBe(WAIT_TIMED_OUT);
    expect(ops.now() - start).toBeGreaterThan(1.9e6);
  });

  test('notify counts the waiters it wakes, and an async wait ends with it', async () => {
    const waits = [
      ops.waitAsync(8, 0, Infinity),
      ops.waitAsync(8, 0, Infinity),
      ops.waitAsync(8, 0, Infinity),
    ];
    expect(ops.notify(8, 1)).toBe(1);
    expect(ops.notify(8, Infinity)).toBe(2);
    expect(ops.notify(8, Infinity)).toBe(0);
    expect(await keepAlive(Promise.all(waits))).toEqual([WAIT_OK, WAIT_OK, WAIT_OK]);
  });

  test('an async wait without need is no promise', () => {
    expect(ops.waitAsync(8, 1, Infinity)).toBe(WAIT_NOT_EQUAL);
  });

  test('an async wait times out', async () => {
    expect(await keepAlive(ops.waitAsync(8, 0, 2e6))).toBe(WAIT_TIMED_OUT);
  });
});

test('a wake-up through one implementation reaches a sleeper in the other', async () => {
  const [[, wasm], [, js]] = implementations;
  const first = wasm.waitAsync(8, 0, Infinity);
  expect(js.notify(8, 1)).toBe(1);
  const second = js.waitAsync(8, 0, Infinity);
  expect(wasm.notify(8, 1)).toBe(1);
  expect(await Promise.all([first, second])).toEqual([WAIT_OK, WAIT_OK]);
});

test('a buffer has the operations of its registered memory, any other those of Atomics', () => {
  const own = sharedMemory();
  const ops = registerMemory(own);
  expect(opsFor(bufferOf(own))).toBe(ops);
  const other = opsFor(new SharedArrayBuffer(64));
  other.store(8, 3);
  expect(other.load(8)).toBe(3);
  expect(opsFor(buffer)).toBe(opsFor(buffer));
});

test('the wasm operations take a memory of the largest size', () => {
  const large = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true });
  expect(wasmSyncOps(large).load(0)).toBe(0);
});

test('a memory that is not shared is refused', () => {
  expect(() => wasmSyncOps(new WebAssembly.Memory({ initial: 1 }))).toThrow(SyncError);
});
