/** Roles of the threads of hammer.test.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import {
  array,
  atomicI32,
  atomicNs,
  Event,
  Mutex,
  placed,
  registerMemory,
  setOwnerId,
  struct,
} from '@smp86/atomics-sync';
import { AioContext } from '../../src/aio/aio-context.ts';
import { MainLoop } from '../../src/aio/main-loop.ts';
import { CallbackRegistry } from '../../src/timer/callback-registry.ts';
import { CLOCK } from '../../src/timer/clock-state.ts';
import { ClockSystem } from '../../src/timer/clock.ts';

export const Shared = struct({
  bql: placed(Mutex),
  go: placed(Event),
  stop: atomicI32,
  /** 1 while the toggler knows VIRTUAL to be disabled. */
  disabled: atomicI32,
  /** Callbacks that ran. */
  ran: atomicI32,
  /** VIRTUAL and TSC as last read by some thread. */
  lastVirtual: atomicNs,
  lastTicks: atomicNs,
  /** Callbacks that saw `disabled`; times that went back. */
  violations: atomicI32,
  /** Per bottom half: last number scheduled, last number seen by its callback. */
  produced: array(atomicI32, 4),
  seen: array(atomicI32, 4),
});

export interface HammerData {
  memory: WebAssembly.Memory;
  id: number;
  role: 'context' | 'main-loop' | 'arm' | 'toggle' | 'toggle-bql' | 'schedule' | 'read' | 'ticks';
  clocksAt: number;
  loopAt: number;
  sharedAt: number;
  /** Timers or bottom halves 0 … count-1 that the role touches. */
  count: number;
}

export const TIMER_CALLBACK = 1;
export const BH_CALLBACK = 2;

const data = workerData as HammerData | null;
if (parentPort !== null && data !== null && 'clocksAt' in data) await work(data);

async function work({ memory, id, role, clocksAt, loopAt, sharedAt, count }: HammerData): Promise<void> {
  registerMemory(memory);
  setOwnerId(id);
  const buffer = memory.buffer as unknown as SharedArrayBuffer;
  const shared = Shared.at(buffer, sharedAt);
  const callbacks = new CallbackRegistry();
  const clocks = ClockSystem.attach(buffer, clocksAt, { callbacks });
  callbacks.register(TIMER_CALLBACK, () => {
    if (shared.disabled.load() !== 0) shared.violations.add(1);
    shared.ran.add(1);
    if (shared.disabled.load() !== 0) shared.violations.add(1);
  });
  callbacks.register(BH_CALLBACK, (i) => shared.seen[i].store(shared.produced[i].load()));
  let seed = id * 7919;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return (seed >>> 8) % n;
  };
  const nap = new Int32Array(new SharedArrayBuffer(4));
  const sleep = (us: number): void => void Atomics.wait(nap, 0, 0, us / 1000);

  parentPort!.postMessage('ready');
  shared.go.wait();
  switch (role) {
    case 'context':
      await AioContext.attach(clocks, loopAt).run();
      break;
    case 'main-loop':
      await MainLoop.attach(clocks, loopAt, shared.bql).run();
      break;
    case 'arm': {
      const timers = Array.from({ length: count }, (_, i) => clocks.timer(i));
      for (let n = 0; shared.stop.load() === 0; n++) {
        const timer = timers[random(count)];
        const expire = clocks.now(CLOCK.VIRTUAL) + random(200_000);
        const kind = random(8);
        if (kind === 0) timer.del();
        else if (kind < 4) timer.modAnticipate(expire);
        else timer.mod(expire);
        if (n % 16 === 0) sleep(random(100));
      }
      // the last arming of all must fire, however the threads stand
      for (const timer of timers) timer.mod(clocks.now(CLOCK.VIRTUAL) + random(2_000_000));
      break;
    }
    case 'toggle':
    case 'toggle-bql':
      while (shared.stop.load() === 0) {
        if (role === 'toggle-bql') shared.bql.lock();
        clocks.clockEnable(CLOCK.VIRTUAL, false);
        shared.disabled.store(1);
        const before = shared.ran.load();
        if (role === 'toggle-bql') shared.bql.unlock();
        sleep(random(150));
        if (role === 'toggle-bql') shared.bql.lock();
        if (shared.ran.load() !== before) shared.violations.add(1);
        shared.disabled.store(0);
        clocks.clockEnable(CLOCK.VIRTUAL, true);
        if (role === 'toggle-bql') shared.bql.unlock();
        sleep(random(150));
      }
      break;
    case 'read':
      for (let n = 0; shared.stop.load() === 0; n++) {
        const virtual = shared.lastVirtual.load();
        const ticks = shared.lastTicks.load();
        const nextVirtual = clocks.now(CLOCK.VIRTUAL);
        const nextTicks = clocks.ticks();
        if (nextVirtual < virtual || nextTicks < ticks) shared.violations.add(1);
        shared.lastVirtual.store(nextVirtual);
        shared.lastTicks.store(nextTicks);
        shared.ran.add(1);
        if (n % 1024 === 0) sleep(200);
      }
      break;
    case 'ticks':
      for (let hz = 3e9; shared.stop.load() === 0; hz--) {
        clocks.disableTicks();
        if (hz > 2.9e9) clocks.setTscHz(hz);
        sleep(random(40));
        clocks.enableTicks();
        sleep(random(200));
      }
      break;
    case 'schedule': {
      const context = AioContext.attach(clocks, loopAt);
      const halves = Array.from({ length: count }, (_, i) => context.bottomHalf(i));
      for (let n = 0; shared.stop.load() === 0; n++) {
        const i = random(count);
        shared.produced[i].add(1);
        halves[i].schedule();
        if (random(4) === 0) context.scheduleOneshot(BH_CALLBACK, i);
        if (n % 8 === 0) sleep(random(60));
      }
      break;
    }
  }
  parentPort!.postMessage('done');
}
