/**
 * What every node of a block graph offers: a format (raw, qcow2), a filter (throttle), or a protocol (file). A node
 * belongs to one AioContext, and all of it runs in that context's thread; requests are coroutines (`async`
 * functions), any number of which may be under way; reads and writes that need not wait are done by the call itself.
 * Offsets and lengths are bytes, below 2^53.
 */
import type { Timer } from '../hw/device.ts';
import type { HostFile } from './host-file.ts';
import type { Throttle } from './throttle.ts';

/** Pieces of memory, in order; usually parts of the shared memory that is the guest's RAM. */
export type IoVector = readonly Uint8Array[];

export interface WriteFlags {
  /** The data is on stable storage when the request is done. */
  readonly fua?: boolean;
}

export interface ZeroFlags extends WriteFlags {
  /** Clusters may be given back. */
  readonly mayUnmap?: boolean;
  /** Fail with ENOTSUP instead of writing zeroes as data. */
  readonly noFallback?: boolean;
}

/**
 * What a read or a write returns: undefined when it was done at once, as most are; else a promise. It fails with a
 * BlockError, thrown at once or as the rejection.
 */
export type Done = Promise<void> | undefined;

/** What requests a node takes without help, and likes. Bytes. */
export interface BlockLimits {
  /** Offsets and lengths of read and write are multiples of this; 1 or a power of two. */
  readonly requestAlignment: number;
  /** Most of one write-zeroes or discard; `Infinity`: no limit. */
  readonly maxWriteZeroes: number;
  readonly maxDiscard: number;
  /** Preferred granularity of write-zeroes and discard (a cluster); 0: none. */
  readonly writeZeroesAlignment: number;
  readonly discardAlignment: number;
}

/** What is known of [offset, offset + length): all of it is alike. */
export interface BlockStatus {
  /** At least 1, at most what was asked for. */
  readonly length: number;
  /** Reads come from data in this node's file (or compressed in it). */
  readonly data: boolean;
  /** Reads as zeroes. */
  readonly zero: boolean;
  /** This layer decides the content: it does not come from the backing file. */
  readonly allocated: boolean;
  readonly compressed?: boolean;
  /** Where in `file` it begins, when the data lies there as it is. */
  readonly fileOffset?: number;
  readonly file?: BlockNode;
}

/** How `truncate` fills what is new. */
export type Preallocation = 'off' | 'metadata' | 'falloc' | 'full';

/** One node. *Thread:* the context's. *Lock:* none. Requests fail with BlockError. */
export interface BlockNode {
  /** `raw`, `qcow2`, `file` … */
  readonly driver: string;
  /** Empty until the graph names it. */
  nodeName: string;
  /** File name as the user gave it; empty when there is none. */
  readonly filename: string;
  readonly size: number;
  readonly readOnly: boolean;
  readonly limits: BlockLimits;
  /** The nodes it stands on, by role. */
  readonly children: {
    readonly file?: BlockNode;
    readonly backing?: BlockNode;
    readonly dataFile?: BlockNode;
  };

  /** Fills `to` from `offset`; within `size`, aligned to `limits.requestAlignment`. */
  read(offset: number, to: IoVector): Done;
  write(offset: number, from: IoVector, flags?: WriteFlags): Done;
  writeZeroes(offset: number, length: number, flags?: ZeroFlags): Promise<void>;
  /** A hint; done for whole clusters only. */
  discard(offset: number, length: number): Promise<void>;
  /** Whole clusters of a format that can compress; ENOTSUP elsewhere. */
  writeCompressed(offset: number, from: IoVector): Promise<void>;
  /** Everything that was written before the call is on stable storage. */
  flush(): Promise<void>;
  blockStatus(offset: number, length: number): Promise<BlockStatus>;
  truncate(size: number, preallocation?: Preallocation): Promise<void>;
  /** Bytes that it takes on the host. */
  allocatedSize(): Promise<number>;
  /** Writes back what is cached, and lets the children go. No request may be under way. */
  close(): Promise<void>;
}

/** A timer and its clock, ns. */
export type ContextTimer = Timer & { now(): number };

/** What a context gives its nodes. */
export interface BlockContext {
  /**
   * A timer on VIRTUAL, in the context's group; absent outside a machine (`smp86 img`). `external`: it changes nothing
   * that the guest sees.
   */
  createTimer?(callback: () => void, name: string, external: boolean): ContextTimer;
  /** CPU-heavy work: inline, or in a block helper. */
  readonly codec: Codec;
  /** Locks and holes; without it images are not locked. */
  readonly host?: HostFile;
  /** A place in throttle group `name`; undefined: there is no such group. */
  throttle?(name: string): Throttle | undefined;
  /** Memory that requests of a guest come from, which begins at a page; for direct I/O. */
  readonly guestMemory?: SharedArrayBuffer;
  /** Where calls that may take long are made; absent: in the context's thread. */
  readonly slowCalls?: SlowCalls;
  /** A message for the user, without a newline (`src/block` prints nothing itself). */
  warn(text: string): void;
}

/** Compression of one cluster. */
export interface Codec {
  /**
   * Undefined when the result would not be shorter than `limit`. `data` may be the guest's memory: who looks at it more
   * than once copies it before anything else.
   */
  compress(type: 'zlib' | 'zstd', data: Uint8Array, limit: number): Promise<Uint8Array | undefined>;
  /** `length` bytes. Rejects with EIO when `data` is damaged. */
  decompress(type: 'zlib' | 'zstd', data: Uint8Array, length: number): Promise<Uint8Array>;
}

/** System calls that other threads make for a context's. *Thread:* the context's. Promises reject with BlockError. */
export interface SlowCalls {
  /** Nothing may be handed over while the context's loop does not run. */
  readonly active: boolean;
  /** Reads are handed over however fast the last ones were. Default: from slow ones on. */
  readonly eager?: boolean;
  /** As preadv(2), at most once; `took`: µs of the call itself. Undefined: this cannot be handed over. */
  read(fd: number, offset: number, to: IoVector): Promise<{ bytes: number; took: number }> | undefined;
  /** As fdatasync(2). */
  datasync(fd: number): Promise<void>;
}
