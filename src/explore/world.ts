/** What the threads share: memory, its hash, the log to undo changes, the first failure. */
import type { HappensBefore } from './happens-before.ts';
import type { Site } from './rewrite.ts';
import type { Pending, Thread } from './thread.ts';

/** Kinds of operations. */
export const KIND = {
  NONE: 0,
  LOAD: 1,
  STORE: 2,
  COMPARE_EXCHANGE: 3,
  EXCHANGE: 4,
  ADD: 5,
  OR: 6,
  AND: 7,
  LOAD_F64: 8,
  STORE_F64: 9,
  WAIT: 10,
  NOTIFY: 11,
  STEP: 12,
  CHOOSE: 13,
  RACY: 14,
  FREE: 15,
} as const;
export const KIND_NAMES = [
  'none',
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
  'step',
  'choose',
  'plain',
  'free',
] as const;

export type FailureKind =
  | 'unreached'
  | 'assertion'
  | 'exception'
  | 'deadlock'
  | 'lost-wake-up'
  | 'livelock'
  | 'too-long'
  | 'race'
  | 'use-after-free'
  | 'end-state';

export interface Failure {
  readonly kind: FailureKind;
  readonly message: string;
}

/** Numbers that only scenarios use, after the shared memory proper. */
export const GHOSTS = 64;
/** Memory is given back by lines of so many bytes; after the ghosts there is a word for each, 1 when that was done. */
const LINE = 64;

export class World {
  readonly buffer: SharedArrayBuffer;
  readonly i32: Int32Array<SharedArrayBuffer>;
  readonly f64: Float64Array<SharedArrayBuffer>;
  /** The scenario's own numbers: not part of the program, so never in a race. */
  readonly ghost: Float64Array<SharedArrayBuffer>;
  /** Byte at which `ghost` begins, and shared memory ends. */
  readonly ghostAt: number;
  /** Word of the first line's flag. */
  readonly #freed: number;
  readonly sites: readonly Site[];
  readonly threads: Thread[] = [];
  /** True until the exploration begins: operations are done at once, nothing is recorded. */
  setup = true;
  ghostTouched = false;
  failure: Failure | undefined;
  running: Thread | undefined;
  /** Hash of memory. */
  a = 0;
  b = 0;
  readonly #undoWords: number[] = [];
  readonly #undoValues: number[] = [];

  constructor(bytes: number, sites: readonly Site[]) {
    const size = Math.ceil(bytes / 64) * 64;
    this.buffer = new SharedArrayBuffer(size + GHOSTS * 8 + (size / LINE) * 4);
    this.#freed = (size + GHOSTS * 8) >>> 2;
    this.i32 = new Int32Array(this.buffer);
    this.f64 = new Float64Array(this.buffer);
    this.ghost = new Float64Array(this.buffer, size, GHOSTS);
    this.ghostAt = size;
    this.sites = sites;
  }

  fail(kind: FailureKind, message: string): void {
    this.failure ??= { kind, message };
  }
  siteText(site: number): string {
    const s = this.sites[site] as Site | undefined;
    return s === undefined ? `site ${site}` : `${s.path}:${s.line} ${s.text}`;
  }

  // --- memory ---

  /** Makes a change of one word (or two) by `apply`; it can be undone. */
  change(word: number, double: boolean, apply: () => void): void {
    this.#before(word);
    if (double) this.#before(word + 1);
    apply();
    this.#after(word);
    if (double) this.#after(word + 1);
  }
  #before(word: number): void {
    const old = this.i32[word];
    this.#undoWords.push(word);
    this.#undoValues.push(old);
    this.#toggle(word, old);
  }
  #after(word: number): void {
    this.#toggle(word, this.i32[word]);
  }
  #toggle(word: number, value: number): void {
    let a = Math.imul(word ^ 0x9e3779b1, 0x85ebca6b) ^ value;
    a = Math.imul(a ^ (a >>> 15), 0x2c1b3c6d);
    a = Math.imul(a ^ (a >>> 12), 0x297a2d39);
    let b = Math.imul(word + 0x7f4a7c15, 0xc2b2ae35) ^ Math.imul(value, 0x27d4eb2f);
    b = Math.imul(b ^ (b >>> 16), 0x7feb352d);
    b = Math.imul(b ^ (b >>> 15), 0x846ca68b);
    this.a ^= a ^ (a >>> 15);
    this.b ^= b ^ (b >>> 16);
  }
  store(word: number, value: number): void {
    if (this.i32[word] === value) return;
    this.#before(word);
    this.i32[word] = value;
    this.#after(word);
  }
  get mark(): number {
    return this.#undoWords.length;
  }
  /** Takes back all changes since `mark`. The caller puts the hash back. */
  undo(mark: number): void {
    const words = this.#undoWords;
    const values = this.#undoValues;
    while (words.length > mark) this.i32[words.pop()!] = values.pop()!;
  }
  /** What was changed so far is the beginning. */
  commit(): void {
    this.#undoWords.length = this.#undoValues.length = 0;
    this.a = this.b = 0;
    this.#beginning = this.i32.slice();
  }
  #beginning = new Int32Array(0);
  /** Whether every change since `commit` was recorded: for tests. */
  get consistent(): boolean {
    const { a, b } = this;
    this.a = this.b = 0;
    for (let word = 0; word < this.i32.length; word++) {
      if (this.i32[word] === this.#beginning[word]) continue;
      this.#toggle(word, this.#beginning[word]);
      this.#toggle(word, this.i32[word]);
    }
    const same = this.a === a && this.b === b;
    this.a = a;
    this.b = b;
    return same;
  }

  /** Does an operation that needs no scheduler; the result as the operation gives it. */
  operate(op: Readonly<Pending>): number {
    const word = op.addr >>> 2;
    if ((op.addr & 3) !== 0 || op.addr >= this.ghostAt)
      throw new RangeError(`an operation at address ${op.addr}`);
    const old = this.i32[word];
    switch (op.kind) {
      case KIND.LOAD:
        return old;
      case KIND.STORE:
        this.store(word, op.p);
        return 0;
      case KIND.COMPARE_EXCHANGE:
        if (old === op.p) this.store(word, op.q);
        return old;
      case KIND.EXCHANGE:
        this.store(word, op.p);
        return old;
      case KIND.ADD:
        this.store(word, (old + op.p) | 0);
        return old;
      case KIND.OR:
        this.store(word, old | op.p);
        return old;
      case KIND.AND:
        this.store(word, old & op.p);
        return old;
      case KIND.LOAD_F64:
        return this.f64[word >>> 1];
      case KIND.STORE_F64:
        if (!Object.is(this.f64[word >>> 1], op.p)) {
          this.change(word, true, () => {
            this.f64[word >>> 1] = op.p;
          });
        }
        return 0;
      default:
        return 0;
    }
  }

  // --- races ---

  /** Current states of the threads, by index; the scheduler keeps them. */
  states: readonly { readonly open: readonly number[] }[] = [];

  /**
   * A plain access to bytes `start` … `end` - 1, or an atomic one, made by `thread` just now. Another thread that
   * has made a plain access to one of them and no step since is ordered neither before nor after: a race, if one of
   * the two writes.
   *
   * That finds every race when all interleavings are tried. Take any race and the schedule in which it shows first:
   * the two accesses can be brought next to each other, a plain one first, by exchanging steps that do not depend
   * on each other; and then the other thread's access meets it here.
   */
  look(thread: Thread, start: number, end: number, wrote: boolean, site: number): void {
    if (this.i32[this.#freed + Math.floor(start / LINE)] !== 0) this.#usedAfterFree(thread, start, site);
    const { states } = this;
    for (let t = 0; t < states.length; t++) {
      if (t === thread.index) continue;
      const { open } = states[t];
      for (let i = 0; i < open.length; i += 4) {
        if (open[i] >= end || open[i + 1] <= start || !(wrote || open[i + 2] === 1)) continue;
        const how = wrote ? 'writes' : 'reads';
        this.#race(start, thread.index, site, how, t, open[i + 3], open[i + 2] === 1 ? 'wrote' : 'read');
      }
    }
  }
  /** A plain access by `thread`. */
  plain(thread: Thread, start: number, end: number, wrote: boolean, site: number): void {
    this.look(thread, start, end, wrote, site);
    this.order?.plain(thread.index, start, end, wrote, site, (...race) => this.#race(start, ...race));
  }
  /** An atomic operation by `thread`. */
  atomic(thread: Thread, addr: number, size: number, reads: boolean, writes: boolean, site: number): void {
    this.look(thread, addr, addr + size, writes, site);
    this.order?.atomic(thread.index, addr, size, reads, writes, site, (...race) => this.#race(addr, ...race));
  }
  /** Vector clocks, when a single schedule is run. */
  order: HappensBefore | undefined;

  /** Nobody may touch `bytes` from `at` on any more. */
  free(at: number, bytes: number): void {
    if (at % LINE !== 0 || bytes % LINE !== 0) throw new RangeError(`${bytes} bytes at ${at} are no lines`);
    for (let line = at / LINE; line < (at + bytes) / LINE; line++) this.store(this.#freed + line, 1);
  }
  #usedAfterFree(thread: Thread, at: number, site: number): void {
    this.fail(
      'use-after-free',
      `thread ${thread.index} touches ${this.nameOf(at)} (${this.siteText(site)}), which was given back`,
    );
  }

  #race(at: number, a: number, siteA: number, howA: string, b: number, siteB: number, howB: string): void {
    this.fail(
      'race',
      `data race on ${this.nameOf(at)}: thread ${a} ${howA} it (${this.siteText(siteA)}), thread ${b} ${howB} it (${this.siteText(siteB)})`,
    );
  }

  /** What `Model.reached` was told. */
  readonly reached = new Set<string>();

  /** Names of areas, for messages. */
  readonly areas: { name: string; start: number; end: number }[] = [];
  nameOf(addr: number): string {
    // the last named is the most exact
    const area = this.areas.findLast((a) => addr >= a.start && addr < a.end);
    if (area === undefined) return `0x${addr.toString(16)}`;
    return addr === area.start ? area.name : `${area.name}+${addr - area.start}`;
  }
}
