/**
 * Tables for the fast ways of F2XM1, FYL2X, FYL2XP1, FPATAN, FSIN and FCOS (transcendental.ts), in each vCPU's block. They are made,
 * in some 10 ms, when such an instruction is first executed: until then READY is 0, and the slow way is taken.
 */
import { FPU_TABLES_OFFSET, FPU_TABLES_ROOM } from '../env.ts';
import type { Cpu } from '../sys/cpu.ts';
import { angle, binaryLogarithm, powerMinusOne, type Real, sineCosine } from './big-math.ts';

/** A table has an entry for each 256th. */
export const STEPS = 256;
/** Bits of the reciprocals in LOGARITHM behind the point. */
export const RECIPROCAL_BITS = 12;

const EXPONENTIAL_SIZE = STEPS * 16;
const LOGARITHM_SIZE = STEPS * 32;
/** Offsets from the env's start. Numbers of 128 bits: low half first. */
export const TABLE = {
  READY: FPU_TABLES_OFFSET,
  /** 2^(i/256), i = 0..255, in units of 2^-127. */
  EXPONENTIAL: FPU_TABLES_OFFSET + 16,
  /**
   * For numbers f from 1 + i/256 to 1 + (i+1)/256, 32 bytes each: −log2 r in units of 2^-112, and r, in units of
   * 2^-RECIPROCAL_BITS, near 1/f, or 2/f where i ≥ 128; exactly 1 at both ends.
   */
  LOGARITHM: FPU_TABLES_OFFSET + 16 + EXPONENTIAL_SIZE,
  /** atan(i/256), i = 0..256, in units of 2^-126. */
  ARC_TANGENT: FPU_TABLES_OFFSET + 16 + EXPONENTIAL_SIZE + LOGARITHM_SIZE,
  /** Sine and cosine of i/256, i = 1 up to π/4, 32 bytes each, in units of 2^-128. */
  SINE: FPU_TABLES_OFFSET + 16 + EXPONENTIAL_SIZE + LOGARITHM_SIZE + (STEPS + 1) * 16,
} as const;
const SINES = Math.round((STEPS * Math.PI) / 4);
if (TABLE.SINE + (SINES + 1) * 32 > FPU_TABLES_OFFSET + FPU_TABLES_ROOM) throw new Error('tables');

function atScale({ m, s }: Real, scale: number): bigint {
  return scale >= s ? m << BigInt(scale - s) : m >> BigInt(s - scale);
}

/** Words of the tables, READY included. */
function compute(): BigUint64Array {
  const words = new BigUint64Array((FPU_TABLES_ROOM / 8) | 0);
  const put = (offset: number, value: bigint): void => {
    words[(offset - FPU_TABLES_OFFSET) / 8] = BigInt.asUintN(64, value);
    words[(offset - FPU_TABLES_OFFSET) / 8 + 1] = BigInt.asUintN(64, value >> 64n);
  };
  for (let i = 0; i < STEPS; i++) {
    const power = i === 0 ? 0n : atScale(powerMinusOne(BigInt(i), 8, false), 127);
    put(TABLE.EXPONENTIAL + i * 16, (1n << 127n) + power);
    // the middle of the interval, in units of 2^-9, or of half of it
    const middle = 2 * STEPS + 2 * i + 1;
    const ends = i === 0 || i === STEPS - 1;
    const unit = 2 ** RECIPROCAL_BITS;
    const reciprocal = ends ? unit : Math.round(((i < STEPS / 2 ? 1 : 2) * unit * 2 * STEPS) / middle);
    const { value, negative } = binaryLogarithm(BigInt(reciprocal), RECIPROCAL_BITS);
    const logarithm = atScale(value, 112);
    put(TABLE.LOGARITHM + i * 32, negative ? logarithm : -logarithm);
    put(TABLE.LOGARITHM + i * 32 + 16, BigInt(reciprocal));
  }
  for (let i = 1; i <= STEPS; i++) {
    put(TABLE.ARC_TANGENT + i * 16, atScale(angle(BigInt(i), 0, BigInt(STEPS), 0, false), 126));
  }
  for (let i = 1; i <= SINES; i++) {
    const { sine, cosine } = sineCosine(BigInt(i), 8);
    put(TABLE.SINE + i * 32, atScale(sine, 128));
    put(TABLE.SINE + i * 32 + 16, atScale(cosine, 128));
  }
  words[0] = 1n;
  return words;
}

let computed: BigUint64Array | undefined;

/** Makes the tables of a vCPU, unless they are there. *Thread:* vCPU. */
export function makeTables(cpu: Cpu): void {
  if (cpu.u32[(cpu.base + TABLE.READY) >>> 2] !== 0) return;
  computed ??= compute();
  cpu.u64.set(computed, (cpu.base + FPU_TABLES_OFFSET) >>> 3);
}
