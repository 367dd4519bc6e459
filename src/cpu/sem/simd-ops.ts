/**
 * WebAssembly's SIMD operators by name (core specification, "Vector instructions"), and the scalar
 * floating-point operators that `Expr` has no method for.
 */
import { Expr, op, simdOp, type ValType } from '../../wasm/index.ts';

/** Number after the 0xFD prefix of the first operator of each run; the names of a run are consecutive, `-` is a hole. */
const RUNS: readonly (readonly [number, string])[] = [
  [13, 'i8x16.shuffle i8x16.swizzle'],
  [15, 'i8x16.splat i16x8.splat i32x4.splat i64x2.splat f32x4.splat f64x2.splat'],
  [21, 'i8x16.extract_lane_s i8x16.extract_lane_u i8x16.replace_lane'],
  [24, 'i16x8.extract_lane_s i16x8.extract_lane_u i16x8.replace_lane'],
  [27, 'i32x4.extract_lane i32x4.replace_lane i64x2.extract_lane i64x2.replace_lane'],
  [31, 'f32x4.extract_lane f32x4.replace_lane f64x2.extract_lane f64x2.replace_lane'],
  [35, 'i8x16.eq i8x16.ne i8x16.lt_s i8x16.lt_u i8x16.gt_s i8x16.gt_u i8x16.le_s i8x16.le_u i8x16.ge_s i8x16.ge_u'],
  [45, 'i16x8.eq i16x8.ne i16x8.lt_s i16x8.lt_u i16x8.gt_s i16x8.gt_u i16x8.le_s i16x8.le_u i16x8.ge_s i16x8.ge_u'],
  [55, 'i32x4.eq i32x4.ne i32x4.lt_s i32x4.lt_u i32x4.gt_s i32x4.gt_u i32x4.le_s i32x4.le_u i32x4.ge_s i32x4.ge_u'],
  [65, 'f32x4.eq f32x4.ne f32x4.lt f32x4.gt f32x4.le f32x4.ge'],
  [71, 'f64x2.eq f64x2.ne f64x2.lt f64x2.gt f64x2.le f64x2.ge'],
  [77, 'v128.not v128.and v128.andnot v128.or v128.xor v128.bitselect v128.any_true'],
  [94, 'f32x4.demote_f64x2_zero f64x2.promote_low_f32x4'],
  [96, 'i8x16.abs i8x16.neg i8x16.popcnt i8x16.all_true i8x16.bitmask i8x16.narrow_i16x8_s i8x16.narrow_i16x8_u'],
  [103, 'f32x4.ceil f32x4.floor f32x4.trunc f32x4.nearest i8x16.shl i8x16.shr_s i8x16.shr_u'],
  [110, 'i8x16.add i8x16.add_sat_s i8x16.add_sat_u i8x16.sub i8x16.sub_sat_s i8x16.sub_sat_u'],
  [116, 'f64x2.ceil f64x2.floor i8x16.min_s i8x16.min_u i8x16.max_s i8x16.max_u f64x2.trunc i8x16.avgr_u'],
  [124, 'i16x8.extadd_pairwise_i8x16_s i16x8.extadd_pairwise_i8x16_u'],
  [126, 'i32x4.extadd_pairwise_i16x8_s i32x4.extadd_pairwise_i16x8_u'],
  [128, 'i16x8.abs i16x8.neg i16x8.q15mulr_sat_s i16x8.all_true i16x8.bitmask i16x8.narrow_i32x4_s i16x8.narrow_i32x4_u'],
  [135, 'i16x8.extend_low_i8x16_s i16x8.extend_high_i8x16_s i16x8.extend_low_i8x16_u i16x8.extend_high_i8x16_u'],
  [139, 'i16x8.shl i16x8.shr_s i16x8.shr_u i16x8.add i16x8.add_sat_s i16x8.add_sat_u'],
  [145, 'i16x8.sub i16x8.sub_sat_s i16x8.sub_sat_u f64x2.nearest i16x8.mul'],
  [150, 'i16x8.min_s i16x8.min_u i16x8.max_s i16x8.max_u - i16x8.avgr_u'],
  [156, 'i16x8.extmul_low_i8x16_s i16x8.extmul_high_i8x16_s i16x8.extmul_low_i8x16_u i16x8.extmul_high_i8x16_u'],
  [160, 'i32x4.abs i32x4.neg - i32x4.all_true i32x4.bitmask'],
  [167, 'i32x4.extend_low_i16x8_s i32x4.extend_high_i16x8_s i32x4.extend_low_i16x8_u i32x4.extend_high_i16x8_u'],
  [171, 'i32x4.shl i32x4.shr_s i32x4.shr_u i32x4.add - - i32x4.sub'],
  [181, 'i32x4.mul i32x4.min_s i32x4.min_u i32x4.max_s i32x4.max_u i32x4.dot_i16x8_s'],
  [188, 'i32x4.extmul_low_i16x8_s i32x4.extmul_high_i16x8_s i32x4.extmul_low_i16x8_u i32x4.extmul_high_i16x8_u'],
  [192, 'i64x2.abs i64x2.neg - i64x2.all_true i64x2.bitmask'],
  [199, 'i64x2.extend_low_i32x4_s i64x2.extend_high_i32x4_s i64x2.extend_low_i32x4_u i64x2.extend_high_i32x4_u'],
  [203, 'i64x2.shl i64x2.shr_s i64x2.shr_u i64x2.add - - i64x2.sub'],
  [213, 'i64x2.mul i64x2.eq i64x2.ne i64x2.lt_s i64x2.gt_s i64x2.le_s i64x2.ge_s'],
  [220, 'i64x2.extmul_low_i32x4_s i64x2.extmul_high_i32x4_s i64x2.extmul_low_i32x4_u i64x2.extmul_high_i32x4_u'],
  [224, 'f32x4.abs f32x4.neg - f32x4.sqrt f32x4.add f32x4.sub f32x4.mul f32x4.div'],
  [232, 'f32x4.min f32x4.max f32x4.pmin f32x4.pmax'],
  [236, 'f64x2.abs f64x2.neg - f64x2.sqrt f64x2.add f64x2.sub f64x2.mul f64x2.div'],
  [244, 'f64x2.min f64x2.max f64x2.pmin f64x2.pmax'],
  [248, 'i32x4.trunc_sat_f32x4_s i32x4.trunc_sat_f32x4_u f32x4.convert_i32x4_s f32x4.convert_i32x4_u'],
  [252, 'i32x4.trunc_sat_f64x2_s_zero i32x4.trunc_sat_f64x2_u_zero'],
  [254, 'f64x2.convert_low_i32x4_s f64x2.convert_low_i32x4_u'],
]; // prettier-ignore

/** Operator name → number after 0xFD. */
export const SIMD_OPS: ReadonlyMap<string, number> = new Map(
  RUNS.flatMap(([first, names]) =>
    names
      .split(' ')
      .map((name, i): [string, number] => [name, first + i])
      .filter(([name]) => name !== '-'),
  ),
);

const LANE_TYPE: Record<string, ValType> = {
  i8x16: 'i32',
  i16x8: 'i32',
  i32x4: 'i32',
  i64x2: 'i64',
  f32x4: 'f32',
  f64x2: 'f64',
};

function resultType(name: string): ValType {
  const dot = name.indexOf('.');
  const operator = name.slice(dot + 1);
  if (operator.startsWith('extract_lane')) return LANE_TYPE[name.slice(0, dot)];
  return operator === 'bitmask' || operator === 'any_true' || operator === 'all_true' ? 'i32' : 'v128';
}

function numberOf(name: string): number {
  const number = SIMD_OPS.get(name);
  if (number === undefined) throw new RangeError(`no SIMD operator ${name}`);
  return number;
}

/** A SIMD operator without immediate. Shifts take an i32 count as second argument. */
export function simd(name: string, ...args: Expr[]): Expr {
  return simdOp(resultType(name), numberOf(name), args);
}
/** `extract_lane` and `replace_lane` operators. */
export function lane(name: string, index: number, ...args: Expr[]): Expr {
  return simdOp(resultType(name), numberOf(name), args, Uint8Array.of(index));
}
/** Byte shuffle: indices 0..15 choose from `a`, 16..31 from `b`. */
export function shuffle(a: Expr, b: Expr, indices: readonly number[]): Expr {
  if (indices.length !== 16) throw new RangeError(`shuffle with ${indices.length} indices`);
  return simdOp('v128', 13, [a, b], Uint8Array.from(indices));
}

function constant(bytes: ArrayBuffer): Expr {
  return simdOp('v128', 12, [], new Uint8Array(bytes));
}
function cycled(values: readonly number[], count: number): number[] {
  return Array.from({ length: count }, (_, i) => values[i % values.length]);
}
/** v128 constants from lanes; fewer values than lanes are repeated. */
export function bytes16(...values: number[]): Expr {
  return constant(Uint8Array.from(cycled(values, 16)).buffer);
}
export function words8(...values: number[]): Expr {
  return constant(Uint16Array.from(cycled(values, 8)).buffer);
}
export function dwords4(...values: number[]): Expr {
  return constant(Uint32Array.from(cycled(values, 4)).buffer);
}
export function qwords2(a: bigint, b = a): Expr {
  return constant(BigUint64Array.of(BigInt.asUintN(64, a), BigInt.asUintN(64, b)).buffer);
}
export function zero128(): Expr {
  return bytes16(0);
}
/** 0, 1, … 15. */
export function iota(): Expr {
  return bytes16(...cycled([0], 16).map((_, i) => i));
}
/** A v128 of the i64s `low` and `high`. */
export function pair64(low: Expr, high: Expr): Expr {
  return lane('i64x2.replace_lane', 1, simd('i64x2.splat', low), high);
}
/** `low` (i64) with zeros above. */
export function zext64(low: Expr): Expr {
  return lane('i64x2.replace_lane', 0, zero128(), low);
}
/** `low` (i32) with zeros above. */
export function zext32(low: Expr): Expr {
  return lane('i32x4.replace_lane', 0, zero128(), low);
}
/** Low i64 of a v128. */
export function low64(v: Expr): Expr {
  return lane('i64x2.extract_lane', 0, v);
}
export function high64(v: Expr): Expr {
  return lane('i64x2.extract_lane', 1, v);
}

const UNARY: Record<string, number> = {
  'f32.abs': 0x8b, 'f32.neg': 0x8c, 'f32.ceil': 0x8d, 'f32.floor': 0x8e, 'f32.trunc': 0x8f, 'f32.nearest': 0x90,
  'f32.sqrt': 0x91,
  'f64.abs': 0x99, 'f64.neg': 0x9a, 'f64.ceil': 0x9b, 'f64.floor': 0x9c, 'f64.trunc': 0x9d, 'f64.nearest': 0x9e,
  'f64.sqrt': 0x9f,
  'f32.convert_i32_s': 0xb2, 'f32.convert_i64_s': 0xb4, 'f32.demote_f64': 0xb6,
  'f64.convert_i32_s': 0xb7, 'f64.convert_i64_s': 0xb9, 'f64.promote_f32': 0xbb,
  'i32.reinterpret_f32': 0xbc, 'i64.reinterpret_f64': 0xbd, 'f32.reinterpret_i32': 0xbe, 'f64.reinterpret_i64': 0xbf,
  'i32.trunc_sat_f32_s': 0xfc0000, 'i32.trunc_sat_f64_s': 0xfc0002, 'i64.trunc_sat_f32_s': 0xfc0004,
  'i64.trunc_sat_f64_s': 0xfc0006,
}; // prettier-ignore

/** A scalar floating-point operator of one argument. */
export function unary(name: string, x: Expr): Expr {
  const code = UNARY[name];
  if (code === undefined) throw new RangeError(`no operator ${name}`);
  return op(name.slice(0, 3) as ValType, code, [x]);
}
/** Bits of an f32 or f64 as i32 or i64. */
export function bitsOf(x: Expr): Expr {
  return unary(x.type === 'f32' ? 'i32.reinterpret_f32' : 'i64.reinterpret_f64', x);
}
/** The f32 or f64 with the bits of an i32 or i64. */
export function floatOf(x: Expr): Expr {
  return unary(x.type === 'i32' ? 'f32.reinterpret_i32' : 'f64.reinterpret_i64', x);
}
