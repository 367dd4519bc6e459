/** x87, MMX and SSE register contents worth trying. */
import { FX, FX_SIZE } from './format.ts';
import type { Rng } from './rng.ts';

/** Bits of a floating-point number of `size` bytes (4, 8 or 10). */
export function floatBits(rng: Rng, size: number): bigint {
  const exponentBits = size === 4 ? 8n : size === 8 ? 11n : 15n;
  const fractionBits = size === 4 ? 23n : size === 8 ? 52n : 64n;
  const maxExponent = (1n << exponentBits) - 1n;
  const bias = maxExponent >> 1n;
  const sign = rng.once(2) ? 1n << (exponentBits + fractionBits) : 0n;
  const integerBit = size === 10 ? 1n << 63n : 0n;
  const random = ((rng.u64() << 32n) | BigInt(rng.u32())) & ((1n << fractionBits) - 1n);
  const make = (exponent: bigint, fraction: bigint): bigint => sign | (exponent << fractionBits) | fraction;
  switch (rng.below(14)) {
    case 0:
      return sign;
    case 1:
      return make(maxExponent, integerBit);
    case 2:
      // NaN, quiet or signalling
      return make(maxExponent, random | integerBit | 1n);
    case 3:
      // denormal
      return make(0n, (rng.once(2) ? random : 1n << BigInt(rng.below(Number(fractionBits)))) & ~integerBit);
    case 4:
      return make(bias, integerBit);
    case 5:
      return make(rng.once(2) ? 1n : maxExponent - 1n, random | integerBit);
    case 6: {
      // a small integer
      const n = BigInt(rng.below(1 << rng.below(20)));
      if (n === 0n) return sign;
      const top = BigInt(n.toString(2).length - 1);
      const fraction =
        size === 10 ? n << (63n - top) : ((n << fractionBits) >> top) & ((1n << fractionBits) - 1n);
      return make(bias + top, fraction);
    }
    case 7:
      // about the edges of 16-, 32- and 64-bit integers
      return make(bias + BigInt(rng.pick([14, 15, 16, 30, 31, 32, 62, 63, 64])), random | integerBit);
    case 8:
      // any bits at all; in 80 bits also the encodings that no computation gives
      return sign | ((BigInt(rng.u32()) & maxExponent) << fractionBits) | random;
    default:
      return make(
        bias + BigInt(rng.below(64) - 32),
        (rng.once(3) ? random & ~((1n << (fractionBits / 2n)) - 1n) : random) | integerBit,
      );
  }
}

function put(out: Uint8Array, at: number, value: bigint, size: number): void {
  for (let i = 0; i < size; i++) out[at + i] = Number((value >> BigInt(8 * i)) & 255n);
}

/** Contents for an operand of `size` bytes: packed integers or floats. */
export function vectorBytes(rng: Rng, size: number): Uint8Array {
  const out = new Uint8Array(size);
  switch (rng.below(5)) {
    case 0:
      return rng.bytes(size);
    case 1:
      for (let i = 0; i < size; i += 4) put(out, i, floatBits(rng, 4), Math.min(4, size - i));
      return out;
    case 2:
    case 3:
      if (rng.once(2))
        for (let i = 0; i < size; i += 8) put(out, i, floatBits(rng, 8), Math.min(8, size - i));
      else for (let i = 0; i < size; i += 4) put(out, i, floatBits(rng, 4), Math.min(4, size - i));
      return out;
    default:
      for (let i = 0; i < size; i += 8) put(out, i, rng.value(), Math.min(8, size - i));
      return out;
  }
}

export function floatBytes(rng: Rng, size: number): Uint8Array {
  const out = new Uint8Array(size);
  put(out, 0, floatBits(rng, size), size);
  return out;
}

/** SSE state: registers, and MXCSR with all exceptions masked most of the time. */
export function randomSse(rng: Rng, fx: Uint8Array): void {
  for (let i = 0; i < 16; i++) fx.set(vectorBytes(rng, 16), FX.XMM + i * 16);
  const v = new DataView(fx.buffer);
  let mxcsr = 0x1f80;
  if (rng.once(2)) mxcsr |= rng.below(4) << 13;
  if (rng.once(4)) mxcsr |= rng.pick([0x8000, 0x40, 0x8040]);
  if (rng.once(4)) mxcsr |= rng.below(64);
  if (rng.once(6)) mxcsr &= ~(rng.below(64) << 7);
  v.setUint32(FX.MXCSR, mxcsr, true);
}

/** x87 state: a stack with some registers, precision and rounding of all kinds, exceptions masked most of the time. */
export function randomX87(rng: Rng, fx: Uint8Array): void {
  const v = new DataView(fx.buffer);
  let fcw = 0x037f;
  if (rng.once(2)) fcw = (fcw & ~0xc00) | (rng.below(4) << 10);
  if (rng.once(4)) fcw = (fcw & ~0x300) | (rng.pick([0, 2, 3]) << 8);
  if (rng.once(8)) fcw &= ~rng.below(64);
  v.setUint16(FX.FCW, fcw, true);
  let fsw = rng.below(8) << 11;
  if (rng.once(2)) fsw |= ((rng.below(16) << 8) & 0x700) | (rng.below(2) << 14);
  // status flags whose exceptions are masked, so that nothing is pending
  if (rng.once(4)) fsw |= rng.below(64) & fcw;
  if (rng.once(32)) fsw |= rng.below(64);
  if (fsw & ~fcw & 63) fsw |= 0x8080;
  v.setUint16(FX.FSW, fsw, true);
  fx[FX.FTW] = rng.once(4) ? rng.below(256) : 0xff;
  for (let i = 0; i < 8; i++) fx.set(floatBytes(rng, 10), FX.ST + i * 16);
}

/** State for MMX instructions: like x87's, with contents as integers. */
export function randomMmx(rng: Rng, fx: Uint8Array): void {
  fx[FX.FTW] = rng.below(256);
  for (let i = 0; i < 8; i++) {
    fx.set(vectorBytes(rng, 8), FX.ST + i * 16);
    fx.set(rng.bytes(2), FX.ST + i * 16 + 8);
  }
}

export function newFx(): Uint8Array {
  return new Uint8Array(FX_SIZE);
}
