/** Counting what refers to each cluster of an image. */
import { BlockError } from '../errors.ts';
import { hex } from './cache.ts';
import type { Check } from './check.ts';
import { ENTRY, entryOffset, HIGH_COMPRESSED, LOW_ZERO, readU64 } from './format.ts';
import { Mapping } from './mapping.ts';
import type { Snapshot } from './snapshot-table.ts';
import type { Qcow2State } from './state.ts';

const PAGE = 4096;

/** References to each cluster of the file, in pages that are made where something refers to. */
export class ClusterCounts {
  readonly clusters: number;
  readonly #pages = new Map<number, Uint32Array>();
  readonly #clusterSize: number;
  readonly #fileEnd: number;

  constructor(state: Qcow2State) {
    this.#clusterSize = state.clusterSize;
    this.#fileEnd = state.file.size;
    this.clusters = Math.ceil(state.file.size / state.clusterSize);
  }

  get(cluster: number): number {
    return this.#pages.get(Math.floor(cluster / PAGE))?.[cluster % PAGE] ?? 0;
  }
  /** Ranges [first, end) of clusters outside of which nothing is referred to. */
  *ranges(): Generator<readonly [first: number, end: number]> {
    for (const page of this.#pages.keys()) yield [page * PAGE, Math.min(this.clusters, (page + 1) * PAGE)];
  }
  /** False: nothing refers to clusters [first, end). */
  any(first: number, end: number): boolean {
    for (let page = Math.floor(first / PAGE); page * PAGE < end; page++)
      if (this.#pages.has(page)) return true;
    return false;
  }
  /** Clusters that something refers to. */
  *referred(): Generator<number> {
    for (const [index, page] of this.#pages) {
      for (let i = 0; i < PAGE; i++) if (page[i] > 0) yield index * PAGE + i;
    }
  }
  /** A cluster that more than `max` refer to. */
  firstAbove(max: number): { cluster: number; count: number } | undefined {
    for (const [index, page] of this.#pages) {
      const at = page.findIndex((count) => count > max);
      if (at >= 0) return { cluster: index * PAGE + at, count: page[at] };
    }
    return undefined;
  }
  /** Counts `times` references to each cluster of [offset, offset + length). False: that is not in the file. */
  add(offset: number, length: number, times: number): boolean {
    if (length <= 0) return true;
    if (offset + length - this.#fileEnd > this.#clusterSize) return false;
    const first = Math.floor(offset / this.#clusterSize);
    const last = Math.floor((offset + length - 1) / this.#clusterSize);
    for (let cluster = first; cluster <= last; cluster++) {
      const index = Math.floor(cluster / PAGE);
      let page = this.#pages.get(index);
      if (!page) this.#pages.set(index, (page = new Uint32Array(PAGE)));
      page[cluster % PAGE] = Math.min(0xffffffff, page[cluster % PAGE] + times);
    }
    return true;
  }
}

/** How often L1 tables name an L2 table: the disk's own, and all. */
interface TableUse {
  active: number;
  all: number;
}

/** False: the range is not in the file. */
function count(check: Check, offset: number, length: number, times = 1): boolean {
  if (check.counts.add(offset, length, times)) return true;
  check.print(
    `ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset ${hex(offset)} size ${hex(length)}`,
  );
  check.result.corruptions++;
  return false;
}

/** Counts everything that refers to clusters. */
export async function collectReferences(check: Check): Promise<void> {
  const { state } = check;
  const { header, clusterSize } = state;
  await state.l2Cache.writeAll();
  count(check, 0, clusterSize);
  // snapshots share most L2 tables: each is read once, and counts as often as it is named
  const tables = new Map<number, TableUse>();
  await countL1(check, header.l1Offset, header.l1Size, true, tables);
  for (const snapshot of state.snapshots) await countSnapshot(check, snapshot, tables);
  for (const [table, use] of tables) {
    if (count(check, table, clusterSize, use.all)) await countL2(check, table, use);
  }
  if (header.snapshotsOffset !== 0) {
    const bytes = state.snapshots.reduce((sum, each) => sum + each.tableBytes, 0);
    count(check, header.snapshotsOffset, bytes);
  }
  count(check, header.refcountTableOffset, header.refcountTableClusters * clusterSize);
  if (header.bitmaps) await countBitmaps(check);
  await countBlocks(check);
}

async function countSnapshot(check: Check, snapshot: Snapshot, tables: Map<number, TableUse>): Promise<void> {
  const { state } = check;
  if (snapshot.l1Offset % state.clusterSize !== 0) {
    check.corruption(
      `snapshot ${snapshot.id} (${snapshot.name}) l1_offset=${hex(snapshot.l1Offset)}: L1 table is not cluster aligned; snapshot table entry corrupted`,
    );
    return;
  }
  await countL1(check, snapshot.l1Offset, snapshot.l1Size, false, tables);
}

async function readTable(check: Check, offset: number, length: number): Promise<DataView | undefined> {
  const bytes = new Uint8Array(length);
  try {
    await check.state.file.read(offset, [bytes]);
  } catch (error) {
    if (!(error instanceof BlockError)) throw error;
    check.result.checkErrors++;
    return undefined;
  }
  return new DataView(bytes.buffer);
}

async function countL1(
  check: Check,
  offset: number,
  entries: number,
  active: boolean,
  tables: Map<number, TableUse>,
): Promise<void> {
  if (entries === 0) return;
  const { clusterSize } = check.state;
  if (!count(check, offset, entries * 8)) return;
  const view = await readTable(check, offset, entries * 8);
  if (!view) return;
  for (let i = 0; i < entries; i++) {
    const high = view.getUint32(i * 8);
    const low = view.getUint32(i * 8 + 4);
    if (high === 0 && low === 0) continue;
    if (high & 0x7f000000 || low & 0x1ff)
      check.corruption(
        `L1 entry ${i} has reserved bits set: ${high.toString(16)}${low.toString(16).padStart(8, '0')}`,
      );
    const table = entryOffset(high, low);
    if (table === 0) continue;
    if (table % clusterSize !== 0) {
      count(check, table, clusterSize);
      check.corruption(`l2_offset=${table.toString(16)}: Table is not cluster aligned; L1 entry corrupted`);
      continue;
    }
    const use = tables.get(table);
    if (use) {
      use.all++;
      if (active) use.active++;
    } else {
      tables.set(table, { all: 1, active: active ? 1 : 0 });
    }
  }
}

async function countL2(check: Check, table: number, { active, all }: TableUse): Promise<void> {
  const { state, result } = check;
  const { clusterSize, l2EntryBytes, hasDataFile } = state;
  const view = await readTable(check, table, clusterSize);
  if (!view) return;
  const mapping = new Mapping(state);
  let repaired = false;
  for (let at = 0; at < clusterSize; at += l2EntryBytes) {
    const high = view.getInt32(at);
    const low = view.getInt32(at + 4);
    if (high === 0 && low === 0) continue;
    const offset = entryOffset(high, low);
    if (high & HIGH_COMPRESSED) {
      if (high < 0) {
        check.corruption(
          `coffset=${hex(mapping.compressedOffset(high, low))}: copied flag must never be set for compressed clusters`,
        );
      }
      if (hasDataFile) {
        check.corruption('compressed cluster entry in an image with an external data file');
        continue;
      }
      count(check, mapping.compressedOffset(high, low), mapping.compressedLength(high, low), all);
      result.allocatedClusters += active;
      result.compressedClusters += active;
      // compressed data is never in one piece with its neighbours
      result.fragmentedClusters += active;
      continue;
    }
    const type = mapping.typeOf(high, low);
    if (type !== ENTRY.normal && type !== ENTRY.zeroAllocated) continue;
    if (active > 0) {
      result.allocatedClusters += active;
      if (check.nextContiguous !== 0 && offset !== check.nextContiguous) result.fragmentedClusters++;
      check.nextContiguous = offset + clusterSize;
    }
    if (offset % clusterSize !== 0) {
      const zero = type === ENTRY.zeroAllocated;
      const repair = zero && check.fixErrors;
      check.corruption(
        `offset=${offset.toString(16)}: ${zero ? 'Preallocated cluster' : 'Data cluster'} is not properly aligned; L2 entry corrupted.`,
        repair,
      );
      if (repair) {
        // it reads as zeroes with or without a place
        view.setInt32(at, 0);
        view.setInt32(at + 4, LOW_ZERO);
        repaired = true;
        continue;
      }
    }
    if (!hasDataFile) count(check, offset, clusterSize, all);
  }
  if (repaired) {
    await state.file.write(table, [new Uint8Array(view.buffer)]);
    state.l2Cache.forget(table, clusterSize);
  }
}

async function countBlocks(check: Check): Promise<void> {
  const { state } = check;
  const { refcounts, clusterSize, file } = state;
  const fileClusters = Math.ceil(file.size / clusterSize);
  for (let i = 0; i < refcounts.table.length; i++) {
    const offset = refcounts.table[i];
    if (offset === 0) continue;
    const cluster = Math.floor(offset / clusterSize);
    if (offset % clusterSize !== 0) {
      check.corruption(`refcount block ${i} is not cluster aligned; refcount table entry corrupted`);
      check.rebuild = true;
    } else if (cluster >= fileClusters) {
      check.corruption(`refcount block ${i} is outside image`);
      check.rebuild = true;
    } else {
      count(check, offset, clusterSize);
      if (check.counts.get(cluster) !== 1) {
        check.corruption(`refcount block ${i} refcount=${check.counts.get(cluster)}`);
        check.rebuild = true;
      }
    }
  }
}

/** Persistent bitmaps: the directory, each bitmap's table and its clusters. */
async function countBitmaps(check: Check): Promise<void> {
  const { state, result } = check;
  const { bitmaps } = state.header;
  if (!bitmaps) return;
  const { directoryOffset, directorySize } = bitmaps;
  if (directorySize > 64 << 20 || directoryOffset % state.clusterSize !== 0) {
    result.corruptions++;
    return;
  }
  count(check, directoryOffset, directorySize);
  const directory = await readTable(check, directoryOffset, directorySize);
  if (!directory) return;
  let at = 0;
  for (let index = 0; index < bitmaps.count && at + 24 <= directorySize; index++) {
    const tableOffset = readU64(directory, at);
    const tableSize = directory.getUint32(at + 8);
    const nameSize = directory.getUint16(at + 18);
    const extraSize = directory.getUint32(at + 20);
    at += Math.ceil((24 + extraSize + nameSize) / 8) * 8;
    if (
      tableSize > 1 << 27 ||
      tableOffset % state.clusterSize !== 0 ||
      tableOffset + tableSize * 8 > state.file.size
    ) {
      result.corruptions++;
      continue;
    }
    count(check, tableOffset, tableSize * 8);
    const table = await readTable(check, tableOffset, tableSize * 8);
    for (let i = 0; table && i < tableSize; i++) {
      const offset = entryOffset(table.getUint32(i * 8), table.getUint32(i * 8 + 4));
      if (offset !== 0) count(check, offset, state.clusterSize);
    }
  }
}
