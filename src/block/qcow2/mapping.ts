/** From guest offsets to places in the file: L1 table, L2 slices, subclusters. */
import type { CachedTable } from './cache.ts';
import { hex } from './cache.ts';
import {
  ENTRY,
  entryOffset,
  HIGH_COMPRESSED,
  HIGH_COPIED,
  highOf,
  LOW_ZERO,
  lowOf,
  type EntryType,
} from './format.ts';
import { METADATA } from './overlap.ts';
import type { Qcow2State } from './state.ts';

/** A run of guest bytes that are alike. */
export interface Run {
  type: EntryType;
  /** From the offset that was asked for. */
  length: number;
  /** Where that byte is in the data file; of a compressed cluster, where its data begins. */
  host: number;
  /** Bytes of a compressed cluster's data, at most. */
  compressedLength: number;
  /** The cluster is this table's alone: it may be written in place. */
  copied: boolean;
}

/** Where a guest offset's L2 entry is. */
export interface SlicePlace {
  l1Index: number;
  /** Entry of the slice. */
  index: number;
  /** First guest byte after what the slice maps. */
  end: number;
  /** Of the slice in the file; 0: there is no L2 table. */
  offset: number;
}

/** *Thread:* the node's. */
export class Mapping {
  readonly #state: Qcow2State;
  /** Filled by `lookup`. */
  readonly run: Run = { type: ENTRY.unallocated, length: 0, host: 0, compressedLength: 0, copied: false };
  /** Filled by `locate`. */
  readonly place: SlicePlace = { l1Index: 0, index: 0, end: 0, offset: 0 };
  readonly #compressedShift: number;

  constructor(state: Qcow2State) {
    this.#state = state;
    // sector count of compressed data begins at this bit
    this.#compressedShift = 62 - (state.clusterBits - 8);
  }

  /** Where the L2 entry of `offset` is. Throws EIO for a damaged L1 table. */
  locate(offset: number): SlicePlace {
    const state = this.#state;
    const { place } = this;
    const cluster = Math.floor(offset / state.clusterSize);
    const l1Index = Math.floor(cluster / state.l2Entries);
    const l2Index = cluster - l1Index * state.l2Entries;
    const index = l2Index & (state.sliceEntries - 1);
    place.l1Index = l1Index;
    place.index = index;
    place.end = (cluster - index + state.sliceEntries) * state.clusterSize;
    const table = state.l1Offset(l1Index);
    if (table === 0) {
      place.offset = 0;
      return place;
    }
    if (table % state.clusterSize !== 0) {
      throw state.corrupt(true, `L2 table offset ${hex(table)} unaligned (L1 index: ${hex(l1Index)})`);
    }
    place.offset = table + (l2Index - index) * state.l2EntryBytes;
    return place;
  }

  /**
   * Fills `run` for [offset, offset + length), as far as it is alike and in one slice. False: the slice has to be
   * read first (`load`). *Lock:* none.
   */
  lookup(offset: number, length: number): boolean {
    const { run, place } = this;
    this.locate(offset);
    const most = Math.min(length, place.end - offset);
    if (place.offset === 0) {
      run.type = ENTRY.unallocated;
      run.length = most;
      run.host = 0;
      run.copied = false;
      return true;
    }
    const slice = this.#state.l2Cache.peek(place.offset);
    if (!slice) return false;
    if (this.#state.subclusters > 1) this.#scanSubclusters(slice.view, offset, most);
    else this.#scan(slice.view, offset, most);
    if (run.length > most) run.length = most;
    return true;
  }

  /** Reads the slice for `offset` into the cache. Lock held. */
  async load(offset: number): Promise<void> {
    const { offset: at } = this.locate(offset);
    if (at === 0) return;
    const { l2Cache } = this.#state;
    l2Cache.release(await l2Cache.get(at));
  }

  /** Kind of an entry of a table without subclusters. */
  typeOf(high: number, low: number): EntryType {
    const state = this.#state;
    if (high & HIGH_COMPRESSED) return ENTRY.compressed;
    const hasOffset = (high & 0x00ffffff) !== 0 || low >>> 9 !== 0;
    if (low & LOW_ZERO && state.subclusters === 1) {
      if (state.header.version < 3) return ENTRY.invalid;
      return hasOffset || (state.hasDataFile && (high & HIGH_COPIED) !== 0)
        ? ENTRY.zeroAllocated
        : ENTRY.zeroPlain;
    }
    if (hasOffset) return ENTRY.normal;
    // offset 0 is a place in an external data file
    return state.hasDataFile && (high & HIGH_COPIED) !== 0 ? ENTRY.normal : ENTRY.unallocated;
  }

  /** Kind of subcluster `sub`, given its cluster's entry. */
  subclusterType(high: number, low: number, zeroes: number, allocated: number, sub: number): EntryType {
    const type = this.typeOf(high, low);
    if (type === ENTRY.compressed) return ENTRY.compressed;
    const bit = 1 << sub;
    if (zeroes & bit) {
      if (allocated & bit) return ENTRY.invalid;
      return type === ENTRY.normal ? ENTRY.zeroAllocated : ENTRY.zeroPlain;
    }
    if (allocated & bit) return type === ENTRY.normal ? ENTRY.normal : ENTRY.invalid;
    return type === ENTRY.normal ? ENTRY.unallocatedAllocated : ENTRY.unallocated;
  }

  #setCompressed(high: number, low: number, offset: number): void {
    const { run } = this;
    run.host = this.compressedOffset(high, low);
    run.compressedLength = this.compressedLength(high, low);
    run.copied = false;
    const { clusterSize } = this.#state;
    run.length = clusterSize - (offset % clusterSize);
  }

  /** Where a compressed cluster's data begins. */
  compressedOffset(high: number, low: number): number {
    const shift = this.#compressedShift - 32;
    return ((high & 0x3fffffff) % 2 ** shift) * 0x1_0000_0000 + (low >>> 0);
  }
  /** Bytes of the sectors that it touches. */
  compressedLength(high: number, low: number): number {
    const shift = this.#compressedShift - 32;
    const more = Math.floor((high & 0x3fffffff) / 2 ** shift);
    return (more + 1) * 512 - (low & 511);
  }
  /** Words of the entry of `length` bytes of compressed data at `offset`. */
  compressedEntry(offset: number, length: number): readonly [high: number, low: number] {
    const shift = this.#compressedShift - 32;
    const sectors = Math.floor((offset + length - 1) / 512) - Math.floor(offset / 512);
    return [(HIGH_COMPRESSED + sectors * 2 ** shift + highOf(offset)) | 0, lowOf(offset)];
  }
  /** Compressed data has to begin below this. */
  get compressedLimit(): number {
    return 2 ** Math.min(this.#compressedShift, 53);
  }

  #invalid(offset: number, message: string): void {
    const { place, run } = this;
    this.#state.corrupt(false, `${message} (L2 offset: ${hex(place.offset)}, L2 index: ${hex(place.index)})`);
    const { clusterSize } = this.#state;
    run.type = ENTRY.invalid;
    run.length = clusterSize - (offset % clusterSize);
  }

  /**
   * What every run begins with. False: that is all of it, since its cluster is compressed or damaged (`damage`: how, if
   * that is known).
   */
  #begin(high: number, low: number, type: EntryType, offset: number, damage: string | undefined): boolean {
    const { run } = this;
    const { clusterSize, subclusters } = this.#state;
    run.type = type;
    if (damage !== undefined) {
      this.#invalid(offset, damage);
      return false;
    }
    if (type === ENTRY.compressed) {
      this.#setCompressed(high, low, offset);
      return false;
    }
    run.copied = high < 0;
    const host = entryOffset(high, low);
    if (host % clusterSize !== 0) {
      const zero = type === ENTRY.zeroAllocated && subclusters === 1;
      const what = zero ? 'Preallocated zero cluster offset' : 'Cluster allocation offset';
      this.#invalid(offset, `${what} ${hex(host)} unaligned`);
      return false;
    }
    run.host = host + (offset % clusterSize);
    return true;
  }

  /** The run at `offset`, which may be longer than `most`. */
  #scan(view: DataView, offset: number, most: number): void {
    const { run, place } = this;
    const { clusterSize } = this.#state;
    let at = place.index * 8;
    const high = view.getInt32(at);
    const low = view.getInt32(at + 4);
    const type = this.typeOf(high, low);
    const damage = type === ENTRY.invalid ? 'Zero cluster entry found in pre-v3 image' : undefined;
    if (!this.#begin(high, low, type, offset, damage)) return;
    const { copied } = run;
    const within = offset % clusterSize;
    let host = run.host - within;
    let length = clusterSize - within;
    const placed = type === ENTRY.normal || type === ENTRY.zeroAllocated;
    while (length < most) {
      at += 8;
      const nextHigh = view.getInt32(at);
      const nextLow = view.getInt32(at + 4);
      if (this.typeOf(nextHigh, nextLow) !== type) break;
      if (placed) {
        host += clusterSize;
        if (entryOffset(nextHigh, nextLow) !== host || nextHigh < 0 !== copied) break;
      }
      length += clusterSize;
    }
    run.length = length;
  }

  /** As `#scan`, of a table with subclusters. */
  #scanSubclusters(view: DataView, offset: number, most: number): void {
    const { run, place } = this;
    const { clusterSize, subclusterSize } = this.#state;
    let at = place.index * 16;
    let high = view.getInt32(at);
    let low = view.getInt32(at + 4);
    let zeroes = view.getInt32(at + 8);
    let allocated = view.getInt32(at + 12);
    const within = offset % clusterSize;
    let sub = Math.floor(within / subclusterSize);
    const type = this.subclusterType(high, low, zeroes, allocated, sub);
    let damage = type === ENTRY.invalid ? 'Invalid cluster entry found ' : undefined;
    if (type === ENTRY.compressed && (zeroes !== 0 || allocated !== 0)) {
      damage = 'Compressed cluster entry with subclusters found';
    }
    if (!this.#begin(high, low, type, offset, damage)) return;
    const { copied } = run;
    let host = run.host - within;
    const placed =
      type === ENTRY.normal || type === ENTRY.zeroAllocated || type === ENTRY.unallocatedAllocated;
    let length = subclusterSize - (within % subclusterSize);
    while (length < most) {
      if (++sub === 32) {
        sub = 0;
        at += 16;
        high = view.getInt32(at);
        low = view.getInt32(at + 4);
        zeroes = view.getInt32(at + 8);
        allocated = view.getInt32(at + 12);
        if (placed) {
          host += clusterSize;
          if (entryOffset(high, low) !== host || high < 0 !== copied) break;
        }
      }
      if (this.subclusterType(high, low, zeroes, allocated, sub) !== type) break;
      length += subclusterSize;
    }
    run.length = length;
  }

  /**
   * The slice for `offset`, to be changed: its L2 table exists and is this image's alone. Pair with `release`.
   * Lock held.
   */
  async sliceForWrite(offset: number): Promise<CachedTable> {
    const state = this.#state;
    const { l1Index } = this.locate(offset);
    if (l1Index * 2 >= state.l1.length)
      throw state.corrupt(false, `L1 index ${hex(l1Index)} is out of range`);
    if (state.l1[l1Index * 2] < HIGH_COPIED) await this.#makeL2(l1Index);
    return state.l2Cache.get(this.locate(offset).offset);
  }

  /** A new L2 table for `l1Index`: empty, or a copy of one that a snapshot shares. */
  async #makeL2(l1Index: number): Promise<void> {
    const state = this.#state;
    const { l2Cache, refcounts, clusterSize } = state;
    const old = state.l1Offset(l1Index);
    const offset = await refcounts.allocate(1);
    const oldHigh = state.l1[l1Index * 2];
    const oldLow = state.l1[l1Index * 2 + 1];
    try {
      state.noteUsed(offset + clusterSize);
      state.overlap.add(METADATA.activeL2, offset / clusterSize);
      if (!state.lazyRefcounts) await l2Cache.setDependency(state.refcountCache);
      for (let at = 0; at < clusterSize; at += l2Cache.tableSize) {
        const to = await l2Cache.getNew(offset + at);
        if (old !== 0) {
          const from = await l2Cache.get(old + at);
          to.bytes.set(from.bytes);
          l2Cache.release(from);
        }
        l2Cache.markDirty(to);
        l2Cache.release(to);
      }
      // the table is there before it is named
      await l2Cache.flush();
      state.l1[l1Index * 2] = (HIGH_COPIED + highOf(offset)) >>> 0;
      state.l1[l1Index * 2 + 1] = lowOf(offset) >>> 0;
      await state.writeL1Entry(l1Index);
    } catch (error) {
      state.l1[l1Index * 2] = oldHigh;
      state.l1[l1Index * 2 + 1] = oldLow;
      state.overlap.invalidate();
      throw error;
    }
    if (old !== 0) {
      state.overlap.invalidate();
      await state.file.flush();
      await refcounts.update(old, clusterSize, -1);
    }
  }
}
