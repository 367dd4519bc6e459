/** A guest that is stopped, let go on and throttled at random notices nothing. */
import { describe, expect, test } from 'vitest';
import { hasCompiler } from '../tools/guest-time.ts';
import { DEFAULTS, problems, stopAndContinue } from '../tools/stop-cont.ts';

const STOPS = 200;

// the program that looks at the clocks is compiled here
describe.skipIf(!hasCompiler())('a guest under load, stopped at random', () => {
  test.each([
    { thread: 'multi', append: '' },
    { thread: 'single', append: '' },
    { thread: 'multi', append: 'clocksource=hpet' },
  ] as const)('thread=$thread $append', async ({ thread, append }) => {
    const result = await stopAndContinue({ ...DEFAULTS, stops: STOPS, thread, append });
    expect(problems(result)).toEqual([]);
    expect(result.stopTimes).toHaveLength(STOPS);
  });
});
