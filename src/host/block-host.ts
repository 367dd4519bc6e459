/** What the block layer needs of the host (`src/block/host-file.ts`), by HostFiles. */
import type { HostFile } from '../block/host-file.ts';
import { Falloc, type HostFiles, hostFiles } from './host-files.ts';
import { ImageLock } from './image-lock.ts';
import { SystemError } from './system-error.ts';

/** For the present thread. */
export function hostFile(files: HostFiles = hostFiles()): HostFile {
  /** False where the file system has no such operation. */
  const attempt = (call: () => void): boolean => {
    try {
      call();
      return true;
    } catch (error) {
      if (error instanceof SystemError && (error.code === 'ENOTSUP' || error.code === 'ENODEV')) return false;
      throw error;
    }
  };
  return {
    createLock: (fd, filename) => new ImageLock(fd, filename, files),
    punchHole: (fd, offset, length) => attempt(() => files.fallocate(fd, Falloc.punchHole, offset, length)),
    allocate: (fd, offset, length) => attempt(() => files.posixFallocate(fd, offset, length)),
    reserve(fd, offset, length) {
      // a child for each call would cost more than it gains
      if (files.kind !== 'ffi') return false;
      try {
        return attempt(() => files.fallocate(fd, Falloc.keepSize, offset, length));
      } catch {
        return true;
      }
    },
    nextData: (fd, offset) => files.seekData(fd, offset),
    nextHole: (fd, offset, size) => files.seekHole(fd, offset) ?? size,
  };
}
