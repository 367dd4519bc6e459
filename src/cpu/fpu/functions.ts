/** All generated x87 functions of a module. */
import { type FuncRef, i32, i64, type ModuleBuilder } from '../../wasm/index.ts';
import { type Arithmetic, emitArithmetic } from './arithmetic.ts';
import { type Comparisons, emitComparisons } from './compare.ts';
import { type Conversions, emitConversions } from './convert.ts';
import {
  control,
  type Core,
  emitCore,
  finishClean,
  isEmpty,
  physical,
  readRegister,
  setDefaultNan,
  setResult,
  writeRegister,
} from './core.ts';
import { DEFAULT_NAN_HIGH, DEFAULT_NAN_MANTISSA, FPU, FSW } from './layout.ts';
import { emitRemainders, type Remainders } from './remainder.ts';
import { emitTranscendental, type Transcendental } from './transcendental.ts';

/** Moves of registers. */
interface Moves {
  /** (env, i): pushes ST(i). */
  readonly load: FuncRef;
  /** (env, i, pops): ST(i) = ST(0). */
  readonly store: FuncRef;
  /** (env, i): the same with a pop, and an empty ST(0) is only popped (D9 D8+i). */
  readonly storeUnchecked: FuncRef;
  /** (env, i): exchanges ST(0) and ST(i). */
  readonly exchange: FuncRef;
  /** (env, i, condition): ST(0) = ST(i) when the condition is nonzero. */
  readonly move: FuncRef;
  /** (env, and-mask, xor-mask): changes the sign of ST(0). */
  readonly sign: FuncRef;
}

export interface X87Functions
  extends Core, Arithmetic, Conversions, Comparisons, Remainders, Moves, Transcendental {}

const UNDERFLOW = FSW.IE | FSW.SF;

function emitMoves(m: ModuleBuilder, core: Core): Moves {
  const load = m.func('x87Load', ['i32', 'i32'], []);
  {
    const f = load;
    const env = f.param(0);
    const source = f.copy(physical(env, f.param(1)));
    f.if(
      isEmpty(env, source),
      () => {
        // found before an overflow of the stack
        setDefaultNan(f, env);
        const register = f.copy(physical(env, -1));
        f.run(f.call(core.finish, env, i32(UNDERFLOW), register, i32(0)));
        f.if(control(env).and(FSW.IE), () => f.store(4, env, FPU.top, register));
      },
      () => {
        const x = readRegister(f, env, source);
        setResult(f, env, x.m, x.e);
        f.run(f.call(core.push, env, i32(0)));
      },
      false,
    );
  }

  const store = m.func('x87Store', ['i32', 'i32', 'i32'], []);
  {
    const f = store;
    const env = f.param(0);
    const source = f.copy(physical(env, 0));
    const flags = f.copy(i32(UNDERFLOW));
    f.if(
      isEmpty(env, source),
      () => setDefaultNan(f, env),
      () => {
        const x = readRegister(f, env, source);
        setResult(f, env, x.m, x.e);
        f.set(flags, i32(0));
      },
      false,
    );
    f.run(f.call(core.finish, env, flags, physical(env, f.param(1)), f.param(2)));
  }

  const storeUnchecked = m.func('x87StoreUnchecked', ['i32', 'i32'], []);
  {
    const f = storeUnchecked;
    const env = f.param(0);
    const source = f.copy(physical(env, 0));
    f.if(isEmpty(env, source).eqz(), () => {
      const x = readRegister(f, env, source);
      writeRegister(f, env, physical(env, f.param(1)), x);
    });
    f.run(f.call(core.status, env, i32(0), i32(1)));
  }

  const exchange = m.func('x87Exchange', ['i32', 'i32'], []);
  {
    const f = exchange;
    const env = f.param(0);
    const first = f.copy(physical(env, 0));
    const second = f.copy(physical(env, f.param(1)));
    const a = readRegister(f, env, first);
    const b = readRegister(f, env, second);
    f.if(
      isEmpty(env, first).or(isEmpty(env, second)).eqz(),
      () => {
        finishClean(f, env, first, b);
        writeRegister(f, env, second, a);
        f.ret();
      },
      undefined,
      true,
    );
    const flags = f.copy(i32(0));
    for (const [n, x] of [
      [first, a],
      [second, b],
    ] as const) {
      // prettier-ignore
      f.if(isEmpty(env, n), () => {
        f.set(flags, i32(UNDERFLOW));
        f.set(x.m, i64(DEFAULT_NAN_MANTISSA));
        f.set(x.e, i32(DEFAULT_NAN_HIGH));
      });
    }
    setResult(f, env, b.m, b.e);
    f.run(f.call(core.finish, env, flags, first, i32(0)));
    const stopped = flags.and(control(env).xor(-1)).and(FSW.IE);
    f.if(stopped.eqz(), () => writeRegister(f, env, second, a));
  }

  const move = m.func('x87Move', ['i32', 'i32', 'i32'], []);
  {
    const f = move;
    const env = f.param(0);
    const first = f.copy(physical(env, 0));
    const second = f.copy(physical(env, f.param(1)));
    const flags = f.copy(i32(0));
    f.if(
      isEmpty(env, first).or(isEmpty(env, second)),
      () => {
        f.set(flags, i32(UNDERFLOW));
        setDefaultNan(f, env);
      },
      () => {
        const x = readRegister(f, env, f.param(2).select(second, first));
        writeRegister(f, env, first, x);
        f.ret();
      },
      false,
    );
    f.run(f.call(core.finish, env, flags, first, i32(0)));
  }

  const sign = m.func('x87Sign', ['i32', 'i32', 'i32'], []);
  {
    const f = sign;
    const env = f.param(0);
    const register = f.copy(physical(env, 0));
    const flags = f.copy(i32(0));
    f.if(
      isEmpty(env, register),
      () => {
        f.set(flags, i32(UNDERFLOW));
        setDefaultNan(f, env);
      },
      () => {
        const x = readRegister(f, env, register);
        setResult(f, env, x.m, x.e.and(f.param(1)).xor(f.param(2)));
      },
      false,
    );
    f.run(f.call(core.finish, env, flags, register, i32(0)));
  }
  return { load, store, storeUnchecked, exchange, move, sign };
}

/** Adds the functions to `m`. They belong before the functions that call them are emitted, in any order. */
export function emitX87Functions(m: ModuleBuilder): X87Functions {
  const core = emitCore(m);
  const conversions = emitConversions(m, core);
  return {
    ...core,
    ...conversions,
    ...emitArithmetic(m, core),
    ...emitComparisons(m, core),
    ...emitRemainders(m, core, conversions.fromInteger),
    ...emitMoves(m, core),
    ...emitTranscendental(m, core),
  };
}
