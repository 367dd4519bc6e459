/**
 * How often each cluster of the file is used: the refcount table in memory, its blocks in a cache; allocation.
 * All functions that suspend are called with the image's lock held.
 */
import { BlockError } from '../errors.ts';
import { hex } from './cache.ts';
import { MAX_REFCOUNT_TABLE_BYTES, readU64, writeU64 } from './format.ts';
import { METADATA } from './overlap.ts';
import type { Qcow2State } from './state.ts';

/** Freed clusters that wait for the metadata to be stable, at most; then it is made so. */
const MAX_PENDING_FREE = 65536;

/** Reads entry `index` of a block with entries of 2^order bits. Above 2^53 not exact. */
export function readRefcount(view: DataView, order: number, index: number): number {
  switch (order) {
    case 6:
      return readU64(view, index * 8);
    case 5:
      return view.getUint32(index * 4);
    case 4:
      return view.getUint16(index * 2);
    case 3:
      return view.getUint8(index);
    default: {
      const width = 1 << order;
      const bit = index * width;
      return (view.getUint8(bit >>> 3) >>> (bit & 7)) & ((1 << width) - 1);
    }
  }
}

/** Writes it; `value` fits. */
export function writeRefcount(view: DataView, order: number, index: number, value: number): void {
  switch (order) {
    case 6:
      writeU64(view, index * 8, value);
      break;
    case 5:
      view.setUint32(index * 4, value);
      break;
    case 4:
      view.setUint16(index * 2, value);
      break;
    case 3:
      view.setUint8(index, value);
      break;
    default: {
      const width = 1 << order;
      const bit = index * width;
      const shift = bit & 7;
      const mask = ((1 << width) - 1) << shift;
      const old = view.getUint8(bit >>> 3);
      view.setUint8(bit >>> 3, (old & ~mask) | (value << shift));
    }
  }
}

/** Largest value of an entry; numbers are exact up to 2^53 only. */
export function maxRefcount(order: number): number {
  return order === 6 ? Number.MAX_SAFE_INTEGER : 2 ** (1 << order) - 1;
}

/** *Thread:* the node's. */
export class Refcounts {
  /** Offsets of the blocks; 0: none. */
  table: Float64Array;
  order: number;
  /** Largest refcount. */
  max: number;
  /** Entries of a block, a power of two. */
  perBlock: number;
  readonly #state: Qcow2State;
  /** No free cluster is below it, but for those that wait. */
  freeHint = 0;
  /** Bytes from here on were never written: what is there reads as zeroes. */
  freshFrom: number;
  /** Freed, and still named by what is on the disk. */
  readonly #pending = new Set<number>();
  /** Where the next compressed cluster may follow the last one; 0: nowhere. */
  compressedAt = 0;

  constructor(state: Qcow2State, table: Float64Array, order: number) {
    this.#state = state;
    this.table = table;
    this.order = order;
    this.max = maxRefcount(order);
    this.perBlock = (state.clusterSize * 8) >>> order;
    this.freshFrom = Math.ceil(state.file.size / state.clusterSize) * state.clusterSize;
  }

  /** Offset of the block for `cluster`; 0: there is none. Throws EIO for a damaged table. */
  #blockOffset(cluster: number): number {
    const index = Math.floor(cluster / this.perBlock);
    const offset = index < this.table.length ? this.table[index] : 0;
    if (offset % this.#state.clusterSize !== 0) {
      throw this.#state.corrupt(
        true,
        `Refblock offset ${hex(offset)} unaligned (reftable index: ${hex(index)})`,
      );
    }
    return offset;
  }

  /** The refcount of `cluster`; undefined: its block is not in memory. */
  peek(cluster: number): number | undefined {
    const offset = this.#blockOffset(cluster);
    if (offset === 0) return 0;
    const block = this.#state.refcountCache.peek(offset);
    return block && readRefcount(block.view, this.order, cluster % this.perBlock);
  }

  /** The refcount of `cluster`. */
  async get(cluster: number): Promise<number> {
    const known = this.peek(cluster);
    if (known !== undefined) return known;
    const cache = this.#state.refcountCache;
    const block = await cache.get(this.#blockOffset(cluster));
    cache.release(block);
    return readRefcount(block.view, this.order, cluster % this.perBlock);
  }

  /** Adds `addend` to the refcounts of the clusters that [offset, offset + length) touches. All or nothing. */
  async update(offset: number, length: number, addend: number): Promise<void> {
    if (length === 0) return;
    const { clusterSize } = this.#state;
    const first = Math.floor(offset / clusterSize);
    const last = Math.floor((offset + length - 1) / clusterSize);
    let cluster = first;
    try {
      for (; cluster <= last; cluster++) {
        if (!this.#addNow(cluster, addend)) await this.#addLater(cluster, addend);
      }
    } catch (error) {
      for (let undo = first; undo < cluster; undo++) {
        if (!this.#addNow(undo, -addend)) await this.#addLater(undo, -addend);
      }
      throw error;
    }
  }

  /** As `update`, for one cluster whose block is in memory. False: it is not. */
  updateNow(cluster: number, addend: number): boolean {
    return this.#addNow(cluster, addend);
  }

  async #addLater(cluster: number, addend: number): Promise<void> {
    const cache = this.#state.refcountCache;
    let offset = this.#blockOffset(cluster);
    if (offset === 0) offset = await this.#makeBlock(cluster, cluster + 1);
    cache.release(await cache.get(offset));
    if (!this.#addNow(cluster, addend)) throw new BlockError('EIO', 'Input/output error');
  }

  #addNow(cluster: number, addend: number): boolean {
    const state = this.#state;
    const offset = this.#blockOffset(cluster);
    if (offset === 0) {
      if (addend < 0) throw new BlockError('EINVAL', 'Refcount of a cluster falls below zero');
      return false;
    }
    const block = state.refcountCache.peek(offset);
    if (!block) return false;
    const index = cluster % this.perBlock;
    const value = readRefcount(block.view, this.order, index) + addend;
    if (value < 0 || value > this.max) {
      throw new BlockError(
        'EINVAL',
        value < 0 ? 'Refcount of a cluster falls below zero' : 'Refcount overflow',
      );
    }
    writeRefcount(block.view, this.order, index, value);
    state.refcountCache.markDirty(block);
    if (value === 0) {
      if (cluster < this.freeHint) this.freeHint = cluster;
      this.#pending.add(cluster);
      if (this.compressedAt !== 0 && Math.floor(this.compressedAt / state.clusterSize) === cluster) {
        this.compressedAt = 0;
      }
      state.clusterFreed(cluster * state.clusterSize);
    }
    return true;
  }

  /** The structure was made anew elsewhere. */
  replaceTable(order: number, entries: number, offsetOf: (index: number) => number): void {
    this.table = Float64Array.from({ length: entries }, (_, index) => offsetOf(index));
    this.#setOrder(order);
    this.freeHint = 0;
    this.compressedAt = 0;
  }

  #setOrder(order: number): void {
    this.order = order;
    this.max = maxRefcount(order);
    this.perBlock = (this.#state.clusterSize * 8) >>> order;
  }

  /** What is freed up to now may be used again: nothing on the disk names it any more. */
  releasePending(): void {
    this.#pending.clear();
  }
  /** So much waits that the metadata should be written. */
  get manyPending(): boolean {
    return this.#pending.size > MAX_PENDING_FREE;
  }

  /** `count` adjoining clusters with refcount 1 now. Returns the offset. Throws EFBIG, ENOSPC, EIO. */
  async allocate(count: number): Promise<number> {
    const first = await this.#find(this.freeHint, count);
    await this.#take(first, count);
    this.freeHint = first + count;
    return first * this.#state.clusterSize;
  }

  /** As `allocate`, but as many of `count` clusters as adjoin at the first free place. Returns [offset, clusters]. */
  async allocateUpTo(count: number): Promise<readonly [offset: number, count: number]> {
    const first = await this.#find(this.freeHint, 1);
    let found = 1;
    for (; found < count; found++) {
      const free = this.#isFreeNow(first + found);
      if (!(free ?? (await this.#isFree(first + found)))) break;
    }
    await this.#take(first, found);
    this.freeHint = first + found;
    return [first * this.#state.clusterSize, found];
  }

  /** Gives the clusters at `offset` refcount 1 if they are free; returns how many, from the first on, were. */
  async allocateAt(offset: number, count: number): Promise<number> {
    const first = offset / this.#state.clusterSize;
    let found = 0;
    while (found < count && (await this.#isFree(first + found))) found++;
    if (found > 0) await this.#take(first, found);
    return found;
  }

  async #isFree(cluster: number): Promise<boolean> {
    const known = this.peek(cluster) ?? (await this.get(cluster));
    return known === 0 && !this.#pending.has(cluster);
  }
  /** As `#isFree`; undefined: the block is not in memory. */
  #isFreeNow(cluster: number): boolean | undefined {
    const known = this.peek(cluster);
    return known === undefined ? undefined : known === 0 && !this.#pending.has(cluster);
  }

  async #find(from: number, count: number): Promise<number> {
    const { perBlock, table } = this;
    const limit = Math.floor(Number.MAX_SAFE_INTEGER / this.#state.clusterSize);
    // a damaged table can name a block any number of times: a full one is looked at once
    let full: Set<number> | undefined;
    let cluster = from;
    let run = 0;
    while (run < count) {
      const index = Math.floor(cluster / perBlock);
      const end = (index + 1) * perBlock;
      if (end > limit) throw new BlockError('EFBIG', 'File too large');
      const offset = index < table.length ? table[index] : 0;
      if (offset !== 0 && full?.has(offset)) {
        run = 0;
        cluster = end;
        continue;
      }
      const view = offset === 0 ? undefined : (this.#peekBlock(cluster) ?? (await this.#loadBlock(cluster)));
      const first = cluster;
      const before = run;
      let free = false;
      for (; cluster < end && run < count; cluster++) {
        const isFree =
          (view === undefined || readRefcount(view, this.order, cluster % perBlock) === 0) &&
          !this.#pending.has(cluster);
        run = isFree ? run + 1 : 0;
        free ||= isFree;
      }
      if (!free && first % perBlock === 0 && before === 0) (full ??= new Set()).add(offset);
    }
    return cluster - count;
  }

  #peekBlock(cluster: number): DataView | undefined {
    return this.#state.refcountCache.peek(this.#blockOffset(cluster))?.view;
  }
  async #loadBlock(cluster: number): Promise<DataView> {
    const cache = this.#state.refcountCache;
    const block = await cache.get(this.#blockOffset(cluster));
    cache.release(block);
    return block.view;
  }

  async #take(first: number, count: number): Promise<void> {
    const state = this.#state;
    // blocks that lack, the last first: it can lie behind the run that it counts
    const firstIndex = Math.floor(first / this.perBlock);
    for (let index = Math.floor((first + count - 1) / this.perBlock); index >= firstIndex; index--) {
      const at = index * this.perBlock;
      if (this.#blockOffset(at) === 0) await this.#makeBlock(at, first + count);
    }
    await this.update(first * state.clusterSize, count * state.clusterSize, 1);
  }

  /**
   * A block for `cluster`, which has none. It lies in a free cluster at or after `from`; in its own range it counts
   * itself. Returns its offset.
   */
  async #makeBlock(cluster: number, from: number): Promise<number> {
    const state = this.#state;
    const index = Math.floor(cluster / this.perBlock);
    if (index >= this.table.length) await this.#growTable(index + 1, from);
    const known = this.#blockOffset(cluster);
    if (known !== 0) return known; // growing the table made it
    const place = await this.#find(from, 1);
    const own = Math.floor(place / this.perBlock) === index;
    if (!own) {
      // its place has to be counted by another block
      const other = place - (place % this.perBlock);
      if (this.#blockOffset(other) === 0) await this.#makeBlock(other, place);
      if ((await this.get(place)) !== 0) return this.#makeBlock(cluster, place + 1);
      await this.update(place * state.clusterSize, 1, 1);
      await state.refcountCache.flush();
    }
    const offset = place * state.clusterSize;
    const block = await state.refcountCache.getNew(offset);
    if (own) writeRefcount(block.view, this.order, place % this.perBlock, 1);
    state.refcountCache.markDirty(block);
    state.refcountCache.release(block);
    state.overlap.add(METADATA.refcountBlock, place);
    // the table never names a block that is not there
    await state.refcountCache.flush();
    const entry = new Uint8Array(8);
    writeU64(new DataView(entry.buffer), 0, offset);
    await state.writeMetadata(state.header.refcountTableOffset + index * 8, [entry], METADATA.refcountTable);
    await state.file.flush();
    this.table[index] = offset;
    state.noteUsed(offset + state.clusterSize);
    return offset;
  }

  /** Moves the table to a larger place. `from`: clusters below it are spoken for. */
  async #growTable(entries: number, from: number): Promise<void> {
    const state = this.#state;
    const { clusterSize } = state;
    const perCluster = clusterSize / 8;
    if (entries * 8 > MAX_REFCOUNT_TABLE_BYTES) throw new BlockError('EFBIG', 'File too large');
    const oldClusters = state.header.refcountTableClusters;
    let clusters = Math.max(Math.ceil(entries / perCluster), oldClusters + Math.ceil(oldClusters / 2));
    // the new table's place, and the blocks that count it, are in range of the new table
    const place = await this.#find(Math.max(from, this.freeHint), clusters);
    const need = Math.ceil((Math.floor((place + 2 * clusters) / this.perBlock) + 2) / perCluster);
    clusters = Math.max(clusters, need);
    if (clusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES) throw new BlockError('EFBIG', 'File too large');
    const start = await this.#find(place, clusters);
    const oldOffset = state.header.refcountTableOffset;
    const wide = new Float64Array(clusters * perCluster);
    wide.set(this.table);
    const bytes = new Uint8Array(clusters * clusterSize);
    const view = new DataView(bytes.buffer);
    this.table.forEach((offset, index) => writeU64(view, index * 8, offset));
    await state.writeMetadata(start * clusterSize, [bytes], 0);
    await state.file.flush();
    const old = this.table;
    this.table = wide;
    state.header.refcountTableOffset = start * clusterSize;
    state.header.refcountTableClusters = clusters;
    try {
      // entries that are made from here on are written to the new table, which nothing names yet
      await this.#take(start, clusters);
      await state.refcountCache.flush();
      state.overlap.invalidate();
      await state.writeHeader();
      await state.file.flush();
    } catch (error) {
      this.table = old;
      state.header.refcountTableOffset = oldOffset;
      state.header.refcountTableClusters = oldClusters;
      state.overlap.invalidate();
      throw error;
    }
    await this.update(oldOffset, oldClusters * clusterSize, -1);
  }
}
