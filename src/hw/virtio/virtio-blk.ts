/**
 * Virtio block device: features and configuration space. VIRTIO 1.1, 5.2. Requests are served by
 * `VirtioBlkServer`, in the drive's iothread.
 */
import { type DriveStateView, guessGeometry, SECTOR_SIZE } from '../block/drive.ts';
import type { VirtioModel } from './virtio-pci.ts';

export const BLK_FEATURE = {
  SEG_MAX: 2,
  GEOMETRY: 4,
  RO: 5,
  BLK_SIZE: 6,
  FLUSH: 9,
  TOPOLOGY: 10,
  CONFIG_WCE: 11,
  MQ: 12,
  DISCARD: 13,
  WRITE_ZEROES: 14,
} as const;

/** Request types (5.2.6). */
export const BLK_T = {
  IN: 0,
  OUT: 1,
  SCSI_CMD: 2,
  FLUSH: 4,
  GET_ID: 8,
  DISCARD: 11,
  WRITE_ZEROES: 13,
  /** Set by drivers older than the specification; without meaning. */
  BARRIER: 0x8000_0000,
} as const;

export const BLK_S = { OK: 0, IOERR: 1, UNSUPP: 2 } as const;

/** Most sectors of one discard or write-zeroes. */
export const MAX_ZERO_SECTORS = 0x3f_ffff;
/** Bytes of the identity that GET_ID gives. */
export const SERIAL_SIZE = 20;

const CLASS_SCSI_STORAGE = 0x010000;
const DEVICE_BLOCK = 2;
const CONFIG_SIZE = 60;
const CONFIG_WCE = 32;

/** As QEMU's properties of virtio-blk-pci. */
export interface VirtioBlkOptions {
  /** Number of queues. */
  readonly queues: number;
  /** Descriptors of a queue, a power of two. */
  readonly queueSize: number;
  readonly serial: string;
  readonly discard: boolean;
  readonly writeZeroes: boolean;
  /** The guest may change the write cache's mode. */
  readonly configWce: boolean;
}

/** *Thread:* any. *Lock:* BQL. */
export class VirtioBlk implements VirtioModel {
  readonly deviceId = DEVICE_BLOCK;
  readonly classCode = CLASS_SCSI_STORAGE;
  readonly configSize = CONFIG_SIZE;
  readonly options: VirtioBlkOptions;
  readonly drive: DriveStateView;

  constructor(drive: DriveStateView, options: VirtioBlkOptions) {
    this.drive = drive;
    this.options = options;
  }

  get queues(): number {
    return this.options.queues;
  }
  get queueSize(): number {
    return this.options.queueSize;
  }

  features(): readonly number[] {
    const { options, drive } = this;
    const F = BLK_FEATURE;
    const features: number[] = [F.SEG_MAX, F.GEOMETRY, F.BLK_SIZE, F.TOPOLOGY, F.FLUSH];
    if (options.configWce) features.push(F.CONFIG_WCE);
    if (options.queues > 1) features.push(F.MQ);
    if (options.discard) features.push(F.DISCARD);
    if (options.writeZeroes) features.push(F.WRITE_ZEROES);
    if (drive.readOnly.load() !== 0) features.push(F.RO);
    return features;
  }

  readConfig(offset: number): number {
    const sectors = Math.floor(this.drive.size.load() / SECTOR_SIZE);
    const { options } = this;
    const byteOf = (value: number, byte: number): number => Math.floor(value / 2 ** (8 * byte)) & 0xff;
    // (name, offset, size, value) of 5.2.4
    if (offset < 8) return byteOf(sectors, offset);
    if (offset >= 12 && offset < 16) return byteOf(options.queueSize - 2, offset - 12);
    if (offset >= 16 && offset < 20) {
      const geometry = guessGeometry(sectors);
      return [geometry.cylinders & 0xff, geometry.cylinders >> 8, geometry.heads, geometry.sectors][
        offset - 16
      ];
    }
    if (offset >= 20 && offset < 24) return byteOf(SECTOR_SIZE, offset - 20);
    if (offset === CONFIG_WCE) return this.drive.writeCache.load();
    if (offset >= 34 && offset < 36) return byteOf(options.queues, offset - 34);
    if (options.discard) {
      if (offset >= 36 && offset < 40) return byteOf(MAX_ZERO_SECTORS, offset - 36);
      // one segment a request, aligned to one sector
      if (offset === 40 || offset === 44) return 1;
    }
    if (options.writeZeroes) {
      if (offset >= 48 && offset < 52) return byteOf(MAX_ZERO_SECTORS, offset - 48);
      if (offset === 52 || offset === 56) return 1;
    }
    return 0;
  }

  writeConfig(offset: number, size: number, value: number): void {
    if (!this.options.configWce || offset > CONFIG_WCE || offset + size <= CONFIG_WCE) return;
    this.drive.writeCache.store((value >>> (8 * (CONFIG_WCE - offset))) & 1);
  }

  started(has: (feature: number) => boolean): void {
    // a driver that cannot flush gets a disk whose writes are stable when done
    if (!has(BLK_FEATURE.CONFIG_WCE)) this.drive.writeCache.store(has(BLK_FEATURE.FLUSH) ? 1 : 0);
  }
}
