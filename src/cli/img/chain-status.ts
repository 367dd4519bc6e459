/** What is known of a range of an image without reading it: the layer that decides it, and whether it is zero. */
import type { BlockNode, BlockStatus } from '../../block/node.ts';

export interface ChainStatus extends BlockStatus {
  /** Of the layer that decides: 0 is the image itself, 1 its backing file … */
  readonly depth: number;
}

/** Of [offset, offset + length); shortened to what is alike. */
export class ChainStatusReader {
  /** By image: whether its file has holes where the format has data (made with preallocation=metadata). */
  readonly #holes = new Map<BlockNode, boolean>();

  /**
   * Looks from `top` down to `base`, which is left out; undefined: to the end of the chain. What no layer decides is
   * not allocated, and is zero when the chain has ended.
   */
  async read(
    top: BlockNode,
    base: BlockNode | undefined,
    offset: number,
    length: number,
  ): Promise<ChainStatus> {
    let node = top;
    let asked = length;
    for (let depth = 0; ; depth++) {
      const status = await node.blockStatus(offset, asked);
      if (status.allocated) return { ...(await this.#withHoles(node, offset, status)), depth };
      const { backing } = node.children;
      const nothing = { length: status.length, data: false, zero: false, allocated: false, depth };
      if (backing === undefined) return { ...nothing, zero: true };
      if (offset >= backing.size) return { ...nothing, zero: true };
      const known = Math.min(status.length, backing.size - offset);
      if (backing === base) return { ...nothing, length: known };
      node = backing;
      asked = known;
    }
  }

  /** Data that lies in a hole of the image's file is zero. */
  async #withHoles(node: BlockNode, offset: number, status: BlockStatus): Promise<BlockStatus> {
    const { file, fileOffset } = status;
    if (!status.data || status.zero || file === undefined || fileOffset === undefined) return status;
    if (node.driver === 'raw') return status;
    if (!(await this.#hasHoles(node))) return status;
    if (fileOffset >= file.size) return { ...status, zero: true };
    const below = await file.blockStatus(fileOffset, Math.min(status.length, file.size - fileOffset));
    return { ...status, length: below.length, zero: below.zero };
  }

  /** A look at every cluster of its file would cost too much for an image that is used in the ordinary way. */
  async #hasHoles(node: BlockNode): Promise<boolean> {
    let found = this.#holes.get(node);
    if (found === undefined) {
      const { file } = node.children;
      found = file !== undefined && (await hasManyHoles(file, node.limits.discardAlignment));
      this.#holes.set(node, found);
    }
    return found;
  }
}

/** Whether a tenth of the file's clusters, and at least two, are not there. */
async function hasManyHoles(file: BlockNode, clusterSize: number): Promise<boolean> {
  const clusters = Math.ceil(file.size / clusterSize);
  const allocated = Math.floor((await file.allocatedSize()) / clusterSize);
  return clusters >= Math.max(Math.floor((allocated * 10) / 9), allocated + 2);
}
