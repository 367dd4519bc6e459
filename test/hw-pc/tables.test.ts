import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { buildAcpiTables, checksum, type AcpiTables } from '../../src/machine/acpi-tables.ts';
import * as aml from '../../src/machine/aml.ts';
import {
  ACPI_BASE,
  ACPI_SIZE,
  memoryMap,
  MemoryMapError,
  MP_BASE,
  SMBIOS_BASE,
} from '../../src/machine/e820.ts';
import { placeFirmwareTables } from '../../src/machine/firmware-tables.ts';
import { buildMpTable } from '../../src/machine/mp-table.ts';
import { buildSmbios } from '../../src/machine/smbios.ts';

const ids = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const text = (bytes: Uint8Array): string => String.fromCharCode(...bytes);

function tableBytes(tables: AcpiTables, signature: string): Uint8Array {
  const at = tables.addresses.get(signature)! - tables.base;
  const view = new DataView(tables.bytes.buffer, tables.bytes.byteOffset);
  return tables.bytes.subarray(at, at + view.getUint32(at + 4, true));
}

/** MADT entries as byte lists. */
function madtEntries(tables: AcpiTables): number[][] {
  const bytes = tableBytes(tables, 'APIC');
  const out: number[][] = [];
  for (let at = 44; at < bytes.length; at += bytes[at + 1])
    out.push([...bytes.subarray(at, at + bytes[at + 1])]);
  return out;
}

describe('ACPI tables', () => {
  const tables = buildAcpiTables({ apicIds: ids(4) });

  test('the RSDP leads to RSDT and XSDT, and these to the same tables', () => {
    const { bytes, base } = tables;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    expect([text(bytes.subarray(0, 8)), bytes[15], tables.rsdp]).toEqual(['RSD PTR ', 2, ACPI_BASE]);
    expect([checksum(bytes.subarray(0, 20)), checksum(bytes.subarray(0, 36))]).toEqual([0, 0]);
    const rsdt = view.getUint32(16, true) - base;
    const xsdt = Number(view.getBigUint64(24, true)) - base;
    for (let i = 0; i < 3; i++) {
      const address = view.getUint32(rsdt + 36 + 4 * i, true);
      expect(Number(view.getBigUint64(xsdt + 36 + 8 * i, true))).toBe(address);
      expect(['FACP', 'APIC', 'HPET']).toContain(text(bytes.subarray(address - base, address - base + 4)));
    }
  });

  test('every table but the FACS has a right checksum', () => {
    for (const signature of tables.addresses.keys()) {
      if (signature !== 'FACS')
        expect([signature, checksum(tableBytes(tables, signature))]).toEqual([signature, 0]);
    }
    expect(tables.addresses.get('FACS')! % 64).toBe(0);
  });

  test('the MADT has overrides for IRQ 0, 5, 9, 10, 11 and LINT1 as NMI', () => {
    const entries = madtEntries(tables);
    expect(entries.filter((e) => e[0] === 0).map((e) => [e[2], e[3]])).toEqual([
      [0, 0],
      [1, 1],
      [2, 2],
      [3, 3],
    ]);
    expect(entries.filter((e) => e[0] === 2).map((e) => [e[3], e[4], e[8]])).toEqual([
      [0, 2, 0],
      [5, 5, 13],
      [9, 9, 13],
      [10, 10, 13],
      [11, 11, 13],
    ]);
    expect(entries.filter((e) => e[0] === 4)).toEqual([[4, 6, 0xff, 0, 0, 1]]);
    expect(entries.find((e) => e[0] === 1)!.slice(2, 8)).toEqual([0, 0, 0, 0, 0xc0, 0xfe]);
  });

  test('APIC IDs above 254 get x2APIC entries', () => {
    const entries = madtEntries(buildAcpiTables({ apicIds: [0, 254, 255, 0x100] }));
    expect(entries.filter((e) => e[0] === 0).map((e) => e[3])).toEqual([0, 254]);
    expect(entries.filter((e) => e[0] === 9)).toEqual([
      [9, 16, 0, 0, 0xff, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0],
      [9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0],
    ]);
    expect(entries.some((e) => e[0] === 10)).toBe(true);
  });

  test('288 vCPUs fit, and HPET and fw_cfg can be left out', () => {
    const large = buildAcpiTables({ apicIds: ids(288) });
    expect(large.bytes.length).toBeLessThan(ACPI_SIZE);
    const small = buildAcpiTables({ apicIds: [0], hpet: false, fwCfg: false, serialPorts: [] });
    expect(small.addresses.has('HPET')).toBe(false);
    expect(text(tableBytes(small, 'DSDT'))).not.toMatch(/HPET|QEMU0002|COM1/);
  });
});

const iasl = spawnSync('iasl', ['-v']).status === 0;

describe.skipIf(!iasl)('iasl (skipped when acpica-tools is not installed)', () => {
  const dir = mkdtempSync(join(tmpdir(), 'smp86-acpi-'));
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  test.each([1, 300])(
    'every table disassembles, and reassembles to the same bytes, with %i vCPUs',
    (cpus) => {
      const tables = buildAcpiTables({ apicIds: ids(cpus) });
      for (const signature of tables.addresses.keys()) {
        if (signature === 'RSDT' || signature === 'XSDT') continue;
        const original = tableBytes(tables, signature);
        const file = join(dir, `${signature}-${cpus}`);
        writeFileSync(`${file}.aml`, original);
        const down = spawnSync('iasl', ['-d', `${file}.aml`], { encoding: 'utf8' });
        expect(down.status, down.stdout + down.stderr).toBe(0);
        expect(down.stderr).not.toMatch(/error|checksum/i);
        // -oa: no optimisation, so that our encoding is compared as it is
        const up = spawnSync('iasl', ['-oa', '-p', `${file}-new`, `${file}.dsl`], { encoding: 'utf8' });
        expect(up.status, up.stdout + up.stderr).toBe(0);
        const built = new Uint8Array(readFileSync(`${file}-new.aml`));
        // the compiler puts its own name and, with it, a checksum in the header
        const creator = (bytes: Uint8Array): Uint8Array => {
          const copy = bytes.slice();
          if (signature !== 'FACS') {
            copy[9] = 0;
            copy.fill(0, 28, 36);
          }
          return copy;
        };
        expect(creator(built), signature).toEqual(creator(original));
      }
    },
  );

  test('the DSDT compiles without any warning but that of the Processor keyword', () => {
    const tables = buildAcpiTables({ apicIds: ids(2) });
    writeFileSync(join(dir, 'w.aml'), tableBytes(tables, 'DSDT'));
    spawnSync('iasl', ['-d', join(dir, 'w.aml')]);
    const { stdout, stderr } = spawnSync('iasl', [join(dir, 'w.dsl')], { encoding: 'utf8' });
    const found = `${stdout}${stderr}`.match(/^(Error|Warning|Remark) +\d+/gm) ?? [];
    expect(found.filter((line) => !line.includes('3168'))).toEqual([]);
  });
});

describe('AML', () => {
  test('package lengths at their borders count themselves', () => {
    expect(aml.scope('A', [new Array<number>(58).fill(0xa3)])[1]).toBe(63);
    expect(aml.scope('A', [new Array<number>(59).fill(0xa3)]).slice(1, 3)).toEqual([0x41, 0x04]);
    const large = aml.scope('A', [new Array<number>(4090).fill(0xa3)]);
    expect([large[1] >> 6, (large[1] & 15) | (large[2] << 4) | (large[3] << 12)]).toEqual([
      2,
      large.length - 1,
    ]);
  });

  test('integers, names and EISA IDs', () => {
    expect([0, 1, 2, 0x100, 0x10000, 2 ** 32].map((v) => aml.int(v).length)).toEqual([1, 1, 2, 3, 5, 9]);
    expect(aml.path('\\_SB.PCI0')).toEqual([0x5c, 0x2e, ...Buffer.from('_SB_PCI0')]);
    expect(aml.path('^^A.B.C')).toEqual([0x5e, 0x5e, 0x2f, 3, ...Buffer.from('A___B___C___')]);
    expect(aml.eisaId('PNP0A03')).toEqual([0x0c, 0x41, 0xd0, 0x0a, 0x03]);
    for (const bad of ['lower', '1A', 'TOOLONG']) expect(() => aml.path(bad)).toThrow(aml.AmlError);
    expect(() => aml.eisaId('PNPX')).toThrow(aml.AmlError);
  });
});

describe('MP table', () => {
  const bytes = buildMpTable({ apicIds: ids(3), signature: 0x663, features: 0x1f });
  const view = new DataView(bytes.buffer);
  const config = bytes.subarray(16);

  test('floating pointer and configuration table are consistent', () => {
    expect([text(bytes.subarray(0, 4)), view.getUint32(4, true)]).toEqual(['_MP_', MP_BASE + 16]);
    expect([checksum(bytes.subarray(0, 16)), checksum(config)]).toEqual([0, 0]);
    expect([text(config.subarray(0, 4)), view.getUint16(20, true)]).toEqual(['PCMP', config.length]);
    let at = 44;
    let count = 0;
    for (; at < config.length; count++) at += config[at] === 0 ? 20 : 8;
    expect([at, count]).toEqual([config.length, view.getUint16(16 + 34, true)]);
  });

  test('the first processor boots, IRQ 0 is on pin 2, IRQ 10 and 11 belong to PCI', () => {
    const entries: number[][] = [];
    for (let at = 44; at < config.length;) {
      const size = config[at] === 0 ? 20 : 8;
      entries.push([...config.subarray(at, at + size)]);
      at += size;
    }
    expect(entries.filter((e) => e[0] === 0).map((e) => [e[1], e[3]])).toEqual([
      [0, 3],
      [1, 1],
      [2, 1],
    ]);
    const isa = entries.filter((e) => e[0] === 3 && e[4] === 1).map((e) => [e[5], e[7]]);
    expect(isa).toContainEqual([0, 2]);
    expect(isa.map(([irq]) => irq)).toEqual([0, 1, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15]);
    // slot 3, INTA#: PIRQC, IRQ 11
    expect(entries).toContainEqual([3, 0, 0x0d, 0, 0, 3 << 2, 0, 11]);
  });
});

test('the SMBIOS entry point covers its structures and its checksums hold', () => {
  const bytes = buildSmbios({ version: '1.0' });
  const view = new DataView(bytes.buffer);
  expect([text(bytes.subarray(0, 4)), text(bytes.subarray(16, 21))]).toEqual(['_SM_', '_DMI_']);
  expect([checksum(bytes.subarray(0, 31)), checksum(bytes.subarray(16, 31))]).toEqual([0, 0]);
  expect([view.getUint32(24, true), view.getUint16(22, true)]).toEqual([SMBIOS_BASE + 32, bytes.length - 32]);
  const found: number[][] = [];
  for (let at = 32; at < bytes.length;) {
    found.push([bytes[at], bytes[at + 1]]);
    at += bytes[at + 1];
    while (bytes[at] !== 0 || bytes[at + 1] !== 0) at++;
    at += 2;
  }
  expect(found).toEqual([
    [0, 24],
    [1, 27],
    [127, 4],
  ]);
});

describe('memory map', () => {
  test('RAM below the EBDA and from 1 MiB up, the tables reserved', () => {
    expect(memoryMap(512 << 20)).toEqual([
      { base: 0, length: 0x9fc00, type: 1 },
      { base: 0x9fc00, length: 0x400, type: 2 },
      { base: 0xe0000, length: 0x20000, type: 2 },
      { base: 0x100000, length: 511 << 20, type: 1 },
    ]);
    expect(memoryMap(0xc0000000, 2 ** 30).at(-1)).toEqual({ base: 2 ** 32, length: 2 ** 30, type: 1 });
    expect(() => memoryMap(0xc0001000)).toThrow(MemoryMapError);
    expect(() => memoryMap(1 << 20)).toThrow(MemoryMapError);
  });

  test('the tables are placed in RAM with the words of the BIOS data area', () => {
    const ram = new Uint8Array(2 << 20);
    const options = { apicIds: [0], signature: 0, features: 0 };
    placeFirmwareTables(ram, options);
    expect([text(ram.subarray(ACPI_BASE, ACPI_BASE + 7)), text(ram.subarray(MP_BASE, MP_BASE + 4))]).toEqual([
      'RSD PTR',
      '_MP_',
    ]);
    expect([ram[0x40e] | (ram[0x40f] << 8), ram[0x413] | (ram[0x414] << 8), ram[0x9fc00]]).toEqual([
      0x9fc0, 639, 1,
    ]);
    const bare = new Uint8Array(2 << 20);
    expect(placeFirmwareTables(bare, { ...options, acpi: false })).toBeUndefined();
    expect(bare[ACPI_BASE]).toBe(0);
  });
});
