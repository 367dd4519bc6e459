import { describe, expect, it } from 'vitest';
import { BlockBackend } from '../../src/block/backend.ts';
import type { BlockLimits, IoVector, WriteFlags } from '../../src/block/node.ts';
import { MemoryNode } from './memory-node.ts';

/** Takes whole sectors only; notes what makes writes stable. */
class SectorNode extends MemoryNode {
  override readonly limits: BlockLimits = { ...new MemoryNode().limits, requestAlignment: 512 };
  readonly log: string[] = [];

  override async write(offset: number, from: IoVector, flags?: WriteFlags): Promise<void> {
    this.log.push(flags?.fua === true ? 'write fua' : 'write');
    await super.write(offset, from);
  }
  override async flush(): Promise<void> {
    this.log.push('flush');
  }
}

describe('stable writes', () => {
  /** A disk of 1536 bytes. */
  const disk = async (): Promise<SectorNode> => {
    const node = new SectorNode();
    await node.write(0, [new Uint8Array(1536).fill(7)]);
    return node;
  };
  const write = async (backend: BlockBackend, node: SectorNode, offset: number, flags?: WriteFlags) => {
    node.log.length = 0;
    await backend.write(offset, [new Uint8Array(512)], flags);
    return node.log;
  };

  it('an aligned write carries the flag', async () => {
    const node = await disk();
    expect(await write(new BlockBackend(node, {}), node, 512, { fua: true })).toEqual(['write fua']);
  });
  it('an unaligned write with the flag is followed by a flush', async () => {
    const node = await disk();
    const log = await write(new BlockBackend(node, {}), node, 100, { fua: true });
    expect(log.at(-1)).toBe('flush');
    expect(log.filter((entry) => entry === 'flush')).toHaveLength(1);
  });
  it('without a write cache every write is followed by a flush, once', async () => {
    const node = await disk();
    const backend = new BlockBackend(node, { writethrough: true });
    for (const offset of [512, 100]) {
      const log = await write(backend, node, offset);
      expect(log.filter((entry) => entry === 'flush')).toHaveLength(1);
      expect(log.at(-1)).toBe('flush');
    }
  });
  it('an unaligned write leaves its neighbours alone', async () => {
    const node = await disk();
    const backend = new BlockBackend(node, {});
    await backend.write(500, [new Uint8Array(600).fill(9)]);
    const all = new Uint8Array(1536);
    await backend.read(0, [all]);
    expect(all).toEqual(new Uint8Array(1536).fill(7).fill(9, 500, 1100));
  });
});
