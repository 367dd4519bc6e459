/**
 * What a device is given by its constructor, and what it offers. A device is a stateless class over
 * a struct in shared memory: any thread that holds the big lock (BQL) can run it.
 */

/** A clock. *Thread:* any. *Lock:* none. */
export interface Clock {
  /** Nanoseconds of this clock. */
  now(): number;
}

/** A timer whose callback runs in the thread that owns its list. *Thread:* any. *Lock:* its list's, inside. */
export interface Timer {
  /** Arms or moves the timer to `expire` ns of its clock (at once if past). */
  mod(expire: number): void;
  /** As `mod`, but only if not pending or `expire` is earlier than what is set. */
  modAnticipate(expire: number): void;
  /** Disarms; does not wait for a callback in progress. */
  del(): void;
  readonly pending: boolean;
  /** Expiry in ns, or -1 when not pending. */
  readonly expireTime: number;
}

/** An interrupt or other signal line. *Lock:* BQL. */
export interface IrqLine {
  set(level: boolean): void;
}

/** A range of ports or of memory-mapped registers. Sizes 1, 2, 4; values are unsigned. *Lock:* BQL. */
export interface IoHandler {
  read(offset: number, size: number): number;
  write(offset: number, size: number, value: number): void;
  /**
   * A write of a register that needs no lock: does it and returns true. False: it has to go through `write`.
   * *Thread:* any. *Lock:* none.
   */
  doorbell?(offset: number, size: number, value: number): boolean;
  /**
   * Reads a register that needs no lock. Undefined: it has to go through `read`, now or always.
   * *Thread:* any. *Lock:* none.
   */
  readUnlocked?(offset: number, size: number): number | undefined;
}

/** Raises an edge: high, then low. */
export function pulse(line: IrqLine): void {
  line.set(true);
  line.set(false);
}

/** Value of an unassigned port or register of `size` bytes. */
export function allOnes(size: number): number {
  return size === 4 ? 0xffffffff : (1 << (size * 8)) - 1;
}

/** The CPU side of a LAPIC: what it may ask of its vCPU. *Thread:* any. *Lock:* none (atomic words). */
export interface CpuSignals {
  /** Sets bits of `INTERRUPT` (src/cpu/env.ts) in the vCPU's interruptRequest and kicks it. */
  interrupt(bits: number): void;
  /** Clears bits of `INTERRUPT`. */
  clearInterrupt(bits: number): void;
  /** INIT request, then on SIPI the start vector. */
  init(): void;
  sipi(vector: number): void;
}
