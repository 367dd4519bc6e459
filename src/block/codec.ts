/** Compression in the calling thread. */
import { constants, deflateRawSync, inflateRawSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { BlockError } from './errors.ts';
import type { Codec } from './node.ts';

export type CompressionType = 'zlib' | 'zstd';

/** Compresses; undefined when the result is not shorter than `limit`. *May block:* yes (CPU). */
export function compressSync(type: CompressionType, data: Uint8Array, limit: number): Uint8Array | undefined {
  // a 4 KiB window is what readers of the format are promised
  const result = type === 'zlib' ? deflateRawSync(data, { windowBits: 12 }) : zstdCompressSync(data);
  return result.length < limit ? result : undefined;
}

/** Decompresses exactly `length` bytes; what follows in `data` is ignored. Throws EIO. *May block:* yes (CPU). */
export function decompressSync(type: CompressionType, data: Uint8Array, length: number): Uint8Array {
  let result: Uint8Array;
  try {
    result =
      type === 'zlib'
        ? inflateRawSync(data, {
            windowBits: 12,
            maxOutputLength: length,
            finishFlush: constants.Z_SYNC_FLUSH,
          })
        : zstdDecompressSync(data, { maxOutputLength: length });
  } catch (error) {
    throw new BlockError('EIO', 'Input/output error', { cause: error });
  }
  if (result.length !== length) throw new BlockError('EIO', 'Input/output error');
  return result;
}

/** A Codec without other threads. */
export const inlineCodec: Codec = {
  compress: async (type, data, limit) => compressSync(type, data, limit),
  decompress: async (type, data, length) => decompressSync(type, data, length),
};
