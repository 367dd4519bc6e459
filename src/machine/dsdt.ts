/**
 * The machine's DSDT in AML: PCI host bridge with interrupt routing, ISA devices, processors, sleep states.
 * ACPI Specification 6.5, chapters 5–9; the routing is that of pci.ts (pirqOf) and piix3.ts (PIRQRC).
 */
import { FW_CFG_PORT } from '../hw/fw-cfg.ts';
import {
  GPE0_BASE,
  GPE0_LENGTH,
  PM_BASE,
  PM_PORTS,
  SCI_IRQ,
  SLP_TYP_S4,
  SLP_TYP_S5,
} from '../hw/acpi/piix4-pm.ts';
import { PCI_MEMORY_END, PCI_MEMORY_START } from '../hw/pci/pci-setup.ts';
import { pirqOf } from '../hw/pci/pci.ts';
import { PIRQ_DISABLED, PIRQRC } from '../hw/pci/piix3.ts';
import * as aml from './aml.ts';
import type { Aml } from './aml.ts';
import { HPET_BASE, HPET_SIZE } from './e820.ts';

export interface SerialPort {
  readonly port: number;
  readonly irq: number;
}

export interface DsdtOptions {
  readonly cpus: number;
  readonly hpet: boolean;
  readonly serialPorts: readonly SerialPort[];
  readonly fwCfg: boolean;
  readonly pvpanic?: number;
}

const STA_PRESENT = 0x0b;
const STA_DISABLED = 0x09;
const PCI_SLOTS = 32;
const PCI_PINS = 4;
/** Slot of the PIIX functions; INTA# of its function 3 is the SCI. */
const PIIX_SLOT = 1;
/** IRQs that a link may be given. */
const LINK_IRQS = [5, 10, 11] as const;
const LINKS = ['LNKA', 'LNKB', 'LNKC', 'LNKD'] as const;
const SCI_LINK = 'LNKS';
/** Processor names are C000–CFFF. */
const MAX_NAMED_CPUS = 0x1000;

/** The definition block's body, without the table header. */
export function buildDsdtBody(options: DsdtOptions): Uint8Array {
  const isa = aml.device('ISA', [
    aml.name('_ADR', aml.int(PIIX_SLOT << 16)),
    aml.operationRegion('P40C', aml.REGION.PCI_CONFIG, PIRQRC, 4),
    aml.field('P40C', aml.ACCESS.BYTE, [
      ['PRQ0', 8],
      ['PRQ1', 8],
      ['PRQ2', 8],
      ['PRQ3', 8],
    ]),
    ...isaDevices(options),
  ]);
  const hostBridge = aml.device('PCI0', [
    aml.name('_HID', aml.eisaId('PNP0A03')),
    aml.name('_UID', aml.int(0)),
    aml.name('_CRS', hostBridgeWindows()),
    aml.name('_PRT', routingTable()),
    isa,
  ]);
  const system = [hostBridge, ...LINKS.map((_, i) => link(i)), sciLink(), motherboard()];
  if (options.hpet) system.push(hpet());
  if (options.fwCfg) system.push(fwCfg());
  system.push(...processors(options.cpus));
  const sleep = (type: number): Aml => aml.pkg([aml.int(type), aml.int(type), aml.int(0), aml.int(0)]);
  return Uint8Array.from([
    ...aml.scope('\\_SB', system),
    ...aml.name('\\_S4', sleep(SLP_TYP_S4)),
    ...aml.name('\\_S5', sleep(SLP_TYP_S5)),
  ]);
}

function hostBridgeWindows(): Aml {
  return aml.resources([
    aml.wordBusNumber(0x00, 0xff),
    aml.ioPorts(0xcf8, 8),
    aml.wordIo(0x0000, 0x0cf7),
    aml.wordIo(0x0d00, 0xffff),
    aml.dwordMemory(0xa_0000, 0xb_ffff, true),
    aml.dwordMemory(PCI_MEMORY_START, PCI_MEMORY_END - 1, false),
  ]);
}

/** _PRT: for each slot and pin the link device that it is wired to. */
function routingTable(): Aml {
  const entries: Aml[] = [];
  for (let slot = 0; slot < PCI_SLOTS; slot++) {
    for (let pin = 0; pin < PCI_PINS; pin++) {
      const sci = slot === PIIX_SLOT && pin === 0;
      const target = sci ? SCI_LINK : LINKS[pirqOf(slot, pin + 1)];
      const address = slot * 0x1_0000 + 0xffff;
      entries.push(aml.pkg([aml.int(address), aml.int(pin), aml.path(`\\_SB.${target}`), aml.int(0)]));
    }
  }
  return aml.pkg(entries);
}

/** A PIRQ as an interrupt link device: its routing register is the current setting. */
function link(index: number): Aml {
  const register = aml.path(`\\_SB.PCI0.ISA.PRQ${index}`);
  const { INTERRUPT_NUMBER_OFFSET: at } = aml;
  return aml.device(LINKS[index], [
    aml.name('_HID', aml.eisaId('PNP0C0F')),
    aml.name('_UID', aml.int(index + 1)),
    aml.name('_PRS', aml.resources([aml.interrupt(LINK_IRQS)])),
    aml.name('CBUF', aml.resources([aml.interrupt([0])])),
    aml.createDwordField(aml.path('CBUF'), at, 'CIRQ'),
    aml.method('_STA', 0, false, [
      aml.ifThen(aml.and(register, aml.int(PIRQ_DISABLED)), [aml.ret(aml.int(STA_DISABLED))]),
      aml.ret(aml.int(STA_PRESENT)),
    ]),
    aml.method('_DIS', 0, false, [aml.or(register, aml.int(PIRQ_DISABLED), register)]),
    aml.method('_CRS', 0, true, [
      aml.store(aml.int(0), aml.path('CIRQ')),
      aml.ifThen(aml.less(register, aml.int(PIRQ_DISABLED)), [aml.store(register, aml.path('CIRQ'))]),
      aml.ret(aml.path('CBUF')),
    ]),
    aml.method('_SRS', 1, true, [
      aml.createDwordField(aml.arg(0), at, 'SIRQ'),
      aml.store(aml.path('SIRQ'), register),
    ]),
  ]);
}

/** The fixed connection of the power management function. */
function sciLink(): Aml {
  const fixed = aml.resources([aml.interrupt([SCI_IRQ])]);
  return aml.device(SCI_LINK, [
    aml.name('_HID', aml.eisaId('PNP0C0F')),
    aml.name('_UID', aml.int(LINKS.length + 1)),
    aml.name('_PRS', fixed),
    aml.name('_CRS', fixed),
    aml.name('_STA', aml.int(STA_PRESENT)),
    aml.method('_DIS', 0, false, []),
    aml.method('_SRS', 1, false, []),
  ]);
}

function isaDevices({ serialPorts, pvpanic: panicPort }: DsdtOptions): Aml[] {
  const devices = [
    aml.device('RTC', [
      aml.name('_HID', aml.eisaId('PNP0B00')),
      aml.name('_CRS', aml.resources([aml.ioPorts(0x70, 2), aml.irqNoFlags(8)])),
    ]),
    aml.device('KBD', [
      aml.name('_HID', aml.eisaId('PNP0303')),
      aml.name('_STA', aml.int(0x0f)),
      aml.name('_CRS', aml.resources([aml.ioPorts(0x60, 1), aml.ioPorts(0x64, 1), aml.irqNoFlags(1)])),
    ]),
    aml.device('MOU', [
      aml.name('_HID', aml.eisaId('PNP0F13')),
      aml.name('_STA', aml.int(0x0f)),
      aml.name('_CRS', aml.resources([aml.irqNoFlags(12)])),
    ]),
  ];
  serialPorts.forEach(({ port, irq }, i) => {
    devices.push(
      aml.device(`COM${i + 1}`, [
        aml.name('_HID', aml.eisaId('PNP0501')),
        aml.name('_UID', aml.int(i + 1)),
        aml.name('_STA', aml.int(0x0f)),
        aml.name('_CRS', aml.resources([aml.ioPorts(port, 8), aml.irqNoFlags(irq)])),
      ]),
    );
  });
  if (panicPort !== undefined) devices.push(pvpanic(panicPort));
  return devices;
}

/** QEMU's docs/specs/pvpanic: the port, and methods that read and write it. */
function pvpanic(port: number): Aml {
  return aml.device('PEVT', [
    aml.name('_HID', aml.string('QEMU0001')),
    aml.name('_CRS', aml.resources([aml.ioPorts(port, 1)])),
    aml.operationRegion('PEOR', aml.REGION.IO, port, 1),
    aml.field('PEOR', aml.ACCESS.BYTE, [['PEPT', 8]]),
    aml.name('_STA', aml.int(0x0f)),
    aml.method('RDPT', 0, false, [aml.ret(aml.path('PEPT'))]),
    aml.method('WRPT', 1, false, [aml.store(aml.arg(0), aml.path('PEPT'))]),
  ]);
}

/** Ports that no other device claims. */
function motherboard(): Aml {
  return aml.device('MBRS', [
    aml.name('_HID', aml.eisaId('PNP0C02')),
    aml.name('_UID', aml.int(0)),
    aml.name('_CRS', aml.resources([aml.ioPorts(PM_BASE, PM_PORTS), aml.ioPorts(GPE0_BASE, GPE0_LENGTH)])),
  ]);
}

function hpet(): Aml {
  return aml.device('HPET', [
    aml.name('_HID', aml.eisaId('PNP0103')),
    aml.name('_UID', aml.int(0)),
    aml.name('_CRS', aml.resources([aml.memory32Fixed(HPET_BASE, HPET_SIZE, false)])),
  ]);
}

function fwCfg(): Aml {
  return aml.device('FWCF', [
    aml.name('_HID', aml.string('QEMU0002')),
    aml.name('_STA', aml.int(STA_PRESENT)),
    aml.name('_CRS', aml.resources([aml.ioPorts(FW_CFG_PORT, 12)])),
  ]);
}

/** Processor objects; the declaration of ACPI 1.0 holds 8-bit IDs, those above are devices. */
function processors(cpus: number): Aml[] {
  return Array.from({ length: Math.min(cpus, MAX_NAMED_CPUS) }, (_, i) => {
    const id = `C${i.toString(16).toUpperCase().padStart(3, '0')}`;
    if (i < 255) return aml.processor(id, i);
    return aml.device(id, [aml.name('_HID', aml.string('ACPI0007')), aml.name('_UID', aml.int(i))]);
  });
}
