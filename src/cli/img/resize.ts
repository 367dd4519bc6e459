/** `smp86 img resize`. */
import type { Preallocation } from '../../block/node.ts';
import { commandArguments, type CommandContext, IMAGE_OPTIONS } from './command.ts';
import { parseSizeOption } from './format-options.ts';
import { asImgError, ImgError } from './img-error.ts';
import { openImage } from './images.ts';
import { INT64_MAX } from './sizes.ts';

const PREALLOCATION: readonly Preallocation[] = ['off', 'metadata', 'falloc', 'full'];

function preallocationOf(text: string): Preallocation {
  const mode = PREALLOCATION.find((known) => known === text);
  if (mode === undefined) throw new ImgError(`Invalid preallocation mode '${text}'`);
  return mode;
}

export async function runResize(context: CommandContext, args: readonly string[]): Promise<number> {
  // the last word is the size, though it may begin with a minus
  const sizeText = args.at(-1);
  if (sizeText === undefined || args.length < 2) throw new ImgError('Not enough arguments', { usage: true });
  const given = commandArguments(args.slice(0, -1), {
    short: 'f:hq',
    long: { ...IMAGE_OPTIONS, preallocation: { kind: 'value' }, shrink: { kind: 'none' } },
  });
  const preallocation = given.last('preallocation', preallocationOf) ?? 'off';
  const [filename, ...more] = given.operands;
  if (filename === undefined || more.length > 0) {
    throw new ImgError('Expecting image file name and size', { usage: true });
  }
  const sign = /^[+-]/.exec(sizeText)?.[0];
  const amount = parseSizeOption('size', sign === undefined ? sizeText : sizeText.slice(1));
  const image = await openImage(context, filename, { ...given.image(), writable: true, user: 'resize' });
  try {
    const now = BigInt(image.size);
    const wanted = sign === undefined ? amount : sign === '+' ? now + amount : now - amount;
    if (wanted <= 0n || wanted > INT64_MAX) throw new ImgError('New image size must be positive');
    if (wanted <= now && preallocation !== 'off') {
      throw new ImgError('Preallocation can only be used for growing images');
    }
    if (wanted < now && !given.has('shrink')) {
      throw new ImgError([
        'Use the --shrink option to perform a shrink operation.',
        "warning: Shrinking an image will delete all data beyond the shrunken image's end. " +
          'Before performing such an operation, make sure there is no important data there.',
      ]);
    }
    try {
      await image.truncate(Number(wanted), preallocation);
      await image.flush();
    } catch (error) {
      throw asImgError(error);
    }
    if (!given.has('q')) context.output.out('Image resized.\n');
    return 0;
  } finally {
    await image.close();
  }
}
