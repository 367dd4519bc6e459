/** The snapshot table: what an image says of its internal snapshots. */
import { BlockError } from '../errors.ts';
import type { BlockNode } from '../node.ts';
import { MAX_L1_BYTES, MAX_SNAPSHOT_EXTRA, MAX_SNAPSHOT_TABLE_BYTES, readU64, writeU64 } from './format.ts';

const FIXED = 40;
/** VM state size, disk size, icount. */
const EXTRA = 24;

/** One internal snapshot. Sizes and offsets are bytes. */
export interface Snapshot {
  readonly id: string;
  readonly name: string;
  l1Offset: number;
  /** Entries. */
  l1Size: number;
  readonly diskSize: number;
  readonly vmStateSize: number;
  /** Wall clock, s and ns. */
  readonly dateSec: number;
  readonly dateNsec: number;
  /** Guest's running time, ns. */
  readonly vmClockNsec: number;
  /** Instructions; -1: not known. */
  readonly icount: bigint;
  /** Extra data that smp86 does not know. */
  readonly unknownExtra: Uint8Array;
  /** Bytes of its entry. */
  readonly tableBytes: number;
  /** The entry was damaged; `check -r` makes it so. */
  readonly extraBytes: number;
}

function entryBytes(snapshot: Pick<Snapshot, 'id' | 'name' | 'unknownExtra'>): number {
  const bytes =
    FIXED +
    EXTRA +
    snapshot.unknownExtra.length +
    Buffer.byteLength(snapshot.id) +
    Buffer.byteLength(snapshot.name);
  return Math.ceil(bytes / 8) * 8;
}

/** A snapshot's record with `tableBytes` computed. */
export function makeSnapshot(fields: Omit<Snapshot, 'tableBytes' | 'unknownExtra' | 'extraBytes'>): Snapshot {
  const unknownExtra = new Uint8Array(0);
  return { ...fields, unknownExtra, extraBytes: EXTRA, tableBytes: entryBytes({ ...fields, unknownExtra }) };
}

/** Reads `count` entries at `offset`. `diskSize`: for entries of old programs that do not say. Throws EFBIG, EINVAL. */
export async function readSnapshotTable(
  file: BlockNode,
  offset: number,
  count: number,
  diskSize: number,
): Promise<Snapshot[]> {
  const result: Snapshot[] = [];
  let at = offset;
  const fixed = new Uint8Array(FIXED);
  const view = new DataView(fixed.buffer);
  for (let index = 0; index < count; index++) {
    await file.read(at, [fixed]);
    const idLength = view.getUint16(12);
    const nameLength = view.getUint16(14);
    const extraLength = view.getUint32(36);
    if (extraLength > MAX_SNAPSHOT_EXTRA) {
      throw new BlockError('EFBIG', `Too much extra metadata in snapshot table entry ${index}`);
    }
    const rest = new Uint8Array(extraLength + idLength + nameLength);
    await file.read(at + FIXED, [rest]);
    const extra = new DataView(rest.buffer, 0, extraLength);
    const text = (start: number, length: number) =>
      Buffer.from(rest.subarray(start, start + length)).toString('utf8');
    const bytes = Math.ceil((FIXED + rest.length) / 8) * 8;
    const l1Size = view.getUint32(8);
    if (l1Size * 8 > MAX_L1_BYTES) throw new BlockError('EFBIG', 'Snapshot L1 table too large');
    result.push({
      l1Offset: readU64(view, 0),
      l1Size,
      dateSec: view.getUint32(16),
      dateNsec: view.getUint32(20),
      vmClockNsec: readU64(view, 24),
      vmStateSize: extraLength >= 8 ? readU64(extra, 0) : view.getUint32(32),
      diskSize: extraLength >= 16 ? readU64(extra, 8) : diskSize,
      icount: extraLength >= 24 ? BigInt.asIntN(64, extra.getBigUint64(16)) : -1n,
      unknownExtra: rest.slice(Math.min(EXTRA, extraLength), extraLength),
      id: text(extraLength, idLength),
      name: text(extraLength + idLength, nameLength),
      tableBytes: bytes,
      extraBytes: extraLength,
    });
    at += bytes;
    if (at - offset > MAX_SNAPSHOT_TABLE_BYTES) throw new BlockError('EFBIG', 'Snapshot table too large');
  }
  return result;
}

/** The table's bytes. */
export function serializeSnapshots(snapshots: readonly Snapshot[]): Uint8Array {
  const total = snapshots.reduce((sum, each) => sum + entryBytes(each), 0);
  const result = new Uint8Array(total);
  const view = new DataView(result.buffer);
  let at = 0;
  for (const snapshot of snapshots) {
    const id = Buffer.from(snapshot.id, 'utf8');
    const name = Buffer.from(snapshot.name, 'utf8');
    writeU64(view, at, snapshot.l1Offset);
    view.setUint32(at + 8, snapshot.l1Size);
    view.setUint16(at + 12, id.length);
    view.setUint16(at + 14, name.length);
    view.setUint32(at + 16, snapshot.dateSec);
    view.setUint32(at + 20, snapshot.dateNsec);
    writeU64(view, at + 24, snapshot.vmClockNsec);
    view.setUint32(at + 32, snapshot.vmStateSize > 0xffffffff ? 0 : snapshot.vmStateSize);
    view.setUint32(at + 36, EXTRA + snapshot.unknownExtra.length);
    writeU64(view, at + 40, snapshot.vmStateSize);
    writeU64(view, at + 48, snapshot.diskSize);
    view.setBigInt64(at + 56, snapshot.icount);
    result.set(snapshot.unknownExtra, at + FIXED + EXTRA);
    const text = at + FIXED + EXTRA + snapshot.unknownExtra.length;
    result.set(id, text);
    result.set(name, text + id.length);
    at += entryBytes(snapshot);
  }
  return result;
}
