/** Generated x87 addition, multiplication, division, square root. Source: Intel SDM vol. 1, 4.8, 4.9, 8.3.5. */
import {
  type Expr,
  type FuncBuilder,
  type FuncRef,
  i32,
  i64,
  load,
  type Local,
  type ModuleBuilder,
  op,
} from '../../wasm/index.ts';
import {
  control,
  type Core,
  denormalFlag,
  emitUnary,
  type Ext,
  FLAGS_SHIFT,
  HIGH_MASK,
  isEmpty,
  isInfinity,
  isNanOrUnsupported,
  isSpecial,
  isZero,
  physical,
  pop,
  readRegister,
  registerAddress,
  result,
  retInvalid,
  roundingOf,
  roundsUpNearest,
  setDefaultNan,
  setResult,
  signOf,
  unpack,
} from './core.ts';
import { mulHighUnsigned } from '../sem/product.ts';
import { emitNumbers, type GeneralArithmetic, type Numbers } from './numbers.ts';
import { EXPONENT_BIAS, EXPONENT_MAX, FPU, FSW, INTEGER_BIT, SIGN_BIT } from './layout.ts';

/** `subr` and `divr` take their operands in exchanged places. */
export const OPERATIONS = ['add', 'mul', 'sub', 'subr', 'div', 'divr'] as const;
export type Operation = (typeof OPERATIONS)[number];

/** (env, destination i, source i, pops): ST(d) = ST(d) op ST(s). */
type RegisterArithmetic = { readonly [O in Operation as `${O}Registers`]: FuncRef };
/** (env, mantissa, high, flags of the operand's conversion): ST(0) = ST(0) op operand. */
type MemoryArithmetic = { readonly [O in Operation as `${O}Memory`]: FuncRef };

export interface Arithmetic extends RegisterArithmetic, MemoryArithmetic, Numbers, GeneralArithmetic {
  /** (env, mantissa, high) → mantissa, high and flags: the square root. */
  readonly sqrtNumber: FuncRef;
  /** (env): ST(0) = √ST(0). */
  readonly sqrt: FuncRef;
}

/** Bits to drop for the precision asked for: 24, (reserved: 64), 53 or 64 remain. */
function dropOf(env: Expr): Expr {
  const precision = control(env).shrU(8).and(3);
  return i32(0x0b0028).shrU(precision.shl(3)).and(0xff);
}

/** Parameters (env, a mantissa, a high, b mantissa, b high, …) of a two-operand function. */
function operands(f: FuncBuilder): { env: Local; a: { m: Local; e: Local }; b: { m: Local; e: Local } } {
  return {
    env: f.param(0),
    a: { m: f.param(1), e: f.param(2) },
    b: { m: f.param(3), e: f.param(4) },
  };
}

/** Mantissa·2^64 + low (bound, top bit set) rounded into RESULT; gives `flags` with those of the rounding. */
function rounded(
  f: FuncBuilder,
  core: Core,
  env: Expr,
  flags: Expr,
  { sign, exp, m, low }: { sign: Expr; exp: Expr; m: Expr; low: Expr },
): Expr {
  return flags.or(f.call(core.round, env, sign, exp, m, low, dropOf(env)));
}

/** A register's result, its flags above `high`, and return: in place when at most a masked precision exception is to be told. */
function retFinished(
  f: FuncBuilder,
  core: Core,
  env: Expr,
  value: { m: Expr; high: Expr },
  register: Expr,
  pops: Expr,
): void {
  const flags = f.let(value.high.shrU(FLAGS_SHIFT));
  const precise = FSW.PE | FSW.C1;
  f.if(
    flags.and(~precise).eqz().and(control(env).and(FSW.PE)),
    () => {
      const status = load('i32_16u', env, FPU.status).and(0xffff & ~FSW.C1);
      f.store(2, env, FPU.status, status.or(flags));
      const at = f.let(registerAddress(env, register));
      f.store(8, at, FPU.regs, value.m);
      f.store(2, at, FPU.regs + 8, value.high);
      pop(f, env, pops);
      f.ret();
    },
    undefined,
    true,
  );
  setResult(f, env, value.m, value.high.and(HIGH_MASK));
  f.run(f.call(core.finish, env, flags, register, pops));
}

function retNan(f: FuncBuilder, core: Core, env: Expr, a: Ext, b: Ext): void {
  f.if(isNanOrUnsupported(a).or(isNanOrUnsupported(b)), () =>
    f.ret(f.call(core.nan, env, a.m, a.e, b.m, b.e)),
  );
}

/** (env, a, b, flip, flags): a + b, or a − b when `flip` is the sign bit. */
function emitAdd(m: ModuleBuilder, core: Core): FuncRef {
  const f = m.func('x87Add', ['i32', 'i64', 'i32', 'i64', 'i32', 'i32', 'i32'], ['i32']);
  const { env, a, b } = operands(f);
  const flip = f.param(5);
  const flags = f.param(6);
  f.if(
    isSpecial(a).or(isSpecial(b)),
    () => {
      retNan(f, core, env, a, b);
      f.set(b.e, b.e.xor(flip));
      f.set(flags, flags.or(denormalFlag(a, b)));
      f.if(
        isInfinity(a),
        () => {
          f.if(isInfinity(b).and(a.e.ne(b.e)), () => retInvalid(f, env));
          setResult(f, env, a.m, a.e);
        },
        () => setResult(f, env, b.m, b.e),
      );
      f.ret(flags);
    },
    undefined,
    false,
  );
  f.set(flags, flags.or(denormalFlag(a, b)));
  f.set(b.e, b.e.xor(flip));
  const signA = f.copy(signOf(a));
  const signB = f.copy(signOf(b));
  const x = unpack(f, a);
  const y = unpack(f, b);
  const round = (sign: Expr, exp: Expr, hi: Expr, rest: Expr): void =>
    f.ret(rounded(f, core, env, flags, { sign, exp, m: hi, low: rest }));
  f.if(x.m.eqz(), () => {
    f.if(y.m.eqz(), () => {
      const down = roundingOf(control(env)).eq(1).shl(15);
      setResult(f, env, 0n, signA.eq(signB).select(signA, down));
      f.ret(flags);
    });
    round(signB, y.exp, y.m, i64(0));
  });
  f.if(y.m.eqz(), () => round(signA, x.exp, x.m, i64(0)));
  f.if(x.exp.ltS(y.exp), () => {
    for (const [p, q] of [
      [x.exp, y.exp],
      [x.m, y.m],
      [signA, signB],
    ] as const) {
      // prettier-ignore
      const t = f.copy(p);
      f.set(p, q);
      f.set(q, t);
    }
  });
  // y is moved right below x, to 128 bits with a sticky lowest one
  const low = f.copy(i64(0));
  const distance = f.copy(x.exp.sub(y.exp).i64u());
  f.if(distance.ne(0), () => {
    f.if(
      distance.ltU(64),
      () => {
        f.set(low, y.m.shl(i64(64).sub(distance)));
        f.set(y.m, y.m.shrU(distance));
      },
      () => {
        f.if(
          distance.ltU(128),
          () => {
            const sticky = distance
              .ne(64)
              .and(y.m.shl(i64(128).sub(distance)).ne(0))
              .i64u();
            f.set(low, y.m.shrU(distance).or(sticky));
          },
          () => f.set(low, i64(1)),
        );
        f.set(y.m, i64(0));
      },
    );
  });
  f.if(
    signA.eq(signB),
    () => {
      f.set(x.m, x.m.add(y.m));
      f.if(x.m.ltU(y.m), () => {
        f.set(low, low.shrU(1).or(low.and(1)).or(x.m.shl(63)));
        f.set(x.m, x.m.shrU(1).or(INTEGER_BIT));
        f.set(x.exp, x.exp.add(1));
      });
    },
    () => {
      const borrow = f.copy(low.ne(0).i64u());
      f.set(low, i64(0).sub(low));
      const less = f.copy(x.m.ltU(y.m));
      f.set(x.m, x.m.sub(y.m).sub(borrow));
      f.if(less, () => {
        // only with equal exponents, where nothing was shifted out
        f.set(x.m, i64(0).sub(x.m));
        f.set(signA, signB);
      });
      f.if(x.m.eqz(), () => {
        f.if(low.eqz(), () => {
          setResult(f, env, 0n, roundingOf(control(env)).eq(1).shl(15));
          f.ret(flags);
        });
        f.set(x.m, low);
        f.set(low, i64(0));
        f.set(x.exp, x.exp.sub(64));
      });
      const shift = f.copy(x.m.clz());
      f.if(shift.ne(0), () => {
        f.set(x.m, x.m.shl(shift).or(low.shrU(i64(64).sub(shift))));
        f.set(low, low.shl(shift));
        f.set(x.exp, x.exp.sub(shift.i32()));
      });
    },
  );
  round(signA, x.exp, x.m, low);
  return f;
}

/** (env, a, b, flags) */
function emitMul(m: ModuleBuilder, core: Core): FuncRef {
  const f = m.func('x87Mul', ['i32', 'i64', 'i32', 'i64', 'i32', 'i32'], ['i32']);
  const { env, a, b } = operands(f);
  const flags = f.param(5);
  const sign = f.copy(a.e.xor(b.e).and(SIGN_BIT));
  f.if(
    isSpecial(a).or(isSpecial(b)),
    () => {
      retNan(f, core, env, a, b);
      f.if(isZero(a).or(isZero(b)), () => retInvalid(f, env));
      setResult(f, env, INTEGER_BIT, sign.or(EXPONENT_MAX));
      f.ret(flags.or(denormalFlag(a, b)));
    },
    undefined,
    false,
  );
  f.set(flags, flags.or(denormalFlag(a, b)));
  const x = unpack(f, a);
  const y = unpack(f, b);
  f.if(x.m.eqz().or(y.m.eqz()), () => {
    setResult(f, env, 0n, sign);
    f.ret(flags);
  });
  const hi = f.copy(mulHighUnsigned(f, x.m, y.m));
  const low = f.copy(x.m.mul(y.m));
  const exp = f.copy(x.exp.add(y.exp).sub(EXPONENT_BIAS - 1));
  f.if(hi.geS(0), () => {
    f.set(hi, hi.shl(1).or(low.shrU(63)));
    f.set(low, low.shl(1));
    f.set(exp, exp.sub(1));
  });
  f.ret(rounded(f, core, env, flags, { sign, exp, m: hi, low }));
  return f;
}

/** (env, a, b, flags): a / b. */
function emitDiv(m: ModuleBuilder, core: Core): FuncRef {
  const f = m.func('x87Div', ['i32', 'i64', 'i32', 'i64', 'i32', 'i32'], ['i32']);
  const { env, a, b } = operands(f);
  const flags = f.param(5);
  const sign = f.copy(a.e.xor(b.e).and(SIGN_BIT));
  f.if(
    isSpecial(a).or(isSpecial(b)),
    () => {
      retNan(f, core, env, a, b);
      f.if(isInfinity(a).and(isInfinity(b)), () => retInvalid(f, env));
      f.if(
        isInfinity(a),
        () => setResult(f, env, INTEGER_BIT, sign.or(EXPONENT_MAX)),
        () => setResult(f, env, 0n, sign),
      );
      f.ret(flags.or(denormalFlag(a, b)));
    },
    undefined,
    false,
  );
  f.if(isZero(b), () => {
    f.if(isZero(a), () => retInvalid(f, env));
    setResult(f, env, INTEGER_BIT, sign.or(EXPONENT_MAX));
    f.ret(i32(FSW.ZE));
  });
  f.set(flags, flags.or(denormalFlag(a, b)));
  f.if(isZero(a), () => {
    setResult(f, env, 0n, sign);
    f.ret(flags);
  });
  const x = unpack(f, a);
  const y = unpack(f, b);
  const exp = f.copy(x.exp.sub(y.exp).add(EXPONENT_BIAS));
  const low = f.copy(i64(0));
  f.if(
    x.m.ltU(y.m),
    () => f.set(exp, exp.sub(1)),
    () => {
      f.set(low, x.m.shl(63));
      f.set(x.m, x.m.shrU(1));
    },
  );
  const quotient = f.copy(f.call(core.div128, env, x.m, low, y.m));
  // what is left over, against half of the divisor
  const rest = f.copy(result(env).m);
  f.if(rest.ne(0), () => {
    const half = f.let(rest.ltS(0).or(rest.shl(1).geU(y.m)));
    const exact = rest.shl(1).eq(y.m).and(rest.geS(0));
    f.set(rest, half.i64u().shl(63).or(exact.eqz().i64u()));
  });
  f.ret(rounded(f, core, env, flags, { sign, exp, m: quotient, low: rest }));
  return f;
}

/** (env, mantissa, high) → mantissa, high and flags */
function emitSqrtNumber(m: ModuleBuilder, core: Core): FuncRef {
  const f = m.func('x87SqrtNumber', ['i32', 'i64', 'i32'], ['i64', 'i32']);
  const env = f.param(0);
  const a = { m: f.param(1), e: f.param(2) };
  f.set(a.e, a.e.and(HIGH_MASK));
  const flags = f.copy(i32(0));
  const finish = (): void => {
    const r = result(env);
    f.ret(r.m, r.e.or(flags.shl(FLAGS_SHIFT)));
  };
  f.if(isNanOrUnsupported(a), () => {
    f.set(flags, f.call(core.nan, env, a.m, a.e, a.m, a.e));
    finish();
  });
  f.if(isZero(a), () => f.ret(a.m, a.e));
  f.if(signOf(a), () => {
    setDefaultNan(f, env);
    f.set(flags, i32(FSW.IE));
    finish();
  });
  f.if(isInfinity(a), () => f.ret(a.m, a.e));
  f.set(flags, denormalFlag(a));
  const x = unpack(f, a);
  // radicand = x.m·2^64 (even exponent) or half of that; its root has its top bit set
  const unbiased = f.copy(x.exp.sub(EXPONENT_BIAS));
  const odd = f.let(unbiased.and(1));
  const low = f.copy(i64(0));
  f.if(odd.eqz(), () => {
    f.set(low, x.m.shl(63));
    f.set(x.m, x.m.shrU(1));
  });
  const exp = f.copy(unbiased.sub(odd).shrS(1).add(EXPONENT_BIAS));
  // 32 bits of the root from the host's square root, corrected
  const high = f.copy(f64ToU64(sqrtF64(u64ToF64(x.m))));
  f.if(high.gtU(0xffffffffn), () => f.set(high, i64(0xffffffffn)));
  f.if(high.mul(high).gtU(x.m), () => f.set(high, high.sub(1)));
  const next = f.copy(high.add(1));
  f.if(next.leU(0xffffffffn).and(next.mul(next).leU(x.m)), () => f.set(high, next));
  // and 32 more by division
  const left = f.let(x.m.sub(high.mul(high)));
  const digit = f.copy(left.shl(31).or(low.shrU(33)).divU(high));
  f.if(digit.gtU(0xffffffffn), () => f.set(digit, i64(0xffffffffn)));
  const root = f.copy(high.shl(32).or(digit));
  const squareHigh = f.local('i64');
  const squareLow = f.local('i64');
  f.loop((again) => {
    f.set(squareHigh, mulHighUnsigned(f, root, root));
    f.set(squareLow, root.mul(root));
    f.if(squareHigh.gtU(x.m).or(squareHigh.eq(x.m).and(squareLow.gtU(low))), () => {
      f.set(root, root.sub(1));
      f.br(again);
    });
  });
  // remainder, 65 bits: 0, at most the root (below half) or more
  const restLow = f.let(low.sub(squareLow));
  const restHigh = f.let(x.m.sub(squareHigh).sub(low.ltU(squareLow).i64u()));
  const above = restHigh.ne(0).or(restLow.gtU(root));
  const rest = f.let(above.i64u().shl(63).or(restHigh.or(restLow).ne(0).i64u()));
  // in place, but for a mantissa that may overflow
  f.if(
    control(env).and(0x0f00).eq(0x0300).and(root.ne(-1n)),
    () => {
      const up = f.copy(roundsUpNearest(root, rest));
      f.set(flags, flags.or(rest.ne(0).shl(5)).or(up.shl(9)));
      f.ret(root.add(up.i64u()), exp.or(flags.shl(FLAGS_SHIFT)));
    },
    undefined,
    true,
  );
  f.set(flags, flags.or(f.call(core.round, env, i32(0), exp, root, rest, dropOf(env))));
  finish();
  return f;
}
function u64ToF64(e: Expr): Expr {
  return op('f64', 0xba, [e]);
}
function f64ToU64(e: Expr): Expr {
  return op('i64', 0xb1, [e]);
}
function sqrtF64(e: Expr): Expr {
  return op('f64', 0x9f, [e]);
}

/** Of an operation: the function for usual numbers and the one for all, the sign bit that the latter wants, the order of operands. */
interface Parts {
  readonly usual: keyof Numbers;
  readonly general: FuncRef;
  readonly extra: readonly Expr[];
  readonly reversed: boolean;
}

/** What an operation's memory form calls when the conversion of its operand has raised something. */
export function operationParts(name: Operation, fns: GeneralArithmetic): Parts {
  const reversed = name.endsWith('r');
  switch (name) {
    case 'add':
      return { usual: 'addNumbers', general: fns.add, extra: [i32(0)], reversed };
    case 'sub':
    case 'subr':
      return { usual: 'subNumbers', general: fns.add, extra: [i32(SIGN_BIT)], reversed };
    case 'mul':
      return { usual: 'mulNumbers', general: fns.mul, extra: [], reversed };
    default:
      return { usual: 'divNumbers', general: fns.div, extra: [], reversed };
  }
}

export function emitArithmetic(m: ModuleBuilder, core: Core): Arithmetic {
  const general = { add: emitAdd(m, core), mul: emitMul(m, core), div: emitDiv(m, core) };
  const functions = { ...general, ...emitNumbers(m, general) };
  const sqrtNumber = emitSqrtNumber(m, core);

  const registers = (name: Operation): FuncRef => {
    const { usual, reversed } = operationParts(name, functions);
    const f = m.func(`x87${name}Registers`, ['i32', 'i32', 'i32', 'i32'], []);
    const [env, destination, source, pops] = [0, 1, 2, 3].map((i) => f.param(i));
    const top = f.copy(load('i32', env, FPU.top));
    f.set(destination, destination.add(top).and(7));
    f.set(source, source.add(top).and(7));
    f.if(
      isEmpty(env, destination).or(isEmpty(env, source)),
      () => {
        setDefaultNan(f, env);
        f.run(f.call(core.finish, env, i32(FSW.IE | FSW.SF), destination, pops));
        f.ret();
      },
      undefined,
      false,
    );
    const a = readRegister(f, env, destination);
    const b = readRegister(f, env, source);
    const [x, y] = reversed ? [b, a] : [a, b];
    f.callInto([a.m, a.e], functions[usual], env, x.m, x.e, y.m, y.e);
    retFinished(f, core, env, { m: a.m, high: a.e }, destination, pops);
    return f;
  };
  const memory = (name: Operation): FuncRef => {
    const { usual, general, extra, reversed } = operationParts(name, functions);
    const f = m.func(`x87${name}Memory`, ['i32', 'i64', 'i32', 'i32'], []);
    const [env, mantissa, high, flags] = [0, 1, 2, 3].map((i) => f.param(i));
    const register = f.copy(physical(env, 0));
    f.if(
      isEmpty(env, register),
      () => {
        setDefaultNan(f, env);
        f.run(f.call(core.finish, env, i32(FSW.IE | FSW.SF), register, i32(0)));
        f.ret();
      },
      undefined,
      false,
    );
    const a = readRegister(f, env, register);
    const b = { m: mantissa, e: high };
    const [x, y] = reversed ? [b, a] : [a, b];
    f.if(
      flags.eqz(),
      () => {
        f.callInto([a.m, a.e], functions[usual], env, x.m, x.e, y.m, y.e);
        retFinished(f, core, env, { m: a.m, high: a.e }, register, i32(0));
        f.ret();
      },
      undefined,
      true,
    );
    f.set(flags, f.call(general, env, x.m, x.e, y.m, y.e, ...extra, flags));
    f.run(f.call(core.finish, env, flags, register, i32(0)));
    return f;
  };
  return {
    ...functions,
    ...(Object.fromEntries(OPERATIONS.map((o) => [`${o}Registers`, registers(o)])) as RegisterArithmetic),
    ...(Object.fromEntries(OPERATIONS.map((o) => [`${o}Memory`, memory(o)])) as MemoryArithmetic),
    sqrtNumber,
    sqrt: emitUnary(m, core, 'x87Sqrt', sqrtNumber),
  };
}
