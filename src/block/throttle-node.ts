/** `-blockdev throttle`: a node whose requests wait for the limits of a group. */
import { FilterNode } from './filter.ts';
import { iovLength } from './iov.ts';
import type { BlockNode, Done, IoVector, WriteFlags, ZeroFlags } from './node.ts';
import type { Throttle } from './throttle.ts';

/** *Thread:* the context's. */
export class ThrottleNode extends FilterNode {
  readonly driver = 'throttle';
  readonly #throttle: Throttle;

  constructor(file: BlockNode, throttle: Throttle) {
    super(file);
    this.#throttle = throttle;
  }

  override read(offset: number, to: IoVector): Done {
    return this.#waited(false, iovLength(to), () => super.read(offset, to));
  }
  override write(offset: number, from: IoVector, flags?: WriteFlags): Done {
    return this.#waited(true, iovLength(from), () => super.write(offset, from, flags));
  }
  override async writeZeroes(offset: number, length: number, flags?: ZeroFlags): Promise<void> {
    await this.#waited(true, length, () => super.writeZeroes(offset, length, flags));
  }
  override async discard(offset: number, length: number): Promise<void> {
    await this.#waited(true, length, () => super.discard(offset, length));
  }
  override async writeCompressed(offset: number, from: IoVector): Promise<void> {
    await this.#waited(true, iovLength(from), () => super.writeCompressed(offset, from));
  }

  /** A request when its turn has come. */
  #waited(isWrite: boolean, bytes: number, request: () => Done): Done {
    const wait = this.#throttle.wait(isWrite, bytes);
    return wait === undefined ? request() : wait.then(request);
  }
}
