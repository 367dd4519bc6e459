/** A qcow2 image as a node of the block graph. */
import { asBlockError, BlockError } from '../errors.ts';
import { iovFill, iovGather, iovLength, iovSlice, iovWrite, zeroVector } from '../iov.ts';
import type {
  BlockLimits,
  BlockNode,
  BlockStatus,
  Done,
  IoVector,
  Preallocation,
  WriteFlags,
  ZeroFlags,
} from '../node.ts';
import { Allocator } from './allocate.ts';
import { startCacheCleaner } from './cleaner.ts';
import { writeCompressedCluster } from './compressed.ts';
import { ENTRY } from './format.ts';
import { Mapping, type Run } from './mapping.ts';
import { resize } from './resize.ts';
import type { Qcow2State } from './state.ts';
import { Emptier } from './zero.ts';

/** *Thread:* the context's. Made by `openQcow2`. */
export class Qcow2Node implements BlockNode {
  readonly driver = 'qcow2';
  nodeName = '';
  /** What the parts share: for operations on the whole image (`src/block/qcow2`). */
  readonly state: Qcow2State;
  readonly mapping: Mapping;
  readonly allocator: Allocator;
  readonly emptier: Emptier;
  readonly limits: BlockLimits;
  #stopCleaner: (() => void) | undefined;

  constructor(state: Qcow2State) {
    this.state = state;
    this.mapping = new Mapping(state);
    this.allocator = new Allocator(state, this.mapping, (offset, to) => this.read(offset, to));
    this.emptier = new Emptier(state, this.mapping, this.allocator);
    this.limits = {
      requestAlignment: 1,
      maxWriteZeroes: Infinity,
      maxDiscard: Infinity,
      writeZeroesAlignment: state.subclusterSize,
      discardAlignment: state.clusterSize,
    };
    this.#stopCleaner = startCacheCleaner(state);
  }

  get filename(): string {
    return this.state.file.filename;
  }
  get size(): number {
    return this.state.header.size;
  }
  get readOnly(): boolean {
    return this.state.readOnly;
  }
  get children(): BlockNode['children'] {
    const { file, backing, dataFile, hasDataFile } = this.state;
    return { file, backing, dataFile: hasDataFile ? dataFile : undefined };
  }

  /** The run at `offset`; a copy, when its slice had to be read. */
  #lookup(offset: number, length: number): Run | Promise<Run> {
    return this.mapping.lookup(offset, length) ? this.mapping.run : this.#lookupSlow(offset, length);
  }

  #lookupSlow(offset: number, length: number): Promise<Run> {
    return this.state.lock.run(async () => {
      // others that wait may have read it
      if (!this.mapping.lookup(offset, length)) {
        await this.mapping.load(offset);
        if (!this.mapping.lookup(offset, length)) throw new BlockError('EIO', 'Input/output error');
      }
      return { ...this.mapping.run };
    });
  }

  read(offset: number, to: IoVector): Done {
    const { state, mapping } = this;
    state.checkUsable();
    const total = iovLength(to);
    // most reads are of data that lies in one piece, and whose slice is cached
    if (total > 0 && mapping.lookup(offset, total)) {
      const { type, length, host } = mapping.run;
      if (type === ENTRY.normal && length >= total) return state.dataFile.read(host, to);
    }
    return this.#readRuns(offset, to, total);
  }

  async #readRuns(offset: number, to: IoVector, total: number): Promise<void> {
    const { state } = this;
    for (let done = 0; done < total;) {
      const at = offset + done;
      let run = this.#lookup(at, total - done);
      if (run instanceof Promise) run = await run;
      const { type, length, host, compressedLength } = run;
      const part = iovSlice(to, done, length);
      done += length;
      switch (type) {
        case ENTRY.normal:
          await state.dataFile.read(host, part);
          break;
        case ENTRY.zeroPlain:
        case ENTRY.zeroAllocated:
          iovFill(part, 0);
          break;
        case ENTRY.unallocated:
        case ENTRY.unallocatedAllocated:
          if (state.backing) await this.#readBacking(state.backing, at, part, length);
          else iovFill(part, 0);
          break;
        case ENTRY.compressed: {
          const cluster = await this.#readCompressed(host, compressedLength);
          const within = at % state.clusterSize;
          iovWrite(part, 0, cluster.subarray(within, within + length));
          break;
        }
        default:
          throw new BlockError('EIO', 'Input/output error');
      }
    }
  }

  async #readBacking(backing: BlockNode, offset: number, to: IoVector, length: number): Promise<void> {
    const there = Math.max(0, Math.min(length, backing.size - offset));
    if (there < length) iovFill(to, 0, there, length - there);
    if (there > 0) await backing.read(offset, iovSlice(to, 0, there));
  }

  /** The cluster whose compressed data is at `host`. The last one is kept: small reads in order want it again. */
  #readCompressed(host: number, length: number): Uint8Array | Promise<Uint8Array> {
    const { lastDecompressed, decompressing } = this.state;
    if (lastDecompressed?.host === host) return lastDecompressed.cluster;
    let cluster = decompressing.get(host);
    if (cluster === undefined) {
      cluster = this.#decompress(host, length);
      decompressing.set(host, cluster);
    }
    return cluster;
  }

  async #decompress(host: number, length: number): Promise<Uint8Array> {
    const { state } = this;
    const { freedClusters, decompressing } = state;
    try {
      const data = new Uint8Array(length);
      await state.file.read(host, [data]);
      const type = state.header.compressionType === 1 ? 'zstd' : 'zlib';
      const cluster = await state.context.codec.decompress(type, data, state.clusterSize);
      // while it is referred to, compressed data does not change
      if (freedClusters === state.freedClusters) state.lastDecompressed = { host, cluster };
      return cluster;
    } finally {
      // when a cluster became free the list was emptied, and `host` may be another's by now
      if (freedClusters === state.freedClusters) decompressing.delete(host);
    }
  }

  write(offset: number, from: IoVector, flags?: WriteFlags): Done {
    const { state, mapping } = this;
    this.#checkWritable();
    const total = iovLength(from);
    // most writes are to clusters that are there
    if (flags?.fua !== true && total > 0 && mapping.lookup(offset, total)) {
      const { type, copied, length, host } = mapping.run;
      if (type === ENTRY.normal && copied && length >= total) {
        state.checkDataOverlap(host, total);
        return state.dataFile.write(host, from);
      }
    }
    return this.#writeRuns(offset, from, total, flags);
  }

  async #writeRuns(
    offset: number,
    from: IoVector,
    total: number,
    flags: WriteFlags | undefined,
  ): Promise<void> {
    const { state } = this;
    for (let done = 0; done < total;) {
      const at = offset + done;
      let run = this.#lookup(at, total - done);
      if (run instanceof Promise) run = await run;
      const { type, length, host } = run;
      if (type === ENTRY.normal && run.copied) {
        state.checkDataOverlap(host, length);
        await state.dataFile.write(host, iovSlice(from, done, length));
        done += length;
      } else if (type === ENTRY.invalid) {
        throw new BlockError('EIO', 'Input/output error');
      } else {
        done += await this.allocator.write(at, iovSlice(from, done, total - done));
      }
    }
    if (flags?.fua) await this.flush();
  }

  async writeZeroes(offset: number, length: number, flags?: ZeroFlags): Promise<void> {
    const { state } = this;
    this.#checkWritable();
    const unit = state.subclusterSize;
    const stop = offset + length;
    const start = Math.ceil(offset / unit) * unit;
    if (start >= stop) {
      await this.#zeroPart(offset, stop, flags);
    } else {
      // the disk's last cluster may be a part of one
      const atEnd = stop === state.header.size;
      const end = (atEnd ? Math.ceil(stop / unit) : Math.floor(stop / unit)) * unit;
      if (start > offset) await this.#zeroPart(offset, start, flags);
      if (end > start) await this.#zeroWhole(start, end, flags);
      if (stop > end) await this.#zeroPart(Math.max(start, end), stop, flags);
    }
    if (flags?.fua) await this.flush();
  }

  async #zeroWhole(start: number, end: number, flags: ZeroFlags | undefined): Promise<void> {
    const { state } = this;
    if (state.dataFileRaw)
      await state.dataFile.writeZeroes(start, end - start, { mayUnmap: flags?.mayUnmap });
    const how = flags?.mayUnmap && !state.hasDataFile ? 'unmap' : 'zero';
    try {
      await this.emptier.empty(start, end - start, how);
    } catch (error) {
      if (flags?.noFallback || !(error instanceof BlockError) || error.code !== 'ENOTSUP') throw error;
      await this.#writeZeroData(start, Math.min(end, state.header.size));
    }
  }

  /** [offset, end), a part of one cluster (or of a subcluster). */
  async #zeroPart(offset: number, end: number, flags: ZeroFlags | undefined): Promise<void> {
    const { zero, length } = await this.blockStatus(offset, end - offset);
    if (zero && length === end - offset) return;
    if (flags?.noFallback) throw new BlockError('ENOTSUP', 'Operation not supported');
    await this.#writeZeroData(offset, end);
  }

  async #writeZeroData(offset: number, end: number): Promise<void> {
    const step = Math.max(this.state.clusterSize, 1 << 20);
    for (let at = offset; at < end;) {
      const next = Math.min(end, at - (at % step) + step);
      await this.write(at, zeroVector(next - at));
      at = next;
    }
  }

  async discard(offset: number, length: number): Promise<void> {
    const { state } = this;
    this.#checkWritable();
    const { clusterSize } = state;
    const stop = offset + length;
    const start = Math.ceil(offset / clusterSize) * clusterSize;
    const whole = stop === state.header.size ? Math.ceil(stop / clusterSize) : Math.floor(stop / clusterSize);
    const end = whole * clusterSize;
    if (end <= start) return;
    if (state.hasDataFile && state.dataFileRaw) {
      await state.dataFile.discard(start, Math.min(end, stop) - start);
      return;
    }
    await this.emptier.empty(start, end - start, 'discard');
  }

  async writeCompressed(offset: number, from: IoVector): Promise<void> {
    const { state } = this;
    this.#checkWritable();
    const { clusterSize } = state;
    if (state.hasDataFile) throw new BlockError('ENOTSUP', 'Operation not supported');
    const total = iovLength(from);
    if (offset % clusterSize !== 0) throw new BlockError('EINVAL', 'Invalid argument');
    if (total % clusterSize !== 0 && offset + total !== this.size)
      throw new BlockError('EINVAL', 'Invalid argument');
    for (let done = 0; done < total; done += clusterSize) {
      const length = Math.min(clusterSize, total - done);
      const part = iovSlice(from, done, length);
      let cluster = part.length === 1 ? part[0] : iovGather(part);
      if (length < clusterSize) {
        const padded = new Uint8Array(clusterSize);
        padded.set(cluster);
        cluster = padded;
      }
      const stored = await writeCompressedCluster(this, offset + done, cluster);
      if (!stored) await this.write(offset + done, [cluster.subarray(0, length)]);
    }
  }

  async flush(): Promise<void> {
    const { state } = this;
    if (state.readOnly) return;
    state.checkUsable();
    const wait = state.lock.acquire();
    if (wait) await wait;
    try {
      await state.flushMetadata();
    } finally {
      state.lock.release();
    }
  }

  async blockStatus(offset: number, length: number): Promise<BlockStatus> {
    const { state } = this;
    state.checkUsable();
    let known: BlockStatus | undefined;
    for (let done = 0; done < length;) {
      const at = offset + done;
      let run = this.#lookup(at, length - done);
      if (run instanceof Promise) run = await run;
      const next = this.#statusOf(run, at);
      if (!known) known = next;
      else if (!continues(known, next)) break;
      else known = { ...known, length: known.length + next.length };
      done += next.length;
    }
    if (!known) throw new BlockError('EINVAL', 'Invalid argument');
    return known;
  }

  #statusOf(run: Run, offset: number): BlockStatus {
    const { state } = this;
    const { type, length } = run;
    switch (type) {
      case ENTRY.normal:
        return {
          length,
          data: true,
          zero: false,
          allocated: true,
          fileOffset: run.host,
          file: state.dataFile,
        };
      case ENTRY.zeroAllocated:
        return {
          length,
          data: false,
          zero: true,
          allocated: true,
          fileOffset: run.host,
          file: state.dataFile,
        };
      case ENTRY.zeroPlain:
        return { length, data: false, zero: true, allocated: true };
      case ENTRY.compressed:
        return { length, data: true, zero: false, allocated: true, compressed: true };
      case ENTRY.invalid:
        throw new BlockError('EIO', 'Input/output error');
      default: {
        const { backing } = state;
        if (!backing) return { length, data: false, zero: true, allocated: false };
        if (offset >= backing.size) return { length, data: false, zero: true, allocated: false };
        return {
          length: Math.min(length, backing.size - offset),
          data: false,
          zero: false,
          allocated: false,
        };
      }
    }
  }

  truncate(size: number, preallocation: Preallocation = 'off'): Promise<void> {
    this.#checkWritable();
    return resize(this, size, preallocation);
  }

  async allocatedSize(): Promise<number> {
    const { file, dataFile, hasDataFile } = this.state;
    return (await file.allocatedSize()) + (hasDataFile ? await dataFile.allocatedSize() : 0);
  }

  async close(): Promise<void> {
    const { state } = this;
    this.#stopCleaner?.();
    this.#stopCleaner = undefined;
    let failed: unknown;
    if (!state.readOnly && !state.broken) {
      try {
        await state.lock.run(async () => {
          await state.flushMetadata();
          await state.refcountCache.flush();
          await state.clearDirtyBit();
        });
      } catch (error) {
        failed = error;
      }
    }
    state.l2Cache.invalidate();
    state.refcountCache.invalidate();
    for (const child of [state.file, state.hasDataFile ? state.dataFile : undefined, state.backing]) {
      try {
        await child?.close();
      } catch (error) {
        failed ??= error;
      }
    }
    if (failed !== undefined) throw asBlockError(failed);
  }

  #checkWritable(): void {
    this.state.checkUsable();
    if (this.state.readOnly) throw new BlockError('EACCES', 'Permission denied');
  }
}

/** Whether `next` is more of what `known` says. */
function continues(known: BlockStatus, next: BlockStatus): boolean {
  if (known.data !== next.data || known.zero !== next.zero || known.allocated !== next.allocated)
    return false;
  if (known.compressed !== next.compressed) return false;
  if (known.fileOffset === undefined) return next.fileOffset === undefined;
  return next.fileOffset === known.fileOffset + known.length;
}
