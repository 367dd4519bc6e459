import { writeFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { openImage } from '../../src/block/open.ts';
import { createQcow2, QCOW2_DEFAULTS } from '../../src/block/qcow2/create.ts';
import type { Qcow2Node } from '../../src/block/qcow2/node.ts';
import { applySnapshot, createSnapshot } from '../../src/block/qcow2/snapshot.ts';
import { MemoryNode } from './memory-node.ts';
import { openMemory } from './mutate.ts';
import { haveQemuTools, qemuImg, randomNumbers, temporaryDirectory, testContext } from './qemu-tools.ts';

const directory = temporaryDirectory();
afterAll(() => directory.remove());

/** Image options, by what they are about. */
const KINDS: Readonly<Record<string, string>> = {
  'version 3': 'compat=1.1',
  'version 2': 'compat=0.10',
  'clusters of 512 bytes': 'cluster_size=512',
  'clusters of 2 MiB': 'cluster_size=2M',
  subclusters: 'extended_l2=on',
  'refcounts of 1 bit': 'refcount_bits=1',
  'refcounts of 64 bits': 'refcount_bits=64,cluster_size=4k',
  'lazy refcounts': 'lazy_refcounts=on',
};
const SIZE = 8 << 20;

describe.skipIf(!haveQemuTools)('random writes to a qcow2 image', () => {
  it.each(Object.entries(KINDS))(
    '%s: read back, and clean by qemu-img check and compare',
    async (name, options) => {
      const image = directory.path(`${name}.qcow2`);
      expect(qemuImg('create', '-q', '-f', 'qcow2', '-o', options, image, String(SIZE)).status).toBe(0);
      const node = await openImage({ file: image, readOnly: false }, testContext());
      const model = Buffer.alloc(SIZE);
      const random = randomNumbers(7);
      for (let i = 0; i < 150; i++) {
        const offset = random(SIZE / 512) * 512;
        const length = Math.min(512 * (1 + random(random(5) === 0 ? 300 : 8)), SIZE - offset);
        const kind = random(10);
        if (kind < 7) {
          model.fill(1 + random(255), offset, offset + length);
          await node.write(offset, [Buffer.from(model.subarray(offset, offset + length))]);
        } else if (kind < 9) {
          model.fill(0, offset, offset + length);
          await node.writeZeroes(offset, length, { mayUnmap: kind === 8 });
        } else {
          const got = Buffer.alloc(length);
          await node.read(offset, [got]);
          expect(got.equals(model.subarray(offset, offset + length))).toBe(true);
        }
        if (random(50) === 0) await node.flush();
      }
      await node.close();
      const raw = directory.path('model.raw');
      writeFileSync(raw, model);
      expect(qemuImg('check', image)).toMatchObject({ status: 0 });
      expect(qemuImg('compare', '-f', 'raw', raw, image)).toMatchObject({ status: 0 });
    },
  );
});

describe('a compressed cluster', () => {
  it('that was read is read anew once its place has other data', async () => {
    const file = new MemoryNode();
    const context = testContext();
    await createQcow2(file, undefined, { ...QCOW2_DEFAULTS, size: SIZE, clusterSize: 4096 }, context);
    const node = await openMemory(file, { readOnly: false });
    const expectByte = async (offset: number, value: number) => {
      const data = new Uint8Array(4096);
      await node.read(offset, [data]);
      expect(data.every((byte) => byte === value)).toBe(true);
    };
    for (let round = 1; round < 40; round++) {
      const offset = (round % 2) * 4096;
      await node.writeCompressed(offset, [new Uint8Array(4096).fill(round)]);
      await expectByte(offset, round);
      await expectByte(offset, round);
      await node.writeZeroes(offset, 4096, { mayUnmap: true });
      await expectByte(offset, 0);
      // what was freed may be used again after a flush
      await node.flush();
    }
    await node.close();
  });
});

describe.skipIf(!haveQemuTools)('refcounts too narrow for a snapshot', () => {
  it.each([
    ['of 1 bit: one is refused', 1, 0],
    ['of 2 bits: going back to one is refused', 2, 2],
  ])('%s, and nothing is leaked', async (name, bits, snapshots) => {
    const image = directory.path(`narrow ${name}.qcow2`);
    const options = `refcount_bits=${bits},cluster_size=4k`;
    expect(qemuImg('create', '-q', '-f', 'qcow2', '-o', options, image, String(SIZE)).status).toBe(0);
    const node = (await openImage({ file: image, readOnly: false }, testContext())) as Qcow2Node;
    const data = Buffer.alloc(20_480, 7);
    await node.write(1 << 20, [data]);
    for (let i = 0; i < snapshots; i++) await createSnapshot(node, { name: `s${i}`, date: 0 });
    const refused =
      snapshots === 0 ? createSnapshot(node, { name: 's', date: 0 }) : applySnapshot(node, 's0');
    await expect(refused).rejects.toThrow('Refcount overflow');
    const got = Buffer.alloc(data.length);
    await node.read(1 << 20, [got]);
    expect(got.equals(data)).toBe(true);
    await node.close();
    expect(qemuImg('check', image)).toMatchObject({ status: 0 });
  });
});
