/** x87 instructions against the host CPU: results, status, tags, memory, EFLAGS; masked and unmasked exceptions. */
import { afterAll, describe, expect, it } from 'vitest';
import { INSTRUCTIONS, type Number80, ordinal, Random, TRANSCENDENTAL } from './cases.ts';
import { TestMachine } from './machine.ts';
import { type After, buildNative, difference, hex, onHost, onTier0, removeNative, show } from './oracle.ts';

const SEED = Number(process.env.SMP86_TEST_SEED ?? 1);
const CASES = 400;
/** Bit of the status word: underflow. */
const UE = 0x10;
/** B and ES: an unmasked exception waits. */
const SUMMARY = 0x8080;

/** A denormal number, or one made from it. */
function tiny([mantissa, high]: Number80): boolean {
  return (high & 0x7fff) === 0 && mantissa !== 0n;
}

/**
 * What follows from one of two permitted results, a unit in the last place apart, being tiny and the other not: only
 * one of both raises underflow, and unmasked, that result is multiplied by 2^24576 (SDM volume 1, 8.5.5).
 */
function underflowIn(host: After, ours: After): { status: number; scaled: boolean } {
  const scaled = ((host.status ^ ours.status) & UE) !== 0 && (host.control & UE) === 0;
  if (scaled) return { status: UE | SUMMARY, scaled };
  return { status: host.registers.some((r, i) => tiny(r) !== tiny(ours.registers[i])) ? UE : 0, scaled };
}
const SCALE = 0x6000;
/** `ordinal` of a result without that factor: an exponent below the smallest normal one is possible then. */
function unscaledOrdinal([mantissa, high]: Number80): bigint {
  const exponent = BigInt(high & 0x7fff) - BigInt(SCALE);
  const magnitude = (exponent - 1n) * (1n << 63n) + mantissa;
  return high & 0x8000 ? -magnitude : magnitude;
}
function near(a: bigint, b: bigint): boolean {
  return a - b <= 1n && b - a <= 1n;
}

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
        const { status, scaled } = underflowIn(host[i], ours[i]);
        const mask = instruction.mask & ~status;
        if ((host[i].status ^ ours[i].status) & mask) wrong.push('status');
        if (host[i].tags !== ours[i].tags) wrong.push('tags');
        host[i].registers.forEach((r, n) => {
          const other = ours[i].registers[n];
          if (near(ordinal(r), ordinal(other))) return;
          const [made, kept] = host[i].status & UE ? [r, other] : [other, r];
          if (scaled && near(unscaledOrdinal(made), ordinal(kept))) return;
          wrong.push(`st${n} by ${ordinal(r) - ordinal(other)}`);
        });
        if (wrong.length === 0) continue;
        const lines = [`seed ${SEED}, ${hex(cases[i].code)}: ${wrong.join(' ')}`];
        lines.push(`  in   ${show(cases[i])}`, `  host ${show(host[i])}`, `  ours ${show(ours[i])}`);
        expect.fail(lines.join('\n'));
      }
    });
  }
});
