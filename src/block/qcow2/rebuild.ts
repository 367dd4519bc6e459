/** Making the refcount structure anew from what was counted. */
import { BlockError } from '../errors.ts';
import type { Check } from './check.ts';
import { MAX_REFCOUNT_TABLE_BYTES, writeU64 } from './format.ts';
import { maxRefcount, writeRefcount } from './refcount.ts';

/**
 * Writes blocks and table behind the end of the image, in one piece, and points the header there: what was before
 * stays until the header names the new. Clusters of the old structure become free. `order`: another width.
 */
export async function rebuildRefcounts(check: Check, order = check.state.refcounts.order): Promise<void> {
  const { state, counts } = check;
  const { clusterSize, refcounts, header, file } = state;
  const perBlock = (clusterSize * 8) >>> order;
  const max = maxRefcount(order);
  const perTable = clusterSize / 8;
  await state.l2Cache.writeAll();
  const start = counts.clusters;
  // the structure counts itself: grow until it fits
  let blocks = 0;
  let tables = 0;
  for (;;) {
    const needBlocks = Math.ceil((start + blocks + tables) / perBlock);
    const needTables = Math.ceil(needBlocks / perTable);
    if (needBlocks <= blocks && needTables <= tables) break;
    blocks = Math.max(blocks, needBlocks);
    tables = Math.max(tables, needTables);
  }
  if (tables * clusterSize > MAX_REFCOUNT_TABLE_BYTES) throw new BlockError('EFBIG', 'File too large');
  // what referred to the old table and its blocks is not counted again
  const old = new Map<number, number>();
  const forget = (offset: number) =>
    old.set(Math.floor(offset / clusterSize), (old.get(Math.floor(offset / clusterSize)) ?? 0) + 1);
  for (let i = 0; i < header.refcountTableClusters; i++) forget(header.refcountTableOffset + i * clusterSize);
  for (const offset of refcounts.table) {
    if (offset !== 0 && offset % clusterSize === 0 && Math.floor(offset / clusterSize) < start)
      forget(offset);
  }
  const end = start + blocks + tables;
  const bytes = new Uint8Array(clusterSize);
  const view = new DataView(bytes.buffer);
  const table = new Uint8Array(tables * clusterSize);
  const tableView = new DataView(table.buffer);
  for (let block = 0; block < blocks; block++) {
    bytes.fill(0);
    const first = block * perBlock;
    const stop = Math.min(first + perBlock, end);
    for (let cluster = first; cluster < stop; cluster++) {
      const value = cluster >= start ? 1 : Math.max(0, counts.get(cluster) - (old.get(cluster) ?? 0));
      if (value > max) throw new BlockError('ERANGE', 'Refcount overflow');
      if (value > 0) writeRefcount(view, order, cluster - first, value);
    }
    await file.write((start + block) * clusterSize, [bytes]);
    writeU64(tableView, block * 8, (start + block) * clusterSize);
  }
  await file.write((start + blocks) * clusterSize, [table]);
  await file.flush();
  header.refcountTableOffset = (start + blocks) * clusterSize;
  header.refcountTableClusters = tables;
  header.refcountOrder = order;
  await state.writeHeader();
  await file.flush();
  state.refcountCache.invalidate();
  refcounts.replaceTable(order, tables * perTable, (index) =>
    index < blocks ? (start + index) * clusterSize : 0,
  );
  state.overlap.invalidate();
  state.noteUsed(end * clusterSize);
}
