/** The root file system in memory of the Linux guest: busybox, an init script, extra files. */
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { CpioWriter } from './cpio.ts';
import { GuestError } from './errors.ts';
import type { ModuleFile } from './modules.ts';

export interface ExtraFile {
  readonly path: string;
  readonly data: Uint8Array | string;
  /** Permission bits; 0o644 if not given. */
  readonly mode?: number;
}

export interface InitramfsOptions {
  /** A statically linked busybox for the guest's architecture. */
  readonly busybox: Uint8Array;
  readonly files?: readonly ExtraFile[];
  /** Inserted by init in this order. */
  readonly modules?: readonly ModuleFile[];
  /** A shell script that init runs before it gives a shell (`/etc/rc`). */
  readonly rc?: string;
  /** Compress with gzip: smaller, but the guest unpacks it. Default: no. */
  readonly gzip?: boolean;
}

const DIRECTORIES = ['bin', 'sbin', 'usr/bin', 'usr/sbin', 'dev', 'proc', 'sys', 'run', 'etc', 'lib/modules'];

/** The kernel command line that goes with this initramfs, on the first serial port. */
export const DEFAULT_APPEND = 'console=ttyS0';

/** The kernel command line word that makes init run a shell script and power off. */
export function runArgument(script: string): string {
  return `smp86.run=${Buffer.from(script).toString('base64')}`;
}

/**
 * The applets in a busybox binary, from its table of names: sorted NUL-terminated strings that begin
 * with `[` and `[[`. Empty when there is no such table (init then asks busybox itself).
 */
export function busyboxApplets(busybox: Uint8Array): string[] {
  const buffer = Buffer.from(busybox.buffer, busybox.byteOffset, busybox.byteLength);
  const at = buffer.indexOf('\0[\0[[\0');
  if (at < 0) return [];
  const names: string[] = [];
  let start = at + 1;
  for (;;) {
    const end = buffer.indexOf(0, start);
    const name = buffer.toString('latin1', start, end);
    if (!/^[a-z0-9_.[-]+$/.test(name) || name <= (names.at(-1) ?? '')) break;
    names.push(name);
    start = end + 1;
  }
  return names;
}

/** Makes the cpio archive. Errors: GuestError when `busybox` is no ELF file. */
export function buildInitramfs(options: InitramfsOptions): Buffer {
  const { busybox } = options;
  if (busybox.length < 4 || busybox[0] !== 0x7f || busybox[1] !== 0x45) {
    throw new GuestError('ERR_GUEST_FILE', 'busybox is not an ELF program');
  }
  const archive = new CpioWriter();
  for (const directory of DIRECTORIES) archive.directory(directory);
  archive.directory('tmp', 0o1777).directory('root', 0o700);
  // The kernel opens /dev/console before init can mount devtmpfs.
  archive.characterDevice('dev/console', 5, 1).characterDevice('dev/null', 1, 3, 0o666);
  archive.file('init', readFileSync(new URL('init.sh', import.meta.url)), 0o755);
  archive.file('bin/busybox', busybox, 0o755);
  for (const name of busyboxApplets(busybox)) {
    if (name !== 'busybox') archive.symlink(`bin/${name}`, 'busybox');
  }
  archive.file('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\n').file('etc/group', 'root:x:0:\n');
  archive.file('etc/hosts', '127.0.0.1 localhost smp86\n');
  const modules = options.modules ?? [];
  for (const module of modules) archive.file(`lib/modules/${module.name}.ko`, module.data);
  if (modules.length > 0) {
    archive.file('lib/modules/order', modules.map((module) => `${module.name}\n`).join(''));
  }
  if (options.rc !== undefined) archive.file('etc/rc', `#!/bin/sh\n${options.rc}\n`, 0o755);
  for (const file of options.files ?? []) archive.file(file.path, file.data, file.mode ?? 0o644);
  const data = archive.finish();
  return options.gzip === true ? gzipSync(data) : data;
}
