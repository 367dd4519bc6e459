/** PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM. Source: Intel SDM vol. 2, 4.1 "Imm8 control byte operation". */
import { type Expr, type FuncBuilder, i32, i64, type Local } from '../../wasm/index.ts';
import { CpuEnv } from '../env.ts';
import { type Ins, REG, type Semantics } from './ins.ts';
import { immediate, row } from './simd-emit.ts';
import type { SharedFunctions, SimdFunctions } from './simd-functions.ts';
import { laneMask } from './simd-lanes.ts';
import { iota, lane, pair64, simd, zero128 } from './simd-ops.ts';

const XMM0 = CpuEnv.offsetOf('xmm');
/** Elements are words, signed. */
const WORDS = 1;
const SIGNED = 2;

/** Bits 0 … n−1 set, for n up to 31. */
function firstBits(n: Expr): Expr {
  return i32(1).shl(n).sub(1);
}
/** Bit per element in which a comparison of bytes or words holds. */
function bits(f: FuncBuilder, words: Expr, operator: (shape: string) => Expr): Expr {
  const out = f.local('i32');
  f.if(
    words,
    () => f.set(out, simd('i16x8.bitmask', operator('i16x8'))),
    () => f.set(out, simd('i8x16.bitmask', operator('i8x16'))),
  );
  return out;
}

/** Element `i` of `v` in all elements. */
function spread(f: FuncBuilder, words: Expr, v: Expr, i: Expr): Local {
  const out = f.local('v128');
  f.if(
    words,
    () => {
      const at = i.shl(1).mul(0x0101).add(0x0100);
      f.set(out, simd('i8x16.swizzle', v, simd('i16x8.splat', at)));
    },
    () => f.set(out, simd('i8x16.swizzle', v, simd('i8x16.splat', i))),
  );
  return out;
}

/**
 * (a, lengthA, b, lengthB, imm) → the mask after polarity (IntRes2). a holds the set, the ranges or the pattern,
 * b the text.
 */
function emitCompare(f: FuncBuilder): void {
  const [a, lengthA, b, lengthB, imm] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
  const words = f.copy(imm.and(WORDS));
  const count = f.copy(words.select(i32(8), i32(16)));
  const all = f.copy(firstBits(count));
  const validA = f.copy(firstBits(lengthA));
  const validB = f.copy(firstBits(lengthB));
  const result = f.copy(i32(0));
  const i = f.copy(i32(0));
  const equalTo = (element: Local): Expr => bits(f, words, (shape) => simd(`${shape}.eq`, b, element));

  const equalAny = (): void => {
    f.loop((again) => {
      f.if(i.ltU(lengthA), () => {
        f.set(result, result.or(equalTo(spread(f, words, a, i))));
        f.set(i, i.add(1));
        f.br(again);
      });
    });
    f.set(result, result.and(validB));
  };
  const ranges = (): void => {
    f.loop((again) => {
      f.if(i.add(1).ltU(lengthA), () => {
        const low = spread(f, words, a, i);
        const high = spread(f, words, a, i.add(1));
        const within = (sign: string): Expr =>
          bits(f, words, (shape) =>
            simd('v128.and', simd(`${shape}.ge_${sign}`, b, low), simd(`${shape}.le_${sign}`, b, high)),
          );
        f.if(
          imm.and(SIGNED),
          () => f.set(result, result.or(within('s'))),
          () => f.set(result, result.or(within('u'))),
        );
        f.set(i, i.add(2));
        f.br(again);
      });
    });
    f.set(result, result.and(validB));
  };
  const equalEach = (): void => {
    const same = bits(f, words, (shape) => simd(`${shape}.eq`, a, b));
    // both ended: equal; one ended: different
    const bothValid = validA.and(validB);
    const bothEnded = validA.or(validB).xor(all);
    f.set(result, same.and(bothValid).or(bothEnded));
  };
  const equalOrdered = (): void => {
    f.set(result, all);
    f.loop((again) => {
      f.if(i.ltU(lengthA), () => {
        const here = f.let(equalTo(spread(f, words, a, i)).and(validB));
        // what would lie beyond the register counts as equal
        const beyond = firstBits(count.sub(i)).xor(-1);
        f.set(result, result.and(here.shrU(i).or(beyond)));
        f.set(i, i.add(1));
        f.br(again);
      });
    });
  };
  f.switch(imm.shrU(2).and(3), [equalAny, ranges, equalEach], equalOrdered);

  // polarity: bit 4 inverts, with bit 5 only where b is valid
  f.if(imm.and(0x10), () => {
    f.set(result, result.xor(imm.and(0x20).select(validB, all)));
  });
  f.ret(result.and(all));
}

/** Position of the first zero element, or the number of elements. */
function emitLength(f: FuncBuilder): void {
  const [v, words] = [f.param(0), f.param(1)];
  const zeros = bits(f, words, (shape) => simd(`${shape}.eq`, v, zero128()));
  f.ret(zeros.or(words.select(i32(1 << 8), i32(1 << 16))).ctz());
}
/** |n| (i64), at most the number of elements. */
function emitLimit(f: FuncBuilder): void {
  const [n, words] = [f.param(0), f.param(1)];
  const magnitude = f.copy(n.ltS(0).select(i64(0).sub(n), n));
  const limit = f.copy(words.select(i32(8), i32(16)));
  // −2^63 stays negative: unsigned, it is large
  f.ret(magnitude.gtU(limit.i64u()).select(limit, magnitude.i32()));
}
/** IntRes2 as XMM0 gets it: bits, or (imm bit 6) all ones in an element. */
function emitMask(f: FuncBuilder): void {
  const [mask, imm] = [f.param(0), f.param(1)];
  f.if(imm.and(0x40).eqz(), () => f.ret(lane('i32x4.replace_lane', 0, zero128(), mask)));
  f.if(imm.and(WORDS), () => f.ret(laneMask('i16x8', mask)));
  const own = pair64(i64(0x8040201008040201n), i64(0x8040201008040201n));
  // byte i looks at bit i & 7 of mask byte i >> 3
  const chosen = simd('i8x16.swizzle', simd('i32x4.splat', mask), simd('i8x16.shr_u', iota(), i32(3)));
  const bit = f.copy(own);
  f.ret(simd('i8x16.eq', simd('v128.and', chosen, bit), bit));
}

export const STRING_FUNCTIONS: SharedFunctions = {
  strCompare: { params: ['v128', 'i32', 'v128', 'i32', 'i32'], results: ['i32'], emit: emitCompare },
  strLength: { params: ['v128', 'i32'], results: ['i32'], emit: emitLength },
  strLimit: { params: ['i64', 'i32'], results: ['i32'], emit: emitLimit },
  strMask: { params: ['i32', 'i32'], results: ['v128'], emit: emitMask },
};

function compare(fns: SimdFunctions, name: string, explicit: boolean, index: boolean): Semantics {
  const emit = (ins: Ins): void => {
    const { f } = ins;
    const b = ins.readV128(1, true);
    const a = ins.readV128(0);
    const imm = immediate(ins, 2);
    const words = imm.and(WORDS);
    const length = (v: Expr, r: number): Expr => {
      if (!explicit) return f.copy(fns.call(f, 'strLength', v, words));
      return f.copy(fns.call(f, 'strLimit', ins.reg(r, ins.size).i64s(), words));
    };
    const lengthA = length(a, REG.AX);
    const lengthB = length(b, REG.DX);
    const count = f.let(words.select(i32(8), i32(16)));
    const mask = f.copy(fns.call(f, 'strCompare', a, lengthA, b, lengthB, imm));
    if (index) {
      const lowest = mask.ctz();
      const highest = i32(31).sub(mask.clz());
      const found = imm.and(0x40).select(highest, lowest);
      ins.setReg(REG.CX, mask.ne(0).select(found, count), 4);
    } else {
      ins.envStore(16, XMM0, fns.call(f, 'strMask', mask, imm));
    }
    ins.flags.setAll({
      cf: mask.ne(0),
      zf: lengthB.ltU(count),
      sf: lengthA.ltU(count),
      of: mask.and(1),
    });
  };
  return row(name, 'xxi xmi', emit, explicit ? [4, 8] : [4]);
}

export function makeStringCompareSemantics(fns: SimdFunctions): Semantics[] {
  return [
    compare(fns, 'pcmpestri', true, true),
    compare(fns, 'pcmpestrm', true, false),
    compare(fns, 'pcmpistri', false, true),
    compare(fns, 'pcmpistrm', false, false),
  ];
}
