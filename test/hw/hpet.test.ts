import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { HPET_ID, Hpet, HpetState, type HpetDeps, type HpetStateView } from '../../src/hw/timer/hpet.ts';
import { I8254, PitState } from '../../src/hw/timer/i8254.ts';
import { FakeClock, type FakeIrq, type FakeTimer, dirtyState, fakeIrqs } from './fakes.ts';

const CONFIG = 0x10;
const STATUS = 0x20;
const COUNTER = 0xf0;
const T = (n: number): number => 0x100 + 0x20 * n;
const CMP = (n: number): number => T(n) + 8;

const ENABLE = 1;
const LEGACY = 2;
const LEVEL = 2;
const T_ENABLE = 4;
const PERIODIC = 8;
const SET_VALUE = 0x40;
const BITS32 = 0x100;
const ROUTE2 = 2 << 9;

let clock: FakeClock;
let timers: FakeTimer[];
let lines: FakeIrq[];
let pitLine: FakeIrq;
let pit: I8254;
let state: HpetStateView;
let hpet: Hpet;

function build(extra: Partial<HpetDeps> = {}): void {
  clock = new FakeClock();
  clock.time = 777;
  lines = fakeIrqs(24);
  pitLine = lines[0];
  timers = [0, 1, 2].map((n) => clock.timer(() => hpet.onTimer(n)));
  const pitTimer = clock.timer(() => pit.onTimer());
  pit = new I8254(dirtyState(PitState), { clock, timer: pitTimer, irq: pitLine });
  pit.reset();
  state = dirtyState(HpetState);
  state.config = 0;
  hpet = new Hpet(state, { clock, timers, lines, pit, ...extra });
  hpet.reset();
  pitLine.rises = 0;
}
beforeEach(() => build());

const get = (offset: number): number => hpet.read(offset, 4);
const put = (offset: number, value: number): void => hpet.write(offset, 4, value >>> 0);
const put64 = (offset: number, value: bigint): void => {
  put(offset, Number(value & 0xffff_ffffn));
  put(offset + 4, Number(value >> 32n));
};
const counter = (): bigint => (BigInt(get(COUNTER + 4)) << 32n) | BigInt(get(COUNTER));
const comparator = (n: number): bigint => (BigInt(get(CMP(n) + 4)) << 32n) | BigInt(get(CMP(n)));

describe('HPET registers', () => {
  it('capabilities: Intel, three 64-bit timers, legacy, 10 ns', () => {
    expect(get(0)).toBe(0x8086_a201);
    expect(HPET_ID).toBe(0x8086_a201);
    expect(get(4)).toBe(10_000_000);
  });

  it('after reset: stopped at 0, comparators all ones, periodic and 64-bit capable, routable to GSI 2', () => {
    expect(counter()).toBe(0n);
    for (let n = 0; n < 3; n++) {
      expect(get(T(n))).toBe(0x30);
      expect(get(T(n) + 4)).toBe(4);
      expect(comparator(n)).toBe(0xffff_ffff_ffff_ffffn);
    }
    clock.advance(1e6);
    expect(counter()).toBe(0n);
    expect(timers.some((t) => t.pending)).toBe(false);
  });

  it('the counter is read without the lock, unless it is just being changed', () => {
    const unlocked = (): (number | undefined)[] =>
      [COUNTER, COUNTER + 4].map((at) => hpet.readUnlocked(at, 4));
    put64(COUNTER, 0x1_ffff_fff0n);
    expect(unlocked()).toEqual([0xffff_fff0, 1]);
    put(CONFIG, ENABLE);
    clock.advance(1600);
    expect(unlocked()).toEqual([get(COUNTER), get(COUNTER + 4)]);
    expect(unlocked()).toEqual([0x90, 2]);
    for (const [offset, size] of [[COUNTER, 2], [COUNTER + 2, 2], [CONFIG, 4], [STATUS, 4], [CMP(0), 4]]) {
      expect(hpet.readUnlocked(offset, size)).toBeUndefined();
    } // prettier-ignore
    // a reader between the words of a change
    const seen: unknown[] = [];
    const { now } = clock;
    put(CONFIG, 0);
    clock.now = () => {
      seen.push(...unlocked());
      return now.call(clock);
    };
    put(CONFIG, ENABLE);
    clock.now = now;
    expect(seen.slice(0, 2)).toEqual([undefined, undefined]);
    expect(unlocked()).toEqual([get(COUNTER), get(COUNTER + 4)]);
  });

  it('keep only their writable bits', () => {
    put(CONFIG, 0xffff_fffc);
    expect(get(CONFIG)).toBe(0);
    put(T(1), 0xffff_ffff & ~T_ENABLE);
    expect(get(T(1))).toBe(0x30 | LEVEL | PERIODIC | SET_VALUE | BITS32 | (0x1f << 9));
  });

  it('beyond the timers read 0 and write nothing', () => {
    put(0x160, 0xffff_ffff);
    expect(get(0x160)).toBe(0);
    expect(get(0x3fc)).toBe(0);
    expect(get(0x18)).toBe(0);
  });

  it('narrow reads give their bytes, narrow writes nothing', () => {
    expect(hpet.read(2, 2)).toBe(0x8086);
    expect(hpet.read(1, 1)).toBe(0xa2);
    hpet.write(CONFIG, 1, 1);
    expect(get(CONFIG)).toBe(0);
  });
});

describe('HPET main counter', () => {
  it('counts 10 ns ticks from where it was enabled', () => {
    put64(COUNTER, 1000n);
    put(CONFIG, ENABLE);
    clock.advance(9);
    expect(counter()).toBe(1000n);
    clock.advance(1);
    expect(counter()).toBe(1001n);
    clock.advance(1e9);
    expect(counter()).toBe(100_001_001n);
  });

  it('stands while disabled and goes on from there', () => {
    put(CONFIG, ENABLE);
    clock.advance(5000);
    put(CONFIG, 0);
    clock.advance(5000);
    expect(counter()).toBe(500n);
    put(CONFIG, ENABLE);
    clock.advance(10);
    expect(counter()).toBe(501n);
  });

  it('a write while running changes nothing', () => {
    put(CONFIG, ENABLE);
    put64(COUNTER, 0x1_0000_0000n);
    expect(counter()).toBe(0n);
  });

  it('carries into the high half and wraps at 2^64', () => {
    put64(COUNTER, 0xffff_ffffn);
    put(CONFIG, ENABLE);
    clock.advance(10);
    expect(counter()).toBe(0x1_0000_0000n);
    put(CONFIG, 0);
    put64(COUNTER, 0xffff_ffff_ffff_fffen);
    put(CONFIG, ENABLE);
    clock.advance(30);
    expect(counter()).toBe(1n);
  });
});

describe('HPET one-shot timers', () => {
  it('interrupt when the counter reaches the comparator, once', () => {
    put(T(0), T_ENABLE | ROUTE2);
    put(CONFIG, ENABLE);
    put64(CMP(0), 100n);
    clock.advance(999);
    expect(lines[2].rises).toBe(0);
    clock.advance(1);
    expect(lines[2].rises).toBe(1);
    clock.advance(1e9);
    expect(lines[2].rises).toBe(1);
  });

  it('a comparator that lies behind is due at the next tick', () => {
    put(T(0), T_ENABLE | ROUTE2);
    put(CONFIG, ENABLE);
    clock.advance(10_000);
    put64(CMP(0), 999n);
    clock.advance(10);
    expect(lines[2].rises).toBe(1);
  });

  it('enabling the counter arms comparators that were set before, all ones excepted', () => {
    put(T(0), T_ENABLE | ROUTE2);
    put64(CMP(0), 100n);
    expect(timers[0].pending).toBe(false);
    put(CONFIG, ENABLE);
    expect(timers.map((t) => t.pending)).toEqual([true, false, false]);
    expect(timers[0].remaining).toBe(1000);
  });

  it('disabling the counter or the timer removes it', () => {
    put(T(0), T_ENABLE | ROUTE2);
    put(CONFIG, ENABLE);
    put64(CMP(0), 100n);
    put(CONFIG, 0);
    expect(timers[0].pending).toBe(false);
    put(CONFIG, ENABLE);
    put(T(0), ROUTE2);
    expect(timers[0].pending).toBe(false);
    put(T(0), T_ENABLE | ROUTE2);
    expect(timers[0].pending).toBe(true);
  });

  it('a timer that is not enabled matches without an interrupt', () => {
    put(T(0), ROUTE2);
    put(CONFIG, ENABLE);
    put64(CMP(0), 100n);
    clock.advance(1e6);
    expect(timers[0].fired).toBe(1);
    expect(lines[2].rises).toBe(0);
  });

  it('a 64-bit comparator beyond the life of the machine arms nothing', () => {
    put(T(0), T_ENABLE | ROUTE2);
    put(CONFIG, ENABLE);
    put64(CMP(0), 0x4000_0000_0000_0000n);
    expect(timers[0].pending).toBe(false);
  });

  it('a 32-bit timer sees the low half, its comparator has no high half', () => {
    put64(COUNTER, 0x5_0000_0000n);
    put(T(0), T_ENABLE | BITS32 | ROUTE2);
    put(CONFIG, ENABLE);
    put64(CMP(0), 0x1234_0000_0064n);
    expect(comparator(0)).toBe(100n);
    expect(timers[0].remaining).toBe(1000);
  });

  it('a 32-bit one-shot timer interrupts at the wrap of the counter too', () => {
    put64(COUNTER, 0xffff_fff0n);
    put(T(0), T_ENABLE | BITS32 | ROUTE2);
    put(CONFIG, ENABLE);
    put(CMP(0), 0x10);
    clock.advance(160);
    expect(lines[2].rises).toBe(1);
    clock.advance(160);
    expect(lines[2].rises).toBe(2);
    expect(timers[0].pending).toBe(false);
  });
});

describe('HPET periodic timers', () => {
  /** As Linux programs it: accumulator first, then the period. */
  function periodic(n: number, flags: number, period: number): void {
    put(CONFIG, ENABLE);
    put(T(n), T_ENABLE | PERIODIC | SET_VALUE | flags);
    put(CMP(n) + 4, 0); // 64 bits: one set-value for each half
    put(T(n), T_ENABLE | PERIODIC | SET_VALUE | flags);
    put(CMP(n), get(COUNTER) + period);
    put(CMP(n), period);
  }

  it('interrupt every period', () => {
    periodic(0, ROUTE2 | BITS32, 1000);
    clock.advance(1e6);
    expect(lines[2].rises).toBe(100);
    expect(comparator(0)).toBe(101_000n);
  });

  it('the set-value bit clears itself with the next comparator write', () => {
    put(T(0), PERIODIC | SET_VALUE);
    put(CMP(0), 5);
    expect(get(T(0)) & SET_VALUE).toBe(0);
    put(CMP(0), 7);
    expect(comparator(0)).toBe(0xffff_ffff_0000_0005n);
  });

  it('periods that a late host missed are one interrupt, and the phase stays', () => {
    periodic(0, ROUTE2 | BITS32, 1000);
    const t0 = clock.now();
    clock.jump(10_000 * 7 + 4);
    expect(lines[2].rises).toBe(1);
    expect(timers[0].expireTime).toBe(t0 + 80_000);
  });

  it('a match at exactly its tick interrupts once', () => {
    periodic(0, ROUTE2, 1000);
    clock.runTo(clock.now() + 10_000);
    expect(timers[0].fired).toBe(1);
    expect(timers[0].remaining).toBe(10_000);
  });

  it('cross 2^32 in both widths', () => {
    put64(COUNTER, 0xffff_ff00n);
    put(T(1), T_ENABLE | PERIODIC | ROUTE2);
    put64(CMP(1), 0n);
    periodic(0, ROUTE2 | BITS32, 0x100);
    clock.advance(0x1000 * 10);
    expect(timers[0].fired).toBe(16);
    expect(timers[1].fired).toBe(0);
  });

  it('a period of 0 interrupts once', () => {
    periodic(0, ROUTE2, 1000);
    put(CMP(0), 0);
    clock.advance(1e6);
    expect(timers[0].fired).toBe(1);
  });

  it('after any lateness the comparator is the first match after the counter', () => {
    const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    fc.assert(
      fc.property(u64, u64, u64, fc.boolean(), (start, cmp, rawPeriod, narrow) => {
        build();
        const mask = narrow ? 0xffff_ffffn : 2n ** 64n - 1n;
        const half = narrow ? 2n ** 31n : 2n ** 63n;
        const period = rawPeriod & (mask >> 1n) || 1n;
        put64(COUNTER, start);
        put(T(0), PERIODIC | (narrow ? BITS32 : 0));
        const t = state.timers[0];
        t.comparatorLow = Number(cmp & 0xffff_ffffn);
        t.comparatorHigh = narrow ? 0 : Number(cmp >> 32n);
        t.periodLow = Number(period & 0xffff_ffffn);
        t.periodHigh = Number(period >> 32n);
        put(CONFIG, ENABLE);
        hpet.onTimer(0);
        const behind = (start - cmp) & mask;
        const after = comparator(0);
        if (behind >= half) {
          expect(after).toBe(cmp & mask); // it lay ahead
        } else {
          expect((after - cmp) & mask).toBe(((behind / period + 1n) * period) & mask);
        }
      }),
    );
  });
});

describe('HPET interrupts', () => {
  it('level: the line stays high until the status bit is written', () => {
    put(T(0), T_ENABLE | LEVEL | ROUTE2);
    put(CONFIG, ENABLE);
    put64(CMP(0), 10n);
    clock.advance(100);
    expect(lines[2].level).toBe(true);
    expect(get(STATUS)).toBe(1);
    put(STATUS, 6);
    expect(lines[2].level).toBe(true);
    put(STATUS, 1);
    expect(lines[2].level).toBe(false);
    expect(get(STATUS)).toBe(0);
  });

  it('edge: a pulse, and no status', () => {
    put(T(0), T_ENABLE | ROUTE2);
    put(CONFIG, ENABLE);
    put64(CMP(0), 10n);
    clock.advance(100);
    expect(lines[2].level).toBe(false);
    expect(lines[2].rises).toBe(1);
    expect(get(STATUS)).toBe(0);
  });

  it('two level timers of one line: it stays high until both are served', () => {
    for (const n of [0, 1]) put(T(n), T_ENABLE | LEVEL | ROUTE2);
    put(CONFIG, ENABLE);
    for (const n of [0, 1]) put64(CMP(n), 10n);
    clock.advance(100);
    put(STATUS, 1);
    expect(lines[2].level).toBe(true);
    put(STATUS, 2);
    expect(lines[2].level).toBe(false);
  });

  it('disabling a timer lowers what it holds', () => {
    put(T(0), T_ENABLE | LEVEL | ROUTE2);
    put(CONFIG, ENABLE);
    put64(CMP(0), 10n);
    clock.advance(100);
    put(T(0), LEVEL | ROUTE2);
    expect(lines[2].level).toBe(false);
  });

  it('a route to a line that does not exist is harmless', () => {
    put(T(0), T_ENABLE | LEVEL | (31 << 9));
    put(CONFIG, ENABLE);
    put64(CMP(0), 10n);
    clock.advance(100);
    put(STATUS, 1);
  });

  it('message interrupts, where offered', () => {
    const sent: number[][] = [];
    build({ msi: (address, data) => sent.push([address, data]) });
    expect(get(T(2)) & 0x8000).toBe(0x8000);
    put(T(2), T_ENABLE | (1 << 14));
    put(T(2) + 0x10, 0x51);
    put(T(2) + 0x14, 0xfee0_1000);
    put(CONFIG, ENABLE);
    put64(CMP(2), 10n);
    clock.advance(100);
    expect(sent).toEqual([[0xfee0_1000, 0x51]]);
  });

  it('are not offered by default', () => {
    put(T(2), 1 << 14);
    expect(get(T(2)) & 0xc000).toBe(0);
  });
});

describe('HPET legacy replacement', () => {
  it('timer 0 is IRQ 0 and timer 1 IRQ 8, whatever their routes', () => {
    put(CONFIG, ENABLE | LEGACY);
    for (const n of [0, 1, 2]) {
      put(T(n), T_ENABLE | ROUTE2);
      put64(CMP(n), 1000n);
    }
    clock.advance(10_000);
    expect([0, 2, 8].map((l) => lines[l].rises)).toEqual([1, 1, 1]);
  });

  it('the PIT is silent meanwhile and goes on afterwards', () => {
    clock.advance(1e9);
    expect(pitLine.rises).toBeGreaterThan(10);
    put(CONFIG, LEGACY);
    expect(pitLine.level).toBe(false);
    const { rises } = pitLine;
    clock.advance(1e9);
    expect(pitLine.rises).toBe(rises);
    put(CONFIG, 0);
    clock.advance(1e9);
    expect(pitLine.rises).toBeGreaterThan(rises + 10);
  });

  it('the RTC’s line is held low meanwhile and restored afterwards', () => {
    hpet.rtcIrq.set(true);
    expect(lines[8].level).toBe(true);
    put(CONFIG, LEGACY);
    expect(lines[8].level).toBe(false);
    hpet.rtcIrq.set(false);
    hpet.rtcIrq.set(true);
    expect(lines[8].level).toBe(false);
    put(CONFIG, 0);
    expect(lines[8].level).toBe(true);
    hpet.rtcIrq.set(false);
    expect(lines[8].level).toBe(false);
  });

  it('entering it lets go of a level interrupt on the old route', () => {
    put(T(0), T_ENABLE | LEVEL | ROUTE2);
    put(CONFIG, ENABLE);
    put64(CMP(0), 10n);
    clock.advance(100);
    put(CONFIG, ENABLE | LEGACY);
    expect(lines[2].level).toBe(false);
    expect(get(STATUS)).toBe(0);
  });

  it('reset ends it', () => {
    put(CONFIG, ENABLE | LEGACY);
    hpet.reset();
    clock.advance(1e9);
    expect(pitLine.rises).toBeGreaterThan(10);
  });
});
