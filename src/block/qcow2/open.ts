/** Opening a qcow2 image. */
import { BlockError } from '../errors.ts';
import type { BlockContext, BlockNode } from '../node.ts';
import type { NodeOptions } from '../options.ts';
import { checkImage } from './check.ts';
import { AUTOCLEAR, INCOMPATIBLE } from './format.ts';
import { headerBytes, parseHeader, type Qcow2Header } from './header.ts';
import { Qcow2Node } from './node.ts';
import { readSnapshotTable, type Snapshot } from './snapshot-table.ts';
import { Qcow2State } from './state.ts';
import { takeTuning } from './tuning.ts';

export interface Qcow2OpenOptions {
  readonly file: BlockNode;
  readonly context: BlockContext;
  /** The driver's options; those that it knows are taken. */
  readonly options: NodeOptions;
  readonly readOnly: boolean;
  /** `discard=unmap`. */
  readonly unmap: boolean;
  /** For `check`: a corrupt or dirty image is opened as it is, damaged snapshots too. */
  readonly forCheck?: boolean;
  /** The header is looked at only: no data file is opened (`info` on an image whose data file is away fails all the same). */
  openDataFile(header: Qcow2Header): Promise<BlockNode | undefined>;
  openBacking(header: Qcow2Header): Promise<BlockNode | undefined>;
}

/** Opens the image in `file`, which it then owns; the file stays open when this throws. Throws BlockError. */
export async function openQcow2(request: Qcow2OpenOptions): Promise<Qcow2Node> {
  const { file, context, readOnly } = request;
  const header = await readHeader(file);
  const tuning = takeTuning(request.options, header, request.unmap);
  if ((header.incompatible & INCOMPATIBLE.corrupt) !== 0n && !readOnly && !request.forCheck) {
    throw new BlockError('EACCES', 'qcow2: Image is corrupt; cannot be opened read/write');
  }
  const words = await readWords(file, header.l1Offset, header.l1Size * 2, 'Could not read L1 table');
  const tableBytes = header.refcountTableClusters * 2 ** header.clusterBits;
  const tableWords = await readWords(
    file,
    header.refcountTableOffset,
    tableBytes / 4,
    'Could not read refcount table',
  );
  const refcountTable = new Float64Array(tableBytes / 8);
  for (let i = 0; i < refcountTable.length; i++) {
    // the lowest 9 bits are reserved
    refcountTable[i] = tableWords[2 * i] * 0x1_0000_0000 + ((tableWords[2 * i + 1] & 0xfffffe00) >>> 0);
    if (refcountTable[i] > Number.MAX_SAFE_INTEGER) refcountTable[i] = Number.MAX_SAFE_INTEGER;
  }
  let snapshots: Snapshot[] = [];
  try {
    snapshots = await readSnapshotTable(file, header.snapshotsOffset, header.snapshotCount, header.size);
  } catch (error) {
    if (!request.forCheck) throw error;
  }
  let dataFile: BlockNode | undefined;
  let backing: BlockNode | undefined;
  if ((header.incompatible & INCOMPATIBLE.dataFile) !== 0n) dataFile = await request.openDataFile(header);
  try {
    if (dataFile === undefined && request.options.has('data-file')) {
      throw new BlockError('EINVAL', "'data-file' can only be set for images with an external data file");
    }
    const state = new Qcow2State({
      header,
      file,
      dataFile,
      context,
      tuning,
      readOnly,
      l1: words,
      refcountTable,
    });
    state.snapshots = snapshots;
    backing = header.backingFile === '' ? undefined : await request.openBacking(header);
    state.backing = backing;
    await prepareForWrites(state, request);
    return new Qcow2Node(state);
  } catch (error) {
    await dataFile?.close();
    await backing?.close();
    throw error;
  }
}

async function prepareForWrites(state: Qcow2State, request: Qcow2OpenOptions): Promise<void> {
  const { header } = state;
  if (request.readOnly || request.forCheck) return;
  const known = header.autoclear & (AUTOCLEAR.dataFileRaw | 0n);
  if (known !== header.autoclear) {
    // what smp86 does not keep up to date is not to be trusted afterwards
    header.autoclear = known;
    await state.writeHeader();
    await state.file.flush();
  }
  if ((header.incompatible & INCOMPATIBLE.dirty) !== 0n) {
    const result = await checkImage(state, { fix: 'all' });
    if (result.corruptions > 0 || result.checkErrors > 0) {
      throw new BlockError('EIO', 'Could not repair dirty image');
    }
    await state.clearDirtyBit();
  }
}

/** Reads and checks the header of an image. */
export async function readHeader(file: BlockNode): Promise<Qcow2Header> {
  const head = new Uint8Array(512);
  await file.read(0, [head]);
  const bytes = headerBytes(head);
  const cluster = new Uint8Array(bytes);
  await file.read(0, [cluster]);
  return parseHeader(cluster);
}

/** `count` big-endian 32-bit words at `offset`. */
export async function readWords(
  file: BlockNode,
  offset: number,
  count: number,
  what: string,
): Promise<Uint32Array> {
  const bytes = new Uint8Array(count * 4);
  if (count > 0) {
    try {
      await file.read(offset, [bytes]);
    } catch (error) {
      throw new BlockError('EIO', what, { cause: error });
    }
  }
  const view = new DataView(bytes.buffer);
  const words = new Uint32Array(count);
  for (let i = 0; i < count; i++) words[i] = view.getUint32(i * 4);
  return words;
}
