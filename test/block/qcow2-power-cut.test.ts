import { describe, expect, it } from 'vitest';
import { powerCutImage, powerCuts } from './power-cut.ts';

describe('a power cut at any write boundary', () => {
  // the long form is test/tools/qcow2-power-cut.ts
  it.each([1, 4, 6, 7, 15, 23])(
    'leaves an image that opens, without corruption, with all that was flushed (kind %i)',
    async (kind) => {
      const states = await powerCuts({
        seed: kind,
        operations: 16,
        variants: 3,
        size: 64 * 1024,
        ...powerCutImage(kind),
      });
      expect(states).toBeGreaterThan(50);
    },
  );
});
