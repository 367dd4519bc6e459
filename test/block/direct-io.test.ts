/** Direct I/O: whatever is asked for, aligned or not, the file is what a model says. */
import { readFileSync, statSync } from 'node:fs';
import { afterAll, expect, test } from 'vitest';
import { BlockError } from '../../src/block/errors.ts';
import { FileNode } from '../../src/block/file.ts';
import { randomNumbers, temporaryDirectory } from './qemu-tools.ts';

const directory = temporaryDirectory();
afterAll(() => directory.remove());

const SIZE = 300_032;
const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
const guestMemory = memory.buffer as unknown as SharedArrayBuffer;

function open(name: string): FileNode | undefined {
  try {
    return FileNode.open({
      filename: directory.path(name),
      readOnly: false,
      create: true,
      direct: true,
      guestMemory,
    });
  } catch (error) {
    if (!(error instanceof BlockError) || !error.message.includes('O_DIRECT')) throw error;
    console.warn('the temporary directory has no direct I/O; it is not tested');
    return undefined;
  }
}

test.each([1, 2, 3])('random requests (%i)', async (seed) => {
  const random = randomNumbers(seed);
  const file = open(`file${seed}`);
  if (file === undefined) return;
  const model = Buffer.alloc(SIZE);
  let size = 0;
  /** Aligned guest memory, or not, or memory of the thread. */
  const pieces = (length: number): Uint8Array[] => {
    const result: Uint8Array[] = [];
    const unit = random(2) === 0 ? 4096 : 512;
    for (let left = length, at = random(2) * 512; left > 0;) {
      const take = Math.min(left, unit * (1 + random(4)));
      result.push(random(4) === 0 ? new Uint8Array(take) : new Uint8Array(guestMemory, at, take));
      at += Math.ceil(take / 4096) * 4096;
      left -= take;
    }
    return result;
  };
  for (let i = 0; i < 300; i++) {
    const unit = [4096, 512, 1][random(3)];
    const offset = random(SIZE / unit) * unit;
    const length = Math.min(SIZE - offset, unit * random(40));
    const data = pieces(length);
    if (random(2) === 0) {
      for (const piece of data) piece.fill(1 + random(255));
      await file.write(offset, data);
      Buffer.concat(data).copy(model, offset);
      if (length > 0) size = Math.max(size, offset + length);
      expect(statSync(file.filename).size).toBe(size);
    } else {
      await file.read(offset, data);
      expect(Buffer.concat(data).equals(model.subarray(offset, offset + length)), `${offset} ${length}`).toBe(
        true,
      );
    }
  }
  await file.close();
  expect(readFileSync(file.filename).equals(model.subarray(0, size))).toBe(true);
});
