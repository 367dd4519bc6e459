/** One program under a scheduler: does a step of a chosen thread, saves and restores where all of them stand. */
import { WAIT_NOT_EQUAL, WAIT_OK, WAIT_TIMED_OUT } from '@smp86/atomics-sync';
import { pathToFileURL } from 'node:url';
import { Program, type LoadOptions } from './loader.ts';
import type { Model, Scenario } from './scenario.ts';
import { NO_ACCESS, STATUS, Thread, type ThreadState } from './thread.ts';
import { KIND, World } from './world.ts';

/** A choice of the scheduler: thread + 16 * variant. */
export type Choice = number;
export const VARIANT_TIMEOUT = 1;
/** Variant of the first answer of `choose`. */
export const VARIANT_CHOICE = 2;
export const threadOf = (choice: Choice): number => choice & 15;
export const variantOf = (choice: Choice): number => choice >> 4;

/** Where all threads stand. */
export interface Position {
  readonly states: readonly ThreadState[];
  /** Sleeping threads, first come first. */
  readonly waiters: readonly number[];
  readonly mark: number;
  readonly a: number;
  readonly b: number;
}

/** A scenario with the module that exports it. */
export interface ScenarioSource {
  readonly path: string;
  readonly scenario: Scenario;
}

/** All scenarios of a module, which is loaded as it is: for names and settings. */
export async function scenariosOf(path: string): Promise<ScenarioSource[]> {
  const exports = (await import(pathToFileURL(path).href)) as { scenarios: readonly Scenario[] };
  return exports.scenarios.map((scenario) => ({ path, scenario }));
}

/** A program, ready to run. *Thread:* the explorer's one thread. */
export class Execution {
  readonly world: World;
  readonly scenario: Scenario;
  readonly program: Program;
  states: ThreadState[] = [];
  waiters: number[] = [];
  readonly #daemons: readonly boolean[];
  readonly #end: (() => unknown) | undefined;
  readonly #checker: Thread;
  #areas = 0;

  constructor(source: ScenarioSource, options: LoadOptions = {}) {
    const { scenario } = source;
    this.scenario = scenario;
    const patches = [...(scenario.patches ?? []), ...(options.patches ?? [])];
    this.program = new Program(source.path, { patches, only: scenario.only });
    const world = new World(scenario.bytes ?? 4096, this.program.sites);
    this.world = world;
    this.#daemons = scenario.threads.map((name) => scenario.daemons?.includes(name) ?? false);
    const model = this.#model();
    const find = (thread: Thread): Scenario => {
      const list = this.program.instantiate(thread).scenarios as readonly Scenario[];
      return list.find((s) => s.name === scenario.name)!;
    };
    // one more copy of the modules, with the number of no thread, makes and checks the memory
    this.#checker = new Thread(world, scenario.threads.length);
    world.running = this.#checker;
    const own = find(this.#checker);
    if (own.setup !== undefined) this.#checker.drive(own.setup(model));
    if (own.end !== undefined) this.#end = () => own.end!(model);
    scenario.threads.forEach((_, index) => {
      const thread = new Thread(world, index);
      world.threads.push(thread);
      world.running = thread;
      thread.body = thread.drive(find(thread).thread(model, index)) as () => unknown;
    });
    world.commit();
    world.setup = false;
    this.states = world.threads.map(() => ({ ...UNBORN }));
    world.states = this.states;
    world.threads.forEach((thread, i) => (this.states[i] = thread.begin()));
  }

  #model(): Model {
    const { world } = this;
    const places = new Map<string, number>();
    return {
      buffer: world.buffer,
      ghost: world.ghost,
      place: (name, bytes, align = 8) => {
        let at = places.get(name);
        if (at === undefined) {
          at = Math.ceil(this.#areas / align) * align;
          this.#areas = at + bytes;
          if (this.#areas > world.ghostAt)
            throw new RangeError(`scenario needs more than ${world.ghostAt} bytes`);
          places.set(name, at);
          world.areas.push({ name, start: at, end: at + bytes });
        }
        return at;
      },
      assert: (condition, message) => {
        if (!condition) world.fail('assertion', message);
      },
      label: (name, at, bytes) => {
        if (!world.areas.some((a) => a.name === name)) world.areas.push({ name, start: at, end: at + bytes });
      },
      reached: (what) => {
        world.reached.add(what);
      },
      // rewritten away in bodies
      step: () => {},
      choose: () => 0,
      free: () => {},
    };
  }

  /** Choices there are, the last thread's first. */
  choices(last: number): Choice[] {
    const out: Choice[] = [];
    const { states } = this;
    if (last >= 0) this.#choicesOf(last, out);
    for (let t = 0; t < states.length; t++) if (t !== last) this.#choicesOf(t, out);
    for (let t = 0; t < states.length; t++) {
      if (states[t].status === STATUS.BLOCKED && states[t].q !== Infinity) out.push(t + 16 * VARIANT_TIMEOUT);
    }
    return out;
  }
  #choicesOf(t: number, out: Choice[]): void {
    const s = this.states[t];
    if (s.status !== STATUS.READY && s.status !== STATUS.WOKEN) return;
    if (s.kind !== KIND.CHOOSE) out.push(t);
    else for (let i = 0; i < s.p; i++) out.push(t + 16 * (VARIANT_CHOICE + i));
  }

  /** Does one step; `world.failure` says whether something went wrong. */
  step(choice: Choice): void {
    const { world, states } = this;
    const t = threadOf(choice);
    const thread = world.threads[t];
    const s = states[t];
    world.ghostTouched = false;
    if (variantOf(choice) === VARIANT_TIMEOUT) {
      this.waiters = this.waiters.filter((w) => w !== t);
      this.#resume(thread, s, WAIT_TIMED_OUT);
      return;
    }
    if (s.status === STATUS.WOKEN) {
      this.#resume(thread, s, WAIT_OK);
      return;
    }
    switch (s.kind) {
      case KIND.STEP:
      case KIND.RACY:
        this.#resume(thread, s, 0);
        return;
      case KIND.FREE:
        world.free(s.addr, s.p);
        this.#resume(thread, s, 0);
        return;
      case KIND.CHOOSE:
        this.#resume(thread, s, variantOf(choice) - VARIANT_CHOICE);
        return;
      case KIND.NOTIFY:
        this.#resume(thread, s, this.#wake(t, s.addr, s.p));
        return;
      case KIND.WAIT: {
        const word = s.addr >>> 2;
        world.atomic(thread, s.addr, 4, true, false, s.site);
        if (world.i32[word] !== s.p) this.#resume(thread, s, WAIT_NOT_EQUAL);
        else if (s.q <= 0) this.#resume(thread, s, WAIT_TIMED_OUT);
        else {
          this.waiters = [...this.waiters, t];
          this.#become(thread, s, STATUS.BLOCKED);
        }
        return;
      }
      default: {
        const size = s.kind === KIND.LOAD_F64 || s.kind === KIND.STORE_F64 ? 8 : 4;
        const reads = s.kind !== KIND.STORE && s.kind !== KIND.STORE_F64;
        const writes =
          s.kind === KIND.COMPARE_EXCHANGE
            ? world.i32[s.addr >>> 2] === s.p
            : s.kind !== KIND.LOAD && s.kind !== KIND.LOAD_F64;
        world.atomic(thread, s.addr, size, reads, writes, s.site);
        this.#resume(thread, s, world.operate(s));
      }
    }
  }

  #resume(thread: Thread, from: ThreadState, result: number): void {
    this.states[thread.index] = thread.resume(result, from);
  }
  #become(thread: Thread, from: ThreadState, status: ThreadState['status']): void {
    const to: ThreadState = { ...from, status, open: NO_ACCESS };
    this.states[thread.index] = to;
    thread.adopt(from, to);
  }
  #wake(by: number, addr: number, count: number): number {
    let woken = 0;
    for (const w of this.waiters) {
      if (woken >= count) break;
      const s = this.states[w];
      if (s.addr !== addr) continue;
      woken++;
      this.world.order?.wake(by, w);
      this.#become(this.world.threads[w], s, STATUS.WOKEN);
    }
    if (woken > 0) this.waiters = this.waiters.filter((w) => this.states[w].status === STATUS.BLOCKED);
    return woken;
  }

  save(): Position {
    const { world } = this;
    return { states: this.states.slice(), waiters: this.waiters, mark: world.mark, a: world.a, b: world.b };
  }
  restore(position: Position): void {
    const { world } = this;
    world.undo(position.mark);
    world.a = position.a;
    world.b = position.b;
    world.failure = undefined;
    for (let t = 0; t < this.states.length; t++) this.states[t] = position.states[t];
    this.waiters = position.waiters as number[];
  }

  /** Hash of the whole state, two lanes. */
  keyA = 0;
  keyB = 0;
  /** Computes the hash; `last` takes part in it unless it is -1. */
  computeKey(last = -1): void {
    const { world, states, waiters } = this;
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
    if (last >= 0) {
      a = Math.imul(a ^ (last + 2), 0x27d4eb2f);
      b = Math.imul(b ^ (last + 2), 0x165667b1);
    }
    this.keyA = a ^ (a >>> 16);
    this.keyB = b ^ (b >>> 15);
  }

  /** When nobody can go on: is that an end, or has something been lost? */
  checkEnd(): void {
    const { world, states } = this;
    const stuck: number[] = [];
    states.forEach((s, t) => {
      if (s.status !== STATUS.DONE && !this.#daemons[t]) stuck.push(t);
    });
    if (stuck.length > 0) {
      this.#stuck(stuck);
      return;
    }
    if (this.#end === undefined) return;
    const { mark, a, b } = world;
    world.setup = true;
    world.running = this.#checker;
    try {
      this.#checker.drive(this.#end());
    } catch (error) {
      world.fail('end-state', String(error));
    }
    world.setup = false;
    world.undo(mark);
    world.a = a;
    world.b = b;
  }

  /** Names the threads that sleep for ever. */
  #stuck(stuck: readonly number[], inTime = false): void {
    const { world, states } = this;
    const lost = stuck.filter((t) => world.i32[states[t].addr >>> 2] !== states[t].p);
    const text = stuck.map((t) => {
      const s = states[t];
      const now = world.i32[s.addr >>> 2];
      const why = now === s.p ? `is still ${now}` : `is ${now} by now`;
      return `${this.scenario.threads[t]} sleeps on ${world.nameOf(s.addr)} while ${s.p}, which ${why}`;
    });
    world.fail(inTime || lost.length > 0 ? 'lost-wake-up' : 'deadlock', text.join('; '));
  }

  /** All sleep, and only timeouts can go on. */
  checkOnlyTimeouts(): void {
    const { states } = this;
    if (this.scenario.timeoutsAreLosses !== true) return;
    const sleeping = states.flatMap((s, t) => (s.status === STATUS.BLOCKED && !this.#daemons[t] ? [t] : []));
    if (sleeping.length === 0) return;
    this.#stuck(sleeping, true);
  }
}

const UNBORN: ThreadState = {
  status: STATUS.READY,
  kind: KIND.NONE,
  addr: 0,
  p: 0,
  q: 0,
  site: 0,
  a: 0,
  b: 0,
  results: 0,
  reads: 0,
  open: NO_ACCESS,
};

/** A step of a way that comes back to where it began. */
export interface CircleStep {
  readonly taken: Choice;
  /** Before the step. */
  readonly states: readonly ThreadState[];
}

/**
 * Whether a circle is a livelock: time does not pass on the way, and each thread that can run all the way does so.
 * No fair scheduler leaves it by itself.
 */
export function isLivelock(circle: readonly CircleStep[]): boolean {
  let ran = 0;
  let could = -1;
  for (const { taken, states } of circle) {
    if (variantOf(taken) === VARIANT_TIMEOUT) return false;
    ran |= 1 << threadOf(taken);
    let now = 0;
    states.forEach((s, t) => {
      // a thread in a timed sleep leaves it in time
      const can = s.status === STATUS.BLOCKED ? s.q !== Infinity : s.status !== STATUS.DONE;
      if (can) now |= 1 << t;
    });
    could &= now;
  }
  return (could & ~ran) === 0;
}
export const LIVELOCK = 'the threads go in a circle, each of those that can run taking part';
