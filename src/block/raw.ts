/** The raw format: a window on its file. */
import { BlockError } from './errors.ts';
import { iovGather, iovLength } from './iov.ts';
import type {
  BlockLimits,
  BlockNode,
  BlockStatus,
  IoVector,
  Preallocation,
  WriteFlags,
  ZeroFlags,
} from './node.ts';
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
export class RawNode implements BlockNode {
  readonly driver = 'raw';
  nodeName = '';
  readonly children: { readonly file: BlockNode };
  readonly #file: BlockNode;
  readonly #offset: number;
  readonly #size: number | undefined;
  readonly #probed: boolean;

  /** Throws EINVAL, with QEMU's texts, for a window that is not in the file. */
  constructor(file: BlockNode, options: RawOptions = {}) {
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
    this.children = { file };
    this.#file = file;
    this.#offset = offset;
    this.#size = size;
    this.#probed = options.probed ?? false;
  }

  get filename(): string {
    return this.#file.filename;
  }
  get readOnly(): boolean {
    return this.#file.readOnly;
  }
  get limits(): BlockLimits {
    return this.#file.limits;
  }
  get size(): number {
    return this.#size ?? Math.floor((this.#file.size - this.#offset) / SECTOR) * SECTOR;
  }

  read(offset: number, to: IoVector): Promise<void> {
    return this.#file.read(this.#offset + offset, to);
  }

  async write(offset: number, from: IoVector, flags?: WriteFlags): Promise<void> {
    if (this.#probed && offset < PROBE_SIZE) {
      // a copy: the guest could change its memory between the look and the write
      const head = iovGather(from);
      await this.#checkHead(offset, head);
      return this.#file.write(this.#offset + offset, [head], flags);
    }
    return this.#file.write(this.#offset + offset, from, flags);
  }

  async #checkHead(offset: number, data: Uint8Array): Promise<void> {
    const head = new Uint8Array(PROBE_SIZE);
    await this.#file.read(this.#offset, [head]);
    head.set(data.subarray(0, PROBE_SIZE - offset), offset);
    if (probeFormat(head) !== 'raw') throw new BlockError('EPERM', 'Operation not permitted');
  }

  writeZeroes(offset: number, length: number, flags?: ZeroFlags): Promise<void> {
    return this.#file.writeZeroes(this.#offset + offset, length, flags);
  }
  discard(offset: number, length: number): Promise<void> {
    return this.#file.discard(this.#offset + offset, length);
  }
  async writeCompressed(_offset: number, from: IoVector): Promise<void> {
    throw new BlockError('ENOTSUP', `Cannot compress ${iovLength(from)} bytes in a raw image`);
  }
  flush(): Promise<void> {
    return this.#file.flush();
  }

  async blockStatus(offset: number, length: number): Promise<BlockStatus> {
    const at = this.#offset + offset;
    const status = await this.#file.blockStatus(at, length);
    return { ...status, file: this.#file, fileOffset: at };
  }

  async truncate(size: number, preallocation?: Preallocation): Promise<void> {
    if (this.#size !== undefined) throw new BlockError('ENOTSUP', 'Cannot resize fixed-size raw disks');
    await this.#file.truncate(this.#offset + size, preallocation);
  }
  allocatedSize(): Promise<number> {
    return this.#file.allocatedSize();
  }
  close(): Promise<void> {
    return this.#file.close();
  }
}
