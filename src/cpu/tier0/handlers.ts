/** All handlers of tier 0: which exist, their numbers, and which are inlined in the main loop. */
import type { OperandKind, Semantics } from '../sem/ins.ts';
import { PSEUDO } from './record.ts';

/** One handler: an instruction in one operand form and size. */
export interface HandlerForm {
  readonly key: string;
  readonly semantics: Semantics;
  readonly size: number;
  readonly addressSize: number;
  readonly kinds: readonly OperandKind[];
  readonly cond: number;
  readonly lock: boolean;
  readonly rep: number;
  readonly deadFlags: boolean;
  /** Inlined in the main loop. */
  readonly hot: boolean;
}

/** The key under which decoded code asks for a handler. */
export function handlerKey(
  name: string,
  size: number,
  kinds: string,
  options: { cond?: number; lock?: boolean; rep?: number; addressSize?: number; deadFlags?: boolean } = {},
): string {
  let key = `${name}.${size}.${kinds}`;
  if (options.cond !== undefined) key += `.c${options.cond}`;
  if (options.addressSize !== undefined) key += `.a${options.addressSize}`;
  if (options.rep) key += `.rep${options.rep}`;
  if (options.lock) key += '.lock';
  if (options.deadFlags) key += '.nf';
  return key;
}

const CONDITIONS = Array.from({ length: 16 }, (_, i) => i);

function formsOf(s: Semantics, hot: ReadonlySet<string>): HandlerForm[] {
  const out: HandlerForm[] = [];
  for (const size of s.sizes) {
    for (const kinds of s.forms) {
      for (const cond of s.conditional ? CONDITIONS : [undefined]) {
        for (const addressSize of s.addressSizes ?? [undefined]) {
          for (const rep of [0, ...(s.reps ?? [])]) {
            for (const lock of s.lockable && kinds.startsWith('m') ? [false, true] : [false]) {
              for (const deadFlags of s.setsAllFlags ? [false, true] : [false]) {
                const key = handlerKey(s.name, size, kinds, { cond, lock, rep, addressSize, deadFlags });
                out.push({
                  key,
                  semantics: s,
                  size,
                  addressSize: addressSize ?? 8,
                  kinds: [...kinds] as OperandKind[],
                  cond: cond ?? 0,
                  lock,
                  rep,
                  deadFlags,
                  hot: hot.has(key),
                });
              }
            }
          }
        }
      }
    }
  }
  return out;
}

/** What a semantics says about itself, without its code. */
export type SemanticsTraits = Omit<Semantics, 'emit' | 'stack'>;
export function traitsOf({ emit: _emit, stack: _stack, ...traits }: Semantics): SemanticsTraits {
  return traits;
}

/** What decoding needs to know of the handlers: plain data, so that a worker gets it without the semantics. */
export interface HandlerTable {
  readonly numbers: ReadonlyMap<string, number>;
  readonly semantics: readonly SemanticsTraits[];
}

/** The set of handlers: hot ones first, so that they are dense cases of the main loop's switch. */
export class HandlerSet {
  readonly hot: readonly HandlerForm[];
  readonly cold: readonly HandlerForm[];
  readonly numbers = new Map<string, number>();
  private readonly semantics: readonly Semantics[];

  constructor(semantics: readonly Semantics[], hotKeys: Iterable<string>) {
    this.semantics = semantics;
    const wanted = new Set(hotKeys);
    const all = semantics.flatMap((s) => formsOf(s, wanted));
    this.hot = all.filter((h) => h.hot);
    this.cold = all.filter((h) => !h.hot);
    const missing = [...wanted].filter((key) => !all.some((h) => h.key === key));
    if (missing.length > 0) throw new Error(`hot handlers that do not exist: ${missing.join(' ')}`);
    [...this.hot, ...this.cold].forEach((h, i) => {
      if (this.numbers.has(h.key)) throw new Error(`two handlers for ${h.key}`);
      this.numbers.set(h.key, PSEUDO.COUNT + i);
    });
  }
  table(): HandlerTable {
    return { numbers: this.numbers, semantics: this.semantics.map(traitsOf) };
  }
  /** Name of a handler number, for logs and profiles. */
  nameOf(number: number): string {
    const i = number - PSEUDO.COUNT;
    if (i < 0) return Object.entries(PSEUDO).find(([, n]) => n === number)?.[0] ?? '?';
    return (i < this.hot.length ? this.hot[i] : this.cold[i - this.hot.length])?.key ?? '?';
  }
  /** Number of the first handler outside the main loop. */
  get firstCold(): number {
    return PSEUDO.COUNT + this.hot.length;
  }
}

/** Handlers worth inlining; chosen from profiles of Linux boots and busybox. */
export function hotKeys(): string[] {
  const keys: string[] = [];
  for (const size of [4, 8]) {
    for (const name of ['add', 'sub', 'and', 'or', 'xor', 'cmp', 'test']) {
      for (const form of ['rr', 'ri', 'rm', 'mi', 'mr']) {
        keys.push(handlerKey(name, size, form));
        if (form.startsWith('r') && name !== 'cmp' && name !== 'test') {
          keys.push(handlerKey(name, size, form, { deadFlags: true }));
        }
      }
    }
    for (const form of ['rr', 'rm', 'mr', 'ri', 'mi']) keys.push(handlerKey('mov', size, form));
    for (const name of ['shl', 'shr', 'sar']) keys.push(handlerKey(name, size, 'ri'));
    for (const name of ['inc', 'dec', 'neg', 'not']) keys.push(handlerKey(name, size, 'r'));
    for (const form of ['rr', 'rm']) {
      keys.push(handlerKey('movzx8', size, form), handlerKey('movzx16', size, form));
      keys.push(handlerKey('imul', size, form));
    }
    keys.push(handlerKey('lea', size, 'rm'));
    for (const cond of [2, 3, 4, 5, 6, 7]) keys.push(handlerKey('cmovcc', size, 'rr', { cond }));
  }
  for (const form of ['rr', 'rm']) keys.push(handlerKey('movsx32', 8, form), handlerKey('movsx8', 4, form));
  for (const form of ['rr', 'rm', 'mr', 'ri', 'mi']) keys.push(handlerKey('mov', 1, form));
  for (const form of ['mr', 'mi']) keys.push(handlerKey('mov', 2, form));
  for (const name of ['cmp', 'test']) {
    for (const form of ['rr', 'ri', 'mi', 'rm']) keys.push(handlerKey(name, 1, form));
  }
  for (const name of ['and', 'or', 'xor']) keys.push(handlerKey(name, 1, 'rr'), handlerKey(name, 1, 'ri'));
  for (const form of ['r', 'i', 'm']) keys.push(handlerKey('push', 8, form));
  keys.push(handlerKey('pop', 8, 'r'), handlerKey('leave', 8, ''));
  for (const form of ['j', 'r', 'm']) keys.push(handlerKey('jmp', 8, form), handlerKey('call', 8, form));
  keys.push(handlerKey('ret', 8, ''));
  for (let cond = 0; cond < 16; cond++) keys.push(handlerKey('jcc', 8, 'j', { cond }));
  for (const cond of [2, 3, 4, 5, 6, 7]) keys.push(handlerKey('setcc', 1, 'r', { cond }));
  for (const form of ['rr', 'rm']) keys.push(handlerKey('imul', 8, form, { deadFlags: true }));
  for (const form of ['rr', 'ri']) keys.push(handlerKey('adc', 8, form), handlerKey('sbb', 8, form));
  for (const name of ['rol', 'ror']) keys.push(handlerKey(name, 4, 'ri'));
  for (const name of ['inc', 'dec']) keys.push(handlerKey(name, 4, 'm'));
  for (const name of ['cmp', 'add']) keys.push(handlerKey(name, 2, 'ri'));
  keys.push(handlerKey('mov', 2, 'rm'), handlerKey('cmp', 2, 'rr'), handlerKey('cmp', 1, 'mr'));
  keys.push(
    handlerKey('sbb', 4, 'rr'),
    handlerKey('neg', 4, 'r', { deadFlags: true }),
    handlerKey('nop', 2, ''),
  );
  keys.push(handlerKey('nop', 4, ''), handlerKey('nop', 4, 'm'), handlerKey('pause', 4, ''));
  // 32-bit code: stack, jumps, wide arithmetic in two halves
  for (const form of ['r', 'i', 'm']) keys.push(handlerKey('push', 4, form));
  keys.push(handlerKey('pop', 4, 'r'), handlerKey('leave', 4, ''));
  for (const form of ['j', 'r']) keys.push(handlerKey('jmp', 4, form), handlerKey('call', 4, form));
  keys.push(handlerKey('ret', 4, ''));
  for (const cond of [2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15]) keys.push(handlerKey('jcc', 4, 'j', { cond }));
  for (const form of ['rr', 'rm', 'ri']) keys.push(handlerKey('adc', 4, form));
  for (const form of ['rm', 'ri']) keys.push(handlerKey('sbb', 4, form));
  for (const form of ['rr', 'rm']) keys.push(handlerKey('imul', 4, form, { deadFlags: true }));
  for (const form of ['rm', 'mr']) keys.push(handlerKey('xor', 1, form));
  for (const cond of [2, 3]) keys.push(handlerKey('cmovcc', 4, 'rm', { cond }));
  return keys;
}
