/**
 * Reads and writes of a file that was opened with O_DIRECT, past the host's cache: offsets, lengths and memory of a call
 * have to be aligned. What is not goes through memory that is; a write of parts of blocks reads them first. All of it is
 * synchronous, so that no two such writes of one thread meet in a block.
 */
import { fstatSync, ftruncateSync, readSync, readvSync, writeSync, writevSync } from 'node:fs';
import { BlockError } from './errors.ts';
import { iovGather, iovLength, iovSlice, iovWrite } from './iov.ts';
import type { IoVector } from './node.ts';

/** Enough for every device. */
export const DIRECT_ALIGN = 4096;
/** Bytes that go through aligned memory at a time. */
const BOUNCE = 1 << 20;
const PAGE = 65536;
const MAX_PIECES = 1024;

/** *Thread:* the file's. Throws what the calls of `node:fs` throw. */
export class DirectIo {
  readonly #fd: number;
  /** Memory that begins at an aligned address: the guest's. */
  readonly #aligned: SharedArrayBuffer | undefined;
  /** A wasm memory begins at a page. Made when it is first needed. */
  #bounce: Uint8Array | undefined;

  constructor(fd: number, aligned: SharedArrayBuffer | undefined) {
    this.#fd = fd;
    this.#aligned = aligned;
  }

  /** Whether the call may be made as it is. */
  isAligned(offset: number, iov: IoVector): boolean {
    if (offset % DIRECT_ALIGN !== 0 || iov.length > MAX_PIECES) return false;
    return iov.every(({ buffer, byteOffset, byteLength }) => {
      return buffer === this.#aligned && byteOffset % DIRECT_ALIGN === 0 && byteLength % DIRECT_ALIGN === 0;
    });
  }

  /** Bytes that were read: fewer than there is room for only at the end of the file. */
  read(offset: number, to: IoVector): number {
    if (this.isAligned(offset, to)) return readvSync(this.#fd, to, offset);
    const length = iovLength(to);
    const bounce = this.#memory();
    for (let done = 0; done < length;) {
      const skip = (offset + done) % DIRECT_ALIGN;
      const wanted = Math.min(length - done, BOUNCE - skip);
      const got = readSync(this.#fd, bounce, 0, roundUp(skip + wanted), offset + done - skip);
      const usable = Math.min(wanted, got - skip);
      if (usable > 0) iovWrite(to, done, bounce.subarray(skip, skip + usable));
      if (usable < wanted) return done + Math.max(0, usable);
      done += usable;
    }
    return length;
  }

  /** Writes all of it; returns its length. */
  write(offset: number, from: IoVector): number {
    const length = iovLength(from);
    if (this.isAligned(offset, from)) {
      const done = checked(writevSync(this.#fd, from, offset));
      // the rest of a short write need not be aligned
      if (done < length) this.#writeThrough(offset + done, iovSlice(from, done, length - done));
    } else if (length > 0) {
      this.#writeThrough(offset, from);
    }
    return length;
  }

  #writeThrough(offset: number, from: IoVector): void {
    const length = iovLength(from);
    const bounce = this.#memory();
    for (let done = 0; done < length;) {
      const at = offset + done;
      const skip = at % DIRECT_ALIGN;
      const part = Math.min(length - done, BOUNCE - skip);
      const end = roundUp(skip + part);
      if (skip > 0) this.#readBlock(at - skip, 0);
      if ((skip + part) % DIRECT_ALIGN !== 0 && (end > DIRECT_ALIGN || skip === 0)) {
        this.#readBlock(at - skip + end - DIRECT_ALIGN, end - DIRECT_ALIGN);
      }
      bounce.set(iovGather(from, done, part), skip);
      const before = fstatSync(this.#fd);
      for (let wrote = 0; wrote < end;) {
        wrote += checked(writeSync(this.#fd, bounce, wrote, end - wrote, at - skip + wrote));
      }
      // a last part of a block makes a regular file no longer than it says
      const size = Math.max(before.size, at + part);
      if (before.isFile() && at - skip + end > size) ftruncateSync(this.#fd, size);
      done += part;
    }
  }

  /** What is in the file's block at `offset`, and zeroes behind the end, at `to` of the bounce memory. */
  #readBlock(offset: number, to: number): void {
    const block = this.#memory().subarray(to, to + DIRECT_ALIGN);
    const got = readSync(this.#fd, block, 0, DIRECT_ALIGN, offset);
    block.fill(0, got);
  }

  #memory(): Uint8Array {
    return (this.#bounce ??= new Uint8Array(new WebAssembly.Memory({ initial: BOUNCE / PAGE + 1 }).buffer));
  }
}

function roundUp(n: number): number {
  return Math.ceil(n / DIRECT_ALIGN) * DIRECT_ALIGN;
}

/** A call that writes nothing would be made again for ever. */
function checked(wrote: number): number {
  if (wrote === 0) throw new BlockError('ENOSPC', 'No space left on device');
  return wrote;
}
