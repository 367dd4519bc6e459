import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { defaultCacheDirectory, withCacheLock, writeAtomic } from '../../src/cli/guest/cache.ts';
import { CpioWriter } from '../../src/cli/guest/cpio.ts';
import { fetchPackage, parseDepends, parsePrintUris } from '../../src/cli/guest/debian.ts';
import { buildInitramfs, busyboxApplets, runArgument } from '../../src/cli/guest/initramfs.ts';
import { collectModules, moduleInfo } from '../../src/cli/guest/modules.ts';
import { run } from '../../src/cli/guest/process.ts';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'smp86-guest-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

interface CpioFile {
  readonly mode: number;
  readonly data: Buffer;
  readonly rdev: [number, number];
  readonly inode: number;
}

/** Reads a newc archive. */
function unpack(archive: Buffer): Map<string, CpioFile> {
  const files = new Map<string, CpioFile>();
  let at = 0;
  for (;;) {
    expect(at % 4).toBe(0);
    expect(archive.toString('latin1', at, at + 6)).toBe('070701');
    const field = (i: number): number =>
      parseInt(archive.toString('latin1', at + 6 + i * 8, at + 14 + i * 8), 16);
    const nameSize = field(11);
    const name = archive.toString('utf8', at + 110, at + 110 + nameSize - 1);
    const dataAt = (at + 110 + nameSize + 3) & ~3;
    if (name === 'TRAILER!!!') return files;
    const data = archive.subarray(dataAt, dataAt + field(6));
    files.set(name, { mode: field(1), data, rdev: [field(9), field(10)], inode: field(0) });
    at = (dataAt + data.length + 3) & ~3;
  }
}

/** A file that looks like busybox to the applet search. */
function fakeBusybox(...applets: string[]): Buffer {
  return Buffer.from(`\x7fELF....\0${applets.map((name) => `${name}\0`).join('')}\0rest\0`, 'latin1');
}

test('an archive holds files, links, devices and the directories above them', () => {
  const archive = new CpioWriter()
    .file('/a/b/file', 'hello', 0o755)
    .symlink('link', 'a/b/file')
    .characterDevice('dev/console', 5, 1)
    .finish();
  const files = unpack(archive);
  expect([...files.keys()]).toEqual(['a', 'a/b', 'a/b/file', 'link', 'dev', 'dev/console']);
  expect(files.get('a/b/file')).toMatchObject({ mode: 0o100755 });
  expect(files.get('a/b/file')!.data.toString()).toBe('hello');
  expect(files.get('a')!.mode).toBe(0o040755);
  expect(files.get('link')!.data.toString()).toBe('a/b/file');
  expect(files.get('dev/console')).toMatchObject({ mode: 0o020600, rdev: [5, 1] });
  expect(new Set([...files.values()].map((file) => file.inode)).size).toBe(files.size);
});

test('a later file replaces an earlier one, equal content gives equal bytes, and .. is refused', () => {
  const make = () => new CpioWriter().file('x', '1').file('x', '2').finish();
  expect(unpack(make()).get('x')!.data.toString()).toBe('2');
  expect(make().equals(make())).toBe(true);
  expect(() => new CpioWriter().file('../x', '')).toThrow(RangeError);
});

test.runIf(spawnSync('cpio', ['--version']).status === 0)('GNU cpio reads the archive', () => {
  const archive = new CpioWriter().file('a/one', 'x'.repeat(5)).symlink('two', 'a/one').finish();
  const result = spawnSync('cpio', ['-itv', '--quiet'], { input: archive, encoding: 'utf8' });
  expect(result.status).toBe(0);
  expect(result.stdout).toMatch(/^-rw-r--r--.* a\/one$/m);
  expect(result.stdout).toMatch(/ two -> a\/one$/m);
});

test("the applets come from busybox's own table of names", () => {
  expect(busyboxApplets(fakeBusybox('[', '[[', 'ash', 'cat', 'ls'))).toEqual(['[', '[[', 'ash', 'cat', 'ls']);
  expect(busyboxApplets(Buffer.from('\x7fELF nothing'))).toEqual([]);
});

test('an initramfs has init, busybox with its applets, and what was added', () => {
  const archive = buildInitramfs({
    busybox: fakeBusybox('[', '[[', 'cat', 'sh'),
    files: [{ path: '/opt/test', data: 'T', mode: 0o700 }],
    modules: [{ name: 'virtio', data: Buffer.from('M') }],
    rc: 'echo hello',
  });
  const files = unpack(archive);
  expect(files.get('init')!.mode).toBe(0o100755);
  expect(files.get('bin/sh')!.data.toString()).toBe('busybox');
  expect(files.get('opt/test')!.mode).toBe(0o100700);
  expect(files.get('lib/modules/order')!.data.toString()).toBe('virtio\n');
  expect(files.get('etc/rc')!.data.toString()).toBe('#!/bin/sh\necho hello\n');
  expect(files.get('dev/console')!.rdev).toEqual([5, 1]);
  const compressed = buildInitramfs({ busybox: fakeBusybox('[', '[['), gzip: true });
  expect(unpack(gunzipSync(compressed)).has('init')).toBe(true);
});

test('a busybox that is no program is refused', () => {
  expect(() => buildInitramfs({ busybox: Buffer.from('html') })).toThrow(/not an ELF program/);
});

test('a script travels on the kernel command line', () => {
  const argument = runArgument('echo "a b"; exit 3');
  expect(argument).not.toContain(' ');
  expect(Buffer.from(argument.slice('smp86.run='.length), 'base64').toString()).toBe('echo "a b"; exit 3');
});

test('modules come after what they depend on, whatever the spelling', async () => {
  const module = (depends: string) => Buffer.from(`\x7fELF\0license=GPL\0depends=${depends}\0name=x\0`);
  mkdirSync(join(directory, 'drivers/net'), { recursive: true });
  writeFileSync(join(directory, 'drivers/virtio-ring.ko'), module(''));
  writeFileSync(join(directory, 'drivers/virtio.ko'), module('virtio_ring'));
  writeFileSync(join(directory, 'drivers/net/virtio_net.ko'), module('virtio,built-in,virtio_ring'));
  const names = (await collectModules(directory, ['virtio-net', 'virtio'])).map(({ name }) => name);
  expect(names).toEqual(['virtio_ring', 'virtio', 'virtio_net']);
  await expect(collectModules(directory, ['e1000'])).rejects.toMatchObject({ code: 'ERR_GUEST_FILE' });
  expect(moduleInfo(module('a'), 'license')).toBe('GPL');
  expect(moduleInfo(module('a'), 'none')).toBeUndefined();
});

test("apt's answers are understood", () => {
  const uris = "'http://x/b_1%3a2.deb' b_1%3a2_amd64.deb 928188 SHA256:3D3F\n";
  expect(parsePrintUris(uris, 'b:amd64')).toEqual({
    name: 'b:amd64',
    fileName: 'b_1%3a2_amd64.deb',
    size: 928188,
    sha256: '3d3f',
  });
  expect(parsePrintUris("'u' f_1_i386.deb 5 MD5Sum:ab\n", 'f')).toMatchObject({ size: 5, sha256: '' });
  expect(parsePrintUris('Reading package lists...\n', 'x')).toBeUndefined();
  const depends =
    'linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n |Depends: a\n  Depends: <virtual>\n';
  expect(parseDepends(depends)).toEqual(['linux-image-6.1.0-56-amd64', 'a']);
});

/** A directory with fake apt programs, for PATH. */
function fakeApt(scripts: Record<string, string>): string {
  const bin = join(directory, 'bin');
  mkdirSync(bin);
  for (const [name, text] of Object.entries(scripts))
    writeFileSync(join(bin, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  return bin;
}

async function withPath<T>(path: string, body: () => Promise<T>): Promise<T> {
  const before = process.env.PATH;
  process.env.PATH = path;
  try {
    return await body();
  } finally {
    process.env.PATH = before;
  }
}

test('a download that comes out wrong is tried again, and the cache gets only the right one', async () => {
  const count = join(directory, 'count');
  const bin = fakeApt({
    'apt-get': `
case "$*" in
*--print-uris*) echo "'http://x/p.deb' p_1_amd64.deb 5 SHA256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" ;;
*) echo x >>${count}; if [ $(wc -l <${count}) -lt 2 ]; then printf brokn >p.deb; else printf hello >p.deb; fi ;;
esac`,
  });
  const lines: string[] = [];
  const context = { cacheDirectory: join(directory, 'cache'), log: (line: string) => lines.push(line) };
  const fetch = () => withPath(`${bin}:${process.env.PATH}`, () => fetchPackage(context, 'p', 'amd64'));
  const path = await fetch();
  expect(path).toBe(join(directory, 'cache/debs/p_1_amd64.deb'));
  expect(readFileSync(path, 'utf8')).toBe('hello');
  expect(lines[1]).toMatch(/wrong size or checksum; trying again/);
  expect(readdirSync(join(directory, 'cache'))).toEqual(['debs']);
  await fetch();
  expect(readFileSync(count, 'utf8')).toBe('x\nx\n');
});

test('an unknown package and a missing apt have reasons of their own', async () => {
  const context = { cacheDirectory: join(directory, 'cache'), log: () => {} };
  const bin = fakeApt({ 'apt-get': 'echo "E: Unable to locate package" >&2; exit 100' });
  const unknown = withPath(`${bin}:${process.env.PATH}`, () => fetchPackage(context, 'nothing', 'amd64'));
  await expect(unknown).rejects.toMatchObject({ code: 'ERR_GUEST_PACKAGE' });
  const missing = withPath(join(directory, 'empty'), () => fetchPackage(context, 'p', 'amd64'));
  await expect(missing).rejects.toMatchObject({
    code: 'ERR_GUEST_TOOL',
    message: 'apt-get is not installed',
  });
});

test('the cache is where XDG says', () => {
  const before = process.env.XDG_CACHE_HOME;
  process.env.XDG_CACHE_HOME = '/somewhere';
  expect(defaultCacheDirectory()).toBe('/somewhere/smp86');
  if (before === undefined) delete process.env.XDG_CACHE_HOME;
  else process.env.XDG_CACHE_HOME = before;
});

test('a write leaves the file whole and nothing beside it', async () => {
  await writeAtomic(join(directory, 'sub/file'), 'x');
  expect(readdirSync(join(directory, 'sub'))).toEqual(['file']);
});

test('the cache lock lets one in at a time and goes when the body fails', async () => {
  let inside = 0;
  let most = 0;
  const body = async () => {
    most = Math.max(most, ++inside);
    await new Promise((resolve) => setTimeout(resolve, 20));
    inside--;
  };
  await Promise.all([1, 2, 3].map(() => withCacheLock(directory, body)));
  expect(most).toBe(1);
  const failing = withCacheLock(directory, () => Promise.reject(new Error('no')));
  await expect(failing).rejects.toThrow('no');
  expect(readdirSync(directory)).toEqual([]);
});

test('the lock of a process that is gone is taken over; a living one is waited for, not for ever', async () => {
  const gone = spawnSync(process.execPath, ['-e', '']).pid;
  writeFileSync(join(directory, 'lock'), `${gone} x\n`);
  expect(await withCacheLock(directory, async () => 'in')).toBe('in');
  writeFileSync(join(directory, 'lock'), `${process.ppid} x\n`);
  const waits: number[] = [];
  const locked = withCacheLock(directory, async () => 'in', {
    timeoutMs: 150,
    onWait: (pid) => waits.push(pid),
  });
  await expect(locked).rejects.toMatchObject({ code: 'ERR_GUEST_LOCKED' });
  expect(waits).toEqual([process.ppid]);
  expect(existsSync(join(directory, 'lock'))).toBe(true);
});

test('a program is run with its output collected, and a missing one is a typed error', async () => {
  expect(await run('sh', ['-c', 'echo a; echo b >&2; exit 3'])).toEqual({
    status: 3,
    stdout: 'a\n',
    stderr: 'b\n',
  });
  await expect(run('no-such-program', [])).rejects.toMatchObject({ code: 'ERR_GUEST_TOOL' });
});
