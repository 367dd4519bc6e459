/** What a vCPU worker does: builds its board and vCPUs, then executes until told to quit. */
import { opsFor, registerMemory, setOwnerId } from '@smp86/atomics-sync';
import { Cpu, type ApicHooks } from '../cpu/sys/cpu.ts';
import { CpuModel } from '../cpu/sys/cpuid.ts';
import { KIND } from '../cpu/sys/exceptions.ts';
import type { Lapic } from '../hw/intc/lapic.ts';
import type { Icount, IcountOptions } from '../timer/icount.ts';
import { lapicMsrNeedsLock } from '../hw/intc/lapic-state.ts';
import { RegionClient, regionImports } from '../jit/client.ts';
import { Board, REQUEST } from './board.ts';
import { applyBootState, readBootState } from './boot-state.ts';
import { modelSpec } from './config.ts';
import { CPU_WORK } from './cpu-work.ts';
import { describeControl, describeDelivery, dumpCpu } from './cpu-dump.ts';
import { ExecLog } from './exec-log.ts';
import { HaltPoll } from './halt-poll.ts';
import { HELPER_TRAITS, helperTable, YIELDING_TRAITS } from './helpers.ts';
import { IcountRunner } from './icount-runner.ts';
import { Log } from './log.ts';
import type { VcpuData } from './messages.ts';
import { seededRandom } from './seeded-random.ts';
import { isOptimised, tierUp } from './tier-up.ts';
import { type Pause, Vcpu } from './vcpu.ts';
import { VcpuWorker } from './vcpu-worker.ts';

const MSR_APIC_BASE = 0x1b;
const MSR_TSC_DEADLINE = 0x6e0;

export class VcpuThread {
  /** The interpreter's main loop is optimised code. */
  readonly optimised: boolean;
  private readonly board: Board;
  private readonly vcpus: readonly Vcpu[];
  private readonly resetsSeen: number[] = [];
  private readonly log: Log;
  private readonly execLog: ExecLog | undefined;

  constructor(data: VcpuData) {
    registerMemory(data.memory);
    setOwnerId(2 + data.indices[0]);
    const board = new Board(data.memory, data.config, 'vcpu', data.indices);
    this.board = board;
    this.log = new Log(data.config.log);
    const { exclusive } = board;
    const worker = new VcpuWorker(board, exclusive, data.table, helperTable(), {
      // with icount PAUSE takes the same way whatever the number of vCPUs
      ...(data.indices.length > 1 || data.config.icount !== undefined ? YIELDING_TRAITS : HELPER_TRAITS),
      countsJumps: data.jit !== undefined,
    });
    this.execLog = ExecLog.of(this.log, data.table);
    worker.log = this.execLog;
    const model = new CpuModel(modelSpec(data.config), data.config);
    this.vcpus = data.indices.map(
      (index) =>
        new Vcpu(worker, index, {
          mem: board.mem,
          ports: {
            read: (port, size) =>
              board.ports.readUnlocked(port, size) ?? board.bql.with(() => board.ports.read(port, size)),
            write: (port, size, value) => {
              if (board.ports.doorbell(port, size, value)) return;
              board.bql.with(() => board.ports.write(port, size, value));
            },
          },
          apic: apicHooks(board, board.lapics[index], () => this.cpu(index)),
          clock: { readTsc: (out) => board.clocks.readTsc(out) },
          model,
          codeCache: worker.codeCache,
          counting: data.config.icount !== undefined,
          exclusive: (begin) => (begin ? exclusive.start(index) : exclusive.end(index)),
        }),
    );
    board.cpuWork.callbacks.register(CPU_WORK.THROTTLE, (index) => {
      const vcpu = this.vcpus.find((v) => v.index === index)!;
      board.throttle.sleep(index, () => vcpu.stopRequested || board.control.quit.load() !== 0);
    });
    const { seed } = data.config;
    if (seed !== undefined) {
      for (const { cpu, index } of this.vcpus) {
        cpu.env.index = index;
        cpu.random = seededRandom(cpu.env, BigInt(seed));
      }
    }
    if (this.log.has('mmu')) {
      for (const { cpu } of this.vcpus) {
        cpu.onControl = (n, value) => this.log.write(describeControl(n, value));
      }
    }
    if (this.log.has('int')) for (const { cpu } of this.vcpus) this.logDeliveries(cpu);
    const imports = worker.imports();
    const instance = new WebAssembly.Instance(data.module, { env: { memory: data.memory, ...imports } });
    if (data.jit !== undefined) {
      const { port, firstRegion } = data.jit;
      worker.regions = new RegionClient(
        port,
        firstRegion,
        instance,
        regionImports(data.memory, instance, imports),
        worker.codeCache,
        () => this.vcpus.forEach((vcpu) => vcpu.forgetNotes()),
      );
    }
    worker.run = instance.exports.run as (env: number, record: number) => number;
    tierUp(worker.run);
    this.optimised = isOptimised(worker.run);
  }
  private cpu(index: number): Cpu {
    return this.vcpus.find((v) => v.index === index)!.cpu;
  }

  /** Executes until the machine quits. */
  run(): void {
    const { icount } = this.board.clocks;
    const options = this.board.config.icount;
    if (icount !== undefined && options !== undefined) this.runCounted(icount, options);
    else if (this.vcpus.length === 1) this.runOne(this.vcpus[0]);
    else this.runInTurn();
    this.execLog?.ended();
    for (const { index } of this.vcpus) this.board.cpuWork.close(index);
  }

  private runCounted(icount: Icount, options: IcountOptions): void {
    new IcountRunner(this.board, icount, options, this.vcpus, {
      prepare: (vcpu) => this.prepare(vcpu),
      turn: (vcpu) => this.turn(vcpu, true),
      park: (vcpus) => this.park(vcpus),
    }).run();
  }

  private runOne(vcpu: Vcpu): void {
    const { control, exclusive, config } = this.board;
    const poll =
      config.cpus > 1 ? new HaltPoll(opsFor(this.board.buffer), control.polling, exclusive) : undefined;
    while (control.quit.load() === 0) {
      if (vcpu.stopRequested) this.park([vcpu]);
      else if (this.turn(vcpu, false) === 'halted') vcpu.sleep(poll);
    }
  }

  /** Round robin: each vCPU runs until it halts or is kicked. Sleeps when all are idle. */
  private runInTurn(): void {
    const { control } = this.board;
    const [first] = this.vcpus;
    while (control.quit.load() === 0) {
      // read before the stop requests are: the kick of one that comes after the look ends the sleep below
      const seq = first.kickSequence;
      if (this.vcpus.every((v) => v.stopRequested)) {
        this.park(this.vcpus);
        continue;
      }
      let ran = false;
      for (const vcpu of this.vcpus) {
        if (vcpu.stopRequested || vcpu.idle) continue;
        ran = true;
        this.turn(vcpu, true);
      }
      if (!ran) first.sleepUnlessKicked(seq);
    }
  }

  private turn(vcpu: Vcpu, once: boolean): Pause {
    this.prepare(vcpu);
    const pause = vcpu.execute(once);
    if (pause === 'shutdown') {
      if (this.log.has('cpu_reset')) this.log.write(`Triple fault\n${dumpCpu(vcpu.cpu, { fpu: true })}`);
      vcpu.requestStop();
      this.board.mainLoop.post(REQUEST.RESET);
    }
    return pause;
  }

  /** Applies a machine reset that happened since this vCPU last ran. */
  private prepare(vcpu: Vcpu): void {
    const resets = this.board.control.resets.load();
    if (this.resetsSeen[vcpu.index] === resets) return;
    this.resetsSeen[vcpu.index] = resets;
    if (this.log.has('cpu_reset')) {
      this.log.write(`CPU Reset (CPU ${vcpu.index})\n${dumpCpu(vcpu.cpu, { fpu: true })}`);
    }
    vcpu.reset();
    if (vcpu.index !== 0) return;
    const state = readBootState(this.board.buffer, this.board.layout.bootState);
    if (state !== undefined) applyBootState(vcpu.cpu, state);
  }

  private logDeliveries(cpu: Cpu): void {
    let count = 0;
    cpu.onDelivery = (vector, error, kind) => {
      const software = kind === KIND.SOFTWARE;
      this.log.write(describeDelivery(cpu, count++, vector, error, software) + dumpCpu(cpu));
    };
  }

  /** Counts the vCPUs as stopped until one may go on; with icount, until all may, so that their order stays. */
  private park(vcpus: readonly Vcpu[]): void {
    const { stoppedCpus, quit } = this.board.control;
    stoppedCpus.add(vcpus.length);
    stoppedCpus.notify();
    while (this.stopped(vcpus) && quit.load() === 0) {
      const seq = vcpus[0].kickSequence;
      for (const vcpu of vcpus) vcpu.processWork();
      if (this.stopped(vcpus) && quit.load() === 0) vcpus[0].sleepUnlessKicked(seq);
    }
    stoppedCpus.add(-vcpus.length);
  }
  private stopped(vcpus: readonly Vcpu[]): boolean {
    if (this.board.config.icount !== undefined) return vcpus.some((v) => v.stopRequested);
    return vcpus.every((v) => v.stopRequested);
  }
}

function apicHooks(board: Board, lapic: Lapic, cpu: () => Cpu): ApicHooks {
  const locked = <T>(index: number, body: () => T): T =>
    lapicMsrNeedsLock(index) ? board.bql.with(body) : body();
  return {
    readMsr: (index, out) => locked(index, () => lapic.readMsr(index, out)),
    writeMsr: (index, lo, hi) => locked(index, () => lapic.writeMsr(index, lo, hi)),
    readTscDeadline: (out) => void locked(MSR_TSC_DEADLINE, () => lapic.readMsr(MSR_TSC_DEADLINE, out)),
    writeTscDeadline: (lo, hi) =>
      void locked(MSR_TSC_DEADLINE, () => lapic.writeMsr(MSR_TSC_DEADLINE, lo, hi)),
    tscChanged: () => board.bql.with(() => lapic.tscChanged()),
    getCr8: () => lapic.getCr8(),
    setCr8: (value) => lapic.setCr8(value),
    apicBaseChanged: () => {
      const base = cpu().env.apicBase;
      const lo = Number(base & 0xffffffffn);
      const hi = Number(base >> 32n);
      board.bql.with(() => lapic.writeMsr(MSR_APIC_BASE, lo, hi));
    },
  };
}
