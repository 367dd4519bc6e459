/** x87 instructions. Source: Intel SDM vol. 1, chapter 8; vol. 2, instruction pages. */
import { STATE_HELPERS } from '../fpu/state-helpers.ts';
import type { Semantics } from './ins.ts';
import type { Helper } from './misc-helpers.ts';
import { X87_CONTROL_SEMANTICS } from './x87-control.ts';

export function makeX87Semantics(): Semantics[] {
  return [...X87_CONTROL_SEMANTICS];
}

/** Helper instructions of the x87 and of state saving, by instruction name. */
export const X87_HELPERS: Readonly<Record<string, Helper>> = { ...STATE_HELPERS };
/** Those that access their memory operand themselves. */
export const X87_ADDRESS_ONLY: ReadonlySet<string> = new Set(Object.keys(STATE_HELPERS));
