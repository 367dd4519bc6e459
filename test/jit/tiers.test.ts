import { afterAll, describe, expect, it } from 'vitest';
import { NativeError } from '../oracle/native.ts';
import { TierOracle, type TierResult } from './tiers.ts';

const SECONDS = 1000;

/** A short run: `node test/jit/run.ts` does long ones. */
function start(log: (line: string) => void): TierOracle | NativeError {
  try {
    return new TierOracle({
      seed: 7,
      cases: 3,
      sequences: 1000,
      programs: 800,
      x87: 500,
      selfModifying: 250,
      shown: 1,
      log,
    });
  } catch (error) {
    if (error instanceof NativeError) return error;
    throw error;
  }
}

const reports: string[] = [];
const oracle = start((line) => reports.push(line));
if (oracle instanceof NativeError) console.log(`tier 1 oracle skipped: ${oracle.message}`);

describe.skipIf(oracle instanceof NativeError)('tier 1', () => {
  let result: TierResult;
  afterAll(async () => {
    if (oracle instanceof TierOracle) await oracle.close();
  });

  it(
    'agrees with tier 0 and the host CPU on single instructions, sequences, programs (of the x87, too) and self-modifying programs',
    { timeout: 600 * SECONDS },
    () => {
      result = (oracle as TierOracle).run();
      expect(reports.join('\n')).toBe('');
      expect(result.failures).toEqual([]);
    },
  );
  it('goes from region to region', () => {
    expect(result.counts.jumped).toBeGreaterThan(50);
  });
  it('compiles every form that it has code for', () => {
    expect(result.notCompiled).toEqual([]);
    expect(result.counts.forms.size).toBeGreaterThan(1500);
  });
});

const switchReports: string[] = [];
const switching = oracle instanceof NativeError ? undefined : startSwitching();
function startSwitching(): TierOracle {
  return new TierOracle({
    seed: 11,
    cases: 1,
    sequences: 300,
    programs: 400,
    x87: 250,
    selfModifying: 120,
    switching: true,
    shown: 1,
    log: (line) => switchReports.push(line),
  });
}
describe.skipIf(switching === undefined)('tiers that change at random places', () => {
  afterAll(async () => await switching?.close());

  it('agree with tier 0 and the host CPU', { timeout: 300 * SECONDS }, () => {
    const { failures, counts } = (switching as TierOracle).run();
    expect(switchReports.join('\n')).toBe('');
    expect(failures).toEqual([]);
    // each way of changing came often
    expect(counts.alone).toBeGreaterThan(1000);
    expect(counts.entered).toBeGreaterThan(1000);
    expect(counts.kicked).toBeGreaterThan(50);
  });
});
