/** Ends a case that runs for more than some seconds: the guest's thread is in generated code and cannot look at a clock. */
import { workerData } from 'node:worker_threads';

interface Data {
  readonly current: Int32Array;
  readonly words: Int32Array;
  readonly stop: number;
  readonly exit: number;
}
const { current, words, stop, exit } = workerData as Data;

/** Looks in a row at which the same case ran: a busy host may not run the guest's thread for a while. */
const PATIENCE = 6;

for (let seen = 0, looks = 0; ;) {
  Atomics.wait(current, 1, 0, 1000);
  const now = Atomics.load(current, 0);
  looks = now !== 0 && now === seen ? looks + 1 : 0;
  if (looks >= PATIENCE) {
    Atomics.store(words, stop, 1);
    Atomics.or(words, exit, 1);
  }
  seen = now;
}
