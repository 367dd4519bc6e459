/** The other threads of the measurements. */
import {
  AtomicI32,
  Barrier,
  Condition,
  Event,
  MpscRecordRing,
  Mutex,
  registerMemory,
  Semaphore,
  setOwnerId,
  SpinLock,
  SpscRing,
} from '@smp86/atomics-sync';
import { parentPort, workerData } from 'node:worker_threads';
import { AioContext } from '../../src/aio/aio-context.ts';
import { CLOCK } from '../../src/timer/clock-state.ts';
import { ClockSystem } from '../../src/timer/clock.ts';
import { ManualTime } from '../../src/timer/host-time.ts';
import { AT, CONTENDED_AT, CONTENDED_TIMERS, random, RING_BYTES } from './operations.ts';

export type WorkerTask =
  | { readonly role: 'pong'; readonly n: number }
  | { readonly role: 'contend'; readonly op: ContendedOp; readonly n: number; readonly side: number }
  | { readonly role: 'lateness'; readonly n: number };
/** What two threads do. In the last four they do different things. */
export type ContendedOp =
  | 'mutex'
  | 'spin'
  | 'add'
  | 'timer-mod'
  | 'semaphore'
  | 'barrier'
  | 'condition'
  | 'ring'
  | 'records'
  | 'bottom-half'
  | 'clock-enable';

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

/** One operation of an endless number, of side 0 or 1 of the two threads. */
function operationOf(op: ContendedOp, side: number): () => void {
  const mutex = new Mutex(buffer, AT.MUTEX);
  switch (op) {
    case 'mutex':
      return () => {
        mutex.lock();
        mutex.unlock();
      };
    case 'spin': {
      const spin = new SpinLock(buffer, AT.WORD + 8);
      return () => {
        spin.lock();
        spin.unlock();
      };
    }
    case 'add': {
      const { ops } = mutex;
      return () => ops.add(AT.WORD, 2);
    }
    case 'timer-mod': {
      const clocks = ClockSystem.attach(buffer, CONTENDED_AT, { source: new ManualTime() });
      const list = clocks.mainGroup.lists[CLOCK.VIRTUAL];
      const next = random(7);
      return () => list.mod(next() % CONTENDED_TIMERS, 1 + next());
    }
    case 'semaphore': {
      const semaphore = new Semaphore(buffer, AT.SEMAPHORE);
      return () => {
        semaphore.acquire();
        semaphore.release();
      };
    }
    case 'barrier': {
      const barrier = new Barrier(buffer, AT.BARRIER);
      return () => void barrier.wait();
    }
    case 'condition': {
      const condition = new Condition(buffer, AT.CONDITION);
      const turn = new AtomicI32(buffer, AT.WORD);
      return () => {
        mutex.lock();
        while (turn.load() !== side) condition.wait(mutex);
        turn.store(1 - side);
        condition.signal();
        mutex.unlock();
      };
    }
    case 'ring': {
      const ring = new SpscRing(buffer, AT.RING, RING_BYTES);
      const bytes = new Uint8Array(64);
      if (side === 0) return () => void ring.writeAll(bytes);
      return () => {
        for (let done = 0; done < bytes.length; done += ring.read(bytes, done)) ring.waitData();
      };
    }
    case 'records': {
      const ring = new MpscRecordRing(buffer, AT.RECORDS, RING_BYTES);
      const record = new Uint8Array(60);
      if (side === 0) return () => void ring.push(record);
      return () => {
        while (ring.popInto(record) < 0) ring.waitData();
      };
    }
    case 'bottom-half': {
      const clocks = ClockSystem.attach(buffer, CONTENDED_AT);
      const context = AioContext.attach(clocks, AT.CONTEXT);
      if (side === 0) {
        const half = context.bottomHalf(0);
        return () => half.schedule();
      }
      clocks.callbacks.register(0, () => {});
      return () => void context.poll(true);
    }
    case 'clock-enable': {
      const clocks = ClockSystem.attach(buffer, CONTENDED_AT, { source: new ManualTime() });
      if (side === 0) {
        return () => {
          clocks.clockEnable(CLOCK.VIRTUAL, false);
          clocks.clockEnable(CLOCK.VIRTUAL, true);
        };
      }
      const timer = clocks.timer(0);
      // due at a later time than the pass looks at: otherwise it would never end
      clocks.callbacks.register(0, () => timer.mod(2));
      const list = clocks.mainGroup.lists[CLOCK.VIRTUAL];
      return () => {
        list.run();
        timer.mod(0);
      };
    }
  }
}

/** Those in which side 1 goes on until side 0 has done its operations. */
const SERVED: ReadonlySet<ContendedOp> = new Set<ContendedOp>(['bottom-half', 'clock-enable']);
const WARM_UP = 2000;

function contend({ op, n, side }: WorkerTask & { role: 'contend' }): void {
  setOwnerId(side + 1);
  const once = operationOf(op, side);
  const over = new AtomicI32(buffer, AT.OVER);
  const served = SERVED.has(op);
  // before the barrier of the start, so that both have compiled code; together, where they need each other
  if (!served) for (let i = 0; i < WARM_UP; i++) once();
  parentPort!.postMessage('ready');
  const go = new AtomicI32(buffer, AT.GO);
  while (go.load() === 0) go.wait(0);
  if (served && side === 1) {
    while (over.load() === 0) once();
    return;
  }
  for (let i = 0; i < n; i++) once();
  over.store(1);
  if (op === 'bottom-half') once();
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
  case 'contend':
    contend(task);
    break;
  case 'lateness':
    parentPort!.postMessage(await lateness(task.n));
}
