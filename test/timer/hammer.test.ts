import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterEach, expect, it } from 'vitest';
import { registerMemory } from '@smp86/atomics-sync';
import { AioContext } from '../../src/aio/aio-context.ts';
import { MainLoop } from '../../src/aio/main-loop.ts';
import { CLOCK } from '../../src/timer/clock-state.ts';
import { ClockSystem } from '../../src/timer/clock.ts';
import { BH_CALLBACK, type HammerData, Shared, TIMER_CALLBACK } from './hammer-worker.ts';

const TIMERS = 12;
const HALVES = 4;
const workers: Worker[] = [];

afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.terminate()));
});

function setup() {
  const memory = new WebAssembly.Memory({ initial: 8, maximum: 8, shared: true });
  registerMemory(memory);
  const buffer = memory.buffer as unknown as SharedArrayBuffer;
  const limits = { maxTimers: 32, maxLists: 16 };
  const sharedAt = 0;
  const clocksAt = 1024;
  const loopAt = clocksAt + ClockSystem.layout(limits).size;
  const clocks = ClockSystem.init(buffer, clocksAt, limits);
  const shared = Shared.at(buffer, sharedAt);
  shared.go.init(false);
  clocks.enableTicks();
  clocks.clockEnable(CLOCK.VIRTUAL, true);
  return { memory, clocks, shared, base: { memory, clocksAt, loopAt, sharedAt } };
}

/** Starts the roles together, lets them run for `ms`, and ends all but the loop, which is number 0. */
async function hammer(
  { base, shared }: ReturnType<typeof setup>,
  roles: { role: HammerData['role']; count?: number }[],
  ms: number,
): Promise<{ loopEnded: Promise<unknown> }> {
  const ended: Promise<unknown>[] = [];
  await Promise.all(
    roles.map(async ({ role, count = 0 }, i) => {
      const data: HammerData = { ...base, id: i + 1, role, count };
      const worker = new Worker(new URL('./hammer-worker.ts', import.meta.url), { workerData: data });
      workers.push(worker);
      await once(worker, 'message');
      ended[i] = once(worker, 'message');
    }),
  );
  shared.go.set();
  await new Promise((resolve) => setTimeout(resolve, ms));
  shared.stop.store(1);
  await Promise.all(ended.slice(1));
  return { loopEnded: ended[0] };
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
}

it('no callback runs while its clock is disabled, and no armed timer is forgotten', async () => {
  const world = setup();
  const { clocks, shared, base } = world;
  const context = AioContext.init(clocks, base.loopAt);
  const timers = Array.from({ length: TIMERS }, () =>
    clocks.createTimer({ clock: CLOCK.VIRTUAL, callback: TIMER_CALLBACK, group: context.group.index }),
  );
  const { loopEnded } = await hammer(
    world,
    [{ role: 'context' }, { role: 'arm', count: TIMERS }, { role: 'arm', count: TIMERS }, { role: 'toggle' }],
    2500,
  );
  await until(() => timers.every((timer) => !timer.pending));
  expect(timers.filter((timer) => timer.pending)).toEqual([]);
  expect(shared.violations.load()).toBe(0);
  expect(shared.ran.load()).toBeGreaterThan(1000);
  context.requestStop();
  await loopEnded;
}, 20_000);

it('disabling under the BQL neither deadlocks with the main loop nor lets its callbacks run', async () => {
  const world = setup();
  const { clocks, shared, base } = world;
  const loop = MainLoop.init(clocks, base.loopAt, { bql: shared.bql });
  const timers = Array.from({ length: TIMERS }, () =>
    clocks.createTimer({ clock: CLOCK.VIRTUAL, callback: TIMER_CALLBACK }),
  );
  const { loopEnded } = await hammer(
    world,
    [
      { role: 'main-loop' },
      { role: 'arm', count: TIMERS },
      { role: 'arm', count: TIMERS },
      { role: 'toggle-bql' },
    ],
    2500,
  );
  await until(() => timers.every((timer) => !timer.pending));
  expect(timers.filter((timer) => timer.pending)).toEqual([]);
  expect(shared.violations.load()).toBe(0);
  expect(shared.ran.load()).toBeGreaterThan(1000);
  loop.requestStop();
  await loopEnded;
  expect(shared.bql.isLocked()).toBe(false);
}, 20_000);

it('every scheduling of a bottom half is followed by a call that sees what was stored before it', async () => {
  const world = setup();
  const { clocks, shared, base } = world;
  const context = AioContext.init(clocks, base.loopAt, { maxBottomHalves: 48 });
  for (let i = 0; i < HALVES; i++) context.createBottomHalf(BH_CALLBACK, i);
  const { loopEnded } = await hammer(
    world,
    [{ role: 'context' }, { role: 'schedule', count: HALVES }, { role: 'schedule', count: HALVES }],
    1500,
  );
  const produced = (): number[] => shared.produced.map((word) => word.load());
  const seen = (): number[] => shared.seen.map((word) => word.load());
  await until(() => produced().every((n, i) => n === seen()[i]));
  expect(seen()).toEqual(produced());
  expect(Math.min(...produced())).toBeGreaterThan(100);
  context.requestStop();
  await loopEnded;
}, 20_000);

it('no thread reads a VIRTUAL time or a TSC that is before one read by another, across stop and start', async () => {
  const world = setup();
  await hammer(world, [{ role: 'ticks' }, { role: 'read' }, { role: 'read' }], 1500);
  expect(world.shared.violations.load()).toBe(0);
  expect(world.shared.ran.load()).toBeGreaterThan(10_000);
}, 20_000);
