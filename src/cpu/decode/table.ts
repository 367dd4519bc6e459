/**
 * The instruction table: one row per opcode and operand form, from which the decoder, interpreter, JIT,
 * disassembly and tests derive. Thread: any (read only after load). Lock: none.
 */
import { parseRow, type Row } from './row.ts';
import { AVX_ROWS } from './table-avx.ts';
import { INTEGER_ROWS } from './table-integer.ts';
import { SSE_ROWS } from './table-sse.ts';
import { X87_ROWS } from './table-x87.ts';

export type { Row } from './row.ts';

/** All rows; `Insn.row` indexes it. */
export const ROWS: readonly Row[] = [...INTEGER_ROWS, ...X87_ROWS, ...SSE_ROWS, ...AVX_ROWS].map(parseRow);

/** All instruction names, sorted; `Insn.name` indexes it. */
export const NAMES: readonly string[] = [...new Set(ROWS.map((row) => row.name))].sort();

const ids = new Map<string, number>(NAMES.map((name, i) => [name, i]));

/** Index of `name` in NAMES. Errors: plain Error for a name no row has (a mistake in this program). */
export function nameId(name: string): number {
  const id = ids.get(name);
  if (id === undefined) throw new Error(`no instruction is named '${name}'`);
  return id;
}

/** `NAMES` index of each row. */
export const ROW_NAME: Uint16Array = Uint16Array.from(ROWS, (row) => ids.get(row.name) as number);
