import { beforeEach, describe, expect, test } from 'vitest';
import { Event, EventCount, keepAlive, WAIT_NOT_EQUAL, WAIT_OK, WAIT_TIMED_OUT } from '@smp86/atomics-sync';

const settle = () => new Promise((resolve) => setTimeout(resolve, 5));

describe('Event', () => {
  let event: Event;
  let word: Int32Array;
  beforeEach(() => {
    const buffer = new SharedArrayBuffer(64);
    event = new Event(buffer, 16);
    word = new Int32Array(buffer, 16, 1);
    event.init(false);
  });

  test('is set in zeroed memory', () => {
    expect(new Event(new SharedArrayBuffer(8), 4).isSet()).toBe(true);
  });

  test('init sets it or not', () => {
    expect(event.isSet()).toBe(false);
    event.init(true);
    expect(event.isSet()).toBe(true);
  });

  test('stays set until it is reset: every wait returns', () => {
    event.set();
    event.wait();
    event.wait();
    expect(event.waitTimed(0)).toBe(true);
    event.reset();
    expect(event.waitTimed(1e6)).toBe(false);
  });

  test('the word is SET 0, FREE 1, and BUSY -1 once somebody has waited', () => {
    expect(word[0]).toBe(1);
    event.waitTimed(0);
    expect(word[0]).toBe(-1);
    event.set();
    expect(word[0]).toBe(0);
    event.reset();
    expect(word[0]).toBe(1);
  });

  test('a reset never makes BUSY FREE, which would forget a sleeper', () => {
    event.waitTimed(0);
    event.reset();
    expect(word[0]).toBe(-1);
  });

  test('set wakes everybody who waits', async () => {
    const waits = Promise.all([event.waitAsync(), event.waitAsync(), event.waitAsync(1e10)]);
    event.set();
    expect(await keepAlive(waits)).toEqual([true, true, true]);
  });

  test('a waiter returns for a set even if a reset follows at once', async () => {
    const wait = event.waitAsync();
    event.set();
    event.reset();
    expect(await keepAlive(wait)).toBe(true);
    expect(event.isSet()).toBe(false);
  });

  test('an async wait returns false when its time is over, not before', async () => {
    const start = performance.now();
    expect(await keepAlive(event.waitAsync(5e6))).toBe(false);
    expect(performance.now() - start).toBeGreaterThanOrEqual(5);
  });

  test('a set that nobody waits for is kept for the next waiter', async () => {
    event.set();
    await settle();
    expect(await event.waitAsync()).toBe(true);
  });
});

describe('EventCount', () => {
  test('a wake-up between prepare and wait is not lost', () => {
    const count = new EventCount(new SharedArrayBuffer(64), 8);
    const key = count.prepare();
    count.wake();
    expect(count.wait(key)).toBe(WAIT_NOT_EQUAL);
  });

  test('without a waiter a wake-up changes nothing', () => {
    const count = new EventCount(new SharedArrayBuffer(64), 8);
    count.wake();
    expect(count.wait(count.prepare(), 1000)).toBe(WAIT_TIMED_OUT);
  });

  test('one wake-up reaches all that have prepared', async () => {
    const count = new EventCount(new SharedArrayBuffer(64), 8);
    const first = count.waitAsync(count.prepare());
    const second = count.waitAsync(count.prepare());
    count.wake();
    expect(await keepAlive(Promise.all([first, second]))).toEqual([WAIT_OK, WAIT_OK]);
  });
});
