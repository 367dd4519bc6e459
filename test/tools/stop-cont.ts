/**
 * Stops and goes on at random, with changes of the throttle, while every vCPU of a Linux guest is busy and compares its
 * clocks:
 *
 *   node test/tools/stop-cont.ts [--stops N] [--smp N] [--seed N] [--thread multi|single] [--append TEXT]
 *
 * What has to hold: VIRTUAL stands still while the machine is stopped; the guest's clocks keep to it, so they stand still
 * too; no reading in the guest is before another one; the guest reports no lockup, stall or unstable clock source. Ends
 * with status 1 when something does not.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import type { Machine } from '../../src/index.ts';
import { Random } from '../../src/stress/random.ts';
import {
  checkOrder,
  type Drift,
  MAX_DRIFT,
  measureDrift,
  type Order,
  timeCheckProgram,
} from './guest-time.ts';
import { complaints, LinuxGuest } from './linux-guest.ts';

export interface StopContOptions {
  readonly stops: number;
  readonly smp: number;
  readonly seed: number;
  readonly thread: 'multi' | 'single';
  /** Added to the kernel's command line. */
  readonly append: string;
  /** Ends earlier than after `stops`; default: it does not. */
  readonly seconds?: number;
  /** Told of each stop. */
  readonly stopped?: (count: number) => void;
}
export const DEFAULTS: StopContOptions = { stops: 1000, smp: 4, seed: 1, thread: 'multi', append: '' };

export interface StopContResult {
  /** ns; what VIRTUAL went on by while the machine was stopped. */
  readonly advanced: number;
  /** ms of host time. */
  readonly stopped: number;
  /** How long each stop and each start took, ns. */
  readonly stopTimes: readonly number[];
  readonly contTimes: readonly number[];
  /** From the first stop to the last. */
  readonly seconds: number;
  /** The guest's clock against VIRTUAL. */
  readonly drift: Drift;
  readonly orders: readonly Order[];
  readonly complaints: readonly string[];
  readonly clocksource: readonly string[];
}

/** Longest stretch between two stops, and longest stop, ms. */
const RUN = 60;
const STOP = 30;
/** Seconds that the guest compares its clocks at a time. */
const ORDER_SECONDS = 3;

interface Stops {
  advanced: number;
  stopped: number;
  readonly stopTimes: number[];
  readonly contTimes: number[];
  seconds: number;
}

async function stopAtRandom(machine: Machine, options: StopContOptions): Promise<Stops> {
  const random = new Random(options.seed);
  const result: Stops = { advanced: 0, stopped: 0, stopTimes: [], contTimes: [], seconds: 0 };
  const first = performance.now();
  for (let i = 0; i < options.stops && result.seconds < (options.seconds ?? Infinity); i++) {
    await sleep(random.below(RUN));
    if (random.oneIn(8)) machine.setThrottle(random.pick([0, 0, 0, 1, 10, 30, 60, 90]));
    const asked = performance.now();
    await machine.pause();
    const then = machine.virtualTime;
    const begin = performance.now();
    result.stopTimes.push((begin - asked) * 1e6);
    await sleep(random.below(STOP));
    if (random.oneIn(8)) machine.setThrottle(random.pick([0, 0, 0, 20, 50]));
    result.advanced += machine.virtualTime - then;
    const end = performance.now();
    result.stopped += end - begin;
    await machine.resume();
    result.contTimes.push((performance.now() - end) * 1e6);
    result.seconds = (performance.now() - first) / 1000;
    options.stopped?.(i + 1);
  }
  machine.setThrottle(0);
  return result;
}

/** *Errors:* GuestError when the guest does not answer any more. */
export async function stopAndContinue(options: StopContOptions): Promise<StopContResult> {
  await using guest = await LinuxGuest.boot({
    smp: options.smp,
    thread: options.thread,
    append: options.append,
    files: [timeCheckProgram()],
  });
  const machine = guest.machine!;
  const clocksource = (): Promise<string> =>
    guest.run('cat /sys/devices/system/clocksource/clocksource0/current_clocksource');
  const before = await clocksource();
  const orders: Order[] = [];
  let stops: Stops | undefined;
  const drift = await measureDrift(
    guest,
    0,
    async () => {
      let over = false;
      const stopping = stopAtRandom(machine, options).finally(() => (over = true));
      while (!over) orders.push(...(await checkOrder(guest, ORDER_SECONDS)));
      stops = await stopping;
    },
    () => machine.virtualTime,
  );
  const after = await clocksource();
  const log = await guest.run('dmesg');
  return { ...stops!, drift, orders, complaints: complaints(log), clocksource: [before, after] };
}

export interface Problem {
  readonly check: 'time-stopped' | 'time-monotonic' | 'guest-time' | 'guest-quiet';
  readonly message: string;
}

/** What does not hold. */
export function problems(result: StopContResult): Problem[] {
  const { advanced, drift, orders, clocksource } = result;
  const found = result.complaints.map((message): Problem => ({ check: 'guest-quiet', message }));
  const add = (check: Problem['check'], message: string): void => void found.push({ check, message });
  if (advanced !== 0) add('time-stopped', `VIRTUAL went on by ${advanced} ns in stops`);
  if (Math.abs(drift.ppm) > MAX_DRIFT + drift.error) {
    add(
      'guest-time',
      `the guest's clock went ${drift.ppm.toFixed(1)} ppm (± ${drift.error.toFixed(1)}) off VIRTUAL`,
    );
  }
  for (const { clock, backwards, worst } of orders) {
    if (backwards > 0)
      add('time-monotonic', `${clock} was read ${backwards} times before another one, by up to ${worst}`);
  }
  if (orders.length === 0) add('time-monotonic', 'the guest compared no clocks');
  if (clocksource[0] !== clocksource[1]) add('guest-quiet', `clock source ${clocksource.join(', then ')}`);
  return found;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      stops: { type: 'string', default: String(DEFAULTS.stops) },
      smp: { type: 'string', default: String(DEFAULTS.smp) },
      seed: { type: 'string', default: String(DEFAULTS.seed) },
      thread: { type: 'string', default: DEFAULTS.thread },
      append: { type: 'string', default: '' },
    },
  });
  const options: StopContOptions = {
    stops: Number(values.stops),
    smp: Number(values.smp),
    seed: Number(values.seed),
    thread: values.thread === 'single' ? 'single' : 'multi',
    append: values.append,
  };
  const begin = performance.now();
  const result = await stopAndContinue(options);
  const checks = result.orders.reduce((sum, o) => sum + o.checks, 0);
  console.log(
    `${options.stops} stops of ${options.smp} vCPUs, ${(result.stopped / 1000).toFixed(1)} s of ` +
      `${((performance.now() - begin) / 1000).toFixed(1)} s stopped; the longest took ${(Math.max(...result.stopTimes) / 1e6).toFixed(1)} ms`,
  );
  console.log(
    `guest's clock ${result.drift.ppm.toFixed(1)} ppm (± ${result.drift.error.toFixed(1)}) against VIRTUAL; ` +
      `${checks} readings compared; clock source ${result.clocksource[1]}`,
  );
  const found = problems(result);
  console.log(found.length === 0 ? 'all well' : found.map(({ message }) => message).join('\n'));
  return found.length === 0 ? 0 : 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) process.exit(await main());
