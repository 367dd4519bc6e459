/** What a block helper does: takes jobs until all iothreads have ended. */
import { fdatasyncSync, readSync, readvSync } from 'node:fs';
import { Notifier, NotifierState } from '../../timer/notifier.ts';
import { compressSync, decompressSync } from '../codec.ts';
import { BlockError } from '../errors.ts';
import { BlockJobs, COMPRESSION, JOB, type Slot } from './jobs.ts';

/** Start-up message of a helper. */
export interface BlockHelperData {
  readonly memory: WebAssembly.Memory;
  readonly jobs: SharedArrayBuffer;
  /** Of the iothreads' contexts: addresses in `memory`. */
  readonly notifiers: readonly number[];
}

/** A negative errno for what is not known better; EIO. */
const EIO = -5;

/** *Thread:* a helper. *May block:* yes, the thread. */
export function runBlockHelper({ memory, jobs: buffer, notifiers }: BlockHelperData): void {
  // a shared memory's buffer is one
  const guest = memory.buffer as unknown as SharedArrayBuffer;
  const jobs = new BlockJobs(buffer);
  const contexts = notifiers.map((at) => new Notifier(NotifierState.at(guest, at)));
  jobs.serve(contexts, (slot) => carryOut(slot, guest));
}

function carryOut(slot: Slot, guest: SharedArrayBuffer): void {
  const { job } = slot;
  const start = performance.now();
  try {
    job.result = call(slot, guest);
  } catch (error) {
    const errno = error instanceof Error && 'errno' in error ? error.errno : undefined;
    // what node:fs throws has a negative number, a BlockError a positive one
    job.result = typeof errno === 'number' && errno !== 0 ? -Math.abs(errno) : EIO;
    if (!(error instanceof BlockError) && errno === undefined) throw error;
  }
  job.took = (performance.now() - start) * 1000;
}

/** Returns the result, bytes. */
function call({ job, pieces, input, output }: Slot, guest: SharedArrayBuffer): number {
  switch (job.kind) {
    case JOB.READ: {
      const to = Array.from({ length: job.pieces }, (_, i) => {
        return new Uint8Array(guest, pieces[2 * i], pieces[2 * i + 1]);
      });
      return readvSync(job.fd, to, job.offset);
    }
    case JOB.READ_BYTES:
      return readSync(job.fd, output, 0, job.length, job.offset);
    case JOB.DATASYNC:
      fdatasyncSync(job.fd);
      return 0;
    case JOB.COMPRESS: {
      const result = compressSync(COMPRESSION[job.type], input.subarray(0, job.length), job.limit);
      if (result !== undefined) output.set(result);
      return result?.length ?? 0;
    }
    case JOB.DECOMPRESS:
      output.set(decompressSync(COMPRESSION[job.type], input.subarray(0, job.length), job.limit));
      return job.limit;
    default:
      return EIO;
  }
}
