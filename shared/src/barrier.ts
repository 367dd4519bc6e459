/**
 * Barrier: a fixed number of threads meet, again and again.
 *
 *   arrived     threads that have come in this round
 *   generation  number of the round
 *   parties     how many threads a round takes
 *
 * wait: read the generation, then arrived + 1. The last to come sets arrived to 0, then bumps the
 * generation and wakes all; the others sleep while the generation is as read.
 *
 * The generation read is that of the thread's own round: it cannot advance before this thread has
 * arrived. arrived is 0 before anybody can enter the next round, because nobody leaves this one
 * before the bump that follows. A sleeper tests the generation, not the wake-up, so rounds cannot
 * mix; a thread that slept through two rounds is impossible, as the next one needs it.
 *
 * Memory order: everything written before an arrival happens before the last arrival (one word),
 * and that before the bump, which every thread sees before it leaves.
 */
import { checkPlace, SyncError } from './errors.ts';
import { opsFor, type SyncOps } from './sync-ops.ts';

const ARRIVED = 0;
const GENERATION = 4;
const PARTIES = 8;

/** A reusable barrier; `init` once before use. *Thread:* any. */
export class Barrier {
  static readonly BYTES = 12;
  static readonly ALIGN = 4;
  readonly address: number;
  readonly ops: SyncOps;

  constructor(buffer: SharedArrayBuffer, at: number, ops: SyncOps = opsFor(buffer)) {
    checkPlace(buffer, at, Barrier.BYTES, Barrier.ALIGN);
    this.address = at;
    this.ops = ops;
  }

  /** Only while no other thread can know it. @throws SyncError `bad-argument` */
  init(parties: number): void {
    if (!Number.isInteger(parties) || parties < 1 || parties > 0x7fffffff) {
      throw new SyncError('bad-argument', `a barrier cannot have ${parties} parties`);
    }
    this.ops.store(this.address + ARRIVED, 0);
    this.ops.store(this.address + GENERATION, 0);
    this.ops.store(this.address + PARTIES, parties);
  }

  /** Returns when all parties have come; true in the one that came last. *May block:* yes. */
  wait(): boolean {
    const generation = this.ops.load(this.address + GENERATION);
    if (this.arrive()) return true;
    while (this.ops.load(this.address + GENERATION) === generation) {
      this.ops.wait(this.address + GENERATION, generation, Infinity);
    }
    return false;
  }

  /** As `wait` for a thread that must not block. */
  async waitAsync(): Promise<boolean> {
    const generation = this.ops.load(this.address + GENERATION);
    if (this.arrive()) return true;
    while (this.ops.load(this.address + GENERATION) === generation) {
      await this.ops.waitAsync(this.address + GENERATION, generation, Infinity);
    }
    return false;
  }

  private arrive(): boolean {
    const parties = this.ops.load(this.address + PARTIES);
    if (this.ops.add(this.address + ARRIVED, 1) + 1 !== parties) return false;
    this.ops.store(this.address + ARRIVED, 0);
    this.ops.add(this.address + GENERATION, 1);
    this.ops.notify(this.address + GENERATION, Infinity);
    return true;
  }
}
