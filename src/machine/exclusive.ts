/**
 * Exclusive sections: one thread runs while no vCPU executes guest code.
 *
 * States: `pending` 0 free, 1 requested. Per vCPU, `running` is 1 between execStart and execEnd.
 *
 * start: take `lock` (one exclusive section at a time), pending = 1, then for every other vCPU that is running: kick
 * it and wait until running is 0. execStart: running = 1; if pending then running = 0, tell the waiter, wait until
 * pending is 0, again. Who waits looks for a while before it sleeps. execEnd: running = 0; if pending, tell the waiter. end: pending = 0, wake all, release `lock`.
 *
 * Why it holds (all sequentially consistent): execStart stores running before it reads pending, start stores
 * pending before it reads running; so one of them sees the other. A caller that is itself a running vCPU is not
 * counted, and gives its own `running` up while it waits for `lock`, so that two that start at once do not wait
 * for each other.
 *
 * Lock order: BQL is never held by a thread that waits here (a running vCPU may need the BQL to reach execEnd).
 */
import { atomicI32, Mutex, bytes, opsFor, struct, type SyncOps, viewsOf } from '@smp86/atomics-sync';
import { CpuEnv, VCPU_BLOCK_SIZE } from '../cpu/env.ts';
import { VcpuSignals } from './signals.ts';

export const ExclusiveState = struct({
  pending: atomicI32,
  /** Bumped when a vCPU stops running while a section is pending; the starter waits on it. */
  progress: atomicI32,
  lock: bytes(Math.ceil(Mutex.BYTES / 8) * 8),
});

/** Pauses before a thread sleeps: a vCPU that runs leaves guest code, and a section ends, much sooner as a rule. */
const MAX_PAUSES = 300;

const RUNNING = CpuEnv.offsetOf('running') >>> 2;

/** *Thread:* any; one instance in each. *May block:* yes. */
export class Exclusive {
  private readonly ops: SyncOps;
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly pending: number;
  private readonly progress: number;
  private readonly lock: Mutex;
  private readonly vcpus: number;
  private readonly count: number;
  private readonly signals: VcpuSignals[];

  constructor(buffer: SharedArrayBuffer, at: number, vcpus: number, count: number) {
    this.ops = opsFor(buffer);
    this.words = viewsOf(buffer).i32;
    this.pending = (at + ExclusiveState.offsetOf('pending')) >>> 2;
    this.progress = (at + ExclusiveState.offsetOf('progress')) >>> 2;
    this.lock = new Mutex(buffer, at + ExclusiveState.offsetOf('lock'));
    this.vcpus = vcpus;
    this.count = count;
    this.signals = Array.from(
      { length: count },
      (_, i) => new VcpuSignals(this.words, vcpus + i * VCPU_BLOCK_SIZE),
    );
  }
  private runningWord(index: number): number {
    return ((this.vcpus + index * VCPU_BLOCK_SIZE) >>> 2) + RUNNING;
  }

  /** Waits a little for a word to become 0; whether it has. */
  private clears(word: number): boolean {
    for (let i = 0; i < MAX_PAUSES; i++) {
      if (Atomics.load(this.words, word) === 0) return true;
      this.ops.pause();
    }
    return false;
  }
  /** *Thread:* the vCPU's own. */
  isRunning(index: number): boolean {
    return Atomics.load(this.words, this.runningWord(index)) === 1;
  }
  /** How many vCPUs execute guest code. */
  countRunning(): number {
    let count = 0;
    for (let i = 0; i < this.count; i++) if (this.isRunning(i)) count++;
    return count;
  }
  /** The vCPU is about to execute guest code. */
  execStart(index: number): void {
    const { words } = this;
    const running = this.runningWord(index);
    for (;;) {
      Atomics.store(words, running, 1);
      if (Atomics.load(words, this.pending) === 0) return;
      this.execEnd(index);
      if (this.clears(this.pending)) continue;
      while (Atomics.load(words, this.pending) !== 0) Atomics.wait(words, this.pending, 1);
    }
  }
  /** The vCPU left guest code. */
  execEnd(index: number): void {
    const { words } = this;
    Atomics.store(words, this.runningWord(index), 0);
    if (Atomics.load(words, this.pending) !== 0) {
      Atomics.add(words, this.progress, 1);
      Atomics.notify(words, this.progress);
    }
  }

  /** Starts a section from vCPU `self` (inside or outside guest code), or from another thread (-1). */
  start(self: number): void {
    if (this.count === 1 && self === 0) return;
    const { words } = this;
    const wasRunning = self >= 0 && this.isRunning(self);
    if (wasRunning) this.execEnd(self);
    this.lock.lock();
    Atomics.store(words, this.pending, 1);
    for (let i = 0; i < this.count; i++) {
      if (i === self) continue;
      const running = this.runningWord(i);
      for (;;) {
        const seen = Atomics.load(words, this.progress);
        if (Atomics.load(words, running) === 0) break;
        this.signals[i].kick();
        if (this.clears(running)) break;
        Atomics.wait(words, this.progress, seen);
      }
    }
    if (wasRunning) Atomics.store(words, this.runningWord(self), 1);
  }
  end(self: number): void {
    if (this.count === 1 && self === 0) return;
    const { words } = this;
    Atomics.store(words, this.pending, 0);
    Atomics.notify(words, this.pending);
    this.lock.unlock();
  }
}
