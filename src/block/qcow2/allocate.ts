/** Writes that need a place: allocation, copy on write, linking. */
import { iovLength, iovSlice, zeroVector } from '../iov.ts';
import type { Done, IoVector } from '../node.ts';
import type { CachedTable } from './cache.ts';
import { ENTRY, entryOffset, HIGH_COMPRESSED, HIGH_COPIED, highOf, LOW_ZERO, lowOf } from './format.ts';
import type { Mapping } from './mapping.ts';
import type { Allocation, Qcow2State } from './state.ts';

/** Most bytes that are allocated at a time. */
const MAX_RUN = 16 << 20;

/** Fills `to` with what the guest sees at `offset`. */
export type ReadGuest = (offset: number, to: IoVector) => Done;

/** Waits until no allocation under way touches guest clusters [first, end). Lock held, let go meanwhile. */
export async function waitForAllocations(state: Qcow2State, first: number, end: number): Promise<void> {
  for (;;) {
    const other = state.allocations.find((each) => each.first < end && first < each.end);
    if (!other) return;
    state.lock.release();
    await other.done;
    const wait = state.lock.acquire();
    if (wait) await wait;
  }
}

/** Whether the guest cluster's place can be written, once its entry says so: it is this table's alone. */
function isOwn(mapping: Mapping, high: number, low: number): boolean {
  if (high >= 0 || high & HIGH_COMPRESSED) return false;
  const type = mapping.typeOf(high, low);
  return type === ENTRY.normal || type === ENTRY.zeroAllocated;
}

/** Allocating writes of one node. *Thread:* the node's. */
export class Allocator {
  readonly #state: Qcow2State;
  readonly #mapping: Mapping;
  readonly #read: ReadGuest;

  constructor(state: Qcow2State, mapping: Mapping, read: ReadGuest) {
    this.#state = state;
    this.#mapping = mapping;
    this.#read = read;
  }

  /**
   * Writes a first part of `from` to `offset`, where something stops a write in place. Returns the bytes written; 0:
   * look again, as something changed.
   */
  async write(offset: number, from: IoVector): Promise<number> {
    const state = this.#state;
    const { clusterSize, allocations, lock } = state;
    const wait = lock.acquire();
    if (wait) await wait;
    let slice: CachedTable | undefined;
    let finish: (() => void) | undefined;
    let allocation: Allocation | undefined;
    let held = true;
    try {
      state.checkUsable();
      const first = Math.floor(offset / clusterSize);
      let length = Math.min(iovLength(from), MAX_RUN);
      let end = Math.floor((offset + length - 1) / clusterSize) + 1;
      const inWay = allocations.find((each) => each.first <= first && first < each.end);
      if (inWay) {
        lock.release();
        held = false;
        await inWay.done;
        return 0;
      }
      for (const each of allocations) if (each.first > first && each.first < end) end = each.first;
      if (state.lazyRefcounts) await state.setDirtyBit();
      slice = await this.#mapping.sliceForWrite(offset);
      const { index, end: sliceEnd } = this.#mapping.locate(offset);
      end = Math.min(end, Math.floor(sliceEnd / clusterSize));
      const plan = this.#plan(slice.view, index, end - first);
      if (plan === undefined) return 0;
      let { count, host } = plan;
      const { own } = plan;
      let fresh = false;
      if (!own) {
        if (state.hasDataFile) {
          host = first * clusterSize;
        } else {
          [host, count] = await state.refcounts.allocateUpTo(count);
          fresh = host >= state.refcounts.freshFrom;
          state.noteUsed(host + count * clusterSize);
        }
      }
      length = Math.min(length, (first + count) * clusterSize - offset);
      const { promise, resolve } = Promise.withResolvers<void>();
      allocation = { first, end: first + count, done: promise };
      finish = resolve;
      allocations.push(allocation);
      const region = this.#region(slice.view, index, count, offset, length, own);
      lock.release();
      held = false;
      try {
        await this.#writeData(
          offset,
          iovSlice(from, 0, length),
          region.start,
          region.end,
          host,
          first,
          fresh,
        );
      } catch (error) {
        const again = lock.acquire();
        if (again) await again;
        held = true;
        if (!own && !state.hasDataFile) await state.refcounts.update(host, count * clusterSize, -1);
        throw error;
      }
      const again = lock.acquire();
      if (again) await again;
      held = true;
      await this.#link(
        slice,
        index,
        count,
        host,
        own,
        region.start - first * clusterSize,
        region.end - first * clusterSize,
      );
      return length;
    } finally {
      if (slice) state.l2Cache.release(slice);
      if (allocation) {
        allocations.splice(allocations.indexOf(allocation), 1);
        finish?.();
      }
      if (held) lock.release();
    }
  }

  /** First clusters from `index` on that are alike: with places of their own that adjoin, or to be allocated. Undefined: none is. */
  #plan(
    view: DataView,
    index: number,
    most: number,
  ): { own: boolean; count: number; host: number } | undefined {
    const { clusterSize, l2EntryBytes, subclusters } = this.#state;
    const at = index * l2EntryBytes;
    const high = view.getInt32(at);
    const low = view.getInt32(at + 4);
    const own = isOwn(this.#mapping, high, low);
    // meanwhile another request gave it a place
    if (own && subclusters === 1 && (low & LOW_ZERO) === 0) return undefined;
    const host = own ? entryOffset(high, low) : 0;
    if (own && host % clusterSize !== 0) return undefined;
    let count = 1;
    for (; count < most; count++) {
      const next = at + count * l2EntryBytes;
      const nextHigh = view.getInt32(next);
      const nextLow = view.getInt32(next + 4);
      if (isOwn(this.#mapping, nextHigh, nextLow) !== own) break;
      if (!own) continue;
      if (entryOffset(nextHigh, nextLow) !== host + count * clusterSize) break;
      if (subclusters === 1 && (nextLow & LOW_ZERO) === 0) break;
    }
    return { own, count, host };
  }

  /** Guest bytes [start, end) that have to be written for a write of [offset, offset + length): more than it, where the rest of a cluster would be lost. */
  #region(
    view: DataView,
    index: number,
    count: number,
    offset: number,
    length: number,
    own: boolean,
  ): { start: number; end: number } {
    const { clusterSize, subclusterSize, subclusters, l2EntryBytes } = this.#state;
    const stop = offset + length;
    /** Whether the content of the entry's cluster lies in a place that the new one replaces. */
    const moves = (entry: number) => {
      if (own) return false;
      const high = view.getInt32(entry * l2EntryBytes);
      const low = view.getInt32(entry * l2EntryBytes + 4);
      const type = this.#mapping.typeOf(high, low);
      return type === ENTRY.normal || type === ENTRY.compressed;
    };
    const unit = (entry: number) => (subclusters === 1 || moves(entry) ? clusterSize : subclusterSize);
    const last = index + count - 1;
    const before = unit(index);
    const after = unit(last);
    let start = Math.floor(offset / before) * before;
    let end = Math.ceil(stop / after) * after;
    if (subclusters > 1 && own) {
      // a subcluster that has its data is written in place
      const type = (entry: number, sub: number) =>
        this.#mapping.subclusterType(
          view.getInt32(entry * 16),
          view.getInt32(entry * 16 + 4),
          view.getInt32(entry * 16 + 8),
          view.getInt32(entry * 16 + 12),
          sub,
        );
      if (type(index, Math.floor((offset % clusterSize) / subclusterSize)) === ENTRY.normal) start = offset;
      if (type(last, Math.floor(((stop - 1) % clusterSize) / subclusterSize)) === ENTRY.normal) end = stop;
    }
    return { start, end };
  }

  async #writeData(
    offset: number,
    data: IoVector,
    start: number,
    end: number,
    host: number,
    first: number,
    fresh: boolean,
  ): Promise<void> {
    const state = this.#state;
    const stop = offset + iovLength(data);
    const parts: Uint8Array[] = [];
    const head = start < offset ? await this.#old(start, offset, fresh) : undefined;
    const tail = stop < end ? await this.#old(stop, end, fresh) : undefined;
    if (head) parts.push(...head);
    parts.push(...data);
    if (tail) parts.push(...tail);
    const at = host + ((head ? start : offset) - first * state.clusterSize);
    state.checkDataOverlap(at, iovLength(parts));
    await state.dataFile.write(at, parts);
  }

  /** What is at [start, end), for the new place; undefined: zeroes, and the new place has them already. */
  async #old(start: number, end: number, fresh: boolean): Promise<IoVector | undefined> {
    const state = this.#state;
    if (await this.#isZero(start, end))
      return fresh && !state.hasDataFile ? undefined : zeroVector(end - start);
    const buffer = new Uint8Array(end - start);
    await this.#read(start, [buffer]);
    return [buffer];
  }

  /** Whether [start, end) is known to read as zeroes. */
  async #isZero(start: number, end: number): Promise<boolean> {
    const state = this.#state;
    for (let at = start; at < end;) {
      if (!this.#mapping.lookup(at, end - at)) return false;
      const { type, length } = this.#mapping.run;
      if (type === ENTRY.unallocated || type === ENTRY.unallocatedAllocated) {
        if (state.backing && at < state.backing.size) return false;
      } else if (type !== ENTRY.zeroPlain && type !== ENTRY.zeroAllocated) return false;
      at += length;
    }
    return true;
  }

  /** Lets the entries say where the data is, and frees what they said before. [from, to): written, relative to the first cluster. */
  async #link(
    slice: CachedTable,
    index: number,
    count: number,
    host: number,
    own: boolean,
    from: number,
    to: number,
  ): Promise<void> {
    const state = this.#state;
    const { clusterSize, l2EntryBytes, l2Cache, subclusters, subclusterSize } = state;
    // data comes before what names it; and so do the refcounts, unless the dirty bit stands for them
    l2Cache.dependOnFlush();
    if (!own && !state.lazyRefcounts && !state.hasDataFile) await l2Cache.setDependency(state.refcountCache);
    const freed: number[] = [];
    const { view } = slice;
    for (let i = 0; i < count; i++) {
      const at = (index + i) * l2EntryBytes;
      const high = view.getInt32(at);
      const low = view.getInt32(at + 4);
      const place = host + i * clusterSize;
      if (!own) this.#noteFreed(freed, high, low);
      view.setInt32(at, HIGH_COPIED | highOf(place) | 0);
      view.setInt32(at + 4, lowOf(place));
      if (subclusters > 1) {
        const first = Math.max(0, Math.floor((from - i * clusterSize) / subclusterSize));
        const end = Math.min(32, Math.ceil((to - i * clusterSize) / subclusterSize));
        const mask = subclusterMask(first, end);
        const compressed = (high & HIGH_COMPRESSED) !== 0;
        const zeroes = compressed ? 0 : view.getInt32(at + 8);
        const allocated = own ? view.getInt32(at + 12) : 0;
        view.setInt32(at + 8, zeroes & ~mask);
        view.setInt32(at + 12, allocated | mask);
      }
    }
    l2Cache.markDirty(slice);
    await this.free(freed, 'never');
  }

  /** Adds what an entry names to a list of [offset, length] pairs. */
  #noteFreed(list: number[], high: number, low: number): void {
    if (high & HIGH_COMPRESSED) {
      list.push(this.#mapping.compressedOffset(high, low), this.#mapping.compressedLength(high, low));
      return;
    }
    const offset = entryOffset(high, low);
    if (offset !== 0 && !this.#state.hasDataFile) list.push(offset, this.#state.clusterSize);
  }

  /** Frees [offset, length] pairs whose entries are gone, in memory. Lock held. */
  async free(list: readonly number[], reason: Qcow2State['freeReason']): Promise<void> {
    if (list.length === 0) return;
    const state = this.#state;
    await state.refcountCache.setDependency(state.l2Cache);
    state.freeReason = reason;
    try {
      for (let i = 0; i < list.length; i += 2) await state.refcounts.update(list[i], list[i + 1], -1);
    } finally {
      state.freeReason = 'never';
    }
    if (state.refcounts.manyPending) await state.flushMetadata();
  }

  /** See `#noteFreed`. */
  noteFreed(list: number[], high: number, low: number): void {
    this.#noteFreed(list, high, low);
  }
}

/** Bits [first, end) of a subcluster bitmap, as a signed word. */
export function subclusterMask(first: number, end: number): number {
  if (end <= first) return 0;
  return ((end === 32 ? -1 : (1 << end) - 1) & ~((1 << first) - 1)) | 0;
}
