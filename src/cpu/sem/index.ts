/** All semantics, by unit. */
import type { ModuleBuilder } from '../../wasm/index.ts';
import { emitX87Functions, type X87Functions } from '../fpu/functions.ts';
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

/** Of exports of a module with all semantics: the functions of the x87. */
export const X87_PREFIX = 'x87.';

/** Everything there is semantics for; functions that semantics call are added to `m`, those of the x87 exported. */
export function allSemantics(m: ModuleBuilder): Semantics[] {
  const functions = emitX87Functions(m);
  for (const [name, f] of Object.entries(functions)) m.exportFunc(`${X87_PREFIX}${name}`, f);
  return semanticsWith(m, functions);
}
/** The same with functions of the x87 that are there. */
export function semanticsWith(m: ModuleBuilder, x87: X87Functions): Semantics[] {
  const simd = makeSimdSemantics(m)
    .filter((s) => !INTEGER_NAMES.has(s.name))
    .map((s): Semantics => ({
      ...s,
      unit: s.unit ?? (s.forms.some((f) => f.includes('q')) ? 'mmx' : 'sse'),
    }));
  return [...INTEGER_SEMANTICS, ...makeX87Semantics(x87), ...simd];
}
