/**
 * Random operations on a qcow2 image against a flat model of the disk; the image is then checked and compared by
 * qemu-img, changed by qemu-io, and read back.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { BlockBackend } from '../../src/block/backend.ts';
import { FileNode } from '../../src/block/file.ts';
import { openImage } from '../../src/block/open.ts';
import { makeEmpty } from '../../src/block/qcow2/backing.ts';
import { createQcow2, QCOW2_DEFAULTS, type Qcow2CreateOptions } from '../../src/block/qcow2/create.ts';
import type { Qcow2Node } from '../../src/block/qcow2/node.ts';
import { applySnapshot, createSnapshot, deleteSnapshot } from '../../src/block/qcow2/snapshot.ts';
import { lateContext, qemuImg, qemuIo, randomNumbers, testContext } from './qemu-tools.ts';

const SECTOR = 512;

/** What an image is like, and what happens to it. */
export interface CampaignOptions {
  readonly seed: number;
  readonly operations: number;
  /** Where the images are made: a prefix of their names. */
  readonly path: string;
  /** Operations between two looks by qemu-img. */
  readonly checkEvery: number;
  readonly image: Partial<Qcow2CreateOptions>;
  /** With a backing file: a raw one of half the size. */
  readonly backing: boolean;
  readonly size: number;
}

/** An image and what it should contain. */
export class RandomImage {
  readonly #options: CampaignOptions;
  readonly #random: (below: number) => number;
  readonly #file: string;
  #node: Qcow2Node | undefined;
  #backend: BlockBackend | undefined;
  #model: Buffer;
  readonly #snapshots = new Map<string, Buffer>();
  #names = 0;
  /** What was done, the last last: for the message of a failure. */
  readonly #log: string[] = [];
  readonly counts: Record<string, number> = {};

  constructor(options: CampaignOptions) {
    this.#options = options;
    this.#random = randomNumbers(options.seed);
    this.#file = `${options.path}.qcow2`;
    this.#model = Buffer.alloc(options.size);
  }

  /** All of it; throws an Error that says what is wrong and after which operations. */
  async run(): Promise<void> {
    try {
      await this.#create();
      await this.#open();
      for (let i = 1; i <= this.#options.operations; i++) {
        await this.#step();
        if (i % this.#options.checkEvery === 0) await this.#look();
      }
      await this.#look();
      await this.#close();
    } catch (error) {
      const last = this.#log.slice(-12).join('\n  ');
      throw new Error(
        `seed ${this.#options.seed}, ${JSON.stringify(this.#options.image)}, backing ${this.#options.backing}: ` +
          `${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n  ${last}`,
      );
    }
    for (const suffix of ['.qcow2', '.raw', '.data', '.base'])
      rmSync(this.#options.path + suffix, { force: true });
  }

  get #cluster(): number {
    return this.#options.image.clusterSize ?? QCOW2_DEFAULTS.clusterSize;
  }

  async #create(): Promise<void> {
    const { path, image, backing, size } = this.#options;
    const base = `${path}.base`;
    if (backing) {
      for (let at = 0; at < size / 2; at += SECTOR) this.#model.fill(this.#random(256), at, at + SECTOR);
      writeFileSync(base, this.#model.subarray(0, size / 2));
    }
    const options = {
      ...QCOW2_DEFAULTS,
      ...image,
      size,
      ...(backing ? { backingFile: base, backingFormat: 'raw' } : {}),
    };
    const file = FileNode.open({ filename: this.#file, readOnly: false, create: true });
    const data =
      options.dataFile === ''
        ? undefined
        : FileNode.open({ filename: options.dataFile, readOnly: false, create: true });
    await createQcow2(file, data, options, testContext());
    await file.close();
    await data?.close();
  }

  async #open(): Promise<void> {
    const context = {
      ...(this.#random(2) ? lateContext(this.#random) : testContext()),
      warn: (text: string) => {
        throw new Error(text);
      },
    };
    const node = await openImage(
      {
        file: this.#file,
        readOnly: false,
        format: 'qcow2',
        unmap: true,
        // small caches, so that tables are written and read all the time
        options: {
          'l2-cache-size': 4 * this.#cluster,
          'refcount-cache-size': 4 * this.#cluster,
          'l2-cache-entry-size': Math.min(4096, this.#cluster),
          'overlap-check': 'all',
        },
      },
      context,
    );
    this.#node = node as Qcow2Node;
    this.#backend = new BlockBackend(node, { unmap: true, detectZeroes: this.#random(2) ? 'unmap' : 'off' });
  }

  async #close(): Promise<void> {
    await this.#backend?.close();
  }

  #place(): { offset: number; length: number } {
    const sectors = this.#model.length / SECTOR;
    // most of it in one part of the disk, so that clusters are met again
    const span = this.#random(3) === 0 ? sectors : Math.min(sectors, 2048);
    const offset = this.#random(span);
    const big = this.#random(6) === 0 ? 600 : 20;
    const length = Math.min(1 + this.#random(big), sectors - offset);
    return { offset: offset * SECTOR, length: length * SECTOR };
  }

  async #step(): Promise<void> {
    const kinds: readonly (readonly [string, number])[] = [
      ['write', 40],
      ['batch', 16],
      ['zero', 10],
      ['discard', 8],
      ['compressed', 8],
      ['read', 10],
      ['flush', 4],
      ['reopen', 2],
      ['snapshot', 3],
      ['apply', 1],
      ['delete', 2],
      ['grow', 1],
      ['shrink', 1],
      ['qemu-io', 2],
      ['commit', 1],
    ];
    let pick = this.#random(kinds.reduce((sum, [, weight]) => sum + weight, 0));
    for (const [kind, weight] of kinds) {
      pick -= weight;
      if (pick >= 0) continue;
      this.counts[kind] = (this.counts[kind] ?? 0) + 1;
      await this.#do(kind);
      return;
    }
  }

  async #do(kind: string): Promise<void> {
    const { offset, length } = this.#place();
    this.#log.push(`${kind} ${offset} +${length}`);
    switch (kind) {
      case 'write':
        return this.#write(offset, length);
      case 'batch':
        await Promise.all(Array.from({ length: 2 + this.#random(12) }, () => this.#one()));
        return;
      case 'zero':
        return this.#zero(offset, length);
      case 'discard':
        return this.#discard(offset, length);
      case 'compressed':
        return this.#compressed(offset);
      case 'read':
        return this.#read(offset, length);
      case 'flush':
        return this.#blk.flush();
      case 'reopen':
        await this.#close();
        return this.#open();
      case 'snapshot':
        return this.#snapshot();
      case 'apply':
        return this.#apply();
      case 'delete':
        return this.#delete();
      case 'grow':
      case 'shrink':
        return this.#resize(kind === 'grow');
      case 'qemu-io':
        return this.#outside();
      case 'commit':
        return this.#commit();
      default:
        throw new Error(kind);
    }
  }

  get #blk(): BlockBackend {
    if (!this.#backend) throw new Error('not open');
    return this.#backend;
  }
  get #image(): Qcow2Node {
    if (!this.#node) throw new Error('not open');
    return this.#node;
  }

  /** One of several requests at a time; what overlaps is done in the order of the calls. */
  #one(): Promise<void> {
    const { offset, length } = this.#place();
    this.#log.push(`  at once: ${offset} +${length}`);
    return this.#random(4) === 0 ? this.#zero(offset, length) : this.#write(offset, length);
  }

  async #write(offset: number, length: number): Promise<void> {
    const zeroes = this.#random(12) === 0;
    for (let at = offset; at < offset + length; at += SECTOR) {
      this.#model.fill(zeroes ? 0 : this.#random(255) + 1, at, at + SECTOR);
    }
    const data = Buffer.from(this.#model.subarray(offset, offset + length));
    // in pieces, as a guest's memory is
    const cut = this.#random(length);
    await this.#blk.write(offset, cut === 0 ? [data] : [data.subarray(0, cut), data.subarray(cut)]);
  }

  #zero(offset: number, length: number): Promise<void> {
    this.#model.fill(0, offset, offset + length);
    return this.#blk.writeZeroes(offset, length, { mayUnmap: this.#random(2) === 0 });
  }

  /** Each sector is then what it was, or zero. */
  async #discard(offset: number, length: number): Promise<void> {
    await this.#blk.discard(offset, length);
    const got = Buffer.alloc(length);
    await this.#blk.read(offset, [got]);
    const zeroes = Buffer.alloc(SECTOR);
    for (let at = 0; at < length; at += SECTOR) {
      const sector = got.subarray(at, at + SECTOR);
      const old = this.#model.subarray(offset + at, offset + at + SECTOR);
      if (!sector.equals(old) && !sector.equals(zeroes))
        throw new Error(`after discard: sector at ${offset + at}`);
      sector.copy(old);
    }
  }

  async #compressed(offset: number): Promise<void> {
    if (this.#options.image.dataFile) return;
    const cluster = this.#cluster;
    const start = offset - (offset % cluster);
    const length = Math.min(cluster * (1 + this.#random(3)), this.#model.length - start);
    if (length % cluster !== 0) return;
    for (let at = start; at < start + length; at += SECTOR)
      this.#model.fill(this.#random(4) + 1, at, at + SECTOR);
    await this.#blk.writeCompressed(start, [Buffer.from(this.#model.subarray(start, start + length))]);
  }

  async #read(offset: number, length: number): Promise<void> {
    const got = Buffer.alloc(length, 0xee);
    await this.#blk.read(offset, [got]);
    const expected = this.#model.subarray(offset, offset + length);
    if (got.equals(expected)) return;
    for (let at = 0; at < length; at += SECTOR) {
      if (!got.subarray(at, at + SECTOR).equals(expected.subarray(at, at + SECTOR))) {
        throw new Error(`read: ${got[at]} for ${expected[at]} at ${offset + at}`);
      }
    }
  }

  async #snapshot(): Promise<void> {
    if (this.#options.image.dataFile || this.#snapshots.size >= 4) return;
    const name = `s${this.#names++}`;
    try {
      await createSnapshot(this.#image, { name, date: 1_700_000_000_000 });
    } catch (error) {
      // refcounts too narrow for one more user
      if ((this.#options.image.refcountBits ?? 16) < 8) return;
      throw error;
    }
    this.#snapshots.set(name, Buffer.from(this.#model));
  }

  #someSnapshot(): string | undefined {
    const names = [...this.#snapshots.keys()];
    return names.length === 0 ? undefined : names[this.#random(names.length)];
  }

  async #apply(): Promise<void> {
    const name = this.#someSnapshot();
    if (name === undefined) return;
    try {
      await applySnapshot(this.#image, name);
    } catch (error) {
      if ((this.#options.image.refcountBits ?? 16) < 8) return;
      throw error;
    }
    this.#model = Buffer.from(this.#snapshots.get(name) ?? Buffer.alloc(0));
  }

  async #delete(): Promise<void> {
    const name = this.#someSnapshot();
    if (name === undefined) return;
    await deleteSnapshot(this.#image, name);
    this.#snapshots.delete(name);
  }

  async #resize(grow: boolean): Promise<void> {
    const { size, backing } = this.#options;
    if (this.#snapshots.size > 0 && this.#options.image.version === 2) return;
    const old = this.#model.length;
    const by = SECTOR * (1 + this.#random(4096));
    // what is cut and then grown again shows the backing file, in QEMU's too
    const next = grow ? Math.min(old + by, 2 * size) : Math.max(old - by, backing ? size / 2 : size / 4);
    if (next === old) return;
    await this.#blk.drainBegin();
    await this.#image.truncate(next);
    this.#blk.drainEnd();
    const model = Buffer.alloc(next);
    this.#model.copy(model, 0, 0, Math.min(old, next));
    this.#model = model;
  }

  /** qemu-io writes, and we read. */
  async #outside(): Promise<void> {
    await this.#close();
    const commands: string[] = [];
    for (let i = 0; i < 4; i++) {
      const { offset, length } = this.#place();
      const value = this.#random(255) + 1;
      commands.push(`write -P ${value} ${offset} ${length}`);
      this.#model.fill(value, offset, offset + length);
    }
    const { offset, length } = this.#place();
    commands.push(`write -z ${offset} ${length}`);
    this.#model.fill(0, offset, offset + length);
    const { status, stdout, stderr } = qemuIo(['-f', 'qcow2', this.#file], commands);
    if (status !== 0 || /error|failed/i.test(stdout + stderr)) throw new Error(`qemu-io: ${stdout}${stderr}`);
    await this.#open();
    await this.#read(0, this.#model.length);
  }

  /** Copies what the image has into its backing file, and empties it. */
  async #commit(): Promise<void> {
    if (!this.#options.backing || this.#snapshots.size > 0 || this.#options.image.dataFile) return;
    const base = FileNode.open({ filename: `${this.#options.path}.base`, readOnly: false });
    await base.truncate(this.#model.length);
    await base.write(0, [this.#model]);
    await base.close();
    await makeEmpty(this.#image);
    await this.#close();
    await this.#open();
    await this.#read(0, this.#model.length);
  }

  /** Closes the image, lets qemu-img look at it, and opens it again. */
  async #look(): Promise<void> {
    await this.#read(0, this.#model.length);
    await this.#close();
    const check = qemuImg('check', '-f', 'qcow2', this.#file);
    if (check.status !== 0) throw new Error(`qemu-img check: ${check.stdout}${check.stderr}`);
    const raw = `${this.#options.path}.raw`;
    writeFileSync(raw, this.#model);
    const compare = qemuImg('compare', '-f', 'raw', '-F', 'qcow2', raw, this.#file);
    if (compare.status !== 0) throw new Error(`qemu-img compare: ${compare.stdout}${compare.stderr}`);
    const name = this.#someSnapshot();
    if (name !== undefined) await this.#lookAtSnapshot(name);
    await this.#open();
  }

  async #lookAtSnapshot(name: string): Promise<void> {
    const copy = `${this.#options.path}.raw`;
    const { status, stderr } = qemuImg(
      'convert',
      '-f',
      'qcow2',
      '-O',
      'raw',
      '-l',
      `snapshot.name=${name}`,
      this.#file,
      copy,
    );
    if (status !== 0) throw new Error(`qemu-img convert -l: ${stderr}`);
    const node = FileNode.open({ filename: copy, readOnly: true });
    // qemu-img shows a snapshot with the disk's size of today
    const expected = (this.#snapshots.get(name) ?? Buffer.alloc(0)).subarray(0, this.#model.length);
    const got = Buffer.alloc(expected.length);
    await node.read(0, [got]);
    await node.close();
    if (!got.equals(expected)) throw new Error(`snapshot ${name} differs`);
  }
}

/** One of the many kinds of image, by number. */
export function imageOfKind(
  kind: number,
  path: string,
): { image: Partial<Qcow2CreateOptions>; backing: boolean } {
  const random = randomNumbers(kind * 7919 + 1);
  const clusterSize = 512 << (kind % 13);
  const version = kind % 5 === 4 ? 2 : 3;
  const backing = random(3) === 0;
  if (version === 2) return { image: { version, clusterSize }, backing };
  const extendedL2 = clusterSize >= 16384 && random(3) === 0;
  const withData = random(6) === 0;
  return {
    image: {
      version,
      clusterSize,
      extendedL2,
      refcountBits: withData ? 16 : 1 << random(7),
      lazyRefcounts: random(4) === 0,
      compressionType: random(2) === 0 ? 'zlib' : 'zstd',
      ...(withData ? { dataFile: `${path}.data`, dataFileRaw: !backing && random(2) === 0 } : {}),
    },
    backing,
  };
}
