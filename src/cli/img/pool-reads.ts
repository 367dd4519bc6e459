/**
 * Large reads of images in a thread of libuv's, so that what was read before them is written meanwhile. One thread, if the
 * user has not said otherwise, and if none was needed before: of more one is always asleep, and to wake it for each read costs
 * more than it reads meanwhile.
 */
import { fdatasync, readv } from 'node:fs';
import { promisify } from 'node:util';
import { asBlockError } from '../../block/errors.ts';
import { iovLength } from '../../block/iov.ts';
import type { IoVector, SlowCalls } from '../../block/node.ts';

/** Less is read sooner than another thread is asked. */
const LEAST_BYTES = 128 << 10;
/** Pieces of one readv. */
const MAX_PIECES = 1024;

/** *Thread:* the one that made it, which runs an event loop. */
export class PoolReads implements SlowCalls {
  readonly active = true;
  readonly eager = true;
  readonly #datasync = promisify(fdatasync);

  constructor() {
    process.env.UV_THREADPOOL_SIZE ??= '1';
  }

  read(fd: number, offset: number, to: IoVector): Promise<{ bytes: number; took: number }> | undefined {
    if (to.length > MAX_PIECES || iovLength(to) < LEAST_BYTES) return undefined;
    return new Promise((resolve, reject) => {
      readv(fd, to, offset, (error, bytes) => {
        if (error) reject(asBlockError(error));
        else resolve({ bytes, took: 0 });
      });
    });
  }

  async datasync(fd: number): Promise<void> {
    try {
      await this.#datasync(fd);
    } catch (error) {
      throw asBlockError(error);
    }
  }
}
