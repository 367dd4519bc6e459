/** The driver's options. */
import { BlockError } from '../errors.ts';
import type { NodeOptions } from '../options.ts';
import { COMPATIBLE } from './format.ts';
import { l2EntryBytes, type Qcow2Header } from './header.ts';
import { OVERLAP_OPTIONS, OVERLAP_TEMPLATES } from './overlap.ts';
import type { Qcow2Tuning } from './state.ts';

const DEFAULT_L2_CACHE = 32 << 20;
const DEFAULT_L2_ENTRY = 65536;
const MIN_REFCOUNT_CLUSTERS = 4;
const DEFAULT_CLEAN_INTERVAL_S = 600;

function bad(message: string): BlockError {
  return new BlockError('EINVAL', message);
}

/** Takes the driver's options. `unmap`: discards reach the disk at all (`discard=unmap`). Throws EINVAL with QEMU's texts. */
export function takeTuning(options: NodeOptions, header: Qcow2Header, unmap: boolean): Qcow2Tuning {
  const lazy = options.boolean('lazy-refcounts');
  if (lazy && header.version < 3) {
    throw bad('Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level');
  }
  const interval = options.text('cache-clean-interval');
  const seconds = interval === undefined ? DEFAULT_CLEAN_INTERVAL_S : Number(interval);
  if (!Number.isInteger(seconds) || seconds < 0) {
    throw bad("Parameter 'cache-clean-interval' expects a non-negative number below 2^64");
  }
  if (seconds > 0xffffffff) throw bad('Cache clean interval too big');
  return {
    ...takeCacheSizes(options, header),
    lazyRefcounts: lazy ?? (header.compatible & COMPATIBLE.lazyRefcounts) !== 0n,
    overlapCheck: takeOverlapCheck(options),
    passDiscardRequest: options.boolean('pass-discard-request') ?? unmap,
    passDiscardSnapshot: options.boolean('pass-discard-snapshot') ?? true,
    passDiscardOther: options.boolean('pass-discard-other') ?? false,
    cacheCleanInterval: seconds * 1000,
  };
}

function takeCacheSizes(
  options: NodeOptions,
  header: Qcow2Header,
): Pick<Qcow2Tuning, 'l2CacheSize' | 'l2EntrySize' | 'refcountCacheSize'> {
  const clusterSize = 2 ** header.clusterBits;
  const combined = options.size('cache-size');
  let l2 = options.size('l2-cache-size');
  let refcount = options.size('refcount-cache-size');
  const entry = options.size('l2-cache-entry-size') ?? Math.min(clusterSize, DEFAULT_L2_ENTRY);
  if (entry < 512 || entry > clusterSize || (entry & (entry - 1)) !== 0) {
    throw bad(
      'L2 cache entry size must be a power of two between 512 and the cluster size (' + clusterSize + ')',
    );
  }
  // no more than maps the whole disk
  const clusters = Math.ceil(header.size / clusterSize);
  const useful = Math.ceil((clusters * l2EntryBytes(header)) / clusterSize) * clusterSize;
  const least = MIN_REFCOUNT_CLUSTERS * clusterSize;
  if (combined !== undefined) {
    if (l2 !== undefined && refcount !== undefined) {
      throw bad('cache-size, l2-cache-size and refcount-cache-size may not be set at the same time');
    }
    if (l2 !== undefined && l2 > combined) throw bad('l2-cache-size may not exceed cache-size');
    if (refcount !== undefined && refcount > combined)
      throw bad('refcount-cache-size may not exceed cache-size');
    if (l2 !== undefined) refcount = combined - l2;
    else if (refcount !== undefined) l2 = combined - refcount;
    else {
      l2 = combined >= useful + least ? Math.min(useful, combined) : Math.max(0, combined - least);
      refcount = combined - l2;
    }
  }
  l2 ??= Math.min(DEFAULT_L2_CACHE, Math.max(useful, 2 * clusterSize));
  refcount ??= least;
  if (l2 / entry > 0x7fffffff) throw bad('L2 cache size too big');
  if (refcount / clusterSize > 0x7fffffff) throw bad('Refcount cache size too big');
  return { l2CacheSize: l2, l2EntrySize: entry, refcountCacheSize: refcount };
}

function takeOverlapCheck(options: NodeOptions): number {
  const short = options.text('overlap-check');
  const template = options.text('overlap-check.template');
  if (short !== undefined && template !== undefined && short !== template) {
    throw bad(
      `Conflicting values for qcow2 options 'overlap-check' ('${short}') and 'overlap-check.template' ('${template}')`,
    );
  }
  const name = short ?? template ?? 'cached';
  if (!Object.hasOwn(OVERLAP_TEMPLATES, name)) {
    throw bad(
      `Unsupported value '${name}' for qcow2 option 'overlap-check'. Allowed are any of the following: none, constant, cached, all`,
    );
  }
  let kinds = OVERLAP_TEMPLATES[name];
  for (const [key, bit] of Object.entries(OVERLAP_OPTIONS)) {
    const chosen = options.boolean(`overlap-check.${key}`);
    if (chosen !== undefined) kinds = chosen ? kinds | bit : kinds & ~bit;
  }
  return kinds;
}
