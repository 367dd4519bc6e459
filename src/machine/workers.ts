/** The threads of a machine, as the host thread sees them. */
import { MessageChannel, Worker } from 'node:worker_threads';
import type { BlockHelperData } from '../block/helpers/worker.ts';
import type { JitReport } from '../jit/info.ts';
import { workerEnvironment } from './compile-cache.ts';
import { MachineError } from './errors.ts';
import type { IothreadData, JitData, MainLoopData, VcpuData, WorkerMessage } from './messages.ts';

/** How long threads may take to end by themselves, ms; and with disks, whose caches are written back first. */
const END_TIMEOUT = 2000;
const END_TIMEOUT_WITH_DISKS = 60_000;

function threadUrl(name: string): URL {
  // in a checkout the sources run as they are; the package ships JavaScript beside this file
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return new URL(`../../threads/${name}.${extension}`, import.meta.url);
}

/** A thread that has been started. */
export interface StartedThread {
  /** Resolves when it runs. */
  readonly ready: Promise<void>;
  /** It is about to be told to end, which is no failure then: resolves when it is gone. */
  leave(): Promise<void>;
  /** It does not end after all. */
  stay(): void;
}

/**
 * For new objects of threads that make few, MB. They fill it with garbage: with V8's own figure all heaps of a guest with two
 * vCPUs had 340 MB after half an hour of load, with this 230 MB.
 */
const YOUNG_MB = 6;

/** *Thread:* host. */
export class MachineWorkers {
  private readonly workers: Worker[] = [];
  private readonly starting: Promise<void>[] = [];
  private readonly ended: Promise<void>[] = [];
  /** Threads that are to end before the machine does. */
  private readonly leaving = new Set<Worker>();
  private readonly failed: (error: Error) => void;
  private ending = false;
  private jit: Worker | undefined;
  private disks = false;
  /** All vCPUs that have started run optimised code. */
  optimised = true;

  /** `failed` is called when a thread dies before `end`. */
  constructor(failed: (error: Error) => void) {
    this.failed = failed;
  }

  start(name: 'main-loop', data: MainLoopData): StartedThread;
  start(name: 'vcpu', data: VcpuData): StartedThread;
  start(name: 'jit', data: JitData): StartedThread;
  start(name: 'iothread', data: IothreadData): StartedThread;
  start(name: 'block-helper', data: BlockHelperData): StartedThread;
  start(
    name: string,
    workerData: MainLoopData | VcpuData | JitData | IothreadData | BlockHelperData,
  ): StartedThread {
    if (this.ending) throw new MachineError('ERR_MACHINE_ENDED', 'the machine has ended');
    if (name === 'iothread') this.disks = true;
    const transferList =
      'ports' in workerData
        ? [...workerData.ports]
        : 'jit' in workerData && workerData.jit
          ? [workerData.jit.port]
          : [];
    const worker = new Worker(threadUrl(name), {
      workerData,
      name,
      transferList,
      env: workerEnvironment(),
      ...(name === 'vcpu' || name === 'main-loop'
        ? { resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB } }
        : {}),
    });
    this.workers.push(worker);
    if (name === 'jit') this.jit = worker;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const fail = (cause: unknown, reason: string): void => {
      const error = new MachineError('ERR_MACHINE_THREAD', `thread ${name}: ${reason}`, { cause });
      reject(error);
      if (!this.ending && !this.leaving.has(worker)) this.failed(error);
    };
    worker.once('message', (message: WorkerMessage) => {
      if (message.optimised === false) this.optimised = false;
      resolve();
    });
    worker.on('error', (error) => fail(error, error instanceof Error ? error.message : String(error)));
    const ended = new Promise<void>((gone) => {
      worker.once('exit', (code) => {
        fail(undefined, `ended with code ${code}`);
        gone();
      });
    });
    this.ended.push(ended);
    promise.catch(() => {});
    this.starting.push(promise);
    return {
      ready: promise,
      leave: () => this.leave(worker, promise, ended),
      stay: () => this.leaving.delete(worker),
    };
  }

  private async leave(worker: Worker, ready: Promise<void>, ended: Promise<void>): Promise<void> {
    this.leaving.add(worker);
    await ended;
    this.leaving.delete(worker);
    for (const [list, item] of [
      [this.workers, worker],
      [this.starting, ready],
      [this.ended, ended],
    ] as const) {
      (list as unknown[]).splice((list as unknown[]).indexOf(item), 1);
    }
  }

  /** Resolves when all have started. *Errors:* MachineError. */
  async ready(): Promise<void> {
    await Promise.all(this.starting);
  }

  /** What tier 1 has done; undefined when there is no JIT worker (any more). */
  async jitReport(): Promise<JitReport | undefined> {
    if (this.jit === undefined) return undefined;
    const { port1, port2 } = new MessageChannel();
    return await new Promise((resolve) => {
      port1.once('message', resolve);
      // also when the worker ends without an answer
      port1.once('close', () => resolve(undefined));
      this.jit?.postMessage(port2, [port2]);
    });
  }

  /** Waits until the threads have ended, as they were told; ends them by force when that takes long, or at once. */
  async end(force: boolean): Promise<void> {
    this.ending = true;
    const terminate = (): void => {
      for (const worker of this.workers) void worker.terminate();
    };
    if (force) terminate();
    const timer = setTimeout(terminate, this.disks ? END_TIMEOUT_WITH_DISKS : END_TIMEOUT);
    await Promise.all(this.ended);
    clearTimeout(timer);
  }
}
