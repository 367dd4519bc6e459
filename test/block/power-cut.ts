/**
 * Power cuts: a trace of what was written to a file, and when it was flushed, is replayed up to every boundary between
 * two writes, with unflushed writes dropped, torn and reordered. Every time the image has to open, its metadata has to
 * be right but for leaks, and what was written before an acknowledged flush has to be there.
 */
import { BlockBackend } from '../../src/block/backend.ts';
import { inlineCodec } from '../../src/block/codec.ts';
import { iovGather } from '../../src/block/iov.ts';
import type { BlockNode, IoVector, WriteFlags } from '../../src/block/node.ts';
import { NodeOptions } from '../../src/block/options.ts';
import { checkImage } from '../../src/block/qcow2/check.ts';
import { createQcow2, QCOW2_DEFAULTS, type Qcow2CreateOptions } from '../../src/block/qcow2/create.ts';
import type { Qcow2Node } from '../../src/block/qcow2/node.ts';
import { openQcow2 } from '../../src/block/qcow2/open.ts';
import { createSnapshot, deleteSnapshot } from '../../src/block/qcow2/snapshot.ts';
import { MemoryNode } from './memory-node.ts';
import { randomNumbers } from './qemu-tools.ts';

const SECTOR = 512;
type Random = (below: number) => number;

interface Write {
  readonly offset: number;
  readonly data: Uint8Array;
}
/** A write, or a flush that has ended: what was written before it began is stable. */
type Event = Write | { readonly flushed: number };

/** A file that remembers what was done to it. */
class RecordingNode extends MemoryNode {
  readonly events: Event[] = [];

  override async write(offset: number, from: IoVector, flags?: WriteFlags): Promise<void> {
    const data = iovGather(from);
    this.events.push({ offset, data });
    await super.write(offset, [data]);
    if (flags?.fua) await this.flush();
  }
  override async flush(): Promise<void> {
    const flushed = this.events.length;
    // others go on meanwhile
    await Promise.resolve();
    await Promise.resolve();
    this.events.push({ flushed });
  }
  override async truncate(size: number): Promise<void> {
    // not cut: a write of zeroes stands for it
    const old = this.size;
    await super.truncate(size);
    if (size < old) this.events.push({ offset: size, data: new Uint8Array(old - size) });
  }
}

/** A change of the guest's, by the events between which it happened. */
interface Change {
  readonly begin: number;
  readonly sector: number;
  /** One value a sector; -1: zeroes, or what was there (a discard). */
  readonly values: readonly number[];
}
/** A flush, by the event after which it was acknowledged, and the changes before it. */
interface Flush {
  readonly end: number;
  readonly changes: number;
}
/** A snapshot made or deleted. */
interface Interval {
  readonly begin: number;
  readonly end: number;
}
interface Trace {
  readonly changes: Change[];
  readonly flushes: Flush[];
  readonly snapshots: Interval[];
}

export interface PowerCutOptions {
  readonly seed: number;
  readonly operations: number;
  readonly image: Partial<Qcow2CreateOptions>;
  readonly backing: boolean;
  readonly size: number;
  /** Variants of each boundary. */
  readonly variants: number;
}

async function open(file: BlockNode, size: number, backing: boolean): Promise<Qcow2Node> {
  return openQcow2({
    file,
    context: { codec: inlineCodec, warn: () => {} },
    options: NodeOptions.from({ 'l2-cache-size': 0, 'l2-cache-entry-size': 512 }),
    readOnly: false,
    unmap: true,
    openDataFile: () => Promise.reject(new Error('no data file')),
    openBacking: async () => (backing ? backingOf(size) : undefined),
  });
}

async function backingOf(size: number): Promise<MemoryNode> {
  const base = new MemoryNode('base');
  for (let sector = 0; sector < size / SECTOR; sector++)
    await base.write(sector * SECTOR, [sectorOf(1000 + sector)]);
  return base;
}

function sectorOf(value: number): Uint8Array {
  const data = new Uint8Array(SECTOR);
  if (value !== 0) new Uint32Array(data.buffer).fill(value);
  return data;
}
function valueOf(data: Uint8Array): number {
  const words = new Uint32Array(data.buffer, data.byteOffset, SECTOR / 4);
  for (const word of words) if (word !== words[0]) return -2;
  return words[0];
}

/** One trace, and all its power cuts. Returns how many states were looked at; throws an Error for the first bad one. */
export async function powerCuts(options: PowerCutOptions): Promise<number> {
  const random = randomNumbers(options.seed);
  const file = new RecordingNode('trace');
  const create = {
    ...QCOW2_DEFAULTS,
    size: options.size,
    ...options.image,
    ...(options.backing ? { backingFile: 'base', backingFormat: 'raw' } : {}),
  };
  await createQcow2(file, undefined, create, { codec: inlineCodec, warn: () => {} });
  const created = file.events.length;
  const trace: Trace = { changes: [], flushes: [{ end: created, changes: 0 }], snapshots: [] };
  await makeTrace(file, options, random, trace);
  return replay(file.events, created, options, random, trace);
}

async function makeTrace(
  file: RecordingNode,
  options: PowerCutOptions,
  random: Random,
  { changes, flushes, snapshots }: Trace,
): Promise<void> {
  const node = await open(file, options.size, options.backing);
  const backend = new BlockBackend(node, { unmap: true });
  const sectors = options.size / SECTOR;
  let value = 1_000_000;
  const change = async (): Promise<void> => {
    const sector = random(sectors);
    const count = 1 + random(Math.min(24, sectors - sector));
    const kind = random(12);
    const begin = file.events.length;
    const at = sector * SECTOR;
    if (kind === 0) {
      changes.push({ begin, sector, values: new Array<number>(count).fill(0) });
      await backend.writeZeroes(at, count * SECTOR, { mayUnmap: random(2) === 0 });
    } else if (kind === 1) {
      changes.push({ begin, sector, values: new Array<number>(count).fill(-1) });
      await backend.discard(at, count * SECTOR);
    } else if (kind === 2) {
      const { clusterSize } = node.state;
      const start = Math.floor(at / clusterSize) * clusterSize;
      if (start + clusterSize > options.size) return;
      const values = Array.from({ length: clusterSize / SECTOR }, () => ++value);
      changes.push({ begin, sector: start / SECTOR, values });
      await backend.writeCompressed(start, values.map(sectorOf));
    } else {
      const values = Array.from({ length: count }, () => ++value);
      changes.push({ begin, sector, values });
      await backend.write(at, values.map(sectorOf));
    }
  };
  const names: string[] = [];
  for (let i = 0; i < options.operations; i++) {
    const kind = random(20);
    if (kind < 12) await change();
    else if (kind < 15) await Promise.all([change(), change(), change(), change()]);
    else if (kind < 19 || (options.image.refcountBits ?? 16) < 8) {
      await backend.flush();
      flushes.push({ end: file.events.length, changes: changes.length });
    } else {
      const begin = file.events.length;
      if (names.length < 2) {
        names.push(`s${i}`);
        await createSnapshot(node, { name: `s${i}`, date: 0 });
      } else {
        await deleteSnapshot(node, names.shift() ?? '');
      }
      snapshots.push({ begin, end: file.events.length });
    }
  }
  await backend.close();
  flushes.push({ end: file.events.length, changes: changes.length });
}

async function replay(
  events: readonly Event[],
  created: number,
  options: PowerCutOptions,
  random: Random,
  trace: Trace,
): Promise<number> {
  let states = 0;
  let stable = new MemoryNode('stable');
  let applied = 0;
  for (let cut = created; cut <= events.length; cut++) {
    // what a flush that ended before the cut covers is on the disk
    let covered = applied;
    for (let i = applied; i < cut; i++) {
      const event = events[i];
      if ('flushed' in event) covered = Math.max(covered, event.flushed);
    }
    for (; applied < covered; applied++) {
      const event = events[applied];
      if ('data' in event) await stable.write(event.offset, [event.data]);
    }
    const loose = events.slice(covered, cut).filter((event): event is Write => 'data' in event);
    for (let variant = 0; variant < options.variants; variant++) {
      const disk = new MemoryNode('disk', 65536, stable);
      for (const write of choose(loose, variant, random)) await disk.write(write.offset, [write.data]);
      const inSnapshot = trace.snapshots.some(({ begin, end }) => begin <= cut && cut <= end);
      const problem = await look(disk, options, allowedValues(cut, options, trace), inSnapshot);
      states++;
      if (problem !== undefined) {
        throw new Error(
          `seed ${options.seed}, ${JSON.stringify(options.image)}, backing ${options.backing}: cut before event ${cut} of ` +
            `${events.length}, variant ${variant}: ${problem}`,
        );
      }
    }
  }
  stable = new MemoryNode();
  return states;
}

/** Which of the unflushed writes are on the disk, and in which order. */
function choose(loose: readonly Write[], variant: number, random: Random): Write[] {
  if (variant === 0) return [...loose];
  if (variant === 1) return loose.slice(-1);
  const some: Write[] = [];
  for (const write of loose) {
    if (random(2) === 0) continue;
    // torn: some of its sectors
    const sectors = Math.ceil(write.data.length / SECTOR);
    if (sectors > 1 && random(4) === 0) {
      const cut = random(sectors) * SECTOR;
      if (random(2)) some.push({ offset: write.offset, data: write.data.subarray(0, cut) });
      else some.push({ offset: write.offset + cut, data: write.data.subarray(cut) });
    } else some.push(write);
  }
  for (let i = some.length - 1; i > 0; i--) {
    const j = random(i + 1);
    // writes that overlap stay in their order: a disk does not undo a later one
    const overlap = some
      .slice(j, i + 1)
      .some((a, n, list) =>
        list.some(
          (b, m) => n < m && a.offset < b.offset + b.data.length && b.offset < a.offset + a.data.length,
        ),
      );
    if (!overlap) [some[i], some[j]] = [some[j], some[i]];
  }
  return some;
}

/** For each sector: what it may contain. */
function allowedValues(cut: number, options: PowerCutOptions, { changes, flushes }: Trace): Set<number>[] {
  const sectors = options.size / SECTOR;
  const allowed = Array.from({ length: sectors }, (_, i) => new Set([options.backing ? 1000 + i : 0]));
  const certain = flushes.findLast(({ end }) => end <= cut)?.changes ?? 0;
  for (const [index, { begin, sector, values }] of changes.entries()) {
    if (begin > cut) break;
    values.forEach((value, i) => {
      const set = allowed[sector + i];
      // done before a flush that was acknowledged: what was there before is not any more
      if (value !== -1 && index < certain) set.clear();
      set.add(value === -1 ? 0 : value);
    });
  }
  return allowed;
}

/** A cluster with one user whose entry does not say so: it would be copied when written, and nothing is lost. */
const HARMLESS = /^ERROR OFLAG_COPIED .* refcount=1$/;

async function look(
  disk: MemoryNode,
  options: PowerCutOptions,
  allowed: readonly Set<number>[],
  inSnapshot: boolean,
): Promise<string | undefined> {
  let node: Qcow2Node;
  try {
    node = await open(disk, options.size, options.backing);
  } catch (error) {
    return `open: ${error instanceof Error ? error.message : String(error)}`;
  }
  const lines: string[] = [];
  const result = await checkImage(node.state, { print: (line) => lines.push(line) });
  // many entries cannot change at once with as many refcounts
  const bad = inSnapshot ? lines.filter((line) => !line.startsWith('Leaked') && !HARMLESS.test(line)) : lines;
  const isBad = (result.corruptions > 0 || result.checkErrors > 0) && bad.length > 0;
  if (isBad) return `check: ${bad.slice(0, 3).join('; ')}`;
  const data = new Uint8Array(options.size);
  await node.read(0, [data]);
  for (const [sector, set] of allowed.entries()) {
    const value = valueOf(data.subarray(sector * SECTOR, (sector + 1) * SECTOR));
    if (!set.has(value)) return `sector ${sector}: ${value}, not one of ${[...set].join(', ')}`;
  }
  return undefined;
}

/** One of several kinds of image, by number. */
export function powerCutImage(kind: number): Pick<PowerCutOptions, 'image' | 'backing'> {
  const backing = kind % 3 === 0;
  const clusterSize = [512, 1024, 4096, 16384][kind % 4];
  if (kind % 7 === 0) return { image: { version: 2, clusterSize }, backing };
  return {
    image: {
      clusterSize,
      extendedL2: clusterSize === 16384 && kind % 8 === 7,
      lazyRefcounts: kind % 5 === 0,
      refcountBits: [16, 1, 64, 8][(kind >> 2) % 4],
      compressionType: kind % 2 === 0 ? 'zlib' : 'zstd',
    },
    backing,
  };
}
