/** Takes the figures, ours and the C program's in turn. */
import { AtomicI32, Event, registerMemory } from '@smp86/atomics-sync';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { Bench } from 'tinybench';
import type { Native } from './native.ts';
import { armed, AT, CONTENDED_AT, CONTENDED_LIMITS, MEMORY, operations } from './operations.ts';
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

const CONTENDED: readonly { op: ContendedOp; name: string; native?: string; n: number }[] = [
  { op: 'add', name: 'atomic add, two threads', native: 'contended-add', n: 1_000_000 },
  { op: 'mutex', name: 'mutex lock and unlock, two threads', native: 'contended-mutex', n: 300_000 },
  { op: 'spin', name: 'spin lock lock and unlock, two threads', n: 300_000 },
  {
    op: 'timer-mod',
    name: 'timer mod, two threads, one list of 1000',
    native: 'contended-timer-mod',
    n: 100_000,
  },
];

/** Two threads at once. */
export async function contended(native: Native | undefined, settings: Settings): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const { op, name, native: command, n } of CONTENDED) {
    const ours = async (): Promise<number> => {
      const { memory, buffer } = newMemory();
      armed(buffer, CONTENDED_AT, CONTENDED_LIMITS.maxTimers);
      const workers = [0, 1].map(() => start(memory, { role: 'contend', op, n }));
      await Promise.all(workers.map((worker) => once(worker, 'message')));
      const ends = Promise.all(workers.map((worker) => once(worker, 'exit')));
      const go = new AtomicI32(buffer, AT.GO);
      const began = performance.now();
      go.store(1);
      go.notify();
      await ends;
      return ((performance.now() - began) * 1e6) / (2 * n);
    };
    const theirs = native && command ? () => native.ns(command, n) : undefined;
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

/** A 1 kHz timer, on a host without and with two busy threads. */
export async function timerLateness(native: Native | undefined, settings: Settings): Promise<Lateness[]> {
  const results: Lateness[] = [];
  for (const busy of [0, 2]) {
    const host = newMemory();
    const stop = new AtomicI32(host.buffer, AT.GO);
    const load = Array.from({ length: busy }, () => start(host.memory, { role: 'busy' }));
    await sleep(busy === 0 ? 0 : 300);
    const name = busy === 0 ? 'idle' : `${busy} busy vCPUs`;
    const add = (who: string, late: readonly number[]): void => {
      const result = { name: `${who}, ${name}`, late: [...late].sort((a, b) => a - b) };
      settings.say(latenessLine(result));
      results.push(result);
    };
    const worker = start(newMemory().memory, { role: 'lateness', n: settings.expiries });
    const [late] = (await once(worker, 'message')) as [number[]];
    add('smp86', late);
    if (native !== undefined) add('C', await native.list('lateness', settings.expiries));
    stop.store(1);
    await Promise.all(load.map((thread) => once(thread, 'exit')));
  }
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
