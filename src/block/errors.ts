/** Errors of the block layer. A guest's request ends with one as its result; opening an image throws one. */
import { constants } from 'node:os';

/** What a request or an operation on an image can fail with; the names are those of errno(3). */
export type BlockErrno =
  | 'EIO'
  | 'ENOSPC'
  | 'EINVAL'
  | 'ENOTSUP'
  | 'EROFS'
  | 'EACCES'
  | 'EPERM'
  | 'ENOENT'
  | 'EEXIST'
  | 'EBUSY'
  | 'EFBIG'
  | 'EISDIR'
  | 'ENOTDIR'
  | 'ENAMETOOLONG'
  | 'ELOOP'
  | 'ENODEV'
  | 'ENXIO'
  | 'ETXTBSY'
  | 'ENOMEDIUM'
  | 'ECANCELED'
  | 'EAGAIN'
  | 'ERANGE';

/** ENOMEDIUM is not in Node's list. */
const OTHERS: Partial<Record<BlockErrno, number>> = { ENOMEDIUM: 123 };

/** A failed request, or an image that cannot be used. `message` is the text for the user, without a newline. */
export class BlockError extends Error {
  readonly code: BlockErrno;

  constructor(code: BlockErrno, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'BlockError';
    this.code = code;
  }

  /** Positive errno of Linux. */
  get errno(): number {
    const numbers: Partial<Record<string, number>> = constants.errno;
    return numbers[this.code] ?? OTHERS[this.code] ?? constants.errno.EIO;
  }
}

/** The C library's texts, which QEMU's messages end with. */
const TEXTS: Record<BlockErrno, string> = {
  EIO: 'Input/output error',
  ENOSPC: 'No space left on device',
  EINVAL: 'Invalid argument',
  ENOTSUP: 'Operation not supported',
  EROFS: 'Read-only file system',
  EACCES: 'Permission denied',
  EPERM: 'Operation not permitted',
  ENOENT: 'No such file or directory',
  EEXIST: 'File exists',
  EBUSY: 'Device or resource busy',
  EFBIG: 'File too large',
  EISDIR: 'Is a directory',
  ENOTDIR: 'Not a directory',
  ENAMETOOLONG: 'File name too long',
  ELOOP: 'Too many levels of symbolic links',
  ENOMEDIUM: 'No medium found',
  ENODEV: 'No such device',
  ENXIO: 'No such device or address',
  ETXTBSY: 'Text file busy',
  ECANCELED: 'Operation canceled',
  EAGAIN: 'Resource temporarily unavailable',
  ERANGE: 'Numerical result out of range',
};

/** What strerror(3) says. */
export function errnoText(code: BlockErrno): string {
  return TEXTS[code];
}

/** A BlockError for what a call of `node:fs` or of the host threw; `EIO` for what has no name here. */
export function asBlockError(error: unknown, prefix?: string): BlockError {
  if (error instanceof BlockError) {
    return prefix === undefined
      ? error
      : new BlockError(error.code, `${prefix}: ${error.message}`, { cause: error });
  }
  const name = error instanceof Error && 'code' in error ? error.code : undefined;
  const code = typeof name === 'string' && name in TEXTS ? (name as BlockErrno) : 'EIO';
  return new BlockError(code, prefix === undefined ? TEXTS[code] : `${prefix}: ${TEXTS[code]}`, {
    cause: error,
  });
}
