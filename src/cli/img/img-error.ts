import { BlockError } from '../../block/errors.ts';

/** Ends a command: what to say, and its exit code. */
export class ImgError extends Error {
  /** Each is an error message of its own; further lines of one are hints. */
  readonly messages: readonly string[];
  /** Exit code. */
  readonly status: number;
  /** A hint at --help follows. */
  readonly usage: boolean;

  /** `status` is 1 unless given. */
  constructor(
    message: string | readonly string[],
    options: ErrorOptions & { status?: number; usage?: boolean } = {},
  ) {
    const messages = typeof message === 'string' ? [message] : message;
    super(messages.join('\n'), options);
    this.name = 'ImgError';
    this.messages = messages;
    this.status = options.status ?? 1;
    this.usage = options.usage ?? false;
  }
}

/** What a call of the block layer threw, as an error of the command; a fault of the program stays what it is. */
export function asImgError(error: unknown, prefix = '', status?: number): unknown {
  if (error instanceof BlockError) return new ImgError(`${prefix}${error.message}`, { status, cause: error });
  if (!(error instanceof ImgError)) return error;
  const [first, ...others] = error.messages;
  return new ImgError([`${prefix}${first}`, ...others], { status: status ?? error.status, cause: error });
}

/** Words of a failure. */
export function reasonOf(error: unknown): string {
  if (error instanceof ImgError || error instanceof BlockError) return error.message;
  throw error;
}
