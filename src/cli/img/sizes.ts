/** Sizes as qemu-img reads and prints them. */
import { ImgError } from './img-error.ts';

const SUFFIXES = 'bkmgtpe';
export const INT64_MAX = 2n ** 63n - 1n;
const UINT64_MAX = 2n ** 64n - 1n;

/** `range`: more than 64 bits. */
export type SizeProblem = 'syntax' | 'range';

/**
 * A non-negative number with an optional suffix (powers of 1024); hexadecimal without one. A fraction needs a suffix
 * above B.
 */
export function parseSize(text: string, defaultSuffix = 'b'): bigint | SizeProblem {
  const hex = /^\s*0[xX]([0-9a-fA-F]+)$/.exec(text);
  if (hex !== null) {
    const value = BigInt(`0x${hex[1]}`);
    return value > UINT64_MAX ? 'range' : value;
  }
  const match = /^\s*\+?(\d+)(?:\.(\d*))?([bBkKmMgGtTpPeE])?$/.exec(text);
  if (match === null) return 'syntax';
  const shift = 10n * BigInt(SUFFIXES.indexOf((match[3] ?? defaultSuffix).toLowerCase()));
  const fraction = match[2] ?? '';
  if (/[1-9]/.test(fraction) && shift === 0n) return 'syntax';
  const digits = 10n ** BigInt(fraction.length);
  const part = fraction === '' ? 0n : ((BigInt(fraction) << shift) * 2n + digits) / (digits * 2n);
  const value = (BigInt(match[1]) << shift) + part;
  return value > UINT64_MAX ? 'range' : value;
}

/** Throws ImgError with qemu-img's words; `what`: `image size`, `bs` … */
export function convertNumber(what: string, text: string, min = 0n, max = INT64_MAX): number {
  const value = parseSize(text);
  if (value === 'syntax') {
    throw new ImgError([
      `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for`,
      'kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.',
    ]);
  }
  if (value === 'range' || value < min || value > max) {
    throw new ImgError(`Invalid ${what} specified. Must be between ${min} and ${max}.`);
  }
  return Number(value);
}

/** A plain decimal, octal (0…) or hexadecimal number in [min, max]; undefined for anything else. */
export function parseInteger(text: string, min: number, max: number): number | undefined {
  if (!/^\s*[+-]?(0[xX][0-9a-fA-F]+|\d+)$/.test(text)) return undefined;
  const trimmed = text.trim();
  const value = /^0[0-7]+$/.test(trimmed) ? Number.parseInt(trimmed, 8) : Number(trimmed);
  return Number.isInteger(value) && value >= min && value <= max ? value : undefined;
}

/** With `decimals` of them, as printf rounds: a tie goes to the even digit. */
export function fixedText(value: number, decimals: number): string {
  const scale = 10 ** decimals;
  const scaled = value * scale;
  const isTie = scaled - Math.floor(scaled) === 0.5;
  const rounded = isTie ? 2 * Math.round(scaled / 2) : Math.round(scaled);
  return (rounded / scale).toFixed(decimals);
}

/** printf's %.3g. */
function threeDigits(value: number): string {
  if (value === 0) return '0';
  const decimals = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  const text = value < 1 ? value.toPrecision(3) : Number(fixedText(value, decimals)).toPrecision(3);
  if (!text.includes('e')) return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
  const [mantissa, exponent] = text.split('e');
  return `${mantissa.replace(/\.?0+$/, '')}e${exponent.replace(/^([+-])(\d)$/, '$10$2')}`;
}

const UNITS = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'];

/** `1.26 MiB`: three digits, in the unit that keeps them below 1000. */
export function sizeText(bytes: number): string {
  let unit = 0;
  while (unit < UNITS.length - 1 && bytes / 1024 ** unit >= 1000) unit++;
  return `${threeDigits(bytes / 1024 ** unit)} ${UNITS[unit]}B`;
}
