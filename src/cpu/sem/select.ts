/** Finds the semantics of a decoded instruction: the name, operand kinds and size under which it is declared. */
import { type Insn, PREFIX } from '../decode/insn.ts';
import { NAMES } from '../decode/table.ts';
import type { Semantics } from './ins.ts';

/** The semantics' name: the decoder's, with the source size where it has one. */
export function semanticName(insn: Insn): string {
  const name = NAMES[insn.name];
  switch (name) {
    case 'movzx':
    case 'movsx':
      return `${name}${insn.size[1] * 8}`;
    case 'movsxd':
      return 'movsx32';
    case 'crc32':
      return `crc32_${insn.size[1] * 8}`;
    case 'prefetch':
      return 'nop';
    default:
      return name;
  }
}

/** A letter an operand, by `OPERAND`: see `OperandKind`; `n` is a register number, `f` a far pointer. */
const KIND_LETTERS = ' rrimxqncnsjf';

export function operandKinds(insn: Insn): string {
  let kinds = '';
  for (let n = 0; n < insn.count; n++) kinds += KIND_LETTERS[insn.kind[n]];
  return kinds;
}

/** The operand size in bytes under which `insn` is declared. */
export function operandSize(insn: Insn, { sizes, unit }: Pick<Semantics, 'sizes' | 'unit'>): number {
  // one x87 name may have 4-, 8- and 10-byte memory operands, whatever the operand size; registers count as 4
  if (unit === 'x87' || unit === 'x87-nowait') return insn.memOperand >= 0 ? insn.size[insn.memOperand] : 4;
  if (sizes.length === 1) return sizes[0];
  if (sizes.includes(insn.opSize)) return insn.opSize;
  return insn.prefixes & PREFIX.W && sizes.includes(8) ? 8 : 4;
}

/** True when `insn` is a locked read-modify-write; XCHG with memory always is. */
export function isLocked(insn: Insn, semantics: Pick<Semantics, 'name' | 'lockable'>): boolean {
  return (
    (insn.lock !== 0 || semantics.name === 'xchg') && insn.memOperand === 0 && semantics.lockable === true
  );
}

/** Semantics by name; several may share one (MMX and SSE), and are told apart by their forms. */
export class SemanticsIndex<T extends Pick<Semantics, 'name' | 'forms' | 'sizes' | 'unit'>> {
  private readonly byName = new Map<string, T[]>();

  constructor(all: Iterable<T>) {
    for (const s of all) {
      const same = this.byName.get(s.name);
      if (same === undefined) this.byName.set(s.name, [s]);
      else same.push(s);
    }
  }
  find(name: string, kinds: string): T | undefined {
    return this.byName.get(name)?.find((s) => s.forms.includes(kinds));
  }
  /** Those of an instruction; x87 loads and stores of one name have different ones for their sizes. */
  of(insn: Insn): T | undefined {
    const kinds = operandKinds(insn);
    const formed = this.byName.get(semanticName(insn))?.filter((s) => s.forms.includes(kinds));
    return formed?.find((s) => s.sizes.includes(operandSize(insn, s)));
  }
}
