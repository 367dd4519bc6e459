/**
 * Stop and start of the machine: the main loop thread's and the vCPU threads' own code, with a guest that does
 * nothing but count. Boards and vCPUs are bare objects with the parts that this code uses.
 */
import { AtomicI32, setOwnerId, viewsOf } from '@smp86/atomics-sync';
import { CpuEnv, INTERRUPT, VCPU_BLOCK_SIZE } from '../../cpu/env.ts';
import { Board } from '../../machine/board.ts';
import { Bql } from '../../machine/bql.ts';
import { CpuWork } from '../../machine/cpu-work.ts';
import { IothreadTable } from '../../machine/iothread.ts';
import { MachineControl, RUN_STATE } from '../../machine/layout.ts';
import { MainLoopThread } from '../../machine/main-loop-thread.ts';
import { VcpuSignals } from '../../machine/signals.ts';
import { Vcpu } from '../../machine/vcpu.ts';
import { VcpuThread } from '../../machine/vcpu-thread.ts';
import { ClockSystem } from '../../timer/clock.ts';
import { CLOCK } from '../../timer/clock-state.ts';
import type { Model, Scenario } from '../scenario.ts';
import { placeClocks, STILL } from './clock.ts';
import { FEW_PAUSES, placeExclusive, placeVcpus } from './machine.ts';

/** 1: the main loop has been told that nothing of the guest runs. */
const STOPPED = 0;

/** The machine is large, and this is what matters here. */
const LOADED = [
  'shared/',
  'src/timer/',
  'src/aio/',
  'src/cpu/env.ts',
  'src/cpu/flags.ts',
  'src/explore/',
  ...[
    'board',
    'bql',
    'cpu-work',
    'exclusive',
    'iothread',
    'layout',
    'main-loop-thread',
    'signals',
    'vcpu',
    'vcpu-worker',
    'vcpu-thread',
  ].map((name) => `src/machine/${name}.ts`),
];

const EXIT_REQUEST = CpuEnv.offsetOf('exitRequest') >>> 2;
const HALTED = CpuEnv.offsetOf('halted') >>> 2;
const STOP_REQUESTED = CpuEnv.offsetOf('stopRequested');

function placeControl(model: Model): number {
  const at = model.place('control', MachineControl.size, 64);
  for (const field of ['runState', 'stoppedCpus', 'quit', 'resets'] as const) {
    model.label(field, at + MachineControl.offsetOf(field), 4);
  }
  return at;
}

/** A machine: how many vCPUs, whether one worker runs them in turn, whether a third thread kicks. */
interface Options {
  readonly name: string;
  readonly title: string;
  readonly vcpus: 1 | 2;
  readonly inTurn?: boolean;
  readonly kicker?: boolean;
  /** The main loop waits until all vCPUs have run guest code. */
  readonly turns?: boolean;
  /** Bound, where all schedules are too many. */
  readonly preemptions?: number;
  /** What the main loop is told to do. */
  readonly commands: readonly ('start' | 'stop' | 'wait')[];
}

/** What the code under test uses of a board. */
function board(model: Model, options: Options): Board {
  const { vcpus, inTurn = false } = options;
  const control = MachineControl.at(model.buffer, placeControl(model));
  const base = placeVcpus(model, vcpus);
  const views = viewsOf(model.buffer);
  const bases = Array.from({ length: vcpus }, (_, i) => base + i * VCPU_BLOCK_SIZE);
  const bql = new Bql(model.buffer, model.place('bql', 16));
  const signals = bases.map((at) => new VcpuSignals(views.i32, at, inTurn ? bases : [at]));
  const exclusive = placeExclusive(model, vcpus);
  const work = { bql, signals, exclusive };
  const parts = {
    config: { cpus: vcpus, accel: inTurn ? 'single' : 'multi' },
    layout: { vcpus: base },
    mem: { views },
    control,
    bql,
    cpuWork: new CpuWork(model.buffer, model.place('work', CpuWork.size(vcpus), 64), work),
    clocks: ClockSystem.attach(model.buffer, placeClocks(model, 1), { source: STILL }),
    signals,
    storage: { table: new IothreadTable([], []) },
    mainLoop: { requestStop: () => {} },
    turnTimer: { modAnticipate: () => {} },
  };
  return Object.assign(Object.create(Board.prototype) as Board, parts);
}

/** The main loop thread's private methods that commands call. */
interface RunState {
  start(): void;
  stop(state: number): void;
  quit(): void;
}

/** The main loop, which does the commands and then quits. */
function mainLoop(model: Model, options: Options): () => void {
  const { ghost } = model;
  const b = board(model, options);
  const parts = { board: b };
  const thread = Object.assign(
    Object.create(MainLoopThread.prototype) as object,
    parts,
  ) as unknown as RunState;
  const turns = new AtomicI32(model.buffer, placeTurns(model));
  const all = (1 << options.vcpus) - 1;
  return () => {
    b.bql.lock();
    for (let i = 0; i < options.commands.length; i++) {
      switch (options.commands[i]) {
        case 'start':
          ghost[STOPPED] = 0;
          thread.start();
          break;
        case 'stop':
          thread.stop(RUN_STATE.PAUSED);
          ghost[STOPPED] = 1;
          model.assert(
            !b.clocks.isEnabled(CLOCK.VIRTUAL),
            'VIRTUAL timers may run while the machine is stopped',
          );
          model.step();
          break;
        case 'wait':
          for (let bits = turns.load(); bits !== all; bits = turns.load()) turns.wait(bits);
          break;
      }
    }
    thread.quit();
    b.bql.unlock();
  };
}

/** A vCPU whose guest, turn by turn, does one step, and halts if `halts`. */
function vcpu(model: Model, options: Options, b: Board, index: number, halts: boolean): Vcpu {
  const { ghost } = model;
  const turns = new AtomicI32(model.buffer, placeTurns(model));
  const { i32 } = viewsOf(model.buffer);
  const w = (placeVcpus(model, options.vcpus) + index * VCPU_BLOCK_SIZE) >>> 2;
  const it = Object.assign(Object.create(Vcpu.prototype) as object, {
    index,
    board: b,
    i32,
    w,
    cpu: { get: () => 0 },
    unmasked: () => 0,
    execute: () => {
      Atomics.store(i32, w + EXIT_REQUEST, 0);
      if (it.stopRequested) return 'stop';
      model.assert(ghost[STOPPED] === 0, 'guest code runs while the machine is stopped');
      model.step();
      model.assert(ghost[STOPPED] === 0, 'guest code runs while the machine is stopped');
      model.reached('guest code');
      if (options.turns) {
        turns.or(1 << index);
        turns.notify();
      }
      if (!halts) return 'yield';
      Atomics.store(i32, w + HALTED, 1);
      return 'halted';
    },
  }) as unknown as Vcpu;
  return it;
}

function worker(model: Model, options: Options, indices: readonly number[]): () => void {
  const b = board(model, options);
  const parts = {
    board: b,
    vcpus: indices.map((i) => vcpu(model, options, b, i, i === 0 || options.inTurn === true)),
    resetsSeen: [0, 0],
    log: { has: () => false },
  };
  const thread = Object.assign(Object.create(VcpuThread.prototype) as object, parts) as unknown as VcpuThread;
  return () => thread.run();
}

function pause(options: Options): Scenario {
  const { vcpus, inTurn = false, kicker = false } = options;
  const workers = inTurn ? ['vcpu worker'] : ['vcpu 0', 'vcpu 1'].slice(0, vcpus);
  return {
    name: options.name,
    title: options.title,
    threads: ['main loop', ...workers, ...(kicker ? ['kicker'] : [])],
    bytes: vcpus * VCPU_BLOCK_SIZE + 32768,
    only: LOADED,
    patches: FEW_PAUSES,
    preemptions: options.preemptions,
    reaches: ['guest code'],
    setup(model: Model) {
      ClockSystem.init(model.buffer, placeClocks(model, 1), { maxTimers: 2, maxLists: 4, source: STILL });
      const { i32 } = viewsOf(model.buffer);
      for (let i = 0; i < vcpus; i++) {
        i32[(placeVcpus(model, vcpus) + i * VCPU_BLOCK_SIZE + STOP_REQUESTED) >>> 2] = 1;
      }
      model.ghost[STOPPED] = 1;
      placeControl(model);
    },
    thread(model: Model, index: number) {
      setOwnerId(index + 1);
      if (index === 0) return mainLoop(model, options);
      if (index <= workers.length) return worker(model, options, inTurn ? [0, 1] : [index - 1]);
      const signals = board(model, options).signals[vcpus - 1];
      return () => signals.interrupt(INTERRUPT.HARD);
    },
    end(model: Model) {
      const control = MachineControl.at(model.buffer, placeControl(model));
      model.assert(control.runState.load() === RUN_STATE.SHUTDOWN, 'the machine is at its end');
    },
  };
}

function placeTurns(model: Model): number {
  return model.place('turns', 4);
}

export const scenarios: readonly Scenario[] = [
  pause({
    name: 'start',
    title: 'two vCPUs are started; told to end when both have run',
    vcpus: 2,
    turns: true,
    commands: ['start', 'wait'],
  }),
  pause({
    name: 'pause',
    title: 'two vCPUs are started, stopped and told to end',
    vcpus: 2,
    commands: ['start', 'stop'],
  }),
  pause({
    name: 'pause-resume',
    title: 'a vCPU that is kicked is started, stopped, started, stopped and told to end',
    vcpus: 1,
    kicker: true,
    commands: ['start', 'stop', 'start', 'stop'],
  }),
  pause({
    name: 'pause-in-turn',
    title: 'two vCPUs of one worker, one of them kicked, are started, stopped and told to end',
    vcpus: 2,
    inTurn: true,
    kicker: true,
    preemptions: 4,
    commands: ['start', 'stop'],
  }),
];
