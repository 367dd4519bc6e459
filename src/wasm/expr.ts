/**
 * Expressions of generated WebAssembly: immutable trees, built with methods that fold constants,
 * written out by `FuncBuilder`. A tree is evaluated where the statement that holds it is emitted,
 * each time it is mentioned: bind it with `f.let` to evaluate it once or to fix its place.
 */

export type ValType = 'i32' | 'i64' | 'f32' | 'f64' | 'v128';
/** What a method accepts where an expression is wanted; plain numbers take the other operand's type. */
export type Operand = Expr | number | bigint;

/** Opcodes of i32 operations; the i64 form is found by adding the distance in `I64_SHIFT`. */
const I32_CONST = 0x41;
const I64_CONST = 0x42;
const F32_CONST = 0x43;
const F64_CONST = 0x44;
export const LOCAL_GET = 0x20;
export const SELECT = 0x1b;
/** i32.wrap_i64, i64.extend_i32_u */
export const WRAP = 0xa7;
export const EXTEND_U = 0xad;

export class Expr {
  readonly type: ValType;
  /** Opcode; two-byte opcodes are `prefix << 16 | sub`. */
  readonly code: number;
  readonly args: readonly Expr[];
  /** Immediates, as unsigned LEB128 numbers, written after the opcode. */
  readonly imms: readonly number[];
  /** Value of a constant. */
  readonly value: number | bigint | undefined;
  /** Raw immediate bytes (SIMD constants and shuffles). */
  readonly raw: Uint8Array | undefined;

  constructor(
    type: ValType,
    code: number,
    args: readonly Expr[] = [],
    imms: readonly number[] = [],
    value?: number | bigint,
    raw?: Uint8Array,
  ) {
    this.type = type;
    this.code = code;
    this.args = args;
    this.imms = imms;
    this.value = value;
    this.raw = raw;
  }

  get isConst(): boolean {
    return this.value !== undefined;
  }
  /** It only computes, with integers: no access, no trap, nothing that depends on when it is done but its operands. */
  get isPure(): boolean {
    const { code } = this;
    const divides = (code >= 0x6d && code <= 0x70) || (code >= 0x7f && code <= 0x82);
    const computes = this.isComparison || (code >= 0x67 && code <= 0x8a);
    const converts = code === WRAP || code === 0xac || code === EXTEND_U || (code >= 0xc0 && code <= 0xc4);
    return (computes && !divides) || converts || (code === SELECT && this.type !== 'v128');
  }

  /** It is this operation on two integers. */
  is(op: BinaryOp): boolean {
    const { code } = this;
    return code === BINARY[op][0] || code === BINARY[op][1];
  }
  /** It compares integers, or one with 0: 0 or 1. */
  get isComparison(): boolean {
    return this.code >= 0x45 && this.code <= 0x5a;
  }

  private lift(x: Operand): Expr {
    return x instanceof Expr ? x : constOf(this.type, x);
  }

  private bin(op: BinaryOp, x: Operand): Expr {
    const y = this.lift(x);
    if (y.type !== this.type) throw new TypeError(`${op}: ${this.type} with ${y.type}`);
    return binary(op, this, y);
  }

  add(x: Operand): Expr {
    return this.bin('add', x);
  }
  sub(x: Operand): Expr {
    return this.bin('sub', x);
  }
  mul(x: Operand): Expr {
    return this.bin('mul', x);
  }
  and(x: Operand): Expr {
    return this.bin('and', x);
  }
  or(x: Operand): Expr {
    return this.bin('or', x);
  }
  xor(x: Operand): Expr {
    return this.bin('xor', x);
  }
  shl(x: Operand): Expr {
    return this.bin('shl', x);
  }
  shrU(x: Operand): Expr {
    return this.bin('shr_u', x);
  }
  shrS(x: Operand): Expr {
    return this.bin('shr_s', x);
  }
  rotl(x: Operand): Expr {
    return this.bin('rotl', x);
  }
  rotr(x: Operand): Expr {
    return this.bin('rotr', x);
  }
  divU(x: Operand): Expr {
    return this.bin('div_u', x);
  }
  divS(x: Operand): Expr {
    return this.bin('div_s', x);
  }
  remU(x: Operand): Expr {
    return this.bin('rem_u', x);
  }
  remS(x: Operand): Expr {
    return this.bin('rem_s', x);
  }
  private cmp(op: CompareOp, x: Operand): Expr {
    const y = this.lift(x);
    if (y.type !== this.type) throw new TypeError(`${op}: ${this.type} with ${y.type}`);
    return compare(op, this, y);
  }
  /** Comparisons give an i32 of 0 or 1. */
  eq(x: Operand): Expr {
    return this.cmp('eq', x);
  }
  ne(x: Operand): Expr {
    return this.cmp('ne', x);
  }
  ltS(x: Operand): Expr {
    return this.cmp('lt_s', x);
  }
  ltU(x: Operand): Expr {
    return this.cmp('lt_u', x);
  }
  gtS(x: Operand): Expr {
    return this.cmp('gt_s', x);
  }
  gtU(x: Operand): Expr {
    return this.cmp('gt_u', x);
  }
  leS(x: Operand): Expr {
    return this.cmp('le_s', x);
  }
  leU(x: Operand): Expr {
    return this.cmp('le_u', x);
  }
  geS(x: Operand): Expr {
    return this.cmp('ge_s', x);
  }
  geU(x: Operand): Expr {
    return this.cmp('ge_u', x);
  }
  eqz(): Expr {
    if (this.value !== undefined) return i32(Number(this.value) === 0 ? 1 : 0);
    return new Expr('i32', this.type === 'i32' ? 0x45 : 0x50, [this]);
  }
  clz(): Expr {
    return new Expr(this.type, this.type === 'i32' ? 0x67 : 0x79, [this]);
  }
  ctz(): Expr {
    return new Expr(this.type, this.type === 'i32' ? 0x68 : 0x7a, [this]);
  }
  popcnt(): Expr {
    return new Expr(this.type, this.type === 'i32' ? 0x69 : 0x7b, [this]);
  }
  /** Low 32 bits (identity on i32). */
  i32(): Expr {
    if (this.type === 'i32') return this;
    if (this.value !== undefined) return i32(Number(BigInt.asIntN(32, BigInt(this.value))));
    // wrap(extend(x)) is x
    if (this.code === 0xac || this.code === EXTEND_U) return this.args[0];
    return new Expr('i32', WRAP, [this]);
  }
  /** Zero-extended to 64 bits (identity on i64). */
  i64u(): Expr {
    if (this.type === 'i64') return this;
    if (this.value !== undefined) return i64(BigInt(Number(this.value) >>> 0));
    return new Expr('i64', EXTEND_U, [this]);
  }
  /** Sign-extended from 32 to 64 bits (identity on i64). */
  i64s(): Expr {
    if (this.type === 'i64') return this;
    if (this.value !== undefined) return i64(BigInt(Number(this.value) | 0));
    return new Expr('i64', 0xac, [this]);
  }
  /** Sign extension of the low 8, 16 or 32 bits within the type. */
  sext(bits: number): Expr {
    if (this.type === 'i32') {
      if (bits === 32) return this;
      if (this.value !== undefined) return i32((Number(this.value) << (32 - bits)) >> (32 - bits));
      return new Expr('i32', bits === 8 ? 0xc0 : 0xc1, [this]);
    }
    if (bits === 64) return this;
    if (this.value !== undefined) return i64(BigInt.asIntN(bits, BigInt(this.value)));
    return new Expr('i64', bits === 8 ? 0xc2 : bits === 16 ? 0xc3 : 0xc4, [this]);
  }
  /** Masked to the low `bits` bits. */
  low(bits: number): Expr {
    if (this.type === 'i32') return bits >= 32 ? this : this.and(2 ** bits - 1);
    return bits >= 64 ? this : this.and((1n << BigInt(bits)) - 1n);
  }
  /** `this ? a : b`, both evaluated. */
  select(a: Expr, b: Expr): Expr {
    if (a.type !== b.type) throw new TypeError(`select: ${a.type} with ${b.type}`);
    const condition = this.type === 'i64' ? this.ne(0) : this;
    if (condition.value !== undefined) return Number(condition.value) ? a : b;
    if (a.type === 'v128') return new Expr(a.type, 0x1c, [a, b, condition], [1, 0x7b]);
    return new Expr(a.type, SELECT, [a, b, condition]);
  }
}

/** A local variable. Assigned with `f.set`. */
export class Local extends Expr {
  readonly index: number;
  constructor(type: ValType, index: number) {
    super(type, LOCAL_GET, [], [index]);
    this.index = index;
  }
}

export function i32(value: number): Expr {
  return new Expr('i32', I32_CONST, [], [], value | 0);
}
export function i64(value: bigint | number): Expr {
  return new Expr('i64', I64_CONST, [], [], BigInt.asIntN(64, BigInt(value)));
}
export function f32(value: number): Expr {
  return new Expr('f32', F32_CONST, [], [], value);
}
export function f64(value: number): Expr {
  return new Expr('f64', F64_CONST, [], [], value);
}
export function constOf(type: ValType, value: number | bigint): Expr {
  switch (type) {
    case 'i32':
      return i32(Number(BigInt.asIntN(32, BigInt(value))));
    case 'i64':
      return i64(value);
    case 'f32':
      return f32(Number(value));
    case 'f64':
      return f64(Number(value));
    case 'v128':
      throw new TypeError('no v128 constant from a number');
  }
}

const BINARY = {
  add: [0x6a, 0x7c],
  sub: [0x6b, 0x7d],
  mul: [0x6c, 0x7e],
  div_s: [0x6d, 0x7f],
  div_u: [0x6e, 0x80],
  rem_s: [0x6f, 0x81],
  rem_u: [0x70, 0x82],
  and: [0x71, 0x83],
  or: [0x72, 0x84],
  xor: [0x73, 0x85],
  shl: [0x74, 0x86],
  shr_s: [0x75, 0x87],
  shr_u: [0x76, 0x88],
  rotl: [0x77, 0x89],
  rotr: [0x78, 0x8a],
} as const;
type BinaryOp = keyof typeof BINARY;

const FLOAT_BINARY: Partial<Record<BinaryOp, readonly [number, number]>> = {
  add: [0x92, 0xa0],
  sub: [0x93, 0xa1],
  mul: [0x94, 0xa2],
  div_s: [0x95, 0xa3],
};

const COMPARE = {
  eq: [0x46, 0x51],
  ne: [0x47, 0x52],
  lt_s: [0x48, 0x53],
  lt_u: [0x49, 0x54],
  gt_s: [0x4a, 0x55],
  gt_u: [0x4b, 0x56],
  le_s: [0x4c, 0x57],
  le_u: [0x4d, 0x58],
  ge_s: [0x4e, 0x59],
  ge_u: [0x4f, 0x5a],
} as const;
type CompareOp = keyof typeof COMPARE;
const FLOAT_COMPARE: Partial<Record<CompareOp, readonly [number, number]>> = {
  eq: [0x5b, 0x61],
  ne: [0x5c, 0x62],
  lt_s: [0x5d, 0x63],
  gt_s: [0x5e, 0x64],
  le_s: [0x5f, 0x65],
  ge_s: [0x60, 0x66],
};

function fold(op: BinaryOp, type: 'i32' | 'i64', a: bigint, b: bigint): bigint | undefined {
  const bits = type === 'i32' ? 32 : 64;
  const ua = BigInt.asUintN(bits, a);
  const shift = BigInt.asUintN(bits, b) % BigInt(bits);
  switch (op) {
    case 'add':
      return a + b;
    case 'sub':
      return a - b;
    case 'mul':
      return a * b;
    case 'and':
      return a & b;
    case 'or':
      return a | b;
    case 'xor':
      return a ^ b;
    case 'shl':
      return a << shift;
    case 'shr_s':
      return BigInt.asIntN(bits, a) >> shift;
    case 'shr_u':
      return ua >> shift;
    default:
      return undefined;
  }
}

function isValue(e: Expr, v: bigint): boolean {
  return e.value !== undefined && typeof e.value !== 'undefined' && BigInt(e.value) === v;
}

function binary(op: BinaryOp, a: Expr, b: Expr): Expr {
  const { type } = a;
  if (type === 'f32' || type === 'f64') {
    const codes = FLOAT_BINARY[op];
    if (codes === undefined) throw new TypeError(`${op} on ${type}`);
    return new Expr(type, codes[type === 'f32' ? 0 : 1], [a, b]);
  }
  if (type === 'v128') throw new TypeError(`${op} on v128: use simd()`);
  if (a.value !== undefined && b.value !== undefined) {
    const folded = fold(op, type, BigInt(a.value), BigInt(b.value));
    if (folded !== undefined) return constOf(type, BigInt.asIntN(type === 'i32' ? 32 : 64, folded));
  }
  if (b.value !== undefined) {
    switch (op) {
      case 'add':
      case 'sub':
      case 'or':
      case 'xor':
      case 'shl':
      case 'shr_s':
      case 'shr_u':
      case 'rotl':
      case 'rotr':
        if (isValue(b, 0n)) return a;
        break;
      case 'and':
        if (isValue(b, -1n)) return a;
        break;
      case 'mul':
        if (isValue(b, 1n)) return a;
        break;
    }
  }
  if (isValue(a, 0n) && (op === 'add' || op === 'or' || op === 'xor')) return b;
  return new Expr(type, BINARY[op][type === 'i32' ? 0 : 1], [a, b]);
}

function compare(op: CompareOp, a: Expr, b: Expr): Expr {
  if (a.type === 'f32' || a.type === 'f64') {
    const codes = FLOAT_COMPARE[op];
    if (codes === undefined) throw new TypeError(`${op} on ${a.type}`);
    return new Expr('i32', codes[a.type === 'f32' ? 0 : 1], [a, b]);
  }
  if (a.type === 'v128') throw new TypeError(`${op} on v128: use simd()`);
  if ((op === 'eq' || op === 'ne') && isValue(b, 0n)) {
    if (op === 'eq') return a.eqz();
    if (a.type === 'i32' && isBoolean(a)) return a;
  }
  return new Expr('i32', COMPARE[op][a.type === 'i32' ? 0 : 1], [a, b]);
}

/** True for the result of a comparison: known to be 0 or 1. */
export function isBoolean(e: Expr): boolean {
  return e.code >= 0x45 && e.code <= 0x66;
}

// --- loads ---

interface LoadKind {
  readonly type: ValType;
  readonly code: number;
  readonly align: number;
}
export const LOAD = {
  i32: { type: 'i32', code: 0x28, align: 2 },
  i64: { type: 'i64', code: 0x29, align: 3 },
  f32: { type: 'f32', code: 0x2a, align: 2 },
  f64: { type: 'f64', code: 0x2b, align: 3 },
  i32_8s: { type: 'i32', code: 0x2c, align: 0 },
  i32_8u: { type: 'i32', code: 0x2d, align: 0 },
  i32_16s: { type: 'i32', code: 0x2e, align: 1 },
  i32_16u: { type: 'i32', code: 0x2f, align: 1 },
  i64_8s: { type: 'i64', code: 0x30, align: 0 },
  i64_8u: { type: 'i64', code: 0x31, align: 0 },
  i64_16s: { type: 'i64', code: 0x32, align: 1 },
  i64_16u: { type: 'i64', code: 0x33, align: 1 },
  i64_32s: { type: 'i64', code: 0x34, align: 2 },
  i64_32u: { type: 'i64', code: 0x35, align: 2 },
  v128: { type: 'v128', code: 0xfd0000, align: 4 },
  v128_32zero: { type: 'v128', code: 0xfd005c, align: 2 },
  v128_64zero: { type: 'v128', code: 0xfd005d, align: 3 },
} as const satisfies Record<string, LoadKind>;

/** A plain load. Alignment in the encoding is 1 byte: guest addresses are arbitrary. */
export function load(kind: keyof typeof LOAD, addr: Expr, offset = 0): Expr {
  const k = LOAD[kind];
  return new Expr(k.type, k.code, [addr], [0, offset]);
}
/** An atomic load of a byte. V8 tests the alignment of wider ones, with five instructions. */
export function atomicLoad8(addr: Expr, offset = 0): Expr {
  return new Expr('i32', 0xfe0012, [addr], [0, offset]);
}

/** Atomic read-modify-write on `size` bytes (1, 2, 4 as i32; 8 as i64); gives the old value, zero-extended. */
const ATOMIC_RMW = {
  add: 0x1e,
  sub: 0x25,
  and: 0x2c,
  or: 0x33,
  xor: 0x3a,
  xchg: 0x41,
  cmpxchg: 0x48,
} as const;
/** Distance from the i32 form: i64 +1, i32 8-bit +2, i32 16-bit +3. */
const ATOMIC_SIZE: Record<number, readonly [number, number]> = { 1: [2, 0], 2: [3, 1], 4: [0, 2], 8: [1, 3] };

export function atomicRmw(
  op: Exclude<keyof typeof ATOMIC_RMW, 'cmpxchg'>,
  size: number,
  addr: Expr,
  value: Expr,
): Expr {
  const [distance, align] = ATOMIC_SIZE[size];
  return new Expr(
    size === 8 ? 'i64' : 'i32',
    0xfe0000 | (ATOMIC_RMW[op] + distance),
    [addr, value],
    [align, 0],
  );
}
export function atomicCmpxchg(size: number, addr: Expr, expected: Expr, replacement: Expr): Expr {
  const [distance, align] = ATOMIC_SIZE[size];
  const type = size === 8 ? 'i64' : 'i32';
  return new Expr(
    type,
    0xfe0000 | (ATOMIC_RMW.cmpxchg + distance),
    [addr, expected, replacement],
    [align, 0],
  );
}

/** Any other operator by opcode, for the floating-point and SIMD tables. `imms` are LEB128 immediates. */
export function op(type: ValType, code: number, args: readonly Expr[], imms: readonly number[] = []): Expr {
  return new Expr(type, code, args, imms);
}
/** A SIMD operator by its number after the 0xFD prefix; `raw` holds byte immediates (lanes, shuffle masks). */
export function simdOp(type: ValType, sub: number, args: readonly Expr[], raw?: Uint8Array): Expr {
  return new Expr(type, 0xfd0000 | sub, args, [], undefined, raw);
}
