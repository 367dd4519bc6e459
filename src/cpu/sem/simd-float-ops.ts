/**
 * SSE floating-point instructions out of line, in whole: each clears PENDING, does its lanes (simd-float.ts) and
 * ends with `fpFinish`, so that the caller tests PENDING once. Names are those of the instructions.
 * Source: Intel SDM vol. 2; vol. 1, 11.5 and tables 4-7, 4-8.
 */
import { type Expr, type FuncBuilder, i32, i64, type ValType } from '../../wasm/index.ts';
import type { SharedFunction, SharedFunctions, SimdFunctions } from './simd-functions.ts';
import {
  FLOAT_CORE,
  FLOAT_LANES,
  isNaN64,
  isOrdinary,
  isSignalling,
  MXCSR,
  mxcsr,
  narrowExact,
  normalise,
  note,
  PENDING,
  signBit,
} from './simd-float.ts';
import { bitsOf, floatOf, lane, unary, zero128 } from './simd-ops.ts';

const MIN_NORMAL_32 = 0x3810_0000_0000_0000n;
const MIN_NORMAL_64 = 0x0010_0000_0000_0000n;

function denormal(x: Expr, single: Expr): Expr {
  const limit = single.select(i64(MIN_NORMAL_32 - 1n), i64(MIN_NORMAL_64 - 1n));
  return x.shl(1).shrU(1).sub(1).ltU(limit);
}
/** An i32 as a wide number, an i64 as it is. */
function wide(f: FuncBuilder, fns: SimdFunctions, bits: Expr): Expr {
  return bits.type === 'i64' ? bits : fns.call(f, 'fpWiden', bits);
}

const WIDE_LANES: SharedFunctions = {
  /**
   * Compares: 0 equal, 1 less, 2 greater, 3 unordered. `signalling`: quiet NaNs are invalid too.
   */
  fpRelation: {
    params: ['i32', 'i64', 'i64', 'i32', 'i32'],
    results: ['i32'],
    emit(f, fns) {
      const [env, a, b, single, signalling] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
      f.if(isNaN64(a).or(isNaN64(b)), () => {
        f.if(signalling.or(isSignalling(a)).or(isSignalling(b)), () => note(f, env, MXCSR.IE));
        f.ret(i32(3));
      });
      f.set(a, fns.call(f, 'fpDaz', env, a, single));
      f.set(b, fns.call(f, 'fpDaz', env, b, single));
      f.if(denormal(a, single).or(denormal(b, single)), () => note(f, env, MXCSR.DE));
      const [x, y] = [f.copy(floatOf(a)), f.copy(floatOf(b))];
      f.ret(x.gtS(y).shl(1).or(x.ltS(y)));
    },
  },
  /** Rounds to an integer of 4 or (`long`) 8 bytes, by MXCSR or towards zero; as i64. */
  fpToInt: {
    params: ['i32', 'i64', 'i32', 'i32', 'i32'],
    results: ['i64'],
    emit(f, fns) {
      const [env, x, single, long, truncate] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
      f.set(x, fns.call(f, 'fpDaz', env, x, single));
      const mode = truncate.select(i32(3), mxcsr(env).shrU(MXCSR.RC_SHIFT).and(3));
      const r = f.copy(floatOf(fns.call(f, 'fpInteger', x, mode)));
      const limit = long.select(i64(0x43e0_0000_0000_0000n), i64(0x41e0_0000_0000_0000n));
      const edge = f.copy(floatOf(limit));
      const inRange = r.geS(unary('f64.neg', edge)).and(r.ltS(edge));
      f.if(inRange.eqz(), () => {
        note(f, env, MXCSR.IE);
        f.ret(long.select(i64(-(1n << 63n)), i64(0x80000000n)));
      });
      f.if(r.ne(floatOf(x)), () => note(f, env, MXCSR.PE));
      f.ret(unary('i64.trunc_sat_f64_s', r));
    },
  },
  /** Wide bits rounded to an integral value, by rounding control 0..3. */
  fpInteger: {
    params: ['i64', 'i32'],
    results: ['i64'],
    emit(f) {
      const [x, mode] = [f.param(0), f.param(1)];
      const by = (name: string) => () => f.ret(bitsOf(unary(name, floatOf(x))));
      f.switch(mode, [by('f64.nearest'), by('f64.floor'), by('f64.ceil')], by('f64.trunc'));
    },
  },
  /** A signed integer to floating point; bits of the format. */
  fpFromInt: {
    params: ['i32', 'i64', 'i32'],
    results: ['i64'],
    emit(f, fns) {
      const [env, v, single] = [f.param(0), f.param(1), f.param(2)];
      f.if(v.eqz(), () => f.ret(v));
      const sign = f.copy(signBit(v));
      const m = f.copy(sign.select(i64(0).sub(v), v));
      const zeros = f.copy(m.clz());
      f.set(m, m.shl(zeros));
      const jammed = m.shrU(9).or(m.and(511).ne(0).i64u());
      f.ret(fns.call(f, 'fpRound', env, sign, i32(63).sub(zeros.i32()), jammed, single));
    },
  },
  laneNarrow: {
    params: ['i32', 'i64'],
    results: ['i32'],
    emit(f, fns) {
      const [env, x] = [f.param(0), f.param(1)];
      const r = f.copy(unary('f32.demote_f64', floatOf(x)));
      f.if(isOrdinary(r).and(mxcsr(env).and(MXCSR.CONTROL).eq(MXCSR.DEFAULT)), () => {
        f.if(unary('f64.promote_f32', r).ne(floatOf(x)), () => note(f, env, MXCSR.PE));
        f.ret(bitsOf(r));
      });
      f.if(isNaN64(x), () => f.ret(fns.call(f, 'fpNaN', env, x, x, i32(1)).i32()));
      f.set(x, fns.call(f, 'fpDaz', env, x, i32(0)));
      const magnitude = f.copy(x.shl(1));
      f.if(magnitude.eqz().or(magnitude.eq(0x7ffn << 53n)), () => f.ret(narrowExact(x, i32(1)).i32()));
      f.if(denormal(x, i32(0)), () => note(f, env, MXCSR.DE));
      // a denormal's own bits count: with underflow unmasked they decide whether it is inexact
      const { exponent, significand } = normalise(f, x);
      f.ret(fns.call(f, 'fpRound', env, signBit(x), exponent, significand.shl(2), i32(1)).i32());
    },
  },
  laneExtend: {
    params: ['i32', 'i32'],
    results: ['i64'],
    emit(f, fns) {
      const [env, bits] = [f.param(0), f.param(1)];
      const x = f.copy(fns.call(f, 'fpWiden', bits));
      f.if(isNaN64(x), () => f.ret(fns.call(f, 'fpNaN', env, x, x, i32(0))));
      f.set(x, fns.call(f, 'fpDaz', env, x, i32(1)));
      f.if(denormal(x, i32(1)), () => note(f, env, MXCSR.DE));
      f.ret(x);
    },
  },
};

/** Per-lane functions that work on the format's own bits. */
function formatLanes(single: boolean): SharedFunctions {
  const suffix = single ? 32 : 64;
  const type: ValType = single ? 'i32' : 'i64';
  const one = i32(single ? 1 : 0);
  const daz = (f: FuncBuilder, fns: SimdFunctions, env: Expr, x: Expr): Expr => {
    const flushed = narrowExact(fns.call(f, 'fpDaz', env, wide(f, fns, x), one), one);
    return single ? flushed.i32() : flushed;
  };
  const minMax = (relation: number): SharedFunction => ({
    params: ['i32', type, type],
    results: [type],
    emit(f, fns) {
      const [env, a, b] = [f.param(0), f.param(1), f.param(2)];
      const found = f.copy(fns.call(f, 'fpRelation', env, wide(f, fns, a), wide(f, fns, b), one, i32(1)));
      // a NaN in b is not quieted
      f.if(found.eq(3).and(floatOf(b).ne(floatOf(b))), () => f.ret(b));
      f.if(found.eq(relation), () => f.ret(daz(f, fns, env, a)));
      f.ret(daz(f, fns, env, b));
    },
  });
  return {
    [`laneMin${suffix}`]: minMax(1),
    [`laneMax${suffix}`]: minMax(2),
    [`laneCompare${suffix}`]: {
      params: ['i32', type, type, 'i32'],
      results: [type],
      emit(f, fns) {
        const [env, a, b, predicate] = [f.param(0), f.param(1), f.param(2), f.param(3)];
        // predicates: eq, lt, le, unord and their negations; lt and le are signalling
        const signalling = predicate.add(1).shrU(1).and(1);
        const relation = f.copy(
          fns.call(f, 'fpRelation', env, wide(f, fns, a), wide(f, fns, b), one, signalling),
        );
        const truths = i32(0x8321).shrU(predicate.and(3).shl(2)).and(15);
        const holds = f.copy(truths.shrU(relation).xor(predicate.shrU(2)).and(1));
        f.ret(single ? i32(0).sub(holds) : i64(0).sub(holds.i64u()));
      },
    },
    [`laneRound${suffix}`]: {
      params: ['i32', type, 'i32'],
      results: [type],
      emit(f, fns) {
        const [env, bits, control] = [f.param(0), f.param(1), f.param(2)];
        const x = f.copy(wide(f, fns, bits));
        const out = (v: Expr): void => f.ret(single ? v.i32() : v);
        f.if(isNaN64(x), () => out(fns.call(f, 'fpNaN', env, x, x, one)));
        f.set(x, fns.call(f, 'fpDaz', env, x, one));
        const mode = control.and(4).select(mxcsr(env).shrU(MXCSR.RC_SHIFT).and(3), control.and(3));
        const r = f.copy(fns.call(f, 'fpInteger', x, mode));
        f.if(
          control
            .and(8)
            .eqz()
            .and(floatOf(r).ne(floatOf(x))),
          () => note(f, env, MXCSR.PE),
        );
        out(narrowExact(r, one));
      },
    },
  };
}

/** Lanes of a v128 in a format. */
interface Format {
  readonly lanes: number;
  readonly bits: 32 | 64;
  readonly shape: 'i32x4' | 'i64x2';
}
const PS: Format = { lanes: 4, bits: 32, shape: 'i32x4' };
const PD: Format = { lanes: 2, bits: 64, shape: 'i64x2' };

function extract(format: Format, v: Expr, i: number): Expr {
  return lane(`${format.shape}.extract_lane`, i, v);
}
/** Sets the lanes of a fresh v128 local one after another. */
function build(f: FuncBuilder, format: Format, valueOf: (i: number) => Expr, count = format.lanes): Expr {
  const out = f.copy(zero128());
  for (let i = 0; i < count; i++) f.set(out, lane(`${format.shape}.replace_lane`, i, out, valueOf(i)));
  return out;
}
function begin(f: FuncBuilder, env: Expr): void {
  f.store(4, env, PENDING, i32(0));
}
function end(f: FuncBuilder, fns: SimdFunctions, env: Expr, result: Expr): void {
  f.drop(fns.call(f, 'fpFinish', env));
  f.ret(result);
}

/** The four forms of an instruction over lanes; `extra`: further i32 parameters passed to the lane function. */
function allForms(
  out: Record<string, SharedFunction>,
  name: string,
  laneName: (i: number) => string,
  inputs: number,
  extra = 0,
): void {
  const extras: ValType[] = Array.from({ length: extra }, () => 'i32');
  for (const format of [PS, PD]) {
    const scalar: ValType = format.bits === 32 ? 'i32' : 'i64';
    const rest = (f: FuncBuilder): Expr[] => extras.map((_, i) => f.param(1 + inputs + i));
    out[name + (format.bits === 32 ? 'ps' : 'pd')] = {
      params: ['i32', ...Array.from({ length: inputs }, (): ValType => 'v128'), ...extras],
      results: ['v128'],
      emit(f, fns) {
        const env = f.param(0);
        begin(f, env);
        const result = build(f, format, (i) => {
          const args = Array.from({ length: inputs }, (_, k) => extract(format, f.param(1 + k), i));
          if (inputs === 1 && extra === 0) args.push(args[0]);
          return fns.call(f, laneName(i) + format.bits, env, ...args, ...rest(f));
        });
        end(f, fns, env, result);
      },
    };
    out[name + (format.bits === 32 ? 'ss' : 'sd')] = {
      params: ['i32', ...Array.from({ length: inputs }, () => scalar), ...extras],
      results: [scalar],
      emit(f, fns) {
        const env = f.param(0);
        begin(f, env);
        const args: Expr[] = Array.from({ length: inputs }, (_, k) => f.param(1 + k));
        if (inputs === 1 && extra === 0) args.push(args[0]);
        end(f, fns, env, f.copy(fns.call(f, laneName(0) + format.bits, env, ...args, ...rest(f))));
      },
    };
  }
}

/** Comparison that sets EFLAGS: gives the relation (0 equal, 1 less, 2 greater, 3 unordered). */
function comi(single: boolean): SharedFunction {
  const type: ValType = single ? 'i32' : 'i64';
  return {
    params: ['i32', type, type, 'i32'],
    results: ['i32'],
    emit(f, fns) {
      const env = f.param(0);
      begin(f, env);
      const [a, b] = [wide(f, fns, f.param(1)), wide(f, fns, f.param(2))];
      end(f, fns, env, f.copy(fns.call(f, 'fpRelation', env, a, b, i32(single ? 1 : 0), f.param(3))));
    },
  };
}

/** Scalar to integer: (env, bits, long, truncate) → i64. */
function toInt(single: boolean): SharedFunction {
  return {
    params: ['i32', single ? 'i32' : 'i64', 'i32', 'i32'],
    results: ['i64'],
    emit(f, fns) {
      const env = f.param(0);
      begin(f, env);
      const x = wide(f, fns, f.param(1));
      end(f, fns, env, f.copy(fns.call(f, 'fpToInt', env, x, i32(single ? 1 : 0), f.param(2), f.param(3))));
    },
  };
}

function fromInt(single: boolean): SharedFunction {
  return {
    params: ['i32', 'i64'],
    results: [single ? 'i32' : 'i64'],
    emit(f, fns) {
      const env = f.param(0);
      begin(f, env);
      const r = fns.call(f, 'fpFromInt', env, f.param(1), i32(single ? 1 : 0));
      end(f, fns, env, f.copy(single ? r.i32() : r));
    },
  };
}

function scalarConversion(laneName: string, from: ValType, to: ValType): SharedFunction {
  return {
    params: ['i32', from],
    results: [to],
    emit(f, fns) {
      const env = f.param(0);
      begin(f, env);
      end(f, fns, env, f.copy(fns.call(f, laneName, env, f.param(1))));
    },
  };
}
function packedConversion(
  extra: readonly ValType[],
  make: (f: FuncBuilder, fns: SimdFunctions, env: Expr, v: Expr) => Expr,
): SharedFunction {
  return {
    params: ['i32', 'v128', ...extra],
    results: ['v128'],
    emit(f, fns) {
      const env = f.param(0);
      begin(f, env);
      end(f, fns, env, make(f, fns, env, f.param(1)));
    },
  };
}

const CONVERSIONS: SharedFunctions = {
  toIntSs: toInt(true),
  toIntSd: toInt(false),
  cvtsi2ss: fromInt(true),
  cvtsi2sd: fromInt(false),
  cvtsd2ss: scalarConversion('laneNarrow', 'i64', 'i32'),
  cvtss2sd: scalarConversion('laneExtend', 'i32', 'i64'),
  /** (env, v, truncate) */
  cvtps2dq: packedConversion(['i32'], (f, fns, env, v) =>
    build(f, PS, (i) =>
      fns.call(f, 'fpToInt', env, wide(f, fns, extract(PS, v, i)), i32(1), i32(0), f.param(2)).i32(),
    ),
  ),
  /** (env, v, truncate): two results, then zeros */
  cvtpd2dq: packedConversion(['i32'], (f, fns, env, v) =>
    build(f, PS, (i) => fns.call(f, 'fpToInt', env, extract(PD, v, i), i32(0), i32(0), f.param(2)).i32(), 2),
  ),
  cvtdq2ps: packedConversion([], (f, fns, env, v) =>
    build(f, PS, (i) => fns.call(f, 'fpFromInt', env, extract(PS, v, i).i64s(), i32(1)).i32()),
  ),
  cvtpd2ps: packedConversion([], (f, fns, env, v) =>
    build(f, PS, (i) => fns.call(f, 'laneNarrow', env, extract(PD, v, i)), 2),
  ),
  cvtps2pd: packedConversion([], (f, fns, env, v) =>
    build(f, PD, (i) => fns.call(f, 'laneExtend', env, extract(PS, v, i))),
  ),
};

/** Dot products: a stage of multiplications, then of additions; an unmasked exception ends it after its stage. */
const DOT: SharedFunctions = {
  dpps: {
    params: ['i32', 'v128', 'v128', 'i32'],
    results: ['v128'],
    emit(f, fns) {
      const [env, a, b, imm] = [f.param(0), f.param(1), f.param(2), f.param(3)];
      begin(f, env);
      const zero = i32(0);
      const products = [0, 1, 2, 3].map((i) => {
        const p = f.copy(zero);
        f.if(imm.shrU(4 + i).and(1), () =>
          f.set(p, fns.call(f, 'laneMul32', env, extract(PS, a, i), extract(PS, b, i))),
        );
        return p;
      });
      const stage = (): void => f.if(fns.call(f, 'fpFinish', env), () => f.ret(zero128()), undefined, false);
      stage();
      // which NaN of two wins differs from lane to lane: found on Intel processors
      const add = (x: Expr, y: Expr): Expr => f.copy(fns.call(f, 'laneAdd32', env, x, y));
      const pairs = products.map((p, i) => add(products[i ^ 1], p));
      stage();
      const sums = pairs.map((p, i) => add(p, pairs[i ^ 2]));
      stage();
      f.ret(build(f, PS, (i) => imm.shrU(i).and(1).select(sums[i], zero)));
    },
  },
  dppd: {
    params: ['i32', 'v128', 'v128', 'i32'],
    results: ['v128'],
    emit(f, fns) {
      const [env, a, b, imm] = [f.param(0), f.param(1), f.param(2), f.param(3)];
      begin(f, env);
      const products = [0, 1].map((i) => {
        const p = f.copy(i64(0));
        f.if(imm.shrU(4 + i).and(1), () =>
          f.set(p, fns.call(f, 'laneMul64', env, extract(PD, a, i), extract(PD, b, i))),
        );
        return p;
      });
      const stage = (): void => f.if(fns.call(f, 'fpFinish', env), () => f.ret(zero128()), undefined, false);
      stage();
      const sums = products.map((p, i) => f.copy(fns.call(f, 'laneAdd64', env, p, products[i ^ 1])));
      stage();
      f.ret(build(f, PD, (i) => imm.shrU(i).and(1).select(sums[i], i64(0))));
    },
  },
};

/** Reciprocals: as precise as division, results below the normal range are zero; no exception (SDM RCPPS, RSQRTPS). */
const APPROXIMATIONS: SharedFunctions = {
  rcpss: {
    params: ['i32'],
    results: ['i32'],
    emit: (f) => approximation(f, (x) => unary('f32.demote_f64', oneOver(x))),
  },
  rsqrtss: {
    params: ['i32'],
    results: ['i32'],
    emit(f) {
      const x = f.param(0);
      f.if(x.ltS(0).and(x.shl(1).gtU(0x00ffffff)).and(x.shl(1).leU(0xff000000 | 0)), () => f.ret(i32(0xffc00000 | 0)));
      approximation(f, (v) => unary('f32.demote_f64', oneOver(unary('f64.sqrt', v))));
    },
  },
}; // prettier-ignore
function oneOver(x: Expr): Expr {
  return floatOf(i64(0x3ff0_0000_0000_0000n)).divS(x);
}
function approximation(f: FuncBuilder, compute: (wideValue: Expr) => Expr): void {
  const x = f.param(0);
  const sign = f.copy(x.and(0x80000000 | 0));
  f.if(x.shl(1).gtU(0xff000000 | 0), () => f.ret(x.or(0x400000)));
  f.if(x.and(0x7f800000).eqz(), () => f.ret(sign.or(0x7f800000)));
  const r = f.copy(bitsOf(compute(unary('f64.promote_f32', floatOf(x)))));
  f.ret(r.and(0x7f800000).eqz().select(sign, r));
}

function instructions(): SharedFunctions {
  const out: Record<string, SharedFunction> = {};
  for (const name of ['Add', 'Sub', 'Mul', 'Div', 'Min', 'Max']) {
    allForms(out, name.toLowerCase(), () => `lane${name}`, 2);
  }
  allForms(out, 'sqrt', () => 'laneSqrt', 1);
  allForms(out, 'addsub', (i) => (i & 1 ? 'laneAdd' : 'laneSub'), 2);
  allForms(out, 'cmp', () => 'laneCompare', 2, 1);
  allForms(out, 'round', () => 'laneRound', 1, 1);
  return out;
}

export const FLOAT_FUNCTIONS: SharedFunctions = {
  ...FLOAT_CORE,
  ...FLOAT_LANES,
  ...WIDE_LANES,
  ...formatLanes(true),
  ...formatLanes(false),
  ...instructions(),
  ...CONVERSIONS,
  ...DOT,
  ...APPROXIMATIONS,
  comiss: comi(true),
  comisd: comi(false),
};
