/** What the main-loop worker does: timers, requests, VM start and stop, reset. */
import { registerMemory, setOwnerId } from '@smp86/atomics-sync';
import { CLOCK } from '../timer/clock-state.ts';
import { WORD } from '../cpu/sys/cpu-features.ts';
import { CpuModel } from '../cpu/sys/cpuid.ts';
import { buildAcpiTables } from './acpi-tables.ts';
import { Board, REQUEST } from './board.ts';
import { writeBootState } from './boot-state.ts';
import { loadKernel } from './boot/index.ts';
import { modelSpec } from './config.ts';
import { memoryMap, MP_BASE } from './e820.ts';
import { EVENT, RUN_STATE } from './layout.ts';
import type { BootFiles, MainLoopData } from './messages.ts';
import { buildMpTable } from './mp-table.ts';

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
    mainLoop.onRequest(REQUEST.POWER_OFF, () => this.powerOff());
    mainLoop.onRequest(REQUEST.SERIAL_INPUT, () => this.serialInput());
    mainLoop.onRequest(REQUEST.POWER_BUTTON, () => this.board.pm.powerButton());
    mainLoop.onRequest(REQUEST.PAUSE, () => this.stop(RUN_STATE.PAUSED));
    mainLoop.onRequest(REQUEST.RESUME, () => this.start());
    mainLoop.onRequest(REQUEST.QUIT, () => this.quit());
    mainLoop.onRequest(REQUEST.NMI, () => this.board.lapics[0].pulseLint1());
    mainLoop.onRequest(REQUEST.DEBUG_EXIT, () => this.stop(RUN_STATE.SHUTDOWN));
  }

  /** Loads the guest into RAM and the entry state for vCPU 0. Throws BootError. */
  load(): void {
    const { board, boot } = this;
    const { config, layout } = board;
    const ram = new Uint8Array(board.buffer, layout.ram, config.ram);
    const apicIds = Array.from({ length: config.cpus }, (_, i) => i);
    let rsdp: number | undefined;
    if (config.acpi) {
      const serialPorts = [0x3f8, 0x2f8, 0x3e8, 0x2e8]
        .map((port, i) => ({ port, irq: i % 2 === 0 ? 4 : 3 }))
        .filter((_, i) => config.serial[i]);
      const tables = buildAcpiTables({ apicIds, hpet: config.hpet, serialPorts });
      ram.set(tables.bytes, tables.base);
      rsdp = tables.rsdp;
    }
    const model = new CpuModel(modelSpec(config), config);
    ram.set(buildMpTable({ apicIds, signature: model.signature, features: model.words[WORD.F1D] }), MP_BASE);
    if (boot.kernel === undefined) return;
    const state = loadKernel({
      ram,
      kernel: boot.kernel,
      initrd: boot.initrd,
      modules: boot.modules,
      append: boot.append,
      kernelName: boot.kernelName,
      e820: memoryMap(config.ram),
      rsdp,
    });
    writeBootState(board.buffer, layout.bootState, state);
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
    board.startVcpus();
  }

  /** Stops clocks and vCPUs. When it returns no vCPU executes guest code. */
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
    board.raiseEvent(0);
  }

  private reset(): void {
    const { board } = this;
    if (board.config.noReboot) {
      board.control.events.or(EVENT.RESET);
      this.powerOff();
      return;
    }
    const running = board.control.runState.load() === RUN_STATE.RUNNING;
    this.stop(RUN_STATE.PAUSED);
    board.reset();
    this.load();
    board.memoryWritten(board.layout.ram, 0);
    board.control.resets.add(1);
    board.raiseEvent(EVENT.RESET);
    if (running) this.start();
  }

  private powerOff(): void {
    this.stop(RUN_STATE.SHUTDOWN);
    this.board.raiseEvent(EVENT.SHUTDOWN);
  }

  private quit(): void {
    const { board } = this;
    this.stop(RUN_STATE.SHUTDOWN);
    board.control.quit.store(1);
    for (const s of board.signals) s.kick();
    board.mainLoop.requestStop();
  }

  private serialInput(): void {
    const { board } = this;
    board.uarts.forEach((uart, i) => {
      if (uart === undefined) return;
      while (uart.canReceive() > 0) {
        const byte = board.serialIn[i].readByte();
        if (byte < 0) return;
        uart.receive(byte);
      }
    });
  }
}
