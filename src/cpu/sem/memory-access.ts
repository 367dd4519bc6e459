/**
 * Guest memory as both tiers emit it: the TLB probe, the slow paths behind it, locked operations. What differs
 * between the tiers (where the TLB's address is, how a fault leaves) is left to the subclass.
 */
import {
  atomicCmpxchg,
  constOf,
  type Expr,
  type FuncBuilder,
  type FuncRef,
  i32,
  load,
  type Local,
} from '../../wasm/index.ts';
import { TLB_ENTRIES, TLB_SET, VCPU_BLOCK_SIZE } from '../env.ts';
import type { FlagEmitter } from './flag-emitter.ts';

/** Functions of the module that handlers call. */
export interface Runtime {
  /** (env, linear address, size) → wasm address or -1: TLB probe, then the slow path. */
  readonly probeRead: FuncRef;
  /** The same for read-modify-write. */
  readonly probeWrite: FuncRef;
  /** (env, linear address) → wasm address or -1, after the inlined probe missed; by size. */
  readonly slowRead: FuncRef;
  readonly slowWriteProbe: FuncRef;
  /** (env, linear address, i64 value, size) → 0 or -1. */
  readonly store: FuncRef;
  readonly slowStore: FuncRef;
  /** Imports: (env, size) → 0 | -1. */
  readonly rmwCommit: FuncRef;
  /** Imports: (env, begin 1 / end 0): all other vCPUs stand still in between. */
  readonly exclusive: FuncRef;
  /** (high, low, divisor) → quotient; see division.ts. */
  readonly divide128: FuncRef;
  /** Import: (env, helper id, size) → status. */
  readonly helper: FuncRef;
  /** Number of a helper by instruction name. */
  helperId(name: string): number;
  /** Instructions are counted (icount). */
  readonly counting: boolean;
}

const PAGE = 4096;
/** Offset in a TLB entry of the addend. */
export const TLB_ADDEND = 8;

/** Do `size` bytes lie in a page? `distance`: see `Probe`; i32 or i64. */
export function isWithinPage(distance: Expr, size: number | Expr): Expr {
  const least = typeof size === 'number' ? constOf(distance.type, size - PAGE - 1) : size.sub(PAGE + 1);
  return distance.geU(distance.type === 'i64' ? least.i64s() : least);
}

/** A look into the TLB. */
export interface Probe {
  /** i32: wasm address of the entry, less that of the array in its set. */
  readonly entry: Local;
  readonly array: number;
  /**
   * i64: the tag less the address; on a hit -1 less the offset in the page. The minuend is the load, since V8 reads a
   * subtrahend in memory twice.
   */
  readonly distance: Local;
  /** i32: the access lies within that page. */
  readonly hit: Expr;
}

/** i32: byte offset, within a TLB array, of the entry for a linear address. */
export function tlbIndex(address: Expr): Expr {
  return address
    .i32()
    .shrU(8)
    .and((TLB_ENTRIES - 1) << 4);
}

export const INT_LOAD = { 1: 'i32_8u', 2: 'i32_16u', 4: 'i32', 8: 'i64', 16: 'v128' } as const;
export type MemorySize = keyof typeof INT_LOAD;
const LOAD_TYPE = { 1: 'i32', 2: 'i32', 4: 'i32', 8: 'i64', 16: 'v128' } as const;
export function loadOfSize(size: number, address: Expr, offset = 0): Expr {
  return load(INT_LOAD[size as MemorySize], address, offset);
}

/** Loads, stores and read-modify-writes by linear address; what else calls functions of the module. */
export abstract class MemoryAccess {
  abstract readonly f: FuncBuilder;
  abstract readonly env: Expr;
  abstract readonly lock: boolean;
  abstract readonly flags: FlagEmitter;
  protected abstract readonly runtime: Runtime;
  /** Probe the TLB in place; otherwise in a function. */
  protected abstract readonly inlineProbes: boolean;
  /** i32: wasm address of the TLB set in force. */
  protected abstract tlbBase(): Expr;
  /** An exception is set: leaves. */
  protected abstract fault(): void;
  protected abstract faultIf(condition: Expr): void;
  /** Before each load of guest memory. */
  protected beforeLoad(): void {}
  /** After it; gives the value. */
  protected loaded(value: Local, _size: number): Expr {
    return value;
  }
  /** After a plain store of guest memory. */
  protected stored(): void {}
  /** After a store that took the slow path, and may have changed code. */
  protected afterSlowStore(): void {}
  /** Leave to another tier what the TLB does not have, before anything has changed; `miss` then leaves. */
  protected missLeaves = false;
  protected miss(): void {
    throw new Error('a slow path is emitted in place');
  }
  /** `use` gets where the TLB has `size` bytes: at a wasm address plus a constant. It may be called more than once. */
  protected hitOrMiss(
    address: Expr,
    size: number,
    array: number,
    use: (base: Expr, offset: number) => void,
  ): void {
    const probe = this.probe(address, size, array);
    this.f.if(probe.hit.eqz(), () => this.miss(), undefined, false);
    use(this.host(probe, address), 0);
  }

  modifyAt(address: Expr, size: number, change: (old: Expr) => Expr): void {
    const { f } = this;
    const host = this.probeWrite(address, size);
    if (!this.lock) {
      f.store(size, host, 0, change(f.let(loadOfSize(size, host))));
      this.stored();
      this.commit(host, size);
      return;
    }
    const inRam = this.missLeaves ? i32(1) : this.isScratch(host).eqz();
    const aligned =
      size === 1
        ? inRam
        : host
            .and(size - 1)
            .eqz()
            .and(inRam);
    const old = f.local(size === 8 ? 'i64' : 'i32');
    const changed = (): Expr => this.flags.muted(() => change(old));
    f.if(
      aligned,
      () => {
        const seen = f.local(old.type);
        f.set(old, loadOfSize(size, host));
        f.block((done) => {
          f.loop((again) => {
            f.set(seen, atomicCmpxchg(size, host, old, this.truncate(changed(), size)));
            f.brIf(done, seen.eq(old), true);
            f.set(old, seen);
            f.br(again);
          });
        });
      },
      () => {
        if (this.missLeaves) return this.miss();
        // misaligned, page-crossing or device memory: every other vCPU stands still
        f.run(f.call(this.runtime.exclusive, this.env, i32(1)));
        const again = f.copy(f.call(this.runtime.probeWrite, this.env, address, i32(size)));
        f.if(again.eq(-1), () => {
          f.run(f.call(this.runtime.exclusive, this.env, i32(0)));
          this.fault();
        });
        f.set(old, loadOfSize(size, again));
        f.store(size, again, 0, changed());
        f.if(this.isScratch(again), () => {
          f.drop(f.call(this.runtime.rmwCommit, this.env, i32(size)));
          this.afterSlowStore();
        });
        f.run(f.call(this.runtime.exclusive, this.env, i32(0)));
      },
      true,
    );
    // once more for the flags, which are set in one place
    change(old);
  }
  divide128(high: Expr, low: Expr, divisor: Expr): Expr {
    return this.f.call(this.runtime.divide128, high, low, divisor);
  }
  protected truncate(v: Expr, size: number): Expr {
    return size < 4 ? v.low(size * 8) : v;
  }

  protected isScratch(host: Expr): Expr {
    return host.sub(this.env).ltU(i32(VCPU_BLOCK_SIZE));
  }

  /** Looks whether the TLB serves `size` bytes at `address`. */
  protected probe(address: Expr, size: number, array: number): Probe {
    const { f } = this;
    const entry = f.copy(this.tlbBase().add(tlbIndex(address)));
    const distance = f.copy(load('i64', entry, array).sub(address));
    return { entry, array, distance, hit: isWithinPage(distance, size) };
  }
  /** i32: what the low half of an address in the entry's page lacks to be the wasm address. */
  protected addend({ entry, array }: Probe): Expr {
    return load('i32', entry, array + TLB_ADDEND);
  }
  /** i32: the wasm address, after a hit. */
  protected host(probe: Probe, address: Expr): Expr {
    return this.addend(probe).add(address.i32());
  }

  load(address: Expr, size: number): Expr {
    const { f, runtime } = this;
    const a = f.let(address);
    this.beforeLoad();
    if (!this.inlineProbes) {
      const host = f.copy(f.call(runtime.probeRead, this.env, a, i32(size)));
      this.faultIf(host.eq(-1));
      return this.loaded(f.copy(loadOfSize(size, host)), size);
    }
    if (this.missLeaves) {
      const value = f.local(LOAD_TYPE[size as MemorySize]);
      this.hitOrMiss(a, size, TLB_SET.READ, (base, offset) => f.set(value, loadOfSize(size, base, offset)));
      return this.loaded(value, size);
    }
    const probe = this.probe(a, size, TLB_SET.READ);
    const host = f.local('i32');
    f.if(
      probe.hit,
      () => f.set(host, this.host(probe, a)),
      () => {
        f.set(host, f.call(runtime.slowRead, this.env, a, i32(size)));
        this.faultIf(host.eq(-1));
      },
      true,
    );
    return this.loaded(f.copy(loadOfSize(size, host)), size);
  }

  store(address: Expr, value: Expr, size: number): void {
    const { f, runtime } = this;
    const a = f.let(address);
    const v = f.let(value);
    if (this.missLeaves) {
      this.hitOrMiss(a, size, TLB_SET.WRITE, (base, offset) => f.store(size, base, offset, v));
      return this.stored();
    }
    if (size === 16) return this.store16(a, v);
    const wide = v.type === 'i64' ? v : v.i64u();
    if (!this.inlineProbes) {
      this.faultIf(f.call(runtime.store, this.env, a, wide, i32(size)));
      return;
    }
    const probe = this.probe(a, size, TLB_SET.WRITE);
    f.if(
      probe.hit,
      () => f.store(size, this.host(probe, a), 0, v),
      () => {
        this.faultIf(f.call(runtime.slowStore, this.env, a, wide, i32(size)));
        this.afterSlowStore();
      },
      true,
    );
  }
  protected store16(address: Expr, value: Expr): void {
    const host = this.probeWrite(address, 16);
    this.f.store(16, host, 0, value);
    this.commit(host, 16);
  }

  probeWrite(address: Expr, size: number): Expr {
    const { f, runtime } = this;
    const a = f.let(address);
    const host = f.local('i32');
    if (!this.inlineProbes) {
      f.set(host, f.call(runtime.probeWrite, this.env, a, i32(size)));
      this.faultIf(host.eq(-1));
      return host;
    }
    if (this.missLeaves) {
      this.hitOrMiss(a, size, TLB_SET.WRITE, (base, offset) => f.set(host, base.add(offset)));
      return host;
    }
    const probe = this.probe(a, size, TLB_SET.WRITE);
    f.if(
      probe.hit,
      () => f.set(host, this.host(probe, a)),
      () => {
        f.set(host, f.call(runtime.slowWriteProbe, this.env, a, i32(size)));
        this.faultIf(host.eq(-1));
      },
      true,
    );
    return host;
  }
  commit(host: Expr, size: number): void {
    const { f } = this;
    if (this.missLeaves) return;
    f.if(
      this.isScratch(host),
      () => {
        this.faultIf(f.call(this.runtime.rmwCommit, this.env, i32(size)));
        this.afterSlowStore();
      },
      undefined,
      false,
    );
  }

  tlbAddress(address: Expr, size: number, write: boolean): Expr {
    const { f } = this;
    const a = f.let(address);
    const array = write ? TLB_SET.WRITE : TLB_SET.READ;
    const probe = this.probe(a, size, array);
    const host = f.copy(i32(0));
    f.if(probe.hit, () => f.set(host, this.host(probe, a)));
    return host;
  }
}
