/** Entry of a vCPU worker. */
import { parentPort, workerData } from 'node:worker_threads';
import type { VcpuData } from '../src/machine/messages.ts';
import { VcpuThread } from '../src/machine/vcpu-thread.ts';

const thread = new VcpuThread(workerData as VcpuData);
parentPort?.postMessage({ type: 'ready', optimised: thread.optimised });
// the message is sent before this thread blocks: it needs no turn of the event loop
thread.run();
