/** Generated x87 conversions to and from float32, float64, integers and packed decimal. Source: Intel SDM vol. 1, 4.8, 8.3. */
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
  emitUnary,
  type Ext,
  exponentOf,
  FLAGS_SHIFT,
  HIGH_MASK,
  finishClean,
  isEmpty,
  isNanOrUnsupported,
  isSpecial,
  isZero,
  physical,
  readRegister,
  result,
  RESULT,
  roundingOf,
  roundsUp,
  roundsUpNearest,
  setResult,
  signOf,
  unpack,
} from './core.ts';
import {
  DEFAULT_NAN_HIGH,
  DEFAULT_NAN_MANTISSA,
  EXPONENT_BIAS,
  EXPONENT_MAX,
  FPU,
  FSW,
  INTEGER_BIT,
  QUIET_BIT,
  SIGN_BIT,
} from './layout.ts';

/** Formats of `toMemory`; the integer ones double as indices of `INTEGER_BITS`. */
export const FORMAT = { int16: 0, int32: 1, int64: 2, float32: 3, float64: 4, bcd: 5, extended: 6 } as const;

export interface Conversions {
  /** (env, bits) → flags: DE, or 0; a signaling NaN stays one. */
  readonly fromFloat32: FuncRef;
  readonly fromFloat64: FuncRef;
  /** (env, value) → 0 */
  readonly fromInteger: FuncRef;
  /** (env, low 8 bytes, high 2 bytes) → 0 */
  readonly fromBcd: FuncRef;
  /** (env, bits) → mantissa, high and flags, as FLD reads it; a signaling NaN is quieted. */
  readonly readFloat32: FuncRef;
  readonly readFloat64: FuncRef;
  /** (env, bits): pushes a number; a signaling NaN is quieted. */
  readonly loadFloat32: FuncRef;
  readonly loadFloat64: FuncRef;
  /**
   * (env, format, truncate) → flags; ST(0) in that format is in RESULT.mantissa (the last 2 bytes of bcd and extended
   * in RESULT.high).
   */
  readonly toMemory: FuncRef;
  /** (env, mantissa, high, bits, truncate) → integer, flags */
  readonly toInteger: FuncRef;
  /** (env, mantissa, high) → bits as an i64, flags */
  readonly toFloat32: FuncRef;
  readonly toFloat64: FuncRef;
  /** (env, mantissa, high) → mantissa, high and flags: rounded to an integer. */
  readonly roundNumber: FuncRef;
  /** (env): FRNDINT. */
  readonly roundToInteger: FuncRef;
}

export const FLOATS = {
  float32: { exponentBits: 8, drop: 40, bias: 127 },
  float64: { exponentBits: 11, drop: 11, bias: 1023 },
} as const;
type FloatFormat = (typeof FLOATS)[keyof typeof FLOATS];

function emitFromFloat(m: ModuleBuilder, name: string, format: FloatFormat): FuncRef {
  const { exponentBits, drop, bias } = format;
  const fractionBits = 63 - drop;
  const max = (1 << exponentBits) - 1;
  const f = m.func(name, ['i32', exponentBits === 8 ? 'i32' : 'i64'], ['i32']);
  const env = f.param(0);
  const bits = f.copy(f.param(1).i64u());
  const exp = f.copy(bits.shrU(fractionBits).i32().and(max));
  const mantissa = f.copy(bits.shl(drop).and(~INTEGER_BIT));
  const sign = f.let(
    bits
      .shrU(fractionBits + exponentBits)
      .i32()
      .and(1)
      .shl(15),
  );
  const flags = f.copy(i32(0));
  f.if(
    exp.eqz(),
    () => {
      f.if(mantissa.ne(0), () => {
        const shift = f.let(mantissa.clz());
        f.set(mantissa, mantissa.shl(shift));
        f.set(exp, i32(EXPONENT_BIAS - bias + 1).sub(shift.i32()));
        f.set(flags, i32(FSW.DE));
      });
    },
    () => {
      f.set(mantissa, mantissa.or(INTEGER_BIT));
      f.set(exp, exp.eq(max).select(i32(EXPONENT_MAX), exp.add(EXPONENT_BIAS - bias)));
    },
  );
  setResult(f, env, mantissa, exp.or(sign));
  f.ret(flags);
  return f;
}

function emitFromInteger(m: ModuleBuilder): FuncRef {
  const f = m.func('x87FromInteger', ['i32', 'i64'], ['i32']);
  const [env, value] = [f.param(0), f.param(1)];
  const sign = f.copy(value.ltS(0).shl(15));
  f.if(sign, () => f.set(value, i64(0).sub(value)));
  const shift = f.copy(value.clz());
  const high = value.eqz().select(
    i32(0),
    i32(EXPONENT_BIAS + 63)
      .sub(shift.i32())
      .or(sign),
  );
  setResult(f, env, value.shl(shift), high);
  f.ret(i32(0));
  return f;
}

function emitFromBcd(m: ModuleBuilder, fromInteger: FuncRef): FuncRef {
  const f = m.func('x87FromBcd', ['i32', 'i64', 'i32'], ['i32']);
  const [env, low, high] = [0, 1, 2].map((i) => f.param(i));
  const value = f.copy(high.shrU(4).and(15).mul(10).add(high.and(15)).i64u());
  const left = f.copy(i32(16));
  f.loop((again) => {
    f.set(value, value.mul(10).add(low.shrU(60)));
    f.set(low, low.shl(4));
    f.set(left, left.sub(1));
    f.brIf(again, left);
  });
  f.drop(f.call(fromInteger, env, value));
  // the sign stands apart: there is a negative zero
  f.store(4, env, RESULT.high, result(env).e.or(high.and(SIGN_BIT)));
  f.ret(i32(0));
  return f;
}

/** (env, bits): pushes a float32 or float64. */
function emitLoadFloat(
  m: ModuleBuilder,
  name: string,
  format: FloatFormat,
  convert: FuncRef,
  push: FuncRef,
): FuncRef {
  const { exponentBits, drop, bias } = format;
  const fractionBits = 63 - drop;
  const max = (1 << exponentBits) - 1;
  const f = m.func(name, ['i32', exponentBits === 8 ? 'i32' : 'i64'], []);
  const [env, value] = [f.param(0), f.param(1)];
  const bits = f.copy(value.i64u());
  const exp = f.copy(bits.shrU(fractionBits).i32().and(max));
  const register = f.copy(physical(env, -1));
  // a normal number, and room for it
  const usual = exp
    .sub(1)
    .ltU(max - 1)
    .and(isEmpty(env, register));
  f.if(
    usual,
    () => {
      const sign = bits
        .shrU(fractionBits + exponentBits)
        .i32()
        .shl(15);
      const e = exp.add(EXPONENT_BIAS - bias).or(sign);
      finishClean(f, env, register, { m: bits.shl(drop).or(INTEGER_BIT), e });
      f.store(4, env, FPU.top, register);
      f.ret();
    },
    undefined,
    true,
  );
  const read = { m: f.local('i64'), e: f.local('i32') };
  f.callInto([read.m, read.e], convert, env, value);
  f.run(f.call(push, env, read.m, read.e));
  return f;
}

/** (env, bits) → mantissa, high and flags; a signaling NaN is quieted. */
function emitReadFloat(m: ModuleBuilder, name: string, type: 'i32' | 'i64', convert: FuncRef): FuncRef {
  const f = m.func(name, ['i32', type], ['i64', 'i32']);
  const env = f.param(0);
  const flags = f.copy(f.call(convert, env, f.param(1)));
  const x = { m: f.copy(result(env).m), e: f.copy(result(env).e) };
  const signals = exponentOf(x).eq(EXPONENT_MAX).and(x.m.ne(INTEGER_BIT)).and(x.m.and(QUIET_BIT).eqz());
  f.if(signals, () => {
    f.set(x.m, x.m.or(QUIET_BIT));
    f.set(flags, i32(FSW.IE));
  });
  f.ret(x.m, x.e.or(flags.shl(FLAGS_SHIFT)));
  return f;
}

/** (env, mantissa, high and flags): pushes a number that was read. */
function emitPushFloat(m: ModuleBuilder, core: Core): FuncRef {
  const f = m.func('x87PushFloat', ['i32', 'i64', 'i32'], []);
  const [env, mantissa, high] = [0, 1, 2].map((i) => f.param(i));
  const flags = f.copy(high.shrU(FLAGS_SHIFT));
  setResult(f, env, mantissa, high.and(HIGH_MASK));
  f.run(f.call(core.push, env, flags.and(FSW.IE)));
  // an unmasked denormal-operand exception does not keep the number from being pushed
  f.if(
    flags
      .and(FSW.DE)
      .ne(0)
      .and(
        load('i32_16u', env, FPU.status)
          .and(FSW.SF | FSW.C1)
          .ne(FSW.SF | FSW.C1),
      ),
    () => {
      f.run(f.call(core.status, env, flags, i32(0)));
    },
  );
  return f;
}

/** A normal number that stays one, and the nearest is wanted: i32, is it that? And its bits and flags then, bound. */
export function usualFloat(
  f: FuncBuilder,
  env: Expr,
  x: Ext,
  { exponentBits, drop, bias }: FloatFormat,
): { condition: Expr; convert(): { bits: Expr; flags: Expr } } {
  const fractionBits = 63 - drop;
  // one less than the exponent
  const near = f.copy(exponentOf(x).sub(EXPONENT_BIAS - bias + 1));
  const condition = near
    .ltU((1 << exponentBits) - 3)
    .and(x.m.ltS(0))
    .and(roundingOf(control(env)).eqz());
  const convert = (): { bits: Expr; flags: Expr } => {
    const rest = f.copy(x.m.shl(64 - drop));
    const top = f.copy(x.m.shrU(drop));
    const up = f.copy(roundsUpNearest(top, rest));
    // the integer bit, and what is carried into it, are one more in the exponent
    const sign = signOf(x).shrU(15).shl(exponentBits);
    const head = sign.or(near).i64u().shl(fractionBits);
    const bits = f.copy(head.add(top).add(up.i64u()));
    return { bits, flags: f.copy(rest.ne(0).shl(5).or(up.shl(9))) };
  };
  return { condition, convert };
}

/** (env, mantissa, high) → bits of the smaller format, flags */
function emitToFloat(m: ModuleBuilder, name: string, format: FloatFormat): FuncRef {
  const { exponentBits, drop, bias } = format;
  const fractionBits = 63 - drop;
  const max = (1 << exponentBits) - 1;
  const fractionMask = (1n << BigInt(fractionBits)) - 1n;
  const f = m.func(name, ['i32', 'i64', 'i32'], ['i64', 'i32']);
  const env = f.param(0);
  const x = { m: f.param(1), e: f.param(2) };
  const sign = f.copy(signOf(x).shrU(15));
  const usual = usualFloat(f, env, x, format);
  f.if(
    usual.condition,
    () => {
      const { bits, flags } = usual.convert();
      f.ret(bits, flags);
    },
    undefined,
    true,
  );
  const leave = (fraction: Expr, exp: Expr, flags: Expr): void => {
    const head = sign.shl(exponentBits).or(exp).i64u().shl(fractionBits);
    f.ret(head.or(fraction.and(fractionMask)), flags);
  };
  f.if(isNanOrUnsupported(x), () => {
    f.if(exponentOf(x).ne(EXPONENT_MAX).or(x.m.geS(0)), () => {
      f.set(sign, i32(1));
      leave(i64(QUIET_BIT >> BigInt(drop)), i32(max), i32(FSW.IE));
    });
    leave(x.m.or(QUIET_BIT).shrU(drop), i32(max), x.m.and(QUIET_BIT).eqz());
  });
  f.if(exponentOf(x).eq(EXPONENT_MAX), () => leave(i64(0), i32(max), i32(0)));
  f.if(isZero(x), () => leave(i64(0), i32(0), i32(0)));
  const n = unpack(f, x);
  const cw = f.copy(control(env));
  const rounding = f.copy(roundingOf(cw));
  const unit = 1n << BigInt(drop);
  const exp = f.copy(n.exp.sub(EXPONENT_BIAS - bias));
  const flags = f.copy(i32(0));
  const tiny = f.copy(i32(0));
  const denormal = f.copy(i32(0));
  const low = f.copy(i64(0));
  const decide = (): { rest: Expr; up: Expr } => {
    const rest = f.let(n.m.shl(64 - drop).or(low));
    return { rest, up: f.let(roundsUp(rounding, sign, rest, n.m.and(unit).ne(0))) };
  };
  f.if(exp.leS(0), () => {
    const { up } = decide();
    const last = n.m
      .or(unit - 1n)
      .eq(-1n)
      .and(up);
    f.set(tiny, exp.ltS(0).or(last.eqz()));
    f.if(tiny.or(cw.and(FSW.UE)), () => {
      const shift = f.let(i64(1).sub(exp.i64s()));
      f.if(
        shift.ltS(64),
        () => {
          f.set(low, n.m.shl(i64(64).sub(shift)).ne(0).i64u());
          f.set(n.m, n.m.shrU(shift));
        },
        () => {
          f.set(low, i64(1));
          f.set(n.m, i64(0));
        },
      );
      f.set(denormal, i32(1));
    });
  });
  const { rest, up } = decide();
  const kept = f.copy(n.m.shrU(drop));
  f.if(up, () => {
    f.set(kept, kept.add(1));
    f.set(flags, i32(FSW.C1));
  });
  f.if(rest.ne(0), () => f.set(flags, flags.or(FSW.PE)));
  f.if(tiny, () => {
    // masked: only an inexact result counts as an underflow; unmasked: nothing is stored
    f.if(cw.and(FSW.UE).eqz(), () => f.ret(i64(0), i32(FSW.UE)));
    f.if(rest.ne(0), () => f.set(flags, flags.or(FSW.UE)));
  });
  f.if(
    denormal,
    () => f.set(exp, kept.shrU(fractionBits).i32()),
    () => {
      f.if(kept.shrU(fractionBits + 1).ne(0), () => {
        f.set(kept, i64(0));
        f.set(exp, exp.add(1));
      });
    },
  );
  f.if(exp.geS(max), () => {
    f.if(cw.and(FSW.OE).eqz(), () => f.ret(i64(0), i32(FSW.OE)));
    const toInfinity = rounding.eqz().or(rounding.eq(sign.select(i32(1), i32(2))));
    f.if(
      toInfinity,
      () => leave(i64(0), i32(max), i32(FSW.OE | FSW.PE | FSW.C1)),
      () => leave(i64(-1n), i32(max - 1), i32(FSW.OE | FSW.PE)),
    );
  });
  leave(kept, exp, flags);
  return f;
}

/** An integer and the fraction (of 2^64) behind it. For a finite number below 2^64 in magnitude. */
function splitInteger(f: FuncBuilder, x: Ext): { integer: Local; rest: Local } {
  const unbiased = f.let(exponentOf(x).sub(EXPONENT_BIAS).i64s());
  const integer = f.copy(i64(0));
  const rest = f.copy(x.m);
  f.if(
    unbiased.geS(0),
    () => {
      f.set(integer, x.m.shrU(i64(63).sub(unbiased)));
      f.set(rest, unbiased.eq(63).select(i64(0), x.m.shl(unbiased.add(1))));
    },
    () => {
      // below one half: something, but less than half
      f.if(unbiased.ltS(-1), () => f.set(rest, x.m.ne(0).i64u()));
    },
  );
  return { integer, rest };
}

/** (env, mantissa, high, bits, truncate) → integer, flags */
function emitToInteger(m: ModuleBuilder): FuncRef {
  const f = m.func('x87ToInteger', ['i32', 'i64', 'i32', 'i32', 'i32'], ['i64', 'i32']);
  const env = f.param(0);
  const x = { m: f.param(1), e: f.param(2) };
  const [bits, truncate] = [f.param(3), f.param(4)];
  const sign = f.copy(signOf(x));
  const limit = f.copy(i64(1).shl(bits.sub(1).i64u()));
  const invalid = (): void => f.ret(i64(0).sub(limit), i32(FSW.IE));
  f.if(isSpecial(x).or(exponentOf(x).gtU(EXPONENT_BIAS + 63)), invalid);
  const { integer, rest } = splitInteger(f, x);
  const rounding = truncate.select(i32(3), roundingOf(control(env)));
  const up = f.copy(roundsUp(f.let(rounding), sign, rest, integer.and(1).ne(0)));
  f.set(integer, integer.add(up.i64u()));
  f.if(integer.gtU(limit).or(integer.eq(limit).and(sign.eqz())), invalid);
  // the addition wrapped round
  f.if(up.and(integer.eqz()), invalid);
  f.ret(sign.select(i64(0).sub(integer), integer), rest.ne(0).shl(5).or(up.shl(9)));
  return f;
}

/** (env, mantissa, high) → flags; ten bytes of packed decimal. */
function emitToBcd(m: ModuleBuilder, toInteger: FuncRef): FuncRef {
  const f = m.func('x87ToBcd', ['i32', 'i64', 'i32'], ['i32']);
  const env = f.param(0);
  const x = { m: f.param(1), e: f.param(2) };
  const flags = f.local('i32');
  const value = f.local('i64');
  f.callInto([value, flags], toInteger, env, x.m, x.e, i32(64), i32(0));
  f.if(value.ltS(0), () => f.set(value, i64(0).sub(value)));
  f.if(flags.and(FSW.IE).ne(0).or(value.gtU(999999999999999999n)), () => {
    setResult(f, env, DEFAULT_NAN_MANTISSA, DEFAULT_NAN_HIGH);
    f.ret(i32(FSW.IE));
  });
  const low = f.copy(i64(0));
  const left = f.copy(i32(16));
  f.loop((again) => {
    f.set(low, low.shrU(4).or(value.remU(10).shl(60)));
    f.set(value, value.divU(10));
    f.set(left, left.sub(1));
    f.brIf(again, left);
  });
  const top = value.remU(10).or(value.divU(10).shl(4)).i32();
  setResult(f, env, low, top.or(signOf(x)));
  f.ret(flags);
  return f;
}

/** Values for an empty register and for masked invalid operations, by FORMAT. */
const INDEFINITE: readonly bigint[] = [
  1n << 15n,
  1n << 31n,
  1n << 63n,
  0xffc00000n,
  0xfff8000000000000n,
  DEFAULT_NAN_MANTISSA,
  DEFAULT_NAN_MANTISSA,
];

interface ToNumbers {
  readonly toInteger: FuncRef;
  readonly toFloat32: FuncRef;
  readonly toFloat64: FuncRef;
}

function emitToMemory(m: ModuleBuilder, { toInteger, toFloat32, toFloat64 }: ToNumbers): FuncRef {
  const toBcd = emitToBcd(m, toInteger);
  const f = m.func('x87ToMemory', ['i32', 'i32', 'i32'], ['i32']);
  const [env, format, truncate] = [0, 1, 2].map((i) => f.param(i));
  const register = f.copy(physical(env, 0));
  f.if(isEmpty(env, register), () => {
    const cases = INDEFINITE.map((value) => () => setResult(f, env, value, DEFAULT_NAN_HIGH));
    f.switch(format, cases, () => f.unreachable());
    f.ret(i32(FSW.IE | FSW.SF));
  });
  const x = readRegister(f, env, register);
  const flags = f.local('i32');
  const by = (function_: FuncRef, ...args: Expr[]): void => {
    f.callInto([x.m, flags], function_, env, x.m, x.e, ...args);
    f.store(8, env, RESULT.mantissa, x.m);
    f.ret(flags);
  };
  f.switch(
    format,
    [
      ...[16, 32, 64].map((bits) => () => by(toInteger, i32(bits), truncate)),
      () => by(toFloat32),
      () => by(toFloat64),
      () => f.ret(f.call(toBcd, env, x.m, x.e)),
      () => {
        setResult(f, env, x.m, x.e);
        f.ret(i32(0));
      },
    ],
    () => f.unreachable(),
  );
  return f;
}

/** (env, mantissa, high) → mantissa, high and flags */
function emitRoundNumber(m: ModuleBuilder, core: Core): FuncRef {
  const f = m.func('x87RoundNumber', ['i32', 'i64', 'i32'], ['i64', 'i32']);
  const env = f.param(0);
  const x = { m: f.param(1), e: f.param(2) };
  f.set(x.e, x.e.and(HIGH_MASK));
  const flags = f.local('i32');
  f.if(isNanOrUnsupported(x), () => {
    f.set(flags, f.call(core.nan, env, x.m, x.e, x.m, x.e));
    const r = result(env);
    f.ret(r.m, r.e.or(flags.shl(FLAGS_SHIFT)));
  });
  f.set(flags, exponentOf(x).eqz().and(x.m.ne(0)).shl(1));
  f.if(
    exponentOf(x)
      .geU(EXPONENT_BIAS + 63)
      .or(isZero(x)),
    () => f.ret(x.m, x.e.or(flags.shl(FLAGS_SHIFT))),
  );
  const { integer, rest } = splitInteger(f, x);
  const sign = f.copy(signOf(x));
  const up = f.copy(roundsUp(f.let(roundingOf(control(env))), sign, rest, integer.and(1).ne(0)));
  f.set(integer, integer.add(up.i64u()));
  f.set(flags, flags.or(rest.ne(0).shl(5)).or(up.shl(9)));
  const shift = f.copy(integer.clz());
  const exp = integer.eqz().select(i32(0), i32(EXPONENT_BIAS + 63).sub(shift.i32()));
  f.ret(integer.shl(shift), exp.or(sign).or(flags.shl(FLAGS_SHIFT)));
  return f;
}

export function emitConversions(m: ModuleBuilder, core: Core): Conversions {
  const fromInteger = emitFromInteger(m);
  const fromFloat32 = emitFromFloat(m, 'x87FromFloat32', FLOATS.float32);
  const fromFloat64 = emitFromFloat(m, 'x87FromFloat64', FLOATS.float64);
  const push = emitPushFloat(m, core);
  const readFloat32 = emitReadFloat(m, 'x87ReadFloat32', 'i32', fromFloat32);
  const readFloat64 = emitReadFloat(m, 'x87ReadFloat64', 'i64', fromFloat64);
  const to = {
    toInteger: emitToInteger(m),
    toFloat32: emitToFloat(m, 'x87ToFloat32', FLOATS.float32),
    toFloat64: emitToFloat(m, 'x87ToFloat64', FLOATS.float64),
  };
  const roundNumber = emitRoundNumber(m, core);
  return {
    fromFloat32,
    fromFloat64,
    fromInteger,
    fromBcd: emitFromBcd(m, fromInteger),
    readFloat32,
    readFloat64,
    loadFloat32: emitLoadFloat(m, 'x87LoadFloat32', FLOATS.float32, readFloat32, push),
    loadFloat64: emitLoadFloat(m, 'x87LoadFloat64', FLOATS.float64, readFloat64, push),
    ...to,
    toMemory: emitToMemory(m, to),
    roundNumber,
    roundToInteger: emitUnary(m, core, 'x87RoundToInteger', roundNumber),
  };
}
