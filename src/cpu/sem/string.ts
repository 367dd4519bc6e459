/** String instructions, with REP done page by page where possible. Source: Intel SDM vol. 2, REP, MOVS, CMPS, STOS, LODS, SCAS. */
import { type Expr, i32, i64, type Label } from '../../wasm/index.ts';
import { CpuEnv } from '../env.ts';
import { FLAG } from '../flags.ts';
import { type Ins, REG, type Semantics } from './ins.ts';

const ALL = [1, 2, 4, 8] as const;
const EFLAGS = CpuEnv.offsetOf('eflags');
const EXIT_REQUEST = CpuEnv.offsetOf('exitRequest');

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
    if (ins.addressSize === 4) {
      // the counter is written as a 32-bit register even when it is 0 or the first element faults
      ins.setReg(REG.CX, ins.reg(REG.CX, 4), 4);
    }
    f.brIf(done, op.count().eqz());
    f.loop((again) => {
      once(done);
      // a repetition that is complete must not be left to run again: CMPS and SCAS have flags to set
      const { steps } = ins;
      if (steps !== undefined) {
        // finding that the count is used up is a step like the others, and takes its place even in an empty budget
        f.if(op.count().eqz(), () => {
          steps.done(i64(1));
          f.br(done);
        });
      } else {
        f.brIf(done, op.count().eqz());
      }
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

/** More than one element is left, upwards, and nobody wants to see each of them (single step, an interrupt). */
function bulkWanted(ins: Ins, op: StringOperation): Expr {
  return op
    .forward()
    .and(op.count().gtU(i64(1)))
    .and(ins.envLoad('i32', EXIT_REQUEST).eqz());
}

/** Elements that are left, as far as the budget goes. */
function affordable(ins: Ins, op: StringOperation): Expr {
  return ins.steps === undefined ? op.count() : minimum(ins, op.count(), ins.steps.left());
}

/** The bulk part of REP MOVS: as many elements as lie in one source page and one destination page. */
function bulkMove(ins: Ins, op: StringOperation): void {
  const { f, size } = ins;
  f.if(bulkWanted(ins, op), () => {
    const source = op.source();
    const destination = op.destination();
    const n = minimum(
      ins,
      affordable(ins, op),
      minimum(ins, elementsInPage(source, size), elementsInPage(destination, size)),
    );
    const bytes = f.let(n.mul(size));
    f.if(n.ne(0), () => {
      const from = ins.tlbAddress(source, 1, false);
      const to = ins.tlbAddress(destination, 1, true);
      // a destination that starts inside the source repeats what was just written: element by element then
      const apart = to.sub(from).geU(bytes.i32());
      f.if(from.ne(0).and(to.ne(0)).and(apart), () => {
        f.memoryCopy(to, from, bytes.i32());
        op.advance(REG.SI, bytes);
        op.advance(REG.DI, bytes);
        op.countDown(n);
        ins.steps?.done(n);
      });
    });
  });
}

/** The bulk part of REP STOS. */
function bulkStore(ins: Ins, op: StringOperation): void {
  const { f, size } = ins;
  f.if(bulkWanted(ins, op), () => {
    const destination = op.destination();
    const n = minimum(ins, affordable(ins, op), elementsInPage(destination, size));
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
      ins.steps?.done(n);
    });
  });
}

type Emit = (ins: Ins, op: StringOperation) => void;

/** `registers`: index registers that a repetition with 32-bit addresses zero-extends at once, as silicon does. */
function string(name: string, registers: readonly number[], once: Emit): Semantics {
  return {
    name,
    forms: [''],
    sizes: ALL,
    addressSizes: [2, 4, 8],
    reps: [2, 3],
    emit(ins) {
      const op = new StringOperation(ins);
      if (ins.rep !== 0 && ins.addressSize === 4) for (const r of registers) ins.setReg(r, ins.reg(r, 4), 4);
      repeat(ins, op, () => once(ins, op));
    },
  };
}

/**
 * CMPS, SCAS: `once` reads the two values of an element and moves on. A fault in the middle of a repetition leaves
 * the flags as they were before the instruction (SDM vol. 2, REP), so they are set when it ends.
 */
function compareString(
  name: string,
  once: (ins: Ins, op: StringOperation) => { a: Expr; b: Expr },
): Semantics {
  return {
    name,
    forms: [''],
    sizes: ALL,
    addressSizes: [2, 4, 8],
    reps: [2, 3],
    emit(ins) {
      const { f } = ins;
      const op = new StringOperation(ins);
      const a = f.local(ins.size === 8 ? 'i64' : 'i32');
      const b = f.local(a.type);
      const setFlags = (): void => ins.flags.sub(ins.size, a, b, f.let(a.sub(b)));
      if (ins.rep === 0) {
        const v = once(ins, op);
        f.set(a, v.a);
        f.set(b, v.b);
        setFlags();
        return;
      }
      const compared = f.copy(i32(0));
      repeat(ins, op, (done) => {
        const v = once(ins, op);
        f.set(a, v.a);
        f.set(b, v.b);
        f.set(compared, i32(1));
        op.countDown(i64(1));
        f.brIf(done, ins.rep === 3 ? a.ne(b) : a.eq(b));
      });
      f.if(compared, setFlags);
    },
  };
}

export const STRING_SEMANTICS: readonly Semantics[] = [
  string('movs', [REG.SI, REG.DI], (ins, op) => {
    const value = ins.load(op.source(), ins.size);
    ins.store(op.destination(), value, ins.size);
    op.advance(REG.SI, op.step);
    op.advance(REG.DI, op.step);
    if (ins.rep === 0) return;
    op.countDown(i64(1));
    bulkMove(ins, op);
  }),
  string('stos', [REG.DI], (ins, op) => {
    ins.store(op.destination(), ins.f.let(ins.reg(REG.AX)), ins.size);
    op.advance(REG.DI, op.step);
    if (ins.rep === 0) return;
    op.countDown(i64(1));
    bulkStore(ins, op);
  }),
  string('lods', [], (ins, op) => {
    const value = ins.load(op.source(), ins.size);
    ins.setReg(REG.AX, value);
    op.advance(REG.SI, op.step);
    if (ins.rep !== 0) op.countDown(i64(1));
  }),
  compareString('cmps', (ins, op) => {
    const b = ins.load(op.destination(), ins.size);
    const a = ins.load(op.source(), ins.size);
    op.advance(REG.SI, op.step);
    op.advance(REG.DI, op.step);
    return { a, b };
  }),
  compareString('scas', (ins, op) => {
    const b = ins.load(op.destination(), ins.size);
    op.advance(REG.DI, op.step);
    return { a: ins.f.let(ins.reg(REG.AX)), b };
  }),
];
