/** Shifts and rotates. Source: Intel SDM vol. 2, SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD, SHRD. */
import type { Expr } from '../../wasm/index.ts';
import { i32 } from '../../wasm/index.ts';
import { type Ins, type Semantics } from './ins.ts';

const ALL = [1, 2, 4, 8] as const;

/** The masked count (operand `n`) as i32, bound. */
function count(ins: Ins, n: number): Expr {
  return ins.f.let(ins.read(n, 1).and(ins.size === 8 ? 63 : 31));
}
/** i32 count as the type of the value shifted. */
function like(ins: Ins, c: Expr): Expr {
  return ins.size === 8 ? c.i64u() : c;
}
function bit(v: Expr, n: number): Expr {
  return v.shrU(n).i32().and(1);
}

type Shift = (ins: Ins, a: Expr, c: Expr) => { r: Expr; cf: Expr; of: Expr };

/** Flags change only when the masked count is not zero. */
function shift(name: string, compute: Shift): Semantics {
  return {
    name,
    forms: ['ri', 'mi', 'rr', 'mr'],
    sizes: ALL,
    emit(ins) {
      const c = count(ins, 1);
      ins.modify(0, (a) => {
        const { r, cf, of } = compute(ins, a, c);
        const result = ins.f.let(r);
        if (ins.flags.live) ins.f.if(c, () => ins.flags.explicit(ins.size, result, cf, of));
        return result;
      });
    },
  };
}

type Rotate = (ins: Ins, a: Expr, c: Expr) => { r: Expr; flags: (r: Expr) => { cf: Expr; of: Expr } };

function rotate(name: string, compute: Rotate): Semantics {
  return {
    name,
    forms: ['ri', 'mi', 'rr', 'mr'],
    sizes: ALL,
    emit(ins) {
      const c = count(ins, 1);
      ins.modify(0, (a) => {
        const { r, flags } = compute(ins, a, c);
        const result = ins.f.let(r);
        if (ins.flags.live) {
          ins.f.if(c, () => {
            const { cf, of } = flags(result);
            ins.flags.setCarryOverflow(ins.f.let(cf), of);
          });
        }
        return result;
      });
    },
  };
}

/** Rotates the low `size` bytes of `a` left by `c` (0..31, taken modulo the width). */
function rotl(ins: Ins, a: Expr, c: Expr): Expr {
  if (ins.size >= 4) return a.rotl(like(ins, c));
  const bits = ins.size * 8;
  const n = ins.f.let(c.and(bits - 1));
  return a
    .shl(n)
    .or(a.shrU(i32(bits).sub(n)))
    .low(bits);
}

/** RCL, RCR: one step at a time, at most 63; the carry is the extra bit. */
function rotateThroughCarry(name: string, left: boolean): Semantics {
  return {
    name,
    forms: ['ri', 'mi', 'rr', 'mr'],
    sizes: ALL,
    emit(ins) {
      const { f, size } = ins;
      const bits = size * 8;
      const masked = count(ins, 1);
      const carryBefore = f.copy(ins.flags.carry());
      ins.modify(0, (a) => {
        const v = f.copy(a);
        const carry = f.copy(carryBefore);
        const next = f.local('i32');
        const n = f.copy(size <= 2 ? masked.remU(i32(bits + 1)) : masked);
        f.block((done) => {
          f.loop((again) => {
            f.brIf(done, n.eqz());
            if (left) {
              f.set(next, bit(v, bits - 1));
              f.set(v, v.shl(1).or(like(ins, carry)).low(bits));
            } else {
              f.set(next, bit(v, 0));
              f.set(
                v,
                v
                  .low(bits)
                  .shrU(1)
                  .or(like(ins, carry).shl(bits - 1)),
              );
            }
            f.set(carry, next);
            f.set(n, n.sub(1));
            f.br(again);
          });
        });
        if (ins.flags.live) {
          f.if(masked, () => {
            const top = f.let(bit(v, bits - 1));
            ins.flags.setCarryOverflow(carry, left ? top.xor(carry) : top.xor(bit(v, bits - 2)));
          });
        }
        return v;
      });
    },
  };
}

/** SHLD, SHRD: operands destination, source, count. */
function doubleShift(name: string, left: boolean): Semantics {
  return {
    name,
    forms: ['rri', 'mri', 'rrr', 'mrr'],
    sizes: [2, 4, 8],
    emit(ins) {
      const { f, size } = ins;
      const bits = size * 8;
      const b = ins.read(1);
      const c = count(ins, 2);
      ins.modify(0, (a) => {
        const r = f.copy(a);
        f.if(c, () => {
          let result: Expr;
          let cf: Expr;
          if (size === 2) {
            // counts above 16 are undefined; silicon shifts dest:src:dest
            const wide = left
              ? f.let(a.i64u().shl(32).or(b.i64u().shl(16)).or(a.i64u()).shl(c.i64u()))
              : f.let(a.i64u().shl(32).or(b.i64u().shl(16)).or(a.i64u()));
            if (left) {
              result = wide.shrU(32).i32().low(16);
              cf = wide.shrU(48).i32().and(1);
            } else {
              result = wide.shrU(c.i64u()).i32().low(16);
              cf = wide.shrU(c.sub(1).i64u()).i32().and(1);
            }
          } else {
            const n = like(ins, c);
            const rest = like(ins, i32(bits).sub(c));
            result = left ? a.shl(n).or(b.shrU(rest)) : a.shrU(n).or(b.shl(rest));
            const last = left ? a.shrU(rest) : a.shrU(like(ins, c.sub(1)));
            cf = last.i32().and(1);
          }
          f.set(r, result);
          if (ins.flags.live) {
            const of = bit(r, bits - 1).xor(bit(a, bits - 1));
            ins.flags.explicit(size, r, f.let(cf), f.let(of));
          }
        });
        return r;
      });
    },
  };
}

export const SHIFT_SEMANTICS: readonly Semantics[] = [
  shift('shl', (ins, a, c) => {
    const bits = ins.size * 8;
    if (ins.size === 8) {
      const r = ins.f.let(a.shl(c.i64u()));
      const cf = a.shrU(i32(64).sub(c).i64u()).i32().and(1);
      return { r, cf: ins.f.let(cf), of: cf.xor(bit(r, 63)) };
    }
    const wide = ins.f.let(a.i64u().shl(c.i64u()));
    const cf = wide.shrU(bits).i32().and(1);
    return { r: wide.i32().low(bits), cf: ins.f.let(cf), of: cf.xor(bit(wide, bits - 1)) };
  }),
  shift('shr', (ins, a, c) => {
    const cf = a
      .shrU(like(ins, c.sub(1)))
      .i32()
      .and(1);
    return { r: a.shrU(like(ins, c)), cf, of: bit(a, ins.size * 8 - 1) };
  }),
  shift('sar', (ins, a, c) => {
    const bits = ins.size * 8;
    const s = ins.f.let(a.sext(bits));
    const cf = s
      .shrS(like(ins, c.sub(1)))
      .i32()
      .and(1);
    return { r: s.shrS(like(ins, c)).low(bits), cf, of: i32(0) };
  }),
  rotate('rol', (ins, a, c) => {
    const bits = ins.size * 8;
    return {
      r: rotl(ins, a, c),
      flags: (r) => ({ cf: bit(r, 0), of: bit(r, 0).xor(bit(r, bits - 1)) }),
    };
  }),
  rotate('ror', (ins, a, c) => {
    const bits = ins.size * 8;
    const r = ins.size >= 4 ? a.rotr(like(ins, c)) : rotl(ins, a, ins.f.let(i32(bits).sub(c.and(bits - 1))));
    return { r, flags: (v) => ({ cf: bit(v, bits - 1), of: bit(v, bits - 1).xor(bit(v, bits - 2)) }) };
  }),
  rotateThroughCarry('rcl', true),
  rotateThroughCarry('rcr', false),
  doubleShift('shld', true),
  doubleShift('shrd', false),
];
