/** AES-NI and PCLMULQDQ. Source: Intel SDM vol. 2; FIPS 197; Intel's carry-less multiplication white paper. */
import { type Expr, type FuncBuilder, i32, i64 } from '../../wasm/index.ts';
import type { Semantics } from './ins.ts';
import { immediate, row } from './simd-emit.ts';
import type { SharedFunctions, SimdFunctions } from './simd-functions.ts';
import { bytes16, dwords4, high64, low64, pair64, shuffle, simd, zero128 } from './simd-ops.ts';

/** Product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1. */
function multiply(a: number, b: number): number {
  let product = 0;
  let factor = a;
  for (let bit = b; bit !== 0; bit >>= 1) {
    if (bit & 1) product ^= factor;
    factor = (factor << 1) ^ (factor & 0x80 ? 0x11b : 0);
  }
  return product;
}
/** The S-box (FIPS 197, 5.1.1): inverse, then an affine transformation. */
function substitutionBox(): number[] {
  return Array.from({ length: 256 }, (_, x) => {
    let inverse = 0;
    for (let y = 1; y < 256 && inverse === 0; y++) if (multiply(x, y) === 1) inverse = y;
    const rotate = (n: number): number => ((inverse << n) | (inverse >> (8 - n))) & 255;
    return inverse ^ rotate(1) ^ rotate(2) ^ rotate(3) ^ rotate(4) ^ 0x63;
  });
}
function inverseBox(box: readonly number[]): number[] {
  const out = new Array<number>(256).fill(0);
  box.forEach((v, i) => {
    out[v] = i;
  });
  return out;
}

/** Looks bytes up in a table of 256: sixteen swizzles, of which one per byte gives something else than 0. */
function emitLookup(f: FuncBuilder, table: readonly number[]): void {
  const v = f.param(0);
  const out = f.copy(zero128());
  const index = f.copy(v);
  for (let i = 0; i < 16; i++) {
    if (i > 0) f.set(index, simd('i8x16.sub', index, bytes16(16)));
    f.set(
      out,
      simd('v128.or', out, simd('i8x16.swizzle', bytes16(...table.slice(16 * i, 16 * i + 16)), index)),
    );
  }
  f.ret(out);
}

/** Multiplication of each byte by x. */
function timesX(f: FuncBuilder, v: Expr): Expr {
  const a = f.let(v);
  const carry = simd('v128.and', simd('i8x16.shr_s', a, i32(7)), bytes16(0x1b));
  return simd('v128.xor', simd('i8x16.shl', a, i32(1)), carry);
}
/** Bytes of each column rotated: byte i becomes byte i + by. */
function rotateColumns(v: Expr, by: number): Expr {
  return shuffle(
    v,
    v,
    Array.from({ length: 16 }, (_, i) => (i & 12) | ((i + by) & 3)),
  );
}
function xor(...values: Expr[]): Expr {
  return values.reduce((a, b) => simd('v128.xor', a, b));
}
/** MixColumns: 2a ^ 3b ^ c ^ d = 2(a ^ b) ^ b ^ c ^ d. */
function mixColumns(f: FuncBuilder, v: Expr): Expr {
  const a = f.let(v);
  const b = f.let(rotateColumns(a, 1));
  return xor(timesX(f, xor(a, b)), b, rotateColumns(a, 2), rotateColumns(a, 3));
}
/** InvMixColumns is MixColumns after adding 4(a ^ c) to each byte (FIPS 197, 5.3.3: 14, 11, 13, 9). */
function inverseMixColumns(f: FuncBuilder, v: Expr): Expr {
  const a = f.let(v);
  const opposite = xor(a, rotateColumns(a, 2));
  return mixColumns(f, f.let(xor(a, timesX(f, timesX(f, opposite)))));
}
const SHIFT_ROWS = Array.from({ length: 16 }, (_, i) => (i + 4 * (i & 3)) & 15);
const INVERSE_SHIFT_ROWS = Array.from({ length: 16 }, (_, i) => (i - 4 * (i & 3)) & 15);

const STATE_AND_KEY = { params: ['v128', 'v128'], results: ['v128'] } as const;
/** One round of AES. */
function roundFunction(decrypt: boolean, last: boolean): SharedFunctions[string] {
  return {
    ...STATE_AND_KEY,
    emit(f, fns) {
      const [state, key] = [f.param(0), f.param(1)];
      const shifted = shuffle(state, state, decrypt ? INVERSE_SHIFT_ROWS : SHIFT_ROWS);
      const bytes = f.copy(fns.call(f, decrypt ? 'aesInverseBox' : 'aesBox', shifted));
      const mixed = last ? bytes : decrypt ? inverseMixColumns(f, bytes) : mixColumns(f, bytes);
      f.ret(xor(mixed, key));
    },
  };
}

/** Carry-less product of two i64: low 64 bits. Integer products of operands with holes of three bits cannot carry into a neighbour. */
function emitClmulLow(f: FuncBuilder): void {
  const masks = [0, 1, 2, 3].map((k) => i64(0x1111111111111111n << BigInt(k)));
  const x = masks.map((m) => f.copy(f.param(0).and(m)));
  const y = masks.map((m) => f.copy(f.param(1).and(m)));
  const parts = masks.map((mask, k) => {
    const products = [0, 1, 2, 3].map((i) => x[i].mul(y[(k - i) & 3]));
    return products.reduce((a, b) => a.xor(b)).and(mask);
  });
  f.ret(parts.reduce((a, b) => a.or(b)));
}
function emitReverse(f: FuncBuilder): void {
  const v = f.param(0);
  for (const [shift, mask] of [
    [1, 0x5555555555555555n],
    [2, 0x3333333333333333n],
    [4, 0x0f0f0f0f0f0f0f0fn],
    [8, 0x00ff00ff00ff00ffn],
    [16, 0x0000ffff0000ffffn],
  ] as const) {
    f.set(
      v,
      v
        .shrU(shift)
        .and(i64(mask))
        .or(v.and(i64(mask)).shl(shift)),
    );
  }
  f.ret(v.rotl(32));
}

const BOX = substitutionBox();

export const CRYPTO_FUNCTIONS: SharedFunctions = {
  aesBox: { params: ['v128'], results: ['v128'], emit: (f) => emitLookup(f, BOX) },
  aesInverseBox: { params: ['v128'], results: ['v128'], emit: (f) => emitLookup(f, inverseBox(BOX)) },
  aesenc: roundFunction(false, false),
  aesenclast: roundFunction(false, true),
  aesdec: roundFunction(true, false),
  aesdeclast: roundFunction(true, true),
  aesimc: { params: ['v128'], results: ['v128'], emit: (f) => f.ret(inverseMixColumns(f, f.param(0))) },
  aeskeygenassist: {
    params: ['v128', 'i32'],
    results: ['v128'],
    emit(f, fns) {
      const [v, constant] = [f.param(0), f.param(1)];
      const bytes = f.copy(fns.call(f, 'aesBox', v));
      // dwords: S(1), rotated S(1) ^ constant, S(3), rotated S(3) ^ constant
      const order = [4, 5, 6, 7, 5, 6, 7, 4, 12, 13, 14, 15, 13, 14, 15, 12];
      const mask = dwords4(0, 0xffffffff);
      f.ret(xor(shuffle(bytes, bytes, order), simd('v128.and', simd('i32x4.splat', constant), mask)));
    },
  },
  reverse64: { params: ['i64'], results: ['i64'], emit: emitReverse },
  clmulLow: { params: ['i64', 'i64'], results: ['i64'], emit: emitClmulLow },
  pclmulqdq: {
    params: ['v128', 'v128', 'i32'],
    results: ['v128'],
    emit(f, fns) {
      const [a, b, imm] = [f.param(0), f.param(1), f.param(2)];
      const x = f.copy(imm.and(1).select(high64(a), low64(a)));
      const y = f.copy(imm.and(16).select(high64(b), low64(b)));
      const reversed = (v: Expr): Expr => fns.call(f, 'reverse64', v);
      // the high part is the low part of the reversed operands, reversed, one bit lower
      const high = reversed(fns.call(f, 'clmulLow', reversed(x), reversed(y))).shrU(1);
      f.ret(pair64(fns.call(f, 'clmulLow', x, y), high));
    },
  },
};

export function makeCryptoSemantics(fns: SimdFunctions): Semantics[] {
  const rounds = ['aesenc', 'aesenclast', 'aesdec', 'aesdeclast'].map((name) =>
    row(name, 'xx xm', (ins) => {
      const b = ins.readV128(1);
      ins.writeV128(0, fns.call(ins.f, name, ins.readV128(0), b));
    }),
  );
  return [
    ...rounds,
    row('aesimc', 'xx xm', (ins) => ins.writeV128(0, fns.call(ins.f, 'aesimc', ins.readV128(1)))),
    row('aeskeygenassist', 'xxi xmi', (ins) => {
      const b = ins.readV128(1);
      ins.writeV128(0, fns.call(ins.f, 'aeskeygenassist', b, immediate(ins, 2)));
    }),
    row('pclmulqdq', 'xxi xmi', (ins) => {
      const b = ins.readV128(1);
      const imm = immediate(ins, 2);
      ins.writeV128(0, fns.call(ins.f, 'pclmulqdq', ins.readV128(0), b, imm));
    }),
  ];
}
