/** With icount two boots of Linux are the same to the byte and to the instruction, however busy the host is. */
import { expect, test } from 'vitest';
import { boot, DEFAULTS, difference } from '../tools/determinism.ts';

test.each([
  { smp: 4, shift: 0 },
  { smp: 2, shift: 3 },
])('$smp vCPUs, shift=$shift', async ({ smp, shift }) => {
  const quiet = await boot({ ...DEFAULTS, smp, shift });
  expect(quiet.output).toContain('Power down');
  expect(quiet.instructions).toBeGreaterThan(1e8);
  const loaded = await boot({ ...DEFAULTS, smp, shift, load: 2 });
  expect(difference(quiet, loaded)).toBeUndefined();
});

test('another seed gives another boot', async () => {
  const quick = { ...DEFAULTS, smp: 1, shift: 4 };
  const one = await boot(quick);
  const two = await boot({ ...quick, seed: 2 });
  expect(difference(one, two)).toBeDefined();
});
