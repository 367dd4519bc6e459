/**
 * Compares tier 1 with tier 0 and the host CPU:
 *
 *   node test/jit/run.ts [--rows PATTERN] [--cases N] [--sequences N] [--programs N] [--x87 N] [--self-modifying N] [--seed N] [--only N] [--show N] [--switch]
 */
import { parseArgs } from 'node:util';
import { NativeError } from '../oracle/native.ts';
import { TierOracle } from './tiers.ts';

const { values } = parseArgs({
  options: {
    rows: { type: 'string' },
    cases: { type: 'string', default: '60' },
    sequences: { type: 'string', default: '20000' },
    'self-modifying': { type: 'string', default: '1000' },
    programs: { type: 'string', default: '5000' },
    x87: { type: 'string', default: '2000' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string' },
    switch: { type: 'boolean', default: false },
    show: { type: 'string', default: '1' },
  },
});

try {
  const oracle = new TierOracle({
    seed: Number(values.seed),
    cases: Number(values.cases),
    sequences: Number(values.sequences),
    programs: Number(values.programs),
    x87: Number(values.x87),
    selfModifying: Number(values['self-modifying']),
    rows: values.rows === undefined ? undefined : new RegExp(values.rows),
    only: values.only === undefined ? undefined : Number(values.only),
    switching: values.switch,
    shown: Number(values.show),
    log: console.log,
  });
  const result = oracle.run();
  await oracle.close();
  const { counts, failures, notCompiled } = result;
  console.log(`${result.cases} cases, ${result.inconclusive} inconclusive`);
  console.log(
    `${counts.regions} regions of ${counts.compiled} instructions, entered ${counts.entered} times;` +
      ` jumped to ${counts.jumped} times; kicked ${counts.kicked}; ${counts.alone} instructions alone; ${counts.forms.size} forms compiled`,
  );
  if (notCompiled.length > 0) console.log(`in no region: ${notCompiled.join(', ')}`);
  for (const f of failures) console.log(`DIFFERS: ${f.where}: ${f.count}`);
  process.exitCode = result.failures.length > 0 ? 1 : 0;
} catch (error) {
  if (!(error instanceof NativeError)) throw error;
  console.error(error.message);
  process.exitCode = 2;
}
