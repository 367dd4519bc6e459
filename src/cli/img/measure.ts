/** `smp86 img measure`: how large an image would be. */
import type { BlockNode } from '../../block/node.ts';
import { fullyAllocatedSize, type MeasureOptions, requiredSize } from '../../block/qcow2/measure.ts';
import { Qcow2Node } from '../../block/qcow2/node.ts';
import { ChainStatusReader } from './chain-status.ts';
import { commandArguments, type CommandContext, type Given, IMAGE_OPTIONS, outputFormat } from './command.ts';
import {
  createTable,
  type FormatOptions,
  isFormat,
  joinOptionLists,
  parseFormatOptions,
} from './format-options.ts';
import { asImgError, ImgError } from './img-error.ts';
import { openImage, loadSnapshot } from './images.ts';
import { jsonText } from './output.ts';
import { convertNumber } from './sizes.ts';
import { type SnapshotChoice, snapshotChoice } from './snapshot-choice.ts';

const SECTOR = 512;

interface Sizes {
  readonly required: number;
  readonly full: number;
  /** Persistent bitmaps: undefined where the source can have none. */
  readonly bitmaps?: number;
}

export async function runMeasure(context: CommandContext, args: readonly string[]): Promise<number> {
  const given = commandArguments(args, {
    short: 'hf:l:o:O:U',
    long: { ...IMAGE_OPTIONS, output: { kind: 'value' }, size: { kind: 'value' } },
  });
  const snapshot = given.last('l', snapshotChoice);
  const lists = joinOptionLists(given.all('o'));
  const json = outputFormat(given) === 'json';
  const size = given.last('size', (text) => convertNumber('image size', text));
  const filename = checkOperands(given, size, snapshot);
  const format = given.last('O') ?? 'raw';
  if (!isFormat(format)) throw new ImgError(`Unknown file format '${format}'`);

  let image: BlockNode | undefined;
  let sizes: Sizes;
  try {
    if (filename !== undefined) {
      image = await openImage(context, filename, given.image());
      if (snapshot !== undefined) await loadSnapshot(image, snapshot);
    }
    const options = parseOptions(format, lists);
    sizes = await measure(format, options, image, size ?? image?.size ?? 0);
  } finally {
    await image?.close();
  }
  print(context, sizes, json);
  return 0;
}

function checkOperands(
  given: Given,
  size: number | undefined,
  snapshot: SnapshotChoice | undefined,
): string | undefined {
  if (given.operands.length > 1) throw new ImgError('At most one filename argument is allowed.');
  const [filename] = given.operands;
  if (filename === undefined && (given.has('image-opts') || given.has('f') || snapshot !== undefined)) {
    throw new ImgError('--image-opts, -f, and -l require a filename argument.');
  }
  if (filename === undefined && size === undefined) {
    throw new ImgError('Either --size N or one filename must be specified.');
  }
  if (filename !== undefined && size !== undefined) {
    throw new ImgError('--size N cannot be used together with a filename.');
  }
  return filename;
}

function parseOptions(format: string, lists: string | undefined): FormatOptions {
  const options: FormatOptions = new Map();
  if (lists === undefined) return options;
  try {
    parseFormatOptions(lists, createTable(format), options);
  } catch (error) {
    if (!(error instanceof ImgError)) throw error;
    throw new ImgError([...error.messages, `Invalid options for file format '${format}'`], { cause: error });
  }
  return options;
}

async function measure(
  format: string,
  options: FormatOptions,
  image: BlockNode | undefined,
  size: number,
): Promise<Sizes> {
  if (format === 'raw') {
    const bytes = Math.ceil(size / SECTOR) * SECTOR;
    return { required: bytes, full: bytes };
  }
  const measured: MeasureOptions = {
    clusterSize: Number(options.get('cluster_size') ?? 65536),
    refcountBits: Number(options.get('refcount_bits') ?? 16),
    version: versionOf(options.get('compat') ?? '1.1'),
    extendedL2: options.get('extended_l2') === 'on',
  };
  try {
    const full = fullyAllocatedSize(size, measured);
    const data = await dataBytes(options, image, size, measured.clusterSize);
    const bitmaps = image instanceof Qcow2Node && image.state.header.version >= 3 ? 0 : undefined;
    return { required: requiredSize(size, data, measured), full, bitmaps };
  } catch (error) {
    throw asImgError(error);
  }
}

function versionOf(compat: string): number {
  if (compat === '0.10' || compat === 'v2') return 2;
  if (compat === '1.1' || compat === 'v3') return 3;
  throw new ImgError(`Invalid compatibility level: '${compat}'`);
}

/** Bytes of clusters that must be written. */
async function dataBytes(
  options: FormatOptions,
  image: BlockNode | undefined,
  size: number,
  clusterSize: number,
): Promise<number> {
  const all = Math.ceil(size / clusterSize) * clusterSize;
  const preallocation = options.get('preallocation') ?? 'off';
  if (preallocation === 'full' || preallocation === 'falloc') return all;
  if (image === undefined) return 0;
  // nobody knows what it will have in common with the backing file
  if (options.has('backing_file')) return all;
  const reader = new ChainStatusReader();
  let bytes = 0;
  let counted = 0;
  for (let at = 0; at < size;) {
    const { length, data, zero, allocated } = await reader.read(image, undefined, at, size - at);
    if (data && !zero && allocated) {
      const from = Math.max(counted, Math.floor(at / clusterSize) * clusterSize);
      const to = Math.ceil((at + length) / clusterSize) * clusterSize;
      bytes += Math.max(0, to - from);
      counted = to;
    }
    at += length;
  }
  return bytes;
}

function print({ output }: CommandContext, { required, full, bitmaps }: Sizes, json: boolean): void {
  if (json) {
    const known = bitmaps === undefined ? {} : { bitmaps };
    output.out(jsonText({ ...known, required, 'fully-allocated': full }));
    return;
  }
  output.out(`required size: ${required}\nfully allocated size: ${full}\n`);
  if (bitmaps !== undefined) output.out(`bitmaps size: ${bitmaps}\n`);
}
