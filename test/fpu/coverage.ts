/** Lists the instruction names of the decoder that have neither semantics nor a helper: `node test/fpu/coverage.ts`. */
import { ROWS } from '../../src/cpu/decode/table.ts';
import { allSemantics } from '../../src/cpu/sem/index.ts';
import { MISC_HELPERS } from '../../src/cpu/sem/misc-helpers.ts';
import { X87_HELPERS } from '../../src/cpu/sem/x87.ts';
import { HELPERS } from '../../src/cpu/sys/helpers.ts';
import { ModuleBuilder } from '../../src/wasm/index.ts';

const semantics = new Set(
  allSemantics(new ModuleBuilder()).map((s) => s.name.replace(/^(movzx|movsx|crc32_)\d+$/, '$1')),
);
const done = (name: string): boolean =>
  [semantics, new Set(Object.keys({ ...HELPERS, ...MISC_HELPERS, ...X87_HELPERS }))].some((names) =>
    names.has(name),
  );
const ALIASES: Record<string, string> = { movsxd: 'movsx', crc32: 'crc32_', prefetch: 'nop' };

const missing = new Map<string, Set<string>>();
for (const row of ROWS) {
  if (done(ALIASES[row.name] ?? row.name)) continue;
  const group = row.vex ? 'VEX' : row.feature;
  missing.set(group, (missing.get(group) ?? new Set()).add(row.name));
}
for (const [group, names] of missing) console.log(`${group}: ${[...names].join(' ')}`);
