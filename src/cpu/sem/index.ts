/** All semantics of the integer core. */
import { ALU_SEMANTICS } from './alu.ts';
import { BIT_SEMANTICS } from './bits.ts';
import { CONTROL_SEMANTICS } from './control.ts';
import type { Semantics } from './ins.ts';
import { MULDIV_SEMANTICS } from './muldiv.ts';
import { SHIFT_SEMANTICS } from './shift.ts';
import { STACK_SEMANTICS } from './stack.ts';
import { STRING_SEMANTICS } from './string.ts';

export const INTEGER_SEMANTICS: readonly Semantics[] = [
  ...ALU_SEMANTICS,
  ...SHIFT_SEMANTICS,
  ...MULDIV_SEMANTICS,
  ...BIT_SEMANTICS,
  ...STACK_SEMANTICS,
  ...CONTROL_SEMANTICS,
  ...STRING_SEMANTICS,
];
