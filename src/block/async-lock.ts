/** Mutual exclusion of coroutines of one thread, first come first served. */

/** *Thread:* owner. Taking a free lock suspends nobody. */
export class AsyncLock {
  #held = false;
  readonly #waiting: (() => void)[] = [];

  get held(): boolean {
    return this.#held;
  }

  /** Undefined when the lock was free and is now held: `const wait = lock.acquire(); if (wait) await wait;`. */
  acquire(): Promise<void> | undefined {
    if (!this.#held) {
      this.#held = true;
      return undefined;
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Hands the lock to who waits longest. */
  release(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#held = false;
  }

  /** Runs `body` with the lock held. */
  async run<T>(body: () => T | Promise<T>): Promise<T> {
    const wait = this.acquire();
    if (wait) await wait;
    try {
      return await body();
    } finally {
      this.release();
    }
  }
}
