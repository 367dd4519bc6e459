/**
 * The physical memory map of the machine and where firmware tables lie. There is no BIOS image: E0000–FFFFF is
 * RAM that holds the tables, and the map reports it as reserved.
 */
import { E820_RAM, E820_RESERVED, type E820Entry } from './boot/memory.ts';

/** End of conventional memory: the extended BIOS data area begins. */
export const EBDA_BASE = 0x9_fc00;
export const CONVENTIONAL_END = 0xa_0000;
/** Video memory and option ROMs end, tables begin. */
export const TABLES_BASE = 0xe_0000;
/** ACPI tables: RSDP first (found by the scan of E0000–FFFFF), then the others. */
export const ACPI_BASE = 0xe_0000;
export const ACPI_SIZE = 0x1_0000;
/** MP floating pointer and configuration table. */
export const MP_BASE = 0xf_0000;
export const MP_SIZE = 0x8000;
/** SMBIOS entry point and structures. */
export const SMBIOS_BASE = 0xf_8000;
export const SMBIOS_SIZE = 0x8000;
export const TABLES_END = 0x10_0000;
export const EXTENDED_BASE = 0x10_0000;
/** RAM below 4 GiB ends here at the latest; PCI memory begins. */
export const LOW_RAM_LIMIT = 0xc000_0000;
export const FOUR_GIB = 2 ** 32;

export const IOAPIC_BASE = 0xfec0_0000;
export const HPET_BASE = 0xfed0_0000;
export const HPET_SIZE = 0x400;
export const LAPIC_BASE = 0xfee0_0000;

/** A RAM size that the map cannot express. */
export class MemoryMapError extends Error {
  readonly code = 'ERR_MEMORY_MAP';
  constructor(message: string) {
    super(message);
    this.name = 'MemoryMapError';
  }
}

/**
 * The map for RAM of `ramBelow4G` bytes from address 0 and `ramAbove4G` bytes from 4 GiB. At least 2 MiB.
 * Throws MemoryMapError.
 */
export function memoryMap(ramBelow4G: number, ramAbove4G = 0): E820Entry[] {
  if (ramBelow4G < 2 << 20 || ramBelow4G > LOW_RAM_LIMIT || ramBelow4G % 4096 !== 0) {
    throw new MemoryMapError(`RAM below 4 GiB cannot be ${ramBelow4G} bytes`);
  }
  const map: E820Entry[] = [
    { base: 0, length: EBDA_BASE, type: E820_RAM },
    { base: EBDA_BASE, length: CONVENTIONAL_END - EBDA_BASE, type: E820_RESERVED },
    { base: TABLES_BASE, length: TABLES_END - TABLES_BASE, type: E820_RESERVED },
    { base: EXTENDED_BASE, length: ramBelow4G - EXTENDED_BASE, type: E820_RAM },
  ];
  if (ramAbove4G > 0) map.push({ base: FOUR_GIB, length: ramAbove4G, type: E820_RAM });
  return map;
}
