/** A failed system call, with the same fields as the errors of `node:fs`. */
import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';

export class SystemError extends Error {
  /** Name of the error in errno(3). */
  readonly code: string;
  /** Negative, as libuv's. */
  readonly errno: number;
  readonly syscall: string;

  /** `errno`: positive; 0 when a failed call left none. */
  constructor(syscall: string, errno: number) {
    const [code, text] = getSystemErrorMap().get(-errno) ?? ['EIO', 'unknown error'];
    super(`${code}: ${text}, ${syscall}`);
    this.name = 'SystemError';
    this.code = code;
    this.errno = -(errno === 0 ? constants.errno.EIO : errno);
    this.syscall = syscall;
  }
}
