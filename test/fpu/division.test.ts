import { expect, test } from 'vitest';
import { emitDivide128 } from '../../src/cpu/sem/division.ts';
import { ModuleBuilder } from '../../src/wasm/index.ts';

const EDGES = [
  0n,
  1n,
  2n,
  0xffffffffn,
  1n << 32n,
  (1n << 32n) + 1n,
  1n << 63n,
  (1n << 63n) - 1n,
  (1n << 64n) - 1n,
];

test('128 bits by 64: the quotients of BigInt', () => {
  const m = new ModuleBuilder();
  const f = m.func('divide', ['i64', 'i64', 'i64'], ['i64']);
  emitDivide128(f);
  m.exportFunc('divide', f);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(m.build()));
  const divide = exports.divide as (high: bigint, low: bigint, divisor: bigint) => bigint;
  let state = 88172645463325252n;
  const random = (): bigint => {
    state ^= BigInt.asUintN(64, state << 13n);
    state ^= state >> 7n;
    state ^= BigInt.asUintN(64, state << 17n);
    // of any length
    return state >> (state % 61n);
  };
  const check = (high: bigint, low: bigint, divisor: bigint): void => {
    if (high >= divisor) return;
    const found = BigInt.asUintN(64, divide(high, low, divisor));
    if (found !== ((high << 64n) | low) / divisor)
      expect({ high, low, divisor, found }).toEqual({
        high,
        low,
        divisor,
        found: ((high << 64n) | low) / divisor,
      });
    checked++;
  };
  let checked = 0;
  for (const high of EDGES) for (const low of EDGES) for (const d of EDGES) check(high, low, d);
  for (let i = 0; i < 100_000; i++) check(random(), random(), random());
  expect(checked).toBeGreaterThan(30_000);
});
