/**
 * Random operations on a chain of images, by `smp86 img` and by qemu-img and qemu-io alternately, against a model of
 * what a guest would read: writes, zeroes, compressed clusters, snapshots, resize, overlays, commit, rebase, amend, convert.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { openImage } from '../../src/block/open.ts';
import { blockContext } from '../../src/cli/img/images.ts';
import { runImg } from '../../src/cli/img/img.ts';

const KIB = 1024;
const UNIT = 64 * KIB;
const START_UNITS = 48;
const MAX_UNITS = 96;
const MAX_LAYERS = 4;

export interface ChainOptions {
  readonly directory: string;
  readonly seed: number;
  readonly operations: number;
  /** Operations between checks by qemu-img. */
  readonly checkEvery: number;
}

/** Images, from the base up. */
interface Layer {
  readonly name: string;
  readonly snapshots: Map<string, Buffer>;
  readonly version: 2 | 3;
  readonly clusterSize: number;
}

type Operation = (chain: RandomChain) => Promise<void>;

/** Throws with the seed, the last operations and what went wrong. */
export class RandomChain {
  readonly #options: ChainOptions;
  readonly counts: Record<string, number> = {};
  #state: number;
  #made = 0;
  readonly #layers: Layer[] = [];
  /** What a guest reads from the uppermost image. */
  #model = Buffer.alloc(0);
  readonly #log: string[] = [];

  constructor(options: ChainOptions) {
    this.#options = options;
    this.#state = options.seed >>> 0 || 1;
  }

  async run(): Promise<void> {
    try {
      await this.#createBase();
      for (let i = 1; i <= this.#options.operations; i++) {
        const [name, operation] = this.#pick(OPERATIONS);
        this.counts[name] = (this.counts[name] ?? 0) + 1;
        await operation(this);
        await this.#compare();
        if (i % this.#options.checkEvery === 0) this.#checkByQemu();
      }
      this.#checkByQemu();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new Error(`seed ${this.#options.seed}: ${reason}\n${this.#log.slice(-12).join('\n')}`, {
        cause: error,
      });
    }
  }

  // random

  #next(limit: number): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.#state / 2 ** 32) * limit);
  }
  #pick<T>(from: readonly T[]): T {
    return from[this.#next(from.length)];
  }

  // tools

  /** qemu-img or `smp86 img`, by chance. */
  async #img(...args: string[]): Promise<void> {
    const bySmp86 = this.#next(2) === 0;
    this.#log.push(`${bySmp86 ? 'smp86 img' : 'qemu-img'} ${args.join(' ')}`);
    const { directory } = this.#options;
    if (!bySmp86) {
      const { status, stderr } = spawnSync('qemu-img', args, { cwd: directory, encoding: 'utf8' });
      if (status !== 0) throw new Error(`qemu-img: exit code ${status}: ${stderr}`);
      return;
    }
    let errors = '';
    const before = process.cwd();
    process.chdir(directory);
    try {
      const keep = (text: string): void => {
        errors += text;
      };
      const status = await runImg(args, { out: () => {}, err: keep });
      if (status !== 0) throw new Error(`smp86 img: exit code ${status}: ${errors}`);
    } finally {
      process.chdir(before);
    }
  }

  #io(command: string): void {
    this.#log.push(`qemu-io ${this.#top.name} ${command}`);
    const args = ['-f', 'qcow2', '-c', command, this.#top.name];
    const { stdout, stderr } = spawnSync('qemu-io', args, { cwd: this.#options.directory, encoding: 'utf8' });
    if (/fail|error|can't/i.test(stdout + stderr)) throw new Error(`qemu-io: ${stdout}${stderr}`);
  }

  get #top(): Layer {
    return this.#layers[this.#layers.length - 1];
  }

  /** Names stay in the directory in which the tools run. */
  #path(name: string): string {
    return join(this.#options.directory, name);
  }

  // checks

  /** smp86 reads it all. */
  async #compare(): Promise<void> {
    const output = { out: () => {}, err: () => {} };
    const request = { file: this.#path(this.#top.name), format: 'qcow2', readOnly: true };
    const image = await openImage(request, blockContext({ output }));
    try {
      if (image.size !== this.#model.length)
        throw new Error(`size ${image.size} instead of ${this.#model.length}`);
      const data = Buffer.alloc(image.size);
      await image.read(0, [data]);
      this.#mustEqual(data, 'smp86');
    } finally {
      await image.close();
    }
  }

  #mustEqual(data: Buffer, who: string): void {
    if (data.equals(this.#model)) return;
    const at = data.findIndex((byte, i) => byte !== this.#model[i]);
    throw new Error(`${who} reads ${data[at]} at ${at}, not ${this.#model[at]}`);
  }

  #checkByQemu(): void {
    const cwd = this.#options.directory;
    for (const { name } of this.#layers) {
      const { status, stdout, stderr } = spawnSync('qemu-img', ['check', '-f', 'qcow2', name], {
        cwd,
        encoding: 'utf8',
      });
      if (status !== 0) throw new Error(`check of ${name}: ${stderr}${stdout}`);
    }
    const flat = ['convert', '-f', 'qcow2', '-O', 'raw', this.#top.name, 'flat'];
    const { status, stderr } = spawnSync('qemu-img', flat, { cwd, encoding: 'utf8' });
    if (status !== 0) throw new Error(`qemu-img convert: ${stderr}`);
    this.#mustEqual(readFileSync(this.#path('flat')), 'qemu-img');
    rmSync(this.#path('flat'));
  }

  // operations

  #newName(): string {
    return `image${this.#made++}`;
  }

  /** Options of a new image, as -o takes them. */
  #kind(): { options: string; version: 2 | 3; clusterSize: number } {
    const version = this.#next(5) === 0 ? 2 : 3;
    const extended = version === 3 && this.#next(4) === 0;
    const clusterSize = extended ? this.#pick([16, 64]) * KIB : this.#pick([512, 4 * KIB, 64 * KIB]);
    const parts = [`cluster_size=${clusterSize}`, `compat=${version === 2 ? '0.10' : '1.1'}`];
    if (extended) parts.push('extended_l2=on');
    if (version === 3) {
      // one bit has no room for what a snapshot shares
      parts.push(`refcount_bits=${this.#pick([8, 16, 32, 64])}`);
      if (this.#next(4) === 0) parts.push('lazy_refcounts=on');
      if (this.#next(3) === 0) parts.push('compression_type=zstd');
    }
    return { options: parts.join(','), version, clusterSize };
  }

  async #createBase(): Promise<void> {
    const name = this.#newName();
    const { options, version, clusterSize } = this.#kind();
    await this.#img('create', '-q', '-f', 'qcow2', '-o', options, name, String(START_UNITS * UNIT));
    this.#layers.push({ name, snapshots: new Map(), version, clusterSize });
    this.#model = Buffer.alloc(START_UNITS * UNIT);
  }

  #range(align: number): [offset: number, length: number] {
    const blocks = Math.floor(this.#model.length / align);
    const first = this.#next(blocks);
    const length = 1 + this.#next(Math.min(blocks - first, Math.max(1, Math.floor((8 * UNIT) / align))));
    return [first * align, length * align];
  }

  async write(): Promise<void> {
    const [offset, length] = this.#range(512);
    const pattern = 1 + this.#next(255);
    this.#io(`write -P ${pattern} ${offset} ${length}`);
    this.#model.fill(pattern, offset, offset + length);
  }

  async writeCompressed(): Promise<void> {
    // QEMU writes compressed clusters only where none was
    const { clusterSize } = this.#top;
    if (clusterSize !== UNIT || this.#layers.length > 1 || this.#top.snapshots.size > 0) return this.write();
    const unit = this.#next(this.#model.length / UNIT);
    const pattern = 1 + this.#next(255);
    this.#io(`discard ${unit * UNIT} ${UNIT}`);
    this.#io(`write -c -P ${pattern} ${unit * UNIT} ${UNIT}`);
    this.#model.fill(pattern, unit * UNIT, (unit + 1) * UNIT);
  }

  async zero(): Promise<void> {
    const [offset, length] = this.#range(512);
    this.#io(`write -z ${this.#next(2) === 0 ? '-u ' : ''}${offset} ${length}`);
    this.#model.fill(0, offset, offset + length);
  }

  async snapshotCreate(): Promise<void> {
    const { snapshots, name } = this.#top;
    if (snapshots.size >= 3) return;
    const tag = `s${this.#made++}`;
    await this.#img('snapshot', '-c', tag, name);
    snapshots.set(tag, Buffer.from(this.#model));
  }

  async snapshotApply(): Promise<void> {
    const { snapshots, name } = this.#top;
    if (snapshots.size === 0) return;
    const [tag, content] = this.#pick([...snapshots]);
    await this.#img('snapshot', '-a', tag, name);
    this.#model = Buffer.from(content);
  }

  async snapshotDelete(): Promise<void> {
    const { snapshots, name } = this.#top;
    if (snapshots.size === 0) return;
    const tag = this.#pick([...snapshots.keys()]);
    await this.#img('snapshot', '-d', tag, name);
    snapshots.delete(tag);
  }

  async resize(): Promise<void> {
    const { snapshots, version, name } = this.#top;
    // version 2 does not keep the size of a snapshot's disk
    if (version === 2 && snapshots.size > 0) return;
    const units = START_UNITS / 2 + this.#next(MAX_UNITS - START_UNITS / 2);
    const size = units * UNIT;
    const shrink = size < this.#model.length ? ['--shrink'] : [];
    await this.#img('resize', '-q', ...shrink, name, String(size));
    const old = this.#model;
    this.#model = Buffer.alloc(size);
    old.copy(this.#model);
  }

  async overlay(): Promise<void> {
    if (this.#layers.length >= MAX_LAYERS) return;
    const name = this.#newName();
    const { options, version, clusterSize } = this.#kind();
    await this.#img('create', '-q', '-f', 'qcow2', '-o', options, '-b', this.#top.name, '-F', 'qcow2', name);
    this.#layers.push({ name, snapshots: new Map(), version, clusterSize });
  }

  /** The uppermost image goes into the one below, and away. */
  async commit(): Promise<void> {
    const [top, below] = [this.#top, this.#layers[this.#layers.length - 2]];
    // a snapshot of what is below would be of another size then
    if (below === undefined || (below.version === 2 && below.snapshots.size > 0)) return;
    const keep = this.#next(2) === 0 ? ['-d'] : [];
    await this.#img('commit', '-q', ...keep, top.name);
    await this.#compare();
    this.#layers.pop();
    rmSync(this.#path(top.name));
    // an overlay that is smaller leaves what is beyond
    const size = await this.#sizeOf(below.name);
    if (size > this.#model.length) await this.#shrinkTo(below.name);
  }

  async #sizeOf(name: string): Promise<number> {
    const output = { out: () => {}, err: () => {} };
    const image = await openImage(
      { file: this.#path(name), format: 'qcow2', readOnly: true },
      blockContext({ output }),
    );
    const { size } = image;
    await image.close();
    return size;
  }

  async #shrinkTo(name: string): Promise<void> {
    await this.#img('resize', '-q', '--shrink', name, String(this.#model.length));
  }

  /** The uppermost image gets what is below the one below it as its backing file, or none. */
  async rebase(): Promise<void> {
    const { length } = this.#layers;
    if (length < 2) return;
    const [top, below] = [this.#top, this.#layers[length - 2]];
    // with a snapshot, the old backing file would be missed when it is applied
    if (top.snapshots.size > 0) return;
    const lower = this.#layers[length - 3];
    if (lower === undefined || this.#next(2) === 0) {
      await this.#img('rebase', '-b', '', top.name);
      for (const { name } of this.#layers.splice(0, length - 1)) rmSync(this.#path(name));
    } else {
      await this.#img('rebase', '-b', lower.name, '-F', 'qcow2', top.name);
      rmSync(this.#path(below.name));
      this.#layers.splice(length - 2, 1);
    }
  }

  async amend(): Promise<void> {
    const { name, version } = this.#top;
    if (version === 2) return;
    await this.#img('amend', '-f', 'qcow2', '-o', `lazy_refcounts=${this.#pick(['on', 'off'])}`, name);
  }

  /** All becomes one new image. */
  async convert(): Promise<void> {
    const { options, version, clusterSize } = this.#kind();
    const compressed = this.#next(2) === 0 ? ['-c'] : [];
    const name = this.#newName();
    await this.#img(
      'convert',
      '-f',
      'qcow2',
      '-O',
      'qcow2',
      ...compressed,
      '-o',
      options,
      this.#top.name,
      name,
    );
    for (const layer of this.#layers.splice(0)) rmSync(this.#path(layer.name));
    this.#layers.push({ name, snapshots: new Map(), version, clusterSize });
  }

  async check(): Promise<void> {
    await this.#img('check', '-q', '-r', 'all', this.#top.name);
  }
}

/** Some more often than others. */
const OPERATIONS: readonly (readonly [name: string, operation: Operation])[] = [
  ...Array.from({ length: 5 }, () => ['write', (chain: RandomChain) => chain.write()] as const),
  ...Array.from({ length: 2 }, () => ['zero', (chain: RandomChain) => chain.zero()] as const),
  ['write -c', (chain) => chain.writeCompressed()],
  ['snapshot -c', (chain) => chain.snapshotCreate()],
  ['snapshot -c', (chain) => chain.snapshotCreate()],
  ['snapshot -a', (chain) => chain.snapshotApply()],
  ['snapshot -d', (chain) => chain.snapshotDelete()],
  ['resize', (chain) => chain.resize()],
  ['overlay', (chain) => chain.overlay()],
  ['overlay', (chain) => chain.overlay()],
  ['commit', (chain) => chain.commit()],
  ['rebase', (chain) => chain.rebase()],
  ['amend', (chain) => chain.amend()],
  ['convert', (chain) => chain.convert()],
  ['check', (chain) => chain.check()],
];
