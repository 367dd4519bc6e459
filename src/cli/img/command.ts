/** What the commands of `smp86 img` have in common: their arguments. */
import { type OptionSyntax, type ParsedArguments, parseArguments } from './getopt.ts';
import { ImgError } from './img-error.ts';
import type { Output } from './output.ts';

/** What a command is given. */
export interface CommandContext {
  readonly output: Output;
}

/** Long options of nearly all commands. */
export const IMAGE_OPTIONS = {
  object: { kind: 'value' },
  'image-opts': { kind: 'none' },
  'force-share': { as: 'U', kind: 'none' },
} as const satisfies OptionSyntax['long'];

/** How to open an image, from the command's options. */
export interface ImageChoice {
  /** Undefined: by its first bytes. */
  readonly format?: string;
  /** The name is a list of options, as -drive's. */
  readonly imageOpts: boolean;
  readonly forceShare: boolean;
}

/** Help was asked for; not a mistake. */
export class HelpRequest extends Error {}

/** A command's arguments. */
export class Given {
  readonly #parsed: ParsedArguments;

  constructor(parsed: ParsedArguments) {
    this.#parsed = parsed;
  }

  get operands(): readonly string[] {
    return this.#parsed.operands;
  }

  has(name: string): boolean {
    return this.#parsed.options.some((option) => option.name === name);
  }

  /** Values of an option, in order. */
  all(name: string): string[] {
    return this.#parsed.options.filter((option) => option.name === name).map(({ value }) => value);
  }

  /** The last value counts, but each must be good. */
  last(name: string): string | undefined;
  last<T>(name: string, convert: (text: string) => T): T | undefined;
  last<T>(name: string, convert?: (text: string) => T): T | string | undefined {
    const values = this.all(name);
    return convert === undefined ? values.at(-1) : values.map(convert).at(-1);
  }

  /** -f, --image-opts and -U. */
  image(): ImageChoice {
    return { format: this.last('f'), imageOpts: this.has('image-opts'), forceShare: this.has('U') };
  }
}

/** *Errors:* ImgError; HelpRequest. */
export function commandArguments(args: readonly string[], syntax: OptionSyntax): Given {
  const parsed = parseArguments(args, syntax);
  if (parsed.options.some(({ name }) => name === 'h')) throw new HelpRequest();
  const given = new Given(parsed);
  for (const object of given.all('object')) checkObject(object);
  return given;
}

/** Objects are for encryption and TLS, of which smp86 has neither: a secret is accepted, and nobody asks for it. */
function checkObject(text: string): void {
  const type = text.split(',')[0].replace(/^qom-type=/, '');
  if (type !== 'secret') throw new ImgError(`Parameter 'qom-type' does not accept value '${type}'`);
}

export function oneFile(given: Given): string {
  const [filename, ...more] = given.operands;
  if (filename === undefined || more.length > 0) {
    throw new ImgError('Expecting one image file name', { usage: true });
  }
  return filename;
}

export function outputFormat(given: Given): 'human' | 'json' {
  const format = given.last('output') ?? 'human';
  if (format === 'human' || format === 'json') return format;
  throw new ImgError('--output must be used with human or json as argument.');
}
