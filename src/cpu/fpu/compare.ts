/** Generated x87 comparisons and FXAM. Source: Intel SDM vol. 1, 8.3.6; vol. 2, FCOM, FUCOM, FCOMI, FXAM. */
import { type Expr, type FuncRef, i32, load, type ModuleBuilder } from '../../wasm/index.ts';
import {
  type Core,
  denormalFlag,
  exponentOf,
  hasNormalExponent,
  isEmpty,
  isNanOrUnsupported,
  isUnsupported,
  isZero,
  physical,
  readRegister,
  signOf,
} from './core.ts';
import { CONDITION_BITS, EXPONENT_MAX, FPU, FSW, INTEGER_BIT, QUIET_BIT } from './layout.ts';

const UNORDERED = FSW.C0 | FSW.C2 | FSW.C3;

export interface Comparisons {
  /** (env, a mantissa, a high, b mantissa, b high, conversion flags, quiet) → exceptions and condition bits */
  readonly compareNumbers: FuncRef;
  /** (mantissa, high) → condition bits of FXAM */
  readonly examineNumber: FuncRef;
  /** (env, i, quiet, pops): ST(0) with ST(i); `quiet`: a quiet NaN is no invalid operation. */
  readonly compareRegister: FuncRef;
  /** (env, mantissa, high, conversion flags, pops) */
  readonly compareMemory: FuncRef;
  /** (env, i, quiet, pops) → C0, C2, C3 for EFLAGS; those of the status word are kept. */
  readonly compareFlags: FuncRef;
  /** (env) */
  readonly examine: FuncRef;
}

/** (env, a, b, flags, quiet) → exceptions and condition bits. */
function emitCompare(m: ModuleBuilder): FuncRef {
  const f = m.func('x87Compare', ['i32', 'i64', 'i32', 'i64', 'i32', 'i32', 'i32'], ['i32']);
  const a = { m: f.param(1), e: f.param(2) };
  const b = { m: f.param(3), e: f.param(4) };
  const [flags, quiet] = [f.param(5), f.param(6)];
  const signA = f.let(signOf(a));
  // two normal numbers of one sign
  const usual = a.m.and(b.m).ltS(0).and(hasNormalExponent(a).ne(0)).and(hasNormalExponent(b).ne(0));
  f.if(
    usual.and(signA.eq(signOf(b))),
    () => {
      const [ea, eb] = [f.let(exponentOf(a)), f.let(exponentOf(b))];
      const less = ea.ltU(eb).or(ea.eq(eb).and(a.m.ltU(b.m)));
      const equal = ea.eq(eb).and(a.m.eq(b.m));
      f.ret(flags.or(equal.select(i32(FSW.C3), less.ne(signA.ne(0)).shl(8))));
    },
    undefined,
    true,
  );
  f.if(isNanOrUnsupported(a).or(isNanOrUnsupported(b)), () => {
    const invalid = f.copy(quiet.eqz().or(isUnsupported(a)).or(isUnsupported(b)));
    for (const x of [a, b]) {
      const signals = exponentOf(x).eq(EXPONENT_MAX).and(x.m.ne(INTEGER_BIT)).and(x.m.and(QUIET_BIT).eqz());
      f.set(invalid, invalid.or(signals));
    }
    f.ret(invalid.or(UNORDERED));
  });
  f.set(flags, flags.or(denormalFlag(a, b)));
  f.if(isZero(a).and(isZero(b)), () => f.ret(flags.or(FSW.C3)));
  f.if(signA.ne(signOf(b)), () => f.ret(flags.or(signA.select(i32(FSW.C0), i32(0)))));
  // a pseudo-denormal has the value of the smallest normal exponent
  const exponent = (x: typeof a): Expr => exponentOf(x).or(exponentOf(x).eqz().and(x.m.ltS(0)));
  const ea = f.let(exponent(a));
  const eb = f.let(exponent(b));
  f.if(ea.eq(eb).and(a.m.eq(b.m)), () => f.ret(flags.or(FSW.C3)));
  const less = ea.ltS(eb).or(ea.eq(eb).and(a.m.ltU(b.m)));
  f.ret(flags.or(less.ne(signA.ne(0)).shl(8)));
  return f;
}

export function emitComparisons(m: ModuleBuilder, core: Core): Comparisons {
  const compare = emitCompare(m);

  // (env, flags with condition bits, pops): the condition bits are replaced, whatever is unmasked
  const finish = m.func('x87FinishCompare', ['i32', 'i32', 'i32'], []);
  {
    const f = finish;
    const [env, flags, pops] = [0, 1, 2].map((i) => f.param(i));
    const status = load('i32_16u', env, FPU.status).and(0xffff & ~CONDITION_BITS);
    f.store(2, env, FPU.status, status.or(flags.and(CONDITION_BITS)));
    f.run(f.call(core.status, env, flags, pops));
  }

  // (env, i, quiet) → flags of ST(0) with ST(i)
  const registers = m.func('x87CompareRegisters', ['i32', 'i32', 'i32'], ['i32']);
  {
    const f = registers;
    const [env, i, quiet] = [0, 1, 2].map((n) => f.param(n));
    const first = f.copy(physical(env, 0));
    const second = f.copy(physical(env, i));
    f.if(
      isEmpty(env, first).or(isEmpty(env, second)),
      () => f.ret(i32(FSW.IE | FSW.SF | UNORDERED)),
      undefined,
      false,
    );
    const a = readRegister(f, env, first);
    const b = readRegister(f, env, second);
    f.ret(f.call(compare, env, a.m, a.e, b.m, b.e, i32(0), quiet));
  }

  const compareRegister = m.func('x87CompareRegister', ['i32', 'i32', 'i32', 'i32'], []);
  {
    const f = compareRegister;
    const [env, i, quiet, pops] = [0, 1, 2, 3].map((n) => f.param(n));
    f.run(f.call(finish, env, f.call(registers, env, i, quiet), pops));
  }

  const compareMemory = m.func('x87CompareMemory', ['i32', 'i64', 'i32', 'i32', 'i32'], []);
  {
    const f = compareMemory;
    const [env, mantissa, high, flags, pops] = [0, 1, 2, 3, 4].map((n) => f.param(n));
    const register = f.copy(physical(env, 0));
    f.if(
      isEmpty(env, register),
      () => f.set(flags, i32(FSW.IE | FSW.SF | UNORDERED)),
      () => {
        const a = readRegister(f, env, register);
        f.set(flags, f.call(compare, env, a.m, a.e, mantissa, high, flags, i32(0)));
      },
      false,
    );
    f.run(f.call(finish, env, flags, pops));
  }

  const compareFlags = m.func('x87CompareFlags', ['i32', 'i32', 'i32', 'i32'], ['i32']);
  {
    const f = compareFlags;
    const [env, i, quiet, pops] = [0, 1, 2, 3].map((n) => f.param(n));
    const flags = f.copy(f.call(registers, env, i, quiet));
    const c1 = f.copy(load('i32_16u', env, FPU.status).and(FSW.C1));
    f.run(f.call(core.status, env, flags, pops));
    // found on the silicon: C1 is kept
    f.if(flags.and(FSW.SF).eqz(), () => f.store(2, env, FPU.status, load('i32_16u', env, FPU.status).or(c1)));
    f.ret(flags.and(UNORDERED));
  }

  const examineNumber = m.func('x87ExamineNumber', ['i64', 'i32'], ['i32']);
  {
    const f = examineNumber;
    const x = { m: f.param(0), e: f.param(1) };
    const kind = f.copy(i32(FSW.C2));
    const exp = f.let(exponentOf(x));
    f.if(exp.eqz(), () => f.set(kind, x.m.eqz().select(i32(FSW.C3), i32(FSW.C3 | FSW.C2))));
    f.if(exp.eq(EXPONENT_MAX), () =>
      f.set(kind, x.m.eq(INTEGER_BIT).select(i32(FSW.C2 | FSW.C0), i32(FSW.C0))),
    );
    f.if(isUnsupported(x), () => f.set(kind, i32(0)));
    f.ret(kind.or(signOf(x).shrU(6)));
  }

  const examine = m.func('x87Examine', ['i32'], []);
  {
    const f = examine;
    const env = f.param(0);
    const register = f.copy(physical(env, 0));
    const x = readRegister(f, env, register);
    const kind = f.copy(f.call(examineNumber, x.m, x.e));
    // C1 is the sign, of an empty register too
    f.if(isEmpty(env, register), () => f.set(kind, kind.and(FSW.C1).or(FSW.C3 | FSW.C0)));
    const status = load('i32_16u', env, FPU.status).and(0xffff & ~CONDITION_BITS);
    f.store(2, env, FPU.status, status.or(kind));
  }
  return { compareNumbers: compare, examineNumber, compareRegister, compareMemory, compareFlags, examine };
}
