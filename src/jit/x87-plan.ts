/**
 * Which x87 instructions of a region can work on registers in locals (x87-cache.ts), and what must hold of the stack where
 * a row of them begins: which registers they read, so that those must be valid, and which they push onto, so that those must be empty.
 */
import type { Insn } from '../cpu/decode/insn.ts';
import { FORMAT } from '../cpu/fpu/convert.ts';
import { reportsPending } from '../cpu/sem/fpu-check.ts';
import type { StackInstruction } from '../cpu/sem/x87-stack.ts';
import type { StepInfo } from './analysis.ts';

export const REGISTERS = 8;

/** What an instruction is to the cache. */
export type Role =
  /** It has nothing to do with it. */
  | { readonly kind: 'other' }
  | { readonly kind: 'stack'; readonly stack: StackInstruction }
  /** FNSTSW; FLDCW; FWAIT and others that only report exceptions. */
  | { readonly kind: 'statusWord' | 'controlWord' | 'wait' }
  /** It wants all in the env. */
  | { readonly kind: 'barrier' };

const CONTROL: Readonly<Record<string, Role['kind']>> = {
  fnstcw: 'other',
  fnstsw: 'statusWord',
  fldcw: 'controlWord',
  fwait: 'wait',
  fnop: 'wait',
  fneni: 'other',
};

export function roleOf({ semantics, kinds }: StepInfo): Role {
  const { unit, stack, name } = semantics;
  if (unit === undefined) return { kind: 'other' };
  if (stack !== undefined) {
    const { operation } = stack;
    if (operation.kind !== 'storeMemory' || operation.formats[10] !== FORMAT.bcd)
      return { kind: 'stack', stack };
  }
  // MMX registers are those of the x87
  if (unit === 'mmx' || unit === 'sse')
    return { kind: reportsPending(unit, [...kinds]) ? 'barrier' : 'other' };
  return { kind: CONTROL[name] ?? 'barrier' } as Role;
}

/** What is known of the stack at some place in a row of instructions. Registers are numbered from TOP at the row's start on. */
export class StackState {
  /** TOP less that at the start. */
  depth = 0;
  /** Valid, empty, or as it was. */
  readonly valid: (boolean | undefined)[] = new Array<boolean | undefined>(REGISTERS).fill(undefined);
  /** Called when a register is taken for valid or empty of which nothing was known. */
  private readonly require: (register: number, valid: boolean) => void;

  constructor(require: (register: number, valid: boolean) => void) {
    this.require = require;
  }

  /** The register that is ST(i). */
  register(i: number): number {
    return (this.depth + i) & (REGISTERS - 1);
  }
  private need(i: number, valid: boolean): boolean {
    const register = this.register(i);
    const known = this.valid[register];
    if (known !== undefined) return known === valid;
    this.require(register, valid);
    this.valid[register] = valid;
    return true;
  }
  private push(): boolean {
    if (!this.need(-1, false)) return false;
    this.depth--;
    this.valid[this.register(0)] = true;
    return true;
  }
  private pop(count: number): void {
    for (; count > 0; count--) {
      this.valid[this.register(0)] = false;
      this.depth++;
    }
  }

  /** What an instruction does. False: it would find the stack otherwise than it wants it; nothing has changed but what is required. */
  apply({ operation }: StackInstruction, insn: Insn, kinds: string): boolean {
    const memory = kinds.includes('m');
    const reg = (n: number): number => insn.reg[n];
    switch (operation.kind) {
      case 'arithmetic':
        if (!(memory ? this.need(0, true) : this.need(reg(0), true) && this.need(reg(1), true))) return false;
        this.pop(operation.pops);
        return true;
      case 'compare': {
        const other = memory || operation.zero === true ? 0 : kinds === '' ? 1 : reg(1);
        if (!this.need(0, true) || !this.need(other, true)) return false;
        this.pop(operation.pops);
        return true;
      }
      case 'load':
        return (memory || this.need(reg(0), true)) && this.push();
      case 'constant':
        return this.push();
      case 'store':
        if (!this.need(0, true)) return false;
        if (this.valid[this.register(reg(0))] === undefined) this.require(this.register(reg(0)), true);
        this.valid[this.register(reg(0))] = true;
        this.pop(operation.pops);
        return true;
      case 'storeMemory':
        if (!this.need(0, true)) return false;
        this.pop(operation.pops);
        return true;
      case 'exchange':
      case 'move':
        return this.need(0, true) && this.need(reg(1), true);
      case 'sign':
      case 'unary':
      case 'examine':
        return this.need(0, true);
    }
  }
}

export interface KnownStep {
  readonly insn: Insn;
  readonly info: StepInfo;
}
/** A row of instructions that can work on registers in locals. */
export interface StackPlan {
  /** Instructions of all kinds in it. */
  readonly steps: number;
  /** Those on the stack. */
  readonly operations: number;
  /** Bits by register: those of which something is required, and those of them that must be valid. */
  readonly mask: number;
  readonly valid: number;
}

/** The row that begins with the first of `steps`, which follow each other. */
export function planStack(steps: Iterable<KnownStep>): StackPlan {
  let mask = 0;
  let valid = 0;
  let [at, length, operations] = [0, 0, 0];
  let wanted: [number, boolean][] = [];
  const state = new StackState((register, isValid) => wanted.push([register, isValid]));
  for (const { insn, info } of steps) {
    const role = roleOf(info);
    if (role.kind === 'barrier') break;
    if (role.kind === 'stack') {
      wanted = [];
      if (!state.apply(role.stack, insn, info.kinds)) break;
      for (const [register, isValid] of wanted) {
        mask |= 1 << register;
        if (isValid) valid |= 1 << register;
      }
      operations++;
    }
    at++;
    // what comes after the last one is no part of it
    if (role.kind !== 'other') length = at;
  }
  return { steps: length, operations, mask, valid };
}
