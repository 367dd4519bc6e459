/**
 * What a machine costs: time until it runs, memory for it and for each further vCPU.
 * `node bench/startup.ts [--runs N] [--json FILE]`. Run with --expose-gc for steadier memory figures.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Machine } from '../src/machine/machine.ts';
import { median } from './qemu.ts';

const COUNTS = [1, 2, 4, 8];

interface Cost {
  readonly ms: number;
  readonly megabytes: number;
}

async function measure(smp: number): Promise<Cost> {
  globalThis.gc?.();
  const before = process.memoryUsage.rss();
  const started = performance.now();
  // without a kernel nothing runs: what is measured is the machine
  const machine = await Machine.create({ smp, memory: '64M' });
  const ms = performance.now() - started;
  const megabytes = (process.memoryUsage.rss() - before) / 1e6;
  await machine.quit();
  return { ms, megabytes };
}

const { values } = parseArgs({
  options: { runs: { type: 'string', default: '5' }, json: { type: 'string' } },
});
const first = await measure(1);
const costs = new Map<number, Cost[]>(COUNTS.map((count) => [count, []]));
for (let run = 0; run < Number(values.runs); run++) {
  for (const count of COUNTS) costs.get(count)?.push(await measure(count));
}
const rows = COUNTS.map((smp) => {
  const list = costs.get(smp) ?? [];
  return { smp, ms: median(list.map((c) => c.ms)), megabytes: median(list.map((c) => c.megabytes)) };
});
const [one] = rows;
const most = rows[rows.length - 1];
const perVcpu = {
  ms: (most.ms - one.ms) / (most.smp - one.smp),
  megabytes: (most.megabytes - one.megabytes) / (most.smp - one.smp),
};
console.log(
  `start of a machine: medians of ${values.runs}; the first in a process takes ${first.ms.toFixed(0)} ms`,
);
for (const { smp, ms, megabytes } of rows) {
  console.log(
    `${String(smp).padStart(2)} vCPUs  ${ms.toFixed(0).padStart(6)} ms  ${megabytes.toFixed(0).padStart(6)} MB`,
  );
}
console.log(`each further vCPU: ${perVcpu.ms.toFixed(0)} ms, ${perVcpu.megabytes.toFixed(1)} MB`);
if (values.json !== undefined)
  writeFileSync(values.json, JSON.stringify({ first, rows, perVcpu }, undefined, 2));
process.exit(0);
