/**
 * Stop and start of the machine: the main loop thread's and the vCPU threads' own code, with a guest that does
 * nothing but count. Boards and vCPUs are bare objects with the parts that this code uses.
 */
import { setOwnerId, viewsOf } from '@smp86/atomics-sync';
import { CpuEnv, VCPU_BLOCK_SIZE } from '../../cpu/env.ts';
import { Board } from '../../machine/board.ts';
import { Bql } from '../../machine/bql.ts';
import { MachineControl, RUN_STATE } from '../../machine/layout.ts';
import { MainLoopThread } from '../../machine/main-loop-thread.ts';
import { VcpuSignals } from '../../machine/signals.ts';
import { Vcpu } from '../../machine/vcpu.ts';
import { VcpuThread } from '../../machine/vcpu-thread.ts';
import { ClockSystem } from '../../timer/clock.ts';
import { CLOCK } from '../../timer/clock-state.ts';
import type { Model, Scenario } from '../scenario.ts';
import { placeClocks, STILL } from './clock.ts';
import { placeVcpus } from './machine.ts';
import { ONE_PAUSE } from './mutex.ts';

/** 1: the main loop has been told that nothing of the guest runs. */
const STOPPED = 0;
const TURNS = 1;

/** The machine is large, and this is what matters here. */
const LOADED = [
  'shared/',
  'src/timer/',
  'src/aio/',
  'src/cpu/env.ts',
  'src/cpu/flags.ts',
  'src/explore/',
  ...['board', 'bql', 'exclusive', 'layout', 'main-loop-thread', 'signals', 'vcpu', 'vcpu-thread'].map(
    (name) => `src/machine/${name}.ts`,
  ),
];

const VCPUS = 2;
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

/** What the code under test uses of a board. */
function board(model: Model): Board {
  const control = MachineControl.at(model.buffer, placeControl(model));
  const vcpus = placeVcpus(model, VCPUS);
  const views = viewsOf(model.buffer);
  const parts = {
    config: { cpus: VCPUS, accel: 'multi' },
    layout: { vcpus },
    mem: { views },
    control,
    bql: new Bql(model.buffer, model.place('bql', 16)),
    clocks: ClockSystem.attach(model.buffer, placeClocks(model, 1), { source: STILL }),
    signals: Array.from({ length: VCPUS }, (_, i) => new VcpuSignals(views.i32, vcpus + i * VCPU_BLOCK_SIZE)),
    mainLoop: { requestStop: () => {} },
  };
  return Object.assign(Object.create(Board.prototype) as Board, parts);
}

/** The main loop thread's private methods that commands call. */
interface RunState {
  start(): void;
  stop(state: number): void;
  quit(): void;
}
function mainLoopThread(model: Model): { readonly thread: RunState; readonly board: Board } {
  const b = board(model);
  const thread = Object.assign(Object.create(MainLoopThread.prototype) as object, {
    board: b,
  }) as unknown as RunState;
  return { thread, board: b };
}

/** A vCPU thread whose guest, turn by turn, does one step and halts. */
function vcpuThread(model: Model, index: number, halts: boolean): VcpuThread {
  const { ghost } = model;
  const b = board(model);
  const { i32 } = viewsOf(model.buffer);
  const w = (placeVcpus(model, VCPUS) + index * VCPU_BLOCK_SIZE) >>> 2;
  const vcpu = Object.assign(Object.create(Vcpu.prototype) as object, {
    index,
    board: b,
    i32,
    w,
    cpu: { get: () => 0 },
    unmasked: () => 0,
    execute: () => {
      Atomics.store(i32, w + EXIT_REQUEST, 0);
      if (vcpu.stopRequested) return 'stop';
      model.assert(ghost[STOPPED] === 0, 'guest code runs while the machine is stopped');
      model.step();
      model.assert(ghost[STOPPED] === 0, 'guest code runs while the machine is stopped');
      model.reached('guest code');
      if (halts) {
        Atomics.store(i32, w + HALTED, 1);
        return 'halted';
      }
      return 'yield';
    },
  }) as unknown as Vcpu;
  const thread = Object.assign(Object.create(VcpuThread.prototype) as object, {
    board: b,
    vcpus: [vcpu],
    resetsSeen: [0, 0],
    log: { has: () => false },
  });
  return thread as unknown as VcpuThread;
}

function pause(
  name: string,
  title: string,
  body: (thread: RunState, board: Board, model: Model) => void,
): Scenario {
  return {
    name,
    title,
    threads: ['main loop', 'vcpu 0', 'vcpu 1'],
    bytes: VCPUS * VCPU_BLOCK_SIZE + 16384,
    only: LOADED,
    patches: [ONE_PAUSE],
    reaches: ['guest code'],
    setup(model: Model) {
      ClockSystem.init(model.buffer, placeClocks(model, 1), { maxTimers: 2, maxLists: 4, source: STILL });
      const { i32 } = viewsOf(model.buffer);
      for (let i = 0; i < VCPUS; i++) {
        i32[(placeVcpus(model, VCPUS) + i * VCPU_BLOCK_SIZE + STOP_REQUESTED) >>> 2] = 1;
      }
      model.ghost[STOPPED] = 1;
      placeControl(model);
    },
    thread(model: Model, index: number) {
      setOwnerId(index + 1);
      if (index > 0) {
        const thread = vcpuThread(model, index - 1, index === 1);
        return () => thread.run();
      }
      const m = mainLoopThread(model);
      return () => {
        m.board.bql.lock();
        body(m.thread, m.board, model);
        m.thread.quit();
        m.board.bql.unlock();
      };
    },
    end(model: Model) {
      const control = MachineControl.at(model.buffer, placeControl(model));
      model.assert(control.runState.load() === RUN_STATE.SHUTDOWN, 'the machine is at its end');
    },
  };
}

function start(thread: RunState, model: Model): void {
  model.ghost[STOPPED] = 0;
  thread.start();
}
function stop(thread: RunState, b: Board, model: Model): void {
  thread.stop(RUN_STATE.PAUSED);
  model.ghost[STOPPED] = 1;
  model.ghost[TURNS]++;
  model.assert(!b.clocks.isEnabled(CLOCK.VIRTUAL), 'VIRTUAL timers may run while the machine is stopped');
  model.step();
}

export const scenarios: readonly Scenario[] = [
  pause('pause', 'two vCPUs are started, stopped and told to end', (thread, b, model) => {
    start(thread, model);
    stop(thread, b, model);
  }),
  pause(
    'pause-resume',
    'two vCPUs are started, stopped, started, stopped and told to end',
    (thread, b, model) => {
      start(thread, model);
      stop(thread, b, model);
      start(thread, model);
      stop(thread, b, model);
    },
  ),
];
