/** Guests by name: fetched, built and cached, ready for `-kernel` and `-initrd`. */
import { createHash } from 'node:crypto';
import { access, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { defaultCacheDirectory, withCacheLock, writeAtomic } from './cache.ts';
import {
  type DebianArch,
  type DebianContext,
  fetchPackage,
  resolveKernelPackage,
  unpackPackage,
} from './debian.ts';
import { GuestError } from './errors.ts';
import { buildInitramfs, DEFAULT_APPEND, type ExtraFile } from './initramfs.ts';
import { collectModules } from './modules.ts';

/** Debian kernels by the name used on the command line. */
export const DEBIAN_GUESTS = {
  debian: { kernel: 'linux-image-cloud-amd64', arch: 'amd64' },
  'debian-generic': { kernel: 'linux-image-amd64', arch: 'amd64' },
  'debian-i386': { kernel: 'linux-image-686-pae', arch: 'i386' },
  'debian-i386-nopae': { kernel: 'linux-image-686', arch: 'i386' },
} as const satisfies Record<string, { kernel: string; arch: DebianArch }>;
export type DebianGuest = keyof typeof DEBIAN_GUESTS;

export interface PreparedGuest {
  readonly kernel: string;
  readonly initrd: string;
  readonly append: string;
  /** `linux-image-…` package that the kernel came from. */
  readonly package: string;
}

export interface PrepareOptions {
  readonly cacheDirectory?: string;
  /** Ask apt again, although a prepared guest is in the cache. */
  readonly refresh?: boolean;
  readonly modules?: readonly string[];
  readonly files?: readonly ExtraFile[];
  readonly rc?: string;
  /** Progress, one line at a time; default: standard error. */
  readonly log?: (line: string) => void;
}

/** What was fetched for a guest: paths in the cache. */
interface Fetched {
  readonly package: string;
  readonly kernel: string;
  readonly kernelDeb: string;
  readonly busybox: string;
}

async function allExist(paths: readonly string[]): Promise<boolean> {
  const results = await Promise.allSettled(paths.map((path) => access(path)));
  return results.every((result) => result.status === 'fulfilled');
}

async function findFile(directory: string, matches: RegExp): Promise<string> {
  const entries = await readdir(directory, { recursive: true });
  const found = entries.filter((entry) => matches.test(entry)).sort();
  if (found.length === 0) throw new GuestError('ERR_GUEST_FILE', `nothing like ${matches} in ${directory}`);
  return join(directory, found[0]);
}

async function fetchGuest(context: DebianContext, guest: DebianGuest, refresh: boolean): Promise<Fetched> {
  const record = join(context.cacheDirectory, 'guests', `${guest}.json`);
  if (!refresh) {
    try {
      const known = JSON.parse(await readFile(record, 'utf8')) as Fetched;
      if (await allExist([known.kernel, known.busybox, known.kernelDeb])) return known;
    } catch {
      // Nothing prepared yet, or not readable: prepare it.
    }
  }
  const { kernel: kernelName, arch } = DEBIAN_GUESTS[guest];
  const kernelPackage = await resolveKernelPackage(context, kernelName, arch);
  const kernelDeb = await fetchPackage(context, kernelPackage, arch);
  const kernelFiles = await unpackPackage(context, kernelDeb, 'boot', ['./boot/*']);
  const busyboxDeb = await fetchPackage(context, 'busybox-static', arch);
  const busyboxFiles = await unpackPackage(context, busyboxDeb, 'bin', ['*bin/busybox']);
  const fetched: Fetched = {
    package: kernelPackage,
    kernel: await findFile(kernelFiles, /(^|\/)vmlinuz-/),
    kernelDeb,
    busybox: await findFile(busyboxFiles, /(^|\/)busybox$/),
  };
  await writeAtomic(record, `${JSON.stringify(fetched, null, 2)}\n`);
  return fetched;
}

/**
 * Fetches (once) a Debian kernel and busybox and builds the initramfs. Equal content has an equal
 * path, so different extra files do not disturb each other. Errors: GuestError.
 */
export async function prepareDebian(
  guest: DebianGuest,
  options: PrepareOptions = {},
): Promise<PreparedGuest> {
  const cacheDirectory = options.cacheDirectory ?? defaultCacheDirectory();
  const log = options.log ?? ((line: string) => process.stderr.write(`smp86: ${line}\n`));
  const context: DebianContext = { cacheDirectory, log };
  return await withCacheLock(
    cacheDirectory,
    async () => {
      const fetched = await fetchGuest(context, guest, options.refresh ?? false);
      const names = options.modules ?? [];
      const modules =
        names.length === 0
          ? []
          : await collectModules(
              await unpackPackage(context, fetched.kernelDeb, 'modules', ['*lib/modules/*']),
              names,
            );
      const archive = buildInitramfs({
        busybox: await readFile(fetched.busybox),
        modules,
        files: options.files,
        rc: options.rc,
      });
      const digest = createHash('sha256').update(archive).digest('hex').slice(0, 16);
      const initrd = join(cacheDirectory, 'initramfs', `${guest}-${digest}.cpio`);
      if (!(await allExist([initrd]))) {
        log(`building the initramfs (${(archive.length / 1e6).toFixed(1)} MB)`);
        await writeAtomic(initrd, archive);
      }
      return { kernel: fetched.kernel, initrd, append: DEFAULT_APPEND, package: fetched.package };
    },
    { onWait: (pid) => log(`waiting for process ${pid}, which prepares a guest`) },
  );
}
