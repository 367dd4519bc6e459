/** The qcow2 format's numbers. Names and offsets are those of the specification that comes with QEMU (docs/interop/qcow2). */

export const QCOW2_MAGIC = 0x514649fb;

/** Incompatible features: who does not know one cannot open the image. */
export const INCOMPATIBLE = {
  dirty: 1n,
  corrupt: 2n,
  dataFile: 4n,
  compression: 8n,
  extendedL2: 16n,
} as const;
/** Compatible features: who does not know one may ignore it. */
export const COMPATIBLE = { lazyRefcounts: 1n } as const;
/** Autoclear features: who does not know one and writes clears it. */
export const AUTOCLEAR = { bitmaps: 1n, dataFileRaw: 2n } as const;

/** Header extensions. */
export const EXTENSION = {
  end: 0,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
  crypto: 0x0537be77,
  dataFile: 0x44415441,
} as const;

export const MIN_CLUSTER_BITS = 9;
export const MAX_CLUSTER_BITS = 21;
export const SECTOR_SIZE = 512;
/** Most bytes of an L1 table, of the refcount table, of the snapshot table, and of one snapshot's extra data. */
export const MAX_L1_BYTES = 32 << 20;
export const MAX_REFCOUNT_TABLE_BYTES = 8 << 20;
export const MAX_SNAPSHOT_TABLE_BYTES = 1024 * 65536;
export const MAX_SNAPSHOTS = 65536;
export const MAX_SNAPSHOT_EXTRA = 1024;
export const MAX_BACKING_NAME = 1023;
export const MAX_HEADER_EXTENSIONS = 1 << 20;
export const SUBCLUSTERS = 32;

/** High words of L1 and L2 entries. Bit 63: refcount is exactly one. Bit 62: compressed. Bit 0 (low): reads as zeroes. */
export const HIGH_COPIED = 0x80000000;
export const HIGH_COMPRESSED = 0x40000000;
export const LOW_ZERO = 1;
const TWO32 = 0x1_0000_0000;

/** Bits 9 to 55. `high` and `low` may be signed. */
export function entryOffset(high: number, low: number): number {
  return (high & 0x00ffffff) * TWO32 + ((low & 0xfffffe00) >>> 0);
}

/** High word of an offset below 2^56. */
export function highOf(offset: number): number {
  return Math.floor(offset / TWO32);
}
/** Low word, as a signed number. */
export function lowOf(offset: number): number {
  return offset | 0;
}

/** A big-endian 64-bit number; exact below 2^53, and above no smaller than 2^53. */
export function readU64(view: DataView, at: number): number {
  return view.getUint32(at) * TWO32 + view.getUint32(at + 4);
}
export function writeU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / TWO32));
  view.setUint32(at + 4, value % TWO32);
}

/** What an L2 entry, or a subcluster of one, says. */
export const ENTRY = {
  /** Content comes from the backing file. */
  unallocated: 0,
  /** As `unallocated`, in a cluster that has a place in the file (extended L2). */
  unallocatedAllocated: 1,
  zeroPlain: 2,
  zeroAllocated: 3,
  normal: 4,
  compressed: 5,
  invalid: 6,
} as const;
export type EntryType = (typeof ENTRY)[keyof typeof ENTRY];
