/**
 * Packed integer operations as functions of whole v128 values, used by the XMM and the MMX forms.
 * Source: Intel SDM vol. 2.
 */
import { type Expr, type FuncBuilder, i32 } from '../../wasm/index.ts';
import { dwords4, iota, qwords2, shuffle, simd, words8, zero128 } from './simd-ops.ts';

/** Operands are bound; the result is not. */
export type Lanes = (f: FuncBuilder, a: Expr, b: Expr) => Expr;

const plain =
  (name: string): Lanes =>
  (_f, a, b) =>
    simd(name, a, b);
const exchanged =
  (name: string): Lanes =>
  (_f, a, b) =>
    simd(name, b, a);

const EVEN_DWORDS = [0, 1, 2, 3, 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11];
const HIGH_WORDS = [2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31];
const EVEN_WORDS = HIGH_WORDS.map((i) => i - 2);
const HIGH_DWORDS = [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31];
const LOW_DWORDS = HIGH_DWORDS.map((i) => i - 4);

function highProduct(sign: 's' | 'u'): Lanes {
  return (_f, a, b) =>
    shuffle(
      simd(`i32x4.extmul_low_i16x8_${sign}`, a, b),
      simd(`i32x4.extmul_high_i16x8_${sign}`, a, b),
      HIGH_WORDS,
    );
}
function evenProduct(sign: 's' | 'u'): Lanes {
  return (_f, a, b) =>
    simd(`i64x2.extmul_low_i32x4_${sign}`, shuffle(a, a, EVEN_DWORDS), shuffle(b, b, EVEN_DWORDS));
}
/** PSIGN: a, −a or 0 as b is positive, negative or zero. */
function sign(shape: string): Lanes {
  return (f, a, b) => {
    const negative = f.let(simd(`${shape}.lt_s`, b, zero128()));
    const flipped = simd(`${shape}.sub`, simd('v128.xor', a, negative), negative);
    return simd('v128.andnot', flipped, simd(`${shape}.eq`, b, zero128()));
  };
}
/** Horizontal operation: elements of a, then of b. */
function horizontal(name: string, even: readonly number[], odd: readonly number[]): Lanes {
  return (_f, a, b) => simd(name, shuffle(a, b, even), shuffle(a, b, odd));
}

/** Operations in which each half of the result depends on the same half of the operands only. */
export const LANE_OPS: Readonly<Record<string, Lanes>> = {
  paddb: plain('i8x16.add'),
  paddw: plain('i16x8.add'),
  paddd: plain('i32x4.add'),
  paddq: plain('i64x2.add'),
  psubb: plain('i8x16.sub'),
  psubw: plain('i16x8.sub'),
  psubd: plain('i32x4.sub'),
  psubq: plain('i64x2.sub'),
  paddsb: plain('i8x16.add_sat_s'),
  paddsw: plain('i16x8.add_sat_s'),
  paddusb: plain('i8x16.add_sat_u'),
  paddusw: plain('i16x8.add_sat_u'),
  psubsb: plain('i8x16.sub_sat_s'),
  psubsw: plain('i16x8.sub_sat_s'),
  psubusb: plain('i8x16.sub_sat_u'),
  psubusw: plain('i16x8.sub_sat_u'),
  pcmpeqb: plain('i8x16.eq'),
  pcmpeqw: plain('i16x8.eq'),
  pcmpeqd: plain('i32x4.eq'),
  pcmpgtb: plain('i8x16.gt_s'),
  pcmpgtw: plain('i16x8.gt_s'),
  pcmpgtd: plain('i32x4.gt_s'),
  pand: plain('v128.and'),
  por: plain('v128.or'),
  pxor: plain('v128.xor'),
  pandn: exchanged('v128.andnot'),
  pminub: plain('i8x16.min_u'),
  pmaxub: plain('i8x16.max_u'),
  pminsw: plain('i16x8.min_s'),
  pmaxsw: plain('i16x8.max_s'),
  pavgb: plain('i8x16.avgr_u'),
  pavgw: plain('i16x8.avgr_u'),
  pmullw: plain('i16x8.mul'),
  pmulhw: highProduct('s'),
  pmulhuw: highProduct('u'),
  pmuludq: evenProduct('u'),
  pmaddwd: plain('i32x4.dot_i16x8_s'),
  psadbw: (f, a, b) => {
    const distance = simd('i8x16.sub', simd('i8x16.max_u', a, b), simd('i8x16.min_u', a, b));
    const words = simd('i16x8.extadd_pairwise_i8x16_u', distance);
    const dwords = f.let(simd('i32x4.extadd_pairwise_i16x8_u', words));
    const low = simd('v128.and', dwords, qwords2(0xffffffffn));
    return simd('i64x2.add', low, simd('i64x2.shr_u', dwords, i32(32)));
  },
  psignb: sign('i8x16'),
  psignw: sign('i16x8'),
  psignd: sign('i32x4'),
  pabsb: (_f, _a, b) => simd('i8x16.abs', b),
  pabsw: (_f, _a, b) => simd('i16x8.abs', b),
  pabsd: (_f, _a, b) => simd('i32x4.abs', b),
  pmulhrsw: (_f, a, b) => {
    // wasm saturates −1 · −1, x86 wraps
    const least = words8(0x8000);
    const both = simd('v128.and', simd('i16x8.eq', a, least), simd('i16x8.eq', b, least));
    return simd('v128.xor', simd('i16x8.q15mulr_sat_s', a, b), both);
  },
  pmaddubsw: (_f, a, b) => {
    const evenA = simd('v128.and', a, words8(0xff));
    const oddA = simd('i16x8.shr_u', a, i32(8));
    const evenB = simd('i16x8.shr_s', simd('i16x8.shl', b, i32(8)), i32(8));
    const oddB = simd('i16x8.shr_s', b, i32(8));
    return simd('i16x8.add_sat_s', simd('i16x8.mul', evenA, evenB), simd('i16x8.mul', oddA, oddB));
  },
};

/** Operations of XMM registers only. */
export const XMM_OPS: Readonly<Record<string, Lanes>> = {
  pmuldq: evenProduct('s'),
  pmulld: plain('i32x4.mul'),
  pcmpeqq: plain('i64x2.eq'),
  pcmpgtq: plain('i64x2.gt_s'),
  packusdw: plain('i16x8.narrow_i32x4_u'),
  pminsb: plain('i8x16.min_s'),
  pminsd: plain('i32x4.min_s'),
  pminuw: plain('i16x8.min_u'),
  pminud: plain('i32x4.min_u'),
  pmaxsb: plain('i8x16.max_s'),
  pmaxsd: plain('i32x4.max_s'),
  pmaxuw: plain('i16x8.max_u'),
  pmaxud: plain('i32x4.max_u'),
  andps: plain('v128.and'),
  andpd: plain('v128.and'),
  orps: plain('v128.or'),
  orpd: plain('v128.or'),
  xorps: plain('v128.xor'),
  xorpd: plain('v128.xor'),
  andnps: exchanged('v128.andnot'),
  andnpd: exchanged('v128.andnot'),
  punpcklqdq: (_f, a, b) => shuffle(a, b, interleave(8, false)),
  punpckhqdq: (_f, a, b) => shuffle(a, b, interleave(8, true)),
  unpcklpd: (_f, a, b) => shuffle(a, b, interleave(8, false)),
  unpckhpd: (_f, a, b) => shuffle(a, b, interleave(8, true)),
  unpcklps: (_f, a, b) => shuffle(a, b, interleave(4, false)),
  unpckhps: (_f, a, b) => shuffle(a, b, interleave(4, true)),
};

/** Indices that interleave elements of the low or high halves of two vectors. */
function interleave(bytes: number, high: boolean): number[] {
  const start = high ? 8 : 0;
  return Array.from({ length: 16 }, (_, i) => {
    const element = Math.floor(i / bytes);
    return start + (element >> 1) * bytes + (i % bytes) + (element & 1 ? 16 : 0);
  });
}

/** Interleaves by element size. Of the low halves (MMX: low quarters) in the low half of the result. */
export const UNPACK: Readonly<Record<string, number>> = { bw: 1, wd: 2, dq: 4 };
export function unpack(bytes: number, high: boolean): Lanes {
  const indices = interleave(bytes, high);
  return (_f, a, b) => shuffle(a, b, indices);
}

/** The low half of the result comes from a, the high half from b. */
export const PAIR_OPS: Readonly<Record<string, Lanes>> = {
  packsswb: plain('i8x16.narrow_i16x8_s'),
  packuswb: plain('i8x16.narrow_i16x8_u'),
  packssdw: plain('i16x8.narrow_i32x4_s'),
  phaddw: horizontal('i16x8.add', EVEN_WORDS, HIGH_WORDS),
  phaddd: horizontal('i32x4.add', LOW_DWORDS, HIGH_DWORDS),
  phaddsw: horizontal('i16x8.add_sat_s', EVEN_WORDS, HIGH_WORDS),
  phsubw: horizontal('i16x8.sub', EVEN_WORDS, HIGH_WORDS),
  phsubd: horizontal('i32x4.sub', LOW_DWORDS, HIGH_DWORDS),
  phsubsw: horizontal('i16x8.sub_sat_s', EVEN_WORDS, HIGH_WORDS),
};

/** Shifts by a count: name to shape, operator, bits of an element. */
export const SHIFTS: Readonly<Record<string, readonly [string, 'shl' | 'shr_u' | 'shr_s', number]>> = {
  psllw: ['i16x8', 'shl', 16],
  pslld: ['i32x4', 'shl', 32],
  psllq: ['i64x2', 'shl', 64],
  psrlw: ['i16x8', 'shr_u', 16],
  psrld: ['i32x4', 'shr_u', 32],
  psrlq: ['i64x2', 'shr_u', 64],
  psraw: ['i16x8', 'shr_s', 16],
  psrad: ['i32x4', 'shr_s', 32],
};
/** `count`: i32 (from an immediate) or i64, unsigned. */
export function shift(f: FuncBuilder, name: string, v: Expr, count: Expr): Expr {
  const [shape, operator, bits] = SHIFTS[name];
  const c = f.let(count);
  const over = c.gtU(bits - 1);
  if (operator === 'shr_s') {
    const bounded = over.select(i32(bits - 1), c.i32());
    return simd(`${shape}.shr_s`, v, c.isConst ? i32(Math.min(Number(c.value), bits - 1)) : bounded);
  }
  if (c.isConst) {
    return Number(c.value) >= bits ? zero128() : simd(`${shape}.${operator}`, v, i32(Number(c.value)));
  }
  return over.select(zero128(), simd(`${shape}.${operator}`, v, c.i32()));
}

/** Byte i of the result is byte i + distance of v, or 0 outside it; `distance`: i32, 0 to 255. */
export function bytesDown(v: Expr, distance: Expr): Expr {
  const index = simd('i8x16.add_sat_u', iota(), simd('i8x16.splat', distance));
  return simd('i8x16.swizzle', v, index);
}
/** Byte i of the result is byte i − distance of v, or 0; `distance`: i32, 0 to 16. */
export function bytesUp(v: Expr, distance: Expr): Expr {
  return simd('i8x16.swizzle', v, simd('i8x16.sub', iota(), simd('i8x16.splat', distance)));
}

/** Byte indices that PSHUFD's immediate (i32) stands for. */
export function dwordSelectors(imm: Expr): Expr {
  // lane i: bits 2i+1..2i of the immediate, moved to bits 7..6 by a multiplication
  const spread = simd('i32x4.mul', simd('i32x4.splat', imm), dwords4(64, 16, 4, 1));
  const lanes = simd('v128.and', simd('i32x4.shr_u', spread, i32(6)), dwords4(3));
  return simd('i32x4.add', simd('i32x4.mul', lanes, dwords4(0x04040404)), dwords4(0x03020100));
}
/** Byte indices of PSHUFLW (both halves alike). */
export function wordSelectors(imm: Expr): Expr {
  const spread = simd('i16x8.mul', simd('i16x8.splat', imm), words8(64, 16, 4, 1));
  const lanes = simd('v128.and', simd('i16x8.shr_u', spread, i32(6)), words8(3));
  return simd('i16x8.add', simd('i16x8.mul', lanes, words8(0x0202)), words8(0x0100));
}
/** All ones in the lanes whose bit in the i32 immediate is set. */
export function laneMask(shape: 'i16x8' | 'i32x4' | 'i64x2', imm: Expr): Expr {
  const bits =
    shape === 'i16x8'
      ? words8(1, 2, 4, 8, 16, 32, 64, 128)
      : shape === 'i32x4'
        ? dwords4(1, 2, 4, 8)
        : qwords2(1n, 2n);
  const all = shape === 'i64x2' ? simd('i64x2.splat', imm.i64u()) : simd(`${shape}.splat`, imm);
  return simd(`${shape}.eq`, simd('v128.and', all, bits), bits);
}
