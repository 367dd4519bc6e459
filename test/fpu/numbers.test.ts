/** The functions for usual numbers against those for all: one answer, bit for bit. */
import { describe, expect, it } from 'vitest';
import { CpuEnv } from '../../src/cpu/env.ts';
import { FLAGS_SHIFT } from '../../src/cpu/fpu/core.ts';
import { emitX87Functions } from '../../src/cpu/fpu/functions.ts';
import { FPU, INTEGER_BIT, SIGN_BIT } from '../../src/cpu/fpu/layout.ts';
import { ModuleBuilder } from '../../src/wasm/index.ts';
import { Rng } from '../oracle/rng.ts';

const SEED = Number(process.env.SMP86_TEST_SEED ?? 1);
const CASES = Number(process.env.SMP86_TEST_CASES ?? 40_000);
/** Wasm address. */
const ENV = 4096;
const SCRATCH = ENV + CpuEnv.offsetOf('scratch');

type Values = (number | bigint)[];
const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
const view = new DataView(memory.buffer);
const fns = ((): Record<string, (...args: Values) => unknown> => {
  const m = new ModuleBuilder();
  m.importMemory('env', 'memory', 1, 1);
  for (const [name, f] of Object.entries(emitX87Functions(m))) m.exportFunc(name, f);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(m.build()), { env: { memory } });
  return instance.exports as Record<string, (...args: Values) => unknown>;
})();

function mantissa(rng: Rng): bigint {
  const random = (rng.u64() << 32n) | BigInt(rng.u32());
  const ones = (1n << BigInt(rng.below(65))) - 1n;
  switch (rng.below(6)) {
    case 0:
      return INTEGER_BIT | ones;
    case 1:
      return BigInt.asUintN(64, ~(ones >> 1n)) | INTEGER_BIT;
    case 2:
      return (random & ~ones) | INTEGER_BIT;
    case 3:
      return BigInt.asUintN(64, random | ones | INTEGER_BIT);
    default:
      return BigInt.asUintN(64, random) | INTEGER_BIT;
  }
}
/** Two numbers, mostly normal ones whose exponents are close. */
function numbers(rng: Rng): Values {
  const exponent = rng.once(8) ? rng.pick([0, 1, 2, 0x7ffd, 0x7ffe, 0x7fff]) : 0x3fff + rng.below(64) - 32;
  const distance = rng.pick([0, 0, 1, 1, 2, 3, rng.below(70), 62 + rng.below(8), rng.below(0x4000)]);
  const sign = (): number => (rng.once(2) ? SIGN_BIT : 0);
  const clamp = (e: number): number => Math.max(0, Math.min(0x7fff, e));
  const one = [mantissa(rng), exponent | sign()];
  const other = [
    rng.once(6) ? one[0] : mantissa(rng),
    clamp(exponent + (rng.once(2) ? distance : -distance)) | sign(),
  ];
  for (const x of [one, other]) {
    if (rng.once(20)) x[0] = 0n;
    if (rng.once(20)) x[1] = sign();
    if (rng.once(40)) x[0] = BigInt.asUintN(64, x[0] as bigint) & ~INTEGER_BIT;
  }
  return rng.once(2) ? [...one, ...other] : [...other, ...one];
}

describe('usual numbers', () => {
  for (const [name, general, extra] of [
    ['addNumbers', 'add', [0]],
    ['subNumbers', 'add', [SIGN_BIT]],
    ['mulNumbers', 'mul', []],
    ['divNumbers', 'div', []],
  ] as const) {
    it(name, () => {
      const rng = new Rng(SEED, name.length, name.charCodeAt(0));
      for (let i = 0; i < CASES; i++) {
        view.setUint16(ENV + FPU.control, rng.once(8) ? rng.below(0x1000) : rng.pick([0x37f, 0x27f]), true);
        const operands = numbers(rng);
        const flags = fns[general](ENV, ...operands, ...extra, 0) as number;
        const expected = [view.getBigInt64(SCRATCH, true), view.getInt32(SCRATCH + 8, true) & 0xffff, flags];
        // what is above a number's high half does not matter
        const marked = operands.map((x) => (typeof x === 'number' ? x | (rng.below(256) << 16) : x));
        const [m, high] = fns[name](ENV, ...marked) as [bigint, number];
        const found = [m, high & 0xffff, high >>> FLAGS_SHIFT];
        if (found.join() !== expected.join())
          expect.fail(`${name} ${operands.map((x) => x.toString(16))}: ${found}, not ${expected}`);
      }
    });
  }
});
