/** Internal snapshots as text and as JSON. */
import type { Snapshot } from '../../block/qcow2/snapshot-table.ts';
import { sizeText } from './sizes.ts';

const NS = 1e9;

/** The list's lines, with its title. */
export function snapshotTable(snapshots: readonly Snapshot[]): string[] {
  return [
    'Snapshot list:',
    row('ID', 'TAG', 'VM SIZE', 'DATE', 'VM CLOCK', 'ICOUNT'),
    ...snapshots.map(line),
  ];
}

function row(
  ...[id, tag, size, date, clock, icount]: [string, string, string, string, string, string]
): string {
  return `${id.padEnd(9)} ${tag.padEnd(16)} ${size.padStart(8)} ${date.padStart(19)} ${clock.padStart(12)} ${icount.padStart(10)}`;
}

function line({ id, name, vmStateSize, dateSec, vmClockNsec, icount }: Snapshot): string {
  return row(
    id,
    name,
    sizeText(vmStateSize),
    dateText(dateSec),
    clockText(vmClockNsec),
    icount === -1n ? '' : String(icount),
  );
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}

/** Local time. */
function dateText(seconds: number): string {
  const date = new Date(seconds * 1000);
  return (
    `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
  );
}

function clockText(ns: number): string {
  const seconds = Math.floor(ns / NS);
  const milliseconds = String(Math.floor((ns % NS) / 1e6)).padStart(3, '0');
  return `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}.${milliseconds}`;
}

/** By QMP's names. */
export function snapshotRecord(snapshot: Snapshot): object {
  const { id, name, vmStateSize, dateSec, dateNsec, vmClockNsec, icount } = snapshot;
  return {
    ...(icount === -1n ? {} : { icount: Number(icount) }),
    'vm-clock-nsec': vmClockNsec % NS,
    name,
    'date-sec': dateSec,
    'date-nsec': dateNsec,
    'vm-clock-sec': Math.floor(vmClockNsec / NS),
    id,
    'vm-state-size': vmStateSize,
  };
}
