/** The raw format: a window on its file. */
import { BlockError } from './errors.ts';
import { FilterNode } from './filter.ts';
import { iovGather, iovLength } from './iov.ts';
import type { BlockNode, BlockStatus, Done, IoVector, Preallocation, WriteFlags, ZeroFlags } from './node.ts';
import { PROBE_SIZE, probeFormat } from './probe.ts';

const SECTOR = 512;

export interface RawOptions {
  /** Where in the file the disk begins, bytes. Default 0. */
  readonly offset?: number;
  /** Its length, bytes, a multiple of 512. Default: to the end of the file, which it then follows. */
  readonly size?: number;
  /** Nobody named the format: the guest must not make its disk look like another one. */
  readonly probed?: boolean;
}

/** *Thread:* the context's. */
export class RawNode extends FilterNode {
  readonly driver = 'raw';
  readonly #offset: number;
  readonly #size: number | undefined;
  readonly #probed: boolean;

  /** Throws EINVAL, with QEMU's texts, for a window that is not in the file. */
  constructor(file: BlockNode, options: RawOptions = {}) {
    super(file);
    const { offset = 0, size } = options;
    if (offset > file.size) {
      throw new BlockError(
        'EINVAL',
        `Offset (${offset}) cannot be greater than size of the containing file (${file.size})`,
      );
    }
    if (size !== undefined) {
      if (offset + size > file.size) {
        throw new BlockError(
          'EINVAL',
          `The sum of offset (${offset}) and size (${size}) has to be smaller or equal to the  actual size of the containing file (${file.size})`,
        );
      }
      if (size % SECTOR !== 0) throw new BlockError('EINVAL', 'Specified size is not multiple of 512');
    }
    this.#offset = offset;
    this.#size = size;
    this.#probed = options.probed ?? false;
  }

  override get size(): number {
    return this.#size ?? Math.floor((this.file.size - this.#offset) / SECTOR) * SECTOR;
  }

  override read(offset: number, to: IoVector): Done {
    return this.file.read(this.#offset + offset, to);
  }

  override write(offset: number, from: IoVector, flags?: WriteFlags): Done {
    if (this.#probed && offset < PROBE_SIZE) return this.#writeHead(offset, from, flags);
    return this.file.write(this.#offset + offset, from, flags);
  }

  async #writeHead(offset: number, from: IoVector, flags: WriteFlags | undefined): Promise<void> {
    // a copy: the guest could change its memory between the look and the write
    const data = iovGather(from);
    const head = new Uint8Array(PROBE_SIZE);
    await this.file.read(this.#offset, [head]);
    head.set(data.subarray(0, PROBE_SIZE - offset), offset);
    if (probeFormat(head) !== 'raw') throw new BlockError('EPERM', 'Operation not permitted');
    await this.file.write(this.#offset + offset, [data], flags);
  }

  override writeZeroes(offset: number, length: number, flags?: ZeroFlags): Promise<void> {
    return super.writeZeroes(this.#offset + offset, length, flags);
  }
  override discard(offset: number, length: number): Promise<void> {
    return super.discard(this.#offset + offset, length);
  }
  override async writeCompressed(_offset: number, from: IoVector): Promise<void> {
    throw new BlockError('ENOTSUP', `Cannot compress ${iovLength(from)} bytes in a raw image`);
  }

  override async blockStatus(offset: number, length: number): Promise<BlockStatus> {
    const at = this.#offset + offset;
    const status = await super.blockStatus(at, length);
    return { ...status, file: this.file, fileOffset: at };
  }

  override async truncate(size: number, preallocation?: Preallocation): Promise<void> {
    if (this.#size !== undefined) throw new BlockError('ENOTSUP', 'Cannot resize fixed-size raw disks');
    await super.truncate(this.#offset + size, preallocation);
  }
}
