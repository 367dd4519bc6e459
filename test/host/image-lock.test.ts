import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { hostFiles, openHostFiles } from '../../src/host/host-files.ts';
import {
  ALL_PERMISSIONS,
  BACKING_LOCK,
  CREATE_LOCK,
  commandLock,
  deviceLock,
  metadataLock,
  Permission,
  UNLOCKED,
} from '../../src/block/locks.ts';
import { ImageLock } from '../../src/host/image-lock.ts';

const hasLocks = hostFiles().kind !== 'none';
const hasQemu = spawnSync('qemu-img', ['--version']).status === 0;

let directory: string;
let image: string;
let fds: number[] = [];

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'smp86-lock-'));
  image = join(directory, 'image');
});

afterAll(() => {
  rmSync(directory, { recursive: true });
});

beforeEach(() => {
  closeSync(openSync(image, 'w'));
});

afterEach(() => {
  for (const fd of fds) closeSync(fd);
  fds = [];
});

function openLock(files = hostFiles()): ImageLock {
  const fd = openSync(image, 'r+');
  fds.push(fd);
  return new ImageLock(fd, 'a.img', files);
}

function refusal(what: string): RegExp {
  return new RegExp(`^Failed to get ${what} lock\nIs another process using the image \\[a.img\\]\\?$`);
}

describe.skipIf(!hasLocks)('two users of one image', () => {
  it('read a qcow2 image together', () => {
    openLock().acquire(metadataLock(false));
    openLock().acquire(metadataLock(false));
  });

  it('one who writes metadata excludes all, and is excluded by all', () => {
    openLock().acquire(metadataLock(true));
    expect(() => openLock().acquire(metadataLock(false))).toThrow(refusal('shared "write"'));
    expect(() => openLock().acquire(metadataLock(true))).toThrow(refusal('"write"'));
    expect(() => openLock().acquire(commandLock(true))).toThrow(refusal('"write"'));
    expect(() => openLock().acquire(BACKING_LOCK)).toThrow(refusal('shared "write"'));
    openLock().acquire(UNLOCKED);
  });

  it('a disk that shares writing shares it with its like only', () => {
    openLock().acquire(deviceLock(true, true));
    openLock().acquire(deviceLock(true, true));
    expect(() => openLock().acquire(deviceLock(true, false))).toThrow(refusal('shared "write"'));
  });

  it('a resize is refused by who does not share it', () => {
    openLock().acquire(BACKING_LOCK);
    expect(() => openLock().acquire(CREATE_LOCK)).toThrow(refusal('"write"'));
    const resize = { held: Permission.resize, shared: ALL_PERMISSIONS };
    expect(() => openLock().acquire(resize)).toThrow(refusal('"resize"'));
  });

  it('what is refused leaves the lock as it was; what is released is free', () => {
    const first = openLock();
    const second = openLock();
    first.acquire(commandLock(false));
    second.acquire(metadataLock(false));
    expect(() => first.acquire(metadataLock(true))).toThrow(refusal('"write"'));
    expect(first.mode).toEqual(commandLock(false));
    second.release();
    first.acquire(metadataLock(true));
    expect(() => second.acquire(metadataLock(false))).toThrow(refusal('shared "write"'));
    first.acquire(metadataLock(false));
    second.acquire(metadataLock(false));
  });
});

it('without locks on this host nothing is refused', () => {
  const none = openHostFiles([]);
  openLock(none).acquire(metadataLock(true));
  openLock(none).acquire(metadataLock(true));
  expect(openLock(none).supported).toBe(false);
});

/** Exit code and message of qemu-img. */
function qemuImg(...args: string[]): [number | null, string] {
  const child = spawnSync('qemu-img', args, { encoding: 'utf8', cwd: directory });
  return [child.status, child.stderr];
}

describe.skipIf(!hasLocks || !hasQemu)('beside QEMU', () => {
  beforeEach(() => {
    qemuImg('create', '-q', '-f', 'qcow2', image, '1M');
  });

  it('qemu-img is refused what smp86 holds, in its own words', () => {
    const lock = openLock();
    lock.acquire(metadataLock(true));
    const hint = 'Is another process using the image [image]?\n';
    const open = "qemu-img: Could not open 'image': Failed to get";
    expect(qemuImg('check', 'image')).toEqual([1, `${open} shared "write" lock\n${hint}`]);
    expect(qemuImg('resize', 'image', '2M')).toEqual([1, `${open} "write" lock\n${hint}`]);
    expect(qemuImg('info', '-U', 'image')[0]).toBe(0);
    lock.acquire(metadataLock(false));
    expect(qemuImg('check', 'image')[0]).toBe(0);
    expect(qemuImg('resize', 'image', '2M')).toEqual([1, `${open} "write" lock\n${hint}`]);
    lock.release();
    expect(qemuImg('resize', 'image', '2M')[0]).toBe(0);
  });

  it('smp86 is refused what qemu-io holds', async () => {
    const child: ChildProcess = spawn('qemu-io', [image], { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      // its prompt: the image is open
      await new Promise((resolve) => child.stdout?.once('data', resolve));
      expect(() => openLock().acquire(metadataLock(false))).toThrow(refusal('shared "write"'));
      expect(() => openLock().acquire(metadataLock(true))).toThrow(refusal('"write"'));
      expect(() => openLock().acquire(CREATE_LOCK)).toThrow(refusal('"write"'));
      const fallback = openHostFiles(['perl']);
      if (fallback.kind !== 'none') {
        expect(() => openLock(fallback).acquire(metadataLock(true))).toThrow(refusal('"write"'));
      }
    } finally {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.stdin?.end();
      await ended;
    }
    openLock().acquire(metadataLock(true));
  });
});
