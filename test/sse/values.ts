/** Random and special operand values, from a seeded generator. */
import { STATE } from './native.ts';
import type { Values } from './cases.ts';

/** xorshift32: reproducible. */
export class Random {
  private s: number;
  constructor(seed: number) {
    this.s = seed | 0 || 1;
  }
  next(): number {
    let x = this.s;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.s = x;
    return x >>> 0;
  }
  below(n: number): number {
    return this.next() % n;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }
}

const SINGLES = [
  0, 0x80000000, 0x3f800000, 0xbf800000, 0x40000000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00001, 0x7f800001,
  0xffa00000, 1, 0x80000001, 0x007fffff, 0x807fffff, 0x00800000, 0x80800000, 0x00800001, 0x7f7fffff, 0xff7fffff,
  0x4effffff, 0x4f000000, 0xcf000000, 0xcf000001, 0x3f000000, 0xbf000000, 0x3effffff, 0x3fc00000, 0x40200000, 0x4b7fffff,
  0x4b800000, 0x4b800001, 0x33800000, 0x5f000000, 0xdf000000, 0x5effffff, 0x3f800001, 0x00ffffff, 0x1f800000, 0x20000000, 0x34000000,
]; // prettier-ignore
const DOUBLES = [
  0n, 1n << 63n, 0x3ff0000000000000n, 0xbff0000000000000n, 0x4000000000000000n, 0x7ff0000000000000n, 0xfff0000000000000n,
  0x7ff8000000000000n, 0xfff8000000000001n, 0x7ff0000000000001n, 0xfff4000000000000n, 1n, 0x8000000000000001n,
  0x000fffffffffffffn, 0x0010000000000000n, 0x8010000000000000n, 0x0010000000000001n, 0x7fefffffffffffffn, 0xffefffffffffffffn,
  0x41dfffffffc00000n, 0x41e0000000000000n, 0xc1e0000000000000n, 0xc1e0000000200000n, 0x41dfffffffe00000n, 0x43e0000000000000n,
  0xc3e0000000000000n, 0x43dfffffffffffffn, 0x3fe0000000000000n, 0xbfe0000000000000n, 0x3ff8000000000000n, 0x4004000000000000n,
  0x4340000000000000n, 0x4330000000000001n, 0x3ca0000000000000n, 0x3ff0000000000001n, 0x3810000000000000n, 0x380fffffffffffffn,
  0x380fffffe0000000n, 0x380fffffefffffffn, 0x47efffffe0000000n, 0x47efffffefffffffn, 0x47effffff0000000n, 0x36a0000000000000n, 0x3690000000000000n,
  0x3690000000000001n, 0x1ff0000000000000n, 0x2000000000000000n, 0x3cb0000000000000n,
]; // prettier-ignore
const INTEGERS = [
  0, 1, 2, 3, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff,
  0x80008000, 0x7fff8000, 0x80808080, 0x7f7f7f7f, 0x1000000, 0x1000001, 0xff000000,
];

function single(r: Random): number {
  switch (r.below(8)) {
    case 0:
    case 1:
    case 2:
      return r.pick(SINGLES);
    case 3: // a small integer or a half
      return new Uint32Array(Float32Array.of((r.below(64) - 32) / 2).buffer)[0];
    case 4: // around 1
      return (0x3f800000 + r.below(0x1000000) - 0x800000 + (r.below(2) ? 0x80000000 : 0)) >>> 0;
    case 5: // near a special value
      return (r.pick(SINGLES) + r.below(5) - 2) >>> 0;
    case 6: // few significant bits
      return (r.next() & 0xfff80000) >>> 0;
    default:
      return r.next();
  }
}
function double(r: Random): bigint {
  const random = (BigInt(r.next()) << 32n) | BigInt(r.next());
  switch (r.below(8)) {
    case 0:
    case 1:
    case 2:
      return r.pick(DOUBLES);
    case 3:
      return new BigUint64Array(Float64Array.of((r.below(64) - 32) / 2).buffer)[0];
    case 4: // around 1, and around what singles hold
      return (random & 0x800fffffffffffffn) | (BigInt(1023 + r.below(300) - 150) << 52n);
    case 5:
      return BigInt.asUintN(64, r.pick(DOUBLES) + BigInt(r.below(5) - 2));
    case 6:
      return random & 0xffff000000000000n;
    default:
      return random;
  }
}

function fill(r: Random, values: Values, state: Buffer, at: number, length: number): void {
  const kind = r.below(10) < 8 ? values : r.pick(['single', 'double', 'integer', 'string'] as const);
  switch (kind) {
    case 'single':
      for (let i = 0; i < length; i += 4) state.writeUInt32LE(single(r), at + i);
      break;
    case 'double':
      for (let i = 0; i < length; i += 8) state.writeBigUInt64LE(double(r), at + i);
      break;
    case 'string': // few letters and some zeros
      for (let i = 0; i < length; i++) state[at + i] = r.pick([0, 1, 97, 98, 98, 99, 0x80, 0xff]);
      if (r.below(2)) for (let i = 1; i < length; i += 2) state[at + i] = 0;
      if (r.below(3) === 0) for (let i = 0; i < length; i++) state[at + i] ||= 98;
      break;
    case 'shift':
      for (let i = 0; i < length; i += 4) state.writeUInt32LE(r.below(4) ? 0 : r.next(), at + i);
      state.writeUInt32LE(r.below(8) ? r.below(70) : r.next(), at);
      break;
    default:
      for (let i = 0; i < length; i += 4) {
        state.writeUInt32LE(r.below(2) ? r.pick(INTEGERS) : r.next(), at + i);
      }
  }
}

const DEFAULT = 0x1f80;
function mxcsr(r: Random): number {
  switch (r.below(10)) {
    case 0:
    case 1:
    case 2:
      return DEFAULT;
    case 3:
    case 4:
      return DEFAULT | 0x20;
    case 5:
      return DEFAULT | r.below(64);
    case 6:
      return DEFAULT | (r.below(4) << 13);
    case 7:
      return (DEFAULT | r.below(128) | (r.below(8) << 13)) & 0xffff;
    default:
      return r.below(0x10000);
  }
}

/** A random state for an instruction with such operands, at `at` in `states`. */
export function randomState(r: Random, values: Values, states: Buffer, at: number): void {
  const state = states.subarray(at, at + STATE.SIZE);
  for (let i = 0; i < 4; i++) fill(r, values, state, STATE.XMM + 16 * i, 16);
  for (let i = 0; i < 4; i++) fill(r, values, state, STATE.MM + 8 * i, 8);
  fill(r, values, state, STATE.MEMORY, 32);
  // equal or related operands
  if (r.below(6) === 0) state.copy(state, STATE.XMM + 32, STATE.XMM + 16, STATE.XMM + 32);
  if (r.below(6) === 0) state.copy(state, STATE.MEMORY, STATE.XMM + 16, STATE.XMM + 32);
  for (const register of [STATE.RAX, STATE.RCX, STATE.RDX, STATE.R8, STATE.R9]) {
    fill(r, 'integer', state, register, 8);
  }
  if (values === 'string') {
    for (const register of [STATE.RAX, STATE.RDX]) {
      if (r.below(4)) state.writeBigInt64LE(BigInt(r.below(44) - 22), register);
    }
  }
  if (r.below(4) === 0) state.writeBigInt64LE(BigInt(r.below(2000) - 1000), STATE.R9);
  state.writeUInt32LE(mxcsr(r), STATE.MXCSR);
}
