import { defineConfig } from 'vitest/config';

/** Boots of real kernels: one at a time, since each has several busy threads. */
export default defineConfig({
  test: {
    include: ['test/guest/**/*.guest.ts'],
    maxWorkers: 1,
    fileParallelism: false,
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
