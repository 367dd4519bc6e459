/** Block helpers, on real threads: what an iothread asks of them, and their end. */
import { fdatasyncSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { inlineCodec } from '../../src/block/codec.ts';
import { FileNode } from '../../src/block/file.ts';
import { BlockHelpers } from '../../src/block/helpers/client.ts';
import { BlockJobs, SLOTS } from '../../src/block/helpers/jobs.ts';
import type { SlowCalls } from '../../src/block/node.ts';
import { Notifier, NotifierState } from '../../src/timer/notifier.ts';

const directory = mkdtempSync(join(tmpdir(), 'smp86-helpers-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const path = join(directory, 'file');
const data = Uint8Array.from({ length: 1 << 20 }, (_, i) => (i * 7) ^ (i >> 9));
writeFileSync(path, data);

const THREADS = 2;
const memory = new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true });
const guest = memory.buffer as unknown as SharedArrayBuffer;
const NOTIFIER = 64;
let workers: Worker[] = [];
let helpers: BlockHelpers;
let running = true;

/** What an iothread's loop does, without blocking the thread of the tests. */
async function loop(): Promise<void> {
  const notifier = new Notifier(NotifierState.at(guest, NOTIFIER));
  while (running) {
    notifier.accept();
    helpers.poll();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

beforeAll(async () => {
  // create counts one user, the machine, which is the iothread here
  const jobs = BlockJobs.create(1).buffer;
  helpers = new BlockHelpers(jobs, 0, guest);
  helpers.active = true;
  const url = new URL('../../threads/block-helper.ts', import.meta.url);
  workers = Array.from({ length: THREADS }, () => {
    return new Worker(url, { workerData: { memory, jobs, notifiers: [NOTIFIER] } });
  });
  void loop();
  await Promise.all(workers.map((worker) => once(worker, 'message')));
});

test('reads into guest memory and into any other, more at a time than there are slots', async () => {
  const fd = openSync(path, 'r');
  const reads = Array.from({ length: 5 * SLOTS }, async (_, i) => {
    const offset = i * 4099;
    const to =
      i % 2 === 0
        ? [new Uint8Array(guest, 4096 + i * 8192, 1000), new Uint8Array(guest, 4096 + i * 8192 + 2000, 3000)]
        : [new Uint8Array(4000)];
    const { bytes } = (await helpers.read(fd, offset, to))!;
    expect(bytes).toBe(4000);
    expect(Buffer.concat(to).equals(data.subarray(offset, offset + 4000))).toBe(true);
  });
  await Promise.all(reads);
  expect((await helpers.read(fd, data.length, [new Uint8Array(10)]))?.bytes).toBe(0);
});

test('compresses and decompresses', async () => {
  const cluster = data.subarray(0, 65536);
  for (const type of ['zlib', 'zstd'] as const) {
    const packed = await helpers.compress(type, cluster, 65536);
    expect(packed).toEqual(new Uint8Array((await inlineCodec.compress(type, cluster, 65536))!));
    expect(Buffer.from(await helpers.decompress(type, packed!, 65536)).equals(cluster)).toBe(true);
    await expect(helpers.decompress(type, new Uint8Array(100).fill(255), 65536)).rejects.toMatchObject({
      code: 'EIO',
    });
    expect(await helpers.compress(type, cluster, 100)).toBeUndefined();
  }
});

test('a call that fails has the error of the call', async () => {
  await expect(helpers.read(9999, 0, [new Uint8Array(10)])).rejects.toMatchObject({ name: 'BlockError' });
  await expect(helpers.datasync(9999)).rejects.toMatchObject({ name: 'BlockError' });
  await helpers.datasync(openSync(path, 'r+'));
});

test('a flush waits for one under way, and covers what was written meanwhile', async () => {
  const began: (() => void)[] = [];
  let flushes = 0;
  const slowCalls: SlowCalls = {
    active: true,
    read: () => undefined,
    datasync: async (fd) => {
      await new Promise<void>((resolve) => began.push(resolve));
      fdatasyncSync(fd);
      flushes++;
    },
  };
  const file = FileNode.open({ filename: path, readOnly: false, slowCalls });
  const done: string[] = [];
  const flush = (name: string) => file.flush().then(() => done.push(name));
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  await file.write(0, [data.subarray(0, 512)]);
  const all = [flush('first'), flush('same')];
  await file.write(512, [data.subarray(512, 1024)]);
  all.push(flush('second'), flush('with the second'));
  await turn();
  expect([began.length, done]).toEqual([1, []]);
  began[0]();
  await turn();
  expect([began.length, done.sort(), flushes]).toEqual([2, ['first', 'same'], 1]);
  began[1]();
  await Promise.all(all);
  expect([began.length, flushes]).toEqual([2, 2]);
  await file.flush();
  await file.close();
  expect(began.length).toBe(2);
});

test('helpers end with the last iothread', async () => {
  const ended = workers.map((worker) => once(worker, 'exit'));
  helpers.close();
  expect(await Promise.all(ended)).toEqual([[0], [0]]);
  running = false;
});
