import { spawnSync } from 'node:child_process';
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Falloc, openHostFiles } from '../../src/host/host-files.ts';

const MIB = 1 << 20;

let directory: string;
let path: string;
let fd: number;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'smp86-host-'));
  path = join(directory, 'file');
  fd = openSync(path, 'w+');
});

afterEach(() => {
  closeSync(fd);
  rmSync(directory, { recursive: true });
});

/** Calls that change nothing in the file system's own favour: data, hole, data. */
function writeDataHoleData(): void {
  writeSync(fd, Buffer.alloc(65536, 1), 0, 65536, 0);
  writeSync(fd, Buffer.alloc(65536, 2), 0, 65536, MIB);
}

for (const kind of ['ffi', 'perl'] as const) {
  const files = openHostFiles([kind]);
  describe.skipIf(files.kind === 'none')(`by ${kind}`, () => {
    it('a byte lock is seen through another description, not through its own', () => {
      const other = openSync(path, 'r+');
      try {
        files.setByteLocks(fd, [100, 203], []);
        expect(files.findLocked(fd, [100, 203])).toBe(undefined);
        expect(files.findLocked(other, [99, 203, 100])).toBe(203);
        files.setByteLocks(fd, [], [203]);
        expect(files.findLocked(other, [203])).toBe(undefined);
        expect(files.findLocked(other, [100])).toBe(100);
      } finally {
        closeSync(other);
      }
    });

    it('locks end with their description', () => {
      const other = openSync(path, 'r+');
      files.setByteLocks(other, [101], []);
      expect(files.findLocked(fd, [101])).toBe(101);
      closeSync(other);
      expect(files.findLocked(fd, [101])).toBe(undefined);
    });

    it('a read-only descriptor locks too', () => {
      const other = openSync(path, 'r');
      try {
        files.setByteLocks(other, [201], []);
        expect(files.findLocked(fd, [201])).toBe(201);
        expect(files.findLocked(other, [201])).toBe(undefined);
      } finally {
        closeSync(other);
      }
    });

    it('punches a hole that reads as zeroes and takes no space', () => {
      writeSync(fd, Buffer.alloc(MIB, 7), 0, MIB, 0);
      const before = fstatSync(fd).blocks;
      files.fallocate(fd, Falloc.punchHole, 65536, 131072);
      expect(fstatSync(fd).blocks).toBe(before - 131072 / 512);
      expect(fstatSync(fd).size).toBe(MIB);
      const buffer = Buffer.alloc(131072 + 2);
      readSync(fd, buffer, 0, buffer.length, 65535);
      expect(buffer[0]).toBe(7);
      expect(buffer.subarray(1, -1).every((byte) => byte === 0)).toBe(true);
      expect(buffer[131073]).toBe(7);
    });

    it('allocates, within the size or beyond', () => {
      files.fallocate(fd, Falloc.keepSize, 0, MIB);
      expect(fstatSync(fd).size).toBe(0);
      expect(fstatSync(fd).blocks).toBeGreaterThanOrEqual(MIB / 512);
      files.posixFallocate(fd, 0, 2 * MIB);
      expect(fstatSync(fd).size).toBe(2 * MIB);
    });

    it('says which call failed and why', () => {
      const readOnly = openSync(path, 'r');
      try {
        expect(() => files.fallocate(readOnly, Falloc.allocate, 0, 4096)).toThrow(
          expect.objectContaining({ code: 'EBADF', syscall: 'fallocate' }),
        );
      } finally {
        closeSync(readOnly);
      }
    });
  });
}

describe('holes', () => {
  const ffi = openHostFiles(['ffi']);

  it.skipIf(ffi.kind === 'none')('are found', () => {
    writeDataHoleData();
    expect(ffi.seekData(fd, 0)).toBe(0);
    expect(ffi.seekHole(fd, 0)).toBe(65536);
    expect(ffi.seekData(fd, 65536)).toBe(MIB);
    expect(ffi.seekHole(fd, MIB + 5)).toBe(MIB + 65536);
    expect(ffi.seekData(fd, MIB + 65536)).toBe(undefined);
    expect(ffi.seekHole(fd, MIB + 65536)).toBe(undefined);
  });

  it('without help from the host, all is data', () => {
    writeDataHoleData();
    for (const files of [openHostFiles(['perl']), openHostFiles([])]) {
      expect(files.seekData(fd, 65536)).toBe(65536);
      expect(files.seekHole(fd, 65536)).toBe(MIB + 65536);
      expect(files.seekData(fd, MIB + 65536)).toBe(undefined);
      expect(files.seekHole(fd, MIB + 65536)).toBe(undefined);
    }
  });
});

const MODULE = new URL('../../src/host/host-files.ts', import.meta.url).href;

it('a worker has the same, on descriptors of the process', async () => {
  const main = openHostFiles(['ffi', 'perl']);
  if (main.kind === 'none') return;
  const worker = new Worker(
    `import { hostFiles } from ${JSON.stringify(MODULE)};
     import { parentPort, workerData } from 'node:worker_threads';
     hostFiles().setByteLocks(workerData, [103], []);
     parentPort.postMessage(hostFiles().kind);`,
    { eval: true, workerData: fd, execArgv: ['--input-type=module'] },
  );
  const kind = await new Promise((resolve, reject) => {
    worker.once('message', resolve).once('error', reject);
  });
  await worker.terminate();
  expect(kind).toBe(main.kind);
  const other = openSync(path, 'r');
  expect(main.findLocked(other, [103])).toBe(103);
  closeSync(other);
});

it('no warning of an experimental feature reaches the user, others do', () => {
  const source = `import { hostFiles } from ${JSON.stringify(MODULE)};
    console.log(hostFiles().kind);
    process.emitWarning('mine', 'ExperimentalWarning');`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8' });
  expect(child.stderr).not.toContain('FFI');
  expect(child.stderr).toContain('mine');
});

it('refuses without ffi and perl', () => {
  const files = openHostFiles([]);
  expect(files.kind).toBe('none');
  expect(() => files.fallocate(fd, Falloc.punchHole, 0, 4096)).toThrow(
    expect.objectContaining({ code: 'ENOTSUP' }),
  );
});
