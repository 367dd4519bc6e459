/**
 * Intel MultiProcessor Specification 1.4, chapter 4: floating pointer structure and configuration table, for
 * guests without ACPI. Placed at MP_BASE.
 */
import { SCI_IRQ } from '../hw/acpi/piix4-pm.ts';
import { PIRQ_IRQS } from '../hw/pci/pci-setup.ts';
import { pirqOf } from '../hw/pci/pci.ts';
import { checksum, IOAPIC_ID } from './acpi-tables.ts';
import { IOAPIC_BASE, LAPIC_BASE, MP_BASE, MP_SIZE } from './e820.ts';

export interface MpOptions {
  /** APIC ID of each vCPU; the first is the boot processor. Those above 254 cannot be listed. */
  readonly apicIds: readonly number[];
  /** CPUID leaf 1: EAX (signature) and EDX (features). */
  readonly signature: number;
  readonly features: number;
}

/** A table that does not fit in its area. */
export class MpTableError extends Error {
  readonly code = 'ERR_MP_TABLE';
  constructor(message: string) {
    super(message);
    this.name = 'MpTableError';
  }
}

const POINTER_SIZE = 16;
const HEADER_SIZE = 44;
const SPEC_REVISION = 4;
const LAPIC_VERSION = 0x14;
const IOAPIC_VERSION = 0x11;
const ENTRY_CPU = 0;
const ENTRY_BUS = 1;
const ENTRY_IOAPIC = 2;
const ENTRY_IO_INTERRUPT = 3;
const ENTRY_LOCAL_INTERRUPT = 4;
const CPU_ENABLED = 1;
const CPU_BOOT = 2;
const BUS_PCI = 0;
const BUS_ISA = 1;
const INT_VECTORED = 0;
const INT_NMI = 1;
const INT_EXTINT = 3;
/** As the bus has it: edge, active high on ISA. */
const CONFORMS = 0;
/** Active high, level. */
const LEVEL_HIGH = 0x0d;
const ALL_APICS = 0xff;

/** The floating pointer and, after it, the table: bytes to be placed at MP_BASE. Throws MpTableError. */
export function buildMpTable(options: MpOptions): Uint8Array {
  const entries: number[][] = [];
  const word = (value: number): number[] => [value & 0xff, (value >> 8) & 0xff];
  const dword = (value: number): number[] => [...word(value), ...word(value >>> 16)];
  options.apicIds.forEach((apicId, i) => {
    if (apicId >= ALL_APICS) return;
    const flags = CPU_ENABLED | (i === 0 ? CPU_BOOT : 0);
    const { signature, features } = options;
    const ids = [...dword(signature), ...dword(features)];
    entries.push([ENTRY_CPU, apicId, LAPIC_VERSION, flags, ...ids, 0, 0, 0, 0, 0, 0, 0, 0]);
  });
  entries.push([ENTRY_BUS, BUS_PCI, ...ascii('PCI   ')], [ENTRY_BUS, BUS_ISA, ...ascii('ISA   ')]);
  entries.push([ENTRY_IOAPIC, IOAPIC_ID, IOAPIC_VERSION, 1, ...dword(IOAPIC_BASE)]);
  const io = (type: number, flags: number, bus: number, source: number, pin: number): void => {
    entries.push([ENTRY_IO_INTERRUPT, type, ...word(flags), bus, source, IOAPIC_ID, pin]);
  };
  for (let slot = 1; slot < 32; slot++) {
    for (let pin = 1; pin <= 4; pin++) {
      const irq = slot === 1 && pin === 1 ? SCI_IRQ : PIRQ_IRQS[pirqOf(slot, pin)];
      io(INT_VECTORED, LEVEL_HIGH, BUS_PCI, (slot << 2) | (pin - 1), irq);
    }
  }
  for (let irq = 0; irq < 16; irq++) {
    // IRQ 2 is the cascade; the 8254 takes its pin
    if (irq === 2 || (PIRQ_IRQS as readonly number[]).includes(irq)) continue;
    io(INT_VECTORED, irq === SCI_IRQ ? LEVEL_HIGH : CONFORMS, BUS_ISA, irq, irq === 0 ? 2 : irq);
  }
  entries.push([ENTRY_LOCAL_INTERRUPT, INT_EXTINT, ...word(CONFORMS), BUS_ISA, 0, ALL_APICS, 0]);
  entries.push([ENTRY_LOCAL_INTERRUPT, INT_NMI, ...word(CONFORMS), BUS_ISA, 0, ALL_APICS, 1]);

  const length = HEADER_SIZE + entries.reduce((sum, e) => sum + e.length, 0);
  if (POINTER_SIZE + length > MP_SIZE) throw new MpTableError(`${length} bytes do not fit`);
  const config = Uint8Array.from([
    ...ascii('PCMP'),
    ...word(length),
    SPEC_REVISION,
    0,
    ...ascii('SMP86   '),
    ...ascii('SMP86 PC    '),
    ...dword(0),
    ...word(0),
    ...word(entries.length),
    ...dword(LAPIC_BASE),
    ...dword(0),
    ...entries.flat(),
  ]);
  config[7] = checksum(config);
  const pointer = Uint8Array.from([
    ...ascii('_MP_'),
    ...dword(MP_BASE + POINTER_SIZE),
    1,
    SPEC_REVISION,
    0,
    0,
    0,
    0,
    0,
    0,
  ]);
  pointer[10] = checksum(pointer);
  const out = new Uint8Array(POINTER_SIZE + config.length);
  out.set(pointer);
  out.set(config, POINTER_SIZE);
  return out;
}

function ascii(text: string): number[] {
  return Array.from(text, (c) => c.charCodeAt(0));
}
