/** Changing what an existing image is like: version, lazy refcounts, refcount width, size. For a node without requests under way. */
import { BlockError } from '../errors.ts';
import { Check } from './check.ts';
import { collectReferences } from './check-references.ts';
import {
  AUTOCLEAR,
  COMPATIBLE,
  entryOffset,
  HIGH_COMPRESSED,
  HIGH_COPIED,
  highOf,
  LOW_ZERO,
  lowOf,
} from './format.ts';
import type { Qcow2Node } from './node.ts';
import { readWords } from './open.ts';
import { METADATA } from './overlap.ts';
import { rebuildRefcounts } from './rebuild.ts';
import { resize } from './resize.ts';

/** What to change; what is left out stays. The names are those of `qemu-img amend -o`. */
export interface Qcow2AmendOptions {
  readonly version?: 2 | 3;
  readonly lazyRefcounts?: boolean;
  readonly refcountBits?: number;
  readonly size?: number;
  readonly dataFile?: string;
  readonly dataFileRaw?: boolean;
  readonly backingFile?: string;
  /** Called with 0 to 1. */
  progress?(done: number): void;
}

function bad(message: string, code: 'EINVAL' | 'ENOTSUP' = 'EINVAL'): BlockError {
  return new BlockError(code, message);
}

/** Throws BlockError with QEMU's texts. */
export async function amendImage(node: Qcow2Node, options: Qcow2AmendOptions): Promise<void> {
  const { state } = node;
  const { header } = state;
  const oldVersion = header.version;
  const version = options.version ?? oldVersion;
  const bits = options.refcountBits ?? 1 << header.refcountOrder;
  const order = Math.log2(bits);
  if (!Number.isInteger(order) || order < 0 || order > 6) {
    throw bad('Refcount width must be a power of two and may not exceed 64 bits');
  }
  if (options.backingFile !== undefined && options.backingFile !== header.backingFile) {
    throw bad("Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.");
  }
  if (options.dataFile !== undefined && options.dataFile !== '' && !state.hasDataFile) {
    throw bad('data-file can only be set for images that use an external data file');
  }
  if (options.dataFileRaw === true && !state.dataFileRaw) {
    throw bad('data-file-raw cannot be set on existing images');
  }
  if (version > oldVersion) await setVersion(node, 3);
  if (order !== header.refcountOrder) {
    if (version < 3) {
      throw bad(
        'Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)',
      );
    }
    await changeRefcountWidth(node, order);
  }
  if (options.dataFile !== undefined)
    await rewriteHeader(node, () => (header.dataFile = options.dataFile ?? ''));
  if (options.dataFileRaw === false && state.dataFileRaw) {
    await rewriteHeader(node, () => (header.autoclear &= ~AUTOCLEAR.dataFileRaw));
  }
  if (options.lazyRefcounts !== undefined && options.lazyRefcounts !== state.lazyRefcountsFeature) {
    if (options.lazyRefcounts && version < 3) {
      throw bad(
        'Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)',
      );
    }
    await setLazyRefcounts(node, options.lazyRefcounts);
  }
  if (options.size !== undefined && options.size !== header.size) await resize(node, options.size, 'off');
  if (version < oldVersion) await downgrade(node, options.progress);
}

async function rewriteHeader(node: Qcow2Node, change: () => void): Promise<void> {
  const { state } = node;
  await state.lock.run(async () => {
    await state.flushMetadata();
    change();
    await state.writeHeader();
    await state.file.flush();
  });
}

function setVersion(node: Qcow2Node, version: 2 | 3): Promise<void> {
  return rewriteHeader(node, () => (node.state.header.version = version));
}

async function setLazyRefcounts(node: Qcow2Node, on: boolean): Promise<void> {
  const { state } = node;
  if (!on) {
    await state.lock.run(async () => {
      await state.flushMetadata();
      await state.clearDirtyBit();
    });
  }
  await rewriteHeader(node, () => {
    state.header.compatible = on ? COMPATIBLE.lazyRefcounts : 0n;
  });
}

/** The refcount structure anew, with entries of another width, from what refers to the clusters. */
async function changeRefcountWidth(node: Qcow2Node, order: number): Promise<void> {
  const { state } = node;
  await state.lock.run(async () => {
    await state.flushMetadata();
    const check = new Check(state, {});
    await collectReferences(check);
    if (check.result.corruptions > 0 || check.result.checkErrors > 0) {
      throw new BlockError('EIO', 'Cannot change the refcount width of a damaged image');
    }
    const max = order === 6 ? Infinity : 2 ** (1 << order) - 1;
    const over = check.counts.firstAbove(max);
    if (over !== undefined) {
      throw bad(
        `Cannot decrease refcount entry width to ${1 << order} bits: Cluster at offset ${over.cluster * state.clusterSize} has a refcount of ${over.count}`,
      );
    }
    await rebuildRefcounts(check, order);
  });
}

/** Version 2 knows no zero clusters, and no other features. */
async function downgrade(node: Qcow2Node, progress: ((done: number) => void) | undefined): Promise<void> {
  const { state } = node;
  const { header } = state;
  if (state.hasDataFile) throw bad('Cannot downgrade an image with a data file', 'ENOTSUP');
  if (header.refcountOrder !== 4) throw bad('compat=0.10 requires refcount_bits=16');
  await state.lock.run(async () => {
    await state.flushMetadata();
    await state.clearDirtyBit();
  });
  if (header.incompatible !== 0n) {
    throw bad(
      `Cannot downgrade an image with incompatible features 0x${header.incompatible.toString(16)} set`,
      'ENOTSUP',
    );
  }
  await rewriteHeader(node, () => {
    header.compatible = 0n;
    header.autoclear = 0n;
  });
  await state.lock.run(() => expandZeroClusters(node, progress));
  await setVersion(node, 2);
}

/** Every zero cluster, of the disk and of snapshots, becomes one with zeroes in it, or an unallocated one. Lock held. */
async function expandZeroClusters(
  node: Qcow2Node,
  progress: ((done: number) => void) | undefined,
): Promise<void> {
  const { state } = node;
  const done = new Set<number>();
  const tables: Uint32Array[] = [state.l1];
  for (const { l1Offset, l1Size } of state.snapshots) {
    tables.push(await readWords(state.file, l1Offset, l1Size * 2, 'Could not read snapshot L1 table'));
  }
  const total = tables.reduce((sum, l1) => sum + l1.length / 2, 0);
  let seen = 0;
  for (const l1 of tables) {
    for (let i = 0; i * 2 < l1.length; i++) {
      progress?.(seen++ / total);
      const table = entryOffset(l1[i * 2], l1[i * 2 + 1]);
      if (table === 0 || done.has(table)) continue;
      done.add(table);
      await expandTable(node, table);
    }
  }
  progress?.(1);
  await state.flushMetadata();
}

async function expandTable(node: Qcow2Node, table: number): Promise<void> {
  const { state } = node;
  const { clusterSize, file, refcounts } = state;
  const bytes = new Uint8Array(clusterSize);
  await state.l2Cache.writeAll();
  await file.read(table, [bytes]);
  const view = new DataView(bytes.buffer);
  const users = await refcounts.get(table / clusterSize);
  const zeroes = new Uint8Array(clusterSize);
  let changed = false;
  for (let at = 0; at < clusterSize; at += 8) {
    const high = view.getInt32(at);
    const low = view.getInt32(at + 4);
    if (high & HIGH_COMPRESSED || (low & LOW_ZERO) === 0) continue;
    changed = true;
    let offset = entryOffset(high, low);
    if (offset === 0) {
      if (!state.backing && state.header.backingFile === '') {
        view.setInt32(at, 0);
        view.setInt32(at + 4, 0);
        continue;
      }
      offset = await refcounts.allocate(1);
      state.noteUsed(offset + clusterSize);
      // as many tables as share this one share the cluster
      if (users > 1) await refcounts.update(offset, clusterSize, users - 1);
    }
    await file.write(offset, [zeroes]);
    const own = (await refcounts.get(offset / clusterSize)) === 1;
    view.setInt32(at, (own ? HIGH_COPIED : 0) | highOf(offset) | 0);
    view.setInt32(at + 4, lowOf(offset));
  }
  if (!changed) return;
  await state.refcountCache.flush();
  await state.writeMetadata(table, [bytes], METADATA.activeL2 | METADATA.inactiveL2);
  state.l2Cache.forget(table, clusterSize);
}
