/**
 * `check`: counts what refers to each cluster, compares with the refcounts, and repairs. Only for a node without
 * requests under way.
 */
import { BlockError } from '../errors.ts';
import { hex } from './cache.ts';
import { ClusterCounts, collectReferences } from './check-references.ts';
import { entryOffset, HIGH_COMPRESSED, HIGH_COPIED, INCOMPATIBLE } from './format.ts';
import { METADATA } from './overlap.ts';
import { rebuildRefcounts } from './rebuild.ts';
import { readRefcount } from './refcount.ts';
import { repairSnapshotTable } from './snapshot-repair.ts';
import type { Qcow2State } from './state.ts';

/** What to repair. */
export type Fix = 'leaks' | 'all';

export interface CheckOptions {
  readonly fix?: Fix;
  /** One line for each finding, without a newline. `error`: QEMU prints it to stderr. */
  print?(line: string): void;
}

/** As `qemu-img check` counts. */
export interface CheckResult {
  corruptions: number;
  leaks: number;
  checkErrors: number;
  corruptionsFixed: number;
  leaksFixed: number;
  imageEndOffset: number;
  totalClusters: number;
  allocatedClusters: number;
  compressedClusters: number;
  fragmentedClusters: number;
}

/** A check under way. */
export class Check {
  readonly state: Qcow2State;
  readonly fix: Fix | undefined;
  readonly result: CheckResult;
  readonly counts: ClusterCounts;
  readonly #print: ((line: string) => void) | undefined;
  /** The refcount structure itself is damaged and has to be made anew. */
  rebuild = false;
  /** Guest data cluster that was seen last, for fragmentation. */
  nextContiguous = 0;

  constructor(state: Qcow2State, options: CheckOptions) {
    this.state = state;
    this.fix = options.fix;
    this.#print = options.print;
    this.counts = new ClusterCounts(state);
    this.result = {
      corruptions: 0,
      leaks: 0,
      checkErrors: 0,
      corruptionsFixed: 0,
      leaksFixed: 0,
      imageEndOffset: 0,
      totalClusters: Math.ceil(state.header.size / state.clusterSize),
      allocatedClusters: 0,
      compressedClusters: 0,
      fragmentedClusters: 0,
    };
  }

  get fixErrors(): boolean {
    return this.fix === 'all';
  }
  print(line: string): void {
    this.#print?.(line);
  }
  /** One corruption, which `repaired` has put right or nothing has. */
  corruption(line: string, repaired = false): void {
    this.print(`${repaired ? 'Repairing' : 'ERROR'} ${line}`);
    if (repaired) this.result.corruptionsFixed++;
    else this.result.corruptions++;
  }
}

/** Checks the image. Throws BlockError only where even looking fails for good. */
export async function checkImage(state: Qcow2State, options: CheckOptions = {}): Promise<CheckResult> {
  const check = new Check(state, options);
  const { result } = check;
  await repairSnapshotTable(check);
  await collectReferences(check);
  const counted = { ...result };
  await compare(check, undefined);
  if (check.rebuild && check.fixErrors) {
    check.print('Rebuilding refcount structure');
    const before = { ...result };
    await rebuildRefcounts(check);
    // what was wrong with the refcounts is right now, whatever it was
    const again = new Check(state, {});
    await collectReferences(again);
    await compare(again, undefined);
    const fixed = Math.max(0, before.corruptions - again.result.corruptions);
    result.corruptionsFixed += fixed;
    result.leaksFixed += Math.max(0, before.leaks - again.result.leaks);
    result.corruptions = again.result.corruptions;
    result.leaks = again.result.leaks;
    result.imageEndOffset = again.result.imageEndOffset;
  } else if (check.rebuild && check.fix) {
    check.print('ERROR need to rebuild refcount structures');
    throw new BlockError('EIO', 'Input/output error');
  } else if (check.fix && (result.leaks > 0 || result.corruptions > 0)) {
    // all that is wrong was told; now what can be repaired is, and the rest told again
    Object.assign(result, counted);
    await compare(check, check.fix);
  }
  await checkCopiedFlags(check);
  if (check.fix) await finishRepair(check);
  return result;
}

async function finishRepair(check: Check): Promise<void> {
  const { state, result } = check;
  await state.flushMetadata();
  state.overlap.invalidate();
  if (result.corruptions > 0 || result.checkErrors > 0) return;
  if (check.fixErrors && (state.header.incompatible & INCOMPATIBLE.corrupt) !== 0n) {
    state.header.incompatible &= ~INCOMPATIBLE.corrupt;
    await state.writeHeader();
    await state.file.flush();
  }
  if (check.fixErrors && result.leaks === 0) await state.clearDirtyBit();
}

/** Refcounts against references, cluster by cluster. */
async function compare(check: Check, fix: Fix | undefined): Promise<void> {
  const { state, counts, result } = check;
  const { refcounts, clusterSize } = state;
  const { perBlock } = refcounts;
  let highest = 0;
  // a block that the table names a second time is an error by itself, and counts nothing
  const seen = new Set<number>();
  for (const index of blocksToCompare(check)) {
    const first = index * perBlock;
    const end = Math.min(counts.clusters, first + perBlock);
    const offset = index < refcounts.table.length ? refcounts.table[index] : 0;
    let view: DataView | undefined;
    if (offset !== 0 && offset % clusterSize === 0 && !seen.has(offset)) {
      seen.add(offset);
      try {
        const block = await state.refcountCache.get(offset);
        // a copy: repairs below change the block, and may push it out of the cache
        view = new DataView(block.bytes.slice().buffer);
        state.refcountCache.release(block);
      } catch (error) {
        check.print(
          `Can't get refcount for cluster ${first}: ${error instanceof Error ? error.message : ''}`,
        );
        result.checkErrors++;
        continue;
      }
    }
    if (!view && !counts.any(first, end)) continue;
    for (let cluster = first; cluster < end; cluster++) {
      const stored = view ? readRefcount(view, refcounts.order, cluster % perBlock) : 0;
      const counted = counts.get(cluster);
      if (stored > 0 || counted > 0) highest = cluster;
      if (stored === counted) continue;
      await compareOne(check, cluster, stored, counted, fix);
    }
  }
  result.imageEndOffset = (highest + 1) * clusterSize;
}

/** Numbers of the refcount blocks that are there or should be; a sparse file has few, however long it is. */
function blocksToCompare({ state, counts }: Check): number[] {
  const { refcounts } = state;
  const { perBlock, table } = refcounts;
  const indexes = new Set<number>();
  table.forEach((offset, index) => {
    if (offset !== 0 && index * perBlock < counts.clusters) indexes.add(index);
  });
  for (const [first, end] of counts.ranges()) {
    for (let index = Math.floor(first / perBlock); index * perBlock < end; index++) indexes.add(index);
  }
  return [...indexes].sort((a, b) => a - b);
}

async function compareOne(
  check: Check,
  cluster: number,
  stored: number,
  counted: number,
  fix: Fix | undefined,
): Promise<void> {
  const { state, result } = check;
  const leak = stored > counted;
  const wanted = fix === 'all' || (fix === 'leaks' && leak);
  if (stored === 0) check.rebuild = true;
  const repair = wanted && !check.rebuild;
  const kind = repair ? 'Repairing' : leak ? 'Leaked' : 'ERROR';
  check.print(`${kind} cluster ${cluster} refcount=${stored} reference=${counted}`);
  if (repair) {
    try {
      await state.refcounts.update(cluster * state.clusterSize, 1, counted - stored);
      if (leak) result.leaksFixed++;
      else result.corruptionsFixed++;
      return;
    } catch {
      // counted as what it was
    }
  }
  if (leak) result.leaks++;
  else result.corruptions++;
}

/** Bit 63 of active L1 and L2 entries: set exactly where the refcount is one. */
async function checkCopiedFlags(check: Check): Promise<void> {
  const { state, result } = check;
  const { checkErrors, corruptions, leaks } = result;
  // when the flags alone are wrong, they can be repaired without risk
  const isSafe = checkErrors === 0 && corruptions === 0 && leaks === 0;
  const repair = check.fixErrors || (check.fix !== undefined && isSafe);
  const seen = new Set<number>();
  for (let l1Index = 0; l1Index * 2 < state.l1.length; l1Index++) {
    const table = state.l1Offset(l1Index);
    if (table === 0 || table % state.clusterSize !== 0 || table >= state.file.size) continue;
    try {
      const l1High = state.l1[l1Index * 2];
      const refcount = await state.refcounts.get(table / state.clusterSize);
      if ((refcount === 1) !== l1High >= HIGH_COPIED) {
        const entry = hex(l1High * 0x1_0000_0000 + state.l1[l1Index * 2 + 1]).slice(2);
        check.corruption(
          `OFLAG_COPIED L2 cluster: l1_index=${l1Index} l1_entry=${entry} refcount=${refcount}`,
          repair,
        );
        if (repair) {
          state.l1[l1Index * 2] = (refcount === 1 ? l1High | HIGH_COPIED : l1High & ~HIGH_COPIED) >>> 0;
          await state.writeL1Entry(l1Index);
        }
      }
      if (!seen.has(table)) await checkCopiedInTable(check, table, repair);
      seen.add(table);
    } catch (error) {
      if (!(error instanceof BlockError)) throw error;
      result.checkErrors++;
    }
  }
}

async function checkCopiedInTable(check: Check, table: number, repair: boolean): Promise<void> {
  const { state } = check;
  const { clusterSize, l2EntryBytes, hasDataFile } = state;
  const bytes = new Uint8Array(clusterSize);
  await state.l2Cache.writeAll();
  await state.file.read(table, [bytes]);
  const view = new DataView(bytes.buffer);
  let changed = false;
  for (let at = 0; at < clusterSize; at += l2EntryBytes) {
    const high = view.getInt32(at);
    const low = view.getInt32(at + 4);
    if (high & HIGH_COMPRESSED) continue;
    const offset = entryOffset(high, low);
    if (offset === 0 || hasDataFile || offset % clusterSize !== 0) continue;
    const cluster = offset / clusterSize;
    const refcount = state.refcounts.peek(cluster) ?? (await state.refcounts.get(cluster));
    if ((refcount === 1) === high < 0) continue;
    check.corruption(
      `OFLAG_COPIED data cluster: l2_entry=${((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)).toString(16)} refcount=${refcount}`,
      repair,
    );
    view.setInt32(at, refcount === 1 ? high | HIGH_COPIED : high & 0x7fffffff);
    changed = true;
  }
  if (!changed || !repair) return;
  await state.writeMetadata(table, [bytes], METADATA.activeL2);
  state.l2Cache.forget(table, clusterSize);
}
