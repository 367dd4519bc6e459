/**
 * Emits code that sets and tests the lazy flags (representation: `CpuEnv.flagRes/flagCarry/flagAux`).
 * Where the three words live (wasm locals or the env) is the storage's business.
 */
import { Expr, type FuncBuilder, i32, i64, type Local } from '../../wasm/index.ts';
import { productOverflows } from './product.ts';

/** The three lazy words, and EFLAGS' other bits. */
export interface FlagStorage {
  /** i64 */
  res(): Expr;
  /** i64 */
  carry(): Expr;
  /** i32 */
  aux(): Expr;
  setRes(v: Expr): void;
  setCarry(v: Expr): void;
  setAux(v: Expr): void;
}

/** Condition numbers as encoded in Jcc, SETcc, CMOVcc. */
export const COND = {
  O: 0, NO: 1, B: 2, AE: 3, E: 4, NE: 5, BE: 6, A: 7,
  S: 8, NS: 9, P: 10, NP: 11, L: 12, GE: 13, LE: 14, G: 15,
} as const; // prettier-ignore

const SIGN = 1n << 63n;

export class FlagEmitter {
  protected readonly f: FuncBuilder;
  private readonly s: FlagStorage;
  /** False when nothing reads the flags before they are set again: setters emit nothing. */
  live: boolean;

  constructor(f: FuncBuilder, storage: FlagStorage, live: boolean) {
    this.f = f;
    this.s = storage;
    this.live = live;
  }

  /** What is emitted by `body` sets no flags. */
  muted<T>(body: () => T): T {
    const { live } = this;
    this.live = false;
    const result = body();
    this.live = live;
    return result;
  }

  /** The result sign-extended from `size` bytes to 64 bits. */
  private result(r: Expr, size: number): Expr {
    if (size === 8) return r;
    return r.type === 'i64' ? r.sext(size * 8) : r.sext(size * 8).i64s();
  }
  /** A carry vector of `size` bytes moved so that its top bit is bit 63. */
  private vector(v: Expr, size: number): Expr {
    return size === 8 ? v : v.i64u().shl(64 - size * 8);
  }

  /** r = a + b (+ `carryIn`, 0 or 1, i32 or i64, bound). Operands i32 (size ≤ 4; bits above the size are ignored) or i64 (size 8), bound. */
  add(size: number, a: Expr, b: Expr, r: Expr, _carryIn?: Expr): void {
    if (!this.live) return;
    this.s.setCarry(this.vector(a.and(b).or(a.or(b).and(r.xor(-1))), size));
    this.s.setAux(a.xor(b).i32().and(0x10));
    this.s.setRes(this.result(r, size));
  }
  /** r = a - b (- borrow in). */
  sub(size: number, a: Expr, b: Expr, r: Expr, _carryIn?: Expr): void {
    if (!this.live) return;
    const notA = this.f.let(a.xor(-1));
    this.s.setCarry(this.vector(notA.and(b).or(notA.or(b).and(r)), size));
    this.s.setAux(a.xor(b).i32().and(0x10));
    this.s.setRes(this.result(r, size));
  }
  /** AND, OR, XOR, TEST: CF = OF = 0. AF is undefined. */
  logic(size: number, r: Expr): void {
    if (!this.live) return;
    this.s.setCarry(i64(0));
    this.s.setAux(i32(0));
    this.s.setRes(this.result(r, size));
  }
  /** INC (`down` false) or DEC: CF is kept. `a` is the old value, `r` the new one. */
  incDec(size: number, a: Expr, r: Expr, down: boolean): void {
    if (!this.live) return;
    const top = 1n << BigInt(size * 8 - 1);
    const edge = down ? top - 1n : -top;
    const res = this.f.let(this.result(r, size));
    const cf = this.f.let(this.s.carry().and(SIGN));
    const of = res.eq(i64(edge)).i64u().shl(62);
    this.s.setCarry(cf.or(cf.shrU(1).xor(of)));
    this.s.setAux(a.i32().and(0x10));
    this.s.setRes(res);
  }
  /** SF, ZF, PF from `r`; CF and OF given as i32 0/1. AF cleared. */
  explicit(size: number, r: Expr, cf: Expr, of: Expr): void {
    if (!this.live) return;
    this.carryOverflow(cf, of);
    const res = this.f.let(this.result(r, size));
    this.s.setAux(res.i32().and(0x10));
    this.s.setRes(res);
  }
  /** Of IMUL with a truncated product `low`: CF = OF = something is lost; SF, ZF, PF, undefined, follow `low`. */
  product(size: number, a: Expr, b: Expr, low: Expr): void {
    if (!this.live) return;
    const lost = this.f.let(productOverflows(this.f, size, a, b, low));
    this.explicit(size, low, lost, lost);
  }
  private carryOverflow(cf: Expr, of: Expr): void {
    const c = this.f.let(cf);
    this.s.setCarry(c.i64u().shl(63).or(c.xor(of).i64u().shl(62)));
  }
  /** Changes CF alone (i32 0/1). */
  setCarryFlag(cf: Expr): void {
    if (!this.live) return;
    this.carryOverflow(cf, this.f.let(this.overflow()));
  }
  /** Changes CF and OF alone (i32 0/1 each): rotates. */
  setCarryOverflow(cf: Expr, of: Expr): void {
    if (!this.live) return;
    this.carryOverflow(cf, of);
  }
  /** Sets all six from i32 0/1 expressions; used by COMISS, PTEST, BSF … (absent: 0). */
  setAll(flags: { cf?: Expr; pf?: Expr; af?: Expr; zf?: Expr; sf?: Expr; of?: Expr }): void {
    if (!this.live) return;
    const zero = i32(0);
    this.carryOverflow(flags.cf ?? zero, flags.of ?? zero);
    // the result is 0 (ZF, even parity) or 1 (odd parity); PF and SF are corrected through aux
    const zf = this.f.let(flags.zf ?? zero);
    const pf = flags.pf ?? zero;
    const flip = pf.xor(zf).shl(8); // natural parity is even exactly when ZF
    this.s.setAux(flip.or((flags.af ?? zero).shl(4)).or((flags.sf ?? zero).shl(16)));
    this.s.setRes(zf.xor(1).i64u());
  }
  /** ZF alone changes (BSF, CMPXCHG8B, LAR …): `zf` i32 0/1. */
  setZero(zf: Expr): void {
    if (!this.live) return;
    const all = {
      cf: this.f.let(this.carry()),
      pf: this.f.let(this.parity()),
      af: this.f.let(this.adjust()),
      sf: this.f.let(this.sign()),
      of: this.f.let(this.overflow()),
      zf: this.f.let(zf),
    };
    this.setAll(all);
  }

  /** Each gives an i32 0/1. */
  carry(): Expr {
    return this.s.carry().ltS(0);
  }
  zero(): Expr {
    return this.s.res().eqz();
  }
  sign(): Expr {
    return this.s.res().shrU(63).i32().xor(this.s.aux().shrU(16).and(1));
  }
  overflow(): Expr {
    const c = this.s.carry();
    return c.xor(c.shl(1)).ltS(0);
  }
  parity(): Expr {
    return this.s.res().i32().xor(this.s.aux().shrU(8)).and(0xff).popcnt().and(1).eqz();
  }
  adjust(): Expr {
    return this.s.res().i32().xor(this.s.aux()).shrU(4).and(1);
  }

  /** The condition `cc` (0..15) as i32 0/1. */
  condition(cc: number): Expr {
    const negate = (cc & 1) !== 0;
    const e = this.positive(cc >> 1);
    return negate ? e.eqz() : e;
  }
  private positive(pair: number): Expr {
    switch (pair) {
      case 0:
        return this.overflow();
      case 1:
        return this.carry();
      case 2:
        return this.zero();
      case 3:
        return this.carry().or(this.zero());
      case 4:
        return this.sign();
      case 5:
        return this.parity();
      case 6:
        return this.sign().xor(this.overflow());
      default:
        return this.sign().xor(this.overflow()).or(this.zero());
    }
  }

  /** The low byte as LAHF and PUSHF store it: CF 1 PF 0 AF 0 ZF SF. */
  lowByte(): Expr {
    return this.carry()
      .or(i32(2))
      .or(this.parity().shl(2))
      .or(this.adjust().shl(4))
      .or(this.zero().shl(6))
      .or(this.sign().shl(7));
  }
  /** Sets CF PF AF ZF SF (and OF where `of` is given) from a flags image. */
  setFromImage(image: Expr, of: Expr): void {
    const v = this.f.let(image);
    const bit = (n: number) => v.shrU(n).and(1);
    this.setAll({ cf: bit(0), pf: bit(2), af: bit(4), zf: bit(6), sf: bit(7), of });
  }
}

/** Lazy words held in the env. */
export class EnvFlagStorage implements FlagStorage {
  private readonly f: FuncBuilder;
  private readonly env: Expr;
  private readonly at: { res: number; carry: number; aux: number };
  private readonly loadOf: (kind: 'i64' | 'i32', addr: Expr, offset: number) => Expr;
  constructor(
    f: FuncBuilder,
    env: Expr,
    at: { res: number; carry: number; aux: number },
    loadOf: (kind: 'i64' | 'i32', addr: Expr, offset: number) => Expr,
  ) {
    this.f = f;
    this.env = env;
    this.at = at;
    this.loadOf = loadOf;
  }
  res(): Expr {
    return this.loadOf('i64', this.env, this.at.res);
  }
  carry(): Expr {
    return this.loadOf('i64', this.env, this.at.carry);
  }
  aux(): Expr {
    return this.loadOf('i32', this.env, this.at.aux);
  }
  setRes(v: Expr): void {
    this.f.store(8, this.env, this.at.res, v);
  }
  setCarry(v: Expr): void {
    this.f.store(8, this.env, this.at.carry, v);
  }
  setAux(v: Expr): void {
    this.f.store(4, this.env, this.at.aux, v);
  }
}

/** Lazy words held in locals. */
export class LocalFlagStorage implements FlagStorage {
  private readonly f: FuncBuilder;
  private readonly locals: { res: Local; carry: Local; aux: Local };
  constructor(f: FuncBuilder, locals: { res: Local; carry: Local; aux: Local }) {
    this.f = f;
    this.locals = locals;
  }
  res(): Expr {
    return this.locals.res;
  }
  carry(): Expr {
    return this.locals.carry;
  }
  aux(): Expr {
    return this.locals.aux;
  }
  setRes(v: Expr): void {
    this.f.set(this.locals.res, v);
  }
  setCarry(v: Expr): void {
    this.f.set(this.locals.carry, v);
  }
  setAux(v: Expr): void {
    this.f.set(this.locals.aux, v);
  }
}
