/** `smp86 img create`. */
import { commandArguments, type CommandContext, type Given } from './command.ts';
import {
  createTable,
  type FormatOptions,
  isFormat,
  isHelp,
  joinOptionLists,
  optionsText,
  parseFormatOptions,
} from './format-options.ts';
import { printFormatHelp } from './help.ts';
import { asImgError, ImgError } from './img-error.ts';
import { backingPath, checkProtocol, createImage, openImage } from './images.ts';
import { convertNumber } from './sizes.ts';

export async function runCreate(context: CommandContext, args: readonly string[]): Promise<number> {
  const given = commandArguments(args, { short: 'F:b:f:ho:qu', long: { object: { kind: 'value' } } });
  const lists = joinOptionLists(given.all('o'));
  const format = given.last('f') ?? 'raw';
  const [filename, sizeText, ...more] = given.operands;
  if (lists !== undefined && isHelp(lists)) {
    printFormatHelp(context, format, filename);
    return 0;
  }
  if (filename === undefined) throw new ImgError('Expecting image file name', { usage: true });
  const size = sizeText === undefined ? undefined : convertNumber('image size', sizeText);
  if (more.length > 0) throw new ImgError(`Unexpected argument: ${more[0]}`, { usage: true });
  try {
    await create(context, given, { format, filename, lists, size });
  } catch (error) {
    throw asImgError(error, `${filename}: `);
  }
  return 0;
}

interface Request {
  readonly format: string;
  readonly filename: string;
  readonly lists: string | undefined;
  readonly size: number | undefined;
}

async function create(context: CommandContext, given: Given, request: Request): Promise<void> {
  const { format, filename, lists, size } = request;
  if (!isFormat(format)) throw new ImgError(`Unknown file format '${format}'`);
  const table = createTable(format);
  const options: FormatOptions = new Map();
  checkProtocol(filename);
  if (lists !== undefined) parseFormatOptions(lists, table, options);
  if (size !== undefined) {
    if (options.has('size')) throw new ImgError('The image size must be specified only once');
    options.set('size', String(size));
  }
  takeBacking(given, format, filename, options);
  const backing = options.get('backing_file');
  if (backing === '') throw new ImgError('Expected backing file name, got empty string');
  if (backing !== undefined && backing === filename) {
    throw new ImgError('Error: Trying to create an image with the same filename as the backing file');
  }
  const backingFormat = options.get('backing_fmt');
  if (backing !== undefined && !given.has('u')) {
    const found = await lookAtBacking(context, filename, backing, backingFormat);
    if (backingFormat === undefined) {
      throw new ImgError(
        `Backing file specified without backing format\nDetected format of ${found.format}.`,
      );
    }
    if (!options.has('size')) options.set('size', String(found.size));
  } else if (backing !== undefined && backingFormat === undefined) {
    throw new ImgError('Backing file specified without backing format');
  }
  if (!options.has('size')) throw new ImgError('Image creation needs a size parameter');
  if (!given.has('q')) {
    const shown = filename.replaceAll('\n', '\\n');
    context.output.out(`Formatting '${shown}', fmt=${format}${optionsText(table, options)}\n`);
  }
  await createImage(context, format, filename, options);
}

/** -b and -F count more than -o. */
function takeBacking(given: Given, format: string, filename: string, options: FormatOptions): void {
  const [backing, backingFormat] = [given.last('b'), given.last('F')];
  if (backing !== undefined) {
    if (format === 'raw') throw new ImgError(`Backing file not supported for file format '${format}'`);
    options.set('backing_file', backing);
  }
  if (backingFormat !== undefined) {
    if (format === 'raw') throw new ImgError(`Backing file format not supported for file format '${format}'`);
    options.set('backing_fmt', backingFormat);
  }
}

/** Size and format of what is to be the backing file of `filename`, relative to which its name is. */
async function lookAtBacking(
  context: CommandContext,
  filename: string,
  backing: string,
  format: string | undefined,
): Promise<{ size: number; format: string }> {
  try {
    const name = backingPath(filename, backing);
    const image = await openImage(context, name, {
      format,
      imageOpts: false,
      forceShare: true,
      prefix: '',
    });
    const result = { size: image.size, format: image.driver };
    await image.close();
    return result;
  } catch (error) {
    if (error instanceof ImgError)
      throw new ImgError(`${error.message}\nCould not open backing image.`, { cause: error });
    throw error;
  }
}
