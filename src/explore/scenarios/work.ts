/** Work for a vCPU's thread: run_on_cpu and its asynchronous forms. */
import { setOwnerId, viewsOf } from '@smp86/atomics-sync';
import { VCPU_BLOCK_SIZE } from '../../cpu/env.ts';
import { Bql } from '../../machine/bql.ts';
import { CpuWork } from '../../machine/cpu-work.ts';
import type { Exclusive } from '../../machine/exclusive.ts';
import { VcpuSignals } from '../../machine/signals.ts';
import type { Model, Scenario } from '../scenario.ts';
import { FEW_PAUSES, placeExclusive, placeVcpus } from './machine.ts';

/** Guest code that runs; items whose function runs; items by argument that have run; threads that wait no more. */
const GUESTS = 0;
const INSIDE = 1;
const RAN = 2;
const FINISHED = 6;

const BYTES = 2 * VCPU_BLOCK_SIZE + 32768;
const WORK = 1;
const SAFE = 2;

interface Parts {
  readonly bql: Bql;
  readonly exclusive: Exclusive;
  readonly signals: readonly VcpuSignals[];
  readonly work: CpuWork;
}

/** What thread `index` sees of a machine with two vCPUs; `own`: the vCPU that it runs. */
function parts(model: Model, index: number, own?: number): Parts {
  const { ghost } = model;
  setOwnerId(index + 1);
  const { i32 } = viewsOf(model.buffer);
  const base = placeVcpus(model, 2);
  const signals = [0, 1].map((i) => new VcpuSignals(i32, base + i * VCPU_BLOCK_SIZE));
  const bql = new Bql(model.buffer, model.place('bql', 16));
  const exclusive = placeExclusive(model, 2);
  const at = model.place('work', CpuWork.size(2), 64);
  const work = new CpuWork(model.buffer, at, { bql, exclusive, signals }, own === undefined ? [] : [own]);
  work.callbacks.register(WORK, (arg) => {
    model.assert(bql.held, 'work runs without the BQL');
    model.assert(ghost[INSIDE] === 0, 'work runs while other work does');
    ghost[INSIDE]++;
    model.step();
    ghost[INSIDE]--;
    ghost[RAN + arg]++;
  });
  work.callbacks.register(SAFE, (arg) => {
    model.assert(!bql.held, 'safe work runs with the BQL');
    model.assert(ghost[GUESTS] === 0, 'safe work runs while guest code does');
    ghost[INSIDE]++;
    model.step();
    model.assert(ghost[GUESTS] === 0, 'safe work runs while guest code does');
    ghost[INSIDE]--;
    ghost[RAN + arg]++;
  });
  return { bql, exclusive, signals, work };
}

function ranOnce(model: Model, arg: number): void {
  model.assert(model.ghost[RAN + arg] === 1, 'run_on_cpu returned before its function, or that ran twice');
}

/** vCPU `index` in the loop of its thread, until `ended` threads need it no more. */
function serve(model: Model, p: Parts, index: number, ended: number): void {
  const { ghost } = model;
  while (ghost[FINISHED] < ended) {
    const seq = p.signals[index].sequence;
    p.work.process(index);
    if (ghost[FINISHED] >= ended) break;
    if (!p.work.pending(index)) p.signals[index].sleep(seq);
  }
}
function finished(model: Model, p: Parts): void {
  model.ghost[FINISHED]++;
  for (const s of p.signals) s.kick();
}

const fromBoth: Scenario = {
  name: 'run-on-cpu',
  title: 'a vCPU in guest code and a thread with the BQL have a function each run on another vCPU, and wait',
  threads: ['vcpu 0', 'vcpu 1', 'outsider'],
  bytes: BYTES,
  patches: FEW_PAUSES,
  thread(model: Model, index: number) {
    const p = parts(model, index, index < 2 ? index : undefined);
    if (index === 0) return () => serve(model, p, 0, 2);
    if (index === 1) {
      return () => {
        p.exclusive.execStart(1);
        model.assert(p.work.runOnCpu(0, WORK, 0), 'the thread has ended');
        ranOnce(model, 0);
        p.exclusive.execEnd(1);
        finished(model, p);
      };
    }
    return () => {
      p.bql.lock();
      model.assert(p.work.runOnCpu(0, WORK, 1), 'the thread has ended');
      model.assert(p.bql.held, 'run_on_cpu returns without the BQL');
      ranOnce(model, 1);
      p.bql.unlock();
      finished(model, p);
    };
  },
};

const cross: Scenario = {
  name: 'run-on-cpu-cross',
  title: 'two vCPUs in guest code have a function run on each other, and wait',
  threads: ['vcpu 0', 'vcpu 1'],
  bytes: BYTES,
  patches: FEW_PAUSES,
  thread(model: Model, index: number) {
    const p = parts(model, index, index);
    return () => {
      p.exclusive.execStart(index);
      model.assert(p.work.runOnCpu(1 - index, WORK, index), 'the thread has ended');
      ranOnce(model, index);
      p.exclusive.execEnd(index);
      finished(model, p);
      serve(model, p, index, 2);
    };
  },
};

const safe: Scenario = {
  name: 'run-on-cpu-safe',
  title: 'a vCPU in guest code and another; a third thread queues work on one and safe work on the other',
  threads: ['vcpu 0', 'vcpu 1', 'outsider'],
  bytes: BYTES,
  patches: FEW_PAUSES,
  reaches: ['guest code'],
  thread(model: Model, index: number) {
    const { ghost } = model;
    const p = parts(model, index, index < 2 ? index : undefined);
    if (index === 2) {
      return () => {
        p.work.asyncSafeRunOnCpu(0, SAFE, 0);
        p.work.asyncRunOnCpu(0, WORK, 1);
      };
    }
    if (index === 1) {
      return () => {
        p.exclusive.execStart(1);
        model.reached('guest code');
        ghost[GUESTS]++;
        model.assert(ghost[INSIDE] === 0 || ghost[RAN] === 1, 'guest code runs during safe work');
        model.step();
        ghost[GUESTS]--;
        p.exclusive.execEnd(1);
      };
    }
    return () => {
      while (ghost[RAN + 1] === 0) {
        const seq = p.signals[0].sequence;
        p.work.process(0);
        if (ghost[RAN + 1] === 0 && !p.work.pending(0)) p.signals[0].sleep(seq);
      }
    };
  },
  end(model: Model) {
    model.assert(model.ghost[RAN] === 1 && model.ghost[RAN + 1] === 1, 'both ran once');
  },
};

const closed: Scenario = {
  name: 'run-on-cpu-end',
  title: 'a vCPU thread ends while two threads have a function run on it',
  threads: ['vcpu 0', 'vcpu 1', 'outsider'],
  bytes: BYTES,
  patches: FEW_PAUSES,
  reaches: ['ran', 'did not run'],
  thread(model: Model, index: number) {
    const p = parts(model, index, index < 2 ? index : undefined);
    if (index === 0) {
      return () => {
        p.work.process(0);
        p.work.close(0);
      };
    }
    return () => {
      const ran = p.work.runOnCpu(0, WORK, index);
      model.reached(ran ? 'ran' : 'did not run');
      model.assert(model.ghost[RAN + index] === (ran ? 1 : 0), 'the answer is wrong');
    };
  },
};

const running: Scenario = {
  name: 'run-on-cpu-running',
  title:
    'a vCPU waits in guest code for safe work of another, and goes on there, while a third thread has more',
  threads: ['vcpu 0', 'vcpu 1', 'outsider'],
  bytes: BYTES,
  patches: FEW_PAUSES,
  preemptions: 4,
  thread(model: Model, index: number) {
    const { ghost } = model;
    const p = parts(model, index, index < 2 ? index : undefined);
    if (index === 0) return () => serve(model, p, 0, 2);
    if (index === 1) {
      return () => {
        p.exclusive.execStart(1);
        p.work.asyncSafeRunOnCpu(0, SAFE, 0);
        model.assert(p.work.runOnCpu(0, WORK, 1), 'the thread has ended');
        ghost[GUESTS]++;
        model.step();
        ghost[GUESTS]--;
        p.exclusive.execEnd(1);
        finished(model, p);
      };
    }
    return () => {
      p.work.asyncSafeRunOnCpu(0, SAFE, 2);
      model.assert(p.work.runOnCpu(0, WORK, 3), 'the thread has ended');
      finished(model, p);
    };
  },
};

export const scenarios: readonly Scenario[] = [fromBoth, cross, safe, closed, running];
