/**
 * What the design takes for granted of V8's WebAssembly. A failure names the assumption: another Node version may
 * need other code.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { isOptimised, tierUp } from '../../src/machine/tier-up.ts';
import { type Barrier, chunkedLoop, loop, newMemory, shortest, twoLoads, WORD } from './v8-modules.ts';
import type { CallReport, Task } from './v8-worker.ts';

type Run = (turns: number) => number;
const TURNS = 20_000;
const CALLS = 100;

function runOf(module: WebAssembly.Module, memory = newMemory()): Run {
  return new WebAssembly.Instance(module, { env: { memory } }).exports.run as Run;
}
function thread(task: Task): Worker {
  return new Worker(new URL('v8-worker.ts', import.meta.url), { workerData: task });
}

/** How often two loads in optimised code differ while another thread counts X up; ends early at the first. */
async function differences(barrier: Barrier): Promise<{ found: number; rounds: number; writes: number }> {
  const memory = newMemory();
  const words = new Int32Array(memory.buffer as unknown as SharedArrayBuffer);
  const run = runOf(twoLoads(barrier), memory);
  tierUp(run);
  expect(isOptimised(run)).toBe(true);
  const worker = thread({ kind: 'write', memory });
  const exited = once(worker, 'exit');
  Atomics.wait(words, WORD.GO >>> 2, 0, 20_000);
  expect(Atomics.load(words, WORD.GO >>> 2)).toBe(1);
  let found = 0;
  let rounds = 0;
  // a slice in which the other thread did not run shows nothing: what counts is how often it ran
  for (
    let slices = 0, calls = 0;
    slices < 50 && calls < 100_000 && !(barrier !== 'none' && found > 0);
    calls++
  ) {
    const before = Atomics.load(words, WORD.X >>> 2);
    found += run(1000);
    rounds += 1000;
    if (Atomics.load(words, WORD.X >>> 2) !== before) slices++;
  }
  Atomics.store(words, WORD.STOP >>> 2, 1);
  await exited;
  return { found, rounds, writes: Atomics.load(words, WORD.X >>> 2) };
}

test('V8 assumption: tierUp makes optimised code before the first call, without being asked by a counter', () => {
  const run = runOf(loop(1));
  expect(isOptimised(run)).toBe(false);
  tierUp(run);
  expect(isOptimised(run)).toBe(true);
});

test('V8 assumption: optimised code is at least 1.25 times as fast as baseline code', () => {
  // the first call of a module: it may be tiered up at its end, not during it
  const baseline = Math.min(...[10, 11, 12, 13, 14].map((v) => shortest(runOf(loop(v)), TURNS, 1)));
  const run = runOf(loop(2));
  tierUp(run);
  expect(baseline / shortest(run, TURNS, CALLS)).toBeGreaterThan(1.25);
});

test('V8 assumption: a module that was tiered up in one thread is optimised in another, before its first call there', async () => {
  const module = loop(5);
  const memory = newMemory();
  const run = runOf(module, memory);
  tierUp(run);
  const own = shortest(run, TURNS, CALLS);
  const worker = thread({ kind: 'call', memory, module, turns: TURNS, calls: CALLS });
  const [report] = (await once(worker, 'message')) as [CallReport];
  await worker.terminate();
  expect(report.optimised).toBe(true);
  expect(report.shortest / own).toBeLessThan(2);
});

/** V8's that merges such loads: Node 25's. Node 24's barrier changes nothing. */
const MERGES_SINCE = 14;
test('V8 assumption: two plain loads of one address with nothing between are merged from V8 14 on, so a barrier is needed', async () => {
  const { found, rounds, writes } = await differences('none');
  expect(writes).toBeGreaterThan(0);
  expect(rounds).toBeGreaterThan(0);
  const merges = Number.parseInt(process.versions.v8) >= MERGES_SINCE;
  expect(found === 0).toBe(merges);
});

test('V8 assumption: an atomic load between two plain loads of one address keeps them two', async () => {
  const { found } = await differences('load');
  expect(found).toBeGreaterThan(0);
});

test('V8 assumption: a store to the env between two plain loads of one address keeps them two', async () => {
  const { found } = await differences('store');
  expect(found).toBeGreaterThan(0);
});

test('V8 assumption: a call that is running stays in the code it began in (no on-stack replacement)', async () => {
  const memory = newMemory();
  const module = chunkedLoop();
  let marks: number[] = [];
  let tierAt = -1;
  const tick = (): number => {
    marks.push(performance.now());
    if (marks.length === tierAt) tierUp(run);
    return 0;
  };
  const exports = new WebAssembly.Instance(module, { env: { memory, tick } }).exports;
  const run = exports.run as (chunks: number, turns: number) => number;
  const chunks = 100;
  const least = (from: number): number => {
    const times = marks.slice(from).map((at, i) => at - (marks[from + i - 1] ?? Infinity));
    return Math.min(...times.filter((t) => t >= 0));
  };
  tierAt = chunks / 2;
  run(chunks, TURNS);
  expect(isOptimised(run)).toBe(true);
  const stayed = least(chunks / 2 + 1);
  marks = [];
  run(chunks, TURNS);
  const fresh = least(1);
  expect(stayed / fresh).toBeGreaterThan(1.25);
});
