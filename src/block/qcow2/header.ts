/** The header cluster: header, extensions, name of the backing file. Everything in it is checked before it is used. */
import { BlockError } from '../errors.ts';
import {
  EXTENSION,
  INCOMPATIBLE,
  MAX_BACKING_NAME,
  MAX_CLUSTER_BITS,
  MAX_HEADER_EXTENSIONS,
  MAX_L1_BYTES,
  MAX_REFCOUNT_TABLE_BYTES,
  MAX_SNAPSHOTS,
  MAX_SNAPSHOT_TABLE_BYTES,
  MIN_CLUSTER_BITS,
  QCOW2_MAGIC,
  readU64,
  writeU64,
} from './format.ts';

const V2_LENGTH = 72;
const V3_LENGTH = 104;
/** With the compression type. */
export const HEADER_LENGTH = 112;

export interface HeaderExtension {
  readonly type: number;
  readonly data: Uint8Array;
}

/** Where the persistent bitmaps are (kept as they are; smp86 does not use them). */
export interface BitmapsExtension {
  readonly count: number;
  readonly directorySize: number;
  readonly directoryOffset: number;
}

/** The header as numbers and texts. Offsets and sizes are bytes unless named otherwise. */
export interface Qcow2Header {
  version: number;
  clusterBits: number;
  size: number;
  cryptMethod: number;
  /** Entries. */
  l1Size: number;
  l1Offset: number;
  refcountTableOffset: number;
  refcountTableClusters: number;
  snapshotCount: number;
  snapshotsOffset: number;
  incompatible: bigint;
  compatible: bigint;
  autoclear: bigint;
  refcountOrder: number;
  headerLength: number;
  /** 0: zlib, 1: zstd. */
  compressionType: number;
  /** Bytes of a longer header than this one. */
  unknownFields: Uint8Array;
  backingFile: string;
  backingFormat: string;
  dataFile: string;
  bitmaps: BitmapsExtension | undefined;
  featureNames: Uint8Array | undefined;
  unknownExtensions: HeaderExtension[];
}

function bad(message: string, code: 'EINVAL' | 'ENOTSUP' | 'EFBIG' = 'EINVAL'): BlockError {
  return new BlockError(code, message);
}

/** Bytes of the file to read for the header, given its first 512: the header cluster, at most 1 MiB of it. */
export function headerBytes(head: Uint8Array): number {
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  const bits = view.getUint32(20);
  return bits >= MIN_CLUSTER_BITS && bits <= MAX_CLUSTER_BITS
    ? Math.min(1 << bits, MAX_HEADER_EXTENSIONS)
    : 512;
}

/** Parses the header cluster. Throws BlockError with QEMU's texts. */
export function parseHeader(cluster: Uint8Array): Qcow2Header {
  const view = new DataView(cluster.buffer, cluster.byteOffset, cluster.length);
  if (view.getUint32(0) !== QCOW2_MAGIC) throw bad('Image is not in qcow2 format');
  const version = view.getUint32(4);
  if (version < 2 || version > 3) throw bad(`Unsupported qcow2 version ${version}`, 'ENOTSUP');
  const clusterBits = view.getUint32(20);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
    throw bad(`Unsupported cluster size: 2^${clusterBits}`);
  }
  const clusterSize = 2 ** clusterBits;
  const isV3 = version === 3;
  const headerLength = isV3 ? view.getUint32(100) : V2_LENGTH;
  if (isV3 && headerLength < V3_LENGTH) throw bad('qcow2 header too short');
  if (headerLength > clusterSize) throw bad('qcow2 header exceeds cluster size');
  if (headerLength > cluster.length) throw bad('qcow2 header too long');
  const known = Math.min(headerLength, HEADER_LENGTH);
  const header: Qcow2Header = {
    version,
    clusterBits,
    size: readU64(view, 24),
    cryptMethod: view.getUint32(32),
    l1Size: view.getUint32(36),
    l1Offset: readU64(view, 40),
    refcountTableOffset: readU64(view, 48),
    refcountTableClusters: view.getUint32(56),
    snapshotCount: view.getUint32(60),
    snapshotsOffset: readU64(view, 64),
    incompatible: isV3 ? view.getBigUint64(72) : 0n,
    compatible: isV3 ? view.getBigUint64(80) : 0n,
    autoclear: isV3 ? view.getBigUint64(88) : 0n,
    refcountOrder: isV3 ? view.getUint32(96) : 4,
    headerLength,
    compressionType: headerLength > V3_LENGTH ? view.getUint8(104) : 0,
    unknownFields: cluster.slice(known, headerLength),
    backingFile: '',
    backingFormat: '',
    dataFile: '',
    bitmaps: undefined,
    featureNames: undefined,
    unknownExtensions: [],
  };
  const backingOffset = readU64(view, 8);
  const backingLength = view.getUint32(16);
  if (backingOffset > clusterSize) throw bad('Invalid backing file offset');
  parseExtensions(header, cluster, backingOffset === 0 ? clusterSize : backingOffset);
  checkFeatures(header);
  checkNumbers(header);
  if (backingOffset !== 0) {
    if (backingLength > Math.min(MAX_BACKING_NAME, clusterSize - backingOffset))
      throw bad('Backing file name too long');
    if (backingOffset + backingLength > cluster.length) throw bad('Invalid backing file offset');
    header.backingFile = decodeText(cluster.subarray(backingOffset, backingOffset + backingLength));
  }
  return header;
}

function decodeText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8');
}

function parseExtensions(header: Qcow2Header, cluster: Uint8Array, end: number): void {
  const view = new DataView(cluster.buffer, cluster.byteOffset, cluster.length);
  const limit = Math.min(end, cluster.length);
  for (let at = header.headerLength; at + 8 <= limit;) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    at += 8;
    if (type === EXTENSION.end) return;
    if (length > limit - at) throw bad('Header extension too large');
    const data = cluster.slice(at, at + length);
    takeExtension(header, type, data);
    at += Math.ceil(length / 8) * 8;
  }
}

function takeExtension(header: Qcow2Header, type: number, data: Uint8Array): void {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  switch (type) {
    case EXTENSION.backingFormat:
      if (data.length >= 16) throw bad(`ERROR: ext_backing_format: len=${data.length} too large (>=16)`);
      header.backingFormat = decodeText(data);
      break;
    case EXTENSION.featureNames:
      header.featureNames = data;
      break;
    case EXTENSION.dataFile:
      header.dataFile = decodeText(data);
      break;
    case EXTENSION.bitmaps:
      if (data.length !== 24) throw bad('bitmaps_ext: Invalid extension length');
      header.bitmaps = {
        count: view.getUint32(0),
        directorySize: readU64(view, 8),
        directoryOffset: readU64(view, 16),
      };
      break;
    default:
      header.unknownExtensions.push({ type, data });
  }
}

const KNOWN_INCOMPATIBLE =
  INCOMPATIBLE.dirty |
  INCOMPATIBLE.corrupt |
  INCOMPATIBLE.dataFile |
  INCOMPATIBLE.compression |
  INCOMPATIBLE.extendedL2;
const FEATURE_NAME_BYTES = 48;

function checkFeatures(header: Qcow2Header): void {
  const unknown = header.incompatible & ~KNOWN_INCOMPATIBLE;
  if (unknown === 0n) return;
  const names: string[] = [];
  let unnamed = unknown;
  const table = header.featureNames ?? new Uint8Array(0);
  for (let at = 0; at + FEATURE_NAME_BYTES <= table.length; at += FEATURE_NAME_BYTES) {
    const bit = 1n << BigInt(table[at + 1] & 63);
    if (table[at] !== 0 || (unnamed & bit) === 0n) continue;
    names.push(decodeText(table.subarray(at + 2, at + FEATURE_NAME_BYTES)));
    unnamed &= ~bit;
  }
  if (unnamed !== 0n) names.push(`Unknown incompatible feature: ${unnamed.toString(16)}`);
  throw bad(`Unsupported qcow2 feature(s): ${names.join(', ')}`, 'ENOTSUP');
}

function checkNumbers(header: Qcow2Header): void {
  const clusterSize = 2 ** header.clusterBits;
  if (header.refcountOrder > 6) throw bad('Reference count entry width too large; may not exceed 64 bits');
  if (header.cryptMethod > 2) throw bad(`Unsupported encryption method ${header.cryptMethod}`);
  if (header.cryptMethod !== 0) {
    throw bad(
      header.cryptMethod === 1
        ? 'Use of AES-CBC encrypted qcow2 images is no longer supported in system emulators'
        : "Encrypted qcow2 images ('luks') are not supported",
      'ENOTSUP',
    );
  }
  if (header.refcountTableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
    throw bad('Reference count table too large', 'EFBIG');
  }
  checkTable(
    header,
    header.refcountTableOffset,
    header.refcountTableClusters * clusterSize,
    'Reference count table',
  );
  if (header.refcountTableClusters === 0) throw bad('Image does not contain a reference count table');
  if (header.snapshotCount > MAX_SNAPSHOTS) throw bad('Snapshot table too large', 'EFBIG');
  if (header.snapshotCount * 40 > MAX_SNAPSHOT_TABLE_BYTES) throw bad('Snapshot table too large', 'EFBIG');
  checkTable(header, header.snapshotsOffset, header.snapshotCount * 40, 'Snapshot table');
  if (header.l1Size * 8 > MAX_L1_BYTES) throw bad('Active L1 table too large', 'EFBIG');
  checkTable(header, header.l1Offset, header.l1Size * 8, 'Active L1 table');
  if (header.size > Number.MAX_SAFE_INTEGER) throw bad('Image is too big', 'EFBIG');
  if (l1EntriesFor(header, header.size) > MAX_L1_BYTES / 8) throw bad('Image is too big', 'EFBIG');
  if (header.l1Size < l1EntriesFor(header, header.size)) throw bad('L1 table is too small');
  if (header.compressionType > 1)
    throw bad(`qcow2: unknown compression type: ${header.compressionType}`, 'ENOTSUP');
  const compression = (header.incompatible & INCOMPATIBLE.compression) !== 0n;
  if (compression && header.compressionType === 0) {
    throw bad('qcow2: Compression type incompatible feature bit must not be set', 'EINVAL');
  }
  if (!compression && header.compressionType !== 0) {
    throw bad('qcow2: Compression type incompatible feature bit must be set', 'EINVAL');
  }
  if ((header.incompatible & INCOMPATIBLE.extendedL2) !== 0n && header.clusterBits < 14) {
    throw bad('Extended L2 entries are not supported with clusters of less than 16 KiB');
  }
}

/** A table of the image: aligned, not past 2^53. */
function checkTable(header: Qcow2Header, offset: number, length: number, name: string): void {
  if (length === 0) return;
  if (offset + length > Number.MAX_SAFE_INTEGER || offset % 2 ** header.clusterBits !== 0) {
    throw bad(`${name} offset invalid`);
  }
}

/** Bytes of an L2 entry. */
export function l2EntryBytes(header: Qcow2Header): 8 | 16 {
  return (header.incompatible & INCOMPATIBLE.extendedL2) !== 0n ? 16 : 8;
}

/** L1 entries that a disk of `size` bytes needs. */
export function l1EntriesFor(header: Qcow2Header, size: number): number {
  const clusterSize = 2 ** header.clusterBits;
  return Math.ceil(size / (clusterSize * (clusterSize / l2EntryBytes(header))));
}

/** The header cluster's bytes. Throws ENOSPC when they do not fit into a cluster. */
export function serializeHeader(header: Qcow2Header): Uint8Array {
  const clusterSize = 2 ** header.clusterBits;
  const parts: Uint8Array[] = [];
  const isV3 = header.version >= 3;
  const headerLength = isV3 ? HEADER_LENGTH + header.unknownFields.length : V2_LENGTH;
  const extensions: HeaderExtension[] = [];
  const encode = (text: string) => Buffer.from(text, 'utf8');
  if (header.backingFormat !== '') {
    extensions.push({ type: EXTENSION.backingFormat, data: encode(header.backingFormat) });
  }
  if ((header.incompatible & INCOMPATIBLE.dataFile) !== 0n && header.dataFile !== '') {
    extensions.push({ type: EXTENSION.dataFile, data: encode(header.dataFile) });
  }
  if (header.bitmaps) {
    const data = new Uint8Array(24);
    const view = new DataView(data.buffer);
    view.setUint32(0, header.bitmaps.count);
    writeU64(view, 8, header.bitmaps.directorySize);
    writeU64(view, 16, header.bitmaps.directoryOffset);
    extensions.push({ type: EXTENSION.bitmaps, data });
  }
  extensions.push(...header.unknownExtensions);
  const encoded = (data: Uint8Array) => 8 + Math.ceil(data.length / 8) * 8;
  const needed = extensions.reduce(
    (sum, { data }) => sum + encoded(data),
    headerLength + 8 + Buffer.byteLength(header.backingFile),
  );
  // the names are only there for messages: small clusters have no room for them
  const names = featureNames();
  if (isV3 && needed + encoded(names) <= clusterSize) {
    extensions.push({ type: EXTENSION.featureNames, data: names });
  }
  for (const { type, data } of extensions) {
    const bytes = new Uint8Array(8 + Math.ceil(data.length / 8) * 8);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, type);
    view.setUint32(4, data.length);
    bytes.set(data, 8);
    parts.push(bytes);
  }
  parts.push(new Uint8Array(8));
  const extensionBytes = parts.reduce((sum, part) => sum + part.length, 0);
  const name = encode(header.backingFile);
  const backingOffset = headerLength + extensionBytes;
  if (backingOffset + name.length > clusterSize) throw new BlockError('ENOSPC', 'No space left on device');

  const result = new Uint8Array(clusterSize);
  const view = new DataView(result.buffer);
  view.setUint32(0, QCOW2_MAGIC);
  view.setUint32(4, header.version);
  if (name.length > 0) {
    writeU64(view, 8, backingOffset);
    view.setUint32(16, name.length);
  }
  view.setUint32(20, header.clusterBits);
  writeU64(view, 24, header.size);
  view.setUint32(32, header.cryptMethod);
  view.setUint32(36, header.l1Size);
  writeU64(view, 40, header.l1Offset);
  writeU64(view, 48, header.refcountTableOffset);
  view.setUint32(56, header.refcountTableClusters);
  view.setUint32(60, header.snapshotCount);
  writeU64(view, 64, header.snapshotsOffset);
  if (isV3) {
    view.setBigUint64(72, header.incompatible);
    view.setBigUint64(80, header.compatible);
    view.setBigUint64(88, header.autoclear);
    view.setUint32(96, header.refcountOrder);
    view.setUint32(100, headerLength);
    view.setUint8(104, header.compressionType);
    result.set(header.unknownFields, HEADER_LENGTH);
  }
  let at = headerLength;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  result.set(name, backingOffset);
  return result;
}

/** Names of the features, so that programs that lack one can say which. */
function featureNames(): Uint8Array {
  const names: readonly (readonly [kind: number, bit: number, name: string])[] = [
    [0, 0, 'dirty bit'],
    [0, 1, 'corrupt bit'],
    [0, 2, 'external data file'],
    [0, 3, 'compression type'],
    [0, 4, 'extended L2 entries'],
    [1, 0, 'lazy refcounts'],
    [2, 0, 'bitmaps'],
    [2, 1, 'raw external data'],
  ];
  const result = new Uint8Array(names.length * FEATURE_NAME_BYTES);
  names.forEach(([kind, bit, name], index) => {
    const at = index * FEATURE_NAME_BYTES;
    result[at] = kind;
    result[at + 1] = bit;
    result.set(Buffer.from(name, 'latin1'), at + 2);
  });
  return result;
}
