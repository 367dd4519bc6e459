/** Adaptive polling before an owner sleeps (docs/clocks-rules.md, section 4). */
import { describe, expect, it } from 'vitest';
import { AioContext } from '../../src/aio/aio-context.ts';
import { BusyPolling, IOTHREAD_POLL_MAX_NS } from '../../src/aio/busy-polling.ts';
import { ClockSystem } from '../../src/timer/clock.ts';
import { type HostSource } from '../../src/timer/host-time.ts';

/** Polling that has learnt to take `ns`. */
function grownTo(ns: number, parameters = { maxNs: 64_000 }): BusyPolling {
  const polling = new BusyPolling(parameters);
  while (polling.ns < ns) polling.adapt(polling.ns + 1);
  return polling;
}
/** A clock that goes on by 100 ns with each look. */
function ticking(): () => number {
  let now = 0;
  return () => (now += 100);
}

describe('busy polling', () => {
  it('grows from nothing to 4000 ns, then twofold, up to its maximum', () => {
    const polling = new BusyPolling({ maxNs: IOTHREAD_POLL_MAX_NS });
    const seen: number[] = [];
    for (const blocked of [1, 4001, 8001, 16_001, 32_001]) {
      polling.adapt(blocked);
      seen.push(polling.ns);
    }
    expect(seen).toEqual([4000, 8000, 16_000, 32_000, 32_768]);
  });

  it('grows by poll-grow', () => {
    const polling = new BusyPolling({ maxNs: 100_000, grow: 3 });
    polling.adapt(1);
    polling.adapt(4001);
    expect(polling.ns).toBe(12_000);
  });

  it('stays when what it waited for came while it polled, or just at its maximum', () => {
    const polling = grownTo(8000);
    polling.adapt(8000);
    polling.adapt(64_000);
    expect(polling.ns).toBe(8000);
  });

  it('falls to nothing when the wait was longer than its maximum, or is divided by poll-shrink', () => {
    const all = grownTo(16_000);
    all.adapt(64_001);
    expect(all.ns).toBe(0);
    const some = new BusyPolling({ maxNs: 64_000, shrink: 4 });
    for (const blocked of [1, 4001, 8001]) some.adapt(blocked);
    some.adapt(1e6);
    expect(some.ns).toBe(4000);
  });

  it('takes no longer than the timeout, and takes what it took off it', () => {
    const polling = grownTo(4000);
    expect(polling.poll(10_000, () => false, ticking())).toBe(6000);
    expect(polling.poll(1000, () => false, ticking())).toBe(0);
    expect(polling.poll(Infinity, () => false, ticking())).toBe(Infinity);
  });

  it('leaves no timeout when something is ready', () => {
    let looks = 0;
    expect(grownTo(4000).poll(10_000, () => ++looks === 3, ticking())).toBe(0);
  });

  it('does not look at all when nothing may be waited for, or nothing was learnt yet', () => {
    const ready = (): boolean => {
      throw new Error('looked');
    };
    expect(grownTo(4000).poll(0, ready, ticking())).toBe(0);
    expect(new BusyPolling({ maxNs: 1000 }).poll(5000, ready, ticking())).toBe(5000);
  });

  it('refuses parameters that are none', () => {
    expect(() => new BusyPolling({ maxNs: -1 })).toThrow(RangeError);
    expect(() => new BusyPolling({ maxNs: 1, grow: 0.5 })).toThrow(RangeError);
  });
});

describe('a context', () => {
  /** A host clock that goes on by 1 µs with each look. */
  class Ticking implements HostSource {
    ns = 0;
    wallGrain = 1e6;
    monotonic(): number {
      return (this.ns += 1000);
    }
    wallMs(): number {
      return 0;
    }
  }
  function setup() {
    const size = ClockSystem.layout().size;
    const buffer = new SharedArrayBuffer(size + AioContext.size({ maxBottomHalves: 4 }));
    const clocks = ClockSystem.init(buffer, 0, { source: new Ticking() });
    const context = AioContext.init(clocks, size, { maxBottomHalves: 4 });
    const waits: number[] = [];
    context.group.notifier.wait = (timeout) => waits.push(timeout);
    return { context, waits };
  }

  it('does not poll unless told to, nor without pollers', () => {
    const { context, waits } = setup();
    let looks = 0;
    context.wait();
    context.setPolling({ maxNs: 50_000 });
    context.wait();
    context.setPolling({ maxNs: 0 });
    context.addPoller({ poll: () => false, ready: () => looks++ < 0 });
    for (let i = 0; i < 4; i++) context.wait();
    expect(looks).toBe(4); // once for each timeout
    expect(waits).toEqual(new Array(6).fill(Infinity));
  });

  it('looks at its pollers, and at whether it was notified, until its time is over', () => {
    const { context, waits } = setup();
    let looks = 0;
    let due = Infinity;
    context.setPolling({ maxNs: 50_000 });
    context.addPoller({ poll: () => false, ready: () => ++looks >= due });
    context.wait(); // learns 4000 ns
    looks = 0;
    context.wait();
    expect(looks).toBeGreaterThan(3);
    expect(waits).toEqual([Infinity, Infinity]);
    due = looks + 3;
    context.wait();
    expect(waits[2]).toBe(0);
    due = Infinity;
    context.notify();
    context.wait();
    expect(waits[3]).toBe(0);
  });
});
