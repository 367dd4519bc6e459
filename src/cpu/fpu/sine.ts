/** FSIN and FCOS in generated code; see transcendental.ts. */
import { f64, type FuncRef, type Expr, i32, i64, load, type ModuleBuilder } from '../../wasm/index.ts';
import { PI_66 } from './big-math.ts';
import { exponentOf, signOf } from './core.ts';
import { mulHighUnsigned } from '../sem/product.ts';
import { EXPONENT_BIAS, FPU, FSW } from './layout.ts';
import { TABLE } from './transcendental-tables.ts';
import {
  F64,
  float,
  giveUp,
  operand,
  shifted,
  TINY,
  toFloat,
  toInteger,
  type Wide,
  WideMath,
} from './wide-math.ts';

/** Angles from 2 to this are left to the helper. */
const LARGE = 31;
/** Nearer to an eighth of a turn, in units of 2^-63, the quotient by a quarter might be another. */
const NEAR_EIGHTH = ((PI_66 >> 1n) * 65535n) >> 20n;

/** (env) → done; `store`: x87StoreNear. */
export function emitSine(m: ModuleBuilder, store: FuncRef, cosine: boolean): FuncRef {
  const f = m.func(cosine ? 'x87Cosine' : 'x87Sine', ['i32'], ['i32']);
  const env = f.param(0);
  const w = new WideMath(f);
  const { register, x } = operand(f, env);
  const e = f.copy(exponentOf(x).sub(EXPONENT_BIAS));
  giveUp(f, e.add(TINY).geU(TINY + LARGE));
  // |x| = n quarters of a turn and r·2^-unit, less than an eighth
  const r = w.wide(i64(0), x.m);
  const unit = f.copy(i32(63).sub(e));
  const n = f.copy(i32(0));
  const negative = f.copy(i32(0));
  f.if(e.geS(-1), () => {
    const by = f.let(e.add(4).i64u());
    f.set(r.hi, x.m.shrU(i64(64).sub(by)));
    f.set(r.lo, x.m.shl(by));
    const turns = float(F64.MUL, toFloat(x.m), f64(2 / Math.PI / 2 ** 64));
    const power = toFloat(i64(1).shl(e.add(1).i64u()));
    const quarters = f.copy(toInteger(float(F64.ADD, float(F64.MUL, turns, power), f64(0.5))));
    f.set(n, quarters.i32());
    const whole = w.product(quarters, i64(BigInt.asIntN(64, PI_66)));
    w.subtract(r, whole.hi.add(quarters.mul(i64(PI_66 >> 64n))), whole.lo);
    f.set(negative, w.magnitude(r));
    giveUp(f, r.hi.shl(60).or(r.lo.shrU(4)).geU(i64(NEAR_EIGHTH)).or(r.hi.geU(8)));
    f.set(unit, i32(67));
  });
  const low = f.copy(r.lo);
  const down = f.copy(unit.add(w.normalize(r)).sub(128));
  giveUp(f, r.hi.eqz().or(down.gtS(TINY)));
  // r = k/256 and t, exactly
  const k = f.copy(r.hi.shrU(down.i64u()).shrU(55).add(1).shrU(1).i32());
  f.if(
    k.eqz(),
    () => f.set(low, r.hi),
    () => f.set(low, low.sub(k.i64u().shl(unit.sub(9).i64u()).shl(1))),
  );
  const below = f.copy(k.ne(0).and(low.ltS(0)));
  f.if(below, () => f.set(low, i64(0).sub(low)));
  const zeros = f.let(low.clz());
  const t = f.copy(low.shl(zeros));
  const tDown = f.copy(k.eqz().select(down, unit.add(zeros.i32()).sub(64)));
  giveUp(f, tDown.ltS(9));
  // its square in units of 2^-82; sin t = t·(1 − sines), cos t = 1 − cosines
  const far = f.let(tDown.sub(9));
  const fixed = f.copy(far.ltU(64).select(t.shrU(far.i64u()), i64(0)));
  const square = f.copy(mulHighUnsigned(f, fixed, fixed));
  const series = (divisors: readonly bigint[]): Expr => {
    const [last, ...others] = divisors.map((d) => i64(BigInt.asIntN(64, (1n << 64n) / d))).reverse();
    const s = f.copy(last);
    for (const c of others) f.set(s, c.sub(w.high(s, square).shrU(18)));
    return f.copy(mulHighUnsigned(f, s, square));
  };
  const sines = series([6n, 120n, 5040n]);
  const cosines = series([2n, 24n, 720n]);
  const quadrant = f.copy(n.and(3));
  const odd = f.copy(quadrant.and(1));
  const isCosine = cosine ? odd.eqz() : odd;
  const minus = cosine
    ? odd.select(negative.xor(quadrant.eq(1)), quadrant.eq(2))
    : odd.select(quadrant.eq(3), negative.xor(quadrant.eq(2))).xor(signOf(x).shrU(15));
  const sign = f.copy(minus.shl(15));
  const finish = (exp: Expr, value: Wide): void => {
    const done = f.copy(f.call(store, env, sign, exp, value.hi, value.lo, register, i32(0)));
    f.if(done, () => f.store(2, env, FPU.status, load('i32_16u', env, FPU.status).and(0xffff & ~FSW.C2)));
    f.ret(done);
  };
  /** Units of 2^-82 as those of 2^-128. */
  const wide = (a: Expr): Wide => {
    const bound = f.let(a);
    return w.wide(bound.shrU(18), bound.shl(46));
  };
  f.if(k.eqz(), () => {
    f.if(isCosine, () => {
      const one = w.wide(i64(-(1n << 63n)), i64(0));
      w.subtract(one, cosines.shrU(19), cosines.shl(45));
      finish(i32(EXPONENT_BIAS), one);
    });
    const cubic = wide(mulHighUnsigned(f, r.hi, sines));
    w.subtract(r, cubic.hi, cubic.lo);
    finish(i32(EXPONENT_BIAS - 1).sub(down), r);
  });
  // s·cos t ± c·sin t for sin, c·cos t ∓ s·sin t for cos, from the table's s and c
  const entry = f.let(shifted(env, k, 32));
  const main = w.load(f.let(entry.add(isCosine.shl(4))), TABLE.SINE);
  const other = w.load(f.let(entry.add(isCosine.eqz().shl(4))), TABLE.SINE);
  const cubic = wide(mulHighUnsigned(f, other.hi, f.let(mulHighUnsigned(f, t, sines))));
  const linear = w.product(other.hi, t);
  w.add(linear, i64(0), w.high(other.lo, t));
  w.subtract(linear, cubic.hi, cubic.lo);
  w.shiftRight(linear, tDown);
  // to all bits: the sine may be small
  const quadratic = w.product(main.hi, cosines);
  w.shiftRight(quadratic, i32(18));
  w.subtract(main, quadratic.hi, quadratic.lo);
  w.addSigned(below.xor(isCosine), main, linear);
  finish(i32(EXPONENT_BIAS - 1), main);
  return f;
}
