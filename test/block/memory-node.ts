/** A file in memory, sparse, as a node: for hostile images, injected faults and power cuts. */
import { BlockError } from '../../src/block/errors.ts';
import { iovFill, iovGather, iovLength, iovWrite, zeroVector } from '../../src/block/iov.ts';
import type { BlockLimits, BlockNode, BlockStatus, IoVector, WriteFlags } from '../../src/block/node.ts';

export const PAGE = 4096;
/** Longest file, as of a usual file system. */
const MAX_SIZE = 16 * 2 ** 40;

export class MemoryNode implements BlockNode {
  readonly driver: string = 'file';
  nodeName = '';
  readonly filename: string;
  readOnly = false;
  readonly children = {};
  readonly limits: BlockLimits = {
    requestAlignment: 1,
    maxWriteZeroes: Infinity,
    maxDiscard: Infinity,
    writeZeroesAlignment: 0,
    discardAlignment: 0,
  };
  /** Pages of another node's, not to be changed. */
  readonly #base: ReadonlyMap<number, Uint8Array>;
  readonly #pages = new Map<number, Uint8Array>();
  #bytes: number;
  /** Most pages of its own; more is a full disk. */
  readonly #capacity: number;
  closed = false;

  constructor(filename = 'memory', capacity = 65536, base?: MemoryNode) {
    this.filename = filename;
    this.#capacity = capacity;
    this.#base = base ? base.#pages : new Map();
    this.#bytes = base ? base.#bytes : 0;
  }

  get size(): number {
    return Math.ceil(this.#bytes / 512) * 512;
  }
  /** What was written, to a page. */
  get ownPages(): number {
    return this.#pages.size;
  }

  async read(offset: number, to: IoVector): Promise<void> {
    iovFill(to, 0);
    const length = iovLength(to);
    for (let done = 0; done < length;) {
      const at = offset + done;
      const within = at % PAGE;
      const take = Math.min(PAGE - within, length - done);
      const index = (at - within) / PAGE;
      const page = this.#pages.get(index) ?? this.#base.get(index);
      if (page) iovWrite(to, done, page.subarray(within, within + take));
      done += take;
    }
  }

  async write(offset: number, from: IoVector, flags?: WriteFlags): Promise<void> {
    const data = iovGather(from);
    if (offset + data.length > MAX_SIZE) throw new BlockError('EFBIG', 'File too large');
    for (let done = 0; done < data.length;) {
      const at = offset + done;
      const within = at % PAGE;
      const take = Math.min(PAGE - within, data.length - done);
      this.#page((at - within) / PAGE).set(data.subarray(done, done + take), within);
      done += take;
      this.#bytes = Math.max(this.#bytes, at + take);
    }
    if (flags?.fua) await this.flush();
  }

  #page(index: number): Uint8Array {
    let page = this.#pages.get(index);
    if (!page) {
      if (this.#pages.size >= this.#capacity) throw new BlockError('ENOSPC', 'No space left on device');
      page = this.#base.get(index)?.slice() ?? new Uint8Array(PAGE);
      this.#pages.set(index, page);
    }
    return page;
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    for (let at = offset; at < offset + length; at += 1 << 20) {
      await this.write(at, zeroVector(Math.min(1 << 20, offset + length - at)));
    }
  }
  async discard(): Promise<void> {}
  async writeCompressed(): Promise<void> {
    throw new BlockError('ENOTSUP', 'Operation not supported');
  }
  async flush(): Promise<void> {}
  async blockStatus(offset: number, length: number): Promise<BlockStatus> {
    return { length, data: true, zero: false, allocated: true, file: this, fileOffset: offset };
  }
  async truncate(size: number): Promise<void> {
    if (size > MAX_SIZE) throw new BlockError('EFBIG', 'File too large');
    if (size < this.#bytes) {
      const keep = Math.ceil(size / PAGE);
      const last = Math.ceil(this.#bytes / PAGE);
      for (const index of [...this.#pages.keys(), ...this.#base.keys()]) {
        if (index >= keep && index < last) this.#page(index).fill(0);
      }
      if (size % PAGE !== 0) this.#page(keep - 1).fill(0, size % PAGE);
    }
    this.#bytes = size;
  }
  async allocatedSize(): Promise<number> {
    return this.#pages.size * PAGE;
  }
  async close(): Promise<void> {
    this.closed = true;
  }
}
