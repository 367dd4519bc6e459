/** Code that other vCPUs change while it is executed, with 2 to 4 vCPUs, in both tiers. */
import { expect, test } from 'vitest';
import { binaryPath } from './build.ts';
import { readExpectation } from './expectations.ts';
import { startSmp86, watchRegions } from './run.ts';

/** Where the program puts the code that is changed, and bytes of it for each case. */
const CHANGED = 0x1000000;
const CASE_SIZE = 0x2000;
/** With fewer host cores than vCPUs everything waits for time slices. */
const TIMEOUT_MS = 240_000;
const POLL_MS = 50;

test.each([
  [2, 'off'],
  [3, 'off'],
  [2, 'on'],
  [4, 'on'],
])(
  '%i vCPUs, jit=%s: every vCPU sees the old or the new code, and the new one in the end',
  async (smp, jit) => {
    const { lines } = readExpectation('cross-code');
    const append = jit === 'on' ? `w${smp}` : String(smp);
    const options = ['-smp', String(smp), '-append', append, '-accel', `tcg,jit=${jit}`];
    await using run = await startSmp86(binaryPath('cross-code'), options);
    // each case has a hot time that lasts until its code is in a region, however long the JIT worker has to wait for a core
    const told = new Set<number>();
    const changed = watchRegions(
      run.machine,
      POLL_MS,
      ({ pages }) => pages.some((page) => page >= CHANGED),
      (_, valid) => {
        const ended = run.output.match(/bad values/g)?.length ?? 0;
        const hot = valid.some(({ pages }) =>
          pages.some((page) => Math.floor((page - CHANGED) / CASE_SIZE) === ended),
        );
        if (!hot || told.has(ended)) return;
        told.add(ended);
        run.machine.serial[0]?.write('.');
      },
    );
    const result = await run.end(TIMEOUT_MS);
    const { entered, dropped } = changed.end();
    expect(result.output.replaceAll('\r', '').trimEnd().split('\n')).toEqual(lines);
    expect(result.status).toBe(33);
    if (jit === 'off') return;
    expect(entered.size).toBeGreaterThan(1);
    expect(dropped.size).toBeGreaterThan(1);
  },
  TIMEOUT_MS + 30_000,
);
