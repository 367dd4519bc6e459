/**
 * The emission context of one instruction. Semantics (integer.ts, sse.ts …) are written once against
 * this interface; tier 0 and the JIT each implement it. Everything here runs while code is being
 * generated; "gives" means: returns an expression of the generated code.
 *
 * Integer values of 1, 2 and 4 bytes are i32, zero-extended; values of 8 bytes are i64.
 * Linear addresses are i64. An instruction changes guest state only after its last possible fault.
 */
import type { Expr, FuncBuilder } from '../../wasm/index.ts';
import { i32, i64 } from '../../wasm/index.ts';
import type { FlagEmitter } from './flag-emitter.ts';
import type { StackInstruction } from './x87-stack.ts';

/** How an operand of the form at hand is given. */
export type OperandKind =
  /** General register (AH–BH included). */
  | 'r'
  /** Memory. */
  | 'm'
  /** Immediate, sign-extended to the operand size. */
  | 'i'
  /** XMM register. */
  | 'x'
  /** MMX register. */
  | 'q'
  /** x87 register ST(i). */
  | 's'
  /** Branch displacement. */
  | 'j';

/** General registers by number. */
export const REG = {
  AX: 0, CX: 1, DX: 2, BX: 3, SP: 4, BP: 5, SI: 6, DI: 7,
} as const; // prettier-ignore

export interface Ins {
  readonly f: FuncBuilder;
  /** i32: wasm address of the vCPU's env. */
  readonly env: Expr;
  /** Operand size in bytes: 1, 2, 4, 8. */
  readonly size: number;
  /** Address size in bytes: 2, 4, 8. */
  readonly addressSize: number;
  readonly kinds: readonly OperandKind[];
  /** Condition 0..15 of jcc, setcc, cmovcc. */
  readonly cond: number;
  readonly lock: boolean;
  /** 0, 2 (F2), 3 (F3). */
  readonly rep: number;
  readonly flags: FlagEmitter;
  /** Width of the stack pointer as `CpuEnv.stackSize` has it, with SS flat; undefined: known when the code runs. */
  readonly stackSize?: number;

  // --- operands by position (0 is the destination) ---
  /** Value of operand `n` read with `size` bytes (default: the operand size). Bound: evaluated here, once. */
  read(n: number, size?: number): Expr;
  /** Writes a register (4 bytes zero-extend to 8; 1 and 2 bytes leave the rest) or memory operand. */
  write(n: number, value: Expr, size?: number): void;
  /** Reads operand `n`, computes, writes. Atomic with LOCK: `change` may then be emitted more than once. */
  modify(n: number, change: (old: Expr) => Expr, size?: number): void;
  /** Linear address (i64, bound) of memory operand `n`, segment base included. */
  address(n: number): Expr;
  /** The address of memory operand `n` moved by `delta` bytes (i64), wrapped as the address size asks; bound. */
  movedAddress(n: number, delta: Expr): Expr;
  /** The immediate operand `n` as i32, or i64 when `size` is 8. */
  imm(n: number, size?: number): Expr;

  // --- fixed registers ---
  /** Register number `r` (REG) of `size` bytes; not bound. */
  reg(r: number, size?: number): Expr;
  setReg(r: number, value: Expr, size?: number): void;

  /** i64: quotient of `high`:`low` by `divisor`, unsigned; `high` < `divisor`. Not bound. */
  divide128(high: Expr, low: Expr, divisor: Expr): Expr;

  // --- memory by linear address; sizes 1, 2, 4 (i32), 8 (i64), 16 (v128) ---
  load(address: Expr, size: number): Expr;
  store(address: Expr, value: Expr, size: number): void;
  /** Read-modify-write by address; as `modify`, atomic with LOCK. */
  modifyAt(address: Expr, size: number, change: (old: Expr) => Expr): void;
  /**
   * Checks that `size` bytes can be written and gives their wasm address (i32, bound), for read-modify-write and
   * for instructions that store more than one value; `commit` must follow the stores.
   */
  probeWrite(address: Expr, size: number): Expr;
  commit(wasmAddress: Expr, size: number): void;

  /** i32: wasm address of `size` bytes of RAM at a linear address when the TLB has them for reading (or writing), else 0. Never faults. */
  tlbAddress(address: Expr, size: number, write: boolean): Expr;
  /** i64: base of the source segment of a string instruction; of ES. Zero where the architecture ignores it. */
  sourceBase(): Expr;
  esBase(): Expr;
  /** i64, bound: linear address of an offset of `addressSize` bytes in a segment with this base, wrapped as the mode asks. */
  linear(base: Expr, offset: Expr): Expr;

  // --- vector registers: in the env, not in locals ---
  /** wasm address (i32) of XMM or MMX operand `n`'s register, and the constant offset to add. */
  vectorSlot(n: number): { base: Expr; offset: number };
  /** 128 bits of operand `n` (x: register; m: memory, alignment checked unless `unaligned`), bound. */
  readV128(n: number, unaligned?: boolean): Expr;
  writeV128(n: number, value: Expr, unaligned?: boolean): void;
  /** The low `size` (4 or 8) bytes of an x or q register or of memory, as i32 or i64, bound. */
  readLow(n: number, size: number): Expr;
  /** Stores to the low `size` bytes of an x or q register (the rest is kept) or to memory. */
  writeLow(n: number, value: Expr, size: number): void;

  // --- x87 ---
  /** i32: the number (0..7) of operand `n`, an 's'. */
  stIndex(n: number): Expr;
  /** Number of operand `n`, a segment (SEG) or control register. Tier 1 only: tier 0 leaves such instructions to TypeScript. */
  systemRegister?(n: number): number;
  /** Tier 1 only: TypeScript does the instruction's work, in the env, and goes on here. It must not fault. */
  callHelper?(name: string): void;
  /** i64: this instruction's pointer (offset in CS); not bound. */
  instructionIp(): Expr;

  // --- env words ---
  envLoad(kind: 'i32' | 'i64' | 'i32_8u' | 'i32_16u' | 'v128', offset: number): Expr;
  envStore(size: number, offset: number, value: Expr): void;

  // --- leaving ---
  /** Raises an exception (always; code after it is not reached). State is that before the instruction. */
  raise(vector: number, errorCode?: number): void;
  /**
   * Has TypeScript do the instruction; see docs/plan-boot.md. Must be the last thing emitted. `operands`: they are read
   * and given to it.
   */
  helper(name: string, operands?: boolean): void;
  /** Ends the instruction with a jump to the instruction pointer `target` (i64; masked to the operand size by the caller). */
  jump(target: Expr): void;
  /** Taken branch of a relative jump (operand 0 is 'j'). */
  jumpRelative(): void;
  /** After the code of a taken conditional branch: it is not taken. */
  notTaken(): void;
  /** i64: the instruction pointer of the next instruction. */
  nextIp(): Expr;
  /**
   * Before a further step of a repeated instruction: leaves with this instruction's own ip when an exit is requested or
   * the budget is used up.
   */
  interruptible(): void;
  /** Present when instructions are counted, and of a repeated one each step. */
  readonly steps?: StepCounter | undefined;
  /** Goes on with the next instruction, from the middle of the code. */
  next(): void;
  /** After a change that the code-lookup or MMU depends on: continue at the next instruction, looked up afresh. */
  endBlock(): void;
}

/** Counts the steps of a repeated instruction beyond the first, but for those that `interruptible` let go on. */
export interface StepCounter {
  /** i64, bound: how many the budget has, at least 0. */
  left(): Expr;
  /** `n` (i64) were done. */
  done(n: Expr): void;
}

/** An i32 or i64 constant of the type that values of `size` bytes have. */
export function constant(size: number, value: number | bigint): Expr {
  return size === 8 ? i64(value) : i32(Number(BigInt.asIntN(32, BigInt(value))));
}
/** Converts a value of any size to `size` bytes, zero-extended (truncating or extending the type). */
export function resize(value: Expr, fromSize: number, size: number): Expr {
  if (fromSize === size) return value;
  if (size === 8) return value.i64u();
  const v = value.i32();
  return size < fromSize && size < 4 ? v.low(size * 8) : v;
}
/** Sign-extends a value of `fromSize` bytes to `size` bytes (zero-extended within i32 for 2). */
export function signExtend(value: Expr, fromSize: number, size: number): Expr {
  if (fromSize === size) return value;
  const wide =
    size === 8 ? (fromSize === 4 ? value.i64s() : value.sext(fromSize * 8).i64s()) : value.sext(fromSize * 8);
  return size < 4 ? wide.low(size * 8) : wide;
}

/**
 * The unit an instruction belongs to when it is not an integer one: decides what is checked before it
 * (fpu-check.ts). `x87-nowait`: control instructions that do not report waiting exceptions.
 */
export type FpuUnit = 'x87' | 'x87-nowait' | 'fwait' | 'mmx' | 'sse';

/** What a semantics function declares beside its body. */
export interface Semantics {
  /** The decoder's instruction name. */
  readonly name: string;
  /** Operand forms, e.g. 'rr', 'rm', 'mi', '' for none. */
  readonly forms: readonly string[];
  /** Operand sizes in bytes for which it exists. */
  readonly sizes: readonly number[];
  /** One handler for each of 16 conditions. */
  readonly conditional?: boolean;
  /** Exists also with LOCK (memory destination). */
  readonly lockable?: boolean;
  /** Exists for each address size (string instructions, loop, jcxz). */
  readonly addressSizes?: readonly number[];
  /** Exists with F2 / F3: values of `rep` besides 0. */
  readonly reps?: readonly number[];
  /** Sets arithmetic flags, all of them unconditionally and without reading any: a variant with dead flags is worth having. */
  readonly setsAllFlags?: boolean;
  readonly unit?: FpuUnit;
  /** Of x87 instructions whose effect on the stack is known beforehand: their parts. */
  readonly stack?: StackInstruction;
  readonly emit: (ins: Ins) => void;
}
