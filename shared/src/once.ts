/**
 * Once: something is done by the first thread that comes; the others wait until it is done.
 *
 *   NEW → RUNNING (by compare-exchange: this thread does it) → DONE
 *         RUNNING → WAITED (by a thread that is going to sleep) → DONE
 *   If it throws, RUNNING or WAITED → NEW, and the next thread tries.
 *
 * The end is an exchange; if it takes away WAITED, all are woken. A thread sleeps only while the
 * word is WAITED, so the exchange either comes before (the futex sees another value) or finds WAITED
 * and wakes it. What was done happens before the exchange, and that before any return of `run`.
 */
import { checkPlace } from './errors.ts';
import { opsFor, type SyncOps } from './sync-ops.ts';

const NEW = 0;
const RUNNING = 1;
const WAITED = 2;
const DONE = 3;

/** One-time initialisation. All-zero memory is one that has not run. *Thread:* any. */
export class Once {
  static readonly BYTES = 4;
  static readonly ALIGN = 4;
  readonly address: number;
  readonly ops: SyncOps;

  constructor(buffer: SharedArrayBuffer, at: number, ops: SyncOps = opsFor(buffer)) {
    checkPlace(buffer, at, Once.BYTES, Once.ALIGN);
    this.address = at;
    this.ops = ops;
  }

  /** Only while no other thread can know it. */
  init(): void {
    this.ops.store(this.address, NEW);
  }

  isDone(): boolean {
    return this.ops.load(this.address) === DONE;
  }

  /**
   * Calls `work` if nobody has done so with success, and returns when it is done; true if it was
   * this call that did it. What `work` throws is thrown here. *May block:* yes.
   */
  run(work: () => void): boolean {
    while (!this.isDone()) {
      if (this.begin()) {
        let end = NEW;
        try {
          work();
          end = DONE;
        } finally {
          this.end(end);
        }
        return true;
      }
      if (this.announce()) this.ops.wait(this.address, WAITED, Infinity);
    }
    return false;
  }

  /** As `run` for a thread that must not block; `work` may be asynchronous. */
  async runAsync(work: () => void | Promise<void>): Promise<boolean> {
    while (!this.isDone()) {
      if (this.begin()) {
        let end = NEW;
        try {
          await work();
          end = DONE;
        } finally {
          this.end(end);
        }
        return true;
      }
      if (this.announce()) await this.ops.waitAsync(this.address, WAITED, Infinity);
    }
    return false;
  }

  private begin(): boolean {
    return this.ops.compareExchange(this.address, NEW, RUNNING) === NEW;
  }

  /** Marks the word for a thread about to sleep; false if there is nothing to sleep for. */
  private announce(): boolean {
    const state = this.ops.compareExchange(this.address, RUNNING, WAITED);
    return state === RUNNING || state === WAITED;
  }

  private end(state: number): void {
    if (this.ops.exchange(this.address, state) === WAITED) this.ops.notify(this.address, Infinity);
  }
}
