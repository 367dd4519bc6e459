/** Moves, arithmetic and logic of general registers. Source: Intel SDM vol. 2, instruction pages. */
import type { Expr } from '../../wasm/index.ts';
import { constant, type Ins, REG, resize, type Semantics, signExtend } from './ins.ts';

const ALL = [1, 2, 4, 8] as const;
const WIDE = [2, 4, 8] as const;
const BINARY_FORMS = ['rr', 'rm', 'mr', 'ri', 'mi'] as const;

type Binary = (ins: Ins, a: Expr, b: Expr) => Expr;

/** A two-operand instruction that writes its result to operand 0. */
function binary(name: string, setsAllFlags: boolean, result: Binary): Semantics {
  return {
    name,
    forms: BINARY_FORMS,
    sizes: ALL,
    lockable: true,
    setsAllFlags,
    emit(ins) {
      const b = ins.read(1);
      ins.modify(0, (a) => result(ins, a, b));
    },
  };
}

function logic(name: string, compute: (a: Expr, b: Expr) => Expr): Semantics {
  return binary(name, true, (ins, a, b) => {
    const r = ins.f.let(compute(a, b));
    ins.flags.logic(ins.size, r);
    return r;
  });
}

function carryIn(ins: Ins): Expr {
  const c = ins.flags.carry();
  return ins.f.copy(ins.size === 8 ? c.i64u() : c);
}

function withCarry(name: string, subtract: boolean): Semantics {
  return {
    name,
    forms: BINARY_FORMS,
    sizes: ALL,
    lockable: true,
    emit(ins) {
      const b = ins.read(1);
      const c = carryIn(ins);
      ins.modify(0, (a) => {
        const r = ins.f.let(subtract ? a.sub(b).sub(c) : a.add(b).add(c));
        if (subtract) ins.flags.sub(ins.size, a, b, r, c);
        else ins.flags.add(ins.size, a, b, r, c);
        return r;
      });
    },
  };
}

function unary(name: string, change: (ins: Ins, a: Expr) => Expr, setsAllFlags = false): Semantics {
  return {
    name,
    forms: ['r', 'm'],
    sizes: ALL,
    lockable: true,
    setsAllFlags,
    emit: (ins) => ins.modify(0, (a) => change(ins, a)),
  };
}

function incDec(name: string, down: boolean): Semantics {
  return unary(name, (ins, a) => {
    const r = ins.f.let(down ? a.sub(1) : a.add(1));
    ins.flags.incDec(ins.size, a, r, down);
    return r;
  });
}

/** A compare-like instruction: flags only. */
function compare(name: string, emit: (ins: Ins, a: Expr, b: Expr) => void): Semantics {
  return {
    name,
    forms: BINARY_FORMS,
    sizes: ALL,
    setsAllFlags: true,
    emit: (ins) => emit(ins, ins.read(0), ins.read(1)),
  };
}

/** MOVZX, MOVSX: source of `from` bytes; one name per source size. */
function extend(name: string, signed: boolean): Semantics[] {
  return ([1, 2, 4] as const).map((from) => ({
    name: `${name}${from * 8}`,
    forms: ['rr', 'rm'],
    sizes: [2, 4, 8],
    emit(ins) {
      const v = ins.read(1, from);
      ins.write(0, signed ? signExtend(v, from, ins.size) : resize(v, from, ins.size));
    },
  }));
}

export const ALU_SEMANTICS: readonly Semantics[] = [
  binary('add', true, (ins, a, b) => {
    const r = ins.f.let(a.add(b));
    ins.flags.add(ins.size, a, b, r);
    return r;
  }),
  binary('sub', true, (ins, a, b) => {
    const r = ins.f.let(a.sub(b));
    ins.flags.sub(ins.size, a, b, r);
    return r;
  }),
  logic('and', (a, b) => a.and(b)),
  logic('or', (a, b) => a.or(b)),
  logic('xor', (a, b) => a.xor(b)),
  withCarry('adc', false),
  withCarry('sbb', true),
  compare('cmp', (ins, a, b) => ins.flags.sub(ins.size, a, b, ins.f.let(a.sub(b)))),
  compare('test', (ins, a, b) => ins.flags.logic(ins.size, ins.f.let(a.and(b)))),
  incDec('inc', false),
  incDec('dec', true),
  unary('not', (_, a) => a.xor(-1)),
  unary(
    'neg',
    (ins, a) => {
      const zero = constant(ins.size, 0);
      const r = ins.f.let(zero.sub(a));
      ins.flags.sub(ins.size, zero, a, r);
      return r;
    },
    true,
  ),
  {
    name: 'mov',
    forms: BINARY_FORMS,
    sizes: ALL,
    emit: (ins) => ins.write(0, ins.read(1)),
  },
  {
    name: 'lea',
    forms: ['rm'],
    sizes: WIDE,
    emit: (ins) => ins.write(0, resize(ins.address(1), 8, ins.size)),
  },
  ...extend('movzx', false),
  ...extend('movsx', true),
  {
    name: 'xchg',
    forms: ['rr', 'mr'],
    sizes: ALL,
    lockable: true,
    emit(ins) {
      const b = ins.read(1);
      const old = ins.f.local(b.type);
      // with equal registers both writes store the same value
      ins.modify(0, (a) => {
        ins.f.set(old, a);
        return b;
      });
      ins.write(1, old);
    },
  },
  {
    name: 'xadd',
    forms: ['rr', 'mr'],
    sizes: ALL,
    lockable: true,
    setsAllFlags: true,
    emit(ins) {
      const { f } = ins;
      const b = ins.read(1);
      if (ins.kinds[0] === 'r') {
        const a = ins.read(0);
        const r = f.let(a.add(b));
        ins.flags.add(ins.size, a, b, r);
        ins.write(1, a); // the destination is written last: it wins when both are one register
        ins.write(0, r);
        return;
      }
      const old = f.local(b.type);
      ins.modify(0, (a) => {
        f.set(old, a);
        return a.add(b);
      });
      ins.flags.add(ins.size, old, b, f.let(old.add(b)));
      ins.write(1, old);
    },
  },
  {
    name: 'cmpxchg',
    forms: ['rr', 'mr'],
    sizes: ALL,
    lockable: true,
    setsAllFlags: true,
    emit(ins) {
      const { f } = ins;
      const replacement = ins.read(1);
      const accumulator = f.copy(ins.reg(REG.AX));
      const old = f.local(replacement.type);
      if (ins.kinds[0] === 'r') {
        f.set(old, ins.read(0));
        // a register that does not match is not written at all: 32 bits of it are not zero-extended
        f.if(old.eq(accumulator), () => ins.write(0, replacement));
      } else {
        ins.modify(0, (a) => {
          f.set(old, a);
          return a.eq(accumulator).select(replacement, a);
        });
      }
      ins.flags.sub(ins.size, accumulator, old, f.let(accumulator.sub(old)));
      f.if(old.ne(accumulator), () => ins.setReg(REG.AX, old));
    },
  },
  {
    name: 'bswap',
    forms: ['r'],
    sizes: WIDE,
    emit(ins) {
      // 16 bits are undefined; silicon gives 0
      ins.write(0, ins.size === 2 ? constant(2, 0) : byteSwap(ins, ins.read(0), ins.size));
    },
  },
  {
    name: 'movbe',
    forms: ['rm', 'mr'],
    sizes: WIDE,
    emit(ins) {
      ins.write(0, byteSwap(ins, ins.read(1), ins.size));
    },
  },
  {
    name: 'cbw',
    forms: [''],
    sizes: WIDE,
    emit(ins) {
      const half = ins.size / 2;
      ins.setReg(REG.AX, signExtend(ins.f.let(ins.reg(REG.AX, half)), half, ins.size));
    },
  },
  {
    name: 'cwd',
    forms: [''],
    sizes: WIDE,
    emit(ins) {
      const v = ins.reg(REG.AX);
      const sign = ins.size === 8 ? v.shrS(63) : v.sext(ins.size * 8).shrS(31);
      ins.setReg(REG.DX, ins.size === 2 ? sign.low(16) : sign);
    },
  },
  {
    name: 'setcc',
    forms: ['r', 'm'],
    sizes: [1],
    conditional: true,
    emit: (ins) => ins.write(0, ins.flags.condition(ins.cond)),
  },
  {
    name: 'cmovcc',
    forms: ['rr', 'rm'],
    sizes: WIDE,
    conditional: true,
    emit(ins) {
      // the memory operand is read, and can fault, whatever the condition; a 32-bit register is zero-extended always
      const b = ins.read(1);
      ins.write(0, ins.flags.condition(ins.cond).select(b, ins.read(0)));
    },
  },
  { name: 'nop', forms: ['', 'r', 'm', 'rr', 'mr'], sizes: ALL, emit: () => {} },
];

/** Byte order reversed. For 2 bytes (BSWAP r16 is undefined) the two bytes are swapped, as MOVBE needs. */
function byteSwap(ins: Ins, v: Expr, size: number): Expr {
  const { f } = ins;
  if (size === 2) return v.shl(8).or(v.shrU(8)).low(16);
  if (size === 4)
    return v
      .rotl(8)
      .and(0x00ff00ff)
      .or(v.rotr(8).and(0xff00ff00 | 0));
  const pairs = f.let(v.and(0x00ff00ff00ff00ffn).shl(8).or(v.shrU(8).and(0x00ff00ff00ff00ffn)));
  const words = f.let(pairs.and(0x0000ffff0000ffffn).shl(16).or(pairs.shrU(16).and(0x0000ffff0000ffffn)));
  return words.rotl(32);
}
