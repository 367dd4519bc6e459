/** What the SIMD semantics share: reading and writing operands, the exact slow path, immediates. */
import { Expr, i32, type Local } from '../../wasm/index.ts';
import { CpuEnv } from '../env.ts';
import type { Ins, Semantics } from './ins.ts';
import { denormalBits, isFinite, isOrdinary, MXCSR, mxcsr, PENDING } from './simd-float.ts';
import { dwords4, high64, lane, low64, pair64, qwords2, simd } from './simd-ops.ts';

const CR4_OFFSET = CpuEnv.offsetOf('cr4');
const CR4_OSXMMEXCPT = 1 << 10;
const UNDEFINED_OPCODE = 6;
const SIMD_EXCEPTION = 19;

/** A row: forms separated by blanks. Operand size is 4 unless given. */
export function row(
  name: string,
  forms: string,
  emit: (ins: Ins) => void,
  sizes: readonly number[] = [4],
): Semantics {
  return { name, forms: forms.split(' '), sizes, unit: 'sse', emit };
}
/** As `row`, for an instruction that belongs to MMX: it does not ask for CR4.OSFXSR. */
export function mmxRow(name: string, forms: string, emit: (ins: Ins) => void): Semantics {
  return { ...row(name, forms, emit), unit: 'mmx' };
}

/** Raises #XM (#UD without CR4.OSXMMEXCPT) if the slow path just called found an unmasked exception. */
export function raisePending(ins: Ins): void {
  const { f } = ins;
  f.if(
    ins.envLoad('i32', PENDING),
    () => {
      f.if(
        ins.envLoad('i32', CR4_OFFSET).and(CR4_OSXMMEXCPT),
        () => ins.raise(SIMD_EXCEPTION),
        () => ins.raise(UNDEFINED_OPCODE),
      );
    },
    undefined,
    false,
  );
}

/** `result` holds the fast path's value; replaced by `slow`'s where `cold` (i32) is nonzero. */
export function exactIf(ins: Ins, cold: Expr, result: Local, slow: Expr): void {
  ins.f.if(
    cold,
    () => {
      ins.f.set(result, slow);
      raisePending(ins);
    },
    undefined,
    false,
  );
}
/** A slow-path value without a fast path. */
export function exact(ins: Ins, slow: Expr): Local {
  const result = ins.f.copy(slow);
  raisePending(ins);
  return result;
}

/** Nonzero unless MXCSR's control bits are the default and PE is already set: then an ordinary result changes no flag. */
export function needsPrecision(env: Expr): Expr {
  return mxcsr(env)
    .xor(MXCSR.DEFAULT | MXCSR.PE)
    .and(MXCSR.CONTROL | MXCSR.PE);
}
/** Nonzero with DAZ or with IE or DE unmasked: what matters to operations that round nothing. */
export function needsCompareCare(env: Expr): Expr {
  return mxcsr(env)
    .xor(0x180)
    .and(0x180 | MXCSR.DAZ);
}

// --- scalars ---

export type Width = 4 | 8;
/** Nonzero when the plain result `r` of an operation on these bits may be wrong or set flags. */
export function scalarCold(env: Expr, r: Expr, additive: boolean, ...operands: Expr[]): Expr {
  const fine = additive ? isFinite(r) : isOrdinary(r);
  const denormal = operands.map(denormalBits).reduce((x, y) => x.or(y));
  return needsPrecision(env).or(fine.eqz()).or(denormal);
}
export function isNaNFloat(x: Expr): Expr {
  return x.ne(x);
}

function laneName(size: Width): string {
  return size === 4 ? 'i32x4' : 'i64x2';
}
/** Bits of lane 0 of a v128. */
export function firstLane(v: Expr, size: Width): Expr {
  return lane(`${laneName(size)}.extract_lane`, 0, v);
}
/** Writes lane 0 of XMM operand 0, whose old value is `old`. Whole-register writes forward to later whole reads. */
export function writeFirst(ins: Ins, old: Expr, bits: Expr): void {
  ins.writeV128(0, lane(`${bits.type === 'i32' ? 'i32x4' : 'i64x2'}.replace_lane`, 0, old, bits));
}

// --- packed ---

export type Packed = 'ps' | 'pd';
export function shapeOf(format: Packed): 'f32x4' | 'f64x2' {
  return format === 'ps' ? 'f32x4' : 'f64x2';
}
export function infinities(format: Packed): Expr {
  return format === 'ps' ? dwords4(0x7f800000) : qwords2(0x7ff0000000000000n);
}
export function leastNormals(format: Packed): Expr {
  return format === 'ps' ? dwords4(0x00800000) : qwords2(0x0010000000000000n);
}
/** Mask of the denormal lanes. */
export function denormalLanes(format: Packed, v: Expr): Expr {
  if (format === 'ps') {
    const doubled = simd('i32x4.shl', v, i32(1));
    return simd('i32x4.lt_u', simd('i32x4.sub', doubled, dwords4(1)), dwords4(0x00ffffff));
  }
  const small = simd('f64x2.lt', simd('f64x2.abs', v), leastNormals('pd'));
  return simd('v128.and', small, simd('f64x2.ne', v, qwords2(0n)));
}
export function nanLanes(format: Packed, v: Expr): Expr {
  return simd(`${shapeOf(format)}.ne`, v, v);
}
export function anyLane(...masks: Expr[]): Expr {
  return simd(
    'v128.any_true',
    masks.reduce((x, y) => simd('v128.or', x, y)),
  );
}
export function packedCold(env: Expr, format: Packed, r: Expr, additive: boolean, ...operands: Expr[]): Expr {
  const shape = shapeOf(format);
  const size = simd(`${shape}.abs`, r);
  const below = simd(`${shape}.lt`, size, infinities(format));
  const fine = additive ? below : simd('v128.and', below, simd(`${shape}.gt`, size, leastNormals(format)));
  const allFine = simd(format === 'ps' ? 'i32x4.all_true' : 'i64x2.all_true', fine);
  return needsPrecision(env)
    .or(allFine.eqz())
    .or(anyLane(...operands.map((v) => denormalLanes(format, v))));
}

// --- immediates ---

/** The immediate byte operand `n`, i32, bound. */
export function immediate(ins: Ins, n: number): Expr {
  return ins.f.let(ins.imm(n, 4).and(0xff));
}
/** The value of a constant immediate. */
export function constantOf(imm: Expr): number | undefined {
  return imm.value === undefined ? undefined : Number(imm.value);
}

// --- MMX ---

const FP_TOP = CpuEnv.offsetOf('fpTop');
const FP_TAGS = CpuEnv.offsetOf('fpTags');
/** What every MMX instruction but EMMS does to the x87 state, after its last possible fault (SDM vol. 1, 9.5.1). */
export function enterMmx(ins: Ins): void {
  ins.envStore(4, FP_TOP, i32(0));
  ins.envStore(1, FP_TAGS, i32(0xff));
}
/** Writes MMX operand `n`: exponent and sign of the x87 register become ones. */
export function writeMmx(ins: Ins, n: number, value: Expr): void {
  const { base, offset } = ins.vectorSlot(n);
  ins.f.store(8, base, offset, value);
  ins.f.store(2, base, offset + 8, i32(0xffff));
  enterMmx(ins);
}

/** (a, b) → result on whole v128 values, where an MMX instruction is the low half of the XMM one. */
export function splat64(v: Expr): Expr {
  return simd('i64x2.splat', v);
}
export { high64, low64, pair64 };
