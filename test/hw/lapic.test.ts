import { describe, expect, it } from 'vitest';
import { INTERRUPT } from '../../src/cpu/env.ts';
import { lapicMsrNeedsLock } from '../../src/hw/intc/lapic-state.ts';
import { ApicFixture, EXTINT, MASKED, R, rdmsr } from './apic-fixture.ts';

const HARD = INTERRUPT.HARD;

describe('LAPIC reset', () => {
  it('leaves it enabled in the base MSR, disabled in SVR, with all entries masked', () => {
    const f = new ApicFixture(2, false);
    const [bsp, ap] = f.lapics;
    expect(rdmsr(bsp, 0x1b)).toEqual([0xfee0_0900, 0]);
    expect(rdmsr(ap, 0x1b)).toEqual([0xfee0_0800, 0]);
    expect(bsp.base).toBe(0xfee0_0000);
    expect(ap.read(R.ID, 4)).toBe(0x0100_0000);
    expect(ap.read(R.VERSION, 4)).toBe(0x50014);
    expect(ap.read(R.SVR, 4)).toBe(0xff);
    expect(ap.read(R.DFR, 4)).toBe(0xffff_ffff);
    expect(ap.read(R.LDR, 4)).toBe(0);
    for (let lvt = R.LVT_TIMER; lvt <= R.LVT_ERROR; lvt += 0x10) expect(ap.read(lvt, 4)).toBe(MASKED);
    expect(f.vectors(R.IRR, 1)).toEqual([]);
    expect(f.vectors(R.ISR, 1)).toEqual([]);
  });

  it('the BSP starts in virtual wire mode, others do not', () => {
    const f = new ApicFixture(2, false);
    expect(f.lapics[0].read(R.LVT_LINT0, 4)).toBe(EXTINT);
    f.bus.picLine.set(true);
    expect(f.lapics[0].hasPending()).toBe(true);
    expect(f.lapics[1].hasPending()).toBe(false);
  });

  it('INIT keeps id and base', () => {
    const f = new ApicFixture(2);
    const ap = f.lapics[1];
    ap.write(R.ID, 4, 0x0700_0000);
    ap.write(R.TPR, 4, 0x50);
    f.send(0x80, 7);
    ap.init();
    expect(ap.id).toBe(7);
    expect(ap.enabled).toBe(true);
    expect(ap.read(R.TPR, 4)).toBe(0);
    expect(ap.read(R.SVR, 4)).toBe(0xff);
    expect(f.vectors(R.IRR, 1)).toEqual([]);
  });
});

describe('LAPIC priority', () => {
  it('a request above the processor priority asks the vCPU', () => {
    const f = new ApicFixture();
    f.send(0x41);
    expect(f.signals[0].bits).toBe(HARD);
    expect(f.vectors(R.IRR)).toEqual([0x41]);
    expect(f.lapics[0].hasPending()).toBe(true);
  });

  it('the highest vector is acknowledged first and moves from IRR to ISR', () => {
    const f = new ApicFixture();
    for (const v of [0x31, 0xef, 0x80]) f.send(v);
    expect(f.lapics[0].acknowledge()).toBe(0xef);
    expect(f.vectors(R.IRR)).toEqual([0x31, 0x80]);
    expect(f.vectors(R.ISR)).toEqual([0xef]);
    expect(f.lapics[0].read(R.PPR, 4)).toBe(0xe0);
  });

  it('a vector of the class in service waits for the EOI', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    f.send(0x51);
    expect(l.acknowledge()).toBe(0x51);
    f.send(0x5f);
    expect(f.signals[0].bits).toBe(0);
    expect(l.hasPending()).toBe(false);
    l.write(R.EOI, 4, 0);
    expect(f.signals[0].bits).toBe(HARD);
    expect(l.acknowledge()).toBe(0x5f);
  });

  it('a higher class nests, and EOI ends the highest in service', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    f.send(0x51);
    l.acknowledge();
    f.send(0x61);
    expect(l.acknowledge()).toBe(0x61);
    l.eoi();
    expect(f.vectors(R.ISR)).toEqual([0x51]);
    l.eoi();
    expect(f.vectors(R.ISR)).toEqual([]);
    l.eoi(); // nothing in service: no effect
    expect(f.eois).toEqual([]);
  });

  it('TPR holds back its class and those below; lowering it asks the vCPU', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    l.write(R.TPR, 4, 0x53);
    expect(l.read(R.PPR, 4)).toBe(0x53);
    f.send(0x5f);
    expect(f.signals[0].bits).toBe(0);
    expect(l.acknowledge()).toBe(-1);
    l.setCr8(4);
    expect(l.read(R.TPR, 4)).toBe(0x40);
    expect(l.getCr8()).toBe(4);
    expect(f.signals[0].bits).toBe(HARD);
    expect(l.acknowledge()).toBe(0x5f);
  });

  it('PPR is the higher of TPR and the class in service', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    l.write(R.TPR, 4, 0x21);
    f.send(0x9a);
    l.acknowledge();
    expect(l.read(R.PPR, 4)).toBe(0x90);
    l.write(R.TPR, 4, 0xa5);
    expect(l.read(R.PPR, 4)).toBe(0xa5);
    l.write(R.TPR, 4, 0x95);
    expect(l.read(R.PPR, 4)).toBe(0x95);
  });

  it('the request bit is a hint: acknowledge without a deliverable vector gives -1 and clears it', () => {
    const f = new ApicFixture();
    f.signals[0].interrupt(HARD);
    expect(f.lapics[0].acknowledge()).toBe(-1);
    expect(f.signals[0].bits).toBe(0);
  });

  it('the same vector sent twice before it is taken comes once, sent again in service comes twice', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    f.send(0x51);
    f.send(0x51);
    l.acknowledge();
    f.send(0x51);
    l.eoi();
    expect(l.acknowledge()).toBe(0x51);
    l.eoi();
    expect(l.acknowledge()).toBe(-1);
  });
});

describe('LAPIC trigger modes', () => {
  it('EOI of a level vector is broadcast, of an edge vector not', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    f.send(0x51, 0, true);
    expect(f.vectors(R.TMR)).toEqual([0x51]);
    l.acknowledge();
    l.eoi();
    expect(f.eois).toEqual([0x51]);
    f.send(0x51, 0, false);
    expect(f.vectors(R.TMR)).toEqual([]);
    l.acknowledge();
    l.eoi();
    expect(f.eois).toEqual([0x51]);
  });
});

describe('LAPIC software enable', () => {
  it('while disabled fixed interrupts are not taken, NMI, INIT and SIPI are', () => {
    const f = new ApicFixture(1, false);
    expect(f.send(0x51)).toBe(false);
    f.bus.deliver(0, false, 4, 0, false);
    f.bus.deliver(0, false, 5, 0, false);
    f.bus.deliver(0, false, 6, 0x9a, false);
    expect(f.signals[0].bits).toBe(INTERRUPT.NMI);
    expect(f.signals[0].inits).toBe(1);
    expect(f.signals[0].sipis).toEqual([0x9a]);
  });

  it('disabling holds what is pending and masks all entries; enabling releases it', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    l.write(R.LVT_ERROR, 4, 0xfe);
    f.send(0x51);
    l.write(R.SVR, 4, 0xff);
    expect(l.hasPending()).toBe(false);
    expect(l.read(R.LVT_ERROR, 4)).toBe(MASKED | 0xfe);
    l.write(R.LVT_ERROR, 4, 0xfe);
    expect(l.read(R.LVT_ERROR, 4)).toBe(MASKED | 0xfe);
    f.signals[0].bits = 0;
    l.write(R.SVR, 4, 0x1ff);
    expect(f.signals[0].bits).toBe(HARD);
    expect(l.acknowledge()).toBe(0x51);
  });
});

describe('LAPIC and the 8259', () => {
  it('LINT0 in ExtINT mode: the vector is the 8259’s and does not enter service', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    l.write(R.LVT_LINT0, 4, EXTINT);
    f.bus.picLine.set(true);
    expect(f.signals[0].bits).toBe(HARD);
    f.picVector = 0x38;
    expect(l.acknowledge()).toBe(0x38);
    expect(f.vectors(R.ISR)).toEqual([]);
  });

  it('vectors of the LAPIC come before the 8259’s', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    l.write(R.LVT_LINT0, 4, EXTINT);
    f.bus.picLine.set(true);
    f.send(0x20);
    expect(l.acknowledge()).toBe(0x20);
    expect(l.acknowledge()).toBe(0x30);
  });

  it('a masked LINT0 cuts the 8259 off; unmasking finds a line that is high', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    l.write(R.LVT_LINT0, 4, EXTINT | MASKED);
    f.bus.picLine.set(true);
    expect(l.hasPending()).toBe(false);
    f.signals[0].bits = 0;
    l.write(R.LVT_LINT0, 4, EXTINT);
    expect(f.signals[0].bits).toBe(HARD);
  });

  it('with the LAPIC disabled in its base MSR, INTR goes to the BSP alone', () => {
    const f = new ApicFixture(2);
    for (const l of f.lapics) l.writeMsr(0x1b, 0xfee0_0000, 0);
    f.bus.picLine.set(true);
    expect(f.signals.map((s) => s.bits)).toEqual([HARD, 0]);
    expect(f.lapics[0].acknowledge()).toBe(0x30);
    expect(f.lapics[1].acknowledge()).toBe(-1);
  });

  it('LINT0 in fixed mode makes a rising INTR an own vector', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    l.write(R.LVT_LINT0, 4, 0x31);
    f.bus.picLine.set(true);
    f.bus.picLine.set(true);
    expect(l.acknowledge()).toBe(0x31);
    expect(f.vectors(R.ISR)).toEqual([0x31]);
    l.eoi();
    expect(l.acknowledge()).toBe(-1);
  });

  it('LINT0 in fixed level mode asks again at EOI, and takes the request back when INTR falls', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    l.write(R.LVT_LINT0, 4, 0x8031);
    f.bus.picLine.set(true);
    expect(l.acknowledge()).toBe(0x31);
    l.eoi();
    expect(f.vectors(R.IRR)).toEqual([0x31]);
    f.bus.picLine.set(false);
    expect(f.vectors(R.IRR)).toEqual([]);
  });

  it('LINT0 and LINT1 in NMI mode', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    l.write(R.LVT_LINT0, 4, 0x400);
    f.bus.picLine.set(true);
    expect(f.signals[0].bits).toBe(INTERRUPT.NMI);
    f.signals[0].bits = 0;
    l.pulseLint1();
    expect(f.signals[0].bits).toBe(0); // masked
    l.write(R.LVT_LINT1, 4, 0x400);
    l.pulseLint1();
    expect(f.signals[0].bits).toBe(INTERRUPT.NMI);
  });
});

describe('LAPIC registers in memory', () => {
  it('are dwords at 16-byte steps: other accesses read 0 and write nothing', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    expect(l.read(R.SVR, 1)).toBe(0);
    expect(l.read(R.SVR + 4, 4)).toBe(0);
    l.write(R.TPR, 1, 0x55);
    l.write(R.TPR + 4, 4, 0x55);
    expect(l.read(R.TPR, 4)).toBe(0);
  });

  it('keep only their writable bits', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    for (let r = R.LVT_TIMER; r <= R.LVT_ERROR; r += 0x10) l.write(r, 4, 0xffff_ffff);
    expect(l.read(R.LVT_TIMER, 4)).toBe(0x700ff);
    expect(l.read(R.LVT_LINT0, 4)).toBe(0x1a7ff);
    expect(l.read(R.LVT_ERROR, 4)).toBe(0x100ff);
    l.write(R.LDR, 4, 0xffff_ffff);
    expect(l.read(R.LDR, 4)).toBe(0xff00_0000);
    l.write(R.DFR, 4, 0);
    expect(l.read(R.DFR, 4)).toBe(0x0fff_ffff);
    l.write(R.VERSION, 4, 0);
    expect(l.read(R.VERSION, 4)).toBe(0x50014);
  });

  it('a reserved register reads 0 and sets ESR bit 7, which a write of ESR shows and clears', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    expect(l.read(0x40, 4)).toBe(0);
    expect(l.read(R.ESR, 4)).toBe(0);
    l.write(R.ESR, 4, 0);
    expect(l.read(R.ESR, 4)).toBe(0x80);
    l.write(R.ESR, 4, 0);
    expect(l.read(R.ESR, 4)).toBe(0);
  });

  it('a vector below 16 is an error of the receiver, signalled through the error entry', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    l.write(R.LVT_ERROR, 4, 0xfe);
    expect(f.send(0x0f)).toBe(false);
    l.write(R.ESR, 4, 0);
    expect(l.read(R.ESR, 4)).toBe(0x40);
    expect(l.acknowledge()).toBe(0xfe);
  });

  it('a bad vector in the error entry itself ends there', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    l.write(R.LVT_ERROR, 4, 3);
    l.read(0x40, 4);
    l.write(R.ESR, 4, 0);
    expect(l.read(R.ESR, 4)).toBe(0xc0);
  });

  it('a write beyond the page or at its start is an interrupt message', () => {
    const f = new ApicFixture(2);
    f.lapics[0].write(0x1000, 4, 0x41);
    expect(f.receivers(0x41)).toEqual([1]);
    f.lapics[1].write(0, 4, 0x42);
    expect(f.receivers(0x42)).toEqual([0]);
  });

  it('read as all ones in x2APIC mode and when disabled', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    l.writeMsr(0x1b, 0xfee0_0d00, 0);
    expect(l.read(R.VERSION, 4)).toBe(0xffff_ffff);
    l.write(R.TPR, 4, 0x50);
    expect(l.getCr8()).toBe(0);
    l.writeMsr(0x1b, 0xfee0_0100, 0);
    expect(l.read(R.VERSION, 4)).toBe(0xffff_ffff);
  });
});

describe('IA32_APIC_BASE', () => {
  const OFF = 0xfee0_0100;
  const X = 0xfee0_0900;
  const X2 = 0xfee0_0d00;
  const fresh = (...writes: number[]): ApicFixture => {
    const f = new ApicFixture();
    for (const w of writes) expect(f.lapics[0].writeMsr(0x1b, w, 0)).toBe(true);
    return f;
  };

  it('allows xAPIC, x2APIC, disabled in the order of the state diagram', () => {
    fresh(X2, OFF, X, OFF, X, X2, X2);
  });

  it.each([
    ['x2APIC to xAPIC', [X2], X],
    ['disabled to x2APIC', [OFF], X2],
    ['x2APIC without enable', [], 0xfee0_0500],
    ['reserved low bits', [], X | 1],
    ['reserved bit 9', [], X | 0x200],
  ])('refuses %s', (_name, before, write) => {
    const [l] = fresh(...before).lapics;
    const was = rdmsr(l, 0x1b);
    expect(l.writeMsr(0x1b, write, 0)).toBe(false);
    expect(rdmsr(l, 0x1b)).toEqual(was);
  });

  it('refuses address bits beyond the physical address', () => {
    expect(fresh().lapics[0].writeMsr(0x1b, X, 0x100)).toBe(false);
  });

  it('moves the registers', () => {
    const [l] = fresh().lapics;
    l.writeMsr(0x1b, 0x1234_5900, 0x12);
    expect(l.base).toBe(0x12_1234_5000);
  });

  it('keeps the BSP flag as it is', () => {
    const f = new ApicFixture(2);
    f.lapics[1].writeMsr(0x1b, 0xfee0_0900, 0);
    expect(rdmsr(f.lapics[1], 0x1b)).toEqual([0xfee0_0800, 0]);
  });

  it('disabling loses the state and takes the LAPIC off the bus', () => {
    const f = fresh();
    const [l] = f.lapics;
    l.write(R.TPR, 4, 0x50);
    f.send(0x99);
    l.writeMsr(0x1b, OFF, 0);
    expect(l.hasPending()).toBe(false);
    expect(f.send(0x99)).toBe(false);
    l.writeMsr(0x1b, X, 0);
    expect(l.read(R.TPR, 4)).toBe(0);
    expect(l.read(R.SVR, 4)).toBe(0xff);
    expect(f.vectors(R.IRR)).toEqual([]);
  });
});

describe('x2APIC MSRs', () => {
  function x2(count = 1): ApicFixture {
    const f = new ApicFixture(count);
    for (const l of f.lapics) l.writeMsr(0x1b, 0xfee0_0c00, 0);
    return f;
  }

  it('do not exist outside x2APIC mode', () => {
    const f = new ApicFixture();
    expect(rdmsr(f.lapics[0], 0x802)).toBeUndefined();
    expect(f.lapics[0].writeMsr(0x808, 0, 0)).toBe(false);
  });

  it('id and logical id derive from the initial id; both are read-only', () => {
    const f = x2(18);
    expect(rdmsr(f.lapics[17], 0x802)).toEqual([17, 0]);
    expect(rdmsr(f.lapics[17], 0x80d)).toEqual([0x0001_0002, 0]);
    expect(f.lapics[17].writeMsr(0x802, 1, 0)).toBe(false);
    expect(f.lapics[17].writeMsr(0x80d, 1, 0)).toBe(false);
  });

  it('state is kept on the way from xAPIC to x2APIC', () => {
    const f = new ApicFixture();
    const [l] = f.lapics;
    l.write(R.TPR, 4, 0x20);
    f.send(0x71);
    l.writeMsr(0x1b, 0xfee0_0c00, 0);
    expect(rdmsr(l, 0x808)).toEqual([0x20, 0]);
    expect(rdmsr(l, 0x80f)).toEqual([0x1ff, 0]);
    expect(l.acknowledge()).toBe(0x71);
  });

  it.each([0x80c, 0x80e, 0x82f, 0x831, 0x800, 0x83f + 1, 0x8ff])('%i does not exist', (msr) => {
    const [l] = x2().lapics;
    expect(rdmsr(l, msr)).toBeUndefined();
    expect(l.writeMsr(msr, 0, 0)).toBe(false);
  });

  it('EOI and SELF IPI are write-only', () => {
    const [l] = x2().lapics;
    expect(rdmsr(l, 0x80b)).toBeUndefined();
    expect(rdmsr(l, 0x83f)).toBeUndefined();
  });

  it('EOI and ESR take zero alone', () => {
    const f = x2();
    const [l] = f.lapics;
    f.send(0x61, 0, true);
    l.acknowledge();
    expect(l.writeMsr(0x80b, 1, 0)).toBe(false);
    expect(f.eois).toEqual([]);
    expect(l.writeMsr(0x80b, 0, 0)).toBe(true);
    expect(f.eois).toEqual([0x61]);
    expect(l.writeMsr(0x828, 1, 0)).toBe(false);
    expect(l.writeMsr(0x828, 0, 0)).toBe(true);
  });

  it.each([
    [0x808, 0x100],
    [0x80f, 0x400],
    [0x830, 0x1000],
    [0x832, 0x8_0000],
    [0x83e, 4],
    [0x83f, 0x100],
  ])('reserved bits of %i fault', (msr, value) => {
    expect(x2().lapics[0].writeMsr(msr, value, 0)).toBe(false);
  });

  it('the high half faults everywhere but in the ICR', () => {
    const [l] = x2().lapics;
    for (const msr of [0x808, 0x80b, 0x80f, 0x828, 0x832, 0x838, 0x83e, 0x83f]) {
      expect(l.writeMsr(msr, 0, 1)).toBe(false);
    }
    expect(l.writeMsr(0x830, 0x40, 0xffff)).toBe(true);
    expect(rdmsr(l, 0x830)).toEqual([0x40, 0xffff]);
  });

  it('what was read from an LVT can be written back', () => {
    const [l] = x2().lapics;
    for (let msr = 0x832; msr <= 0x837; msr++) {
      const [low] = rdmsr(l, msr)!;
      expect(l.writeMsr(msr, low, 0)).toBe(true);
    }
  });

  it('SELF IPI requests an own edge interrupt', () => {
    const f = x2();
    expect(f.lapics[0].writeMsr(0x83f, 0x77, 0)).toBe(true);
    expect(f.lapics[0].acknowledge()).toBe(0x77);
  });

  it('request, service and trigger registers are eight MSRs each', () => {
    const f = x2();
    f.send(0xff, 0, true);
    f.send(0x20);
    expect(rdmsr(f.lapics[0], 0x827)).toEqual([0x8000_0000, 0]);
    expect(rdmsr(f.lapics[0], 0x821)).toEqual([1, 0]);
    expect(rdmsr(f.lapics[0], 0x81f)).toEqual([0x8000_0000, 0]);
    f.lapics[0].acknowledge();
    expect(rdmsr(f.lapics[0], 0x817)).toEqual([0x8000_0000, 0]);
  });

  it('only those that touch the timer need the big lock', () => {
    expect([0x1b, 0x6e0, 0x80f, 0x832, 0x838, 0x839, 0x83e].every(lapicMsrNeedsLock)).toBe(true);
    expect([0x808, 0x80b, 0x830, 0x83f, 0x802].some(lapicMsrNeedsLock)).toBe(false);
  });
});
