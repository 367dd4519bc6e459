/** Litmus tests with few runs; `node test/tools/litmus.ts` is the campaign. */
import { expect, test } from 'vitest';
import { LITMUS_TESTS, runLitmus } from '../tools/litmus.ts';

const RUNS = 200_000;
const TIMEOUT_MS = 60_000;

test.each(LITMUS_TESTS.map((t) => [t.name, t] as const))(
  '%s: no outcome that x86-TSO forbids',
  async (_name, litmus) => {
    const { outcomes, optimised } = await runLitmus({ test: litmus, runs: RUNS, timeoutMs: TIMEOUT_MS });
    expect(optimised).toBe(true);
    expect(outcomes.filter((o) => o.forbidden)).toEqual([]);
    if (litmus.name !== 'seqlock') {
      // whole batches
      expect(outcomes.reduce((sum, o) => sum + o.count, 0)).toBe(Math.ceil(RUNS / 4096) * 4096);
    } else expect(outcomes.find((o) => o.text === 'read')?.count).toBeGreaterThan(0);
  },
  TIMEOUT_MS + 10_000,
);
