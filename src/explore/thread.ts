/**
 * The runtime of rewritten code: one `Thread` per logical thread, which is `$T` in that thread's copy of the
 * modules. It turns operations into steps, records plain accesses, and keeps a hash of what the thread knows.
 *
 * The hash (two 32-bit lanes, `a` and `b`) covers everything that the thread has observed and not forgotten.
 * Code is deterministic, so threads of equal knowledge behave equally. A function that returns a plain value has
 * forgotten all but what its caller knew and that value; a loop's head knows what was known before the loop and the
 * variables that the loop assigns. Fields of the thread's own objects, changed outside constructors, are hashed
 * apart (`heapA`, `heapB`), as is shared memory (world.ts).
 */
import { WAIT_TIMED_OUT } from '@smp86/atomics-sync';
import { KIND, type World } from './world.ts';

/** Something that a thread is about to do. */
export interface Pending {
  kind: number;
  /** Byte address of the word. */
  addr: number;
  p: number;
  q: number;
  site: number;
}

/** The state of a thread between two steps; never changed once made. */
export interface ThreadState {
  readonly status: Status;
  readonly kind: number;
  readonly addr: number;
  readonly p: number;
  readonly q: number;
  readonly site: number;
  /** Knowledge. */
  readonly a: number;
  readonly b: number;
  /** Results received and plain values read so far. */
  readonly results: number;
  readonly reads: number;
  /** Plain accesses since its last step: first byte, byte after the last, 1 if it wrote, site; and so on. */
  readonly open: readonly number[];
}

export const STATUS = {
  /** Its pending operation can be done. */
  READY: 0,
  /** Sleeps in a wait. */
  BLOCKED: 1,
  /** Was woken, and has not gone on yet. */
  WOKEN: 2,
  DONE: 3,
} as const;
export type Status = (typeof STATUS)[keyof typeof STATUS];

/** A thread's body, made once; called anew for every run. */
export type Body = () => unknown;

type Steps = Generator<unknown, unknown, number>;
type StepFunction = (item: unknown, index: number) => unknown;

/** Every generator says so, to tell what a call has returned. */
const generatorPrototype = Object.getPrototypeOf(function* () {}.prototype) as object;
const anyGenerator = Object.getPrototypeOf(generatorPrototype) as object;
Object.defineProperty(anyGenerator, '$steps', { value: true, configurable: true });

/** Accesses of a thread that has made none. */
export const NO_ACCESS: readonly number[] = [];

const f64 = new Float64Array(1);
const i32OfF64 = new Int32Array(f64.buffer);

function isSteps(value: unknown): value is Steps {
  return (value as { $steps?: boolean } | null | undefined)?.$steps === true;
}

/** Numbers of objects whose fields change outside constructors. */
const objectIds = new WeakMap<object, number>();

export class Thread {
  readonly world: World;
  readonly index: number;
  a = 0;
  b = 0;
  heapA = 0;
  heapB = 0;
  /** Above 0: plain accesses are not looked at for races. */
  quiet = 0;
  readonly pending: Pending = { kind: KIND.NONE, addr: 0, p: 0, q: 0, site: 0 };
  /** Logical time of this thread; only timeouts move it. */
  time = 0;
  /** The state that the generator stands at, if it stands anywhere. */
  at: ThreadState | undefined;
  body: Body = () => undefined;
  #steps: Steps | undefined;
  /** Results and plain values that the thread has received, to run it again to where it was. */
  #results: number[] = [];
  #resultCount = 0;
  #reads: (number | bigint)[] = [];
  #readCount = 0;
  #again = false;
  #newObjects = 0;
  #open: number[] | undefined;
  /** Changes of the thread's own objects: object, key, value before. */
  readonly #heapLog: unknown[] = [];

  constructor(world: World, index: number) {
    this.world = world;
    this.index = index;
  }

  // --- knowledge ---

  mix(value: number): void {
    let a = this.a;
    let b = this.b;
    if ((value | 0) === value) {
      a = Math.imul(a ^ value, 0x85ebca6b);
      b = Math.imul(b ^ value, 0xc2b2ae35);
    } else {
      f64[0] = value;
      a = Math.imul(a ^ i32OfF64[0], 0x85ebca6b);
      b = Math.imul(b ^ i32OfF64[0], 0xc2b2ae35);
      a = Math.imul((a << 7) ^ (a >>> 25) ^ i32OfF64[1], 0x9e3779b1);
      b = Math.imul((b << 7) ^ (b >>> 25) ^ i32OfF64[1], 0x27d4eb2f);
    }
    this.a = (a ^ (a >>> 15)) + 0x165667b1;
    this.b = (b ^ (b >>> 13)) + 0x7feb352d;
  }
  /** A value of any type; false when it says nothing that can be hashed. */
  #mixValue(value: unknown): boolean {
    switch (typeof value) {
      case 'number':
        this.mix(value);
        return true;
      case 'boolean':
        this.mix(value ? 0x51ed27 : 0x2f1b3c);
        return true;
      case 'undefined':
        this.mix(0x3779f1);
        return true;
      case 'bigint':
        this.mix(Number(BigInt.asIntN(32, value)));
        this.mix(Number(BigInt.asIntN(32, value >> 32n)));
        return true;
      default:
        if (value !== null) return false;
        this.mix(0x1234567);
        return true;
    }
  }
  /** A function begins; `id` is its place. */
  enter(id: number): void {
    this.mix(id ^ 0x5bd1e995);
  }
  /** A function returns `value`; `a`, `b` is what its caller knew. */
  out<T>(a: number, b: number, value: T): T {
    const [knownA, knownB] = [this.a, this.b];
    this.a = a;
    this.b = b;
    if (!this.#mixValue(value)) {
      // which object it is depends on what was seen
      this.a = knownA;
      this.b = knownB;
    }
    return value;
  }
  /** The head of loop `id`, or its end; `a`, `b` is what was known before, the rest the variables that it assigns. */
  loop(a: number, b: number, id: number, ...variables: unknown[]): void {
    for (const v of variables) if (v !== null && (typeof v === 'object' || typeof v === 'function')) return;
    this.a = a;
    this.b = b;
    this.mix(id ^ 0x2545f491);
    for (const v of variables) this.#mixValue(v);
  }

  // --- plain accesses ---

  /** `array[index]`. */
  rd(array: never[], index: number, site: number): unknown {
    const view = array as unknown as Int32Array;
    const { world } = this;
    if (view.byteOffset === undefined || view.buffer !== (world.buffer as unknown)) return array[index];
    if (world.setup) return view[index];
    let value: number | bigint;
    if (this.#again) value = this.#reads[this.#readCount++];
    else {
      value = view[index];
      this.#reads[this.#readCount++] = value;
      this.#access(view.byteOffset + index * view.BYTES_PER_ELEMENT, view.BYTES_PER_ELEMENT, 0, site);
    }
    if (typeof value === 'number') this.mix(value);
    else this.#mixValue(value);
    return value;
  }

  /** `array[index] = value`. */
  wr<T>(array: T[], index: number, value: T, site: number): T {
    const view = array as unknown as Int32Array;
    const { world } = this;
    if (view.byteOffset === undefined || view.buffer !== (world.buffer as unknown)) {
      if (world.setup) array[index] = value;
      else this.#field(array, index, value);
      return value;
    }
    if (world.setup) {
      // also the check of an end state is taken back
      world.change(
        (view.byteOffset + index * view.BYTES_PER_ELEMENT) >>> 2,
        view.BYTES_PER_ELEMENT === 8,
        () => {
          array[index] = value;
        },
      );
      return value;
    }
    if (this.#again) return value;
    const at = view.byteOffset + index * view.BYTES_PER_ELEMENT;
    this.#access(at, view.BYTES_PER_ELEMENT, 1, site);
    world.change(at >>> 2, view.BYTES_PER_ELEMENT === 8, () => (array[index] = value));
    return value;
  }

  /** `object.name(...rest)`: element by element, if it is an array in shared memory. */
  bulk(
    object: Record<string, (...rest: unknown[]) => unknown>,
    name: string,
    site: number,
    ...rest: unknown[]
  ): unknown {
    const view = object as unknown as Int32Array;
    const { world } = this;
    const source = rest[0] as Int32Array | undefined;
    const shared = (v: Int32Array | undefined): boolean => v?.buffer === (world.buffer as unknown);
    if (world.setup || view.byteOffset === undefined || !(shared(view) || shared(source)))
      return object[name](...rest);
    const array = view as unknown as number[];
    const index = (value: unknown, otherwise: number): number =>
      value === undefined ? otherwise : (value as number);
    switch (name) {
      case 'set': {
        const at = index(rest[1], 0);
        for (let i = 0; i < source!.length; i++) {
          this.wr(array, at + i, this.rd(source as unknown as never[], i, site) as number, site);
        }
        return undefined;
      }
      case 'fill':
        for (let i = index(rest[1], 0); i < index(rest[2], view.length); i++)
          this.wr(array, i, rest[0] as number, site);
        return object;
      case 'slice': {
        const copy = view.slice(rest[0] as number | undefined, rest[1] as number | undefined);
        const from = index(rest[0], 0);
        for (let i = 0; i < copy.length; i++)
          copy[i] = this.rd(array as unknown as never[], from + i, site) as number;
        return copy;
      }
      default:
        throw new Error(`${name} of shared memory cannot be explored: ${world.siteText(site)}`);
    }
  }

  #access(at: number, size: number, wrote: 0 | 1, site: number): void {
    const { world } = this;
    if (at >= world.ghostAt) {
      world.ghostTouched = true;
      return;
    }
    if (this.quiet > 0) return;
    (this.#open ??= []).push(at, at + size, wrote, site);
    world.plain(this, at, at + size, wrote === 1, site);
  }

  /** `object.key = value`, in any place but the object's constructor. */
  put<T>(object: Record<string, unknown>, key: string, value: T): T {
    // a struct's setter records the access itself
    if (this.world.setup || object.$views !== undefined) object[key] = value;
    else this.#field(object, key, value);
    return value;
  }

  #field(object: object, key: string | number, value: unknown): void {
    const fields = object as Record<string | number, unknown>;
    const old = fields[key];
    if (old === value) return;
    this.#heapLog.push(object, key, old);
    this.#hashField(object, key, old);
    this.#hashField(object, key, value);
    fields[key] = value;
  }
  /**
   * A number for the object: by what the thread knew when it first changed it, so that an object made anew in every run
   * is the same in all runs that come to it in the same way.
   */
  #idOf(object: object, a: number, b: number): number {
    let id = objectIds.get(object);
    if (id === undefined) {
      id = Math.imul(a ^ Math.imul(b, 0x9e3779b1), 0x85ebca6b) ^ this.#newObjects++;
      objectIds.set(object, id);
    }
    return id;
  }
  #hashField(object: object, key: string | number, value: unknown): void {
    const [a, b] = [this.a, this.b];
    this.a = this.#idOf(object, a, b);
    this.b = ~this.a;
    if (typeof key === 'number') this.mix(key);
    else for (let i = 0; i < key.length; i++) this.mix(key.charCodeAt(i));
    if (!this.#mixValue(value))
      this.mix(typeof value === 'string' ? value.length : this.#idOf(value as object, a, b));
    this.heapA ^= this.a;
    this.heapB ^= this.b;
    this.a = a;
    this.b = b;
  }

  // --- operations: each fills in `pending`, and the yield that follows is the step ---

  #do(kind: number, site: number, addr: number, p: number, q: number): void {
    const { pending } = this;
    pending.kind = kind;
    pending.site = site;
    pending.addr = addr;
    pending.p = p;
    pending.q = q;
  }
  load(site: number, addr: number): void {
    this.#do(KIND.LOAD, site, addr, 0, 0);
  }
  store(site: number, addr: number, value: number): void {
    this.#do(KIND.STORE, site, addr, value | 0, 0);
  }
  compareExchange(site: number, addr: number, expected: number, value: number): void {
    this.#do(KIND.COMPARE_EXCHANGE, site, addr, expected | 0, value | 0);
  }
  exchange(site: number, addr: number, value: number): void {
    this.#do(KIND.EXCHANGE, site, addr, value | 0, 0);
  }
  add(site: number, addr: number, value: number): void {
    this.#do(KIND.ADD, site, addr, value | 0, 0);
  }
  or(site: number, addr: number, value: number): void {
    this.#do(KIND.OR, site, addr, value | 0, 0);
  }
  and(site: number, addr: number, value: number): void {
    this.#do(KIND.AND, site, addr, value | 0, 0);
  }
  loadF64(site: number, addr: number): void {
    this.#do(KIND.LOAD_F64, site, addr, 0, 0);
  }
  storeF64(site: number, addr: number, value: number): void {
    this.#do(KIND.STORE_F64, site, addr, value, 0);
  }
  wait(site: number, addr: number, expected: number, timeoutNs: number): void {
    this.#do(KIND.WAIT, site, addr, expected | 0, timeoutNs);
  }
  notify(site: number, addr: number, count: number): void {
    this.#do(KIND.NOTIFY, site, addr, count, 0);
  }
  /** A point where others may run, for scenarios. */
  step(site: number): void {
    this.#do(KIND.STEP, site, 0, 0, 0);
  }
  /** One of 0 … count-1: all are tried. */
  choose(site: number, count: number): void {
    this.#do(KIND.CHOOSE, site, 0, count, 0);
  }
  /** Memory is given back. */
  free(site: number, at: number, bytes: number): void {
    this.#do(KIND.FREE, site, at, bytes, 0);
  }
  /** A plain access that may race, on purpose. */
  racy(site: number): void {
    this.#do(KIND.RACY, site, 0, 0, 0);
  }
  pause(): void {}
  now(): number {
    return this.time;
  }
  waitAsync(): never {
    throw new Error('an async wait cannot be explored');
  }

  #word(array: Int32Array, index: number): number {
    return array.byteOffset + index * 4;
  }
  atomics_load(site: number, array: Int32Array, index: number): void {
    this.load(site, this.#word(array, index));
  }
  atomics_store(site: number, array: Int32Array, index: number, value: number): void {
    this.store(site, this.#word(array, index), value);
  }
  atomics_compareExchange(
    site: number,
    array: Int32Array,
    index: number,
    expected: number,
    value: number,
  ): void {
    this.compareExchange(site, this.#word(array, index), expected, value);
  }
  atomics_exchange(site: number, array: Int32Array, index: number, value: number): void {
    this.exchange(site, this.#word(array, index), value);
  }
  atomics_add(site: number, array: Int32Array, index: number, value: number): void {
    this.add(site, this.#word(array, index), value);
  }
  atomics_sub(site: number, array: Int32Array, index: number, value: number): void {
    this.add(site, this.#word(array, index), -value);
  }
  atomics_or(site: number, array: Int32Array, index: number, value: number): void {
    this.or(site, this.#word(array, index), value);
  }
  atomics_and(site: number, array: Int32Array, index: number, value: number): void {
    this.and(site, this.#word(array, index), value);
  }
  atomics_wait(site: number, array: Int32Array, index: number, expected: number, timeoutMs = Infinity): void {
    this.wait(site, this.#word(array, index), expected, timeoutMs * 1e6);
  }
  atomics_notify(site: number, array: Int32Array, index: number, count = Infinity): void {
    this.notify(site, this.#word(array, index), count);
  }

  // --- methods of arrays, for functions with steps ---

  *each_forEach(array: readonly unknown[], f: StepFunction): Steps {
    for (let i = 0; i < array.length; i++) yield* this.#call(f, array[i], i);
    return undefined;
  }
  *each_map(array: readonly unknown[], f: StepFunction): Steps {
    const out: unknown[] = [];
    for (let i = 0; i < array.length; i++) out.push(yield* this.#call(f, array[i], i));
    return out;
  }
  *each_filter(array: readonly unknown[], f: StepFunction): Steps {
    const out: unknown[] = [];
    for (let i = 0; i < array.length; i++) if (yield* this.#call(f, array[i], i)) out.push(array[i]);
    return out;
  }
  *each_findIndex(array: readonly unknown[], f: StepFunction): Steps {
    for (let i = 0; i < array.length; i++) if (yield* this.#call(f, array[i], i)) return i;
    return -1;
  }
  *each_find(array: readonly unknown[], f: StepFunction): Steps {
    return array[(yield* this.each_findIndex(array, f)) as number];
  }
  *each_some(array: readonly unknown[], f: StepFunction): Steps {
    return ((yield* this.each_findIndex(array, f)) as number) >= 0;
  }
  *each_every(array: readonly unknown[], f: StepFunction): Steps {
    for (let i = 0; i < array.length; i++) if (!(yield* this.#call(f, array[i], i))) return false;
    return true;
  }
  *#call(f: StepFunction, item: unknown, index: number): Steps {
    const value = f(item, index);
    return isSteps(value) ? yield* value : value;
  }

  /** What a function has returned of which nothing is known; if it has steps they would be left out. */
  value<T>(value: T, site: number): T {
    if (isSteps(value)) throw new Error(`unknown function with steps: ${this.world.siteText(site)}`);
    return value;
  }
  refuse(what: string): never {
    throw new Error(what);
  }

  // --- before the exploration ---

  /** Refuses what a run could not take back. */
  setupOnly(what: string): void {
    if (!this.world.setup) throw new Error(`${what}: keep it in shared memory or in a field`);
  }

  /** Does the pending operation at once. */
  now1(_: void): number {
    const { world, pending } = this;
    if (!world.setup) throw new Error(`a step where none can be: ${world.siteText(pending.site)}`);
    if (pending.kind === KIND.WAIT) throw new Error(`a wait in the set-up: ${world.siteText(pending.site)}`);
    return world.operate(pending);
  }
  /** Runs what may be a function with steps to its end. */
  drive(value: unknown): unknown {
    if (!isSteps(value)) return value;
    if (!this.world.setup) throw new Error('a constructor with steps outside the set-up');
    let r = value.next(0);
    while (!r.done) r = value.next(this.now1());
    return r.value;
  }

  // --- for the explorer ---

  /** Runs the body to its first operation. */
  begin(): ThreadState {
    this.#restart();
    return this.#resume(0);
  }

  /** Goes on with the result of the pending operation, to the next one. */
  resume(result: number, from: ThreadState): ThreadState {
    if (this.at !== from) this.#runAgain(from);
    this.#open = undefined;
    if (from.kind === KIND.WAIT && result === WAIT_TIMED_OUT) this.time += from.q;
    this.#results[this.#resultCount++] = result;
    this.mix(result);
    return this.#resume(result);
  }

  #resume(result: number): ThreadState {
    const { world } = this;
    world.running = this;
    let done = false;
    try {
      const r = this.#steps!.next(result);
      done = r.done === true;
    } catch (error) {
      done = true;
      world.fail('exception', error instanceof Error ? `${error.name}: ${error.message}` : String(error));
    }
    return (this.at = this.#state(done ? STATUS.DONE : STATUS.READY));
  }

  #state(status: Status): ThreadState {
    const { pending } = this;
    const done = status === STATUS.DONE;
    const open = this.#open ?? NO_ACCESS;
    let touched = 0;
    for (let i = 0; i < open.length; i += 4) {
      touched ^= Math.imul((open[i] * 2 + open[i + 2]) ^ 0x2f0b4c47, 0x9e3779b1);
    }
    return {
      status,
      kind: done ? KIND.NONE : pending.kind,
      addr: pending.addr,
      p: pending.p,
      q: pending.q,
      site: pending.site,
      a: (done ? 1 : this.a) ^ this.heapA ^ touched,
      b: (done ? 1 : this.b) ^ this.heapB ^ (touched >>> 7),
      results: this.#resultCount,
      reads: this.#readCount,
      open,
    };
  }

  /** The thread stands at `to` if it stood at `from`: it went to sleep, or was woken, and has not run since. */
  adopt(from: ThreadState, to: ThreadState): void {
    if (this.at === from) this.at = to;
  }

  #restart(): void {
    const log = this.#heapLog;
    while (log.length > 0) {
      const old = log.pop();
      const key = log.pop() as string;
      (log.pop() as Record<string, unknown>)[key] = old;
    }
    this.a = this.b = this.heapA = this.heapB = 0;
    this.quiet = this.#newObjects = 0;
    this.time = 0;
    this.#open = undefined;
    this.#resultCount = this.#readCount = 0;
    this.#steps = this.body() as Steps;
    if (!isSteps(this.#steps)) this.#steps = (function* () {})();
  }

  /** Runs the body again with the results and values of before, up to state `to`. */
  #runAgain(to: ThreadState): void {
    this.#restart();
    this.#again = true;
    const { world } = this;
    world.running = this;
    let result = 0;
    for (;;) {
      this.#steps!.next(result);
      if (this.#resultCount === to.results) break;
      result = this.#results[this.#resultCount++];
      if (this.pending.kind === KIND.WAIT && result === WAIT_TIMED_OUT) this.time += this.pending.q;
      this.mix(result);
    }
    this.#again = false;
    if (this.#readCount !== to.reads || this.pending.site !== to.site) {
      throw new Error(`thread ${this.index} does not do the same again: ${world.siteText(to.site)}`);
    }
  }
}
