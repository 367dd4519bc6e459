/**
 * Flags in a region. Within a block it is known at compile time which instruction set them last, so a condition becomes
 * a comparison of its operands. From block to block they travel as deferred flags in the env (sem/deferred-flags.ts):
 * nothing is computed that nothing reads, and V8 has nothing to merge where blocks meet. Ways out of the region, which are
 * many and hardly ever taken, put them into three locals instead, which the region's exit stores.
 */
import { Expr, type FuncBuilder, type FuncRef, i32, load, type Local, LOCAL_GET } from '../wasm/index.ts';
import { DEFERRED, DEFERRED_CARRY_SHIFT, deferredKind, FLAG_WORDS } from '../cpu/sem/deferred-flags.ts';
import { EnvFlagStorage, FlagEmitter } from '../cpu/sem/flag-emitter.ts';
import { productOverflows } from '../cpu/sem/product.ts';

/** What set the flags, with operands that keep their values until the next but one setter. */
interface Setter {
  /** A DEFERRED operation. */
  readonly kind: number;
  readonly size: number;
  readonly a: Expr;
  readonly b: Expr;
  readonly r: Expr;
  /** ADD, SUB: carry in, i32. INC, DEC, EXPLICIT: CF, i32. */
  readonly carry?: Expr;
  /** INC, DEC, in place of `carry`: CF is that of what is there still, and computed where it is wanted. */
  readonly before?: 'deferred' | 'locals';
  /** EXPLICIT: OF, i32. */
  readonly overflow?: Expr;
  readonly image?: Image;
}
type Image = Parameters<FlagEmitter['setAll']>[0];

/** Where the flags are: a known setter's operands; deferred in the env, or in the locals; the lazy words in the env. */
type State = Setter | 'deferred' | 'locals' | 'words';

/** `DEFERRED` kind and operands; where `b` means nothing it is left out. */
interface Deferred {
  readonly kind: Expr;
  readonly a: Expr;
  readonly b?: Expr;
}

const RING = 2;

export class JitFlags extends FlagEmitter {
  private readonly env: Expr;
  private readonly locals: { readonly kind: Local; readonly a: Local; readonly b: Local };
  /** On a way out after an INC or DEC whose CF is yet to be computed: its kind, 0 elsewhere, and its operand. */
  private readonly unfinished: { readonly kind: Local; readonly a: Local };
  private leftUnfinished = false;
  /** Function (env): deferred flags of the env become words. */
  private readonly flagWords: FuncRef;
  private state: State = 'deferred';
  /** The instruction sets flags in more than one place, or some only: in the words. */
  private inWords = false;
  /** Locals for the operands of a setter, as many as were needed. */
  private readonly ring: Record<'i32' | 'i64', Local[]>[];
  private turn = 0;

  constructor(f: FuncBuilder, env: Expr, flagWords: FuncRef) {
    super(f, new EnvFlagStorage(f, env, FLAG_WORDS, (kind, at, offset) => load(kind, at, offset)), true);
    this.env = env;
    this.locals = { kind: f.local('i32'), a: f.local('i64'), b: f.local('i64') };
    this.unfinished = { kind: f.local('i32'), a: f.local('i64') };
    this.flagWords = flagWords;
    this.ring = Array.from({ length: RING }, () => ({ i32: [], i64: [] }));
  }

  // --- the emitter's side ---

  /** At a point that control reaches from elsewhere: they are in the env, in a small loop in the locals. */
  arrive(inLoop: boolean): void {
    this.state = inLoop ? 'locals' : 'deferred';
  }
  /** Before a small loop: from the env into the locals. */
  enterLoop(): void {
    const { f, env, locals } = this;
    f.set(locals.kind, load('i32', env, FLAG_WORDS.kind));
    f.set(locals.a, load('i64', env, FLAG_WORDS.a));
    f.set(locals.b, load('i64', env, FLAG_WORDS.b));
  }
  /** Before an instruction. `live`: what it sets may be seen. `simple`: it sets flags in one place, all or but CF. */
  begin(live: boolean, writes: boolean, simple: boolean): void {
    this.live = live;
    this.inWords = live && writes && !simple;
    if (this.inWords) this.toWords();
  }
  /** Before an instruction that reads flags. */
  beforeReading(): void {
    if (this.state === 'deferred' || this.state === 'locals') this.toWords();
  }
  /**
   * Puts them into the env, or into the locals where the way stays in a small loop; what is known stays known, so this may
   * be emitted on a way that leads away.
   */
  settle(inLoop = false): void {
    const { state } = this;
    if (inLoop) {
      // the words in the env are it
      if (state === 'words') this.f.set(this.locals.kind, i32(0));
      else if (typeof state === 'object') this.setLocals(this.deferred(state));
    } else if (state === 'locals') this.store(this.locals);
    else if (typeof state === 'object') this.store(this.deferred(state));
  }
  /** On a way out of the region: true when they are in the locals, from where `storeLeft` takes them. */
  leave(): boolean {
    const { f, state, unfinished } = this;
    if (typeof state !== 'object') return state === 'locals';
    if (state.before === undefined) {
      this.setLocals(this.deferred(state));
      return true;
    }
    this.leftUnfinished = true;
    f.set(unfinished.kind, i32(deferredKind(state.kind, state.size)));
    f.set(unfinished.a, state.r.i64u());
    return state.before === 'locals';
  }
  storeLeft(): void {
    this.store(this.locals);
  }
  /** At the region's exit, when the env has what was there before. */
  finishLeft(): void {
    const { f, unfinished } = this;
    if (!this.leftUnfinished) return;
    f.if(
      unfinished.kind,
      () => this.store({ ...unfinished, b: this.keptCarry('deferred').i64u() }),
      undefined,
      false,
    );
  }
  private setLocals({ kind, a, b }: Deferred): void {
    const { f, locals } = this;
    f.set(locals.kind, kind);
    f.set(locals.a, a);
    if (b !== undefined) f.set(locals.b, b);
  }
  private store({ kind, a, b }: Deferred): void {
    const { f, env } = this;
    f.store(4, env, FLAG_WORDS.kind, kind);
    f.store(8, env, FLAG_WORDS.a, a);
    if (b !== undefined) f.store(8, env, FLAG_WORDS.b, b);
  }
  private deferred(s: Setter): Deferred {
    const kind = i32(deferredKind(s.kind, s.size));
    const { carry } = s;
    switch (s.kind) {
      case DEFERRED.ADD:
      case DEFERRED.SUB: {
        const whole = carry === undefined ? kind : carry.shl(DEFERRED_CARRY_SHIFT).or(kind);
        return { kind: whole, a: s.a.i64u(), b: s.b.i64u() };
      }
      case DEFERRED.PRODUCT:
        return { kind, a: s.a.i64u(), b: s.b.i64u() };
      case DEFERRED.LOGIC:
        return { kind, a: s.r.i64u() };
      case DEFERRED.EXPLICIT: {
        const bits = (carry as Expr).or((s.overflow as Expr).shl(1));
        return { kind, a: s.r.i64u(), b: bits.i64u() };
      }
      case DEFERRED.IMAGE: {
        const { cf, pf, af, zf, sf, of } = s.image as Image;
        const bits: [Expr | undefined, number][] = [[cf, 0], [pf, 2], [af, 4], [zf, 6], [sf, 7], [of, 11]]; // prettier-ignore
        const image = bits.reduce<Expr>((sum, [e, n]) => (e === undefined ? sum : sum.or(e.shl(n))), i32(0));
        return { kind, a: image.i64u() };
      }
      default:
        return { kind, a: s.r.i64u(), b: this.carryOf(s).i64u() };
    }
  }
  /** INC, DEC, EXPLICIT. */
  private carryOf({ carry, before }: Setter): Expr {
    return before === undefined ? (carry as Expr) : this.keptCarry(before);
  }
  /** Emitted where nothing is conditional: from here on they are in the words. */
  private toWords(): void {
    const { f, env, state } = this;
    if (state === 'words') return;
    const make = (): void => f.run(f.call(this.flagWords, env));
    this.settle();
    if (typeof state === 'object') make();
    else f.if(load('i32', env, FLAG_WORDS.kind), make, undefined, false);
    this.state = 'words';
  }

  // --- setters ---

  private known(s: Omit<Setter, 'a' | 'b' | 'r'> & { a?: Expr; b?: Expr; r?: Expr }): void {
    this.turn = (this.turn + 1) % RING;
    const keep = this.keeper(this.ring[this.turn]);
    const kept = (e: Expr | undefined): Expr | undefined => e && keep(e);
    const zero = i32(0);
    const { image } = s;
    this.state = {
      kind: s.kind,
      size: s.size,
      a: kept(s.a) ?? zero,
      b: kept(s.b) ?? zero,
      r: kept(s.r) ?? zero,
      carry: kept(s.carry),
      before: s.before,
      overflow: kept(s.overflow),
      image: image && {
        cf: kept(image.cf),
        pf: kept(image.pf),
        af: kept(image.af),
        zf: kept(image.zf),
        sf: kept(image.sf),
        of: kept(image.of),
      },
    };
  }
  /**
   * Gives an expression in locals of the ring with the same value. What only computes is done where it is wanted, which is
   * mostly nowhere: it is what it computes from that is kept.
   */
  private keeper(ring: Record<'i32' | 'i64', Local[]>): (e: Expr) => Expr {
    const { f } = this;
    const used = { i32: 0, i64: 0 };
    const copies = new Map<number, Local>();
    const copy = (e: Expr): Local => {
      const list = ring[e.type as 'i32' | 'i64'];
      const local = (list[used[e.type as 'i32' | 'i64']++] ??= f.lasting(e.type));
      f.set(local, e);
      return local;
    };
    const keep = (e: Expr): Expr => {
      if (e.isConst) return e;
      if (e.code === LOCAL_GET) {
        const known = copies.get(e.imms[0]) ?? copy(e);
        copies.set(e.imms[0], known);
        return known;
      }
      if (!e.isPure) return copy(e);
      return new Expr(e.type, e.code, e.args.map(keep), e.imms);
    };
    return keep;
  }

  override add(size: number, a: Expr, b: Expr, r: Expr, carryIn?: Expr): void {
    if (!this.live) return;
    if (this.inWords) return super.add(size, a, b, r, carryIn);
    this.known({ kind: DEFERRED.ADD, size, a, b, r, carry: carryIn?.i32() });
  }
  override sub(size: number, a: Expr, b: Expr, r: Expr, carryIn?: Expr): void {
    if (!this.live) return;
    if (this.inWords) return super.sub(size, a, b, r, carryIn);
    this.known({ kind: DEFERRED.SUB, size, a, b, r, carry: carryIn?.i32() });
  }
  override logic(size: number, r: Expr): void {
    if (!this.live) return;
    if (this.inWords) return super.logic(size, r);
    this.known({ kind: DEFERRED.LOGIC, size, r });
  }
  override incDec(size: number, a: Expr, r: Expr, down: boolean): void {
    if (!this.live) return;
    if (this.inWords) return super.incDec(size, a, r, down);
    const { state } = this;
    const before = typeof state === 'object' ? state.before : state === 'words' ? undefined : state;
    const carry = before === undefined ? this.f.copy(this.carry()) : undefined;
    this.known({ kind: down ? DEFERRED.DEC : DEFERRED.INC, size, a, r, carry, before });
  }
  /** CF, bound, of what is in the env or in the locals, which stays. */
  private keptCarry(before: 'deferred' | 'locals'): Expr {
    const { f, env, locals, state } = this;
    const carry = f.local('i32');
    const kind = before === 'locals' ? locals.kind : load('i32', env, FLAG_WORDS.kind);
    const kept = before === 'locals' ? locals.b.i32() : load('i32', env, FLAG_WORDS.b);
    f.if(
      kind.and(14).eq(DEFERRED.INC),
      () => f.set(carry, kept),
      () => {
        this.state = before;
        this.toWords();
        f.set(carry, super.carry());
      },
    );
    this.state = state;
    return carry;
  }
  override explicit(size: number, r: Expr, cf: Expr, of: Expr): void {
    if (!this.live) return;
    if (this.inWords) return super.explicit(size, r, cf, of);
    this.known({ kind: DEFERRED.EXPLICIT, size, r, carry: cf, overflow: of });
  }
  override product(size: number, a: Expr, b: Expr, low: Expr): void {
    if (!this.live) return;
    if (this.inWords) return super.product(size, a, b, low);
    this.known({ kind: DEFERRED.PRODUCT, size, a, b, r: low });
  }
  override setAll(flags: Image): void {
    if (!this.live) return;
    if (this.inWords) return super.setAll(flags);
    this.known({ kind: DEFERRED.IMAGE, size: 4, image: flags });
  }

  // --- readers ---

  private setter(): Setter | undefined {
    this.beforeReading();
    return this.state === 'words' ? undefined : (this.state as Setter);
  }
  /** Low `size` bytes, zero-extended. */
  private unsigned(e: Expr, size: number): Expr {
    return size < 4 ? e.low(size * 8) : e;
  }
  private signed(e: Expr, size: number): Expr {
    return size < 4 ? e.sext(size * 8) : e;
  }
  private top(e: Expr, size: number): Expr {
    return this.signed(e, size).ltS(0);
  }

  override condition(cc: number): Expr {
    const s = this.setter();
    const simple = s === undefined ? undefined : this.comparison(s, cc >> 1);
    if (simple === undefined) return super.condition(cc);
    return (cc & 1) !== 0 ? simple.eqz() : simple;
  }
  /** The positive condition of a pair (O, B, E, BE, S, P, L, LE) as one comparison, where there is one. */
  private comparison(s: Setter, pair: number): Expr | undefined {
    const { size } = s;
    if (s.kind === DEFERRED.SUB && s.carry === undefined) {
      switch (pair) {
        case 1:
          return this.unsigned(s.a, size).ltU(this.unsigned(s.b, size));
        case 2:
          return this.unsigned(s.a, size).eq(this.unsigned(s.b, size));
        case 3:
          return this.unsigned(s.a, size).leU(this.unsigned(s.b, size));
        case 6:
          return this.signed(s.a, size).ltS(this.signed(s.b, size));
        case 7:
          return this.signed(s.a, size).leS(this.signed(s.b, size));
      }
    }
    if (s.kind === DEFERRED.LOGIC) {
      switch (pair) {
        case 3: // CF is 0
          return this.unsigned(s.r, size).eqz();
        case 6: // OF is 0
          return this.top(s.r, size);
        case 7:
          return this.signed(s.r, size).leS(0);
      }
    }
    if (s.kind === DEFERRED.DEC || s.kind === DEFERRED.INC) {
      const one = s.kind === DEFERRED.DEC ? 1 : -1;
      if (pair === 6) return this.signed(s.a, size).ltS(one);
      if (pair === 7) return this.signed(s.a, size).leS(one);
    }
    return undefined;
  }

  override carry(): Expr {
    const s = this.setter();
    if (s === undefined) return super.carry();
    const { size, a, b, r } = s;
    switch (s.kind) {
      case DEFERRED.ADD:
        if (s.carry === undefined) return this.unsigned(r, size).ltU(this.unsigned(a, size));
        return this.top(a.and(b).or(a.or(b).and(r.xor(-1))), size);
      case DEFERRED.SUB: {
        if (s.carry === undefined) return this.unsigned(a, size).ltU(this.unsigned(b, size));
        const notA = a.xor(-1);
        return this.top(notA.and(b).or(notA.or(b).and(r)), size);
      }
      case DEFERRED.LOGIC:
        return i32(0);
      case DEFERRED.PRODUCT:
        return productOverflows(this.f, size, a, b, r);
      case DEFERRED.IMAGE:
        return s.image?.cf ?? i32(0);
      default:
        return this.carryOf(s);
    }
  }
  override zero(): Expr {
    const s = this.setter();
    if (s === undefined) return super.zero();
    if (s.kind === DEFERRED.IMAGE) return s.image?.zf ?? i32(0);
    return this.unsigned(s.r, s.size).eqz();
  }
  override sign(): Expr {
    const s = this.setter();
    if (s === undefined) return super.sign();
    if (s.kind === DEFERRED.IMAGE) return s.image?.sf ?? i32(0);
    return this.top(s.r, s.size);
  }
  override overflow(): Expr {
    const s = this.setter();
    if (s === undefined) return super.overflow();
    const { size, a, b, r } = s;
    switch (s.kind) {
      case DEFERRED.ADD:
        return this.top(a.xor(r).and(b.xor(r)), size);
      case DEFERRED.SUB:
        return this.top(a.xor(b).and(a.xor(r)), size);
      case DEFERRED.INC:
        return this.top(r.and(a.xor(-1)), size);
      case DEFERRED.DEC:
        return this.top(a.and(r.xor(-1)), size);
      case DEFERRED.PRODUCT:
        return productOverflows(this.f, size, a, b, r);
      case DEFERRED.EXPLICIT:
        return s.overflow as Expr;
      case DEFERRED.IMAGE:
        return s.image?.of ?? i32(0);
      default:
        return i32(0);
    }
  }
  override parity(): Expr {
    const s = this.setter();
    if (s === undefined) return super.parity();
    if (s.kind === DEFERRED.IMAGE) return s.image?.pf ?? i32(0);
    return s.r.i32().and(0xff).popcnt().and(1).eqz();
  }
  override adjust(): Expr {
    const s = this.setter();
    if (s === undefined) return super.adjust();
    const bit = (e: Expr): Expr => e.i32().shrU(4).and(1);
    switch (s.kind) {
      case DEFERRED.ADD:
      case DEFERRED.SUB:
        return bit(s.a.xor(s.b).xor(s.r));
      case DEFERRED.INC:
      case DEFERRED.DEC:
        return bit(s.a.xor(s.r));
      case DEFERRED.LOGIC:
        return bit(s.r);
      case DEFERRED.IMAGE:
        return s.image?.af ?? i32(0);
      default:
        return i32(0);
    }
  }
}
