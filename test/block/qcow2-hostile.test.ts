import { describe, expect, it } from 'vitest';
import { exercise, makeSeeds, mutate } from './mutate.ts';
import { randomNumbers } from './qemu-tools.ts';

describe('a hostile qcow2 image', () => {
  // the long form is test/tools/qcow2-fuzz.ts
  it('is refused or used, and nothing but a BlockError comes of it', async () => {
    const seeds = await makeSeeds();
    const outcomes = { refused: 0, used: 0 };
    for (let i = 0; i < 300; i++) {
      const random = randomNumbers(5_000_000 + i);
      outcomes[await exercise(await mutate(seeds[i % seeds.length], random), random)]++;
    }
    // both happen: the mutations are neither all fatal nor all harmless
    expect(outcomes.refused).toBeGreaterThan(30);
    expect(outcomes.used).toBeGreaterThan(30);
  });
});
