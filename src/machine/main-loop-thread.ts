/** What the main-loop worker does: timers, requests, VM start and stop, reset. */
import { registerMemory, setOwnerId } from '@smp86/atomics-sync';
import { CLOCK } from '../timer/clock-state.ts';
import { CodeCache } from '../cpu/tier0/code-cache.ts';
import { Board, COMMAND, COMMAND_BITS, REQUEST } from './board.ts';
import { loadGuest } from './guest-image.ts';
import { IOTHREAD_COMMAND, MOVE } from './iothread.ts';
import { EVENT, RUN_STATE, SERIAL_PORTS, SHUTDOWN_CAUSE } from './layout.ts';
import type { BootFiles, MainLoopData } from './messages.ts';

export class MainLoopThread {
  private readonly board: Board;
  private readonly boot: BootFiles;

  constructor(data: MainLoopData) {
    registerMemory(data.memory);
    setOwnerId(1);
    this.board = new Board(data.memory, data.config, 'main-loop');
    this.boot = data.boot;
    const { mainLoop } = this.board;
    mainLoop.onRequest(REQUEST.RESET, () => this.reset());
    mainLoop.onRequest(REQUEST.POWER_OFF, () => this.end(SHUTDOWN_CAUSE.POWER_OFF));
    mainLoop.onRequest(REQUEST.SERIAL_INPUT, () => {
      for (let port = 0; port < SERIAL_PORTS; port++) this.board.feedSerial(port);
    });
    mainLoop.onRequest(REQUEST.POWER_BUTTON, () => this.board.pm.powerButton());
    mainLoop.onRequest(REQUEST.QUIT, () => this.quit());
    mainLoop.onRequest(REQUEST.NMI, () => this.board.lapics[0].pulseLint1());
    mainLoop.onRequest(REQUEST.DEBUG_EXIT, () => this.stop(RUN_STATE.SHUTDOWN));
    mainLoop.onRequest(REQUEST.COMMAND, (arg) => this.command(arg));
    mainLoop.onRequest(REQUEST.PANIC, () => this.panic());
    mainLoop.onRequest(REQUEST.THROTTLE, () => this.board.throttle.start());
    mainLoop.onRequest(REQUEST.DISKS, () => this.board.storage.poll());
    mainLoop.onRequest(REQUEST.IO_ERROR, () => {
      if (this.board.control.runState.load() === RUN_STATE.RUNNING) this.stop(RUN_STATE.PAUSED);
      this.board.raiseEvent(EVENT.IO_ERROR);
    });
    mainLoop.onRequest(REQUEST.SERIAL_BREAK, (port) => this.board.uarts[port]?.receiveBreak());
  }

  async run(): Promise<void> {
    await this.board.mainLoop.run();
  }

  // --- run state; all under the BQL ---

  private start(): void {
    const { board } = this;
    if (board.control.runState.load() !== RUN_STATE.PAUSED) return;
    board.clocks.enableTicks();
    board.control.runState.store(RUN_STATE.RUNNING);
    board.clocks.clockEnable(CLOCK.VIRTUAL, true);
    board.storage.table.command(IOTHREAD_COMMAND.RESUME);
    board.startVcpus();
  }

  /** Stops clocks, vCPUs and disks. When it returns no vCPU executes guest code, and what was written is stable. */
  private stop(state: number): void {
    const { board } = this;
    if (board.control.runState.load() !== RUN_STATE.RUNNING) {
      board.control.runState.store(state);
      board.raiseEvent(0);
      return;
    }
    board.control.runState.store(state);
    board.clocks.disableTicks();
    board.clocks.clockEnable(CLOCK.VIRTUAL, false);
    board.stopVcpus();
    const { stoppedCpus } = board.control;
    // a vCPU may need the BQL to come to its stop
    board.bql.unlock();
    for (;;) {
      const stopped = stoppedCpus.load();
      if (stopped === board.config.cpus) break;
      stoppedCpus.wait(stopped, Infinity);
    }
    board.bql.lock();
    // no vCPU can ask for more
    board.storage.table.commandAndWait(IOTHREAD_COMMAND.QUIESCE);
    board.raiseEvent(0);
  }

  private reset(): void {
    const { board } = this;
    if (board.config.noReboot) {
      this.end(SHUTDOWN_CAUSE.RESET);
      return;
    }
    const running = board.control.runState.load() === RUN_STATE.RUNNING;
    this.stop(RUN_STATE.PAUSED);
    board.reset();
    loadGuest(board.buffer, board.layout, board.config, this.boot);
    // RAM was written behind the vCPUs' backs; their TLBs are flushed when they reset themselves
    const { codeCache: base, codeCacheSize: size, codeMap } = board.layout;
    CodeCache.clear(board.buffer, { base, size, codeMap });
    board.control.resets.add(1);
    board.raiseEvent(EVENT.RESET);
    if (running) this.start();
  }

  /** The guest is at its end; whether the machine is, the host decides. */
  private end(cause: number): void {
    this.stop(RUN_STATE.SHUTDOWN);
    this.board.control.shutdownCause.store(cause);
    this.board.raiseEvent(EVENT.SHUTDOWN);
  }

  private panic(): void {
    if (this.board.config.panic === 'pause') this.stop(RUN_STATE.PAUSED);
    else this.end(SHUTDOWN_CAUSE.PANIC);
  }

  private command(arg: number): void {
    const { control } = this.board;
    const { table } = this.board.storage;
    const [first, second] = [control.commandFirst.load(), control.commandSecond.load()];
    switch (arg & ((1 << COMMAND_BITS) - 1)) {
      case COMMAND.PAUSE:
        if (control.runState.load() === RUN_STATE.RUNNING) this.stop(RUN_STATE.PAUSED);
        break;
      case COMMAND.RESUME:
        this.start();
        break;
      case COMMAND.RESET:
        this.reset();
        break;
      case COMMAND.OBJECT_ADD:
        table.add(first, control.runState.load() === RUN_STATE.RUNNING);
        break;
      case COMMAND.OBJECT_DEL:
        control.commandResult.store(table.remove(first) ? 1 : 0);
        break;
      case COMMAND.SET_IOTHREAD:
        control.commandResult.store(this.move(first, second));
        break;
    }
    control.commandDone.store(arg >>> COMMAND_BITS);
    this.board.raiseEvent(0);
  }

  private move(drive: number, to: number): number {
    const { table, config } = this.board.storage;
    const result = table.move(drive, to);
    if (result !== MOVE.LOST) return result;
    // a guest that resets the device would wait for ever
    throw new Error(`drive ${config.drives[drive].options.id} can be opened in no iothread any more`);
  }

  private quit(): void {
    const { board } = this;
    this.stop(RUN_STATE.SHUTDOWN);
    board.storage.table.commandAndWait(IOTHREAD_COMMAND.QUIT);
    board.control.quit.store(1);
    board.storage.table.quit();
    for (const s of board.signals) s.kick();
    board.mainLoop.requestStop();
  }
}
