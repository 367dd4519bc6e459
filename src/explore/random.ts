/** Seeded random schedules, for what is too large to be tried in full; with vector clocks. */
import { type Choice, type Execution, threadOf, VARIANT_TIMEOUT, variantOf } from './execution.ts';
import { HappensBefore } from './happens-before.ts';
import type { Failure } from './world.ts';

export interface RandomOutcome {
  readonly schedules: number;
  readonly steps: number;
  readonly ms: number;
  readonly failure?: Failure;
  readonly schedule?: readonly Choice[];
}

/** A generator of numbers in [0, 1): mulberry32. */
export function randomNumbers(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const MAX_STEPS = 20_000;

/** Runs `count` schedules from the execution's beginning. Each stays with a thread for a random while, some longer than others. */
export function runRandom(
  execution: Execution,
  count: number,
  seed: number,
  maxMs = Infinity,
): RandomOutcome {
  const { world } = execution;
  const random = randomNumbers(seed);
  const beginning = execution.save();
  const start = performance.now();
  let steps = 0;
  for (let i = 0; i < count; i++) {
    execution.restore(beginning);
    world.order = new HappensBefore(execution.states.length);
    const stay = 1 - 0.8 ** (1 + Math.floor(random() * 12));
    const schedule: Choice[] = [];
    let last = -1;
    while (world.failure === undefined && schedule.length < MAX_STEPS) {
      const choices = execution.choices(last);
      if (choices.length === 0) {
        execution.checkEnd();
        break;
      }
      if (variantOf(choices[0]) === VARIANT_TIMEOUT) execution.checkOnlyTimeouts();
      if (world.failure !== undefined) break;
      const same = last >= 0 && threadOf(choices[0]) === last && random() < stay;
      // timeouts are rare as long as there is something else
      const early = choices.filter((c) => variantOf(c) !== VARIANT_TIMEOUT);
      const among = early.length > 0 && random() < 0.9 ? early : choices;
      const choice = same ? choices[0] : among[Math.floor(random() * among.length)];
      schedule.push(choice);
      execution.step(choice);
      last = threadOf(choice);
    }
    steps += schedule.length;
    const { failure } = world;
    if (failure !== undefined) {
      world.order = undefined;
      return { schedules: i + 1, steps, ms: performance.now() - start, failure, schedule };
    }
    if (performance.now() - start > maxMs) {
      world.order = undefined;
      return { schedules: i + 1, steps, ms: performance.now() - start };
    }
  }
  world.order = undefined;
  execution.restore(beginning);
  return { schedules: count, steps, ms: performance.now() - start };
}
