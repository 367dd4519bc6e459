/** What a file node needs of the host besides `node:fs`; `src/host` supplies it. Without it images are not locked and have no holes. */
import type { LockMode } from './locks.ts';

/** The locks of one open file; they end with it. *May block:* as the system call. */
export interface FileLock {
  /** Changes what is held and shared. Throws EAGAIN with QEMU's text (`Failed to get "write" lock`); all is as before then. */
  acquire(mode: LockMode): void;
}

/** Operations on an open file. *Thread:* any. *May block:* as the system call. Failures throw BlockError. */
export interface HostFile {
  /** Nothing is locked yet. */
  createLock(fd: number, filename: string): FileLock;
  /** Gives the range back to the file system; it reads as zeroes. False where the file system cannot. */
  punchHole(fd: number, offset: number, length: number): boolean;
  /** Reserves the range, growing the file. False where the file system cannot. */
  allocate(fd: number, offset: number, length: number): boolean;
  /**
   * Reserves blocks for the range, which is about to be written; the size stays. False: not here. A file system that has no
   * room says so to the write.
   */
  reserve(fd: number, offset: number, length: number): boolean;
  /** First byte of data at or after `offset`; undefined: none up to the end. Where holes are unknown, `offset`. */
  nextData(fd: number, offset: number): number | undefined;
  /** First byte of a hole at or after `offset`, at most the size. Where holes are unknown, `size`. */
  nextHole(fd: number, offset: number, size: number): number;
}
