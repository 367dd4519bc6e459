/** How large a qcow2 image will be, before it is made. */
import { BlockError } from '../errors.ts';

export interface MeasureOptions {
  readonly clusterSize: number;
  readonly refcountBits: number;
  /** 2 or 3. */
  readonly version: number;
  readonly extendedL2: boolean;
}

const MIN_CLUSTER = 512;
const MAX_CLUSTER = 2 << 20;
const MIN_EXTENDED_CLUSTER = 16384;
const L1_ENTRY = 8;
const TABLE_ENTRY = 8;
const MAX_L1 = 32 << 20;

function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}

function checkOptions({ clusterSize, refcountBits, version, extendedL2 }: MeasureOptions): void {
  if (!isPowerOfTwo(clusterSize) || clusterSize < MIN_CLUSTER || clusterSize > MAX_CLUSTER) {
    throw new BlockError('EINVAL', 'Cluster size must be a power of two between 512 and 2048k');
  }
  if (extendedL2 && version < 3) {
    throw new BlockError(
      'EINVAL',
      'Extended L2 entries are only supported with compatibility level 1.1 and above (use version=v3 or greater)',
    );
  }
  if (extendedL2 && clusterSize < MIN_EXTENDED_CLUSTER) {
    throw new BlockError(
      'EINVAL',
      'Extended L2 entries are only supported with cluster sizes of at least 16384 bytes',
    );
  }
  if (!isPowerOfTwo(refcountBits) || refcountBits > 64) {
    throw new BlockError('EINVAL', 'Refcount width must be a power of two and may not exceed 64 bits');
  }
  if (version < 3 && refcountBits !== 16) {
    throw new BlockError(
      'EINVAL',
      'Different refcount widths than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)',
    );
  }
}

/** Clusters of refcount table and blocks for `clusters` others: they count themselves too. */
function refcountClusters(clusters: number, { clusterSize, refcountBits }: MeasureOptions): number {
  const perBlock = (clusterSize * 8) / refcountBits;
  const perTableCluster = clusterSize / TABLE_ENTRY;
  let [blocks, table] = [0, 0];
  for (;;) {
    const moreBlocks = Math.ceil((clusters + blocks + table) / perBlock);
    const moreTable = Math.ceil(moreBlocks / perTableCluster);
    if (moreBlocks === blocks && moreTable === table) return blocks + table;
    [blocks, table] = [moreBlocks, moreTable];
  }
}

/** Bytes of a file in which all of a disk of `size` bytes is allocated. Throws EINVAL, EFBIG. */
export function fullyAllocatedSize(size: number, options: MeasureOptions): number {
  checkOptions(options);
  const { clusterSize, extendedL2 } = options;
  const data = Math.ceil(size / clusterSize);
  const l2 = Math.ceil(data / (clusterSize / (extendedL2 ? 16 : 8)));
  if (l2 * L1_ENTRY > MAX_L1) {
    throw new BlockError('EFBIG', 'The image size is too large (try using a larger cluster size)');
  }
  const l1 = Math.ceil((l2 * L1_ENTRY) / clusterSize);
  const others = 1 + l1 + l2 + data;
  return (others + refcountClusters(others, options)) * clusterSize;
}

/** Bytes of a file with all the metadata and `dataBytes`, whole clusters, of data. */
export function requiredSize(size: number, dataBytes: number, options: MeasureOptions): number {
  const { clusterSize } = options;
  return fullyAllocatedSize(size, options) - Math.ceil(size / clusterSize) * clusterSize + dataBytes;
}
