/** Disks of a machine, as the worker threads are told: plain data. */
import type { PollParameters } from '../aio/busy-polling.ts';
import type { VirtioBlkOptions } from '../hw/virtio/virtio-blk.ts';
import type { DriveOptions, NodeOptions } from './drive-options.ts';

/** A drive, and the iothread that it lives in. */
export interface DriveConfig {
  readonly options: DriveOptions;
  /** Index of the iothread that it lives in at first. */
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

/** A drive at an IDE channel. */
export interface IdeConfig {
  readonly kind: 'disk' | 'cdrom';
  /** Index of the drive; a CD-ROM drive may be without. */
  readonly drive?: number;
  readonly serial: string;
  readonly model: string;
}

export interface IothreadConfig {
  readonly polling: PollParameters;
}

/** I/O limits that drives share, also those of different iothreads. */
export interface ThrottleGroupConfig {
  readonly name: string;
  readonly limits: Readonly<Record<string, number>>;
}

export interface StorageConfig {
  readonly throttleGroups: readonly ThrottleGroupConfig[];
  readonly iothreads: readonly IothreadConfig[];
  readonly drives: readonly DriveConfig[];
  readonly blockdevs: readonly NodeOptions[];
  readonly virtioBlks: readonly VirtioBlkConfig[];
  /** Master and slave of the first channel, then of the second. */
  readonly ide: readonly (IdeConfig | null)[];
}

export const NO_STORAGE: StorageConfig = {
  throttleGroups: [],
  iothreads: [],
  drives: [],
  blockdevs: [],
  virtioBlks: [],
  ide: [null, null, null, null],
};
