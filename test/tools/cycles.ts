/**
 * Creates and ends machines over and over in one process, and says whether anything of them stays:
 * `node --expose-gc test/tools/cycles.ts [--cycles 200] [--smp 2] [--accel SPEC] [--max-growth MB]`. Fails when memory
 * after collection grows from the middle to the end by more than the limit, or threads or handles are left.
 */
import v8 from 'node:v8';
import { parseArgs } from 'node:util';
import { runInNewContext } from 'node:vm';
import { EMBEDDED_KERNEL, EMBEDDED_SUCCESS } from '../../src/cli/guest/embedded/index.ts';
import { Machine } from '../../src/machine/machine.ts';
import { readdirSync, readFileSync } from 'node:fs';

const { values } = parseArgs({
  options: {
    cycles: { type: 'string', default: '200' },
    smp: { type: 'string', default: '2' },
    accel: { type: 'string', default: 'tcg' },
    'max-growth': { type: 'string', default: '20' },
    verbose: { type: 'boolean', default: false },
  },
});

v8.setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

interface Usage {
  readonly rss: number;
  readonly heap: number;
  readonly shared: number;
  readonly threads: number;
  readonly mappings: number;
  readonly files: number;
  readonly resources: number;
}

/** What the process has, after collection; sizes in MB. */
async function usage(): Promise<Usage> {
  for (let i = 0; i < 4; i++) {
    collectGarbage();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const { rss, heapUsed, arrayBuffers, external } = process.memoryUsage();
  const count = (path: string): number => {
    try {
      return readdirSync(path).length;
    } catch {
      return 0;
    }
  };
  let mappings = 0;
  try {
    mappings = readFileSync('/proc/self/maps', 'utf8').split('\n').length;
  } catch {
    // no /proc here
  }
  return {
    rss: rss / 1e6,
    heap: heapUsed / 1e6,
    shared: (arrayBuffers + external) / 1e6,
    threads: count('/proc/self/task'),
    mappings,
    files: count('/proc/self/fd'),
    resources: process.getActiveResourcesInfo().length,
  };
}

function describe(cycle: number, u: Usage): string {
  const mb = (n: number): string => `${n.toFixed(1)} MB`;
  return (
    `after ${cycle}: rss ${mb(u.rss)}, heap ${mb(u.heap)}, external ${mb(u.shared)}, ` +
    `${u.threads} threads, ${u.mappings} mappings, ${u.files} files, ${u.resources} resources`
  );
}

/** One machine: to its guest's own end, quit while it runs, or quit before it has begun, in turn. */
async function cycle(i: number): Promise<void> {
  const machine = await Machine.create({
    kernel: EMBEDDED_KERNEL,
    append: i % 3 === 1 ? 'limit=100000000' : 'limit=2000',
    smp: values.smp,
    accel: values.accel,
    memory: '16M',
    paused: i % 3 === 2,
  });
  if (i % 3 === 0) {
    await machine.serial[0]!.waitFor(EMBEDDED_SUCCESS);
    await machine.exit;
  } else if (i % 3 === 1) {
    await machine.serial[0]!.waitFor('embedded guest');
    await machine.quit();
  } else {
    await machine.quit();
  }
}

const cycles = Number(values.cycles);
const middle = Math.floor(cycles / 2);
const begin = performance.now();
let first: Usage | undefined;
for (let i = 1; i <= cycles; i++) {
  await cycle(i);
  if (i === middle) {
    first = await usage();
    console.log(describe(i, first));
  } else if (values.verbose && i % 20 === 0) {
    console.log(describe(i, await usage()));
  }
}
const last = await usage();
console.log(describe(cycles, last));
console.log(`${((performance.now() - begin) / cycles).toFixed(0)} ms a cycle`);
const growth = last.rss - first!.rss;
const failures = [
  growth > Number(values['max-growth']) ? `memory grew by ${growth.toFixed(1)} MB` : '',
  last.threads > first!.threads ? `${last.threads - first!.threads} threads are left` : '',
  last.files > first!.files ? `${last.files - first!.files} files are open` : '',
  last.resources > first!.resources ? `${last.resources - first!.resources} resources are active` : '',
].filter((text) => text !== '');
for (const failure of failures) console.error(`cycles: ${failure}`);
process.exitCode = failures.length === 0 ? 0 : 1;
