import { describe, expect, it } from 'vitest';
import { INTERRUPT } from '../../src/cpu/env.ts';
import { ApicFixture, R } from './apic-fixture.ts';

const LOGICAL = 1 << 11;
const LOWEST = 1 << 8;
const ASSERT = 1 << 14;
const LEVEL = 1 << 15;
const SELF = 1 << 18;
const ALL = 2 << 18;
const OTHERS = 3 << 18;

function ipi(f: ApicFixture, from: number, low: number, destination = 0): void {
  f.lapics[from].write(R.ICR_HIGH, 4, (destination << 24) >>> 0);
  f.lapics[from].write(R.ICR_LOW, 4, low);
}
const flat = (f: ApicFixture): void => f.lapics.forEach((l, n) => l.write(R.LDR, 4, (1 << (24 + n)) >>> 0));

describe('IPI destinations in xAPIC mode', () => {
  it('physical: the one with that id', () => {
    const f = new ApicFixture(4);
    ipi(f, 0, 0x41, 2);
    expect(f.receivers(0x41)).toEqual([2]);
  });

  it('physical follows a rewritten id', () => {
    const f = new ApicFixture(2);
    f.lapics[1].write(R.ID, 4, 0x0900_0000);
    ipi(f, 0, 0x41, 9);
    ipi(f, 0, 0x42, 1);
    expect(f.receivers(0x41)).toEqual([1]);
    expect(f.receivers(0x42)).toEqual([]);
  });

  it('FFh is everybody, the sender included, in both destination modes', () => {
    const f = new ApicFixture(3);
    ipi(f, 1, 0x41, 0xff);
    ipi(f, 1, LOGICAL | 0x42, 0xff);
    expect(f.receivers(0x41)).toEqual([0, 1, 2]);
    expect(f.receivers(0x42)).toEqual([0, 1, 2]);
  });

  it('logical flat: every one that shares a bit', () => {
    const f = new ApicFixture(4);
    flat(f);
    ipi(f, 0, LOGICAL | 0x41, 0b1010);
    expect(f.receivers(0x41)).toEqual([1, 3]);
  });

  it('logical cluster: cluster number and member bits', () => {
    const f = new ApicFixture(4);
    f.lapics.forEach((l, n) => {
      l.write(R.DFR, 4, 0x0fff_ffff);
      l.write(R.LDR, 4, (((n >> 1) << 4) | (1 << (n & 1))) << 24);
    });
    ipi(f, 0, LOGICAL | 0x41, 0x13);
    expect(f.receivers(0x41)).toEqual([2, 3]);
    ipi(f, 0, LOGICAL | 0x42, 0x02);
    expect(f.receivers(0x42)).toEqual([1]);
  });

  it('shorthands: self, all, all but self', () => {
    const f = new ApicFixture(3);
    ipi(f, 1, SELF | 0x41);
    ipi(f, 1, ALL | 0x42);
    ipi(f, 1, OTHERS | 0x43);
    expect(f.receivers(0x41)).toEqual([1]);
    expect(f.receivers(0x42)).toEqual([0, 1, 2]);
    expect(f.receivers(0x43)).toEqual([0, 2]);
  });

  it('the delivery status always reads idle, the rest of the ICR as written', () => {
    const f = new ApicFixture(2);
    ipi(f, 0, ASSERT | 0x1000 | 0x41, 1);
    expect(f.lapics[0].read(R.ICR_LOW, 4)).toBe(ASSERT | 0x41);
    expect(f.lapics[0].read(R.ICR_HIGH, 4)).toBe(0x0100_0000);
  });
});

describe('IPI destinations in x2APIC mode', () => {
  function x2(count: number): ApicFixture {
    const f = new ApicFixture(count);
    for (const l of f.lapics) l.writeMsr(0x1b, 0xfee0_0c00, 0);
    return f;
  }

  it('physical takes 32 bits; FFh is an id, FFFF_FFFFh everybody', () => {
    const f = x2(3);
    f.lapics[0].writeMsr(0x830, 0x41, 2);
    f.lapics[0].writeMsr(0x830, 0x42, 0xff);
    f.lapics[0].writeMsr(0x830, 0x43, 0xffff_ffff);
    expect(f.receivers2(0x41)).toEqual([2]);
    expect(f.receivers2(0x42)).toEqual([]);
    expect(f.receivers2(0x43)).toEqual([0, 1, 2]);
  });

  it('logical: cluster in the high half, members in the low half', () => {
    const f = x2(20);
    f.lapics[0].writeMsr(0x830, LOGICAL | 0x41, 0x0001_0005);
    expect(f.receivers2(0x41)).toEqual([16, 18]);
    f.lapics[0].writeMsr(0x830, LOGICAL | 0x42, 0x0000_8001);
    expect(f.receivers2(0x42)).toEqual([0, 15]);
  });

  it('a device’s FFh still reaches everybody', () => {
    const f = x2(3);
    f.bus.msi(0xfeef_f000, 0x44);
    expect(f.receivers2(0x44)).toEqual([0, 1, 2]);
  });
});

describe('IPI delivery modes', () => {
  it('lowest priority: one receiver, the one with the lowest processor priority', () => {
    const f = new ApicFixture(4);
    flat(f);
    f.lapics[0].setCr8(5);
    f.lapics[1].setCr8(2);
    f.lapics[2].setCr8(1);
    f.lapics[3].setCr8(3);
    ipi(f, 0, LOGICAL | LOWEST | 0x91, 0b1011);
    expect(f.receivers(0x91)).toEqual([1]);
  });

  it('lowest priority: what is in service counts', () => {
    const f = new ApicFixture(2);
    flat(f);
    f.send(0x80, 0);
    f.lapics[0].acknowledge();
    ipi(f, 0, LOGICAL | LOWEST | 0x91, 3);
    expect(f.receivers(0x91)).toEqual([1]);
  });

  it('lowest priority passes over one that is disabled in SVR', () => {
    const f = new ApicFixture(2);
    flat(f);
    f.lapics[0].write(R.SVR, 4, 0xff);
    f.lapics[1].setCr8(3);
    ipi(f, 0, LOGICAL | LOWEST | 0x91, 3);
    expect(f.receivers(0x91)).toEqual([1]);
  });

  it('NMI and SMI go to the vCPU and set no vector', () => {
    const f = new ApicFixture(3);
    ipi(f, 0, OTHERS | 0x400);
    ipi(f, 0, 0x200, 1);
    expect(f.signals.map((s) => s.bits)).toEqual([0, INTERRUPT.NMI | INTERRUPT.SMI, INTERRUPT.NMI]);
    expect(f.receivers(0)).toEqual([]);
  });

  it('the start-up sequence: INIT assert, INIT de-assert (nothing), SIPI with its page', () => {
    const f = new ApicFixture(3);
    ipi(f, 0, OTHERS | LEVEL | ASSERT | 0x500);
    ipi(f, 0, OTHERS | LEVEL | 0x500);
    ipi(f, 0, OTHERS | ASSERT | 0x600 | 0x99);
    expect(f.signals.map((s) => s.inits)).toEqual([0, 1, 1]);
    expect(f.signals.map((s) => s.sipis)).toEqual([[], [0x99], [0x99]]);
  });

  it('a fixed vector below 16 is an error of the sender and is not sent', () => {
    const f = new ApicFixture(2);
    ipi(f, 0, 0x0f, 1);
    f.lapics[0].write(R.ESR, 4, 0);
    f.lapics[1].write(R.ESR, 4, 0);
    expect(f.lapics[0].read(R.ESR, 4)).toBe(0x20);
    expect(f.lapics[1].read(R.ESR, 4)).toBe(0);
  });

  it('an IPI is edge triggered whatever its trigger bit says', () => {
    const f = new ApicFixture(2);
    ipi(f, 0, LEVEL | ASSERT | 0x41, 1);
    expect(f.vectors(R.TMR, 1)).toEqual([]);
  });

  it('one that is off in its base MSR receives nothing', () => {
    const f = new ApicFixture(3);
    f.lapics[1].writeMsr(0x1b, 0xfee0_0000, 0);
    ipi(f, 0, ALL | 0x41);
    ipi(f, 0, 0x400, 0xff);
    expect(f.states.map((s) => s.irr[2])).toEqual([2, 0, 2]);
    expect(f.signals[1].bits).toBe(0);
  });
});

describe('interrupt messages', () => {
  it('address and data give destination, mode, trigger and vector', () => {
    const f = new ApicFixture(4);
    f.bus.msi(0xfee0_3000, 0x51);
    expect(f.receivers(0x51)).toEqual([3]);
    flat(f);
    f.bus.msi(0xfee0_6004, 0x52);
    expect(f.receivers(0x52)).toEqual([1, 2]);
    f.bus.msi(0xfee0_1000, 0xc053);
    expect(f.vectors(R.TMR, 1)).toEqual([0x53]);
  });

  it('the redirection hint chooses one of a logical set', () => {
    const f = new ApicFixture(4);
    flat(f);
    f.lapics[1].setCr8(1);
    f.bus.msi(0xfee0_600c, 0x52);
    expect(f.receivers(0x52)).toEqual([2]);
  });

  it('NMI by message', () => {
    const f = new ApicFixture(2);
    f.bus.msi(0xfee0_1000, 0x400);
    expect(f.signals[1].bits).toBe(INTERRUPT.NMI);
  });

  it('tells whether anybody took it', () => {
    const f = new ApicFixture(2);
    expect(f.bus.deliver(1, false, 0, 0x41, false)).toBe(true);
    expect(f.bus.deliver(7, false, 0, 0x41, false)).toBe(false);
    expect(f.bus.deliver(7, false, 1, 0x41, false)).toBe(false);
    expect(f.bus.deliver(1, false, 3, 0x41, false)).toBe(false); // reserved mode
  });
});
