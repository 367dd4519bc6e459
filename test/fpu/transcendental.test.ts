/** The fast ways of transcendental instructions give what the helpers give. */
import { expect, test } from 'vitest';
import { Comparer, NAMES } from './transcendental.ts';

const comparer = new Comparer();

test.each(NAMES)('%s', (name) => {
  const { difference, usual, leftOfUsual } = comparer.compare(
    name,
    4000,
    Number(process.env.SMP86_TEST_SEED ?? 1),
  );
  expect(difference).toBe(undefined);
  expect(usual).toBeGreaterThan(1000);
  expect(leftOfUsual / usual).toBeLessThan(0.01);
});
