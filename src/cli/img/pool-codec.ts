/** A Codec whose compression runs in a pool of threads; several clusters that come at once are one task. */
import { availableParallelism } from 'node:os';
import type { Piscina } from 'piscina';
import type { Codec } from '../../block/node.ts';
import { inlineCodec } from '../../block/codec.ts';
import type { CompressTask } from './compress-task.ts';

/** A task holds so many bytes, where there are as many: a message costs as much as compressing some KiB. */
const TASK_BYTES = { zlib: 64 << 10, zstd: 256 << 10 };

interface Waiting {
  readonly data: Uint8Array;
  resolve(result: Uint8Array | undefined): void;
  reject(error: unknown): void;
}

/** Of one type and limit, not yet sent. */
interface Batch {
  readonly type: 'zlib' | 'zstd';
  readonly limit: number;
  readonly waiting: Waiting[];
  bytes: number;
}

type Pool = Piscina<CompressTask, (Uint8Array | undefined)[]>;

/** *Thread:* the one that made it. Ends with `close`. */
export class PoolCodec implements Codec {
  #pool: Promise<Pool> | undefined;
  #batch: Batch | undefined;

  decompress = inlineCodec.decompress.bind(inlineCodec);

  compress(type: 'zlib' | 'zstd', data: Uint8Array, limit: number): Promise<Uint8Array | undefined> {
    return new Promise((resolve, reject) => {
      if (this.#batch !== undefined && (this.#batch.type !== type || this.#batch.limit !== limit))
        this.#send();
      if (this.#batch === undefined) {
        this.#batch = { type, limit, waiting: [], bytes: 0 };
        setImmediate(() => this.#send());
      }
      this.#batch.waiting.push({ data, resolve, reject });
      this.#batch.bytes += data.length;
      if (this.#batch.bytes >= TASK_BYTES[type]) this.#send();
    });
  }

  #send(): void {
    const batch = this.#batch;
    if (batch === undefined) return;
    this.#batch = undefined;
    void this.#run(batch);
  }

  async #run({ type, limit, waiting }: Batch): Promise<void> {
    try {
      this.#pool ??= makePool();
      const pool = await this.#pool;
      // a copy of exactly the clusters: a view would send all of its buffer
      const pieces = waiting.map(({ data }) => new Uint8Array(data));
      const results = await pool.run({ type, limit, pieces });
      waiting.forEach(({ resolve }, i) => resolve(results[i]));
    } catch (error) {
      for (const { reject } of waiting) reject(error);
    }
  }

  async close(): Promise<void> {
    await (await this.#pool)?.destroy();
  }
}

async function makePool(): Promise<Pool> {
  const { Piscina } = await import('piscina');
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return new Piscina({
    filename: new URL(`./compress-task.${extension}`, import.meta.url).href,
    minThreads: 1,
    maxThreads: availableParallelism(),
    idleTimeout: 1000,
  });
}
