/** Writing a compressed cluster. */
import { BlockError } from '../errors.ts';
import { waitForAllocations } from './allocate.ts';
import type { Qcow2Node } from './node.ts';

/**
 * Stores `cluster` (a whole one, the caller's own memory) compressed at `offset`. False: it does not get shorter, or
 * the guest cluster has a place of its own already.
 */
export async function writeCompressedCluster(
  node: Qcow2Node,
  offset: number,
  cluster: Uint8Array,
): Promise<boolean> {
  const { state, mapping, allocator } = node;
  const { clusterSize, refcounts } = state;
  const type = state.header.compressionType === 1 ? 'zstd' : 'zlib';
  const data = await state.context.codec.compress(type, cluster, clusterSize);
  if (!data) return false;
  const first = offset / clusterSize;
  const wait = state.lock.acquire();
  if (wait) await wait;
  try {
    state.checkUsable();
    await waitForAllocations(state, first, first + 1);
    if (state.lazyRefcounts) await state.setDirtyBit();
    const slice = await mapping.sliceForWrite(offset);
    try {
      const at = mapping.locate(offset).index * state.l2EntryBytes;
      const high = slice.view.getInt32(at);
      const low = slice.view.getInt32(at + 4);
      // nothing that has a place of its own is replaced: what is there stays
      if (high < 0) return false;
      const host = await allocateBytes(node, data.length);
      try {
        state.checkDataOverlap(host, data.length);
        await state.file.write(host, [data]);
      } catch (error) {
        await refcounts.update(host, data.length, -1);
        throw error;
      }
      state.l2Cache.dependOnFlush();
      if (!state.lazyRefcounts) await state.l2Cache.setDependency(state.refcountCache);
      const freed: number[] = [];
      allocator.noteFreed(freed, high, low);
      const [newHigh, newLow] = mapping.compressedEntry(host, data.length);
      slice.view.setInt32(at, newHigh & ~0x80000000);
      slice.view.setInt32(at + 4, newLow);
      if (state.l2EntryBytes === 16) {
        slice.view.setInt32(at + 8, 0);
        slice.view.setInt32(at + 12, 0);
      }
      state.l2Cache.markDirty(slice);
      await allocator.free(freed, 'never');
    } finally {
      state.l2Cache.release(slice);
    }
  } finally {
    state.lock.release();
  }
  return true;
}

/** A place for `length` (less than a cluster) bytes: behind the last compressed ones if they end inside a cluster. Lock held. */
async function allocateBytes(node: Qcow2Node, length: number): Promise<number> {
  const { state, mapping } = node;
  const { refcounts, clusterSize } = state;
  let at = refcounts.compressedAt;
  if (at !== 0) {
    const within = at % clusterSize;
    const free = within === 0 ? 0 : clusterSize - within;
    const count = within === 0 ? 0 : await refcounts.get(Math.floor(at / clusterSize));
    if (count === 0 || count >= refcounts.max) {
      at = 0;
    } else if (length > free) {
      // goes on into the next cluster, if that is free
      const next = at + free;
      if ((await refcounts.allocateAt(next, 1)) === 0) at = 0;
      else {
        state.noteUsed(next + clusterSize);
        await refcounts.update(at, free, 1);
      }
    } else {
      await refcounts.update(at, length, 1);
    }
  }
  if (at === 0) {
    at = await refcounts.allocate(1);
    state.noteUsed(at + clusterSize);
  }
  if (at >= mapping.compressedLimit) {
    await refcounts.update(at, length, -1);
    throw new BlockError('EFBIG', 'File too large');
  }
  const end = at + length;
  refcounts.compressedAt = end % clusterSize === 0 ? 0 : end;
  return at;
}
