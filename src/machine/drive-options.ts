/** Disks of a machine as their user describes them: plain data. */
import type { PollParameters } from '../aio/busy-polling.ts';

/** Options of a block node and its children, with the names of `-blockdev`; text names a node that was defined before. */
export interface NodeOptions {
  readonly [key: string]: string | number | boolean | NodeOptions;
}

export const ERROR_ACTIONS = ['report', 'ignore', 'stop', 'enospc', 'auto'] as const;
/** `enospc`: stop when the host's disk is full, else report. */
export type DriveErrorAction = (typeof ERROR_ACTIONS)[number];

/** Limits of `-drive throttling.*`: per second; 0 or absent is none. */
export interface ThrottleLimits {
  readonly group?: string;
  /** `iops-total`, `bps-read-max`, `iops-write-max-length` …, and `iops-size`. */
  readonly limits: Readonly<Record<string, number>>;
}

/** A drive: an image, and how it is used. */
export interface DriveOptions {
  readonly id: string;
  /** The option that described it, and its text: for messages. */
  readonly given?: { readonly option: string; readonly text: string };
  /** The image, or the name of a `-blockdev` node; absent: a CD-ROM drive without a disc. */
  readonly node?: NodeOptions | string;
  readonly readOnly: boolean;
  /** Writes go to a temporary overlay. */
  readonly snapshot: boolean;
  /** The guest sees a write cache, and flushes it. */
  readonly writeCache: boolean;
  readonly werror: DriveErrorAction;
  readonly rerror: Exclude<DriveErrorAction, 'enospc'>;
  readonly detectZeroes: 'off' | 'on' | 'unmap';
  readonly throttling?: ThrottleLimits;
}

/** An object of `-object`. */
export type ObjectOptions = IothreadOptions | ThrottleGroupOptions;

export interface ThrottleGroupOptions {
  readonly type: 'throttle-group';
  readonly id: string;
  /** As those of a drive. */
  readonly limits: Readonly<Record<string, number>>;
}

export interface IothreadOptions {
  readonly type: 'iothread';
  readonly id: string;
  /** poll-max-ns, poll-grow, poll-shrink; absent: QEMU's defaults. */
  readonly polling?: PollParameters;
}

/** `-device virtio-blk-pci`. */
export interface VirtioBlkDevice {
  readonly driver: 'virtio-blk-pci';
  readonly id?: string;
  /** Id of a drive, or name of a node. */
  readonly drive: string;
  /** Id of an iothread; absent: one for all drives that name none. */
  readonly iothread?: string;
  /** Absent: one for each vCPU. */
  readonly numQueues?: number;
  readonly queueSize: number;
  readonly serial: string;
  readonly bootindex?: number;
  /** No legacy registers. */
  readonly disableLegacy: boolean;
  readonly discard: boolean;
  readonly writeZeroes: boolean;
  readonly configWce: boolean;
  /** PCI slot; absent: the first that is free. */
  readonly addr?: number;
}

/** `-device ide-hd` and `ide-cd`. */
export interface IdeDevice {
  readonly driver: 'ide-hd' | 'ide-cd';
  readonly id?: string;
  /** A CD-ROM drive may be without. */
  readonly drive?: string;
  /** Channel, and master (0) or slave (1). */
  readonly bus: 0 | 1;
  readonly unit: 0 | 1;
  readonly serial?: string;
  readonly model?: string;
  readonly bootindex?: number;
}

export type DiskDevice = VirtioBlkDevice | IdeDevice;
