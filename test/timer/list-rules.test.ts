/** Rules of timers and timer lists (docs/clocks-rules.md, section 2), one test each; more are in timer.test.ts. */
import { setOwnerId } from '@smp86/atomics-sync';
import { afterEach, describe, expect, it } from 'vitest';
import { ATTRIBUTE, CLOCK, TimerGroupState, VIRTUAL_MODE } from '../../src/timer/clock-state.ts';
import { ClockSystem } from '../../src/timer/clock.ts';
import { type HostSource, ManualTime } from '../../src/timer/host-time.ts';
import type { SharedTimer } from '../../src/timer/timer.ts';

function setup(source: HostSource = new ManualTime(), virtualMode: 0 | 1 = VIRTUAL_MODE.MANUAL) {
  const limits = { maxTimers: 16, maxLists: 8 };
  const { size, groups } = ClockSystem.layout(limits);
  const buffer = new SharedArrayBuffer(size);
  const clocks = ClockSystem.init(buffer, 0, { ...limits, source, virtualMode });
  clocks.clockEnable(CLOCK.VIRTUAL, true);
  const log: number[] = [];
  const callback = clocks.callbacks.add((arg) => log.push(arg), 'log');
  const make = (arg: number, attributes = 0): SharedTimer =>
    clocks.createTimer({ clock: CLOCK.VIRTUAL, callback, arg, attributes });
  const list = clocks.mainGroup.lists[CLOCK.VIRTUAL];
  const state = TimerGroupState.at(buffer, groups).lists[CLOCK.VIRTUAL];
  return { buffer, clocks, make, list, log, state, notifier: clocks.mainGroup.notifier };
}

afterEach(() => setOwnerId(0));

describe('a timer', () => {
  it('is pending when its expiry is not negative, and reads -1 when it is not pending', () => {
    const { make } = setup();
    const timer = make(0);
    expect([timer.pending, timer.expireTime]).toEqual([false, -1]);
    timer.mod(0);
    expect([timer.pending, timer.expireTime]).toEqual([true, 0]);
    timer.del();
    expect([timer.pending, timer.expireTime]).toEqual([false, -1]);
  });

  it('goes behind all that expire with it, wherever it came from', () => {
    const { make, clocks, log } = setup();
    const [a, b, c] = [make(1), make(2), make(3)];
    a.mod(5);
    b.mod(10);
    c.mod(10);
    a.mod(10);
    clocks.warpTo(10);
    expect(log).toEqual([2, 3, 1]);
  });

  it('goes behind all that expire with it, also where the numbers of insertions begin afresh', () => {
    const { make, clocks, log, state } = setup();
    const timers = [1, 2, 3, 4, 5, 6].map((arg) => make(arg));
    timers[0].mod(7);
    state.nextSeq = 2 ** 31 - 4;
    for (const timer of timers.slice(1)) timer.mod(timer.index === 2 ? 3 : 7);
    expect(state.nextSeq).toBe(6);
    timers[0].mod(7);
    clocks.warpTo(10);
    expect(log).toEqual([3, 2, 4, 5, 6, 1]);
  });

  it('its owner is notified after the lock was dropped', () => {
    const { make, notifier, state } = setup();
    const locked: boolean[] = [];
    notifier.notify = () => locked.push(state.lock.isLocked());
    const timer = make(0);
    timer.mod(10);
    timer.modAnticipate(5);
    expect(locked).toEqual([false, false]);
  });

  it('del notifies no one, the first timer of a list being no exception', () => {
    const { make, notifier } = setup();
    const timer = make(0);
    timer.mod(10);
    make(1).mod(20);
    notifier.accept();
    timer.del();
    expect(notifier.notified).toBe(false);
  });

  it('del is allowed on one that was never armed or was given back', () => {
    const { make, clocks, list } = setup();
    const [timer, other] = [make(0), make(1)];
    other.mod(7);
    timer.del();
    clocks.releaseTimer(timer);
    timer.del();
    expect([list.count, list.head]).toEqual([1, 7]);
  });

  it('del returns while its callback is in progress', () => {
    const { clocks } = setup();
    let ended = false;
    const timer = clocks.createTimer({
      clock: CLOCK.VIRTUAL,
      callback: () => {
        timer.del(); // through the list's lock, as from another thread
        ended = true;
      },
    });
    timer.mod(0);
    clocks.mainGroup.run();
    expect(ended).toBe(true);
  });

  it('of a context notifies that context, one of the main loop the main loop', () => {
    const { clocks, make, notifier } = setup();
    const group = clocks.createGroup();
    group.notifier.accept();
    notifier.accept();
    clocks.createTimer({ clock: CLOCK.HOST, callback: 0, group: group.index }).mod(1);
    expect([group.notifier.notified, notifier.notified]).toEqual([true, false]);
    group.notifier.accept();
    make(0).mod(1);
    expect([group.notifier.notified, notifier.notified]).toEqual([false, true]);
  });

  it('a million of them are accepted', () => {
    const limits = { maxTimers: 1_000_000, maxLists: 4 };
    const buffer = new SharedArrayBuffer(ClockSystem.layout(limits).size);
    const clocks = ClockSystem.init(buffer, 0, {
      ...limits,
      source: new ManualTime(),
      virtualMode: VIRTUAL_MODE.MANUAL,
    });
    let last = -1;
    let inOrder = true;
    const callback = clocks.callbacks.add((arg) => {
      inOrder &&= arg > last;
      last = arg;
    });
    const list = clocks.mainGroup.lists[CLOCK.VIRTUAL];
    // by number, as other threads do: a view of each would be an object of its own
    const first = clocks.createTimer({ clock: CLOCK.VIRTUAL, callback }).index;
    list.mod(first, 1e6);
    for (let i = 1; i < limits.maxTimers; i++) {
      const { index } = clocks.createTimer({ clock: CLOCK.VIRTUAL, callback, arg: limits.maxTimers - i });
      list.mod(index, limits.maxTimers - i);
    }
    expect(list.count).toBe(1_000_000);
    expect(list.head).toBe(1);
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    clocks.setVirtual(999_999);
    list.run();
    expect([list.count, last, inOrder]).toEqual([1, 999_999, true]);
  });
});

describe('an empty list', () => {
  it('is seen to be empty without its lock', () => {
    const { list, state } = setup();
    setOwnerId(1); // taking the lock again would be an error
    state.lock.lock();
    expect([list.run(), list.deadline(), list.deadlineOf(-1), list.head]).toEqual([
      false,
      Infinity,
      Infinity,
      Infinity,
    ]);
    state.lock.unlock();
  });

  it('is left by a pass at once, its done-event untouched', () => {
    const { list, state } = setup();
    state.done.reset();
    expect(list.run()).toBe(false);
    expect(state.done.isSet()).toBe(false);
  });
});

describe('a pass', () => {
  it('calls with the timer unlinked, not pending, and the lock free', () => {
    const { clocks, list, state } = setup();
    const seen: unknown[] = [];
    const timer = clocks.createTimer({
      clock: CLOCK.VIRTUAL,
      callback: () => seen.push(timer.pending, list.count, state.lock.isLocked(), state.done.isSet()),
    });
    timer.mod(0);
    list.run();
    expect(seen).toEqual([false, 0, false, false]);
  });

  it('reads the clock once: what is due later than that waits for the next one', () => {
    const source = new ManualTime();
    const { clocks, list, log, make } = setup(source, VIRTUAL_MODE.HOST);
    clocks.enableTicks();
    const slow = clocks.createTimer({ clock: CLOCK.VIRTUAL, callback: () => (source.ns = 1000) });
    slow.mod(1);
    make(5).mod(500);
    source.ns = 1;
    expect(list.run()).toBe(true);
    expect(log).toEqual([]);
    expect(list.run()).toBe(true);
    expect(log).toEqual([5]);
  });

  it('looks at the first timer anew after each call: callbacks arm, disarm and make timers, their own included', () => {
    const { clocks, list, log, make } = setup();
    const [early, dropped] = [make(1), make(2)];
    let again = 2;
    const busy = clocks.createTimer({
      clock: CLOCK.VIRTUAL,
      callback: () => {
        log.push(0);
        dropped.del();
        early.mod(-1);
        make(3).mod(90);
        if (--again > 0) busy.mod(100);
      },
    });
    busy.mod(10);
    dropped.mod(20);
    clocks.setVirtual(100);
    list.run();
    expect(log).toEqual([0, 1, 3, 0, 1, 3]);
  });

  it.each([
    ['nothing is due', () => {}],
    [
      'the clock is disabled',
      ({ clocks }: ReturnType<typeof setup>) => clocks.clockEnable(CLOCK.VIRTUAL, false),
    ],
    ['callbacks ran', ({ clocks }: ReturnType<typeof setup>) => clocks.setVirtual(50)],
  ])('has set its done-event again when %s', (_name, prepare) => {
    const world = setup();
    world.make(0).mod(50);
    prepare(world);
    world.list.run();
    expect(world.state.done.isSet()).toBe(true);
  });

  it('tells whether something ran', () => {
    const { clocks, list, make } = setup();
    make(0).mod(5);
    expect(list.run()).toBe(false);
    clocks.setVirtual(5);
    expect(list.run()).toBe(true);
    expect(list.run()).toBe(false);
  });
});

describe('clockEnable', () => {
  it('stores its flag, then waits for every list of the clock to be done', () => {
    const { clocks, buffer } = setup();
    const group = clocks.createGroup();
    const seen: boolean[] = [];
    for (const list of [...clocks.mainGroup.lists, ...group.lists]) {
      list.waitDone = () => {
        if (list.type === CLOCK.HOST) seen.push(ClockSystem.attach(buffer, 0).isEnabled(CLOCK.HOST));
        else throw new Error('a list of another clock');
      };
    }
    clocks.clockEnable(CLOCK.HOST, false);
    expect(seen).toEqual([false, false]);
  });

  it('of a clock that is enabled does nothing', () => {
    const { clocks, notifier } = setup();
    notifier.accept();
    clocks.clockEnable(CLOCK.REALTIME, true);
    expect(notifier.notified).toBe(false);
  });

  it('of a clock that is disabled waits all the same for a pass that is not over', () => {
    const { clocks } = setup();
    clocks.clockEnable(CLOCK.VIRTUAL, false);
    let waited = 0;
    clocks.mainGroup.lists[CLOCK.VIRTUAL].waitDone = () => waited++;
    clocks.clockEnable(CLOCK.VIRTUAL, false);
    expect(waited).toBe(1);
  });
});

describe('deadlines', () => {
  it('of a list: none when empty or disabled, 0 when past, else the difference', () => {
    const source = new ManualTime();
    const { clocks, list, make } = setup(source, VIRTUAL_MODE.HOST);
    clocks.enableTicks();
    expect(list.deadline()).toBe(Infinity);
    make(0).mod(100);
    source.ns = 30;
    expect(list.deadline()).toBe(70);
    source.ns = 100;
    expect(list.deadline()).toBe(0);
    source.ns = 130;
    expect(list.deadline()).toBe(0);
    clocks.clockEnable(CLOCK.VIRTUAL, false);
    expect(list.deadline()).toBe(Infinity);
  });

  it('none loses against every other', () => {
    const { clocks } = setup();
    const timer = clocks.createTimer({ clock: CLOCK.HOST, callback: 0 });
    expect(clocks.mainGroup.deadline()).toBe(Infinity);
    timer.mod(clocks.now(CLOCK.HOST) + 2 ** 52);
    expect(clocks.mainGroup.deadline()).toBe(2 ** 52);
  });

  it('over all lists: the soonest, not below 0, none when disabled', () => {
    const { clocks, make } = setup();
    const group = clocks.createGroup();
    expect(clocks.deadline(CLOCK.VIRTUAL)).toBe(Infinity);
    make(0).mod(300);
    clocks.createTimer({ clock: CLOCK.VIRTUAL, callback: 0, group: group.index }).mod(200);
    expect(clocks.deadline(CLOCK.VIRTUAL)).toBe(200);
    clocks.setVirtual(250);
    expect(clocks.deadline(CLOCK.VIRTUAL)).toBe(0);
    clocks.clockEnable(CLOCK.VIRTUAL, false);
    expect(clocks.deadline(CLOCK.VIRTUAL)).toBe(Infinity);
  });

  it('with a mask: leading EXTERNAL timers are skipped, up to the first that is permitted', () => {
    const { clocks, make } = setup();
    make(0, ATTRIBUTE.EXTERNAL).mod(10);
    make(1, ATTRIBUTE.EXTERNAL).mod(20);
    make(2).mod(30);
    make(3, ATTRIBUTE.EXTERNAL).mod(40);
    expect(clocks.deadline(CLOCK.VIRTUAL, ~ATTRIBUTE.EXTERNAL)).toBe(30);
    expect(clocks.deadline(CLOCK.VIRTUAL)).toBe(10);
  });
});
