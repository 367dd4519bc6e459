/** Arguments of a command as getopt_long(3) reads them: options anywhere, `--` ends them, long ones may be abbreviated. */
import { ImgError } from './img-error.ts';

/** `none`: a switch; `value`: an argument follows, in the same word or the next. */
export type OptionKind = 'none' | 'value';

export interface OptionSyntax {
  /** As getopt's: `f:` takes an argument, `q` does not. */
  readonly short: string;
  /** By long name: another name that it stands for, or its kind. */
  readonly long?: Readonly<Record<string, { readonly as?: string; readonly kind: OptionKind }>>;
}

export interface ParsedArguments {
  /** Options in order, by short letter or long name. */
  readonly options: readonly { readonly name: string; readonly value: string }[];
  readonly operands: readonly string[];
}

const HELP = { as: 'h', kind: 'none' } as const;

function unrecognized(word: string): ImgError {
  return new ImgError(`unrecognized option '${word}'`, { usage: true });
}

/** *Errors:* ImgError, for an unknown option and for a missing argument. */
export function parseArguments(args: readonly string[], syntax: OptionSyntax): ParsedArguments {
  const long: NonNullable<OptionSyntax['long']> = { help: HELP, ...syntax.long };
  const options: { name: string; value: string }[] = [];
  const operands: string[] = [];
  const rest = [...args];

  const take = (word: string): string => {
    const value = rest.shift();
    if (value === undefined) throw new ImgError(`missing argument for option '${word}'`, { usage: true });
    return value;
  };
  const takeLong = (word: string): void => {
    const equals = word.indexOf('=');
    const name = equals < 0 ? word.slice(2) : word.slice(2, equals);
    const found = Object.keys(long).filter((key) => key === name || key.startsWith(name));
    const exact = found.find((key) => key === name) ?? (found.length === 1 ? found[0] : undefined);
    const option = exact === undefined ? undefined : long[exact];
    if (exact === undefined || option === undefined) throw unrecognized(word);
    if (option.kind === 'none' && equals >= 0) throw unrecognized(word);
    const value = option.kind === 'none' ? '' : equals < 0 ? take(word) : word.slice(equals + 1);
    options.push({ name: option.as ?? exact, value });
  };
  const takeShort = (word: string): void => {
    for (let i = 1; i < word.length; i++) {
      const letter = word[i];
      const at = letter === ':' ? -1 : syntax.short.indexOf(letter);
      if (at < 0) throw unrecognized(word);
      if (syntax.short[at + 1] !== ':') {
        options.push({ name: letter, value: '' });
        continue;
      }
      options.push({ name: letter, value: i + 1 < word.length ? word.slice(i + 1) : take(word) });
      return;
    }
  };

  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '--') {
      operands.push(...rest);
      break;
    }
    if (word.startsWith('--')) takeLong(word);
    else if (word.startsWith('-') && word !== '-') takeShort(word);
    else operands.push(word);
  }
  return { options, operands };
}
