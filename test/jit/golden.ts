/**
 * Texts of regions: `golden/NAME.txt` has what tier 1 makes of a piece of code. They show what a change of the emitter
 * changes, and are no judgement: after one that is meant, write them anew and read the difference.
 *
 *   node test/jit/golden.ts --update [NAME...]
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { regionText } from '../../bench/region-text.ts';

const DIRECTORY = fileURLToPath(new URL('golden', import.meta.url));

interface Golden {
  readonly name: string;
  /** What there is to see. */
  readonly about: string;
  readonly bits?: 32 | 64;
  /** In hexadecimal; the text has it disassembled. */
  readonly code: string;
}

export const GOLDEN: readonly Golden[] = [
  {
    name: 'sum',
    about: 'a loop over memory: flags of the first ADD are never set, the branch reads the result of DEC',
    code: '48 03 07 48 83 c7 08 ff c9 75 f5',
  },
  {
    name: 'call',
    about: 'a call and its return inside the region',
    code: 'e8 05 00 00 00 ff c9 75 f7 f4 83 c0 01 c3',
  },
  {
    name: 'indirect',
    about: 'a jump through a register: the return cache, then out',
    code: '48 ff c0 ff e0',
  },
  {
    name: 'diamond',
    about: 'two ways that meet, and a store in one of them',
    code: '3b 07 7d 04 89 07 eb 02 31 c0 ff c9 75 f2',
  },
  {
    name: 'carry',
    about: 'a carry from one instruction to the next, and overflow in a register',
    code: '48 01 d8 48 11 ca 0f 90 c1',
  },
  {
    name: 'lock',
    about: 'a locked addition and a fence between two loads',
    code: 'f0 0f c1 07 0f ae f0 8b 06',
  },
  { name: 'stack', about: 'PUSH and POP', code: '50 53 5b 58 ff c9 75 f8' },
  { name: 'string', about: 'REP MOVSB', code: 'f3 a4 ff ca 75 fa' },
  {
    name: 'x87',
    about: 'a sum of products: x87 registers in locals from the first load to the end of a turn',
    bits: 32,
    code: 'dd 02 83 c2 08 dc 0e 83 c6 08 de c1 49 75 f1',
  },
  { name: 'sum32', about: 'the loop of `sum` as 32-bit code', bits: 32, code: '03 07 83 c7 04 49 75 f8' },
];

/**
 * The text that belongs in the file. Where fields of the env lie is left out where they have names, so that a new field
 * changes nothing.
 */
export function goldenText({ name, about, bits = 64, code }: Golden): string {
  const text = regionText(Buffer.from(code.replaceAll(' ', ''), 'hex'), bits);
  if (text === undefined) throw new Error(`${name}: nothing to compile`);
  const wasm = text.wasm().replace(/offset=\d+ \(;([\w+]+);\)/g, 'offset=$1');
  return `${about}\n\n${text.structure}\n\n${wasm}\n`;
}
export function goldenPath(name: string): string {
  return join(DIRECTORY, `${name}.txt`);
}
export function readGolden(name: string): string {
  return readFileSync(goldenPath(name), 'utf8');
}

function main(): void {
  const [update, ...names] = process.argv.slice(2);
  if (update !== '--update') throw new Error('only --update');
  mkdirSync(DIRECTORY, { recursive: true });
  for (const golden of GOLDEN) {
    if (names.length === 0 || names.includes(golden.name))
      writeFileSync(goldenPath(golden.name), goldenText(golden));
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main();
