/** docs/clocks-rules.md says which test holds which rule: every one of them is there. */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { allScenarios } from '../../src/explore/catalogue.ts';
import { MUTATIONS } from '../../src/explore/mutations/index.ts';
import { SCENARIOS } from '../../src/stress/scenarios.ts';

const ROOT = join(import.meta.dirname, '../..');
const FOLDERS = ['test/timer', 'test/aio', 'test/shared', 'test/machine'];

/** Names of tests by short name of their file. */
const tests = new Map<string, Set<string>>();
for (const folder of FOLDERS) {
  for (const file of readdirSync(join(ROOT, folder)).filter((name) => name.endsWith('.test.ts'))) {
    const text = readFileSync(join(ROOT, folder, file), 'utf8');
    const names = new Set<string>();
    // a call of it or test, perhaps of what `each` made, with a string first
    for (const match of text.matchAll(/(?:\b(?:it|test)|\]\)|\))\(\s*(['"`])((?:\\.|(?!\1).)*)\1,/g)) {
      names.add(match[2].replaceAll("\\'", "'"));
    }
    tests.set(basename(file, '.test.ts'), names);
  }
}

interface Rule {
  readonly section: string;
  readonly text: string;
  readonly held: readonly string[];
}
const rules: Rule[] = [];
let section = '';
for (const line of readFileSync(join(ROOT, 'docs/clocks-rules.md'), 'utf8').split('\n')) {
  section = /^## (.*)/.exec(line)?.[1] ?? section;
  const cells = line.split('|').map((cell) => cell.trim());
  if (cells.length !== 5 || cells[1] === 'rule' || cells[1].startsWith('---')) continue;
  rules.push({ section, text: cells[1], held: cells[3].split('; ').reduce(joinParts, []) });
}
/** A test's name may have a semicolon in it: what does not begin with a word and a colon belongs to what is before. */
function joinParts(parts: string[], part: string): string[] {
  if (/^[a-z-]+: /.test(part) || parts.length === 0) return [...parts, part];
  return [...parts.slice(0, -1), `${parts.at(-1)}; ${part}`];
}

describe('rules of clocks, timers and loops', async () => {
  const scenarios = new Set((await allScenarios()).map((s) => s.scenario.name));
  const known = (kind: string): ReadonlySet<string> | undefined => {
    if (kind === 'explore') return scenarios;
    if (kind === 'mutate') return new Set(MUTATIONS.map((m) => m.name));
    if (kind === 'stress') return new Set(SCENARIOS.map((s) => s.name));
    return tests.get(kind);
  };

  it('each of the six sections has some', () => {
    const counts = Map.groupBy(rules, (rule) => rule.section);
    expect([...counts.keys()].map((name) => name[0])).toEqual(['1', '2', '3', '4', '5', '6']);
    expect(rules.length).toBeGreaterThan(60);
  });

  it.each(rules)('$section: $text', ({ held }) => {
    for (const item of held) {
      const [, kind, name] = /^([a-z-]+): (.*)$/.exec(item) ?? [];
      expect(known(kind)?.has(name), `there is no ${item}`).toBe(true);
    }
  });
});
