/** Compresses clusters: a task of a thread pool. */
import { compressSync } from '../../block/codec.ts';

export interface CompressTask {
  readonly type: 'zlib' | 'zstd';
  /** Bytes that a result must stay below. */
  readonly limit: number;
  readonly pieces: readonly Uint8Array[];
}

/** For each piece its compressed form, or undefined when that is too long. */
export default function compress({ type, limit, pieces }: CompressTask): (Uint8Array | undefined)[] {
  return pieces.map((piece) => compressSync(type, piece, limit));
}
