/** What random programs are made of: forms of instructions, and what each register is for. */
import type { Form } from '../oracle/encode.ts';
import { classOf } from '../oracle/rows.ts';

/** Registers of programs in 64-bit and 32-bit code. */
export interface Registers {
  readonly count: number;
  /** They point into the data pages. */
  readonly pointers: readonly number[];
  /** Counts steps down; no random instruction writes it. */
  readonly counter: number;
  /** Free for conditions. */
  readonly free: readonly number[];
}
const REGISTERS_64: Registers = {
  count: 16,
  pointers: [3, 6, 7, 13, 14],
  counter: 15,
  free: [0, 1, 2, 5, 8, 9, 10, 11],
};
const REGISTERS_32: Registers = { count: 8, pointers: [3, 6, 7], counter: 5, free: [0, 1, 2] };

/** Forms that programs draw from. */
export interface Forms {
  readonly mode32: boolean;
  readonly integer: readonly Form[];
  readonly other: readonly Form[];
  readonly x87: readonly Form[];
}
/** `self-modifying`: it also writes its own code, which must be writable; `x87`: mostly of such instructions. */
export type ProgramKind = 'any' | 'self-modifying' | 'x87';
export function programForms(forms: readonly Form[], mode32: boolean): Forms {
  const usable = forms.filter((f) => f.mode32 === mode32);
  return {
    mode32,
    integer: usable.filter((f) => classOf(f.row) === 'integer'),
    other: usable.filter((f) => classOf(f.row) !== 'integer'),
    x87: usable.filter((f) => classOf(f.row) === 'x87'),
  };
}
/** Of its kind of code. */
export function registersOf({ mode32 }: Pick<Forms, 'mode32'>): Registers {
  return mode32 ? REGISTERS_32 : REGISTERS_64;
}
