/**
 * Tries all interleavings of a scenario: depth first, each state once.
 *
 * Two things make that finite and quick without leaving out a behaviour. Equal states (shared memory, sleepers in
 * their order, what each thread knows) are one. And of two next steps that do not depend on each other only one order is
 * tried (sleep sets; a state met again with a smaller sleep set is looked at again for the difference).
 * With a bound on preemptions the second is off, and a state is met again if more of the bound is left.
 */
import {
  type Choice,
  type Execution,
  isLivelock,
  LIVELOCK,
  type Position,
  threadOf,
  VARIANT_TIMEOUT,
  variantOf,
} from './execution.ts';
import { STATUS, type ThreadState } from './thread.ts';
import { Visited } from './visited.ts';
import { type Failure, KIND } from './world.ts';

export interface Limits {
  /** Switches away from a thread that could go on; `Infinity`: no bound. */
  readonly preemptions: number;
  readonly maxStates?: number;
  readonly maxMs?: number;
  /** Steps in one schedule. */
  readonly maxSteps?: number;
  /** Tries every schedule to its end, whatever is known: to check the rest of this file. */
  readonly naive?: boolean;
  /** Called at every end. */
  readonly onEnd?: () => void;
}

export interface Outcome {
  /** Ways to an end or to a state that was known. */
  readonly schedules: number;
  readonly states: number;
  readonly steps: number;
  readonly ms: number;
  /** Every schedule within the bound was covered. */
  readonly complete: boolean;
  readonly failure?: Failure;
  readonly schedule?: readonly Choice[];
}

const MAX_STEPS = 5000;

interface Node {
  readonly position: Position;
  readonly choices: readonly Choice[];
  next: number;
  /** Choices whose orders with what follows were tried: bit thread, or bit thread + 8 for its timeout. */
  sleep: number;
  /** Those of them that touch the scenario's own numbers, which every other such step depends on. */
  ghosts: number;
  /** Preemptions left. */
  readonly left: number;
  /** Thread of the step that led here. */
  readonly last: number;
  /** The step taken from here. */
  taken: Choice;
  readonly a: number;
  readonly b: number;
}

export class Explorer {
  readonly #execution: Execution;
  readonly #limits: Limits;
  readonly #bounded: boolean;
  readonly #naive: boolean;
  readonly #sleepSets: boolean;
  readonly #visited = new Visited();
  readonly #path: Node[] = [];

  constructor(execution: Execution, limits: Limits) {
    this.#execution = execution;
    this.#limits = limits;
    this.#bounded = limits.preemptions !== Infinity;
    this.#naive = limits.naive === true;
    this.#sleepSets = !this.#bounded && !this.#naive;
  }

  run(): Outcome {
    const { maxStates = Infinity, maxMs = Infinity, maxSteps = MAX_STEPS } = this.#limits;
    const execution = this.#execution;
    const { world } = execution;
    const start = performance.now();
    const path = this.#path;
    let schedules = 0;
    let steps = 0;
    let complete = true;
    if (world.failure === undefined) this.#push(-1, 0, 0, this.#limits.preemptions);
    // whether the execution stands at the last node of the path
    let here = true;
    while (path.length > 0 && world.failure === undefined) {
      const node = path[path.length - 1];
      if (node.next >= node.choices.length) {
        if (!this.#naive) this.#visited.setDepth(node.a, node.b, 0);
        path.pop();
        here = false;
        continue;
      }
      const choice = node.choices[node.next++];
      const bit = bitOf(choice);
      const t = threadOf(choice);
      const left = node.left - this.#cost(node, t);
      if ((node.sleep & bit) !== 0 || left < 0) continue;
      if (!here) execution.restore(node.position);
      const before = node.position.states[t];
      node.taken = choice;
      execution.step(choice);
      steps++;
      if (world.failure !== undefined) break;
      const ghost = world.ghostTouched;
      const sleep = this.#sleepSets ? this.#sleepAfter(node, t, before, ghost) : 0;
      if (this.#sleepSets && before.kind !== KIND.CHOOSE) {
        node.sleep |= bit;
        if (ghost) node.ghosts |= bit;
      }
      here = this.#push(t, sleep, node.ghosts, left);
      if (world.failure !== undefined) break;
      if (!here || this.#arrived()) schedules++;
      if (path.length > maxSteps) world.fail('too-long', `more than ${maxSteps} steps`);
      if (this.#visited.size > maxStates || ((steps & 1023) === 0 && performance.now() - start > maxMs)) {
        complete = false;
        break;
      }
    }
    const outcome = { schedules, states: this.#visited.size, steps, ms: performance.now() - start };
    const { failure } = world;
    if (failure !== undefined) {
      // a failure at the last node, which no step has been made from, or of a step made from it
      const schedule = path.filter((n) => n.taken >= 0).map((n) => n.taken);
      return { ...outcome, complete: false, failure, schedule };
    }
    const unreached = complete && !this.#bounded ? this.#unreached() : undefined;
    return unreached === undefined ? { ...outcome, complete } : { ...outcome, complete, failure: unreached };
  }

  /** Looks at the position that was come to; true when it is an end. */
  #arrived(): boolean {
    const execution = this.#execution;
    const { choices } = this.#path[this.#path.length - 1];
    if (choices.length === 0) {
      execution.checkEnd();
      this.#limits.onEnd?.();
      return true;
    }
    if (variantOf(choices[0]) === VARIANT_TIMEOUT) execution.checkOnlyTimeouts();
    return false;
  }

  #unreached(): Failure | undefined {
    const { scenario, world } = this.#execution;
    const missing = scenario.reaches?.filter((what) => !world.reached.has(what)) ?? [];
    if (missing.length === 0) return undefined;
    return { kind: 'unreached', message: `no schedule comes to: ${missing.join(', ')}` };
  }

  #cost(node: Node, t: number): number {
    if (!this.#bounded || node.last < 0 || node.last === t) return 0;
    const { status } = node.position.states[node.last];
    return status === STATUS.READY || status === STATUS.WOKEN ? 1 : 0;
  }

  /** The sleep set after `t` made a step from state `before`. */
  #sleepAfter(node: Node, t: number, before: ThreadState, ghost: boolean): number {
    let sleep = node.sleep;
    if (sleep === 0) return 0;
    const after = this.#execution.states[t];
    for (let u = 0; u < node.position.states.length; u++) {
      for (const bit of [1 << u, 256 << u]) {
        if ((sleep & bit) === 0) continue;
        const dependent =
          u === t ||
          (ghost && (node.ghosts & bit) !== 0) ||
          depends(node.position.states[u], bit > 255, before, after);
        if (dependent) sleep &= ~bit;
      }
    }
    return sleep;
  }

  /** Adds the execution's position to the path; false if there is nothing to try from it. */
  #push(last: number, sleep: number, ghosts: number, left: number): boolean {
    const execution = this.#execution;
    execution.computeKey(this.#bounded ? last : -1);
    const a = execution.keyA;
    const b = execution.keyB;
    const choices = this.#naive ? execution.choices(last) : this.#toTry(a, b, last, sleep, left);
    if (choices === undefined) return false;
    this.#path.push({
      position: execution.save(),
      choices,
      next: 0,
      sleep,
      ghosts,
      left,
      last,
      taken: -1,
      a,
      b,
    });
    if (!this.#naive) this.#visited.setDepth(a, b, this.#path.length);
    return true;
  }

  /** What is to be tried from the state with that hash; nothing if that has been done. */
  #toTry(a: number, b: number, last: number, sleep: number, left: number): readonly Choice[] | undefined {
    const execution = this.#execution;
    const visited = this.#visited;
    const slot = visited.slot(a, b);
    const known = visited.value(slot);
    const budget = Math.min(left, 0xffff);
    if (known < 0) {
      visited.setValue(slot, this.#bounded ? budget : sleep);
      return execution.choices(last);
    }
    const depth = visited.depth(slot);
    if (depth > 0 && this.#livelock(depth - 1)) {
      execution.world.fail('livelock', LIVELOCK);
      return undefined;
    }
    if (this.#bounded) {
      if (known >= budget) return undefined;
      visited.setValue(slot, budget);
      return execution.choices(last);
    }
    // what was left out then and is not now
    const missing = known & ~sleep;
    if (missing === 0) return undefined;
    visited.setValue(slot, known & sleep);
    return execution.choices(last).filter((c) => (missing & bitOf(c)) !== 0);
  }

  /** Whether it is a livelock that the path comes back to its node `from`. */
  #livelock(from: number): boolean {
    return isLivelock(this.#path.slice(from).map((n) => ({ taken: n.taken, states: n.position.states })));
  }
}

function bitOf(choice: Choice): number {
  return (variantOf(choice) === VARIANT_TIMEOUT ? 256 : 1) << threadOf(choice);
}

const READS = (1 << KIND.LOAD) | (1 << KIND.LOAD_F64);

/** Bytes of the word of an operation: [addr, addr + size). */
const wide = (kind: number): boolean => kind === KIND.LOAD_F64 || kind === KIND.STORE_F64;

/**
 * Whether the sleeping choice of another thread in state `u` (its timeout, when `timeout`) depends on the step that a
 * thread made from `before` to `after`.
 */
function depends(u: ThreadState, timeout: boolean, before: ThreadState, after: ThreadState): boolean {
  if (meetsAll(u.kind) || meetsAll(before.kind)) return true;
  // its next atomic access meets a plain one: a race to be found in this order
  for (let i = 0; i < after.open.length; i += 4) {
    if (after.open[i] < u.addr + (wide(u.kind) ? 8 : 4) && after.open[i + 1] > u.addr) return true;
  }
  if (before.status === STATUS.WOKEN || (u.status === STATUS.WOKEN && !timeout)) return false;
  const size = wide(before.kind) || wide(u.kind) ? 8 : 4;
  if (!hasWord(before.kind) || !hasWord(u.kind) || Math.abs(before.addr - u.addr) >= size) return false;
  return ((1 << before.kind) & (1 << u.kind) & READS) === 0 && !(isRead(before.kind) && isRead(u.kind));
}

/** Its order with any other step counts. */
function meetsAll(kind: number): boolean {
  return kind === KIND.RACY || kind === KIND.FREE;
}
function hasWord(kind: number): boolean {
  return kind >= KIND.LOAD && kind <= KIND.NOTIFY;
}
function isRead(kind: number): boolean {
  return ((1 << kind) & READS) !== 0;
}
