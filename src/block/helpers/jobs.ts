/**
 * Jobs of the block helpers: slots in shared memory, by which iothreads hand slow calls to helper threads.
 *
 * | state of a slot | who changes it | to |
 * | --- | --- | --- |
 * | FREE | its iothread, after the job's fields and bytes | POSTED |
 * | POSTED | the helper whose compare-exchange succeeds | TAKEN |
 * | TAKEN | that helper, after the result | DONE |
 * | DONE | its iothread, after it has taken the result | FREE |
 *
 * So each slot has one owner at a time, and what it wrote before it changed the state is seen by the next one.
 *
 * *No job is left lying*: the iothread stores POSTED, then adds to `posted`, then looks at `sleeping`. A helper reads
 * `posted`, looks at all slots, adds itself to `sleeping`, and waits while `posted` is what it read. If it did not see the
 * job, the addition comes after its read, so that it does not sleep, or is woken: the iothread saw `sleeping`, or the helper
 * counted itself after that look and compares with the new `posted`. *No result is left lying*: DONE is stored before the
 * iothread's context is notified, and the iothread looks at its slots before it sleeps (`Poller.ready`).
 */
import { atomicI32, f64, i32, padTo, struct, u32, type ViewOf } from '@smp86/atomics-sync';
import type { Notifier } from '../../timer/notifier.ts';

export const JOB_STATE = { FREE: 0, POSTED: 1, TAKEN: 2, DONE: 3 } as const;

export const JOB = {
  /** Fills the pieces, which are guest memory, from `offset` of file `fd`. */
  READ: 0,
  /** Fills the first `length` bytes of `output`. */
  READ_BYTES: 1,
  DATASYNC: 2,
  /** `input` to `output`; the result is 0 when it is not shorter than `limit`. `type`: COMPRESSION. */
  COMPRESS: 3,
  /** `input` to `limit` bytes of `output`. */
  DECOMPRESS: 4,
} as const;
export const COMPRESSION = ['zlib', 'zstd'] as const;

/** Jobs of one iothread that are under way at most; more wait. */
export const SLOTS = 16;
/** Pieces of one read at most. */
export const MAX_PIECES = 1024;
/** The largest cluster. */
export const MAX_BYTES = 2 << 20;
/** Compressed data begins and ends within a sector. */
const SPARE = 4096;

const JobState = struct({
  state: atomicI32,
  kind: u32,
  type: u32,
  fd: i32,
  /** Bytes, of the input or of the read. */
  length: u32,
  limit: u32,
  pieces: u32,
  /** Bytes; or a negative errno. */
  result: i32,
  offset: f64,
  /** µs that the call took. */
  took: f64,
  pad: padTo(64),
});
export type JobView = ViewOf<typeof JobState>;

const HeaderState = struct({
  /** Jobs that were ever posted, modulo 2^32: the futex word. */
  posted: atomicI32,
  sleeping: atomicI32,
  /** Iothreads that have not ended, and the machine until it ends; helpers end with the last. */
  users: atomicI32,
  pad: padTo(64),
});

/** What a slot carries. Pages that are not used are not there. */
const PIECES_BYTES = MAX_PIECES * 8;
const DATA_BYTES = MAX_BYTES + SPARE;
const SLOT_BYTES = PIECES_BYTES + 2 * DATA_BYTES;

export interface Slot {
  readonly job: JobView;
  /** Address in the machine's memory and length, for each piece. */
  readonly pieces: Uint32Array<SharedArrayBuffer>;
  readonly input: Uint8Array<SharedArrayBuffer>;
  readonly output: Uint8Array<SharedArrayBuffer>;
}

function iothreadsIn(buffer: SharedArrayBuffer): number {
  return (buffer.byteLength - HeaderState.size) / (SLOTS * (JobState.size + SLOT_BYTES));
}

/** The jobs of all iothreads of a machine. */
export class BlockJobs {
  readonly buffer: SharedArrayBuffer;
  readonly header: ViewOf<typeof HeaderState>;
  /** By iothread. */
  readonly slots: readonly (readonly Slot[])[];

  /** *Thread:* host. */
  static create(iothreads: number): BlockJobs {
    const jobs = new BlockJobs(new SharedArrayBuffer(BlockJobs.size(iothreads)), iothreads);
    jobs.enter();
    return jobs;
  }

  /** Bytes that the jobs of so many iothreads need. */
  static size(iothreads: number): number {
    return HeaderState.size + iothreads * SLOTS * (JobState.size + SLOT_BYTES);
  }

  /** All of `buffer`, or the jobs of `iothreads` iothreads at `at` of it. */
  constructor(buffer: SharedArrayBuffer, iothreads = iothreadsIn(buffer), at = 0) {
    this.buffer = buffer;
    this.header = HeaderState.at(buffer, at);
    const count = iothreads * SLOTS;
    const jobs = at + HeaderState.size;
    const data = jobs + count * JobState.size;
    const all = Array.from({ length: count }, (_, i): Slot => {
      const bytes = data + i * SLOT_BYTES;
      return {
        job: JobState.at(buffer, jobs + i * JobState.size),
        pieces: new Uint32Array(buffer, bytes, MAX_PIECES * 2),
        input: new Uint8Array(buffer, bytes + PIECES_BYTES, DATA_BYTES),
        output: new Uint8Array(buffer, bytes + PIECES_BYTES + DATA_BYTES, DATA_BYTES),
      };
    });
    this.slots = Array.from({ length: count / SLOTS }, (_, i) => all.slice(i * SLOTS, (i + 1) * SLOTS));
  }

  /** One more iothread, or the machine, is to have helpers. *Thread:* host. */
  enter(): void {
    this.header.users.add(1);
  }
  /** Hands over the job that a free slot holds. *Thread:* its iothread. */
  post({ job }: Slot): void {
    const { posted, sleeping } = this.header;
    job.state.store(JOB_STATE.POSTED);
    posted.add(1);
    if (sleeping.load() > 0) posted.notify(1);
  }

  /**
   * What a helper does: has `body` carry out jobs, until all iothreads and the machine have ended. `contexts`: by
   * iothread. *Thread:* a helper. *May block:* yes, the thread.
   */
  serve(contexts: readonly Notifier[], body: (slot: Slot) => void): void {
    const { posted, sleeping, users } = this.header;
    for (;;) {
      const seen = posted.load();
      let busy = false;
      for (let iothread = 0; iothread < contexts.length; iothread++) {
        for (const slot of this.slots[iothread]) {
          const { state } = slot.job;
          if (state.load() !== JOB_STATE.POSTED) continue;
          if (state.compareExchange(JOB_STATE.POSTED, JOB_STATE.TAKEN) !== JOB_STATE.POSTED) continue;
          busy = true;
          body(slot);
          state.store(JOB_STATE.DONE);
          contexts[iothread].notify();
        }
      }
      if (busy) continue;
      if (users.load() === 0) return;
      sleeping.add(1);
      posted.wait(seen);
      sleeping.add(-1);
    }
  }

  /** Whether a slot has a result; `free` gives it back. *Thread:* its iothread. */
  isDone({ job }: Slot): boolean {
    return job.state.load() === JOB_STATE.DONE;
  }
  free({ job }: Slot): void {
    job.state.store(JOB_STATE.FREE);
  }

  /** One less, which has no job under way: the helpers end with the last. *Thread:* that one; the host for the machine. */
  leave(): void {
    const { users, posted } = this.header;
    users.add(-1);
    posted.add(1);
    posted.notify();
  }
}
