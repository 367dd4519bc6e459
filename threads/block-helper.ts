/** Entry of a block helper. */
import { parentPort, workerData } from 'node:worker_threads';
import { type BlockHelperData, runBlockHelper } from '../src/block/helpers/worker.ts';

parentPort?.postMessage({ type: 'ready' });
runBlockHelper(workerData as BlockHelperData);
