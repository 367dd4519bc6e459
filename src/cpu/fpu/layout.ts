/** Where the x87 state is in `CpuEnv`, and the bits of its words. Source: Intel SDM vol. 1, 8.1. */
import { CpuEnv } from '../env.ts';

/** Byte offsets from the env's start. */
export const FPU = {
  regs: CpuEnv.offsetOf('fpRegs'),
  /** Number (0..7) of the physical register that is ST(0); the TOP field of `status` is kept 0. */
  top: CpuEnv.offsetOf('fpTop'),
  control: CpuEnv.offsetOf('fpControl'),
  status: CpuEnv.offsetOf('fpStatus'),
  /** Bit per physical register: 1 valid, 0 empty. */
  tags: CpuEnv.offsetOf('fpTags'),
  opcode: CpuEnv.offsetOf('fpOpcode'),
  /** Offset in CS of the last non-control instruction. */
  ip: CpuEnv.offsetOf('fpIp'),
  /** Linear address of the last memory operand. */
  dp: CpuEnv.offsetOf('fpDp'),
  cs: CpuEnv.offsetOf('fpCs'),
  ds: CpuEnv.offsetOf('fpDs'),
} as const;

/** Status word. */
export const FSW = {
  IE: 1 << 0,
  DE: 1 << 1,
  ZE: 1 << 2,
  OE: 1 << 3,
  UE: 1 << 4,
  PE: 1 << 5,
  /** Stack fault. */
  SF: 1 << 6,
  /** Error summary: an unmasked exception is waiting. */
  ES: 1 << 7,
  C0: 1 << 8,
  C1: 1 << 9,
  C2: 1 << 10,
  TOP_SHIFT: 11,
  C3: 1 << 14,
  /** Busy: a copy of ES. */
  B: 1 << 15,
} as const;
/** The six exceptions; the same bits mask them in the control word. */
export const EXCEPTIONS = 0x3f;
export const CONDITION_BITS = FSW.C0 | FSW.C1 | FSW.C2 | FSW.C3;

/** Control word. */
export const FCW = {
  PRECISION_SHIFT: 8,
  ROUNDING_SHIFT: 10,
  /** Value after FNINIT. */
  INIT: 0x037f,
  /** Bits that can be written; bit 6 reads as 1. */
  WRITABLE: 0x1f3f,
  FIXED: 0x0040,
} as const;

export const EXPONENT_BIAS = 16383;
export const EXPONENT_MAX = 0x7fff;
export const SIGN_BIT = 0x8000;
/** Mantissa of infinity, of 1, and with the quiet bit of a NaN. */
export const INTEGER_BIT = 1n << 63n;
export const QUIET_BIT = 1n << 62n;
/** The QNaN that invalid operations give: negative, mantissa C000…. */
export const DEFAULT_NAN_MANTISSA = 0xc000000000000000n;
export const DEFAULT_NAN_HIGH = 0xffff;
