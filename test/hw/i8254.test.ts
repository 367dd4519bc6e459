import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { I8254, PIT_FREQUENCY, PitState, pitNs, pitTicks } from '../../src/hw/timer/i8254.ts';
import { PcSpeaker, PcSpeakerState } from '../../src/hw/timer/pcspk.ts';
import { FakeClock, FakeIrq, type FakeTimer, dirtyState } from './fakes.ts';

let clock: FakeClock;
let timer: FakeTimer;
let irq: FakeIrq;
let pit: I8254;

beforeEach(() => {
  clock = new FakeClock();
  clock.time = 5_000_000_000;
  irq = new FakeIrq();
  timer = clock.timer(() => pit.onTimer());
  pit = new I8254(dirtyState(PitState), { clock, timer, irq });
  pit.reset();
});

const control = (value: number): void => pit.write(3, 1, value);
const word = (counter: number, mode: number): number => (counter << 6) | (3 << 4) | (mode << 1);
function program(counter: number, mode: number, count: number): void {
  control(word(counter, mode));
  pit.write(counter, 1, count & 0xff);
  pit.write(counter, 1, count >>> 8);
}
function readCount(counter: number): number {
  const low = pit.read(counter, 1);
  return low | (pit.read(counter, 1) << 8);
}
/** Moves the clock to `ticks` input ticks after `start`. */
const toTick = (start: number, ticks: number): void => clock.runTo(start + pitNs(ticks));

describe('8254 time base', () => {
  it('converts ticks to the first nanosecond that has them, and back', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 42 }), (ticks) => {
        expect(pitTicks(pitNs(ticks))).toBe(ticks);
        if (ticks > 0) expect(pitTicks(pitNs(ticks) - 1)).toBe(ticks - 1);
      }),
    );
  });

  it('counts exactly 1 193 182 ticks a second', () => {
    expect(pitTicks(3_600e9)).toBe(3600 * PIT_FREQUENCY);
    expect(pitNs(86_400 * PIT_FREQUENCY)).toBe(86_400e9);
  });
});

describe('8254 counters', () => {
  it('a count of 0 means 65536', () => {
    program(1, 2, 0);
    const start = clock.now();
    expect(readCount(1)).toBe(0);
    toTick(start, 1);
    expect(readCount(1)).toBe(0xffff);
  });

  it('a read without a latch gives low and high byte in turn', () => {
    program(1, 2, 0x1234);
    expect(pit.read(1, 1)).toBe(0x34);
    expect(pit.read(1, 1)).toBe(0x12);
    expect(pit.read(1, 1)).toBe(0x34);
  });

  it('access mode 1 reads and writes the low byte alone, access mode 2 the high byte', () => {
    control((1 << 6) | (1 << 4) | (2 << 1));
    pit.write(1, 1, 0x80);
    expect(pit.read(1, 1)).toBe(0x80);
    expect(pit.read(1, 1)).toBe(0x80);
    control((1 << 6) | (2 << 4) | (2 << 1));
    pit.write(1, 1, 0x12);
    expect(pit.read(1, 1)).toBe(0x12);
    toTick(clock.now(), 1);
    expect(pit.read(1, 1)).toBe(0x11);
  });

  it('a BCD counter counts in decimal', () => {
    control(word(1, 2) | 1);
    pit.write(1, 1, 0x00);
    pit.write(1, 1, 0x10);
    toTick(clock.now(), 1);
    expect(readCount(1)).toBe(0x0999);
  });

  it('the latch command freezes a count until it is read, and a second latch does not replace it', () => {
    program(1, 2, 1000);
    const start = clock.now();
    toTick(start, 100);
    control(1 << 6);
    toTick(start, 200);
    control(1 << 6);
    toTick(start, 300);
    expect(readCount(1)).toBe(900);
    expect(readCount(1)).toBe(700);
  });

  it('a latch between low and high byte of another counter leaves that one alone', () => {
    program(0, 2, 0x4321);
    program(1, 2, 0x1234);
    expect(pit.read(0, 1)).toBe(0x21);
    control(1 << 6);
    expect(pit.read(0, 1)).toBe(0x43);
  });

  it('read-back latches count and status of the selected counters, status first', () => {
    program(1, 2, 0x0100);
    program(2, 3, 0x0200);
    control(0xc0 | (1 << 2) | (1 << 3));
    expect(pit.read(1, 1)).toBe(0x80 | (3 << 4) | (2 << 1));
    expect(readCount(1)).toBe(0x0100);
    expect(pit.read(2, 1)).toBe(0x80 | (3 << 4) | (3 << 1));
    expect(readCount(2)).toBe(0x0200);
  });

  it('read-back of the status alone does not latch the count', () => {
    program(1, 2, 1000);
    const start = clock.now();
    control(0xe0 | (1 << 2));
    pit.read(1, 1);
    toTick(start, 10);
    expect(readCount(1)).toBe(990);
  });

  it('the null count flag is set from the control word to the load', () => {
    control(word(1, 2));
    control(0xe0 | (1 << 2));
    expect(pit.read(1, 1) & 0x40).toBe(0x40);
    pit.write(1, 1, 0x10);
    pit.write(1, 1, 0x00);
    control(0xe0 | (1 << 2));
    expect(pit.read(1, 1) & 0x40).toBe(0);
  });

  it('mode bits X10 and X11 are modes 2 and 3', () => {
    control(word(1, 6));
    control(0xe0 | (1 << 2));
    expect((pit.read(1, 1) >>> 1) & 7).toBe(2);
    control(word(1, 7));
    control(0xe0 | (1 << 2));
    expect((pit.read(1, 1) >>> 1) & 7).toBe(3);
  });

  it('the control port reads 0', () => {
    expect(pit.read(3, 1)).toBe(0);
  });
});

describe('8254 modes', () => {
  it('mode 0: IRQ 0 is low while counting, rises at terminal count and stays; no timer is left', () => {
    program(0, 0, 1000);
    const start = clock.now();
    expect(irq.level).toBe(false);
    const { rises } = irq;
    toTick(start, 1000);
    expect(irq.rises).toBe(rises + 1);
    expect(clock.now()).toBe(start + pitNs(1000));
    expect(timer.pending).toBe(false);
    clock.advance(1e9);
    expect(irq.rises).toBe(rises + 1);
  });

  it('mode 0: the count goes on below zero', () => {
    program(1, 0, 10);
    toTick(clock.now(), 12);
    expect(readCount(1)).toBe(0xfffe);
  });

  it('mode 0: the first byte of a new count stops the count and lowers the output', () => {
    program(0, 0, 10);
    toTick(clock.now(), 10);
    expect(irq.level).toBe(true);
    pit.write(0, 1, 100);
    expect(irq.level).toBe(false);
    clock.advance(1e6);
    expect(irq.level).toBe(false);
    pit.write(0, 1, 0);
    toTick(clock.now(), 100);
    expect(irq.level).toBe(true);
  });

  it('mode 1: a trigger at the gate starts a low pulse of the count, a second one prolongs it', () => {
    program(2, 1, 100);
    expect(pit.out(2)).toBe(true);
    pit.setGate(2, true);
    const start = clock.now();
    expect(pit.out(2)).toBe(false);
    toTick(start, 50);
    pit.setGate(2, false);
    pit.setGate(2, true);
    toTick(start, 149);
    expect(pit.out(2)).toBe(false);
    toTick(start, 151);
    expect(pit.out(2)).toBe(true);
  });

  it('mode 2: one rising edge every count ticks, after a low pulse of one tick', () => {
    program(0, 2, 1193);
    const start = clock.now();
    const { rises } = irq;
    toTick(start, 1192);
    expect(irq.level).toBe(false);
    toTick(start, 1193);
    expect(irq.level).toBe(true);
    toTick(start, 1193 * 1000);
    expect(irq.rises).toBe(rises + 1000);
  });

  it('mode 2: the counter runs from the count to 1', () => {
    program(1, 2, 5);
    const start = clock.now();
    const seen = [];
    for (let i = 0; i < 7; i++) {
      toTick(start, i);
      seen.push(readCount(1));
    }
    expect(seen).toEqual([5, 4, 3, 2, 1, 5, 4]);
  });

  it('mode 3: a square wave, high for half the count', () => {
    program(0, 3, 1000);
    const start = clock.now();
    toTick(start, 499);
    expect(irq.level).toBe(true);
    toTick(start, 500);
    expect(irq.level).toBe(false);
    toTick(start, 1000);
    expect(irq.level).toBe(true);
    const { rises } = irq;
    toTick(start, 101_000);
    expect(irq.rises).toBe(rises + 100);
  });

  it('mode 3: an odd count is high for one tick more', () => {
    program(1, 3, 5);
    const start = clock.now();
    const seen = [];
    for (let i = 0; i < 6; i++) {
      toTick(start, i);
      seen.push([readCount(1), pit.out(1)]);
    }
    expect(seen).toEqual([
      [4, true],
      [2, true],
      [0, true],
      [4, false],
      [2, false],
      [4, true],
    ]);
  });

  it('mode 3: the count goes down by two', () => {
    program(1, 3, 8);
    const start = clock.now();
    const seen = [];
    for (let i = 0; i < 6; i++) {
      toTick(start, i);
      seen.push(readCount(1));
    }
    expect(seen).toEqual([8, 6, 4, 2, 8, 6]);
  });

  it('mode 4: one low tick at terminal count, once', () => {
    program(0, 4, 100);
    const start = clock.now();
    const { falls } = irq;
    toTick(start, 99);
    expect(irq.falls).toBe(falls);
    toTick(start, 100);
    expect(irq.level).toBe(false);
    toTick(start, 101);
    expect(irq.level).toBe(true);
    expect(timer.pending).toBe(false);
  });

  it('a gate that is low stops modes 0 and 4 where they are', () => {
    pit.setGate(2, true);
    program(2, 0, 1000);
    const start = clock.now();
    toTick(start, 100);
    pit.setGate(2, false);
    toTick(start, 600);
    expect(readCount(2)).toBe(900);
    pit.setGate(2, true);
    clock.runTo(start + pitNs(600) + pitNs(900));
    expect(pit.out(2)).toBe(true);
  });

  it('a gate that is low forces the output of modes 2 and 3 high; its rise starts them afresh', () => {
    pit.setGate(2, true);
    program(2, 3, 1000);
    const start = clock.now();
    toTick(start, 700);
    expect(pit.out(2)).toBe(false);
    pit.setGate(2, false);
    expect(pit.out(2)).toBe(true);
    pit.setGate(2, true);
    expect(readCount(2)).toBe(1000);
  });
});

describe('8254 and IRQ 0', () => {
  it('a late callback counts from the scheduled time: no period is lost, the phase stays', () => {
    program(0, 2, 1193);
    const start = clock.now();
    const { rises } = irq;
    clock.jump(pitNs(1193 * 20) + 5);
    expect(irq.rises).toBe(rises + 20);
    expect(timer.expireTime).toBe(start + pitNs(1193 * 21 - 1));
  });

  it('a backlog of more than a thousand periods is dropped', () => {
    program(0, 3, 2);
    const fired = timer.fired;
    clock.jump(1e9);
    expect(timer.fired - fired).toBeLessThan(5);
    expect(timer.remaining).toBeGreaterThan(0);
  });

  it('a count of 1, illegal in modes 2 and 3, arms no timer', () => {
    program(0, 2, 1);
    expect(timer.pending).toBe(false);
    program(0, 3, 1);
    expect(timer.pending).toBe(false);
  });

  it('legacy replacement takes the line away and the timer with it; its end computes both again', () => {
    program(0, 2, 1193);
    const start = clock.now();
    pit.setIrqEnabled(false);
    expect(irq.level).toBe(false);
    expect(timer.pending).toBe(false);
    program(0, 2, 1193); // programming meanwhile does not bring it back
    expect(timer.pending).toBe(false);
    toTick(start, 100);
    pit.setIrqEnabled(true);
    expect(irq.level).toBe(true);
    expect(timer.pending).toBe(true);
  });

  it('reset leaves counter 0 at 18.2 Hz', () => {
    const { rises } = irq;
    clock.advance(10e9);
    expect(irq.rises - rises).toBe(182);
  });
});

describe('port 61h', () => {
  let speaker: PcSpeaker;
  beforeEach(() => {
    speaker = new PcSpeaker(dirtyState(PcSpeakerState), { clock, pit });
    speaker.reset();
  });

  it('bit 0 is the gate of counter 2, bit 5 its output', () => {
    expect(speaker.read(0, 1) & 1).toBe(0);
    speaker.write(0, 1, 1);
    expect(pit.gate(2)).toBe(true);
    program(2, 0, 1000);
    const start = clock.now();
    expect(speaker.read(0, 1) & 0x21).toBe(0x01);
    toTick(start, 1000);
    expect(speaker.read(0, 1) & 0x21).toBe(0x21);
  });

  it('keeps the speaker switch', () => {
    speaker.write(0, 1, 0xff);
    expect(speaker.read(0, 1) & 0x0f).toBe(0x0f);
    speaker.write(0, 1, 0);
    expect(speaker.read(0, 1) & 0x0f).toBe(0);
  });

  it('bit 4 toggles every 15 µs', () => {
    let changes = 0;
    let last = speaker.read(0, 1) & 0x10;
    for (let i = 0; i < 1000; i++) {
      clock.advance(1000);
      const now = speaker.read(0, 1) & 0x10;
      if (now !== last) changes++;
      last = now;
    }
    expect(changes).toBe(66);
  });
});
