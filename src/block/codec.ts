/** Compression in the calling thread. */
import type * as Zlib from 'node:zlib';
import { BlockError } from './errors.ts';
import type { Codec } from './node.ts';

/** Output is one piece of so much more than is needed: 16 KiB pieces, and a last empty one, cost three times as much. */
const SPARE = 64;

export type CompressionType = 'zlib' | 'zstd';

let loaded: typeof Zlib | undefined;

/** Loaded when it is needed: that takes some ms, a tenth of the time of a short command. */
function zlib(): typeof Zlib {
  return (loaded ??= process.getBuiltinModule('node:zlib'));
}

/** Compresses; undefined when the result is not shorter than `limit`. *May block:* yes (CPU). */
export function compressSync(type: CompressionType, data: Uint8Array, limit: number): Uint8Array | undefined {
  // a 4 KiB window is what readers of the format are promised
  const chunkSize = data.length + SPARE;
  const result =
    type === 'zlib'
      ? zlib().deflateRawSync(data, { windowBits: 12, chunkSize })
      : zlib().zstdCompressSync(data, { chunkSize, pledgedSrcSize: data.length });
  return result.length < limit ? result : undefined;
}

/** Decompresses exactly `length` bytes; what follows in `data` is ignored. Throws EIO. *May block:* yes (CPU). */
export function decompressSync(type: CompressionType, data: Uint8Array, length: number): Uint8Array {
  const limits = { maxOutputLength: length, chunkSize: length + SPARE };
  let result: Uint8Array;
  try {
    result =
      type === 'zlib'
        ? zlib().inflateRawSync(data, {
            ...limits,
            windowBits: 12,
            finishFlush: zlib().constants.Z_SYNC_FLUSH,
          })
        : zlib().zstdDecompressSync(data.subarray(0, zstdFrameLength(data)), limits);
  } catch (error) {
    throw new BlockError('EIO', 'Input/output error', { cause: error });
  }
  if (result.length !== length) throw new BlockError('EIO', 'Input/output error');
  return result;
}

/**
 * Bytes of the frame that `data` begins with (RFC 8878, 3.1.1): what follows it may be another cluster's frame, which
 * the decompressor would take for a part of this one. All of `data` when it is no whole frame.
 */
function zstdFrameLength(data: Uint8Array): number {
  const { length } = data;
  if (length < 6) return length;
  const descriptor = data[4];
  const singleSegment = (descriptor >>> 5) & 1;
  const contentSize = [singleSegment, 2, 4, 8][descriptor >>> 6];
  const dictionary = [0, 1, 2, 4][descriptor & 3];
  let at = 5 + (1 - singleSegment) + dictionary + contentSize;
  for (;;) {
    if (at + 3 > length) return length;
    const header = data[at] | (data[at + 1] << 8) | (data[at + 2] << 16);
    // a run-length block has one byte, however long it is
    at += 3 + (((header >>> 1) & 3) === 1 ? 1 : header >>> 3);
    if (header & 1) break;
  }
  return Math.min(length, at + (descriptor & 4 ? 4 : 0));
}

/** A Codec without other threads. For data that nobody changes. */
export const inlineCodec: Codec = {
  compress: async (type, data, limit) => compressSync(type, data, limit),
  decompress: async (type, data, length) => decompressSync(type, data, length),
};
