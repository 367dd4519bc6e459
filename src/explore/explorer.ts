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
  readonly #visited = new Visited();
  readonly #path: Node[] = [];
  #a = 0;
  #b = 0;

  constructor(execution: Execution, limits: Limits) {
    this.#execution = execution;
    this.#limits = limits;
    this.#bounded = limits.preemptions !== Infinity;
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
    let failure = world.failure;
    if (failure === undefined) this.#push(-1, 0, 0, this.#limits.preemptions);
    // where the execution stands: at the last node, or elsewhere
    let here = true;
    while (path.length > 0) {
      const node = path[path.length - 1];
      if (node.next >= node.choices.length) {
        this.#visited.setDepth(node.a, node.b, 0);
        path.pop();
        here = false;
        continue;
      }
      const choice = node.choices[node.next++];
      const bit = bitOf(choice);
      if ((node.sleep & bit) !== 0) continue;
      const t = threadOf(choice);
      const left = node.left - this.#cost(node, t);
      if (left < 0) continue;
      if (!here) execution.restore(node.position);
      const before = node.position.states[t];
      node.taken = choice;
      execution.step(choice);
      steps++;
      failure = world.failure;
      if (failure !== undefined) break;
      const ghost = world.ghostTouched;
      const sleep = this.#bounded ? 0 : this.#sleepAfter(node, t, before, ghost);
      if (!this.#bounded && before.kind !== KIND.CHOOSE) {
        node.sleep |= bit;
        if (ghost) node.ghosts |= bit;
      }
      here = this.#push(t, sleep, node.ghosts, left);
      if (world.failure !== undefined) {
        failure = world.failure;
        break;
      }
      if (!here) schedules++;
      else {
        const top = path[path.length - 1];
        if (top.choices.length === 0) {
          schedules++;
          execution.checkEnd();
          failure = world.failure;
          if (failure !== undefined) break;
        } else if (variantOf(top.choices[0]) === VARIANT_TIMEOUT) {
          execution.checkOnlyTimeouts();
          failure = world.failure;
          if (failure !== undefined) break;
        }
        if (path.length > maxSteps) {
          failure = { kind: 'too-long', message: `more than ${maxSteps} steps` };
          break;
        }
      }
      if (this.#visited.size > maxStates || ((steps & 1023) === 0 && performance.now() - start > maxMs)) {
        complete = false;
        break;
      }
    }
    const outcome = { schedules, states: this.#visited.size, steps, ms: performance.now() - start };
    if (failure === undefined && complete && !this.#bounded) failure = this.#unreached();
    if (failure?.kind === 'unreached') return { ...outcome, complete, failure };
    if (failure === undefined) return { ...outcome, complete };
    const top = path.at(-1);
    const ended = top !== undefined && top.next === 0;
    const schedule = path.slice(0, ended ? -1 : undefined).map((n) => n.taken);
    return { ...outcome, complete: false, failure, schedule };
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
    this.#hash(last);
    const a = this.#a;
    const b = this.#b;
    const visited = this.#visited;
    const slot = visited.slot(a, b);
    const known = visited.value(slot);
    let choices: readonly Choice[];
    if (known < 0) {
      visited.setValue(slot, this.#bounded ? Math.min(left, 0xffff) : sleep);
      choices = execution.choices(last);
    } else {
      const depth = visited.depth(slot);
      if (depth > 0 && this.#livelock(depth - 1)) {
        execution.world.fail(
          'livelock',
          'the threads go in a circle, each of those that can run taking part',
        );
        return false;
      }
      if (this.#bounded) {
        if (known >= left) return false;
        visited.setValue(slot, left);
        choices = execution.choices(last);
      } else {
        // what was left out then and is not now
        const missing = known & ~sleep;
        if (missing === 0) return false;
        visited.setValue(slot, known & sleep);
        choices = execution.choices(last).filter((c) => (missing & bitOf(c)) !== 0);
      }
    }
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
    visited.setDepth(a, b, this.#path.length);
    return true;
  }

  /**
   * The path comes back to its node `from`. That is a livelock if time does not pass on the way and each thread
   * that can run all the way does so: no fair scheduler leaves the circle by itself.
   */
  #livelock(from: number): boolean {
    let ran = 0;
    let could = -1;
    for (let i = from; i < this.#path.length; i++) {
      const { taken, position } = this.#path[i];
      if (variantOf(taken) === VARIANT_TIMEOUT) return false;
      ran |= 1 << threadOf(taken);
      let now = 0;
      position.states.forEach((s, t) => {
        if (s.status === STATUS.READY || s.status === STATUS.WOKEN) now |= 1 << t;
        // a thread in a timed sleep leaves it in time
        if (s.status === STATUS.BLOCKED && s.q !== Infinity) now |= 1 << t;
      });
      could &= now;
    }
    return (could & ~ran) === 0;
  }

  #hash(last: number): void {
    const { world, states, waiters } = this.#execution;
    let a = world.a;
    let b = world.b;
    for (let t = 0; t < states.length; t++) {
      const s = states[t];
      const tag = (s.status + 1) * 0x3c6ef35f + t;
      a = Math.imul((a ^ s.a) + tag, 0x85ebca6b);
      b = Math.imul((b ^ s.b) + tag, 0xc2b2ae35);
      a ^= a >>> 15;
      b ^= b >>> 13;
    }
    // the order counts among the sleepers on one word only
    let queueA = 0;
    let queueB = 0;
    for (let i = 0; i < waiters.length; i++) {
      const { addr } = states[waiters[i]];
      let place = 1;
      for (let k = 0; k < i; k++) if (states[waiters[k]].addr === addr) place++;
      const h = Math.imul(addr * 16 + waiters[i] + 1, 0x9e3779b1) ^ Math.imul(place, 0x27d4eb2f);
      queueA += Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
      queueB += Math.imul(h ^ (h >>> 12), 0x297a2d39);
    }
    a = Math.imul(a ^ queueA, 0x7feb352d);
    b = Math.imul(b ^ queueB, 0x846ca68b);
    if (this.#bounded) {
      a = Math.imul(a ^ (last + 2), 0x27d4eb2f);
      b = Math.imul(b ^ (last + 2), 0x165667b1);
    }
    this.#a = a ^ (a >>> 16);
    this.#b = b ^ (b >>> 15);
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
  if (u.kind === KIND.RACY || before.kind === KIND.RACY) return true;
  // its next atomic access meets a plain one: a race to be found in this order
  for (let i = 0; i < after.open.length; i += 4) {
    if (after.open[i] < u.addr + (wide(u.kind) ? 8 : 4) && after.open[i + 1] > u.addr) return true;
  }
  if (before.status === STATUS.WOKEN || (u.status === STATUS.WOKEN && !timeout)) return false;
  const size = wide(before.kind) || wide(u.kind) ? 8 : 4;
  if (!hasWord(before.kind) || !hasWord(u.kind) || Math.abs(before.addr - u.addr) >= size) return false;
  return ((1 << before.kind) & (1 << u.kind) & READS) === 0 && !(isRead(before.kind) && isRead(u.kind));
}

function hasWord(kind: number): boolean {
  return kind >= KIND.LOAD && kind <= KIND.NOTIFY;
}
function isRead(kind: number): boolean {
  return ((1 << kind) & READS) !== 0;
}
