/** Conversions between floating-point formats and integers. Source: Intel SDM vol. 2, CVT*; vol. 1, 11.5.2. */
import { type Expr, i32 } from '../../wasm/index.ts';
import type { Ins, Semantics } from './ins.ts';
import {
  anyLane,
  denormalLanes,
  enterMmx,
  exactIf,
  isNaNFloat,
  nanLanes,
  needsCompareCare,
  needsPrecision,
  row,
  type Width,
  writeFirst,
  writeMmx,
} from './simd-emit.ts';
import { denormalBits, isOrdinary, MXCSR, mxcsr } from './simd-float.ts';
import type { SimdFunctions } from './simd-functions.ts';
import { bitsOf, dwords4, floatOf, low64, qwords2, simd, unary, zext64 } from './simd-ops.ts';

/** The f64 value of single or double bits (exact; a NaN stays some NaN). */
function widened(bits: Expr): Expr {
  return bits.type === 'i32' ? unary('f64.promote_f32', floatOf(bits)) : floatOf(bits);
}

/** cvtss2si, cvttss2si, cvtsd2si, cvttsd2si. */
function toInteger(fns: SimdFunctions, name: string, size: Width, truncate: boolean): Semantics {
  const emit = (ins: Ins): void => {
    const { f, env } = ins;
    const bits = ins.readLow(1, size);
    const x = f.let(widened(bits));
    const long = ins.size === 8;
    const type = long ? 'i64' : 'i32';
    const rounded = truncate ? x : f.let(unary('f64.nearest', x));
    const r = f.copy(unary(`${type}.trunc_sat_f64_s`, rounded));
    // inexact, NaN and out of range all make the integer differ; 2^63 saturates to what rounds back to it
    const back = unary(long ? 'f64.convert_i64_s' : 'f64.convert_i32_s', r);
    let cold = back.ne(x);
    if (long) cold = cold.or(r.eq((1n << 63n) - 1n));
    if (!truncate) cold = cold.or(mxcsr(env).and(MXCSR.RC));
    const slow = fns.call(
      f,
      size === 4 ? 'toIntSs' : 'toIntSd',
      env,
      bits,
      i32(long ? 1 : 0),
      i32(truncate ? 1 : 0),
    );
    exactIf(ins, cold, r, long ? slow : slow.i32());
    ins.write(0, r);
  };
  return row(name, 'rx rm', emit, [4, 8]);
}

/** cvtsi2ss, cvtsi2sd. */
function fromInteger(fns: SimdFunctions, name: string, size: Width): Semantics {
  const emit = (ins: Ins): void => {
    const { f, env } = ins;
    const v = ins.read(1);
    const r = f.copy(bitsOf(unary(`${size === 4 ? 'f32' : 'f64'}.convert_${v.type}_s`, v)));
    if (!(size === 8 && v.type === 'i32')) {
      // integers up to 2^24 (2^53) are exact
      const limit = size === 4 ? 1 << 24 : 2 ** 53;
      const large = v.add(limit).gtU(2 * limit);
      exactIf(ins, large, r, fns.call(f, name, env, v.i64s()));
    }
    writeFirst(ins, ins.readV128(0), r);
  };
  return row(name, 'xr xm', emit, [4, 8]);
}

function scalarFormats(fns: SimdFunctions): Semantics[] {
  return [
    row('cvtss2sd', 'xx xm', (ins) => {
      const { f, env } = ins;
      const b = ins.readLow(1, 4);
      const r = f.copy(bitsOf(unary('f64.promote_f32', floatOf(b))));
      const cold = needsCompareCare(env)
        .or(denormalBits(b))
        .or(isNaNFloat(floatOf(b)));
      exactIf(ins, cold, r, fns.call(f, 'cvtss2sd', env, b));
      writeFirst(ins, ins.readV128(0), r);
    }),
    row('cvtsd2ss', 'xx xm', (ins) => {
      const { f, env } = ins;
      const b = ins.readLow(1, 8);
      const value = f.let(unary('f32.demote_f64', floatOf(b)));
      const r = f.copy(bitsOf(value));
      const cold = needsPrecision(env).or(isOrdinary(value).eqz());
      exactIf(ins, cold, r, fns.call(f, 'cvtsd2ss', env, b));
      writeFirst(ins, ins.readV128(0), r);
    }),
  ];
}

/** Lanes are singles; `count` of them matter, the others are zero. */
function singlesToIntegers(fns: SimdFunctions, ins: Ins, v: Expr, truncate: boolean): Expr {
  const { f, env } = ins;
  const rounded = truncate ? v : f.let(simd('f32x4.nearest', v));
  const r = f.copy(simd('i32x4.trunc_sat_f32x4_s', rounded));
  // 2^31 saturates to what rounds back to it
  const differs = simd('f32x4.ne', simd('f32x4.convert_i32x4_s', r), v);
  let cold = anyLane(differs, simd('i32x4.eq', r, dwords4(0x7fffffff)));
  if (!truncate) cold = cold.or(mxcsr(env).and(MXCSR.RC));
  exactIf(ins, cold, r, fns.call(f, 'cvtps2dq', env, v, i32(truncate ? 1 : 0)));
  return r;
}
function doublesToIntegers(fns: SimdFunctions, ins: Ins, v: Expr, truncate: boolean): Expr {
  const { f, env } = ins;
  const rounded = truncate ? v : f.let(simd('f64x2.nearest', v));
  const r = f.copy(simd('i32x4.trunc_sat_f64x2_s_zero', rounded));
  let cold = anyLane(simd('f64x2.ne', simd('f64x2.convert_low_i32x4_s', r), v));
  if (!truncate) cold = cold.or(mxcsr(env).and(MXCSR.RC));
  exactIf(ins, cold, r, fns.call(f, 'cvtpd2dq', env, v, i32(truncate ? 1 : 0)));
  return r;
}
function integersToSingles(fns: SimdFunctions, ins: Ins, v: Expr): Expr {
  const { f, env } = ins;
  const r = f.copy(simd('f32x4.convert_i32x4_s', v));
  const large = simd('i32x4.gt_u', simd('i32x4.add', v, dwords4(1 << 24)), dwords4(1 << 25));
  exactIf(ins, needsPrecision(env).ne(0).and(anyLane(large)), r, fns.call(f, 'cvtdq2ps', env, v));
  return r;
}

function packed(fns: SimdFunctions): Semantics[] {
  return [
    row('cvtps2pd', 'xx xm', (ins) => {
      const { f, env } = ins;
      const v = f.let(zext64(ins.readLow(1, 8)));
      const r = f.copy(simd('f64x2.promote_low_f32x4', v));
      const cold = needsCompareCare(env).or(anyLane(nanLanes('ps', v), denormalLanes('ps', v)));
      exactIf(ins, cold, r, fns.call(f, 'cvtps2pd', env, v));
      ins.writeV128(0, r);
    }),
    row('cvtpd2ps', 'xx xm', (ins) => {
      const { f, env } = ins;
      const v = ins.readV128(1);
      const r = f.copy(simd('f32x4.demote_f64x2_zero', v));
      const size = simd('f32x4.abs', r);
      const fine = simd(
        'v128.and',
        simd('f32x4.lt', size, dwords4(0x7f800000)),
        // the upper lanes are zero and pass: they are above a negative bound
        simd('f32x4.gt', size, dwords4(0x00800000, 0x00800000, 0xbf800000, 0xbf800000)),
      );
      const cold = needsPrecision(env).or(simd('i32x4.all_true', fine).eqz());
      exactIf(ins, cold, r, fns.call(f, 'cvtpd2ps', env, v));
      ins.writeV128(0, r);
    }),
    row('cvtdq2ps', 'xx xm', (ins) => ins.writeV128(0, integersToSingles(fns, ins, ins.readV128(1)))),
    row('cvtdq2pd', 'xx xm', (ins) => {
      ins.writeV128(0, simd('f64x2.convert_low_i32x4_s', zext64(ins.readLow(1, 8))));
    }),
    ...[false, true].flatMap((truncate) => {
      const t = truncate ? 't' : '';
      return [
        row(`cvt${t}ps2dq`, 'xx xm', (ins) => {
          ins.writeV128(0, singlesToIntegers(fns, ins, ins.readV128(1), truncate));
        }),
        row(`cvt${t}pd2dq`, 'xx xm', (ins) => {
          ins.writeV128(0, doublesToIntegers(fns, ins, ins.readV128(1), truncate));
        }),
        row(`cvt${t}ps2pi`, 'qx qm', (ins) => {
          const v = ins.f.let(zext64(ins.readLow(1, 8)));
          writeMmx(ins, 0, low64(singlesToIntegers(fns, ins, v, truncate)));
        }),
        row(`cvt${t}pd2pi`, 'qx qm', (ins) => {
          writeMmx(ins, 0, low64(doublesToIntegers(fns, ins, ins.readV128(1), truncate)));
        }),
      ];
    }),
    row('cvtpi2ps', 'xq xm', (ins) => {
      const v = ins.f.let(zext64(ins.readLow(1, 8)));
      const r = integersToSingles(fns, ins, v);
      const old = ins.readV128(0);
      ins.writeV128(0, simd('v128.bitselect', r, old, qwords2(-1n, 0n)));
      if (ins.kinds[1] === 'q') enterMmx(ins);
    }),
    row('cvtpi2pd', 'xq xm', (ins) => {
      ins.writeV128(0, simd('f64x2.convert_low_i32x4_s', zext64(ins.readLow(1, 8))));
      if (ins.kinds[1] === 'q') enterMmx(ins);
    }),
  ];
}

/** Conversions for one module. */
export function makeConversionSemantics(fns: SimdFunctions): Semantics[] {
  return [
    toInteger(fns, 'cvtss2si', 4, false),
    toInteger(fns, 'cvttss2si', 4, true),
    toInteger(fns, 'cvtsd2si', 8, false),
    toInteger(fns, 'cvttsd2si', 8, true),
    fromInteger(fns, 'cvtsi2ss', 4),
    fromInteger(fns, 'cvtsi2sd', 8),
    ...scalarFormats(fns),
    ...packed(fns),
  ];
}
