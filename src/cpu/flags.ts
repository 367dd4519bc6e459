/**
 * Lazy flags: the representation in `CpuEnv`, read and written from TypeScript.
 * Generated code keeps the same three words in locals.
 */
import type { CpuEnvView } from './env.ts';

export const FLAG = {
  CF: 1 << 0,
  PF: 1 << 2,
  AF: 1 << 4,
  ZF: 1 << 6,
  SF: 1 << 7,
  TF: 1 << 8,
  IF: 1 << 9,
  DF: 1 << 10,
  OF: 1 << 11,
  IOPL: 3 << 12,
  NT: 1 << 14,
  RF: 1 << 16,
  VM: 1 << 17,
  AC: 1 << 18,
  VIF: 1 << 19,
  VIP: 1 << 20,
  ID: 1 << 21,
} as const;
/** All flags that can be set. */
export const SETTABLE = 0x3f7fd7;
/** The six flags that are lazy. */
export const ARITHMETIC = FLAG.CF | FLAG.PF | FLAG.AF | FLAG.ZF | FLAG.SF | FLAG.OF;

function evenParity(byte: number): boolean {
  let b = byte & 255;
  b ^= b >> 4;
  return ((0x9669 >> (b & 15)) & 1) !== 0;
}

/** The architectural EFLAGS. */
export function readEflags(env: CpuEnvView): number {
  const low = Number(env.flagRes & 0xffn);
  const carry = env.flagCarry;
  const aux = env.flagAux;
  const top = Number(carry >> 62n);
  let f = env.eflags & ~ARITHMETIC;
  if (top & 2) f |= FLAG.CF;
  if (top === 1 || top === 2) f |= FLAG.OF;
  if (env.flagRes === 0n) f |= FLAG.ZF;
  if ((env.flagRes >> 63n !== 0n) !== ((aux >> 16) & 1) > 0) f |= FLAG.SF;
  if ((aux ^ low) & 0x10) f |= FLAG.AF;
  if (evenParity(low ^ (aux >> 8))) f |= FLAG.PF;
  return f;
}

/** Sets all of EFLAGS. Reserved bits are the caller's business. */
export function writeEflags(env: CpuEnvView, value: number): void {
  env.eflags = value & ~ARITHMETIC;
  const res = value & FLAG.ZF ? 0 : 1;
  env.flagRes = BigInt(res);
  const cf = value & FLAG.CF ? 1n : 0n;
  const of = value & FLAG.OF ? 1n : 0n;
  env.flagCarry = (cf << 63n) | ((cf ^ of) << 62n);
  // res is 0 (even parity) or 1 (odd): flip with bit 8 where that is not the PF asked for
  const flip = ((value & FLAG.PF) !== 0) === (res === 0) ? 0 : 1 << 8;
  env.flagAux = (value & FLAG.AF ? 0x10 : 0) | flip | (value & FLAG.SF ? 1 << 16 : 0);
}
