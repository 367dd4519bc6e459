/**
 * Internal snapshots: a copy of the L1 table, and one more reference to all that it reaches. For a node without
 * requests under way.
 */
import { BlockError } from '../errors.ts';
import { hex } from './cache.ts';
import { entryOffset, HIGH_COMPRESSED, HIGH_COPIED, MAX_L1_BYTES, MAX_SNAPSHOTS } from './format.ts';
import { l1EntriesFor } from './header.ts';
import type { Qcow2Node } from './node.ts';
import { readWords } from './open.ts';
import { METADATA } from './overlap.ts';
import { l1Bytes } from './resize.ts';
import { makeSnapshot, serializeSnapshots, type Snapshot } from './snapshot-table.ts';
import type { Qcow2State } from './state.ts';

/** What a new snapshot is called, and what a machine adds. */
export interface SnapshotRequest {
  readonly name: string;
  /** Default: the next number. */
  readonly id?: string;
  /** Wall clock, ms since 1970. */
  readonly date: number;
  readonly vmStateSize?: number;
  readonly vmClockNsec?: number;
  readonly icount?: bigint;
}

/** The snapshot with this id, else with this name. */
export function findSnapshot(snapshots: readonly Snapshot[], idOrName: string): Snapshot | undefined {
  return snapshots.find(({ id }) => id === idOrName) ?? snapshots.find(({ name }) => name === idOrName);
}

function mustFind(state: Qcow2State, idOrName: string): Snapshot {
  const found = findSnapshot(state.snapshots, idOrName);
  if (!found) throw new BlockError('ENOENT', `Can't find the snapshot`);
  return found;
}

/** Makes a snapshot of the disk as it is. */
export async function createSnapshot(node: Qcow2Node, request: SnapshotRequest): Promise<Snapshot> {
  const { state } = node;
  if (state.hasDataFile) throw new BlockError('ENOTSUP', 'Operation not supported');
  return state.lock.run(async () => {
    const { snapshots, header, clusterSize, refcounts } = state;
    if (snapshots.length >= MAX_SNAPSHOTS) throw new BlockError('EFBIG', 'File too large');
    const numbers = snapshots.map(({ id }) => Number(id)).filter((id) => Number.isSafeInteger(id));
    const id = request.id ?? String(Math.max(0, ...numbers) + 1);
    if (snapshots.some((each) => each.id === id)) throw new BlockError('EEXIST', 'File exists');
    await state.flushMetadata();
    const bytes = header.l1Size * 8;
    const clusters = Math.ceil(bytes / clusterSize);
    const l1Offset = clusters === 0 ? 0 : await refcounts.allocate(clusters);
    state.noteUsed(l1Offset + clusters * clusterSize);
    try {
      const copy = state.l1.slice();
      for (let i = 0; i < copy.length; i += 2) copy[i] = (copy[i] & 0x7fffffff) >>> 0;
      if (clusters > 0) await state.writeMetadata(l1Offset, [l1Bytes(copy, clusters * clusterSize)], 0);
      // flags first: a cluster with two users is never taken for one with one, whenever the power fails
      await adjustTree(node, state.l1, 0, 'clear');
      await adjustTree(node, state.l1, 1, 'none');
    } catch (error) {
      if (clusters > 0) await refcounts.update(l1Offset, bytes, -1);
      await adjustTree(node, state.l1, 0, 'follow');
      throw error;
    }
    await state.flushMetadata();
    const snapshot = makeSnapshot({
      id,
      name: request.name,
      l1Offset,
      l1Size: header.l1Size,
      diskSize: header.size,
      vmStateSize: request.vmStateSize ?? 0,
      dateSec: Math.floor(request.date / 1000),
      dateNsec: (request.date % 1000) * 1e6,
      vmClockNsec: request.vmClockNsec ?? 0,
      icount: request.icount ?? -1n,
    });
    await writeSnapshotTable(state, [...snapshots, snapshot]);
    return snapshot;
  });
}

/** Makes the disk what it was at the snapshot; what it is now is lost. Throws ENOENT. */
export async function applySnapshot(node: Qcow2Node, idOrName: string): Promise<void> {
  const { state } = node;
  await state.lock.run(async () => {
    const snapshot = mustFind(state, idOrName);
    const { header, clusterSize, refcounts, file } = state;
    await state.flushMetadata();
    const entries = Math.max(snapshot.l1Size, l1EntriesFor(header, snapshot.diskSize));
    if (entries * 8 > MAX_L1_BYTES || snapshot.diskSize % 512 !== 0) {
      throw new BlockError('EFBIG', 'Snapshot L1 table too large');
    }
    const l1 = new Uint32Array(entries * 2);
    l1.set(await readSnapshotL1(state, snapshot));
    const clusters = Math.ceil((entries * 8) / clusterSize);
    const l1Offset = clusters === 0 ? 0 : await refcounts.allocate(clusters);
    state.noteUsed(l1Offset + clusters * clusterSize);
    let counted = false;
    try {
      await adjustTree(node, l1, 1, 'none');
      counted = true;
      // the new table is there, and all that it names is counted, before the header names it
      await state.writeMetadata(l1Offset, [l1Bytes(l1, clusters * clusterSize)], 0);
      await state.flushMetadata();
    } catch (error) {
      if (counted) await adjustTree(node, l1, -1, 'none');
      if (clusters > 0) await refcounts.update(l1Offset, entries * 8, -1);
      throw error;
    }
    const old = { l1: state.l1, l1Offset: header.l1Offset, l1Size: header.l1Size };
    header.l1Offset = l1Offset;
    header.l1Size = entries;
    header.size = snapshot.diskSize;
    await state.writeHeader();
    await file.flush();
    state.l1 = l1;
    state.overlap.invalidate();
    await adjustTree(node, old.l1, -1, 'none');
    if (old.l1Size > 0) await refcounts.update(old.l1Offset, old.l1Size * 8, -1);
    await adjustTree(node, state.l1, 0, 'follow');
    await state.flushMetadata();
  });
}

/** Takes a snapshot away. Throws ENOENT. */
export async function deleteSnapshot(node: Qcow2Node, idOrName: string): Promise<void> {
  const { state } = node;
  await state.lock.run(async () => {
    const snapshot = mustFind(state, idOrName);
    const l1 = await readSnapshotL1(state, snapshot);
    await state.flushMetadata();
    await writeSnapshotTable(
      state,
      state.snapshots.filter((each) => each !== snapshot),
    );
    state.freeReason = 'snapshot';
    try {
      await adjustTree(node, l1, -1, 'none');
      if (snapshot.l1Size > 0) await state.refcounts.update(snapshot.l1Offset, snapshot.l1Size * 8, -1);
    } finally {
      state.freeReason = 'never';
    }
    await adjustTree(node, state.l1, 0, 'follow');
    await state.flushMetadata();
  });
}

/** Shows the disk as at the snapshot, with the size that it has today (as QEMU does); the node has to be read-only. Throws ENOENT. */
export async function showSnapshot(node: Qcow2Node, idOrName: string): Promise<void> {
  const { state } = node;
  if (!state.readOnly) throw new BlockError('EINVAL', 'Invalid argument');
  const snapshot = mustFind(state, idOrName);
  const l1 = new Uint32Array(Math.max(snapshot.l1Size, l1EntriesFor(state.header, state.header.size)) * 2);
  l1.set(await readSnapshotL1(state, snapshot));
  state.l1 = l1;
  state.overlap.invalidate();
}

async function readSnapshotL1(
  state: Qcow2State,
  { l1Offset, l1Size, id, name }: Snapshot,
): Promise<Uint32Array> {
  if (l1Offset % state.clusterSize !== 0) {
    throw new BlockError('EINVAL', `Snapshot L1 table offset invalid (${id}, ${name})`);
  }
  return readWords(state.file, l1Offset, l1Size * 2, 'Could not read snapshot L1 table');
}

/** Writes the table to a new place, points the header there, frees the old place. Lock held. */
export async function writeSnapshotTable(state: Qcow2State, snapshots: Snapshot[]): Promise<void> {
  const { header, clusterSize, refcounts, file } = state;
  const bytes = serializeSnapshots(snapshots);
  let offset = 0;
  if (bytes.length > 0) {
    const clusters = Math.ceil(bytes.length / clusterSize);
    offset = await refcounts.allocate(clusters);
    state.noteUsed(offset + clusters * clusterSize);
    await state.writeMetadata(offset, [bytes], 0);
    await state.refcountCache.flush();
  }
  const oldOffset = header.snapshotsOffset;
  const oldBytes = state.snapshots.reduce((sum, each) => sum + each.tableBytes, 0);
  header.snapshotsOffset = offset;
  header.snapshotCount = snapshots.length;
  await state.writeHeader();
  await file.flush();
  state.snapshots = snapshots;
  state.overlap.invalidate();
  if (oldOffset !== 0 && oldBytes > 0) await refcounts.update(oldOffset, oldBytes, -1);
}

/** Bit 63 of entries, `refcount is one`: left alone, taken away, set by the refcounts. */
type Flags = 'none' | 'clear' | 'follow';

/**
 * Adds `addend` to the refcounts of all L2 tables and data that `l1` reaches. `flags`: what
 * becomes of bit 63 of the entries of the active table, and its tables'. What was added is taken back when it fails. Lock held.
 */
async function adjustTree(node: Qcow2Node, l1: Uint32Array, addend: -1 | 0 | 1, flags: Flags): Promise<void> {
  const { state } = node;
  let done = 0;
  // a table that is named twice, or is not in the file, would make the work as long as a hostile image likes
  const seen = new Set<number>();
  for (let i = 0; i * 2 < l1.length; i++) {
    const table = entryOffset(l1[i * 2], l1[i * 2 + 1]);
    if (table === 0) continue;
    if (seen.has(table) || table >= state.file.size) {
      throw state.corrupt(
        false,
        `L2 table offset ${hex(table)} is not one of a table of its own (L1 index: ${hex(i)})`,
      );
    }
    seen.add(table);
  }
  try {
    for (; done * 2 < l1.length; done++) await adjustTable(node, l1, done, addend, flags);
  } catch (error) {
    if (addend === 1) {
      for (let i = 0; i < done; i++) await adjustTable(node, l1, i, -1, flags);
    }
    throw error;
  }
  if (flags !== 'none') await writeActiveL1(state);
}

/** The whole active L1 table, after its flags have changed; L2 tables first. */
async function writeActiveL1(state: Qcow2State): Promise<void> {
  const { header } = state;
  if (header.l1Size === 0) return;
  await state.flushMetadata();
  await state.writeMetadata(header.l1Offset, [l1Bytes(state.l1, header.l1Size * 8)], METADATA.activeL1);
  await state.file.flush();
}

async function adjustTable(
  node: Qcow2Node,
  l1: Uint32Array,
  l1Index: number,
  addend: -1 | 0 | 1,
  flags: Flags,
): Promise<void> {
  const { state } = node;
  const { clusterSize, l2Cache, refcounts } = state;
  const table = entryOffset(l1[l1Index * 2], l1[l1Index * 2 + 1]);
  if (table === 0) return;
  if (table % clusterSize !== 0) throw state.corrupt(true, `L2 table offset ${hex(table)} unaligned`);
  if (addend < 0) await state.refcountCache.setDependency(l2Cache);
  let at = 0;
  let entry = 0;
  try {
    for (; at < clusterSize; at += l2Cache.tableSize) {
      const slice = await l2Cache.get(table + at);
      try {
        for (entry = 0; entry < state.sliceEntries; entry++) {
          await adjustEntry(node, slice.view, entry, addend, flags, () => l2Cache.markDirty(slice));
        }
      } finally {
        l2Cache.release(slice);
      }
    }
    if (addend !== 0) await refcounts.update(table, clusterSize, addend);
  } catch (error) {
    if (addend === 1) await undoEntries(node, table, at, entry);
    throw error;
  }
  if (flags !== 'none') {
    const own = flags === 'follow' && (await refcounts.get(table / clusterSize)) === 1;
    l1[l1Index * 2] = (own ? l1[l1Index * 2] | HIGH_COPIED : l1[l1Index * 2] & 0x7fffffff) >>> 0;
  }
}

/** Takes back what was added for the entries of `table` before entry `entry` of the slice at `stop`, where there is one. */
async function undoEntries(node: Qcow2Node, table: number, stop: number, entry: number): Promise<void> {
  const { l2Cache, sliceEntries, clusterSize } = node.state;
  for (let at = 0; at <= stop && at < clusterSize; at += l2Cache.tableSize) {
    const slice = await l2Cache.get(table + at);
    try {
      const end = at === stop ? entry : sliceEntries;
      for (let i = 0; i < end; i++)
        await adjustEntry(node, slice.view, i, -1, 'none', () => l2Cache.markDirty(slice));
    } finally {
      l2Cache.release(slice);
    }
  }
}

async function adjustEntry(
  node: Qcow2Node,
  view: DataView,
  entry: number,
  addend: -1 | 0 | 1,
  flags: Flags,
  flagChanged: () => void,
): Promise<void> {
  const { state, mapping } = node;
  const { clusterSize, refcounts } = state;
  const at = entry * state.l2EntryBytes;
  const high = view.getInt32(at);
  const low = view.getInt32(at + 4);
  if (high === 0 && low === 0) return;
  if (high & HIGH_COMPRESSED) {
    if (addend !== 0) {
      await refcounts.update(
        mapping.compressedOffset(high, low),
        mapping.compressedLength(high, low),
        addend,
      );
    }
    return;
  }
  const offset = entryOffset(high, low);
  if (offset === 0) return;
  if (offset % clusterSize !== 0) {
    throw state.corrupt(true, `Cluster allocation offset ${hex(offset)} unaligned`);
  }
  const cluster = offset / clusterSize;
  if (addend !== 0 && !refcounts.updateNow(cluster, addend))
    await refcounts.update(offset, clusterSize, addend);
  if (flags === 'none') return;
  const own = flags === 'follow' && (refcounts.peek(cluster) ?? (await refcounts.get(cluster))) === 1;
  const wanted = own ? high | HIGH_COPIED : high & 0x7fffffff;
  if (wanted === high) return;
  view.setInt32(at, wanted);
  flagChanged();
}
