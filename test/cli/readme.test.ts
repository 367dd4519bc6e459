import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { OPTIONS } from '../../src/cli/option-table.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
const directory = mkdtempSync(join(tmpdir(), 'smp86-readme-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** The code blocks of a language, and what stands in the block after each. */
function blocks(language: string): string[] {
  return [...readme.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)]
    .filter(([, name]) => name === language)
    .map(([, , text]) => text);
}

test("the library's example runs and prints what the README says", () => {
  const [program] = blocks('ts');
  const expected = blocks('').at(-1);
  const file = join(directory, 'example.ts');
  writeFileSync(file, program.replace("'smp86'", JSON.stringify(join(ROOT, 'src/index.ts'))));
  const { status, stdout, stderr } = spawnSync(process.execPath, [file], { encoding: 'utf8' });
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: expected, stderr: '' });
});

test('every option and document that the README names exists', () => {
  const known = new Set(OPTIONS.flatMap(({ name, aliases }) => [name, ...(aliases ?? [])]));
  const [, table] = /(\| option \|[\s\S]*?)\n\n/.exec(readme)!;
  const named = [...table.matchAll(/(?<=[`\s])-([a-z][a-z-]*)/g)].map(([, name]) => name);
  expect(named.length).toBeGreaterThan(12);
  expect(named.filter((name) => !known.has(name))).toEqual([]);
  const documents = [...readme.matchAll(/docs\/[\w-]+\.md/g)].map(([path]) => path);
  expect(documents.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
});
