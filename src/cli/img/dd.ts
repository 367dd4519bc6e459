/** `smp86 img dd`: copies blocks. */
import type { BlockNode } from '../../block/node.ts';
import { commandArguments, type CommandContext, IMAGE_OPTIONS } from './command.ts';
import { isFormat } from './format-options.ts';
import { asImgError, ImgError, reasonOf } from './img-error.ts';
import { createImage, openImage } from './images.ts';
import { reportError } from './output.ts';
import { convertNumber } from './sizes.ts';
import { dataBuffer } from './zeroes.ts';

const MAX_BLOCK = 2n ** 31n - 1n;
/** Bytes of one read: blocks are taken together. */
const BUFFER = 2 << 20;

interface Blocks {
  input?: string;
  output?: string;
  blockSize: number;
  count?: number;
  skip: number;
}

function parseOperands(operands: readonly string[]): Blocks {
  const blocks: Blocks = { blockSize: 512, skip: 0 };
  for (const operand of operands) {
    const equals = operand.indexOf('=');
    const name = equals < 0 ? operand : operand.slice(0, equals);
    const value = equals < 0 ? undefined : operand.slice(equals + 1);
    if (value === undefined) throw new ImgError(`unrecognized operand ${name}`);
    if (name === 'if') blocks.input = value;
    else if (name === 'of') blocks.output = value;
    else if (name === 'bs') blocks.blockSize = convertNumber('bs', value, 1n, MAX_BLOCK);
    else if (name === 'count') blocks.count = convertNumber('count', value);
    else if (name === 'skip') blocks.skip = convertNumber('skip', value);
    else throw new ImgError(`unrecognized operand ${name}`);
  }
  return blocks;
}

export async function runDd(context: CommandContext, args: readonly string[]): Promise<number> {
  const given = commandArguments(args, { short: 'hf:O:U', long: IMAGE_OPTIONS });
  const { input, output, blockSize, count, skip } = parseOperands(given.operands);
  if (input === undefined || output === undefined)
    throw new ImgError('Must specify both input and output files');
  const format = given.last('O') ?? 'raw';
  const source = await openImage(context, input, given.image());
  try {
    if (!isFormat(format)) throw new ImgError('Unknown file format');
    const end = count === undefined ? source.size : Math.min(source.size, count * blockSize);
    const start = skip * blockSize;
    const size = Math.max(0, end - start);
    try {
      await createImage(context, format, output, new Map([['size', String(size)]]));
    } catch (error) {
      throw asImgError(error, `${output}: error while creating output image: `);
    }
    const target = await openImage(context, output, {
      format,
      imageOpts: false,
      forceShare: false,
      writable: true,
      cache: 'unsafe',
    });
    try {
      if (start > source.size || start >= end)
        reportError(context.output, `${input}: cannot skip to specified offset`);
      else await copyBlocks(source, target, start, end);
    } finally {
      await target.close();
    }
    return 0;
  } finally {
    await source.close();
  }
}

/** Blocks that are zero are written too, as dd does. */
async function copyBlocks(source: BlockNode, target: BlockNode, start: number, end: number): Promise<void> {
  const buffer = dataBuffer(BUFFER);
  for (let at = start; at < end; at += BUFFER) {
    const data = buffer.subarray(0, Math.min(BUFFER, end - at));
    try {
      await source.read(at, [data]);
    } catch (error) {
      throw new ImgError(`error while reading from input image file: ${reasonOf(error)}`, { cause: error });
    }
    try {
      await target.write(at - start, [data]);
    } catch (error) {
      throw new ImgError(`error while writing to output image file: ${reasonOf(error)}`, { cause: error });
    }
  }
}
