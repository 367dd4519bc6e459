/** The other threads of the measurements. */
import { AtomicI32, Event, Mutex, registerMemory, SpinLock } from '@smp86/atomics-sync';
import { parentPort, workerData } from 'node:worker_threads';
import { AioContext } from '../../src/aio/aio-context.ts';
import { CLOCK } from '../../src/timer/clock-state.ts';
import { ClockSystem } from '../../src/timer/clock.ts';
import { ManualTime } from '../../src/timer/host-time.ts';
import { AT, CONTENDED_AT, CONTENDED_TIMERS, random } from './operations.ts';

export type WorkerTask =
  | { readonly role: 'pong'; readonly n: number }
  | { readonly role: 'busy' }
  | { readonly role: 'contend'; readonly op: ContendedOp; readonly n: number }
  | { readonly role: 'lateness'; readonly n: number };
export type ContendedOp = 'mutex' | 'spin' | 'add' | 'timer-mod';

const { memory, task } = workerData as { memory: WebAssembly.Memory; task: WorkerTask };
registerMemory(memory);
const buffer = memory.buffer as ArrayBufferLike as SharedArrayBuffer;

/** Answers each `event` with one of its own. */
function pong(n: number): void {
  const ping = new Event(buffer, AT.EVENT);
  const answer = new Event(buffer, AT.PONG);
  for (let i = 0; i < n; i++) {
    // a wait may end early; see Event
    while (!ping.isSet()) ping.wait();
    ping.reset();
    answer.set();
  }
}

/** Computes until it is told to stop, as a vCPU does that never halts. */
function busy(): void {
  const stop = new AtomicI32(buffer, AT.GO);
  let x = 1;
  while (stop.load() === 0) for (let i = 0; i < 10_000; i++) x = (Math.imul(x, 48271) + i) | 0;
  if (x === 0.5) throw new Error();
}

function contend(op: ContendedOp, n: number): void {
  const mutex = new Mutex(buffer, AT.MUTEX);
  const spin = new SpinLock(buffer, AT.WORD + 8);
  const { ops } = mutex;
  const clocks = ClockSystem.attach(buffer, CONTENDED_AT, { source: new ManualTime() });
  const list = clocks.mainGroup.lists[CLOCK.VIRTUAL];
  const next = random(7);
  const once = (): void => {
    switch (op) {
      case 'mutex':
        mutex.lock();
        mutex.unlock();
        break;
      case 'spin':
        spin.lock();
        spin.unlock();
        break;
      case 'add':
        ops.add(AT.WORD, 2);
        break;
      case 'timer-mod':
        list.mod(next() % CONTENDED_TIMERS, 1 + next());
    }
  };
  for (let i = 0; i < 20_000; i++) once();
  parentPort!.postMessage('ready');
  const go = new AtomicI32(buffer, AT.GO);
  while (go.load() === 0) go.wait(0);
  for (let i = 0; i < n; i++) once();
}

/** How late each of `n` expiries of a 1 kHz timer is called, ns. */
async function lateness(n: number): Promise<number[]> {
  const at = 32 << 20;
  const clocks = ClockSystem.init(buffer, at, { maxTimers: 4, maxLists: 8 });
  const limits = { maxBottomHalves: 4 };
  const context = AioContext.init(
    clocks,
    at + ClockSystem.layout({ maxTimers: 4, maxLists: 8 }).size,
    limits,
  );
  const late: number[] = [];
  let next = clocks.now(CLOCK.REALTIME) + 1e6;
  const timer = clocks.createTimer({
    clock: CLOCK.REALTIME,
    group: context.group.index,
    callback: () => {
      const now = clocks.now(CLOCK.REALTIME);
      late.push(now - next);
      if (late.length === n) return context.requestStop();
      do next += 1e6;
      while (next < now);
      timer.mod(next);
    },
  });
  timer.mod(next);
  await context.run();
  return late;
}

switch (task.role) {
  case 'pong':
    pong(task.n);
    break;
  case 'busy':
    busy();
    break;
  case 'contend':
    contend(task.op, task.n);
    break;
  case 'lateness':
    parentPort!.postMessage(await lateness(task.n));
}
