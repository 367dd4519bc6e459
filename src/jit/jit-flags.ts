/**
 * Flags in a region: the three lazy words are wasm locals (V8 drops what nothing reads), and besides it is known at
 * compile time which instruction set them last, so that a condition becomes one comparison of its operands.
 */
import type { Expr, FuncBuilder } from '../wasm/index.ts';
import { FlagEmitter, LocalFlagStorage } from '../cpu/sem/flag-emitter.ts';
import type { Local } from '../wasm/index.ts';

/** What set the flags, with operands that keep their values until the block ends. */
interface Setter {
  readonly kind: 'sub' | 'logic' | 'add' | 'incdec';
  readonly size: number;
  readonly a: Expr;
  readonly b: Expr;
  readonly r: Expr;
}

export class JitFlags extends FlagEmitter {
  private readonly func: FuncBuilder;
  private setter: Setter | undefined;

  constructor(f: FuncBuilder, locals: { res: Local; carry: Local; aux: Local }) {
    super(f, new LocalFlagStorage(f, locals), true);
    this.func = f;
  }

  /** At a point that control reaches from elsewhere, nothing is known. */
  forget(): void {
    this.setter = undefined;
  }

  /** Operands may be register locals, which change later. */
  private keep(e: Expr): Expr {
    return e.isConst ? e : this.func.copy(e);
  }

  override add(size: number, a: Expr, b: Expr, r: Expr, carryIn = false): void {
    super.add(size, a, b, r);
    if (carryIn) return this.forget();
    this.setter = { kind: 'add', size, a: this.keep(a), b: this.keep(b), r: this.keep(r) };
  }
  override sub(size: number, a: Expr, b: Expr, r: Expr, carryIn = false): void {
    super.sub(size, a, b, r);
    if (carryIn) return this.forget();
    this.setter = { kind: 'sub', size, a: this.keep(a), b: this.keep(b), r: this.keep(r) };
  }
  override logic(size: number, r: Expr): void {
    super.logic(size, r);
    this.setter = { kind: 'logic', size, a: r, b: r, r: this.keep(r) };
  }
  override incDec(size: number, a: Expr, r: Expr, down: boolean): void {
    super.incDec(size, a, r, down);
    this.setter = { kind: 'incdec', size, a, b: a, r: this.keep(r) };
  }
  override explicit(size: number, r: Expr, cf: Expr, of: Expr): void {
    super.explicit(size, r, cf, of);
    this.setter = undefined;
  }
  override setCarryFlag(cf: Expr): void {
    super.setCarryFlag(cf);
    this.setter = undefined;
  }
  override setCarryOverflow(cf: Expr, of: Expr): void {
    super.setCarryOverflow(cf, of);
    this.setter = undefined;
  }
  override setAll(flags: Parameters<FlagEmitter['setAll']>[0]): void {
    super.setAll(flags);
    this.setter = undefined;
  }

  /** Low `size` bytes, zero-extended. */
  private unsigned(e: Expr, size: number): Expr {
    return size < 4 ? e.low(size * 8) : e;
  }
  private signed(e: Expr, size: number): Expr {
    return size < 4 ? e.sext(size * 8) : e;
  }

  override condition(cc: number): Expr {
    const s = this.setter;
    if (s === undefined) return super.condition(cc);
    const known = this.known(s, cc >> 1);
    if (known === undefined) return super.condition(cc);
    return (cc & 1) !== 0 ? known.eqz() : known;
  }

  /** The positive condition of a pair (O, B, E, BE, S, P, L, LE) from the setter, where that is simpler. */
  private known(s: Setter, pair: number): Expr | undefined {
    const { size } = s;
    const result = this.unsigned(s.r, size);
    if (pair === 2)
      return s.kind === 'sub' ? this.unsigned(s.a, size).eq(this.unsigned(s.b, size)) : result.eqz();
    if (pair === 4) return this.signed(s.r, size).ltS(0);
    if (s.kind === 'sub') {
      switch (pair) {
        case 1:
          return this.unsigned(s.a, size).ltU(this.unsigned(s.b, size));
        case 3:
          return this.unsigned(s.a, size).leU(this.unsigned(s.b, size));
        case 6:
          return this.signed(s.a, size).ltS(this.signed(s.b, size));
        case 7:
          return this.signed(s.a, size).leS(this.signed(s.b, size));
      }
    }
    if (s.kind === 'logic') {
      switch (pair) {
        case 3: // CF is 0
          return result.eqz();
        case 6: // OF is 0
          return this.signed(s.r, size).ltS(0);
        case 7:
          return this.signed(s.r, size).leS(0);
      }
    }
    if (s.kind === 'add' && pair === 1) return result.ltU(this.unsigned(s.a, size));
    return undefined;
  }

  override carry(): Expr {
    return this.single(1) ?? super.carry();
  }
  override zero(): Expr {
    return this.single(2) ?? super.zero();
  }
  override sign(): Expr {
    return this.single(4) ?? super.sign();
  }
  private single(pair: number): Expr | undefined {
    return this.setter === undefined ? undefined : this.known(this.setter, pair);
  }
}
