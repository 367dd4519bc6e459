/**
 * Deferred flags: a number for the operation that set the flags last, and its operands, in place of the three lazy
 * words. Regions of tier 1 keep flags so: most are never asked for, and to remember operands costs nothing. In the
 * env (`flagKind`, `flagA`, `flagB`) they may be found between a region's exit and the next region or tier 0, which
 * turns them into words; nobody else sees them.
 */
import { type Expr, type FuncBuilder, i32, i64, load } from '../../wasm/index.ts';
import { CpuEnv } from '../env.ts';
import { productOverflows } from './product.ts';

/** Bits 0..3 of a kind; bits 4..5 are log2 of the operand size, bit 8 the carry in of ADD and SUB. 0: the words are valid. */
export const DEFERRED = {
  /** a + b */
  ADD: 1,
  /** a - b */
  SUB: 2,
  /** a: result of AND, OR, XOR, TEST */
  LOGIC: 3,
  /** a: result; b: CF, which is kept */
  INC: 4,
  DEC: 5,
  /** a: result; b: CF, OF in bits 0, 1 */
  EXPLICIT: 6,
  /** a: the flags as EFLAGS has them */
  IMAGE: 7,
  /** a * b, signed and truncated */
  PRODUCT: 8,
} as const;
export const DEFERRED_CARRY_SHIFT = 8;

export function deferredKind(operation: number, size: number): number {
  return operation | (Math.log2(size) << 4);
}

export const FLAG_WORDS = {
  res: CpuEnv.offsetOf('flagRes'),
  carry: CpuEnv.offsetOf('flagCarry'),
  aux: CpuEnv.offsetOf('flagAux'),
  kind: CpuEnv.offsetOf('flagKind'),
  a: CpuEnv.offsetOf('flagA'),
  b: CpuEnv.offsetOf('flagB'),
} as const;

/** Emits the body of a function (env): deferred flags in the env become lazy words there. */
export function emitFlagWords(f: FuncBuilder, env: Expr): void {
  const kind = f.copy(load('i32', env, FLAG_WORDS.kind));
  const a = f.copy(load('i64', env, FLAG_WORDS.a));
  const b = f.copy(load('i64', env, FLAG_WORDS.b));
  // operands moved so that their top bit is bit 63
  const shift = f.copy(i64(64).sub(i64(8).shl(kind.shrU(4).and(3).i64u())));
  const put = (result: Expr, carry: Expr, aux: Expr): void => {
    f.store(8, env, FLAG_WORDS.res, result);
    f.store(8, env, FLAG_WORDS.carry, carry);
    f.store(4, env, FLAG_WORDS.aux, aux);
  };
  const carryBits = (cf: Expr, of: Expr): Expr => cf.shl(63).or(cf.xor(of).shl(62));
  const narrow = (v: Expr): Expr => v.shl(shift).shrS(shift);
  const sum = (subtract: boolean): void => {
    const x = f.let(a.shl(shift));
    const y = f.let(b.shl(shift));
    const c = f.let(kind.shrU(DEFERRED_CARRY_SHIFT).and(1).i64u().shl(shift));
    const r = f.let(subtract ? x.sub(y).sub(c) : x.add(y).add(c));
    const notX = x.xor(-1);
    const carry = subtract ? notX.and(y).or(notX.or(y).and(r)) : x.and(y).or(x.or(y).and(r.xor(-1)));
    put(r.shrS(shift), carry, a.xor(b).i32().and(0x10));
  };
  const step = (down: boolean): void => {
    const edge = down
      ? i64((1n << 63n) - 1n)
          .shrU(shift)
          .shl(shift)
      : i64(-(1n << 63n));
    const of = f.let(a.shl(shift).eq(edge).i64u());
    const old = down ? a.add(1) : a.sub(1);
    put(narrow(a), carryBits(b, of), old.i32().and(0x10));
  };
  const cases: (() => void)[] = [];
  cases[0] = () => {};
  cases[DEFERRED.ADD] = () => sum(false);
  cases[DEFERRED.SUB] = () => sum(true);
  cases[DEFERRED.LOGIC] = () => put(narrow(a), i64(0), i32(0));
  cases[DEFERRED.INC] = () => step(false);
  cases[DEFERRED.DEC] = () => step(true);
  cases[DEFERRED.EXPLICIT] = () => {
    const result = f.let(narrow(a));
    put(result, carryBits(f.let(b.and(1)), b.shrU(1).and(1)), result.i32().and(0x10));
  };
  cases[DEFERRED.PRODUCT] = () => {
    const x = f.let(narrow(a));
    const y = f.let(narrow(b));
    const product = f.let(x.mul(y));
    const result = f.let(narrow(product));
    const high = productOverflows(f, 8, x, y, product);
    const lost = f.let(high.or(product.ne(result)).i64u());
    put(result, carryBits(lost, lost), result.i32().and(0x10));
  };
  cases[DEFERRED.IMAGE] = () => {
    const bit = (n: number): Expr => f.let(a.shrU(n).and(1));
    const zf = bit(6);
    // the result is 0 (ZF, even parity) or 1 (odd): see FlagEmitter.setAll
    const aux = f.let(bit(2).xor(zf).shl(8).or(bit(4).shl(4)).or(bit(7).shl(16)));
    put(zf.xor(1), carryBits(bit(0), bit(11)), aux.i32());
  };
  f.switch(kind.and(15), cases, () => f.unreachable());
  f.store(4, env, FLAG_WORDS.kind, i32(0));
}
