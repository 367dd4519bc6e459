import { afterAll, describe, expect, it } from 'vitest';
import { printCoverage } from './coverage.ts';
import { NativeError } from './native.ts';
import { Oracle, type OracleResult } from './oracle.ts';

/** A short run: `node test/oracle/run.ts` does the long one. */
const CASES = 16;
const SEQUENCES = 12_000;
const SECONDS = 1000;

function start(log: (line: string) => void): Oracle | NativeError {
  try {
    return new Oracle({ seed: 7, cases: CASES, sequences: SEQUENCES, shown: 1, log });
  } catch (error) {
    if (error instanceof NativeError) return error;
    throw error;
  }
}

const reports: string[] = [];
const oracle = start((line) => reports.push(line));
if (oracle instanceof NativeError) console.log(`oracle skipped: ${oracle.message}`);

describe.skipIf(oracle instanceof NativeError)('tier 0 and the host CPU', () => {
  let result: OracleResult;
  afterAll(async () => {
    if (oracle instanceof Oracle) await oracle.close();
  });

  it(
    'agree on registers, flags, memory and faults for every row of the instruction table and for random sequences',
    { timeout: 300 * SECONDS },
    () => {
      result = (oracle as Oracle).run();
      printCoverage(result, false, (line) => console.log(line));
      expect(reports.join('\n')).toBe('');
      expect(result.failures).toEqual([]);
    },
  );
  it('cover every form of each row', () => {
    const short = result.rows.filter((r) => r.cases < Math.max(CASES, r.forms));
    expect(short.map((r) => `${r.row.opcode} ${r.row.name}: ${r.cases} of ${r.forms}`)).toEqual([]);
  });
  it('meet no instruction without semantics', () => {
    expect(result.missing).toEqual([]);
  });
});
