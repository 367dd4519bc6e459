/** What tier 1 makes of some pieces of code, as text. After a change that is meant: `node test/jit/golden.ts --update`. */
import { readdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { expect, test } from 'vitest';
import { GOLDEN, goldenPath, goldenText, readGolden } from './golden.ts';

test.each(GOLDEN.map((g) => [g.name, g] as const))('%s', (name, golden) => {
  expect(goldenText(golden)).toBe(readGolden(name));
});

test('there are no other files', () => {
  const files = readdirSync(dirname(goldenPath('x')));
  expect(files.sort()).toEqual(GOLDEN.map((g) => `${g.name}.txt`).sort());
});
