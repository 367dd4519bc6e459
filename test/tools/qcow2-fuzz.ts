/**
 * Hostile qcow2 images: mutated ones are opened, read, written, checked, repaired. Nothing but a BlockError may come
 * out, in less than 5 s, with no request left pending, and within the documented memory.
 *
 *   node test/tools/qcow2-fuzz.ts [--images 100000] [--seed 1]
 */
import { parseArgs } from 'node:util';
import { exercise, makeSeeds, mutate } from '../block/mutate.ts';
import { randomNumbers } from '../block/qemu-tools.ts';

/** Slowest that one image may be, ms of CPU time: there is nothing to wait for. */
const LIMIT = 5000;
/** Most memory of one image: an L1 table of 32 MiB and its copies, a refcount table of 8 MiB, caches. */
const MEMORY_LIMIT = 512 << 20;

const { values } = parseArgs({
  options: {
    images: { type: 'string', default: '100000' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string' },
  },
});
const images = Number(values.images);
const seeds = await makeSeeds();
const outcomes = { refused: 0, used: 0 };
let slowest = 0;
let memory = 0;
let failed = 0;
let current = -1;
process.on('exit', (code) => {
  // the loop ran dry with a request that nobody will ever finish
  if (code === 13) console.log(`image ${current} of seed ${values.seed}: a request is left pending`);
});
const start = performance.now();
const first = values.only === undefined ? 0 : Number(values.only);
const end = values.only === undefined ? images : first + 1;
for (current = first; current < end; current++) {
  const random = randomNumbers(Number(values.seed) * 1_000_003 + current);
  const seed = seeds[current % seeds.length];
  const file = await mutate(seed, random);
  const before = process.cpuUsage();
  try {
    outcomes[await exercise(file, random)]++;
  } catch (error) {
    failed++;
    console.log(`image ${current} (${seed.name}): ${error instanceof Error ? error.stack : String(error)}`);
    if (failed > 20) break;
  }
  const { user, system } = process.cpuUsage(before);
  const took = (user + system) / 1000;
  if (took > LIMIT) {
    failed++;
    console.log(`image ${current} (${seed.name}): ${took.toFixed(0)} ms`);
  }
  slowest = Math.max(slowest, took);
  memory = Math.max(memory, process.memoryUsage().arrayBuffers);
}
if (memory > MEMORY_LIMIT) {
  failed++;
  console.log(`${(memory / 2 ** 20).toFixed(0)} MiB of memory in use`);
}
console.log(
  `${outcomes.refused + outcomes.used} images: ${outcomes.refused} refused, ${outcomes.used} used, ${failed} failed; ` +
    `slowest ${slowest.toFixed(0)} ms, at most ${(memory / 2 ** 20).toFixed(0)} MiB; ${((performance.now() - start) / 1000).toFixed(0)} s`,
);
process.exitCode = failed > 0 ? 1 : 0;
