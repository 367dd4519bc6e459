/** Generated FPREM, FPREM1, FSCALE, FXTRACT. Source: Intel SDM vol. 2, instruction pages. */
import {
  type Expr,
  type FuncBuilder,
  type FuncRef,
  i32,
  i64,
  load,
  type Local,
  type ModuleBuilder,
} from '../../wasm/index.ts';
import {
  control,
  type Core,
  denormalFlag,
  type Ext,
  exponentOf,
  isDenormal,
  isEmpty,
  isInfinity,
  isNanOrUnsupported,
  isZero,
  physical,
  readRegister,
  RESULT,
  result,
  setDefaultNan,
  setResult,
  signOf,
  unpack,
  writeRegister,
} from './core.ts';
import { CONDITION_BITS, EXPONENT_BIAS, EXPONENT_MAX, FPU, FSW, INTEGER_BIT, SIGN_BIT } from './layout.ts';

export interface Remainders {
  /** (env, nearest): FPREM, or FPREM1. */
  readonly remainder: FuncRef;
  /** (env) */
  readonly scale: FuncRef;
  readonly extract: FuncRef;
}

interface TwoOperands {
  readonly env: Local;
  readonly register: Local;
  readonly a: { m: Local; e: Local };
  readonly b: { m: Local; e: Local };
  readonly flags: Local;
  /** The result is set: writes it to ST(0) and returns. */
  finish(): void;
  invalid(): void;
}

/** ST(0) and ST(1), with empty registers, unsupported numbers and NaNs done. */
function begin(f: FuncBuilder, core: Core, first: (env: Expr) => void = () => {}): TwoOperands {
  const env = f.param(0);
  const register = f.copy(physical(env, 0));
  const other = f.copy(physical(env, 1));
  first(env);
  const flags = f.copy(i32(FSW.IE | FSW.SF));
  const finish = (): void => {
    f.run(f.call(core.finish, env, flags, register, i32(0)));
    f.ret();
  };
  f.if(isEmpty(env, register).or(isEmpty(env, other)), () => {
    setDefaultNan(f, env);
    finish();
  });
  const a = readRegister(f, env, register);
  const b = readRegister(f, env, other);
  f.if(isNanOrUnsupported(a).or(isNanOrUnsupported(b)), () => {
    f.set(flags, f.call(core.nan, env, a.m, a.e, b.m, b.e));
    finish();
  });
  const invalid = (): void => {
    setDefaultNan(f, env);
    f.set(flags, i32(FSW.IE));
    finish();
  };
  return { env, register, a, b, flags, finish, invalid };
}

/** The number rounded to 64 bits and to the exponent's range: a tiny one becomes denormal. */
function roundTo64(f: FuncBuilder, core: Core, env: Expr, sign: Expr, exp: Expr, m: Expr): Expr {
  return f.call(core.round, env, sign, exp, m, i64(0), i32(0));
}

function emitRemainder(m: ModuleBuilder, core: Core): FuncRef {
  const f = m.func('x87Remainder', ['i32', 'i32'], []);
  const { env, register, a, b, flags, invalid } = begin(f, core, (e) => {
    // C2 is cleared whatever happens; C0 and C3 change only with a result
    f.store(2, e, FPU.status, load('i32_16u', e, FPU.status).and(0xffff & ~FSW.C2));
  });
  const nearest = f.param(1);
  const conditions = f.copy(i32(0));
  const leave = (): void => {
    const stopped = flags.and(control(env).xor(-1)).and(FSW.DE);
    f.if(stopped.eqz(), () => {
      const status = load('i32_16u', env, FPU.status).and(0xffff & ~CONDITION_BITS);
      f.store(2, env, FPU.status, status);
    });
    f.run(f.call(core.finish, env, flags.or(conditions), register, i32(0)));
    f.ret();
  };
  f.if(isInfinity(a).or(isZero(b)), invalid);
  f.set(flags, denormalFlag(a, b));
  f.if(isZero(a), () => {
    setResult(f, env, a.m, a.e);
    leave();
  });
  const x = unpack(f, a);
  const sign = f.copy(signOf(a));
  f.if(isInfinity(b), () => {
    f.set(flags, flags.or(roundTo64(f, core, env, sign, x.exp, x.m)));
    leave();
  });
  const y = unpack(f, b);
  const distance = f.copy(x.exp.sub(y.exp));
  f.if(distance.ltS(nearest.select(i32(-1), i32(0))), () => {
    f.set(flags, flags.or(roundTo64(f, core, env, sign, x.exp, x.m)));
    leave();
  });
  const quotient = f.copy(i64(0));
  const exp = f.copy(y.exp);
  f.if(
    distance.ltS(0),
    () => {
      // FPREM1 with a quotient between 1/4 and 1: rounded, 0 or 1
      f.set(exp, x.exp);
      f.if(x.m.gtU(y.m), () => {
        f.set(x.m, y.m.sub(x.m.sub(y.m)));
        f.set(sign, sign.xor(SIGN_BIT));
        f.set(quotient, i64(1));
      });
    },
    () => {
      // far apart: a part of the quotient is subtracted and C2 says that there is more
      const part = f.copy(distance);
      f.if(distance.geS(64), () => {
        f.set(part, distance.and(31).or(32));
        f.set(exp, exp.add(distance).sub(part));
        f.set(conditions, i32(FSW.C2));
      });
      f.if(x.m.geU(y.m), () => {
        f.set(x.m, x.m.sub(y.m));
        f.set(quotient, i64(1).shl(part.i64u()));
      });
      f.if(part, () => {
        const shift = f.let(part.i64u());
        const high = x.m.shrU(i64(64).sub(shift));
        f.set(quotient, quotient.add(f.call(core.div128, env, high, x.m.shl(shift), y.m)));
        f.set(x.m, result(env).m);
      });
      f.if(nearest.and(conditions.eqz()), () => {
        const twice = x.m.shl(1);
        const over = x.m
          .ltS(0)
          .or(twice.gtU(y.m))
          .or(twice.eq(y.m).and(quotient.i32().and(1)));
        f.if(over, () => {
          f.set(x.m, y.m.sub(x.m));
          f.set(sign, sign.xor(SIGN_BIT));
          f.set(quotient, quotient.add(1));
        });
      });
    },
  );
  f.if(conditions.eqz(), () => {
    const q = f.let(quotient.i32());
    const bit = (from: number, to: number): Expr => q.shrU(from).and(1).shl(to);
    // Q2, Q1, Q0 in C0, C3, C1
    f.set(conditions, bit(2, 8).or(bit(1, 14)).or(bit(0, 9)));
  });
  f.if(x.m.eqz(), () => {
    setResult(f, env, 0n, signOf(a));
    leave();
  });
  const shift = f.copy(x.m.clz());
  f.set(flags, flags.or(roundTo64(f, core, env, sign, exp.sub(shift.i32()), x.m.shl(shift))));
  leave();
  return f;
}

function emitScale(m: ModuleBuilder, core: Core): FuncRef {
  const f = m.func('x87Scale', ['i32'], []);
  const { env, a, b, flags, finish, invalid } = begin(f, core);
  f.set(flags, denormalFlag(a, b));
  f.if(isInfinity(b), () => {
    f.if(
      signOf(b),
      () => {
        f.if(isInfinity(a), invalid);
        setResult(f, env, 0n, signOf(a));
      },
      () => {
        f.if(isZero(a), invalid);
        setResult(f, env, INTEGER_BIT, signOf(a).or(EXPONENT_MAX));
      },
    );
    finish();
  });
  f.if(isInfinity(a).or(isZero(a)), () => {
    setResult(f, env, a.m, a.e);
    finish();
  });
  const x = unpack(f, a);
  // the scale, truncated; beyond 2^16 every result overflows or underflows
  const by = f.copy(i32(0));
  const size = f.copy(exponentOf(b).sub(EXPONENT_BIAS));
  f.if(size.geS(0), () => {
    f.if(
      size.ltS(16),
      () => f.set(by, b.m.shrU(i64(63).sub(size.i64u())).i32()),
      () => f.set(by, i32(0x10000)),
    );
  });
  f.if(signOf(b), () => f.set(by, i32(0).sub(by)));
  f.set(flags, flags.or(roundTo64(f, core, env, signOf(a), x.exp.add(by), x.m)));
  finish();
  return f;
}

function emitExtract(m: ModuleBuilder, core: Core, fromInteger: FuncRef): FuncRef {
  const f = m.func('x87Extract', ['i32'], []);
  const env = f.param(0);
  const register = f.copy(physical(env, 0));
  const pushed = f.copy(physical(env, -1));
  const flags = f.copy(i32(FSW.IE | FSW.SF));
  const second: Ext = { m: load('i64', env, RESULT.mantissa2), e: load('i32', env, RESULT.high2) };
  const setSecond = (mantissa: Expr, high: Expr): void => {
    f.store(8, env, RESULT.mantissa2, mantissa);
    f.store(4, env, RESULT.high2, high);
  };
  /** The exponent is the result, the significand the second one. */
  const finish = (): void => {
    f.run(f.call(core.finish, env, flags, register, i32(0)));
    const stopped = flags.and(control(env).xor(-1)).and(FSW.IE | FSW.DE | FSW.ZE);
    f.if(stopped, () => f.ret());
    writeRegister(f, env, pushed, second);
    f.store(4, env, FPU.top, pushed);
    f.ret();
  };
  const same = (): void => setSecond(result(env).m, result(env).e);
  f.if(isEmpty(env, register).or(isEmpty(env, pushed).eqz()), () => {
    f.if(isEmpty(env, register).eqz(), () => f.set(flags, flags.or(FSW.C1)));
    setDefaultNan(f, env);
    same();
    finish();
  });
  const x = readRegister(f, env, register);
  f.if(isNanOrUnsupported(x), () => {
    f.set(flags, f.call(core.nan, env, x.m, x.e, x.m, x.e));
    same();
    finish();
  });
  setSecond(x.m, x.e);
  f.if(isInfinity(x), () => {
    f.set(flags, i32(0));
    setResult(f, env, INTEGER_BIT, EXPONENT_MAX);
    finish();
  });
  f.if(isZero(x), () => {
    f.set(flags, i32(FSW.ZE));
    setResult(f, env, INTEGER_BIT, SIGN_BIT | EXPONENT_MAX);
    finish();
  });
  f.set(flags, isDenormal(x).shl(1));
  const n = unpack(f, x);
  setSecond(n.m, signOf(x).or(EXPONENT_BIAS));
  f.drop(f.call(fromInteger, env, n.exp.sub(EXPONENT_BIAS).i64s()));
  finish();
  return f;
}

export function emitRemainders(m: ModuleBuilder, core: Core, fromInteger: FuncRef): Remainders {
  return {
    remainder: emitRemainder(m, core),
    scale: emitScale(m, core),
    extract: emitExtract(m, core, fromInteger),
  };
}
