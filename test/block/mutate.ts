/** Hostile qcow2 images: good ones, with metadata changed by somebody who knows where it is. */
import { openQcow2 } from '../../src/block/qcow2/open.ts';
import { BlockError } from '../../src/block/errors.ts';
import { NodeOptions } from '../../src/block/options.ts';
import { checkImage } from '../../src/block/qcow2/check.ts';
import { createQcow2, QCOW2_DEFAULTS, type Qcow2CreateOptions } from '../../src/block/qcow2/create.ts';
import type { Qcow2Node } from '../../src/block/qcow2/node.ts';
import { applySnapshot, createSnapshot, deleteSnapshot } from '../../src/block/qcow2/snapshot.ts';
import { inlineCodec } from '../../src/block/codec.ts';
import type { BlockNode, Done } from '../../src/block/node.ts';
import { MemoryNode } from './memory-node.ts';

type Random = (below: number) => number;

/** A good image to begin with. */
export interface Seed {
  readonly name: string;
  readonly file: MemoryNode;
  /** Where metadata is: [offset, length]. */
  readonly places: readonly (readonly [offset: number, length: number])[];
}

const context = { codec: inlineCodec, warn: () => {} };
const SIZE = 1 << 20;

/** Opens an image in memory. */
export async function openMemory(
  file: MemoryNode,
  options: { readOnly: boolean; forCheck?: boolean },
): Promise<Qcow2Node> {
  return openQcow2({
    file,
    context,
    options: NodeOptions.from({}),
    readOnly: options.readOnly,
    unmap: true,
    forCheck: options.forCheck,
    openDataFile: async () => new MemoryNode('data', 4096) as BlockNode,
    // only what the name asks for is opened; here that is a disk of 512 KiB
    openBacking: async ({ backingFile }) => {
      if (backingFile !== 'base') throw new BlockError('ENOENT', `Could not open '${backingFile}'`);
      const base = new MemoryNode('base', 512);
      await base.write(0, [new Uint8Array(SIZE / 2).fill(0x42)]);
      return base;
    },
  });
}

const KINDS: readonly (readonly [string, Partial<Qcow2CreateOptions>])[] = [
  ['version 2', { version: 2, clusterSize: 4096 }],
  ['version 3', { clusterSize: 4096 }],
  ['512 byte clusters', { clusterSize: 512 }],
  ['64 KiB clusters', {}],
  ['subclusters', { clusterSize: 16384, extendedL2: true }],
  ['refcounts of 1 bit', { clusterSize: 4096, refcountBits: 1 }],
  ['refcounts of 64 bits', { clusterSize: 4096, refcountBits: 64 }],
  ['lazy refcounts', { clusterSize: 4096, lazyRefcounts: true }],
  ['zstd', { clusterSize: 8192, compressionType: 'zstd' }],
  ['backing file', { clusterSize: 4096, backingFile: 'base', backingFormat: 'raw' }],
  ['data file', { clusterSize: 4096, dataFile: 'data' }],
];

/** Small images of many kinds, with data, zeroes, compressed clusters, snapshots. */
export async function makeSeeds(): Promise<Seed[]> {
  const seeds: Seed[] = [];
  for (const [name, image] of KINDS) {
    const file = new MemoryNode(name);
    const data = image.dataFile ? new MemoryNode('data') : undefined;
    await createQcow2(file, data, { ...QCOW2_DEFAULTS, size: SIZE, ...image }, context);
    const node = await openMemory(file, { readOnly: false });
    const { clusterSize } = node.state;
    await node.write(3000, [new Uint8Array(100_000).fill(1)]);
    await node.writeZeroes(clusterSize * 3, clusterSize * 2);
    if (!image.dataFile) {
      await node.writeCompressed(SIZE / 2, [new Uint8Array(clusterSize * 2).fill(2)]);
      if (image.refcountBits !== 1) {
        await createSnapshot(node, { name: 'first', date: 0 });
        await createSnapshot(node, { name: 'second', date: 0 });
      }
    }
    await node.write(60_000, [new Uint8Array(70_000).fill(3)]);
    const { header, l1, refcounts, snapshots } = node.state;
    const places: [number, number][] = [
      [0, 112],
      [0, 112],
      [112, 200],
      [header.l1Offset, header.l1Size * 8],
      [header.refcountTableOffset, 64],
    ];
    for (let i = 0; i * 2 < l1.length; i++) {
      const offset = node.state.l1Offset(i);
      if (offset !== 0) places.push([offset, Math.min(clusterSize, 2048)]);
    }
    for (const offset of refcounts.table) if (offset !== 0) places.push([offset, Math.min(clusterSize, 256)]);
    if (snapshots.length > 0) places.push([header.snapshotsOffset, 160], [snapshots[0].l1Offset, 64]);
    await node.close();
    seeds.push({ name, file, places });
  }
  return seeds;
}

/** A copy of a seed with one to four changes. */
export async function mutate(seed: Seed, random: Random): Promise<MemoryNode> {
  const file = new MemoryNode(seed.name, 4096, seed.file);
  const changes = 1 + random(4);
  for (let i = 0; i < changes; i++) {
    const [offset, length] = seed.places[random(seed.places.length)];
    const width = [1, 4, 8, 8][random(4)];
    const at = offset + Math.floor(random(Math.max(length, width)) / width) * width;
    const bytes = new Uint8Array(width);
    await file.read(at, [bytes]);
    change(bytes, random, seed);
    await file.write(at, [bytes]);
  }
  if (random(40) === 0) await file.truncate(random(file.size));
  return file;
}

function change(bytes: Uint8Array, random: Random, seed: Seed): void {
  const view = new DataView(bytes.buffer);
  const number = (value: number) => {
    if (bytes.length === 8) {
      view.setUint32(0, Math.floor(value / 0x1_0000_0000));
      view.setUint32(4, value % 0x1_0000_0000);
    } else if (bytes.length === 4) view.setUint32(0, value % 0x1_0000_0000);
    else bytes[0] = value;
  };
  switch (random(8)) {
    case 0:
      bytes[random(bytes.length)] ^= 1 << random(8);
      break;
    case 1:
      number(0);
      break;
    case 2:
      bytes.fill(0xff);
      break;
    case 3:
      for (let i = 0; i < bytes.length; i++) bytes[i] = random(256);
      break;
    case 4:
      // where other metadata is
      number(seed.places[random(seed.places.length)][0] + (random(4) === 0 ? random(4096) : 0));
      if (random(2)) bytes[0] |= 0x80;
      break;
    case 5:
      bytes[0] ^= [0x80, 0x40, 0xc0][random(3)];
      break;
    case 6:
      number(random(64) * 4096 + (random(3) === 0 ? random(4096) : 0));
      if (random(2)) bytes[0] |= 0x80;
      break;
    default:
      number(2 ** random(53) + random(3) - 1);
  }
}

/** What a mutated image led to. */
export type Outcome = 'refused' | 'used';

/** Opens, reads, writes, checks and repairs. Throws what is no BlockError. */
export async function exercise(file: MemoryNode, random: Random): Promise<Outcome> {
  let node: Qcow2Node;
  try {
    node = await openMemory(file, { readOnly: random(4) === 0 });
  } catch (error) {
    await attempt(async () => repair(file));
    if (error instanceof BlockError) return 'refused';
    throw error;
  }
  const { size } = node;
  const offset = () => Math.floor((random(2) ? Math.min(size, SIZE) : size) * (random(4096) / 4096));
  const requests: Promise<void>[] = [];
  for (let i = 0; i < 6; i++) {
    const at = offset();
    const length = Math.min(1 + random(20_000), size - at);
    if (length <= 0) continue;
    requests.push(attempt(() => node.read(at, [new Uint8Array(length)])));
    requests.push(attempt(() => node.write(at, [new Uint8Array(length).fill(7)])));
    if (i === 2) requests.push(attempt(() => node.writeZeroes(at, length, { mayUnmap: true })));
    if (i === 3) requests.push(attempt(() => node.discard(at, length)));
    if (i === 4) requests.push(attempt(() => node.flush()));
    if (i === 5) requests.push(attempt(async () => void (await node.blockStatus(at, length))));
  }
  await Promise.all(requests);
  const whole = Math.floor(offset() / node.state.clusterSize) * node.state.clusterSize;
  const cluster = new Uint8Array(node.state.clusterSize).fill(9);
  if (whole + cluster.length <= size) await attempt(() => node.writeCompressed(whole, [cluster]));
  if (random(3) === 0) await attempt(async () => void (await createSnapshot(node, { name: 'new', date: 0 })));
  if (random(3) === 0) await attempt(() => applySnapshot(node, 'first'));
  if (random(3) === 0) await attempt(() => deleteSnapshot(node, 'second'));
  if (random(6) === 0) await attempt(() => node.truncate(Math.floor(size / 1024) * 512));
  if (random(6) === 0) await attempt(() => node.truncate(Math.ceil(size / 512) * 512 + (1 << 20)));
  await attempt(async () => void (await checkImage(node.state)));
  await attempt(() => node.close());
  await repair(file);
  return 'used';
}

async function repair(file: MemoryNode): Promise<void> {
  await attempt(async () => {
    const node = await openMemory(file, { readOnly: false, forCheck: true });
    await attempt(async () => void (await checkImage(node.state, { fix: 'all' })));
    await node.close();
  });
}

async function attempt(work: () => Done): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof BlockError)) throw error;
  }
}
