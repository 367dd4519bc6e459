/**
 * Elementary functions of exact binary arguments in fixed-point BigInt arithmetic, to about 2^-100 relative: far
 * below the last place of an 80-bit number. Slow by design: only x87 transcendental instructions come here.
 */

/** A positive real number `m`·2^-`s`. `exact`: no approximation; else the value is never a rounding boundary. */
export interface Real {
  readonly m: bigint;
  readonly s: number;
  readonly exact: boolean;
}

/** Working bits behind the leading one. */
const BITS = 128;
/** Arguments smaller than 2^-TINY: the first term of the series, with a nudge for directed rounding, will do. */
const TINY = 64;
/** Scale of `pi` and `ln2`: they are numbers of 2^-CONSTANT_BITS. */
export const CONSTANT_BITS = 256;

const asDouble = new Float64Array(1);
const doubleWords = new Uint32Array(asDouble.buffer);
/** Numbers from here on do not fit a double. */
const HUGE = 1n << 1000n;

/** Of a number that is not negative. */
export function bitLength(n: bigint): number {
  if (n === 0n) return 0;
  if (n >= HUGE) return 1000 + bitLength(n >> 1000n);
  asDouble[0] = Number(n);
  const bits = (doubleWords[1] >>> 20) - 1022;
  // a power of two may have been rounded up to
  const power = doubleWords[0] === 0 && (doubleWords[1] & 0xfffff) === 0;
  return power && n >> BigInt(bits - 1) === 0n ? bits - 1 : bits;
}

function shift(n: bigint, by: number): bigint {
  return by >= 0 ? n << BigInt(by) : n >> BigInt(-by);
}

/** A number just below or above m·2^-s. */
export function nudged(m: bigint, s: number, up: boolean): Real {
  return { m: (m << 100n) + (up ? 1n : -1n), s: s + 100, exact: false };
}
/** num / den with at least `BITS` bits. */
export function quotient(num: bigint, den: bigint): Real {
  const by = Math.max(0, BITS + 2 + bitLength(den) - bitLength(num));
  const scaled = num << BigInt(by);
  const q = scaled / den;
  const exact = q * den === scaled;
  return exact ? { m: q, s: by, exact } : { m: q * 2n + 1n, s: by + 1, exact };
}

/** 1 at the scale at which polynomials are evaluated. */
const ONE = 1n << BigInt(BITS);
const SHIFT = BigInt(BITS);

/**
 * Coefficients of a power series in a number below 2^-`small`, the highest first, at scale BITS: as many as matter.
 * `coefficient(n)`: divisor of the n-th term.
 */
function coefficients(small: number, alternating: boolean, divisor: (n: number) => bigint): bigint[] {
  const list: bigint[] = [];
  for (let n = 0; ; n++) {
    const c = ONE / divisor(n);
    if (c >> BigInt(n * small) === 0n) return list;
    list.unshift(alternating && n % 2 === 1 ? -c : c);
  }
}
function polynomial(list: readonly bigint[], x: bigint): bigint {
  let sum = 0n;
  for (const c of list) sum = ((sum * x) >> SHIFT) + c;
  return sum;
}
function factorial(n: number): bigint {
  let product = 1n;
  for (let i = 2n; i <= n; i++) product *= i;
  return product;
}
/** Where arguments are reduced by tables, they end up this small (as exponents of 2), their squares twice as much. */
const REDUCED = 5;
const STEPS = 16;
const ARC = coefficients(2 * REDUCED, true, (n) => BigInt(2 * n + 1));
const HYPERBOLIC_ARC = coefficients(2 * REDUCED, false, (n) => BigInt(2 * n + 1));
const SINE = coefficients(2 * REDUCED, true, (n) => factorial(2 * n + 1));
const COSINE = coefficients(2 * REDUCED, true, (n) => factorial(2 * n));
const EXPONENTIAL = coefficients(REDUCED, false, factorial);

/**
 * Σ (∓1)^n z^(2n+1) / (2n+1) at scale w: arc tangent (alternating) or its hyperbolic sister, for which z is positive
 * or, at scale BITS, below 1/32.
 */
function arcSeries(z: bigint, w: number, alternating: boolean): bigint {
  const W = BigInt(w);
  if (w === BITS && z < ONE >> BigInt(REDUCED) && -z < ONE >> BigInt(REDUCED)) {
    return (z * polynomial(alternating ? ARC : HYPERBOLIC_ARC, (z * z) >> SHIFT)) >> SHIFT;
  }
  const square = (z * z) >> W;
  let power = z;
  let sum = z;
  for (let n = 3n; power !== 0n; n += 2n) {
    power = (power * square) >> W;
    if (alternating) power = -power;
    sum += power / n;
  }
  return sum;
}

let atanTable: bigint[] | undefined;
/** atan(k/16), k = 0..16, at scale CONSTANT_BITS. */
function atanOfSixteenths(): bigint[] {
  if (atanTable === undefined) {
    atanTable = [0n];
    for (let k = 1; k <= 16; k++) {
      const step = (16n << BigInt(CONSTANT_BITS)) / BigInt(256 + k * (k - 1));
      atanTable.push(atanTable[k - 1] + arcSeries(step, CONSTANT_BITS, true));
    }
  }
  return atanTable;
}
/** π at scale CONSTANT_BITS. */
export function pi(): bigint {
  return atanOfSixteenths()[16] * 4n;
}
let ln2Value: bigint | undefined;
/** ln 2 at scale CONSTANT_BITS: 2 artanh(1/3). */
export function ln2(): bigint {
  ln2Value ??= 2n * arcSeries((1n << BigInt(CONSTANT_BITS)) / 3n, CONSTANT_BITS, false);
  return ln2Value;
}

let log2eValue: bigint | undefined;
/** 2/ln 2 at scale CONSTANT_BITS. */
function twiceLog2e(): bigint {
  log2eValue ??= (2n << BigInt(2 * CONSTANT_BITS)) / ln2();
  return log2eValue;
}

/** Sine and cosine by the series, at scale w. */
function sineCosineSeries(x: bigint, w: number): { sin: bigint; cos: bigint } {
  const W = BigInt(w);
  const square = (x * x) >> W;
  let sin = x;
  let cos = 1n << W;
  let sinTerm = x;
  let cosTerm = cos;
  for (let n = 1n; sinTerm !== 0n || cosTerm !== 0n; n += 2n) {
    cosTerm = -((cosTerm * square) >> W) / (n * (n + 1n));
    sinTerm = -((sinTerm * square) >> W) / ((n + 1n) * (n + 2n));
    cos += cosTerm;
    sin += sinTerm;
  }
  return { sin, cos };
}
/** e^x − 1 by the series, at scale w. */
function exponentialSeries(x: bigint, w: number): bigint {
  const W = BigInt(w);
  let sum = 0n;
  let term = 1n << W;
  for (let n = 1n; term !== 0n && term !== -1n; n++) {
    term = ((term * x) >> W) / n;
    sum += term;
  }
  return sum;
}

/** A table of a function of k/16 that is filled as it is used. */
function lazily<T>(compute: (k: number) => T): (k: number) => T {
  const known = new Map<number, T>();
  return (k) => {
    let value = known.get(k);
    if (value === undefined) {
      value = compute(k);
      known.set(k, value);
    }
    return value;
  };
}
/** Bits more than BITS in which a table's entry is computed, so that it is right to the last of these. */
const GUARD = 16;
const sineCosineOf = lazily((k) => {
  const { sin, cos } = sineCosineSeries((BigInt(k) << BigInt(BITS + GUARD)) / BigInt(STEPS), BITS + GUARD);
  return { sin: sin >> BigInt(GUARD), cos: cos >> BigInt(GUARD) };
});
const exponentialOf = lazily((k) => {
  const w = BITS + GUARD;
  return (
    ((1n << BigInt(w)) + exponentialSeries((BigInt(k) << BigInt(w)) / BigInt(STEPS), w)) >> BigInt(GUARD)
  );
});
/** Binary logarithm of 1 + k/16, at scale CONSTANT_BITS. */
const logarithmOf = lazily((k) => {
  const z = (BigInt(Math.abs(k)) << BigInt(CONSTANT_BITS)) / BigInt(2 * STEPS + k);
  const log = (arcSeries(z, CONSTANT_BITS, false) * twiceLog2e()) >> BigInt(CONSTANT_BITS);
  return k < 0 ? -log : log;
});

/** The nearest k to 16 x, for x at scale BITS. */
function nearestStep(x: bigint): number {
  return Number((x + (1n << (SHIFT - 5n))) >> (SHIFT - 4n));
}
function stepValue(k: number): bigint {
  return BigInt(k) << (SHIFT - 4n);
}

/** `n`/8 of π. */
export function piTimes(eighths: number): Real {
  return { m: pi() * BigInt(eighths), s: CONSTANT_BITS + 3, exact: false };
}

/** The processor's π: 66 bits of it (SDM vol. 1, 8.3.8), times 2^66. */
export const PI_66 = 0xc90fdaa22168c234cn;

/** Sine and cosine with their signs. */
export interface SineCosine {
  readonly sine: Real;
  readonly sineNegative: boolean;
  readonly cosine: Real;
  readonly cosineNegative: boolean;
  readonly tangent: Real;
  readonly tangentNegative: boolean;
}

/** Of the angle m·2^-s, positive and below 2^63. */
export function sineCosine(m: bigint, s: number): SineCosine {
  let quadrant = 0;
  let negative = false;
  let r = m;
  let scale = s;
  if (bitLength(m) - s > -TINY) {
    scale = Math.max(s, 67);
    const half = PI_66 << BigInt(scale - 67);
    const x = m << BigInt(scale - s);
    const n = (2n * x + half) / (2n * half);
    quadrant = Number(n & 3n);
    r = x - n * half;
    negative = r < 0n;
    if (negative) r = -r;
  }
  const { sin, cos, tan, cot } = reduced(r, scale);
  const odd = (quadrant & 1) !== 0;
  // sin(r + 90°) = cos r, cos(r + 90°) = −sin r
  const sineNegative = odd ? quadrant === 3 : negative !== (quadrant === 2);
  const cosineNegative = odd ? negative !== (quadrant === 1) : quadrant === 2;
  return {
    sine: odd ? cos : sin,
    sineNegative,
    cosine: odd ? sin : cos,
    cosineNegative,
    tangent: odd ? cot() : tan(),
    tangentNegative: sineNegative !== cosineNegative,
  };
}

function reduced(r: bigint, scale: number): { sin: Real; cos: Real; tan: () => Real; cot: () => Real } {
  const leading = scale - bitLength(r);
  if (leading >= TINY) {
    // as the processor: sin x = tan x = x and cos x = 1 whatever the rounding
    return {
      sin: { m: r, s: scale, exact: true },
      cos: { m: 1n, s: 0, exact: true },
      tan: () => ({ m: r, s: scale, exact: true }),
      cot: () => {
        const q = quotient(1n << BigInt(scale), r);
        return q.exact ? nudged(q.m, q.s, false) : q;
      },
    };
  }
  const w = BITS + Math.max(leading, 0);
  const x = shift(r, w - scale);
  const { sin, cos } = w === BITS ? tabulatedSineCosine(x) : sineCosineSeries(x, w);
  return {
    sin: { m: sin, s: w, exact: false },
    cos: { m: cos, s: w, exact: false },
    tan: () => ({ ...quotient(sin, cos), exact: false }),
    cot: () => ({ ...quotient(cos, sin), exact: false }),
  };
}

/** Sine and cosine of x from 1/2 up, at scale BITS. */
function tabulatedSineCosine(x: bigint): { sin: bigint; cos: bigint } {
  const k = nearestStep(x);
  const t = x - stepValue(k);
  const square = (t * t) >> SHIFT;
  const sin = (t * polynomial(SINE, square)) >> SHIFT;
  const cos = polynomial(COSINE, square);
  const at = sineCosineOf(k);
  return {
    sin: (at.sin * cos + at.cos * sin) >> SHIFT,
    cos: (at.cos * cos - at.sin * sin) >> SHIFT,
  };
}

/** atan of num/den·2^-e, at most 1. */
function arcTangent(num: bigint, den: bigint, e: number): Real {
  const leading = e + bitLength(den) - bitLength(num);
  if (leading >= TINY) {
    const q = quotient(num, den);
    return q.exact ? nudged(q.m, q.s + e, false) : { ...q, s: q.s + e };
  }
  const w = BITS + Math.max(leading, 0);
  const W = BigInt(w);
  let t = shift(num, w - e) / den;
  let base = 0n;
  const k = Number((t + (1n << (W - 5n))) >> (W - 4n));
  if (k > 0) {
    base = atanOfSixteenths()[k] >> BigInt(CONSTANT_BITS - w);
    const center = BigInt(k) << (W - 4n);
    t = ((t - center) << W) / ((1n << W) + ((t * BigInt(k)) >> 4n));
  }
  return { m: base + arcSeries(t, w, true), s: w, exact: false };
}

/**
 * The angle (0..π) of the point (±x, y), where x = xm·2^xe and y = ym·2^ye are positive, `left` with negative abscissa.
 */
export function angle(ym: bigint, ye: number, xm: bigint, xe: number, left: boolean): Real {
  const e = ye - xe;
  const higher = bitLength(ym) + e - bitLength(xm);
  // compare |y| with |x| without making huge numbers
  const steep = higher > 1 || (higher >= -1 && shift(ym, Math.max(e, 0)) > shift(xm, Math.max(-e, 0)));
  const small = steep ? arcTangent(xm, ym, e) : arcTangent(ym, xm, -e);
  if (!steep && !left) return small;
  const part = shift(small.m, CONSTANT_BITS - small.s);
  let whole: bigint;
  if (steep) whole = left ? pi() / 2n + part : pi() / 2n - part;
  else whole = pi() - part;
  return { m: whole, s: CONSTANT_BITS, exact: false };
}

/** |2^x − 1| of x = ±m·2^-s, |x| ≤ 1, not 0. */
export function powerMinusOne(m: bigint, s: number, negative: boolean): Real {
  const leading = s - bitLength(m);
  if (leading >= TINY + 46) {
    return { m: m * ln2(), s: s + CONSTANT_BITS, exact: false };
  }
  const w = BITS + Math.max(leading, 0);
  let y = shift(m * ln2(), w - s - CONSTANT_BITS);
  if (negative) y = -y;
  const k = w === BITS ? nearestStep(y) : 0;
  const sum =
    k === 0
      ? exponentialSeries(y, w)
      : ((exponentialOf(k) * polynomial(EXPONENTIAL, y - stepValue(k))) >> SHIFT) - ONE;
  return { m: negative ? -sum : sum, s: w, exact: false };
}

/** log2 of v·2^-s > 0: magnitude and sign; m is 0 for a logarithm of 0. */
export function binaryLogarithm(v: bigint, s: number): { value: Real; negative: boolean } {
  let bits = bitLength(v) - 1;
  // v = f·2^bits with f from 3/4 to 3/2
  if (v * 2n >= 3n << BigInt(bits)) bits++;
  const one = 1n << BigInt(bits);
  const whole = bits - s;
  const difference = v - one;
  if (difference === 0n)
    return { value: { m: BigInt(Math.abs(whole)), s: 0, exact: true }, negative: whole < 0 };
  const below = difference < 0n;
  const num = below ? -difference : difference;
  const den = v + one;
  const leading = Math.max(bitLength(den) - bitLength(num), 0);
  // near 1 the logarithm is small, and needs bits behind its leading one
  const near = leading > REDUCED;
  const w = near ? BITS + leading : BITS;
  let log: bigint;
  if (near) {
    const z = (num << BigInt(w)) / den;
    log = (arcSeries(z, w, false) * twiceLog2e()) >> BigInt(CONSTANT_BITS);
    if (below) log = -log;
  } else {
    const k = nearestStep(shift(difference, BITS - bits));
    // v against 1 + k/16, both times 16
    const center = one * BigInt(STEPS + k);
    const scaled = v * BigInt(STEPS);
    const z = ((scaled - center) << SHIFT) / (scaled + center);
    log = (arcSeries(z, BITS, false) * twiceLog2e()) >> BigInt(CONSTANT_BITS);
    log += logarithmOf(k) >> BigInt(CONSTANT_BITS - BITS);
  }
  log += BigInt(whole) << BigInt(w);
  const negative = log < 0n;
  return { value: { m: negative ? -log : log, s: w, exact: false }, negative };
}

/** |log2(1 ± m·2^-s)| of a positive argument; undefined where that is not positive. */
export function binaryLogarithmPlusOne(
  m: bigint,
  s: number,
  minus: boolean,
): { value: Real; negative: boolean } | undefined {
  if (s - bitLength(m) >= TINY + 46) {
    const value = { ...quotient(m << BigInt(CONSTANT_BITS), ln2()), exact: false };
    return { value: { ...value, s: value.s + s }, negative: minus };
  }
  const scale = Math.max(s, 0);
  const x = shift(m, scale - s);
  const v = (1n << BigInt(scale)) + (minus ? -x : x);
  return v > 0n ? binaryLogarithm(v, scale) : undefined;
}
