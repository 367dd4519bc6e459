/** Runs a protocol on real threads that start together. */
import { Worker } from 'node:worker_threads';

/** Where things lie in a hammer's memory; the workers know it too. */
export const AT = { GATE: 0, NEVER: 8, MUTEX: 64, COUNTER: 128, A: 1024, B: 16384, RING: 32768 } as const;
export const RING_CAPACITY = 1024;

export interface HammerData {
  memory: WebAssembly.Memory;
  role: string;
  index: number;
  rounds: number;
  wasm: 'all' | 'none' | 'mixed';
}

export function sharedMemory(): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true });
}
export function bufferOf(memory: WebAssembly.Memory): SharedArrayBuffer {
  return memory.buffer as ArrayBufferLike as SharedArrayBuffer;
}

/** Starts one worker per role; the results in that order. A worker that throws fails the hammer. */
export async function hammer(
  memory: WebAssembly.Memory,
  roles: readonly string[],
  rounds: number,
  wasm: HammerData['wasm'] = 'all',
): Promise<unknown[]> {
  Atomics.store(new Int32Array(memory.buffer), AT.GATE >>> 2, roles.length);
  const workers = roles.map((role, index) => {
    const workerData: HammerData = { memory, role, index, rounds, wasm };
    return new Worker(new URL('./workers/hammer-worker.ts', import.meta.url), { workerData });
  });
  try {
    return await Promise.all(
      workers.map(
        (worker) =>
          new Promise((resolve, reject) => {
            worker.once('message', resolve);
            worker.once('error', reject);
            worker.once('exit', (code) => reject(new Error(`worker ended with ${code} and no result`)));
          }),
      ),
    );
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}
