import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { planOf, runCampaign } from '../../src/stress/campaign.ts';
import { parseStress, type StressOptions } from '../../src/stress/options.ts';
import { Report } from '../../src/stress/report.ts';
import { SCENARIOS } from '../../src/stress/scenarios.ts';
import type { CheckName } from '../../src/stress/vocabulary.ts';

const COMMAND = fileURLToPath(new URL('../../src/cli/stress.ts', import.meta.url));

function options(...args: string[]): StressOptions {
  const command = parseStress(args);
  if (command.action !== 'run') throw new Error(command.action);
  return command.options;
}

/** What each scenario has to have checked, so that none passes by doing nothing. */
const EXPECTED: Readonly<Record<string, readonly CheckName[]>> = {
  toggle: ['virtual-callback', 'disabled-callback', 'disabled-window', 'timer-fired', 'timer-early'],
  'main-loop': ['disabled-window', 'bql-excludes', 'request-arrived'],
  passes: ['virtual-callback', 'disabled-window', 'misuse-refused'],
  arm: ['timer-fired', 'timer-early'],
  'bottom-half': ['bh-called', 'bh-cancelled', 'oneshot-called'],
  iothread: ['timer-fired', 'disabled-window', 'oneshot-called'],
  disk: ['cache-cleaned', 'disk-content', 'disabled-window', 'virtual-callback'],
  ticks: ['time-monotonic', 'time-stopped'],
  all: ['cache-cleaned', 'disabled-window', 'timer-fired', 'bh-called', 'time-monotonic', 'bql-excludes'],
};

describe('scenarios find nothing in the clock core', () => {
  for (const { name, guest } of SCENARIOS) {
    // boots a kernel: see test/guest
    if (guest) continue;
    it(
      name,
      async () => {
        const report = await runCampaign(
          options('--scenario', name, '--seconds', '1', '--threads', '2', '--seed', '11', '--hang', '20'),
        );
        expect(report.violations).toEqual([]);
        for (const check of [...EXPECTED[name], 'nothing-left', 'no-error'] as const) {
          expect(report.checks.get(check) ?? 0, check).toBeGreaterThan(0);
        }
      },
      60_000,
    );
  }
});

describe('the command', () => {
  it('reports a hang: what each thread waits for, the locks and lists, and a status that is not 0', () => {
    const { status, stdout } = spawnSync(
      process.execPath,
      [
        ...[COMMAND, '--scenario', 'arm', '--plant', 'no-notify-head', '--seconds', '6'],
        ...['--threads', '2', '--hang', '1', '--seed', '1'],
      ],
      { encoding: 'utf8' },
    );
    expect(status).toBe(1);
    expect(stdout).toMatch(/HANG in scenario arm, round 0, watchdog/);
    expect(stdout).toMatch(/armer \d: runs; timer lateness for .*; waits for event: timer ticket \d+ done/);
    expect(stdout).toMatch(/context \d: runs; waits for group \d: notification to change from 0/);
  }, 60_000);

  it('adds reports of shards up, and refuses the same shard twice', () => {
    const directory = mkdtempSync(join(tmpdir(), 'smp86-stress-'));
    try {
      const files = [1, 2].map((i) => {
        const file = join(directory, `${i}.json`);
        const run = spawnSync(process.execPath, [
          ...[COMMAND, '--scenario', 'ticks,bottom-half', '--seconds', '0.5', '--threads', '2'],
          ...['--seed', '7', '--shard', `${i}/2`, '--json', file],
        ]);
        expect(run.status).toBe(0);
        return file;
      });
      const merged = spawnSync(process.execPath, [COMMAND, '--merge', ...files, '--json', '-'], {
        encoding: 'utf8',
      });
      expect(merged.status).toBe(0);
      const sum = Report.parse(merged.stdout, 'merged');
      expect(sum.shards).toEqual(['1/2', '2/2']);
      const parts = files.map((file) => Report.parse(readFileSync(file, 'utf8'), file));
      for (const [name, histogram] of sum.operations) {
        const counts = parts.map((p) => p.operations.get(name)?.count ?? 0);
        expect(histogram.count).toBe(counts[0] + counts[1]);
      }
      expect([...sum.scenarios.keys()].sort()).toEqual(['bottom-half', 'ticks']);
      const twice = spawnSync(process.execPath, [COMMAND, '--merge', files[0], files[0]], {
        encoding: 'utf8',
      });
      expect(twice.status).toBe(2);
      expect(twice.stderr).toContain('shard 1/2 of seed 7 is there twice');
      const broken = join(directory, 'broken.json');
      writeFileSync(broken, '{}');
      const refused = spawnSync(process.execPath, [COMMAND, '--merge', broken], { encoding: 'utf8' });
      expect(refused.status).toBe(2);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }, 60_000);

  it('runs shares side by side in a pool of threads', () => {
    const run = spawnSync(
      process.execPath,
      [COMMAND, ...'--scenario bottom-half --seconds 0.5 --threads 1 --jobs 2 --seed 3 --json -'.split(' ')],
      { encoding: 'utf8' },
    );
    expect(run.status).toBe(0);
    const report = Report.parse(run.stdout, 'jobs');
    expect(report.shards).toEqual(['1/2', '2/2']);
    expect(report.scenarios.get('bottom-half')?.rounds).toBeGreaterThanOrEqual(2);
  }, 60_000);

  it('names the option that is wrong in one line', () => {
    for (const [args, message] of [
      [['--scenario', 'nothing'], '--scenario nothing: must be one of toggle,'],
      [['--shard', '3/2'], '--shard 3/2: must be I/N'],
      [['--seconds', 'x'], '--seconds x: must be a number'],
      [['--threads', '1.5'], '--threads 1.5: must be a whole number'],
      [['--plant', 'rain'], 'there is no fault rain'],
      [['--merge'], '--merge: no files'],
    ] as const) {
      expect(() => parseStress(args)).toThrow(message);
    }
  });
});

describe('a campaign', () => {
  it('gives a round of the same seed the same scenario, tempo and placement, in whatever shard', () => {
    const one = options('--seed', '9');
    const two = options('--seed', '9', '--shard', '2/3');
    for (let n = 0; n < 20; n++) expect(planOf(n, one)).toEqual(planOf(n, two));
    const seeds = new Set(Array.from({ length: 50 }, (_, n) => planOf(n, one).seed));
    expect(seeds.size).toBe(50);
    const placements = new Set(Array.from({ length: 50 }, (_, n) => planOf(n, one).placement));
    expect(placements).toEqual(new Set(['free', 'spread', 'one']));
  });
});
