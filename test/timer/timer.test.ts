import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CLOCK, TimerGroupState, VIRTUAL_MODE } from '../../src/timer/clock-state.ts';
import { ClockSystem } from '../../src/timer/clock.ts';
import { ManualTime } from '../../src/timer/host-time.ts';
import { TimerList } from '../../src/timer/timer-list.ts';
import { SCALE, type SharedTimer } from '../../src/timer/timer.ts';

function setup(maxTimers = 64) {
  const limits = { maxTimers, maxLists: 8 };
  const buffer = new SharedArrayBuffer(ClockSystem.layout(limits).size);
  const clocks = ClockSystem.init(buffer, 0, {
    ...limits,
    source: new ManualTime(),
    virtualMode: VIRTUAL_MODE.MANUAL,
  });
  clocks.clockEnable(CLOCK.VIRTUAL, true);
  const fired: number[] = [];
  const log = clocks.callbacks.add((arg) => fired.push(arg), 'log');
  const make = (arg: number, scale = 1): SharedTimer =>
    clocks.createTimer({ clock: CLOCK.VIRTUAL, callback: log, arg, scale });
  const list = clocks.mainGroup.lists[CLOCK.VIRTUAL];
  const { notifier } = clocks.mainGroup;
  notifier.accept();
  return { buffer, clocks, fired, make, list, notifier };
}

describe('a timer', () => {
  it('fires once when its time has come, and is not pending in its callback', () => {
    const { clocks, list, fired } = setup();
    let pending = true;
    const timer = clocks.createTimer({
      clock: CLOCK.VIRTUAL,
      callback: () => {
        pending = timer.pending;
        fired.push(1);
      },
    });
    timer.mod(100);
    expect([timer.pending, timer.expireTime]).toEqual([true, 100]);
    clocks.setVirtual(99);
    expect(list.run()).toBe(false);
    clocks.setVirtual(100);
    expect(list.run()).toBe(true);
    expect(list.run()).toBe(false);
    expect(fired).toEqual([1]);
    expect(pending).toBe(false);
    expect(timer.expireTime).toBe(-1);
  });

  it('multiplies the arguments of mod and modAnticipate by its scale, and reads its expiry in ns', () => {
    const { make } = setup();
    const us = make(0, SCALE.US);
    const ms = make(0, SCALE.MS);
    us.mod(5);
    ms.modAnticipate(5);
    expect([us.expireTime, ms.expireTime]).toEqual([5000, 5_000_000]);
    expect([us.expired(4), us.expired(5)]).toEqual([false, true]);
  });

  it('a negative, past or NaN expiry is due at once; fractions go up; Infinity is pending for ever', () => {
    const { make, clocks } = setup();
    const timer = make(0);
    timer.mod(-5);
    expect(timer.expireTime).toBe(0);
    timer.mod(NaN);
    expect(timer.expireTime).toBe(0);
    timer.mod(10.25);
    expect(timer.expireTime).toBe(11);
    timer.mod(Infinity);
    expect(timer.pending).toBe(true);
    clocks.setVirtual(2 ** 52);
    expect(clocks.mainGroup.run()).toBe(false);
  });

  it('mod moves the expiry in either direction, modAnticipate only forward', () => {
    const { make } = setup();
    const timer = make(0);
    timer.modAnticipate(50);
    timer.modAnticipate(60);
    expect(timer.expireTime).toBe(50);
    timer.modAnticipate(40);
    expect(timer.expireTime).toBe(40);
    timer.mod(90);
    expect(timer.expireTime).toBe(90);
  });

  it('modAnticipate with the same expiry keeps its place among equals', () => {
    const { make, clocks, fired } = setup();
    const [a, b] = [make(1), make(2)];
    a.mod(10);
    b.mod(10);
    a.modAnticipate(10);
    clocks.warpTo(10);
    a.mod(20);
    b.mod(20);
    a.mod(20); // and mod goes to their end
    clocks.warpTo(20);
    expect(fired).toEqual([1, 2, 2, 1]);
  });

  it('notifies its owner only when it becomes the first', () => {
    const { make, notifier } = setup();
    const [a, b] = [make(1), make(2)];
    const notified = (action: () => void): boolean => {
      notifier.accept();
      action();
      return notifier.notified;
    };
    expect(notified(() => a.mod(100))).toBe(true);
    expect(notified(() => b.mod(200))).toBe(false);
    expect(notified(() => b.mod(100))).toBe(false);
    expect(notified(() => b.modAnticipate(100))).toBe(false);
    expect(notified(() => b.modAnticipate(99))).toBe(true);
    expect(notified(() => b.del())).toBe(false);
    expect(notified(() => a.mod(300))).toBe(true);
  });

  it('del of one that is not pending does nothing', () => {
    const { make } = setup();
    const timer = make(0);
    timer.del();
    expect(timer.pending).toBe(false);
  });

  it('its number is given back only when not pending, and used again', () => {
    const { clocks, make } = setup(2);
    const [a] = [make(1), make(2)];
    expect(() => make(3)).toThrow(expect.objectContaining({ code: 'no-timer-left' }));
    a.mod(5);
    expect(() => clocks.releaseTimer(a)).toThrow(expect.objectContaining({ code: 'timer-pending' }));
    a.del();
    clocks.releaseTimer(a);
    expect(() => clocks.timer(a.index)).toThrow(expect.objectContaining({ code: 'no-timer' }));
    expect(make(3).index).toBe(a.index);
  });

  it('is the same timer through another view', () => {
    const { clocks, make, buffer } = setup();
    const timer = make(7);
    const other = ClockSystem.attach(buffer, 0, { source: new ManualTime() }).timer(timer.index);
    other.mod(30);
    expect(timer.expireTime).toBe(30);
    clocks.warpTo(30);
    expect(other.pending).toBe(false);
  });
});

describe('a pass over a list', () => {
  it('runs nothing while the clock is disabled, and what is due once it is enabled', () => {
    const { clocks, make, list, fired } = setup();
    make(1).mod(0);
    clocks.clockEnable(CLOCK.VIRTUAL, false);
    expect(list.deadline()).toBe(Infinity);
    expect(list.run()).toBe(false);
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    expect(list.deadline()).toBe(0);
    expect(list.run()).toBe(true);
    expect(fired).toEqual([1]);
  });

  it('runs a timer again that its callback arms for the sampled time, and not one for later', () => {
    const { clocks, list } = setup();
    let runs = 0;
    const timer = clocks.createTimer({
      clock: CLOCK.VIRTUAL,
      callback: () => {
        runs++;
        if (runs === 1) {
          clocks.setVirtual(1000); // the pass goes by the time it began with
          timer.mod(100);
        } else timer.mod(101);
      },
    });
    timer.mod(50);
    clocks.setVirtual(100);
    list.run();
    expect(runs).toBe(2);
    expect(timer.expireTime).toBe(101);
  });

  it('leaves out a timer that an earlier callback disarmed', () => {
    const { clocks, make, list, fired } = setup();
    const late = make(2);
    clocks.createTimer({ clock: CLOCK.VIRTUAL, callback: () => late.del() }).mod(1);
    late.mod(2);
    make(3).mod(3);
    clocks.setVirtual(10);
    list.run();
    expect(fired).toEqual([3]);
  });

  it('a nested pass runs the rest, and the list counts as running until the outer one ends', () => {
    const { clocks, make, list, fired } = setup();
    clocks
      .createTimer({
        clock: CLOCK.VIRTUAL,
        callback: () => {
          expect(list.run()).toBe(true);
          expect(() => clocks.clockEnable(CLOCK.VIRTUAL, false)).toThrow(
            expect.objectContaining({ code: 'disabled-in-callback' }),
          );
        },
      })
      .mod(1);
    make(2).mod(2);
    clocks.setVirtual(5);
    list.run();
    expect(fired).toEqual([2]);
    clocks.clockEnable(CLOCK.VIRTUAL, false); // would hang if the event were left reset
  });

  it('has reset its done-event when it tests whether the clock is enabled, and set it again when it ends', () => {
    const { clocks, buffer } = setup();
    const { layout } = clocks;
    const state = TimerGroupState.at(buffer, layout.groups).lists[CLOCK.VIRTUAL];
    const seen: boolean[] = [];
    const clock = {
      now: () => 100,
      standsStill: () => false,
      isEnabled: () => {
        seen.push(state.done.isSet());
        return false;
      },
      callbacks: clocks.callbacks,
    };
    const list = new TimerList(buffer, 0, layout, CLOCK.VIRTUAL, state, clock, clocks.mainGroup.notifier);
    list.mod(clocks.createTimer({ clock: CLOCK.VIRTUAL, callback: 0 }).index, 5);
    expect(list.run()).toBe(false);
    expect(seen).toEqual([false]);
    expect(state.done.isSet()).toBe(true);
  });

  it('of a list that another thread runs is an error', () => {
    const { make, list, buffer, clocks } = setup();
    make(1).mod(0);
    const state = TimerGroupState.at(buffer, clocks.layout.groups).lists[CLOCK.VIRTUAL];
    state.runner.store(12345);
    expect(() => list.run()).toThrow(expect.objectContaining({ code: 'list-running' }));
    state.runner.store(0);
    expect(list.run()).toBe(true);
  });

  it('ends properly when a callback throws', () => {
    const { clocks, make, list, fired } = setup();
    clocks
      .createTimer({
        clock: CLOCK.VIRTUAL,
        callback: () => {
          throw new Error('boom');
        },
      })
      .mod(1);
    make(2).mod(2);
    clocks.setVirtual(5);
    expect(() => list.run()).toThrow('boom');
    clocks.clockEnable(CLOCK.VIRTUAL, false);
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    list.run();
    expect(fired).toEqual([2]);
  });

  it('a callback number that no one registered is an error', () => {
    const { clocks, list } = setup();
    clocks.createTimer({ clock: CLOCK.VIRTUAL, callback: 99 }).mod(0);
    expect(() => list.run()).toThrow(expect.objectContaining({ code: 'callback-unknown' }));
  });
});

describe('deadlines', () => {
  it('a clock that stands still has no deadline but for what is due', () => {
    const { clocks, make, list } = setup();
    make(1).mod(100);
    expect(list.deadline()).toBe(Infinity);
    clocks.setVirtual(100);
    expect(list.deadline()).toBe(0);
  });

  it('that of a group is the soonest of its four lists', () => {
    const { clocks } = setup();
    expect(clocks.mainGroup.deadline()).toBe(Infinity);
    clocks.createTimer({ clock: CLOCK.REALTIME, callback: 0 }).mod(500);
    expect(clocks.mainGroup.deadline()).toBe(500);
    clocks.createTimer({ clock: CLOCK.HOST, callback: 0 }).mod(300);
    expect(clocks.mainGroup.deadline()).toBeLessThanOrEqual(300);
  });
});

describe('order', () => {
  it('is that of a sorted list with first in, first out among equals, whatever is armed and disarmed', () => {
    const action = fc.record({
      timer: fc.nat(19),
      kind: fc.constantFrom('mod', 'anticipate', 'del', 'advance'),
      expire: fc.nat(30),
    });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 120 }), (actions) => {
        const { clocks, make, fired, list } = setup();
        const timers = Array.from({ length: 20 }, (_, i) => make(i));
        // the model: an array kept sorted by insertion after all that are not later
        let model: { timer: number; expire: number }[] = [];
        const expected: number[] = [];
        let now = 0;
        const insert = (timer: number, expire: number): void => {
          model = model.filter((entry) => entry.timer !== timer);
          const at = model.findIndex((entry) => entry.expire > expire);
          model.splice(at < 0 ? model.length : at, 0, { timer, expire });
        };
        for (const { timer, kind, expire } of actions) {
          const old = model.find((entry) => entry.timer === timer);
          if (kind === 'mod') {
            timers[timer].mod(now + expire);
            insert(timer, now + expire);
          } else if (kind === 'anticipate') {
            timers[timer].modAnticipate(now + expire);
            if (old === undefined || now + expire < old.expire) insert(timer, now + expire);
          } else if (kind === 'del') {
            timers[timer].del();
            model = model.filter((entry) => entry.timer !== timer);
          } else {
            now += expire;
            clocks.setVirtual(now);
            list.run();
            while (model.length > 0 && model[0].expire <= now) expected.push(model.shift()!.timer);
          }
          expect(list.head).toBe(model.length === 0 ? Infinity : model[0].expire);
          expect(list.count).toBe(model.length);
        }
        expect(fired).toEqual(expected);
        timers.forEach((timer, i) => {
          expect(timer.expireTime).toBe(model.find((entry) => entry.timer === i)?.expire ?? -1);
        });
      }),
      { numRuns: 200 },
    );
  });
});
