/** The metadata cache cleaner: gives back tables that were not used for one whole interval. */
import type { Qcow2State } from './state.ts';

const NS_PER_MS = 1e6;

/**
 * Starts the timer (VIRTUAL, EXTERNAL) in the node's context; returns what stops it, undefined where there is no
 * timer to be had or the interval is 0. *Thread:* the context's.
 */
export function startCacheCleaner(state: Qcow2State): (() => void) | undefined {
  const { cacheCleanInterval } = state.tuning;
  if (cacheCleanInterval === 0 || !state.context.createTimer) return undefined;
  const timer = state.context.createTimer(
    () => {
      state.l2Cache.clean();
      state.refcountCache.clean();
      timer.mod(timer.now() + cacheCleanInterval * NS_PER_MS);
    },
    'qcow2-cache-clean',
    true,
  );
  timer.mod(timer.now() + cacheCleanInterval * NS_PER_MS);
  return () => timer.del();
}
