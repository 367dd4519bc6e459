/**
 * A Debian root file system in a disk image: packages unpacked into an ext4 file system, without root and without
 * running any of them. A read-only base in the cache, and a fresh qcow2 overlay for each guest.
 */
import { createHash } from 'node:crypto';
import { access, mkdir, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { defaultCacheDirectory, temporaryName, withCacheLock } from '../../src/cli/guest/cache.ts';
import { GuestError } from '../../src/cli/guest/errors.ts';
import { lastErrorLine, run } from '../../src/cli/guest/process.ts';

/** What the root file system has, with all that these depend on. */
const PACKAGES = [
  'base-files',
  'base-passwd',
  'bash',
  'coreutils',
  'dash',
  'diffutils',
  'e2fsprogs',
  'findutils',
  'grep',
  'gzip',
  'hostname',
  'libc-bin',
  'mount',
  'procps',
  'sed',
  'tar',
  'util-linux',
];
const SIZE = '512M';

/** First process: what an init system does that such a guest needs, then a shell, or the script that was left. */
const INIT = `#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C
export PS1='smp86:\\w# '
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -o remount,rw / || echo "the root file system cannot be written"
hostname debian
. /etc/os-release
echo "$PRETTY_NAME on $(findmnt -no SOURCE,FSTYPE /), $(nproc) CPUs"
cd /root
# the console's terminal gets a session of its own
while :; do setsid -c bash --norc --noprofile -i </dev/console >/dev/console 2>&1; done
`;

/** Unmounts and powers off: what `poweroff` of an init system does. */
const POWEROFF = `#!/bin/bash
sync
mount -o remount,ro / || exit 1
echo o > /proc/sysrq-trigger
sleep 60
`;

async function must(command: string, args: readonly string[]): Promise<string> {
  const result = await run(command, args);
  if (result.status !== 0) throw new GuestError('ERR_GUEST_FILE', `${command}: ${result.stderr.trim()}`);
  return result.stdout;
}

/** The packages named and the libraries that they need: enough to run programs, not to configure packages. */
async function withLibraries(names: readonly string[]): Promise<string[]> {
  const options = ['recommends', 'suggests', 'conflicts', 'breaks', 'replaces', 'enhances'];
  const text = await must('apt-cache', [
    'depends',
    '--recurse',
    ...options.map((option) => `--no-${option}`),
    ...names,
  ]);
  const needs = new Map<string, string[]>();
  let current: string[] = [];
  for (const line of text.split('\n')) {
    const dependency = /^ [ |](?:Pre)?Depends: (\S+)$/.exec(line);
    if (dependency !== null) current.push(dependency[1]);
    else if (/^\S+$/.test(line)) needs.set(line, (current = []));
  }
  const result = new Set(names);
  for (const name of result) {
    for (const needed of needs.get(name) ?? []) {
      if (/^(lib(?!.*-perl$)|zlib1g$|gcc-\d+-base$)/.test(needed)) result.add(needed);
    }
  }
  return [...result];
}

/** Path of the raw image with the file system, made once. Needs apt, dpkg-deb, mke2fs. *Errors:* GuestError. */
export async function debianRoot(log: (line: string) => void = () => {}): Promise<string> {
  const cacheDirectory = defaultCacheDirectory();
  const digest = createHash('sha256')
    .update(JSON.stringify([PACKAGES, INIT, POWEROFF, SIZE]))
    .digest('hex');
  const target = join(cacheDirectory, 'disks', `debian-root-${digest.slice(0, 16)}.raw`);
  if (await exists(target)) return target;
  return await withCacheLock(cacheDirectory, async () => {
    if (await exists(target)) return target;
    const work = temporaryName(target);
    const root = `${work}.root`;
    const debs = `${work}.debs`;
    await mkdir(root, { recursive: true });
    try {
      await mkdir(debs, { recursive: true });
      const names = await withLibraries(PACKAGES);
      log(`fetching ${names.length} packages`);
      // the user "_apt" cannot write into a private cache
      const result = await run('apt-get', ['-o', 'APT::Sandbox::User=root', 'download', ...names], {
        cwd: debs,
      });
      if (result.status !== 0) throw new GuestError('ERR_GUEST_FETCH', lastErrorLine(result));
      for (const deb of await readdir(debs)) await must('dpkg-deb', ['-x', join(debs, deb), root]);
      for (const directory of ['proc', 'sys', 'dev', 'run', 'tmp', 'root', 'mnt']) {
        await mkdir(join(root, directory), { recursive: true });
      }
      await mkdir(join(root, 'sbin'), { recursive: true });
      await rm(join(root, 'sbin/init'), { force: true });
      await writeFile(join(root, 'sbin/init'), INIT, { mode: 0o755 });
      await writeFile(join(root, 'sbin/poweroff'), POWEROFF, { mode: 0o755 });
      // the package's link is made by its script
      await rm(join(root, 'bin/sh'), { force: true });
      await symlink('dash', join(root, 'bin/sh'));
      await must('mke2fs', ['-q', '-t', 'ext4', '-L', 'root', '-d', root, work, SIZE]);
      await rename(work, target);
    } finally {
      await rm(root, { recursive: true, force: true });
      await rm(debs, { recursive: true, force: true });
      await rm(work, { force: true });
    }
    return target;
  });
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
