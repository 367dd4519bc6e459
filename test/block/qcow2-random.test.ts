import { afterAll, describe, it } from 'vitest';
import { haveQemuTools, temporaryDirectory } from './qemu-tools.ts';
import { imageOfKind, RandomImage } from './random-image.ts';

const directory = temporaryDirectory();
afterAll(() => directory.remove());

/** Kinds with which each feature is met; the long form takes them all (test/tools/qcow2-random.ts). */
const KINDS = [0, 3, 4, 7, 9, 11, 15, 18, 23, 33];

describe.skipIf(!haveQemuTools)('a qcow2 image after random operations', () => {
  it.each(KINDS)('of kind %i is what the model is, before and after qemu-io changed it', async (kind) => {
    const path = directory.path(`image-${kind}`);
    await new RandomImage({
      seed: 42 + kind,
      operations: 60,
      path,
      checkEvery: 30,
      size: 2 << 20,
      ...imageOfKind(kind, path),
    }).run();
  });
});
