/** Zeroes without data, and discard. */
import { BlockError } from '../errors.ts';
import { subclusterMask, waitForAllocations, type Allocator } from './allocate.ts';
import type { CachedTable } from './cache.ts';
import { ENTRY, LOW_ZERO } from './format.ts';
import type { Mapping } from './mapping.ts';
import type { Qcow2State } from './state.ts';

/** Clusters whose entries change before others get the lock. */
const MAX_BATCH = 8192;

/** What becomes of a range. */
export type Emptying =
  /** Reads as zeroes; keeps its place. */
  | 'zero'
  /** Reads as zeroes; its place is free. */
  | 'unmap'
  /** As `unmap`, but what has no place and no backing file below it is left alone. */
  | 'discard'
  /** Unallocated: the backing file shows (after a commit, past the end of the disk). */
  | 'empty';

/** *Thread:* the node's. */
export class Emptier {
  readonly #state: Qcow2State;
  readonly #mapping: Mapping;
  readonly #allocator: Allocator;

  constructor(state: Qcow2State, mapping: Mapping, allocator: Allocator) {
    this.#state = state;
    this.#mapping = mapping;
    this.#allocator = allocator;
  }

  /**
   * Empties [offset, offset + length), whole clusters (`zero`: whole subclusters). Throws ENOTSUP where the format
   * cannot say it: then nothing or a first part is done.
   */
  async empty(offset: number, length: number, how: Emptying): Promise<void> {
    const state = this.#state;
    const { clusterSize } = state;
    const stop = offset + length;
    for (let at = offset; at < stop;) {
      const wait = state.lock.acquire();
      if (wait) await wait;
      try {
        state.checkUsable();
        const most = Math.min(stop, at - (at % clusterSize) + MAX_BATCH * clusterSize);
        await waitForAllocations(state, Math.floor(at / clusterSize), Math.ceil(most / clusterSize));
        at = await this.#emptySlice(at, most, how);
      } finally {
        state.lock.release();
      }
    }
  }

  /** The part of [start, stop) that is in the first slice. Returns its end. Lock held. */
  async #emptySlice(start: number, stop: number, how: Emptying): Promise<number> {
    const state = this.#state;
    const { clusterSize, l2Cache, l2EntryBytes } = state;
    const place = this.#mapping.locate(start);
    const end = Math.min(stop, place.end);
    const showsBacking = state.backing !== undefined && start < state.backing.size;
    if (place.offset === 0 && (how === 'empty' || !showsBacking)) return end;
    if (state.lazyRefcounts) await state.setDirtyBit();
    const slice = await this.#mapping.sliceForWrite(start);
    const freed: number[] = [];
    try {
      let { index } = this.#mapping.locate(start);
      for (let at = start; at < end; index++) {
        const clusterStart = at - (at % clusterSize);
        const next = Math.min(end, clusterStart + clusterSize);
        if (l2EntryBytes === 16)
          this.#emptySubclusters(slice, index, at - clusterStart, next - clusterStart, how, freed);
        else this.#emptyCluster(slice, index, how, freed);
        at = next;
      }
    } finally {
      l2Cache.markDirty(slice);
      l2Cache.release(slice);
      await this.#allocator.free(freed, 'request');
    }
    return end;
  }

  #emptyCluster(slice: CachedTable, index: number, how: Emptying, freed: number[]): void {
    const state = this.#state;
    const { view } = slice;
    const at = index * 8;
    const high = view.getInt32(at);
    const low = view.getInt32(at + 4);
    const type = this.#mapping.typeOf(high, low);
    if (how === 'empty') {
      this.#allocator.noteFreed(freed, high, low);
      view.setInt32(at, 0);
      view.setInt32(at + 4, 0);
      return;
    }
    if (type === ENTRY.zeroPlain || (type === ENTRY.unallocated && state.backing === undefined)) return;
    if (state.header.version < 3) {
      // no entry of this version says zeroes above a backing file
      if (state.backing !== undefined) {
        if (how === 'discard') return;
        throw new BlockError('ENOTSUP', 'Operation not supported');
      }
      if (how === 'zero') throw new BlockError('ENOTSUP', 'Operation not supported');
      this.#allocator.noteFreed(freed, high, low);
      view.setInt32(at, 0);
      view.setInt32(at + 4, 0);
      return;
    }
    const keep = how === 'zero' && (type === ENTRY.normal || type === ENTRY.zeroAllocated);
    if (keep) {
      view.setInt32(at + 4, low | LOW_ZERO);
      return;
    }
    this.#allocator.noteFreed(freed, high, low);
    view.setInt32(at, 0);
    view.setInt32(at + 4, LOW_ZERO);
  }

  #emptySubclusters(
    slice: CachedTable,
    index: number,
    from: number,
    to: number,
    how: Emptying,
    freed: number[],
  ): void {
    const state = this.#state;
    const { view } = slice;
    const at = index * 16;
    const high = view.getInt32(at);
    const low = view.getInt32(at + 4);
    const type = this.#mapping.typeOf(high, low);
    const mask = subclusterMask(from / state.subclusterSize, to / state.subclusterSize);
    if (mask === -1 && (how !== 'zero' || type === ENTRY.compressed)) {
      this.#allocator.noteFreed(freed, high, low);
      const shown =
        how === 'empty' || (type === ENTRY.unallocated && view.getInt32(at + 8) === 0 && !state.backing);
      view.setInt32(at, 0);
      view.setInt32(at + 4, 0);
      view.setInt32(at + 8, shown ? 0 : -1);
      view.setInt32(at + 12, 0);
      return;
    }
    if (how === 'discard' || how === 'empty') return;
    if (type === ENTRY.compressed) throw new BlockError('ENOTSUP', 'Operation not supported');
    view.setInt32(at + 8, view.getInt32(at + 8) | mask);
    view.setInt32(at + 12, view.getInt32(at + 12) & ~mask);
  }
}
