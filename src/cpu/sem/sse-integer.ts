/** Packed integer instructions of XMM registers: arithmetic, logic, shifts, shuffles, blends. Source: Intel SDM vol. 2. */
import { type Expr, type FuncBuilder, i32 } from '../../wasm/index.ts';
import { CpuEnv } from '../env.ts';
import type { Ins, Semantics } from './ins.ts';
import { constantOf, immediate, row } from './simd-emit.ts';
import type { SharedFunctions, SimdFunctions } from './simd-functions.ts';
import {
  bytesDown,
  bytesUp,
  dwordSelectors,
  LANE_OPS,
  laneMask,
  PAIR_OPS,
  shift,
  SHIFTS,
  UNPACK,
  unpack,
  wordSelectors,
  XMM_OPS,
} from './simd-lanes.ts';
import {
  bytes16,
  high64,
  iota,
  lane,
  low64,
  pair64,
  qwords2,
  shuffle,
  simd,
  words8,
  zext32,
  zext64,
  zero128,
} from './simd-ops.ts';

const XMM0 = CpuEnv.offsetOf('xmm');

type Emit = (ins: Ins, a: Expr, b: Expr) => Expr;
/** Destination and source are whole registers (source possibly memory, aligned). */
function binary(name: string, emit: Emit): Semantics {
  return row(name, 'xx xm', (ins) => {
    const b = ins.readV128(1);
    ins.writeV128(0, emit(ins, ins.readV128(0), b));
  });
}
/** With an immediate as third operand. */
function binaryImmediate(name: string, emit: (ins: Ins, a: Expr, b: Expr, imm: Expr) => Expr): Semantics {
  return row(name, 'xxi xmi', (ins) => {
    const b = ins.readV128(1);
    const imm = immediate(ins, 2);
    ins.writeV128(0, emit(ins, ins.readV128(0), b, imm));
  });
}

function tables(): Semantics[] {
  const rows: Semantics[] = [];
  for (const [name, lanes] of Object.entries({ ...LANE_OPS, ...XMM_OPS, ...PAIR_OPS })) {
    rows.push(binary(name, (ins, a, b) => lanes(ins.f, a, b)));
  }
  for (const [letters, bytes] of Object.entries(UNPACK)) {
    rows.push(binary(`punpckl${letters}`, (ins, a, b) => unpack(bytes, false)(ins.f, a, b)));
    rows.push(binary(`punpckh${letters}`, (ins, a, b) => unpack(bytes, true)(ins.f, a, b)));
  }
  return rows;
}

function shifts(): Semantics[] {
  const rows = Object.keys(SHIFTS).map((name) =>
    row(name, 'xx xm xi', (ins) => {
      const count = ins.kinds[1] === 'i' ? immediate(ins, 1) : low64(ins.readV128(1));
      ins.writeV128(0, shift(ins.f, name, ins.readV128(0), count));
    }),
  );
  return [
    ...rows,
    row('psrldq', 'xi', (ins) => ins.writeV128(0, bytesDown(ins.readV128(0), immediate(ins, 1)))),
    row('pslldq', 'xi', (ins) => {
      const imm = immediate(ins, 1);
      const distance = imm.gtU(16).select(i32(16), imm);
      const fixed = constantOf(imm);
      const bounded = fixed === undefined ? distance : i32(Math.min(fixed, 16));
      ins.writeV128(0, bytesUp(ins.readV128(0), bounded));
    }),
  ];
}

function shuffles(): Semantics[] {
  const selectors = (imm: number): number[] => [0, 1, 2, 3].map((i) => (imm >> (2 * i)) & 3);
  const bytesOf = (elements: readonly number[], bytes: number): number[] =>
    elements.flatMap((e) => Array.from({ length: bytes }, (_, i) => e * bytes + i));
  /** Words: one half shuffled, the other kept. */
  const words = (name: string, high: boolean): Semantics =>
    row(name, 'xxi xmi', (ins) => {
      const v = ins.readV128(1);
      const imm = immediate(ins, 2);
      const fixed = constantOf(imm);
      if (fixed !== undefined) {
        const chosen = selectors(fixed).map((s) => s + (high ? 4 : 0));
        const order = high ? [0, 1, 2, 3, ...chosen] : [...chosen, 4, 5, 6, 7];
        return ins.writeV128(0, shuffle(v, v, bytesOf(order, 2)));
      }
      const local = wordSelectors(imm);
      const moved = high ? simd('i8x16.add', local, bytes16(8)) : local;
      const index = simd('v128.bitselect', moved, iota(), high ? qwords2(0n, -1n) : qwords2(-1n, 0n));
      return ins.writeV128(0, simd('i8x16.swizzle', v, index));
    });
  return [
    row('pshufd', 'xxi xmi', (ins) => {
      const v = ins.readV128(1);
      const imm = immediate(ins, 2);
      const fixed = constantOf(imm);
      if (fixed !== undefined) return ins.writeV128(0, shuffle(v, v, bytesOf(selectors(fixed), 4)));
      return ins.writeV128(0, simd('i8x16.swizzle', v, dwordSelectors(imm)));
    }),
    words('pshuflw', false),
    words('pshufhw', true),
    binaryImmediate('shufps', (ins, a, b, imm) => {
      const fixed = constantOf(imm);
      if (fixed !== undefined) {
        const s = selectors(fixed);
        return shuffle(a, b, bytesOf([s[0], s[1], s[2] + 4, s[3] + 4], 4));
      }
      const index = ins.f.let(dwordSelectors(imm));
      const halves = [0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31];
      return shuffle(simd('i8x16.swizzle', a, index), simd('i8x16.swizzle', b, index), halves);
    }),
    binaryImmediate('shufpd', (_ins, a, b, imm) => {
      const fixed = constantOf(imm);
      if (fixed !== undefined) return shuffle(a, b, bytesOf([fixed & 1, 2 + ((fixed >> 1) & 1)], 8));
      const low = imm.and(1).select(high64(a), low64(a));
      return pair64(low, imm.and(2).select(high64(b), low64(b)));
    }),
    binary('pshufb', (_ins, a, b) => simd('i8x16.swizzle', a, simd('v128.and', b, bytes16(0x8f)))),
    binaryImmediate('palignr', (_ins, a, b, imm) => {
      const fixed = constantOf(imm);
      if (fixed !== undefined && fixed <= 16) {
        return shuffle(
          b,
          a,
          Array.from({ length: 16 }, (_, i) => i + fixed),
        );
      }
      const index = simd('i8x16.add_sat_u', iota(), simd('i8x16.splat', imm));
      const upper = simd('i8x16.swizzle', a, simd('i8x16.sub', index, bytes16(16)));
      return simd('v128.or', bytesDown(b, imm), upper);
    }),
  ];
}

function blends(): Semantics[] {
  const rows = [
    binaryImmediate('blendps', (_ins, a, b, imm) => simd('v128.bitselect', b, a, laneMask('i32x4', imm))),
    binaryImmediate('blendpd', (_ins, a, b, imm) => simd('v128.bitselect', b, a, laneMask('i64x2', imm))),
    binaryImmediate('pblendw', (_ins, a, b, imm) => simd('v128.bitselect', b, a, laneMask('i16x8', imm))),
  ];
  // the mask is XMM0, an operand of its own in the decoder's forms
  const variable: [string, string, number][] = [
    ['pblendvb', 'i8x16', 7],
    ['blendvps', 'i32x4', 31],
    ['blendvpd', 'i64x2', 63],
  ];
  for (const [name, shape, top] of variable) {
    rows.push(
      row(name, 'xxx xmx', (ins) => {
        const b = ins.readV128(1);
        const mask = simd(`${shape}.shr_s`, ins.envLoad('v128', XMM0), i32(top));
        ins.writeV128(0, simd('v128.bitselect', b, ins.readV128(0), mask));
      }),
    );
  }
  return rows;
}

/** PMOVSX and PMOVZX: one widening step after another. */
function widenings(): Semantics[] {
  const steps: Record<string, readonly [number, readonly string[]]> = {
    bw: [8, ['i16x8.extend_low_i8x16']],
    bd: [4, ['i16x8.extend_low_i8x16', 'i32x4.extend_low_i16x8']],
    bq: [2, ['i16x8.extend_low_i8x16', 'i32x4.extend_low_i16x8', 'i64x2.extend_low_i32x4']],
    wd: [8, ['i32x4.extend_low_i16x8']],
    wq: [4, ['i32x4.extend_low_i16x8', 'i64x2.extend_low_i32x4']],
    dq: [8, ['i64x2.extend_low_i32x4']],
  };
  const rows: Semantics[] = [];
  for (const [letters, [bytes, names]] of Object.entries(steps)) {
    for (const sign of ['s', 'z'] as const) {
      rows.push(
        row(`pmov${sign}x${letters}`, 'xx xm', (ins) => {
          let v: Expr;
          if (ins.kinds[1] === 'm') {
            const raw = ins.load(ins.address(1), bytes);
            v = bytes === 8 ? zext64(raw) : zext32(raw);
          } else v = ins.readV128(1);
          for (const name of names) v = simd(`${name}_${sign === 's' ? 's' : 'u'}`, v);
          ins.writeV128(0, v);
        }),
      );
    }
  }
  return rows;
}

/** MPSADBW: eight sums of absolute differences of four bytes (SDM vol. 2). */
function emitMpsadbw(f: FuncBuilder): void {
  const [a, b, imm] = [f.param(0), f.param(1), f.param(2)];
  const start = imm.and(4); // first byte in a: 0 or 4
  const block = imm.and(3).shl(2); // the four bytes of b
  const window = f.copy(bytesDown(a, start));
  const pattern = f.copy(bytesDown(b, block));
  // bytes i … i+3 of the window in words i: four passes of 8 differences each
  const sum = f.copy(zero128());
  for (let k = 0; k < 4; k++) {
    const mine = simd('i16x8.extend_low_i8x16_u', bytesDown(window, i32(k)));
    const theirs = simd('i16x8.splat', lane('i8x16.extract_lane_u', k, pattern));
    const difference = simd('i16x8.abs', simd('i16x8.sub', mine, theirs));
    f.set(sum, simd('i16x8.add', sum, difference));
  }
  f.ret(sum);
}

/** PHMINPOSUW: the smallest word and its index. */
function emitPhminposuw(f: FuncBuilder): void {
  const v = f.param(0);
  // (word << 3 | index) of each lane; the minimum has both
  const numbers = (first: number): Expr => simd('i32x4.splat', i32(first));
  const low = simd('i32x4.shl', simd('i32x4.extend_low_i16x8_u', v), i32(3));
  const high = simd('i32x4.shl', simd('i32x4.extend_high_i16x8_u', v), i32(3));
  const order = simd('i32x4.extend_low_i16x8_u', words8(0, 1, 2, 3));
  const keyed = (x: Expr, first: number): Expr =>
    simd('i32x4.add', x, simd('i32x4.add', order, numbers(first)));
  const four = f.copy(simd('i32x4.min_u', keyed(low, 0), keyed(high, 4)));
  const fold = (indices: readonly number[]): void =>
    f.set(four, simd('i32x4.min_u', four, shuffle(four, four, indices)));
  fold([8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]);
  fold([4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11]);
  const best = f.copy(lane('i32x4.extract_lane', 0, four));
  f.ret(zext32(best.shrU(3).or(best.and(7).shl(16))));
}

export const INTEGER_FUNCTIONS: SharedFunctions = {
  mpsadbw: { params: ['v128', 'v128', 'i32'], results: ['v128'], emit: emitMpsadbw },
  phminposuw: { params: ['v128'], results: ['v128'], emit: emitPhminposuw },
};

/** Packed integer instructions for one module. */
export function makeIntegerSemantics(fns: SimdFunctions): Semantics[] {
  return [
    ...tables(),
    ...shifts(),
    ...shuffles(),
    ...blends(),
    ...widenings(),
    binaryImmediate('mpsadbw', (ins, a, b, imm) => fns.call(ins.f, 'mpsadbw', a, b, imm)),
    row('phminposuw', 'xx xm', (ins) => {
      ins.writeV128(0, fns.call(ins.f, 'phminposuw', ins.readV128(1)));
    }),
    row('ptest', 'xx xm', (ins) => {
      const b = ins.readV128(1);
      const a = ins.readV128(0);
      ins.flags.setAll({
        zf: simd('v128.any_true', simd('v128.and', a, b)).eqz(),
        cf: simd('v128.any_true', simd('v128.andnot', b, a)).eqz(),
      });
    }),
  ];
}
