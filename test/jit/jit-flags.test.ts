import { describe, expect, it } from 'vitest';
import { CpuEnv } from '../../src/cpu/env.ts';
import { emitFlagWords } from '../../src/cpu/sem/deferred-flags.ts';
import { FlagEmitter, LocalFlagStorage } from '../../src/cpu/sem/flag-emitter.ts';
import { constant } from '../../src/cpu/sem/ins.ts';
import { JitFlags } from '../../src/jit/jit-flags.ts';
import { type Expr, type FuncBuilder, type FuncRef, i32, i64, ModuleBuilder } from '../../src/wasm/index.ts';

type Setter = (flags: FlagEmitter, f: FuncBuilder, size: number, a: Expr, b: Expr) => void;

const SETTERS: Readonly<Record<string, Setter>> = {
  add: (flags, f, size, a, b) => flags.add(size, a, b, f.copy(a.add(b))),
  sub: (flags, f, size, a, b) => flags.sub(size, a, b, f.copy(a.sub(b))),
  'sub of a constant': (flags, f, size, a) => {
    const c = constant(size, 0x80);
    flags.sub(size, a, c, f.copy(a.sub(c)));
  },
  neg: (flags, f, size, a) => flags.sub(size, constant(size, 0), a, f.copy(constant(size, 0).sub(a))),
  adc: (flags, f, size, a, b) =>
    flags.add(size, a, b, f.copy(a.add(b).add(constant(size, 1))), constant(size, 1)),
  sbb: (flags, f, size, a, b) =>
    flags.sub(size, a, b, f.copy(a.sub(b).sub(constant(size, 1))), constant(size, 1)),
  and: (flags, f, size, a, b) => flags.logic(size, f.copy(a.and(b))),
  xor: (flags, f, size, a, b) => flags.logic(size, f.copy(a.xor(b))),
  inc: (flags, f, size, a) => flags.incDec(size, a, f.copy(a.add(1)), false),
  dec: (flags, f, size, a) => flags.incDec(size, a, f.copy(a.sub(1)), true),
  'cmp, then CF changed': (flags, f, size, a, b) => {
    flags.sub(size, a, b, f.copy(a.sub(b)));
    flags.setCarryFlag(f.copy(flags.carry().xor(1)));
  },
  'cmp, then CF and OF changed': (flags, f, size, a, b) => {
    flags.sub(size, a, b, f.copy(a.sub(b)));
    flags.setCarryOverflow(f.copy(flags.overflow()), f.copy(flags.carry()));
  },
  'cmp, then ZF changed': (flags, f, size, a, b) => {
    flags.sub(size, a, b, f.copy(a.sub(b)));
    flags.setZero(f.copy(flags.zero().xor(1)));
  },
  'and, then inc': (flags, f, size, a, b) => {
    flags.logic(size, f.copy(a.and(b)));
    flags.incDec(size, b, f.copy(b.add(1)), false);
  },
  'cmp, then dec': (flags, f, size, a, b) => {
    flags.sub(size, a, b, f.copy(a.sub(b)));
    flags.incDec(size, b, f.copy(b.sub(1)), true);
  },
  explicit: (flags, f, size, a) => flags.explicit(size, f.copy(a), i32(1), i32(0)),
};

/** Setters that change some flags only: what they keep is in the words. */
const PARTIAL = new Set(['cmp, then CF changed', 'cmp, then CF and OF changed', 'cmp, then ZF changed']);

type Kind = 'lazy' | 'known' | 'deferred' | 'locals';

/** A function of two values that gives 16 conditions and six single flags as bits. */
function emit(
  m: ModuleBuilder,
  size: number,
  setter: Setter,
  kind: Kind,
  flagWords: FuncRef,
  partial: boolean,
): void {
  const type = size === 8 ? 'i64' : 'i32';
  const f = m.func(kind, [type, type], ['i32']);
  const words = { res: f.local('i64', i64(1)), carry: f.local('i64', i64(0)), aux: f.local('i32', i32(0)) };
  const known = new JitFlags(f, i32(ENV), flagWords);
  const flags = kind === 'lazy' ? new FlagEmitter(f, new LocalFlagStorage(f, words), true) : known;
  // operands as an instruction has them: zero-extended, in locals that change afterwards
  const operands = [f.param(0), f.param(1)].map((p) => f.copy(size < 4 ? p.low(size * 8) : p));
  known.begin(true, true, !partial);
  setter(flags, f, size, operands[0], operands[1]);
  for (const o of operands) f.set(o, o.xor(-1));
  if (kind === 'deferred' || kind === 'locals') {
    known.settle(kind === 'locals');
    known.arrive(kind === 'locals');
    known.beforeReading();
  }
  const bits = f.local('i32', i32(0));
  const put = (n: number, e: Expr): void => f.set(bits, bits.or(e.shl(n)));
  for (let cc = 0; cc < 16; cc++) put(cc, flags.condition(cc));
  [flags.carry(), flags.zero(), flags.sign(), flags.overflow(), flags.parity(), flags.adjust()].forEach(
    (e, n) => put(16 + n, e),
  );
  f.ret(bits);
  m.exportFunc(kind, f);
}
/** Where the functions think the env is. */
const ENV = 1024;

const VALUES = [0n, 1n, 2n, 0x7en, 0x7fn, 0x80n, 0x81n, 0xfen, 0xffn];
function valuesOf(size: number): bigint[] {
  const shift = BigInt(size * 8 - 8);
  const wide = VALUES.flatMap((v) => [v, v << shift, (v << shift) | ((1n << shift) - 1n)]);
  return [...new Set(wide)];
}

describe.each([1, 2, 4, 8])('conditions after an instruction of %i bytes', (size) => {
  it.each(Object.keys(SETTERS))('are those of the lazy flags: %s', (name) => {
    const m = new ModuleBuilder();
    m.importMemory('env', 'memory', 1, 1);
    const flagWords = m.func('flagWords', ['i32'], []);
    emitFlagWords(flagWords, flagWords.param(0));
    const kinds: Kind[] = ['lazy', 'known', 'deferred', 'locals'];
    for (const kind of kinds) emit(m, size, SETTERS[name], kind, flagWords, PARTIAL.has(name));
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(m.build()), { env: { memory } });
    type Flags = (a: number | bigint, b: number | bigint) => number;
    const [lazy, ...others] = kinds.map((kind) => exports[kind] as Flags);
    const values = valuesOf(size).map((v) =>
      size === 8 ? BigInt.asIntN(64, v) : Number(BigInt.asIntN(32, v)),
    );
    for (const a of values) {
      for (const b of values) {
        const expected = lazy(a, b);
        for (const other of others) {
          new BigInt64Array(memory.buffer).fill(0n);
          new BigInt64Array(memory.buffer)[(ENV + CpuEnv.offsetOf('flagRes')) / 8] = 1n;
          const got = other(a, b);
          if (got !== expected)
            expect({ a, b, bits: got.toString(2) }).toEqual({ a, b, bits: expected.toString(2) });
        }
      }
    }
  });
});
