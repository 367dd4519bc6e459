/**
 * Memory-order litmus tests between two vCPUs (SDM 3A 8.2.2, 8.2.3): runs `test/bare/programs/litmus.asm` and checks
 * that no outcome came that x86-TSO forbids, and that it was optimised code that ran.
 *
 *   node test/tools/litmus.ts [--runs 10000000] [--test NAME]... [--jit] [--qemu]
 */
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { binaryPath } from '../bare/build.ts';
import { runQemu, runSmp86 } from '../bare/run.ts';

/** Results in a key: `a`, `b`, `c` are bits 0, 1, 2 of one CPU. */
interface Results {
  readonly cpu0: { readonly a: number; readonly b: number };
  readonly cpu1: { readonly a: number; readonly b: number; readonly c: number };
}

export interface LitmusTest {
  readonly name: string;
  /** What CPU 0 and CPU 1 do. */
  readonly code: string;
  /** Results by name, for printing. */
  show(r: Results): string;
  forbidden(r: Results): boolean;
}

const never = (): boolean => false;
const stores = (r: Results): string => `cpu0 r=${r.cpu0.a}, cpu1 r=${r.cpu1.a}`;
const neither = (r: Results): boolean => r.cpu0.a === 0 && r.cpu1.a === 0;

/** In the order of their numbers in litmus.asm. */
export const LITMUS_TESTS: readonly LitmusTest[] = [
  {
    name: 'CoRR',
    code: 'X=1 | r1=X; r2=X',
    show: (r) => `r1=${r.cpu1.a} r2=${r.cpu1.b}`,
    forbidden: (r) => r.cpu1.a === 1 && r.cpu1.b === 0,
  },
  {
    name: 'XYX',
    code: 'X=1; Y=1 | r1=X; r2=Y; r3=X',
    show: (r) => `r1=${r.cpu1.a} r2=${r.cpu1.b} r3=${r.cpu1.c}`,
    forbidden: (r) => (r.cpu1.a === 1 || r.cpu1.b === 1) && r.cpu1.c === 0,
  },
  {
    name: 'MP',
    code: 'X=1; Y=1 | r1=Y; r2=X',
    show: (r) => `r1=${r.cpu1.a} r2=${r.cpu1.b}`,
    forbidden: (r) => r.cpu1.a === 1 && r.cpu1.b === 0,
  },
  { name: 'SB', code: 'X=1; r=Y | Y=1; r=X', show: stores, forbidden: never },
  { name: 'SB+MFENCE', code: 'X=1; MFENCE; r=Y | Y=1; MFENCE; r=X', show: stores, forbidden: neither },
  { name: 'SB+XCHG', code: 'XCHG X,1; r=Y | XCHG Y,1; r=X', show: stores, forbidden: neither },
  { name: 'SB+LOCK', code: 'X=1; LOCK OR; r=Y | Y=1; LOCK OR; r=X', show: stores, forbidden: neither },
  {
    name: 'LB',
    code: 'r=X; Y=1 | r=Y; X=1',
    show: stores,
    forbidden: (r) => r.cpu0.a === 1 && r.cpu1.a === 1,
  },
  {
    // what is left: X in cpu0's bits, Y in cpu1's
    name: '2+2W',
    code: 'X=1; Y=2 | Y=1; X=2',
    show: (r) => `X=${r.cpu0.a + 2 * r.cpu0.b} Y=${r.cpu1.a + 2 * r.cpu1.b}`,
    forbidden: (r) => r.cpu0.a === 1 && r.cpu1.a === 1,
  },
  {
    name: 'MP+sizes',
    code: 'X=8 bytes; Y=1 byte | r1=Y; r2=X of 8 bytes; r3=byte 7 of X',
    show: (r) => `r1=${r.cpu1.a} r2=${r.cpu1.b} r3=${r.cpu1.c}`,
    forbidden: (r) =>
      (r.cpu1.a === 1 && (r.cpu1.b === 0 || r.cpu1.c === 0)) || (r.cpu1.b === 1 && r.cpu1.c === 0),
  },
  {
    name: 'SB+own',
    code: 'X=1; r1=X; r2=Y | Y=1; r1=Y; r2=X',
    show: (r) => `cpu0 r1=${r.cpu0.a} r2=${r.cpu0.b}, cpu1 r1=${r.cpu1.a} r2=${r.cpu1.b}`,
    // both may read the other's location as 0 (SDM 3A 8.2.3.5), neither its own
    forbidden: (r) => r.cpu0.a === 0 || r.cpu1.a === 0,
  },
  {
    // stores of one string operation may be seen in any order, but all before a later store (SDM 3A 8.2.4)
    name: 'MP+REP',
    code: 'REP STOSD X,X+4; Y=1 | r1=Y; r2=X; r3=X+4',
    show: (r) => `r1=${r.cpu1.a} r2=${r.cpu1.b} r3=${r.cpu1.c}`,
    forbidden: (r) => r.cpu1.a === 1 && (r.cpu1.b === 0 || r.cpu1.c === 0),
  },
  {
    name: 'seqlock',
    code: 'seq++; A=n; B=n; seq++ | s=seq; a=A; b=B; s=seq?',
    show: (r) => (r.cpu0.b === 1 ? 'torn' : r.cpu0.a === 1 ? 'again' : 'read'),
    forbidden: (r) => r.cpu0.b === 1,
  },
];

export interface LitmusOutcome {
  readonly text: string;
  readonly count: number;
  readonly forbidden: boolean;
}

function decode(key: number): Results {
  const bit = (n: number): number => (key >> n) & 1;
  return { cpu0: { a: bit(0), b: bit(1) }, cpu1: { a: bit(3), b: bit(4), c: bit(5) } };
}

export interface LitmusRun {
  readonly test: LitmusTest;
  readonly runs: number;
  readonly emulator?: 'smp86' | 'qemu';
  /** More emulator options. */
  readonly options?: readonly string[];
  readonly timeoutMs: number;
}

/** Runs one test. Throws when the program did not end as it should. */
export async function runLitmus(run: LitmusRun): Promise<{ outcomes: LitmusOutcome[]; optimised: boolean }> {
  const { test, runs, emulator = 'smp86', timeoutMs } = run;
  const append = `litmus test=${LITMUS_TESTS.indexOf(test)} n=${runs}`;
  const options = ['-smp', '2', '-append', append, ...(run.options ?? [])];
  const start = emulator === 'qemu' ? runQemu : runSmp86;
  const result = await start(binaryPath('litmus'), options, timeoutMs);
  if (result.status !== 33)
    throw new Error(`${test.name}: status ${result.status}, output:\n${result.output}`);
  const outcomes: LitmusOutcome[] = [];
  for (const [, key, count] of result.output.matchAll(/^([0-9a-f]+) ([0-9a-f]+)\r?$/gm)) {
    const results = decode(parseInt(key, 16));
    const outcome = {
      text: test.show(results),
      count: parseInt(count, 16),
      forbidden: test.forbidden(results),
    };
    outcomes.push(outcome);
  }
  return { outcomes, optimised: result.optimised ?? false };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      runs: { type: 'string', default: '10000000' },
      test: { type: 'string', multiple: true },
      jit: { type: 'boolean', default: false },
      qemu: { type: 'boolean', default: false },
    },
  });
  const runs = Number(values.runs);
  const emulator = values.qemu ? 'qemu' : 'smp86';
  const options = values.jit ? ['-accel', 'tcg,jit=on'] : [];
  for (const test of LITMUS_TESTS) {
    if (values.test !== undefined && !values.test.includes(test.name)) continue;
    const begin = performance.now();
    const { outcomes, optimised } = await runLitmus({ test, runs, emulator, options, timeoutMs: 3_600_000 });
    console.log(`${test.name}: ${test.code} (${((performance.now() - begin) / 1000).toFixed(1)} s)`);
    for (const { text, count, forbidden } of outcomes) {
      console.log(`  ${String(count).padStart(10)}  ${text}${forbidden ? '  FORBIDDEN' : ''}`);
      if (forbidden) process.exitCode = 1;
    }
    if (emulator === 'smp86' && !optimised) {
      console.log('  the interpreter was not optimised code: this run shows nothing');
      process.exitCode = 1;
    }
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main();
