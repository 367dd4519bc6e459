/** What a disk device and the drive behind it have in common: the drive's requests, and what all threads know of it. */
import { atomicI32, atomicNs, struct, type ViewOf } from '@smp86/atomics-sync';
import type { BlockNode } from '../../block/node.ts';

export const SECTOR_SIZE = 512;

/** The part of a block backend that devices use. *Thread:* the drive's iothread. */
export type DriveRequests = Pick<BlockNode, 'size' | 'read' | 'write' | 'writeZeroes' | 'discard' | 'flush'>;

/** What registers show of a drive. Written by its iothread before the machine starts; snapshot version 1. */
export const DriveState = struct({
  /** Bytes, as a float64. */
  size: atomicNs,
  readOnly: atomicI32,
  /** 1: writes are on stable storage after a flush only; 0: when they are done. Written by devices, under the BQL. */
  writeCache: atomicI32,
  /** Where its iothread is; see iothread.ts. No part of a snapshot. */
  home: atomicI32,
});
export type DriveStateView = ViewOf<typeof DriveState>;

/** Cylinders, heads and sectors for a disk of so many sectors, as firmware would make them up. */
export function guessGeometry(sectors: number): { cylinders: number; heads: number; sectors: number } {
  const cylinders = Math.floor(sectors / (16 * 63));
  return { cylinders: Math.max(2, Math.min(16383, cylinders)), heads: 16, sectors: 63 };
}
