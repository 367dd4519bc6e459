import { describe, expect, it } from 'vitest';
import { CLOCK, VIRTUAL_MODE, ATTRIBUTE } from '../../src/timer/clock-state.ts';
import { type ClockOptions, ClockSystem } from '../../src/timer/clock.ts';
import { ManualTime, SystemTime } from '../../src/timer/host-time.ts';

function setup(options: ClockOptions = {}) {
  const buffer = new SharedArrayBuffer(ClockSystem.layout(options).size + 64);
  const source = new ManualTime();
  source.wall = 1_700_000_000_250;
  const clocks = ClockSystem.init(buffer, 64, { source, ...options });
  return { buffer, source, clocks };
}

describe('clocks', () => {
  it('start with VIRTUAL timers disabled and the others enabled', () => {
    const { clocks } = setup();
    expect([0, 1, 2, 3].map((type) => clocks.isEnabled(type as 0))).toEqual([true, false, true, true]);
  });

  it('VIRTUAL_RT and VIRTUAL count only while ticks are enabled', () => {
    const { clocks, source } = setup();
    source.ns = 1000;
    expect(clocks.now(CLOCK.VIRTUAL)).toBe(0);
    clocks.enableTicks();
    clocks.enableTicks();
    source.ns = 1500;
    expect(clocks.now(CLOCK.VIRTUAL)).toBe(500);
    expect(clocks.now(CLOCK.VIRTUAL_RT)).toBe(500);
    clocks.disableTicks();
    clocks.disableTicks();
    source.ns = 9000;
    expect(clocks.now(CLOCK.VIRTUAL)).toBe(500);
    clocks.enableTicks();
    source.ns = 9001;
    expect(clocks.now(CLOCK.VIRTUAL)).toBe(501);
    expect(clocks.now(CLOCK.REALTIME)).toBe(9001);
  });

  it('another view of the same memory shows the same time', () => {
    const { clocks, source, buffer } = setup();
    clocks.enableTicks();
    source.ns = 77;
    expect(ClockSystem.attach(buffer, 64, { source }).now(CLOCK.VIRTUAL)).toBe(77);
  });

  it('attach refuses memory without a clock system', () => {
    expect(() => ClockSystem.attach(new SharedArrayBuffer(4096), 0)).toThrow(
      expect.objectContaining({ code: 'not-initialised' }),
    );
  });

  it('HOST follows the wall clock to within its grain, and its jumps', () => {
    const { clocks, source } = setup();
    expect(clocks.wallBaseMs).toBe(1_700_000_000_000);
    expect(clocks.now(CLOCK.HOST)).toBe(250e6);
    source.ns += 400_000; // within the millisecond
    expect(clocks.now(CLOCK.HOST)).toBe(250.4e6);
    source.ns += 1_000_000;
    source.wall += 1;
    expect(clocks.now(CLOCK.HOST)).toBe(251.4e6);
    source.wall += 5000;
    expect(clocks.now(CLOCK.HOST)).toBe(251.4e6); // a jump is seen when a millisecond is over
    source.ns += 1_000_000;
    source.wall += 1;
    expect(clocks.now(CLOCK.HOST)).toBe(5252e6);
    source.ns += 1_000_000;
    source.wall -= 9_999;
    expect(clocks.now(CLOCK.HOST)).toBeCloseTo(-4747e6 + 999_999, 0);
  });

  it('HOST looks at the wall clock again when the thread was interrupted as it looked', () => {
    const source = new (class extends ManualTime {
      override wallGrain = 1000;
      interruption = 0;
      override wallMs(): number {
        const { wall } = this;
        this.ns += this.interruption;
        this.wall += this.interruption / 1e6;
        this.interruption = 0;
        return wall;
      }
    })();
    const { clocks } = setup({ source });
    expect(clocks.now(CLOCK.HOST)).toBe(0);
    source.ns += 2e6;
    source.wall += 2.5; // a jump by half a millisecond, of which the interrupted look sees half at most
    source.interruption = 250_000;
    expect(clocks.now(CLOCK.HOST)).toBe(2_500_000);
    expect(clocks.now(CLOCK.HOST)).toBe(2_750_000);
  });

  it("HOST is right to the grain of the host's clock, and does not go back when that does not", () => {
    const { clocks } = setup({ source: undefined });
    const { wallGrain } = new SystemTime(0);
    let wall = 0;
    let last = 0;
    for (let i = 0; i < 20_000; i++) {
      const before = Number(Temporal.Now.instant().epochNanoseconds - BigInt(clocks.wallBaseMs) * 1_000_000n);
      const host = clocks.now(CLOCK.HOST);
      const after = Number(Temporal.Now.instant().epochNanoseconds - BigInt(clocks.wallBaseMs) * 1_000_000n);
      // somebody set the host's clock back
      if (before < wall) last = 0;
      wall = before;
      expect(host).toBeGreaterThanOrEqual(Math.max(last, before - wallGrain));
      expect(host).toBeLessThan(after + 2 * wallGrain);
      last = host;
    }
  });

  it('the TSC is VIRTUAL at its frequency, in two halves', () => {
    const { clocks, source } = setup({ tscHz: 2_500_000_000 });
    clocks.enableTicks();
    source.ns = 10e9;
    expect(clocks.ticks()).toBe(25e9);
    expect(clocks.virtualAtTick(25e9)).toBe(10e9);
    expect(clocks.virtualAtTick(25e9 + 1)).toBe(10e9 + 1);
    const out = new Uint32Array(3);
    clocks.readTsc(out, 1);
    expect([...out]).toEqual([0, 25e9 % 2 ** 32, Math.floor(25e9 / 2 ** 32)]);
  });

  it('the TSC repeats its value when VIRTUAL is set back', () => {
    const { clocks } = setup({ virtualMode: VIRTUAL_MODE.MANUAL });
    clocks.setVirtual(1000);
    clocks.setVirtual(400);
    expect(clocks.now(CLOCK.VIRTUAL)).toBe(400);
    expect(clocks.ticks()).toBe(1000);
    clocks.setVirtual(450);
    expect(clocks.ticks()).toBe(1050);
    clocks.setTscHz(5e8);
    expect(clocks.ticks()).toBe(1050);
  });

  it('setVirtual is refused while the host drives VIRTUAL', () => {
    const { clocks } = setup();
    expect(() => clocks.setVirtual(5)).toThrow(expect.objectContaining({ code: 'not-manual' }));
  });

  it('warpTo stops at every expiry on the way', () => {
    const { clocks } = setup({ virtualMode: VIRTUAL_MODE.MANUAL });
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    const seen: number[] = [];
    const timer = clocks.createTimer({
      clock: CLOCK.VIRTUAL,
      callback: () => {
        seen.push(clocks.now(CLOCK.VIRTUAL));
        if (seen.length < 4) timer.mod(seen.length * 100);
      },
    });
    timer.mod(50);
    clocks.warpTo(250);
    expect(seen).toEqual([50, 100, 200]);
    expect(clocks.now(CLOCK.VIRTUAL)).toBe(250);
    expect(timer.expireTime).toBe(300);
  });

  it('a real clock never goes back across stop and start', () => {
    const { clocks } = setup({ source: undefined });
    clocks.enableTicks();
    let last = -1;
    for (let i = 0; i < 2000; i++) {
      const now = clocks.now(CLOCK.VIRTUAL);
      expect(now).toBeGreaterThanOrEqual(last);
      last = now;
      if (i % 100 === 50) clocks.disableTicks();
      if (i % 100 === 99) clocks.enableTicks();
    }
    expect(last).toBeGreaterThan(0);
    expect(last).toBeLessThan(60e9);
  });
});

describe('all lists of a clock', () => {
  it('the deadline over all lists leaves out timers with other attributes', () => {
    const { clocks } = setup({ virtualMode: VIRTUAL_MODE.MANUAL });
    const other = clocks.createGroup();
    const a = clocks.createTimer({ clock: 1, callback: 0, attributes: ATTRIBUTE.EXTERNAL });
    const b = clocks.createTimer({ clock: 1, callback: 0, group: other.index });
    a.mod(100);
    b.mod(300);
    expect(clocks.deadline(CLOCK.VIRTUAL)).toBe(Infinity); // disabled
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    expect(clocks.deadline(CLOCK.VIRTUAL)).toBe(100);
    expect(clocks.deadline(CLOCK.VIRTUAL, ~ATTRIBUTE.EXTERNAL)).toBe(300);
    clocks.setVirtual(1000);
    expect(clocks.deadline(CLOCK.VIRTUAL)).toBe(0);
  });

  it('enabling a clock notifies the owners of its lists, and only on the edge', () => {
    const { clocks } = setup();
    const group = clocks.createGroup();
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    expect([group.notifier.notified, clocks.mainGroup.notifier.notified]).toEqual([true, true]);
    group.notifier.accept();
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    expect(group.notifier.notified).toBe(false);
  });

  it('groups are limited, released only when empty, and reused', () => {
    const { clocks } = setup({ maxLists: 8 });
    const group = clocks.createGroup();
    expect(() => clocks.createGroup()).toThrow(expect.objectContaining({ code: 'no-group-left' }));
    const timer = clocks.createTimer({ clock: 0, callback: 0, group: group.index });
    timer.mod(5);
    expect(() => clocks.releaseGroup(group)).toThrow(expect.objectContaining({ code: 'timers-left' }));
    timer.del();
    clocks.releaseGroup(group);
    expect(() => clocks.group(1)).toThrow(expect.objectContaining({ code: 'no-group' }));
    expect(clocks.createGroup().index).toBe(1);
  });

  it('disabling a clock in a callback of its own timer is an error that names the timer', () => {
    const { clocks } = setup({ virtualMode: VIRTUAL_MODE.MANUAL });
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    let ran = false;
    const timer = clocks.createTimer({
      clock: CLOCK.VIRTUAL,
      name: 'watchdog',
      callback: () => {
        clocks.clockEnable(CLOCK.HOST, false); // another clock is no misuse
        expect(() => clocks.clockEnable(CLOCK.VIRTUAL, false)).toThrow(/watchdog/);
        ran = true;
      },
    });
    timer.mod(0);
    clocks.mainGroup.run();
    expect(ran).toBe(true);
    expect(clocks.isEnabled(CLOCK.VIRTUAL)).toBe(true);
    clocks.clockEnable(CLOCK.VIRTUAL, false); // outside it is none
  });
});
