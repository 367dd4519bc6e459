import { setOwnerId } from '@smp86/atomics-sync';
import { describe, expect, it } from 'vitest';
import { AioContext } from '../../src/aio/aio-context.ts';
import { CLOCK, VIRTUAL_MODE } from '../../src/timer/clock-state.ts';
import { ClockSystem } from '../../src/timer/clock.ts';
import { ManualTime } from '../../src/timer/host-time.ts';

function setup(maxBottomHalves = 8) {
  const size = ClockSystem.layout().size;
  const buffer = new SharedArrayBuffer(size + AioContext.size({ maxBottomHalves }));
  const source = new ManualTime();
  const clocks = ClockSystem.init(buffer, 0, { source, virtualMode: VIRTUAL_MODE.MANUAL });
  const context = AioContext.init(clocks, size, { maxBottomHalves });
  return { buffer, clocks, context, source, size, log: [] as number[] };
}

describe('a bottom half', () => {
  it('is called once in the next turn, however often it was scheduled', () => {
    const { context, log } = setup();
    const half = context.createBottomHalf((arg) => log.push(arg), 7);
    expect(context.timeout()).toBe(Infinity);
    half.schedule();
    half.schedule();
    expect(context.timeout()).toBe(0);
    expect(context.poll(true)).toBe(true);
    expect(context.poll(false)).toBe(false);
    expect(log).toEqual([7]);
  });

  it('several are called in the order of scheduling', () => {
    const { context, log } = setup();
    const halves = [1, 2, 3].map((n) => context.createBottomHalf((arg) => log.push(arg), n));
    halves[1].schedule();
    halves[0].schedule();
    halves[2].schedule();
    halves[1].schedule();
    context.poll(false);
    expect(log).toEqual([2, 1, 3]);
  });

  it('scheduled in its own call, it is called in the next turn', () => {
    const { context, log } = setup();
    const half = context.createBottomHalf(() => {
      if (log.push(log.length) < 3) half.schedule();
    });
    half.schedule();
    context.poll(false);
    expect(log).toEqual([0]);
    expect(context.timeout()).toBe(0);
    context.poll(true);
    context.poll(true);
    expect(log).toEqual([0, 1, 2]);
    expect(context.poll(false)).toBe(false);
  });

  it('cancelled, it is not called, and can be scheduled again', () => {
    const { context, log } = setup();
    const half = context.createBottomHalf((arg) => log.push(arg), 1);
    half.schedule();
    half.cancel();
    expect(context.timeout()).toBe(Infinity);
    half.schedule();
    half.cancel();
    expect(context.poll(false)).toBe(false);
    half.schedule();
    context.poll(false);
    expect(log).toEqual([1]);
  });

  it('deleted, it is not called, and its number is free after the next turn', () => {
    const { context, log } = setup(1);
    const half = context.createBottomHalf((arg) => log.push(arg), 1);
    half.schedule();
    half.delete();
    expect(() => context.createBottomHalf(0)).toThrow(
      expect.objectContaining({ code: 'no-bottom-half-left' }),
    );
    expect(context.poll(true)).toBe(false);
    expect(context.createBottomHalf(0).index).toBe(half.index);
    expect(log).toEqual([]);
  });

  it('a one-shot frees its number by its call', () => {
    const { context, clocks, log } = setup(1);
    clocks.callbacks.register(5, (arg) => log.push(arg));
    for (let i = 0; i < 3; i++) {
      context.scheduleOneshot(5, i);
      context.poll(false);
    }
    expect(log).toEqual([0, 1, 2]);
  });

  it('the owner never runs out of one-shots: what has no number is called after those that have one', () => {
    const { clocks, context, log } = setup(2);
    clocks.callbacks.register(5, (arg) => {
      if (log.push(arg) === 1) for (let i = 10; i < 15; i++) context.scheduleOneshot(5, i);
    });
    context.scheduleOneshot(5, 1);
    context.poll(false);
    expect(log).toEqual([1]);
    expect(context.timeout()).toBe(0);
    expect(context.poll(true)).toBe(true);
    expect(log).toEqual([1, 10, 11, 12, 13, 14]);
    expect(context.timeout()).toBe(Infinity);
  });

  it('a one-shot for which there is no number is refused when the loop ends, or waits for the lock that the caller holds', () => {
    const { clocks, context, size } = setup(1);
    const held = AioContext.attach(clocks, size, { lock() {}, unlock() {}, held: true });
    context.scheduleOneshot(5);
    expect(() => held.scheduleOneshot(5)).toThrow(
      /in use, and the caller holds the lock that its loop needs/,
    );
    context.requestStop();
    expect(() => context.scheduleOneshot(5)).toThrow(/in use, and its loop ends/);
  });

  it('an idle one is no progress and lets the owner sleep for 10 ms', () => {
    const { context, log } = setup();
    const half = context.createBottomHalf(() => {
      log.push(1);
      half.scheduleIdle();
    });
    half.scheduleIdle();
    expect(context.timeout()).toBe(10e6);
    expect(context.poll(false)).toBe(false);
    expect(log).toEqual([1]);
    const start = performance.now();
    context.poll(true);
    expect(performance.now() - start).toBeGreaterThan(9);
    expect(log).toEqual([1, 1]);
  });

  it('a nested turn goes on with those the outer one has left', () => {
    const { context, log } = setup();
    const late = context.createBottomHalf((arg) => log.push(arg), 9);
    const first = context.createBottomHalf(() => {
      late.schedule();
      log.push(1);
      context.poll(false);
      log.push(2);
    });
    const second = context.createBottomHalf((arg) => log.push(arg), 3);
    first.schedule();
    second.schedule();
    context.poll(false);
    expect(log).toEqual([1, 3, 9, 2]);
  });

  it('is the same through another view', () => {
    const { buffer, context, size, log } = setup();
    const half = context.createBottomHalf((arg) => log.push(arg), 4);
    const other = AioContext.attach(ClockSystem.attach(buffer, 0, { source: new ManualTime() }), size);
    other.bottomHalf(half.index).schedule();
    expect(context.timeout()).toBe(0);
    context.poll(true);
    expect(log).toEqual([4]);
  });
});

describe('bottom halves and their owner', () => {
  it('every schedule notifies, also of one that is scheduled already', () => {
    const { context } = setup();
    const half = context.createBottomHalf(() => {});
    for (let i = 0; i < 3; i++) {
      context.group.notifier.accept();
      half.schedule();
      expect(context.group.notifier.notified).toBe(true);
    }
  });

  it('one that is scheduled already is not linked again, nor one that was cancelled meanwhile', () => {
    const { context, log } = setup();
    const [a, b] = [1, 2].map((n) => context.createBottomHalf((arg) => log.push(arg), n));
    a.schedule();
    b.schedule();
    a.schedule();
    b.cancel();
    b.schedule();
    context.dispatch();
    context.dispatch();
    expect(log).toEqual([1, 2]);
  });

  it('its flags are clear before its call, so that a schedule during it is called in the next turn', () => {
    const { context, log } = setup();
    const half = context.createBottomHalf(() => {
      if (log.push(context.timeout()) === 1) {
        half.schedule();
        log.push(context.timeout());
      }
    });
    half.schedule();
    context.dispatch();
    expect(log).toEqual([Infinity, 0]);
    context.dispatch();
    expect(log).toEqual([Infinity, 0, Infinity]);
  });

  it('a scheduled one makes the timeout 0, an idle one 10 ms at most, a cancelled one does not count', () => {
    const { clocks, context } = setup();
    const half = context.createBottomHalf(() => {});
    half.scheduleIdle();
    expect(context.timeout()).toBe(10e6);
    clocks.createTimer({ clock: CLOCK.REALTIME, callback: 0, group: context.group.index }).mod(3e6);
    expect(context.timeout()).toBe(3e6);
    const urgent = context.createBottomHalf(() => {});
    urgent.schedule();
    expect(context.timeout()).toBe(0);
    urgent.cancel();
    expect(context.timeout()).toBe(3e6);
  });
});

describe('a context', () => {
  it('accepts, then runs bottom halves, then pollers, then timers', () => {
    const { clocks, context } = setup();
    const order: string[] = [];
    const { notifier } = context.group;
    context.addPoller({
      ready: () => false,
      poll: () => {
        order.push(`poller ${notifier.notified}`);
        return false;
      },
    });
    const half = context.createBottomHalf(() => order.push(`bottom half ${notifier.notified}`));
    clocks
      .createTimer({
        clock: CLOCK.REALTIME,
        callback: () => order.push('timer'),
        group: context.group.index,
      })
      .mod(0);
    half.schedule();
    context.dispatch();
    expect(order).toEqual(['bottom half false', 'poller false', 'timer']);
  });

  it('work that is added after its turn has looked for it keeps it from sleeping', () => {
    const { context } = setup();
    let work = 0;
    context.addPoller({
      ready: () => work > 0,
      poll: () => {
        const had = work > 0;
        work = 0;
        return had;
      },
    });
    context.createBottomHalf(() => {}).schedule();
    context.dispatch();
    work = 1; // by another thread, after the pollers were asked
    context.notify();
    context.wait(); // returns at once
    expect(context.dispatch()).toBe(true);
  });

  it('its group runs all four clocks', () => {
    const { clocks, context, log } = setup();
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    for (const clock of [0, 1, 2, 3] as const) {
      clocks.createTimer({ clock, callback: () => log.push(clock), group: context.group.index }).mod(0);
    }
    context.dispatch();
    expect(log).toEqual([0, 1, 2, 3]);
  });

  it('sleeps until its soonest timer, and runs it', () => {
    const { context, clocks, source, log } = setup();
    const timer = clocks.createTimer({
      clock: CLOCK.REALTIME,
      group: context.group.index,
      callback: () => log.push(1),
    });
    timer.mod(3e6);
    expect(context.timeout()).toBe(3e6);
    const start = performance.now();
    context.group.notifier.accept();
    context.wait();
    expect(performance.now() - start).toBeGreaterThan(2.9);
    source.ns = 3e6;
    expect(context.poll(true)).toBe(true);
    expect(log).toEqual([1]);
  });

  it('does not sleep when it was notified since its last turn', () => {
    const { context } = setup();
    context.notify();
    expect(context.poll(true)).toBe(false);
    expect(context.group.notifier.notified).toBe(false);
  });

  it('asks pollers before it sleeps and polls them in its turn', () => {
    const { context, log } = setup();
    let ready = true;
    const poller = {
      ready: () => ready,
      poll: () => {
        const had = ready;
        if (had) log.push(1);
        ready = false;
        return had;
      },
    };
    context.addPoller(poller);
    expect(context.poll(true)).toBe(true);
    expect(context.poll(false)).toBe(false);
    ready = true;
    context.removePoller(poller);
    expect(context.poll(false)).toBe(false);
    expect(log).toEqual([1]);
  });

  it('lets coroutines go on until they wait for an event, between its turns', async () => {
    const { context, log } = setup();
    const half = context.createBottomHalf(() => {
      void (async () => {
        for (let i = 0; i < 50; i++) await null;
        log.push(1);
        context.requestStop();
      })();
    });
    half.schedule();
    await context.run();
    expect(log).toEqual([1]);
  });

  it('gives its timer group back when no timer is pending', () => {
    const { context, clocks } = setup();
    const timer = clocks.createTimer({ clock: CLOCK.HOST, group: context.group.index, callback: 0 });
    timer.mod(1);
    expect(() => context.close()).toThrow(expect.objectContaining({ code: 'timers-left' }));
    timer.del();
    context.close();
    expect(() => clocks.group(context.group.index)).toThrow(expect.objectContaining({ code: 'no-group' }));
  });

  it('is not found where none was made', () => {
    const { clocks } = setup();
    expect(() => AioContext.attach(clocks, 0)).toThrow(expect.objectContaining({ code: 'not-initialised' }));
  });
});

describe('a context that was acquired', () => {
  it('is let go by the last of as many releases', () => {
    const { context, clocks, size } = setup();
    const other = AioContext.attach(clocks, size);
    // a lock that knows its thread refuses what would wait for ever
    setOwnerId(1);
    context.acquire();
    context.acquire();
    context.release();
    expect(() => other.acquire()).toThrow(expect.objectContaining({ code: 'recursive' }));
    context.release();
    other.acquire();
    other.release();
    setOwnerId(0);
  });

  it('makes a one-shot for which there is no number an error: its loop cannot give one back', () => {
    const { context, clocks, size } = setup(1);
    const other = AioContext.attach(clocks, size);
    other.scheduleOneshot(300);
    other.acquire();
    expect(() => other.scheduleOneshot(300)).toThrow(
      expect.objectContaining({ code: 'no-bottom-half-left' }),
    );
    other.release();
    expect(context.timeout()).toBe(0);
  });

  it('can be acquired in its own callbacks, and runs them under its lock, coroutines too', async () => {
    const { context, log } = setup();
    const half = context.createBottomHalf(() => {
      context.acquire();
      log.push(1);
      context.release();
      void Promise.resolve().then(() => {
        log.push(2);
        context.requestStop();
      });
    });
    half.schedule();
    await context.run();
    expect(log).toEqual([1, 2]);
    context.acquire();
    context.release();
  });
});
