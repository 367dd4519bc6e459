import { Worker } from 'node:worker_threads';
import { AtomicI32, WAIT_TIMED_OUT } from '@smp86/atomics-sync';
import { describe, expect, it } from 'vitest';
import type { Lapic } from '../../src/hw/intc/lapic.ts';
import { HAMMER_BYTES, HARD, type HammerData, hammerBus } from './apic-hammer.ts';

const FIRST = 0x20;

/** Threads that send, and this one, which is the vCPU. */
async function hammer(
  threads: number,
  vectorsEach: number,
  rounds: number,
  take: (lapic: Lapic, turn: number) => number,
): Promise<{ missed: number; spurious: number; taken: number[] }> {
  const buffer = new SharedArrayBuffer(HAMMER_BYTES);
  const { lapic, request, counters } = hammerBus(buffer);
  lapic.reset();
  lapic.write(0xf0, 4, 0x1ff);
  const { words } = counters;
  const counter = (v: number): AtomicI32 => new AtomicI32(buffer, words.taken + v * 4);
  const workers = Array.from({ length: threads }, (_, i) => {
    const first = FIRST + i * vectorsEach;
    const workerData: HammerData = { buffer, first, last: first + vectorsEach, rounds };
    return new Worker(new URL('./apic-hammer-worker.ts', import.meta.url), { workerData });
  });
  const ended = Promise.all(
    workers.map((w) => new Promise((resolve, reject) => w.once('exit', resolve).once('error', reject))),
  );
  await Promise.all(workers.map((w) => new Promise((resolve) => w.once('online', resolve))));
  const go = new AtomicI32(buffer, words.go);
  go.store(1);
  go.notify();

  const total = threads * vectorsEach * rounds;
  let missed = 0;
  let spurious = 0;
  for (let done = 0, turn = 0; done < total; turn++) {
    // Sleeps until the request word says HARD, as a halted vCPU does.
    if ((request.load() & HARD) === 0) {
      if (request.wait(0, 2e9) === WAIT_TIMED_OUT && (request.load() & HARD) === 0) {
        missed++;
        break;
      }
    }
    const vector = take(lapic, turn);
    if (vector < 0) {
      spurious++;
      continue;
    }
    lapic.eoi();
    done++;
    counter(vector).add(1);
    counter(vector).notify();
  }
  if (missed === 0) await ended;
  else await Promise.all(workers.map((w) => w.terminate()));
  const taken = Array.from({ length: threads * vectorsEach }, (_, i) => counter(FIRST + i).load());
  return { missed, spurious, taken };
}

describe('interrupts from other threads', () => {
  it('of many vectors at once are each taken exactly once, with changing task priority', async () => {
    const result = await hammer(3, 64, 100, (lapic, turn) => {
      const high = turn % 3 === 0;
      if (high) lapic.setCr8(15);
      const vector = lapic.acknowledge();
      if (high) lapic.setCr8(0);
      return vector;
    });
    expect(result.missed).toBe(0);
    expect(result.spurious).toBeGreaterThan(0);
    expect(new Set(result.taken)).toEqual(new Set([100]));
  }, 30_000);
});
