/** Entry of the main-loop worker. */
import { parentPort, workerData } from 'node:worker_threads';
import { MainLoopThread } from '../src/machine/main-loop-thread.ts';
import type { MainLoopData } from '../src/machine/messages.ts';

const thread = new MainLoopThread(workerData as MainLoopData);
parentPort?.postMessage({ type: 'ready' });
await thread.run();
