/** Litmus tests with few runs; `node test/tools/litmus.ts` is the campaign. */
import { expect, test } from 'vitest';
import { runLitmus, runLitmusTier1 } from '../tools/litmus.ts';
import { LITMUS_TESTS } from '../tools/litmus-tests.ts';

const RUNS = 8 * 4096;
const TIMEOUT_MS = 150_000;

// of those with fences here only where a fence changes what is allowed
const tests = LITMUS_TESTS.filter((t) => !/^(?!SB|R).*\+(MFENCE|LOCK)$/.test(t.name)).map(
  (t) => [t.name, t] as const,
);

test.each(tests)(
  '%s: no outcome that x86-TSO forbids, in tier 0',
  async (_name, litmus) => {
    const { outcomes, optimised } = await runLitmus({
      test: litmus,
      runs: RUNS,
      timeoutMs: TIMEOUT_MS,
    });
    expect(optimised).toBe(true);
    expect(outcomes.filter((o) => o.forbidden)).toEqual([]);
    expect(outcomes.reduce((sum, o) => sum + o.count, 0)).toBe(RUNS);
  },
  TIMEOUT_MS + 10_000,
);

// the campaign has each test in both places
test.each(tests.map(([name, t], i) => [name, i % 2 === 0 ? 'two pages' : 'one page', t] as const))(
  '%s, locations in %s: no outcome that x86-TSO forbids, in optimised regions',
  async (_name, where, litmus) => {
    const near = where === 'one page';
    const run = { test: litmus, runs: RUNS, near, timeoutMs: TIMEOUT_MS };
    const { outcomes, regionRuns } = await runLitmusTier1(run);
    expect(regionRuns).toBeGreaterThanOrEqual(RUNS);
    expect(outcomes.filter((o) => o.forbidden)).toEqual([]);
    expect(outcomes.reduce((sum, o) => sum + o.count, 0)).toBeGreaterThan(0);
  },
  2 * TIMEOUT_MS + 10_000,
);
