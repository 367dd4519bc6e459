/**
 * High precision event timers. IA-PC HPET specification 1.0a: one 64-bit main counter of 10 ns, three
 * timers, all of them periodic-capable and 64 bits wide, legacy replacement of the PIT and the RTC.
 */
import { array, atomicI32, bool, ns, struct, u32, type ViewOf } from '@smp86/atomics-sync';
import { pulse, type Clock, type IoHandler, type IrqLine, type Timer } from '../device.ts';

export const HPET_BASE = 0xfed0_0000;
export const HPET_SIZE = 0x400;
export const HPET_TIMERS = 3;
/** Nanoseconds of a tick. */
const TICK_NS = 10;
const FEMTOSECONDS_PER_TICK = 10_000_000;

// --- registers ---
const REG_ID = 0x000;
const REG_PERIOD = 0x004;
const REG_CONFIG = 0x010;
const REG_STATUS = 0x020;
const REG_COUNTER = 0x0f0;
const REG_TIMERS = 0x100;
const TIMER_STRIDE = 0x20;
// of a timer
const REG_T_CONFIG = 0x00;
const REG_T_ROUTES = 0x04;
const REG_T_COMPARATOR = 0x08;
const REG_T_FSB_VALUE = 0x10;
const REG_T_FSB_ADDRESS = 0x14;

/** General capabilities, low half: Intel, legacy capable, 64 bits, number of the last timer, revision 1. */
export const HPET_ID = (0x8086_0000 | (1 << 15) | (1 << 13) | ((HPET_TIMERS - 1) << 8) | 1) >>> 0;

// --- general configuration ---
const CONFIG_ENABLE = 1 << 0;
const CONFIG_LEGACY = 1 << 1;

// --- timer configuration ---
const T_LEVEL = 1 << 1;
const T_ENABLE = 1 << 2;
const T_PERIODIC = 1 << 3;
const T_PERIODIC_CAP = 1 << 4;
const T_SIZE_CAP = 1 << 5;
const T_SET_VALUE = 1 << 6;
const T_32BIT = 1 << 8;
const T_ROUTE_SHIFT = 9;
const T_ROUTE_MASK = 0x1f;
const T_FSB = 1 << 14;
const T_FSB_CAP = 1 << 15;
const T_WRITABLE = T_LEVEL | T_ENABLE | T_PERIODIC | T_SET_VALUE | T_32BIT | (T_ROUTE_MASK << T_ROUTE_SHIFT);

const TWO_32 = 0x1_0000_0000;
/** Below this, sums of two numbers are exact in a float64. */
const EXACT = 2 ** 52;
const RTC_IRQ = 8;

/** One timer. 64-bit registers are halves. */
export const HpetTimerState = struct({
  config: u32,
  comparatorLow: u32,
  comparatorHigh: u32,
  periodLow: u32,
  periodHigh: u32,
  fsbValue: u32,
  fsbAddress: u32,
  /** The next expiry is the wrap of a 32-bit counter, not the comparator. */
  wrap: bool,
});
type TimerView = ViewOf<typeof HpetTimerState>;

/**
 * Device state; snapshot version 1. *Lock:* BQL; what the counter is made of (`config`, `counterLow`, `counterHigh`,
 * `start`) is also read without it, see `readUnlocked`.
 */
export const HpetState = struct({
  /** Odd while the counter's words change; a reader without the lock compares it before and after. */
  version: atomicI32,
  config: u32,
  /** A bit per level-triggered timer whose line is high. */
  status: u32,
  /** The main counter at `start`; while disabled, the counter. */
  counterLow: u32,
  counterHigh: u32,
  /** VIRTUAL time at which the counter was enabled. */
  start: ns,
  /** What the RTC drives, for when legacy replacement ends. */
  rtcLevel: bool,
  timers: array(HpetTimerState, HPET_TIMERS),
});
export type HpetStateView = ViewOf<typeof HpetState>;

export interface HpetDeps {
  /** VIRTUAL. */
  readonly clock: Clock;
  /** Three, on VIRTUAL; the callback of number n is `onTimer(n)`. */
  readonly timers: readonly Timer[];
  /** Lines of GSI 0..23. */
  readonly lines: readonly IrqLine[];
  /** The PIT, which loses IRQ 0 in legacy replacement. */
  readonly pit: { setIrqEnabled(enabled: boolean): void };
  /** GSIs that a timer can be routed to, a bit each. The `pc` machine offers GSI 2 alone. */
  readonly routes?: number;
  /** Message interrupts: offered (FSB capable) when given. */
  readonly msi?: (address: number, data: number) => void;
}

/** The HPET at FED0_0000h (dword accesses). *Thread:* any. *Lock:* BQL. */
export class Hpet implements IoHandler {
  readonly #state: HpetStateView;
  readonly #timerStates: readonly TimerView[];
  readonly #deps: HpetDeps;
  readonly #clock: Clock;
  readonly #routes: number;
  /** The RTC's IRQ 8, which passes through the HPET. */
  readonly rtcIrq: IrqLine;

  constructor(state: HpetStateView, deps: HpetDeps) {
    this.#state = state;
    this.#timerStates = state.timers;
    this.#deps = deps;
    this.#clock = deps.clock;
    this.#routes = deps.routes ?? 1 << 2;
    this.rtcIrq = {
      set: (level) => {
        this.#state.rtcLevel = level;
        if (!this.#legacy) this.#deps.lines[RTC_IRQ].set(level);
      },
    };
  }

  reset(): void {
    const s = this.#state;
    const wasLegacy = this.#legacy;
    this.#change(() => {
      s.config = 0;
      s.counterLow = s.counterHigh = 0;
      s.start = 0;
    });
    s.rtcLevel = false;
    for (let n = 0; n < HPET_TIMERS; n++) {
      const t = this.#timerStates[n];
      this.#stop(n);
      t.config = T_PERIODIC_CAP | T_SIZE_CAP | (this.#deps.msi === undefined ? 0 : T_FSB_CAP);
      t.comparatorLow = t.comparatorHigh = 0xffff_ffff;
      t.periodLow = t.periodHigh = 0;
      t.fsbValue = t.fsbAddress = 0;
      t.wrap = false;
    }
    s.status = 0;
    if (wasLegacy) this.#deps.pit.setIrqEnabled(true);
  }

  read(offset: number, size: number): number {
    const shift = (offset & 3) * 8;
    const value = this.#readRegister(offset & ~3) >>> shift;
    return size === 4 ? value : value & ((1 << (size * 8)) - 1);
  }

  /**
   * The running main counter. Linux compares it with the TSC and takes the TSC for broken when the reading took long, as it
   * does where a busy host keeps the lock's owner waiting. A writer in between sends the reader through the lock: it never
   * waits here. The words read are whole when `version` is the same even number before and after (as in a SeqLock).
   * *Lock:* none.
   */
  readUnlocked(offset: number, size: number): number | undefined {
    if (size !== 4 || (offset !== REG_COUNTER && offset !== REG_COUNTER + 4)) return undefined;
    const { version } = this.#state;
    const before = version.load();
    if ((before & 1) !== 0) return undefined;
    const elapsed = this.#elapsed();
    const value = offset === REG_COUNTER ? this.#counterLow(elapsed) : this.#counterHigh(elapsed);
    return version.load() === before ? value : undefined;
  }

  /** Registers take dwords only ("software must not use byte or word accesses", 2.3). */
  write(offset: number, size: number, value: number): void {
    if (size !== 4 || (offset & 3) !== 0) return;
    if (offset >= REG_TIMERS) {
      const n = Math.floor((offset - REG_TIMERS) / TIMER_STRIDE);
      if (n < HPET_TIMERS) this.#writeTimer(n, (offset - REG_TIMERS) % TIMER_STRIDE, value);
      return;
    }
    const s = this.#state;
    switch (offset) {
      case REG_CONFIG:
        this.#writeConfig(value & (CONFIG_ENABLE | CONFIG_LEGACY));
        break;
      case REG_STATUS:
        for (let n = 0; n < HPET_TIMERS; n++) {
          if ((value & s.status & (1 << n)) !== 0) this.#lower(n);
        }
        break;
      // The counter may be written while it stands; while it runs, a write changes nothing.
      case REG_COUNTER:
        if (!this.#enabled) this.#change(() => (s.counterLow = value));
        break;
      case REG_COUNTER + 4:
        if (!this.#enabled) this.#change(() => (s.counterHigh = value));
        break;
    }
  }

  /** Timer `n` expired. *Thread:* main loop. Periods missed by a late host are one interrupt. */
  onTimer(n: number): void {
    if (!this.#enabled) return;
    const t = this.#timerStates[n];
    const elapsed = this.#elapsed();
    if ((t.config & T_PERIODIC) !== 0) {
      if (t.periodLow !== 0 || t.periodHigh !== 0) {
        this.#advance(t, elapsed);
        this.#arm(n, elapsed, this.#ticksLeft(t, elapsed));
      }
    } else if (t.wrap) {
      t.wrap = false;
      this.#arm(n, elapsed, this.#ticksLeft(t, elapsed));
    }
    this.#raise(n);
  }

  get #enabled(): boolean {
    return (this.#state.config & CONFIG_ENABLE) !== 0;
  }

  get #legacy(): boolean {
    return (this.#state.config & CONFIG_LEGACY) !== 0;
  }

  #readRegister(offset: number): number {
    const s = this.#state;
    if (offset >= REG_TIMERS) {
      const n = Math.floor((offset - REG_TIMERS) / TIMER_STRIDE);
      if (n >= HPET_TIMERS) return 0;
      const t = this.#timerStates[n];
      switch ((offset - REG_TIMERS) % TIMER_STRIDE) {
        case REG_T_CONFIG:
          return t.config;
        case REG_T_ROUTES:
          return this.#routes >>> 0;
        case REG_T_COMPARATOR:
          return t.comparatorLow;
        case REG_T_COMPARATOR + 4:
          return t.comparatorHigh;
        case REG_T_FSB_VALUE:
          return t.fsbValue;
        case REG_T_FSB_ADDRESS:
          return t.fsbAddress;
        default:
          return 0;
      }
    }
    switch (offset) {
      case REG_ID:
        return HPET_ID;
      case REG_PERIOD:
        return FEMTOSECONDS_PER_TICK;
      case REG_CONFIG:
        return s.config;
      case REG_STATUS:
        return s.status;
      case REG_COUNTER:
        return this.#counterLow(this.#elapsed());
      case REG_COUNTER + 4:
        return this.#counterHigh(this.#elapsed());
      default:
        return 0;
    }
  }

  #writeConfig(value: number): void {
    const s = this.#state;
    const changed = s.config ^ value;
    if ((changed & CONFIG_ENABLE) !== 0) {
      if ((value & CONFIG_ENABLE) !== 0) {
        this.#change(() => {
          s.start = this.#clock.now();
          s.config |= CONFIG_ENABLE;
        });
        for (let n = 0; n < HPET_TIMERS; n++) {
          const t = this.#timerStates[n];
          if (t.comparatorLow !== 0xffff_ffff || t.comparatorHigh !== 0xffff_ffff) this.#start(n);
        }
      } else {
        const elapsed = this.#elapsed();
        const low = this.#counterLow(elapsed);
        this.#change(() => {
          s.counterHigh = this.#counterHigh(elapsed);
          s.counterLow = low;
          s.config &= ~CONFIG_ENABLE;
        });
        for (let n = 0; n < HPET_TIMERS; n++) this.#stop(n);
      }
    }
    if ((changed & CONFIG_LEGACY) !== 0) {
      // Timers 0 and 1 change their routes: what they hold is let go while the old one is known.
      this.#lower(0);
      this.#lower(1);
    }
    s.config = value;
    if ((changed & CONFIG_LEGACY) !== 0) {
      // The outputs of the 8254 and of the RTC are disconnected in legacy mode (2.3.5).
      const { lines, pit } = this.#deps;
      if ((value & CONFIG_LEGACY) !== 0) {
        pit.setIrqEnabled(false);
        lines[0].set(false);
        lines[RTC_IRQ].set(false);
      } else {
        lines[0].set(false);
        pit.setIrqEnabled(true);
        lines[RTC_IRQ].set(s.rtcLevel);
      }
    }
  }

  #writeTimer(n: number, offset: number, value: number): void {
    const t = this.#timerStates[n];
    switch (offset) {
      case REG_T_CONFIG:
        this.#writeTimerConfig(n, t, value);
        return;
      case REG_T_COMPARATOR: {
        const periodic = (t.config & T_PERIODIC) !== 0;
        if (!periodic || (t.config & T_SET_VALUE) !== 0) t.comparatorLow = value;
        if (periodic) t.periodLow = (t.config & T_32BIT) !== 0 ? value & 0x7fff_ffff : value;
        break;
      }
      case REG_T_COMPARATOR + 4: {
        if ((t.config & T_32BIT) !== 0) return; // the upper half does not exist
        const periodic = (t.config & T_PERIODIC) !== 0;
        if (!periodic || (t.config & T_SET_VALUE) !== 0) t.comparatorHigh = value;
        if (periodic) t.periodHigh = value & 0x7fff_ffff;
        break;
      }
      case REG_T_FSB_VALUE:
        t.fsbValue = value;
        return;
      case REG_T_FSB_ADDRESS:
        t.fsbAddress = value;
        return;
      default:
        return;
    }
    t.config &= ~T_SET_VALUE;
    if (this.#enabled) this.#start(n);
  }

  #writeTimerConfig(n: number, t: TimerView, value: number): void {
    const writable = this.#deps.msi === undefined ? T_WRITABLE : T_WRITABLE | T_FSB;
    const config = (t.config & ~writable) | (value & writable);
    const changed = t.config ^ config;
    // A line that was high goes low while its route is still known.
    const reroutes = T_FSB | T_LEVEL | (T_ROUTE_MASK << T_ROUTE_SHIFT);
    if ((changed & reroutes) !== 0 && (this.#state.status & (1 << n)) !== 0) this.#lower(n);
    t.config = config;
    if ((config & T_32BIT) !== 0) {
      t.comparatorHigh = 0;
      t.periodHigh = 0;
    }
    if ((changed & T_ENABLE) === 0) return;
    if ((config & T_ENABLE) === 0) this.#stop(n);
    else if (this.#enabled) this.#start(n);
  }

  // --- the counter ---

  /** Changes words that `readUnlocked` reads. */
  #change(body: () => void): void {
    const { version } = this.#state;
    version.store(version.load() | 1);
    body();
    version.add(1);
  }

  /** Ticks since the counter was enabled. */
  #elapsed(): number {
    return this.#enabled ? Math.floor((this.#clock.now() - this.#state.start) / TICK_NS) : 0;
  }

  #counterLow(elapsed: number): number {
    return (elapsed + this.#state.counterLow) >>> 0;
  }

  #counterHigh(elapsed: number): number {
    const s = this.#state;
    return (s.counterHigh + Math.floor((elapsed + s.counterLow) / TWO_32)) >>> 0;
  }

  /** Comparator less counter as a signed number of the timer's width (beyond 2^53 approximate). */
  #distance(t: TimerView, elapsed: number): number {
    const low = t.comparatorLow - this.#counterLow(elapsed);
    if ((t.config & T_32BIT) !== 0) return low | 0;
    const high = (t.comparatorHigh - this.#counterHigh(elapsed) - (low < 0 ? 1 : 0)) | 0;
    return high * TWO_32 + (low >>> 0);
  }

  /** Ticks until the comparator matches; one that lies behind is due at the next tick. */
  #ticksLeft(t: TimerView, elapsed: number): number {
    return Math.max(1, this.#distance(t, elapsed));
  }

  /** Moves a periodic comparator to its first match after the counter, past the ones that were missed. */
  #advance(t: TimerView, elapsed: number): void {
    const behind = -this.#distance(t, elapsed);
    // A match at this very tick counts as reached, else it would come twice.
    if (behind < 0) return;
    const period = t.periodHigh * TWO_32 + t.periodLow;
    if (behind < EXACT && period < EXACT) {
      const step = (Math.floor(behind / period) + 1) * period;
      const low = t.comparatorLow + (step % TWO_32);
      t.comparatorLow = low; // stored modulo 2^32
      if ((t.config & T_32BIT) === 0) {
        t.comparatorHigh = t.comparatorHigh + Math.floor(step / TWO_32) + (low >= TWO_32 ? 1 : 0);
      }
      return;
    }
    const wide = (high: number, low: number): bigint => (BigInt(high) << 32n) | BigInt(low);
    const comparator = wide(t.comparatorHigh, t.comparatorLow);
    const counter = wide(this.#counterHigh(elapsed), this.#counterLow(elapsed));
    const step = wide(t.periodHigh, t.periodLow);
    const next = comparator + (BigInt.asUintN(64, counter - comparator) / step + 1n) * step;
    t.comparatorLow = Number(BigInt.asUintN(32, next));
    t.comparatorHigh = Number(BigInt.asUintN(32, next >> 32n));
  }

  // --- timers and interrupts ---

  /** Arms timer `n` for its comparator, or for the wrap that comes before it. */
  #start(n: number): void {
    const t = this.#timerStates[n];
    const elapsed = this.#elapsed();
    let ticks = this.#ticksLeft(t, elapsed);
    t.wrap = false;
    if ((t.config & (T_32BIT | T_PERIODIC)) === T_32BIT) {
      // A one-shot 32-bit timer interrupts at the wrap of the counter too (2.3.9.2.1).
      const wrap = TWO_32 - this.#counterLow(elapsed);
      if (wrap < ticks) {
        ticks = wrap;
        t.wrap = true;
      }
    }
    this.#arm(n, elapsed, ticks);
  }

  #arm(n: number, elapsed: number, ticks: number): void {
    // Further than time reaches (104 days): never.
    if (ticks > EXACT / TICK_NS) this.#deps.timers[n].del();
    else this.#deps.timers[n].mod(this.#state.start + (elapsed + ticks) * TICK_NS);
  }

  #stop(n: number): void {
    this.#deps.timers[n].del();
    this.#lower(n);
  }

  #route(n: number): number {
    if (this.#legacy && n <= 1) return n === 0 ? 0 : RTC_IRQ;
    return (this.#timerStates[n].config >>> T_ROUTE_SHIFT) & T_ROUTE_MASK;
  }

  #raise(n: number): void {
    const t = this.#timerStates[n];
    if ((t.config & T_ENABLE) === 0) {
      this.#lower(n);
      return;
    }
    if ((t.config & T_FSB) !== 0) {
      this.#deps.msi?.(t.fsbAddress, t.fsbValue);
      return;
    }
    const route = this.#route(n);
    if (route >= this.#deps.lines.length) return;
    const line = this.#deps.lines[route];
    if ((t.config & T_LEVEL) !== 0) {
      this.#state.status |= 1 << n;
      line.set(true);
    } else {
      this.#state.status &= ~(1 << n);
      pulse(line);
    }
  }

  /** Ends a level interrupt of timer `n`; the line stays high while another timer holds it. */
  #lower(n: number): void {
    const s = this.#state;
    const bit = 1 << n;
    if ((s.status & bit) === 0) return;
    s.status &= ~bit;
    const route = this.#route(n);
    for (let other = 0; other < HPET_TIMERS; other++) {
      if ((s.status & (1 << other)) !== 0 && this.#route(other) === route) return;
    }
    if (route < this.#deps.lines.length) this.#deps.lines[route].set(false);
  }
}
