/** `smp86 img` beside qemu-img: the same exit codes, JSON, texts and images. */
import { spawnSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SCENARIOS } from './commands.ts';
import { Twins } from './twins.ts';

const hasQemu = ['qemu-img', 'qemu-io'].every((name) => spawnSync(name, ['--version']).status === 0);
if (!hasQemu) console.log('skipped: needs qemu-img and qemu-io (qemu-utils)');

let twins: Twins;

beforeEach(() => {
  twins = new Twins();
});

afterEach(async () => {
  await twins.remove();
});

describe.skipIf(!hasQemu)('as qemu-img', () => {
  for (const { name, commands, damaged } of SCENARIOS) {
    it(name, async () => {
      for (const line of commands) {
        if (await twins.prepare(line)) continue;
        const expected = twins.runQemu(line);
        expect.soft(await twins.runSmp86(line), line).toEqual(expected);
        if (expected.status !== 0) twins.removeUnmatched();
      }
      expect(twins.differences(damaged !== true)).toEqual([]);
    });
  }
});

it('the table is long enough', () => {
  const isCommand = (line: string): boolean =>
    !/^(io|qemu|fill|patch|copy|mkdir|hold|release)( |$)/.test(line);
  const count = SCENARIOS.flatMap(({ commands }) => commands).filter(isCommand).length;
  expect(count).toBeGreaterThanOrEqual(150);
});
