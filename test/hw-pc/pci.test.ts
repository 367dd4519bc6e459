import { describe, expect, test } from 'vitest';
import type { IoHandler } from '../../src/hw/device.ts';
import { BusState, IoBus, MmioBus } from '../../src/hw/io-bus.ts';
import { I440Fx, I440FxState } from '../../src/hw/pci/i440fx.ts';
import { Msi, Msix, msixPbaSize, msixTableSize } from '../../src/hw/pci/msi.ts';
import { setUpPci } from '../../src/hw/pci/pci-setup.ts';
import {
  PCI_CONFIG_PORT,
  PCI_CONFIG_PORTS,
  PciBus,
  PciBusState,
  PciConfigPorts,
  PciError,
  PciFunction,
  PciFunctionState,
  type PciBar,
} from '../../src/hw/pci/pci.ts';
import { Piix3, Piix3State } from '../../src/hw/pci/piix3.ts';
import { fakeIrqs, freshState } from '../hw/fakes.ts';

const registers: IoHandler = { read: (offset) => offset, write: () => {} };
const BARS: PciBar[] = [
  { index: 0, space: 'io', size: 32, handler: registers },
  { index: 1, space: 'memory', size: 0x1000, handler: registers },
  { index: 2, space: 'memory', size: 0x10000, handler: registers, is64: true, prefetchable: true },
];

function machine() {
  const states = {
    bus: freshState(BusState),
    pci: freshState(PciBusState),
    host: freshState(I440FxState),
    piix3: freshState(Piix3State),
    card: freshState(PciFunctionState),
  };
  const irqs = fakeIrqs(16);
  let resets = 0;
  let moves = 0;
  /** One thread's objects over the shared states. */
  const thread = () => {
    const pci = new PciBus(states.pci, { bus: states.bus, mappingChanged: () => moves++ });
    const host = new I440Fx(states.host, 512 << 20);
    const piix3 = new Piix3(states.piix3, { isaIrqs: irqs, reset: () => resets++ });
    const identity = { vendor: 0x1af4, device: 0x1000, classCode: 0x020000, interruptPin: 1 };
    const card = new PciFunction(states.card, identity, BARS);
    pci.add(host.pci, 0);
    pci.add(piix3.pci, 1);
    pci.add(card, 3);
    pci.router = piix3;
    const ports = new IoBus(states.bus, pci.ports);
    const memory = new MmioBus(states.bus, pci.memory);
    ports.register(PCI_CONFIG_PORT, PCI_CONFIG_PORTS, new PciConfigPorts(pci, piix3.resetControl), 4);
    return { pci, host, piix3, card, ports, memory };
  };
  const t = thread();
  t.pci.reset();
  t.host.reset();
  t.piix3.reset();
  t.card.reset();
  return { ...t, thread, states, irqs, resets: () => resets, moves: () => moves };
}

const address = (slot: number, func: number, reg: number): number =>
  (0x8000_0000 | (slot << 11) | (func << 8) | (reg & 0xfc)) >>> 0;

function config(ports: IoBus, slot: number, reg: number, size: number): number {
  ports.write(0xcf8, 4, address(slot, 0, reg));
  return ports.read(0xcfc + (reg & 3), size);
}

function setConfig(ports: IoBus, slot: number, reg: number, size: number, value: number): void {
  ports.write(0xcf8, 4, address(slot, 0, reg));
  ports.write(0xcfc + (reg & 3), size, value);
}

describe('configuration mechanism 1', () => {
  test('finds the functions and reads all ones elsewhere', () => {
    const { ports } = machine();
    expect(config(ports, 0, 0, 4)).toBe(0x12378086);
    expect(config(ports, 1, 0, 4)).toBe(0x70008086);
    expect(config(ports, 3, 0x0a, 2)).toBe(0x0200);
    expect(config(ports, 2, 0, 4)).toBe(0xffffffff);
    ports.write(0xcf8, 4, 0);
    expect(ports.read(0xcfc, 4)).toBe(0xffffffff);
  });

  test('CONFADD keeps its bits and ignores byte accesses', () => {
    const { ports } = machine();
    ports.write(0xcf8, 4, 0xffffffff);
    expect(ports.read(0xcf8, 4)).toBe(0x80fffffc);
    ports.write(0xcf8, 4, 0x80000000);
    ports.write(0xcfb, 1, 0x01);
    expect(ports.read(0xcf8, 4)).toBe(0x80000000);
    expect(ports.read(0xcf8, 1)).toBe(0xff);
  });

  test('read-only registers stay, the function 0 of PIIX3 is multifunction', () => {
    const { ports } = machine();
    setConfig(ports, 1, 0, 4, 0);
    setConfig(ports, 1, 8, 4, 0xffffffff);
    expect(config(ports, 1, 0, 4)).toBe(0x70008086);
    expect(config(ports, 1, 8, 4)).toBe(0x06010000);
    expect(config(ports, 1, 0x0e, 1)).toBe(0x80);
  });

  test('PAM and SMRAM registers are stored', () => {
    const { ports, host } = machine();
    setConfig(ports, 0, 0x59, 1, 0xff);
    setConfig(ports, 0, 0x5a, 1, 0x33);
    expect(config(ports, 0, 0x59, 1)).toBe(0xf0);
    expect(config(ports, 0, 0x5a, 1)).toBe(0x33);
    expect(config(ports, 0, 0x72, 1)).toBe(0x02);
    expect(config(ports, 0, 0x67, 1)).toBe(64);
    host.reset();
    expect(config(ports, 0, 0x5a, 1)).toBe(0);
  });

  test('a write of RCPU at CF9 resets the machine', () => {
    const { ports, resets } = machine();
    ports.write(0xcf9, 1, 0x02);
    expect([resets(), ports.read(0xcf9, 1)]).toEqual([0, 2]);
    ports.write(0xcf9, 1, 0x06);
    expect([resets(), ports.read(0xcf9, 1)]).toEqual([1, 2]);
  });
});

describe('BARs', () => {
  test('sizing reads back the size and the type', () => {
    const { ports } = machine();
    for (const [reg, value] of [
      [0x10, 0xffffffe1],
      [0x14, 0xfffff000],
      [0x18, 0xffff000c],
      [0x1c, 0xffffffff],
      [0x20, 0],
    ]) {
      setConfig(ports, 3, reg, 4, 0xffffffff);
      expect(config(ports, 3, reg, 4)).toBe(value);
    }
  });

  test('a BAR decodes only while the command register says so', () => {
    const { ports, memory } = machine();
    setConfig(ports, 3, 0x10, 4, 0xc040);
    setConfig(ports, 3, 0x14, 4, 0xfebf0000);
    expect(ports.read(0xc044, 1)).toBe(0xff);
    setConfig(ports, 3, 4, 2, 1);
    expect([ports.read(0xc044, 1), memory.read(0xfebf0008, 4)]).toEqual([4, 0xffffffff]);
    setConfig(ports, 3, 4, 2, 3);
    expect(memory.read(0xfebf0008, 4)).toBe(8);
    setConfig(ports, 3, 4, 2, 0);
    expect(ports.read(0xc044, 1)).toBe(0xff);
  });

  test('a move is seen by another thread and announced', () => {
    const m = machine();
    const other = m.thread();
    setConfig(m.ports, 3, 4, 2, 3);
    setConfig(m.ports, 3, 0x14, 4, 0xfebf0000);
    expect(other.memory.read(0xfebf0010, 4)).toBe(0x10);
    const before = m.moves();
    setConfig(m.ports, 3, 0x14, 4, 0xfebd0000);
    expect(m.moves()).toBe(before + 1);
    expect(other.memory.read(0xfebf0010, 4)).toBe(0xffffffff);
    expect(other.memory.read(0xfebd0010, 4)).toBe(0x10);
  });

  test('a 64-bit BAR above 4 GiB decodes', () => {
    const { ports, memory } = machine();
    setConfig(ports, 3, 4, 2, 2);
    setConfig(ports, 3, 0x18, 4, 0x10000);
    setConfig(ports, 3, 0x1c, 4, 1);
    expect(memory.read(2 ** 32 + 0x10004, 4)).toBe(4);
  });

  test('sizing while decoding is on maps nothing at the top of memory', () => {
    const { ports, memory } = machine();
    setConfig(ports, 3, 4, 2, 3);
    setConfig(ports, 3, 0x14, 4, 0xffffffff);
    expect(memory.lookup(0xfffff000)).toBeUndefined();
  });

  test('a write that changes no decoded range announces nothing', () => {
    const { ports, moves } = machine();
    const before = moves();
    setConfig(ports, 3, 0x14, 4, 0xfebf0000);
    setConfig(ports, 3, 4, 2, 0x400);
    setConfig(ports, 3, 0x3c, 1, 7);
    expect(moves()).toBe(before);
  });

  test('a size that is no power of two is a host mistake', () => {
    const bad: PciBar = { index: 0, space: 'io', size: 24, handler: registers };
    const identity = { vendor: 1, device: 1, classCode: 0 };
    expect(() => new PciFunction(freshState(PciFunctionState), identity, [bad])).toThrow(PciError);
  });
});

describe('INTx', () => {
  test('goes through the PIRQ of its slot to the ISA IRQ that is programmed', () => {
    const { ports, card, irqs } = machine();
    card.intx.set(true);
    expect(irqs.map((i) => i.level)).not.toContain(true);
    setConfig(ports, 1, 0x62, 1, 11); // slot 3, INTA#: PIRQC
    expect(irqs[11].level).toBe(true);
    setConfig(ports, 1, 0x62, 1, 10);
    expect([irqs[11].level, irqs[10].level]).toEqual([false, true]);
    card.intx.set(false);
    expect(irqs[10].level).toBe(false);
  });

  test('a reserved IRQ in PIRQRC routes nowhere', () => {
    const { ports, card, irqs } = machine();
    card.intx.set(true);
    for (const irq of [0, 1, 2, 8, 13]) setConfig(ports, 1, 0x62, 1, irq);
    expect(irqs.every((i) => i.rises === 0)).toBe(true);
  });

  test('two functions on one line keep it high until both let go', () => {
    const { ports, pci, card, irqs } = machine();
    const state = freshState(PciFunctionState);
    const second = new PciFunction(state, { vendor: 1, device: 2, classCode: 0, interruptPin: 3 });
    second.reset();
    pci.add(second, 1, 2); // slot 1, INTC#: PIRQC as well
    setConfig(ports, 1, 0x62, 1, 11);
    card.intx.set(true);
    second.intx.set(true);
    card.intx.set(false);
    expect(irqs[11].level).toBe(true);
    second.intx.set(false);
    expect(irqs[11]).toMatchObject({ level: false, rises: 1 });
  });

  test('the disable bit holds the line off, and status shows the source', () => {
    const { ports, card, irqs } = machine();
    setConfig(ports, 1, 0x62, 1, 11);
    setConfig(ports, 3, 4, 2, 0x400);
    card.intx.set(true);
    expect([irqs[11].level, config(ports, 3, 6, 2) & 8]).toEqual([false, 8]);
    setConfig(ports, 3, 4, 2, 0);
    expect(irqs[11].level).toBe(true);
    card.reset();
    expect([irqs[11].level, config(ports, 3, 6, 2) & 8]).toEqual([false, 0]);
  });
});

describe('setUpPci', () => {
  test('places aligned BARs in the windows, steers PIRQs and sets level triggering', () => {
    const { ports, pci, memory, card } = machine();
    const elcr: number[] = [0, 0];
    ports.register(0x4d0, 2, { read: (o) => elcr[o], write: (o, _s, v) => (elcr[o] = v) });
    setUpPci(pci, ports);
    expect(elcr).toEqual([0, 0x0c]);
    expect(config(ports, 1, 0x60, 4)).toBe(0x0b0b0a0a);
    expect(config(ports, 3, 0x3c, 1)).toBe(11);
    for (const bar of BARS) {
      const base = card.barAddress(bar);
      expect(base % bar.size).toBe(0);
      if (bar.space === 'io') expect(ports.read(base + 3, 1)).toBe(3);
      else {
        expect(base).toBeGreaterThanOrEqual(0xc0000000);
        expect(base + bar.size).toBeLessThanOrEqual(0xfec00000);
        expect(memory.read(base + 8, 4)).toBe(8);
      }
    }
  });
});

describe('MSI', () => {
  function withMsi() {
    const fn = new PciFunction(freshState(PciFunctionState), { vendor: 1, device: 1, classCode: 0 });
    const sent: [number, number][] = [];
    const msi = new Msi(fn, 4, { send: (a, d) => sent.push([a, d]) });
    fn.reset();
    return { fn, msi, sent, at: fn.get(0x34, 1) };
  }

  test('sends address and data, the vector in the low bits of what is allocated', () => {
    const { fn, msi, sent, at } = withMsi();
    msi.notify(1);
    expect([sent, fn.get(6, 2) & 0x10, fn.get(at, 1)]).toEqual([[], 0x10, 5]);
    fn.writeConfig(at + 4, 4, 0xfee01003);
    fn.writeConfig(at + 12, 2, 0x4041);
    fn.writeConfig(at + 2, 2, 0x0001 | (2 << 4));
    msi.notify(3);
    fn.writeConfig(at + 2, 2, 0x0001);
    msi.notify(3);
    expect(sent).toEqual([
      [0xfee01000, 0x4043],
      [0xfee01000, 0x4041],
    ]);
  });

  test('a masked vector is pending and goes out when it is unmasked', () => {
    const { fn, msi, sent, at } = withMsi();
    fn.writeConfig(at + 2, 2, 0x0021);
    fn.writeConfig(at + 16, 4, 2);
    msi.notify(1);
    expect([sent.length, fn.get(at + 20, 4)]).toEqual([0, 2]);
    fn.writeConfig(at + 16, 4, 0);
    expect([sent.length, fn.get(at + 20, 4)]).toEqual([1, 0]);
  });
});

describe('MSI-X', () => {
  function withMsix() {
    const fn = new PciFunction(freshState(PciFunctionState), { vendor: 1, device: 1, classCode: 0 });
    const sent: [number, number][] = [];
    const entries = new Uint8Array(msixTableSize(3));
    const pending = new Uint8Array(msixPbaSize(3));
    const layout = { vectors: 3, bar: 4, tableOffset: 0, pbaOffset: 0x800 };
    const msix = new Msix(fn, layout, entries, pending, { send: (a, d) => sent.push([a, d]) });
    fn.reset();
    msix.reset();
    const at = fn.get(0x34, 1);
    for (let v = 0; v < 3; v++) {
      msix.table.write(v * 16, 4, 0xfee02000);
      msix.table.write(v * 16 + 8, 4, 0x50 + v);
    }
    return { fn, msix, sent, at };
  }

  test('describes its table and its pending bits', () => {
    const { fn, at } = withMsix();
    expect([fn.get(at, 1), fn.get(at + 2, 2), fn.get(at + 4, 4), fn.get(at + 8, 4)]).toEqual([
      0x11, 2, 4, 0x804,
    ]);
  });

  test('a vector is masked after reset and sends once it is unmasked', () => {
    const { fn, msix, sent, at } = withMsix();
    fn.writeConfig(at + 2, 2, 0x8000);
    msix.notify(2);
    expect([sent.length, msix.pba.read(0, 4)]).toEqual([0, 4]);
    msix.table.write(2 * 16 + 12, 4, 0);
    expect([sent, msix.pba.read(0, 4)]).toEqual([[[0xfee02000, 0x52]], 0]);
    msix.notify(2);
    expect(sent.length).toBe(2);
  });

  test('the function mask holds all vectors', () => {
    const { fn, msix, sent, at } = withMsix();
    fn.writeConfig(at + 2, 2, 0xc000);
    msix.table.write(12, 4, 0);
    msix.notify(0);
    expect(sent.length).toBe(0);
    fn.writeConfig(at + 2, 2, 0x8000);
    expect(sent).toEqual([[0xfee02000, 0x50]]);
  });

  test('accesses beyond the table do nothing', () => {
    const { msix } = withMsix();
    msix.table.write(16 * 3, 4, 1);
    expect(msix.table.read(16 * 3, 4)).toBe(0);
    msix.notify(99);
  });
});
