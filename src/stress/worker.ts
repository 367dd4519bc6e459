/** Entry of a thread of a round. */
import { workerData } from 'node:worker_threads';
import { plantFault } from './faults.ts';
import { useCpus } from './placement.ts';
import type { ThreadData } from './stage.ts';

const data = workerData as ThreadData;
if (data.cpus !== undefined) useCpus(data.cpus);
// before anything that it changes is loaded
if (data.fault !== undefined) plantFault(data.fault);
const { runRole } = await import('./roles/index.ts');
await runRole(data);
