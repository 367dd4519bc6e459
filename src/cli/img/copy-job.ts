/** The heart of `convert`: copies a source into a target, leaving out what is zero. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { BlockNode, Done } from '../../block/node.ts';
import type { CopySource } from './copy-source.ts';
import { ImgError, reasonOf } from './img-error.ts';
import { sparseRuns } from './sparse-runs.ts';
import { dataBuffer, isZero } from './zeroes.ts';

/** Most of one read. */
const BUFFER = 2 << 20;
/** Reads under way while what came before them is written: with one, either thread would wait for the other. */
const AHEAD = 2;
const PIECE = 256 << 10;
const SECTOR = 512;

export interface CopyOptions {
  readonly source: CopySource;
  readonly target: BlockNode;
  readonly compressed: boolean;
  /** What was not written reads as zeroes. */
  readonly targetIsZero: boolean;
  /** The target's clusters are all there (preallocation). */
  readonly targetIsAllocated: boolean;
  /** The target has a backing file, which must not show where the source has zeroes. */
  readonly targetHasBacking: boolean;
  /** Zeroes of this length are not written; 0: everything is. */
  readonly minSparse: number;
  /** Pieces of PIECE bytes, or clusters where they are larger, that are compressed at the same time. */
  readonly parallel: number;
  /** Bytes per second. */
  readonly rate: number | undefined;
  /** Unreadable parts become zeroes; called with a message. */
  readonly salvage: ((message: string) => void) | undefined;
  readonly progress: (fraction: number) => void;
}

/** A part of the source that is being read. */
interface Ahead {
  readonly start: number;
  readonly length: number;
  readonly data: Buffer;
  readonly reading: Promise<void>;
}

export class CopyJob {
  readonly #options: CopyOptions;
  /** The target's unit of allocation and compression; 0: none. */
  readonly #cluster: number;
  /** Zeroes are looked for in blocks of this size. */
  readonly #step: number;
  #targetIsZero: boolean;
  readonly #began = performance.now();
  #copied = 0;
  /** Buffers of which nothing is being written any more. */
  readonly #free: Buffer[] = [];
  /** What is being read, in order, while what came before it is written. */
  readonly #ahead: Ahead[] = [];
  readonly #compressing = new Set<Promise<void>>();
  /** The first failure of a write that nobody waited for. */
  #failure: unknown;

  constructor(options: CopyOptions) {
    this.#options = options;
    this.#targetIsZero = options.targetIsZero && options.minSparse > 0;
    this.#cluster = options.target.limits.discardAlignment;
    const block = 2 ** Math.floor(Math.log2(Math.max(SECTOR, options.minSparse)));
    // a part of a cluster that is not there is written with the rest of it
    this.#step = options.targetIsAllocated ? block : Math.max(block, this.#cluster);
  }

  /** *Errors:* ImgError. */
  async run(): Promise<void> {
    const { minSparse, targetHasBacking } = this.#options;
    if (!this.#targetIsZero && !targetHasBacking && minSparse > 0) await this.#zeroTarget();
    try {
      await this.#copyAll();
    } finally {
      await Promise.allSettled(this.#ahead.map(({ reading }) => reading));
      await Promise.all(this.#compressing);
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** All that is to be written at once, where that is quick. */
  async #zeroTarget(): Promise<void> {
    const { source, target } = this.#options;
    try {
      await target.writeZeroes(0, source.size, { mayUnmap: true, noFallback: true });
      this.#targetIsZero = true;
    } catch {
      // then as zeroes are met
    }
  }

  async #copyAll(): Promise<void> {
    const { source, minSparse, progress } = this.#options;
    for (let at = 0; at < source.size;) {
      const status = await source.status(at, source.size - at);
      const isData = status.allocated && !status.zero;
      let end = at + status.length;
      // zeroes at the end of a cluster of which the rest was data were copied with it; other ones begin it
      if (!isData && this.#options.compressed) end = this.#wholeClusters(at, end);
      if (isData || end === at || (status.zero && minSparse === 0)) {
        end = await this.#dataEnd(at, Math.max(end, at + status.length));
        await this.#copyData(at, end);
      } else if (status.zero) {
        await this.#writeZeroes(at, end - at);
      }
      at = end;
      progress((this.#ahead[0]?.start ?? at) / source.size);
      await this.#limitRate();
    }
    for (let next = this.#ahead.shift(); next !== undefined; next = this.#ahead.shift()) {
      await this.#writeRead(next);
    }
    progress(1);
  }

  #wholeClusters(start: number, end: number): number {
    return end === this.#options.source.size ? end : Math.max(start, end - (end % this.#cluster));
  }

  /** Data that follows is read with what is there; what is compressed is whole clusters. */
  async #dataEnd(start: number, known: number): Promise<number> {
    const { source, compressed } = this.#options;
    const limit = Math.min(source.size, start + Math.max(BUFFER, this.#cluster));
    let end = Math.min(known, limit);
    while (end < limit) {
      const status = await source.status(end, limit - end);
      if (status.zero || !status.allocated) break;
      end += status.length;
    }
    return compressed ? Math.min(source.size, Math.ceil(end / this.#cluster) * this.#cluster) : end;
  }

  /** Begins to read [start, end), and writes what was read long enough before it. */
  async #copyData(start: number, end: number): Promise<void> {
    const length = end - start;
    const data = this.#free.pop() ?? dataBuffer(Math.max(BUFFER, this.#cluster));
    const reading = this.#read(start, data.subarray(0, length));
    // it is waited for later, after a write that may fail before it does
    reading.catch(() => {});
    this.#ahead.push({ start, length, data, reading });
    const before = this.#ahead.length > AHEAD ? this.#ahead.shift() : undefined;
    if (before !== undefined) await this.#writeRead(before);
  }

  async #writeRead({ start, length, data, reading }: Ahead): Promise<void> {
    await reading;
    this.#copied += length;
    if (!this.#options.compressed) {
      await this.#writeData(start, data, length);
      this.#free.push(data);
      return;
    }
    // what is being compressed keeps its memory
    const jobs = await this.#writeCompressed(start, data, length);
    void Promise.all(jobs).then(() => this.#free.push(data));
  }

  async #read(at: number, to: Buffer): Promise<void> {
    const { source, salvage } = this.#options;
    try {
      await source.read(at, to);
    } catch (error) {
      if (salvage === undefined) {
        throw new ImgError(`error while reading at byte ${at}: ${reasonOf(error)}`, { cause: error });
      }
      await this.#salvage(at, to, salvage);
    }
  }

  /** Sector by sector. */
  async #salvage(at: number, to: Buffer, warn: (message: string) => void): Promise<void> {
    let isReported = false;
    for (let i = 0; i < to.length; i += SECTOR) {
      const part = to.subarray(i, Math.min(to.length, i + SECTOR));
      try {
        await this.#options.source.read(at + i, part);
      } catch (error) {
        part.fill(0);
        if (!isReported) warn(`warning: error while reading offset ${at + i}: ${reasonOf(error)}`);
        isReported = true;
      }
    }
  }

  async #writeData(at: number, data: Buffer, length: number): Promise<void> {
    const { minSparse, target } = this.#options;
    if (minSparse === 0) {
      await this.#write(at, () => target.write(at, [data.subarray(0, length)]));
      return;
    }
    for (const { start, end, zero } of sparseRuns(data, length, at, this.#step, minSparse)) {
      if (zero) await this.#writeZeroes(at + start, end - start);
      else await this.#write(at + start, () => target.write(at + start, [data.subarray(start, end)]));
    }
  }

  async #writeZeroes(at: number, length: number): Promise<void> {
    if (this.#targetIsZero) return;
    await this.#write(at, () => this.#options.target.writeZeroes(at, length, { mayUnmap: true }));
  }

  /** Cluster by cluster, as many at a time as are allowed. */
  async #writeCompressed(at: number, data: Buffer, length: number): Promise<readonly Promise<void>[]> {
    const jobs: Promise<void>[] = [];
    const { target, minSparse } = this.#options;
    const most = this.#options.parallel * Math.max(1, Math.floor(PIECE / this.#cluster));
    for (let start = 0; start < length; start += this.#cluster) {
      const end = Math.min(length, start + this.#cluster);
      const offset = at + start;
      if (minSparse > 0 && isZero(data, start, end)) {
        await this.#writeZeroes(offset, end - start);
        continue;
      }
      const cluster = data.subarray(start, end);
      const job = this.#write(offset, () => target.writeCompressed(offset, [cluster]))
        .catch((error: unknown) => {
          this.#failure ??= error;
        })
        .finally(() => this.#compressing.delete(job));
      jobs.push(job);
      this.#compressing.add(job);
      while (this.#compressing.size >= most) await Promise.race(this.#compressing);
      if (this.#failure !== undefined) throw this.#failure;
    }
    return jobs;
  }

  async #write(at: number, write: () => Done): Promise<void> {
    try {
      await write();
    } catch (error) {
      throw new ImgError(`error while writing at byte ${at}: ${reasonOf(error)}`, { cause: error });
    }
  }

  async #limitRate(): Promise<void> {
    const { rate } = this.#options;
    if (rate === undefined || rate === 0) return;
    const ahead = (this.#copied / rate) * 1000 - (performance.now() - this.#began);
    if (ahead > 1) await sleep(ahead);
  }
}
