/**
 * A minimal SMBIOS: what firmware and system call themselves. SMBIOS Reference Specification 2.8 (DSP0134):
 * 5.2.1 (entry point), 7.1 (type 0), 7.2 (type 1), 7.45 (type 127). Placed at SMBIOS_BASE.
 */
import { checksum } from './acpi-tables.ts';
import { SMBIOS_BASE } from './e820.ts';

const ENTRY_SIZE = 31;
/** Second part of the entry point, with a checksum of its own. */
const INTERMEDIATE = 16;
const TABLE_OFFSET = 32;
const TYPE_BIOS = 0;
const TYPE_SYSTEM = 1;
const TYPE_END = 127;
/** BIOS characteristics: they are not supported (bit 3). */
const CHARACTERISTICS_UNSUPPORTED = 0x08;
/** Extension byte 2: the table describes a virtual machine (bit 4). */
const VIRTUAL_MACHINE = 0x10;
const WAKE_UP_POWER_SWITCH = 6;

export interface SmbiosOptions {
  /** Version of the emulator. */
  readonly version: string;
  /** `-uuid`, 16 bytes as SMBIOS stores them; zeros (not present) unless given. */
  readonly uuid?: Uint8Array;
}

/** Entry point and structures: bytes to be placed at SMBIOS_BASE. */
export function buildSmbios({ version, uuid = new Uint8Array(16) }: SmbiosOptions): Uint8Array {
  const structures = [
    structure(
      TYPE_BIOS,
      0,
      [
        1,
        2,
        0,
        0xe0,
        3,
        0,
        CHARACTERISTICS_UNSUPPORTED,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        VIRTUAL_MACHINE,
        0,
        0,
        0xff,
        0xff,
      ],
      ['smp86', version, '01/01/2026'],
    ),
    structure(
      TYPE_SYSTEM,
      1,
      [1, 2, 3, 0, ...uuid, WAKE_UP_POWER_SWITCH, 0, 0],
      ['smp86', 'Standard PC (i440FX + PIIX, 1996)', version],
    ),
    structure(TYPE_END, 2, [], []),
  ];
  const table = structures.flat();
  const longest = Math.max(...structures.map((s) => s.length));
  const word = (value: number): number[] => [value & 0xff, (value >> 8) & 0xff];
  const address = SMBIOS_BASE + TABLE_OFFSET;
  const out = new Uint8Array(TABLE_OFFSET + table.length);
  out.set([...ascii('_SM_'), 0, ENTRY_SIZE, 2, 8, ...word(longest), 0, 0, 0, 0, 0, 0]);
  const addressBytes = [...word(address), ...word(address >>> 16)];
  out.set(
    [...ascii('_DMI_'), 0, ...word(table.length), ...addressBytes, ...word(structures.length), 0x28],
    INTERMEDIATE,
  );
  out[INTERMEDIATE + 5] = checksum(out.subarray(INTERMEDIATE, ENTRY_SIZE));
  out[4] = checksum(out.subarray(0, ENTRY_SIZE));
  out.set(table, TABLE_OFFSET);
  return out;
}

/** A structure: header, formatted area, strings each ended by 0, and a final 0. */
function structure(
  type: number,
  handle: number,
  body: readonly number[],
  strings: readonly string[],
): number[] {
  const text = strings.flatMap((s) => [...ascii(s), 0]);
  return [type, 4 + body.length, handle, 0, ...body, ...(text.length === 0 ? [0] : text), 0];
}

function ascii(text: string): number[] {
  return Array.from(text, (c) => c.charCodeAt(0) & 0x7f);
}
