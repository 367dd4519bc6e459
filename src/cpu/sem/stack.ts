/** Stack access in every stack size; PUSH, POP, LEAVE, PUSHF, POPF, near CALL and RET. */
import { type Expr, i64, type Local } from '../../wasm/index.ts';
import { CpuEnv, SEG, Segment } from '../env.ts';
import { FLAG } from '../flags.ts';
import { type Ins, REG, type Semantics } from './ins.ts';

const STACK_SIZE = CpuEnv.offsetOf('stackSize');
const GENERAL_PROTECTION = 13;
const SS_BASE = CpuEnv.offsetOf('segs') + SEG.SS * Segment.size;

/** The stack as one instruction sees it. An 8-byte operand means 64-bit mode, where everything is 64 bits wide. */
export class Stack {
  private readonly ins: Ins;
  /** Mask of the stack pointer's width, where only the env tells. */
  private readonly mask: Local | undefined;
  /** The stack pointer has 32 bits, and SS is flat. */
  private readonly narrow: boolean;

  constructor(ins: Ins, size = ins.size) {
    this.ins = ins;
    this.narrow = ins.stackSize === 1;
    if (size < 8 && ins.stackSize === undefined) {
      const { f } = ins;
      const width = f.let(ins.envLoad('i32', STACK_SIZE));
      const legacy = width.select(i64(0xffffffffn), i64(0xffffn));
      this.mask = f.copy(width.eq(2).select(i64(-1n), legacy));
    }
  }

  /** The stack pointer's value, moved by `delta` bytes and wrapped; i64, bound. */
  at(pointer: Expr, delta: number): Expr {
    if (this.narrow) return this.ins.f.let(pointer.i32().add(delta)).i64u();
    const moved = pointer.add(delta);
    return this.ins.f.let(this.mask === undefined ? moved : moved.and(this.mask));
  }
  pointer(): Expr {
    return this.at(this.ins.reg(REG.SP, 8), 0);
  }
  framePointer(): Expr {
    return this.at(this.ins.reg(REG.BP, 8), 0);
  }
  /** Linear address of a stack offset. */
  linear(offset: Expr): Expr {
    if (this.mask === undefined) return offset;
    const base = this.ins.envLoad('i64', SS_BASE);
    const legacy = base.add(offset).and(0xffffffffn);
    return this.ins.f.let(this.mask.eq(-1n).select(offset, legacy));
  }
  setPointer(value: Expr): void {
    const { ins, mask } = this;
    if (mask === undefined) return ins.setReg(REG.SP, value, 8);
    // 32 bits zero-extend, like any register; 16 leave the rest
    const kept = mask.eq(0xffffn).select(i64(~0xffffn), i64(0));
    ins.setReg(REG.SP, ins.reg(REG.SP, 8).and(kept).or(value), 8);
  }
  /** `check` is emitted between the store and the change of the pointer. */
  push(value: Expr, size: number, check?: () => void): void {
    const sp = this.at(this.ins.reg(REG.SP, 8), -size);
    this.ins.store(this.linear(sp), value, size);
    check?.();
    this.setPointer(sp);
  }
  /** Reads the top without moving the pointer. */
  top(size: number): { value: Expr; sp: Expr } {
    const sp = this.pointer();
    return { value: this.ins.load(this.linear(sp), size), sp };
  }
}

const SIZES = [2, 4, 8] as const;

/** A near return address of the operand size. */
function returnAddress(ins: Ins): Expr {
  const ip = ins.nextIp();
  return ins.size === 8 ? ip : ins.f.let(ins.size === 4 ? ip.i32() : ip.i32().low(16));
}

/** #GP(0) for a 64-bit jump target that is not canonical: before anything is changed. */
export function checkTarget(ins: Ins, target: Expr): Expr {
  const bound = ins.f.let(target);
  if (ins.size === 8) {
    const high = bound.add(1n << 47n).shrU(48);
    ins.f.if(high.ne(0), () => ins.raise(GENERAL_PROTECTION, 0), undefined, false);
  }
  return bound;
}

/** IF went from 0 to 1: a waiting interrupt is taken after this instruction (POPF) or the next (STI). */
export function leaveIfInterruptPending(ins: Ins): void {
  ins.f.if(
    ins.envLoad('i32', CpuEnv.offsetOf('interruptRequest')),
    () => {
      ins.endBlock();
    },
    undefined,
    false,
  );
}

const EFLAGS = CpuEnv.offsetOf('eflags');
const CPL = CpuEnv.offsetOf('cpl');

export const STACK_SEMANTICS: readonly Semantics[] = [
  {
    name: 'push',
    forms: ['r', 'm', 'i'],
    sizes: SIZES,
    emit(ins) {
      const value = ins.read(0);
      new Stack(ins).push(value, ins.size);
    },
  },
  {
    name: 'pop',
    forms: ['r', 'm'],
    sizes: SIZES,
    // an address with rSP as its base uses the incremented value: the record's displacement has it added
    emit(ins) {
      const stack = new Stack(ins);
      const { value, sp } = stack.top(ins.size);
      if (ins.kinds[0] === 'm') {
        ins.write(0, value);
        stack.setPointer(stack.at(sp, ins.size));
      } else {
        stack.setPointer(stack.at(sp, ins.size));
        ins.write(0, value);
      }
    },
  },
  {
    name: 'leave',
    forms: [''],
    sizes: SIZES,
    emit(ins) {
      const stack = new Stack(ins);
      const bp = stack.framePointer();
      const value = ins.load(stack.linear(bp), ins.size);
      stack.setPointer(stack.at(bp, ins.size));
      ins.setReg(REG.BP, value);
    },
  },
  {
    name: 'pushf',
    forms: [''],
    sizes: SIZES,
    emit(ins) {
      const { f } = ins;
      const eflags = f.let(ins.envLoad('i32', EFLAGS));
      // virtual-8086 mode has its own rules
      f.if(eflags.and(FLAG.VM), () => ins.helper('pushf'), undefined, false);
      const image = f.let(
        eflags
          .and(~(FLAG.RF | FLAG.VM))
          .or(ins.flags.lowByte())
          .or(ins.flags.overflow().shl(11)),
      );
      new Stack(ins).push(ins.size === 8 ? image.i64u() : image.low(ins.size * 8), ins.size);
    },
  },
  {
    name: 'popf',
    forms: [''],
    sizes: SIZES,
    // only changes of arithmetic flags, DF and (at CPL 0) IF are done here
    emit(ins) {
      const { f } = ins;
      const stack = new Stack(ins);
      const { value, sp } = stack.top(ins.size);
      const image = f.let(value.i32());
      const old = f.let(ins.envLoad('i32', EFLAGS));
      const plain = FLAG.IF | FLAG.DF | FLAG.CF | FLAG.PF | FLAG.AF | FLAG.ZF | FLAG.SF | FLAG.OF;
      const architectural = ins.size === 2 ? 0x7fd5 : 0x3f7fd5;
      const unusual = f.let(
        ins
          .envLoad('i32', CPL)
          .or(old.and(FLAG.VM))
          .or(image.xor(old).and(architectural & ~plain)),
      );
      f.if(unusual, () => ins.helper('popf'), undefined, false);
      const changed = FLAG.IF | FLAG.DF;
      ins.envStore(4, EFLAGS, old.and(~changed).or(image.and(changed)));
      stack.setPointer(stack.at(sp, ins.size));
      ins.flags.setFromImage(image, image.shrU(11).and(1));
      f.if(old.xor(-1).and(image).and(FLAG.IF), () => leaveIfInterruptPending(ins));
    },
  },
  {
    name: 'call',
    forms: ['j', 'r', 'm'],
    sizes: SIZES,
    emit(ins) {
      const stack = new Stack(ins);
      if (ins.kinds[0] === 'j') {
        stack.push(returnAddress(ins), ins.size);
        ins.jumpRelative();
        return;
      }
      const target = ins.read(0);
      stack.push(returnAddress(ins), ins.size, () => checkTarget(ins, target));
      ins.jump(target.i64u());
    },
  },
  {
    name: 'ret',
    forms: ['', 'i'],
    sizes: SIZES,
    emit(ins) {
      const stack = new Stack(ins);
      const { value, sp } = stack.top(ins.size);
      checkTarget(ins, value);
      const popped = stack.at(sp, ins.size);
      const release = ins.kinds.length > 0 ? popped.add(ins.imm(0, 8).and(0xffffn)) : popped;
      stack.setPointer(stack.at(release, 0));
      ins.jump(value.i64u());
    },
  },
];
