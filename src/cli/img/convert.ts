/** `smp86 img convert`: copies images into a new one, in another format perhaps. */
import type { BlockNode } from '../../block/node.ts';
import { checkCache } from './cache-modes.ts';
import { commandArguments, type CommandContext, type Given, IMAGE_OPTIONS } from './command.ts';
import { CopyJob } from './copy-job.ts';
import { CopySource } from './copy-source.ts';
import { createTable, type FormatOptions, isFormat, isHelp, joinOptionLists } from './format-options.ts';
import { parseFormatOptions } from './format-options.ts';
import { printFormatHelp } from './help.ts';
import { asImgError, ImgError } from './img-error.ts';
import { createImage, openImage, loadSnapshot } from './images.ts';
import { reportError } from './output.ts';
import { PoolCodec } from './pool-codec.ts';
import { PoolReads } from './pool-reads.ts';
import { Progress } from './progress.ts';
import { convertNumber, parseInteger } from './sizes.ts';
import { type SnapshotChoice, snapshotChoice } from './snapshot-choice.ts';

const MAX_COROUTINES = 16;
const DEFAULT_COROUTINES = 8;
const DEFAULT_SPARSE = 4096;
const MAX_SPARSE = 16 << 20;
const SECTOR = 512;

export async function runConvert(context: CommandContext, args: readonly string[]): Promise<number> {
  const given = commandArguments(args, {
    short: 'hf:O:B:CcF:o:l:S:pt:T:qnm:WUr:',
    long: {
      ...IMAGE_OPTIONS,
      'target-image-opts': { kind: 'none' },
      'target-is-zero': { kind: 'none' },
      'source-image-opts': { as: 'image-opts', kind: 'none' },
      salvage: { kind: 'none' },
      bitmaps: { kind: 'none' },
      'skip-broken-bitmaps': { kind: 'none' },
    },
  });
  const plan = planOf(context, given);
  if (plan === undefined) return 0;
  const sources: BlockNode[] = [];
  const progress = new Progress(context.output, given.has('p') && !given.has('q'));
  try {
    for (const name of plan.inputs) {
      sources.push(
        await openImage(context, name, {
          ...given.image(),
          sourceCache: given.last('T'),
          user: 'copy-source',
          slowCalls: new PoolReads(),
        }),
      );
    }
    if (plan.snapshot !== undefined) {
      if (sources.length > 1) throw new ImgError('No support for concatenating multiple snapshot');
      await loadSnapshot(sources[0], plan.snapshot);
    }
    await convert(context, given, plan, sources, progress);
    return 0;
  } finally {
    progress.end();
    for (const source of sources) await source.close();
  }
}

interface Plan {
  readonly inputs: readonly string[];
  readonly output: string;
  readonly format: string;
  readonly options: string | undefined;
  readonly snapshot: SnapshotChoice | undefined;
  readonly minSparse: number;
  readonly coroutines: number;
  readonly rate: number | undefined;
}

function sparseSize(text: string): number {
  const size = convertNumber('buffer size for sparse output', text);
  if (size % SECTOR === 0 && size <= MAX_SPARSE) return size;
  throw new ImgError(
    `Invalid buffer size for sparse output specified. Valid sizes are multiples of ${SECTOR} up to ${MAX_SPARSE}. ` +
      'Select 0 to disable sparse detection (fully allocates output).',
  );
}

function coroutineCount(text: string): number {
  const count = parseInteger(text, 1, MAX_COROUTINES);
  if (count !== undefined) return count;
  throw new ImgError(
    `Invalid number of coroutines. Allowed number of coroutines is between 1 and ${MAX_COROUTINES}`,
  );
}

/** What to do, from the options alone; undefined: help was printed. */
function planOf(context: CommandContext, given: Given): Plan | undefined {
  const lists = given.all('o');
  const options = joinOptionLists(lists);
  const snapshot = given.last('l', snapshotChoice);
  const minSparse = given.last('S', sparseSize);
  const coroutines = given.last('m', coroutineCount) ?? DEFAULT_COROUTINES;
  const rate = given.last('r', (text) => convertNumber('rate limit', text));
  const format = given.last('O') ?? 'raw';
  const skipCreate = given.has('n');
  if (given.has('target-image-opts') && !skipCreate) {
    throw new ImgError('--target-image-opts requires use of -n flag');
  }
  if (given.has('C') && given.has('c')) throw new ImgError('Cannot enable copy offloading when -c is used');
  if (given.has('C') && minSparse !== undefined) {
    throw new ImgError('Cannot enable copy offloading when -S is used');
  }
  if (skipCreate && options !== undefined)
    throw new ImgError('-o has no effect when skipping image creation');
  if (given.has('target-is-zero') && !skipCreate)
    throw new ImgError('--target-is-zero requires use of -n flag');
  const output = given.operands.at(-1);
  if (options !== undefined && isHelp(options)) {
    printFormatHelp(context, format, given.operands.length > 0 ? output : undefined);
    return undefined;
  }
  if (given.operands.length < 2 || output === undefined) throw new ImgError('Must specify image file name');
  checkCache('T', given.last('T'));
  const inputs = given.operands.slice(0, -1);
  return {
    inputs,
    output,
    format,
    options,
    snapshot,
    minSparse: minSparse ?? DEFAULT_SPARSE,
    coroutines,
    rate,
  };
}

async function convert(
  context: CommandContext,
  given: Given,
  plan: Plan,
  sources: readonly BlockNode[],
  progress: Progress,
): Promise<void> {
  const { format, output } = plan;
  const [compressed, skipCreate] = [given.has('c'), given.has('n')];
  const create = skipCreate ? undefined : createOptions(plan, given, sources);
  if (given.has('B') && sources.length > 1) {
    throw new ImgError(
      'Having a backing file for the target makes no sense when concatenating multiple input images',
    );
  }
  if (create?.has('backing_file') && !create.has('backing_fmt')) {
    throw new ImgError('Use of backing file requires explicit backing format');
  }
  if (compressed && !skipCreate) checkCompression(format, create);
  if (given.has('bitmaps') && format === 'raw') {
    throw new ImgError(`Format driver '${format}' does not support bitmaps`);
  }
  checkCache('t', given.last('t'));
  if (create !== undefined) await createTarget(context, plan, create);

  const codec = compressed ? new PoolCodec() : undefined;
  try {
    const target = await openImage(context, output, {
      format: given.has('target-image-opts') ? undefined : format,
      imageOpts: given.has('target-image-opts'),
      forceShare: false,
      writable: true,
      cache: given.last('t') ?? 'unsafe',
      codec,
    });
    try {
      await copy(context, given, plan, sources, target, create, progress);
      await target.flush();
    } finally {
      await target.close();
    }
  } finally {
    await codec?.close();
  }
}

function createOptions(plan: Plan, given: Given, sources: readonly BlockNode[]): FormatOptions {
  const { format, options } = plan;
  if (!isFormat(format)) throw new ImgError(`Unknown file format '${format}'`);
  const create: FormatOptions = new Map();
  if (options !== undefined) parseFormatOptions(options, createTable(format), create);
  create.set('size', String(sources.reduce((sum, { size }) => sum + size, 0)));
  const [backing, backingFormat] = [given.last('B'), given.last('F')];
  if (backing !== undefined) {
    if (format === 'raw') throw new ImgError(`Backing file not supported for file format '${format}'`);
    create.set('backing_file', backing);
  }
  if (backingFormat !== undefined) {
    if (format === 'raw') throw new ImgError(`Backing file format not supported for file format '${format}'`);
    create.set('backing_fmt', backingFormat);
  }
  return create;
}

function checkCompression(format: string, create: FormatOptions | undefined): void {
  if (format === 'raw') throw new ImgError('Compression not supported for this file format');
  const preallocation = create?.get('preallocation') ?? 'off';
  if (preallocation !== 'off')
    throw new ImgError('Compression and preallocation not supported at the same time');
}

async function createTarget(context: CommandContext, plan: Plan, create: FormatOptions): Promise<void> {
  const { format, output } = plan;
  try {
    await createImage(context, format, output, create);
  } catch (error) {
    throw asImgError(error, `${output}: error while converting ${format}: `);
  }
}

async function copy(
  context: CommandContext,
  given: Given,
  plan: Plan,
  sources: readonly BlockNode[],
  target: BlockNode,
  create: FormatOptions | undefined,
  progress: Progress,
): Promise<void> {
  const compressed = given.has('c');
  if (compressed && target.driver === 'raw')
    throw new ImgError('Compression not supported for this file format');
  const { backing } = target.children;
  const source = new CopySource(sources, backing === undefined ? undefined : sources[0].children.backing);
  if (target.size < source.size) throw new ImgError('output file is smaller than input file');
  const job = new CopyJob({
    source,
    target,
    compressed,
    targetIsZero: backing === undefined && (!given.has('n') || given.has('target-is-zero')),
    targetIsAllocated: (create?.get('preallocation') ?? 'off') !== 'off',
    targetHasBacking: backing !== undefined,
    minSparse: plan.minSparse,
    parallel: plan.coroutines,
    rate: plan.rate,
    salvage: given.has('salvage') ? (message) => reportError(context.output, message) : undefined,
    progress: (fraction) => progress.set(fraction),
  });
  await job.run();
}
