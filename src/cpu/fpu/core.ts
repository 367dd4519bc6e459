/**
 * The base of the generated x87 functions: how an 80-bit number is taken apart, rounded, checked for NaNs and
 * put back. Source: Intel SDM vol. 1, chapter 4 and 8.
 *
 * A number travels as an i64 mantissa and an i32 with sign and exponent (bits 15..0). Functions leave their result
 * in `env.scratch[0]` (mantissa) and `env.scratch[1]` and return the status bits they raise: exceptions, SF, C1
 * and, for comparisons, C0, C2, C3. `finish` then turns those bits into status, result and pop as the masks ask. Functions
 * of numbers alone return both: mantissa, and sign and exponent with the status bits above them (`FLAGS_SHIFT`).
 */
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
import { CpuEnv } from '../env.ts';
import { longDivision } from '../sem/division.ts';
import {
  DEFAULT_NAN_HIGH,
  DEFAULT_NAN_MANTISSA,
  EXCEPTIONS,
  EXPONENT_MAX,
  FPU,
  FSW,
  INTEGER_BIT,
  QUIET_BIT,
  SIGN_BIT,
} from './layout.ts';

const SCRATCH = CpuEnv.offsetOf('scratch');
/** Env offsets of a function's result; a second one for FXTRACT and FSINCOS. */
export const RESULT = {
  mantissa: SCRATCH,
  high: SCRATCH + 8,
  mantissa2: SCRATCH + 16,
  high2: SCRATCH + 24,
} as const;

/** Of a number that a function returns, the status bits that were raised are so far above sign and exponent. */
export const FLAGS_SHIFT = 16;
/** What is sign and exponent then. */
export const HIGH_MASK = 0xffff;

/** Added to (underflow) or taken from (overflow) the exponent of a result when the exception is unmasked. */
const EXPONENT_ADJUST = 24576;
/** Exceptions found before the operation: unmasked, they leave all operands alone. */
const BEFORE = FSW.IE | FSW.DE | FSW.ZE;

/** A number as two expressions. */
export interface Ext {
  /** i64 */
  readonly m: Expr;
  /** i32: sign bit 15, exponent 14..0. */
  readonly e: Expr;
}

export function exponentOf(x: Ext): Expr {
  return x.e.and(EXPONENT_MAX);
}
export function signOf(x: Ext): Expr {
  return x.e.and(SIGN_BIT);
}
/** i32: nonzero when the exponent is that of a normal number. */
export function hasNormalExponent(x: Ext): Expr {
  return x.e.add(1).and(EXPONENT_MAX - 1);
}
/** Nonzero exponent without the integer bit: unnormal, pseudo-infinity, pseudo-NaN. */
export function isUnsupported(x: Ext): Expr {
  return exponentOf(x).ne(0).and(x.m.geS(0));
}
export function isNanOrUnsupported(x: Ext): Expr {
  const max = exponentOf(x).eq(EXPONENT_MAX);
  return isUnsupported(x).or(max.and(x.m.ne(INTEGER_BIT)));
}
/** With an exponent field of all ones, and not unsupported or NaN. */
export function isInfinity(x: Ext): Expr {
  return exponentOf(x)
    .eq(EXPONENT_MAX)
    .and(x.m.eq(i64(INTEGER_BIT)));
}
export function isZero(x: Ext): Expr {
  return exponentOf(x).i64u().or(x.m).eqz();
}
/** Denormal or pseudo-denormal. */
export function isDenormal(x: Ext): Expr {
  return exponentOf(x).eqz().and(x.m.ne(0));
}
/** FSW.DE when any of the numbers is denormal. */
export function denormalFlag(...numbers: Ext[]): Expr {
  return numbers
    .map(isDenormal)
    .reduce((a, b) => a.or(b))
    .shl(1);
}
/** Needs care: infinite, NaN or unsupported. */
export function isSpecial(x: Ext): Expr {
  return exponentOf(x).eq(EXPONENT_MAX).or(isUnsupported(x));
}

export function setResult(f: FuncBuilder, env: Expr, m: Expr | bigint, e: Expr | number): void {
  f.store(8, env, RESULT.mantissa, typeof m === 'bigint' ? i64(m) : m);
  f.store(4, env, RESULT.high, typeof e === 'number' ? i32(e) : e);
}
export function setDefaultNan(f: FuncBuilder, env: Expr): void {
  setResult(f, env, DEFAULT_NAN_MANTISSA, DEFAULT_NAN_HIGH);
}
/** Invalid operation: the default NaN. Returns. */
export function retInvalid(f: FuncBuilder, env: Expr): void {
  setDefaultNan(f, env);
  f.ret(i32(FSW.IE));
}
export function result(env: Expr): Ext {
  return { m: load('i64', env, RESULT.mantissa), e: load('i32', env, RESULT.high) };
}

/** A number whose denormal form is made normal: exponent (i32, may be ≤ 0) and mantissa with its top bit set, or 0. */
export interface Unpacked {
  readonly exp: Local;
  readonly m: Local;
}
export function unpack(f: FuncBuilder, x: Ext): Unpacked {
  const exp = f.copy(exponentOf(x));
  const m = f.copy(x.m);
  f.if(exp.eqz(), () => {
    // a zero gets an exponent below all others
    const shift = f.let(m.clz());
    f.set(exp, i32(1).sub(shift.i32()));
    f.set(m, m.shl(shift));
  });
  return { exp, m };
}

export interface Core {
  /**
   * (env, sign, exponent, mantissa, low, drop): rounds mantissa·2^64 + low, whose top bit is set, to 64 - drop bits
   * as the control word says.
   */
  readonly round: FuncRef;
  /** (env, a mantissa, a high, b mantissa, b high): the result when a or b is a NaN or unsupported. */
  readonly nan: FuncRef;
  /** (env, flags, physical register, pops): status, result, pops. */
  readonly finish: FuncRef;
  /** (env, flags): as `finish`, onto the stack; its overflow is found here. */
  readonly push: FuncRef;
  /** (env, flags, pops): status and pops of an instruction that leaves no register result. */
  readonly status: FuncRef;
  /** (env, hi, lo, divisor with its top bit set, hi < divisor) → quotient; the remainder in RESULT.mantissa. */
  readonly div128: FuncRef;
}

export function control(env: Expr): Expr {
  return load('i32_16u', env, FPU.control);
}
/** i32 0..3: nearest, down, up, toward zero. */
export function roundingOf(controlWord: Expr): Expr {
  return controlWord.shrU(10).and(3);
}

/** i32 0/1: is the magnitude to be increased? `rest` is what is cut off, as a fraction of 2^64. */
export function roundsUp(rounding: Expr, sign: Expr, rest: Expr, odd: Expr): Expr {
  const nearest = rest.ltS(0).and(rest.shl(1).ne(0).or(odd));
  const directed = rest.ne(0).and(rounding.eq(sign.select(i32(1), i32(2))));
  return rounding.eqz().select(nearest, directed);
}

/** i32 0/1: more than half of 2^64 is cut off, or half of an odd mantissa. */
export function roundsUpNearest(m: Expr, low: Expr): Expr {
  return low.gtU(i64(INTEGER_BIT).sub(m.and(1)));
}

function emitRound(m: ModuleBuilder): FuncRef {
  const f = m.func('x87Round', ['i32', 'i32', 'i32', 'i64', 'i64', 'i32'], ['i32']);
  const [env, sign, exp, hi, low, drop] = [0, 1, 2, 3, 4, 5].map((i) => f.param(i));
  const cw = f.copy(control(env));
  const rounding = f.copy(roundingOf(cw));
  const unit = f.copy(i64(1).shl(drop.i64u()));
  const flags = f.copy(i32(0));
  const rest = f.local('i64');
  const up = f.local('i32');
  const decide = (): void => {
    const cut = hi.shl(i64(64).sub(drop.i64u())).or(low.ne(0).i64u());
    f.set(rest, low);
    f.if(drop, () => f.set(rest, cut));
    f.set(up, roundsUp(rounding, sign, rest, hi.and(unit).ne(0)));
  };
  const denormal = f.copy(i32(0));
  const tiny = f.copy(i32(0));
  f.if(
    exp.leS(0),
    () => {
      decide();
      // tiny after rounding with an unbounded exponent
      const last = hi.or(unit.sub(1)).eq(-1n).and(up);
      f.set(tiny, exp.ltS(0).or(last.eqz()));
      f.if(
        cw.and(FSW.UE),
        () => {
          const shift = f.let(i64(1).sub(exp.i64s()));
          const sticky = f.let(low.ne(0).i64u());
          f.if(
            shift.ltS(64),
            () => {
              f.set(low, hi.shl(i64(64).sub(shift)).or(sticky));
              f.set(hi, hi.shrU(shift));
            },
            () => {
              f.set(low, shift.eq(64).select(hi.or(sticky), i64(1)));
              f.set(hi, i64(0));
            },
          );
          f.set(exp, i32(0));
          f.set(denormal, i32(1));
        },
        () => {
          f.if(exp.leS(-EXPONENT_ADJUST), () => {
            // too far off even for the adjusted exponent (FSCALE)
            setResult(f, env, 0n, sign);
            f.ret(i32(FSW.UE | FSW.PE));
          });
          f.if(tiny, () => {
            f.set(exp, exp.add(EXPONENT_ADJUST));
            f.set(flags, i32(FSW.UE));
          });
        },
      );
    },
    undefined,
    false,
  );
  decide();
  const inexact = f.let(rest.ne(0));
  f.set(hi, hi.and(i64(0).sub(unit)));
  f.if(up, () => {
    f.set(hi, hi.add(unit));
    f.set(flags, flags.or(FSW.C1));
    f.if(hi.eqz(), () => {
      f.set(hi, i64(INTEGER_BIT));
      f.set(exp, exp.add(1));
    });
  });
  f.if(inexact, () => f.set(flags, flags.or(FSW.PE)));
  f.if(denormal, () => {
    f.set(exp, hi.ltS(0));
    f.if(inexact.and(tiny), () => f.set(flags, flags.or(FSW.UE)));
  });
  f.if(
    exp.geS(EXPONENT_MAX),
    () => {
      f.set(flags, flags.or(FSW.OE));
      f.if(
        cw.and(FSW.OE),
        () => {
          f.set(flags, flags.and(~FSW.C1).or(FSW.PE));
          f.if(
            rounding.eqz().or(rounding.eq(sign.select(i32(1), i32(2)))),
            () => {
              f.set(exp, i32(EXPONENT_MAX));
              f.set(hi, i64(INTEGER_BIT));
              f.set(flags, flags.or(FSW.C1));
            },
            () => {
              f.set(exp, i32(EXPONENT_MAX - 1));
              f.set(hi, i64(0).sub(unit));
            },
          );
        },
        () => {
          f.set(exp, exp.sub(EXPONENT_ADJUST));
          f.if(exp.geS(EXPONENT_MAX), () => {
            setResult(f, env, INTEGER_BIT, sign.or(EXPONENT_MAX));
            f.ret(i32(FSW.OE | FSW.PE | FSW.C1));
          });
        },
      );
    },
    undefined,
    false,
  );
  setResult(f, env, hi, exp.or(sign));
  f.ret(flags);
  return f;
}

function emitNan(m: ModuleBuilder): FuncRef {
  const f = m.func('x87Nan', ['i32', 'i64', 'i32', 'i64', 'i32'], ['i32']);
  const env = f.param(0);
  const a: Ext = { m: f.param(1), e: f.param(2) };
  const b: Ext = { m: f.param(3), e: f.param(4) };
  f.if(isUnsupported(a).or(isUnsupported(b)), () => retInvalid(f, env));
  const nan = (x: Ext): Expr => f.let(exponentOf(x).eq(EXPONENT_MAX).and(x.m.ne(INTEGER_BIT)));
  const aNan = nan(a);
  const bNan = nan(b);
  const aSignals = f.let(aNan.and(a.m.and(QUIET_BIT).eqz()));
  const bSignals = f.let(bNan.and(b.m.and(QUIET_BIT).eqz()));
  const flags = f.let(aSignals.or(bSignals));
  // two NaNs: a quiet one before a signaling one, else the larger mantissa, else the positive one
  const pickA = f.copy(aNan);
  f.if(aNan.and(bNan), () => {
    f.if(
      aSignals.ne(bSignals),
      () => f.set(pickA, bSignals),
      () => f.set(pickA, a.m.gtU(b.m).or(a.m.eq(b.m).and(signOf(a).leU(signOf(b))))),
    );
  });
  setResult(f, env, pickA.select(a.m, b.m).or(QUIET_BIT), pickA.select(a.e, b.e));
  f.ret(flags);
  return f;
}

/** Sets the status word from `flags`; gives (bound) the exceptions among them that are unmasked. C0, C2, C3 are or-ed in. */
function updateStatus(f: FuncBuilder, env: Expr, flags: Expr, kept: number): Expr {
  const unmasked = f.let(flags.and(control(env).xor(-1)).and(EXCEPTIONS));
  const status = f.copy(load('i32_16u', env, FPU.status).and(0xffff & ~FSW.C1));
  f.if(
    unmasked,
    () => {
      f.if(
        unmasked.and(BEFORE),
        () => {
          // C1 tells overflow from underflow of the stack; it is that of no rounding
          const overflowed = flags.and(FSW.SF).shl(3).and(flags);
          f.set(status, status.or(flags.and(BEFORE | FSW.SF)).or(overflowed));
        },
        () => f.set(status, status.or(flags.and(kept))),
      );
      f.set(status, status.or(FSW.ES | FSW.B));
    },
    () => f.set(status, status.or(flags.and(kept))),
    false,
  );
  f.store(2, env, FPU.status, status);
  return unmasked;
}

export const RESULT_FLAGS = EXCEPTIONS | FSW.SF | FSW.C1;

/** Wasm address of physical register `n` (i32), less FPU.regs. */
export function registerAddress(env: Expr, n: Expr): Expr {
  return env.add(n.shl(4));
}
/** Physical number of ST(i). */
export function physical(env: Expr, i: Expr | number): Expr {
  return load('i32', env, FPU.top).add(i).and(7);
}
/** i32 0/1 */
export function isEmpty(env: Expr, n: Expr): Expr {
  return load('i32_8u', env, FPU.tags).shrU(n).and(1).eqz();
}
export function readRegister(f: FuncBuilder, env: Expr, n: Expr): { m: Local; e: Local } {
  const at = f.let(registerAddress(env, n));
  return { m: f.copy(load('i64', at, FPU.regs)), e: f.copy(load('i32_16u', at, FPU.regs + 8)) };
}
export function writeRegister(f: FuncBuilder, env: Expr, n: Expr, value: Ext): void {
  const at = f.let(registerAddress(env, n));
  f.store(8, at, FPU.regs, value.m);
  f.store(2, at, FPU.regs + 8, value.e);
  f.store(1, env, FPU.tags, load('i32_8u', env, FPU.tags).or(i32(1).shl(n)));
}
/** `finish` of a result without flags. */
export function finishClean(f: FuncBuilder, env: Expr, n: Expr, value: Ext): void {
  f.store(2, env, FPU.status, load('i32_16u', env, FPU.status).and(0xffff & ~FSW.C1));
  writeRegister(f, env, n, value);
}
/** Pops `count` (0..2) registers. */
export function pop(f: FuncBuilder, env: Expr, count: Expr): void {
  f.if(count, () => {
    const top = f.copy(load('i32', env, FPU.top));
    // a run of `count` ones, rotated to the top's place within 8 bits
    const ones = f.let(i32(1).shl(count).sub(1).shl(top));
    const freed = ones.or(ones.shrU(8));
    f.store(1, env, FPU.tags, load('i32_8u', env, FPU.tags).and(freed.xor(-1)));
    f.store(4, env, FPU.top, top.add(count).and(7));
  });
}

function emitFinish(m: ModuleBuilder): FuncRef {
  const f = m.func('x87Finish', ['i32', 'i32', 'i32', 'i32'], []);
  const [env, flags, register, pops] = [0, 1, 2, 3].map((i) => f.param(i));
  const unmasked = updateStatus(f, env, flags, RESULT_FLAGS | FSW.C0 | FSW.C2 | FSW.C3);
  f.if(unmasked.and(BEFORE), () => f.ret(), undefined, false);
  writeRegister(f, env, register, result(env));
  pop(f, env, pops);
  return f;
}

function emitPush(m: ModuleBuilder, finish: FuncRef): FuncRef {
  const f = m.func('x87Push', ['i32', 'i32'], []);
  const [env, flags] = [f.param(0), f.param(1)];
  const register = f.copy(physical(env, -1));
  f.if(
    isEmpty(env, register).and(flags.eqz()),
    () => {
      finishClean(f, env, register, result(env));
      f.store(4, env, FPU.top, register);
      f.ret();
    },
    undefined,
    true,
  );
  f.if(
    isEmpty(env, register).eqz(),
    () => {
      setDefaultNan(f, env);
      f.set(flags, i32(FSW.IE | FSW.SF | FSW.C1));
    },
    undefined,
    false,
  );
  f.run(f.call(finish, env, flags, register, i32(0)));
  const stopped = flags.and(control(env).xor(-1)).and(BEFORE);
  f.if(stopped.eqz(), () => f.store(4, env, FPU.top, register), undefined, true);
  return f;
}

function emitStatus(m: ModuleBuilder): FuncRef {
  const f = m.func('x87Status', ['i32', 'i32', 'i32'], []);
  const [env, flags, pops] = [0, 1, 2].map((i) => f.param(i));
  const unmasked = updateStatus(f, env, flags, RESULT_FLAGS);
  // a store to memory does not happen either after an overflow or underflow
  f.if(unmasked.and(EXCEPTIONS & ~FSW.PE).eqz(), () => pop(f, env, pops));
  return f;
}

function emitDiv128(m: ModuleBuilder): FuncRef {
  const f = m.func('x87Div128', ['i32', 'i64', 'i64', 'i64'], ['i64']);
  const [env, hi, lo, d] = [0, 1, 2, 3].map((i) => f.param(i));
  const quotient = longDivision(f, hi, lo, d);
  f.store(8, env, RESULT.mantissa, hi);
  f.ret(quotient);
  return f;
}

/** (env): ST(0) = f(ST(0)), by a function of a number: (env, mantissa, high) → mantissa, high and flags. */
export function emitUnary(m: ModuleBuilder, core: Core, name: string, number: FuncRef): FuncRef {
  const f = m.func(name, ['i32'], []);
  const env = f.param(0);
  const register = f.copy(physical(env, 0));
  const flags = f.copy(i32(FSW.IE | FSW.SF));
  f.if(
    isEmpty(env, register),
    () => setDefaultNan(f, env),
    () => {
      const x = readRegister(f, env, register);
      f.callInto([x.m, x.e], number, env, x.m, x.e);
      setResult(f, env, x.m, x.e.and(HIGH_MASK));
      f.set(flags, x.e.shrU(FLAGS_SHIFT));
    },
    false,
  );
  f.run(f.call(core.finish, env, flags, register, i32(0)));
  return f;
}

export function emitCore(m: ModuleBuilder): Core {
  const finish = emitFinish(m);
  return {
    round: emitRound(m),
    nan: emitNan(m),
    finish,
    push: emitPush(m, finish),
    status: emitStatus(m),
    div128: emitDiv128(m),
  };
}
