import { describe, expect, it } from 'vitest';
import { ApicFixture, MASKED, R, rdmsr } from './apic-fixture.ts';

const PERIODIC = 1 << 17;
const DEADLINE = 2 << 17;
const DIV_1 = 0xb;
const DIV_16 = 3;

function withTimer(mode: number, divide = DIV_1): ApicFixture {
  const f = new ApicFixture();
  f.lapics[0].write(R.LVT_TIMER, 4, mode | 0x40);
  f.lapics[0].write(R.DIVIDE, 4, divide);
  return f;
}
/** Times at which the vector was requested while the clock ran to `end`; each is served at once. */
function interrupts(f: ApicFixture, end: number): number[] {
  const times: number[] = [];
  const [l] = f.lapics;
  const { callback } = f.timers[0];
  f.timers[0].callback = () => {
    callback();
    if (l.acknowledge() === 0x40) {
      times.push(f.clock.now());
      l.eoi();
    }
  };
  f.clock.runTo(end);
  f.timers[0].callback = callback;
  return times;
}

describe('LAPIC timer, one-shot', () => {
  it('interrupts initial count + 1 ticks after the load, once', () => {
    const f = withTimer(0);
    const t0 = f.clock.now();
    f.lapics[0].write(R.INITIAL, 4, 1000);
    expect(interrupts(f, t0 + 1e6)).toEqual([t0 + 1001]);
    expect(f.timers[0].pending).toBe(false);
  });

  it('the current count goes down to 0 and stays there', () => {
    const f = withTimer(0, DIV_16);
    const t0 = f.clock.now();
    f.lapics[0].write(R.INITIAL, 4, 100);
    expect(f.lapics[0].read(R.CURRENT, 4)).toBe(100);
    f.clock.runTo(t0 + 16 * 40 + 15);
    expect(f.lapics[0].read(R.CURRENT, 4)).toBe(60);
    f.clock.runTo(t0 + 16 * 100);
    expect(f.lapics[0].read(R.CURRENT, 4)).toBe(0);
    f.clock.runTo(t0 + 16 * 500);
    expect(f.lapics[0].read(R.CURRENT, 4)).toBe(0);
  });

  it('a write of the initial count starts afresh, 0 stops', () => {
    const f = withTimer(0);
    const t0 = f.clock.now();
    f.lapics[0].write(R.INITIAL, 4, 1000);
    f.clock.runTo(t0 + 500);
    f.lapics[0].write(R.INITIAL, 4, 1000);
    expect(f.timers[0].expireTime).toBe(t0 + 1501);
    f.lapics[0].write(R.INITIAL, 4, 0);
    expect(f.timers[0].pending).toBe(false);
  });

  it('divides by 2 4 8 16 32 64 128 1 for codes 0 to 7', () => {
    const f = withTimer(0);
    const codes = [0, 1, 2, 3, 8, 9, 10, 11];
    const ticks = codes.map((code) => {
      f.lapics[0].write(R.DIVIDE, 4, code);
      f.lapics[0].write(R.INITIAL, 4, 9);
      return f.timers[0].remaining / 10;
    });
    expect(ticks).toEqual([2, 4, 8, 16, 32, 64, 128, 1]);
  });

  it('the largest count takes 2^32 ticks', () => {
    const f = withTimer(0, 10);
    f.lapics[0].write(R.INITIAL, 4, 0xffff_ffff);
    expect(f.timers[0].remaining).toBe(2 ** 32 * 128);
    expect(f.lapics[0].read(R.CURRENT, 4)).toBe(0xffff_ffff);
  });
});

describe('LAPIC timer, periodic', () => {
  it('interrupts every initial count + 1 ticks', () => {
    const f = withTimer(PERIODIC);
    const t0 = f.clock.now();
    f.lapics[0].write(R.INITIAL, 4, 999);
    expect(interrupts(f, t0 + 3500)).toEqual([t0 + 1000, t0 + 2000, t0 + 3000]);
    expect(f.lapics[0].read(R.CURRENT, 4)).toBe(499);
  });

  it('late callbacks catch up one by one from the scheduled time', () => {
    const f = withTimer(PERIODIC);
    const t0 = f.clock.now();
    f.lapics[0].write(R.INITIAL, 4, 999);
    f.clock.jump(5500);
    expect(f.timers[0].fired).toBe(5);
    expect(f.timers[0].expireTime).toBe(t0 + 6000);
  });

  it('a backlog of more than a thousand periods is dropped, the phase is kept', () => {
    const f = withTimer(PERIODIC);
    const t0 = f.clock.now();
    f.lapics[0].write(R.INITIAL, 4, 1);
    f.clock.jump(1e9 + 1);
    expect(f.timers[0].fired).toBeLessThan(3);
    expect(f.timers[0].expireTime).toBe(t0 + 1e9 + 2);
  });

  it('masking removes the timer, unmasking keeps the phase', () => {
    const f = withTimer(PERIODIC);
    const [l] = f.lapics;
    const t0 = f.clock.now();
    l.write(R.INITIAL, 4, 999);
    l.write(R.LVT_TIMER, 4, PERIODIC | MASKED | 0x40);
    expect(f.timers[0].pending).toBe(false);
    f.clock.runTo(t0 + 2300);
    expect(l.read(R.CURRENT, 4)).toBe(699);
    l.write(R.LVT_TIMER, 4, PERIODIC | 0x40);
    expect(f.timers[0].expireTime).toBe(t0 + 3000);
  });

  it('an initial count of 0 runs nothing', () => {
    const f = withTimer(PERIODIC);
    f.lapics[0].write(R.INITIAL, 4, 0);
    expect(f.timers[0].pending).toBe(false);
    expect(f.lapics[0].read(R.CURRENT, 4)).toBe(0);
  });

  it('a new divide value changes the armed interrupt only when it is next computed', () => {
    const f = withTimer(PERIODIC);
    const t0 = f.clock.now();
    f.lapics[0].write(R.INITIAL, 4, 999);
    f.lapics[0].write(R.DIVIDE, 4, 0);
    expect(f.timers[0].expireTime).toBe(t0 + 1000);
    f.clock.runTo(t0 + 1000);
    expect(f.timers[0].expireTime).toBe(t0 + 2000);
    f.clock.runTo(t0 + 2000);
    expect(f.timers[0].expireTime).toBe(t0 + 4000);
  });

  it('disabling the LAPIC in SVR stops it', () => {
    const f = withTimer(PERIODIC);
    f.lapics[0].write(R.INITIAL, 4, 999);
    f.lapics[0].write(R.SVR, 4, 0xff);
    expect(f.timers[0].pending).toBe(false);
  });

  it('switching from one-shot to periodic continues the count', () => {
    const f = withTimer(0);
    const t0 = f.clock.now();
    f.lapics[0].write(R.INITIAL, 4, 999);
    f.clock.runTo(t0 + 1500);
    f.lapics[0].write(R.LVT_TIMER, 4, PERIODIC | 0x40);
    expect(f.timers[0].expireTime).toBe(t0 + 2000);
  });
});

describe('LAPIC timer, TSC deadline', () => {
  const write = (f: ApicFixture, time: number): boolean =>
    f.lapics[0].writeMsr(0x6e0, time >>> 0, Math.floor(time / 2 ** 32));

  it('interrupts when the TSC reaches the deadline and then reads 0', () => {
    const f = withTimer(DEADLINE);
    f.tscOffset = 5000;
    const at = f.clock.now() + 12_345;
    write(f, at + 5000);
    expect(rdmsr(f.lapics[0], 0x6e0)).toEqual([at + 5000, 0]);
    expect(interrupts(f, at + 1e6)).toEqual([at]);
    expect(rdmsr(f.lapics[0], 0x6e0)).toEqual([0, 0]);
  });

  it('a deadline in the past interrupts at once, 0 disarms', () => {
    const f = withTimer(DEADLINE);
    write(f, 1);
    expect(f.timers[0].remaining).toBeLessThanOrEqual(0);
    write(f, 0);
    expect(f.timers[0].pending).toBe(false);
  });

  it('has no current count and ignores the initial count', () => {
    const f = withTimer(DEADLINE);
    f.lapics[0].write(R.INITIAL, 4, 1000);
    expect(f.timers[0].pending).toBe(false);
    expect(f.lapics[0].read(R.INITIAL, 4)).toBe(0);
    expect(f.lapics[0].read(R.CURRENT, 4)).toBe(0);
  });

  it('a write outside the mode is ignored', () => {
    const f = withTimer(0);
    expect(write(f, 2 ** 33)).toBe(true);
    expect(rdmsr(f.lapics[0], 0x6e0)).toEqual([0, 0]);
    expect(f.timers[0].pending).toBe(false);
  });

  it('changing the mode disarms it', () => {
    const f = withTimer(DEADLINE);
    write(f, f.clock.now() + 1000);
    f.lapics[0].write(R.LVT_TIMER, 4, 0x40);
    expect(f.timers[0].pending).toBe(false);
    f.lapics[0].write(R.LVT_TIMER, 4, DEADLINE | 0x40);
    expect(f.timers[0].pending).toBe(false);
    expect(rdmsr(f.lapics[0], 0x6e0)).toEqual([0, 0]);
  });

  it('a deadline that passes while masked is lost; one that has not comes after unmasking', () => {
    const f = withTimer(DEADLINE);
    const [l] = f.lapics;
    write(f, f.clock.now() + 1000);
    l.write(R.LVT_TIMER, 4, DEADLINE | MASKED | 0x40);
    f.clock.advance(999);
    l.write(R.LVT_TIMER, 4, DEADLINE | 0x40);
    expect(f.timers[0].remaining).toBe(1);
    l.write(R.LVT_TIMER, 4, DEADLINE | MASKED | 0x40);
    f.clock.advance(1);
    expect(rdmsr(l, 0x6e0)).toEqual([0, 0]);
    l.write(R.LVT_TIMER, 4, DEADLINE | 0x40);
    expect(f.timers[0].pending).toBe(false);
  });

  it('follows a write of the TSC', () => {
    const f = withTimer(DEADLINE);
    const t0 = f.clock.now();
    write(f, t0 + 1000);
    f.tscOffset = 400;
    f.lapics[0].tscChanged();
    expect(f.timers[0].expireTime).toBe(t0 + 600);
  });

  it('a deadline beyond all time arms nothing and reads back', () => {
    const f = withTimer(DEADLINE);
    f.lapics[0].writeMsr(0x6e0, 0xffff_ffff, 0xffff_ffff);
    expect(f.timers[0].pending).toBe(false);
    expect(rdmsr(f.lapics[0], 0x6e0)).toEqual([0xffff_ffff, 0xffff_ffff]);
  });
});
