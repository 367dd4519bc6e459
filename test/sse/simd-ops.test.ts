/** The table of SIMD operator numbers: each operator compiled alone and compared with a scalar reference. */
import { expect, test } from 'vitest';
import { lane, shuffle, simd, SIMD_OPS } from '../../src/cpu/sem/simd-ops.ts';
import { i32, i64, load, ModuleBuilder, type Expr, type ValType } from '../../src/wasm/index.ts';
import { op } from '../../src/wasm/index.ts';
import { Random } from './values.ts';

const [A, B, C, OUT] = [0, 16, 32, 64];
const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
const view = new DataView(memory.buffer);
const bytes = new Uint8Array(memory.buffer);

type Element = number | bigint;
interface Shape {
  readonly count: number;
  readonly bits: number;
}
const SHAPES: Record<string, Shape> = {
  i8x16: { count: 16, bits: 8 },
  i16x8: { count: 8, bits: 16 },
  i32x4: { count: 4, bits: 32 },
  i64x2: { count: 2, bits: 64 },
};
/** Element `i` of the vector at `at`, signed or not, as BigInt. */
function element(at: number, shape: Shape, i: number, signed: boolean): bigint {
  let v = 0n;
  for (let k = shape.bits / 8 - 1; k >= 0; k--) v = (v << 8n) | BigInt(bytes[at + (i * shape.bits) / 8 + k]);
  return signed ? BigInt.asIntN(shape.bits, v) : v;
}
function wrap(v: bigint, bits: number): bigint {
  return BigInt.asUintN(bits, v);
}
function clamp(v: bigint, bits: number, signed: boolean): bigint {
  const low = signed ? -(1n << BigInt(bits - 1)) : 0n;
  const high = signed ? -low - 1n : (1n << BigInt(bits)) - 1n;
  return wrap(v < low ? low : v > high ? high : v, bits);
}
const magnitude = (v: bigint): bigint => (v < 0n ? -v : v);

/** Reference of an integer operator on elements (a, b); `signed` from its suffix. */
type Reference = (a: bigint, b: bigint, bits: number, signed: boolean) => bigint;
const mask = (holds: boolean, bits: number): bigint => (holds ? wrap(-1n, bits) : 0n);
const ELEMENTWISE: Record<string, Reference> = {
  add: (a, b, n) => wrap(a + b, n),
  sub: (a, b, n) => wrap(a - b, n),
  mul: (a, b, n) => wrap(a * b, n),
  neg: (a, _b, n) => wrap(-a, n),
  abs: (a, _b, n) => wrap(magnitude(BigInt.asIntN(n, a)), n),
  add_sat: (a, b, n, s) => clamp(a + b, n, s),
  sub_sat: (a, b, n, s) => clamp(a - b, n, s),
  min: (a, b, n) => wrap(a < b ? a : b, n),
  max: (a, b, n) => wrap(a > b ? a : b, n),
  avgr: (a, b, n) => wrap((a + b + 1n) >> 1n, n),
  eq: (a, b, n) => mask(a === b, n),
  ne: (a, b, n) => mask(a !== b, n),
  lt: (a, b, n) => mask(a < b, n),
  gt: (a, b, n) => mask(a > b, n),
  le: (a, b, n) => mask(a <= b, n),
  ge: (a, b, n) => mask(a >= b, n),
  q15mulr_sat: (a, b, n) => clamp((a * b + 0x4000n) >> 15n, n, true),
  popcnt: (a) => BigInt(a.toString(2).replaceAll('0', '').length),
};
const UNSIGNED_BY_NAME = new Set(['popcnt']);

/** Random operands with many equal, extreme and small elements. */
function operands(r: Random): void {
  for (let i = 0; i < 48; i++) bytes[i] = r.pick([0, 1, 0x7f, 0x80, 0xff, r.below(256)]);
  if (r.below(4) === 0) bytes.copyWithin(B, A, A + 16);
}

function compile(make: (a: Expr, b: Expr, c: Expr) => Expr): () => unknown {
  const m = new ModuleBuilder();
  m.importMemory('env', 'memory', 1, 1);
  const e = make(load('v128', i32(A)), load('v128', i32(B)), load('v128', i32(C)));
  const results: ValType[] = e.type === 'v128' ? [] : [e.type];
  const f = m.func('f', [], results);
  if (e.type === 'v128') f.store(16, i32(OUT), 0, e);
  else f.ret(e);
  m.exportFunc('f', f);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(m.build()), { env: { memory } });
  return instance.exports.f as () => unknown;
}

/** Runs an operator on random operands and checks every output element with `want`. */
function check(
  make: (a: Expr, b: Expr, c: Expr) => Expr,
  out: Shape,
  want: (i: number) => bigint,
  seed = 1,
): void {
  const f = compile(make);
  const r = new Random(seed);
  for (let n = 0; n < 40; n++) {
    operands(r);
    f();
    for (let i = 0; i < out.count; i++) expect(element(OUT, out, i, false)).toBe(want(i));
  }
}

const tested = new Set<string>();
const integer = [...SIMD_OPS.keys()].filter((name) => {
  const [shape, rest] = name.split('.');
  return shape in SHAPES && rest.replace(/_[su]$/, '') in ELEMENTWISE;
});
for (const name of integer) {
  tested.add(name);
  test(name, () => {
    const [shapeName, rest] = name.split('.');
    const shape = SHAPES[shapeName];
    const base = rest.replace(/_[su]$/, '');
    const signed = !rest.endsWith('_u') && !UNSIGNED_BY_NAME.has(base);
    const unary = ['neg', 'abs', 'popcnt'].includes(base);
    check(
      (a, b) => (unary ? simd(name, a) : simd(name, a, b)),
      shape,
      (i) =>
        ELEMENTWISE[base](element(A, shape, i, signed), element(B, shape, i, signed), shape.bits, signed),
    );
  });
}

for (const [shapeName, shape] of Object.entries(SHAPES)) {
  for (const operator of ['shl', 'shr_s', 'shr_u']) {
    const name = `${shapeName}.${operator}`;
    tested.add(name);
    test(name, () => {
      for (const count of [0, 1, 7, shape.bits - 1]) {
        check(
          (a) => simd(name, a, i32(count)),
          shape,
          (i) => {
            const v = element(A, shape, i, operator === 'shr_s');
            return wrap(operator === 'shl' ? v << BigInt(count) : v >> BigInt(count), shape.bits);
          },
        );
      }
    });
  }
  const wide = Object.entries(SHAPES).find(([, s]) => s.bits === shape.bits * 2);
  if (wide === undefined) continue;
  const [wideName, out] = wide;
  for (const sign of ['s', 'u']) {
    const signed = sign === 's';
    for (const half of ['low', 'high']) {
      const start = half === 'low' ? 0 : out.count;
      const extend = `${wideName}.extend_${half}_${shapeName}_${sign}`;
      const product = `${wideName}.extmul_${half}_${shapeName}_${sign}`;
      tested.add(extend).add(product);
      test(`${extend} and extmul`, () => {
        check(
          (a) => simd(extend, a),
          out,
          (i) => wrap(element(A, shape, start + i, signed), out.bits),
        );
        check(
          (a, b) => simd(product, a, b),
          out,
          (i) => wrap(element(A, shape, start + i, signed) * element(B, shape, start + i, signed), out.bits),
        );
      });
    }
    const pairwise = `${wideName}.extadd_pairwise_${shapeName}_${sign}`;
    if (SIMD_OPS.has(pairwise)) {
      tested.add(pairwise);
      test(pairwise, () => {
        check(
          (a) => simd(pairwise, a),
          out,
          (i) => wrap(element(A, shape, 2 * i, signed) + element(A, shape, 2 * i + 1, signed), out.bits),
        );
      });
    }
    const narrow = `${shapeName}.narrow_${wideName}_${sign}`;
    if (SIMD_OPS.has(narrow)) {
      tested.add(narrow);
      test(narrow, () => {
        check(
          (a, b) => simd(narrow, a, b),
          shape,
          (i) => clamp(element(i < out.count ? A : B, out, i % out.count, true), shape.bits, signed),
        );
      });
    }
  }
}

tested.add('i32x4.dot_i16x8_s');
test('i32x4.dot_i16x8_s', () => {
  const words = SHAPES.i16x8;
  const product = (i: number): bigint => element(A, words, i, true) * element(B, words, i, true);
  check(
    (a, b) => simd('i32x4.dot_i16x8_s', a, b),
    SHAPES.i32x4,
    (i) => wrap(product(2 * i) + product(2 * i + 1), 32),
  );
});

const BITWISE: Record<string, (a: bigint, b: bigint, c: bigint) => bigint> = {
  'v128.and': (a, b) => a & b,
  'v128.or': (a, b) => a | b,
  'v128.xor': (a, b) => a ^ b,
  'v128.andnot': (a, b) => a & ~b,
  'v128.not': (a) => ~a,
  'v128.bitselect': (a, b, c) => (a & c) | (b & ~c),
};
for (const [name, reference] of Object.entries(BITWISE)) {
  tested.add(name);
  test(name, () => {
    const shape = SHAPES.i64x2;
    const at = (base: number, i: number): bigint => element(base, shape, i, false);
    check(
      (a, b, c) => simd(name, ...[a, b, c].slice(0, reference.length)),
      shape,
      (i) => wrap(reference(at(A, i), at(B, i), at(C, i)), 64),
    );
  });
}

tested.add('i8x16.shuffle').add('i8x16.swizzle');
test('shuffle and swizzle', () => {
  const shape = SHAPES.i8x16;
  const indices = [0, 31, 5, 16, 15, 17, 1, 1, 30, 2, 9, 24, 8, 0, 12, 19];
  check(
    (a, b) => shuffle(a, b, indices),
    shape,
    (i) => BigInt(bytes[indices[i] < 16 ? A + indices[i] : B + indices[i] - 16]),
  );
  check(
    (a, b) => simd('i8x16.swizzle', a, simd('v128.and', b, simd('i8x16.splat', i32(0x9f)))),
    shape,
    (i) => {
      const index = bytes[B + i] & 0x9f;
      return index < 16 ? BigInt(bytes[A + index]) : 0n;
    },
  );
});

tested.add('v128.any_true');
test('reductions', () => {
  const zero = (v: Expr): Expr => simd('v128.xor', v, v);
  expect(compile((a) => simd('v128.any_true', zero(a)))()).toBe(0);
  expect(compile(() => simd('v128.any_true', simd('i64x2.splat', i64(1n << 40n))))()).toBe(1);
  const r = new Random(3);
  for (const [name, shape] of Object.entries(SHAPES)) {
    tested.add(`${name}.bitmask`).add(`${name}.all_true`);
    const bits = compile((a) => simd(`${name}.bitmask`, a));
    const all = compile((a) => simd(`${name}.all_true`, a));
    for (let n = 0; n < 40; n++) {
      operands(r);
      let wantBits = 0;
      let wantAll = 1;
      for (let i = 0; i < shape.count; i++) {
        if (element(A, shape, i, true) < 0n) wantBits |= 1 << i;
        if (element(A, shape, i, true) === 0n) wantAll = 0;
      }
      expect([bits(), all()]).toEqual([wantBits, wantAll]);
    }
  }
});

// --- lanes ---

const LANES: readonly [string, string, (at: number) => Element][] = [
  ['i8x16.extract_lane_s', 'i8x16', (at) => view.getInt8(at)],
  ['i8x16.extract_lane_u', 'i8x16', (at) => view.getUint8(at)],
  ['i16x8.extract_lane_s', 'i16x8', (at) => view.getInt16(at, true)],
  ['i16x8.extract_lane_u', 'i16x8', (at) => view.getUint16(at, true)],
  ['i32x4.extract_lane', 'i32x4', (at) => view.getInt32(at, true)],
  ['i64x2.extract_lane', 'i64x2', (at) => view.getBigInt64(at, true)],
];
test('lanes', () => {
  const r = new Random(9);
  for (const [name, shapeName, read] of LANES) {
    const shape = SHAPES[shapeName];
    const replace = `${shapeName}.replace_lane`;
    tested.add(name).add(replace).add(`${shapeName}.splat`);
    for (let i = 0; i < shape.count; i++) {
      operands(r);
      expect(compile((a) => lane(name, i, a))()).toEqual(read(A + (i * shape.bits) / 8));
      const value = shape.bits === 64 ? i64(-5n) : i32(-5);
      compile((a) => lane(replace, i, a, value))();
      for (let k = 0; k < shape.count; k++) {
        const want = k === i ? wrap(-5n, shape.bits) : element(A, shape, k, false);
        expect(element(OUT, shape, k, false)).toBe(want);
      }
    }
    compile(() => simd(`${shapeName}.splat`, shape.bits === 64 ? i64(-7n) : i32(-7)))();
    for (let k = 0; k < shape.count; k++) expect(element(OUT, shape, k, false)).toBe(wrap(-7n, shape.bits));
  }
});

// --- floating point ---

const NUMBERS = [0, -0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 3.25, 1e10, -1e10, 1e-3, Infinity, -Infinity, NaN];
interface FloatShape {
  readonly type: 'f32x4' | 'f64x2';
  readonly count: number;
  get(at: number, i: number): number;
  set(at: number, i: number, v: number): void;
  round(v: number): number;
  readonly mask: string;
}
const FLOATS: readonly FloatShape[] = [
  {
    type: 'f32x4',
    count: 4,
    get: (at, i) => view.getFloat32(at + 4 * i, true),
    set: (at, i, v) => view.setFloat32(at + 4 * i, v, true),
    round: Math.fround,
    mask: 'i32x4',
  },
  {
    type: 'f64x2',
    count: 2,
    get: (at, i) => view.getFloat64(at + 8 * i, true),
    set: (at, i, v) => view.setFloat64(at + 8 * i, v, true),
    round: (v) => v,
    mask: 'i64x2',
  },
];
function nearestEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  const r = rest < 0.5 ? floor : rest > 0.5 ? floor + 1 : floor % 2 === 0 ? floor : floor + 1;
  return r === 0 && (x < 0 || Object.is(x, -0)) ? -0 : r;
}
const ARITHMETIC: Record<string, (a: number, b: number) => number> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  min: Math.min,
  max: Math.max,
  pmin: (a, b) => (b < a ? b : a),
  pmax: (a, b) => (a < b ? b : a),
  abs: (a) => Math.abs(a),
  neg: (a) => -a,
  sqrt: (a) => Math.sqrt(a),
  ceil: (a) => Math.ceil(a),
  floor: (a) => Math.floor(a),
  trunc: (a) => Math.trunc(a),
  nearest: (a) => (Number.isFinite(a) ? nearestEven(a) : a),
};
const COMPARISONS: Record<string, (a: number, b: number) => boolean> = {
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  lt: (a, b) => a < b,
  gt: (a, b) => a > b,
  le: (a, b) => a <= b,
  ge: (a, b) => a >= b,
};
const UNARY = new Set(['abs', 'neg', 'sqrt', 'ceil', 'floor', 'trunc', 'nearest']);

for (const shape of FLOATS) {
  const forAll = (f: () => unknown, verify: (a: number, b: number) => void): void => {
    for (const a of NUMBERS) {
      for (const b of NUMBERS) {
        for (let i = 0; i < shape.count; i++) {
          shape.set(A, i, a);
          shape.set(B, i, b);
        }
        f();
        verify(shape.round(a), shape.round(b));
      }
    }
  };
  for (const [base, reference] of Object.entries(ARITHMETIC)) {
    const name = `${shape.type}.${base}`;
    tested.add(name);
    test(name, () => {
      forAll(
        compile((a, b) => (UNARY.has(base) ? simd(name, a) : simd(name, a, b))),
        (a, b) => {
          for (let i = 0; i < shape.count; i++) expect(shape.get(OUT, i)).toBe(shape.round(reference(a, b)));
        },
      );
    });
  }
  for (const [base, reference] of Object.entries(COMPARISONS)) {
    const name = `${shape.type}.${base}`;
    tested.add(name);
    test(name, () => {
      const bits = compile((a, b) => simd(`${shape.mask}.bitmask`, simd(name, a, b)));
      forAll(
        () => 0,
        (a, b) => expect(bits()).toBe(reference(a, b) ? (1 << shape.count) - 1 : 0),
      );
    });
  }
  tested.add(`${shape.type}.splat`).add(`${shape.type}.extract_lane`).add(`${shape.type}.replace_lane`);
  test(`${shape.type} lanes`, () => {
    const scalar = shape.type === 'f32x4' ? 'f32' : 'f64';
    const value = op(scalar, scalar === 'f32' ? 0xb2 : 0xb7, [i32(-9)]);
    for (let i = 0; i < shape.count; i++) {
      for (let k = 0; k < shape.count; k++) shape.set(A, k, k + 0.5);
      expect(compile((a) => lane(`${shape.type}.extract_lane`, i, a))()).toBe(i + 0.5);
      compile((a) => lane(`${shape.type}.replace_lane`, i, a, value))();
      for (let k = 0; k < shape.count; k++) expect(shape.get(OUT, k)).toBe(k === i ? -9 : k + 0.5);
      compile(() => simd(`${shape.type}.splat`, value))();
      for (let k = 0; k < shape.count; k++) expect(shape.get(OUT, k)).toBe(-9);
    }
  });
}

test('conversions', () => {
  const limit = (v: number, low: number, high: number): number =>
    Number.isNaN(v) ? 0 : Math.min(Math.max(Math.trunc(v), low), high);
  const numbers = [...NUMBERS, 2147483648, -2147483649, 4294967296, 123456789, -7.9];
  for (const sign of ['s', 'u']) {
    const [low, high] = sign === 's' ? [-0x80000000, 0x7fffffff] : [0, 0xffffffff];
    const fromSingle = `i32x4.trunc_sat_f32x4_${sign}`;
    const fromDouble = `i32x4.trunc_sat_f64x2_${sign}_zero`;
    const toSingle = `f32x4.convert_i32x4_${sign}`;
    const toDouble = `f64x2.convert_low_i32x4_${sign}`;
    for (const name of [fromSingle, fromDouble, toSingle, toDouble]) tested.add(name);
    const functions = [fromSingle, fromDouble, toSingle, toDouble].map((name) =>
      compile((a) => simd(name, a)),
    );
    const read = (at: number): number => (sign === 's' ? view.getInt32(at, true) : view.getUint32(at, true));
    for (const v of numbers) {
      view.setFloat32(A + 4, v, true);
      functions[0]();
      expect(read(OUT + 4) + 0).toBe(limit(Math.fround(v), low, high) + 0);
      view.setFloat64(A + 8, v, true);
      functions[1]();
      expect(read(OUT + 4) + 0).toBe(limit(v, low, high) + 0);
      expect(read(OUT + 8)).toBe(0);
      view.setInt32(A + 4, v | 0, true);
      const integer = read(A + 4);
      functions[2]();
      expect(view.getFloat32(OUT + 4, true)).toBe(Math.fround(integer));
      functions[3]();
      expect(view.getFloat64(OUT + 8, true)).toBe(integer);
    }
  }
  tested.add('f32x4.demote_f64x2_zero').add('f64x2.promote_low_f32x4');
  const demote = compile((a) => simd('f32x4.demote_f64x2_zero', a));
  const promote = compile((a) => simd('f64x2.promote_low_f32x4', a));
  for (const v of numbers) {
    view.setFloat64(A + 8, v, true);
    demote();
    expect(view.getFloat32(OUT + 4, true)).toBe(Math.fround(v));
    expect(view.getUint32(OUT + 8, true)).toBe(0);
    view.setFloat32(A + 4, v, true);
    promote();
    expect(view.getFloat64(OUT + 8, true)).toBe(Math.fround(v));
  }
});

test('every operator of the table was compared', () => {
  expect([...SIMD_OPS.keys()].filter((name) => !tested.has(name))).toEqual([]);
});
