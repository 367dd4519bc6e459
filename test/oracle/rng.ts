/** A seeded source of numbers (xoshiro128**), and operand values worth trying. */

function splitMix(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) | 0;
  };
}

const SPECIAL: readonly bigint[] = [
  0n,
  1n,
  2n,
  -1n,
  -2n,
  0x7fn,
  0x80n,
  0xffn,
  0x100n,
  0x7fffn,
  0x8000n,
  0xffffn,
  0x10000n,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  0x100000000n,
  0x7fffffffffffffffn,
  0x8000000000000000n,
  0x8000000080008080n,
  0x7fffffff7fff7f7fn,
  0x5555555555555555n,
  0x0f0f0f0f0f0f0f0fn,
];

export class Rng {
  private a: number;
  private b: number;
  private c: number;
  private d: number;

  constructor(...seeds: number[]) {
    let mixed = 0x1234567;
    for (const s of seeds) mixed = splitMix(mixed ^ s)();
    const next = splitMix(mixed);
    this.a = next();
    this.b = next();
    this.c = next();
    this.d = next() | 1;
  }

  /** 32 random bits, unsigned. */
  u32(): number {
    const result = Math.imul(this.rotate(Math.imul(this.b, 5), 7), 9);
    const t = this.b << 9;
    this.c ^= this.a;
    this.d ^= this.b;
    this.b ^= this.c;
    this.a ^= this.d;
    this.c ^= t;
    this.d = this.rotate(this.d, 11);
    return result >>> 0;
  }
  private rotate(v: number, n: number): number {
    return (v << n) | (v >>> (32 - n));
  }
  /** 0 ≤ result < n. */
  below(n: number): number {
    return this.u32() % n;
  }
  /** True once in `n` times. */
  once(n: number): boolean {
    return this.u32() % n === 0;
  }
  pick<T>(from: readonly T[]): T {
    return from[this.u32() % from.length];
  }
  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }
  /** A 64-bit operand value, unsigned. */
  value(): bigint {
    switch (this.below(8)) {
      case 0:
      case 1:
        return BigInt.asUintN(64, this.pick(SPECIAL));
      case 2:
        return BigInt.asUintN(64, this.pick(SPECIAL) + BigInt(this.below(5) - 2));
      case 3:
        return 1n << BigInt(this.below(64));
      case 4:
        return BigInt(this.below(256));
      case 5:
        return BigInt.asUintN(64, BigInt.asIntN(BigInt(this.u32()) & 1n ? 32 : 16, BigInt(this.u32())));
      default:
        return this.u64();
    }
  }
  bytes(n: number): Uint8Array {
    const out = new Uint8Array(n);
    for (let i = 0; i < n; i++) out[i] = this.u32() >>> 11;
    return out;
  }
}
