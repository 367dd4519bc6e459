import { expect, test } from 'vitest';
import { CompileBudget, CompileQueue } from '../../src/jit/compile-queue.ts';
import type { RegionRequest } from '../../src/jit/compiler.ts';

const request = (head: number): RegionRequest => ({
  env: 0,
  desc: 4096,
  offset: head,
  pageLo: 0,
  pageHi: 0,
  tlbSet: 0,
  from: 0,
  site: 0,
  fromLo: 0,
  fromHi: 0,
});

/** A queue on a clock of its own; each compilation takes `cost` ms. */
function rig(cost: number) {
  let time = 0;
  const compiled: number[] = [];
  const due: { at: number; body: () => void }[] = [];
  const queue = new CompileQueue({
    compile: ({ offset }) => {
      compiled.push(offset);
      time += cost;
    },
    now: () => time,
    later: (ms, body) => due.push({ at: time + ms, body }),
  });
  return {
    queue,
    compiled,
    /** Lets everything happen that is due until `end`. */
    run: (end: number) => {
      for (let next; (next = due.find(({ at }) => Math.max(at, time) <= end)) !== undefined;) {
        due.splice(due.indexOf(next), 1);
        time = Math.max(time, next.at);
        next.body();
      }
      time = Math.max(time, end);
    },
  };
}

test('in the order of requests, but what is asked for again comes first; each once', () => {
  const { queue, compiled, run } = rig(1);
  for (const head of [1, 2, 3, 2, 1, 2]) queue.add(request(head));
  run(100);
  expect(compiled).toEqual([2, 1, 3]);
  expect(queue.statistics).toMatchObject({ requests: 6, merged: 3, waiting: 0, milliseconds: 3 });
});

test('what waits is bounded', () => {
  const { queue, compiled, run } = rig(1);
  for (let head = 0; head < 1000; head++) queue.add(request(head));
  const { waiting, overflowed } = queue.statistics;
  expect(waiting).toBeLessThan(1000);
  expect(waiting + overflowed).toBe(1000);
  run(10_000);
  expect(compiled.length).toBe(waiting);
});

test('compiling takes no more than its share of the time', () => {
  const { queue, compiled, run } = rig(50);
  let head = 0;
  for (let at = 0; at < 60_000; at += 100) {
    for (let i = 0; i < 10; i++) queue.add(request(head++));
    run(at);
  }
  const share = (compiled.length * 50) / 60_000;
  expect(share).toBeGreaterThan(0.2);
  expect(share).toBeLessThan(0.3);
  expect(queue.statistics.throttled).toBeGreaterThan(0);
});

test('a budget is saved up to a bound, and a debt is waited for', () => {
  let time = 0;
  const budget = new CompileBudget(() => time);
  expect(budget.wait()).toBe(0);
  time = 1e9;
  expect(budget.wait()).toBe(0);
  budget.spend(3000);
  const wait = budget.wait();
  expect(wait).toBeGreaterThan(0);
  time += wait / 2;
  expect(budget.wait()).toBeGreaterThan(0);
  time += wait / 2;
  expect(budget.wait()).toBe(0);
});
