/** What the parts of a qcow2 node share: header, tables, caches, the lock, writes of metadata. */
import { AsyncLock } from '../async-lock.ts';
import { BlockError } from '../errors.ts';
import { iovLength } from '../iov.ts';
import type { BlockContext, BlockNode, IoVector } from '../node.ts';
import { MetadataCache, type CacheOwner } from './cache.ts';
import { AUTOCLEAR, entryOffset, INCOMPATIBLE, SUBCLUSTERS, COMPATIBLE } from './format.ts';
import { l2EntryBytes, serializeHeader, type Qcow2Header } from './header.ts';
import { METADATA, metadataName, OverlapIndex } from './overlap.ts';
import { Refcounts } from './refcount.ts';
import type { Snapshot } from './snapshot-table.ts';

/** Options of the driver that matter at run time. Sizes in bytes. */
export interface Qcow2Tuning {
  readonly l2CacheSize: number;
  readonly l2EntrySize: number;
  readonly refcountCacheSize: number;
  readonly lazyRefcounts: boolean;
  /** Kinds of metadata to guard, bits of METADATA. */
  readonly overlapCheck: number;
  /** Give freed clusters back to the host: those that a request, a deleted snapshot, anything else freed. */
  readonly passDiscardRequest: boolean;
  readonly passDiscardSnapshot: boolean;
  readonly passDiscardOther: boolean;
  /** ms; 0: never. */
  readonly cacheCleanInterval: number;
}

/** Why a cluster is freed, as the options `pass-discard-*` distinguish it. */
export type FreeReason = 'request' | 'snapshot' | 'other' | 'never';

/** An allocation whose data is being written: guest clusters [first, end). */
export interface Allocation {
  readonly first: number;
  readonly end: number;
  readonly done: Promise<void>;
}

/** *Thread:* the node's. */
export class Qcow2State implements CacheOwner {
  readonly header: Qcow2Header;
  readonly file: BlockNode;
  /** Where guest data is: `file`, or an external data file. */
  readonly dataFile: BlockNode;
  readonly hasDataFile: boolean;
  readonly context: BlockContext;
  readonly tuning: Qcow2Tuning;
  readOnly: boolean;
  readonly clusterBits: number;
  readonly clusterSize: number;
  /** Bytes of an L2 entry, entries of an L2 table and of a cached slice of one. */
  readonly l2EntryBytes: number;
  readonly l2Entries: number;
  readonly sliceEntries: number;
  readonly subclusters: number;
  readonly subclusterSize: number;
  /** High and low word of each entry of the active L1 table. */
  l1: Uint32Array;
  snapshots: Snapshot[] = [];
  backing: BlockNode | undefined;
  readonly lock = new AsyncLock();
  readonly l2Cache: MetadataCache;
  readonly refcountCache: MetadataCache;
  readonly refcounts: Refcounts;
  readonly overlap: OverlapIndex;
  readonly allocations: Allocation[] = [];
  /** Metadata is damaged: no request is served any more. */
  broken = false;
  #warned = false;
  /** The dirty bit is set in the file. */
  dirtyBitSet: boolean;
  freeReason: FreeReason = 'never';
  /** The last compressed cluster that was read, and where its data is. */
  lastDecompressed: { readonly host: number; readonly cluster: Uint8Array } | undefined;
  /** Compressed clusters that are being read, by where their data is. */
  readonly decompressing = new Map<number, Promise<Uint8Array>>();
  /** How often a cluster became free. */
  freedClusters = 0;
  /** Clusters to give back once nothing on the disk names them. */
  readonly #toDiscard: number[] = [];

  constructor(parts: {
    header: Qcow2Header;
    file: BlockNode;
    dataFile: BlockNode | undefined;
    context: BlockContext;
    tuning: Qcow2Tuning;
    readOnly: boolean;
    l1: Uint32Array;
    refcountTable: Float64Array;
  }) {
    const { header, tuning } = parts;
    this.header = header;
    this.file = parts.file;
    this.dataFile = parts.dataFile ?? parts.file;
    this.hasDataFile = parts.dataFile !== undefined;
    this.context = parts.context;
    this.tuning = tuning;
    this.readOnly = parts.readOnly;
    this.clusterBits = header.clusterBits;
    this.clusterSize = 2 ** header.clusterBits;
    this.l2EntryBytes = l2EntryBytes(header);
    this.l2Entries = this.clusterSize / this.l2EntryBytes;
    const sliceBytes = Math.min(tuning.l2EntrySize, this.clusterSize);
    this.sliceEntries = sliceBytes / this.l2EntryBytes;
    this.subclusters = this.l2EntryBytes === 16 ? SUBCLUSTERS : 1;
    this.subclusterSize = this.clusterSize / this.subclusters;
    this.l1 = parts.l1;
    this.dirtyBitSet = (header.incompatible & INCOMPATIBLE.dirty) !== 0n;
    const tables = (bytes: number, each: number) => Math.max(2, Math.floor(bytes / each));
    this.l2Cache = new MetadataCache(
      this,
      sliceBytes,
      tables(tuning.l2CacheSize, sliceBytes),
      METADATA.activeL2,
    );
    this.refcountCache = new MetadataCache(
      this,
      this.clusterSize,
      Math.max(4, tables(tuning.refcountCacheSize, this.clusterSize)),
      METADATA.refcountBlock,
    );
    this.refcounts = new Refcounts(this, parts.refcountTable, header.refcountOrder);
    this.overlap = new OverlapIndex(tuning.overlapCheck, (add) => this.#collectMetadata(add));
  }

  get lazyRefcounts(): boolean {
    return this.tuning.lazyRefcounts && this.header.version >= 3;
  }
  /** The data file's bytes are the guest's, place by place. */
  get dataFileRaw(): boolean {
    return (this.header.autoclear & AUTOCLEAR.dataFileRaw) !== 0n;
  }
  get lazyRefcountsFeature(): boolean {
    return (this.header.compatible & COMPATIBLE.lazyRefcounts) !== 0n;
  }

  l1Offset(index: number): number {
    return index * 2 < this.l1.length ? entryOffset(this.l1[index * 2], this.l1[index * 2 + 1]) : 0;
  }

  #collectMetadata(add: (kind: number, first: number, count: number) => void): void {
    const { header, clusterSize } = this;
    const clusters = (bytes: number) => Math.ceil(bytes / clusterSize);
    add(METADATA.mainHeader, 0, 1);
    if (header.l1Offset) add(METADATA.activeL1, header.l1Offset / clusterSize, clusters(header.l1Size * 8));
    for (let i = 0; i * 2 < this.l1.length; i++) {
      const offset = this.l1Offset(i);
      if (offset !== 0) add(METADATA.activeL2, Math.floor(offset / clusterSize), 1);
    }
    add(METADATA.refcountTable, header.refcountTableOffset / clusterSize, header.refcountTableClusters);
    const { table } = this.refcounts;
    // thousands of entries, most of them empty
    for (let i = 0; i < table.length; i++) {
      if (table[i] !== 0) add(METADATA.refcountBlock, Math.floor(table[i] / clusterSize), 1);
    }
    if (header.snapshotsOffset && this.snapshots.length > 0) {
      const bytes = this.snapshots.reduce((sum, each) => sum + each.tableBytes, 0);
      add(METADATA.snapshotTable, header.snapshotsOffset / clusterSize, clusters(bytes));
    }
    for (const { l1Offset, l1Size } of this.snapshots) {
      if (l1Offset % clusterSize === 0 && l1Size > 0) {
        add(METADATA.inactiveL1, l1Offset / clusterSize, clusters(l1Size * 8));
      }
    }
    if (header.bitmaps) {
      const { directoryOffset, directorySize } = header.bitmaps;
      add(METADATA.bitmapDirectory, Math.floor(directoryOffset / clusterSize), clusters(directorySize));
    }
  }

  /** Throws EIO, and marks the image corrupt, when [offset, offset + length) has metadata other than `ignore`. */
  checkOverlap(offset: number, length: number, ignore: number): void {
    if (length === 0) return;
    const first = Math.floor(offset / this.clusterSize);
    const last = Math.floor((offset + length - 1) / this.clusterSize);
    const kinds = this.overlap.find(first, last - first + 1, ignore);
    if (kinds !== 0) {
      throw this.corrupt(true, `Preventing invalid write on metadata (overlaps with ${metadataName(kinds)})`);
    }
  }

  /** The same for guest data. */
  checkDataOverlap(offset: number, length: number): void {
    if (!this.hasDataFile) this.checkOverlap(offset, length, 0);
  }

  async writeMetadata(offset: number, from: IoVector, kind: number): Promise<void> {
    this.checkOverlap(offset, iovLength(from), kind);
    await this.file.write(offset, from);
  }

  async writeHeader(): Promise<void> {
    await this.file.write(0, [serializeHeader(this.header)]);
  }

  /** Writes high and low word of L1 entry `index` as they are in memory. */
  async writeL1Entry(index: number): Promise<void> {
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, this.l1[index * 2]);
    view.setUint32(4, this.l1[index * 2 + 1]);
    await this.writeMetadata(this.header.l1Offset + index * 8, [bytes], METADATA.activeL1);
  }

  /** Everything that was written is stable. */
  async flushFiles(): Promise<void> {
    if (this.hasDataFile) await this.dataFile.flush();
    await this.file.flush();
  }

  /** Writes all metadata in order, makes it stable. Lock held. */
  async flushMetadata(): Promise<void> {
    await this.l2Cache.writeAll();
    await this.refcountCache.writeAll();
    await this.flushFiles();
    this.refcounts.releasePending();
    await this.#discardFreed();
  }

  /** A cluster's refcount fell to zero. */
  clusterFreed(offset: number): void {
    this.freedClusters++;
    this.lastDecompressed = undefined;
    this.decompressing.clear();
    // a cached table there is nobody's any more
    this.refcountCache.discard(offset);
    const sliceBytes = this.sliceEntries * this.l2EntryBytes;
    for (let at = 0; at < this.clusterSize; at += sliceBytes) this.l2Cache.discard(offset + at);
    const { tuning, freeReason } = this;
    const pass =
      (freeReason === 'request' && tuning.passDiscardRequest) ||
      (freeReason === 'snapshot' && tuning.passDiscardSnapshot) ||
      (freeReason === 'other' && tuning.passDiscardOther);
    if (pass) this.#toDiscard.push(offset);
  }

  async #discardFreed(): Promise<void> {
    if (this.#toDiscard.length === 0) return;
    const offsets = this.#toDiscard.splice(0).sort((a, b) => a - b);
    for (let i = 0; i < offsets.length;) {
      let end = i + 1;
      while (end < offsets.length && offsets[end] === offsets[end - 1] + this.clusterSize) end++;
      // free for certain: nothing could be allocated since the clusters stopped being pending
      await this.file.discard(offsets[i], (end - i) * this.clusterSize);
      i = end;
    }
  }

  /** [offset, offset + length) of the file is used now: it may not be taken for fresh any more. */
  noteUsed(end: number): void {
    if (end > this.refcounts.freshFrom) this.refcounts.freshFrom = end;
  }

  /** Damage was seen. `fatal`: nothing can be written any more; the image is marked. Returns the error to throw. */
  corrupt(fatal: boolean, message: string): BlockError {
    if (!this.#warned || (fatal && !this.broken)) {
      const marks = fatal && !this.readOnly;
      this.context.warn(
        marks
          ? `qcow2: Marking image as corrupt: ${message}; further corruption events will be suppressed`
          : `qcow2: Image is corrupt: ${message}; further non-fatal corruption events will be suppressed`,
      );
      this.#warned = true;
    }
    if (fatal && !this.broken) {
      this.broken = true;
      if (!this.readOnly && this.header.version >= 3) {
        this.header.incompatible |= INCOMPATIBLE.corrupt;
        // nobody waits for it: the request that saw the damage fails in any case
        void this.writeHeader().then(
          () => this.file.flush(),
          () => undefined,
        );
      }
    }
    return new BlockError('EIO', 'Input/output error', { cause: new Error(message) });
  }

  /** Throws when the image was found to be damaged. */
  checkUsable(): void {
    if (this.broken) throw new BlockError('ENOMEDIUM', 'No medium found');
  }

  /** Before refcounts on the disk may be behind: the dirty bit says so. Lock held. */
  async setDirtyBit(): Promise<void> {
    if (this.dirtyBitSet) return;
    this.header.incompatible |= INCOMPATIBLE.dirty;
    await this.writeHeader();
    await this.file.flush();
    this.dirtyBitSet = true;
  }

  /** Refcounts on the disk are right again. Lock held, metadata flushed. */
  async clearDirtyBit(): Promise<void> {
    if (!this.dirtyBitSet) return;
    this.header.incompatible &= ~INCOMPATIBLE.dirty;
    await this.writeHeader();
    await this.file.flush();
    this.dirtyBitSet = false;
  }
}
