/** `-blockdev throttle`: a node whose requests wait for the limits of a group. */
import { iovLength } from './iov.ts';
import type {
  BlockLimits,
  BlockNode,
  BlockStatus,
  IoVector,
  Preallocation,
  WriteFlags,
  ZeroFlags,
} from './node.ts';
import type { Throttle } from './throttle.ts';

/** *Thread:* the context's. */
export class ThrottleNode implements BlockNode {
  readonly driver = 'throttle';
  nodeName = '';
  readonly children: { readonly file: BlockNode };
  readonly #file: BlockNode;
  readonly #throttle: Throttle;

  constructor(file: BlockNode, throttle: Throttle) {
    this.children = { file };
    this.#file = file;
    this.#throttle = throttle;
  }

  get filename(): string {
    return this.#file.filename;
  }
  get size(): number {
    return this.#file.size;
  }
  get readOnly(): boolean {
    return this.#file.readOnly;
  }
  get limits(): BlockLimits {
    return this.#file.limits;
  }

  async read(offset: number, to: IoVector): Promise<void> {
    await this.#throttle.wait(false, iovLength(to));
    await this.#file.read(offset, to);
  }
  async write(offset: number, from: IoVector, flags?: WriteFlags): Promise<void> {
    await this.#throttle.wait(true, iovLength(from));
    await this.#file.write(offset, from, flags);
  }
  async writeZeroes(offset: number, length: number, flags?: ZeroFlags): Promise<void> {
    await this.#throttle.wait(true, length);
    await this.#file.writeZeroes(offset, length, flags);
  }
  async discard(offset: number, length: number): Promise<void> {
    await this.#throttle.wait(true, length);
    await this.#file.discard(offset, length);
  }
  async writeCompressed(offset: number, from: IoVector): Promise<void> {
    await this.#throttle.wait(true, iovLength(from));
    await this.#file.writeCompressed(offset, from);
  }
  flush(): Promise<void> {
    return this.#file.flush();
  }
  blockStatus(offset: number, length: number): Promise<BlockStatus> {
    return this.#file.blockStatus(offset, length);
  }
  truncate(size: number, preallocation?: Preallocation): Promise<void> {
    return this.#file.truncate(size, preallocation);
  }
  allocatedSize(): Promise<number> {
    return this.#file.allocatedSize();
  }
  close(): Promise<void> {
    return this.#file.close();
  }
}
