/** A machine's disks as the library's user meets them: mistakes, locks, what is left at the end. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { Machine } from '../../src/machine/machine.ts';
import { setUpMachine } from '../../src/machine/machine-setup.ts';
import { HLT_FOREVER, kernel } from './guests.ts';

const directory = mkdtempSync(join(tmpdir(), 'smp86-disks-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const hasTools = spawnSync('qemu-img', ['--version']).status === 0;

const raw = join(directory, 'disk.raw');
writeFileSync(raw, new Uint8Array(1 << 20));
const machine = { kernel: kernel(HLT_FOREVER), memory: '32M' };

describe('mistakes are found before anything starts', () => {
  test.each([
    [[`file=${directory}/none,if=virtio`], /Could not open '.*none': No such file or directory$/],
    [[`file=${raw},format=qcow2,if=virtio`], /Image is not in qcow2 format$/],
    [[`file=${directory},if=virtio`], /requires '.*' to be a regular file$/],
    [[`file=${raw},format=raw,if=virtio,frob=1`], /Block format 'raw' does not support the option 'frob'$/],
    [[`file=${raw},format=raw,readonly=on`], /Block node is read-only$/],
    [
      [`file=${raw},format=raw,if=virtio`, `file=${raw},format=raw`],
      /Failed to get "write" lock: Is another process using the image/,
    ],
  ])('%j', async (drives, message) => {
    const error: unknown = await setUpMachine({ ...machine, drives }).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'ERR_OPTION_VALUE', option: 'drive' });
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).not.toContain('\n');
  });

  test('an image without a format, that seems raw, is warned of', async () => {
    const { warnings, closeLog } = await setUpMachine({ ...machine, drives: [`file=${raw},if=virtio`] });
    closeLog();
    expect(warnings.join()).toMatch(/Image format was not specified .* probing guessed raw/);
  });
});

test.skipIf(!hasTools)('a running machine locks its images, and lets them go at its end', async () => {
  const image = join(directory, 'disk.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, '16M']);
  const write = () => spawnSync('qemu-io', ['-c', 'write -P 7 0 64k', image], { encoding: 'utf8' });
  {
    await using running = await Machine.create({
      ...machine,
      objects: ['iothread,id=io0'],
      drives: [`file=${image},if=none,id=d0`, `file=${raw},format=raw,index=1`, 'if=ide,media=cdrom,index=2'],
      devices: ['virtio-blk-pci,drive=d0,iothread=io0'],
    });
    expect(write().status).toBe(1);
    await running.pause();
    await running.resume();
    await running.reset();
    expect(running.state).toBe('running');
  }
  expect(write().status).toBe(0);
  expect(spawnSync('qemu-img', ['check', image]).status).toBe(0);
});

describe('throttle groups', () => {
  const filter = {
    objects: ['iothread,id=io0', 'throttle-group,id=tg,limits.iops-total=10'],
    blockdevs: [
      `driver=raw,node-name=image,file.driver=file,file.filename=${raw}`,
      'driver=throttle,node-name=slow,throttle-group=tg,file=image',
    ],
    devices: ['virtio-blk-pci,drive=slow,iothread=io0'],
  };

  test('are shared by a filter node and a drive of another iothread', async () => {
    const other = join(directory, 'other.raw');
    writeFileSync(other, new Uint8Array(1 << 20));
    await using running = await Machine.create({
      ...machine,
      ...filter,
      drives: [`file=${other},format=raw,if=virtio,throttling.group=tg`],
    });
    await running.pause();
    await running.resume();
    expect(running.state).toBe('running');
  });

  test.each([
    [{ ...filter, objects: ['iothread,id=io0'] }, "Throttle group 'tg' does not exist"],
    [
      { ...filter, objects: ['iothread,id=io0', 'throttle-group,id=tg,limits.iops-size=5'] },
      'iops size requires an iops value to be set',
    ],
  ])('%#: a mistake is found before anything starts', async (options, message) => {
    await expect(setUpMachine({ ...machine, ...options })).rejects.toThrow(message);
  });
});

test.skipIf(!hasTools)('a snapshot drive leaves its image alone', async () => {
  const image = join(directory, 'base.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, '16M']);
  await using running = await Machine.create({
    ...machine,
    drives: [`file=${image},if=virtio,snapshot=on`],
    paused: true,
  });
  // the image is only read: another one may, too
  await using other = await Machine.create({
    ...machine,
    drives: [`file=${image},if=virtio,snapshot=on`],
    paused: true,
  });
  expect([running.state, other.state]).toEqual(['paused', 'paused']);
});

describe('iothreads of a running machine', () => {
  test.skipIf(!hasTools)(
    'are made, moved to, refused to end while a drive lives there, and ended',
    async () => {
      const image = join(directory, 'moved.qcow2');
      execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, '16M']);
      const locked = (): boolean => spawnSync('qemu-io', ['-c', 'write -P 7 0 64k', image]).status === 1;
      {
        await using running = await Machine.create({
          ...machine,
          objects: ['iothread,id=io0'],
          drives: [
            `file=${image},if=none,id=d0`,
            `file=${raw},format=raw,if=virtio,id=d1,snapshot=on`,
            `file=${raw},format=raw,if=none,id=d2,readonly=on,throttling.iops-total=5,throttling.group=g`,
            `file=${raw},format=raw,if=none,id=d3,readonly=on,throttling.group=g`,
          ],
          devices: [
            'virtio-blk-pci,drive=d0,iothread=io0',
            'virtio-blk-pci,drive=d2,iothread=io0',
            'virtio-blk-pci,drive=d3,iothread=io0',
          ],
        });
        await running.objectAdd('iothread,id=io1,poll-max-ns=0');
        expect(running.iothreads.sort()).toEqual(['io0', 'io1']);
        await running.setIothread('d0', 'io1');
        expect(locked()).toBe(true);
        await expect(running.objectDel('io1')).rejects.toMatchObject({ code: 'ERR_MACHINE_BUSY' });
        await running.pause();
        await running.setIothread('d0', null);
        await running.objectDel('io1');
        await running.resume();
        expect(running.iothreads).toEqual(['io0']);
        await running.setIothread('d0', 'io0');
        await running.setIothread('d0', 'io0');
        expect(locked()).toBe(true);
        await expect(running.setIothread('d1', 'io0')).rejects.toThrow(/snapshot=on/);
        // its group's other drive stays
        await running.setIothread('d2', null);
        await running.setIothread('d2', 'io0');
        await expect(running.objectAdd('throttle-group,id=t')).rejects.toThrow(
          /only with the machine's creation/,
        );
        await expect(running.setIothread('d9', 'io0')).rejects.toThrow(/no drive 'd9'/);
        await expect(running.setIothread('d0', 'io9')).rejects.toThrow(/no object 'io9'/);
        await expect(running.objectDel('io9')).rejects.toThrow(/no object 'io9'/);
        await expect(running.objectAdd('iothread,id=io0')).rejects.toMatchObject({
          code: 'ERR_MACHINE_OBJECT',
        });
        await expect(running.objectAdd('rng-random,id=r')).rejects.toMatchObject({ option: 'object' });
        await running.reset();
      }
      expect(locked()).toBe(false);
      expect(spawnSync('qemu-img', ['check', image]).status).toBe(0);
    },
  );

  test('leave their places to others', async () => {
    await using running = await Machine.create(machine);
    const ids = Array.from({ length: 4 }, (_, i) => `io${i}`);
    for (let round = 0; round < 2; round++) {
      await Promise.all(ids.map((id) => running.objectAdd({ type: 'iothread', id })));
      await expect(running.objectAdd('iothread,id=more')).rejects.toThrow(/all 4 places/);
      await Promise.all(ids.map((id) => running.objectDel(id)));
      expect(running.iothreads).toEqual([]);
    }
    expect(running.state).toBe('running');
  });

  test('end with a machine that quits meanwhile', async () => {
    const running = await Machine.create(machine);
    const made = running.objectAdd('iothread,id=io0').catch((error: unknown) => error);
    await running.quit();
    expect(await made).toMatchObject({ code: 'ERR_MACHINE_ENDED' });
    await expect(running.exit).resolves.toMatchObject({ reason: 'quit' });
  });
});
