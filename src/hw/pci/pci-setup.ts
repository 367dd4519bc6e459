/**
 * What firmware does to the PCI devices before an operating system starts: PIRQ steering, level triggering,
 * BAR addresses, decoding, interrupt lines, and the base ports of the PIIX functions. Without a BIOS image the
 * machine calls this after reset. 82371SB/82371AB datasheets for the PIIX registers.
 */
import type { IoBus } from '../io-bus.ts';
import { PCI, PCI_COMMAND, pirqOf, type PciBar, type PciBus, type PciFunction } from './pci.ts';
import { PIRQRC } from './piix3.ts';

/** ISA IRQs that PIRQA–D are steered to. */
export const PIRQ_IRQS = [10, 10, 11, 11] as const;
/** Ports for I/O BARs. */
export const PCI_IO_START = 0xc000;
export const PCI_IO_END = 0x10000;
/** Memory BARs are placed below this (the IOAPIC), at or above PCI_MEMORY_START. */
export const PCI_MEMORY_START = 0xc000_0000;
export const PCI_MEMORY_END = 0xfec0_0000;

const ELCR1 = 0x4d0;
const VENDOR_INTEL = 0x8086;
const PIIX3_ISA = 0x7000;
const PIIX3_IDE = 0x7010;
const IDETIM = 0x40;
const IDETIM_DECODE = 0x8000;

/** BARs that do not fit in the windows. */
export class PciSetupError extends Error {
  readonly code = 'ERR_PCI_SETUP';
  constructor(message: string) {
    super(message);
    this.name = 'PciSetupError';
  }
}

/** Sets up bus 0. `ports` reaches the ELCR of the 8259 pair. *Lock:* BQL. Throws PciSetupError. */
export function setUpPci(bus: PciBus, ports: Pick<IoBus, 'write'>): void {
  let levelTriggered = 0;
  for (const irq of PIRQ_IRQS) levelTriggered |= 1 << irq;
  const functions = bus.functions();
  assign(functions, 'io', PCI_IO_START, PCI_IO_END);
  assign(functions, 'memory', PCI_MEMORY_START, PCI_MEMORY_END);
  for (const fn of functions) {
    const vendor = fn.get(PCI.VENDOR_ID, 2);
    const device = fn.get(PCI.DEVICE_ID, 2);
    if (vendor === VENDOR_INTEL && device === PIIX3_ISA) {
      PIRQ_IRQS.forEach((irq, i) => fn.writeConfig(PIRQRC + i, 1, irq));
    }
    if (vendor === VENDOR_INTEL && device === PIIX3_IDE) {
      fn.writeConfig(IDETIM, 2, IDETIM_DECODE);
      fn.writeConfig(IDETIM + 2, 2, IDETIM_DECODE);
    }
    const pin = fn.get(PCI.INTERRUPT_PIN, 1);
    if (pin !== 0) fn.writeConfig(PCI.INTERRUPT_LINE, 1, PIRQ_IRQS[pirqOf(fn.devfn >> 3, pin)]);
    const command = PCI_COMMAND.IO | PCI_COMMAND.MEMORY | PCI_COMMAND.SERR;
    fn.writeConfig(PCI.COMMAND, 2, fn.get(PCI.COMMAND, 2) | command);
  }
  ports.write(ELCR1, 1, levelTriggered & 0xff);
  ports.write(ELCR1 + 1, 1, levelTriggered >> 8);
}

/** Packs the BARs of one space, largest first so that each is aligned, against the end of the window. */
function assign(functions: readonly PciFunction[], space: PciBar['space'], start: number, end: number): void {
  const wanted: { fn: PciFunction; bar: PciBar }[] = [];
  for (const fn of functions) {
    for (const bar of fn.bars) if (bar.space === space) wanted.push({ fn, bar });
  }
  if (wanted.length === 0) return;
  wanted.sort((a, b) => b.bar.size - a.bar.size);
  const align = wanted[0].bar.size;
  const total = wanted.reduce((sum, w) => sum + w.bar.size, 0);
  let at = space === 'io' ? start : Math.floor((end - total) / align) * align;
  if (at < start || at + total > end) throw new PciSetupError(`${total} bytes of ${space} BARs do not fit`);
  for (const { fn, bar } of wanted) {
    fn.writeConfig(PCI.BAR0 + bar.index * 4, 4, at);
    if (bar.is64 === true) fn.writeConfig(PCI.BAR0 + bar.index * 4 + 4, 4, 0);
    at += bar.size;
  }
}
