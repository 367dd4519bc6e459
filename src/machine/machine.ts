/**
 * A machine, as the library's user sees it. Lives in the host thread, which never takes the big lock: it sets
 * things up, posts requests to the main loop, moves bytes between rings and streams, and hears of events through
 * a word in shared memory.
 */
import { EventEmitter } from 'node:events';
import { availableParallelism } from 'node:os';
import { MessageChannel } from 'node:worker_threads';
import { keepAlive } from '@smp86/atomics-sync';
import { BlockJobs } from '../block/helpers/jobs.ts';
import { parseOptions } from '../cli/options.ts';
import type { RegionInfo } from '../jit/compiler.ts';
import { formatJitInfo, type JitInfo, regionUse } from '../jit/info.ts';
import { CLOCK } from '../timer/clock-state.ts';
import { type Board, COMMAND, COMMAND_BITS, REQUEST } from './board.ts';
import type { MachineCreateOptions } from './create-options.ts';
import type { IothreadOptions } from './drive-options.ts';
import { MachineError } from './errors.ts';
import { IothreadObjects, type IothreadStart } from './iothread-objects.ts';
import { Log } from './log.ts';
import { EVENT, RUN_STATE, SERIAL_PORTS, SHUTDOWN_CAUSE } from './layout.ts';
import type { ActionOptions } from './machine-options.ts';
import { type MachineSetup, setUpMachine } from './machine-setup.ts';
import { SerialPort } from './serial-port.ts';
import { interpreterModule } from './tier0-module.ts';
import { MachineWorkers, type StartedThread } from './workers.ts';

/** How a machine ended. */
export interface MachineExit {
  /**
   * The guest powered off, or rebooted where that ends the machine, or panicked where that does; it wrote to
   * isa-debug-exit; or `quit` was called.
   */
  readonly reason: ShutdownReason | 'debug-exit' | 'quit';
  /** Exit status for a command. */
  readonly status: number;
}
export type ShutdownReason = 'shutdown' | 'reset' | 'panic';
export type MachineState = 'paused' | 'running' | 'shutdown' | 'ended';

export interface MachineEvents {
  /** The guest is at its end. With the action `shutdown: 'pause'` the machine stays. */
  shutdown: [ShutdownReason];
  /** The guest was reset. */
  reset: [];
  /** The guest said through pvpanic that it panicked. */
  panic: [];
  /** A disk's error has stopped the machine (`werror=`, `rerror=`); `resume` does the request again. */
  ioError: [];
}

const REASONS: Readonly<Record<number, ShutdownReason>> = {
  [SHUTDOWN_CAUSE.POWER_OFF]: 'shutdown',
  [SHUTDOWN_CAUSE.RESET]: 'reset',
  [SHUTDOWN_CAUSE.PANIC]: 'panic',
};
const STATES: Readonly<Record<number, MachineState>> = {
  [RUN_STATE.PAUSED]: 'paused',
  [RUN_STATE.RUNNING]: 'running',
  [RUN_STATE.SHUTDOWN]: 'shutdown',
};
/** Calls of disks that may be under way at a time in a machine, at most. */
const MAX_BLOCK_HELPERS = 4;
const MAX_SEQUENCE = 2 ** (31 - COMMAND_BITS) - 1;

interface PendingCommand {
  readonly sequence: number;
  readonly done: (result: number) => void;
  readonly failed: (error: Error) => void;
}

/** What is let go when the machine ends. */
interface Parts {
  readonly board: Board;
  readonly workers: MachineWorkers;
  readonly setup: MachineSetup;
}

export class Machine extends EventEmitter<MachineEvents> implements AsyncDisposable {
  /** COM1 to COM4. */
  readonly serial: readonly (SerialPort | undefined)[];
  /** Debug consoles in the order of their devices. */
  readonly debugConsoles: readonly SerialPort[];
  /** What smp86 could not give although it was asked for; one line each. */
  readonly warnings: readonly string[];
  /** Resolves when the machine has ended and nothing of it is left. Rejects with MachineError when it failed. */
  readonly exit: Promise<MachineExit>;
  readonly #exit = Promise.withResolvers<MachineExit>();
  readonly #actions: ActionOptions;
  #parts: Parts | undefined;
  #closing: Promise<void> | undefined;
  #started = false;
  #optimised = false;
  #objects: IothreadObjects | undefined;
  #jobs: BlockJobs | undefined;
  #finished = false;
  #command: PendingCommand | undefined;
  #commands: Promise<unknown> = Promise.resolve();
  #sequence = 0;
  #instructions: number | undefined;
  #virtualTime = 0;

  private constructor(setup: MachineSetup) {
    super();
    const { board, options } = setup;
    const workers = new MachineWorkers((error) => this.#failed(error));
    this.#parts = { board, workers, setup };
    this.#actions = options.actions;
    this.warnings = setup.warnings;
    this.exit = this.#exit.promise;
    // whoever does not ask how it ended does not want to hear it either
    this.exit.catch(() => {});
    const post = (kind: number, arg = 0): void => this.#parts?.board.mainLoop.post(kind, arg);
    // with icount a vCPU waits for room in the ring
    const outputTaken = board.config.icount === undefined ? () => {} : () => board.signals[0].kick();
    this.serial = board.uarts.map((uart, i) =>
      uart === undefined
        ? undefined
        : new SerialPort({
            fromGuest: board.serialOut[i],
            toGuest: board.serialIn[i],
            outputTaken,
            inputArrived: () => post(REQUEST.SERIAL_INPUT),
            sendBreak: () => post(REQUEST.SERIAL_BREAK, i),
          }),
    );
    this.debugConsoles = board.debugConOut.map(
      (fromGuest) => new SerialPort({ fromGuest, outputTaken, inputArrived: () => {}, sendBreak: () => {} }),
    );
    setup.files.attach([...this.serial, ...this.debugConsoles]);
    void keepAlive(this.#watch());
  }

  /**
   * Builds a machine and starts it. A mistake in the options is found before any thread is started.
   * *Errors:* OptionError, BootError; what `signal` was aborted with.
   */
  static async create(options: MachineCreateOptions = {}): Promise<Machine> {
    const { signal, paused = false, onWarning } = options;
    signal?.throwIfAborted();
    const machine = new Machine(await setUpMachine(options));
    if (onWarning !== undefined) machine.warnings.forEach((warning) => onWarning(warning));
    const abort = (): void => void machine.quit();
    signal?.addEventListener('abort', abort);
    void machine.exit.catch(() => {}).then(() => signal?.removeEventListener('abort', abort));
    try {
      await machine.#start();
      signal?.throwIfAborted();
      if (!paused) await machine.resume();
    } catch (error) {
      await machine.quit();
      throw signal?.aborted === true ? signal.reason : error;
    }
    return machine;
  }

  async #start(): Promise<void> {
    const { setup, workers } = this.#running();
    const { memory, config, boot } = setup;
    const { module, table, firstRegion } = interpreterModule(
      setup.board.layout.pages,
      config.icount !== undefined,
    );
    workers.start('main-loop', { memory, config, boot });
    this.#objects = new IothreadObjects({
      storage: config.storage,
      names: setup.options.objects.flatMap(({ type, id }) => (type === 'iothread' ? [id] : [])),
      places: setup.board.storage.table.iothreads.length,
      start: (data) => this.#startIothread(data),
      command: (command, first, second) => this.#do(command, first, second),
    });
    const all = Array.from({ length: config.cpus }, (_, i) => i);
    const groups = config.accel === 'single' ? [all] : all.map((i) => [i]);
    const channels = config.jit ? groups.map(() => new MessageChannel()) : [];
    groups.forEach((indices, i) => {
      const jit = config.jit ? { port: channels[i].port1, firstRegion } : undefined;
      workers.start('vcpu', { memory, config, module, table, indices, jit });
    });
    if (config.jit) {
      workers.start('jit', {
        memory,
        config,
        module,
        table,
        firstRegion,
        ports: channels.map((c) => c.port2),
      });
    }
    await workers.ready();
    this.#optimised = workers.optimised;
    this.#started = true;
  }

  /** With the first one, the block helpers. */
  #startIothread(data: IothreadStart): StartedThread {
    const { setup, workers } = this.#running();
    const { memory, config, board } = setup;
    const { iothreads } = board.storage.table;
    if (this.#jobs === undefined) {
      this.#jobs = BlockJobs.create(iothreads.length);
      const jobs = this.#jobs.buffer;
      const notifiers = iothreads.map((iothread) => iothread.groupNotifier.address);
      const helpers = Math.min(availableParallelism(), MAX_BLOCK_HELPERS);
      for (let i = 0; i < helpers; i++) workers.start('block-helper', { memory, jobs, notifiers });
    }
    this.#jobs.enter();
    return workers.start('iothread', { memory, config, jobs: this.#jobs.buffer, ...data });
  }

  /** Runs until the end and gives the exit status for a command. */
  async run(): Promise<number> {
    return (await this.exit).status;
  }

  /** The interpreter of every vCPU is code from V8's optimising compiler, not from its baseline compiler. */
  get optimised(): boolean {
    return this.#optimised;
  }

  /** Regions of tier 1 that there are now; none when it is off, or the machine has ended. */
  async regions(): Promise<RegionInfo[]> {
    return (await this.#parts?.workers.jitReport())?.regions ?? [];
  }
  /** Statistics of tier 1, for `formatJitInfo`; undefined when it is off, or the machine has ended. */
  async jitInfo(): Promise<JitInfo | undefined> {
    const report = await this.#parts?.workers.jitReport();
    const board = this.#parts?.board;
    if (report === undefined || board === undefined) return undefined;
    return { ...report, use: regionUse(board.buffer, board.layout.vcpus, board.config.cpus) };
  }

  get state(): MachineState {
    return this.#parts === undefined ? 'ended' : STATES[this.#parts.board.control.runState.load()];
  }

  /** Stops vCPUs and clocks; resolves when no vCPU executes guest code any more. *Errors:* MachineError. */
  async pause(): Promise<void> {
    await this.#do(COMMAND.PAUSE);
  }
  /** Lets the guest go on. *Errors:* MachineError, ERR_MACHINE_STATE after the guest's shutdown. */
  async resume(): Promise<void> {
    await this.#do(COMMAND.RESUME);
  }
  /** Resets the machine; a paused one, and one whose guest has shut down, is paused then. *Errors:* MachineError. */
  async reset(): Promise<void> {
    await this.#do(COMMAND.RESET);
  }
  /** Presses the power button. What follows is up to the guest. */
  powerdown(): void {
    this.#parts?.board.mainLoop.post(REQUEST.POWER_BUTTON);
  }
  /** Raises a non-maskable interrupt at the first vCPU. */
  nmi(): void {
    this.#parts?.board.mainLoop.post(REQUEST.NMI);
  }
  /** Instructions that the guest has executed; with icount only, and exact while the machine does not run. */
  get instructions(): number | undefined {
    return this.#parts?.board.clocks.icount?.instructions ?? this.#instructions;
  }
  /** Guest time (VIRTUAL) in ns since the start; it stands still while the machine is stopped. */
  get virtualTime(): number {
    return this.#parts?.board.clocks.now(CLOCK.VIRTUAL) ?? this.#virtualTime;
  }
  /** Percentage of the time for which each vCPU is made to sleep; 0: none. */
  get throttle(): number {
    return this.#parts?.board.throttle.percent ?? 0;
  }
  /**
   * Slows the guest down: each vCPU sleeps for `percent` of the time, brought to 1 … 99; 0 ends it. It takes effect
   * within one period, 10 ms to 1 s. *Errors:* RangeError for what is no number.
   */
  setThrottle(percent: number): void {
    if (!Number.isFinite(percent)) throw new RangeError(`throttle ${percent}`);
    const { board } = this.#running();
    board.throttle.set(percent);
    board.mainLoop.post(REQUEST.THROTTLE);
  }
  /** Ids of the machine's iothread objects. */
  get iothreads(): string[] {
    return this.#objects?.names ?? [];
  }
  /**
   * Makes an iothread while the machine runs or is paused: `-object` syntax (`'iothread,id=io1'`), or in full.
   * *Errors:* OptionError; MachineError ERR_MACHINE_OBJECT when its id is taken, or all places are.
   */
  async objectAdd(object: string | IothreadOptions): Promise<void> {
    const [options] = typeof object === 'string' ? parseOptions(['-object', object]).objects : [object];
    if (options.type !== 'iothread') {
      throw new MachineError(
        'ERR_MACHINE_OBJECT',
        `object '${options.type}': only with the machine's creation`,
      );
    }
    await this.#iothreads().add(options);
  }
  /** Ends an iothread. *Errors:* MachineError ERR_MACHINE_OBJECT, ERR_MACHINE_BUSY when a drive lives in it. */
  async objectDel(id: string): Promise<void> {
    await this.#iothreads().del(id);
  }
  /**
   * Moves a drive to an iothread, while the guest uses it; null: to that of drives for which none is named. QEMU's
   * x-blockdev-set-iothread. *Errors:* MachineError ERR_MACHINE_OBJECT; ERR_MACHINE_BUSY for what cannot move now.
   */
  async setIothread(drive: string, iothread: string | null): Promise<void> {
    await this.#iothreads().move(drive, iothread);
  }
  #iothreads(): IothreadObjects {
    this.#running();
    if (this.#objects === undefined) throw new MachineError('ERR_MACHINE_STATE', 'the machine is starting');
    return this.#objects;
  }
  /** Ends the machine, whatever the guest does. Resolves when its threads are gone. */
  async quit(): Promise<void> {
    await this.#close({ reason: 'quit', status: 0 });
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.quit();
  }

  #running(): Parts {
    if (this.#parts === undefined || this.#closing !== undefined) {
      throw new MachineError('ERR_MACHINE_ENDED', 'the machine has ended');
    }
    return this.#parts;
  }

  /** Has the main loop do something; one after the other. Gives the result, of commands that have one. */
  #do(command: number, first = 0, second = 0): Promise<number> {
    const result = this.#commands.then(() => {
      const { board } = this.#running();
      if (command === COMMAND.RESUME && this.state === 'shutdown') {
        throw new MachineError('ERR_MACHINE_STATE', 'the guest has shut down: reset the machine first');
      }
      const sequence = (this.#sequence % MAX_SEQUENCE) + 1;
      this.#sequence = sequence;
      board.control.commandFirst.store(first);
      board.control.commandSecond.store(second);
      return new Promise<number>((done, failed) => {
        this.#command = { sequence, done, failed };
        board.mainLoop.post(REQUEST.COMMAND, (sequence << COMMAND_BITS) | command);
      });
    });
    this.#commands = result.catch(() => {});
    return result;
  }

  #failed(error: Error): void {
    if (this.#closing !== undefined) return;
    this.#exit.reject(error);
    this.#closing = this.#release(true);
  }
  #close(exit: MachineExit): Promise<void> {
    this.#closing ??= this.#release(false).then(() => this.#exit.resolve(exit));
    return this.#closing;
  }

  /** Ends the threads and lets everything go. */
  async #release(force: boolean): Promise<void> {
    const parts = this.#parts;
    if (parts === undefined) return;
    const { board, workers, setup } = parts;
    const log = new Log(setup.config.log);
    if (!force && this.#started && log.has('jit')) {
      const info = await this.jitInfo();
      if (info !== undefined) log.write(formatJitInfo(info));
    }
    board.mainLoop.post(REQUEST.QUIT);
    this.#jobs?.leave();
    // threads that are still starting hear of it only much later
    await workers.end(force || !this.#started);
    this.#finished = true;
    board.raiseEvent(0); // ends #watch
    for (const port of [...this.serial, ...this.debugConsoles]) port?.finish();
    await setup.files.finished();
    setup.closeLog();
    this.#command?.failed(new MachineError('ERR_MACHINE_ENDED', 'the machine has ended'));
    this.#command = undefined;
    this.#instructions = this.instructions;
    this.#virtualTime = this.virtualTime;
    this.#parts = undefined;
  }

  /** Waits for events of the guest and acts on them. */
  async #watch(): Promise<void> {
    const { board } = this.#running();
    const { control } = board;
    while (!this.#finished) {
      const sequence = control.eventSeq.load();
      const pending = control.serialPending.exchange(0);
      if (pending !== 0) this.#drain(pending);
      const events = control.events.exchange(0);
      if (events !== 0) this.#happened(events, board);
      if (this.#command?.sequence === control.commandDone.load()) {
        this.#command.done(control.commandResult.load());
        this.#command = undefined;
      }
      const waited = control.eventSeq.waitAsync(sequence);
      if (typeof waited !== 'number') await waited;
    }
  }

  #drain(pending: number): void {
    this.serial.forEach((port, i) => {
      if ((pending >> i) & 1) port?.drain();
    });
    this.debugConsoles.forEach((port, i) => {
      if ((pending >> (SERIAL_PORTS + i)) & 1) port.drain();
    });
  }

  #happened(events: number, { control }: Board): void {
    // listeners run on their own, so that a mistake in one is not taken for one of the machine
    if (events & EVENT.PANIC) process.nextTick(() => this.emit('panic'));
    if (events & EVENT.IO_ERROR) process.nextTick(() => this.emit('ioError'));
    if (events & EVENT.RESET) process.nextTick(() => this.emit('reset'));
    if (events & EVENT.DEBUG_EXIT) {
      void this.#close({ reason: 'debug-exit', status: control.exitStatus.load() & 255 });
    }
    if ((events & EVENT.SHUTDOWN) === 0) return;
    const reason = REASONS[control.shutdownCause.load()];
    process.nextTick(() => this.emit('shutdown', reason));
    if (this.#actions.shutdown === 'pause') return;
    const status = reason === 'panic' && this.#actions.panic === 'exit-failure' ? 1 : 0;
    void this.#close({ reason, status });
  }
}
