import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { runCampaign } from '../../src/stress/campaign.ts';
import { FAULTS } from '../../src/stress/faults.ts';
import { parseStress, type StressOptions } from '../../src/stress/options.ts';

function options(...args: string[]): StressOptions {
  const command = parseStress(args);
  if (command.action !== 'run') throw new Error(command.action);
  return command.options;
}

/** Rounds that a planted fault may survive. */
const ROUNDS = 12;

describe('planted faults are found', () => {
  it.each(FAULTS)('$name: its text is in its file, once', ({ file, find }) => {
    const text = readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');
    expect(text.split(find).length - 1).toBe(1);
  });

  for (const { name, scenario, note, threads = 3 } of FAULTS) {
    it(`${name}: ${note}`, async () => {
      const report = await runCampaign(
        options(
          ...[
            '--scenario',
            scenario,
            '--plant',
            name,
            '--threads',
            String(threads),
            '--hang',
            '3',
            '--seed',
            '5',
          ],
          ...['--tempo', 'torn'],
          ...['--seconds', String(ROUNDS * 2.5), '--round-seconds', '2'],
        ),
      );
      expect(report.violations.length).toBeGreaterThan(0);
      const [first] = report.violations;
      // a fault whose text has gone, or is no program, ends a thread with an error: that is not what is to be found
      expect(first.check, first.message).not.toBe('no-error');
      expect(first.again).toContain(`--plant ${name}`);
      expect(first.dump).toContain('threads:');
      expect(first.dump).toContain('timer lists in use:');
    }, 60_000);
  }
});
