/**
 * A race detector for one schedule, by vector clocks: a plain access races with another thread's earlier access, one of
 * them a write, that does not happen before it. What happens before what is as in the language's memory model
 * (ECMAScript, 29.10): the order in each thread; a write before an atomic read that sees its value; a notify before
 * the waiter goes on.
 *
 * For single schedules (random ones, replays). When all interleavings are tried, `World.look` finds the same races.
 */

/** Times (of the thread's own clock) and sites of each thread's last access of a kind; time 0: none. */
interface Accesses {
  readonly times: Int32Array;
  readonly sites: Int32Array;
}
interface Shadow {
  readonly reads: Accesses;
  readonly writes: Accesses;
}

/** Thread `a` has just made an access, which races with one that thread `b` made before. */
export type RaceReport = (
  a: number,
  siteA: number,
  howA: string,
  b: number,
  siteB: number,
  howB: string,
) => void;

export class HappensBefore {
  readonly #threads: number;
  /** For each thread: up to which time it knows each other; its own entry is its time. */
  readonly #clocks: Int32Array[];
  /** What the last atomic write of a word passes on. */
  readonly #passed = new Map<number, Int32Array>();
  readonly #plain = new Map<number, Shadow>();
  readonly #atomic = new Map<number, Shadow>();

  constructor(threads: number) {
    this.#threads = threads;
    this.#clocks = Array.from({ length: threads }, (_, t) => new Int32Array(threads).fill(1, t, t + 1));
  }

  /** An atomic operation of thread `t` on the word, or two, at `addr`. */
  atomic(
    t: number,
    addr: number,
    size: number,
    reads: boolean,
    writes: boolean,
    site: number,
    report: RaceReport,
  ): void {
    const clock = this.#clocks[t];
    if (reads) this.#join(clock, this.#passed.get(addr));
    for (let at = addr; at < addr + size; at++) {
      const s = this.#plain.get(at);
      if (s === undefined) continue;
      const how = writes ? 'atomically writes' : 'atomically reads';
      this.#check(t, s.writes, 'wrote', site, how, report);
      if (writes) this.#check(t, s.reads, 'read', site, how, report);
    }
    for (let at = addr; at < addr + size; at += 4) this.#note(this.#atomic, at, t, reads, writes, site);
    if (!writes) return;
    this.#passed.set(addr, clock.slice());
    clock[t]++;
  }

  /** A plain access of thread `t` to bytes `start` … `end` - 1. */
  plain(t: number, start: number, end: number, wrote: boolean, site: number, report: RaceReport): void {
    const how = wrote ? 'writes' : 'reads';
    for (let at = start; at < end; at++) {
      for (const s of [this.#plain.get(at), this.#atomic.get(at & ~3)]) {
        if (s === undefined) continue;
        this.#check(t, s.writes, 'wrote', site, how, report);
        if (wrote) this.#check(t, s.reads, 'read', site, how, report);
      }
      this.#note(this.#plain, at, t, !wrote, wrote, site);
    }
  }

  /** Thread `t` wakes thread `u`. */
  wake(t: number, u: number): void {
    this.#join(this.#clocks[u], this.#clocks[t]);
    this.#clocks[t][t]++;
  }

  #check(
    t: number,
    earlier: Accesses,
    howEarlier: string,
    site: number,
    how: string,
    report: RaceReport,
  ): void {
    const clock = this.#clocks[t];
    for (let u = 0; u < this.#threads; u++) {
      if (u !== t && earlier.times[u] > clock[u]) report(t, site, how, u, earlier.sites[u], howEarlier);
    }
  }
  #note(
    map: Map<number, Shadow>,
    at: number,
    t: number,
    reads: boolean,
    writes: boolean,
    site: number,
  ): void {
    let s = map.get(at);
    if (s === undefined) {
      const none = (): Accesses => ({
        times: new Int32Array(this.#threads),
        sites: new Int32Array(this.#threads),
      });
      map.set(at, (s = { reads: none(), writes: none() }));
    }
    for (const a of [reads ? s.reads : undefined, writes ? s.writes : undefined]) {
      if (a === undefined) continue;
      a.times[t] = this.#clocks[t][t];
      a.sites[t] = site;
    }
  }
  #join(clock: Int32Array, other: Int32Array | undefined): void {
    if (other === undefined) return;
    for (let i = 0; i < clock.length; i++) if (other[i] > clock[i]) clock[i] = other[i];
  }
}
