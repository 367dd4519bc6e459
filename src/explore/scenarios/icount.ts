/** icount: the thread that executes guest code sleeps when all vCPUs are idle; who arms a timer wakes it. */
import { setOwnerId, viewsOf } from '@smp86/atomics-sync';
import { VCPU_BLOCK_SIZE } from '../../cpu/env.ts';
import type { Board } from '../../machine/board.ts';
import { Bql } from '../../machine/bql.ts';
import { IcountRunner } from '../../machine/icount-runner.ts';
import { MachineControl } from '../../machine/layout.ts';
import { VcpuSignals } from '../../machine/signals.ts';
import type { Vcpu } from '../../machine/vcpu.ts';
import { ClockSystem } from '../../timer/clock.ts';
import { CLOCK, VIRTUAL_MODE } from '../../timer/clock-state.ts';
import type { Model, Scenario } from '../scenario.ts';
import { placeClocks, STILL } from './clock.ts';
import { placeVcpus } from './machine.ts';
import { ONE_PAUSE } from './mutex.ts';

const RAN = 0;
const CALLBACK = 1;
/** Expiries of the two timers, ns. */
const DUE = [5, 3] as const;

function attach(model: Model, index: number): ClockSystem {
  setOwnerId(index + 1);
  return ClockSystem.attach(model.buffer, placeClocks(model, 1), { source: STILL });
}

const idle: Scenario = {
  name: 'icount-idle',
  title: 'all vCPUs are idle, and two threads arm a VIRTUAL timer each; time jumps to both',
  threads: ['executing', 'armer 1', 'armer 2'],
  bytes: VCPU_BLOCK_SIZE + 32768,
  only: [
    'shared/',
    'src/timer/',
    'src/cpu/env.ts',
    'src/explore/',
    ...['bql', 'icount-runner', 'layout', 'signals'].map((name) => `src/machine/${name}.ts`),
  ],
  patches: [ONE_PAUSE],
  reaches: ['sleep'],
  setup(model: Model) {
    const clocks = ClockSystem.init(model.buffer, placeClocks(model, 1), {
      maxTimers: 2,
      maxLists: 4,
      source: STILL,
      virtualMode: VIRTUAL_MODE.ICOUNT,
    });
    for (let i = 0; i < 2; i++) clocks.createTimer({ clock: CLOCK.VIRTUAL, callback: CALLBACK, arg: i });
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    model.place('control', MachineControl.size, 64);
  },
  thread(model: Model, index: number) {
    const { ghost } = model;
    const clocks = attach(model, index);
    const icount = clocks.icount!;
    const { i32 } = viewsOf(model.buffer);
    const signals = new VcpuSignals(i32, placeVcpus(model, 1));
    if (index > 0) {
      icount.kick = () => signals.kick();
      const timer = clocks.timer(index - 1);
      return () => timer.mod(DUE[index - 1]);
    }
    const control = MachineControl.at(model.buffer, model.place('control', MachineControl.size, 64));
    clocks.callbacks.register(CALLBACK, (arg) => {
      model.assert(clocks.now(CLOCK.VIRTUAL) >= DUE[arg], 'a timer is early');
      ghost[RAN]++;
      if (ghost[RAN] < 2) return;
      control.quit.store(1);
      signals.kick();
    });
    const vcpu = {
      index: 0,
      idle: true,
      stopRequested: false,
      get kickSequence() {
        return signals.sequence;
      },
      sleepUnlessKicked: (seq: number) => {
        model.reached('sleep');
        signals.sleep(seq);
      },
    } as unknown as Vcpu;
    const board = {
      control,
      clocks,
      bql: new Bql(model.buffer, model.place('bql', 16)),
      signals: [signals],
      mem: { views: viewsOf(model.buffer) },
      warn: () => {},
    } as unknown as Board;
    const runner = new IcountRunner(board, icount, { shift: 0, align: false, sleep: false }, [vcpu], {
      prepare: () => {},
      turn: () => 'halted',
      park: () => {},
    });
    return () => runner.run();
  },
};

export const scenarios: readonly Scenario[] = [idle];
