/**
 * Fetches Debian packages with apt, without root, into the cache and unpacks what is needed of them.
 * The system's apt lists are used where they know the package; else (no lists, a foreign architecture)
 * lists of our own are kept in the cache, from the system's sources and keys.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { access, mkdir, mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { temporaryName, writeAtomic } from './cache.ts';
import { GuestError } from './errors.ts';
import { lastErrorLine, run } from './process.ts';

export type DebianArch = 'amd64' | 'i386';

/** Where packages come from and go to. */
export interface DebianContext {
  readonly cacheDirectory: string;
  readonly log: (line: string) => void;
}

/** What apt says about a package's file. */
export interface DebianFile {
  readonly name: string;
  /** `NAME_VERSION_ARCH.deb`. */
  readonly fileName: string;
  readonly size: number;
  /** Lower-case hex, or empty when the source gives no SHA-256. */
  readonly sha256: string;
}

const ATTEMPTS = 3;

/** Apt with a choice of lists: the system's, or our own for the given architectures. */
class Apt {
  readonly #context: DebianContext;
  readonly #configFile: string | undefined;

  constructor(context: DebianContext, configFile?: string) {
    this.#context = context;
    this.#configFile = configFile;
  }

  get #environment(): Record<string, string> {
    return this.#configFile === undefined ? {} : { APT_CONFIG: this.#configFile };
  }

  async cache(...args: string[]): Promise<string | undefined> {
    const result = await run('apt-cache', args, { env: this.#environment });
    return result.status === 0 ? result.stdout : undefined;
  }

  async get(args: readonly string[], cwd: string) {
    const options = [
      '-q',
      '-o',
      'Acquire::Retries=2',
      '-o',
      'Acquire::http::Timeout=30',
      '-o',
      'Acquire::https::Timeout=30',
    ];
    // The user "_apt" cannot write into a private cache.
    if (process.getuid?.() === 0) options.push('-o', 'APT::Sandbox::User=root');
    return await run('apt-get', [...options, ...args], { cwd, env: this.#environment });
  }

  /** The package's file, or undefined when these lists do not know it. */
  async find(qualified: string): Promise<DebianFile | undefined> {
    const result = await this.get(['download', '--print-uris', qualified], this.#context.cacheDirectory);
    if (result.status !== 0) return undefined;
    return parsePrintUris(result.stdout, qualified);
  }
}

/** Parses a line of `apt-get download --print-uris`: 'URI' FILE SIZE HASH:VALUE. */
export function parsePrintUris(text: string, qualified: string): DebianFile | undefined {
  const match = /^'[^']+' (\S+_\S+\.deb) (\d+) ?(?:(\w+):(\w*))?/m.exec(text);
  if (match === null) return undefined;
  const [, fileName, size, algorithm, value] = match;
  return {
    name: qualified,
    fileName,
    size: Number(size),
    sha256: algorithm === 'SHA256' ? value.toLowerCase() : '',
  };
}

/** The packages that `apt-cache depends` names as dependencies, in order. */
export function parseDepends(text: string): string[] {
  return [...text.matchAll(/^ {1,2}\|?Depends: ([^<\s]+)/gm)].map((match) => match[1]);
}

function qualifiedName(name: string, arch: DebianArch): string {
  return name.includes(':') ? name : `${name}:${arch}`;
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

/** Lists of our own: configuration and directories under the cache, brought up to date when older than a day. */
async function privateApt(context: DebianContext, arch: DebianArch, refresh: boolean): Promise<Apt> {
  const root = join(context.cacheDirectory, `apt-${arch}`);
  const lists = join(root, 'lists');
  await mkdir(join(lists, 'partial'), { recursive: true });
  await mkdir(join(root, 'cache/archives/partial'), { recursive: true });
  await writeAtomic(join(root, 'status'), '');
  const configFile = join(root, 'apt.conf');
  await writeAtomic(
    configFile,
    [
      `Dir::State "${root}";`,
      `Dir::State::lists "${lists}";`,
      `Dir::State::status "${join(root, 'status')}";`,
      `Dir::Cache "${join(root, 'cache')}";`,
      `APT::Architecture "${arch}";`,
      `APT::Architectures { "${arch}"; };`,
      'Acquire::Languages "none";',
      '',
    ].join('\n'),
  );
  const apt = new Apt(context, configFile);
  const stamp = join(root, 'updated');
  const updated = await stat(stamp).then(
    (info) => info.mtimeMs,
    () => 0,
  );
  if (refresh || Date.now() - updated > 86_400_000) {
    context.log(`fetching Debian package lists (${arch})`);
    const result = await apt.get(['update'], root);
    // Some source may fail while the one that matters is there: whether the package is found decides.
    if (result.status !== 0) context.log(`apt-get update: ${lastErrorLine(result)}`);
    await writeAtomic(stamp, '');
  }
  return apt;
}

/** The apt that knows a package, with the package's file. */
interface Located {
  readonly apt: Apt;
  readonly file: DebianFile;
}

async function locate(context: DebianContext, name: string, arch: DebianArch): Promise<Located> {
  await mkdir(context.cacheDirectory, { recursive: true });
  const qualified = qualifiedName(name, arch);
  const system = new Apt(context);
  const known = await system.find(qualified);
  if (known !== undefined) return { apt: system, file: known };
  for (const refresh of [false, true]) {
    const own = await privateApt(context, arch, refresh);
    const file = await own.find(qualified);
    if (file !== undefined) return { apt: own, file };
  }
  throw new GuestError(
    'ERR_GUEST_PACKAGE',
    `apt knows no package ${qualified}: is this Debian, and is its archive reachable?`,
  );
}

/**
 * The real kernel package behind a metapackage such as linux-image-cloud-amd64; a package that
 * depends on no other linux-image is itself the answer.
 */
export async function resolveKernelPackage(
  context: DebianContext,
  name: string,
  arch: DebianArch,
): Promise<string> {
  const { apt } = await locate(context, name, arch);
  const text = (await apt.cache('depends', qualifiedName(name, arch))) ?? '';
  const target = parseDepends(text).find((dependency) => dependency.startsWith('linux-image-'));
  return target === undefined ? name : target.replace(/:.*$/, '');
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

async function isWhole(path: string, file: DebianFile): Promise<boolean> {
  const info = await stat(path).catch(() => undefined);
  if (info === undefined || info.size !== file.size) return false;
  return file.sha256 === '' || (await sha256Of(path)) === file.sha256;
}

/** Fetches a package's .deb into the cache, unless it is there. Returns its path. Errors: GuestError. */
export async function fetchPackage(context: DebianContext, name: string, arch: DebianArch): Promise<string> {
  const { apt, file } = await locate(context, name, arch);
  const directory = join(context.cacheDirectory, 'debs');
  const path = join(directory, file.fileName);
  if (await isWhole(path, file)) return path;
  await mkdir(directory, { recursive: true });
  let reason = '';
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    if (attempt > 1) {
      context.log(`${file.fileName}: ${reason}; trying again`);
      await sleep(1000 * 3 ** (attempt - 2));
    }
    context.log(`fetching ${file.fileName} (${(file.size / 1e6).toFixed(1)} MB)`);
    const work = await mkdtemp(join(context.cacheDirectory, 'fetch-'));
    try {
      const result = await apt.get(['download', file.name], work);
      const fetched = (await readdir(work)).find((entry) => entry.endsWith('.deb'));
      if (result.status !== 0 || fetched === undefined) reason = lastErrorLine(result);
      else if (!(await isWhole(join(work, fetched), file))) reason = 'wrong size or checksum';
      else {
        await rename(join(work, fetched), path);
        return path;
      }
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }
  throw new GuestError('ERR_GUEST_FETCH', `cannot fetch ${file.fileName}: ${reason}`);
}

/**
 * Unpacks the members of a .deb that match `patterns` (tar wildcards such as `./boot/*`) into a directory
 * of the cache, once. `label` distinguishes different selections of one package.
 */
export async function unpackPackage(
  context: DebianContext,
  deb: string,
  label: string,
  patterns: readonly string[],
): Promise<string> {
  const base = deb.slice(deb.lastIndexOf('/') + 1).replace(/\.deb$/, '');
  const target = join(context.cacheDirectory, 'packages', `${base}-${label}`);
  if (await exists(target)) return target;
  context.log(`unpacking ${base} (${label})`);
  const work = temporaryName(target);
  await mkdir(work, { recursive: true });
  try {
    const archive = join(work, '.tar');
    const tar = await run('sh', ['-c', 'exec dpkg-deb --fsys-tarfile "$1" >"$2"', 'sh', deb, archive]);
    if (tar.status === 127) throw new GuestError('ERR_GUEST_TOOL', 'dpkg-deb is not installed');
    if (tar.status !== 0) throw new GuestError('ERR_GUEST_FILE', `${base}.deb: ${lastErrorLine(tar)}`);
    const result = await run('tar', [
      '-xf',
      archive,
      '-C',
      work,
      '--no-same-owner',
      '--wildcards',
      ...patterns,
    ]);
    if (result.status !== 0) throw new GuestError('ERR_GUEST_FILE', `${base}.deb: ${lastErrorLine(result)}`);
    await rm(archive);
    await rename(work, target);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return target;
}
