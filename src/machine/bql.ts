/**
 * The big lock: a futex mutex that protects device state. This wrapper knows whether *this thread* holds it, so
 * that code which runs both with and without it can ask.
 */
import { Mutex } from '@smp86/atomics-sync';
import type { Courier, Notifier } from '../timer/notifier.ts';

/** *Thread:* one instance in each worker. The host thread never takes the BQL. */
export class Bql implements Courier {
  private readonly mutex: Mutex;
  held = false;
  /** To be notified when this thread lets go. */
  private waiting: Notifier | undefined;
  /** This thread is the main loop. */
  private own = false;

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
    const { waiting } = this;
    if (waiting === undefined) return;
    this.waiting = undefined;
    waiting.notify();
  }
  /**
   * Notifications of the main loop by this thread while it holds the lock are sent, as one, when it lets go: the main loop
   * needs the lock for whatever it does, so until then it would wake up only to sleep again. The main loop's own
   * (`own`) are left out, since it looks at all its work before it sleeps.
   */
  carry(notifier: Notifier, own: boolean): void {
    this.own = own;
    notifier.courier = this;
  }
  holdsBack(notifier: Notifier): boolean {
    if (this.held && !this.own) this.waiting = notifier;
    return this.held;
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
