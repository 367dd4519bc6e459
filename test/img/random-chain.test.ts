/** A short run of the campaign `test/tools/img-random.ts`. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { haveQemuTools } from '../block/qemu-tools.ts';
import { RandomChain } from './random-chain.ts';

it.skipIf(!haveQemuTools).each([1, 2, 3])(
  'chains of images changed by smp86 img and qemu-img in turn (%i)',
  async (seed) => {
    const directory = mkdtempSync(join(tmpdir(), 'smp86-img-random-'));
    try {
      const chain = new RandomChain({ directory, seed, operations: 30, checkEvery: 10 });
      await chain.run();
      expect(Object.keys(chain.counts).length).toBeGreaterThan(5);
    } finally {
      rmSync(directory, { recursive: true });
    }
  },
);
