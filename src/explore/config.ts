/** What the rewriter and the loader are told about the sources, beyond what the sources say. */

/** A plain access that other threads may make at the same time, on purpose. */
export interface Exemption {
  /** End of the file's path. */
  readonly file: string;
  /** Text of the expression, as it stands in the source. */
  readonly text: string;
  /**
   * `step`: the access is a step of its own, so that every interleaving of it is explored.
   * `quiet`: it is not, because no interleaving changes what the thread does.
   */
  readonly mode: 'step' | 'quiet';
  readonly reason: string;
}

export const EXEMPTIONS: readonly Exemption[] = [
  {
    file: 'shared/src/mutex.ts',
    text: 'this.i32[this.ownerIndex]',
    mode: 'quiet',
    reason:
      "compared with the thread's own id only, which no other thread writes: the thread's own last write decides",
  },
  {
    file: 'src/timer/timer-list.ts',
    text: 'this.#expiries[timer] = when',
    mode: 'step',
    reason: 'one aligned 8-byte store, read by `pending` and `expireTime` atomically and without the lock',
  },
  {
    file: 'src/timer/timer-list.ts',
    text: 'return this.#i32[this.#count]',
    mode: 'step',
    reason: 'a number for display and for an owner whose list nobody else may use any more',
  },
];

/** Names of values that are called and may be functions with steps: parameters and fields, not definitions. */
export const CALLBACK_NAMES: ReadonlySet<string> = new Set([
  'apply',
  'callback',
  'handler',
  'body',
  'work',
  '#notify',
]);

/** Methods of arrays that call what they are given; the runtime has them for functions with steps (thread.ts). */
export const ARRAY_METHODS: ReadonlySet<string> = new Set([
  'every',
  'some',
  'forEach',
  'map',
  'filter',
  'find',
  'findIndex',
]);

/**
 * What takes functions with steps, by name, and calls them under a name that is defined in the sources or is one of
 * CALLBACK_NAMES. Whatever else is given such a function is refused.
 */
export const CALLBACK_TAKERS: ReadonlySet<string> = new Set([
  'register',
  'addPoller',
  'onRequest',
  'with',
  'run',
  '#change',
  'BottomHalves',
  'assign',
]);

/** Methods of typed arrays that read or write many elements. */
export const BULK_METHODS: ReadonlySet<string> = new Set(['set', 'fill', 'copyWithin', 'slice']);

/** Files without any step, whatever the names of their functions. */
export const STEPLESS_FILES: readonly string[] = [
  'shared/src/struct.ts',
  'shared/src/placed.ts',
  'shared/src/errors.ts',
  'src/cpu/env.ts',
  'src/timer/host-time.ts',
];

/** Objects (text of the expression) that have a method by the name of one with steps, but are not it. */
export const STEPLESS_RECEIVERS =
  /^(?:this\.(?:clocks\.)?callbacks|offsets|viewCache|registry|Math|Number|Object|Array)$/;

/** Objects whose properties are fields of a struct, never getters with steps. */
export const STRUCT_RECEIVERS = /(?:^|[.#])(?:state|timerState|control|layout|env)$|State\.at\(/;

/** Files whose `async` functions are explored, with `await` as an ordinary call: nothing else runs in them. */
export const AWAIT_FREE_FILES: readonly string[] = [
  'src/aio/aio-context.ts',
  'src/aio/main-loop.ts',
  'src/machine/main-loop-thread.ts',
];

/** Module variables that functions assign, each once per thread at its start. */
export const THREAD_VARIABLES: ReadonlySet<string> = new Set(['ownerId', 'compiled', 'alive', 'aliveTimer']);

/** Operations of the seam that are steps. The others are `now` and `pause`, which no thread can observe. */
export const SEAM_STEPS: ReadonlySet<string> = new Set([
  'load',
  'store',
  'compareExchange',
  'exchange',
  'add',
  'or',
  'and',
  'loadF64',
  'storeF64',
  'wait',
  'notify',
]);
/** Operations of a scenario's model that are steps. */
export const MODEL_STEPS: ReadonlySet<string> = new Set(['step', 'choose', 'free']);

/** Method names of the language's own objects: a call of such a name is looked at when it has returned. */
export const BUILTIN_NAMES: ReadonlySet<string> = new Set(
  [Array, Map, Set, Uint8Array, String, Function, Promise, Object, Number].flatMap((type) => [
    ...Object.getOwnPropertyNames(type.prototype),
    ...Object.getOwnPropertyNames(type),
    ...Object.getOwnPropertyNames(Object.getPrototypeOf(type.prototype) ?? {}),
  ]),
);
