/**
 * MMX: the low halves of the XMM operations on 64-bit registers that are the x87 mantissas. Every instruction but
 * EMMS makes all x87 registers valid and TOP 0. Source: Intel SDM vol. 1, chapter 9; vol. 2.
 */
import { type Expr, i32, i64 } from '../../wasm/index.ts';
import { CpuEnv } from '../env.ts';
import type { Ins, Semantics } from './ins.ts';
import { enterMmx, immediate, mmxRow, row, splat64, writeMmx } from './simd-emit.ts';
import { LANE_OPS, PAIR_OPS, shift, SHIFTS, UNPACK, unpack, wordSelectors } from './simd-lanes.ts';
import { bytes16, high64, low64, pair64, simd, zext64 } from './simd-ops.ts';
import { maskedStore } from './sse-move.ts';

const FP_TOP = CpuEnv.offsetOf('fpTop');
const FP_TAGS = CpuEnv.offsetOf('fpTags');

/** Operand `n` as i64, bound. */
function source(ins: Ins, n: number, bytes: 4 | 8 = 8): Expr {
  return ins.readLow(n, bytes).i64u();
}
function binary(name: string, emit: (ins: Ins, a: Expr, b: Expr) => Expr, bytes: 4 | 8 = 8): Semantics {
  return mmxRow(name, 'qq qm', (ins) => {
    const b = ins.f.let(source(ins, 1, ins.kinds[1] === 'm' ? bytes : 8));
    writeMmx(ins, 0, emit(ins, source(ins, 0), b));
  });
}
/** Both operands in the low halves, bound. */
function low(ins: Ins, v: Expr): Expr {
  return ins.f.let(splat64(v));
}

function arithmetic(): Semantics[] {
  const rows: Semantics[] = [];
  for (const [name, lanes] of Object.entries(LANE_OPS)) {
    rows.push(binary(name, (ins, a, b) => low64(lanes(ins.f, low(ins, a), low(ins, b)))));
  }
  for (const [name, lanes] of Object.entries(PAIR_OPS)) {
    rows.push(
      binary(name, (ins, a, b) => {
        const both = ins.f.let(pair64(a, b));
        return low64(lanes(ins.f, both, both));
      }),
    );
  }
  for (const [letters, bytes] of Object.entries(UNPACK)) {
    // interleaving the low halves of XMM registers gives all of it: the low quarters below, the high ones above
    const all = (ins: Ins, a: Expr, b: Expr): Expr => unpack(bytes, false)(ins.f, low(ins, a), low(ins, b));
    rows.push(binary(`punpckl${letters}`, (ins, a, b) => low64(all(ins, a, b)), 4));
    rows.push(binary(`punpckh${letters}`, (ins, a, b) => high64(all(ins, a, b))));
  }
  for (const name of Object.keys(SHIFTS)) {
    rows.push(
      mmxRow(name, 'qq qm qi', (ins) => {
        const count = ins.kinds[1] === 'i' ? immediate(ins, 1) : source(ins, 1);
        writeMmx(ins, 0, low64(shift(ins.f, name, low(ins, source(ins, 0)), count)));
      }),
    );
  }
  return rows;
}

function shuffles(): Semantics[] {
  return [
    binary('pshufb', (ins, a, b) =>
      low64(simd('i8x16.swizzle', low(ins, a), simd('v128.and', splat64(b), bytes16(0x87)))),
    ),
    mmxRow('pshufw', 'qqi qmi', (ins) => {
      const v = low(ins, source(ins, 1));
      const imm = immediate(ins, 2);
      writeMmx(ins, 0, low64(simd('i8x16.swizzle', v, wordSelectors(imm))));
    }),
    mmxRow('palignr', 'qqi qmi', (ins) => {
      const b = source(ins, 1);
      const a = source(ins, 0);
      const imm = immediate(ins, 2);
      // 16 bytes b, a shifted down by imm bytes; from 16 on nothing is left
      const distance = ins.f.let(simd('i8x16.splat', imm));
      const index = simd('i8x16.add_sat_u', simd('i64x2.splat', i64(0x0706050403020100n)), distance);
      writeMmx(ins, 0, low64(simd('i8x16.swizzle', pair64(b, a), index)));
    }),
    mmxRow('pinsrw', 'qri qmi', (ins) => {
      const value = ins.kinds[1] === 'm' ? ins.load(ins.address(1), 2) : ins.read(1, 4);
      const imm = immediate(ins, 2);
      const at = ins.f.let(imm.and(3).shl(4).i64u());
      const hole = i64(0xffff).shl(at).xor(-1);
      writeMmx(ins, 0, source(ins, 0).and(hole).or(value.and(0xffff).i64u().shl(at)));
    }),
    mmxRow('pextrw', 'rqi', (ins) => {
      const at = immediate(ins, 2).and(3).shl(4).i64u();
      ins.write(0, source(ins, 1).shrU(at).i32().and(0xffff), 4);
      enterMmx(ins);
    }),
    mmxRow('pmovmskb', 'rq', (ins) => {
      ins.write(0, simd('i8x16.bitmask', zext64(source(ins, 1))), 4);
      enterMmx(ins);
    }),
  ];
}

function moves(): Semantics[] {
  return [
    mmxRow('movd', 'qr qm rq mq', (ins) => {
      if (ins.kinds[0] === 'q') return writeMmx(ins, 0, ins.read(1, 4).i64u());
      ins.write(0, ins.readLow(1, 4), 4);
      return enterMmx(ins);
    }),
    mmxRow('movq', 'qr qm rq mq qq', (ins) => {
      const v = ins.kinds[1] === 'q' ? source(ins, 1) : ins.read(1, 8);
      if (ins.kinds[0] === 'q') return writeMmx(ins, 0, v);
      ins.write(0, v, 8);
      return enterMmx(ins);
    }),
    mmxRow('movntq', 'mq', (ins) => {
      ins.write(0, source(ins, 1), 8);
      enterMmx(ins);
    }),
    row('movq2dq', 'xq', (ins) => {
      ins.writeV128(0, zext64(source(ins, 1)));
      enterMmx(ins);
    }),
    row('movdq2q', 'qx', (ins) => writeMmx(ins, 0, ins.readLow(1, 8))),
    {
      name: 'maskmovq',
      unit: 'mmx',
      forms: ['qq'],
      sizes: [4],
      addressSizes: [2, 4, 8],
      // as a string instruction: the record holds the segment
      reps: [],
      emit: (ins) => {
        maskedStore(ins, splat64(source(ins, 0)), splat64(source(ins, 1)), 8);
        enterMmx(ins);
      },
    },
    mmxRow('emms', '', (ins) => {
      ins.envStore(4, FP_TOP, i32(0));
      ins.envStore(1, FP_TAGS, i32(0));
    }),
  ];
}

export const MMX_SEMANTICS: readonly Semantics[] = [...arithmetic(), ...shuffles(), ...moves()];
