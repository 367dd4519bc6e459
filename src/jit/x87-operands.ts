/** Memory operands of x87 instructions as numbers, in place where they are usual ones. Source: Intel SDM vol. 1, 4.2, 4.8. */
import { type Expr, type FuncRef, i32, i64, load, type Local } from '../wasm/index.ts';
import { FLOATS } from '../cpu/fpu/convert.ts';
import { RESULT } from '../cpu/fpu/core.ts';
import type { X87Functions } from '../cpu/fpu/functions.ts';
import { EXPONENT_BIAS, INTEGER_BIT, SIGN_BIT } from '../cpu/fpu/layout.ts';
import { type Ins, signExtend } from '../cpu/sem/ins.ts';

export interface MemoryNumber {
  readonly m: Local;
  readonly e: Local;
  /** i32: it is a denormal number, a NaN or infinite, and has not been converted; undefined: it never is. */
  readonly unusual: Local | undefined;
  /** (env, bits) → flags; the number in RESULT. */
  readonly convert: FuncRef;
  /** As it is in memory. */
  readonly bits: Expr;
}

/** A number or integer of the instruction's size. */
export function memoryNumber(ins: Ins, fns: X87Functions, bits: Expr, integer: boolean): MemoryNumber {
  return integer ? ofInteger(ins, fns, bits) : ofFloat(ins, fns, bits);
}

function ofInteger(ins: Ins, fns: X87Functions, bits: Expr): MemoryNumber {
  const { f } = ins;
  const value = f.copy(signExtend(bits, ins.size, 8));
  const sign = f.copy(value.shrS(63));
  const magnitude = f.copy(value.xor(sign).sub(sign));
  const shift = f.copy(magnitude.clz());
  const high = i32(EXPONENT_BIAS + 63)
    .sub(shift.i32())
    .or(sign.i32().and(SIGN_BIT));
  const m = f.copy(magnitude.shl(shift));
  const e = f.copy(magnitude.eqz().select(i32(0), high));
  return { m, e, bits, unusual: undefined, convert: fns.fromInteger };
}

function ofFloat(ins: Ins, fns: X87Functions, bits: Expr): MemoryNumber {
  const { f, size } = ins;
  const { bias, exponentBits, drop } = size === 4 ? FLOATS.float32 : FLOATS.float64;
  const fractionBits = 63 - drop;
  const max = (1 << exponentBits) - 1;
  const wide = f.copy(bits.i64u());
  const m = f.copy(wide.shl(drop).or(INTEGER_BIT));
  const field = f.copy(wide.shrU(fractionBits).i32().and(max));
  const signBit = f.copy(
    wide
      .shrU(size * 8 - 16)
      .i32()
      .and(SIGN_BIT),
  );
  const e = f.copy(field.add(EXPONENT_BIAS - bias).or(signBit));
  const unusual = f.copy(i32(0));
  f.if(
    field.sub(1).geU(max - 1),
    () => {
      // all but the sign
      f.set(unusual, wide.shl(65 - size * 8).ne(0));
      f.set(m, i64(0));
      f.set(e, signBit);
    },
    undefined,
    false,
  );
  return { m, e, bits, unusual, convert: size === 4 ? fns.fromFloat32 : fns.fromFloat64 };
}

/** Converts a number where it is unusual; gives what that raises, bound. */
export function convertUnusual({ f, env }: Ins, { m, e, bits, unusual, convert }: MemoryNumber): Local {
  const flags = f.copy(i32(0));
  if (unusual === undefined) return flags;
  f.if(
    unusual,
    () => {
      f.set(flags, f.call(convert, env, bits));
      f.set(m, load('i64', env, RESULT.mantissa));
      f.set(e, load('i32', env, RESULT.high));
    },
    undefined,
    false,
  );
  return flags;
}
