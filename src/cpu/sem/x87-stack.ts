/**
 * x87 instructions in parts, for a tier that keeps registers of the stack in locals: what they do to the stack, what they
 * read before anything happens, and how functions on the env do the rest, where that tier cannot.
 */
import type { Expr } from '../../wasm/index.ts';
import type { Operation } from '../fpu/arithmetic.ts';
import type { Ins } from './ins.ts';

export type StackOperation =
  /** ST(d) = ST(d) op ST(s), or ST(0) = ST(0) op memory. */
  | { readonly kind: 'arithmetic'; readonly operation: Operation; readonly pops: number }
  /** ST(0) with ST(i), memory or zero. */
  | {
      readonly kind: 'compare';
      readonly quiet: boolean;
      readonly pops: number;
      readonly to: 'status' | 'flags';
      readonly zero?: boolean;
    }
  /** Pushes a register, memory, or a constant: mantissa, sign and exponent. */
  | { readonly kind: 'load' }
  | { readonly kind: 'constant'; readonly mantissa: (ins: Ins) => Expr; readonly high: number }
  /** ST(i) = ST(0) */
  | { readonly kind: 'store'; readonly pops: number }
  | {
      readonly kind: 'storeMemory';
      /** FORMAT by size of the operand. */
      readonly formats: Readonly<Record<number, number>>;
      readonly pops: number;
      readonly truncate: boolean;
      /** Converts ST(0) into RESULT; gives the flags, bound. */
      readonly convert: (ins: Ins) => Expr;
      /** Status and pops. */
      readonly finish: (ins: Ins, flags: Expr) => void;
    }
  | { readonly kind: 'exchange' }
  /** Changes the sign of ST(0). */
  | { readonly kind: 'sign'; readonly and: number; readonly xor: number }
  /** ST(0) = f(ST(0)), by a function of a number. */
  | { readonly kind: 'unary'; readonly number: 'sqrtNumber' | 'roundNumber' }
  /** ST(0) = ST(i) if the condition, which is fetched, is nonzero. */
  | { readonly kind: 'move' }
  | { readonly kind: 'examine' };

export interface StackInstruction {
  readonly operation: StackOperation;
  /** A memory operand is an integer. */
  readonly integer?: boolean;
  /** What is read before anything happens: a memory operand, a condition; bound. */
  fetch(ins: Ins): readonly Expr[];
  /** The rest, by functions on the env, with what was fetched. Gives C0, C2, C3 for EFLAGS, bound, if it compares so. */
  perform(ins: Ins, operands: readonly Expr[]): Expr | undefined;
}

/** After a comparison: C0, C2, C3 in EFLAGS. */
export function setComparedFlags(ins: Ins, bits: Expr): void {
  const bit = (n: number): Expr => bits.shrU(n).and(1);
  ins.flags.setAll({ cf: bit(8), pf: bit(10), zf: bit(14) });
}
