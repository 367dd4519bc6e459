/** Hot code that a disk's DMA writes over, in both tiers. */
import { expect, test } from 'vitest';
import { binaryPath } from './build.ts';
import { readExpectation } from './expectations.ts';
import { startSmp86, watchRegions } from './run.ts';

/** Where the program has the code read to: four functions, at three places of a sector. */
const CHANGED = 0x1000000;
const PLACES = 3;
const TIMEOUT_MS = 120_000;
const POLL_MS = 5;

test.each(['off', 'on'])(
  'jit=%s: no call of what was there before',
  async (jit) => {
    const { lines, options } = readExpectation('dma-code');
    const more = jit === 'on' ? ['-append', 'w'] : [];
    const started = [...options, ...more, '-accel', `tcg,jit=${jit}`];
    await using run = await startSmp86(binaryPath('dma-code'), started);
    // it goes on until the code has been a region at each place, and one was written over
    const changed = watchRegions(
      run.machine,
      POLL_MS,
      ({ head }) => head >= CHANGED,
      ({ entered, dropped }) => {
        if (entered.size === PLACES && dropped.size > 0) run.machine.serial[0]?.write('.');
      },
    );
    const result = await run.end(TIMEOUT_MS);
    const { entered, dropped } = changed.end();
    expect(result.output.replaceAll('\r', '').trimEnd().split('\n')).toEqual(lines);
    expect(result.status).toBe(33);
    if (jit === 'off') return;
    expect(entered.size).toBe(PLACES);
    expect(dropped.size).toBeGreaterThan(0);
  },
  TIMEOUT_MS + 30_000,
);
