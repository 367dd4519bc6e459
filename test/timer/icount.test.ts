/** icount: CLOCKS.md sections 1 and 6, on a host clock that is set by hand. The slice is a number of the test's own. */
import { describe, expect, it } from 'vitest';
import { AioContext } from '../../src/aio/aio-context.ts';
import { ATTRIBUTE, CLOCK, VIRTUAL_MODE } from '../../src/timer/clock-state.ts';
import { ClockSystem } from '../../src/timer/clock.ts';
import { ManualTime } from '../../src/timer/host-time.ts';
import type { IcountOptions, Slice } from '../../src/timer/icount.ts';

const CONTEXT_ROOM = 65536;

function setup(icountShift: IcountOptions['shift'] = 0) {
  const limits = { maxTimers: 64, maxLists: 16 };
  const { size } = ClockSystem.layout(limits);
  const buffer = new SharedArrayBuffer(size + CONTEXT_ROOM);
  const source = new ManualTime();
  const clocks = ClockSystem.init(buffer, 0, {
    ...limits,
    source,
    virtualMode: VIRTUAL_MODE.ICOUNT,
    icountShift,
  });
  const icount = clocks.icount!;
  clocks.clockEnable(CLOCK.VIRTUAL, true);
  clocks.enableTicks();
  const fired: number[] = [];
  const callback = clocks.callbacks.add((arg) => fired.push(arg));
  const timer = (arg: number, options: { attributes?: number; group?: number } = {}) =>
    clocks.createTimer({ clock: CLOCK.VIRTUAL, callback, arg, ...options });
  /** A slice of `given` instructions of which `executed` are done. */
  const slice = { executed: 0, given: 0, limits: [] as number[] };
  const view: Slice = {
    take: () => {
      const n = slice.executed;
      slice.executed = 0;
      slice.given -= n;
      return n;
    },
    limit: (n) => {
      slice.limits.push(n);
      slice.given = Math.min(slice.given, n);
    },
  };
  const begin = (given: number): void => {
    slice.given = given;
    icount.slice = view;
  };
  const run = (n: number): void => {
    begin(n);
    slice.executed = n;
    icount.fold();
    icount.slice = undefined;
  };
  const list = clocks.mainGroup.lists[CLOCK.VIRTUAL];
  const now = (): number => clocks.now(CLOCK.VIRTUAL);
  return { buffer, size, clocks, source, icount, timer, fired, slice, begin, run, list, now };
}

describe('VIRTUAL with icount', () => {
  it('is bias + instructions x 2^shift, and host time does not move it', () => {
    const { run, now, source, clocks, icount } = setup(3);
    run(100);
    source.ns += 1e9;
    expect(now()).toBe(800);
    icount.skip(50);
    expect(now()).toBe(850);
    expect(clocks.now(CLOCK.VIRTUAL_RT)).toBe(1e9);
    expect(icount.instructions).toBe(100);
  });

  it('read in a running vCPU first counts what the slice has executed', () => {
    const { begin, slice, now, clocks, icount } = setup();
    begin(1000);
    slice.executed = 10;
    expect(now()).toBe(10);
    slice.executed = 5;
    expect(clocks.ticks()).toBe(15);
    expect(slice.given).toBe(985);
    expect(icount.instructions).toBe(15);
  });

  it('another thread sees what was counted last', () => {
    const { buffer, begin, slice, now, source } = setup();
    const other = ClockSystem.attach(buffer, 0, { source });
    begin(1000);
    slice.executed = 10;
    expect(other.now(CLOCK.VIRTUAL)).toBe(0);
    expect(now()).toBe(10);
    expect(other.now(CLOCK.VIRTUAL)).toBe(10);
  });

  it('stands still for who would sleep until one of its timers', () => {
    const { timer, list } = setup();
    timer(1).mod(100);
    expect(list.deadline()).toBe(Infinity);
  });

  it('an instruction may not be worth more than 2^10 ns, and auto begins at 2^3', () => {
    expect(setup(10).icount.shift).toBe(10);
    expect(setup('auto').icount.shift).toBe(3);
  });
});

describe('the budget of a slice', () => {
  it('is the time to the next timer in instructions, rounded up', () => {
    const { timer, icount } = setup(2);
    timer(1).mod(401);
    expect(icount.budget()).toBe(101);
  });
  it('is 0 when a timer is due', () => {
    const { timer, run, icount } = setup();
    timer(1).mod(10);
    run(10);
    expect(icount.budget()).toBe(0);
  });
  it('is what is left of the turn at most, and that is 100 ms', () => {
    const { icount } = setup(1);
    expect(icount.budget()).toBe(5e7);
    expect(icount.budget(1001)).toBe(501);
  });
  it('ends where a timer is armed while it is executed', () => {
    const { timer, begin, slice } = setup();
    begin(1000);
    slice.executed = 100;
    timer(1).mod(150);
    expect(slice.given).toBe(50);
    timer(2).mod(700);
    expect(slice.given).toBe(50);
    slice.executed = 10;
    timer(3).mod(0);
    expect(slice.given).toBe(0);
  });
});

describe('timers of VIRTUAL with icount', () => {
  it('of the main loop are left to who executes, neither run nor waited for by the loop', () => {
    const { timer, run, clocks, list, fired } = setup();
    timer(1).mod(10);
    run(10);
    expect(clocks.mainGroup.deadline()).toBe(Infinity);
    clocks.mainGroup.run();
    expect(fired).toEqual([]);
    list.run();
    expect(fired).toEqual([1]);
  });

  it('of a context are run by the context, which is told when they are due', () => {
    const { timer, run, clocks, size, fired, icount } = setup();
    const context = AioContext.init(clocks, size, { maxBottomHalves: 4 });
    timer(1, { group: context.group.index }).mod(10);
    context.group.notifier.accept();
    expect(icount.budget()).toBe(10);
    run(10);
    expect(icount.budget()).toBe(1e8);
    expect(context.group.notifier.notified).toBe(true);
    context.poll(false);
    expect(fired).toEqual([1]);
  });

  it('armed by another thread: the executing one is kicked, the main loop is not woken', () => {
    const { buffer, clocks, source, timer } = setup();
    const first = timer(1);
    const other = ClockSystem.attach(buffer, 0, { source });
    let kicks = 0;
    other.icount!.kick = () => kicks++;
    clocks.mainGroup.notifier.accept();
    other.timer(first.index).mod(5);
    expect(kicks).toBe(1);
    expect(clocks.mainGroup.notifier.notified).toBe(false);
    other.timer(first.index).del();
    expect(kicks).toBe(1);
  });

  it('that are EXTERNAL do not end an idle time', () => {
    const { timer, icount } = setup();
    timer(1, { attributes: ATTRIBUTE.EXTERNAL }).mod(10);
    expect(icount.idleDeadline()).toBe(Infinity);
    timer(2).mod(50);
    expect(icount.idleDeadline()).toBe(50);
    expect(icount.budget()).toBe(10);
  });
});

describe('a warp', () => {
  function warping(shift: IcountOptions['shift'] = 0) {
    const all = setup(shift);
    const callback = all.clocks.callbacks.add(() => {});
    const warp = all.clocks.createTimer({ clock: CLOCK.VIRTUAL_RT, callback });
    return { ...all, warp };
  }

  it('arms a timer on VIRTUAL_RT, and adds the time that passed', () => {
    const { source, icount, warp, now } = warping();
    source.ns = 1000;
    icount.startWarp(500, warp);
    expect(warp.expireTime).toBe(1500);
    source.ns = 1600;
    icount.endWarp(false);
    expect(now()).toBe(600);
    source.ns = 2000;
    icount.endWarp(false);
    expect(now()).toBe(600);
  });

  it('that is begun again goes on from where it began, and its timer only becomes earlier', () => {
    const { source, icount, warp, now } = warping();
    icount.startWarp(500, warp);
    source.ns = 100;
    icount.startWarp(1000, warp);
    expect(warp.expireTime).toBe(500);
    icount.startWarp(10, warp);
    expect(warp.expireTime).toBe(110);
    source.ns = 110;
    icount.endWarp(false);
    expect(now()).toBe(110);
  });

  it('does not take an adjusted clock past host time, nor back', () => {
    const { source, icount, warp, now, run } = warping('auto');
    run(100); // 800 ns
    source.ns = 500;
    icount.startWarp(1000, warp);
    source.ns = 700;
    icount.endWarp(true);
    expect(now()).toBe(800);
    icount.startWarp(1000, warp);
    source.ns = 1000;
    icount.endWarp(true);
    expect(now()).toBe(1000);
  });

  it('stands still while the machine is stopped', () => {
    const { source, icount, warp, now, clocks } = warping();
    icount.startWarp(1000, warp);
    source.ns = 100;
    clocks.disableTicks();
    source.ns = 5000;
    clocks.enableTicks();
    source.ns = 5200;
    icount.endWarp(false);
    expect(now()).toBe(300);
  });
});

describe('shift=auto', () => {
  it.each([
    // VIRTUAL is ahead, and more than at the last look
    { instructions: 1e8, host: 1e8, shift: 2 },
    // ahead, but by less than 50 ms
    { instructions: 1e8, host: 7.6e8, shift: 3 },
    // behind
    { instructions: 1e7, host: 1e9, shift: 4 },
    { instructions: 1e7, host: 1.2e8, shift: 3 },
  ])('$instructions instructions in $host ns: shift $shift, and VIRTUAL does not jump', (c) => {
    const { icount, run, now, source } = setup('auto');
    run(c.instructions);
    source.ns = c.host;
    const before = now();
    icount.adjust();
    expect(icount.shift).toBe(c.shift);
    expect(now()).toBe(before);
    run(1);
    expect(now()).toBe(before + 2 ** c.shift);
  });

  it('adjusts every second of VIRTUAL_RT and every 100 ms of VIRTUAL', () => {
    const { icount, run, source } = setup('auto');
    run(10);
    source.ns = 7;
    expect(icount.nextAdjustment(CLOCK.VIRTUAL_RT)).toBe(1e9 + 7);
    expect(icount.nextAdjustment(CLOCK.VIRTUAL)).toBe(1e8 + 80);
  });

  it('stays within 0 and 10', () => {
    const ahead = setup('auto');
    for (let i = 0; i < 20; i++) {
      ahead.run(1e9);
      ahead.icount.adjust();
    }
    expect(ahead.icount.shift).toBe(0);
    const behind = setup('auto');
    for (let i = 0; i < 20; i++) {
      behind.source.ns += 1e12;
      behind.icount.adjust();
    }
    expect(behind.icount.shift).toBe(10);
  });
});

describe('align', () => {
  it('waits for host time when VIRTUAL is more than 3 ms ahead', () => {
    const { icount, run, source } = setup();
    run(4e6);
    expect(icount.alignmentDelay()).toBe(4e6);
    source.ns = 1e6;
    expect(icount.alignmentDelay()).toBe(0);
    source.ns = 9e6;
    expect(icount.ahead()).toBe(-5e6);
  });
});
