/**
 * A round inside a running guest: a Linux machine is stopped, let go on and throttled at random while it compares its
 * clocks. The guest and its checks are those of the tests, so it is played in a checkout only.
 */
import { StressError } from './errors.ts';
import { bucketOf, Histogram } from './histogram.ts';
import type { RoundResult, Violation } from './round.ts';
import type { CheckName, OperationName } from './vocabulary.ts';

/** What `test/tools/stop-cont.ts` offers. */
interface StopContModule {
  stopAndContinue(options: {
    readonly stops: number;
    readonly seconds: number;
    readonly smp: number;
    readonly seed: number;
    readonly thread: 'multi' | 'single';
    readonly append: string;
    readonly stopped?: (count: number) => void;
  }): Promise<StopContResult>;
  problems(result: StopContResult): { readonly check: CheckName; readonly message: string }[];
}
interface StopContResult {
  /** ns each. */
  readonly stopTimes: readonly number[];
  readonly contTimes: readonly number[];
  readonly orders: readonly { readonly checks: number }[];
  readonly seconds: number;
}

export interface GuestRoundOptions {
  readonly seed: number;
  readonly seconds: number;
  /** vCPUs. */
  readonly threads: number;
  readonly tick: (stops: number) => void;
}

/** Plays one. *Errors:* StressError where there are no tests; those of the guest's preparation. */
export async function runGuestRound({
  seed,
  seconds,
  threads,
  tick,
}: GuestRoundOptions): Promise<RoundResult> {
  const tool = await loadTool();
  const result = await tool.stopAndContinue({
    stops: Infinity,
    seconds,
    smp: threads,
    seed,
    // by the seed, so that a round that is played again is the same
    thread: seed % 4 === 0 ? 'single' : 'multi',
    append: seed % 3 === 0 ? 'clocksource=hpet' : '',
    stopped: tick,
  });
  const violations = tool
    .problems(result)
    .map(({ check, message }): Violation => ({ check, thread: 'guest', message }));
  const operations = new Map<OperationName, Histogram>([
    ['machine stop', histogramOf(result.stopTimes)],
    ['machine cont', histogramOf(result.contTimes)],
  ]);
  const checks = new Map<CheckName, number>([
    ['time-stopped', result.stopTimes.length],
    ['time-monotonic', result.orders.reduce((sum, { checks: n }) => sum + n, 0)],
    ['guest-quiet', 1],
    ['guest-time', 1],
  ]);
  return { threads, seconds: result.seconds, operations, checks, violations, dump: undefined };
}

function histogramOf(times: readonly number[]): Histogram {
  const histogram = new Histogram();
  for (const ns of times) {
    histogram.addBucket(bucketOf(ns), 1);
    histogram.max = Math.max(histogram.max, ns);
  }
  return histogram;
}

async function loadTool(): Promise<StopContModule> {
  const url = new URL('../../test/tools/stop-cont.ts', import.meta.url);
  try {
    return (await import(url.href)) as StopContModule;
  } catch (cause) {
    if ((cause as { code?: unknown }).code !== 'ERR_MODULE_NOT_FOUND') throw cause;
    throw new StressError('ERR_STRESS_OPTION', '--scenario guest: only in a checkout', { cause });
  }
}
