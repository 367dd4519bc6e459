/**
 * A node over one host file: a regular file or a block device. Reads and writes go straight from and to the
 * caller's memory. `read` past the end of the file gives zeroes, `write` past it makes the file longer: formats
 * rely on both.
 */
import {
  closeSync,
  constants,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  readvSync,
  writeSync,
  writevSync,
} from 'node:fs';
import { DirectIo } from './direct-io.ts';
import { asBlockError, BlockError } from './errors.ts';
import type { FileLock, HostFile } from './host-file.ts';
import { iovLength, iovSlice, zeroVector } from './iov.ts';
import { CREATE_LOCK, type LockMode } from './locks.ts';
import type {
  BlockLimits,
  BlockNode,
  BlockStatus,
  Done,
  IoVector,
  Preallocation,
  SlowCalls,
  WriteFlags,
  ZeroFlags,
} from './node.ts';

/** Sizes are seen in these units: a last piece of one reads as zeroes. */
const SECTOR = 512;
/** Pieces of one readv or writev; more are split. */
const MAX_PIECES = 1024;
/** Bytes that a new file has allocated. */
const FIRST_BLOCK = 4096;
/**
 * Bytes of a write from which on blocks are reserved before it, where there may be none: ext4 then has a third less work
 * with it, which else reserves them one by one.
 */
const RESERVED_WRITE = 1 << 20;
/** Bytes of zeroes written at a time where holes cannot be punched. */
const ZERO_CHUNK = 1 << 20;

/** A read of cached data takes less: µs, and bytes in each further one. */
const FAST_US = 100;
const FAST_BYTES_PER_US = 1000;
/** Fast reads in other threads after which this one reads again. */
const FAST_STREAK = 4;
/** A slow read may be one whose thread had to wait for a processor. A second one within so many more is not cached. */
const SUSPICION = 32;

/** How to open a host file. */
export interface FileOptions {
  readonly filename: string;
  readonly readOnly: boolean;
  /** Locks and holes. */
  readonly host?: HostFile;
  /** Past the host's cache (O_DIRECT); `guestMemory` begins at a page. */
  readonly direct?: boolean;
  readonly guestMemory?: SharedArrayBuffer;
  /** Makes the calls that take long. */
  readonly slowCalls?: SlowCalls;
  /** `lock` takes QEMU's image locks; default true where `host` is. */
  readonly locking?: boolean;
  /** Ignore flushes (`cache=unsafe`). */
  readonly noFlush?: boolean;
  /** Make a file that does not exist (empty), or empty one that does. */
  readonly create?: boolean;
}

/** *Thread:* the context's. *May block:* as the file system. */
export class FileNode implements BlockNode {
  readonly driver: string = 'file';
  nodeName = '';
  readonly filename: string;
  readonly readOnly: boolean;
  readonly children = {};
  readonly limits: BlockLimits = {
    requestAlignment: 1,
    maxWriteZeroes: Infinity,
    maxDiscard: Infinity,
    writeZeroesAlignment: 0,
    discardAlignment: 0,
  };
  readonly #fd: number;
  readonly #host: HostFile | undefined;
  readonly #lock: FileLock | undefined;
  readonly #direct: DirectIo | undefined;
  readonly #slowCalls: SlowCalls | undefined;
  /** Reads were slow, or nothing is known: so many fast ones until this thread makes them itself. */
  #cold = FAST_STREAK;
  /** Reads during which a slow one is the second. */
  #suspicion = 0;
  readonly #noFlush: boolean;
  readonly #isDevice: boolean;
  #bytes: number;
  /** Something was written since the last flush. */
  #dirty = false;
  /** A flush failed: what was written before is in doubt for ever, as the kernel reports it only once. */
  #flushFailed = false;
  /** A flush under way, for what was written before it began. */
  #flushing: Promise<void> | undefined;
  #punch = true;
  /** Large writes where there may be no blocks yet reserve them first. */
  #reserve: boolean;
  /** There are holes, as far as is known. */
  #sparse: boolean;

  /** Opens a regular file or a block device. Throws BlockError with QEMU's texts. */
  static open(options: FileOptions): FileNode {
    const { filename, readOnly } = options;
    let flags = (readOnly ? constants.O_RDONLY : constants.O_RDWR) | constants.O_NONBLOCK;
    if (options.create) flags |= constants.O_CREAT;
    if (options.direct) flags |= constants.O_DIRECT;
    let fd: number;
    try {
      fd = openSync(filename, flags, 0o644);
    } catch (error) {
      const isDirectory = error instanceof Error && 'code' in error && error.code === 'EISDIR';
      if (isDirectory && !options.create) throw notAFile(filename);
      if (options.direct && error instanceof Error && 'code' in error && error.code === 'EINVAL') {
        throw new BlockError(
          'EINVAL',
          `Could not open '${filename}': the file system does not support O_DIRECT`,
        );
      }
      throw asBlockError(error, `Could not ${options.create ? 'create' : 'open'} '${filename}'`);
    }
    try {
      const stat = fstatSync(fd);
      if (!stat.isFile() && !stat.isBlockDevice()) throw notAFile(filename);
      const lock = options.locking === false ? undefined : options.host?.createLock(fd, filename);
      if (options.create) {
        lock?.acquire(CREATE_LOCK);
        if (stat.isFile()) ftruncateSync(fd, 0);
      }
      const bytes = stat.isBlockDevice() ? deviceSize(stat.rdev) : options.create ? 0 : stat.size;
      const sparse = stat.blocks * SECTOR < bytes;
      return new FileNode(fd, { bytes, sparse, isDevice: stat.isBlockDevice() }, options, lock);
    } catch (error) {
      closeSync(fd);
      throw asBlockError(error);
    }
  }

  private constructor(
    fd: number,
    { bytes, sparse, isDevice }: { bytes: number; sparse: boolean; isDevice: boolean },
    options: FileOptions,
    lock: FileLock | undefined,
  ) {
    this.#fd = fd;
    this.#bytes = bytes;
    this.#sparse = sparse;
    this.#isDevice = isDevice;
    this.#reserve = !isDevice && options.host !== undefined;
    this.filename = options.filename;
    this.readOnly = options.readOnly;
    this.#host = options.host;
    this.#direct = options.direct ? new DirectIo(fd, options.guestMemory) : undefined;
    this.#slowCalls = options.slowCalls;
    this.#lock = lock;
    this.#noFlush = options.noFlush ?? false;
  }

  /** Says who else may use the file from now on. Throws EAGAIN; then it is as before. */
  lock(mode: LockMode): void {
    this.#lock?.acquire(mode);
  }

  /** A multiple of 512. */
  get size(): number {
    return Math.ceil(this.#bytes / SECTOR) * SECTOR;
  }

  read(offset: number, to: IoVector): Done {
    const slowCalls = this.#slowCalls;
    if (slowCalls === undefined) {
      this.#readHere(offset, to);
      return undefined;
    }
    const handOver = (this.#cold > 0 || slowCalls.eager === true) && slowCalls.active;
    if (handOver && this.#direct?.isAligned(offset, to) !== false) {
      const there = slowCalls.read(this.#fd, offset, to);
      if (there !== undefined) return this.#readThere(there, offset, to);
    }
    const start = performance.now();
    this.#readHere(offset, to);
    this.#learn((performance.now() - start) * 1000, iovLength(to));
    return undefined;
  }

  async #readThere(
    there: Promise<{ bytes: number; took: number }>,
    offset: number,
    to: IoVector,
  ): Promise<void> {
    const length = iovLength(to);
    const { bytes, took } = await there;
    this.#learn(took, length);
    if (bytes < length) this.#readRest(offset + bytes, iovSlice(to, bytes, length - bytes));
  }

  /** From how long a read took, µs: where the next ones are made. */
  #learn(took: number, length: number): void {
    if (took > FAST_US + length / FAST_BYTES_PER_US) {
      if (this.#suspicion > 0) this.#cold = FAST_STREAK;
      this.#suspicion = SUSPICION;
    } else {
      if (this.#suspicion > 0) this.#suspicion--;
      if (this.#cold > 0) this.#cold--;
    }
  }

  #readHere(offset: number, to: IoVector): void {
    if (to.length === 1 && this.#direct === undefined) {
      const [piece] = to;
      const got = this.#readOnce(offset, piece);
      if (got === piece.length) return;
      this.#readRest(offset + got, iovSlice(to, got, piece.length - got));
      return;
    }
    this.#readRest(offset, to);
  }

  #readOnce(offset: number, piece: Uint8Array): number {
    try {
      return readSync(this.#fd, piece, 0, piece.length, offset);
    } catch (error) {
      throw asBlockError(error);
    }
  }

  /** Reads until all is there or the file ends; the rest is zeroes. */
  #readRest(offset: number, to: IoVector): void {
    let at = offset;
    let rest = to;
    for (let left = iovLength(to); left > 0;) {
      let got: number;
      try {
        got = this.#direct?.read(at, rest) ?? readvSync(this.#fd, rest.slice(0, MAX_PIECES), at);
      } catch (error) {
        throw asBlockError(error);
      }
      if (got === 0) {
        for (const piece of rest) piece.fill(0);
        return;
      }
      left -= got;
      at += got;
      if (left > 0) rest = iovSlice(rest, got, left);
    }
  }

  write(offset: number, from: IoVector, flags?: WriteFlags): Done {
    this.#checkWritable();
    let at = offset;
    let rest = from;
    this.#dirty = true;
    let left = iovLength(from);
    if (left >= RESERVED_WRITE && this.#reserve && (this.#sparse || at + left > this.#bytes)) {
      this.#reserve = this.#host?.reserve(this.#fd, at, left) ?? false;
    }
    while (left > 0) {
      let done: number;
      try {
        done = this.#direct
          ? this.#direct.write(at, rest)
          : rest.length === 1
            ? writeSync(this.#fd, rest[0], 0, left, at)
            : writevSync(this.#fd, rest.slice(0, MAX_PIECES), at);
      } catch (error) {
        throw asBlockError(error);
      }
      if (done === 0) throw new BlockError('ENOSPC', 'No space left on device');
      left -= done;
      at += done;
      if (at > this.#bytes) this.#bytes = at;
      if (left > 0) rest = iovSlice(rest, done, left);
    }
    return flags?.fua ? this.flush() : undefined;
  }

  async writeZeroes(offset: number, length: number, flags?: ZeroFlags): Promise<void> {
    this.#checkWritable();
    let at = offset;
    const end = offset + length;
    if (!this.#isDevice && at >= this.#bytes) {
      // what is past the end is a hole once the file is longer
      this.#grow(end);
    } else if (flags?.mayUnmap && this.#hole(at, length)) {
      if (end > this.#bytes) this.#grow(end);
    } else if (flags?.noFallback) {
      throw new BlockError('ENOTSUP', 'Operation not supported');
    } else {
      for (; at < end; at += ZERO_CHUNK) await this.write(at, zeroVector(Math.min(ZERO_CHUNK, end - at)));
    }
    this.#dirty = true;
    if (flags?.fua) await this.flush();
  }

  #grow(bytes: number): void {
    try {
      ftruncateSync(this.#fd, bytes);
    } catch (error) {
      throw asBlockError(error);
    }
    this.#sparse ||= bytes > this.#bytes;
    this.#bytes = bytes;
  }

  #hole(offset: number, length: number): boolean {
    if (!this.#host || !this.#punch) return false;
    this.#punch = this.#host.punchHole(this.#fd, offset, length);
    this.#sparse ||= this.#punch;
    return this.#punch;
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#checkWritable();
    const end = Math.min(offset + length, this.#bytes);
    if (end > offset && this.#hole(offset, end - offset)) this.#dirty = true;
  }

  async writeCompressed(): Promise<void> {
    throw new BlockError('ENOTSUP', 'Operation not supported');
  }

  async flush(): Promise<void> {
    // one that is under way does not cover what was written since it began
    while (this.#flushing !== undefined && this.#dirty) await this.#flushing.catch(() => {});
    if (this.#flushing !== undefined) return this.#flushing;
    if (!this.#dirty || this.#noFlush) return;
    if (this.#flushFailed) throw new BlockError('EIO', 'Input/output error');
    this.#dirty = false;
    try {
      if (this.#slowCalls?.active) {
        this.#flushing = this.#slowCalls.datasync(this.#fd);
        await this.#flushing;
      } else {
        fdatasyncSync(this.#fd);
      }
    } catch (error) {
      this.#flushFailed = true;
      this.#dirty = true;
      throw asBlockError(error);
    } finally {
      this.#flushing = undefined;
    }
  }

  async blockStatus(offset: number, length: number): Promise<BlockStatus> {
    const known = { allocated: true, file: this, fileOffset: offset };
    if (!this.#host) return { ...known, length, data: true, zero: false };
    try {
      const data = this.#host.nextData(this.#fd, offset);
      if (data === undefined || data > offset) {
        const end = data === undefined ? offset + length : Math.min(data, offset + length);
        return { ...known, length: end - offset, data: false, zero: true };
      }
      const hole = this.#host.nextHole(this.#fd, offset, this.#bytes);
      // a last piece of a sector belongs to the data before it
      const end = hole >= this.#bytes ? this.size : hole;
      return { ...known, length: Math.min(end - offset, length), data: true, zero: false };
    } catch (error) {
      throw asBlockError(error);
    }
  }

  async truncate(size: number, preallocation: Preallocation = 'off'): Promise<void> {
    this.#checkWritable();
    if (this.#isDevice) {
      if (size > this.#bytes) throw new BlockError('EINVAL', 'Cannot grow device files');
      return;
    }
    const old = this.#bytes;
    if (size < old && preallocation !== 'off') {
      throw new BlockError('ENOTSUP', "Preallocation can't be used for shrinking files");
    }
    if (preallocation === 'metadata') {
      throw new BlockError('ENOTSUP', 'Unsupported preallocation mode: metadata');
    }
    try {
      if (preallocation === 'falloc' && size > old) {
        if (!this.#host?.allocate(this.#fd, old, size - old)) {
          throw new BlockError(
            'ENOTSUP',
            'Could not preallocate data for the new file: Operation not supported',
          );
        }
        this.#bytes = size;
      } else if (preallocation === 'full' && size > old) {
        for (let at = old; at < size; at += ZERO_CHUNK) {
          await this.write(at, zeroVector(Math.min(ZERO_CHUNK, size - at)));
        }
      } else {
        this.#grow(size);
        // a first block that is there lets others find out the alignment of direct I/O, as QEMU's files do
        if (old === 0 && size > 0) await this.write(0, zeroVector(size < FIRST_BLOCK ? SECTOR : FIRST_BLOCK));
      }
    } catch (error) {
      if (size > old) ftruncateSync(this.#fd, old);
      this.#bytes = Math.min(size, old);
      throw asBlockError(error);
    }
    this.#dirty = true;
  }

  async allocatedSize(): Promise<number> {
    try {
      return fstatSync(this.#fd).blocks * 512;
    } catch (error) {
      throw asBlockError(error);
    }
  }

  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      closeSync(this.#fd);
    }
  }

  #checkWritable(): void {
    if (this.readOnly) throw new BlockError('EACCES', 'Permission denied');
  }
}

function notAFile(filename: string): BlockError {
  return new BlockError('EINVAL', `'file' driver requires '${filename}' to be a regular file`);
}

/** Bytes of the block device with number `rdev`. */
function deviceSize(rdev: number): number {
  const major = ((rdev >>> 8) & 0xfff) | 0;
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  try {
    return Number(readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'latin1')) * 512;
  } catch (error) {
    throw asBlockError(error, 'Could not refresh total sector count');
  }
}
