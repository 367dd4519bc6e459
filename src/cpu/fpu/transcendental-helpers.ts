/**
 * FSIN, FCOS, FSINCOS, FPTAN, FPATAN, F2XM1, FYL2X, FYL2XP1: helper instructions (docs/plan-boot.md).
 * Source: Intel SDM vol. 1, 8.3.7–8.3.10; vol. 2, instruction pages with their tables of special operands.
 * *Thread:* vCPU.
 */
import type { Helper } from '../sem/misc-helpers.ts';
import type { Cpu } from '../sys/cpu.ts';
import { STATUS } from '../sys/words.ts';
import {
  angle,
  binaryLogarithm,
  binaryLogarithmPlusOne,
  bitLength,
  piTimes,
  powerMinusOne,
  type Real,
  sineCosine,
} from './big-math.ts';
import { makeTables } from './transcendental-tables.ts';
import {
  DEFAULT_NAN_HIGH,
  DEFAULT_NAN_MANTISSA,
  EXCEPTIONS,
  EXPONENT_BIAS,
  EXPONENT_MAX,
  FPU,
  FSW,
  INTEGER_BIT,
  QUIET_BIT,
  SIGN_BIT,
} from './layout.ts';

/** An 80-bit number. */
interface Ext {
  readonly m: bigint;
  /** Sign bit 15, exponent 14..0. */
  readonly e: number;
}
/** A result and the status bits it raises. */
interface Outcome extends Ext {
  readonly flags: number;
}

const BEFORE = FSW.IE | FSW.DE | FSW.ZE;
const EXPONENT_ADJUST = 24576;
const ONE: Ext = { m: INTEGER_BIT, e: EXPONENT_BIAS };
const MASK64 = (1n << 64n) - 1n;

const zero = (sign: number): Ext => ({ m: 0n, e: sign });
const infinity = (sign: number): Ext => ({ m: INTEGER_BIT, e: sign | EXPONENT_MAX });
const invalid: Outcome = { m: DEFAULT_NAN_MANTISSA, e: DEFAULT_NAN_HIGH, flags: FSW.IE };
const exactly = (x: Ext, flags = 0): Outcome => ({ m: x.m, e: x.e, flags });

// --- classes ---

function exponent(x: Ext): number {
  return x.e & EXPONENT_MAX;
}
function sign(x: Ext): number {
  return x.e & SIGN_BIT;
}
function isZero(x: Ext): boolean {
  return x.m === 0n && exponent(x) === 0;
}
function isInfinity(x: Ext): boolean {
  return exponent(x) === EXPONENT_MAX && x.m === INTEGER_BIT;
}
function isUnsupported(x: Ext): boolean {
  return exponent(x) !== 0 && x.m < INTEGER_BIT;
}
function isNan(x: Ext): boolean {
  return exponent(x) === EXPONENT_MAX && x.m !== INTEGER_BIT;
}
function denormalFlag(...numbers: Ext[]): number {
  return numbers.some((x) => exponent(x) === 0 && x.m !== 0n) ? FSW.DE : 0;
}
/** The scale s of a finite number's value m·2^-s. */
function scaleOf(x: Ext): number {
  return EXPONENT_BIAS + 63 - Math.max(exponent(x), 1);
}

/** The result when a or b is a NaN or unsupported; undefined when neither is. */
function nanOf(a: Ext, b: Ext): Outcome | undefined {
  if (isUnsupported(a) || isUnsupported(b)) return invalid;
  if (!isNan(a) && !isNan(b)) return undefined;
  const signals = (x: Ext): boolean => isNan(x) && (x.m & QUIET_BIT) === 0n;
  let pick = isNan(a) ? a : b;
  if (isNan(a) && isNan(b)) {
    if (signals(a) !== signals(b)) pick = signals(a) ? b : a;
    else pick = a.m > b.m || (a.m === b.m && sign(a) <= sign(b)) ? a : b;
  }
  return { m: pick.m | QUIET_BIT, e: pick.e, flags: signals(a) || signals(b) ? FSW.IE : 0 };
}

// --- rounding ---

/** Rounds ±m·2^-s to 64 bits as `control` says. */
function round(control: number, negative: boolean, value: Real): Outcome {
  const signBits = negative ? SIGN_BIT : 0;
  const rounding = (control >>> 10) & 3;
  const bits = bitLength(value.m);
  let exp = bits - 1 - value.s + EXPONENT_BIAS;
  let flags = 0;
  let cut = bits - 64;
  const tiny = exp <= 0;
  if (tiny) {
    if (control & FSW.UE) cut += 1 - exp;
    else {
      exp += EXPONENT_ADJUST;
      flags |= FSW.UE;
    }
  }
  let m = cut >= 0 ? value.m >> BigInt(cut) : value.m << BigInt(-cut);
  const rest = cut > 0 ? value.m - (m << BigInt(cut)) : 0n;
  const half = cut > 0 ? 1n << BigInt(cut - 1) : 1n;
  const inexact = rest !== 0n || !value.exact;
  let up = false;
  if (rounding === 0) up = rest > half || (rest === half && (!value.exact || (m & 1n) !== 0n));
  else if (rounding !== 3) up = inexact && (rounding === 1) === negative;
  if (up) m++;
  if (inexact) flags |= FSW.PE;
  if (up) flags |= FSW.C1;
  if (tiny && control & FSW.UE) {
    if (inexact) flags |= FSW.UE;
    return { m, e: signBits | (m >= INTEGER_BIT ? 1 : 0), flags };
  }
  if (m > MASK64) {
    m = INTEGER_BIT;
    exp++;
  }
  if (exp >= EXPONENT_MAX) {
    flags |= FSW.OE;
    if ((control & FSW.OE) === 0) return { m, e: signBits | (exp - EXPONENT_ADJUST), flags };
    const toInfinity = rounding === 0 || (rounding !== 3 && (rounding === 1) === negative);
    flags = FSW.OE | FSW.PE | (toInfinity ? FSW.C1 : 0);
    return toInfinity
      ? { ...infinity(signBits), flags }
      : { m: MASK64, e: signBits | (EXPONENT_MAX - 1), flags };
  }
  return { m, e: signBits | exp, flags };
}

/** Rounds a transcendental result: it counts as inexact even where it happens to be exact. */
function approximate(control: number, negative: boolean, value: Real, flags: number): Outcome {
  const r = round(control, negative, value);
  const tiny = exponent(r) === 0 && r.m !== 0n ? FSW.UE : 0;
  return { ...r, flags: r.flags | FSW.PE | tiny | flags };
}

// --- the register stack ---

function controlWord(cpu: Cpu): number {
  return cpu.u16[(cpu.base + FPU.control) >>> 1];
}
function physical(cpu: Cpu, i: number): number {
  return (cpu.u32[(cpu.base + FPU.top) >>> 2] + i) & 7;
}
function setTop(cpu: Cpu, top: number): void {
  cpu.u32[(cpu.base + FPU.top) >>> 2] = top & 7;
}
function isEmpty(cpu: Cpu, n: number): boolean {
  return (cpu.u8[cpu.base + FPU.tags] & (1 << n)) === 0;
}
function readRegister(cpu: Cpu, n: number): Ext {
  const at = cpu.base + FPU.regs + n * 16;
  return { m: cpu.u64[at >>> 3], e: cpu.u16[(at + 8) >>> 1] };
}
function writeRegister(cpu: Cpu, n: number, value: Ext): void {
  const at = cpu.base + FPU.regs + n * 16;
  cpu.u64[at >>> 3] = value.m;
  cpu.u16[(at + 8) >>> 1] = value.e;
  cpu.u8[cpu.base + FPU.tags] |= 1 << n;
}
/** Puts `flags` into the status word; false when an unmasked exception keeps the operands as they are. */
function raise(cpu: Cpu, flags: number, clear: number): boolean {
  const at = (cpu.base + FPU.status) >>> 1;
  const unmasked = flags & ~controlWord(cpu) & EXCEPTIONS;
  let status = cpu.u16[at] & ~(FSW.C1 | clear);
  if (unmasked & BEFORE) status |= flags & (BEFORE | FSW.SF | (flags & FSW.SF ? FSW.C1 : 0));
  else status |= flags;
  if (unmasked) status |= FSW.ES | FSW.B;
  cpu.u16[at] = status;
  return (unmasked & BEFORE) === 0;
}

/** An instruction on ST(0) alone. `clear`: condition bits it clears besides C1. */
function unary(compute: (x: Ext, control: number) => Outcome, clear = 0): Helper {
  return (cpu) => {
    makeTables(cpu);
    const n = physical(cpu, 0);
    const r = isEmpty(cpu, n)
      ? { ...invalid, flags: FSW.IE | FSW.SF }
      : compute(readRegister(cpu, n), controlWord(cpu));
    if (raise(cpu, r.flags, clear)) writeRegister(cpu, n, r);
    return STATUS.NEXT;
  };
}

/** An instruction on ST(1) and ST(0) whose result replaces ST(1), with a pop. */
function binary(compute: (y: Ext, x: Ext, control: number) => Outcome): Helper {
  return (cpu) => {
    makeTables(cpu);
    const n = physical(cpu, 0);
    const target = physical(cpu, 1);
    const r =
      isEmpty(cpu, n) || isEmpty(cpu, target)
        ? { ...invalid, flags: FSW.IE | FSW.SF }
        : (nanOf(readRegister(cpu, n), readRegister(cpu, target)) ??
          compute(readRegister(cpu, target), readRegister(cpu, n), controlWord(cpu)));
    if (raise(cpu, r.flags, 0)) {
      writeRegister(cpu, target, r);
      cpu.u8[cpu.base + FPU.tags] &= ~(1 << n);
      setTop(cpu, target);
    }
    return STATUS.NEXT;
  };
}

// --- trigonometry ---

/** Angles of 2^63 and more are left alone; C2 says so. */
const LIMIT = EXPONENT_BIAS + 63;

function outOfRange(x: Ext): boolean {
  return exponent(x) >= LIMIT && exponent(x) !== EXPONENT_MAX;
}
function trigonometric(x: Ext, control: number, cosine: boolean): Outcome {
  const nan = nanOf(x, x);
  if (nan !== undefined) return nan;
  if (isInfinity(x)) return invalid;
  if (outOfRange(x)) return exactly(x, FSW.C2);
  if (isZero(x)) return exactly(cosine ? ONE : x);
  const r = sineCosine(x.m, scaleOf(x));
  const negative = sign(x) !== 0;
  const flags = denormalFlag(x);
  return cosine
    ? approximate(control, r.cosineNegative, r.cosine, flags)
    : approximate(control, r.sineNegative !== negative, r.sine, flags);
}

/** FSINCOS, FPTAN: the second result is pushed. */
function pushing(compute: (x: Ext, control: number) => [Outcome, Outcome]): Helper {
  return (cpu) => {
    const n = physical(cpu, 0);
    const pushed = physical(cpu, -1);
    let results: [Outcome, Outcome];
    if (isEmpty(cpu, n) || !isEmpty(cpu, pushed)) {
      const flags = FSW.IE | FSW.SF | (isEmpty(cpu, n) ? 0 : FSW.C1);
      results = [{ ...invalid, flags }, invalid];
    } else {
      const x = readRegister(cpu, n);
      if (!isUnsupported(x) && outOfRange(x)) {
        raise(cpu, FSW.C2, FSW.C2);
        return STATUS.NEXT;
      }
      results = compute(x, controlWord(cpu));
    }
    const [first, second] = results;
    if (raise(cpu, first.flags | second.flags, FSW.C2)) {
      writeRegister(cpu, n, first);
      writeRegister(cpu, pushed, second);
      setTop(cpu, pushed);
    }
    return STATUS.NEXT;
  };
}

function sineAndCosine(x: Ext, control: number): [Outcome, Outcome] {
  return [trigonometric(x, control, false), trigonometric(x, control, true)];
}

function tangent(x: Ext, control: number): [Outcome, Outcome] {
  const nan = nanOf(x, x) ?? (isInfinity(x) ? invalid : undefined);
  if (nan !== undefined) return [nan, nan];
  if (isZero(x)) return [exactly(x), exactly(ONE)];
  const r = sineCosine(x.m, scaleOf(x));
  const negative = r.tangentNegative !== (sign(x) !== 0);
  return [approximate(control, negative, r.tangent, denormalFlag(x)), exactly(ONE)];
}

/** The angle of the point (x, y). */
function arcTangent(y: Ext, x: Ext, control: number): Outcome {
  const up = sign(y);
  const left = sign(x) !== 0;
  const flags = denormalFlag(x, y);
  const multiple = (eighths: number): Outcome => approximate(control, up !== 0, piTimes(eighths), flags);
  if (isInfinity(y)) return multiple(isInfinity(x) ? (left ? 6 : 2) : 4);
  if (isZero(y) || isInfinity(x)) return left ? multiple(8) : exactly(zero(up), flags);
  if (isZero(x)) return multiple(4);
  return approximate(control, up !== 0, angle(y.m, -scaleOf(y), x.m, -scaleOf(x), left), flags);
}

// --- powers and logarithms ---

function powerOfTwo(x: Ext, control: number): Outcome {
  const nan = nanOf(x, x);
  if (nan !== undefined) return nan;
  if (isInfinity(x)) return exactly(sign(x) ? { m: INTEGER_BIT, e: SIGN_BIT | EXPONENT_BIAS } : x);
  if (isZero(x)) return exactly(x);
  // beyond ±1 the result is undefined; the operand stays
  if (exponent(x) > EXPONENT_BIAS || (exponent(x) === EXPONENT_BIAS && x.m !== INTEGER_BIT))
    return exactly(x);
  const negative = sign(x) !== 0;
  if (exponent(x) === EXPONENT_BIAS) {
    return exactly({ m: INTEGER_BIT, e: negative ? x.e - 1 : x.e }, FSW.PE);
  }
  return approximate(control, negative, powerMinusOne(x.m, scaleOf(x), negative), denormalFlag(x));
}

/** y times a logarithm. */
function times(y: Ext, log: { value: Real; negative: boolean }, control: number, flags: number): Outcome {
  const { m, s, exact } = log.value;
  const negative = (sign(y) !== 0) !== log.negative;
  return approximate(control, negative, { m: y.m * m, s: s + scaleOf(y), exact }, flags);
}

function logarithm(y: Ext, x: Ext, control: number): Outcome {
  const flags = denormalFlag(x, y);
  if (isZero(x)) {
    if (isZero(y)) return invalid;
    const opposite = infinity(sign(y) ^ SIGN_BIT);
    return isInfinity(y) ? exactly(opposite) : exactly(opposite, FSW.ZE);
  }
  if (sign(x)) return invalid;
  if (isInfinity(x)) return isZero(y) ? invalid : exactly(infinity(sign(y)), flags);
  const isOne = x.m === INTEGER_BIT && exponent(x) === EXPONENT_BIAS;
  const below = exponent(x) < EXPONENT_BIAS ? SIGN_BIT : 0;
  if (isInfinity(y)) return isOne ? invalid : exactly(infinity(sign(y) ^ below), flags);
  if (isZero(y) || isOne) return exactly(zero(sign(y) ^ below), flags);
  return times(y, binaryLogarithm(x.m, scaleOf(x)), control, flags);
}

function logarithmPlusOne(y: Ext, x: Ext, control: number): Outcome {
  const flags = denormalFlag(x, y);
  const product = sign(x) ^ sign(y);
  if (isZero(x)) return isInfinity(y) ? invalid : exactly(zero(product), flags);
  if (isInfinity(x)) return sign(x) || isZero(y) ? invalid : exactly(infinity(sign(y)), flags);
  if (isInfinity(y)) return exactly(infinity(product), flags);
  if (isZero(y)) return exactly(zero(product), flags);
  const log = binaryLogarithmPlusOne(x.m, scaleOf(x), sign(x) !== 0);
  return log === undefined ? invalid : times(y, log, control, flags);
}

/** By instruction name. */
export const TRANSCENDENTAL_HELPERS: Readonly<Record<string, Helper>> = {
  fsin: unary((x, control) => trigonometric(x, control, false), FSW.C2),
  fcos: unary((x, control) => trigonometric(x, control, true), FSW.C2),
  fsincos: pushing(sineAndCosine),
  fptan: pushing(tangent),
  fpatan: binary(arcTangent),
  f2xm1: unary(powerOfTwo),
  fyl2x: binary(logarithm),
  fyl2xp1: binary(logarithmPlusOne),
};
