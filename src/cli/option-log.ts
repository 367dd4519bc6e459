/** `-d` and `-dfilter`. */
import { LOG_ITEMS } from '../machine/log.ts';
import type { OptionBuilder } from './option-builder.ts';
import { type Argument, describe, type Printed } from './option-values.ts';

export function applyLog(builder: OptionBuilder, argument: Argument): Printed | void {
  const items = argument.text.split(',');
  if (items.includes('help') || items.includes('?')) return describe('Log items (-d item,...):', LOG_ITEMS);
  builder.logItems = items.map((item) => {
    if (UNSUPPORTED_LOG_ITEMS.includes(item)) throw argument.unsupported(`'${item}' is not yet supported`);
    if (!Object.hasOwn(LOG_ITEMS, item)) throw argument.bad(`unknown log item '${item}' (see -d help)`);
    return item as keyof typeof LOG_ITEMS;
  });
}

/** Ranges of addresses: START+LENGTH, END-LENGTH, FIRST..LAST, separated by commas. */
export function applyLogFilter(builder: OptionBuilder, argument: Argument): void {
  builder.logFilter = argument.text.split(',').map((text) => {
    const [, left, operator, right] = /^(.*?)(\+|-|\.\.)(.*)$/.exec(text) ?? [];
    if (operator === undefined)
      throw argument.bad(`'${text}' is no range (START+LENGTH, END-LENGTH, FIRST..LAST)`);
    const number = (digits: string): bigint => {
      if (!/^(0x[0-9a-f]+|\d+)$/i.test(digits) || BigInt(digits) >= 2n ** 64n) {
        throw argument.bad(`'${digits}' in '${text}' is no address`);
      }
      return BigInt(digits);
    };
    const a = number(left);
    const b = number(right);
    const range =
      operator === '..'
        ? { first: a, last: b }
        : operator === '+'
          ? { first: a, last: a + b - 1n }
          : { first: a - b + 1n, last: a };
    if (range.first > range.last || range.first < 0n) throw argument.bad(`'${text}' is an empty range`);
    return range;
  });
}

/** Items of QEMU that smp86 does not have yet. */
const UNSUPPORTED_LOG_ITEMS = 'out_asm op_opt op_ind cpu fpu pcall unimp page plugin strace tid vpu'.split(
  ' ',
);
