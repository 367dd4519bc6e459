/**
 * The decoded form that tier 0 executes: one 32-byte record per instruction, in shared memory, so that all
 * vCPUs use what one has decoded. A run of records is contiguous and ends with a jump or a pseudo record.
 */

export const RECORD_SIZE = 32;
/** Byte offsets in a record. */
export const RECORD = {
  /** u16: handler number; written last, with an atomic store, and changed when the code is invalidated. */
  HANDLER: 0,
  /** u16 env offsets of the register operands, in operand order (memory and immediates have none). */
  SLOT0: 2,
  SLOT1: 4,
  /** u32, of a conditional jump: times it was not taken. */
  MISSED: 4,
  /** u16: env offset of the memory operand's base register. */
  BASE: 6,
  INDEX: 8,
  SCALE: 10,
  LENGTH: 11,
  /** u16: offset in the 4 KiB page of the instruction's first byte. */
  OFFSET: 12,
  /** u16: where a region is entered, which of its entries. */
  SEQ: 14,
  /** i32; of a direct jump, while tier 1 is on: SLOT0 for each time it was taken, from 0 if it is counted, from 1 if not. */
  DISP: 16,
  /** u16 each: third and fourth register operand; for direct jumps a u32: record of the target, once known. */
  SLOT2: 20,
  SLOT3: 22,
  CHAIN: 20,
  /** i64: immediate; for direct jumps the target relative to the page's start. */
  IMM: 24,
} as const;

/**
 * A counted jump asks for compilation each time it has been taken this often (a power of two). By then its code has
 * taken tier 0 about as long as a region costs (1 to 2 ms).
 */
export const HOT_PERIOD = 16384;
/** What jumps that are counted and others add to DISP each time: of the others it stays odd, and never hot. */
export const COUNT_STEP = { counted: 1, other: 2 } as const;

/** Register slots by position of the register operand. */
export const SLOTS = [RECORD.SLOT0, RECORD.SLOT1, RECORD.SLOT2, RECORD.SLOT3] as const;

/** Handlers that stand for no instruction; their numbers are fixed. */
export const PSEUDO = {
  /** The code here is no longer valid (or was never decoded): look it up again. */
  RELOOKUP: 0,
  /** End of a run: goes on at the page offset in the record. */
  CONTINUE: 1,
  /** Leaves with REASON.BUDGET: end of one-shot code. */
  STOP: 2,
  /** Goes on at the record in CHAIN: the rest was decoded earlier. */
  GOTO: 3,
  /** Computes an address that does not fit the fast form into `tmpAddr`. */
  ADDRESS: 4,
  /** As ADDRESS, for a 64-bit address in the record's immediate. */
  ADDRESS_IMMEDIATE: 5,
  /** As ADDRESS, checked against the segment's limit and type: SLOT1 is the access. */
  CHECKED_ADDRESS: 6,
  /** The check alone, for an operand on the stack: IMM 0 stands for the stack pointer's width. */
  CHECK: 7,
  /** As HELPER, for checks of implicit operands that TypeScript makes. */
  CHECK_HELPER: 8,
  /**
   * Before an instruction that goes on in the next page: leaves unless the code TLB has that page with the descriptor
   * in CHAIN, and it is alive.
   */
  CROSSING: 9,
  /** Raises #UD. */
  UNDEFINED: 10,
  /** Raises #GP(0): an instruction longer than 15 bytes. */
  TOO_LONG: 11,
  /** An instruction done by TypeScript; see `HELPER`. */
  HELPER: 12,
  COUNT: 13,
} as const;
/** Records with this handler number or above are an instruction each. */
export const FIRST_INSTRUCTION = PSEUDO.UNDEFINED;

/** An access in SLOT1 of a checked record: its bytes, and bits. */
export const ACCESS_SIZE = 0x3fff;
/** The check is made by the instruction, which moves the address (BT with a register). */
export const ACCESS_MOVED = 0x4000;
export const ACCESS_WRITE = 0x8000;

/**
 * A HELPER record: SLOT0 and SLOT1 hold its register slots or register numbers, SLOT2 the helper's number, SLOT3
 * these fields, IMM the immediate.
 */
export const HELPER = {
  /** 3 bits an operand: `HELPER_OPERAND`. */
  OPERAND_BITS: 3,
  /** log2 of the operand size, bits 12..13. */
  SIZE_SHIFT: 12,
  /** `scratch[4]` is written to operand 0. */
  RESULT: 1 << 14,
  /** #GP(0) at CPL 1 to 3, before any operand is read. */
  PRIVILEGED: 1 << 15,
} as const;
export const HELPER_OPERAND = {
  NONE: 0,
  /** Value of a general register. */
  REGISTER: 1,
  IMMEDIATE: 2,
  /** Memory that the helper accesses by itself, at `slowAddr`. */
  ADDRESS: 3,
  /** Value in memory, of the operand size. */
  VALUE: 4,
  /** A register number (segment, control, debug, ST). */
  NUMBER: 5,
  /** A far pointer: offset and selector. */
  FAR: 6,
  /** Value in memory of 2 bytes (selectors). */
  WORD: 7,
} as const;
