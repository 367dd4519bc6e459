/** Entry of the main-loop worker. */
import { parentPort, workerData } from 'node:worker_threads';
import { MainLoopThread } from '../src/machine/main-loop-thread.ts';
import type { MainLoopData } from '../src/machine/messages.ts';

try {
  const thread = new MainLoopThread(workerData as MainLoopData);
  thread.load();
  parentPort?.postMessage({ type: 'ready' });
  await thread.run();
} catch (error) {
  const { message, code } = error as NodeJS.ErrnoException;
  parentPort?.postMessage({ type: 'error', message, code });
  throw error;
}
