/**
 * Random numbers that follow from `-seed`: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
 * generators", 2014), a sequence for each vCPU, so that what one draws does not depend on the others.
 */
import type { CpuEnvView } from '../cpu/env.ts';

const GAMMA = 0x9e3779b97f4a7c15n;
const MASK = (1n << 64n) - 1n;

function mixed(state: bigint): bigint {
  let z = state;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return z ^ (z >> 31n);
}

/** A source for RDRAND and RDSEED whose state is in `env`: unsigned 32-bit numbers. *Thread:* the vCPU's. */
export function seededRandom(env: CpuEnvView, seed: bigint): () => number {
  // far apart in the sequence, whatever the seed
  env.randomState = mixed((seed + BigInt(env.index + 1) * GAMMA) & MASK);
  return () => {
    env.randomState = (env.randomState + GAMMA) & MASK;
    return Number(mixed(env.randomState) >> 32n);
  };
}
