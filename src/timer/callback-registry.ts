/**
 * Callbacks cross threads as numbers: shared memory holds a number and an argument, and the thread
 * that owns the list or the context has the function.
 */

/** A timer's or bottom half's function; `arg` is the number given when it was made. */
export type Callback = (arg: number) => void;

/** A number was run that this thread has no function for, or registered twice. */
export class CallbackError extends Error {
  override readonly name = 'CallbackError';
  readonly code: 'callback-unknown' | 'callback-taken';

  constructor(code: CallbackError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

/** First number handed out by `add`; lower ones are chosen by the caller of `register`. */
export const FIRST_DYNAMIC_CALLBACK = 256;

/** One thread's table from callback number to function. *Thread:* its own. *Lock:* none. */
export class CallbackRegistry {
  readonly #callbacks: (Callback | undefined)[] = [];
  readonly #names: string[] = [];
  readonly #freed: number[] = [];
  #next = FIRST_DYNAMIC_CALLBACK;

  /** Makes `callback` the function of number `id` in this thread. Throws `callback-taken`. */
  register(id: number, callback: Callback, name = `callback ${id}`): void {
    if (this.#callbacks[id] !== undefined) {
      throw new CallbackError('callback-taken', `callback ${id} is already registered as ${this.#names[id]}`);
    }
    this.#callbacks[id] = callback;
    this.#names[id] = name;
  }

  /** Registers under a number no one else of this thread uses, and returns it. */
  add(callback: Callback, name?: string): number {
    let id = this.#freed.pop();
    if (id === undefined || this.#callbacks[id] !== undefined) {
      while (this.#callbacks[this.#next] !== undefined) this.#next++;
      id = this.#next++;
    }
    this.register(id, callback, name);
    return id;
  }

  /** Forgets number `id`. */
  remove(id: number): void {
    if (this.#callbacks[id] === undefined) return;
    this.#callbacks[id] = undefined;
    if (id >= FIRST_DYNAMIC_CALLBACK) this.#freed.push(id);
  }

  /** Runs number `id`. Throws `callback-unknown`. */
  run(id: number, arg: number): void {
    const callback = this.#callbacks[id];
    if (callback === undefined) {
      throw new CallbackError('callback-unknown', `callback ${id} is not registered in this thread`);
    }
    callback(arg);
  }

  /** Name of number `id` for messages. */
  nameOf(id: number): string {
    return this.#names[id] ?? `callback ${id}`;
  }
}
