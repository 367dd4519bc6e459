/**
 * A Debian root file system on a disk: it boots, what is written survives power off, and neither the file system nor the
 * image has an error afterwards. From virtio-blk with an iothread, and from IDE.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { debianRoot } from '../tools/debian-disk.ts';
import { complaints, LinuxGuest } from '../tools/linux-guest.ts';

const directory = mkdtempSync(join(tmpdir(), 'smp86-disk-'));
let base = '';

beforeAll(async () => {
  base = await debianRoot();
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function overlay(name: string): string {
  const path = join(directory, name);
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', base, path]);
  return path;
}

/** The image and the file system in it, as the tools of others see them. */
function expectClean(image: string): void {
  expect(spawnSync('qemu-img', ['check', image], { encoding: 'utf8' })).toMatchObject({ status: 0 });
  const raw = `${image}.raw`;
  execFileSync('qemu-img', ['convert', '-O', 'raw', image, raw]);
  expect(spawnSync('e2fsck', ['-fn', raw], { encoding: 'utf8' })).toMatchObject({ status: 0 });
  rmSync(raw);
}

const VIRTIO = {
  modules: ['virtio_pci', 'virtio_blk'],
  disk: '/dev/vda',
  options: (file: string) => [
    ...['-object', 'iothread,id=io0', '-drive', `file=${file},format=qcow2,if=none,id=d0`],
    ...['-device', 'virtio-blk-pci,drive=d0,iothread=io0'],
  ],
};
const IDE = {
  modules: ['ata_piix', 'sd_mod'],
  disk: '/dev/sda',
  options: (file: string) => ['-hda', file],
};

describe.each([
  ['virtio-blk on an iothread', VIRTIO],
  ['IDE', IDE],
])('%s', (name, { modules, disk, options }) => {
  test('a Debian root file system: files survive power off', async () => {
    const image = overlay(`${name.split(' ')[0]}.qcow2`);
    const boot = () => LinuxGuest.boot({ modules, append: `root=${disk}`, extra: options(image) });
    let sum: string;
    {
      await using guest = await boot();
      expect(await guest.run('findmnt -no SOURCE /')).toBe(disk);
      expect(await guest.run('nproc')).toBe('2');
      await guest.run(
        'head -c 20000000 /dev/urandom > /root/big && mkdir /root/many && cp -a /etc /root/many/',
      );
      await guest.run('cd /root/many && for i in $(seq 200); do echo $i > f$i; done; rm f1*; sync; cd');
      sum = await guest.run('md5sum /root/big');
      guest.write('poweroff\n');
      expect(await guest.exit()).toEqual({ reason: 'shutdown', status: 0 });
    }
    expectClean(image);
    {
      await using guest = await boot();
      expect(await guest.run('md5sum /root/big')).toBe(sum);
      expect(await guest.run('ls /root/many | wc -l')).toBe(String(200 - 111 + 1));
      expect(complaints(await guest.run('dmesg'))).toEqual([]);
      guest.write('poweroff\n');
      expect(await guest.exit()).toEqual({ reason: 'shutdown', status: 0 });
    }
    expectClean(image);
  });
});

test('a guest is stopped, goes on, and is reset while it writes; then it is ended', async () => {
  const image = overlay('stop.qcow2');
  await using guest = await LinuxGuest.boot({
    modules: VIRTIO.modules,
    append: `root=${VIRTIO.disk}`,
    extra: VIRTIO.options(image),
  });
  await guest.run('(while :; do cp -a /usr/bin /root/copy; sync; rm -rf /root/copy; done) >/dev/null 2>&1 &');
  for (let i = 0; i < 5; i++) {
    await guest.machine!.pause();
    // everything that was written is in the image now
    expect(spawnSync('qemu-img', ['check', '-U', image], { encoding: 'utf8' })).toMatchObject({ status: 0 });
    await guest.machine!.resume();
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  const from = guest.output.length;
  await guest.machine!.reset();
  await guest.prompt(from);
  await guest.run(
    '(while :; do cp -a /usr/bin /root/copy2; sync; rm -rf /root/copy2; done) >/dev/null 2>&1 &',
  );
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await guest.close();
  // as after a power failure: the image is whole, and the file system's journal mends the rest
  expect(spawnSync('qemu-img', ['check', image], { encoding: 'utf8' })).toMatchObject({ status: 0 });
  const raw = `${image}.raw`;
  execFileSync('qemu-img', ['convert', '-O', 'raw', image, raw]);
  expect(spawnSync('e2fsck', ['-p', raw], { encoding: 'utf8' }).status).toBeLessThanOrEqual(1);
  expect(spawnSync('e2fsck', ['-fn', raw], { encoding: 'utf8' })).toMatchObject({ status: 0 });
  rmSync(raw);
});

/** A file system of `mebibytes` on the host, with a third of it taken; undefined where this user may not mount one. */
function smallFileSystem(name: string, mebibytes: number) {
  const path = join(directory, name);
  mkdirSync(path);
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'none', path]).status !== 0)
    return undefined;
  const ballast = join(path, 'ballast');
  writeFileSync(ballast, Buffer.alloc((mebibytes << 20) / 3, 1));
  return {
    path,
    free: () => rmSync(ballast),
    [Symbol.dispose]: () => void spawnSync('umount', [path]),
  };
}

test.each([
  ['virtio-blk', VIRTIO],
  ['IDE', IDE],
])(
  'the host has no space left: the machine stops, and goes on when there is some (%s)',
  async (name, kind) => {
    using small = smallFileSystem(name, 24);
    if (small === undefined) {
      console.warn('mount: not permitted; a full disk under a guest is not tested');
      return;
    }
    const image = join(small.path, 'disk.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, '64M']);
    {
      await using guest = await LinuxGuest.boot({ modules: kind.modules, extra: kind.options(image) });
      const machine = guest.machine!;
      await guest.run('dd if=/dev/urandom of=/tmp/data bs=1M count=20 2>/dev/null');
      const sum = await guest.run('md5sum < /tmp/data');
      const stopped = once(machine, 'ioError');
      const written = guest.run(
        `dd if=/tmp/data of=${kind.disk} bs=256k conv=fsync 2>/dev/null && echo written`,
      );
      await stopped;
      expect(machine.state).toBe('paused');
      // what it was told to do again fails again
      const again = once(machine, 'ioError');
      await machine.resume();
      await again;
      small.free();
      await machine.resume();
      expect(await written).toMatch(/written$/);
      const back = `dd if=${kind.disk} bs=256k count=80 iflag=direct 2>/dev/null | md5sum`;
      expect(await guest.run(back)).toBe(sum);
      expect(await guest.run('dmesg | grep -c "I/O error" || true')).toBe('0');
      expect(await guest.run('dmesg | grep -c "I/O error" || true')).toBe('0');
      guest.write('poweroff -f\n');
      expect(await guest.exit()).toEqual({ reason: 'shutdown', status: 0 });
    }
    expect(spawnSync('qemu-img', ['check', image], { encoding: 'utf8' })).toMatchObject({ status: 0 });
  },
);

test.each([
  ['all vCPUs in one thread', 'single', []],
  ['icount', 'single', ['-icount', 'shift=4']],
] as const)('disks with %s: what is written is read back', async (_, thread, extra) => {
  const image = join(directory, `${extra.length}.qcow2`);
  const ide = join(directory, `${extra.length}-ide.qcow2`);
  for (const path of [image, ide]) execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '64M']);
  {
    await using guest = await LinuxGuest.boot({
      modules: [...VIRTIO.modules, ...IDE.modules],
      thread,
      // one of them past the host's cache
      extra: [...VIRTIO.options(`${image},cache=none`), ...IDE.options(ide), ...extra],
    });
    await guest.run('dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null');
    const sum = await guest.run('md5sum < /tmp/data');
    for (const { disk } of [VIRTIO, IDE]) {
      await guest.run(`dd if=/tmp/data of=${disk} bs=64k conv=fsync 2>/dev/null`);
      const back = `dd if=${disk} bs=64k count=128 iflag=direct 2>/dev/null | md5sum`;
      expect(await guest.run(back)).toBe(sum);
    }
    expect(await guest.run('dmesg | grep -c "I/O error" || true')).toBe('0');
    guest.write('poweroff -f\n');
    expect(await guest.exit()).toEqual({ reason: 'shutdown', status: 0 });
  }
  for (const path of [image, ide]) {
    expect(spawnSync('qemu-img', ['check', path], { encoding: 'utf8' })).toMatchObject({ status: 0 });
  }
});
