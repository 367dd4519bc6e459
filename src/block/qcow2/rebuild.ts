/** Making the refcount structure anew from what was counted. */
import { BlockError } from '../errors.ts';
import type { Check } from './check.ts';
import { MAX_REFCOUNT_TABLE_BYTES, writeU64 } from './format.ts';
import { maxRefcount, writeRefcount } from './refcount.ts';

/** Where the new structure goes. */
interface Plan {
  /** Number of a block, and the cluster that it lies in. */
  readonly blocks: Map<number, number>;
  /** First cluster of the table, and how many. */
  readonly table: number;
  readonly tableClusters: number;
}

/**
 * Writes blocks and a table into clusters that nothing refers to, and points the header there: what was before stays
 * until the header names the new. Clusters of the old structure become free. `order`: another width.
 */
export async function rebuildRefcounts(check: Check, order = check.state.refcounts.order): Promise<void> {
  const { state, counts } = check;
  const { clusterSize, refcounts, header, file } = state;
  const perBlock = (clusterSize * 8) >>> order;
  const max = maxRefcount(order);
  await state.l2Cache.writeAll();
  const plan = planStructure(check, perBlock);
  const old = oldStructure(check);
  const isNew = new Set<number>(plan.blocks.values());
  for (let i = 0; i < plan.tableClusters; i++) isNew.add(plan.table + i);
  const bytes = new Uint8Array(clusterSize);
  const view = new DataView(bytes.buffer);
  const table = new Uint8Array(plan.tableClusters * clusterSize);
  const tableView = new DataView(table.buffer);
  for (const [index, place] of plan.blocks) {
    bytes.fill(0);
    for (let i = 0; i < perBlock; i++) {
      const cluster = index * perBlock + i;
      const value = isNew.has(cluster) ? 1 : Math.max(0, counts.get(cluster) - (old.get(cluster) ?? 0));
      if (value > max) throw new BlockError('ERANGE', 'Refcount overflow');
      if (value > 0) writeRefcount(view, order, i, value);
    }
    await file.write(place * clusterSize, [bytes]);
    writeU64(tableView, index * 8, place * clusterSize);
    state.noteUsed((place + 1) * clusterSize);
  }
  await file.write(plan.table * clusterSize, [table]);
  state.noteUsed((plan.table + plan.tableClusters) * clusterSize);
  await file.flush();
  header.refcountTableOffset = plan.table * clusterSize;
  header.refcountTableClusters = plan.tableClusters;
  header.refcountOrder = order;
  await state.writeHeader();
  await file.flush();
  state.refcountCache.invalidate();
  refcounts.replaceTable(order, table.length / 8, (index) => (plan.blocks.get(index) ?? 0) * clusterSize);
  state.overlap.invalidate();
}

/** References that the old table and its blocks are counted with. */
function oldStructure({ state, counts }: Check): Map<number, number> {
  const { header, refcounts, clusterSize } = state;
  const old = new Map<number, number>();
  const forget = (cluster: number) => old.set(cluster, (old.get(cluster) ?? 0) + 1);
  for (let i = 0; i < header.refcountTableClusters; i++) forget(header.refcountTableOffset / clusterSize + i);
  for (const offset of refcounts.table) {
    if (offset !== 0 && offset % clusterSize === 0 && offset / clusterSize < counts.clusters) {
      forget(offset / clusterSize);
    }
  }
  return old;
}

/** A block for every range with something in it, itself included. */
function planStructure({ state, counts }: Check, perBlock: number): Plan {
  const perTable = state.clusterSize / 8;
  const taken = new Set<number>();
  let cursor = 1;
  const isFree = (cluster: number) => counts.get(cluster) === 0 && !taken.has(cluster);
  const find = (length: number, from: number): number => {
    let run = 0;
    let cluster = from;
    while (run < length) run = isFree(cluster++) ? run + 1 : 0;
    return cluster - length;
  };
  const blocks = new Map<number, number>();
  const waiting: number[] = [];
  const need = (cluster: number) => {
    const index = Math.floor(cluster / perBlock);
    if (blocks.has(index)) return;
    blocks.set(index, 0);
    waiting.push(index);
  };
  for (const cluster of counts.referred()) need(cluster);
  const place = () => {
    for (let index = waiting.pop(); index !== undefined; index = waiting.pop()) {
      cursor = find(1, cursor);
      taken.add(cursor);
      blocks.set(index, cursor);
      need(cursor);
    }
  };
  place();
  // the table has to reach its own block too
  for (;;) {
    const last = highest(blocks);
    const tableClusters = Math.ceil((last + 1) / perTable);
    if (tableClusters * state.clusterSize > MAX_REFCOUNT_TABLE_BYTES)
      throw new BlockError('EFBIG', 'File too large');
    const table = find(tableClusters, 1);
    for (let i = 0; i < tableClusters; i++) {
      taken.add(table + i);
      need(table + i);
    }
    place();
    if (Math.ceil((highest(blocks) + 1) / perTable) <= tableClusters) {
      return { blocks, table, tableClusters };
    }
    for (let i = 0; i < tableClusters; i++) taken.delete(table + i);
  }
}

function highest(blocks: ReadonlyMap<number, number>): number {
  let most = 0;
  for (const index of blocks.keys()) most = Math.max(most, index);
  return most;
}
