/**
 * Power cuts at every write boundary of traces of qcow2 writes.
 *
 *   node test/tools/qcow2-power-cut.ts [--traces 40] [--seed 1] [--operations 60] [--variants 4]
 */
import { parseArgs } from 'node:util';
import { powerCuts, powerCutImage } from '../block/power-cut.ts';

const { values } = parseArgs({
  options: {
    traces: { type: 'string', default: '40' },
    seed: { type: 'string', default: '1' },
    operations: { type: 'string', default: '60' },
    variants: { type: 'string', default: '4' },
  },
});
const start = performance.now();
const first = Number(values.seed);
const traces = Number(values.traces);
let states = 0;
let failed = 0;
for (let seed = first; seed < first + traces; seed++) {
  try {
    states += await powerCuts({
      seed,
      operations: Number(values.operations),
      variants: Number(values.variants),
      size: 128 * 1024,
      ...powerCutImage(seed),
    });
  } catch (error) {
    failed++;
    console.log(error instanceof Error ? error.message : String(error));
  }
}
console.log(
  `${traces} traces, ${states} states of the disk: ${failed} failed; ${((performance.now() - start) / 1000).toFixed(0)} s`,
);
process.exitCode = failed > 0 ? 1 : 0;
