/** The explorer finds what is wrong, and says nothing when nothing is. */
import { describe, expect, test } from 'vitest';
import { explore, replayId, scenarioNamed, tryMutation } from '../../src/explore/catalogue.ts';
import { MUTATIONS } from '../../src/explore/mutations.ts';
import { decodeSchedule, encodeSchedule, tableOf } from '../../src/explore/report.ts';

describe('schedules as text', () => {
  test('come back as they were', () => {
    const schedule = [0, 0, 0, 1, 2, 2, 18, 18, 0, 1 + 16 * 4, 33];
    expect(decodeSchedule(encodeSchedule(schedule))).toEqual(schedule);
  });
  test('that are none are refused', () => {
    expect(() => decodeSchedule('a2?')).toThrow(SyntaxError);
  });
});

describe('the shipped code', () => {
  test.each(['event', 'event-waiters', 'event-reset', 'event-timed', 'mutex'])(
    '%s: no violation',
    async (name) => {
      const outcome = explore(await scenarioNamed(name));
      expect(outcome.failure).toBeUndefined();
      expect(outcome.complete).toBe(true);
    },
  );
});

describe('planted faults', () => {
  const names = ['event-wake-one', 'event-no-recheck', 'mutex-no-notify'];
  test.each(MUTATIONS.filter((m) => names.includes(m.name)))(
    '$name is found and replays',
    async (mutation) => {
      const result = await tryMutation(mutation);
      expect(result.replays).toBe(true);
      const { execution, replay } = await replayId(result.id!);
      expect(tableOf(execution, replay.steps)).toContain('.ts:');
    },
  );
});
