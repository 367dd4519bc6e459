/** What a file node needs of the host besides `node:fs`; `src/host` supplies it. Without it images are not locked and have no holes. */

/** Who else may have an image open at the same time, by QEMU's rules. */
export interface ImageLock {
  /** The image will be written. */
  readonly write: boolean;
  /** Others may write it meanwhile (`share-rw=on`). */
  readonly shareWrite: boolean;
}

/** Operations on an open file. *Thread:* any. *May block:* as the system call. Failures throw BlockError. */
export interface HostFile {
  /** Takes the locks until the file is closed. Throws EAGAIN with QEMU's text (`Failed to get "write" lock`). */
  lock(fd: number, lock: ImageLock): void;
  /** Gives the range back to the file system; it reads as zeroes. False where the file system cannot. */
  punchHole(fd: number, offset: number, length: number): boolean;
  /** Reserves the range, growing the file. False where the file system cannot. */
  allocate(fd: number, offset: number, length: number): boolean;
  /** First byte of data at or after `offset`; undefined: none up to the end. Where holes are unknown, `offset`. */
  nextData(fd: number, offset: number): number | undefined;
  /** First byte of a hole at or after `offset`, at most the size. Where holes are unknown, `size`. */
  nextHole(fd: number, offset: number, size: number): number;
}
