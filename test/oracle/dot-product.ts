/**
 * Which NaN DPPS and DPPD give when there are several. The manuals leave it open; Intel's CPUs choose by lane, and so
 * does smp86. AMD's add products 0 and 1, 2 and 3, then the sums, and the first NaN wins, in each lane the same.
 */

interface Format {
  /** Bytes of a number. */
  readonly size: 4 | 8;
  readonly lanes: number;
  readonly infinity: bigint;
  readonly quiet: bigint;
  readonly sign: bigint;
}
const FORMATS: Readonly<Record<string, Format>> = {
  dpps: { size: 4, lanes: 4, infinity: 0x7f800000n, quiet: 0x00400000n, sign: 0x80000000n },
  dppd: { size: 8, lanes: 2, infinity: 0x7ff0000000000000n, quiet: 1n << 51n, sign: 1n << 63n },
};

/** A number, when it is a NaN or infinite; undefined: any other. */
type Special = bigint | undefined;

class Arithmetic {
  private readonly format: Format;
  private readonly denormalsAreZero: boolean;

  constructor(format: Format, denormalsAreZero: boolean) {
    this.format = format;
    this.denormalsAreZero = denormalsAreZero;
  }
  private magnitude(bits: bigint): bigint {
    return bits & (this.format.sign - 1n);
  }
  isNan(bits: bigint): boolean {
    return this.magnitude(bits) > this.format.infinity;
  }
  private isInfinite(bits: bigint): boolean {
    return this.magnitude(bits) === this.format.infinity;
  }
  private isZero(bits: bigint): boolean {
    return this.magnitude(bits) === 0n || (this.denormalsAreZero && (bits & this.format.infinity) === 0n);
  }
  private get defaultNan(): bigint {
    return this.format.sign | this.format.infinity | this.format.quiet;
  }
  product(a: bigint, b: bigint): Special {
    const { infinity, quiet, sign } = this.format;
    if (this.isNan(a)) return a | quiet;
    if (this.isNan(b)) return b | quiet;
    if (!this.isInfinite(a) && !this.isInfinite(b)) return undefined;
    return this.isZero(a) || this.isZero(b) ? this.defaultNan : ((a ^ b) & sign) | infinity;
  }
  sum(a: Special, b: Special): Special {
    if (a !== undefined && this.isNan(a)) return a;
    if (b !== undefined && this.isNan(b)) return b;
    return a !== undefined && b !== undefined && a !== b ? this.defaultNan : (a ?? b);
  }
}

const DAZ = 0x40;

/**
 * The result of DPPS or DPPD as an AMD CPU gives it: `result`, 16 bytes from smp86, with the NaN that AMD chooses.
 * `a`, `b`: the operands, 16 bytes each. Infinities made by overflow are not seen here.
 */
export function amdDotProduct(
  name: string,
  a: Uint8Array,
  b: Uint8Array,
  immediate: number,
  mxcsr: number,
  result: Uint8Array,
): Uint8Array {
  const format = FORMATS[name];
  const arithmetic = new Arithmetic(format, (mxcsr & DAZ) !== 0);
  const lane = (bytes: Uint8Array, i: number): bigint => {
    const v = new DataView(bytes.buffer, bytes.byteOffset);
    return format.size === 8 ? v.getBigUint64(i * 8, true) : BigInt(v.getUint32(i * 4, true));
  };
  const p = [0, 1, 2, 3].map((i) =>
    i < format.lanes && (immediate >> (4 + i)) & 1 ? arithmetic.product(lane(a, i), lane(b, i)) : undefined,
  );
  const nan = arithmetic.sum(arithmetic.sum(p[0], p[1]), arithmetic.sum(p[2], p[3]));
  const out = Uint8Array.from(result);
  if (nan === undefined || !arithmetic.isNan(nan)) return out;
  for (let i = 0; i < format.lanes; i++) {
    if (((immediate >> i) & 1) === 0 || !arithmetic.isNan(lane(out, i))) continue;
    for (let k = 0; k < format.size; k++) out[i * format.size + k] = Number((nan >> BigInt(8 * k)) & 255n);
  }
  return out;
}
