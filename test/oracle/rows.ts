/** Which rows of the table the host can judge, and why not for the others. */
import { readFileSync } from 'node:fs';
import { type Row, ROWS } from '../../src/cpu/decode/table.ts';
import { featureBit } from '../../src/cpu/sys/cpu-features.ts';
import { CpuModel } from '../../src/cpu/sys/cpuid.ts';

/** Rows that are not run, with the reason and the other way in which they are checked. */
const EXCLUDED: Readonly<Record<string, string>> = {
  syscall: 'enters the host kernel; checked by the bare-metal tests and by every Linux boot',
  sysenter: 'enters the host kernel; checked by the bare-metal tests',
  cpuid: 'describes the host CPU; checked by the tests of test/sys',
  xgetbv: 'XCR0 is the host kernel’s; checked by the tests of test/sys',
  rdpmc: 'counters are the host’s; checked by the tests of test/sys',
  sgdt: 'under UMIP Linux makes up the result; checked by the tests of test/sys',
  sidt: 'under UMIP Linux makes up the result; checked by the tests of test/sys',
  sldt: 'under UMIP Linux makes up the result; checked by the tests of test/sys',
  str: 'under UMIP Linux makes up the result; checked by the tests of test/sys',
  smsw: 'under UMIP Linux makes up the result; checked by the tests of test/sys',
};

/** Table names of features that Linux or CpuModel call otherwise. */
const HOST_NAMES: Readonly<Record<string, string>> = { sse3: 'pni', lzcnt: 'abm' };

function hostFeatures(): ReadonlySet<string> {
  const line = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'));
  return new Set(line?.[1].trim().split(' ') ?? []);
}

export type RowClass = 'integer' | 'x87' | 'MMX/SSE' | 'BMI/AVX';

export function classOf(row: Row): RowClass {
  if (row.vex) return 'BMI/AVX';
  if (row.map === 0 && row.byte >= 0xd8 && row.byte <= 0xdf) return 'x87';
  return /^(mmx|sse|sse2|sse3|ssse3|sse4_1|sse4_2|aes|pclmulqdq|sha_ni)$/.test(row.feature) &&
    row.map > 0 &&
    !INTEGER_SSE.has(row.name)
    ? 'MMX/SSE'
    : 'integer';
}
const INTEGER_SSE = new Set(['movnti', 'lfence', 'mfence', 'sfence', 'crc32']);

const model = new CpuModel('max');

/** True when the emulator's `max` model has the row's feature. */
export function offered(row: Row): boolean {
  if (row.feature === 'base') return true;
  const bit = featureBit(row.feature) ?? featureBit(HOST_NAMES[row.feature] ?? '');
  return bit !== undefined && ((model.words[bit.word] >>> bit.bit) & 1) !== 0;
}

/** Why a row is not run; undefined when it is. */
export function rowSelector(): (row: Row) => string | undefined {
  const host = hostFeatures();
  return (row) => {
    const excluded = EXCLUDED[row.name];
    if (excluded) return excluded;
    if (row.feature === 'base') return undefined;
    if (!offered(row))
      return `the emulator does not offer ${row.feature}; there it must be #UD, which is checked`;
    if (!host.has(HOST_NAMES[row.feature] ?? row.feature)) return `the host has no ${row.feature}`;
    return undefined;
  };
}

/** A row as text, as the table writes it. */
export function rowText(row: Row): string {
  return `${row.opcode} ${row.text} ${row.operands.join(',') || '-'}`;
}

export { ROWS };
