/**
 * ACPI tables of the machine: RSDP, RSDT, XSDT, FADT, FACS, DSDT, MADT, HPET.
 * ACPI Specification 6.5, chapter 5.2 (the FADT is that of ACPI 3.0, revision 3); IA-PC HPET Specification 1.0a,
 * 3.2.4. They are placed at ACPI_BASE.
 */
import {
  ACPI_DISABLE,
  ACPI_ENABLE,
  GPE0_BASE,
  GPE0_LENGTH,
  PM1A_CNT,
  PM1A_EVT,
  PM_TMR,
  SCI_IRQ,
  SMI_CMD,
} from '../hw/acpi/piix4-pm.ts';
import { PIRQ_IRQS } from '../hw/pci/pci-setup.ts';
import { buildDsdtBody, type SerialPort } from './dsdt.ts';
import { ACPI_BASE, ACPI_SIZE, HPET_BASE, IOAPIC_BASE, LAPIC_BASE } from './e820.ts';

export interface AcpiOptions {
  /** APIC ID of each vCPU, in order of vCPU index (the ACPI processor UID). */
  readonly apicIds: readonly number[];
  readonly hpet?: boolean;
  /** COM1 at 3F8, IRQ 4 unless given. */
  readonly serialPorts?: readonly SerialPort[];
  readonly fwCfg?: boolean;
  /** Port of the pvpanic device; none unless given. */
  readonly pvpanic?: number;
}

/** The tables as they lie in guest memory. */
export interface AcpiTables {
  readonly base: number;
  readonly bytes: Uint8Array;
  readonly rsdp: number;
  /** Physical address of each table by signature. */
  readonly addresses: ReadonlyMap<string, number>;
}

/** Tables that do not fit in their area. */
export class AcpiTableError extends Error {
  readonly code = 'ERR_ACPI_TABLES';
  constructor(message: string) {
    super(message);
    this.name = 'AcpiTableError';
  }
}

const OEM_ID = 'SMP86 ';
const OEM_TABLE_ID = 'SMP86PC ';
const CREATOR_ID = 'SMP8';
const REVISION = 1;
const HEADER_SIZE = 36;
const CHECKSUM = 9;

/** A table being written: little-endian fields appended one after the other. */
class TableWriter {
  readonly #bytes: number[] = [];

  get length(): number {
    return this.#bytes.length;
  }

  number(value: number, size: number): this {
    for (let i = 0; i < size; i++) this.#bytes.push(Math.floor(value / 2 ** (8 * i)) % 256);
    return this;
  }
  u8(value: number): this {
    return this.number(value, 1);
  }
  u16(value: number): this {
    return this.number(value, 2);
  }
  u32(value: number): this {
    return this.number(value, 4);
  }
  u64(value: number): this {
    return this.number(value, 8);
  }
  zeros(count: number): this {
    return this.number(0, count);
  }
  text(value: string): this {
    for (const c of value) this.#bytes.push(c.charCodeAt(0));
    return this;
  }
  raw(bytes: Iterable<number>): this {
    for (const b of bytes) this.#bytes.push(b);
    return this;
  }
  /** Generic address structure of an I/O port block; all zero when there is none. */
  port(address: number, bits: number): this {
    if (address === 0) return this.zeros(12);
    return this.u8(1).u8(bits).u8(0).u8(0).u64(address);
  }
  done(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

/** A system description table: header and body, with its checksum. */
function table(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const bytes = new TableWriter()
    .text(signature)
    .u32(HEADER_SIZE + body.length)
    .u8(revision)
    .u8(0)
    .text(OEM_ID)
    .text(OEM_TABLE_ID)
    .u32(REVISION)
    .text(CREATOR_ID)
    .u32(REVISION)
    .raw(body)
    .done();
  bytes[CHECKSUM] = checksum(bytes);
  return bytes;
}

/** The byte that makes the sum of all bytes 0; the checksum field itself must be 0. */
export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (const b of bytes) sum = (sum + b) & 0xff;
  return -sum & 0xff;
}

/** Builds all tables for placement at ACPI_BASE. Throws AcpiTableError. */
export function buildAcpiTables(options: AcpiOptions): AcpiTables {
  const { apicIds, hpet = true, serialPorts = [{ port: 0x3f8, irq: 4 }], fwCfg = true } = options;
  const area = new Uint8Array(ACPI_SIZE);
  const addresses = new Map<string, number>();
  let used = RSDP_SIZE;
  const place = (signature: string, bytes: Uint8Array, align = 16): number => {
    const at = Math.ceil(used / align) * align;
    if (at + bytes.length > area.length) throw new AcpiTableError(`no room for ${signature}`);
    area.set(bytes, at);
    used = at + bytes.length;
    addresses.set(signature, ACPI_BASE + at);
    return ACPI_BASE + at;
  };
  const facs = place('FACS', buildFacs(), 64);
  const body = buildDsdtBody({ cpus: apicIds.length, hpet, serialPorts, fwCfg, pvpanic: options.pvpanic });
  const dsdt = place('DSDT', table('DSDT', 1, body));
  const roots = [place('FACP', buildFadt(facs, dsdt)), place('APIC', buildMadt(apicIds))];
  if (hpet) roots.push(place('HPET', buildHpet()));
  const rsdt = place('RSDT', buildRoot('RSDT', roots, 4));
  const xsdt = place('XSDT', buildRoot('XSDT', roots, 8));
  area.set(buildRsdp(rsdt, xsdt), 0);
  return { base: ACPI_BASE, bytes: area.subarray(0, used), rsdp: ACPI_BASE, addresses };
}

const RSDP_SIZE = 36;
/** Bytes that the checksum of ACPI 1.0 covers. */
const RSDP_V1_SIZE = 20;

function buildRsdp(rsdt: number, xsdt: number): Uint8Array {
  const bytes = new TableWriter()
    .text('RSD PTR ')
    .u8(0)
    .text(OEM_ID)
    .u8(2)
    .u32(rsdt)
    .u32(RSDP_SIZE)
    .u64(xsdt)
    .u8(0)
    .zeros(3)
    .done();
  bytes[8] = checksum(bytes.subarray(0, RSDP_V1_SIZE));
  bytes[32] = checksum(bytes);
  return bytes;
}

function buildRoot(signature: string, tables: readonly number[], entrySize: number): Uint8Array {
  const body = new TableWriter();
  for (const address of tables) body.number(address, entrySize);
  return table(signature, 1, body.done());
}

/** Firmware ACPI control structure (5.2.10): no header checksum, 64-byte aligned, written by the guest. */
function buildFacs(): Uint8Array {
  return new TableWriter().text('FACS').u32(64).zeros(56).done();
}

const FADT_REVISION = 3;
const FLAG_WBINVD = 1 << 0;
const FLAG_PROC_C1 = 1 << 2;
/** No sleep button. */
const FLAG_SLP_BUTTON = 1 << 5;
const FLAG_RTC_S4 = 1 << 7;
const FLAG_RESET_REG_SUP = 1 << 10;
const BOOT_LEGACY_DEVICES = 1 << 0;
const BOOT_8042 = 1 << 1;
const RESET_PORT = 0xcf9;
const RESET_VALUE = 0x0f;
const CMOS_CENTURY = 0x32;
/** C2 and C3 latencies that mean "not supported". */
const NO_C2 = 0xfff;
const NO_C3 = 0xfff;

/** The power button is a fixed feature: its flag is 0. The PM timer has 24 bits: TMR_VAL_EXT is 0. */
function buildFadt(facs: number, dsdt: number): Uint8Array {
  const flags = FLAG_WBINVD | FLAG_PROC_C1 | FLAG_SLP_BUTTON | FLAG_RTC_S4 | FLAG_RESET_REG_SUP;
  const body = new TableWriter()
    .u32(facs)
    .u32(dsdt)
    .u8(1) // INT_MODEL of ACPI 1.0: multiple APIC
    .u8(0)
    .u16(SCI_IRQ)
    .u32(SMI_CMD)
    .u8(ACPI_ENABLE)
    .u8(ACPI_DISABLE)
    .u8(0)
    .u8(0)
    .u32(PM1A_EVT)
    .u32(0)
    .u32(PM1A_CNT)
    .u32(0)
    .u32(0)
    .u32(PM_TMR)
    .u32(GPE0_BASE)
    .u32(0)
    .u8(4)
    .u8(2)
    .u8(0)
    .u8(4)
    .u8(GPE0_LENGTH)
    .u8(0)
    .u8(0)
    .u8(0)
    .u16(NO_C2)
    .u16(NO_C3)
    .u16(0)
    .u16(0)
    .u8(0)
    .u8(0)
    .u8(0)
    .u8(0)
    .u8(CMOS_CENTURY)
    .u16(BOOT_LEGACY_DEVICES | BOOT_8042)
    .u8(0)
    .u32(flags)
    .port(RESET_PORT, 8)
    .u8(RESET_VALUE)
    .zeros(3)
    .u64(0) // X_FIRMWARE_CTRL: 0 when FIRMWARE_CTRL is used
    .u64(dsdt)
    .port(PM1A_EVT, 32)
    .port(0, 0)
    .port(PM1A_CNT, 16)
    .port(0, 0)
    .port(0, 0)
    .port(PM_TMR, 32)
    .port(GPE0_BASE, GPE0_LENGTH * 8)
    .port(0, 0);
  return table('FACP', FADT_REVISION, body.done());
}

const MADT_PCAT_COMPAT = 1;
const MADT_LAPIC = 0;
const MADT_IOAPIC = 1;
const MADT_OVERRIDE = 2;
const MADT_LAPIC_NMI = 4;
const MADT_X2APIC = 9;
const MADT_X2APIC_NMI = 10;
const ENABLED = 1;
/** Active high, level triggered. */
const LEVEL_HIGH = 0x000d;
export const IOAPIC_ID = 0;

function buildMadt(apicIds: readonly number[]): Uint8Array {
  const body = new TableWriter().u32(LAPIC_BASE).u32(MADT_PCAT_COMPAT);
  let x2apic = false;
  apicIds.forEach((apicId, uid) => {
    if (apicId < 255 && uid < 255) {
      body.u8(MADT_LAPIC).u8(8).u8(uid).u8(apicId).u32(ENABLED);
    } else {
      x2apic = true;
      body.u8(MADT_X2APIC).u8(16).u16(0).u32(apicId).u32(ENABLED).u32(uid);
    }
  });
  body.u8(MADT_IOAPIC).u8(12).u8(IOAPIC_ID).u8(0).u32(IOAPIC_BASE).u32(0);
  // the 8254 is wired to pin 2
  body.u8(MADT_OVERRIDE).u8(10).u8(0).u8(0).u32(2).u16(0);
  for (const irq of levelIrqs()) body.u8(MADT_OVERRIDE).u8(10).u8(0).u8(irq).u32(irq).u16(LEVEL_HIGH);
  // NMI is LINT1 of every processor
  body.u8(MADT_LAPIC_NMI).u8(6).u8(0xff).u16(0).u8(1);
  if (x2apic) body.u8(MADT_X2APIC_NMI).u8(12).u16(0).u32(0xffff_ffff).u8(1).zeros(3);
  return table('APIC', 3, body.done());
}

/** ISA IRQs that can carry PCI interrupts or the SCI. */
export function levelIrqs(): readonly number[] {
  return [...new Set([5, SCI_IRQ, ...PIRQ_IRQS])].sort((a, b) => a - b);
}

/** Vendor 8086, legacy replacement, 64-bit counter, three timers, revision 1. */
const HPET_BLOCK_ID = 0x8086_a201;

function buildHpet(): Uint8Array {
  const body = new TableWriter().u32(HPET_BLOCK_ID).u8(0).u8(0).u8(0).u8(0).u64(HPET_BASE).u8(0).u16(0).u8(0);
  return table('HPET', 1, body.done());
}
