/** A short form of `test/tools/disk-crash.ts`. */
import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { crashDisk } from '../tools/disk-crash.ts';

const hasQemuImg = spawnSync('qemu-img', ['--version']).status === 0;

test.skipIf(!hasQemuImg).each(['cluster_size=4096', 'cluster_size=65536,lazy_refcounts=on'])(
  'a writer that is killed leaves a whole image and all it has flushed (%s)',
  async (create) => {
    const result = await crashDisk({ kills: 3, seed: 42, create });
    expect(result.acknowledged).toBeGreaterThan(0);
  },
);
