/** The block helpers as an iothread uses them. */
import { getSystemErrorName } from 'node:util';
import type { Poller } from '../../aio/aio-context.ts';
import { compressSync, type CompressionType, decompressSync } from '../codec.ts';
import { asBlockError } from '../errors.ts';
import { iovLength, iovWrite } from '../iov.ts';
import type { Codec, IoVector, SlowCalls } from '../node.ts';
import {
  BlockJobs,
  COMPRESSION,
  JOB,
  type JobView,
  MAX_BYTES,
  MAX_PIECES,
  SLOTS,
  type Slot,
} from './jobs.ts';

/** Bytes from which (de)compressing takes longer than to ask a helper. */
const LEAST_BYTES = 16 << 10;

/** *Thread:* the iothread. *Lock:* none. */
export class BlockHelpers implements Poller, SlowCalls, Codec {
  readonly #jobs: BlockJobs;
  readonly #slots: readonly Slot[];
  /** The guest's memory, which helpers see too. */
  readonly #guest: SharedArrayBuffer;
  readonly #free: number[] = Array.from({ length: SLOTS }, (_, i) => SLOTS - 1 - i);
  /** By slot: who waits for it to be done. */
  readonly #waiting: ((() => void) | undefined)[] = Array.from({ length: SLOTS });
  /** Who waits for a free slot. */
  readonly #queue: ((index: number) => void)[] = [];
  #underWay = 0;
  /** Set while the iothread's loop runs. */
  active = false;

  constructor(buffer: SharedArrayBuffer, iothread: number, guest: SharedArrayBuffer) {
    this.#jobs = new BlockJobs(buffer);
    this.#slots = this.#jobs.slots[iothread];
    this.#guest = guest;
  }

  ready(): boolean {
    if (this.#underWay === 0) return false;
    return this.#slots.some((slot) => this.#jobs.isDone(slot));
  }

  poll(): boolean {
    if (this.#underWay === 0) return false;
    let progress = false;
    this.#slots.forEach((slot, index) => {
      if (!this.#jobs.isDone(slot)) return;
      progress = true;
      this.#waiting[index]?.();
      this.#waiting[index] = undefined;
      this.#jobs.free(slot);
      this.#underWay--;
      const next = this.#queue.shift();
      if (next === undefined) this.#free.push(index);
      else next(index);
    });
    return progress;
  }

  /** The iothread ends: the helpers may, too. No job is under way. */
  close(): void {
    this.active = false;
    this.#jobs.leave();
  }

  /** Posts a job that `fill` writes down; `take` looks at the result before the slot is used again. Rejects with BlockError. */
  async #run<T>(
    fill: (job: JobView, slot: Slot) => void,
    take: (result: number, slot: Slot) => T,
  ): Promise<T> {
    const index = this.#free.pop() ?? (await new Promise<number>((resolve) => this.#queue.push(resolve)));
    const slot = this.#slots[index];
    const { job } = slot;
    fill(job, slot);
    return await new Promise<T>((resolve, reject) => {
      this.#waiting[index] = () => {
        const { result } = job;
        if (result >= 0) resolve(take(result, slot));
        else
          reject(
            asBlockError(Object.assign(new Error('block helper'), { code: getSystemErrorName(result) })),
          );
      };
      this.#underWay++;
      this.#jobs.post(slot);
    });
  }

  read(fd: number, offset: number, to: IoVector): Promise<{ bytes: number; took: number }> | undefined {
    const length = iovLength(to);
    if (to.length <= MAX_PIECES && to.every(({ buffer }) => buffer === this.#guest)) {
      return this.#run(
        (job, { pieces }) => {
          to.forEach(({ byteOffset, byteLength }, i) => {
            pieces[2 * i] = byteOffset;
            pieces[2 * i + 1] = byteLength;
          });
          Object.assign(job, { kind: JOB.READ, fd, offset, pieces: to.length });
        },
        (bytes, { job }) => ({ bytes, took: job.took }),
      );
    }
    if (length > MAX_BYTES) return undefined;
    return this.#run(
      (job) => Object.assign(job, { kind: JOB.READ_BYTES, fd, offset, length }),
      (bytes, { job, output }) => {
        iovWrite(to, 0, output.subarray(0, bytes));
        return { bytes, took: job.took };
      },
    );
  }

  datasync(fd: number): Promise<void> {
    return this.#run(
      (job) => Object.assign(job, { kind: JOB.DATASYNC, fd }),
      () => undefined,
    );
  }

  async compress(type: CompressionType, data: Uint8Array, limit: number): Promise<Uint8Array | undefined> {
    if (!this.active || data.length < LEAST_BYTES || data.length > MAX_BYTES) {
      return compressSync(type, data.slice(), limit);
    }
    return this.#run(
      (job, { input }) => {
        input.set(data);
        const fields = { kind: JOB.COMPRESS, type: COMPRESSION.indexOf(type), length: data.length, limit };
        Object.assign(job, fields);
      },
      (bytes, { output }) => (bytes === 0 ? undefined : new Uint8Array(output.subarray(0, bytes))),
    );
  }

  async decompress(type: CompressionType, data: Uint8Array, length: number): Promise<Uint8Array> {
    if (!this.active || length < LEAST_BYTES || data.length > MAX_BYTES || length > MAX_BYTES)
      return decompressSync(type, data, length);
    return this.#run(
      (job, { input }) => {
        input.set(data);
        const fields = {
          kind: JOB.DECOMPRESS,
          type: COMPRESSION.indexOf(type),
          length: data.length,
          limit: length,
        };
        Object.assign(job, fields);
      },
      (bytes, { output }) => new Uint8Array(output.subarray(0, bytes)),
    );
  }
}
