/**
 * Stand-ins for what a device is given: a clock that moves only when told, its timers, lines that
 * remember what happened to them, a vCPU that records signals.
 */
import type { Clock, CpuSignals, IrqLine, Timer } from '../../src/hw/device.ts';

/** A clock that stands still until `runTo`, `advance` or `jump` moves it. */
export class FakeClock implements Clock {
  time = 0;
  readonly timers: FakeTimer[] = [];

  now(): number {
    return this.time;
  }

  /** A timer on this clock. The callback may be set later, when the device exists. */
  timer(callback: () => void = () => {}): FakeTimer {
    const timer = new FakeTimer(this, callback);
    this.timers.push(timer);
    return timer;
  }

  /** Moves to `time`; every timer due on the way runs with the clock at its own expiry. */
  runTo(time: number): void {
    for (let t = this.soonest(time); t !== undefined; t = this.soonest(time)) {
      if (t.expireTime > this.time) this.time = t.expireTime;
      t.fire();
    }
    this.time = time;
  }

  /** `runTo`, relative. */
  advance(ns: number): void {
    this.runTo(this.time + ns);
  }

  /** A late host: the clock moves first, and only then the timers that are due run. */
  jump(ns: number): void {
    const limit = this.time + ns;
    this.time = limit;
    for (let t = this.soonest(limit); t !== undefined; t = this.soonest(limit)) t.fire();
  }

  private soonest(limit: number): FakeTimer | undefined {
    let best: FakeTimer | undefined;
    for (const t of this.timers) {
      if (t.pending && t.expireTime <= limit && (best === undefined || t.expireTime < best.expireTime))
        best = t;
    }
    return best;
  }
}

/** A one-shot timer of a `FakeClock`. */
export class FakeTimer implements Timer {
  expireTime = -1;
  /** How often the callback ran. */
  fired = 0;
  callback: () => void;
  private readonly clock: FakeClock;

  constructor(clock: FakeClock, callback: () => void) {
    this.clock = clock;
    this.callback = callback;
  }

  get pending(): boolean {
    return this.expireTime >= 0;
  }

  mod(expire: number): void {
    if (Number.isNaN(expire)) throw new Error('timer armed at NaN');
    this.expireTime = Math.max(0, expire);
  }

  modAnticipate(expire: number): void {
    if (!this.pending || expire < this.expireTime) this.mod(expire);
  }

  del(): void {
    this.expireTime = -1;
  }

  /** Nanoseconds from now to the expiry. */
  get remaining(): number {
    return this.expireTime - this.clock.now();
  }

  fire(): void {
    this.expireTime = -1;
    this.fired++;
    this.callback();
  }
}

/** A line that knows its level and counts its edges. */
export class FakeIrq implements IrqLine {
  level = false;
  /** Low-to-high changes. */
  rises = 0;
  falls = 0;
  /** Calls of `set`, changes or not. */
  sets = 0;

  set(level: boolean): void {
    this.sets++;
    if (level && !this.level) this.rises++;
    if (!level && this.level) this.falls++;
    this.level = level;
  }
}

/** Several lines. */
export function fakeIrqs(count: number): FakeIrq[] {
  return Array.from({ length: count }, () => new FakeIrq());
}

/** A vCPU's side of a LAPIC: remembers the request bits, INITs and SIPIs. */
export class FakeSignals implements CpuSignals {
  /** Bits of INTERRUPT that are set now. */
  bits = 0;
  /** Calls of `interrupt`. */
  kicks = 0;
  inits = 0;
  readonly sipis: number[] = [];

  interrupt(bits: number): void {
    this.bits |= bits;
    this.kicks++;
  }

  clearInterrupt(bits: number): void {
    this.bits &= ~bits;
  }

  init(): void {
    this.inits++;
  }

  sipi(vector: number): void {
    this.sipis.push(vector);
  }
}

/** A struct's view over fresh, zeroed shared memory. */
export function freshState<V>(type: {
  readonly size: number;
  at(buffer: SharedArrayBuffer, at: number): V;
}): V {
  return type.at(new SharedArrayBuffer(Math.ceil(type.size / 64) * 64), 0);
}

/** As `freshState`, filled with `fill` bytes: for tests that reset() leaves nothing to chance. */
export function dirtyState<V>(
  type: { readonly size: number; at(buffer: SharedArrayBuffer, at: number): V },
  fill = 0xa5,
): V {
  const buffer = new SharedArrayBuffer(Math.ceil(type.size / 64) * 64);
  new Uint8Array(buffer).fill(fill);
  return type.at(buffer, 0);
}
