/**
 * Memory-order litmus tests between two to four vCPUs (SDM 3A 8.2.2, 8.2.3): runs `test/bare/programs/litmus.asm` and
 * checks that no outcome came that x86-TSO forbids, and that it was optimised code that ran: tier 0's, or with --jit
 * that of regions, counted by how often they were left.
 *
 *   node test/tools/litmus.ts [--runs 10000000] [--test NAME]... [--near] [--jit] [--qemu] [--meet N]
 */
import { availableParallelism } from 'node:os';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { binaryPath } from '../bare/build.ts';
import { runQemu, runSmp86, startSmp86 } from '../bare/run.ts';
import { LITMUS_TESTS, type LitmusTest, outcomeOf } from './litmus-tests.ts';

/** Runs in one call of a routine. */
const STRETCH = 512;
/** What the program prints now and then, and the runs between. */
const TOLD = 'so far';
const TOLD_RUNS = 8 * 4096;
const POLL_MS = 20;

export interface LitmusOutcome {
  readonly text: string;
  readonly count: number;
  readonly forbidden: boolean;
  /** Only a store buffer explains it. */
  readonly relaxed: boolean;
}

export interface LitmusResult {
  readonly outcomes: LitmusOutcome[];
  /** Part of the meetings of two vCPUs to which both came. */
  readonly met: number;
}

export interface LitmusRun {
  readonly test: LitmusTest;
  readonly runs: number;
  /** Both locations in one page. */
  readonly near?: boolean;
  /** Runs after which the vCPUs wait for each other, a power of two; default 8. */
  readonly meet?: number;
  readonly timeoutMs: number;
}

function commandLine({ test, near, meet = 8 }: LitmusRun, more = ''): string[] {
  const { cpus = 2 } = test;
  const enough = availableParallelism() >= cpus;
  const waiting = enough ? 'spin=20000 patience=100000' : 'spin=200 patience=20000 nap=1';
  const where = near === true ? ' near=1' : '';
  const append = `litmus test=${LITMUS_TESTS.indexOf(test)} meet=${meet} ${waiting}${where}${more}`;
  return ['-smp', String(cpus), '-append', append];
}
function histogram(test: LitmusTest, output: string): LitmusOutcome[] {
  const counts = new Map<string, LitmusOutcome>();
  for (const [, key, count] of output.matchAll(/^([0-9a-f]+) ([0-9a-f]+)\r?$/gm)) {
    const outcome = outcomeOf(test, parseInt(key, 16));
    const before = counts.get(outcome.text)?.count ?? 0;
    counts.set(outcome.text, { ...outcome, count: before + parseInt(count, 16) });
  }
  return [...counts.values()];
}
function unexpected(test: LitmusTest, status: number | null, output: string): Error {
  return new Error(`${test.name}: status ${status}, output:\n${output}`);
}

/**
 * Of the meetings of each pair, the part in which both were there. Each thread counts, when it gets to a meeting, those
 * that are not behind it (any more) nor far ahead.
 */
function partMet(output: string, cpus: number): number {
  const counts = [...output.matchAll(/^met ([0-9a-f]+) ([0-9a-f]+)\r?$/gm)];
  const sum = (at: number): number => counts.reduce((total, match) => total + parseInt(match[at], 16), 0);
  return sum(1) / (sum(2) * (cpus - 1));
}

function resultOf(test: LitmusTest, output: string): LitmusResult {
  return { outcomes: histogram(test, output), met: partMet(output, test.cpus ?? 2) };
}

/** Runs one test in tier 0, or on QEMU. Throws when the program did not end as it should. */
export async function runLitmus(
  run: LitmusRun & { readonly emulator?: 'smp86' | 'qemu' },
): Promise<LitmusResult & { optimised: boolean }> {
  const { test, runs, emulator = 'smp86', timeoutMs } = run;
  const start = emulator === 'qemu' ? runQemu : runSmp86;
  const result = await start(binaryPath('litmus'), commandLine(run, ` n=${runs}`), timeoutMs);
  if (result.status !== 33) throw unexpected(test, result.status, result.output);
  return { ...resultOf(test, result.output), optimised: result.optimised ?? false };
}

/**
 * Runs one test with tier 1 until, from when V8 has optimised the regions of each vCPU's routine, it was run so often, and
 * as often regions were left for other code, which the end of a routine does. Throws when that does not happen in time.
 */
export async function runLitmusTier1(run: LitmusRun): Promise<LitmusResult & { regionRuns: number }> {
  const { test, runs, timeoutMs } = run;
  const cpus = test.cpus ?? 2;
  const options = [...commandLine(run), '-accel', 'tcg,jit=on'];
  await using started = await startSmp86(binaryPath('litmus'), options);
  const { machine } = started;
  const end = performance.now() + timeoutMs;
  /** By head: how often a region had been left when it was first seen optimised; a call goes on in the code it began in. */
  const before = new Map<number, number>();
  /** How often the program had told when all routines were optimised. */
  let toldBefore: number | undefined;
  let regionRuns = 0;
  while (regionRuns < runs) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    const told = started.output.split(TOLD).length - 1;
    const threads = [...started.output.matchAll(/^thread ([0-9a-f]+) ([0-9a-f]+)\r?$/gm)];
    const regions = await machine.regions();
    for (const r of regions) if (r.optimised && !before.has(r.head)) before.set(r.head, r.exits + 1);
    const optimised = threads.map(([, from, to]) =>
      regions.filter((r) => r.head >= parseInt(from, 16) && r.head < parseInt(to, 16) && r.optimised),
    );
    const exits = optimised.map((list) =>
      list.reduce((sum, r) => sum + Math.max(0, r.exits - (before.get(r.head) ?? r.exits)), 0),
    );
    // a region may be left more than once in a call, for code that had never been executed when it was made
    if (threads.length === cpus && optimised.every((list) => list.length > 0)) {
      toldBefore ??= told + 1;
      regionRuns = Math.min(...exits.map((n) => n * STRETCH), Math.max(0, told - toldBefore) * TOLD_RUNS);
    }
    if (machine.state === 'ended') throw unexpected(test, null, started.output);
    if (performance.now() > end) {
      const seen = regions.map(
        (r) => `${r.head.toString(16)}: ${r.exits} exits${r.optimised ? ', optimised' : ''}`,
      );
      throw new Error(
        `${test.name}: after ${timeoutMs} ms the routines have made ${regionRuns} runs as optimised regions, ` +
          `left ${exits.join('/') || 0} times\n${seen.join('\n')}\n${started.output}`,
      );
    }
  }
  machine.serial[0]?.write('.');
  const result = await started.end(Math.max(10_000, timeoutMs));
  if (result.status !== 33) throw unexpected(test, result.status, result.output);
  return { ...resultOf(test, result.output), regionRuns };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      runs: { type: 'string', default: '10000000' },
      test: { type: 'string', multiple: true },
      near: { type: 'boolean', default: false },
      jit: { type: 'boolean', default: false },
      qemu: { type: 'boolean', default: false },
      meet: { type: 'string' },
    },
  });
  const runs = Number(values.runs);
  for (const test of LITMUS_TESTS) {
    if (values.test !== undefined && !values.test.includes(test.name)) continue;
    const begin = performance.now();
    const meet = values.meet === undefined ? undefined : Number(values.meet);
    const run = { test, runs, near: values.near, meet, timeoutMs: 3_600_000 };
    const emulator = values.qemu ? 'qemu' : 'smp86';
    const result = values.jit ? await runLitmusTier1(run) : await runLitmus({ ...run, emulator });
    const seconds = ((performance.now() - begin) / 1000).toFixed(1);
    const where = 'regionRuns' in result ? `, ${result.regionRuns} of the runs in tier 1` : '';
    const met = `${(100 * result.met).toFixed(0)} % of the meetings`;
    console.log(
      `${test.name}${values.near ? ', one page' : ''}: ${test.code} (${seconds} s${where}, ${met})`,
    );
    for (const { text, count, forbidden, relaxed } of result.outcomes) {
      const mark = forbidden ? '  FORBIDDEN' : relaxed ? '  relaxed' : '';
      console.log(`  ${String(count).padStart(10)}  ${text}${mark}`);
      if (forbidden) process.exitCode = 1;
    }
    if ('optimised' in result && emulator === 'smp86' && !result.optimised) {
      console.log('  the interpreter was not optimised code: this run shows nothing');
      process.exitCode = 1;
    }
    if (test.relaxed !== undefined && !result.outcomes.some((o) => o.relaxed)) {
      console.log('  the outcome that a store buffer allows was not seen');
      if (test.name === 'SB') process.exitCode = 1;
    }
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main();
