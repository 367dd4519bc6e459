/** Rules of the vCPU side (CLOCKS.md 6) in one thread; what needs several is explored, see docs/clocks-rules.md. */
import { setOwnerId } from '@smp86/atomics-sync';
import { describe, expect, test } from 'vitest';
import { CpuEnv, EXIT, INTERRUPT, VCPU_BLOCK_SIZE } from '../../src/cpu/env.ts';
import { Board } from '../../src/machine/board.ts';
import { Bql } from '../../src/machine/bql.ts';
import { CpuWork, CpuWorkError } from '../../src/machine/cpu-work.ts';
import { Exclusive, ExclusiveState } from '../../src/machine/exclusive.ts';
import { VcpuSignals } from '../../src/machine/signals.ts';
import { Vcpu } from '../../src/machine/vcpu.ts';

const BQL = 0;
const EXCLUSIVE = 64;
const WORK = EXCLUSIVE + Math.ceil(ExclusiveState.size / 64) * 64;
const CPUS = 2;
const VCPUS = WORK + Math.ceil(CpuWork.size(CPUS) / 64) * 64;
const word = (cpu: number, field: 'exitRequest' | 'halted' | 'stopRequested' | 'running'): number =>
  (VCPUS + cpu * VCPU_BLOCK_SIZE + CpuEnv.offsetOf(field)) >>> 2;

function setup(own: readonly number[] = [], exit: number = EXIT.KICK) {
  setOwnerId(1);
  const buffer = new SharedArrayBuffer(VCPUS + CPUS * VCPU_BLOCK_SIZE);
  const words = new Int32Array(buffer);
  const bases = Array.from({ length: CPUS }, (_, i) => VCPUS + i * VCPU_BLOCK_SIZE);
  const signals = bases.map((base) => new VcpuSignals(words, base, [base], exit));
  const bql = new Bql(buffer, BQL);
  const exclusive = new Exclusive(buffer, EXCLUSIVE, VCPUS, CPUS);
  const work = new CpuWork(buffer, WORK, { bql, signals, exclusive }, own);
  return { buffer, words, signals, bql, exclusive, work };
}

describe('work for a vCPU', () => {
  test('of the own thread is a call, with the BQL held', () => {
    const { work, bql } = setup([0, 1]);
    const calls: number[] = [];
    work.callbacks.register(1, (arg) => calls.push(arg, bql.held ? 1 : 0));
    expect(work.runOnCpu(1, 1, 7)).toBe(true);
    expect(calls).toEqual([7, 1]);
    bql.with(() => work.runOnCpu(0, 1, 8));
    expect(calls).toEqual([7, 1, 8, 1]);
    expect(work.pending(0)).toBe(false);
  });

  test('that is queued kicks, runs first in, first out, and wakes a waiter at its end', () => {
    const { work, words } = setup([0]);
    const calls: number[] = [];
    work.callbacks.register(1, (arg) => {
      calls.push(arg);
      if (arg === 1) work.asyncRunOnCpu(0, 1, 4);
    });
    work.asyncRunOnCpu(0, 1, 1);
    work.asyncRunOnCpu(0, 1, 2);
    work.asyncRunOnCpu(1, 1, 3);
    expect(words[word(0, 'exitRequest')]).toBe(EXIT.KICK);
    expect([work.pending(0), work.pending(1)]).toEqual([true, true]);
    work.process(0);
    expect(calls).toEqual([1, 2, 4]);
    expect([work.pending(0), work.pending(1)]).toEqual([false, true]);
  });

  test('that is safe runs without the BQL, and no other vCPU runs meanwhile', () => {
    const { work, bql, words } = setup([0]);
    const seen: unknown[] = [];
    work.callbacks.register(1, () => seen.push(bql.held, words[word(1, 'running')]));
    work.asyncSafeRunOnCpu(0, 1);
    work.process(0);
    expect(seen).toEqual([false, 0]);
  });

  test('does not wait for other work', () => {
    const { work } = setup([0]);
    let error: unknown;
    work.callbacks.register(1, () => {
      try {
        work.runOnCpu(1, 1);
      } catch (thrown) {
        error = thrown;
      }
    });
    work.asyncRunOnCpu(0, 1);
    work.process(0);
    expect(error).toBeInstanceOf(CpuWorkError);
  });

  test('is refused when 64 items wait', () => {
    const { work } = setup([0]);
    work.callbacks.register(1, () => {});
    for (let i = 0; i < 64; i++) work.asyncRunOnCpu(0, 1);
    expect(() => work.asyncRunOnCpu(0, 1)).toThrow(CpuWorkError);
    work.process(0);
    work.asyncRunOnCpu(0, 1);
  });

  test('for a thread that has ended is not waited for', () => {
    const { work, buffer, bql, signals, exclusive } = setup([0]);
    work.close(0);
    const other = new CpuWork(buffer, WORK, { bql, signals, exclusive });
    expect(other.runOnCpu(0, 1)).toBe(false);
  });
});

describe('a vCPU', () => {
  function vcpu() {
    const parts = setup([0]);
    const board = { cpuWork: parts.work, signals: parts.signals };
    const w = VCPUS >>> 2;
    const one = Object.assign(Object.create(Vcpu.prototype) as object, {
      index: 0,
      board,
      i32: parts.words,
      w,
      unmasked: () => -1,
    }) as unknown as Vcpu;
    return { ...parts, vcpu: one };
  }

  test('is idle when it is halted, with no request, no work and not told to stop', () => {
    const { vcpu: it, words, work, signals } = vcpu();
    expect(it.idle).toBe(false);
    words[word(0, 'halted')] = 1;
    expect(it.idle).toBe(true);
    work.callbacks.register(1, () => {});
    work.asyncRunOnCpu(0, 1);
    expect(it.idle).toBe(false);
    expect(it.processWork()).toBe(true);
    expect(it.processWork()).toBe(false);
    signals[0].interrupt(INTERRUPT.HARD);
    expect(it.idle).toBe(false);
    signals[0].clearInterrupt(INTERRUPT.HARD);
    expect(it.idle).toBe(true);
    words[word(0, 'stopRequested')] = 1;
    expect(it.idle).toBe(false);
  });
});

describe('round robin', () => {
  test.each([
    { accel: 'single', cpus: 2, icount: undefined, armed: [1e8 + 5] },
    { accel: 'single', cpus: 1, icount: undefined, armed: [] },
    { accel: 'multi', cpus: 2, icount: undefined, armed: [] },
    { accel: 'single', cpus: 2, icount: {}, armed: [] },
  ])(
    'has its timer of 100 ms of VIRTUAL only for several vCPUs of one thread, without icount: $accel, $cpus, $icount',
    (c) => {
      const { signals, words } = setup();
      const armed: number[] = [];
      const parts = {
        config: { accel: c.accel, cpus: c.cpus, icount: c.icount },
        clocks: { now: () => 5 },
        turnTimer: { modAnticipate: (ns: number) => armed.push(ns) },
        mem: { views: { i32: words } },
        layout: { vcpus: VCPUS },
        signals,
      };
      const board = Object.assign(Object.create(Board.prototype) as object, parts) as unknown as Board;
      board.startVcpus();
      expect(armed).toEqual(c.armed);
      expect(words[word(0, 'exitRequest')]).toBe(EXIT.KICK);
    },
  );

  test('a kick makes whichever vCPU runs leave, when they share a thread', () => {
    const { buffer } = setup();
    const words = new Int32Array(buffer);
    const bases = [VCPUS, VCPUS + VCPU_BLOCK_SIZE];
    new VcpuSignals(words, bases[1], bases).kick();
    expect([words[word(0, 'exitRequest')], words[word(1, 'exitRequest')]]).toEqual([EXIT.KICK, EXIT.KICK]);
  });

  test('with icount a kick of the own thread ends the turn, one of another thread does not', () => {
    const own = setup([], EXIT.KICK | EXIT.YIELD);
    own.signals[0].kick();
    expect(own.words[word(0, 'exitRequest')] & EXIT.YIELD).toBe(EXIT.YIELD);
    const other = setup();
    other.signals[0].kick();
    expect(other.words[word(0, 'exitRequest')] & EXIT.YIELD).toBe(0);
  });
});
