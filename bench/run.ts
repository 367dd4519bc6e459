/**
 * All benchmarks, one after the other: `npm run bench [-- --only NAME,…] [--report FILE.html]`. With `--report` the clock
 * core's figures are drawn as a page of plots.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

/** Programs beside this one, in the order in which they run, and what Node is told. */
const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  mips: [],
  boot: [],
  guests: [],
  latency: [],
  startup: ['--expose-gc'],
  scaling: [],
  idle: [],
  clocks: [],
};

const { values } = parseArgs({ options: { only: { type: 'string' }, report: { type: 'string' } } });
const names = values.only?.split(',') ?? Object.keys(PROGRAMS);
for (const name of names) {
  if (Object.hasOwn(PROGRAMS, name)) continue;
  console.error(`bench: there is no ${name}: ${Object.keys(PROGRAMS).join(', ')}`);
  process.exit(2);
}
let status = 0;
for (const name of names) {
  console.log(`\n# ${name}`);
  const more = name === 'clocks' && values.report !== undefined ? ['--report', values.report] : [];
  const program = join(import.meta.dirname, `${name}.ts`);
  const child = spawnSync(process.execPath, [...PROGRAMS[name], program, ...more], { stdio: 'inherit' });
  if (child.status !== 0) status = child.status ?? 1;
}
process.exit(status);
