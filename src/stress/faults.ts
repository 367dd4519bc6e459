/**
 * Faults that can be planted in the clock core as a thread loads it, so that one can see whether stress would find
 * them. The sources on disk stay as they are.
 */
import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';
import { StressError } from './errors.ts';

export interface Fault {
  readonly name: string;
  /** What is done to the source. */
  readonly note: string;
  /** Scenario in which it shows. */
  readonly scenario: string;
  /** `--threads` at which it shows soonest; others may wake a loop that has missed something. Default 3. */
  readonly threads?: number;
  /** End of the file's path. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

const TIMER_LIST = 'src/timer/timer-list.ts';

export const FAULTS: readonly Fault[] = [
  {
    name: 'done-early',
    note: 'a pass sets the done-event before its callbacks run',
    scenario: 'toggle',
    file: TIMER_LIST,
    find: 'const now = this.#clock.now(this.type);\n        for (;;) {',
    replace: 'const now = this.#clock.now(this.type);\n        this.#done.set();\n        for (;;) {',
  },
  {
    name: 'enabled-first',
    note: 'a pass tests whether the clock is enabled before it resets the done-event',
    scenario: 'toggle',
    file: TIMER_LIST,
    find: 'if (!nested) this.#done.reset();\n    try {\n      if (this.#clock.isEnabled(this.type)) {',
    replace:
      'const enabled = this.#clock.isEnabled(this.type);\n    if (!nested) this.#done.reset();\n    try {\n      if (enabled) {',
  },
  {
    name: 'no-wait',
    note: 'disabling a clock does not wait for the lists',
    scenario: 'toggle',
    file: 'src/timer/clock.ts',
    find: '?.lists[type].waitDone();',
    replace: '?.lists[type].head;',
  },
  {
    name: 'no-notify-head',
    note: 'a new first timer does not wake the loop',
    scenario: 'arm',
    file: TIMER_LIST,
    find: 'const isHead = this.#set(timer, when);\n    this.#lock.unlock();\n    if (isHead) this.notify();',
    replace: 'this.#set(timer, when);\n    this.#lock.unlock();',
  },
  {
    name: 'accept-late',
    note: 'a loop accepts notifications between its last look for work and its sleep',
    scenario: 'bottom-half',
    threads: 1,
    file: 'src/aio/aio-context.ts',
    find: 'this.#sleep(this.timeout());',
    replace:
      '{\n    const timeout = this.timeout();\n    this.group.notifier.accept();\n    this.#sleep(timeout);\n    }',
  },
  {
    name: 'bh-clear-late',
    note: "a bottom half's flags are cleared after its call",
    scenario: 'bottom-half',
    file: 'src/aio/bottom-half.ts',
    find: 'callbacks.run(callback, arg);',
    replace:
      'callbacks.run(callback, arg);\n      this.#ops.and(this.#flags(index), ~(BH.PENDING | BH.SCHEDULED | BH.IDLE));',
  },
  {
    name: 'mutex-no-wake',
    note: 'unlocking a contended mutex wakes nobody',
    scenario: 'main-loop',
    file: 'shared/src/mutex.ts',
    find: 'this.ops.notify(this.address, 1);',
    replace: ';',
  },
  {
    name: 'time-no-retry',
    note: 'VIRTUAL is taken from a read section that a writer disturbed',
    scenario: 'ticks',
    file: 'src/timer/clock.ts',
    find: 'const now = this.#virtualRtUnlocked();\n      if (!ticksSeq.readRetry(seq)) return now;',
    replace: 'return this.#virtualRtUnlocked();',
  },
];

/** Throws `ERR_STRESS_FAULT`. */
export function faultNamed(name: string): Fault {
  const fault = FAULTS.find((f) => f.name === name);
  if (fault === undefined) {
    const names = FAULTS.map((f) => f.name).join(', ');
    throw new StressError('ERR_STRESS_FAULT', `there is no fault ${name} (there are: ${names})`);
  }
  return fault;
}

/** Changes what the calling thread loads from now on. Throws `ERR_STRESS_FAULT`. */
export function plantFault(name: string): void {
  const fault = faultNamed(name);
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context);
      if (!url.startsWith('file:') || !fileURLToPath(url).endsWith(`/${fault.file}`)) return loaded;
      const source = String(loaded.source);
      if (source.split(fault.find).length !== 2) {
        throw new StressError(
          'ERR_STRESS_FAULT',
          `the source of ${fault.file} has no place for fault ${name}`,
        );
      }
      return { ...loaded, source: source.replace(fault.find, () => fault.replace) };
    },
  });
}
