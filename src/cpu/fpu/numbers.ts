/**
 * Arithmetic on two numbers that are given and come back as numbers, wherever they belong: usual cases in place, the
 * others by the functions of arithmetic.ts. Usual are normal operands, and zeros, the nearest number of 64 or 53 bits as
 * the result, and no overflow or underflow near. Source: Intel SDM vol. 1, 4.8.
 *
 * Of a number's high half only the low 16 bits are looked at. Results are two: the mantissa, and sign and exponent, with
 * the status bits that were raised above them (`FLAGS_SHIFT`).
 */
import {
  type Expr,
  type FuncBuilder,
  type FuncRef,
  i32,
  i64,
  type Label,
  type Local,
  type ModuleBuilder,
} from '../../wasm/index.ts';
import { longDivision } from '../sem/division.ts';
import { mulHighUnsigned } from '../sem/product.ts';
import {
  control,
  type Ext,
  exponentOf,
  FLAGS_SHIFT,
  hasNormalExponent,
  HIGH_MASK,
  isZero,
  result,
  roundsUpNearest,
  signOf,
} from './core.ts';
import { EXPONENT_BIAS, EXPONENT_MAX, INTEGER_BIT, SIGN_BIT } from './layout.ts';

/** (env, a mantissa, a high, b mantissa, b high) → mantissa, high and flags. */
export interface Numbers {
  readonly addNumbers: FuncRef;
  readonly subNumbers: FuncRef;
  readonly mulNumbers: FuncRef;
  readonly divNumbers: FuncRef;
}

/** The functions for all cases: (env, a mantissa, a high, b mantissa, b high, …, flags so far) → flags; the result in RESULT. */
export interface GeneralArithmetic {
  /** Before the flags: the sign bit to subtract, else 0. */
  readonly add: FuncRef;
  readonly mul: FuncRef;
  readonly div: FuncRef;
}

/** What a mantissa of 53 bits has. */
const NARROW_MASK = ~0x7ffn;

/** i32 0/1 */
function isNormal(x: Ext): Expr {
  return x.m.ltS(0).and(hasNormalExponent(x).ne(0));
}

/** What a function's usual case goes through. */
interface Usual {
  readonly f: FuncBuilder;
  readonly a: Ext;
  readonly b: Ext;
  /** To the function for all cases. */
  readonly general: Label;
  /** Returns a number that is exact. */
  exact(m: Expr, high: Expr): void;
  /**
   * Returns a number rounded: mantissa with its top bit set, sign bit, exponent; of what is cut off, i32 0/1: it is more than half,
   * or half and the mantissa odd; and whether it is anything.
   */
  rounded(m: Local, sign: Expr, exp: Local, up: Expr, inexact: Expr): void;
}

function areNormal(a: Ext, b: Ext): Expr {
  return a.m.and(b.m).ltS(0).and(hasNormalExponent(a).ne(0)).and(hasNormalExponent(b).ne(0));
}
/** After a mantissa was made larger by rounding. */
function carry(f: FuncBuilder, mantissa: Local, exp: Local, general: Label): void {
  f.if(
    mantissa.eqz(),
    () => {
      f.set(mantissa, i64(INTEGER_BIT));
      f.set(exp, exp.add(1));
    },
    undefined,
    false,
  );
  f.brIf(general, exp.sub(1).geU(EXPONENT_MAX - 1), false);
}
function flagsOf(inexact: Expr, c1: Expr): Expr {
  return inexact.shl(FLAGS_SHIFT + 5).or(c1.shl(FLAGS_SHIFT + 9));
}

function binary(
  m: ModuleBuilder,
  name: string,
  general: FuncRef,
  extra: readonly Expr[],
  zeros: (u: Usual) => void,
  usual: (u: Usual) => void,
): FuncRef {
  const f = m.func(name, ['i32', 'i64', 'i32', 'i64', 'i32'], ['i64', 'i32']);
  const env = f.param(0);
  const a = { m: f.param(1), e: f.param(2) };
  const b = { m: f.param(3), e: f.param(4) };
  f.block((toGeneral) => {
    const word = f.copy(control(env).and(0x0f00));
    // of 53 bits
    const narrow = word.eq(0x0200);
    const exact = (mantissa: Expr, high: Expr): void => f.ret(mantissa, high.and(HIGH_MASK));
    const u: Usual = {
      f,
      a,
      b,
      general: toGeneral,
      exact,
      rounded: (mantissa, sign, exp, up, inexact) => {
        const c1 = f.copy(up);
        const precise = f.copy(inexact);
        f.if(
          narrow,
          () => {
            const rest = f.let(mantissa.shl(53).or(precise.i64u()));
            f.set(mantissa, mantissa.and(NARROW_MASK));
            f.set(c1, roundsUpNearest(mantissa.shrU(64 - 53), rest));
            f.set(precise, rest.ne(0));
            f.set(mantissa, mantissa.add(c1.i64u().shl(64 - 53)));
          },
          () => f.set(mantissa, mantissa.add(c1.i64u())),
          false,
        );
        carry(f, mantissa, exp, toGeneral);
        f.ret(mantissa, exp.or(sign).or(flagsOf(precise, c1)));
      },
    };
    f.brIf(toGeneral, word.and(0x0e00).ne(0x0200), false);
    f.if(areNormal(a, b).eqz(), () => {
      f.brIf(toGeneral, narrow, false);
      zeros(u);
      f.br(toGeneral);
    }, undefined, false); // prettier-ignore
    usual(u);
  });
  const numbers = [a.m, a.e.and(HIGH_MASK), b.m, b.e.and(HIGH_MASK)];
  const flags = f.copy(f.call(general, env, ...numbers, ...extra, i32(0)));
  const r = result(env);
  f.ret(r.m, r.e.or(flags.shl(FLAGS_SHIFT)));
  return f;
}

/** `flip`: the sign bit to subtract. */
function addOrSub(m: ModuleBuilder, name: string, general: FuncRef, flip: number): FuncRef {
  return binary(
    m,
    name,
    general,
    [i32(flip)],
    ({ f, a, b, exact }) => {
      f.if(isZero(b).and(isNormal(a)), () => exact(a.m, a.e));
      f.if(isZero(a).and(isNormal(b)), () => exact(b.m, b.e.xor(flip)));
    },
    (u) => usualSum(u, flip),
  );
}
function usualSum({ f, a, b, exact, rounded }: Usual, flip: number): void {
  const ea = f.let(exponentOf(a));
  const eb = f.let(exponentOf(b));
  const distance = f.copy(ea.sub(eb));
  // by selection: which is larger cannot be foretold
  const swap = f.let(distance.ltS(0));
  const x = f.copy(swap.select(b.m, a.m));
  const y = f.copy(swap.select(a.m, b.m));
  const exp = f.copy(swap.select(eb, ea));
  const sign = f.copy(swap.select(b.e.xor(flip), a.e).and(SIGN_BIT));
  f.set(distance, swap.select(i32(0).sub(distance), distance));
  // y is moved right below x, to 128 bits
  const shift = f.copy(distance.i64u());
  const low = f.copy(y.shl(1).shl(shift.xor(63)));
  f.if(
    distance.gtU(63),
    () => {
      // beyond 65 it is something, but less than a quarter
      f.set(low, distance.gtU(65).select(i64(1), y.shrU(shift).or(y.and(shift).and(1))));
      f.set(y, i64(0));
    },
    () => f.set(y, y.shrU(shift)),
    false,
  );
  f.if(
    a.e.xor(b.e).xor(flip).and(SIGN_BIT).eqz(),
    () => {
      f.set(x, x.add(y));
      const carried = f.copy(x.ltU(y));
      const by = f.let(carried.i64u());
      f.set(
        low,
        low
          .shrU(by)
          .or(low.and(by))
          .or(carried.select(x.shl(63), i64(0))),
      );
      f.set(x, carried.select(x.shrU(1).or(INTEGER_BIT), x));
      f.set(exp, exp.add(carried));
    },
    () => {
      f.set(x, x.sub(y).sub(low.ne(0).i64u()));
      f.set(low, i64(0).sub(low));
      f.if(distance.eqz().and(a.m.ltU(b.m)), () => {
        f.set(x, i64(0).sub(x));
        f.set(sign, sign.xor(SIGN_BIT));
      });
      f.if(
        x.eqz(),
        () => {
          f.if(low.eqz(), () => exact(i64(0), i32(0)));
          f.set(x, low);
          f.set(low, i64(0));
          f.set(exp, exp.sub(64));
        },
        undefined,
        false,
      );
      const left = f.copy(x.clz());
      f.set(x, x.shl(left).or(low.shrU(1).shrU(left.xor(63))));
      f.set(low, low.shl(left));
      f.set(exp, exp.sub(left.i32()));
    },
  );
  rounded(x, sign, exp, roundsUpNearest(x, low), low.ne(0));
}

function emitMulNumbers(m: ModuleBuilder, general: FuncRef): FuncRef {
  return binary(
    m,
    'x87MulNumbers',
    general,
    [],
    (u) => {
      const { f, a, b } = u;
      const fits = (x: Ext, y: Ext): Expr => isZero(x).and(isNormal(y).or(isZero(y)));
      f.if(fits(a, b).or(fits(b, a)), () => u.exact(i64(0), signs(u)));
    },
    usualProduct,
  );
}
/** Of a product or quotient. */
function signs({ f, a, b }: Usual): Expr {
  return f.let(signOf({ m: a.m, e: a.e.xor(b.e) }));
}
function usualProduct(u: Usual): void {
  const { f, a, b } = u;
  const high = f.copy(mulHighUnsigned(f, a.m, b.m));
  const low = f.copy(a.m.mul(b.m));
  // 0 or 1 place to the left
  const left = f.copy(high.shrU(63).xor(1));
  f.set(high, high.shl(left).or(low.shrU(63).and(left)));
  f.set(low, low.shl(left));
  const exp = f.copy(
    exponentOf(a)
      .add(exponentOf(b))
      .sub(EXPONENT_BIAS - 1)
      .sub(left.i32()),
  );
  u.rounded(high, signs(u), exp, roundsUpNearest(high, low), low.ne(0));
}

function emitDivNumbers(m: ModuleBuilder, general: FuncRef): FuncRef {
  return binary(
    m,
    'x87DivNumbers',
    general,
    [],
    (u) => u.f.if(isZero(u.a).and(isNormal(u.b)), () => u.exact(i64(0), signs(u))),
    (u) => {
      const { f, a, b } = u;
      const smaller = f.let(a.m.ltU(b.m));
      const exp = f.copy(exponentOf(a).sub(exponentOf(b)).add(EXPONENT_BIAS).sub(smaller));
      const low = f.copy(smaller.select(i64(0), a.m.shl(63)));
      const rest = f.copy(smaller.select(a.m, a.m.shrU(1)));
      const quotient = longDivision(f, rest, low, b.m);
      // what is left over, against half of the divisor
      const other = f.let(b.m.sub(rest));
      const up = rest.gtU(other).or(rest.eq(other).and(quotient.i32().and(1)));
      u.rounded(quotient, signs(u), exp, up, rest.ne(0));
    },
  );
}

const IN_PLACE: Partial<Record<keyof Numbers, (u: Usual) => void>> = {
  addNumbers: (u) => usualSum(u, 0),
  subNumbers: (u) => usualSum(u, SIGN_BIT),
  mulNumbers: usualProduct,
};

/** Calls a function of numbers and puts its results into `to`; sums and products of normal numbers are computed in place. */
export function computeNumbers(
  f: FuncBuilder,
  env: Expr,
  fns: Numbers,
  name: keyof Numbers,
  a: Ext,
  b: Ext,
  to: { readonly m: Local; readonly e: Local },
): void {
  const call = (): void => f.callInto([to.m, to.e], fns[name], env, a.m, a.e, b.m, b.e);
  const usual = IN_PLACE[name];
  if (usual === undefined) return call();
  f.block((done) => {
    f.block((general) => {
      const give = (m: Expr, high: Expr): void => {
        f.set(to.m, m);
        f.set(to.e, high);
        f.br(done);
      };
      f.brIf(general, control(env).and(0x0f00).ne(0x0300), false);
      f.brIf(general, areNormal(a, b).eqz(), false);
      usual({
        f,
        a,
        b,
        general,
        exact: give,
        rounded: (mantissa, sign, exp, up, inexact) => {
          const c1 = f.copy(up);
          const precise = f.copy(inexact);
          f.set(mantissa, mantissa.add(c1.i64u()));
          carry(f, mantissa, exp, general);
          give(mantissa, exp.or(sign).or(flagsOf(precise, c1)));
        },
      });
    });
    call();
  });
}

export function emitNumbers(m: ModuleBuilder, { add, mul, div }: GeneralArithmetic): Numbers {
  return {
    addNumbers: addOrSub(m, 'x87AddNumbers', add, 0),
    subNumbers: addOrSub(m, 'x87SubNumbers', add, SIGN_BIT),
    mulNumbers: emitMulNumbers(m, mul),
    divNumbers: emitDivNumbers(m, div),
  };
}
