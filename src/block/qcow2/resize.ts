/** Growing and shrinking a disk, and preallocation. */
import { BlockError, errnoText } from '../errors.ts';
import type { Preallocation } from '../node.ts';
import { entryOffset, HIGH_COPIED, highOf, lowOf, MAX_L1_BYTES } from './format.ts';
import { l1EntriesFor } from './header.ts';
import type { Qcow2Node } from './node.ts';
import type { Qcow2State } from './state.ts';

/** `truncate` of a qcow2 node; no request may be under way. Throws BlockError with QEMU's texts. */
export async function resize(node: Qcow2Node, size: number, preallocation: Preallocation): Promise<void> {
  const { state } = node;
  const { header, clusterSize } = state;
  if (size % 512 !== 0) throw new BlockError('EINVAL', 'The new size must be a multiple of 512');
  if (state.snapshots.length > 0 && header.version < 3) {
    throw new BlockError('ENOTSUP', "Can't resize a v2 image which has snapshots");
  }
  if (header.bitmaps) throw new BlockError('ENOTSUP', "Can't resize an image which has bitmaps");
  const old = header.size;
  if (size < old) {
    if (preallocation !== 'off')
      throw new BlockError('EINVAL', "Preallocation can't be used for shrinking an image");
    // what is cut off inside a cluster must not come back when the disk grows again
    const rest = Math.min(old, Math.ceil(size / clusterSize) * clusterSize) - size;
    if (rest > 0) await node.writeZeroes(size, rest);
    await shrink(node, size);
  } else {
    await state.lock.run(() => growL1(state, l1EntriesFor(header, size)));
    if (state.dataFileRaw && state.dataFile.size < size) {
      await state.dataFile.truncate(size, preallocation === 'metadata' ? 'off' : preallocation);
    }
    if (preallocation !== 'off' && size > old) await preallocate(node, old, size, preallocation);
  }
  await state.lock.run(async () => {
    await state.flushMetadata();
    header.size = size;
    await state.writeHeader();
    await state.file.flush();
  });
  if (size > old) await zeroNew(node, old, size);
}

/** What is new reads as zeroes: the rest of the last cluster, and where the backing file is longer than the disk was. */
async function zeroNew(node: Qcow2Node, old: number, size: number): Promise<void> {
  const { backing, clusterSize, header } = node.state;
  const rest = Math.min(size, Math.ceil(old / clusterSize) * clusterSize);
  if (rest > old) await node.writeZeroes(old, rest - old);
  if (backing === undefined && header.backingFile !== '') {
    // opened without it: what it has there is not known
    if (size > rest) await node.writeZeroes(rest, size - rest);
    return;
  }
  const shown = Math.min(size, backing?.size ?? 0);
  if (shown > rest) await node.writeZeroes(rest, shown - rest);
}

/** Makes the active L1 table have at least `entries`. Lock held. */
export async function growL1(state: Qcow2State, entries: number): Promise<void> {
  const { header, clusterSize, refcounts } = state;
  if (entries <= header.l1Size) return;
  if (entries * 8 > MAX_L1_BYTES)
    throw new BlockError('EFBIG', 'Failed to grow the L1 table: File too large');
  const oldBytes = header.l1Size * 8;
  const clusters = Math.ceil((entries * 8) / clusterSize);
  const offset = await refcounts.allocate(clusters);
  state.noteUsed(offset + clusters * clusterSize);
  await state.refcountCache.flush();
  const wide = new Uint32Array(entries * 2);
  wide.set(state.l1);
  await state.writeMetadata(offset, [l1Bytes(wide, clusters * clusterSize)], 0);
  await state.file.flush();
  const { l1Offset, l1Size } = header;
  header.l1Offset = offset;
  header.l1Size = entries;
  try {
    await state.writeHeader();
    await state.file.flush();
  } catch (error) {
    header.l1Offset = l1Offset;
    header.l1Size = l1Size;
    throw error;
  }
  state.l1 = wide;
  state.overlap.invalidate();
  if (oldBytes > 0) await refcounts.update(l1Offset, oldBytes, -1);
}

/** The table as it is in the file, filled up to `length` bytes. */
export function l1Bytes(l1: Uint32Array, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < l1.length; i++) view.setUint32(i * 4, l1[i]);
  return bytes;
}

async function shrink(node: Qcow2Node, size: number): Promise<void> {
  const { state } = node;
  const { header, clusterSize } = state;
  const start = Math.ceil(size / clusterSize) * clusterSize;
  const end = Math.ceil(header.size / clusterSize) * clusterSize;
  if (end > start) await node.emptier.empty(start, end - start, 'empty');
  await state.lock.run(async () => {
    await state.flushMetadata();
    await dropL2Tables(state, l1EntriesFor(header, size));
    await state.flushMetadata();
  });
  if (state.hasDataFile) {
    if (state.dataFileRaw) await state.dataFile.truncate(size);
    return;
  }
  await cutFile(state);
}

/** Frees the L2 tables of L1 entries from `first` on: they are empty. Entries of a saved VM state stay. Lock held. */
async function dropL2Tables(state: Qcow2State, first: number): Promise<void> {
  const vmState = l1EntriesFor(state.header, state.header.size);
  const freed: number[] = [];
  for (let i = first; i < vmState; i++) {
    const high = state.l1[i * 2];
    const offset = entryOffset(high, state.l1[i * 2 + 1]);
    if (offset === 0) continue;
    freed.push(offset);
    state.l1[i * 2] = 0;
    state.l1[i * 2 + 1] = 0;
    await state.writeL1Entry(i);
  }
  if (freed.length === 0) return;
  await state.file.flush();
  state.overlap.invalidate();
  for (const offset of freed) await state.refcounts.update(offset, state.clusterSize, -1);
}

/** Cuts the file behind the last cluster in use. */
async function cutFile(state: Qcow2State): Promise<void> {
  await state.lock.run(async () => {
    const { refcounts, clusterSize, file } = state;
    // no cluster has a refcount behind what the table covers
    let cluster = Math.min(Math.ceil(file.size / clusterSize), refcounts.table.length * refcounts.perBlock);
    while (cluster > 1) {
      const block = Math.floor((cluster - 1) / refcounts.perBlock);
      if (block >= refcounts.table.length || refcounts.table[block] === 0) {
        cluster = block * refcounts.perBlock;
        continue;
      }
      if ((await refcounts.get(cluster - 1)) !== 0) break;
      cluster--;
    }
    const end = Math.max(1, cluster) * clusterSize;
    if (end < file.size) {
      await file.truncate(end);
      refcounts.freshFrom = end;
    }
  });
}

/** Gives [from, to) of the disk places in the file; with `falloc` and `full` the host's too. */
export async function preallocate(
  node: Qcow2Node,
  from: number,
  to: number,
  mode: Exclude<Preallocation, 'off'>,
): Promise<void> {
  const { state } = node;
  const { clusterSize, refcounts, file } = state;
  const first = Math.floor(from / clusterSize);
  const stop = Math.ceil(to / clusterSize);
  let end = 0;
  await state.lock.run(async () => {
    // places that were never used: what is there reads as zeroes
    refcounts.freeHint = Math.max(refcounts.freeHint, refcounts.freshFrom / clusterSize);
    for (let cluster = first; cluster < stop;) {
      const [count, last] = await preallocateSome(node, cluster, stop);
      cluster += count;
      end = Math.max(end, last);
    }
    await state.flushMetadata();
  });
  if (end === 0) return;
  const target = state.hasDataFile ? state.dataFile : file;
  if (end > target.size) {
    try {
      await target.truncate(end, mode === 'metadata' ? 'off' : mode);
    } catch (error) {
      const why = error instanceof BlockError ? error.message : errnoText('EIO');
      throw new BlockError(
        error instanceof BlockError ? error.code : 'EIO',
        `Could not resize underlying file: ${why}`,
        {
          cause: error,
        },
      );
    }
  }
}

/** Allocates for clusters from `cluster` on, in one slice. Returns how many were looked at, and the end of their places. */
async function preallocateSome(
  node: Qcow2Node,
  cluster: number,
  stop: number,
): Promise<readonly [number, number]> {
  const { state, mapping } = node;
  const { clusterSize, l2EntryBytes, l2Cache, hasDataFile } = state;
  const slice = await mapping.sliceForWrite(cluster * clusterSize);
  try {
    const { index, end } = mapping.locate(cluster * clusterSize);
    const most = Math.min(stop, end / clusterSize) - cluster;
    let count = 0;
    const isEmpty = (entry: number) =>
      view.getInt32(entry * l2EntryBytes) === 0 && view.getInt32(entry * l2EntryBytes + 4) === 0;
    const { view } = slice;
    while (count < most && isEmpty(index + count)) count++;
    if (count === 0) return [1, 0];
    const [host, got] = hasDataFile
      ? [cluster * clusterSize, count]
      : await state.refcounts.allocateUpTo(count);
    state.noteUsed(host + got * clusterSize);
    if (!state.lazyRefcounts && !hasDataFile) await l2Cache.setDependency(state.refcountCache);
    for (let i = 0; i < got; i++) {
      const place = host + i * clusterSize;
      view.setInt32((index + i) * l2EntryBytes, HIGH_COPIED | highOf(place) | 0);
      view.setInt32((index + i) * l2EntryBytes + 4, lowOf(place));
    }
    l2Cache.markDirty(slice);
    return [got, host + got * clusterSize];
  } finally {
    l2Cache.release(slice);
  }
}
