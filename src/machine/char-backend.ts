/** The host side of character devices that the machine itself takes care of: files. */
import { constants, promises as fs } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { Argument, type OptionError } from '../cli/option-values.ts';
import type { CharBackend } from './machine-options.ts';
import type { SerialPort } from './serial-port.ts';

/** Why a file cannot be opened, in words. */
export function fileProblem(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  const reasons: Readonly<Record<string, string>> = {
    ENOENT: 'no such file or directory',
    EACCES: 'permission denied',
    EISDIR: 'is a directory',
    ENXIO: 'nobody reads it',
    EROFS: 'read-only file system',
    ENOSPC: 'no space left',
  };
  return reasons[code ?? ''] ?? message;
}

/** A backend and the option it comes from. */
export interface BackendOf {
  readonly option: string;
  readonly backend: CharBackend | null;
}

/** Files that were opened before the machine starts, each for a port. */
export class CharFiles {
  private readonly files: { readonly index: number; readonly handle: fs.FileHandle }[] = [];
  private readonly writing: Promise<void>[] = [];

  /** Opens the files among `backends`. *Errors:* OptionError, with none left open. */
  static async open(backends: readonly BackendOf[]): Promise<CharFiles> {
    const result = new CharFiles();
    for (const [index, { option, backend }] of backends.entries()) {
      if (backend?.type !== 'file') continue;
      try {
        result.files.push({ index, handle: await openForWriting(backend) });
      } catch (error) {
        await result.close();
        throw fileError(option, backend.path, error);
      }
    }
    return result;
  }

  /** Starts to write what the ports say. `ports` by the index of their backend. */
  attach(ports: readonly (SerialPort | undefined)[]): void {
    for (const { index, handle } of this.files) {
      const port = ports[index];
      if (port === undefined) continue;
      // a file that can be written no longer must not stop the guest
      this.writing.push(pipeline(port, handle.createWriteStream()).catch(() => undefined));
    }
  }
  /** Resolves when all that the ports said is written and the files are closed. */
  async finished(): Promise<void> {
    await Promise.all(this.writing);
  }
  /** Closes files that were never attached. */
  async close(): Promise<void> {
    await Promise.all(this.files.map(({ handle }) => handle.close()));
  }
}

async function openForWriting(backend: Extract<CharBackend, { type: 'file' }>): Promise<fs.FileHandle> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_APPEND } = constants;
  // a FIFO is opened as QEMU does, which waits for its reader; the wait is not in this thread
  return await fs.open(backend.path, O_WRONLY | O_CREAT | (backend.append ? O_APPEND : O_TRUNC), 0o666);
}

function fileError(option: string, path: string, error: unknown): OptionError {
  return new Argument(option, path).bad(fileProblem(error));
}
