/** Kernel modules for an initramfs: which files a module needs, in the order in which to insert them. */
import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { GuestError } from './errors.ts';
import { run } from './process.ts';

export interface ModuleFile {
  readonly name: string;
  readonly data: Uint8Array;
}

const MODULE_FILE = /\.ko(\.xz|\.zst)?$/;

/** The kernel treats `-` and `_` in module names alike. */
function moduleName(path: string): string {
  return basename(path).replace(MODULE_FILE, '').replaceAll('-', '_');
}

async function readModule(path: string): Promise<Uint8Array> {
  if (path.endsWith('.zst')) return zstdDecompressSync(await readFile(path));
  if (!path.endsWith('.xz')) return await readFile(path);
  const result = await run('sh', ['-c', 'exec xz -dc "$1" | base64 -w0', 'sh', path]);
  if (result.status !== 0 || result.stdout === '') {
    throw new GuestError('ERR_GUEST_FILE', `cannot decompress ${path}`);
  }
  return Buffer.from(result.stdout, 'base64');
}

/** The value of a key of a module's .modinfo section: NUL-terminated `key=value` strings. */
export function moduleInfo(data: Uint8Array, key: string): string | undefined {
  const buffer = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const at = buffer.indexOf(`\0${key}=`);
  if (at < 0) return undefined;
  const start = at + key.length + 2;
  const end = buffer.indexOf(0, start);
  return buffer.toString('latin1', start, end < 0 ? buffer.length : end);
}

/**
 * The modules named and all they depend on, dependencies first. `directory` is searched recursively.
 * A name that is no file there is taken to be built into the kernel, unless it was asked for by name.
 */
export async function collectModules(directory: string, names: readonly string[]): Promise<ModuleFile[]> {
  const paths = new Map<string, string>();
  for (const entry of await readdir(directory, { recursive: true })) {
    if (MODULE_FILE.test(entry)) paths.set(moduleName(entry), join(directory, entry));
  }
  const result: ModuleFile[] = [];
  const seen = new Set<string>();
  const visit = async (name: string, asked: boolean): Promise<void> => {
    if (seen.has(name)) return;
    seen.add(name);
    const path = paths.get(name);
    if (path === undefined) {
      if (asked) throw new GuestError('ERR_GUEST_FILE', `no kernel module '${name}' in ${directory}`);
      return;
    }
    const data = await readModule(path);
    const depends = (moduleInfo(data, 'depends') ?? '').split(',').filter((entry) => entry !== '');
    for (const dependency of depends) await visit(moduleName(dependency), false);
    result.push({ name, data });
  };
  for (const name of names) await visit(moduleName(name), true);
  return result;
}
