/** x87 instructions against the host CPU: results, status, tags, memory, EFLAGS; masked and unmasked exceptions. */
import { afterAll, describe, expect, it } from 'vitest';
import { INSTRUCTIONS, ordinal, Random, TRANSCENDENTAL } from './cases.ts';
import { TestMachine } from './machine.ts';
import { buildNative, difference, hex, onHost, onTier0, removeNative, show } from './oracle.ts';

const SEED = Number(process.env.SMP86_TEST_SEED ?? 1);
const CASES = 400;

const reason = buildNative();
if (reason !== undefined) console.log(`x87 against the host CPU skipped: ${reason}`);
afterAll(removeNative);

describe.skipIf(reason !== undefined)('against the host CPU', () => {
  const machine = new TestMachine();

  for (const instruction of INSTRUCTIONS) {
    it(instruction.name, () => {
      const random = new Random(SEED);
      const cases = Array.from({ length: CASES }, () => instruction.make(random));
      const host = onHost(cases);
      const ours = onTier0(machine, cases);
      for (let i = 0; i < CASES; i++) {
        const wrong = difference(host[i], ours[i], instruction.mask);
        if (wrong === '') continue;
        const lines = [`seed ${SEED}, ${hex(cases[i].code)}: ${wrong}`];
        lines.push(`  in   ${show(cases[i])}`, `  host ${show(host[i])}`, `  ours ${show(ours[i])}`);
        expect.fail(lines.join('\n'));
      }
    });
  }

  for (const instruction of TRANSCENDENTAL) {
    it(`${instruction.name} within one unit in the last place`, () => {
      const random = new Random(SEED);
      const cases = Array.from({ length: CASES }, () => instruction.make(random));
      const host = onHost(cases);
      const ours = onTier0(machine, cases);
      for (let i = 0; i < CASES; i++) {
        const wrong: string[] = [];
        if ((host[i].status ^ ours[i].status) & instruction.mask) wrong.push('status');
        if (host[i].tags !== ours[i].tags) wrong.push('tags');
        host[i].registers.forEach((r, n) => {
          const distance = ordinal(r) - ordinal(ours[i].registers[n]);
          if (distance > 1n || distance < -1n) wrong.push(`st${n} by ${distance}`);
        });
        if (wrong.length === 0) continue;
        const lines = [`seed ${SEED}, ${hex(cases[i].code)}: ${wrong.join(' ')}`];
        lines.push(`  in   ${show(cases[i])}`, `  host ${show(host[i])}`, `  ours ${show(ours[i])}`);
        expect.fail(lines.join('\n'));
      }
    });
  }
});
