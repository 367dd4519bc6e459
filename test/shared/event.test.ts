import { beforeEach, describe, expect, test } from 'vitest';
import {
  Event,
  EventCount,
  jsSyncOps,
  keepAlive,
  type SyncOps,
  WAIT_NOT_EQUAL,
  WAIT_OK,
  WAIT_TIMED_OUT,
} from '@smp86/atomics-sync';

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

/** What each call does to the word, as a list of operations (docs/clocks-rules.md, section 5). */
describe("Event's operations", () => {
  const [SET, FREE, BUSY] = [0, 1, -1];

  /** An event that is `state`, and its operations so far; a wait ends at once with `waitResult`. */
  function recorded(state: number) {
    const buffer = new SharedArrayBuffer(8);
    const real = jsSyncOps(buffer);
    const log: string[] = [];
    const ops: SyncOps = {
      ...real,
      load: (at) => (log.push('load'), real.load(at)),
      exchange: (at, value) => (log.push(`exchange ${value}`), real.exchange(at, value)),
      or: (at, value) => (log.push(`or ${value}`), real.or(at, value)),
      compareExchange: (at, expected, value) => (
        log.push(`compareExchange ${expected} ${value}`),
        real.compareExchange(at, expected, value)
      ),
      wait: (_at, expected) => (log.push(`wait ${expected}`), WAIT_OK),
      notify: (_at, count) => (log.push(`notify ${count}`), 0),
    };
    real.store(0, state);
    return { event: new Event(buffer, 0, ops), log, state: () => real.load(0) };
  }

  test('set exchanges whatever the state is, a full barrier after the store of the condition', () => {
    for (const state of [SET, FREE]) {
      const { event, log, state: after } = recorded(state);
      event.set();
      expect(log).toEqual(['exchange 0']);
      expect(after()).toBe(SET);
    }
  });

  test('set wakes all, if anybody may sleep', () => {
    const { event, log } = recorded(BUSY);
    event.set();
    expect(log).toEqual(['exchange 0', 'notify Infinity']);
  });

  test('reset ORs with FREE, and only if it is set', () => {
    const set = recorded(SET);
    set.event.reset();
    expect([set.log, set.state()]).toEqual([['load', 'or 1'], FREE]);
    for (const state of [FREE, BUSY]) {
      const { event, log, state: after } = recorded(state);
      event.reset();
      expect([log, after()]).toEqual([['load'], state]);
    }
  });

  test('an OR that comes too late leaves FREE and BUSY as they are', () => {
    expect([FREE | FREE, BUSY | FREE]).toEqual([FREE, BUSY]);
  });

  test('wait returns when it is set, else makes FREE BUSY, and sleeps only while it is BUSY', () => {
    const set = recorded(SET);
    set.event.wait();
    expect(set.log).toEqual(['load']);
    const free = recorded(FREE);
    free.event.wait();
    expect([free.log, free.state()]).toEqual([['load', 'compareExchange 1 -1', 'wait -1'], BUSY]);
    const busy = recorded(BUSY);
    busy.event.wait();
    expect(busy.log).toEqual(['load', 'wait -1']);
  });

  test('wait does not sleep when it is set between its look and its mark', () => {
    const { event, log } = recorded(FREE);
    const { ops } = event;
    const load = ops.load;
    ops.load = (at) => {
      const seen = load(at);
      event.set();
      return seen;
    };
    event.wait();
    expect(log).toEqual(['load', 'exchange 0', 'compareExchange 1 -1']);
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
