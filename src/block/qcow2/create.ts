/** A new, empty qcow2 image. */
import { BlockError } from '../errors.ts';
import type { BlockContext, BlockNode, Preallocation } from '../node.ts';
import { NodeOptions } from '../options.ts';
import { AUTOCLEAR, COMPATIBLE, INCOMPATIBLE, MAX_L1_BYTES, writeU64 } from './format.ts';
import { HEADER_LENGTH, l1EntriesFor, serializeHeader, type Qcow2Header } from './header.ts';
import { openQcow2 } from './open.ts';
import { writeRefcount } from './refcount.ts';
import { preallocate } from './resize.ts';

/** What a new image is like; the names are those of `qemu-img create -o`. Checked by `checkCreateOptions`. */
export interface Qcow2CreateOptions {
  /** Bytes, a multiple of 512. */
  readonly size: number;
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly refcountBits: number;
  readonly lazyRefcounts: boolean;
  readonly extendedL2: boolean;
  readonly compressionType: 'zlib' | 'zstd';
  readonly backingFile: string;
  readonly backingFormat: string;
  readonly dataFile: string;
  readonly dataFileRaw: boolean;
  readonly preallocation: Preallocation;
}

export const QCOW2_DEFAULTS: Qcow2CreateOptions = {
  size: 0,
  version: 3,
  clusterSize: 65536,
  refcountBits: 16,
  lazyRefcounts: false,
  extendedL2: false,
  compressionType: 'zlib',
  backingFile: '',
  backingFormat: '',
  dataFile: '',
  dataFileRaw: false,
  preallocation: 'off',
};

function bad(message: string): BlockError {
  return new BlockError('EINVAL', message);
}

/** Throws EINVAL, with QEMU's texts, for what cannot be. */
export function checkCreateOptions(options: Qcow2CreateOptions): void {
  const { size, version, clusterSize, refcountBits } = options;
  const isPowerOfTwo = clusterSize > 0 && 2 ** Math.round(Math.log2(clusterSize)) === clusterSize;
  if (!isPowerOfTwo || clusterSize < 512 || clusterSize > 2 << 20) {
    throw bad('Cluster size must be a power of two between 512 and 2048k');
  }
  if (options.extendedL2) {
    if (version < 3)
      throw bad(
        'Extended L2 entries are only supported with compatibility level 1.1 and above (use version=v3 or greater)',
      );
    if (clusterSize < 16384)
      throw bad('Extended L2 entries are only supported with cluster sizes of at least 16384 bytes');
  }
  if (refcountBits < 1 || refcountBits > 64 || 2 ** Math.round(Math.log2(refcountBits)) !== refcountBits) {
    throw bad('Refcount width must be a power of two and may not exceed 64 bits');
  }
  if (version < 3 && refcountBits !== 16) {
    throw bad(
      'Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)',
    );
  }
  if (version < 3 && options.lazyRefcounts) {
    throw bad(
      'Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)',
    );
  }
  if (version < 3 && options.dataFile !== '') {
    throw bad(
      'External data files are only supported with compatibility level 1.1 and above (use version=v3 or greater)',
    );
  }
  if (version < 3 && options.compressionType !== 'zlib') {
    throw bad(
      'Non-zlib compression type is only supported with compatibility level 1.1 and above (use version=v3 or greater)',
    );
  }
  if (options.dataFileRaw && options.dataFile === '') throw bad('data-file-raw requires data-file');
  if (options.dataFileRaw && options.backingFile !== '') {
    throw bad('Backing file and data-file-raw cannot be used at the same time');
  }
  if (options.preallocation !== 'off' && options.backingFile !== '' && !options.extendedL2) {
    throw bad('Backing file and preallocation can only be used at the same time if extended_l2 is on');
  }
  if (size % 512 !== 0) throw bad('Image size must be a multiple of 512 bytes');
  const reach = (clusterSize / (options.extendedL2 ? 16 : 8)) * clusterSize;
  if (!Number.isSafeInteger(size) || Math.ceil(size / reach) * 8 > MAX_L1_BYTES) {
    throw new BlockError(
      'EFBIG',
      "The image size is too large for file format 'qcow2' (try using a larger cluster size)",
    );
  }
}

function headerOf(options: Qcow2CreateOptions): Qcow2Header {
  return {
    version: options.version,
    clusterBits: Math.log2(options.clusterSize),
    size: options.size,
    cryptMethod: 0,
    l1Size: 0,
    l1Offset: 0,
    refcountTableOffset: options.clusterSize,
    refcountTableClusters: 1,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatible:
      (options.dataFile === '' ? 0n : INCOMPATIBLE.dataFile) |
      (options.compressionType === 'zlib' ? 0n : INCOMPATIBLE.compression) |
      (options.extendedL2 ? INCOMPATIBLE.extendedL2 : 0n),
    compatible: options.lazyRefcounts ? COMPATIBLE.lazyRefcounts : 0n,
    autoclear: options.dataFileRaw ? AUTOCLEAR.dataFileRaw : 0n,
    refcountOrder: Math.log2(options.refcountBits),
    headerLength: options.version === 2 ? 72 : HEADER_LENGTH,
    compressionType: options.compressionType === 'zlib' ? 0 : 1,
    unknownFields: new Uint8Array(0),
    backingFile: options.backingFile,
    backingFormat: options.backingFile === '' ? '' : options.backingFormat,
    dataFile: options.dataFile,
    bitmaps: undefined,
    featureNames: undefined,
    unknownExtensions: [],
  };
}

/**
 * Writes a new image to `file` (empty, and the caller's to close) and, with `dataFile`, prepares that. Header, refcount table, one
 * refcount block, L1 table: in this order, as QEMU's. Throws BlockError.
 */
export async function createQcow2(
  file: BlockNode,
  dataFile: BlockNode | undefined,
  options: Qcow2CreateOptions,
  context: BlockContext,
): Promise<void> {
  checkCreateOptions(options);
  const { clusterSize } = options;
  const header = headerOf(options);
  const l1Size = l1EntriesFor(header, options.size);
  const l1Clusters = Math.ceil((l1Size * 8) / clusterSize);
  const perBlock = (clusterSize * 8) >>> header.refcountOrder;
  // refcount blocks enough for header, table, themselves and the L1 table
  let blocks = 1;
  while (blocks * perBlock < 2 + blocks + l1Clusters) blocks++;
  if (blocks > clusterSize / 8) throw new BlockError('EFBIG', 'File too large');
  header.l1Offset = l1Size === 0 ? 0 : (2 + blocks) * clusterSize;
  header.l1Size = l1Size;
  const used = 2 + blocks + l1Clusters;
  const table = new Uint8Array(clusterSize);
  const tableView = new DataView(table.buffer);
  for (let block = 0; block < blocks; block++) {
    const bytes = new Uint8Array(clusterSize);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < perBlock && block * perBlock + i < used; i++)
      writeRefcount(view, header.refcountOrder, i, 1);
    writeU64(tableView, block * 8, (2 + block) * clusterSize);
    await file.write((2 + block) * clusterSize, [bytes]);
  }
  await file.write(clusterSize, [table]);
  if (l1Clusters > 0) await file.writeZeroes(header.l1Offset, l1Size * 8);
  await file.write(0, [serializeHeader(header)]);
  if (dataFile && options.preallocation === 'off') await dataFile.truncate(options.size);
  const mode = options.dataFileRaw && options.preallocation === 'off' ? 'metadata' : options.preallocation;
  if (mode !== 'off' && options.size > 0) {
    const keep = (node: BlockNode) => new Proxy(node, keepOpen);
    const node = await openQcow2({
      file: keep(file),
      context,
      options: NodeOptions.from({}),
      readOnly: false,
      unmap: false,
      openDataFile: async () => {
        if (!dataFile) throw bad("'data-file' is required for this image");
        return keep(dataFile);
      },
      openBacking: async () => undefined,
    });
    try {
      await preallocate(node, 0, options.size, mode);
    } finally {
      await node.close();
    }
  }
  await file.flush();
}

/** A node that its user's `close` leaves open. */
const keepOpen: ProxyHandler<BlockNode> = {
  get(target, key) {
    if (key === 'close') return () => target.flush();
    const value: unknown = Reflect.get(target, key, target);
    return typeof value === 'function' ? value.bind(target) : value;
  },
};
