/** What the fast ways of transcendental instructions are made of: 128-bit arithmetic, what they refuse. */
import { type Expr, type FuncBuilder, i32, i64, load, type Local, op } from '../../wasm/index.ts';
import { control, exponentOf, isEmpty, physical, readRegister } from './core.ts';
import { mulHighUnsigned } from '../sem/product.ts';
import { EXPONENT_MAX, FSW } from './layout.ts';
import { TABLE } from './transcendental-tables.ts';

/** Smaller arguments, by their exponents, are left to the helper. */
export const TINY = 60;
/** 128 bits, bound. */
export interface Wide {
  readonly hi: Local;
  readonly lo: Local;
}
/** 128-bit arithmetic in a function. */
export class WideMath {
  readonly f: FuncBuilder;
  constructor(f: FuncBuilder) {
    this.f = f;
  }
  wide(hi: Expr, lo: Expr): Wide {
    return { hi: this.f.copy(hi), lo: this.f.copy(lo) };
  }
  constant(value: bigint): Wide {
    return this.wide(i64(BigInt.asIntN(64, value >> 64n)), i64(BigInt.asIntN(64, value)));
  }
  load(at: Expr, offset: number): Wide {
    return this.wide(load('i64', at, offset + 8), load('i64', at, offset));
  }
  /** All of a product of 64 bits each. */
  product(a: Expr, b: Expr): Wide {
    return this.wide(mulHighUnsigned(this.f, a, b), a.mul(b));
  }
  /** High half of a product of 64 bits each, at most 3 too small. */
  high(a: Expr, b: Expr): Expr {
    const [x, y] = [this.f.let(a), this.f.let(b)];
    const [xh, yh] = [this.f.let(x.shrU(32)), this.f.let(y.shrU(32))];
    const low = 0xffffffffn;
    return xh
      .mul(yh)
      .add(xh.mul(y.and(low)).shrU(32))
      .add(yh.mul(x.and(low)).shrU(32));
  }
  add(a: Wide, hi: Expr, lo: Expr): void {
    const low = this.f.let(lo);
    const { f } = this;
    f.set(a.lo, a.lo.add(low));
    f.set(a.hi, a.hi.add(hi).add(a.lo.ltU(low).i64u()));
  }
  subtract(a: Wide, hi: Expr, lo: Expr): void {
    const { f } = this;
    const low = f.let(lo);
    f.set(a.hi, a.hi.sub(hi).sub(a.lo.ltU(low).i64u()));
    f.set(a.lo, a.lo.sub(low));
  }
  addSigned(negative: Expr, a: Wide, b: Wide): void {
    this.f.if(
      negative,
      () => this.subtract(a, b.hi, b.lo),
      () => this.add(a, b.hi, b.lo),
    );
  }
  /** Makes it its magnitude; gives (bound) whether it was negative. */
  magnitude(a: Wide): Local {
    const { f } = this;
    const negative = f.copy(a.hi.ltS(0));
    f.if(negative, () => {
      f.set(a.hi, i64(-1).sub(a.hi).add(a.lo.eqz().i64u()));
      f.set(a.lo, i64(0).sub(a.lo));
    });
    return negative;
  }
  /** Shifts right by i32 `n` ≥ 0. */
  shiftRight(a: Wide, n: Expr): void {
    const { f } = this;
    const by = f.let(n);
    f.if(by, () => {
      f.if(
        by.ltU(64),
        () => {
          const wide = f.let(by.i64u());
          f.set(a.lo, a.lo.shrU(wide).or(a.hi.shl(i64(64).sub(wide))));
          f.set(a.hi, a.hi.shrU(wide));
        },
        () => {
          f.set(a.lo, by.ltU(128).select(a.hi.shrU(by.sub(64).i64u()), i64(0)));
          f.set(a.hi, i64(0));
        },
      );
    });
  }
  /** Shifts left until the top bit is set; gives (bound) by how much. Zero stays. */
  normalize(a: Wide): Expr {
    const { f } = this;
    const by = f.copy(i32(0));
    f.if(a.hi.eqz(), () => {
      f.set(a.hi, a.lo);
      f.set(a.lo, i64(0));
      f.set(by, i32(64));
    });
    const n = f.let(a.hi.clz());
    f.if(n.and(63).ne(0), () => {
      f.set(a.hi, a.hi.shl(n).or(a.lo.shrU(i64(64).sub(n))));
      f.set(a.lo, a.lo.shl(n));
      f.set(by, by.add(n.i32()));
    });
    return by;
  }
}

/** Not done: the helper is to do it. */
export function giveUp(f: FuncBuilder, condition: Expr): void {
  f.if(condition, () => f.ret(i32(0)), undefined, false);
}
/** Empty, zero, denormal, infinite, NaN, unsupported. */
export function isUnusual(x: { m: Expr; e: Expr }): Expr {
  return x.m.geS(0).or(exponentOf(x).eq(EXPONENT_MAX)).or(exponentOf(x).eqz());
}
/** The tables are there, and precision exceptions masked. */
export function begin(f: FuncBuilder, env: Expr): void {
  giveUp(f, load('i32', env, TABLE.READY).eqz().or(control(env).and(FSW.PE).eqz()));
}
/** ST(0), where it is an ordinary number, and its register. */
export function operand(f: FuncBuilder, env: Expr): { register: Local; x: ReturnType<typeof readRegister> } {
  begin(f, env);
  const register = f.copy(physical(env, 0));
  const x = readRegister(f, env, register);
  giveUp(f, isEmpty(env, register).or(isUnusual(x)));
  return { register, x };
}
export function shifted(env: Expr, index: Expr, size: number): Expr {
  return env.add(index.shl(Math.log2(size)));
}

export const F64 = { DIV: 0xa3, SUB: 0xa1, ADD: 0xa0, MUL: 0xa2, FROM_I64: 0xba, TO_I64: 0xfc0007 } as const;
export function toFloat(e: Expr): Expr {
  return op('f64', F64.FROM_I64, [e]);
}
export function float(code: number, a: Expr, b: Expr): Expr {
  return op('f64', code, [a, b]);
}
export function toInteger(e: Expr): Expr {
  return op('i64', F64.TO_I64, [e]);
}
