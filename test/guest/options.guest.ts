/** Kernel options that change clocks or interrupt controllers: a few of those in test/tools/kernel-options.ts. */
import { describe, expect, test } from 'vitest';
import { OPTION_CASES, tryOption } from '../tools/kernel-options.ts';

const WANTED = ['clocksource=hpet', 'clocksource=acpi_pm', 'noapic', 'nolapic', 'notsc'];

describe('kernel options', () => {
  for (const item of OPTION_CASES.filter(
    ({ append, extra }) => WANTED.includes(append) && extra === undefined,
  )) {
    test(item.append, async () => {
      expect((await tryOption('smp86', 'debian', 2, item, 180_000)).problems).toEqual([]);
    });
  }
  test('-cpu max: TSC deadline timer', async () => {
    const outcome = await tryOption('smp86', 'debian', 2, { append: '', extra: ['-cpu', 'max'] }, 180_000);
    expect(outcome.problems).toEqual([]);
    expect(outcome.facts).toContain('lapic-deadline');
  });
});
