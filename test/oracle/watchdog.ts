/** Ends a case that runs for more than a second: the guest's thread is in generated code and cannot look at a clock. */
import { workerData } from 'node:worker_threads';

interface Data {
  readonly current: Int32Array;
  readonly words: Int32Array;
  readonly stop: number;
  readonly exit: number;
}
const { current, words, stop, exit } = workerData as Data;

for (let seen = 0; ;) {
  Atomics.wait(current, 1, 0, 1000);
  const now = Atomics.load(current, 0);
  if (now !== 0 && now === seen) {
    Atomics.store(words, stop, 1);
    Atomics.or(words, exit, 1);
  }
  seen = now;
}
