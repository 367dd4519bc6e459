/**
 * A machine, as the library's user sees it. Lives in the host thread, which never takes the big lock: it sets
 * things up, posts requests to the main loop, moves bytes between the serial rings and streams, and hears of events
 * through a word in shared memory.
 */
import { Worker } from 'node:worker_threads';
import { keepAlive, registerMemory, setOwnerId } from '@smp86/atomics-sync';
import type { MachineOptions } from '../cli/machine-options.ts';
import { allSemantics } from '../cpu/sem/index.ts';
import { CodeCache } from '../cpu/tier0/code-cache.ts';
import { buildTier0 } from '../cpu/tier0/build.ts';
import { Board, REQUEST } from './board.ts';
import { readBootFiles } from './boot/files.ts';
import type { MachineConfig } from './config.ts';
import { helperId } from './helpers.ts';
import { EVENT, machineLayout } from './layout.ts';
import type { BootFiles, MainLoopData, VcpuData, WorkerMessage } from './messages.ts';
import { SerialPort } from './serial-port.ts';

function threadUrl(name: string): URL {
  // in a checkout the sources run as they are; the package ships JavaScript beside this file
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return new URL(`../../threads/${name}.${extension}`, import.meta.url);
}

/** How a machine ended. */
export interface MachineExit {
  readonly reason: 'shutdown' | 'debug-exit' | 'quit';
  /** Exit status for a command: 0, or what isa-debug-exit asked for. */
  readonly status: number;
}

export class Machine {
  readonly serial: readonly (SerialPort | undefined)[];
  private readonly board: Board;
  private readonly workers: Worker[];
  private readonly ended = Promise.withResolvers<MachineExit>();
  private closing = false;
  /** Resolves when the machine has ended. */
  readonly exit: Promise<MachineExit> = this.ended.promise;

  private constructor(board: Board, workers: Worker[]) {
    this.board = board;
    this.workers = workers;
    this.serial = board.config.serial.map((exists, i) =>
      exists
        ? new SerialPort(board.serialOut[i], board.serialIn[i], () => this.post(REQUEST.SERIAL_INPUT))
        : undefined,
    );
    void keepAlive(this.watch());
  }

  /** Builds a machine and starts it. *Errors:* BootError, MemoryMapError, CpuModelError. */
  static async create(options: MachineOptions): Promise<Machine> {
    const config = configOf(options);
    const boot = bootFiles(options);
    const layout = machineLayout({ cpus: config.cpus, ram: config.ram });
    const memory = new WebAssembly.Memory({ initial: layout.pages, maximum: layout.pages, shared: true });
    registerMemory(memory);
    setOwnerId(-1);
    const board = new Board(memory, config, 'create');
    const now = rtcNow(options);
    board.powerOn(Math.floor(now / 1000), (now % 1000) * 1e6);
    CodeCache.init(board.buffer, {
      base: layout.codeCache,
      size: layout.codeCacheSize,
      codeMap: layout.codeMap,
    });
    board.stopVcpus();
    board.control.resets.store(1);

    const tier0 = buildTier0({ memoryPages: layout.pages, semantics: allSemantics, helperId });
    const module = new WebAssembly.Module(tier0.bytes);
    const table = tier0.handlers.table();
    const workers: Worker[] = [];
    const start = (name: string, workerData: MainLoopData | VcpuData): Promise<void> => {
      const worker = new Worker(threadUrl(name), { workerData, name });
      workers.push(worker);
      return started(worker);
    };
    const machine = new Machine(board, workers);
    try {
      const threads = [start('main-loop', { memory, config, boot })];
      const all = Array.from({ length: config.cpus }, (_, i) => i);
      for (const indices of config.accel === 'single' ? [all] : all.map((i) => [i])) {
        threads.push(start('vcpu', { memory, config, module, table, indices }));
      }
      await Promise.all(threads);
    } catch (error) {
      await machine.terminate();
      throw error;
    }
    for (const worker of workers) worker.on('error', (error: unknown) => machine.failed(error));
    machine.post(REQUEST.RESUME);
    return machine;
  }

  private post(kind: number): void {
    this.board.mainLoop.post(kind);
  }
  pause(): void {
    this.post(REQUEST.PAUSE);
  }
  resume(): void {
    this.post(REQUEST.RESUME);
  }
  reset(): void {
    this.post(REQUEST.RESET);
  }
  /** Presses the power button. */
  powerdown(): void {
    this.post(REQUEST.POWER_BUTTON);
  }
  /** Ends the machine at once. Resolves when its threads are gone. */
  async quit(): Promise<void> {
    await this.close({ reason: 'quit', status: 0 });
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.quit();
  }

  private failed(error: unknown): void {
    this.ended.reject(error);
    void this.terminate();
  }
  private async close(exit: MachineExit): Promise<void> {
    if (this.closing) return void (await this.exit);
    this.closing = true;
    this.post(REQUEST.QUIT);
    const gone = Promise.all(
      this.workers.map((w) => new Promise<void>((resolve) => w.once('exit', () => resolve()))),
    );
    const timer = setTimeout(() => void this.terminate(), 2000);
    await gone;
    clearTimeout(timer);
    for (const port of this.serial) port?.close();
    this.ended.resolve(exit);
  }
  private async terminate(): Promise<void> {
    await Promise.all(this.workers.map((w) => w.terminate()));
  }

  /** Waits for events of the guest and acts on them. */
  private async watch(): Promise<void> {
    const { control } = this.board;
    for (;;) {
      const seq = control.eventSeq.load();
      const pending = control.serialPending.exchange(0);
      this.serial.forEach((port, i) => {
        if ((pending >> i) & 1) port?.drain();
      });
      const events = control.events.exchange(0);
      if (events & EVENT.DEBUG_EXIT) {
        return await this.close({ reason: 'debug-exit', status: control.exitStatus.load() & 255 });
      }
      if (events & EVENT.SHUTDOWN) return await this.close({ reason: 'shutdown', status: 0 });
      if (this.closing) return;
      const waited = control.eventSeq.waitAsync(seq, Infinity);
      if (typeof waited !== 'number') await waited;
    }
  }
}

function started(worker: Worker): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.once('message', (message: WorkerMessage) => {
      if (message.type === 'ready') resolve();
      else reject(Object.assign(new Error(message.message), { code: message.code }));
    });
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`a worker ended with ${code} before it was ready`)));
  });
}

function configOf(options: MachineOptions): MachineConfig {
  const { smp } = options;
  return {
    cpus: smp.cpus,
    sockets: smp.sockets,
    dies: 1,
    cores: smp.cores,
    threads: smp.threads,
    ram: options.memory,
    hpet: options.machine.hpet,
    acpi: options.machine.acpi,
    rtc: { clock: options.rtc.clock },
    serial: [0, 1, 2, 3].map((i) => (options.serial[i] ?? null) !== null),
    debugExits: options.devices.flatMap((d) => (d.driver === 'isa-debug-exit' ? [d] : [])),
    cpu: options.cpu,
    accel: options.accel.thread,
    noReboot: options.actions.reboot === 'shutdown',
  };
}

function bootFiles(options: MachineOptions): BootFiles {
  if (options.kernel === undefined) return {};
  const files = readBootFiles({ kernel: options.kernel, initrd: options.initrd });
  return { ...files, append: options.append };
}

/** Guest time of day at start, ms since 1970. */
function rtcNow(options: MachineOptions): number {
  const { base } = options.rtc;
  if (base.type === 'date') return base.seconds * 1000;
  const now = Date.now();
  return base.type === 'localtime' ? now - new Date(now).getTimezoneOffset() * 60_000 : now;
}
