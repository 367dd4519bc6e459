/**
 * F2XM1, FYL2X, FYL2XP1, FPATAN, FSIN and FCOS in generated code: fixed-point arithmetic of 128 bits, by tables and short series,
 * right to 2^-79 or so. What is to be rounded is given up where it is so near to a boundary that an error of 2^-77 would
 * matter, once in some four thousand times; so the 64 bits that come out are those of the helper (transcendental-helpers.ts),
 * which does what is left: operands that are not normal, results that are not, unmasked precision exceptions.
 *
 * A function (env) gives 1 when it has done the instruction, and 0, with nothing changed, when the helper is to do it.
 */
import {
  type Expr,
  type FuncRef,
  i32,
  i64,
  load,
  type Local,
  type ModuleBuilder,
  f64,
} from '../../wasm/index.ts';
import { CONSTANT_BITS, ln2, pi } from './big-math.ts';
import {
  control,
  type Core,
  exponentOf,
  isEmpty,
  physical,
  pop,
  readRegister,
  result,
  roundingOf,
  signOf,
  writeRegister,
} from './core.ts';
import { mulHighUnsigned } from '../sem/product.ts';
import { EXPONENT_BIAS, EXPONENT_MAX, FPU, FSW } from './layout.ts';
import { emitSine } from './sine.ts';
import { RECIPROCAL_BITS, TABLE } from './transcendental-tables.ts';
import {
  begin,
  F64,
  float,
  giveUp,
  isUnusual,
  operand,
  shifted,
  TINY,
  toFloat,
  toInteger,
  type Wide,
  WideMath,
} from './wide-math.ts';

export interface Transcendental {
  readonly powerOfTwo: FuncRef;
  readonly logarithm: FuncRef;
  readonly logarithmPlusOne: FuncRef;
  readonly arcTangent: FuncRef;
  readonly sine: FuncRef;
  readonly cosine: FuncRef;
}

/** Name of the function by instruction. */
export const TRANSCENDENTAL_FUNCTIONS = {
  f2xm1: 'powerOfTwo',
  fyl2x: 'logarithm',
  fyl2xp1: 'logarithmPlusOne',
  fpatan: 'arcTangent',
  fsin: 'sine',
  fcos: 'cosine',
} as const satisfies Record<string, keyof Transcendental>;

export function isGenerated(name: string): name is keyof typeof TRANSCENDENTAL_FUNCTIONS {
  return name in TRANSCENDENTAL_FUNCTIONS;
}

/** Units of 2^-128 of a normalized number that an error is taken to be at most. */
const DOUBT = 1n << 50n;

/** A magnitude `hi:lo`·2^-128·2^-`down`, its top bit set unless it is 0; `down` is i32. */
interface Scaled extends Wide {
  readonly down: Expr;
}

/** Coefficients of Σ c_n x^n: the first two in units of 2^-128, the others of 2^-`scale`, largest n last. */
interface Series {
  readonly first: bigint;
  readonly second: bigint;
  readonly others: readonly bigint[];
  readonly scale: number;
}
/** 2^x − 1 = x Σ c_n x^n */
function powerSeries(): Series {
  const one = 1n << BigInt(CONSTANT_BITS);
  const c: bigint[] = [];
  let term = one;
  for (let n = 1n; n <= 8n; n++) {
    term = (term * ln2()) / one / n;
    c.push(term);
  }
  const at = (value: bigint, scale: number): bigint => value >> BigInt(CONSTANT_BITS - scale);
  return { first: at(c[0], 128), second: at(c[1], 128), others: c.slice(2).map((v) => at(v, 68)), scale: 68 };
}
/** log2(1 + x) / 2 = x Σ c_n (−x)^n */
function logarithmSeries(): Series {
  const half = (1n << BigInt(2 * CONSTANT_BITS - 1)) / ln2();
  const at = (n: bigint, scale: number): bigint => (half / n) >> BigInt(CONSTANT_BITS - scale);
  const others = [3n, 4n, 5n, 6n, 7n, 8n, 9n, 10n, 11n].map((n) => at(n, 66));
  return { first: at(1n, 128), second: at(2n, 128), others, scale: 66 };
}

/**
 * x·Σ of a series, for a magnitude x below 2^-8; `alternates` (i32): the odd terms are subtracted. Gives hi:lo, in
 * units of 2^-128·2^-x.down.
 */
function evaluate(w: WideMath, x: Scaled, alternates: Expr, series: Series): Wide {
  const { f } = w;
  const sum = w.constant(series.first);
  const far = f.let(x.down.sub(8));
  // the linear term, to all bits
  const linear = w.product(x.hi, i64(BigInt.asIntN(64, series.second >> 64n)));
  w.add(linear, i64(0), w.high(x.hi, i64(BigInt.asIntN(64, series.second))));
  w.add(linear, i64(0), w.high(x.lo, i64(BigInt.asIntN(64, series.second >> 64n))));
  w.shiftRight(linear, x.down);
  w.addSigned(alternates, sum, linear);
  // x in units of 2^-72, its square of 2^-80
  const fixed = f.copy(far.ltU(64).select(x.hi.shrU(far.i64u()), i64(0)));
  const square = f.let(mulHighUnsigned(f, fixed, fixed));
  const mask = f.copy(i64(0).sub(alternates.i64u()));
  const { others, scale } = series;
  const s = f.copy(i64(BigInt.asIntN(64, others[others.length - 1])));
  for (let n = others.length - 2; n >= 0; n--) {
    const next = f.let(w.high(s, fixed).shrU(8));
    f.set(s, i64(BigInt.asIntN(64, others[n])).add(next.xor(mask).sub(mask)));
  }
  const rest = f.let(mulHighUnsigned(f, s, square));
  const bits = 128 - (scale + 80 - 64);
  w.add(sum, rest.shrU(64 - bits), rest.shl(bits));
  const product = w.product(x.hi, sum.hi);
  w.add(product, i64(0), w.high(x.hi, sum.lo));
  w.add(product, i64(0), w.high(x.lo, sum.hi));
  return product;
}

/**
 * (env, sign, exponent, hi, lo, register, pops): rounds hi:lo·2^-127·2^(exponent − bias), and stores it. Its number
 * need not be normalized. Gives 0 when the rounding is in doubt, or the result is not normal.
 */
function emitStore(m: ModuleBuilder): FuncRef {
  const f = m.func('x87StoreNear', ['i32', 'i32', 'i32', 'i64', 'i64', 'i32', 'i32'], ['i32']);
  const [env, sign, exp, hi, lo, register, pops] = [0, 1, 2, 3, 4, 5, 6].map((i) => f.param(i));
  const w = new WideMath(f);
  f.set(exp, exp.sub(w.normalize({ hi, lo })));
  giveUp(f, hi.geS(0));
  const near = (boundary: bigint): Expr =>
    lo.sub(i64(BigInt.asIntN(64, boundary - DOUBT))).ltU(i64(2n * DOUBT));
  giveUp(f, near(0n).or(near(1n << 63n)));
  const rounding = f.let(roundingOf(control(env)));
  const directed = rounding.eq(sign.select(i32(1), i32(2)));
  const up = f.let(rounding.eqz().select(lo.ltS(0), directed));
  f.set(hi, hi.add(up.i64u()));
  f.if(hi.eqz(), () => {
    f.set(hi, i64(-(1n << 63n)));
    f.set(exp, exp.add(1));
  });
  giveUp(f, exp.sub(1).geU(EXPONENT_MAX - 1));
  const status = load('i32_16u', env, FPU.status).and(0xffff & ~FSW.C1);
  f.store(2, env, FPU.status, status.or(FSW.PE).or(up.shl(9)));
  writeRegister(f, env, register, { m: hi, e: exp.or(sign) });
  pop(f, env, pops);
  f.ret(i32(1));
  return f;
}

function emitPowerOfTwo(m: ModuleBuilder, store: FuncRef): FuncRef {
  const f = m.func('x87PowerOfTwo', ['i32'], ['i32']);
  const env = f.param(0);
  const w = new WideMath(f);
  const { register, x } = operand(f, env);
  // |x| = m·2^-63·2^-s
  const s = f.copy(i32(EXPONENT_BIAS).sub(exponentOf(x)));
  giveUp(f, s.sub(1).geU(TINY));
  const negative = f.copy(signOf(x).ne(0));
  // |x| is k/256 and a rest, exactly
  const k = f.copy(x.m.shrU(s.sub(1).i64u()).shrU(55).add(1).shrU(1).i32());
  const rest = f.copy(x.m);
  f.if(k, () => f.set(rest, x.m.sub(k.i64u().shl(s.add(54).i64u()).shl(1))));
  const restNegative = f.copy(k.ne(0).and(rest.ltS(0)));
  f.if(restNegative, () => f.set(rest, i64(0).sub(rest)));
  const zeros = f.let(rest.clz());
  const r = {
    ...w.wide(rest.shl(zeros), i64(0)),
    down: f.copy(s.add(zeros.i32()).sub(1)),
  };
  const down = f.copy(restNegative.xor(negative));
  const e = evaluate(w, r, down, powerSeries());
  const sign = f.copy(negative.shl(15));
  f.if(k.eqz(), () =>
    f.ret(f.call(store, env, sign, i32(EXPONENT_BIAS - 1).sub(r.down), e.hi, e.lo, register, i32(0))),
  );
  // 2^x − 1 = 2^(k/256)·(1 + e) − 1, in units of 2^-127
  const index = f.copy(negative.select(i32(0).sub(k), k));
  const whole = f.copy(index.shrS(8));
  const t = w.load(f.let(shifted(env, index.and(255), 16)), TABLE.EXPONENTIAL);
  const scaled = w.product(t.hi, e.hi);
  w.add(scaled, i64(0), w.high(t.hi, e.lo));
  w.add(scaled, i64(0), w.high(t.lo, e.hi));
  w.shiftRight(scaled, r.down.sub(whole));
  f.if(
    whole.ltS(0),
    () => w.shiftRight(t, i32(1)),
    // only 2 itself, which wraps as the difference does not
    () => f.if(whole, () => f.set(t.hi, i64(0))),
  );
  w.subtract(t, i64(-(1n << 63n)), i64(0));
  w.addSigned(down, t, scaled);
  f.if(negative, () => {
    f.set(t.hi, i64(-1).sub(t.hi).add(t.lo.eqz().i64u()));
    f.set(t.lo, i64(0).sub(t.lo));
  });
  f.ret(f.call(store, env, sign, i32(EXPONENT_BIAS), t.hi, t.lo, register, i32(0)));
  return f;
}

/**
 * (env, index, whole, hi, lo, down, negative): y = ST(1) times the logarithm of (1 + w)/r·2^whole, with r from the
 * table, or 1 for index 0 and 255; w as a `Scaled` and its sign.
 */
function emitTimesLogarithm(m: ModuleBuilder, store: FuncRef): FuncRef {
  const f = m.func('x87TimesLog', ['i32', 'i32', 'i32', 'i64', 'i64', 'i32', 'i32'], ['i32']);
  const [env, index, whole, hi, lo, down, negative] = [0, 1, 2, 3, 4, 5, 6].map((i) => f.param(i));
  const w = new WideMath(f);
  giveUp(f, hi.eqz());
  const target = f.copy(physical(env, 1));
  const y = readRegister(f, env, target);
  giveUp(f, isEmpty(env, target).or(isUnusual(y)));
  const log = evaluate(w, { hi, lo, down }, negative.eqz(), logarithmSeries());
  // the logarithm is log·2^-127·2^-exponent
  const exponent = f.copy(down);
  const logNegative = f.copy(negative);
  const ends = index.eqz().or(index.eq(255));
  f.if(whole.eqz().and(ends).eqz(), () => {
    w.shiftRight(log, down.add(15));
    const sum = w.load(f.let(shifted(env, index, 32)), TABLE.LOGARITHM);
    f.set(sum.hi, sum.hi.add(whole.i64s().shl(48)));
    w.addSigned(negative, sum, log);
    f.set(logNegative, w.magnitude(sum));
    f.set(log.hi, sum.hi);
    f.set(log.lo, sum.lo);
    f.set(exponent, i32(-15));
  });
  f.set(exponent, exponent.add(w.normalize(log)));
  const product = w.product(y.m, log.hi);
  w.add(product, i64(0), w.high(y.m, log.lo));
  const sign = f.copy(signOf(y).xor(logNegative.shl(15)));
  const scale = exponentOf(y).add(1).sub(exponent);
  f.ret(f.call(store, env, sign, scale, product.hi, product.lo, target, i32(1)));
  return f;
}

/** Calls that of f·2^whole: `f_` is f in units of 2^-`bits`, from 1 to 2, `index` its table entry; `bits` is i32. */
function retLogarithm(
  w: WideMath,
  times: FuncRef,
  env: Expr,
  number: { hi: Expr; lo: Expr; bits: Expr; index: Local; whole: Expr },
): void {
  const { f } = w;
  const { index, bits } = number;
  const reciprocal = f.copy(load('i64', f.let(shifted(env, index, 32)), TABLE.LOGARITHM + 16));
  const upper = f.copy(index.geU(128));
  // f·r, or f/2·r, less 1
  const product = w.product(number.lo, reciprocal);
  f.set(product.hi, product.hi.add(number.hi.mul(reciprocal)));
  const one = f.copy(bits.add(RECIPROCAL_BITS).add(upper));
  f.set(product.hi, product.hi.sub(i64(1).shl(one.sub(64).i64u())));
  const negative = w.magnitude(product);
  const zeros = w.normalize(product);
  const down = i32(128).sub(zeros);
  f.ret(
    f.call(
      times,
      env,
      index,
      number.whole.add(upper),
      product.hi,
      product.lo,
      f.let(one.sub(down)),
      negative,
    ),
  );
}

function emitLogarithm(m: ModuleBuilder, times: FuncRef): FuncRef {
  const f = m.func('x87Logarithm', ['i32'], ['i32']);
  const env = f.param(0);
  const { x } = operand(f, env);
  giveUp(f, signOf(x));
  const index = f.copy(x.m.shrU(55).i32().and(255));
  const whole = exponentOf(x).sub(EXPONENT_BIAS);
  retLogarithm(new WideMath(f), times, env, { hi: i64(0), lo: x.m, bits: i32(63), index, whole });
  return f;
}

function emitLogarithmPlusOne(m: ModuleBuilder, times: FuncRef): FuncRef {
  const f = m.func('x87LogarithmPlusOne', ['i32'], ['i32']);
  const env = f.param(0);
  const w = new WideMath(f);
  const { x } = operand(f, env);
  // |x| = m·2^-63·2^-s, below 1/4
  const s = f.copy(i32(EXPONENT_BIAS).sub(exponentOf(x)));
  giveUp(f, s.sub(3).geU(TINY));
  const negative = f.copy(signOf(x).ne(0));
  f.if(s.geU(9), () => f.ret(f.call(times, env, i32(0), i32(0), x.m, i64(0), s.sub(1), negative)));
  // 1 + x from 3/4 to 5/4, or twice that, in units of 2^-bits
  const sum = w.wide(i64(1).shl(s.sub(1).i64u()), i64(0));
  w.addSigned(negative, sum, w.wide(i64(0), x.m));
  const bits = f.copy(s.add(63).sub(negative));
  // its first eight bits behind the point
  const top = f.let(bits.sub(8).i64u());
  const index = f.copy(sum.hi.shl(i64(64).sub(top)).or(sum.lo.shrU(top)).i32().and(255));
  retLogarithm(w, times, env, { hi: sum.hi, lo: sum.lo, bits, index, whole: i32(0).sub(negative) });
  return f;
}

/** n / d in units of 2^-127, of normalized numbers; good to some 2^-110. */
function divide(w: WideMath, core: Core, env: Expr, n: Wide, d: Wide): Wide {
  const { f } = w;
  const q = f.copy(f.call(core.div128, env, n.hi.shrU(1), n.lo.shrU(1).or(n.hi.shl(63)), d.hi));
  const rest = f.copy(result(env).m);
  // what the divisor's low half takes away, and so the bits behind q
  const taken = f.copy(mulHighUnsigned(f, q, d.lo));
  const part = f.copy(float(F64.DIV, float(F64.SUB, toFloat(rest), toFloat(taken)), toFloat(d.hi)));
  f.loop((again) => {
    f.if(part.ltS(f64(0)), () => {
      f.set(part, float(F64.ADD, part, f64(1)));
      f.set(q, q.sub(1));
      f.br(again);
    });
  });
  return { hi: q, lo: f.copy(toInteger(float(F64.MUL, part, f64(2 ** 64)))) };
}

/** 1/3, 1/5, 1/7, 1/9 in units of 2^-64. */
const ARC = [3n, 5n, 7n, 9n].map((n) => BigInt.asIntN(64, (1n << 64n) / n));

function emitArcTangent(m: ModuleBuilder, core: Core, store: FuncRef): FuncRef {
  const f = m.func('x87ArcTangent', ['i32'], ['i32']);
  const env = f.param(0);
  const w = new WideMath(f);
  begin(f, env);
  const register = f.copy(physical(env, 0));
  const target = f.copy(physical(env, 1));
  const x = readRegister(f, env, register);
  const y = readRegister(f, env, target);
  giveUp(f, isEmpty(env, register).or(isEmpty(env, target)).or(isUnusual(x)).or(isUnusual(y)));
  const sign = f.copy(signOf(y));
  const left = f.copy(signOf(x).ne(0));
  // the smaller by the larger
  const higher = f.copy(exponentOf(y).sub(exponentOf(x)));
  const steep = f.copy(higher.gtS(0).or(higher.eqz().and(y.m.gtU(x.m))));
  const num = f.copy(steep.select(x.m, y.m));
  const den = f.copy(steep.select(y.m, x.m));
  const apart = f.copy(steep.select(higher, i32(0).sub(higher)));
  giveUp(f, apart.gtU(TINY));
  // t = (u − k/256) / (1 + u·k/256) as n/d·2^-scale, u being the quotient
  const k = f.copy(i32(0));
  const n = w.wide(i64(0), num);
  const d = w.wide(i64(0), den);
  const scale = f.copy(apart);
  f.if(apart.ltU(10), () => {
    const power = toFloat(i64(1).shl(i32(9).sub(apart).i64u()));
    const halves = toInteger(float(F64.MUL, float(F64.DIV, toFloat(num), toFloat(den)), power));
    f.set(k, halves.add(1).shrU(1).i32());
    f.if(k, () => {
      const far = f.let(apart.i64u());
      const steps = f.let(k.i64u());
      f.set(n.hi, num.shrU(56));
      f.set(n.lo, num.shl(8));
      const near = w.product(den, steps);
      f.set(near.hi, near.hi.shl(far).or(near.lo.shrU(1).shrU(i64(63).sub(far))));
      f.set(near.lo, near.lo.shl(far));
      w.subtract(n, near.hi, near.lo);
      f.set(d.hi, den.shrU(i64(56).sub(far)));
      f.set(d.lo, den.shl(far.add(8)));
      const more = w.product(num, steps);
      w.add(d, more.hi, more.lo);
      f.set(scale, i32(0));
    });
  });
  const below = w.magnitude(n);
  giveUp(f, n.hi.or(n.lo).eqz());
  const shift = f.copy(w.normalize(n));
  f.set(shift, shift.sub(w.normalize(d)));
  const t = divide(w, core, env, n, d);
  const down = f.copy(scale.add(shift).sub(1).add(w.normalize(t)));
  // atan t = t − t·t²·(1/3 − t²/5 + t⁴/7 − t⁶/9)
  const far = f.let(down.sub(8));
  const fixed = f.copy(far.ltU(64).select(t.hi.shrU(far.i64u()), i64(0)));
  const square = f.copy(mulHighUnsigned(f, fixed, fixed));
  const s = f.copy(i64(ARC[3]));
  for (const c of [ARC[2], ARC[1], ARC[0]]) f.set(s, i64(c).sub(w.high(s, square).shrU(16)));
  const cubic = f.copy(mulHighUnsigned(f, t.hi, mulHighUnsigned(f, s, square)));
  w.subtract(t, cubic.shrU(16), cubic.shl(48));
  f.if(k.or(steep).or(left).eqz(), () =>
    f.ret(f.call(store, env, sign, i32(EXPONENT_BIAS - 1).sub(down), t.hi, t.lo, target, i32(1))),
  );
  // in units of 2^-126
  w.shiftRight(t, down.add(2));
  const angle = w.load(f.let(shifted(env, k, 16)), TABLE.ARC_TANGENT);
  w.addSigned(below, angle, t);
  const fromQuarter = (quarters: bigint, negative: Expr): void => {
    const whole = w.constant((pi() * quarters) >> BigInt(CONSTANT_BITS + 1 - 126));
    w.addSigned(negative, whole, angle);
    f.set(angle.hi, whole.hi);
    f.set(angle.lo, whole.lo);
  };
  f.if(
    steep,
    () => fromQuarter(1n, left.eqz()),
    () => f.if(left, () => fromQuarter(2n, i32(1))),
  );
  f.ret(f.call(store, env, sign, i32(EXPONENT_BIAS + 1), angle.hi, angle.lo, target, i32(1)));
  return f;
}

export function emitTranscendental(m: ModuleBuilder, core: Core): Transcendental {
  const store = emitStore(m);
  const times = emitTimesLogarithm(m, store);
  return {
    powerOfTwo: emitPowerOfTwo(m, store),
    logarithm: emitLogarithm(m, times),
    logarithmPlusOne: emitLogarithmPlusOne(m, times),
    arcTangent: emitArcTangent(m, core, store),
    sine: emitSine(m, store, false),
    cosine: emitSine(m, store, true),
  };
}
