/** All planted faults, each of which the explorer has to find. */
import type { Mutation } from './mutation.ts';
import { BLOCK_JOBS } from './block-jobs.ts';
import { PRIMITIVES } from './primitives.ts';
import { IOTHREAD } from './iothread.ts';
import { CLOCKS, LOOPS, MACHINE } from './protocols.ts';
import { VIRTQUEUE } from './virtqueue.ts';
import { WORK } from './work.ts';

export type { Mutation } from './mutation.ts';
export const MUTATIONS: readonly Mutation[] = [
  ...PRIMITIVES,
  ...CLOCKS,
  ...LOOPS,
  ...MACHINE,
  ...WORK,
  ...IOTHREAD,
  ...BLOCK_JOBS,
  ...VIRTQUEUE,
];
