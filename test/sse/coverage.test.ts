/** Every form that the decoder gives for MMX, SSE, AES and PCLMULQDQ has semantics. */
import { expect, test } from 'vitest';
import { SSE_ROWS } from '../../src/cpu/decode/table-sse.ts';
import { allSemantics } from '../../src/cpu/sem/index.ts';
import { ModuleBuilder } from '../../src/wasm/index.ts';

/** Features that are not offered to guests. */
const ABSENT = ['@sha_ni'];

/** Operand kinds that an operand of the table's notation can have. */
function kindsOf(operand: string): string[] {
  if (operand === 'XMM0') return ['x'];
  if (operand === 'Ub') return ['i'];
  if (operand.includes('/')) return [operand[0] === 'U' ? 'x' : 'r', 'm'];
  switch (operand[0]) {
    case 'V':
    case 'U':
      return ['x'];
    case 'W':
      return ['x', 'm'];
    case 'P':
    case 'N':
      return ['q'];
    case 'Q':
      return ['q', 'm'];
    case 'E':
      return ['r', 'm'];
    case 'G':
    case 'R':
      return ['r'];
    case 'M':
      return ['m'];
    default:
      throw new Error(`operand ${operand}`);
  }
}

test('every decoded form has semantics', () => {
  const m = new ModuleBuilder();
  m.importMemory('env', 'memory', 1, 1);
  const have = new Set(allSemantics(m).flatMap((s) => s.forms.map((form) => `${s.name} ${form}`)));
  const lacking: string[] = [];
  for (const line of SSE_ROWS) {
    const [, nameText, operands, ...attributes] = line.split(' ');
    if (attributes.some((a) => ABSENT.includes(a))) continue;
    const name = nameText.split('~')[0];
    let forms = [''];
    for (const operand of operands === '-' ? [] : operands.split(',')) {
      forms = forms.flatMap((form) => kindsOf(operand).map((kind) => form + kind));
    }
    for (const form of forms) if (!have.has(`${name} ${form}`)) lacking.push(`${name} ${form}`);
  }
  expect(lacking).toEqual([]);
});

test('no form has two semantics', () => {
  const m = new ModuleBuilder();
  m.importMemory('env', 'memory', 1, 1);
  const seen = new Set<string>();
  const twice: string[] = [];
  for (const s of allSemantics(m)) {
    for (const form of s.forms) {
      for (const size of s.sizes) {
        const key = `${s.name} ${form} ${size}`;
        if (seen.has(key)) twice.push(key);
        seen.add(key);
      }
    }
  }
  expect(twice).toEqual([]);
});
