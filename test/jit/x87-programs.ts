/**
 * What makes programs of x87 instructions: rows of them that keep some order on the stack, so that they compute, and now and then
 * do not; all control words; operands of every kind.
 */
import type { Form } from '../oracle/encode.ts';
import { defaultFx, FX, PAGE, type Patch, READ_ONLY } from '../oracle/format.ts';
import { floatBytes, newFx } from '../oracle/fp-values.ts';
import type { Rng } from '../oracle/rng.ts';

const REGISTERS = 8;
/** Instructions that save or change all of the state are rare. */
const RARE = /^(fninit|fnclex|fincstp|fdecstp|ffree|ffreep|fbld|fbstp|fprem1?|fscale|fxtract|fstpnce)$/;
/** What comes between others in compiled code: words are stored and loaded. */
const CONTROL = /^(fldcw|fnstcw|fnstsw)$/;
const PUSHES = /^(fld|fild|fbld|fld1|fldz|fldpi|fldl2t|fldl2e|fldlg2|fldln2)$/;
const POPS_TWO = /^f(u?com)pp$/;
const POPS =
  /^(f(add|sub|subr|mul|div|divr)p|f(com|ucom|icom|comi|ucomi)p|fi?stp|fisttp|fbstp|ffreep|fstpnce)$/;

/** Image offsets: of the pages of data, of the read-only page. */
const DATA_OFFSET = 2 * PAGE;
const READ_ONLY_OFFSET = 4 * PAGE;
const WORDS = 16;
const WORDS_AT = 0x900;

/** Linear address of a control word that is loaded, in the read-only page. */
export function controlWordAt(rng: Rng): bigint {
  return BigInt(READ_ONLY + WORDS_AT + 2 * rng.below(WORDS));
}

/** Mostly the usual one; other roundings and precisions; some exceptions unmasked. */
function controlWord(rng: Rng): number {
  switch (rng.below(8)) {
    case 0:
      return 0x27f;
    case 1:
      return 0x37f & ~(1 << rng.below(6));
    case 2:
      return 0x07f | (rng.below(16) << 8);
    case 3:
      return 0x37f | (rng.below(4) << 10);
    default:
      return 0x37f;
  }
}

/** Draws x87 instructions; knows about how many registers are in use. */
export class X87Source {
  private readonly rng: Rng;
  private readonly pushes: readonly Form[];
  private readonly pops: readonly Form[];
  private readonly others: readonly Form[];
  private readonly rare: readonly Form[];
  private readonly control: readonly Form[];
  private depth: number;

  constructor(rng: Rng, forms: readonly Form[], depth: number) {
    this.rng = rng;
    this.depth = depth;
    const named = (pattern: RegExp): Form[] =>
      forms.filter(({ row }) => pattern.test(row.name) && !RARE.test(row.name));
    this.pushes = named(PUSHES);
    this.pops = [...named(POPS), ...named(POPS_TWO)];
    this.others = forms.filter((f) => ![...this.pushes, ...this.pops].includes(f) && !RARE.test(f.row.name));
    this.control = forms.filter((f) => CONTROL.test(f.row.name));
    this.rare = forms.filter((f) => RARE.test(f.row.name));
  }

  next(): Form {
    const { rng, depth } = this;
    const wild = rng.once(60);
    if (this.rare.length > 0 && rng.once(40)) return this.taken(rng.pick(this.rare));
    if (this.control.length > 0 && rng.once(16)) return rng.pick(this.control);
    const push = wild ? rng.once(3) : depth < 2 || (depth < 7 && rng.once(4));
    const pop = wild ? rng.once(3) : depth > 2 && rng.once(depth > 5 ? 2 : 4);
    return this.taken(rng.pick(push ? this.pushes : pop ? this.pops : this.others));
  }
  /** The number of a register operand. */
  register(): number {
    const { rng, depth } = this;
    return rng.below(rng.once(40) ? REGISTERS : Math.max(1, Math.min(REGISTERS, depth)));
  }
  private taken(form: Form): Form {
    const { name } = form.row;
    const change = PUSHES.test(name) ? 1 : POPS_TWO.test(name) ? -2 : POPS.test(name) ? -1 : 0;
    this.depth = Math.max(0, Math.min(REGISTERS, this.depth + change));
    return form;
  }
}

/** A stack with `depth` registers in use. */
export function x87Fx(rng: Rng, depth: number): Uint8Array {
  const fx = newFx();
  fx.set(defaultFx());
  const v = new DataView(fx.buffer);
  const top = rng.below(REGISTERS);
  v.setUint16(FX.FCW, controlWord(rng), true);
  // nothing that waits
  v.setUint16(FX.FSW, (top << 11) | (rng.below(64) & v.getUint16(FX.FCW, true)) | (rng.u32() & 0x4700), true);
  for (let i = 0; i < REGISTERS; i++) {
    if (i < depth) fx[FX.FTW] |= 1 << ((top + i) & 7);
    fx.set(usualBytes(rng, 10), FX.ST + i * 16);
  }
  if (rng.once(10)) fx[FX.FTW] = rng.below(256);
  return fx;
}

/** A number, normal and of middling size more often than not. */
function usualBytes(rng: Rng, size: number): Uint8Array {
  if (rng.once(3)) return floatBytes(rng, size);
  const bits = { 4: [127n, 23n], 8: [1023n, 52n], 10: [16383n, 64n] }[size] as [bigint, bigint];
  const [bias, fractionBits] = bits;
  const random = ((rng.u64() << 32n) | BigInt(rng.u32())) & ((1n << fractionBits) - 1n);
  const fraction = rng.once(3) ? random & ~((1n << (fractionBits / 2n)) - 1n) : random;
  const integer = size === 10 ? 1n << 63n : 0n;
  const value = ((bias + BigInt(rng.below(8) - 4)) << fractionBits) | fraction | integer;
  const sign = rng.once(3) ? 1n << BigInt(size * 8 - 1) : 0n;
  const out = new Uint8Array(size);
  for (let i = 0; i < size; i++) out[i] = Number(((value | sign) >> BigInt(8 * i)) & 255n);
  return out;
}

/** Numbers in the data pages, around their middle, and control words to be loaded. */
export function x87Patches(rng: Rng): Patch[] {
  const from = PAGE - 0x400;
  const numbers = new Uint8Array(0x800);
  for (let at = 0; at < numbers.length; at += 16) {
    const size = rng.pick([4, 8, 8, 8, 10]);
    if (rng.once(8)) numbers.set(rng.bytes(8), at);
    else for (let i = 0; i + size <= 16; i += size) numbers.set(usualBytes(rng, size), at + i);
  }
  const words = new Uint8Array(2 * WORDS);
  const view = new DataView(words.buffer);
  for (let i = 0; i < WORDS; i++) view.setUint16(2 * i, controlWord(rng), true);
  return [
    { offset: DATA_OFFSET + from, bytes: numbers.subarray(0, 0x400) },
    { offset: DATA_OFFSET + PAGE, bytes: numbers.subarray(0x400) },
    { offset: READ_ONLY_OFFSET + WORDS_AT, bytes: words },
  ];
}
