/**
 * What the emitter knows of addresses in a stretch of code that is executed from its start to its end: which locals
 * hold the same value but for a constant, and which of those values lie in a page that the TLB was asked for. An access
 * next to such an address needs no look into the TLB, only a look whether it is still in that page.
 *
 * The TLB's answer holds as long as nothing of the region calls out of it: until then nobody removes an entry of this
 * vCPU's, but for those who wait until it has left generated code (cpu/sys/tlb.ts).
 */
import { type Expr, EXTEND_U, type FuncBuilder, Local, LOCAL_GET } from '../wasm/index.ts';
import { isWithinPage } from '../cpu/sem/memory-access.ts';

/** The value of something: that of a root, plus `offset`. */
interface Origin {
  readonly root: number;
  readonly offset: number;
}
/** A page that has been looked up. */
export interface KnownPage {
  /** i32: of the root's value plus `offset`; as in `Probe`. */
  readonly distance: Local;
  readonly offset: number;
  /** i32: its wasm address. */
  readonly host: Local;
  /** So many bytes from there on are in the page for certain. */
  readonly size: number;
}
export interface Neighbour {
  readonly known: KnownPage;
  /** How far the address is from the one that was looked up. */
  readonly delta: number;
}

/** i32: do `size` bytes at a neighbour lie in the known page? Undefined: certainly. */
export function isInKnownPage({ known, delta }: Neighbour, size: number): Expr | undefined {
  const { distance } = known;
  const after = delta + size <= known.size;
  // `distance` is -1 less the offset in the page; beyond one end of it there may be nothing to look for
  if (delta >= 0) return after ? undefined : isWithinPage(distance, delta + size);
  if (after) return distance.leU(delta - 1);
  return isWithinPage(distance.sub(delta), size);
}

const PAGE = 4096;
/** Of an address's index, as a shift. */
const MAX_SCALE = 3;

export class KnownPages {
  private readonly f: FuncBuilder;
  /** By local's index. */
  private readonly origins = new Map<number, Origin>();
  private readonly reads = new Map<number, KnownPage>();
  private readonly writes = new Map<number, KnownPage>();
  /** Locals of what is known, for use again. */
  private readonly free: Local[] = [];
  private roots = 0;
  /** By the roots of two summands and the places that the first is shifted by: that of their sum. */
  private readonly sums = new Map<string, number>();
  /** Nesting of what is executed unconditionally. */
  private nesting = 0;

  constructor(f: FuncBuilder) {
    this.f = f;
  }
  /** A local gets a value. */
  assigned(local: Local, value: Expr): void {
    const origin = this.unconditional ? this.originOf(value) : undefined;
    if (origin === undefined) this.origins.delete(local.index);
    else this.origins.set(local.index, origin);
  }

  /** What is emitted now is executed whenever the stretch is. */
  get unconditional(): boolean {
    return this.f.nesting === this.nesting;
  }
  /** Control may come here from elsewhere: nothing is known. */
  arrive(): void {
    this.origins.clear();
    this.sums.clear();
    this.forget();
    this.continue();
  }
  /** Control comes here only from what was emitted last. */
  continue(): void {
    this.nesting = this.f.nesting;
  }
  /** The TLB may have changed. */
  forget(): void {
    for (const map of [this.reads, this.writes]) {
      for (const { distance, host } of map.values()) this.free.push(distance, host);
      map.clear();
    }
  }

  private originOf(e: Expr): Origin | undefined {
    // a register's value is an expression like its local
    if (e instanceof Local || e.code === LOCAL_GET) {
      const index = e.imms[0];
      let origin = this.origins.get(index);
      if (origin === undefined) {
        origin = { root: ++this.roots, offset: 0 };
        this.origins.set(index, origin);
      }
      return origin;
    }
    // addresses of one page differ in their low bits only, so zero-extension makes no difference between them
    if (e.code === EXTEND_U) return this.originOf(e.args[0]);
    const sign = e.is('add') ? 1 : e.is('sub') ? -1 : 0;
    if (sign === 1 && e.args[1].value === undefined) return this.sum(e.args[0], e.args[1]);
    if (sign === 0 || e.args[1].value === undefined) return undefined;
    const constant = Number(BigInt.asIntN(64, BigInt(e.args[1].value)));
    const origin = Math.abs(constant) < 2 ** 31 ? this.originOf(e.args[0]) : undefined;
    return origin && { root: origin.root, offset: origin.offset + sign * constant };
  }

  /**
   * Of an index, scaled or not, and what it is added to. Only in 32 bits, where all of it wraps alike: of 64 bits, a part may have
   * been zero-extended, and two sums then differ by 2^32.
   */
  private sum(index: Expr, start: Expr): Origin | undefined {
    const shifted = index.is('shl') && index.args[1].value !== undefined;
    const scale = shifted ? Number(index.args[1].value) : 0;
    if (start.type !== 'i32' || scale > MAX_SCALE) return undefined;
    const a = this.originOf(shifted ? index.args[0] : index);
    const b = this.originOf(start);
    if (a === undefined || b === undefined) return undefined;
    const key = `${a.root} ${scale} ${b.root}`;
    let root = this.sums.get(key);
    if (root === undefined) this.sums.set(key, (root = ++this.roots));
    return { root, offset: a.offset * 2 ** scale + b.offset };
  }

  /** A page that an address may be in, by what is known. */
  near(address: Expr, size: number, write: boolean): Neighbour | undefined {
    const origin = this.originOf(address);
    if (origin === undefined) return undefined;
    for (const map of write ? [this.writes] : [this.reads, this.writes]) {
      const known = map.get(origin.root);
      if (known === undefined) continue;
      const delta = origin.offset - known.offset;
      if (delta > -PAGE && delta <= PAGE - size) return { known, delta };
    }
    return undefined;
  }
  /** The TLB has the page of `size` bytes at an address, and their wasm address, which is given back. */
  learn(address: Expr, size: number, write: boolean, distance: Expr, host: Expr): Expr {
    const origin = this.unconditional ? this.originOf(address) : undefined;
    if (origin === undefined) return host;
    const map = write ? this.writes : this.reads;
    const old = map.get(origin.root);
    const local = (): Local => this.free.pop() ?? this.f.lasting('i32');
    const known = {
      distance: old?.distance ?? local(),
      offset: origin.offset,
      host: old?.host ?? local(),
      size,
    };
    this.f.set(known.distance, distance);
    this.f.set(known.host, host);
    map.set(origin.root, known);
    return known.host;
  }
}
