/**
 * Puts into guest memory what a BIOS would leave there for an operating system: the ACPI and MP tables and the
 * words of the BIOS data area that say where conventional memory ends. E0000–FFFFF must be RAM.
 */
import { buildAcpiTables, type AcpiOptions, type AcpiTables } from './acpi-tables.ts';
import { CONVENTIONAL_END, EBDA_BASE, MP_BASE, SMBIOS_BASE } from './e820.ts';
import { buildMpTable, type MpOptions } from './mp-table.ts';
import { buildSmbios, type SmbiosOptions } from './smbios.ts';

/** BIOS data area: segment of the extended BIOS data area, kilobytes of conventional memory. */
const BDA_EBDA_SEGMENT = 0x40e;
const BDA_MEMORY_KB = 0x413;

export interface FirmwareTableOptions extends AcpiOptions, MpOptions {
  /** False: `-no-acpi`, the guest has the MP table alone. */
  readonly acpi?: boolean;
  readonly smbios?: SmbiosOptions;
}

/**
 * `ram` begins at guest-physical 0. Returns the ACPI tables, undefined without ACPI. Throws AcpiTableError,
 * MpTableError. *Thread:* the machine's creator, or the one that resets it.
 */
export function placeFirmwareTables(ram: Uint8Array, options: FirmwareTableOptions): AcpiTables | undefined {
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  view.setUint16(BDA_EBDA_SEGMENT, EBDA_BASE >> 4, true);
  view.setUint16(BDA_MEMORY_KB, EBDA_BASE >> 10, true);
  // the first byte of the EBDA is its size in kilobytes
  view.setUint8(EBDA_BASE, (CONVENTIONAL_END - EBDA_BASE) >> 10);
  ram.set(buildMpTable(options), MP_BASE);
  if (options.smbios !== undefined) ram.set(buildSmbios(options.smbios), SMBIOS_BASE);
  if (options.acpi === false) return undefined;
  const tables = buildAcpiTables(options);
  ram.set(tables.bytes, tables.base);
  return tables;
}
