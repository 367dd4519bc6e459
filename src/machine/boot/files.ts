/** Reads the files that `-kernel` and `-initrd` name. */
import { readFileSync, statSync } from 'node:fs';
import { BootError, type BootOption } from './errors.ts';
import { detectKernel, type KernelKind } from './index.ts';
import type { MultibootModule } from './multiboot.ts';

export interface BootFiles {
  readonly kind: KernelKind;
  readonly kernel: Uint8Array;
  readonly kernelName: string;
  readonly initrd?: Uint8Array;
  readonly modules?: readonly MultibootModule[];
}

const MAX_FILE_SIZE = 2 ** 31 - 1;

export function readBootFile(option: BootOption, path: string): Uint8Array {
  const fail = (reason: string): BootError => new BootError('ERR_BOOT_FILE', option, `${path}: ${reason}`);
  try {
    const info = statSync(path);
    // A FIFO or a terminal would block, and has no size.
    if (!info.isFile() && !info.isBlockDevice()) throw fail('not a regular file');
    if (info.size > MAX_FILE_SIZE) throw fail('larger than 2 GiB');
    return readFileSync(path);
  } catch (error) {
    if (error instanceof BootError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw fail('no such file');
    if (code === 'EACCES') throw fail('permission denied');
    throw fail(message);
  }
}

/**
 * Reads kernel and initrd. For a multiboot kernel `-initrd` is a list `file args,file args`, where a
 * comma within is written twice. *May block:* yes. *Errors:* BootError, naming the file.
 */
export function readBootFiles(paths: { kernel: string; initrd?: string }): BootFiles {
  const kernel = readBootFile('kernel', paths.kernel);
  let kind: KernelKind;
  try {
    kind = detectKernel(kernel);
  } catch (error) {
    if (!(error instanceof BootError)) throw error;
    const reason = error.message.replace(/^-\w+: /, '');
    throw new BootError(error.code, error.option, `${paths.kernel}: ${reason}`);
  }
  const files = { kind, kernel, kernelName: paths.kernel };
  if (paths.initrd === undefined) return files;
  if (kind !== 'multiboot') return { ...files, initrd: readBootFile('initrd', paths.initrd) };
  const modules = splitModules(paths.initrd).map((cmdline) => ({
    data: readBootFile('initrd', cmdline.split(' ', 1)[0]),
    cmdline,
  }));
  return { ...files, modules };
}

/** Splits at single commas; `,,` stands for one comma. */
export function splitModules(text: string): string[] {
  const parts = text.replaceAll(',,', '\0').split(',');
  return parts.map((part) => part.replaceAll('\0', ',').trim()).filter((part) => part !== '');
}
