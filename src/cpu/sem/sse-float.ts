/** SSE floating-point arithmetic, comparison and rounding. Source: Intel SDM vol. 2 and vol. 1, 11.5. */
import { type Expr, i32 } from '../../wasm/index.ts';
import type { Semantics } from './ins.ts';
import {
  anyLane,
  constantOf,
  denormalLanes,
  exact,
  exactIf,
  firstLane,
  immediate,
  isNaNFloat,
  nanLanes,
  needsCompareCare,
  needsPrecision,
  type Packed,
  packedCold,
  row,
  scalarCold,
  shapeOf,
  type Width,
  writeFirst,
} from './simd-emit.ts';
import { denormalBits } from './simd-float.ts';
import type { SimdFunctions } from './simd-functions.ts';
import { bitsOf, floatOf, lane, qwords2, shuffle, simd, unary } from './simd-ops.ts';

const FORMATS: readonly Packed[] = ['ps', 'pd'];
const WIDTHS: readonly Width[] = [4, 8];
function suffix(size: Width): 'ss' | 'sd' {
  return size === 4 ? 'ss' : 'sd';
}

type Binary = 'add' | 'sub' | 'mul' | 'div';
function apply(name: Binary, a: Expr, b: Expr): Expr {
  switch (name) {
    case 'add':
      return a.add(b);
    case 'sub':
      return a.sub(b);
    case 'mul':
      return a.mul(b);
    case 'div':
      return a.divS(b);
  }
}

function arithmetic(fns: SimdFunctions): Semantics[] {
  const rows: Semantics[] = [];
  for (const name of ['add', 'sub', 'mul', 'div'] as const) {
    const additive = name === 'add' || name === 'sub';
    for (const format of FORMATS) {
      rows.push(
        row(name + format, 'xx xm', (ins) => {
          const { f, env } = ins;
          const b = ins.readV128(1);
          const a = ins.readV128(0);
          const r = f.copy(simd(`${shapeOf(format)}.${name}`, a, b));
          const cold = packedCold(env, format, r, additive, a, b);
          exactIf(ins, cold, r, fns.call(f, name + format, env, a, b));
          ins.writeV128(0, r);
        }),
      );
    }
    for (const size of WIDTHS) {
      rows.push(
        row(name + suffix(size), 'xx xm', (ins) => {
          const { f, env } = ins;
          const b = ins.readLow(1, size);
          const old = ins.readV128(0);
          const a = f.let(firstLane(old, size));
          const value = f.let(apply(name, floatOf(a), floatOf(b)));
          const r = f.copy(bitsOf(value));
          const cold = scalarCold(env, value, additive, a, b);
          exactIf(ins, cold, r, fns.call(f, name + suffix(size), env, a, b));
          writeFirst(ins, old, r);
        }),
      );
    }
  }
  return rows;
}

function squareRoots(fns: SimdFunctions): Semantics[] {
  const rows: Semantics[] = [];
  for (const format of FORMATS) {
    rows.push(
      row(`sqrt${format}`, 'xx xm', (ins) => {
        const { f, env } = ins;
        const b = ins.readV128(1);
        const r = f.copy(simd(`${shapeOf(format)}.sqrt`, b));
        exactIf(ins, packedCold(env, format, r, false, b), r, fns.call(f, `sqrt${format}`, env, b));
        ins.writeV128(0, r);
      }),
    );
  }
  for (const size of WIDTHS) {
    const type = size === 4 ? 'f32' : 'f64';
    rows.push(
      row(`sqrt${suffix(size)}`, 'xx xm', (ins) => {
        const { f, env } = ins;
        const b = ins.readLow(1, size);
        const value = f.let(unary(`${type}.sqrt`, floatOf(b)));
        const r = f.copy(bitsOf(value));
        exactIf(ins, scalarCold(env, value, false, b), r, fns.call(f, `sqrt${suffix(size)}`, env, b));
        writeFirst(ins, ins.readV128(0), r);
      }),
    );
  }
  return rows;
}

/** Operands with which a comparison may set flags, or DAZ. */
function packedCompareCold(env: Expr, format: Packed, a: Expr, b: Expr): Expr {
  return needsCompareCare(env).or(
    anyLane(nanLanes(format, a), nanLanes(format, b), denormalLanes(format, a), denormalLanes(format, b)),
  );
}
function scalarCompareCold(env: Expr, a: Expr, b: Expr): Expr {
  return needsCompareCare(env)
    .or(isNaNFloat(floatOf(a)))
    .or(isNaNFloat(floatOf(b)))
    .or(denormalBits(a))
    .or(denormalBits(b));
}

function extremes(fns: SimdFunctions): Semantics[] {
  const rows: Semantics[] = [];
  for (const name of ['min', 'max'] as const) {
    for (const format of FORMATS) {
      rows.push(
        row(name + format, 'xx xm', (ins) => {
          const { f, env } = ins;
          const b = ins.readV128(1);
          const a = ins.readV128(0);
          // wasm's pmin(x, y) is y < x ? y : x, so with exchanged operands it is a < b ? a : b
          const r = f.copy(simd(`${shapeOf(format)}.p${name}`, b, a));
          exactIf(ins, packedCompareCold(env, format, a, b), r, fns.call(f, name + format, env, a, b));
          ins.writeV128(0, r);
        }),
      );
    }
    for (const size of WIDTHS) {
      rows.push(
        row(name + suffix(size), 'xx xm', (ins) => {
          const { f, env } = ins;
          const b = ins.readLow(1, size);
          const old = ins.readV128(0);
          const a = f.let(firstLane(old, size));
          const first = name === 'min' ? floatOf(a).ltS(floatOf(b)) : floatOf(a).gtS(floatOf(b));
          const r = f.copy(first.select(a, b));
          exactIf(ins, scalarCompareCold(env, a, b), r, fns.call(f, name + suffix(size), env, a, b));
          writeFirst(ins, old, r);
        }),
      );
    }
  }
  return rows;
}

/** The comparison that predicates 0..7 make: operator, and whether its result is inverted. */
function packedPredicate(shape: string, predicate: number, a: Expr, b: Expr): Expr {
  const plain = (): Expr => {
    switch (predicate & 3) {
      case 0:
        return simd(`${shape}.eq`, a, b);
      case 1:
        return simd(`${shape}.lt`, a, b);
      case 2:
        return simd(`${shape}.le`, a, b);
      default:
        return simd('v128.or', simd(`${shape}.ne`, a, a), simd(`${shape}.ne`, b, b));
    }
  };
  return predicate & 4 ? simd('v128.not', plain()) : plain();
}
function scalarPredicate(predicate: number, a: Expr, b: Expr): Expr {
  const plain = (): Expr => {
    switch (predicate & 3) {
      case 0:
        return a.eq(b);
      case 1:
        return a.ltS(b);
      case 2:
        return a.leS(b);
      default:
        return isNaNFloat(a).or(isNaNFloat(b));
    }
  };
  return predicate & 4 ? plain().eqz() : plain();
}

function comparisons(fns: SimdFunctions): Semantics[] {
  const rows: Semantics[] = [];
  for (const format of FORMATS) {
    rows.push(
      row(`cmp${format}`, 'xxi xmi', (ins) => {
        const { f, env } = ins;
        const b = ins.readV128(1);
        const a = ins.readV128(0);
        const imm = immediate(ins, 2);
        const predicate = constantOf(imm);
        const slow = fns.call(f, `cmp${format}`, env, a, b, imm.and(7));
        if (predicate === undefined) return ins.writeV128(0, exact(ins, slow));
        const r = f.copy(packedPredicate(shapeOf(format), predicate & 7, a, b));
        exactIf(ins, packedCompareCold(env, format, a, b), r, slow);
        ins.writeV128(0, r);
      }),
    );
  }
  for (const size of WIDTHS) {
    rows.push(
      row(size === 4 ? 'cmpss' : 'cmpsd_xmm', 'xxi xmi', (ins) => {
        const { f, env } = ins;
        const b = ins.readLow(1, size);
        const old = ins.readV128(0);
        const a = f.let(firstLane(old, size));
        const imm = immediate(ins, 2);
        const predicate = constantOf(imm);
        const slow = fns.call(f, `cmp${suffix(size)}`, env, a, b, imm.and(7));
        if (predicate === undefined) return writeFirst(ins, old, exact(ins, slow));
        const holds = scalarPredicate(predicate & 7, floatOf(a), floatOf(b));
        const mask = i32(0).sub(holds);
        const r = f.copy(size === 4 ? mask : mask.i64s());
        exactIf(ins, scalarCompareCold(env, a, b), r, slow);
        writeFirst(ins, old, r);
      }),
    );
    for (const quiet of [true, false]) {
      rows.push(
        row(`${quiet ? 'u' : ''}comi${suffix(size)}`, 'xx xm', (ins) => {
          const { f, env } = ins;
          const b = ins.readLow(1, size);
          const a = ins.readLow(0, size);
          const cf = f.local('i32', floatOf(a).ltS(floatOf(b)));
          const zf = f.local('i32', floatOf(a).eq(floatOf(b)));
          const pf = f.local('i32', i32(0));
          f.if(
            scalarCompareCold(env, a, b),
            () => {
              const relation = exact(ins, fns.call(f, `comi${suffix(size)}`, env, a, b, i32(quiet ? 0 : 1)));
              // 0 equal, 1 less, 2 greater, 3 unordered
              f.set(cf, relation.and(1));
              f.set(pf, relation.eq(3));
              f.set(zf, relation.eqz().or(pf));
            },
            undefined,
            false,
          );
          ins.flags.setAll({ cf, pf, zf });
        }),
      );
    }
  }
  return rows;
}

const ROUNDINGS = ['nearest', 'floor', 'ceil', 'trunc'];
const SUPPRESS_PRECISION = 8;

function roundings(fns: SimdFunctions): Semantics[] {
  const rows: Semantics[] = [];
  /** The wasm operator for a constant control, when it does not depend on MXCSR. */
  const operator = (imm: Expr): string | undefined => {
    const control = constantOf(imm);
    return control === undefined || control & 4 ? undefined : ROUNDINGS[control & 3];
  };
  /** Without bit 3 an inexact result sets PE. */
  const precise = (env: Expr, imm: Expr): Expr =>
    Number(imm.value) & SUPPRESS_PRECISION ? needsCompareCare(env) : needsPrecision(env);
  for (const format of FORMATS) {
    rows.push(
      row(`round${format}`, 'xxi xmi', (ins) => {
        const { f, env } = ins;
        const b = ins.readV128(1);
        const imm = immediate(ins, 2);
        const slow = fns.call(f, `round${format}`, env, b, imm);
        const name = operator(imm);
        if (name === undefined) return ins.writeV128(0, exact(ins, slow));
        const r = f.copy(simd(`${shapeOf(format)}.${name}`, b));
        exactIf(ins, precise(env, imm).or(anyLane(nanLanes(format, b))), r, slow);
        ins.writeV128(0, r);
      }),
    );
  }
  for (const size of WIDTHS) {
    const type = size === 4 ? 'f32' : 'f64';
    rows.push(
      row(`round${suffix(size)}`, 'xxi xmi', (ins) => {
        const { f, env } = ins;
        const b = ins.readLow(1, size);
        const imm = immediate(ins, 2);
        const slow = fns.call(f, `round${suffix(size)}`, env, b, imm);
        const name = operator(imm);
        if (name === undefined) {
          const r = exact(ins, slow);
          return writeFirst(ins, ins.readV128(0), r);
        }
        const r = f.copy(bitsOf(unary(`${type}.${name}`, floatOf(b))));
        exactIf(ins, precise(env, imm).or(isNaNFloat(floatOf(b))), r, slow);
        return writeFirst(ins, ins.readV128(0), r);
      }),
    );
  }
  return rows;
}

/** Even and odd elements of `a`, then of `b`. */
function deinterleave(format: Packed, a: Expr, b: Expr, odd: boolean): Expr {
  const bytes = format === 'ps' ? 4 : 8;
  const start = odd ? bytes : 0;
  const indices = Array.from({ length: 16 }, (_, i) => {
    const element = Math.floor(i / bytes);
    return element * bytes * 2 + start + (i % bytes);
  });
  return shuffle(a, b, indices);
}

function horizontal(fns: SimdFunctions): Semantics[] {
  const rows: Semantics[] = [];
  for (const format of FORMATS) {
    for (const name of ['add', 'sub'] as const) {
      rows.push(
        row(`h${name}${format}`, 'xx xm', (ins) => {
          const { f, env } = ins;
          const b = ins.readV128(1);
          const a = ins.readV128(0);
          const x = f.copy(deinterleave(format, a, b, false));
          const y = f.copy(deinterleave(format, a, b, true));
          const r = f.copy(simd(`${shapeOf(format)}.${name}`, x, y));
          exactIf(ins, packedCold(env, format, r, true, x, y), r, fns.call(f, name + format, env, x, y));
          ins.writeV128(0, r);
        }),
      );
    }
    rows.push(
      row(`addsub${format}`, 'xx xm', (ins) => {
        const { f, env } = ins;
        const b = ins.readV128(1);
        const a = ins.readV128(0);
        const shape = shapeOf(format);
        const evenSigns = format === 'ps' ? qwords2(0x80000000n) : qwords2(1n << 63n, 0n);
        const r = f.copy(simd(`${shape}.add`, a, simd('v128.xor', b, evenSigns)));
        exactIf(ins, packedCold(env, format, r, true, a, b), r, fns.call(f, `addsub${format}`, env, a, b));
        ins.writeV128(0, r);
      }),
    );
  }
  return rows;
}

function others(fns: SimdFunctions): Semantics[] {
  const rows: Semantics[] = [];
  for (const name of ['dpps', 'dppd']) {
    rows.push(
      row(name, 'xxi xmi', (ins) => {
        const b = ins.readV128(1);
        const a = ins.readV128(0);
        ins.writeV128(0, exact(ins, fns.call(ins.f, name, ins.env, a, b, immediate(ins, 2))));
      }),
    );
  }
  for (const name of ['rcp', 'rsqrt']) {
    rows.push(
      row(`${name}ps`, 'xx xm', (ins) => {
        const { f } = ins;
        const b = ins.readV128(1);
        const out = f.copy(b);
        for (let i = 0; i < 4; i++) {
          const value = fns.call(f, `${name}ss`, lane('i32x4.extract_lane', i, b));
          f.set(out, lane('i32x4.replace_lane', i, out, value));
        }
        ins.writeV128(0, out);
      }),
      row(`${name}ss`, 'xx xm', (ins) => {
        const b = ins.readLow(1, 4);
        writeFirst(ins, ins.readV128(0), fns.call(ins.f, `${name}ss`, b));
      }),
    );
  }
  return rows;
}

/** Floating-point arithmetic for one module. */
export function makeFloatSemantics(fns: SimdFunctions): Semantics[] {
  return [
    ...arithmetic(fns),
    ...squareRoots(fns),
    ...extremes(fns),
    ...comparisons(fns),
    ...roundings(fns),
    ...horizontal(fns),
    ...others(fns),
  ];
}
