/** Values of command line options: the key=value lists, sizes, switches and dates of QEMU's syntax. */

export type OptionErrorCode =
  /** The option does not exist. */
  | 'ERR_OPTION_UNKNOWN'
  /** QEMU has the option or value, smp86 does not (yet). */
  | 'ERR_OPTION_UNSUPPORTED'
  /** The value is missing, malformed or out of range. */
  | 'ERR_OPTION_VALUE';

/** A mistake on the command line; the message is one line, `-OPTION VALUE: reason`. */
export class OptionError extends Error {
  readonly code: OptionErrorCode;
  /** Without dashes. */
  readonly option: string;
  readonly value: string | undefined;

  constructor(code: OptionErrorCode, option: string, value: string | undefined, reason: string) {
    const shown = value === undefined ? `-${option}` : `-${option} ${value}`;
    super(`${visible(shown)}: ${visible(reason)}`);
    this.name = 'OptionError';
    this.code = code;
    this.option = option;
    this.value = value;
  }
}

/** Control characters as escapes, so that a message stays one line. */
function visible(text: string): string {
  return text.replace(
    /[\u0000-\u001f\u007f]/g,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}

/** An option as given: makes errors that name it. */
export class Argument {
  readonly option: string;
  readonly text: string;

  constructor(option: string, text: string) {
    this.option = option;
    this.text = text;
  }

  bad(reason: string): OptionError {
    return new OptionError('ERR_OPTION_VALUE', this.option, this.text, reason);
  }

  unsupported(reason: string): OptionError {
    return new OptionError('ERR_OPTION_UNSUPPORTED', this.option, this.text, reason);
  }

  /** One of the given words. */
  choose<T extends string>(key: string, value: string, choices: readonly T[]): T {
    const found = choices.find((choice) => choice === value);
    if (found === undefined) throw this.bad(`${key} must be ${choices.join(', ')}, not '${value}'`);
    return found;
  }

  switch(key: string, value: string): boolean {
    if (['on', 'yes', 'true', 'y'].includes(value)) return true;
    if (['off', 'no', 'false', 'n'].includes(value)) return false;
    throw this.bad(`${key} must be on or off, not '${value}'`);
  }

  /** A non-negative integer, decimal or 0x…, in [min, max]. */
  integer(key: string, value: string, min: number, max: number): number {
    const number = /^(\d+|0[xX][0-9a-fA-F]+)$/.test(value) ? Number(value) : Number.NaN;
    if (Number.isNaN(number)) throw this.bad(`${key} must be a number, not '${value}'`);
    if (number < min || number > max) throw this.bad(`${key} must be from ${min} to ${max}`);
    return number;
  }

  /** A number of bytes: with suffix B, K, M, G or T (powers of 1024), or in units of `unit`. */
  size(key: string, value: string, unit: number): number {
    const match = /^(\d+(?:\.\d+)?|0[xX][0-9a-fA-F]+)([bBkKmMgGtT])?$/.exec(value);
    if (match === null) {
      throw this.bad(`${key} must be a number with an optional suffix K, M, G or T, not '${value}'`);
    }
    const suffix = match[2]?.toLowerCase();
    const scale = suffix === undefined ? unit : 1024 ** 'bkmgt'.indexOf(suffix);
    return Math.floor(Number(match[1]) * scale);
  }

  /**
   * A list `key=value,…` in which `,,` stands for a comma and the first value's key may be left out
   * when there is an `implied` one. A bare key means `key=on`. Of equal keys the last counts.
   */
  list(implied?: string): Map<string, string> {
    const result = new Map<string, string>();
    const parts = splitCommas(this.text);
    parts.forEach((part, i) => {
      const equals = part.indexOf('=');
      if (equals > 0) result.set(part.slice(0, equals), part.slice(equals + 1));
      else if (equals === 0) throw this.bad('a key is missing before =');
      else if (i === 0 && implied !== undefined) result.set(implied, part);
      else if (part !== '') result.set(part, 'on');
      else throw this.bad('an empty item between commas');
    });
    return result;
  }

  /** Refuses keys that no handler took. */
  refuseOthers(list: ReadonlyMap<string, string>, known: readonly string[]): void {
    for (const key of list.keys()) {
      if (!known.includes(key)) throw this.bad(`unknown parameter '${key}' (known: ${known.join(', ')})`);
    }
  }
}

/** Splits at single commas; `,,` stands for one comma. */
export function splitCommas(text: string): string[] {
  return text
    .replaceAll(',,', '\0')
    .split(',')
    .map((part) => part.replaceAll('\0', ','));
}

/** `2006-06-17T16:01:21` or `2006-06-17` as UTC seconds since 1970, or undefined. */
export function parseDate(text: string): number | undefined {
  const match = /^(\d{4})-(\d{1,2})-(\d{1,2})(?:T(\d{1,2}):(\d{1,2}):(\d{1,2}))?$/.exec(text);
  if (match === null) return undefined;
  const [year, month, day, hour, minute, second] = match.slice(1).map((part) => Number(part ?? 0));
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  date.setUTCHours(hour, minute, second);
  const valid =
    date.getUTCMonth() === month - 1 &&
    date.getUTCDate() === day &&
    date.getUTCHours() === hour &&
    date.getUTCMinutes() === minute &&
    date.getUTCSeconds() === second;
  return valid ? date.getTime() / 1000 : undefined;
}

/** Text to print instead of starting a machine: the answer to `-version`, `-cpu help` … */
export interface Printed {
  readonly print: string;
}

export function describe(title: string, entries: Readonly<Record<string, string>>): Printed {
  const lines = Object.entries(entries).map(([name, text]) => `  ${name.padEnd(16)}${text}`);
  return { print: `${title}\n${lines.join('\n')}\n` };
}
