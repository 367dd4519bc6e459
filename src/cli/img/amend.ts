/** `smp86 img amend`: changes what an image is like. */
import { amendImage, type Qcow2AmendOptions } from '../../block/qcow2/amend.ts';
import { Qcow2Node } from '../../block/qcow2/node.ts';
import { checkCache } from './cache-modes.ts';
import { commandArguments, type CommandContext, IMAGE_OPTIONS } from './command.ts';
import {
  amendTable,
  createTable,
  type FormatOptions,
  isFormat,
  isHelp,
  joinOptionLists,
  parseFormatOptions,
  tableHelp,
} from './format-options.ts';
import { asImgError, ImgError } from './img-error.ts';
import { openImage } from './images.ts';
import { Progress } from './progress.ts';

function refuseFormat(format: string): ImgError {
  return new ImgError(`Format driver '${format}' does not support option amendment`);
}

export async function runAmend(context: CommandContext, args: readonly string[]): Promise<number> {
  const given = commandArguments(args, {
    short: 'ho:f:t:pq',
    long: { ...IMAGE_OPTIONS, force: { kind: 'none' } },
  });
  const lists = joinOptionLists(given.all('o'));
  if (lists === undefined) throw new ImgError('Must specify options (-o)', { usage: true });
  const format = given.last('f');
  if (format !== undefined && isHelp(lists)) {
    if (!isFormat(format)) throw new ImgError(`Unknown file format '${format}'`);
    if (format !== 'qcow2') throw refuseFormat(format);
    printHelp(context);
    return 0;
  }
  const [filename, ...more] = given.operands;
  if (filename === undefined || more.length > 0) throw new ImgError('Expecting one image file name');
  checkCache('t', given.last('t'));
  const image = await openImage(context, filename, {
    ...given.image(),
    writable: true,
    cache: given.last('t'),
  });
  try {
    if (!(image instanceof Qcow2Node)) throw refuseFormat(image.driver);
    if (isHelp(lists)) {
      printHelp(context);
      return 0;
    }
    await amend(context, image, parseAmendments(lists), given.has('p') && !given.has('q'));
    return 0;
  } finally {
    await image.close();
  }
}

function printHelp({ output }: CommandContext): void {
  output.out(`Amend options for 'qcow2':\n${tableHelp(amendTable())}`);
}

function parseAmendments(lists: string): FormatOptions {
  const options: FormatOptions = new Map();
  try {
    parseFormatOptions(lists, amendTable(), options);
  } catch (error) {
    const name =
      error instanceof ImgError ? /^Invalid parameter '(.*)'$/.exec(error.message)?.[1] : undefined;
    if (name === undefined || !Object.hasOwn(createTable('qcow2'), name)) throw error;
    throw new ImgError(`Invalid parameter '${name}'\nThis option is only supported for image creation`, {
      cause: error,
    });
  }
  return options;
}

async function amend(
  { output }: CommandContext,
  image: Qcow2Node,
  options: FormatOptions,
  shown: boolean,
): Promise<void> {
  const progress = new Progress(output, shown);
  const text = (name: string): string | undefined => options.get(name);
  const number = (name: string): number | undefined => {
    const value = text(name);
    return value === undefined ? undefined : Number(value);
  };
  const isOn = (name: string): boolean | undefined => {
    const value = text(name);
    return value === undefined ? undefined : value === 'on';
  };
  const request: Qcow2AmendOptions = {
    version: versionOf(text('compat')),
    lazyRefcounts: isOn('lazy_refcounts'),
    refcountBits: number('refcount_bits'),
    size: number('size'),
    dataFile: text('data_file'),
    dataFileRaw: isOn('data_file_raw'),
    backingFile: text('backing_file'),
    progress: (done) => progress.set(done),
  };
  try {
    await amendImage(image, request);
    await image.flush();
    progress.set(1);
  } catch (error) {
    throw asImgError(error);
  } finally {
    progress.end();
  }
}

function versionOf(compat: string | undefined): 2 | 3 | undefined {
  switch (compat) {
    case undefined:
      return undefined;
    case '0.10':
    case 'v2':
      return 2;
    case '1.1':
    case 'v3':
      return 3;
    default:
      throw new ImgError(`Unknown compatibility level ${compat}`);
  }
}
