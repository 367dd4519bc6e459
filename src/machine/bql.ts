/**
 * The big lock: a futex mutex that protects device state. This wrapper knows whether *this thread* holds it, so
 * that code which runs both with and without it can ask.
 */
import { Mutex } from '@smp86/atomics-sync';

/** *Thread:* one instance in each worker. The host thread never takes the BQL. */
export class Bql {
  private readonly mutex: Mutex;
  held = false;

  constructor(buffer: SharedArrayBuffer, at: number) {
    this.mutex = new Mutex(buffer, at);
  }
  /** *May block:* yes. */
  lock(): void {
    if (this.held) throw new Error('BQL taken twice');
    this.mutex.lock();
    this.held = true;
  }
  unlock(): void {
    this.held = false;
    this.mutex.unlock();
  }
  /** Runs `body` with the lock held, taking it when this thread does not have it. */
  with<T>(body: () => T): T {
    if (this.held) return body();
    this.lock();
    try {
      return body();
    } finally {
      this.unlock();
    }
  }
}
