/** Sends its share of the vectors to one local APIC of a shared buffer, again and again. */
import { workerData } from 'node:worker_threads';
import { AtomicI32 } from '@smp86/atomics-sync';
import { hammerBus, type HammerData } from './apic-hammer.ts';

const data = workerData as HammerData;
const { bus, counters } = hammerBus(data.buffer);
const { words } = counters;
const ready = new AtomicI32(data.buffer, words.go);
ready.wait(0);
for (let round = 0; round < data.rounds; round++) {
  for (let v = data.first; v < data.last; v++) {
    // The previous one must have been taken: then this one may not be lost.
    const taken = new AtomicI32(data.buffer, words.taken + v * 4);
    for (let n = taken.load(); n !== round; n = taken.load()) taken.wait(n, 20e9);
    bus.deliver(0, false, 0, v, false);
  }
}
