/**
 * Writes to an image as fast as it can, until it is killed: `node crash-writer.ts IMAGE FIRST SEED`. Write number i, from FIRST on,
 * fills a block that follows from SEED and i with the number i; after each flush it prints the number of writes that it
 * covers. Eight writes are under way at a time. For `disk-crash.ts`.
 */
import { writeSync } from 'node:fs';
import { BlockBackend } from '../../src/block/backend.ts';
import { inlineCodec } from '../../src/block/codec.ts';
import { openImage } from '../../src/block/open.ts';
import { hostFile } from '../../src/host/block-host.ts';

export const BLOCK = 4096;
/** Blocks that carry numbers; behind them lies an area that is discarded and written again. */
export const BLOCKS = 8192;
export const IMAGE_SIZE = 2 * BLOCKS * BLOCK;
const DEPTH = 8;
const PER_FLUSH = 64;

/** The block of write number `i`. */
export function blockOf(seed: number, i: number): number {
  let x = Math.imul(i ^ seed, 0x9e3779b1);
  x = Math.imul(x ^ (x >>> 15), 0x85ebca6b);
  return ((x ^ (x >>> 13)) >>> 0) % BLOCKS;
}

async function main([file, first, seed]: readonly string[]): Promise<void> {
  const context = { codec: inlineCodec, host: hostFile(), warn: () => {} };
  const root = await openImage({ file, format: 'qcow2', readOnly: false, unmap: true }, context);
  const backend = new BlockBackend(root, { unmap: true });
  let next = Number(first);
  const write = async (): Promise<void> => {
    const number = next++;
    const data = new Uint32Array(BLOCK / 4).fill(number);
    await backend.write(blockOf(Number(seed), number) * BLOCK, [new Uint8Array(data.buffer)]);
    if (number % 5 !== 0) return;
    const other = (BLOCKS + blockOf(~Number(seed), number)) * BLOCK;
    if (number % 2 === 0) await backend.discard(other, BLOCK * 4 > IMAGE_SIZE - other ? BLOCK : BLOCK * 4);
    else await backend.write(other, [new Uint8Array(data.buffer)]);
  };
  for (;;) {
    for (let i = 0; i < PER_FLUSH; i += DEPTH) {
      await Promise.all(Array.from({ length: DEPTH }, write));
    }
    const covered = next - 1;
    await backend.flush();
    writeSync(1, `${covered}\n`);
  }
}

if (process.argv[1] === import.meta.filename) await main(process.argv.slice(2));
