/** Compresses clusters: a task of a thread pool. */
import { compressSync } from '../../block/codec.ts';

export interface CompressTask {
  readonly type: 'zlib' | 'zstd';
  /** Bytes that a result must stay below. */
  readonly limit: number;
  /** Of the clusters, which lie at multiples of `stride` in `input`. */
  readonly lengths: readonly number[];
  readonly stride: number;
  readonly input: SharedArrayBuffer;
  /** Gets the results, at multiples of `stride`. */
  readonly output: SharedArrayBuffer;
}

/** For each cluster the length of its compressed form; 0 when that is too long. */
export default function compress({ type, limit, lengths, stride, input, output }: CompressTask): number[] {
  return lengths.map((length, i) => {
    const result = compressSync(type, new Uint8Array(input, i * stride, length), limit);
    if (result === undefined || result.length > stride) return 0;
    new Uint8Array(output, i * stride).set(result);
    return result.length;
  });
}
