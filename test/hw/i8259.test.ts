import { beforeEach, describe, expect, it } from 'vitest';
import { I8259, PicState } from '../../src/hw/intc/i8259.ts';
import { FakeIrq, dirtyState } from './fakes.ts';

let intr: FakeIrq;
let pic: I8259;

beforeEach(() => {
  intr = new FakeIrq();
  pic = new I8259(dirtyState(PicState), { intr });
  pic.reset();
});

const M = (port: number, value: number): void => pic.master.write(port, 1, value);
const S = (port: number, value: number): void => pic.slave.write(port, 1, value);
/** As Linux does: vectors 30h and 38h, 8086 mode. */
function initialise(icw4 = 1): void {
  M(0, 0x11);
  M(1, 0x30);
  M(1, 4);
  M(1, icw4);
  S(0, 0x11);
  S(1, 0x38);
  S(1, 2);
  S(1, icw4);
}
const raise = (irq: number): void => {
  pic.setIrq(irq, true);
  pic.setIrq(irq, false);
};
const irr = (): number => {
  M(0, 0x0a);
  return pic.master.read(0, 1);
};
const isr = (): number => {
  M(0, 0x0b);
  return pic.master.read(0, 1);
};

describe('8259 requests', () => {
  beforeEach(() => initialise());

  it('an edge raises INTR, and the acknowledge gives base + input', () => {
    pic.setIrq(3, true);
    expect(intr.level).toBe(true);
    expect(pic.acknowledge()).toBe(0x33);
    expect(intr.level).toBe(false);
    expect(isr()).toBe(8);
  });

  it('a line that stays high requests once', () => {
    pic.setIrq(3, true);
    pic.acknowledge();
    M(0, 0x20);
    pic.setIrq(3, true);
    expect(intr.level).toBe(false);
    pic.setIrq(3, false);
    pic.setIrq(3, true);
    expect(intr.level).toBe(true);
  });

  it('a masked request is kept and comes when unmasked', () => {
    M(1, 0xff);
    raise(4);
    expect(intr.level).toBe(false);
    expect(irr()).toBe(0x10);
    M(1, 0xef);
    expect(intr.level).toBe(true);
    expect(pic.master.read(1, 1)).toBe(0xef);
  });

  it('the lower input wins', () => {
    raise(5);
    raise(1);
    raise(3);
    expect(pic.acknowledge()).toBe(0x31);
  });

  it('while one is in service only a higher one interrupts', () => {
    raise(3);
    pic.acknowledge();
    raise(4);
    expect(intr.level).toBe(false);
    raise(1);
    expect(intr.level).toBe(true);
    expect(pic.acknowledge()).toBe(0x31);
    M(0, 0x20); // ends 1
    expect(intr.level).toBe(false);
    M(0, 0x20); // ends 3
    expect(pic.acknowledge()).toBe(0x34);
  });

  it('the slave comes through input 2 with its own base', () => {
    raise(12);
    expect(pic.acknowledge()).toBe(0x3c);
    expect(isr()).toBe(4);
    raise(11); // higher than 12 on the slave, but the master is serving input 2
    expect(intr.level).toBe(false);
    S(0, 0x20);
    M(0, 0x20);
    expect(pic.acknowledge()).toBe(0x3b);
  });

  it('in special fully nested mode the slave interrupts itself', () => {
    initialise(0x11);
    raise(12);
    pic.acknowledge();
    raise(11);
    expect(intr.level).toBe(true);
    expect(pic.acknowledge()).toBe(0x3b);
  });

  it('the master has no pin for IRQ 2', () => {
    raise(2);
    expect(intr.level).toBe(false);
  });

  it('an acknowledge with nothing pending is input 7 and sets no service bit', () => {
    expect(pic.acknowledge()).toBe(0x37);
    expect(isr()).toBe(0);
  });

  it('a slave that changed its mind gives its input 7, and the master serves input 2', () => {
    pic.elcr.write(1, 1, 0x0e);
    pic.setIrq(10, true);
    const state = irr();
    expect(state).toBe(4);
    pic.setIrq(10, false); // the edge on the master is latched
    expect(pic.acknowledge()).toBe(0x3f);
    expect(isr()).toBe(4);
    S(0, 0x0b);
    expect(pic.slave.read(0, 1)).toBe(0);
  });

  it('a slave in automatic EOI mode delivers all that waits', () => {
    initialise(3);
    raise(9);
    raise(10);
    raise(11);
    expect([pic.acknowledge(), pic.acknowledge(), pic.acknowledge()]).toEqual([0x39, 0x3a, 0x3b]);
    expect(intr.level).toBe(false);
  });
});

describe('8259 level triggering', () => {
  beforeEach(() => {
    initialise();
    pic.elcr.write(0, 1, 0x20);
  });

  it('a level input requests as long as it is high', () => {
    pic.setIrq(5, true);
    expect(pic.acknowledge()).toBe(0x35);
    M(0, 0x20);
    expect(intr.level).toBe(true);
    pic.setIrq(5, false);
    expect(intr.level).toBe(false);
  });

  it('only lines that can be shared have an ELCR bit', () => {
    pic.elcr.write(0, 1, 0xff);
    pic.elcr.write(1, 1, 0xff);
    expect(pic.elcr.read(0, 1)).toBe(0xf8);
    expect(pic.elcr.read(1, 1)).toBe(0xde);
  });

  it('switching a high line to level mode makes it request', () => {
    M(1, 0xff);
    pic.setIrq(7, true);
    initialise(); // ICW1 drops the edge
    expect(intr.level).toBe(false);
    pic.elcr.write(0, 1, 0x80);
    expect(intr.level).toBe(true);
  });
});

describe('8259 commands', () => {
  beforeEach(() => initialise());

  it('a specific EOI ends just that input', () => {
    raise(3);
    pic.acknowledge();
    raise(1);
    pic.acknowledge();
    M(0, 0x63);
    expect(isr()).toBe(2);
  });

  it('automatic EOI sets no service bit', () => {
    initialise(3);
    raise(3);
    pic.acknowledge();
    expect(isr()).toBe(0);
  });

  it('rotate on EOI gives the served input the lowest priority', () => {
    raise(3);
    pic.acknowledge();
    M(0, 0xa0);
    raise(3);
    raise(6);
    expect(pic.acknowledge()).toBe(0x36);
  });

  it('set priority chooses the lowest input', () => {
    M(0, 0xc0 | 4);
    raise(0);
    raise(5);
    expect(pic.acknowledge()).toBe(0x35);
  });

  it('special mask mode lets lower inputs through while the served one is masked', () => {
    raise(1);
    pic.acknowledge();
    raise(6);
    expect(intr.level).toBe(false);
    M(1, 0x02);
    M(0, 0x68);
    expect(intr.level).toBe(true);
    expect(pic.acknowledge()).toBe(0x36);
    M(0, 0x20); // non-specific: not the masked one
    expect(isr()).toBe(2);
    M(0, 0x48);
  });

  it('a poll is an acknowledge by reading', () => {
    raise(6);
    M(0, 0x0c);
    expect(pic.master.read(0, 1)).toBe(0x86);
    expect(isr()).toBe(0x40);
    M(0, 0x0c);
    expect(pic.master.read(0, 1)).toBe(0);
  });

  it('ICW1 clears mask, service and latched edges', () => {
    raise(3);
    pic.acknowledge();
    M(1, 0xff);
    raise(4);
    initialise();
    expect(pic.master.read(1, 1)).toBe(0);
    expect(isr()).toBe(0);
    expect(irr()).toBe(0);
  });

  it('without ICW4 the data port takes the mask after ICW3', () => {
    M(0, 0x10);
    M(1, 0x40);
    M(1, 4);
    M(1, 0x5a);
    expect(pic.master.read(1, 1)).toBe(0x5a);
  });

  it('a single chip skips ICW3', () => {
    M(0, 0x13);
    M(1, 0x40);
    M(1, 1);
    M(1, 0xf0);
    expect(pic.master.read(1, 1)).toBe(0xf0);
  });
});
