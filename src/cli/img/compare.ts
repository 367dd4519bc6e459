/** `smp86 img compare`: whether a guest would read the same from two images. */
import type { BlockNode } from '../../block/node.ts';
import { type ChainStatus, ChainStatusReader } from './chain-status.ts';
import { commandArguments, type CommandContext, IMAGE_OPTIONS } from './command.ts';
import { ImgError, reasonOf } from './img-error.ts';
import { openImage } from './images.ts';
import { Progress } from './progress.ts';
import { dataBuffer, findDifference, findNonZero } from './zeroes.ts';

const BUFFER = 2 << 20;
const SECTOR = 512;

/** Exit codes. */
const DIFFERENT = 1;
const CANNOT_OPEN = 2;
const CANNOT_READ = 4;

export async function runCompare(context: CommandContext, args: readonly string[]): Promise<number> {
  const given = commandArguments(args, { short: 'hf:F:T:pqsU', long: IMAGE_OPTIONS });
  const [name1, name2, ...more] = given.operands;
  if (name1 === undefined || name2 === undefined || more.length > 0) {
    throw new ImgError('Expecting two image file names', { usage: true });
  }
  const quiet = given.has('q');
  const progress = new Progress(context.output, given.has('p') && !quiet);
  const images: BlockNode[] = [];
  try {
    const choice = { ...given.image(), sourceCache: given.last('T'), status: CANNOT_OPEN };
    images.push(await openImage(context, name1, choice));
    images.push(await openImage(context, name2, { ...choice, format: given.last('F') }));
    const comparison = new Comparison(images, progress);
    const say = (text: string): void => {
      if (!quiet) context.output.out(`${text}\n`);
    };
    const difference = await comparison.run(given.has('s'), say);
    say(difference ?? 'Images are identical.');
    return difference === undefined ? 0 : DIFFERENT;
  } finally {
    progress.end();
    for (const image of images) await image.close();
  }
}

class Comparison {
  readonly #images: readonly BlockNode[];
  readonly #progress: Progress;
  readonly #reader = new ChainStatusReader();
  readonly #buffers = [dataBuffer(BUFFER), dataBuffer(BUFFER)];

  constructor(images: readonly BlockNode[], progress: Progress) {
    this.#images = images;
    this.#progress = progress;
  }

  /** What differs, in words. */
  async run(strict: boolean, warn: (text: string) => void): Promise<string | undefined> {
    const [size1, size2] = this.#images.map((image) => image.size);
    if (strict && size1 !== size2) return 'Strict mode: Image size mismatch!';
    const common = Math.min(size1, size2);
    const total = Math.max(size1, size2);
    for (let at = 0; at < common;) {
      const [status1, status2] = [await this.#status(0, at, common), await this.#status(1, at, common)];
      if (strict && !isAlike(status1, status2)) return `Strict mode: Offset ${at} block status mismatch!`;
      const length = Math.min(status1.length, status2.length);
      const found = await this.#compareRange(at, at + length, status1, status2);
      if (found !== undefined) return `Content mismatch at offset ${found}!`;
      at += length;
      this.#progress.set(at / total);
    }
    if (size1 === size2) return undefined;
    warn('Warning: Image size mismatch!');
    const larger = size1 > size2 ? 0 : 1;
    for (let at = common; at < total;) {
      const status = await this.#status(larger, at, total);
      if (!status.zero && status.allocated) {
        const found = await this.#findData(larger, at, at + status.length);
        if (found !== undefined) return `Content mismatch at offset ${found}!`;
      }
      at += status.length;
      this.#progress.set(at / total);
    }
    return undefined;
  }

  async #status(which: number, at: number, end: number): Promise<ChainStatus> {
    return this.#reader.read(this.#images[which], undefined, at, end - at);
  }

  /** Offset of a sector that differs. */
  async #compareRange(
    start: number,
    end: number,
    a: ChainStatus,
    b: ChainStatus,
  ): Promise<number | undefined> {
    if (a.zero && b.zero) return undefined;
    if (a.zero) return this.#findData(1, start, end);
    if (b.zero) return this.#findData(0, start, end);
    for (let at = start; at < end; at += BUFFER) {
      const length = Math.min(BUFFER, end - at);
      await Promise.all([this.#read(0, at, length), this.#read(1, at, length)]);
      const found = findDifference(this.#buffers[0], this.#buffers[1], 0, length, SECTOR);
      if (found < length) return at + found;
    }
    return undefined;
  }

  /** Offset of a sector that is not zero. */
  async #findData(which: number, start: number, end: number): Promise<number | undefined> {
    for (let at = start; at < end; at += BUFFER) {
      const length = Math.min(BUFFER, end - at);
      await this.#read(which, at, length);
      const found = findNonZero(this.#buffers[which], 0, length, SECTOR);
      if (found < length) return at + found;
    }
    return undefined;
  }

  async #read(which: number, at: number, length: number): Promise<void> {
    try {
      await this.#images[which].read(at, [this.#buffers[which].subarray(0, length)]);
    } catch (error) {
      const name = this.#images[which].filename;
      throw new ImgError(`Error while reading offset ${at} of ${name}: ${reasonOf(error)}`, {
        status: CANNOT_READ,
        cause: error,
      });
    }
  }
}

function isAlike(a: ChainStatus, b: ChainStatus): boolean {
  return (
    a.data === b.data &&
    a.zero === b.zero &&
    a.allocated === b.allocated &&
    (a.fileOffset === undefined) === (b.fileOffset === undefined)
  );
}
