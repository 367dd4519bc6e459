/**
 * Random operations on chains of images by `smp86 img` and qemu-img alternately (test/img/random-chain.ts).
 *
 *   node test/tools/img-random.ts [--operations 1000] [--seed 1] [--chains 10] [--directory DIR]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { RandomChain } from '../img/random-chain.ts';

const { values } = parseArgs({
  options: {
    operations: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    chains: { type: 'string', default: '10' },
    directory: { type: 'string', default: tmpdir() },
  },
});
const chains = Number(values.chains);
const operations = Math.ceil(Number(values.operations) / chains);
const totals: Record<string, number> = {};
let failed = 0;
for (let i = 0; i < chains; i++) {
  const directory = mkdtempSync(join(values.directory, 'smp86-img-random-'));
  const chain = new RandomChain({
    directory,
    seed: Number(values.seed) * 1000 + i,
    operations,
    checkEvery: 10,
  });
  try {
    await chain.run();
  } catch (error) {
    failed++;
    console.log(error instanceof Error ? error.message : error);
  }
  for (const [name, count] of Object.entries(chain.counts)) totals[name] = (totals[name] ?? 0) + count;
  rmSync(directory, { recursive: true });
}
const done = Object.values(totals).reduce((sum, count) => sum + count, 0);
console.log(`${done} operations on ${chains} chains, ${failed} failed: ${JSON.stringify(totals)}`);
process.exitCode = failed > 0 ? 1 : 0;
