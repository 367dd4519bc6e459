/** `smp86 img rebase`: gives an image another backing file. */
import { BlockError, errnoText } from '../../block/errors.ts';
import type { BlockNode } from '../../block/node.ts';
import { changeBackingFile } from '../../block/qcow2/backing.ts';
import { Qcow2Node } from '../../block/qcow2/node.ts';
import { checkCache } from './cache-modes.ts';
import { commandArguments, type CommandContext, type Given, IMAGE_OPTIONS, oneFile } from './command.ts';
import { isFormat } from './format-options.ts';
import { ImgError, reasonOf } from './img-error.ts';
import { backingPath, openImage } from './images.ts';
import { Progress } from './progress.ts';
import { dataBuffer, findDifference, isZero } from './zeroes.ts';

const BUFFER = 2 << 20;

export async function runRebase(context: CommandContext, args: readonly string[]): Promise<number> {
  const given = commandArguments(args, { short: 'hf:F:b:upt:T:qU', long: IMAGE_OPTIONS });
  const progress = new Progress(context.output, given.has('p') && !given.has('q'));
  try {
    await rebase(context, given, progress);
    return 0;
  } finally {
    progress.end();
  }
}

async function rebase(context: CommandContext, given: Given, progress: Progress): Promise<void> {
  const filename = oneFile(given);
  const unsafe = given.has('u');
  const [name, format] = [given.last('b'), given.last('F')];
  if (!unsafe && name === undefined) {
    throw new ImgError('Must specify backing file (-b) or use unsafe mode (-u)', { usage: true });
  }
  checkCache('t', given.last('t'));
  checkCache('T', given.last('T'));
  const image = await openImage(context, filename, {
    ...given.image(),
    writable: true,
    cache: given.last('t'),
    noBacking: unsafe,
  });
  try {
    if (format !== undefined && !isFormat(format)) throw new ImgError(`Invalid format name: '${format}'`);
    if (!unsafe) await keepContent(context, given, image, name ?? '', progress);
    await changeName(image, name ?? '', format);
    progress.set(1);
  } finally {
    await image.close();
  }
}

async function changeName(image: BlockNode, name: string, format: string | undefined): Promise<void> {
  try {
    if (name !== '' && format === undefined)
      throw new BlockError('EINVAL', 'backing format must be specified');
    if (!(image instanceof Qcow2Node)) throw new BlockError('ENOTSUP', errnoText('ENOTSUP'));
    await changeBackingFile(image, name, format ?? '');
  } catch (error) {
    throw new ImgError(`Could not change the backing file to '${name}': ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

/** Copies into the image what it has from the old backing file, where the new one has something else. */
async function keepContent(
  context: CommandContext,
  given: Given,
  image: BlockNode,
  name: string,
  progress: Progress,
): Promise<void> {
  const path = name === '' ? undefined : backingPath(image.filename, name);
  const fresh =
    path === undefined
      ? undefined
      : await openImage(context, path, {
          format: given.last('F'),
          imageOpts: false,
          forceShare: given.has('U'),
          prefix: `Could not open new backing file '${name}': `,
        });
  const old = image.children.backing;
  // the image owns the new one from now on, and its zero clusters hide that
  if (image instanceof Qcow2Node) image.state.backing = fresh;
  try {
    await copyDifferences(image, old, fresh, progress);
    await image.flush();
  } finally {
    await (image instanceof Qcow2Node ? old : fresh)?.close();
  }
}

async function copyDifferences(
  image: BlockNode,
  old: BlockNode | undefined,
  fresh: BlockNode | undefined,
  progress: Progress,
): Promise<void> {
  const [was, will] = [dataBuffer(BUFFER), dataBuffer(BUFFER)];
  // a piece that is copied is a whole cluster in any case
  const step = Math.max(512, Math.min(BUFFER, image.limits.discardAlignment));
  for (let at = 0; at < image.size;) {
    const { allocated, length: known } = await image.blockStatus(at, image.size - at);
    const length = Math.min(known, BUFFER);
    if (!allocated) {
      await readOrZero(old, at, was.subarray(0, length));
      await readOrZero(fresh, at, will.subarray(0, length));
      await writeDifferences(image, at, was, will, length, step);
    }
    at += allocated ? known : length;
    progress.set(at / image.size);
  }
}

/** Reads what a guest would see of a backing file. */
async function readOrZero(image: BlockNode | undefined, at: number, to: Buffer): Promise<void> {
  const there = image === undefined ? 0 : Math.max(0, Math.min(to.length, image.size - at));
  try {
    if (there > 0) await image?.read(at, [to.subarray(0, there)]);
  } catch (error) {
    throw new ImgError(`error while reading from ${image?.filename}: ${reasonOf(error)}`, { cause: error });
  }
  to.fill(0, there);
}

async function writeDifferences(
  image: BlockNode,
  at: number,
  was: Buffer,
  will: Buffer,
  length: number,
  step: number,
): Promise<void> {
  let start = 0;
  while (start < length) {
    start = findDifference(was, will, start, length, step);
    if (start >= length) return;
    const end = Math.min(length, start + step);
    try {
      if (isZero(was, start, end)) await image.writeZeroes(at + start, end - start);
      else await image.write(at + start, [was.subarray(start, end)]);
    } catch (error) {
      throw new ImgError(`Error while writing to COW image: ${reasonOf(error)}`, { cause: error });
    }
    start = end;
  }
}
