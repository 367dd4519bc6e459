/** Rules of the four clocks (docs/clocks-rules.md, section 1), one test each; more of them are in clock.test.ts. */
import { describe, expect, it } from 'vitest';
import { CLOCK, ClockState, type ClockType, VIRTUAL_MODE } from '../../src/timer/clock-state.ts';
import { type ClockOptions, ClockSystem } from '../../src/timer/clock.ts';
import { type HostSource, ManualTime } from '../../src/timer/host-time.ts';

function setup(options: ClockOptions = {}) {
  const buffer = new SharedArrayBuffer(ClockSystem.layout(options).size);
  const source = new ManualTime();
  const clocks = ClockSystem.init(buffer, 0, { source, ...options });
  return { buffer, source, clocks, state: ClockState.at(buffer, 0) };
}

/** A host whose clock calls back whenever it is read. */
class WatchedTime implements HostSource {
  ns = 0;
  wallGrain = 1e6;
  onRead: () => void = () => {};

  monotonic(): number {
    this.onRead();
    return this.ns;
  }
  wallMs(): number {
    return 0;
  }
}

describe('clocks', () => {
  it('REALTIME is host monotonic time, and goes on while the machine is stopped', () => {
    const { clocks, source } = setup();
    clocks.enableTicks();
    clocks.disableTicks();
    clocks.clockEnable(CLOCK.VIRTUAL, false);
    source.ns = 123_456;
    expect(clocks.now(CLOCK.REALTIME)).toBe(123_456);
    source.ns = 123_457;
    expect(clocks.now(CLOCK.REALTIME)).toBe(123_457);
  });

  it('HOST goes on while the machine is stopped', () => {
    const { clocks, source } = setup();
    const before = clocks.now(CLOCK.HOST);
    source.ns += 5e9;
    source.wall += 5000;
    expect(clocks.now(CLOCK.HOST) - before).toBe(5e9);
  });

  it('VIRTUAL is VIRTUAL_RT, or in mode MANUAL a number that only setVirtual changes', () => {
    const host = setup();
    host.clocks.enableTicks();
    host.source.ns = 70;
    expect(host.clocks.now(CLOCK.VIRTUAL)).toBe(host.clocks.now(CLOCK.VIRTUAL_RT));
    const manual = setup({ virtualMode: VIRTUAL_MODE.MANUAL });
    manual.clocks.enableTicks();
    manual.source.ns = 70;
    expect(manual.clocks.now(CLOCK.VIRTUAL)).toBe(0);
    manual.clocks.setVirtual(12);
    manual.source.ns = 80;
    expect(manual.clocks.now(CLOCK.VIRTUAL)).toBe(12);
  });

  it('VIRTUAL_RT counts host time whatever drives VIRTUAL', () => {
    const { clocks, source } = setup({ virtualMode: VIRTUAL_MODE.MANUAL });
    clocks.enableTicks();
    source.ns = 500;
    clocks.setVirtual(1e9);
    expect(clocks.now(CLOCK.VIRTUAL_RT)).toBe(500);
  });

  it('enabling ticks twice, or disabling them twice, is as once', () => {
    const { clocks, source, state } = setup();
    clocks.enableTicks();
    source.ns = 10;
    const offset = state.ticksOffset.load();
    clocks.enableTicks();
    expect(state.ticksOffset.load()).toBe(offset);
    clocks.disableTicks();
    source.ns = 30;
    clocks.disableTicks();
    expect([clocks.now(CLOCK.VIRTUAL_RT), clocks.ticks()]).toEqual([10, 10]);
  });

  it('ticks are switched, and the TSC with them, inside one write section of the sequence lock', () => {
    const source = new WatchedTime();
    const { clocks, state } = setup({ source });
    const seq = (): number => state.ticksSeq.ops.load(state.ticksSeq.address);
    const seen: number[] = [];
    const before = seq();
    source.onRead = () => seen.push(seq());
    clocks.enableTicks();
    clocks.disableTicks();
    // host time is read once in each section, which is the odd number
    expect(seen).toEqual([before + 1, before + 3]);
    expect(seq()).toBe(before + 4);
  });

  it.each([
    ['VIRTUAL', (clocks: ClockSystem) => clocks.now(CLOCK.VIRTUAL)],
    ['VIRTUAL_RT', (clocks: ClockSystem) => clocks.now(CLOCK.VIRTUAL_RT)],
    ['TSC', (clocks: ClockSystem) => clocks.ticks()],
  ])('a reader of %s reads again when ticks were switched meanwhile', (_name, read) => {
    const source = new WatchedTime();
    const { clocks, buffer } = setup({ source });
    const writer = ClockSystem.attach(buffer, 0, { source });
    clocks.enableTicks();
    source.ns = 100;
    let reads = 0;
    source.onRead = () => {
      // the first reading is overtaken: the clock stops at 100, then the host goes on
      if (reads++ > 0) return;
      writer.disableTicks();
      source.ns = 900;
    };
    expect(read(clocks)).toBe(100);
  });

  it('the TSC never decreases: not across stop and start, a lower frequency, or VIRTUAL set back', () => {
    const { clocks, source } = setup({ virtualMode: VIRTUAL_MODE.MANUAL, tscHz: 3e9 });
    let last = 0;
    const steps: (() => void)[] = [
      () => clocks.enableTicks(),
      () => clocks.setVirtual(1000),
      () => clocks.disableTicks(),
      () => clocks.setVirtual(400),
      () => clocks.setTscHz(1e9),
      () => clocks.setVirtual(500),
      () => clocks.setTscHz(2.5e9),
      () => clocks.setVirtual(0),
      () => clocks.enableTicks(),
    ];
    for (const step of steps) {
      step();
      source.ns += 7;
      expect(clocks.ticks()).toBeGreaterThanOrEqual(last);
      last = clocks.ticks();
    }
    expect(last).toBeGreaterThanOrEqual(3000);
  });

  it('ticks stop VIRTUAL as a value, clockEnable stops it as a source of timers, and neither the other', () => {
    const { clocks, source } = setup();
    const fired: number[] = [];
    const timer = clocks.createTimer({ clock: CLOCK.VIRTUAL, callback: () => fired.push(source.ns) });
    clocks.enableTicks();
    timer.mod(0);
    source.ns = 10;
    clocks.mainGroup.run();
    expect(fired).toEqual([]);
    expect(clocks.now(CLOCK.VIRTUAL)).toBe(10);
    clocks.disableTicks();
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    source.ns = 20;
    clocks.mainGroup.run();
    expect(fired).toEqual([20]);
    expect(clocks.now(CLOCK.VIRTUAL)).toBe(10);
  });

  it('are made once', () => {
    const { buffer } = setup();
    expect(() => ClockSystem.init(buffer, 0)).toThrow(
      expect.objectContaining({ code: 'already-initialised' }),
    );
  });

  it('the main loop has a list for each clock from the start', () => {
    const { clocks } = setup();
    expect(clocks.mainGroup.index).toBe(0);
    expect(clocks.mainGroup.lists.map((list) => list.type)).toEqual([0, 1, 2, 3]);
  });

  it.each([0, 1, 2, 3] as ClockType[])(
    'lists made later are reached by enabling and notifying: clock %i',
    (type) => {
      const { clocks } = setup();
      clocks.clockEnable(type, false);
      const group = clocks.createGroup();
      clocks.createTimer({ clock: type, callback: 0, group: group.index }).mod(0);
      group.notifier.accept();
      expect(group.lists[type].deadline()).toBe(Infinity);
      clocks.clockEnable(type, true);
      expect(group.notifier.notified).toBe(true);
      expect(group.lists[type].deadline()).toBe(0);
    },
  );
});
