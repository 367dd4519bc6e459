/** The other thread of `v8.test.ts`: writes X until told to stop, or says what it finds of a module sent to it. */
import { parentPort, workerData } from 'node:worker_threads';
import { isOptimised } from '../../src/machine/tier-up.ts';
import { shortest, WORD } from './v8-modules.ts';

export type Task =
  | { readonly kind: 'write'; readonly memory: WebAssembly.Memory }
  | {
      readonly kind: 'call';
      readonly memory: WebAssembly.Memory;
      readonly module: WebAssembly.Module;
      readonly turns: number;
      readonly calls: number;
    };
export interface CallReport {
  /** Before the first call in this thread. */
  readonly optimised: boolean;
  /** ms. */
  readonly shortest: number;
}

const task = workerData as Task;
if (task.kind === 'write') {
  const words = new Int32Array(task.memory.buffer as unknown as SharedArrayBuffer);
  Atomics.store(words, WORD.GO >>> 2, 1);
  Atomics.notify(words, WORD.GO >>> 2);
  while (Atomics.load(words, WORD.STOP >>> 2) === 0) {
    for (let i = 0; i < 1000; i++) Atomics.add(words, WORD.X >>> 2, 1);
  }
} else {
  const { memory, module, turns, calls } = task;
  const run = new WebAssembly.Instance(module, { env: { memory } }).exports.run as (turns: number) => number;
  const optimised = isOptimised(run);
  parentPort?.postMessage({ optimised, shortest: shortest(run, turns, calls) } satisfies CallReport);
}
