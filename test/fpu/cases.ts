/** x87 instructions and the states they are tried on. */
import type { Case } from './oracle.ts';

/** xorshift64*; repeatable. */
export class Random {
  private state: bigint;
  constructor(seed: number) {
    this.state = (BigInt(seed) << 1n) * 0x9e3779b97f4a7c15n + 1n;
  }
  u64(): bigint {
    let x = this.state & 0xffffffffffffffffn;
    x ^= x >> 12n;
    x = (x ^ (x << 25n)) & 0xffffffffffffffffn;
    x ^= x >> 27n;
    this.state = x;
    return (x * 0x2545f4914f6cdd1dn) & 0xffffffffffffffffn;
  }
  below(n: number): number {
    return Number((this.u64() >> 16n) % BigInt(n));
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }
  chance(n: number): boolean {
    return this.below(n) === 0;
  }
}

export type Number80 = readonly [bigint, number];
const ONE = 1n << 63n;
const ALL = (1n << 64n) - 1n;

/** Numbers at the borders of classes; sign excluded. */
export const numbers: readonly Number80[] = [
  [0n, 0],
  [1n, 0],
  [ONE - 1n, 0],
  [0x4000000000000001n, 0],
  [ONE, 0], // pseudo-denormal
  [ALL, 0],
  [ONE, 1],
  [ALL, 1],
  [ONE, 0x3fff],
  [ONE | 1n, 0x3fff],
  [ALL, 0x3ffe],
  [0xc000000000000000n, 0x3fff],
  [ONE, 0x4000],
  [ONE, 0x3ffe],
  [ONE, 0x7ffe],
  [ALL, 0x7ffe],
  [ONE, 0x7fff],
  [0xc000000000000000n, 0x7fff],
  [0xc000000000000001n, 0x7fff],
  [ALL, 0x7fff],
  [0x8000000000000001n, 0x7fff], // signaling
  [0xbfffffffffffffffn, 0x7fff],
  [0n, 0x7fff], // pseudo-infinity
  [0x4000000000000000n, 0x7fff],
  [1n, 0x7fff],
  [0n, 0x3fff], // unnormals
  [1n, 0x3fff],
  [ONE - 1n, 0x4123],
  [ONE, 0x403e],
  [ALL, 0x403d],
  [0xfffffffffffffe00n, 0x403d],
  [ONE, 0x401e],
  [0xfffffffe00000000n, 0x401d],
  [ONE, 0x400e],
  [0xfffe000000000000n, 0x400d],
  [0xffffff0000000000n, 0x407e], // the largest float32
  [0xffffff8000000000n, 0x407e],
  [0xfffffffffffff800n, 0x43fe], // and float64
  [0xfffffffffffffc00n, 0x43fe],
  [ONE, 0x3f81],
  [0xffffffffffffffffn, 0x3f80],
  [ONE, 0x3f6a],
  [ONE, 0x3f69],
  [ONE, 0x3c01],
  [ALL, 0x3c00],
  [ONE, 0x3bcd],
  [ONE, 0x3bcc],
];

/** A mantissa with long runs of equal bits, or a short one. */
function mantissa(r: Random): bigint {
  switch (r.below(5)) {
    case 0:
      return r.u64() | ONE;
    case 1:
      return ((ALL << BigInt(r.below(64))) & ALL) | ONE;
    case 2:
      return ((ALL << BigInt(r.below(64))) & ALL) | ONE | (1n << BigInt(r.below(64)));
    case 3:
      return (ALL ^ (1n << BigInt(r.below(63)))) & ALL;
    default:
      return ((r.u64() >> 40n) << 40n) | ONE | (1n << BigInt(r.below(64)));
  }
}

export function randomNumber(r: Random): Number80 {
  const sign = r.below(2) << 15;
  switch (r.below(8)) {
    case 0:
    case 1: {
      const [m, e] = r.pick(numbers);
      return [m, e | sign];
    }
    case 2:
      return [mantissa(r) >> BigInt(r.below(64)), sign];
    case 3:
      return [mantissa(r), sign | (1 + r.below(0x7ffe))];
    case 4:
      return [mantissa(r), sign | (0x3fff + r.below(140) - 70)];
    case 5:
      return [mantissa(r), sign | (0x3fff + r.below(8) - 4)];
    case 6:
      return [mantissa(r), sign | r.pick([1 + r.below(80), 0x7ffe - r.below(80)])];
    default:
      return [r.u64(), r.below(0x10000)];
  }
}

/** Any control word: precision (the reserved one not), rounding, mostly all masked. */
function randomControl(r: Random): number {
  const masks = r.chance(3) ? r.below(64) : 0x3f;
  return 0x40 | masks | (r.pick([0, 2, 3, 3]) << 8) | (r.below(4) << 10);
}

/** A second operand near the first: cancellation, ties. */
function near(r: Random, [m, e]: Number80): Number80 {
  const high = (e & 0x7fff) + r.below(5) - 2;
  if (high <= 0 || high >= 0x7fff) return [m, e ^ 0x8000];
  const changed = r.chance(2) ? m : (m ^ (1n << BigInt(r.below(64)))) | ONE;
  return [changed, high | (r.below(2) << 15)];
}

export interface Instruction {
  name: string;
  make(r: Random): Case;
  /** Bits of the status word that the instruction defines. */
  mask: number;
}

const ALL_STATUS = 0xffff;
const C0 = 0x100;
const C1 = 0x200;
const C2 = 0x400;
const C3 = 0x4000;

interface Options {
  mask?: number;
  memory?: (r: Random) => Uint8Array;
  /** Registers in use; default: all or (rarely) any. */
  tags?: (r: Random, top: number) => number;
  adjust?: (r: Random, registers: Number80[]) => void;
}

function randomBytes(r: Random): Uint8Array {
  const bytes = new Uint8Array(32);
  const v = new DataView(bytes.buffer);
  for (let i = 0; i < 32; i += 8) v.setBigUint64(i, r.u64(), true);
  return bytes;
}

function instruction(name: string, code: (r: Random) => number[], options: Options = {}): Instruction {
  return {
    name,
    mask: options.mask ?? ALL_STATUS,
    make(r) {
      const top = r.below(8);
      const registers = Array.from({ length: 8 }, () => randomNumber(r));
      if (r.chance(3)) registers[1] = near(r, registers[0]);
      options.adjust?.(r, registers);
      const tags = r.chance(12) ? r.below(256) : (options.tags?.(r, top) ?? 0xff);
      const control = randomControl(r);
      // flags that are already set must not be waiting
      const sticky = r.chance(4) ? r.below(128) & (control | 0x40) : 0;
      const conditions = r.chance(2) ? (r.below(0x800) & (C0 | C1 | C2)) | (r.below(2) * C3) : 0;
      return {
        code: code(r),
        control,
        status: (top << 11) | sticky | conditions,
        tags,
        registers,
        memory: (options.memory ?? randomBytes)(r),
        flags: r.below(0x1000) & 0x8d5,
      };
    },
  };
}

const float32 = new Float32Array(1);
const float64 = new Float64Array(1);

function randomFloat(bytes: number): (r: Random) => Uint8Array {
  return (r) => {
    const out = randomBytes(r);
    const v = new DataView(out.buffer);
    if (bytes === 4) {
      if (r.chance(3))
        v.setUint32(
          0,
          r.pick([0, 1, 0x7fffff, 0x800000, 0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fc00000, 0x3f800000]) |
            (r.below(2) << 31),
          true,
        );
      else if (r.chance(3)) v.setFloat32(0, (float32[0] = (r.below(2001) - 1000) / 8), true);
    } else if (r.chance(3)) {
      v.setBigUint64(
        0,
        r.pick([
          0n,
          1n,
          0xfffffffffffffn,
          0x10000000000000n,
          0x7fefffffffffffffn,
          0x7ff0000000000000n,
          0x7ff0000000000001n,
          0x7ff8000000000000n,
          0x3ff0000000000000n,
        ]) |
          (BigInt(r.below(2)) << 63n),
        true,
      );
    } else if (r.chance(3)) v.setFloat64(0, (float64[0] = (r.below(2001) - 1000) / 8), true);
    return out;
  };
}
function randomInteger(bytes: number): (r: Random) => Uint8Array {
  return (r) => {
    const out = randomBytes(r);
    const v = new DataView(out.buffer);
    const bits = BigInt(bytes * 8);
    if (r.chance(2))
      v.setBigUint64(
        0,
        BigInt.asUintN(64, r.pick([0n, 1n, -1n, 1n << (bits - 1n), (1n << (bits - 1n)) - 1n])),
        true,
      );
    else if (r.chance(2)) v.setBigInt64(0, BigInt(r.below(2001) - 1000), true);
    return out;
  };
}
function randomBcd(r: Random): Uint8Array {
  const out = randomBytes(r);
  const digits = r.below(19);
  for (let i = 0; i < 9; i++) {
    const low = i * 2 < digits ? r.below(10) : 0;
    const high = i * 2 + 1 < digits ? r.below(10) : 0;
    out[i] = low | (high << 4);
  }
  out[9] = r.below(2) << 7;
  return out;
}
function randomExtended(r: Random): Uint8Array {
  const out = randomBytes(r);
  const v = new DataView(out.buffer);
  const [m, e] = randomNumber(r);
  v.setBigUint64(0, m, true);
  v.setUint16(8, e, true);
  return out;
}

/** Room for a push. */
function room(_: Random, top: number): number {
  return 0xff & ~(1 << ((top + 7) & 7));
}
const withI =
  (...bytes: number[]) =>
  (r: Random): number[] => [...bytes.slice(0, -1), bytes.at(-1)! + r.below(8)];
const fixed =
  (...bytes: number[]) =>
  (): number[] =>
    bytes;

const list: Instruction[] = [];
const NAMES = ['fadd', 'fmul', 'fcom', 'fcomp', 'fsub', 'fsubr', 'fdiv', 'fdivr'];
NAMES.forEach((name, i) => {
  const modrm = 7 + i * 8;
  list.push(
    instruction(`${name} m32`, fixed(0xd8, modrm), { memory: randomFloat(4) }),
    instruction(`${name} m64`, fixed(0xdc, modrm), { memory: randomFloat(8) }),
    instruction(`fi${name.slice(1)} m32`, fixed(0xda, modrm), { memory: randomInteger(4) }),
    instruction(`fi${name.slice(1)} m16`, fixed(0xde, modrm), { memory: randomInteger(2) }),
    instruction(`${name} st0,st1`, fixed(0xd8, 0xc1 + i * 8)),
    instruction(`${name} st0,sti`, withI(0xd8, 0xc0 + i * 8)),
    instruction(`${name} dc`, withI(0xdc, 0xc0 + i * 8)),
  );
  if (i !== 3) list.push(instruction(`${name}p de`, withI(0xde, 0xc0 + i * 8)));
});

const OPTIONS: Record<string, [number[], Options?]> = {
  fcompp: [[0xde, 0xd9]],
  fucompp: [[0xda, 0xe9]],
  'fld m32': [[0xd9, 0x07], { memory: randomFloat(4), tags: room }],
  'fld m64': [[0xdd, 0x07], { memory: randomFloat(8), tags: room }],
  'fld m80': [[0xdb, 0x2f], { memory: randomExtended, tags: room }],
  'fild m16': [[0xdf, 0x07], { memory: randomInteger(2), tags: room }],
  'fild m32': [[0xdb, 0x07], { memory: randomInteger(4), tags: room }],
  'fild m64': [[0xdf, 0x2f], { memory: randomInteger(8), tags: room }],
  fbld: [[0xdf, 0x27], { memory: randomBcd, tags: room }],
  'fst m32': [[0xd9, 0x17]],
  'fstp m32': [[0xd9, 0x1f]],
  'fst m64': [[0xdd, 0x17]],
  'fstp m64': [[0xdd, 0x1f]],
  'fstp m80': [[0xdb, 0x3f]],
  'fist m16': [[0xdf, 0x17]],
  'fistp m16': [[0xdf, 0x1f]],
  'fist m32': [[0xdb, 0x17]],
  'fistp m32': [[0xdb, 0x1f]],
  'fistp m64': [[0xdf, 0x3f]],
  'fisttp m16': [[0xdf, 0x0f]],
  'fisttp m32': [[0xdb, 0x0f]],
  'fisttp m64': [[0xdd, 0x0f]],
  fbstp: [[0xdf, 0x37]],
  fchs: [[0xd9, 0xe0]],
  fabs: [[0xd9, 0xe1]],
  ftst: [[0xd9, 0xe4]],
  fxam: [[0xd9, 0xe5]],
  fld1: [[0xd9, 0xe8], { tags: room }],
  fldl2t: [[0xd9, 0xe9], { tags: room }],
  fldl2e: [[0xd9, 0xea], { tags: room }],
  fldpi: [[0xd9, 0xeb], { tags: room }],
  fldlg2: [[0xd9, 0xec], { tags: room }],
  fldln2: [[0xd9, 0xed], { tags: room }],
  fldz: [[0xd9, 0xee], { tags: room }],
  fxtract: [[0xd9, 0xf4], { tags: room }],
  fprem1: [[0xd9, 0xf5]],
  fprem: [[0xd9, 0xf8]],
  fdecstp: [[0xd9, 0xf6]],
  fincstp: [[0xd9, 0xf7]],
  fsqrt: [[0xd9, 0xfa]],
  frndint: [[0xd9, 0xfc]],
  fscale: [
    [0xd9, 0xfd],
    {
      adjust(r, registers) {
        if (r.chance(2)) registers[1] = [mantissa(r), (r.below(2) << 15) | (0x3fff + r.below(18))];
      },
    },
  ],
  'fnstsw ax': [[0xdf, 0xe0]],
  'fnstsw m16': [[0xdd, 0x3f]],
  'fnstcw m16': [[0xd9, 0x3f]],
  fldcw: [[0xd9, 0x2f]],
  fnclex: [[0xdb, 0xe2]],
  fninit: [[0xdb, 0xe3]],
  fnop: [[0xd9, 0xd0]],
  fneni: [[0xdb, 0xe0]],
};
for (const [name, [code, options]] of Object.entries(OPTIONS))
  list.push(instruction(name, fixed(...code), options));

const WITH_I: Record<string, [number, number, Options?]> = {
  'fld sti': [0xd9, 0xc0, { tags: room }],
  fxch: [0xd9, 0xc8],
  'fst sti': [0xdd, 0xd0],
  'fstp sti': [0xdd, 0xd8],
  'fstp d9': [0xd9, 0xd8],
  'fstp df': [0xdf, 0xd0],
  'fstp df2': [0xdf, 0xd8],
  'fxch dd': [0xdd, 0xc8],
  'fxch df': [0xdf, 0xc8],
  ffree: [0xdd, 0xc0],
  ffreep: [0xdf, 0xc0],
  fucom: [0xdd, 0xe0],
  fucomp: [0xdd, 0xe8],
  fcomi: [0xdb, 0xf0],
  fucomi: [0xdb, 0xe8],
  fcomip: [0xdf, 0xf0],
  fucomip: [0xdf, 0xe8],
  fcmovb: [0xda, 0xc0],
  fcmove: [0xda, 0xc8],
  fcmovbe: [0xda, 0xd0],
  fcmovu: [0xda, 0xd8],
  fcmovnb: [0xdb, 0xc0],
  fcmovne: [0xdb, 0xc8],
  fcmovnbe: [0xdb, 0xd0],
  fcmovnu: [0xdb, 0xd8],
};
for (const [name, [op, modrm, options]] of Object.entries(WITH_I)) {
  list.push(instruction(name, withI(op, modrm), options));
}

export const INSTRUCTIONS: readonly Instruction[] = list;

/** The finite number as an integer that counts representable magnitudes; negative for negative numbers. */
export function ordinal([m, e]: Number80): bigint {
  const exponent = BigInt(e & 0x7fff);
  const magnitude = exponent === 0n ? m : (exponent - 1n) * ONE + m;
  return e & 0x8000 ? -magnitude : magnitude;
}

/** Exponents from `low` to `high` (unbiased). */
function within(r: Random, low: number, high: number): Number80 {
  const e = 0x3fff + low + r.below(high - low + 1);
  return [mantissa(r), e | (r.below(2) << 15)];
}

type Pair = (r: Random) => Number80[];
const anyPair: Pair = (r) => [randomNumber(r), randomNumber(r)];
/** The processor's π, times 2^66 (SDM vol. 1, 8.3.8). */
const PI_66 = 0xc90fdaa22168c234cn;
/** The number next to a multiple of π/2, or one or two further: nearly all digits cancel. */
function nearMultiple(r: Random): Number80 {
  const product = BigInt(1 + r.below(1 << r.pick([2, 8, 20]))) * PI_66;
  const cut = product.toString(2).length - 64;
  const m = (product >> BigInt(cut)) + BigInt(r.below(5) - 2);
  return [(m & ALL) | ONE, (0x3fff + 63 - 67 + cut) | (r.below(2) << 15)];
}
const TRIGONOMETRIC: Pair = (r) => {
  switch (r.below(6)) {
    case 0:
    case 1:
      return [randomNumber(r)];
    case 2:
      return [nearMultiple(r)];
    default:
      return [within(r, r.pick([-70, -5, -3]), r.pick([3, 20, 62]))];
  }
};
const positive = ([m, e]: Number80): Number80 => [m, e & 0x7fff];

/** Transcendental instructions; operands where the result is defined. */
export const TRANSCENDENTAL: readonly Instruction[] = (
  [
    ['fsin', 0xfe, TRIGONOMETRIC],
    ['fcos', 0xff, TRIGONOMETRIC],
    ['fsincos', 0xfb, TRIGONOMETRIC],
    ['fptan', 0xf2, TRIGONOMETRIC],
    ['fpatan', 0xf3, (r) => (r.chance(2) ? anyPair(r) : [within(r, -20, 20), within(r, -20, 20)])],
    [
      'f2xm1',
      0xf0,
      (r) => {
        const x = r.chance(3) ? randomNumber(r) : within(r, r.pick([-80, -5]), -1);
        const exponent = x[1] & 0x7fff;
        return exponent >= 0x3fff && exponent !== 0x7fff ? [[ONE, (x[1] & 0x8000) | 0x3fff]] : [x];
      },
    ],
    ['fyl2x', 0xf1, (r) => (r.chance(2) ? anyPair(r) : [positive(within(r, -3, 3)), within(r, -20, 20)])],
    [
      'fyl2xp1',
      0xf9,
      (r) => {
        const x = r.chance(3) ? randomNumber(r) : within(r, r.pick([-80, -5]), -3);
        const exponent = x[1] & 0x7fff;
        return [
          exponent >= 0x3ffd && exponent !== 0x7fff && x[0] >= ONE ? [x[0], (x[1] & 0x8000) | 0x3ffc] : x,
          randomNumber(r),
        ];
      },
    ],
  ] as [string, number, Pair][]
).map(([name, modrm, pair]) =>
  instruction(name, fixed(0xd9, modrm), {
    tags: name === 'fsincos' || name === 'fptan' ? room : undefined,
    adjust: (r, registers) => {
      pair(r).forEach((x, i) => (registers[i] = x));
    },
    // rounding direction (C1), and what a result at the border of the formats raises, follow the result
    mask: 0xffff & ~C1,
  }),
);
