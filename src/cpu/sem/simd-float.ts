/**
 * Exact SSE floating point, out of line: every rounding mode, denormals-are-zeros, flush-to-zero, NaN rules and
 * exception flags (Intel SDM vol. 1, 4.8, 4.9, 10.2.3, 11.5). The inlined fast paths come here when the result
 * may not be what the plain wasm operator gives, or when a flag may have to be set.
 *
 * Numbers are worked on as f64 bits in an i64 ("wide"), single precision ones too: every single is exactly a
 * double. `single` says which format the result is rounded to and what counts as denormal. Results are bits of
 * that format in an i64.
 *
 * Exceptions found are gathered in `PENDING`. `fpFinish` moves them to MXCSR and leaves in `PENDING` those
 * that are unmasked: nonzero means that #XM is to be raised and the result not to be written.
 */
import { Expr, f32, f64, type FuncBuilder, i32, i64, load, type Local } from '../../wasm/index.ts';
import { CpuEnv } from '../env.ts';
import type { SharedFunctions, SimdFunctions } from './simd-functions.ts';
import { bitsOf, floatOf, unary } from './simd-ops.ts';

/** MXCSR (SDM vol. 1, 10.2.3). */
export const MXCSR = {
  IE: 1, DE: 2, ZE: 4, OE: 8, UE: 16, PE: 32,
  DAZ: 1 << 6,
  /** Mask bits are the flags shifted by this. */
  MASK_SHIFT: 7,
  OM: 1 << 10,
  UM: 1 << 11,
  RC_SHIFT: 13, RC: 3 << 13,
  FTZ: 1 << 15,
  /** Round to nearest, all exceptions masked, neither DAZ nor FTZ. */
  DEFAULT: 0x1f80,
  /** Everything but the flags. */
  CONTROL: 0xffc0,
} as const; // prettier-ignore

export const MXCSR_OFFSET = CpuEnv.offsetOf('mxcsr');
/** i32 in the env: exceptions of the operation under way. */
export const PENDING = CpuEnv.offsetOf('scratch') + 7 * 8;

const SIGN = 1n << 63n;
const INFINITY = 0x7ff0_0000_0000_0000n;
const QUIET = 1n << 51n;
const FRACTION = (1n << 52n) - 1n;
const IMPLICIT = 1n << 52n;
export const INDEFINITE_64 = 0xfff8_0000_0000_0000n;
export const INDEFINITE_32 = 0xffc0_0000n;
/** f64 bits of the smallest normal numbers. */
const MIN_NORMAL_64 = 0x0010_0000_0000_0000n;
const MIN_NORMAL_32 = 0x3810_0000_0000_0000n;

export function mxcsr(env: Expr): Expr {
  return load('i32', env, MXCSR_OFFSET);
}
/** Notes exceptions (constant or i32). */
export function note(f: FuncBuilder, env: Expr, flags: Expr | number): void {
  f.store(4, env, PENDING, load('i32', env, PENDING).or(flags));
}
/** Magnitude of f64 bits. */
function magnitude(x: Expr): Expr {
  return x.and(SIGN - 1n);
}
export function isNaN64(x: Expr): Expr {
  return magnitude(x).gtU(INFINITY);
}
export function isSignalling(x: Expr): Expr {
  return isNaN64(x).and(x.and(QUIET).eqz());
}
function isInfinite(x: Expr): Expr {
  return magnitude(x).eq(INFINITY);
}
function isZero(x: Expr): Expr {
  return x.shl(1).eqz();
}
export function signBit(x: Expr): Expr {
  return x.shrU(63).i32();
}
/** i32 0/1: nonzero and below the smallest normal number of the format. */
function isDenormal(x: Expr, single: Expr): Expr {
  const limit = single.select(i64(MIN_NORMAL_32 - 1n), i64(MIN_NORMAL_64 - 1n));
  return magnitude(x).sub(1).ltU(limit);
}
/** Wide bits that the format holds exactly, as bits of the format. */
export function narrowExact(x: Expr, single: Expr): Expr {
  const small = bitsOf(unary('f32.demote_f64', floatOf(x))).i64u();
  return single.select(small, x);
}

/** Returns the default NaN with IE noted. */
function returnInvalid(f: FuncBuilder, env: Expr, single: Expr): void {
  note(f, env, MXCSR.IE);
  f.ret(single.select(i64(INDEFINITE_32), i64(INDEFINITE_64)));
}
/** NaN operands: returns from the function. */
function handleNaNs(f: FuncBuilder, fns: SimdFunctions, env: Expr, a: Expr, b: Expr, single: Expr): void {
  f.if(isNaN64(a).or(isNaN64(b)), () => f.ret(fns.call(f, 'fpNaN', env, a, b, single)), undefined, false);
}
/** Replaces a denormal by zero under DAZ. */
function denormalsAreZeros(f: FuncBuilder, fns: SimdFunctions, env: Expr, a: Local, single: Expr): void {
  f.set(a, fns.call(f, 'fpDaz', env, a, single));
}
function noteDenormals(f: FuncBuilder, env: Expr, single: Expr, ...values: Expr[]): void {
  const any = values.map((v) => isDenormal(v, single)).reduce((x, y) => x.or(y));
  f.if(any, () => note(f, env, MXCSR.DE), undefined, false);
}
/** Exponent and 53-bit significand of a finite nonzero number. */
export function normalise(f: FuncBuilder, x: Expr): { exponent: Local; significand: Local } {
  const field = f.let(x.shrU(52).i32().and(0x7ff));
  const significand = f.copy(x.and(FRACTION));
  const exponent = f.copy(field.sub(1023));
  f.if(
    field,
    () => f.set(significand, significand.or(IMPLICIT)),
    () => {
      const shift = f.let(significand.clz().sub(11));
      f.set(exponent, i32(-1022).sub(shift.i32()));
      f.set(significand, significand.shl(shift));
    },
  );
  return { exponent, significand };
}
/** The f64 in [1, 2) with this 53-bit significand. */
function unit(significand: Expr): Expr {
  return floatOf(significand.and(FRACTION).or(1023n << 52n));
}

/**
 * Given the nearest double `r` (bits, exponent `scale` higher than its own) to an exact value, and the exact error
 * `d` of the same sign as (exact − r): rounds the exact value to the format.
 */
function roundQuotient(f: FuncBuilder, fns: SimdFunctions, env: Expr, sign: Expr, scale: Expr, r: Expr, d: Expr, single: Expr): void {
  const exponent = f.copy(r.shrU(52).i32().sub(1023).add(scale));
  const error = f.let(d);
  const step = error.gtS(0).i64u().sub(error.ltS(0).i64u());
  const m = f.copy(r.and(FRACTION).or(IMPLICIT).shl(2).add(step));
  f.if(m.ltU(1n << 54n), () => {
    f.set(m, m.shl(1).or(1));
    f.set(exponent, exponent.sub(1));
  });
  f.ret(fns.call(f, 'fpRound', env, sign, exponent, m, single));
} // prettier-ignore

/** The direction of rounding: 0 nearest even, 1 away from zero, 2 towards zero. */
function direction(env: Expr, sign: Expr): Expr {
  const rc = mxcsr(env).shrU(MXCSR.RC_SHIFT).and(3);
  // RC 1 (down) is away for negative numbers, 2 (up) for positive ones
  const away = rc.eq(sign.select(i32(1), i32(2)));
  return rc.eqz().select(i32(0), away.select(i32(1), i32(2)));
}

export const FLOAT_CORE: SharedFunctions = {
  /** Ends an operation: flags to MXCSR. Gives the unmasked exceptions, also left in PENDING. */
  fpFinish: {
    params: ['i32'],
    results: ['i32'],
    emit(f) {
      const env = f.param(0);
      const flags = f.copy(load('i32', env, PENDING));
      const unmasked = f.let(mxcsr(env).shrU(MXCSR.MASK_SHIFT).xor(-1).and(0x3f));
      // an unmasked pre-computation exception hides the post-computation ones (SDM vol. 1, 11.5.3)
      f.if(flags.and(7).and(unmasked), () => f.set(flags, flags.and(7)));
      f.store(4, env, MXCSR_OFFSET, mxcsr(env).or(flags));
      const left = f.let(flags.and(unmasked));
      f.store(4, env, PENDING, left);
      f.ret(left);
    },
  },
  /** Single precision bits to wide ones; a signalling NaN stays one. */
  fpWiden: {
    params: ['i32'],
    results: ['i64'],
    emit(f) {
      const x = f.param(0);
      f.if(x.shl(1).gtU(0xff000000 | 0), () => {
        const sign = x.and(0x80000000 | 0).i64u().shl(32);
        f.ret(sign.or(INFINITY).or(x.and(0x7fffff).i64u().shl(29)));
      }, undefined, false); // prettier-ignore
      f.ret(bitsOf(unary('f64.promote_f32', floatOf(x))));
    },
  },
  /** The NaN that an operation on (a, b) gives: the first that is one, quieted. For one operand pass it twice. */
  fpNaN: {
    params: ['i32', 'i64', 'i64', 'i32'],
    results: ['i64'],
    emit(f) {
      const [env, a, b, single] = [f.param(0), f.param(1), f.param(2), f.param(3)];
      f.if(isSignalling(a).or(isSignalling(b)), () => note(f, env, MXCSR.IE));
      const nan = f.let(isNaN64(a).select(a, b).or(QUIET));
      const small = nan.shrU(32).and(0x80000000n).or(0x7f800000n).or(nan.shrU(29).and(0x7fffffn));
      f.ret(single.select(small, nan));
    },
  },
  fpDaz: {
    params: ['i32', 'i64', 'i32'],
    results: ['i64'],
    emit(f) {
      const [env, x, single] = [f.param(0), f.param(1), f.param(2)];
      const flush = mxcsr(env).and(MXCSR.DAZ).ne(0).and(isDenormal(x, single));
      f.ret(flush.select(x.and(SIGN), x));
    },
  },
  /** m >> shift (1..62), rounded in a direction. */
  fpShift: {
    params: ['i64', 'i32', 'i32'],
    results: ['i64'],
    emit(f) {
      const [m, shift, way] = [f.param(0), f.param(1).i64u(), f.param(2)];
      const q = f.copy(m.shrU(shift));
      const rest = f.copy(m.sub(q.shl(shift)));
      const half = f.copy(i64(1).shl(shift.sub(1)));
      f.if(
        way.eqz(),
        () => f.set(q, q.add(rest.gtU(half).or(rest.eq(half).and(q.i32())).and(1).i64u())),
        () => f.set(q, q.add(way.eq(1).and(rest.ne(0)).i64u())),
      );
      f.ret(q);
    },
  },
  /**
   * Rounds (-1)^sign · m · 2^(exponent-54), 2^54 ≤ m < 2^55, to the format. The lowest bit of m is sticky: it
   * stands for anything below. Tininess is detected after rounding.
   */
  fpRound: {
    params: ['i32', 'i32', 'i32', 'i64', 'i32'],
    results: ['i64'],
    emit(f, fns) {
      const [env, sign, exponent, m, single] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
      const way = f.copy(direction(env, sign));
      const shift = f.copy(single.select(i32(31), i32(2)));
      const least = f.copy(single.select(i32(-126), i32(-1022)));
      const fractionBits = f.copy(single.select(i64(23), i64(52)));
      const signed = f.copy(sign.i64u().shl(single.select(i64(31), i64(63))));
      const q = f.copy(fns.call(f, 'fpShift', m, shift, way));
      const e = f.copy(exponent);
      f.if(q.shrU(fractionBits).eq(2), () => {
        f.set(e, e.add(1));
        f.set(q, q.shrU(1));
      });
      const mask = (by: Expr): Expr => i64(1).shl(by.i64u()).sub(1);
      f.if(e.ltS(least), () => {
        f.if(mxcsr(env).and(MXCSR.UM).eqz(), () => {
          note(f, env, m.and(mask(shift)).ne(0).select(i32(MXCSR.UE | MXCSR.PE), i32(MXCSR.UE)));
          f.ret(signed);
        });
        f.if(mxcsr(env).and(MXCSR.FTZ), () => {
          note(f, env, MXCSR.UE | MXCSR.PE);
          f.ret(signed);
        });
        const deep = f.copy(shift.add(least).sub(exponent));
        f.set(deep, deep.gtS(62).select(i32(62), deep));
        f.if(m.and(mask(deep)).ne(0), () => note(f, env, MXCSR.UE | MXCSR.PE));
        f.ret(signed.or(fns.call(f, 'fpShift', m, deep, way)));
      }, undefined, false); // prettier-ignore
      f.if(m.and(mask(shift)).ne(0), () => note(f, env, MXCSR.PE));
      const most = single.select(i32(127), i32(1023));
      const infinity = f.copy(single.select(i64(0x7f800000), i64(INFINITY)));
      f.if(
        e.gtS(most),
        () => {
          // unmasked, the result is inexact only if its significand is
          const masked = mxcsr(env).and(MXCSR.OM);
          note(f, env, masked.select(i32(MXCSR.OE | MXCSR.PE), i32(MXCSR.OE)));
          f.ret(signed.or(way.eq(2).select(infinity.sub(1), infinity)));
        },
        undefined,
        false,
      );
      const field = e.sub(least).i64u().shl(fractionBits);
      f.ret(signed.or(q.add(field)));
    },
  },
  /** a + b, or a − b when `negate` is 1. */
  fpAdd: {
    params: ['i32', 'i64', 'i64', 'i32', 'i32'],
    results: ['i64'],
    emit(f, fns) {
      const [env, a, b, single, negate] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
      handleNaNs(f, fns, env, a, b, single);
      denormalsAreZeros(f, fns, env, a, single);
      denormalsAreZeros(f, fns, env, b, single);
      f.set(b, b.xor(negate.i64u().shl(63)));
      f.if(isInfinite(a).and(isInfinite(b)).and(a.ne(b)), () => returnInvalid(f, env, single));
      noteDenormals(f, env, single, a, b);
      f.if(isInfinite(a), () => f.ret(narrowExact(a, single)));
      f.if(isInfinite(b), () => f.ret(narrowExact(b, single)));
      const down = mxcsr(env)
        .and(MXCSR.RC)
        .eq(1 << MXCSR.RC_SHIFT);
      const zero = (sign: Expr): void => f.ret(sign.i64u().shl(single.select(i64(31), i64(63))));
      f.if(isZero(a).and(isZero(b)), () => {
        zero(a.eq(b).select(signBit(a), down));
      });
      // the larger first
      const swap = f.copy(a);
      f.if(magnitude(a).ltU(magnitude(b)), () => {
        f.set(a, b);
        f.set(b, swap);
      });
      const x = normalise(f, a);
      const sum = f.copy(x.significand.shl(10));
      f.if(isZero(b).eqz(), () => {
        const y = normalise(f, b);
        const distance = f.copy(x.exponent.sub(y.exponent).i64u());
        f.set(distance, distance.gtU(63).select(i64(63), distance));
        const addend = f.copy(y.significand.shl(10));
        const lost = addend.and(i64(1).shl(distance).sub(1)).ne(0).i64u();
        f.set(addend, addend.shrU(distance).or(lost));
        f.if(
          a.xor(b).ltS(0),
          () => f.set(sum, sum.sub(addend)),
          () => f.set(sum, sum.add(addend)),
        );
      });
      f.if(sum.eqz(), () => zero(down));
      const zeros = f.copy(sum.clz());
      f.set(sum, sum.shl(zeros));
      const m = sum.shrU(9).or(sum.and(511).ne(0).i64u());
      f.ret(fns.call(f, 'fpRound', env, signBit(a), x.exponent.add(1).sub(zeros.i32()), m, single));
    },
  },
  fpMul: {
    params: ['i32', 'i64', 'i64', 'i32'],
    results: ['i64'],
    emit(f, fns) {
      const [env, a, b, single] = [f.param(0), f.param(1), f.param(2), f.param(3)];
      handleNaNs(f, fns, env, a, b, single);
      denormalsAreZeros(f, fns, env, a, single);
      denormalsAreZeros(f, fns, env, b, single);
      const anyZero = f.copy(isZero(a).or(isZero(b)));
      const anyInfinite = f.copy(isInfinite(a).or(isInfinite(b)));
      f.if(anyZero.and(anyInfinite), () => returnInvalid(f, env, single));
      noteDenormals(f, env, single, a, b);
      const sign = f.copy(a.xor(b).and(SIGN));
      f.if(anyZero, () => f.ret(narrowExact(sign, single)));
      f.if(anyInfinite, () => f.ret(narrowExact(sign.or(INFINITY), single)));
      const x = normalise(f, a);
      const y = normalise(f, b);
      const r = f.copy(bitsOf(unit(x.significand).mul(unit(y.significand))));
      const shift = r.shrU(52).sub(1023 - 52);
      const d = x.significand.mul(y.significand).sub(r.and(FRACTION).or(IMPLICIT).shl(shift));
      roundQuotient(f, fns, env, signBit(sign), x.exponent.add(y.exponent), r, d, single);
    },
  },
  fpDiv: {
    params: ['i32', 'i64', 'i64', 'i32'],
    results: ['i64'],
    emit(f, fns) {
      const [env, a, b, single] = [f.param(0), f.param(1), f.param(2), f.param(3)];
      handleNaNs(f, fns, env, a, b, single);
      denormalsAreZeros(f, fns, env, a, single);
      denormalsAreZeros(f, fns, env, b, single);
      const sign = f.copy(a.xor(b).and(SIGN));
      f.if(
        isZero(a)
          .and(isZero(b))
          .or(isInfinite(a).and(isInfinite(b))),
        () => returnInvalid(f, env, single),
      );
      f.if(isZero(b).and(isInfinite(a).eqz()), () => {
        note(f, env, MXCSR.ZE);
        f.ret(narrowExact(sign.or(INFINITY), single));
      });
      noteDenormals(f, env, single, a, b);
      f.if(isInfinite(a), () => f.ret(narrowExact(sign.or(INFINITY), single)));
      f.if(isZero(a).or(isInfinite(b)), () => f.ret(narrowExact(sign, single)));
      const x = normalise(f, a);
      const y = normalise(f, b);
      const r = f.copy(bitsOf(unit(x.significand).divS(unit(y.significand))));
      // exact − r has the sign of ma·2^(52-er) − mb·mr, which is small: its low 64 bits suffice
      const shift = i64(1023 + 52).sub(r.shrU(52));
      const d = x.significand.shl(shift).sub(y.significand.mul(r.and(FRACTION).or(IMPLICIT)));
      roundQuotient(f, fns, env, signBit(sign), x.exponent.sub(y.exponent), r, d, single);
    },
  },
  fpSqrt: {
    params: ['i32', 'i64', 'i32'],
    results: ['i64'],
    emit(f, fns) {
      const [env, a, single] = [f.param(0), f.param(1), f.param(2)];
      handleNaNs(f, fns, env, a, a, single);
      denormalsAreZeros(f, fns, env, a, single);
      f.if(isZero(a), () => f.ret(narrowExact(a, single)));
      f.if(a.ltS(0), () => returnInvalid(f, env, single));
      noteDenormals(f, env, single, a);
      f.if(isInfinite(a), () => f.ret(narrowExact(a, single)));
      const x = normalise(f, a);
      const odd = f.copy(x.exponent.and(1));
      const value = unit(x.significand).mul(odd.select(f64(2), f64(1)));
      const r = f.copy(bitsOf(unary('f64.sqrt', value)));
      const mr = f.copy(r.and(FRACTION).or(IMPLICIT));
      const d = x.significand.shl(odd.i64u().add(52)).sub(mr.mul(mr));
      roundQuotient(f, fns, env, i32(0), x.exponent.sub(odd).shrS(1), r, d, single);
    },
  },
};

// --- one lane, in its own format: quick where the control word is the default and numbers are ordinary ---

type Lane = (f: FuncBuilder, fns: SimdFunctions, env: Expr, a: Local, b: Local) => void;

function isDefault(env: Expr): Expr {
  return mxcsr(env).and(MXCSR.CONTROL).eq(MXCSR.DEFAULT);
}
/** Bits of a nonzero number below the smallest normal one, by the type of `bits`. */
export function denormalBits(bits: Expr): Expr {
  return bits.type === 'i64'
    ? bits
        .shl(1)
        .sub(1)
        .ltU((1n << 53n) - 1n)
    : bits
        .shl(1)
        .sub(1)
        .ltU((1 << 24) - 1);
}
function infinityOf(x: Expr): Expr {
  return x.type === 'f32' ? f32(Infinity) : f64(Infinity);
}
function leastOf(x: Expr): Expr {
  return x.type === 'f32' ? f32(2 ** -126) : f64(2 ** -1022);
}
export function absolute(x: Expr): Expr {
  return unary(`${x.type}.abs`, x);
}
/** Finite and above the smallest normal number: neither overflow nor underflow can have happened. */
export function isOrdinary(x: Expr): Expr {
  return absolute(x)
    .gtS(leastOf(x))
    .and(absolute(x).ltS(infinityOf(x)));
}
export function isFinite(x: Expr): Expr {
  return absolute(x).ltS(infinityOf(x));
}

/** Ends a quick path: PE if inexact. */
function finishQuick(f: FuncBuilder, env: Expr, inexact: Expr, r: Expr): void {
  f.if(inexact, () => note(f, env, MXCSR.PE));
  f.ret(bitsOf(r));
}

const quickAdd =
  (negate: boolean): Lane =>
  (f, _fns, env, a, b) => {
    const x = f.copy(floatOf(a));
    const y = f.copy(negate ? unary(a.type === 'i32' ? 'f32.neg' : 'f64.neg', floatOf(b)) : floatOf(b));
    const r = f.copy(x.add(y));
    // below 2^100 or 2^1000: no intermediate of 2Sum overflows
    const limit = r.type === 'f32' ? f32(2 ** 100) : f64(2 ** 1000);
    const quick = absolute(r)
      .ltS(limit)
      .and(denormalBits(a).or(denormalBits(b)).eqz())
      .and(isDefault(env));
    f.if(quick, () => {
      // 2Sum: the exact error of the addition
      const virtual = f.copy(r.sub(x));
      const error = x.sub(r.sub(virtual)).add(y.sub(virtual));
      const inexact = error.ne(r.type === 'f32' ? f32(0) : f64(0));
      finishQuick(f, env, inexact, r);
    });
  };

/** Conditions common to multiplication and division. */
function ordinaryOperands(env: Expr, a: Local, b: Local, r: Expr): Expr {
  return isOrdinary(r)
    .and(denormalBits(a).or(denormalBits(b)).eqz())
    .and(isDefault(env));
}
function biased(bits: Expr): Expr {
  return bits.shrU(52).and(0x7ff);
}
function significand64(bits: Expr): Expr {
  return bits.and(FRACTION).or(IMPLICIT);
}
const promoted = (x: Expr): Expr => unary('f64.promote_f32', x);

const quickMul: Lane = (f, _fns, env, a, b) => {
  const x = f.copy(floatOf(a));
  const y = f.copy(floatOf(b));
  const r = f.copy(x.mul(y));
  f.if(ordinaryOperands(env, a, b, r), () => {
    if (r.type === 'f32') return finishQuick(f, env, promoted(r).ne(promoted(x).mul(promoted(y))), r);
    const bits = f.copy(bitsOf(r));
    const shift = biased(bits)
      .sub(biased(a))
      .sub(biased(b))
      .add(1023 + 52);
    const product = significand64(a).mul(significand64(b));
    finishQuick(f, env, product.ne(significand64(bits).shl(shift)), r);
  });
  // a zero operand: exact
  const zero = r.type === 'f32' ? f32(0) : f64(0);
  const zeroOperand = x.eq(zero).or(y.eq(zero)).and(r.eq(zero));
  f.if(zeroOperand.and(denormalBits(a).or(denormalBits(b)).eqz()), () => f.ret(bitsOf(r)));
};
const quickDiv: Lane = (f, _fns, env, a, b) => {
  const x = f.copy(floatOf(a));
  const y = f.copy(floatOf(b));
  const r = f.copy(x.divS(y));
  f.if(ordinaryOperands(env, a, b, r), () => {
    if (r.type === 'f32') return finishQuick(f, env, promoted(r).mul(promoted(y)).ne(promoted(x)), r);
    const bits = f.copy(bitsOf(r));
    const shift = biased(a)
      .sub(biased(b))
      .sub(biased(bits))
      .add(1023 + 52);
    const product = significand64(bits).mul(significand64(b));
    finishQuick(f, env, product.ne(significand64(a).shl(shift)), r);
  });
};
const quickSqrt: Lane = (f, _fns, env, a) => {
  const x = f.copy(floatOf(a));
  const r = f.copy(unary(`${x.type}.sqrt`, x));
  f.if(ordinaryOperands(env, a, a, r), () => {
    if (r.type === 'f32') return finishQuick(f, env, promoted(r).mul(promoted(r)).ne(promoted(x)), r);
    const mr = f.copy(significand64(bitsOf(r)));
    const odd = biased(a).add(1).and(1);
    finishQuick(f, env, mr.mul(mr).ne(significand64(a).shl(odd.add(52))), r);
  });
};

const WIDE: Record<string, (f: FuncBuilder, fns: SimdFunctions, env: Expr, a: Expr, b: Expr, single: Expr) => Expr> = {
  Add: (f, fns, env, a, b, single) => fns.call(f, 'fpAdd', env, a, b, single, i32(0)),
  Sub: (f, fns, env, a, b, single) => fns.call(f, 'fpAdd', env, a, b, single, i32(1)),
  Mul: (f, fns, env, a, b, single) => fns.call(f, 'fpMul', env, a, b, single),
  Div: (f, fns, env, a, b, single) => fns.call(f, 'fpDiv', env, a, b, single),
  Sqrt: (f, fns, env, a, _b, single) => fns.call(f, 'fpSqrt', env, a, single),
}; // prettier-ignore
const QUICK: Record<string, Lane> = {
  Add: quickAdd(false),
  Sub: quickAdd(true),
  Mul: quickMul,
  Div: quickDiv,
  Sqrt: quickSqrt,
};

function laneFunctions(): SharedFunctions {
  const out: Record<string, SharedFunctions[string]> = {};
  for (const [name, wide] of Object.entries(WIDE)) {
    for (const single of [false, true]) {
      const type = single ? 'i32' : 'i64';
      out[`lane${name}${single ? 32 : 64}`] = {
        params: ['i32', type, type],
        results: [type],
        emit(f, fns) {
          const [env, a, b] = [f.param(0), f.param(1), f.param(2)];
          QUICK[name](f, fns, env, a, b);
          if (!single) return f.ret(wide(f, fns, env, a, b, i32(0)));
          const widen = (x: Expr): Expr => fns.call(f, 'fpWiden', x);
          f.ret(wide(f, fns, env, widen(a), widen(b), i32(1)).i32());
        },
      };
    }
  }
  return out;
}

/**
 * `lane{Add,Sub,Mul,Div,Sqrt}{32,64}`(env, a, b): one lane; exceptions go to PENDING. Sqrt ignores b.
 */
export const FLOAT_LANES: SharedFunctions = laneFunctions();
