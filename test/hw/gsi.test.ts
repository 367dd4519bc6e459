import { beforeEach, describe, expect, it } from 'vitest';
import { GsiError, GsiState, Gsis } from '../../src/hw/intc/gsi.ts';
import { I8259, PicState } from '../../src/hw/intc/i8259.ts';
import { Ioapic, IoapicState } from '../../src/hw/intc/ioapic.ts';
import { ApicFixture, EXTINT, R } from './apic-fixture.ts';
import { dirtyState } from './fakes.ts';

let f: ApicFixture;
let pic: I8259;
let io: Ioapic;
let gsis: Gsis;

beforeEach(() => {
  f = new ApicFixture(1);
  pic = new I8259(dirtyState(PicState), { intr: f.bus.picLine });
  const timer = f.clock.timer(() => io.onTimer());
  io = new Ioapic(dirtyState(IoapicState), { bus: f.bus, pic, clock: f.clock, timer });
  gsis = new Gsis(dirtyState(GsiState), { pic, ioapic: io });
  gsis.reset();
  pic.reset();
  io.reset();
  for (const [port, value] of [
    [0, 0x11],
    [1, 0x20],
    [1, 4],
    [1, 1],
  ]) {
    pic.master.write(port, 1, value);
  }
});

function route(pin: number, low: number): void {
  io.write(0, 4, 0x10 + pin * 2);
  io.write(0x10, 4, low);
}

describe('GSI routing', () => {
  it('an ISA IRQ reaches the 8259 and the I/O APIC pin of its number', () => {
    route(4, 0x34);
    gsis.line(4).set(true);
    expect(f.receivers(0x34)).toEqual([0]);
    expect(pic.acknowledge()).toBe(0x24);
  });

  it('IRQ 0 is on pin 2', () => {
    route(0, 0x30);
    route(2, 0x32);
    gsis.line(0).set(true);
    expect(f.receivers(0x30)).toEqual([]);
    expect(f.receivers(0x32)).toEqual([0]);
    expect(pic.acknowledge()).toBe(0x20);
  });

  it('GSI 2 is pin 2 too, and no input of the 8259', () => {
    route(2, 0x32);
    gsis.line(2).set(true);
    expect(f.receivers(0x32)).toEqual([0]);
    expect(pic.pending).toBe(false);
  });

  it('pin 2 stays high while either GSI 0 or 2 is', () => {
    route(2, 0x8032);
    gsis.line(0).set(true);
    gsis.line(2).set(true);
    gsis.line(0).set(false);
    f.lapics[0].acknowledge();
    f.onEoi = (v) => io.eoi(v);
    f.lapics[0].eoi();
    expect(f.receivers(0x32)).toEqual([0]);
  });

  it('GSI 16 to 23 are I/O APIC pins alone', () => {
    route(16, 0x8040);
    gsis.line(16).set(true);
    expect(f.receivers(0x40)).toEqual([0]);
    expect(pic.pending).toBe(false);
  });

  it('a shared line is high while any source drives it', () => {
    const a = gsis.line(11, 1);
    const b = gsis.line(11, 2);
    a.set(true);
    b.set(true);
    a.set(false);
    expect(gsis.level(11)).toBe(true);
    a.set(false);
    b.set(false);
    expect(gsis.level(11)).toBe(false);
  });

  it('two line objects of one source are the same source', () => {
    gsis.line(11, 1).set(true);
    gsis.line(11, 1).set(false);
    expect(gsis.level(11)).toBe(false);
  });

  it('refuses lines and sources that do not exist', () => {
    expect(() => gsis.line(24)).toThrow(GsiError);
    expect(() => gsis.line(0, 32)).toThrow(GsiError);
  });
});

describe('the virtual wire', () => {
  it('an ISA IRQ comes through 8259 and LINT0', () => {
    f.lapics[0].write(R.LVT_LINT0, 4, EXTINT);
    gsis.line(1).set(true);
    f.picVector = 0x21;
    expect(f.lapics[0].hasPending()).toBe(true);
    gsis.line(1).set(false);
    pic.master.write(1, 1, 0xff); // masked again
    expect(f.lapics[0].hasPending()).toBe(false);
    expect(f.lapics[0].acknowledge()).toBe(-1);
  });
});
