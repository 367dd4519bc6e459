/** HostFiles by calls into libc with `node:ffi`. */
import { constants } from 'node:os';
import type * as Ffi from 'node:ffi';
import { loadFfi } from './ffi.ts';
import { F_OFD_GETLK, F_OFD_SETLK, F_RDLCK, F_UNLCK, F_WRLCK, FLOCK_BYTES } from './flock.ts';
import { flockType, hasFlock, setFlock } from './flock.ts';
import type { HostFiles } from './host-files.ts';
import { SystemError } from './system-error.ts';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

const LIBC = {
  fcntl: { return: 'int32', arguments: ['int32', 'int32', 'buffer'] },
  fallocate: { return: 'int32', arguments: ['int32', 'int32', 'int64', 'int64'] },
  posix_fallocate: { return: 'int32', arguments: ['int32', 'int64', 'int64'] },
  lseek: { return: 'int64', arguments: ['int32', 'int64', 'int32'] },
  __errno_location: { return: 'pointer', arguments: [] },
} as const;

/** Undefined: this Node or this host has it not, or Node's permission model forbids it. */
export function openFfi(): HostFiles | undefined {
  if (!hasFlock()) return undefined;
  const ffi = loadFfi();
  if (ffi === undefined) return undefined;
  try {
    return makeFiles(ffi, ffi.dlopen(null, LIBC).functions);
  } catch {
    return undefined;
  }
}

function makeFiles(ffi: typeof Ffi, libc: Ffi.DynamicLibraryResult<typeof LIBC>['functions']): HostFiles {
  const flock = new DataView(new ArrayBuffer(FLOCK_BYTES));

  // nothing runs in this thread between a call and this one
  const fail = (syscall: string): never => {
    throw new SystemError(syscall, ffi.getInt32(libc.__errno_location(), 0));
  };
  const lockByte = (fd: number, command: number, type: number, offset: number): void => {
    setFlock(flock, type, offset);
    if (libc.fcntl(fd, command, flock) < 0) fail('fcntl');
  };
  const seek = (fd: number, offset: number, whence: number): number | undefined => {
    const found = libc.lseek(fd, BigInt(offset), whence);
    if (found >= 0n) return Number(found);
    if (ffi.getInt32(libc.__errno_location(), 0) === constants.errno.ENXIO) return undefined;
    return fail('lseek');
  };

  return {
    kind: 'ffi',
    setByteLocks(fd, lock, unlock) {
      for (const offset of lock) lockByte(fd, F_OFD_SETLK, F_RDLCK, offset);
      for (const offset of unlock) lockByte(fd, F_OFD_SETLK, F_UNLCK, offset);
    },
    findLocked(fd, bytes) {
      return bytes.find((offset) => {
        lockByte(fd, F_OFD_GETLK, F_WRLCK, offset);
        return flockType(flock) !== F_UNLCK;
      });
    },
    fallocate(fd, mode, offset, length) {
      if (libc.fallocate(fd, mode, BigInt(offset), BigInt(length)) < 0) fail('fallocate');
    },
    posixFallocate(fd, offset, length) {
      const errno = libc.posix_fallocate(fd, BigInt(offset), BigInt(length));
      if (errno !== 0) throw new SystemError('posix_fallocate', errno);
    },
    seekData: (fd, offset) => seek(fd, offset, SEEK_DATA),
    seekHole: (fd, offset) => seek(fd, offset, SEEK_HOLE),
  };
}
