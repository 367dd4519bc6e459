import { beforeEach, describe, expect, it } from 'vitest';
import { INTERRUPT } from '../../src/cpu/env.ts';
import { Ioapic, IoapicState } from '../../src/hw/intc/ioapic.ts';
import { ApicFixture, R } from './apic-fixture.ts';
import { type FakeTimer, dirtyState } from './fakes.ts';

const LEVEL = 0x8000;
const MASKED = 0x10000;
const REMOTE_IRR = 0x4000;

let f: ApicFixture;
let timer: FakeTimer;
let io: Ioapic;
let picVector = 0x30;

beforeEach(() => {
  f = new ApicFixture(2);
  timer = f.clock.timer(() => io.onTimer());
  io = new Ioapic(dirtyState(IoapicState), {
    bus: f.bus,
    pic: { acknowledge: () => picVector },
    clock: f.clock,
    timer,
  });
  io.reset();
  f.onEoi = (vector) => io.eoi(vector);
});

function get(register: number): number {
  io.write(0, 4, register);
  return io.read(0x10, 4);
}
function put(register: number, value: number): void {
  io.write(0, 4, register);
  io.write(0x10, 4, value);
}
const entry = (pin: number): number => get(0x10 + pin * 2);
function route(pin: number, low: number, destination = 0): void {
  put(0x11 + pin * 2, (destination << 24) >>> 0);
  put(0x10 + pin * 2, low);
}
const pulse = (pin: number): void => {
  io.setIrq(pin, true);
  io.setIrq(pin, false);
};
/** Serves LAPIC `n`: vectors acknowledged and ended until none is left, at most `limit`. */
function serve(n = 0, limit = 10): number[] {
  const taken = [];
  for (let v = f.lapics[n].acknowledge(); v >= 0; v = f.lapics[n].acknowledge()) {
    taken.push(v);
    f.lapics[n].eoi();
    if (taken.length === limit) break;
  }
  return taken;
}

describe('IOAPIC registers', () => {
  it('version 20h with 24 pins, all masked after reset', () => {
    expect(get(1)).toBe(0x170020);
    for (let pin = 0; pin < 24; pin++) {
      expect(entry(pin)).toBe(MASKED);
      expect(get(0x11 + pin * 2)).toBe(0);
    }
  });

  it('the id has four bits and shows in the arbitration register too', () => {
    put(0, 0xff00_0000);
    expect(get(0)).toBe(0x0f00_0000);
    expect(get(2)).toBe(0x0f00_0000);
  });

  it('the select register reads back; the window takes dwords only', () => {
    io.write(0, 1, 0x12);
    expect(io.read(0, 4)).toBe(0x12);
    io.write(0x10, 1, 0);
    expect(entry(1)).toBe(MASKED);
  });

  it('registers beyond the table read 0', () => {
    expect(get(0x40)).toBe(0);
    expect(get(0xff)).toBe(0);
    put(0xff, 0xffff_ffff);
  });

  it('delivery status and remote IRR cannot be written', () => {
    route(3, MASKED | LEVEL | 0x5000 | 0x33);
    expect(entry(3)).toBe(MASKED | LEVEL | 0x33);
    put(0x17, 0xffff_ffff);
    expect(get(0x17)).toBe(0xff00_0000);
  });
});

describe('IOAPIC edge pins', () => {
  it('a rising edge sends the vector to its destination, once', () => {
    route(4, 0x34, 1);
    io.setIrq(4, true);
    io.setIrq(4, true);
    expect(f.receivers(0x34)).toEqual([1]);
    expect(serve(1)).toEqual([0x34]);
    io.setIrq(4, false);
    io.setIrq(4, true);
    expect(serve(1)).toEqual([0x34]);
    expect(f.eois).toEqual([]);
  });

  it('an edge on a masked pin is lost', () => {
    route(4, MASKED | 0x34);
    io.setIrq(4, true);
    route(4, 0x34);
    expect(serve()).toEqual([]);
  });

  it('logical destinations reach several', () => {
    f.lapics[0].write(R.LDR, 4, 0x0100_0000);
    f.lapics[1].write(R.LDR, 4, 0x0200_0000);
    route(4, 0x800 | 0x34, 3);
    pulse(4);
    expect(f.receivers(0x34)).toEqual([0, 1]);
  });

  it('a pin in ExtINT mode takes its vector from the 8259', () => {
    route(0, 0x700);
    picVector = 0x38;
    pulse(0);
    expect(serve()).toEqual([0x38]);
  });

  it('a pin in NMI mode', () => {
    route(4, 0x400);
    pulse(4);
    expect(f.signals[0].bits).toBe(INTERRUPT.NMI);
  });
});

describe('IOAPIC level pins', () => {
  it('sends once and sets remote IRR until the EOI', () => {
    route(9, LEVEL | 0x39);
    io.setIrq(9, true);
    expect(entry(9)).toBe(LEVEL | REMOTE_IRR | 0x39);
    expect(f.lapics[0].acknowledge()).toBe(0x39);
    io.setIrq(9, false);
    io.setIrq(9, true);
    expect(f.receivers(0x39)).toEqual([]);
    f.lapics[0].eoi();
    expect(f.receivers(0x39)).toEqual([0]);
  });

  it('a line that is low at the EOI ends it', () => {
    route(9, LEVEL | 0x39);
    io.setIrq(9, true);
    f.lapics[0].acknowledge();
    io.setIrq(9, false);
    f.lapics[0].eoi();
    expect(entry(9)).toBe(LEVEL | 0x39);
    expect(serve()).toEqual([]);
  });

  it('a masked pin follows its line: unmasking while high sends, after the fall not', () => {
    route(9, MASKED | LEVEL | 0x39);
    io.setIrq(9, true);
    route(9, LEVEL | 0x39);
    expect(f.receivers(0x39)).toEqual([0]);
    io.setIrq(9, false);
    expect(serve()).toEqual([0x39]);
    route(9, MASKED | LEVEL | 0x39);
    io.setIrq(9, true);
    io.setIrq(9, false);
    route(9, LEVEL | 0x39);
    expect(serve()).toEqual([]);
  });

  it('masked between request and EOI: the EOI clears remote IRR and sends nothing, unmasking does', () => {
    route(9, LEVEL | 0x39);
    io.setIrq(9, true);
    f.lapics[0].acknowledge();
    route(9, MASKED | LEVEL | 0x39);
    expect(entry(9)).toBe(MASKED | LEVEL | REMOTE_IRR | 0x39);
    f.lapics[0].eoi();
    expect(entry(9)).toBe(MASKED | LEVEL | 0x39);
    expect(f.receivers(0x39)).toEqual([]);
    route(9, LEVEL | 0x39);
    expect(f.receivers(0x39)).toEqual([0]);
  });

  it('an EOI of another vector is none', () => {
    route(9, LEVEL | 0x39);
    io.setIrq(9, true);
    io.eoi(0x3a);
    expect(entry(9) & REMOTE_IRR).toBe(REMOTE_IRR);
  });

  it('the EOI register ends by vector', () => {
    route(9, LEVEL | 0x39);
    io.setIrq(9, true);
    io.setIrq(9, false);
    io.write(0x40, 4, 0x39);
    expect(entry(9) & REMOTE_IRR).toBe(0);
  });

  it('two pins of one vector: the EOI ends both and serves the one still high', () => {
    route(9, LEVEL | 0x39);
    route(10, LEVEL | 0x39);
    io.setIrq(9, true);
    io.setIrq(10, true);
    f.lapics[0].acknowledge();
    io.setIrq(9, false);
    f.lapics[0].eoi();
    expect(entry(9) & REMOTE_IRR).toBe(0);
    expect(entry(10) & REMOTE_IRR).toBe(REMOTE_IRR);
  });

  it('programming edge mode clears remote IRR, and back in level mode a high line asks again', () => {
    route(9, LEVEL | 0x39);
    io.setIrq(9, true);
    f.lapics[0].acknowledge();
    put(0x10 + 18, MASKED | 0x39);
    expect(entry(9) & REMOTE_IRR).toBe(0);
    put(0x10 + 18, 0x39); // no edge came: nothing is sent
    expect(f.receivers(0x39)).toEqual([]);
    put(0x10 + 18, LEVEL | 0x39);
    expect(f.receivers(0x39)).toEqual([0]);
  });
});

describe('IOAPIC interrupt storm', () => {
  it('10 000 EOIs with the line high: the next request waits 10 ms', () => {
    route(9, LEVEL | 0x39);
    io.setIrq(9, true);
    expect(serve(0, 10_000).length).toBe(10_000);
    expect(serve()).toEqual([]);
    expect(timer.remaining).toBe(10_000_000);
    f.clock.advance(10_000_000);
    expect(serve(0, 3)).toEqual([0x39, 0x39, 0x39]);
  });

  it('one EOI that finds the line low starts the count anew', () => {
    route(9, LEVEL | 0x39);
    io.setIrq(9, true);
    expect(serve(0, 9_999).length).toBe(9_999);
    f.lapics[0].acknowledge();
    io.setIrq(9, false);
    f.lapics[0].eoi();
    io.setIrq(9, true);
    expect(serve(0, 5_000).length).toBe(5_000);
    expect(timer.pending).toBe(false);
  });

  it('a line that fell meanwhile is not sent by the delayed service', () => {
    route(9, LEVEL | 0x39);
    io.setIrq(9, true);
    serve(0, 10_000);
    io.setIrq(9, false);
    f.clock.advance(10_000_000);
    expect(serve()).toEqual([]);
  });
});
