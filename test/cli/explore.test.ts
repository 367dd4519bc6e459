/** `smp86 explore` as a command: what it prints, and its exit status. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const SMP86 = fileURLToPath(new URL('../../src/cli/smp86.ts', import.meta.url));

function explore(...args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [SMP86, 'explore', ...args], {
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  return { status, stdout, stderr };
}

describe('smp86 explore', () => {
  test('prints threads, bound, schedules, states, steps and time of each scenario, and their sum', () => {
    const { status, stdout, stderr } = explore('--random', '0', 'event', 'event-waiters');
    expect(stderr).toBe('');
    const [head, first, second, sum] = stdout.trim().split('\n');
    expect(head.split(/ +/)).toEqual([
      'scenario',
      'threads',
      'bound',
      'schedules',
      'states',
      'steps',
      'ms',
      'result',
    ]);
    const [one, two] = [first, second].map((row) => row.split(/ +/));
    expect(one.slice(0, 3)).toEqual(['event', '3', 'none']);
    expect(two.slice(0, 3)).toEqual(['event-waiters', '3', 'none']);
    const [, schedules, states] = sum.split(/ +/);
    expect(Number(schedules)).toBe(Number(one[3]) + Number(two[3]));
    expect(Number(states)).toBe(Number(one[4]) + Number(two[4]));
    expect(status).toBe(0);
  });

  test('a violation ends it with status 1, and the command it prints does the schedule again', () => {
    const found = explore('--mutation', 'event-busy-to-free', 'event-reset');
    expect(found.status).toBe(1);
    const again = /again: smp86 explore --replay '([^']+)'/.exec(found.stdout);
    expect(again).not.toBeNull();
    const replayed = explore('--replay', again![1]);
    expect(replayed.status).toBe(1);
    expect(replayed.stdout).toContain('lost-wake-up');
  });

  test.each([
    [['nothing'], 'there is no scenario nothing'],
    [['--mutation', 'nothing'], 'there is no mutation nothing'],
    [['--seconds', 'x'], '--seconds x: not a number'],
    [['--replay', 'x'], 'x is not scenario:schedule or scenario~mutation:schedule'],
    [['--bad'], "Unknown option '--bad'"],
  ])('%j is a mistake of the user', (args, message) => {
    const { status, stderr } = explore(...args);
    expect(stderr).toContain(`smp86 explore: ${message}`);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(status).toBe(2);
  });
});
