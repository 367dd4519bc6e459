/**
 * Compares tier 0 with the host CPU and prints the coverage:
 *
 *   node test/oracle/run.ts [--rows PATTERN] [--cases N] [--sequences N] [--seed N] [--only N] [--class NAME] [--show N] [--list]
 *
 * PATTERN is a regular expression on a row's text (`opcode name operands`); `--only` runs the case of that number
 * alone, as a report names it.
 */
import { parseArgs } from 'node:util';
import { printCoverage } from './coverage.ts';
import { NativeError } from './native.ts';
import { Oracle } from './oracle.ts';
import type { RowClass } from './rows.ts';

const { values } = parseArgs({
  options: {
    rows: { type: 'string' },
    cases: { type: 'string', default: '300' },
    sequences: { type: 'string', default: '200000' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string' },
    class: { type: 'string', multiple: true },
    show: { type: 'string', default: '1' },
    list: { type: 'boolean', default: false },
  },
});

try {
  const oracle = new Oracle({
    seed: Number(values.seed),
    cases: Number(values.cases),
    sequences: Number(values.sequences),
    rows: values.rows === undefined ? undefined : new RegExp(values.rows),
    only: values.only === undefined ? undefined : Number(values.only),
    classes: values.class as RowClass[] | undefined,
    shown: Number(values.show),
    log: console.log,
  });
  const result = oracle.run();
  await oracle.close();
  printCoverage(result, values.list, console.log);
  process.exitCode = result.failures.length > 0 ? 1 : 0;
} catch (error) {
  if (!(error instanceof NativeError)) throw error;
  console.error(error.message);
  process.exitCode = 2;
}
