/** The command line of smp86: QEMU's syntax, parsed into plain data. */
import type { MachineOptions } from '../machine/machine-options.ts';
import { OptionBuilder } from './option-builder.ts';
import { OPTIONS, type OptionSpec, UNSUPPORTED } from './option-table.ts';
import { Argument, OptionError } from './option-values.ts';
import { versionText } from './version.ts';

export type * from '../machine/machine-options.ts';
export { OptionError, type OptionErrorCode } from './option-values.ts';

/** What the command line asks for. */
export type Command =
  | { readonly action: 'run'; readonly options: MachineOptions }
  /** Print the text to standard output and end with status 0. */
  | { readonly action: 'print'; readonly text: string };

const PRINTING: Readonly<Record<string, () => string>> = {
  h: helpText,
  help: helpText,
  version: versionText,
};

const byName = new Map<string, OptionSpec>(
  OPTIONS.flatMap((spec) => [spec.name, ...(spec.aliases ?? [])].map((name) => [name, spec] as const)),
);

/**
 * Parses arguments (without program name). Options may begin with one dash or two; a repeated option
 * replaces the earlier one, or adds to it (-serial, -device, -chardev), as in QEMU. *Errors:* OptionError.
 */
export function parseCommandLine(args: readonly string[]): Command {
  const builder = new OptionBuilder();
  for (let i = 0; i < args.length; i++) {
    const word = args[i];
    if (!word.startsWith('-') || word === '-') {
      byName.get('hda')?.apply(builder, new Argument('hda', word));
      continue;
    }
    const name = word.replace(/^--?/, '');
    const printing = Object.hasOwn(PRINTING, name) ? PRINTING[name] : undefined;
    if (printing !== undefined) return { action: 'print', text: printing() };
    const spec = byName.get(name);
    if (spec === undefined) throw unknownOption(name, args[i + 1]);
    let text = '';
    if (spec.argument !== undefined) {
      if (i + 1 >= args.length)
        throw new OptionError('ERR_OPTION_VALUE', name, undefined, 'requires a value');
      text = args[++i];
    }
    const printed = spec.apply(builder, new Argument(name, text));
    if (printed !== undefined) return { action: 'print', text: printed.print };
  }
  return { action: 'run', options: builder.finish() };
}

/** As parseCommandLine, for a caller that wants a machine: help and version are mistakes. */
export function parseOptions(args: readonly string[]): MachineOptions {
  const command = parseCommandLine(args);
  if (command.action === 'run') return command.options;
  throw new OptionError('ERR_OPTION_VALUE', 'help', undefined, 'prints text and describes no machine');
}

function unknownOption(name: string, next: string | undefined): OptionError {
  if (!Object.hasOwn(UNSUPPORTED, name)) {
    return new OptionError('ERR_OPTION_UNKNOWN', name, undefined, 'unknown option (see -help)');
  }
  const value = UNSUPPORTED[name] ? next : undefined;
  return new OptionError('ERR_OPTION_UNSUPPORTED', name, value, 'not yet supported');
}

/** The text of -help, from the option table. */
export function helpText(): string {
  const lines = ['usage: smp86 -kernel FILE [options]', ''];
  for (const { name, aliases, argument, help } of OPTIONS) {
    if (help === undefined) continue;
    const names = [name, ...(aliases ?? [])].map((word) => `-${word}`).join(', ');
    lines.push(argument === undefined ? names : `${names} ${argument}`);
    for (const line of help.split('\n')) lines.push(`        ${line}`);
  }
  lines.push('-version', '        print the version', '-h, -help', '        print this text', '');
  return lines.join('\n');
}
