/**
 * Guest work done in a time by N pinned busy loops against one, in the same Linux guest: do vCPUs use host cores?
 * `node bench/scaling.ts [--smp N] [--seconds S] [--rounds N] [--json FILE]`
 */
import { writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { LinuxGuest } from '../test/tools/linux-guest.ts';
import { median } from './qemu.ts';

/** Counts in the shell until told to stop; prints the count. */
const COUNTER = `#!/bin/sh
trap 'echo "count $i"; exit' TERM
i=0
while :; do i=$((i+1)); done
`;

const { values } = parseArgs({
  options: {
    smp: { type: 'string', default: '2' },
    seconds: { type: 'string', default: '10' },
    rounds: { type: 'string', default: '5' },
    json: { type: 'string' },
  },
});
const smp = Number(values.smp);
await using guest = await LinuxGuest.boot({
  smp,
  files: [{ path: 'bin/counter', data: COUNTER, mode: 0o755 }],
});

/** Loops that `loops` CPUs did together. */
async function work(loops: number): Promise<number> {
  const cpus = Array.from({ length: loops }, (_, i) => i).join(' ');
  const command = `for c in ${cpus}; do taskset -c $c timeout ${values.seconds} counter & done; wait`;
  const output = await guest.run(command, Number(values.seconds) * 3000 + 60_000);
  const counts = [...output.matchAll(/^count (\d+)$/gm)].map(([, n]) => Number(n));
  if (counts.length !== loops) throw new Error(`${counts.length} of ${loops} loops reported:\n${output}`);
  return counts.reduce((a, b) => a + b, 0);
}

await work(smp); // translations, caches
const ratios: number[] = [];
for (let round = 0; round < Number(values.rounds); round++) {
  const one = await work(1);
  const all = await work(smp);
  ratios.push(all / one);
  console.log(`1 vCPU ${one} loops, ${smp} vCPUs ${all}: ${(all / one).toFixed(2)}`);
}
const ratio = median(ratios);
const [load] = loadavg();
console.log(
  `${smp} busy vCPUs do ${ratio.toFixed(2)} times the work of one (median of ${values.rounds}; ` +
    `${availableParallelism()} host cores, load ${load.toFixed(1)})`,
);
if (values.json !== undefined)
  writeFileSync(values.json, JSON.stringify({ smp, ratio, ratios, load }, undefined, 2));
process.exit(0);
