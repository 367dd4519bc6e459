/** Takes the figures, ours and the C program's in turn. */
import { AtomicI32, Barrier, Event, registerMemory, Semaphore } from '@smp86/atomics-sync';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { Bench } from 'tinybench';
import { AioContext } from '../../src/aio/aio-context.ts';
import { CLOCK } from '../../src/timer/clock-state.ts';
import { ClockSystem } from '../../src/timer/clock.ts';
import { ManualTime } from '../../src/timer/host-time.ts';
import { LinuxGuest } from '../../test/tools/linux-guest.ts';
import type { Native } from './native.ts';
import {
  armed,
  AT,
  CONTENDED_AT,
  CONTENDED_LIMITS,
  CONTEXT_CLOCKS,
  CONTEXT_LIMITS,
  MEMORY,
  type Operation,
  operations,
} from './operations.ts';
import type { ContendedOp, WorkerTask } from './worker.ts';

/** A line of the results. Times in ns for one operation: medians of rounds, in which the best of many samples counts. */
export interface Figure {
  readonly name: string;
  readonly kind: 'alone' | 'contended' | 'round trip';
  readonly ns: number;
  /** The C program's. */
  readonly native: number | undefined;
  /** Median of the ratios of figures taken in turn. */
  readonly ratio: number | undefined;
}

/** Lateness of a 1 kHz timer, ns, sorted. */
export interface Lateness {
  readonly name: string;
  readonly late: readonly number[];
}

export interface Settings {
  /** Pairs of figures taken in turn. */
  readonly rounds: number;
  /** Expiries of the lateness measurements. */
  readonly expiries: number;
  readonly say: (text: string) => void;
}

function newMemory(): { memory: WebAssembly.Memory; buffer: SharedArrayBuffer } {
  const pages = MEMORY / 65536;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  registerMemory(memory);
  return { memory, buffer: memory.buffer as ArrayBufferLike as SharedArrayBuffer };
}

function start(memory: WebAssembly.Memory, task: WorkerTask): Worker {
  return new Worker(new URL('./worker.ts', import.meta.url), { workerData: { memory, task } });
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

/** `rounds` times ours and then the C program's. */
async function inTurn(
  name: string,
  kind: Figure['kind'],
  rounds: number,
  ours: () => Promise<number>,
  theirs: (() => Promise<number>) | undefined,
): Promise<Figure> {
  const pairs: [number, number | undefined][] = [];
  for (let round = 0; round < rounds; round++) pairs.push([await ours(), await theirs?.()]);
  const both = pairs.filter((pair): pair is [number, number] => pair[1] !== undefined);
  return {
    name,
    kind,
    ns: median(pairs.map(([ns]) => ns)),
    native: both.length > 0 ? median(both.map(([, ns]) => ns)) : undefined,
    ratio: both.length > 0 ? median(both.map(([a, b]) => a / b)) : undefined,
  };
}

/** Operations of one thread. */
export async function alone(native: Native | undefined, settings: Settings): Promise<Figure[]> {
  const { buffer } = newMemory();
  const figures: Figure[] = [];
  for (const operation of operations(buffer)) {
    const { name, n } = operation;
    const bench = new Bench({ time: 100, iterations: 20, warmupTime: 200, warmupIterations: 20 });
    bench.add(name, () => operation.run(n));
    const ours = async (): Promise<number> => {
      const [task] = await bench.run();
      const { result } = task;
      if (!('latency' in result)) throw new Error(`${name}: ${JSON.stringify(result)}`);
      // the best sample: what is beyond it is other programs' time, of which the C program has its own share
      return (result.latency.min * 1e6) / n;
    };
    const command = operation.native;
    const theirs = native && command ? () => native.ns(command[0], n, command[1]) : undefined;
    const figure = await inTurn(name, 'alone', settings.rounds, ours, theirs);
    settings.say(line(figure));
    figures.push(figure);
  }
  return figures;
}

/** How many times what it costs with 1000 timers arming one costs with 100 000. */
export interface Scaling {
  readonly ours: number;
  readonly native: number | undefined;
}

/** Both sizes in turn, `rounds` times; the best of many samples, then the median of the ratios. */
export async function scaling(native: Native | undefined, settings: Settings): Promise<Scaling> {
  const { buffer } = newMemory();
  const all = operations(buffer);
  const [few, many] = [1000, 100_000].map((count) => {
    const found = all.find(({ name }) => name === `timer mod, ${count} armed`);
    if (found === undefined) throw new RangeError(`timer mod, ${count} armed`);
    return found;
  });
  const best = ({ n, run }: Operation): number => {
    let ns = Infinity;
    for (let sample = 0; sample < 100; sample++) {
      const began = performance.now();
      run(n);
      ns = Math.min(ns, ((performance.now() - began) * 1e6) / n);
    }
    return ns;
  };
  const theirs = async ({ n, native: command }: Operation): Promise<number> =>
    native!.ns(command[0], n, command[1]);
  const ours: number[] = [];
  const other: number[] = [];
  for (let round = 0; round < settings.rounds; round++) {
    const base = best(few);
    ours.push(best(many) / base);
    if (native === undefined) continue;
    const nativeBase = await theirs(few);
    other.push((await theirs(many)) / nativeBase);
  }
  const result = { ours: median(ours), native: other.length > 0 ? median(other) : undefined };
  settings.say(scalingLine(result));
  return result;
}

export function scalingLine({ ours, native }: Scaling): string {
  const cells = [ours, native].map((value) => (value === undefined ? '–' : value.toFixed(2)).padStart(10));
  return 'timer mod, 100000 armed against 1000'.padEnd(44) + cells.join('');
}

/** What one operation is: one thread's, where each does n of its own; or one of both together. */
interface Contended {
  readonly op: ContendedOp;
  readonly name: string;
  readonly native?: string;
  readonly n: number;
  readonly together?: boolean;
}
/** The C program does so many times more: it is quicker, and its threads have to be at it at the same time. */
const NATIVE_FACTOR = 10;
const CONTENDED: readonly Contended[] = [
  { op: 'add', name: 'atomic add, two threads', native: 'add', n: 1_000_000 },
  { op: 'mutex', name: 'mutex lock and unlock, two threads', native: 'mutex', n: 300_000 },
  { op: 'spin', name: 'spin lock lock and unlock, two threads', native: 'spinlock', n: 300_000 },
  {
    op: 'semaphore',
    name: 'semaphore acquire and release, two threads',
    native: 'semaphore',
    n: 200_000,
    together: true,
  },
  { op: 'timer-mod', name: 'timer mod, two threads, one list of 1000', native: 'timer-mod', n: 100_000 },
  { op: 'condition', name: 'condition: a turn of each', native: 'condition', n: 5000, together: true },
  { op: 'barrier', name: 'barrier of two', native: 'barrier', n: 10_000, together: true },
  { op: 'ring', name: 'byte ring, 64 from one to the other', native: 'ring', n: 200_000, together: true },
  {
    op: 'records',
    name: 'record ring, 60 from one to the other',
    native: 'records',
    n: 200_000,
    together: true,
  },
  {
    op: 'bottom-half',
    name: 'bottom half schedule, its owner calls it',
    native: 'bh',
    n: 200_000,
    together: true,
  },
  {
    op: 'clock-enable',
    name: 'clockEnable off, on, against passes',
    native: 'clock-enable',
    n: 20_000,
    together: true,
  },
];

/** What the two threads use. */
function contendedMemory(op: ContendedOp, buffer: SharedArrayBuffer): void {
  new Semaphore(buffer, AT.SEMAPHORE).init(1);
  new Barrier(buffer, AT.BARRIER).init(2);
  if (op === 'bottom-half') {
    const clocks = ClockSystem.init(buffer, CONTENDED_AT, CONTEXT_CLOCKS);
    AioContext.init(clocks, AT.CONTEXT, CONTEXT_LIMITS).createBottomHalf(0);
  } else if (op === 'clock-enable') {
    const clocks = ClockSystem.init(buffer, CONTENDED_AT, { ...CONTEXT_CLOCKS, source: new ManualTime() });
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    clocks.createTimer({ clock: CLOCK.VIRTUAL, callback: 0 }).mod(0);
  } else armed(buffer, CONTENDED_AT, CONTENDED_LIMITS.maxTimers);
}

/** Two threads at once. */
export async function contended(native: Native | undefined, settings: Settings): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const { op, name, native: command, n, together = false } of CONTENDED) {
    const each = (together ? 1 : 2) * n;
    const ours = async (): Promise<number> => {
      const { memory, buffer } = newMemory();
      contendedMemory(op, buffer);
      const workers = [0, 1].map((side) => start(memory, { role: 'contend', op, n, side }));
      await Promise.all(workers.map((worker) => once(worker, 'message')));
      const ends = Promise.all(workers.map((worker) => once(worker, 'exit')));
      const go = new AtomicI32(buffer, AT.GO);
      const began = performance.now();
      go.store(1);
      go.notify();
      await ends;
      return ((performance.now() - began) * 1e6) / each;
    };
    const theirs = native && command ? () => native.ns(`contended-${command}`, n * NATIVE_FACTOR) : undefined;
    const figure = await inTurn(name, 'contended', settings.rounds, ours, theirs);
    settings.say(line(figure));
    figures.push(figure);
  }
  return figures;
}

/** The best of batches of round trips counts. */
const BATCH = 50;

/** A thread wakes another, which wakes it: two waits, two wake-ups. */
export async function roundTrip(native: Native | undefined, settings: Settings): Promise<Figure> {
  const trips = 4000;
  const ours = async (): Promise<number> => {
    const { memory, buffer } = newMemory();
    const ping = new Event(buffer, AT.EVENT);
    const pong = new Event(buffer, AT.PONG);
    ping.init(false);
    pong.init(false);
    const worker = start(memory, { role: 'pong', n: trips + 1 });
    const ended = once(worker, 'exit');
    const trip = (): void => {
      ping.set();
      while (!pong.isSet()) pong.wait();
      pong.reset();
    };
    trip(); // which waits for the thread to start
    let ns = Infinity;
    for (let done = 0; done < trips; done += BATCH) {
      const began = performance.now();
      for (let i = 0; i < BATCH; i++) trip();
      ns = Math.min(ns, ((performance.now() - began) * 1e6) / BATCH);
    }
    await ended;
    return ns;
  };
  const theirs = native && (() => native.ns('round-trip', trips));
  const figure = await inTurn('event set, wait: round trip', 'round trip', settings.rounds, ours, theirs);
  settings.say(line(figure));
  return figure;
}

const BUSY_VCPUS = 2;

/** A 1 kHz timer, on a host without and with a machine whose vCPUs are busy. */
export async function timerLateness(native: Native | undefined, settings: Settings): Promise<Lateness[]> {
  const results: Lateness[] = [];
  const measure = async (load: string): Promise<void> => {
    const add = (who: string, late: readonly number[]): void => {
      const result = { name: `${who}, ${load}`, late: [...late].sort((a, b) => a - b) };
      settings.say(latenessLine(result));
      results.push(result);
    };
    const worker = start(newMemory().memory, { role: 'lateness', n: settings.expiries });
    const [late] = (await once(worker, 'message')) as [number[]];
    add('smp86', late);
    if (native !== undefined) add('C', await native.list('lateness', settings.expiries));
  };
  await measure('idle');
  await using guest = await LinuxGuest.boot({ smp: BUSY_VCPUS });
  for (let cpu = 0; cpu < BUSY_VCPUS; cpu++) {
    await guest.run(`taskset -c ${cpu} sh -c 'while :; do :; done' &`);
  }
  await measure(`${BUSY_VCPUS} busy vCPUs`);
  return results;
}

export function percentile(sorted: readonly number[], p: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))];
}

const ns = (value: number | undefined): string =>
  value === undefined ? '–' : value < 100 ? value.toFixed(1) : Math.round(value).toString();

export function line({ name, ns: ours, native, ratio }: Figure): string {
  const cells = [ns(ours), ns(native), ratio === undefined ? '–' : ratio.toFixed(2)];
  return name.padEnd(44) + cells.map((cell) => cell.padStart(10)).join('');
}

export function latenessLine({ name, late }: Lateness): string {
  const cells = [0.5, 0.99, 1].map((p) => `${(percentile(late, p) / 1000).toFixed(1)} µs`);
  return name.padEnd(44) + cells.map((cell) => cell.padStart(14)).join('');
}
