/** Entry of an iothread. */
import { parentPort, workerData } from 'node:worker_threads';
import { IothreadThread } from '../src/machine/iothread-thread.ts';
import type { IothreadData } from '../src/machine/messages.ts';

const thread = await IothreadThread.open(workerData as IothreadData);
parentPort?.postMessage({ type: 'ready' });
await thread.run();
