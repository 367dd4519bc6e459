/**
 * Atomic fields of a struct: objects with methods, never properties, so that a reader of the code
 * sees which words may be touched without a lock. All operations are sequentially consistent.
 */
import { checkPlace } from './errors.ts';
import type { Field } from './struct.ts';
import { opsFor, type SyncOps, type WaitResult } from './sync-ops.ts';

/** A signed 32-bit word. *Thread:* any. *Lock:* none. */
export class AtomicI32 {
  static readonly BYTES = 4;
  /** Byte offset in the buffer: what generated code and `SyncOps` take. */
  readonly address: number;
  readonly ops: SyncOps;

  constructor(buffer: SharedArrayBuffer, at: number, ops: SyncOps = opsFor(buffer)) {
    checkPlace(buffer, at, 4, 4);
    this.address = at;
    this.ops = ops;
  }
  load(): number {
    return this.ops.load(this.address);
  }
  store(value: number): void {
    this.ops.store(this.address, value);
  }
  /** The read-modify-write operations return the old value. */
  add(value: number): number {
    return this.ops.add(this.address, value);
  }
  or(value: number): number {
    return this.ops.or(this.address, value);
  }
  and(value: number): number {
    return this.ops.and(this.address, value);
  }
  exchange(value: number): number {
    return this.ops.exchange(this.address, value);
  }
  /** Returns the old value; `value` was stored only if that equals `expected`. */
  compareExchange(expected: number, value: number): number {
    return this.ops.compareExchange(this.address, expected, value);
  }
  /** Sleeps while the word is `expected`, at most `timeoutNs`. *May block:* yes. */
  wait(expected: number, timeoutNs = Infinity): WaitResult {
    return this.ops.wait(this.address, expected, timeoutNs);
  }
  /** As `wait` for a thread that must not block; see `SyncOps.waitAsync`. */
  waitAsync(expected: number, timeoutNs = Infinity): WaitResult | Promise<WaitResult> {
    return this.ops.waitAsync(this.address, expected, timeoutNs);
  }
  /** Wakes at most `count` waiters; returns how many. */
  notify(count = Infinity): number {
    return this.ops.notify(this.address, count);
  }
}

/** Nanoseconds in a float64, read and written as one word: never torn. *Thread:* any. *Lock:* none. */
export class AtomicNs {
  static readonly BYTES = 8;
  readonly address: number;
  readonly ops: SyncOps;

  constructor(buffer: SharedArrayBuffer, at: number, ops: SyncOps = opsFor(buffer)) {
    checkPlace(buffer, at, 8, 8);
    this.address = at;
    this.ops = ops;
  }
  load(): number {
    return this.ops.loadF64(this.address);
  }
  store(value: number): void {
    this.ops.storeF64(this.address, value);
  }
}

/** Struct field: a signed 32-bit atomic word. */
export const atomicI32: Field<AtomicI32> = {
  size: 4,
  align: 4,
  make: (views, at) => new AtomicI32(views.buffer, at),
};

/** Struct field: an atomic time in ns. */
export const atomicNs: Field<AtomicNs> = {
  size: 8,
  align: 8,
  make: (views, at) => new AtomicNs(views.buffer, at),
};
