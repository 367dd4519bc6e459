import { describe, expect, it } from 'vitest';
import { BlockBackend } from '../../src/block/backend.ts';
import { inlineCodec } from '../../src/block/codec.ts';
import { BlockError, type BlockErrno } from '../../src/block/errors.ts';
import { iovGather } from '../../src/block/iov.ts';
import type { IoVector } from '../../src/block/node.ts';
import { NodeOptions } from '../../src/block/options.ts';
import { checkImage } from '../../src/block/qcow2/check.ts';
import { createQcow2, QCOW2_DEFAULTS } from '../../src/block/qcow2/create.ts';
import type { Qcow2Node } from '../../src/block/qcow2/node.ts';
import { openQcow2 } from '../../src/block/qcow2/open.ts';
import { MemoryNode } from './memory-node.ts';
import { randomNumbers } from './qemu-tools.ts';

const SIZE = 256 * 1024;
const context = { codec: inlineCodec, warn: () => {} };

/** A file whose calls fail when told to. */
class FaultyNode extends MemoryNode {
  /** Writes until one fails; -1: none does. */
  failIn = -1;
  code: BlockErrno = 'EIO';
  failReads = false;
  failFlushes = false;

  override async read(offset: number, to: IoVector): Promise<void> {
    if (this.failReads) throw new BlockError('EIO', 'Input/output error');
    await super.read(offset, to);
  }
  override async write(offset: number, from: IoVector): Promise<void> {
    if (this.failIn === 0) {
      // a first part of it is on the disk
      const data = iovGather(from);
      await super.write(offset, [data.subarray(0, Math.floor(data.length / 1024) * 512)]);
      throw new BlockError(this.code, this.code);
    }
    if (this.failIn > 0) this.failIn--;
    await super.write(offset, from);
  }
  override async flush(): Promise<void> {
    if (this.failFlushes) throw new BlockError('EIO', 'Input/output error');
  }
}

function open(file: MemoryNode): Promise<Qcow2Node> {
  return openQcow2({
    file,
    context,
    options: NodeOptions.from({ 'l2-cache-size': 0, 'l2-cache-entry-size': 512 }),
    readOnly: false,
    unmap: true,
    openDataFile: () => Promise.reject(new Error('none')),
    openBacking: async () => undefined,
  });
}

async function create(clusterSize = 4096): Promise<FaultyNode> {
  const file = new FaultyNode();
  await createQcow2(file, undefined, { ...QCOW2_DEFAULTS, size: SIZE, clusterSize }, context);
  return file;
}

describe('a qcow2 image on a disk that fails', () => {
  it.each(['EIO', 'ENOSPC'] as const)(
    '%s: requests fail with it, and what was acknowledged stays',
    async (code) => {
      for (let seed = 1; seed <= 25; seed++) {
        const random = randomNumbers(seed);
        const file = await create([512, 4096, 16384][seed % 3]);
        const node = await open(file);
        const backend = new BlockBackend(node, { unmap: true });
        // one value a sector; undefined: the request failed, and nobody knows
        const model: (number | undefined)[] = new Array<number>(SIZE / 512).fill(0);
        file.code = code;
        let failures = 0;
        for (let i = 0; i < 60; i++) {
          file.failIn = random(5) === 0 ? random(4) : -1;
          const sector = random(SIZE / 512);
          const count = 1 + random(Math.min(40, SIZE / 512 - sector));
          const value = random(4) === 0 ? 0 : 1 + random(255);
          try {
            if (value === 0)
              await backend.writeZeroes(sector * 512, count * 512, { mayUnmap: random(2) === 0 });
            else await backend.write(sector * 512, [new Uint8Array(count * 512).fill(value)]);
            model.fill(value, sector, sector + count);
          } catch (error) {
            expect(error).toBeInstanceOf(BlockError);
            expect((error as BlockError).code).toBe(code);
            failures++;
            model.fill(undefined, sector, sector + count);
          }
          file.failIn = -1;
          if (random(6) === 0) await backend.flush();
        }
        expect(failures).toBeGreaterThan(0);
        await backend.close();
        const again = await open(file);
        const result = await checkImage(again.state);
        expect(result).toMatchObject({ corruptions: 0, checkErrors: 0 });
        const data = new Uint8Array(SIZE);
        await again.read(0, [data]);
        model.forEach((value, sector) => {
          if (value !== undefined) expect(data[sector * 512], `seed ${seed}, sector ${sector}`).toBe(value);
        });
      }
    },
  );

  it('reports a flush that failed', async () => {
    const file = await create();
    const backend = new BlockBackend(await open(file));
    await backend.write(0, [new Uint8Array(512).fill(1)]);
    file.failFlushes = true;
    await expect(backend.flush()).rejects.toMatchObject({ code: 'EIO' });
  });

  it('reports reads that failed, and serves the next ones', async () => {
    const file = await create();
    const backend = new BlockBackend(await open(file));
    await backend.write(0, [new Uint8Array(512).fill(1)]);
    file.failReads = true;
    await expect(backend.read(0, [new Uint8Array(512)])).rejects.toMatchObject({ code: 'EIO' });
    file.failReads = false;
    const data = new Uint8Array(512);
    await backend.read(0, [data]);
    expect(data[511]).toBe(1);
  });

  it('stops or reports by werror and rerror', () => {
    const full = new BlockError('ENOSPC', '');
    const broken = new BlockError('EIO', '');
    expect(new BlockBackend(undefined).errorAction(full, true)).toBe('stop');
    expect(new BlockBackend(undefined).errorAction(broken, true)).toBe('report');
    expect(new BlockBackend(undefined).errorAction(broken, false)).toBe('report');
    expect(new BlockBackend(undefined, { werror: 'stop' }).errorAction(broken, true)).toBe('stop');
    expect(new BlockBackend(undefined, { rerror: 'ignore' }).errorAction(broken, false)).toBe('ignore');
  });
});
