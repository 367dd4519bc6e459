/** A Codec whose compression runs in a pool of threads; several clusters that come at once are one task. */
import { availableParallelism } from 'node:os';
import type { Piscina } from 'piscina';
import type { Codec } from '../../block/node.ts';
import { inlineCodec } from '../../block/codec.ts';
import type { CompressTask } from './compress-task.ts';

/** A task holds so many bytes, where there are as many: a message costs as much as compressing some KiB. */
const TASK_BYTES = { zlib: 64 << 10, zstd: 256 << 10 };

/** Memory that the threads of the pool see: messages would copy what they carry, both ways. */
interface Buffers {
  readonly input: SharedArrayBuffer;
  readonly output: SharedArrayBuffer;
}

interface Waiting {
  readonly length: number;
  resolve(result: Uint8Array | undefined): void;
  reject(error: unknown): void;
}

/** Of one type, limit and size, not yet sent. */
interface Batch {
  readonly type: 'zlib' | 'zstd';
  readonly limit: number;
  /** Room for each cluster. */
  readonly stride: number;
  readonly buffers: Buffers;
  readonly waiting: Waiting[];
}

type Pool = Piscina<CompressTask, number[]>;

/** *Thread:* the one that made it. Ends with `close`. */
export class PoolCodec implements Codec {
  #pool: Promise<Pool> | undefined;
  #batch: Batch | undefined;
  /** Not in use, by size. */
  readonly #free = new Map<number, Buffers[]>();

  decompress = inlineCodec.decompress.bind(inlineCodec);

  compress(type: 'zlib' | 'zstd', data: Uint8Array, limit: number): Promise<Uint8Array | undefined> {
    return new Promise((resolve, reject) => {
      const { length } = data;
      let batch = this.#batch;
      if (batch !== undefined && (batch.type !== type || batch.limit !== limit || batch.stride < length)) {
        this.#send();
        batch = undefined;
      }
      if (batch === undefined) {
        batch = { type, limit, stride: length, buffers: this.#buffers(type, length), waiting: [] };
        this.#batch = batch;
        setImmediate(() => this.#send());
      }
      const { stride, buffers, waiting } = batch;
      new Uint8Array(buffers.input).set(data, waiting.length * stride);
      waiting.push({ length, resolve, reject });
      if ((waiting.length + 1) * stride > buffers.input.byteLength) this.#send();
    });
  }

  #buffers(type: 'zlib' | 'zstd', length: number): Buffers {
    const size = Math.max(length, TASK_BYTES[type]);
    const free = this.#free.get(size)?.pop();
    return free ?? { input: new SharedArrayBuffer(size), output: new SharedArrayBuffer(size) };
  }

  #send(): void {
    const batch = this.#batch;
    if (batch === undefined) return;
    this.#batch = undefined;
    void this.#run(batch);
  }

  async #run({ type, limit, stride, buffers, waiting }: Batch): Promise<void> {
    try {
      this.#pool ??= makePool();
      const pool = await this.#pool;
      const lengths = waiting.map(({ length }) => length);
      const results = await pool.run({ type, limit, lengths, stride, ...buffers });
      waiting.forEach(({ resolve }, i) => {
        // a copy: the buffers are used again
        resolve(
          results[i] === 0 ? undefined : new Uint8Array(buffers.output, i * stride, results[i]).slice(),
        );
      });
      const size = buffers.input.byteLength;
      const free = this.#free.get(size);
      if (free === undefined) this.#free.set(size, [buffers]);
      else free.push(buffers);
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
