/** Entry of the JIT worker. */
import { parentPort, workerData } from 'node:worker_threads';
import { runJitThread } from '../src/jit/jit-thread.ts';
import type { JitData } from '../src/machine/messages.ts';

runJitThread(workerData as JitData);
parentPort?.postMessage({ type: 'ready' });
