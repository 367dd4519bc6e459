/**
 * One decoded instruction: a reusable record that `decode` fills. Nothing here allocates after construction.
 */

/** Kinds of an operand (`Insn.kind`). */
export const OPERAND = {
  NONE: 0,
  /** General register `reg` 0..15, low `size` bytes. */
  REG: 1,
  /** AH, CH, DH, BH: `reg` is 0..3, the register that contains it; `size` is 1. */
  REG8HIGH: 2,
  /** Immediate in `immLo`/`immHi` (or `imm2` for the second one); `size` is its encoded size, 0 for a constant 1. */
  IMM: 3,
  /** The memory operand: `base`, `index`, `scale`, `disp`, `seg`. */
  MEM: 4,
  /** XMM/YMM register; `size` is what the instruction uses of it (32: a YMM register). */
  XMM: 5,
  MMX: 6,
  SREG: 7,
  CR: 8,
  DR: 9,
  /** x87 stack register ST(reg). */
  ST: 10,
  /** Relative branch target: `rel` is added to the ip of the next instruction. */
  REL: 11,
  /** Immediate far pointer: offset in `immLo`, selector in `imm2`. */
  FAR: 12,
} as const;

/** `Insn.base` of an address relative to the next instruction. */
export const BASE_RIP = 16;
/** Most operands an instruction has. */
export const MAX_OPERANDS = 4;

/** Bits of `Insn.prefixes`: what was present, whether or not it meant anything. */
export const PREFIX = {
  OPERAND_SIZE: 1,
  ADDRESS_SIZE: 2,
  LOCK: 4,
  F2: 8,
  F3: 16,
  REX: 32,
  /** REX.W or VEX.W. */
  W: 64,
  VEX: 128,
  SEGMENT: 256,
} as const;

/** Thread: owner. */
export class Insn {
  /** Index in `ROWS`. */
  row = 0;
  /** Index in `NAMES`. */
  name = 0;
  /** Bytes, 1..15. */
  length = 0;
  /**
   * Effective operand size in bytes: 1 for byte forms, else 2, 4, 8. Defaults to 8 where long mode does
   * (push, near branches); the general register size of SSE conversions is in `size` of that operand.
   */
  opSize = 4;
  /** Effective address size in bytes: 2, 4, 8. Also the width of (R)SI, (R)DI, (R)CX of string and loop instructions. */
  addrSize = 4;
  /** Condition 0..15 of jcc, setcc, cmovcc; else 0. */
  cond = 0;
  /** 1 with a (valid) LOCK prefix. XCHG with memory locks without it. */
  lock = 0;
  /** For repeatable string instructions: 0, 2 (F2, REPNE), 3 (F3, REP/REPE). */
  rep = 0;
  /**
   * Segment (SEG order: ES CS SS DS FS GS) of the memory operand, or of the overridable implicit one
   * (movs, cmps, lods, outs source; xlat; maskmovq). In 64-bit code only FS and GS have a base.
   */
  seg = 3;
  prefixes = 0;
  /** Number of operands; they are in Intel order, destination first, implicit AL/eAX/CL/DX/1 included. */
  count = 0;
  readonly kind = new Uint8Array(MAX_OPERANDS);
  /** Bytes; 0 where the instruction accesses no memory (lea) or an amount found at run time (xsave). */
  readonly size = new Uint16Array(MAX_OPERANDS);
  readonly reg = new Uint8Array(MAX_OPERANDS);
  /** Which operand is MEM, or -1. */
  memOperand = -1;
  /** 0..15, BASE_RIP, or -1 for none. */
  base = -1;
  /** 0..15 or -1; a vector register when `vsib`. */
  index = -1;
  /** log2 of the factor of the index: 0..3. */
  scale = 0;
  /** Signed displacement; low half of a 64-bit moffs address. */
  disp = 0;
  /** Sign of `disp`; the high half of a 64-bit moffs address (base and index are -1 then). */
  dispHi = 0;
  /** Gather: `index` is an XMM (16) or YMM (32) register; else 0. */
  vsib = 0;
  /** First immediate, extended to 64 bits as the instruction does (signed for arithmetic, unsigned for counts and ports). */
  immLo = 0;
  immHi = 0;
  /** Second immediate: nesting level of enter, selector of a far pointer. */
  imm2 = 0;
  /** Displacement of a relative branch. */
  rel = 0;
  /** 1 for a VEX-encoded instruction. */
  vex = 0;
  /** VEX.L: 0 (128 bits) or 1 (256 bits). */
  vexL = 0;
}

/** What `decode` returns instead of a length. */
export const DECODE = {
  /** The bytes available end within the instruction. */
  MORE: 0,
  /** Invalid opcode: #UD. */
  UD: -1,
  /** Longer than 15 bytes: #GP(0). */
  GP: -2,
} as const;
