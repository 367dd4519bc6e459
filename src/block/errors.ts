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
