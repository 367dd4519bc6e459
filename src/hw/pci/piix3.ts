/**
 * PCI-to-ISA bridge of the 82371SB (PIIX3): PIRQ routing and reset control.
 * Intel 82371FB/82371SB (PIIX/PIIX3) datasheet, 2.2 (configuration), 2.5.5 (RC), 3.10.3 (PIRQ steering).
 * ELCR (4D0, 4D1) belongs to the 8259 pair.
 */
import { struct, u16, u8, type ViewOf } from '@smp86/atomics-sync';
import type { IoHandler, IrqLine } from '../device.ts';
import { PCI_STATUS, PciFunction, PciFunctionState, type PirqRouter } from './pci.ts';

const IORT = 0x4c;
const XBCS = 0x4e;
export const PIRQRC = 0x60;
/** PIRQRC: routing to the 8259 is off. */
export const PIRQ_DISABLED = 0x80;
const TOM = 0x69;
const MBIRQ0 = 0x70;
const MBDMA = 0x76;
const PCSC = 0x78;
const SMICNTL = 0xa0;
const FTMR = 0xa8;

const RC_HARD = 0x02;
const RC_RESET_CPU = 0x04;
/** ISA IRQs that a PIRQ may be steered to; the others are reserved values of PIRQRC. */
const STEERABLE = 0b1101_1110_1111_1000;

/** *Lock:* BQL. Snapshot version 1. */
export const Piix3State = struct({
  pci: PciFunctionState,
  /** RC (port CF9) without its reset bit. */
  resetControl: u8,
  /** Level of PIRQA–D, bit per line. */
  pirqLevels: u8,
  /** ISA IRQs that PIRQs hold high, bit per IRQ. */
  driven: u16,
});

export interface Piix3Deps {
  /** ISA IRQ 0–15: each goes to the 8259 pair and to the IOAPIC. */
  readonly isaIrqs: readonly IrqLine[];
  /** The guest asks for a reset of the machine. */
  readonly reset: () => void;
}

/** Function 1.0. *Thread:* any. *Lock:* BQL. */
export class Piix3 implements PirqRouter {
  readonly pci: PciFunction;
  /** One byte register at port CF9. */
  readonly resetControl: IoHandler;
  readonly #state: ViewOf<typeof Piix3State>;
  readonly #deps: Piix3Deps;

  constructor(state: ViewOf<typeof Piix3State>, deps: Piix3Deps) {
    this.#state = state;
    this.#deps = deps;
    const identity = {
      vendor: 0x8086,
      device: 0x7000,
      classCode: 0x060100,
      subsystemVendor: 0x1af4,
      subsystem: 0x1100,
      status: PCI_STATUS.DEVSEL_MEDIUM,
      multifunction: true,
    };
    const pci = new PciFunction(state.pci, identity, [], {
      configWritten: (offset, size) => {
        if (offset < PIRQRC + 4 && offset + size > PIRQRC) this.#route();
      },
    });
    this.pci = pci;
    pci.setDefault(IORT, 1, 0x4d);
    pci.setWritable(IORT, 1, 0xff);
    pci.setDefault(XBCS, 2, 0x0003);
    pci.setWritable(XBCS, 2, 0x01ff);
    for (let i = 0; i < 4; i++) {
      pci.setDefault(PIRQRC + i, 1, PIRQ_DISABLED);
      pci.setWritable(PIRQRC + i, 1, 0x8f);
    }
    pci.setDefault(TOM, 1, 0x02);
    pci.setWritable(TOM, 1, 0xfe);
    pci.setDefault(MBIRQ0, 1, 0x80);
    pci.setWritable(MBIRQ0, 1, 0xef);
    pci.setDefault(MBDMA, 2, 0x0c0c);
    pci.setWritable(MBDMA, 2, 0x8f8f);
    pci.setDefault(PCSC, 2, 0x0002);
    pci.setWritable(PCSC, 2, 0xffff);
    pci.setDefault(SMICNTL, 1, 0x08);
    pci.setWritable(SMICNTL, 1, 0x1f);
    pci.setDefault(FTMR, 1, 0x0f);
    pci.setWritable(FTMR, 1, 0xff);
    this.resetControl = {
      read: () => this.#state.resetControl,
      write: (_offset, _size, value) => this.#writeResetControl(value),
    };
  }

  reset(): void {
    this.#state.resetControl = 0;
    this.pci.reset();
    this.#route();
  }

  /** Drives PIRQ `pirq` (0–3). *Lock:* BQL. */
  setPirq(pirq: number, level: boolean): void {
    const state = this.#state;
    const bit = 1 << pirq;
    state.pirqLevels = level ? state.pirqLevels | bit : state.pirqLevels & ~bit;
    this.#route();
  }

  /** ISA IRQ that `pirq` is steered to, or -1. */
  irqOf(pirq: number): number {
    const route = this.#state.pci.config[PIRQRC + pirq];
    const irq = route & 0x0f;
    return (route & PIRQ_DISABLED) !== 0 || ((STEERABLE >> irq) & 1) === 0 ? -1 : irq;
  }

  #route(): void {
    const state = this.#state;
    let driven = 0;
    for (let pirq = 0; pirq < 4; pirq++) {
      const irq = this.irqOf(pirq);
      if (irq >= 0 && ((state.pirqLevels >> pirq) & 1) !== 0) driven |= 1 << irq;
    }
    const changed = driven ^ state.driven;
    state.driven = driven;
    for (let irq = 0; changed >> irq !== 0; irq++) {
      if (((changed >> irq) & 1) !== 0) this.#deps.isaIrqs[irq].set(((driven >> irq) & 1) !== 0);
    }
  }

  #writeResetControl(value: number): void {
    this.#state.resetControl = value & RC_HARD;
    if ((value & RC_RESET_CPU) !== 0) this.#deps.reset();
  }
}
