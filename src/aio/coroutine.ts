/**
 * A coroutine is an `async` function of a context's thread. While it waits for something that another thread does,
 * it yields here, and that thread has it scheduled: it goes on in its own context.
 */
import type { AioContext, BottomHalf } from './aio-context.ts';

/** Where one coroutine yields. *Thread:* owner; other threads have its number. */
export class Coroutine {
  readonly #half: BottomHalf;
  #scheduled = false;
  #resume: (() => void) | undefined;

  constructor(context: AioContext, name?: string) {
    this.#half = context.createBottomHalf(() => this.#enter(), 0, name);
  }

  /** For `AioContext.coSchedule`, in any thread. */
  get index(): number {
    return this.#half.index;
  }

  /**
   * Waits until it is scheduled; at once when that was done since the last time. Only one function may wait. Those that
   * are scheduled go on in that order, in the turn that is next then, when its callbacks have run.
   */
  async yield(): Promise<void> {
    if (!this.#scheduled) await new Promise<void>((resolve) => (this.#resume = resolve));
    this.#scheduled = false;
  }

  /** Gives its number back. */
  delete(): void {
    this.#half.delete();
  }

  #enter(): void {
    this.#scheduled = true;
    const resume = this.#resume;
    this.#resume = undefined;
    resume?.();
  }
}
