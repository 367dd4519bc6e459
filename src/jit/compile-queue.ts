/**
 * Requests that wait for the JIT worker: each head once, those asked for most often first, within a budget of time. A
 * guest that makes ever new code hot must not take the vCPUs' cores for compiling.
 */
import type { RegionRequest } from './compiler.ts';

/** Part of the time that is for compiling, in the long run; V8 optimises for about as long again, in its own threads. */
const SHARE = 0.25;
/** Time for compiling that is saved up at most, ms: what a guest's start takes at once. */
const SAVED_MS = 2000;
/** More wait in vain: their heads will be asked for again if they stay hot. */
const MAX_WAITING = 256;

/** A request's head, as one number. */
export function headOf(request: RegionRequest): number {
  return request.desc + request.offset / 4096;
}

/** Time for compiling: it comes in at a steady rate, and some is saved up. */
export class CompileBudget {
  private readonly now: () => number;
  private level = SAVED_MS;
  private at: number;

  /** `now`: ms. */
  constructor(now: () => number) {
    this.now = now;
    this.at = now();
  }
  /** Time until something may be compiled, ms; 0: at once. */
  wait(): number {
    const now = this.now();
    this.level = Math.min(SAVED_MS, this.level + (now - this.at) * SHARE);
    this.at = now;
    return this.level > 0 ? 0 : (1 - this.level) / SHARE;
  }
  spend(ms: number): void {
    this.level -= ms;
  }
}

export interface QueueStatistics {
  /** Requests of vCPUs. */
  readonly requests: number;
  /** Requests, also those that follow from a region, for heads that waited already. */
  readonly merged: number;
  /** Requests, also those that follow from a region, given up since too many waited. */
  readonly overflowed: number;
  readonly waiting: number;
  /** Times that compiling had to wait for its budget. */
  readonly throttled: number;
  /** Time that compiling took, ms. */
  readonly milliseconds: number;
}

interface Waiting {
  readonly request: RegionRequest;
  times: number;
}

/** *Thread:* JIT worker. */
export class CompileQueue {
  private readonly compile: (
    request: RegionRequest,
    others: readonly RegionRequest[],
  ) => RegionRequest | undefined;
  private readonly now: () => number;
  private readonly later: (ms: number, body: () => void) => void;
  private readonly budget: CompileBudget;
  /** By head, in the order of their first request. */
  private readonly waiting = new Map<number, Waiting>();
  private scheduled = false;
  private readonly counts = { requests: 0, merged: 0, overflowed: 0, throttled: 0, milliseconds: 0 };

  /** `compile` gets with a request those for what was led to from the same region, and may ask for more. `later` calls `body` after that time, or after other messages where it is 0. */
  constructor(options: {
    compile(request: RegionRequest, others: readonly RegionRequest[]): RegionRequest | undefined;
    now(): number;
    later(ms: number, body: () => void): void;
  }) {
    this.compile = (request, others) => options.compile(request, others);
    this.now = () => options.now();
    this.later = (ms, body) => options.later(ms, body);
    this.budget = new CompileBudget(this.now);
  }

  get statistics(): QueueStatistics {
    return { ...this.counts, waiting: this.waiting.size };
  }

  add(request: RegionRequest): void {
    this.counts.requests++;
    this.put(request);
    this.schedule();
  }
  private put(request: RegionRequest): void {
    const head = headOf(request);
    const known = this.waiting.get(head);
    if (known !== undefined) {
      known.times++;
      this.counts.merged++;
    } else if (this.waiting.size === MAX_WAITING) {
      this.counts.overflowed++;
    } else {
      this.waiting.set(head, { request, times: 1 });
    }
  }

  private schedule(): void {
    if (this.scheduled || this.waiting.size === 0) return;
    this.scheduled = true;
    const wait = this.budget.wait();
    if (wait > 0) this.counts.throttled++;
    this.later(wait, () => {
      this.scheduled = false;
      if (this.budget.wait() === 0) this.compileOne();
      this.schedule();
    });
  }

  private compileOne(): void {
    let best: Waiting | undefined;
    for (const one of this.waiting.values()) if (best === undefined || one.times > best.times) best = one;
    if (best === undefined) return;
    this.waiting.delete(headOf(best.request));
    const { from } = best.request;
    const others = [...this.waiting.values()]
      .map(({ request }) => request)
      .filter((r) => from !== 0 && r.from === from);
    const begin = this.now();
    const more = this.compile(best.request, others);
    const spent = this.now() - begin;
    this.counts.milliseconds += spent;
    this.budget.spend(spent);
    if (more !== undefined) this.put(more);
  }
}
