/** String instructions, with REP done page by page where possible. Source: Intel SDM vol. 2, REP, MOVS, CMPS, STOS, LODS, SCAS. */
import { type Expr, i32, i64, type Label } from '../../wasm/index.ts';
import { CpuEnv } from '../env.ts';
import { FLAG } from '../flags.ts';
import { type Ins, REG, type Semantics } from './ins.ts';

const ALL = [1, 2, 4, 8] as const;
const EFLAGS = CpuEnv.offsetOf('eflags');

/** Index registers and count of a string instruction, at its address size. */
class StringOperation {
  readonly ins: Ins;
  /** i64: +size or -size by DF. */
  readonly step: Expr;
  private readonly wide: boolean;

  constructor(ins: Ins) {
    this.ins = ins;
    this.wide = ins.addressSize === 8;
    const down = ins.f.let(ins.envLoad('i32', EFLAGS).and(FLAG.DF));
    this.step = ins.f.let(down.select(i64(-ins.size), i64(ins.size)));
  }
  private index(r: number): Expr {
    return this.ins.reg(r, this.ins.addressSize).i64u();
  }
  source(): Expr {
    return this.ins.linear(this.ins.sourceBase(), this.index(REG.SI));
  }
  destination(): Expr {
    return this.ins.linear(this.ins.esBase(), this.index(REG.DI));
  }
  advance(r: number, by: Expr): void {
    const moved = this.index(r).add(by);
    this.ins.setReg(r, this.wide ? moved : moved.i32(), this.ins.addressSize);
  }
  count(): Expr {
    return this.index(REG.CX);
  }
  countDown(by: Expr): void {
    this.advance(REG.CX, i64(0).sub(by));
  }
  forward(): Expr {
    return this.step.gtS(0);
  }
}

/** Runs `once` rCX times (with REP) or one time. `once` gets the label that ends the repetition early. */
function repeat(ins: Ins, op: StringOperation, once: (done: Label) => void): void {
  const { f } = ins;
  if (ins.rep === 0) {
    f.block((done) => once(done));
    return;
  }
  f.block((done) => {
    f.loop((again) => {
      f.brIf(done, op.count().eqz());
      once(done);
      ins.interruptible();
      f.br(again);
    });
  });
}

/** Elements up to the end of the page that holds `address`, i64. */
function elementsInPage(address: Expr, size: number): Expr {
  const left = i64(4096).sub(address.and(0xfffn));
  return size === 1 ? left : left.shrU(size === 2 ? 1 : size === 4 ? 2 : 3);
}

function minimum(ins: Ins, a: Expr, b: Expr): Expr {
  const x = ins.f.let(a);
  const y = ins.f.let(b);
  return ins.f.let(x.ltU(y).select(x, y));
}

/** The bulk part of REP MOVS: as many elements as lie in one source page and one destination page. */
function bulkMove(ins: Ins, op: StringOperation): void {
  const { f, size } = ins;
  f.if(op.forward().and(op.count().gtU(i64(1))), () => {
    const source = op.source();
    const destination = op.destination();
    const n = minimum(ins, op.count(), minimum(ins, elementsInPage(source, size), elementsInPage(destination, size)));
    const bytes = f.let(n.mul(size));
    // a destination that starts inside the source repeats what was just written: element by element then
    const overlaps = destination.sub(source).ltU(bytes);
    f.if(overlaps.eqz().and(n.ne(0)), () => {
      const from = ins.tlbAddress(source, 1, false);
      const to = ins.tlbAddress(destination, 1, true);
      f.if(from.ne(0).and(to.ne(0)), () => {
        f.memoryCopy(to, from, bytes.i32());
        op.advance(REG.SI, bytes);
        op.advance(REG.DI, bytes);
        op.countDown(n);
      });
    });
  });
}

/** The bulk part of REP STOS. */
function bulkStore(ins: Ins, op: StringOperation): void {
  const { f, size } = ins;
  f.if(op.forward().and(op.count().gtU(i64(1))), () => {
    const destination = op.destination();
    const n = minimum(ins, op.count(), elementsInPage(destination, size));
    const to = ins.tlbAddress(destination, 1, true);
    f.if(to.ne(0).and(n.ne(0)), () => {
      const value = f.let(ins.reg(REG.AX));
      const bytes = f.let(n.mul(size));
      const low = f.let(value.i32().and(0xff));
      const uniform =
        size === 1
          ? i32(1)
          : size === 8
            ? value.eq(low.i64u().mul(0x0101010101010101n))
            : value.eq(low.mul(size === 2 ? 0x0101 : 0x01010101));
      f.if(
        uniform,
        () => f.memoryFill(to, low, bytes.i32()),
        () => {
          const end = f.let(to.add(bytes.i32()));
          const p = f.copy(to);
          f.loop((again) => {
            f.store(size, p, 0, value);
            f.set(p, p.add(size));
            f.brIf(again, p.ltU(end));
          });
        },
      );
      op.advance(REG.DI, bytes);
      op.countDown(n);
    });
  });
}

type Emit = (ins: Ins, op: StringOperation, done: Label) => void;

function string(name: string, reps: readonly number[], once: Emit): Semantics {
  return {
    name,
    forms: [''],
    sizes: ALL,
    addressSizes: [2, 4, 8],
    reps,
    emit(ins) {
      const op = new StringOperation(ins);
      repeat(ins, op, (done) => once(ins, op, done));
    },
  };
}

/** After a compared element with REPE/REPNE: stops when ZF is not as asked. */
function stopOnMismatch(ins: Ins, done: Label): void {
  if (ins.rep === 0) return;
  const zero = ins.flags.zero();
  ins.f.brIf(done, ins.rep === 3 ? zero.eqz() : zero);
}

function compareFlags(ins: Ins, a: Expr, b: Expr): void {
  ins.flags.sub(ins.size, a, b, ins.f.let(a.sub(b)));
}

export const STRING_SEMANTICS: readonly Semantics[] = [
  string('movs', [2, 3], (ins, op) => {
    const value = ins.load(op.source(), ins.size);
    ins.store(op.destination(), value, ins.size);
    op.advance(REG.SI, op.step);
    op.advance(REG.DI, op.step);
    if (ins.rep === 0) return;
    op.countDown(i64(1));
    bulkMove(ins, op);
  }),
  string('stos', [2, 3], (ins, op) => {
    ins.store(op.destination(), ins.f.let(ins.reg(REG.AX)), ins.size);
    op.advance(REG.DI, op.step);
    if (ins.rep === 0) return;
    op.countDown(i64(1));
    bulkStore(ins, op);
  }),
  string('lods', [2, 3], (ins, op) => {
    const value = ins.load(op.source(), ins.size);
    ins.setReg(REG.AX, value);
    op.advance(REG.SI, op.step);
    if (ins.rep !== 0) op.countDown(i64(1));
  }),
  string('cmps', [2, 3], (ins, op, done) => {
    const a = ins.load(op.source(), ins.size);
    const b = ins.load(op.destination(), ins.size);
    op.advance(REG.SI, op.step);
    op.advance(REG.DI, op.step);
    if (ins.rep !== 0) op.countDown(i64(1));
    compareFlags(ins, a, b);
    stopOnMismatch(ins, done);
  }),
  string('scas', [2, 3], (ins, op, done) => {
    const b = ins.load(op.destination(), ins.size);
    op.advance(REG.DI, op.step);
    if (ins.rep !== 0) op.countDown(i64(1));
    compareFlags(ins, ins.f.let(ins.reg(REG.AX)), b);
    stopOnMismatch(ins, done);
  }),
];
