import { describe, expect, it } from 'vitest';
import { Mutex } from '@smp86/atomics-sync';
import { MainLoop } from '../../src/aio/main-loop.ts';
import { CLOCK, VIRTUAL_MODE } from '../../src/timer/clock-state.ts';
import { ClockSystem } from '../../src/timer/clock.ts';
import { ManualTime } from '../../src/timer/host-time.ts';

function setup() {
  const size = ClockSystem.layout().size;
  const buffer = new SharedArrayBuffer(size + MainLoop.size() + 64);
  const clocks = ClockSystem.init(buffer, 0, { source: new ManualTime(), virtualMode: VIRTUAL_MODE.MANUAL });
  const bql = new Mutex(buffer, size + MainLoop.size());
  const loop = MainLoop.init(clocks, size, { bql });
  return { clocks, bql, loop, size, log: [] as unknown[] };
}

describe('the main loop', () => {
  it('runs bottom halves, then requests, then timers, all with the BQL held', () => {
    const { clocks, loop, bql, log } = setup();
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    const note = (what: string) => (): void => {
      log.push(what, bql.isLocked());
    };
    clocks.createTimer({ clock: CLOCK.VIRTUAL, callback: note('timer') }).mod(0);
    loop.context.createBottomHalf(note('half')).schedule();
    loop.onRequest(3, note('request'));
    loop.post(3);
    bql.lock();
    expect(loop.mainLoopWait()).toBe(true);
    expect(loop.mainLoopWait(true)).toBe(false);
    expect(log).toEqual(['half', true, 'request', true, 'timer', true]);
    bql.unlock();
  });

  it('sleeps with the BQL released, until the soonest deadline of its four lists', () => {
    const { clocks, log, size } = setup();
    const states: string[] = [];
    const watched = MainLoop.attach(clocks, size, {
      lock: () => states.push('lock'),
      unlock: () => states.push('unlock'),
      held: false,
    });
    clocks.createTimer({ clock: CLOCK.HOST, callback: () => log.push(1) }).mod(4e6);
    const start = performance.now();
    watched.mainLoopWait(); // notified by the arming
    watched.mainLoopWait();
    expect(performance.now() - start).toBeGreaterThan(3.9);
    expect(states).toEqual(['unlock', 'lock', 'unlock', 'lock']);
  });

  it('does not sleep when nonblocking', () => {
    const { loop, bql } = setup();
    const wait = (): never => {
      throw new Error('slept');
    };
    loop.context.group.notifier.wait = wait;
    bql.lock();
    expect(loop.mainLoopWait(true)).toBe(false);
    expect(() => loop.mainLoopWait()).toThrow('slept');
  });

  it('notify ends its current or next sleep, and nothing else', () => {
    const { loop, bql } = setup();
    bql.lock();
    loop.notify();
    expect(loop.mainLoopWait()).toBe(false); // returns at all
    expect(loop.context.timeout()).toBe(Infinity);
  });

  it('runs the timers of all four clocks in one pass', () => {
    const { clocks, loop, bql, log } = setup();
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    for (const clock of [3, 0, 2, 1] as const) {
      clocks.createTimer({ clock, callback: () => log.push(clock) }).mod(0);
    }
    bql.lock();
    loop.mainLoopWait(true);
    expect(log).toEqual([0, 1, 2, 3]);
  });

  it('merges requests of one kind that wait, with the last argument', () => {
    const { loop, bql, log } = setup();
    loop.onRequest(0, (arg) => log.push(['zero', arg]));
    loop.onRequest(31, (arg) => log.push(['last', arg]));
    bql.lock();
    loop.post(31, 5);
    loop.post(0, 1);
    loop.post(0, 2);
    loop.mainLoopWait();
    expect(log).toEqual([
      ['zero', 2],
      ['last', 5],
    ]);
    expect(() => loop.post(32)).toThrow(RangeError);
    loop.post(7);
    expect(() => loop.mainLoopWait()).toThrow(expect.objectContaining({ code: 'unknown-request' }));
  });

  it('a request made by a handler is handled in the next turn without sleeping', () => {
    const { loop, bql, log } = setup();
    loop.onRequest(1, (arg) => {
      log.push(arg);
      if (arg < 2) loop.post(1, arg + 1);
    });
    loop.post(1, 0);
    bql.lock();
    for (let i = 0; i < 3; i++) loop.mainLoopWait();
    expect(log).toEqual([0, 1, 2]);
  });

  it('run takes the BQL for its callbacks and coroutines, and leaves it free at the end', async () => {
    const { loop, bql, log } = setup();
    loop.onRequest(0, () => {
      void (async () => {
        await null;
        log.push(bql.isLocked());
        loop.requestStop();
      })();
    });
    loop.post(0);
    await loop.run();
    expect(log).toEqual([true]);
    expect(bql.isLocked()).toBe(false);
  });
});
