/** What `convert` copies from: images, one after the other, as one. */
import type { BlockNode } from '../../block/node.ts';
import { type ChainStatus, ChainStatusReader } from './chain-status.ts';

interface Part {
  readonly image: BlockNode;
  /** Of its first byte in the whole. */
  readonly start: number;
}

export class CopySource {
  readonly size: number;
  readonly #parts: readonly Part[];
  readonly #base: BlockNode | undefined;
  readonly #reader = new ChainStatusReader();

  /** `base`: layer of the (only) image from which on nothing is copied. */
  constructor(images: readonly BlockNode[], base: BlockNode | undefined) {
    let start = 0;
    this.#parts = images.map((image) => {
      const part = { image, start };
      start += image.size;
      return part;
    });
    this.size = start;
    this.#base = base;
  }

  #partAt(offset: number): Part {
    return this.#parts.find(({ image, start }) => offset < start + image.size) ?? this.#parts[0];
  }

  async status(offset: number, length: number): Promise<ChainStatus> {
    const { image, start } = this.#partAt(offset);
    const within = offset - start;
    return this.#reader.read(image, this.#base, within, Math.min(length, image.size - within));
  }

  async read(offset: number, to: Buffer): Promise<void> {
    for (let done = 0; done < to.length;) {
      const { image, start } = this.#partAt(offset + done);
      const within = offset + done - start;
      const length = Math.min(to.length - done, image.size - within);
      await image.read(within, [to.subarray(done, done + length)]);
      done += length;
    }
  }
}
