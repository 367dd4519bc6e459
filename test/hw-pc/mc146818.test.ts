import { describe, expect, test } from 'vitest';
import { Mc146818, Mc146818State } from '../../src/hw/rtc/mc146818.ts';
import { FakeClock, FakeIrq, freshState } from '../hw/fakes.ts';

const SECOND = 1e9;
const MIB = 2 ** 20;
/** 2026-11-22 13:59:58 UTC. */
const EPOCH = Date.UTC(2026, 10, 22, 13, 59, 58) / 1000;
const A = 10;
const B = 11;
const C = 12;
const PF = 0x40;
const AF = 0x20;
const UF = 0x10;
const IRQF = 0x80;

function machine(options: { nanoseconds?: number; slew?: () => boolean } = {}) {
  const clock = new FakeClock();
  clock.time = 5 * SECOND;
  const irq = new FakeIrq();
  const periodic = clock.timer(() => rtc.onPeriodicTimer());
  const update = clock.timer(() => rtc.onUpdateTimer());
  const coalesced = clock.timer(() => rtc.onCoalescedTimer());
  let wakes = 0;
  const { slew } = options;
  const rtc = new Mc146818(freshState(Mc146818State), {
    clock,
    irq,
    periodicTimer: periodic,
    updateTimer: update,
    wake: () => wakes++,
    ...(slew === undefined ? {} : { slew: { timer: coalesced, deliver: slew } }),
  });
  rtc.powerOn(EPOCH, options.nanoseconds ?? 0, { ramBelow4G: 512 * MIB, cpus: 4, bootOrder: 'cd' });
  const get = (index: number): number => {
    rtc.write(0, 1, index);
    return rtc.read(1, 1);
  };
  const set = (index: number, value: number): void => {
    rtc.write(0, 1, index);
    rtc.write(1, 1, value);
  };
  return { clock, irq, rtc, get, set, periodic, update, coalesced, wakes: () => wakes };
}

describe('time', () => {
  test('reads in BCD, 24 hours, with the century at both places', () => {
    const { get } = machine();
    expect([9, 8, 7, 4, 2, 0].map(get)).toEqual([0x26, 0x11, 0x22, 0x13, 0x59, 0x58]);
    expect([get(6), get(0x32), get(0x37)]).toEqual([1, 0x20, 0x20]);
  });

  test('advances with the clock and carries', () => {
    const { clock, get } = machine();
    clock.advance(2 * SECOND);
    expect([4, 2, 0].map(get)).toEqual([0x14, 0x00, 0x00]);
    clock.advance(86_400 * SECOND);
    expect([get(7), get(6)]).toEqual([0x23, 2]);
  });

  test('binary and 12-hour formats', () => {
    const { get, set } = machine();
    set(B, 0x04);
    expect([get(4), get(2), get(0)]).toEqual([1 | 0x80, 59, 58]);
    set(B, 0x00);
    expect(get(4)).toBe(0x81);
  });

  test('12-hour mode writes midnight and noon as 12', () => {
    const { rtc, get, set } = machine();
    set(B, 0x80);
    set(4, 0x12);
    set(B, 0x00);
    expect([get(4), Math.floor(rtc.seconds / 3600) % 24]).toEqual([0x12, 0]);
    set(B, 0x80);
    set(4, 0x92);
    set(B, 0x00);
    expect([get(4), Math.floor(rtc.seconds / 3600) % 24]).toEqual([0x92, 12]);
  });

  test('SET freezes the registers and clearing it starts from what was written', () => {
    const { clock, get, set, rtc } = machine({ nanoseconds: 250_000_000 });
    set(B, 0x82 | 0x10);
    expect(get(B) & 0x10).toBe(0);
    clock.advance(10 * SECOND);
    expect(get(0)).toBe(0x58);
    set(0, 0x30);
    set(B, 0x02);
    expect(get(0)).toBe(0x30);
    // the sub-second phase is kept: 0.25 s into the second
    clock.advance(0.74 * SECOND);
    expect(get(0)).toBe(0x30);
    clock.advance(0.01 * SECOND);
    expect([get(0), rtc.seconds % 60]).toEqual([0x31, 31]);
  });

  test('the first update after the divider reset comes after half a second', () => {
    const { clock, get, set, update } = machine({ nanoseconds: 900_000_000 });
    set(A, 0x66);
    expect(update.pending).toBe(false);
    clock.advance(5 * SECOND);
    expect(get(0)).toBe(0x58);
    set(A, 0x26);
    expect(update.remaining).toBe(0.5 * SECOND);
    clock.advance(0.5 * SECOND);
    expect(get(0)).toBe(0x59);
  });

  test('registers full of ones do no harm', () => {
    const { clock, get, set } = machine();
    for (let i = 0; i < 0x80; i++) set(i, 0xff);
    set(B, 0x00);
    for (let i = 0; i < 0x80; i++) get(i);
    clock.advance(3 * SECOND);
    expect(get(0)).toBeGreaterThanOrEqual(0);
  });
});

describe('update cycle', () => {
  test('UIP shows for the last 244 microseconds of a second', () => {
    const { clock, get } = machine();
    clock.advance(SECOND - 244_141);
    expect(get(A) & 0x80).toBe(0);
    clock.advance(2);
    expect(get(A) & 0x80).toBe(0x80);
    clock.advance(244_139);
    expect(get(A) & 0x80).toBe(0);
  });

  test('UF and an interrupt at each second when UIE is set', () => {
    const { clock, irq, get, set } = machine();
    set(B, 0x12);
    clock.advance(SECOND);
    expect([irq.level, get(C), irq.level, get(C)]).toEqual([true, IRQF | UF, false, 0]);
    clock.advance(SECOND);
    expect(irq.rises).toBe(2);
  });

  test('with UF unread the timer waits for the alarm', () => {
    const { clock, update, get } = machine();
    clock.advance(SECOND);
    // alarm registers are 0: midnight, ten hours and a second from 13:59:59
    expect(update.remaining).toBe((10 * 3600 + 1) * SECOND);
    expect(get(C)).toBe(UF);
    expect(update.remaining).toBe(SECOND);
  });

  test('with UF and AF unread there is no timer', () => {
    const { clock, update, set } = machine();
    for (const reg of [1, 3, 5]) set(reg, 0xc0);
    clock.advance(SECOND);
    expect(update.pending).toBe(false);
  });

  test('an alarm that can never match leaves no timer once UF is set', () => {
    const { clock, update, set } = machine();
    set(1, 0x99);
    clock.advance(SECOND);
    expect(update.pending).toBe(false);
  });

  test('enabling a flag that is already set raises at once, disabling lowers', () => {
    const { clock, irq, get, set } = machine();
    clock.advance(SECOND);
    set(B, 0x12);
    expect(irq.level).toBe(true);
    set(B, 0x02);
    expect(irq.level).toBe(false);
    expect(get(C)).toBe(UF);
  });
});

describe('alarm', () => {
  test('fires at its time and wakes when AIE is set', () => {
    const { clock, irq, get, set, wakes } = machine();
    set(5, 0x14);
    set(3, 0x00);
    set(1, 0x05);
    set(B, 0x22);
    clock.advance(6.5 * SECOND);
    expect([irq.level, wakes()]).toEqual([false, 0]);
    clock.advance(SECOND);
    expect([irq.level, wakes(), get(C)]).toEqual([true, 1, IRQF | AF | UF]);
  });

  test('bytes from C0 up match anything', () => {
    const { clock, irq, get, set } = machine();
    set(5, 0xff);
    set(3, 0xff);
    set(1, 0x10);
    set(B, 0x22);
    clock.advance(12 * SECOND);
    expect(get(C) & AF).toBe(AF);
    clock.advance(60 * SECOND);
    expect([get(C) & AF, irq.rises]).toEqual([AF, 2]);
  });
});

describe('periodic interrupt', () => {
  test('is armed by PIE alone, at the rate of register A', () => {
    const { clock, irq, get, set, periodic } = machine();
    expect(periodic.pending).toBe(false);
    set(B, 0x42);
    for (let i = 0; i < 3; i++) {
      clock.advance(SECOND / 1024 + 1000);
      expect(get(C) & (IRQF | PF)).toBe(IRQF | PF);
    }
    expect(irq.rises).toBe(3);
    set(B, 0x02);
    expect(periodic.pending).toBe(false);
  });

  test('rate codes 1 and 2 are 256 and 128 Hz', () => {
    for (const [code, hz] of [
      [1, 256],
      [2, 128],
      [15, 2],
    ]) {
      const { set, periodic } = machine();
      set(A, 0x20 | code);
      set(B, 0x42);
      expect(Math.abs(periodic.remaining - SECOND / hz)).toBeLessThan(40_000);
    }
  });

  test('keeps its rate when callbacks are late', () => {
    const { clock, set, get, periodic } = machine();
    set(B, 0x42);
    for (let i = 0; i < 100; i++) {
      clock.jump(10_000_000);
      get(C);
    }
    expect(Math.abs(periodic.fired - 1024)).toBeLessThanOrEqual(1);
  });

  test('the elapsed part of a period counts when the rate changes', () => {
    const { clock, set, periodic } = machine();
    set(A, 0x2f);
    set(B, 0x42);
    clock.advance(0.4 * SECOND);
    set(A, 0x2e);
    expect(periodic.remaining).toBeLessThan(100_000);
    set(A, 0x2f);
    expect(Math.abs(periodic.remaining - 0.5 * SECOND)).toBeLessThan(0.26 * SECOND);
  });

  test('slew: ticks the guest did not take come at reads of register C', () => {
    let take = false;
    const { clock, get, set, coalesced } = machine({ slew: () => take });
    set(B, 0x42);
    clock.jump(3 * (SECOND / 1024) + 2000);
    expect(coalesced.pending).toBe(true);
    take = true;
    expect(get(C)).toBe(IRQF | PF);
    expect([get(C), get(C), get(C)]).toEqual([IRQF | PF, IRQF | PF, IRQF | PF]);
    expect(get(C)).toBe(0);
  });
});

describe('CMOS', () => {
  test('memory sizes, CPU count and boot order', () => {
    const { get } = machine();
    const word = (at: number): number => get(at) | (get(at + 1) << 8);
    expect([word(0x15), word(0x17), word(0x30), word(0x34)]).toEqual([640, 0xffff, 0xffff, 496 * 16]);
    expect([get(0x5f), get(0x3d), get(0x14), get(13)]).toEqual([3, 0x32, 0x06, 0x80]);
  });

  test('RAM bytes keep what is written, register D does not', () => {
    const { get, set } = machine();
    set(0x0f, 0x0a);
    set(13, 0);
    expect([get(0x0f), get(13)]).toEqual([0x0a, 0x80]);
  });

  test('bit 7 of port 70 is the NMI mask and no part of the index', () => {
    const { rtc, get } = machine();
    rtc.write(0, 1, 0x80 | 0x0d);
    expect([rtc.read(1, 1), rtc.nmiMasked, rtc.read(0, 1)]).toEqual([0x80, true, 0xff]);
    get(0);
    expect(rtc.nmiMasked).toBe(false);
  });

  test('reset clears enables and flags, keeps time and RAM', () => {
    const { clock, rtc, irq, get, set, periodic } = machine();
    set(0x40, 7);
    set(B, 0x72);
    clock.advance(SECOND);
    rtc.reset();
    expect([irq.level, get(B), get(C), get(0x40), periodic.pending]).toEqual([false, 0x12, 0, 7, false]);
    expect(get(0)).toBe(0x59);
  });
});
