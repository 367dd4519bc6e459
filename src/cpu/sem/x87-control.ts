/** x87 instructions that move no numbers: control and status words, tags, top of stack. Source: Intel SDM vol. 2. */
import { type Expr, i32, i64 } from '../../wasm/index.ts';
import { EXCEPTIONS, FCW, FPU, FSW } from '../fpu/layout.ts';
import type { FpuUnit, Ins, Semantics } from './ins.ts';

function control(
  name: string,
  unit: FpuUnit,
  emit: (ins: Ins) => void,
  forms: readonly string[] = [''],
  sizes: readonly number[] = [4],
): Semantics {
  return { name, forms, sizes, unit, emit };
}

/** Sets ES and B to what `status` and `control` (i32) make them; gives the new status word. */
function withSummary(ins: Ins, status: Expr, controlWord: Expr): Expr {
  const pending = status.and(controlWord.xor(-1)).and(EXCEPTIONS);
  const flags = ins.f.let(status.and(0xffff & ~(FSW.ES | FSW.B)));
  return pending.ne(0).select(flags.or(FSW.ES | FSW.B), flags);
}

/** The status word with its TOP field. */
export function statusWord(ins: Ins): Expr {
  return ins.envLoad('i32_16u', FPU.status).or(ins.envLoad('i32', FPU.top).shl(FSW.TOP_SHIFT));
}

/** FLDCW: the word in memory as it is loaded, bound; and what loading it does. */
export function fetchControl(ins: Ins): Expr {
  return ins.f.copy(ins.load(ins.address(0), 2).and(FCW.WRITABLE).or(FCW.FIXED));
}
export function loadControl(ins: Ins, word: Expr): void {
  ins.envStore(2, FPU.control, word);
  ins.envStore(2, FPU.status, withSummary(ins, ins.f.copy(ins.envLoad('i32_16u', FPU.status)), word));
}

function clearC1(ins: Ins): void {
  ins.envStore(2, FPU.status, ins.envLoad('i32_16u', FPU.status).and(0xffff & ~FSW.C1));
}

function moveTop(name: string, by: number): Semantics {
  return control(name, 'x87', (ins) => {
    ins.envStore(4, FPU.top, ins.envLoad('i32', FPU.top).add(by).and(7));
    clearC1(ins);
  });
}

/** FFREE; FFREEP pops besides. */
function free(name: string, pop: boolean): Semantics {
  return control(
    name,
    'x87',
    (ins) => {
      const top = ins.f.copy(ins.envLoad('i32', FPU.top));
      const bit = i32(1).shl(top.add(ins.stIndex(0)).and(7));
      const popped = pop ? bit.or(i32(1).shl(top)) : bit;
      ins.envStore(1, FPU.tags, ins.envLoad('i32_8u', FPU.tags).and(popped.xor(-1)));
      clearC1(ins);
      if (pop) ins.envStore(4, FPU.top, top.add(1).and(7));
    },
    ['s'],
  );
}

export const X87_CONTROL_SEMANTICS: readonly Semantics[] = [
  control('fninit', 'x87-nowait', (ins) => {
    ins.envStore(2, FPU.control, i32(FCW.INIT));
    ins.envStore(2, FPU.status, i32(0));
    ins.envStore(1, FPU.tags, i32(0));
    ins.envStore(4, FPU.top, i32(0));
    ins.envStore(2, FPU.opcode, i32(0));
    ins.envStore(8, FPU.ip, i64(0));
    ins.envStore(8, FPU.dp, i64(0));
    ins.envStore(2, FPU.cs, i32(0));
    ins.envStore(2, FPU.ds, i32(0));
  }),
  control('fnclex', 'x87-nowait', (ins) => {
    const cleared = EXCEPTIONS | FSW.SF | FSW.ES | FSW.B;
    ins.envStore(2, FPU.status, ins.envLoad('i32_16u', FPU.status).and(0xffff & ~cleared));
  }),
  control(
    'fnstcw',
    'x87-nowait',
    (ins) => ins.store(ins.address(0), ins.envLoad('i32_16u', FPU.control), 2),
    ['m'],
    [2],
  ),
  control('fldcw', 'x87', (ins) => loadControl(ins, fetchControl(ins)), ['m'], [2]),
  control(
    'fnstsw',
    'x87-nowait',
    (ins) => ins.store(ins.address(0), ins.f.let(statusWord(ins)), 2),
    ['m'],
    [2],
  ),
  control('fnstsw', 'x87-nowait', (ins) => ins.write(0, statusWord(ins), 2), ['r']),
  control('fwait', 'fwait', () => {}),
  control('fnop', 'x87', () => {}),
  // FNENI, FNDISI, FNSETPM: of the 8087 and 80287, nothing now
  control('fneni', 'x87-nowait', () => {}),
  moveTop('fincstp', 1),
  moveTop('fdecstp', -1),
  free('ffree', false),
  free('ffreep', true),
];
