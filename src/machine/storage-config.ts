/** Disks of a machine, as the worker threads are told: plain data. */
import type { VirtioBlkOptions } from '../hw/virtio/virtio-blk.ts';
import type { DriveOptions, NodeOptions } from './drive-options.ts';

/** A drive, and the iothread that it lives in. */
export interface DriveConfig {
  readonly options: DriveOptions;
  /** Index of the iothread. */
  readonly iothread: number;
}

export interface VirtioBlkConfig {
  /** Index of the drive. */
  readonly drive: number;
  /** PCI slot. */
  readonly slot: number;
  readonly modernOnly: boolean;
  readonly options: VirtioBlkOptions;
}

export interface StorageConfig {
  readonly iothreads: number;
  readonly drives: readonly DriveConfig[];
  readonly blockdevs: readonly NodeOptions[];
  readonly virtioBlks: readonly VirtioBlkConfig[];
}

export const NO_STORAGE: StorageConfig = { iothreads: 0, drives: [], blockdevs: [], virtioBlks: [] };
