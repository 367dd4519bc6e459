/**
 * Work for a vCPU's thread: functions that any thread has run there, between stretches of guest code. QEMU's
 * run_on_cpu, async_run_on_cpu, async_safe_run_on_cpu.
 *
 * Each vCPU has a queue: a ring of items under a lock of its own. `queued` and `taken` count items for ever; an item's
 * ticket is `queued` when it was put in. `waiting` is their difference, read without the lock by a vCPU that decides
 * whether it may sleep.
 *
 * queue: lock; write the item; `waiting` = ...; unlock; kick. The vCPU reads `kickSeq`, then `waiting`, then sleeps
 * (signals.ts): an item that it does not see comes with a kick that ends the sleep.
 *
 * Items of a vCPU are run in the order of their tickets, one after the other, so `done` says which are finished: the
 * one with ticket t is when `done` - t > 0. After `done`, `progress` is bumped and its sleepers are woken; a waiter reads
 * `progress`, then looks at `done` and `closed`, then sleeps while `progress` is what it read. A waiter that is a
 * vCPU sleeps on its own `kickSeq` instead, is kicked, and runs its own items meanwhile: two that wait for each other
 * both come to an end. It does not count as running, so an exclusive section need not wait for it.
 *
 * An item's function does not wait for another item: it would stand in the way of those behind it.
 */
import { array, atomicI32, i32, Mutex, padTo, placed, struct, type ViewOf } from '@smp86/atomics-sync';
import { CallbackRegistry } from '../timer/callback-registry.ts';
import type { Bql } from './bql.ts';
import type { Exclusive } from './exclusive.ts';
import type { VcpuSignals } from './signals.ts';

/** Numbers of the functions that vCPU threads register. */
export const CPU_WORK = {
  /** Sleeps for a part of the throttle's period; arg: the vCPU. */
  THROTTLE: 0,
} as const;

/** Items that a vCPU's queue holds; a power of two. */
const CAPACITY = 64;

const WorkItem = struct({
  callback: i32,
  arg: i32,
  /** 1: to be run in an exclusive section. */
  exclusive: i32,
  /** The vCPU that waits for it, -1: none. */
  waiter: i32,
});

const WorkQueue = struct({
  /** Protects `queued`, `taken` and the items. */
  lock: placed(Mutex),
  queued: i32,
  taken: i32,
  /** `queued` - `taken`. Written under the lock, read without. */
  waiting: atomicI32,
  /** Items whose function has returned. Written by the vCPU's thread. */
  done: atomicI32,
  /** Bumped after each change of `done` and `closed`. */
  progress: atomicI32,
  /** 1: the vCPU's thread has ended. */
  closed: atomicI32,
  pad: padTo(64),
  items: array(WorkItem, CAPACITY),
});

export interface CpuWorkParts {
  readonly bql: Bql;
  readonly exclusive: Exclusive;
  /** Of all vCPUs. */
  readonly signals: readonly VcpuSignals[];
}

/** Too many items wait for one vCPU, or one waits where it must not. A mistake of the emulator, never of a guest. */
export class CpuWorkError extends Error {
  override readonly name = 'CpuWorkError';
}

/** A thread's view of the queues. */
export class CpuWork {
  /** Functions of this thread, if it runs vCPUs. */
  readonly callbacks = new CallbackRegistry();
  /** vCPUs that this thread runs. */
  readonly #own: readonly number[];
  readonly #queues: readonly ViewOf<typeof WorkQueue>[];
  readonly #bql: Bql;
  readonly #exclusive: Exclusive;
  readonly #signals: readonly VcpuSignals[];
  /** 1 while an item's function runs in this thread. */
  #running = 0;

  static size(cpus: number): number {
    return WorkQueue.size * cpus;
  }

  /** `own`: the vCPUs that the calling thread runs. */
  constructor(buffer: SharedArrayBuffer, at: number, parts: CpuWorkParts, own: readonly number[] = []) {
    this.#own = own;
    this.#queues = parts.signals.map((_, i) => WorkQueue.at(buffer, at + i * WorkQueue.size));
    this.#bql = parts.bql;
    this.#exclusive = parts.exclusive;
    this.#signals = parts.signals;
  }

  /**
   * Has function `callback` run with the BQL held in the thread of vCPU `cpu`, and returns when it has: at once if that
   * is this thread. The BQL is let go meanwhile. False: that thread has ended.
   * *Thread:* any but host. *Lock:* BQL or none. *May block:* yes. *Errors:* CpuWorkError from an item's function.
   */
  runOnCpu(cpu: number, callback: number, arg = 0): boolean {
    if (this.#own.includes(cpu)) {
      this.#bql.with(() => this.callbacks.run(callback, arg));
      return true;
    }
    if (this.#running !== 0) throw new CpuWorkError('run_on_cpu from queued work');
    // a thread that has several vCPUs has all there are, so a waiter has one
    const self = this.#own.length > 0 ? this.#own[0] : -1;
    const held = this.#bql.held;
    const ticket = this.#queue(cpu, callback, arg, 0, self);
    if (held) this.#bql.unlock();
    const done = self < 0 ? this.#waitOutside(cpu, ticket) : this.#waitAsVcpu(self, cpu, ticket);
    if (held) this.#bql.lock();
    return done;
  }

  /** As `runOnCpu`, but does not wait. *Thread:* any but host. *Lock:* any. *May block:* no. *Errors:* CpuWorkError. */
  asyncRunOnCpu(cpu: number, callback: number, arg = 0): void {
    this.#queue(cpu, callback, arg, 0, -1);
  }

  /** As `asyncRunOnCpu`, in an exclusive section and without the BQL: no vCPU executes guest code meanwhile. */
  asyncSafeRunOnCpu(cpu: number, callback: number, arg = 0): void {
    this.#queue(cpu, callback, arg, 1, -1);
  }

  /** Is there work for vCPU `cpu`? *Thread:* any. */
  pending(cpu: number): boolean {
    return this.#queues[cpu].waiting.load() !== 0;
  }

  /** Runs what waits for vCPU `cpu`. *Thread:* its own, outside guest code. *Lock:* none. *May block:* yes. */
  process(cpu: number): void {
    const state = this.#queues[cpu];
    while (state.waiting.load() !== 0) {
      state.lock.lock();
      const item = state.items[state.taken & (CAPACITY - 1)];
      const { callback, arg, exclusive, waiter } = item;
      state.taken = (state.taken + 1) | 0;
      state.waiting.store((state.queued - state.taken) | 0);
      state.lock.unlock();
      this.#running = 1;
      try {
        if (exclusive !== 0) this.#runExclusively(cpu, callback, arg);
        else this.#bql.with(() => this.callbacks.run(callback, arg));
      } finally {
        this.#running = 0;
        state.done.add(1);
        state.progress.add(1);
        state.progress.notify();
        if (waiter >= 0) this.#signals[waiter].kick();
      }
    }
  }

  /** The thread of vCPU `cpu` ends: nobody waits for it any more. *Thread:* its own. */
  close(cpu: number): void {
    const state = this.#queues[cpu];
    state.closed.store(1);
    state.progress.add(1);
    state.progress.notify();
    for (const s of this.#signals) s.kick();
  }

  #runExclusively(cpu: number, callback: number, arg: number): void {
    this.#exclusive.start(cpu);
    try {
      this.callbacks.run(callback, arg);
    } finally {
      this.#exclusive.end(cpu);
    }
  }

  /** Gives the item's ticket. */
  #queue(cpu: number, callback: number, arg: number, exclusive: number, waiter: number): number {
    const state = this.#queues[cpu];
    state.lock.lock();
    const ticket = state.queued;
    const full = ((ticket - state.taken) | 0) >= CAPACITY;
    if (!full) {
      const item = state.items[ticket & (CAPACITY - 1)];
      item.callback = callback;
      item.arg = arg;
      item.exclusive = exclusive;
      item.waiter = waiter;
      state.queued = (ticket + 1) | 0;
      state.waiting.store((state.queued - state.taken) | 0);
    }
    state.lock.unlock();
    if (full) throw new CpuWorkError(`${CAPACITY} items wait for vCPU ${cpu}`);
    this.#signals[cpu].kick();
    return ticket;
  }

  #isDone(cpu: number, ticket: number): boolean {
    return ((this.#queues[cpu].done.load() - ticket) | 0) > 0;
  }

  #waitOutside(cpu: number, ticket: number): boolean {
    const state = this.#queues[cpu];
    for (;;) {
      const seen = state.progress.load();
      if (this.#isDone(cpu, ticket)) return true;
      // it may have been run between the two looks
      if (state.closed.load() !== 0) return this.#isDone(cpu, ticket);
      state.progress.wait(seen);
    }
  }

  #waitAsVcpu(self: number, cpu: number, ticket: number): boolean {
    const running = this.#exclusive.isRunning(self);
    if (running) this.#exclusive.execEnd(self);
    const done = this.#waitWorking(self, cpu, ticket);
    if (running) this.#exclusive.execStart(self);
    return done;
  }

  #waitWorking(self: number, cpu: number, ticket: number): boolean {
    for (;;) {
      const seq = this.#signals[self].sequence;
      if (this.#isDone(cpu, ticket)) return true;
      if (this.#queues[cpu].closed.load() !== 0) return this.#isDone(cpu, ticket);
      if (this.pending(self)) this.process(self);
      else this.#signals[self].sleep(seq);
    }
  }
}
