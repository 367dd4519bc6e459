/** vCPU threads: exclusive sections, kick against sleep, the big lock against clockEnable against callbacks. */
import { setOwnerId, viewsOf } from '@smp86/atomics-sync';
import { MainLoop } from '../../aio/main-loop.ts';
import { CpuEnv, INTERRUPT, VCPU_BLOCK_SIZE } from '../../cpu/env.ts';
import { Bql } from '../../machine/bql.ts';
import { Exclusive, ExclusiveState } from '../../machine/exclusive.ts';
import { VcpuSignals } from '../../machine/signals.ts';
import { ClockSystem } from '../../timer/clock.ts';
import { CLOCK } from '../../timer/clock-state.ts';
import type { Model, Patch, Scenario } from '../scenario.ts';
import { placeClocks, STILL } from './clock.ts';
import { ONE_PAUSE } from './mutex.ts';

// --- exclusive sections ---

const INSIDE = 0;
const EXCLUSIVE = 1;
const ENTERED = 2;

/** The blocks of `count` vCPUs; their shared words are named. */
export function placeVcpus(model: Model, count: number): number {
  const at = model.place('vcpus', count * VCPU_BLOCK_SIZE, 64);
  for (let i = 0; i < count; i++) {
    for (const field of [
      'exitRequest',
      'interruptRequest',
      'kickSeq',
      'stopRequested',
      'running',
      'halted',
    ] as const) {
      model.label(`vcpu${i}.${field}`, at + i * VCPU_BLOCK_SIZE + CpuEnv.offsetOf(field), 4);
    }
  }
  return at;
}

export function placeExclusive(model: Model, count: number): Exclusive {
  const at = model.place('exclusive', ExclusiveState.size, 8);
  model.label('pending', at + ExclusiveState.offsetOf('pending'), 4);
  model.label('progress', at + ExclusiveState.offsetOf('progress'), 4);
  model.label('exclusive lock', at + ExclusiveState.offsetOf('lock'), 4);
  return new Exclusive(model.buffer, at, placeVcpus(model, count), count);
}

/** As ONE_PAUSE, also before a thread sleeps for the sake of an exclusive section. */
export const FEW_PAUSES: readonly Patch[] = [
  ONE_PAUSE,
  {
    file: 'src/machine/exclusive.ts',
    find: 'const MAX_PAUSES = 300;',
    replace: 'const MAX_PAUSES = 1;',
  },
];

/** In guest code, unless somebody else is exclusive. */
function guest(model: Model, exclusive: Exclusive, index: number, rounds: number): void {
  const { ghost } = model;
  for (let i = 0; i < rounds; i++) {
    exclusive.execStart(index);
    ghost[INSIDE]++;
    model.assert(ghost[EXCLUSIVE] === 0, 'guest code runs during an exclusive section');
    model.step();
    model.assert(ghost[EXCLUSIVE] === 0, 'guest code runs during an exclusive section');
    ghost[INSIDE]--;
    exclusive.execEnd(index);
  }
}
/** One exclusive section, from guest code when `self` is a vCPU and `running`. */
function section(model: Model, exclusive: Exclusive, self: number, running: boolean): void {
  const { ghost } = model;
  if (running) exclusive.execStart(self);
  exclusive.start(self);
  ghost[EXCLUSIVE]++;
  model.assert(ghost[EXCLUSIVE] === 1, 'two exclusive sections at once');
  model.assert(ghost[INSIDE] === 0, 'an exclusive section while guest code runs');
  model.step();
  model.assert(ghost[INSIDE] === 0, 'an exclusive section while guest code runs');
  ghost[EXCLUSIVE]--;
  ghost[ENTERED]++;
  exclusive.end(self);
  if (running) exclusive.execEnd(self);
}

const SMALL = 16384;

const sections: Scenario = {
  name: 'exclusive',
  title: 'two vCPUs in guest code, a thread outside starts an exclusive section',
  threads: ['vcpu 0', 'vcpu 1', 'outsider'],
  bytes: 2 * VCPU_BLOCK_SIZE + SMALL,
  patches: FEW_PAUSES,
  thread(model: Model, index: number) {
    setOwnerId(index + 1);
    const exclusive = placeExclusive(model, 2);
    if (index < 2) return () => guest(model, exclusive, index, 2);
    return () => section(model, exclusive, -1, false);
  },
};
const sectionsInside: Scenario = {
  name: 'exclusive-vcpus',
  title: 'two of three vCPUs start an exclusive section out of guest code',
  threads: ['vcpu 0', 'vcpu 1', 'vcpu 2'],
  bytes: 3 * VCPU_BLOCK_SIZE + SMALL,
  patches: FEW_PAUSES,
  thread(model: Model, index: number) {
    setOwnerId(index + 1);
    const exclusive = placeExclusive(model, 3);
    if (index === 0) return () => guest(model, exclusive, 0, 1);
    return () => section(model, exclusive, index, true);
  },
  end(model: Model) {
    model.assert(model.ghost[ENTERED] === 2, 'both sections were had');
  },
};

// --- kick and sleep ---

const SEEN = 0;

/** A vCPU's signals, and where its words are. */
function oneVcpu(model: Model) {
  const base = placeVcpus(model, 1);
  const words = viewsOf(model.buffer).i32;
  const word = (field: 'interruptRequest' | 'kickSeq' | 'exitRequest'): number =>
    (base + CpuEnv.offsetOf(field)) >>> 2;
  return {
    words,
    signals: new VcpuSignals(words, base),
    request: word('interruptRequest'),
    seq: word('kickSeq'),
    exit: word('exitRequest'),
  };
}

/** A vCPU that sleeps by the protocol of signals.ts until it has seen two requests. */
const kick: Scenario = {
  name: 'kick-sleep',
  title: 'two threads interrupt a vCPU that sleeps whenever it sees nothing',
  threads: ['vcpu', 'interrupter 1', 'interrupter 2'],
  bytes: VCPU_BLOCK_SIZE + SMALL,
  thread(model: Model, index: number) {
    const { ghost } = model;
    const { words, signals, request, seq, exit } = oneVcpu(model);
    if (index > 0) return () => signals.interrupt(index === 1 ? INTERRUPT.HARD : INTERRUPT.NMI);
    return () => {
      while (ghost[SEEN] !== (INTERRUPT.HARD | INTERRUPT.NMI)) {
        Atomics.store(words, exit, 0);
        const key = Atomics.load(words, seq);
        const bits = Atomics.load(words, request);
        if (bits === 0) {
          Atomics.wait(words, seq, key);
          continue;
        }
        signals.clearInterrupt(bits);
        ghost[SEEN] = ghost[SEEN] | bits;
      }
    };
  },
};

/** Generated code looks at the exit word alone: a request has to become visible through it. */
const exitRequest: Scenario = {
  name: 'kick-exit',
  title: 'two threads interrupt a vCPU in guest code, which leaves only for its exit word',
  threads: ['vcpu', 'interrupter 1', 'interrupter 2'],
  bytes: VCPU_BLOCK_SIZE + SMALL,
  thread(model: Model, index: number) {
    const { ghost } = model;
    const { words, signals, request, exit } = oneVcpu(model);
    if (index > 0) return () => signals.interrupt(index === 1 ? INTERRUPT.HARD : INTERRUPT.NMI);
    return () => {
      while (ghost[SEEN] !== (INTERRUPT.HARD | INTERRUPT.NMI)) {
        // guest code: it goes round and round until the exit word says stop
        while (Atomics.load(words, exit) === 0) continue;
        Atomics.store(words, exit, 0);
        const bits = Atomics.load(words, request);
        signals.clearInterrupt(bits);
        ghost[SEEN] = ghost[SEEN] | bits;
      }
    };
  },
};

// --- the big lock ---

const DISABLED = 0;
const RUNNING = 1;
const RUNS = 2;
const REQUESTS = 3;
const HANDLED = 5;
const CALLBACK = 1;
const KIND = 3;

interface LoopParts {
  readonly bql: Bql;
  readonly clocks: ClockSystem;
  readonly loop: MainLoop;
}
function placeBql(model: Model): Bql {
  return new Bql(model.buffer, model.place('bql', 16));
}
function placeLoop(model: Model): number {
  return model.place('main loop', MainLoop.size({ maxBottomHalves: 1 }), 64);
}
function setupLoop(model: Model): void {
  const clocks = ClockSystem.init(model.buffer, placeClocks(model, 1), {
    maxTimers: 2,
    maxLists: 4,
    source: STILL,
  });
  MainLoop.init(clocks, placeLoop(model), { bql: placeBql(model), maxBottomHalves: 1 });
  for (let i = 0; i < 2; i++) clocks.createTimer({ clock: CLOCK.REALTIME, callback: CALLBACK, arg: i });
}
function attachLoop(model: Model, index: number): LoopParts {
  setOwnerId(index + 1);
  const clocks = ClockSystem.attach(model.buffer, placeClocks(model, 1), { source: STILL });
  const bql = placeBql(model);
  bql.carry(clocks.mainGroup.notifier, index === 0);
  return { bql, clocks, loop: MainLoop.attach(clocks, placeLoop(model), bql) };
}

/** A timer callback of the main loop, a vCPU that arms the timer, and a clock switched off and on under the BQL. */
const bigLock: Scenario = {
  name: 'bql-clock',
  title:
    'main loop with timer callbacks, a vCPU that arms a timer under the BQL, clockEnable off and on under it',
  threads: ['main loop', 'vcpu', 'switcher'],
  bytes: 2 * SMALL,
  patches: [ONE_PAUSE],
  reaches: ['callback'],
  setup: setupLoop,
  thread(model: Model, index: number) {
    const { ghost } = model;
    const { bql, clocks, loop } = attachLoop(model, index);
    const timer = clocks.timer(0);
    if (index === 0) {
      clocks.callbacks.register(CALLBACK, () => {
        model.reached('callback');
        model.assert(ghost[DISABLED] === 0, 'a callback while its clock is disabled');
        ghost[RUNNING]++;
        model.step();
        ghost[RUNNING]--;
        ghost[RUNS]++;
      });
      return () => {
        bql.lock();
        while (ghost[RUNS] < 1) loop.mainLoopWait();
        bql.unlock();
      };
    }
    if (index === 1) {
      return () =>
        bql.with(() => {
          model.assert(ghost[RUNNING] === 0, 'device code during a callback of the main loop');
          timer.mod(1);
          model.step();
          model.assert(ghost[RUNNING] === 0, 'device code during a callback of the main loop');
        });
    }
    return () => {
      bql.lock();
      clocks.clockEnable(CLOCK.REALTIME, false);
      ghost[DISABLED] = 1;
      model.assert(ghost[RUNNING] === 0, 'clockEnable returned during a callback');
      model.step();
      ghost[DISABLED] = 0;
      clocks.clockEnable(CLOCK.REALTIME, true);
      bql.unlock();
    };
  },
};

/** Requests of one kind merge, and none is lost. */
const requests: Scenario = {
  name: 'mainloop-post',
  title:
    'two threads post requests of two kinds, one of them with the BQL, to the main loop, which runs until it has handled them',
  threads: ['main loop', 'poster 1', 'poster 2'],
  bytes: 2 * SMALL,
  patches: [ONE_PAUSE],
  setup: setupLoop,
  thread(model: Model, index: number) {
    const { ghost } = model;
    const { bql, loop } = attachLoop(model, index);
    if (index === 0) {
      for (let kind = 0; kind < 2; kind++) {
        loop.onRequest(KIND + kind, (arg) => {
          model.assert(arg >= 1 && arg <= 2, 'an argument that nobody gave');
          ghost[HANDLED + kind] = ghost[REQUESTS + kind];
          if (ghost[HANDLED] === 1 && ghost[HANDLED + 1] === 2) loop.requestStop();
        });
      }
      return () => void loop.run();
    }
    return () => {
      for (let kind = 2 - index; kind < 2; kind++) {
        model.step();
        ghost[REQUESTS + kind]++;
        const post = (): void => loop.post(KIND + kind, index);
        if (index === 1) post();
        else bql.with(post);
      }
    };
  },
};

/** One worker for two vCPUs sleeps on the first one's word; an interrupt of either wakes it. */
const together: Scenario = {
  name: 'kick-together',
  title: 'two threads interrupt the two vCPUs of one worker, which sleeps whenever it sees nothing',
  threads: ['worker', 'interrupter 1', 'interrupter 2'],
  bytes: 2 * VCPU_BLOCK_SIZE + SMALL,
  thread(model: Model, index: number) {
    const { ghost } = model;
    const base = placeVcpus(model, 2);
    const words = viewsOf(model.buffer).i32;
    const bases = [base, base + VCPU_BLOCK_SIZE];
    const signals = bases.map((at) => new VcpuSignals(words, at, bases));
    const requests = bases.map((at) => (at + CpuEnv.offsetOf('interruptRequest')) >>> 2);
    const seq = (base + CpuEnv.offsetOf('kickSeq')) >>> 2;
    if (index > 0) return () => signals[index - 1].interrupt(INTERRUPT.HARD);
    return () => {
      while (ghost[SEEN] < 2) {
        const key = Atomics.load(words, seq);
        let ran = false;
        for (let i = 0; i < 2; i++) {
          const bits = Atomics.load(words, requests[i]);
          if (bits === 0) continue;
          ran = true;
          signals[i].clearInterrupt(bits);
          ghost[SEEN]++;
        }
        if (!ran) Atomics.wait(words, seq, key);
      }
    };
  },
};

export const scenarios: readonly Scenario[] = [
  sections,
  sectionsInside,
  kick,
  together,
  exitRequest,
  bigLock,
  requests,
];
