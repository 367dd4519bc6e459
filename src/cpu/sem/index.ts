/** All semantics, by unit. */
import type { ModuleBuilder } from '../../wasm/index.ts';
import { emitX87Functions } from '../fpu/functions.ts';
import { ALU_SEMANTICS } from './alu.ts';
import { BIT_SEMANTICS } from './bits.ts';
import { CONTROL_SEMANTICS } from './control.ts';
import type { Semantics } from './ins.ts';
import { MISC_SEMANTICS } from './misc.ts';
import { MULDIV_SEMANTICS } from './muldiv.ts';
import { SHIFT_SEMANTICS } from './shift.ts';
import { STACK_SEMANTICS } from './stack.ts';
import { STRING_SEMANTICS } from './string.ts';
import { SYSTEM_SEMANTICS } from './system.ts';
import { makeSimdSemantics } from './sse.ts';
import { makeX87Semantics } from './x87.ts';

export const INTEGER_SEMANTICS: readonly Semantics[] = [
  ...ALU_SEMANTICS,
  ...SHIFT_SEMANTICS,
  ...MULDIV_SEMANTICS,
  ...BIT_SEMANTICS,
  ...STACK_SEMANTICS,
  ...CONTROL_SEMANTICS,
  ...STRING_SEMANTICS,
  ...MISC_SEMANTICS,
  ...SYSTEM_SEMANTICS,
];

const INTEGER_NAMES = new Set(INTEGER_SEMANTICS.map((s) => s.name));

/** Everything there is semantics for; functions that semantics call are added to `m`. */
export function allSemantics(m: ModuleBuilder): Semantics[] {
  const simd = makeSimdSemantics(m)
    .filter((s) => !INTEGER_NAMES.has(s.name))
    .map((s): Semantics => ({
      ...s,
      unit: s.unit ?? (s.forms.some((f) => f.includes('q')) ? 'mmx' : 'sse'),
    }));
  return [...INTEGER_SEMANTICS, ...makeX87Semantics(emitX87Functions(m)), ...simd];
}
