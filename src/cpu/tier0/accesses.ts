/** How instructions access memory, for the checks of segments that are not flat (record.ts, CHECKED_ADDRESS). */
import { type Insn, OPERAND } from '../decode/insn.ts';
import { NAMES } from '../decode/table.ts';
import { REG } from '../sem/ins.ts';
import { ACCESS_MOVED, ACCESS_WRITE } from './record.ts';

/** Instructions with a memory operand that is not accessed. */
const UNTOUCHED = /^(lea|nop|prefetch|invlpg|ud)$/;
/** Instructions that only read the memory operand although it is their first. */
const READS =
  /^(cmp|test|mul|imul1?|div|idiv|callf?|jmpf?|push|lldt|ltr|verr|verw|lgdt|lidt|lmsw|bt|fxrstor|ldmxcsr|xrstors?|clflush(opt)?|clwb|f(i?(add|mul|comp?|subr?|divr?)|ld|ldenv|ldcw|ild|rstor|bld))$/;
const BIT_TESTS = /^bt[src]?$/;
/** XSAVE's legacy region and header: the rest depends on what is saved. */
const XSAVE_SIZE = 576;

/** The access to the memory operand as a record has it; 0: none. */
export function memoryAccess(insn: Insn): number {
  const name = NAMES[insn.name];
  const operand = insn.memOperand;
  if (operand < 0 || UNTOUCHED.test(name)) return 0;
  const write = operand === 0 && !READS.test(name);
  const moved = BIT_TESTS.test(name) && insn.kind[1] === OPERAND.REG;
  return (insn.size[operand] || XSAVE_SIZE) | (write ? ACCESS_WRITE : 0) | (moved ? ACCESS_MOVED : 0);
}

const STRINGS = /^(movs|cmps|stos|scas|lods|xlat|maskmovq|maskmovdqu)$/;
/** True for instructions whose operands registers name implicitly; SSE has a MOVSD with operands of its own. */
export function implicitAccess(name: string, kinds: string): boolean {
  return STRINGS.test(name) && !kinds.includes('m');
}

export interface StackAccess {
  readonly register: number;
  readonly displacement: number;
  readonly access: number;
}
/** What an instruction of generated code does with the stack; those done by TypeScript check it themselves. */
export function stackAccess(name: string, size: number): StackAccess | undefined {
  switch (name) {
    case 'push':
    case 'call':
    case 'pushf':
      return { register: REG.SP, displacement: -size, access: size | ACCESS_WRITE };
    case 'pop':
    case 'ret':
    case 'popf':
      return { register: REG.SP, displacement: 0, access: size };
    case 'leave':
      return { register: REG.BP, displacement: 0, access: size };
    default:
      return undefined;
  }
}
