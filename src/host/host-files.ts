/**
 * Calls on open files that Node does not offer: locks of single bytes, allocation and holes. *Thread:* any; file
 * descriptors belong to the process. All of them block, for as long as the kernel takes, and throw a SystemError.
 */
import { constants } from 'node:os';
import { openFfi } from './ffi-files.ts';
import { findPerl } from './perl-files.ts';
import { ALL_IS_DATA } from './no-holes.ts';
import { SystemError } from './system-error.ts';

/** What `fallocate` does with a range; FALLOC_FL_* of fallocate(2). */
export const Falloc = {
  /** Blocks are allocated, and read as zeroes where there were none. */
  allocate: 0,
  /** As `allocate`, and the size of the file stays. */
  keepSize: 0x01,
  /** A hole, which reads as zeroes; the size stays. */
  punchHole: 0x02 | 0x01,
  /** Zeroes, allocated where the file system can; grows the file. */
  zeroRange: 0x10,
} as const;

export interface HostFiles {
  /** `ffi`: calls libc. `perl`: a child process for each call, 5 ms or more. `none`: only refusals. */
  readonly kind: 'ffi' | 'perl' | 'none';

  /**
   * Changes this open file description's read locks of single bytes (F_OFD_SETLK): first takes `lock`, then lets
   * `unlock` go. They end with the description's last descriptor. EAGAIN: somebody has locked one for writing.
   */
  setByteLocks(fd: number, lock: readonly number[], unlock: readonly number[]): void;
  /** First of `bytes` on which another open file description holds a lock (F_OFD_GETLK). */
  findLocked(fd: number, bytes: readonly number[]): number | undefined;
  /** fallocate(2). ENOTSUP: the file system cannot. */
  fallocate(fd: number, mode: number, offset: number, length: number): void;
  /** posix_fallocate(3): writes where the file system cannot allocate. */
  posixFallocate(fd: number, offset: number, length: number): void;
  /** Offset of the first data at or after `offset`; undefined: only a hole up to the end. */
  seekData(fd: number, offset: number): number | undefined;
  /** Offset of the first hole at or after `offset`, the end of the file at the latest; undefined: `offset` is outside. */
  seekHole(fd: number, offset: number): number | undefined;
}

function refuse(syscall: string): never {
  throw new SystemError(syscall, constants.errno.EOPNOTSUPP);
}

const NO_FILES: HostFiles = {
  kind: 'none',
  setByteLocks: () => refuse('fcntl'),
  findLocked: () => refuse('fcntl'),
  fallocate: () => refuse('fallocate'),
  posixFallocate: () => refuse('posix_fallocate'),
  ...ALL_IS_DATA,
};

let cached: HostFiles | undefined;

/** The best there is on this host, found at the first call. */
export function hostFiles(): HostFiles {
  cached ??= openHostFiles(['ffi', 'perl']);
  return cached;
}

/** The first of `kinds` that this host has; `none` when it has none of them. */
export function openHostFiles(kinds: readonly ('ffi' | 'perl')[]): HostFiles {
  for (const kind of kinds) {
    const files = kind === 'ffi' ? openFfi() : findPerl();
    if (files !== undefined) return files;
  }
  return NO_FILES;
}
