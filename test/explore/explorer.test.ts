/** The explorer finds what is wrong, says nothing when nothing is, and leaves nothing out. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  explore,
  exploreRandom,
  mutationNamed,
  replayId,
  scenarioNamed,
  tryMutation,
} from '../../src/explore/catalogue.ts';
import { EXEMPTIONS } from '../../src/explore/config.ts';
import { Execution, scenariosOf } from '../../src/explore/execution.ts';
import { Explorer } from '../../src/explore/explorer.ts';
import { MUTATIONS } from '../../src/explore/mutations/index.ts';
import { decodeSchedule, encodeSchedule, tableOf } from '../../src/explore/report.ts';

const SELF_TEST = join(import.meta.dirname, 'self-test.ts');

async function own(name: string) {
  const found = (await scenariosOf(SELF_TEST)).find((s) => s.scenario.name === name);
  if (found === undefined) throw new RangeError(name);
  return found;
}

describe('schedules as text', () => {
  test('come back as they were', () => {
    const schedule = [0, 0, 0, 1, 2, 2, 18, 18, 0, 1 + 16 * 4, 33];
    expect(decodeSchedule(encodeSchedule(schedule))).toEqual(schedule);
  });
  test('that are none are refused', () => {
    expect(() => decodeSchedule('a2?')).toThrow(SyntaxError);
  });
});

describe('outcomes', () => {
  test.each([
    ['unlocked counter', 'race'],
    ['lost update', 'end-state'],
    ['two locks in two orders', 'deadlock'],
    ['sleep after a look', 'lost-wake-up'],
    ['politeness', 'livelock'],
    ['a throw', 'exception'],
    ['only a timeout', 'lost-wake-up'],
    ['a choice', 'assertion'],
    ['nowhere', 'unreached'],
    ['use after free', 'use-after-free'],
    ['plain use after free', 'use-after-free'],
    ['mixed access', 'race'],
    ['closures', 'assertion'],
    ['dead store', 'assertion'],
  ])('%s: %s', async (name, kind) => {
    const outcome = explore(await own(name));
    expect(outcome.failure?.kind).toBe(kind);
  });

  test('a spinning thread is no livelock: a fair scheduler ends it', async () => {
    const outcome = explore(await own('spinning'));
    expect(outcome).toMatchObject({ complete: true });
    expect(outcome.failure).toBeUndefined();
  });

  test('memory that nobody needs any more may be given back', async () => {
    const outcome = explore(await own('free in turn'));
    expect(outcome).toMatchObject({ complete: true });
    expect(outcome.failure).toBeUndefined();
  });

  test('random schedules find a race by vector clocks', async () => {
    expect(exploreRandom(await own('unlocked counter'), 50, 1).failure?.kind).toBe('race');
  });

  test('the same seed gives the same schedules', async () => {
    const [a, b] = [
      exploreRandom(await own('lost update'), 50, 7),
      exploreRandom(await own('lost update'), 50, 7),
    ];
    expect(a.schedule).toEqual(b.schedule);
  });
});

describe('nothing is left out', () => {
  /** End states (hashes of shared memory) that an exploration comes to. */
  async function ends(
    name: string,
    naive: boolean,
    preemptions = Infinity,
  ): Promise<{ ends: string[]; steps: number }> {
    const execution = new Execution(await own(name));
    const found = new Set<string>();
    const onEnd = () => found.add(`${execution.world.a},${execution.world.b}`);
    const outcome = new Explorer(execution, { preemptions, naive, onEnd }).run();
    expect(outcome.failure).toBeUndefined();
    expect(outcome.complete).toBe(true);
    return { ends: [...found].sort(), steps: outcome.steps };
  }

  test.each(['three writers', 'two lockers', 'sleepers', 'plain then atomic'])(
    '%s: merging states and sleep sets come to the same ends as all schedules',
    async (name) => {
      const all = await ends(name, true);
      const merged = await ends(name, false);
      expect(merged.ends).toEqual(all.ends);
      expect(merged.steps).toBeLessThan(all.steps);
      expect((await ends(name, false, 100)).ends).toEqual(all.ends);
    },
  );
});

describe('memory', () => {
  test.each(['mpsc-records', 'spsc-full', 'clock-enable', 'bh-oneshot', 'kick-sleep'])(
    '%s: every change is seen by the explorer',
    async (name) => {
      const source = await scenarioNamed(name);
      const execution = new Execution(source);
      let checked = 0;
      const onEnd = () => {
        if (checked++ < 200) expect(execution.world.consistent).toBe(true);
      };
      new Explorer(execution, { preemptions: Infinity, onEnd, maxStates: 50_000 }).run();
      expect(checked).toBeGreaterThan(0);
    },
  );
});

describe('exemptions', () => {
  test('each is in a source as it is written', () => {
    for (const { file, text } of EXEMPTIONS) {
      expect(readFileSync(join(import.meta.dirname, '../..', file), 'utf8'), `${file}: ${text}`).toContain(
        text,
      );
    }
  });
});

describe('the shipped code', () => {
  const quick = [
    'event',
    'event-waiters',
    'event-reset',
    'event-timed',
    'mutex',
    'condition-broadcast',
    'semaphore',
    'semaphore-timed',
    'once',
    'barrier',
    'spsc-full',
    'notify-poll',
    'bh-schedule-two',
    'clock-disablers',
    'clock-enable',
    'kick-together',
    'bql-clock',
  ];
  test.each(quick)('%s: no violation', async (name) => {
    const outcome = explore(await scenarioNamed(name));
    expect(outcome.failure).toBeUndefined();
    expect(outcome.complete).toBe(true);
  });
});

describe('planted faults', () => {
  test('there are at least 40, each with its own name', () => {
    expect(new Set(MUTATIONS.map((m) => m.name)).size).toBe(MUTATIONS.length);
    expect(MUTATIONS.length).toBeGreaterThanOrEqual(40);
  });

  test.each(MUTATIONS)('$name: its text is in its file, once', ({ patches }) => {
    for (const { file, find } of patches) {
      const text = readFileSync(join(import.meta.dirname, '../..', file), 'utf8');
      expect(text.split(find).length - 1, `${file}: ${find}`).toBe(1);
    }
  });

  const quick = [
    'event-wake-one',
    'event-no-recheck',
    'mutex-no-notify',
    'mutex-plain-unlock',
    'condition-no-sequence',
    'semaphore-wake-at-zero',
    'list-enabled-first',
    'notify-look-first',
    'exclusive-look-first',
  ];
  test.each(quick)('%s is found, and its schedule replays', async (name) => {
    const result = await tryMutation(mutationNamed(name));
    expect(result.replays).toBe(true);
    const { execution, replay } = await replayId(result.id!);
    expect(tableOf(execution, replay.steps)).toContain('.ts:');
  });
});
