/** 32-bit code that is hot when its segments change: regions are entered, and refuse where they must. */
import { expect, test } from 'vitest';
import { MAX_REFUSALS } from '../../src/jit/layout.ts';
import type { RegionInfo } from '../../src/jit/compiler.ts';
import { binaryPath } from './build.ts';
import { readExpectation } from './expectations.ts';
import { startSmp86 } from './run.ts';

const TIMEOUT_MS = 120_000;
const POLL_MS = 5;

test.each(['off', 'on'])(
  'jit=%s: segments are what they are, not what they were',
  async (jit) => {
    const { lines } = readExpectation('hot32');
    await using run = await startSmp86(binaryPath('hot32'), ['-accel', `tcg,jit=${jit}`]);
    let regions: RegionInfo[] = [];
    const watch = setInterval(() => {
      void run.machine.regions().then((list) => {
        if (list.length > 0) regions = list;
      });
    }, POLL_MS);
    const result = await run.end(TIMEOUT_MS);
    clearInterval(watch);
    expect(result.output.replaceAll('\r', '').trimEnd().split('\n')).toEqual(lines);
    if (jit === 'off') return;
    expect(regions.some((r) => r.exits > 0)).toBe(true);
    expect(regions.some((r) => r.refusals >= MAX_REFUSALS)).toBe(true);
  },
  TIMEOUT_MS + 30_000,
);
