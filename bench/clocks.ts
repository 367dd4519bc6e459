/**
 * What the clock core's operations cost, beside the same protocols in C in the same run (where gcc is), and how late
 * timers are. `npm run bench:clocks [-- --rounds N] [--expiries N] [--only alone|contended|round-trip|scaling|lateness]
 * [--json FILE] [--report FILE.html]`. With `--report` alone and `--from FILE.json` it draws results taken before.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import {
  alone,
  contended,
  type Figure,
  latenessLine,
  roundTrip,
  scaling,
  timerLateness,
} from './clocks/measure.ts';
import { Native } from './clocks/native.ts';
import { page, type Results } from './clocks/report.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    expiries: { type: 'string', default: '3000' },
    only: { type: 'string' },
    json: { type: 'string' },
    report: { type: 'string' },
    from: { type: 'string' },
  },
});

async function measure(): Promise<Results> {
  const native = Native.build();
  if (native === undefined) console.log('no gcc: nothing to compare with');
  const settings = {
    rounds: Number(values.rounds),
    expiries: Number(values.expiries),
    say: (text: string) => console.log(text),
  };
  const wanted = (part: string): boolean => values.only === undefined || values.only === part;
  console.log(
    `${'ns for one operation, medians'.padEnd(44)}${['smp86', 'C', 'ratio'].map((s) => s.padStart(10)).join('')}`,
  );
  const figures: Figure[] = [];
  if (wanted('alone')) figures.push(...(await alone(native, settings)));
  if (wanted('contended')) figures.push(...(await contended(native, settings)));
  if (wanted('round-trip')) figures.push(await roundTrip(native, settings));
  const ratio = wanted('scaling') ? await scaling(native, settings) : undefined;
  if (wanted('lateness')) {
    const head = ['p50', 'p99', 'max'].map((s) => s.padStart(14)).join('');
    console.log(`\n${'lateness of a 1 kHz timer'.padEnd(44)}${head}`);
  }
  const lateness = wanted('lateness') ? await timerLateness(native, settings) : [];
  native?.close();
  return {
    node: process.version,
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    date: new Date().toISOString().slice(0, 10),
    figures,
    scaling: ratio,
    lateness,
  };
}

const results =
  values.from === undefined ? await measure() : (JSON.parse(readFileSync(values.from, 'utf8')) as Results);
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results)}\n`);
if (values.report !== undefined) writeFileSync(values.report, page(results));
if (values.from !== undefined && values.report === undefined) {
  for (const result of results.lateness) console.log(latenessLine(result));
}
