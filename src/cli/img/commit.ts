/** `smp86 img commit`: writes an overlay's content into its backing file. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { BlockNode } from '../../block/node.ts';
import { makeEmpty } from '../../block/qcow2/backing.ts';
import { Qcow2Node } from '../../block/qcow2/node.ts';
import { checkCache } from './cache-modes.ts';
import { commandArguments, type CommandContext, type Given, IMAGE_OPTIONS, oneFile } from './command.ts';
import { asImgError, ImgError } from './img-error.ts';
import { backingPath, openImage } from './images.ts';
import { Progress } from './progress.ts';
import { convertNumber } from './sizes.ts';
import { dataBuffer } from './zeroes.ts';

const BUFFER = 2 << 20;

export async function runCommit(context: CommandContext, args: readonly string[]): Promise<number> {
  const given = commandArguments(args, { short: 'f:ht:b:dpqr:', long: IMAGE_OPTIONS });
  const rate = given.last('r', (text) => convertNumber('rate limit', text));
  const filename = oneFile(given);
  checkCache('t', given.last('t'));
  const progress = new Progress(context.output, given.has('p') && !given.has('q'));
  const layers: BlockNode[] = [];
  let base: BlockNode | undefined;
  try {
    const name = await openLayers(context, given, filename, layers);
    base = await openImage(context, name.path, {
      format: name.format === '' ? undefined : name.format,
      imageOpts: false,
      forceShare: false,
      writable: true,
      user: 'resize',
      cache: given.last('t'),
    });
    await commit(layers, base, progress, rate);
    const [top] = layers;
    // what is between them, and the overlay's other overlays, would not be right any more: only then it is emptied
    const isEmptied = !given.has('d') && !given.has('b');
    if (isEmptied && top instanceof Qcow2Node) await makeEmpty(top);
    progress.set(1);
  } catch (error) {
    throw asImgError(error);
  } finally {
    progress.end();
    for (const layer of layers) await layer.close();
    await base?.close();
  }
  if (!given.has('q')) context.output.out('Image committed.\n');
  return 0;
}

/** Opens the image and what is between it and the base, each by itself; returns the base. */
async function openLayers(
  context: CommandContext,
  given: Given,
  filename: string,
  layers: BlockNode[],
): Promise<{ path: string; format: string }> {
  const wanted = given.last('b');
  const seen = new Set<string>();
  let next = { path: filename, format: given.last('f') };
  for (;;) {
    const isTop = layers.length === 0;
    const image = await openImage(context, next.path, {
      ...given.image(),
      format: next.format === '' ? undefined : next.format,
      imageOpts: isTop && given.has('image-opts'),
      writable: isTop,
      cache: given.last('t'),
      noBacking: true,
    });
    layers.push(image);
    const header = image instanceof Qcow2Node ? image.state.header : undefined;
    if (header === undefined || header.backingFile === '') {
      if (isTop && wanted === undefined) throw new ImgError('Image does not have a backing file');
      throw new ImgError(`Did not find '${wanted}' in the backing chain of '${filename}'`);
    }
    const path = backingPath(image.filename, header.backingFile);
    if (wanted === undefined || wanted === path || wanted === header.backingFile) {
      return { path, format: header.backingFormat };
    }
    if (seen.has(path)) throw new ImgError(`Backing file '${path}' creates an infinite loop.`);
    seen.add(path);
    next = { path, format: header.backingFormat };
  }
}

/** The uppermost layer that decides, from `at` on; undefined: none does. */
async function decide(
  layers: readonly BlockNode[],
  at: number,
  length: number,
): Promise<{ length: number; layer?: BlockNode; zero: boolean }> {
  let known = length;
  for (const layer of layers) {
    // past its end a layer hides what is below with zeroes; the layers above it are asked first
    if (at >= layer.size) return { length: known, layer, zero: true };
    const status = await layer.blockStatus(at, Math.min(known, layer.size - at));
    known = status.length;
    if (status.allocated) return { length: known, layer, zero: status.zero };
  }
  return { length: known, zero: false };
}

async function commit(
  layers: readonly BlockNode[],
  base: BlockNode,
  progress: Progress,
  rate: number | undefined,
): Promise<void> {
  const [top] = layers;
  const { size } = top;
  if (base.size < size) await base.truncate(size);
  const buffer = dataBuffer(BUFFER);
  const began = performance.now();
  let copied = 0;
  for (let at = 0; at < size;) {
    const { length: known, layer, zero } = await decide(layers, at, size - at);
    const length = zero ? known : Math.min(known, BUFFER);
    if (layer !== undefined && !zero) {
      const data = buffer.subarray(0, length);
      await layer.read(at, [data]);
      await base.write(at, [data]);
      copied += length;
    } else if (zero) {
      await base.writeZeroes(at, length, { mayUnmap: true });
    }
    at += length;
    progress.set(at / size);
    const ahead = rate ? (copied / rate) * 1000 - (performance.now() - began) : 0;
    if (ahead > 1) await sleep(ahead);
  }
  await base.flush();
}
