/** What is measured in one thread: a primitive's or a timer's operation, `n` times. */
import {
  Condition,
  Event,
  MpscRecordRing,
  Mutex,
  Once,
  Semaphore,
  SeqLock,
  SpinLock,
  SpscRecordRing,
  SpscRing,
} from '@smp86/atomics-sync';
import { AioContext } from '../../src/aio/aio-context.ts';
import { CLOCK, VIRTUAL_MODE } from '../../src/timer/clock-state.ts';
import { ClockSystem } from '../../src/timer/clock.ts';
import { ManualTime } from '../../src/timer/host-time.ts';
import type { TimerList } from '../../src/timer/timer-list.ts';

export interface Operation {
  readonly name: string;
  /** Operations in a sample. */
  readonly n: number;
  /** What the C program calls it, and its second number. */
  readonly native: readonly [name: string, count: number];
  run(n: number): void;
}

/** Places in the memory that both sides of contended operations use. */
export const AT = {
  MUTEX: 64,
  EVENT: 128,
  PONG: 192,
  WORD: 256,
  GO: 320,
  SEMAPHORE: 384,
  CONDITION: 448,
  BARRIER: 512,
  OVER: 576,
  RING: 1024,
  RECORDS: 8192,
  CONTEXT: 16384,
} as const;
export const RING_BYTES = 4096;
export const CONTEXT_LIMITS = { maxBottomHalves: 64 };
export const CONTEXT_CLOCKS = { maxTimers: 4, maxLists: 8 };
const REST = 1 << 16;
/** Timers of the list that two threads modify at once. */
export const CONTENDED_TIMERS = 1000;
export const CONTENDED_AT = 1 << 20;
export const CONTENDED_LIMITS = { maxTimers: CONTENDED_TIMERS, maxLists: 4 };
const TIMERS_AT = 2 << 20;
/** Bytes of the memory. */
export const MEMORY = 64 << 20;

export function random(seed: number): () => number {
  return () => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0);
}

/** Random numbers are made beforehand, as in the C program: making them would count. */
const PICKS = 1 << 16;
export function picks(count: number): { which: Int32Array; when: Float64Array } {
  const next = random(7);
  const which = Int32Array.from({ length: PICKS }, () => (next() >>> 8) % count);
  const when = Float64Array.from({ length: PICKS }, () => 1 + next());
  return { which, when };
}

/** A list of `count` armed timers, of a clock system at `at`. */
export function armed(
  buffer: SharedArrayBuffer,
  at: number,
  count: number,
  onCall: () => void = () => {},
): { list: TimerList; clocks: ClockSystem; timers: Uint32Array; next: number } {
  const limits = { maxTimers: count, maxLists: 4 };
  const clocks = ClockSystem.init(buffer, at, {
    ...limits,
    source: new ManualTime(),
    virtualMode: VIRTUAL_MODE.MANUAL,
  });
  clocks.clockEnable(CLOCK.VIRTUAL, true);
  const list = clocks.mainGroup.lists[CLOCK.VIRTUAL];
  const callback = clocks.callbacks.add(onCall);
  const timers = new Uint32Array(count);
  const next = random(1);
  for (let i = 0; i < count; i++) {
    timers[i] = clocks.createTimer({ clock: CLOCK.VIRTUAL, callback }).index;
    list.mod(timers[i], 1 + next());
  }
  const size = ClockSystem.layout(limits).size;
  return { list, clocks, timers, next: Math.ceil((at + size) / 64) * 64 };
}

/** All of them, over `buffer`, whose memory is registered. */
export function operations(buffer: SharedArrayBuffer): Operation[] {
  const mutex = new Mutex(buffer, AT.MUTEX);
  const event = new Event(buffer, AT.EVENT);
  const semaphore = new Semaphore(buffer, REST);
  semaphore.init(1);
  const spin = new SpinLock(buffer, REST + 64);
  const once = new Once(buffer, REST + 128);
  once.run(() => {});
  const seq = new SeqLock(buffer, REST + 192);
  const condition = new Condition(buffer, REST + 256);
  const ring = new SpscRing(buffer, REST + 1024, RING_BYTES);
  const records = new SpscRecordRing(buffer, REST + 8192, RING_BYTES);
  const shared = new MpscRecordRing(buffer, REST + 16384, RING_BYTES);
  const bytes = new Uint8Array(64);
  const record = new Uint8Array(60);
  const { ops } = mutex;
  const word = AT.WORD;
  let sink = 0;

  let at = TIMERS_AT;
  const timerOperations: Operation[] = [];
  for (const count of [1000, 100_000]) {
    const { list, clocks, timers, next } = armed(buffer, at, count, () => sink++);
    at = next;
    const { which, when } = picks(count);
    let pick = 0;
    timerOperations.push({
      name: `timer mod, ${count} armed`,
      n: 5000,
      native: ['timer-mod', count],
      run(n) {
        for (let i = 0; i < n; i++, pick = (pick + 1) % PICKS) list.mod(timers[which[pick]], when[pick]);
      },
    });
    if (count > 1000) continue;
    timerOperations.push(
      {
        name: `timer modAnticipate, ${count} armed`,
        n: 5000,
        native: ['timer-anticipate', count],
        run(n) {
          for (let i = 0; i < n; i++, pick = (pick + 1) % PICKS)
            list.modAnticipate(timers[which[pick]], when[pick]);
        },
      },
      {
        name: `timer del and mod, ${count} armed`,
        n: 5000,
        native: ['timer-del-mod', count],
        run(n) {
          for (let i = 0; i < n; i++, pick = (pick + 1) % PICKS) {
            const timer = timers[which[pick]];
            list.del(timer);
            list.mod(timer, when[pick]);
          }
        },
      },
    );
    const group = clocks.mainGroup;
    timerOperations.push({
      name: 'deadline of a group',
      n: 5000,
      native: ['deadline', 0],
      run(n) {
        for (let i = 0; i < n; i++) sink += group.deadline();
      },
    });
  }
  const own = armed(buffer, at, 1000, () => sink++);
  at = own.next;
  own.clocks.setVirtual(2 ** 33);
  const { when } = picks(1000);
  let pass = 0;
  timerOperations.push({
    name: 'timer mod and expiry, in passes of 1000',
    n: 5000,
    native: ['timer-expire', 1000],
    run(n) {
      for (let done = 0; done < n; done += 1000) {
        for (let i = 0; i < 1000; i++, pass = (pass + 1) % PICKS) own.list.mod(own.timers[i], when[pass]);
        own.list.run();
      }
    },
  });

  const real = ClockSystem.init(buffer, at, { maxTimers: 64, maxLists: 8 });
  at += ClockSystem.layout({ maxTimers: 64, maxLists: 8 }).size;
  real.enableTicks();
  const context = AioContext.init(real, at, { maxBottomHalves: 64 });
  const half = context.createBottomHalf(() => sink++);
  const callback = real.callbacks.add(() => sink++);

  const each = (name: string, native: string, run: (n: number) => void): Operation => ({
    name,
    n: 20_000,
    native: [native, 0],
    run,
  });
  return [
    each('atomic load', 'load', (n) => {
      for (let i = 0; i < n; i++) sink += ops.load(word);
    }),
    each('atomic add', 'add', (n) => {
      for (let i = 0; i < n; i++) ops.add(word, 2);
    }),
    each('mutex lock, unlock', 'mutex', (n) => {
      for (let i = 0; i < n; i++) {
        mutex.lock();
        mutex.unlock();
      }
    }),
    each('event reset, set, wait', 'event', (n) => {
      for (let i = 0; i < n; i++) {
        event.reset();
        event.set();
        event.wait();
      }
    }),
    each('semaphore acquire, release', 'semaphore', (n) => {
      for (let i = 0; i < n; i++) {
        semaphore.acquire();
        semaphore.release();
      }
    }),
    each('spin lock lock, unlock', 'spinlock', (n) => {
      for (let i = 0; i < n; i++) {
        spin.lock();
        spin.unlock();
      }
    }),
    each('once, done', 'load', (n) => {
      for (let i = 0; i < n; i++) once.run(() => {});
    }),
    each('sequence lock, read', 'seqlock-read', (n) => {
      for (let i = 0; i < n; i++) {
        const key = seq.readBegin();
        sink += ops.loadF64(word);
        if (seq.readRetry(key)) sink++;
      }
    }),
    each('sequence lock, write', 'seqlock-write', (n) => {
      for (let i = 0; i < n; i++) {
        seq.writeBegin();
        ops.storeF64(word, 5);
        seq.writeEnd();
      }
    }),
    each('condition signal, nobody waits', 'signal', (n) => {
      for (let i = 0; i < n; i++) condition.signal();
    }),
    each('byte ring, write and read of 64', 'ring', (n) => {
      for (let i = 0; i < n; i++) {
        ring.write(bytes);
        ring.read(bytes);
      }
    }),
    each('record ring, push and pop of 60', 'records', (n) => {
      for (let i = 0; i < n; i++) {
        records.tryPush(record);
        records.popInto(bytes);
      }
    }),
    each('ring of many producers, push and pop of 60', 'mpsc', (n) => {
      for (let i = 0; i < n; i++) {
        shared.tryPush(record);
        shared.popInto(bytes);
      }
    }),
    ...timerOperations,
    each('clock REALTIME', 'clock', (n) => {
      for (let i = 0; i < n; i++) sink += real.now(CLOCK.REALTIME);
    }),
    each('clock VIRTUAL', 'clock', (n) => {
      for (let i = 0; i < n; i++) sink += real.now(CLOCK.VIRTUAL);
    }),
    each('clock HOST', 'clock', (n) => {
      for (let i = 0; i < n; i++) sink += real.now(CLOCK.HOST);
    }),
    each('TSC', 'clock', (n) => {
      for (let i = 0; i < n; i++) sink += real.ticks();
    }),
    each('notify of a busy owner', 'notify', (n) => {
      for (let i = 0; i < n; i++) context.notify();
    }),
    each('bottom half schedule', 'bh-schedule', (n) => {
      for (let i = 0; i < n; i++) half.schedule();
    }),
    each('bottom half schedule, turn', 'bh-turn', (n) => {
      for (let i = 0; i < n; i++) {
        half.schedule();
        context.dispatch();
      }
    }),
    each('one-shot schedule, turn', 'bh-oneshot', (n) => {
      for (let i = 0; i < n; i++) {
        context.scheduleOneshot(callback);
        context.dispatch();
      }
    }),
    each('clockEnable off, on', 'clock-enable', (n) => {
      for (let i = 0; i < n; i++) {
        real.clockEnable(CLOCK.VIRTUAL, false);
        real.clockEnable(CLOCK.VIRTUAL, true);
      }
    }),
  ];
}
