/**
 * Random operations on qcow2 images of all kinds against a model; qemu-img checks and compares, qemu-io changes.
 *
 *   node test/tools/qcow2-random.ts [--operations 10000] [--seed 1] [--kinds 26] [--size 4194304]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { imageOfKind, RandomImage } from '../block/random-image.ts';

const { values } = parseArgs({
  options: {
    operations: { type: 'string', default: '10000' },
    seed: { type: 'string', default: '1' },
    kinds: { type: 'string', default: '26' },
    first: { type: 'string', default: '0' },
    size: { type: 'string', default: String(4 << 20) },
    directory: { type: 'string', default: tmpdir() },
  },
});
const operations = Number(values.operations);
const kinds = Number(values.kinds);
const directory = mkdtempSync(join(values.directory, 'smp86-qcow2-random-'));
const totals: Record<string, number> = {};
let failed = 0;
const start = performance.now();
for (let kind = Number(values.first); kind < Number(values.first) + kinds; kind++) {
  const path = join(directory, `image-${kind}`);
  const seed = Number(values.seed) * 1000 + kind;
  const image = new RandomImage({
    seed,
    operations: Math.ceil(operations / kinds),
    path,
    checkEvery: 60,
    size: Number(values.size),
    ...imageOfKind(kind, path),
  });
  try {
    await image.run();
  } catch (error) {
    failed++;
    console.log(`kind ${kind}: ${error instanceof Error ? error.message : String(error)}\n`);
  }
  for (const [name, count] of Object.entries(image.counts)) totals[name] = (totals[name] ?? 0) + count;
}
if (failed === 0) rmSync(directory, { recursive: true });
else console.log(`images left in ${directory}`);
const sum = Object.values(totals).reduce((a, b) => a + b, 0);
console.log(
  `${sum} operations on ${kinds} kinds of image: ${failed} failed; ${((performance.now() - start) / 1000).toFixed(0)} s`,
);
console.log(
  Object.entries(totals)
    .map(([name, count]) => `${name} ${count}`)
    .join(', '),
);
process.exitCode = failed > 0 ? 1 : 0;
