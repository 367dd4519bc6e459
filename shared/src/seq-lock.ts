/**
 * SeqLock: readers of a few words that are written together, without a lock for the readers.
 *
 *   seq   even: the data are whole; odd: a write section is open
 *   count an EventCount for readers that have met an open section for too long
 *
 * writer: writeBegin (seq + 1: odd), writes, writeEnd (seq + 1: even, wake). It is never held up by
 *         readers. Write sections must not overlap: writers hold a lock of their own around them.
 * reader: do { s = readBegin(); read … } while (readRetry(s)); readBegin gives an even number, readRetry
 *         tells whether it has changed. What was read before readRetry returned false may be
 *         a mixture: it must not be used for anything that a mixture could break.
 *
 * Why it works: a reader that saw any word of a write section saw it after that section's writeBegin,
 * so its readRetry finds another number. If seq is the same even number at both ends, no section
 * was open or opened between.
 *
 * Memory order: on x86 stores are seen in order, loads are not moved across loads, and neither
 * compiler moves a plain access across an atomic one (a call or an effect), so data may be plain
 * fields. On a host with weaker order, data must be atomic fields.
 *
 * A reader spins only a little while a section is open (its writer may have lost its core), then sleeps
 * until writeEnd.
 */
import { checkPlace } from './errors.ts';
import { EventCount } from './event-count.ts';
import { opsFor, type SyncOps } from './sync-ops.ts';

const MAX_PAUSES = 40;

/** A sequence lock. All-zero memory is one without an open section. *Thread:* any. */
export class SeqLock {
  static readonly BYTES = 4 + EventCount.BYTES;
  static readonly ALIGN = 4;
  readonly address: number;
  readonly ops: SyncOps;
  private readonly ended: EventCount;

  constructor(buffer: SharedArrayBuffer, at: number, ops: SyncOps = opsFor(buffer)) {
    checkPlace(buffer, at, SeqLock.BYTES, SeqLock.ALIGN);
    this.address = at;
    this.ops = ops;
    this.ended = new EventCount(buffer, at + 4, ops);
  }

  /** Only while no other thread can know it. */
  init(): void {
    this.ops.store(this.address, 0);
    this.ended.init();
  }

  /** Opens a write section. *Lock:* the writers' own. *May block:* no. */
  writeBegin(): void {
    this.ops.add(this.address, 1);
  }

  /** Closes the write section. *Lock:* the writers' own. *May block:* no. */
  writeEnd(): void {
    this.ops.add(this.address, 1);
    this.ended.wake();
  }

  /** The number to give to `readRetry`. *May block:* while a write section is open. */
  readBegin(): number {
    const seq = this.ops.load(this.address);
    return (seq & 1) === 0 ? seq : this.readBeginSlow();
  }

  private readBeginSlow(): number {
    for (let i = 0; i < MAX_PAUSES; i++) {
      const seq = this.ops.load(this.address);
      if ((seq & 1) === 0) return seq;
      this.ops.pause();
    }
    for (;;) {
      const key = this.ended.prepare();
      const seq = this.ops.load(this.address);
      if ((seq & 1) === 0) return seq;
      this.ended.wait(key);
    }
  }

  /** True if what was read since `readBegin` gave `seq` may be a mixture. *May block:* no. */
  readRetry(seq: number): boolean {
    return this.ops.load(this.address) !== seq;
  }
}
