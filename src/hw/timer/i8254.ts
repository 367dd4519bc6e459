/**
 * Programmable interval timer. Intel 8254 data sheet (order number 231164), mode definitions and
 * read-back; the PC wires counter 0 to IRQ 0 and counter 2's gate and output to port 61h.
 *
 * Nothing ticks: a counter is a load time and a count, and what it shows is computed from the clock.
 * Only counter 0 has a timer, set to its output's next transition.
 */
import { array, bool, ns, struct, u16, u32, u8, type ViewOf } from '@smp86/atomics-sync';
import type { Clock, IoHandler, IrqLine, Timer } from '../device.ts';

/** Input frequency in Hz: a third of the NTSC colour clock. */
export const PIT_FREQUENCY = 1_193_182;
const NS_PER_SECOND = 1_000_000_000;

// --- ports, relative to 40h ---
const PORT_CONTROL = 3;

// --- control word ---
const CONTROL_READ_BACK = 3;
const RB_NO_COUNT = 1 << 5;
const RB_NO_STATUS = 1 << 4;

// --- access mode (control word bits 5:4) ---
const RW_LATCH = 0;
const RW_LSB = 1;
const RW_MSB = 2;
const RW_BOTH = 3;

// --- status byte ---
const STATUS_OUT = 1 << 7;
const STATUS_NULL_COUNT = 1 << 6;

/** One counter. */
export const PitChannel = struct({
  /** Time of the load, or of the trigger in modes 1 and 5; moved on when the gate has paused the counter. */
  start: ns,
  /** Where the clock stood when the gate went low in a mode whose gate stops the counter. */
  pausedAt: ns,
  /** Count in ticks, 1..65536 (10000 in BCD). */
  count: u32,
  mode: u8,
  /** RW_LSB, RW_MSB or RW_BOTH. */
  access: u8,
  bcd: bool,
  gate: bool,
  /** A count was loaded since the control word. */
  loaded: bool,
  /** Counting began: the load, or in modes 1 and 5 the trigger. */
  running: bool,
  /** The next access of an RW_BOTH counter is the high byte. */
  readHigh: bool,
  writeHigh: bool,
  writeLatch: u8,
  /** Latched count; bytes still to be read of it: 0 none, 1 high only or single, 2 both. */
  latch: u16,
  latchBytes: u8,
  statusLatched: bool,
  status: u8,
});
type ChannelView = ViewOf<typeof PitChannel>;

/** Device state; snapshot version 1. *Lock:* BQL. */
export const PitState = struct({
  /** Scheduled time of counter 0's next transition; -1: none. */
  next: ns,
  /** False while the HPET's legacy replacement has taken IRQ 0. */
  irqEnabled: bool,
  channels: array(PitChannel, 3),
});
export type PitStateView = ViewOf<typeof PitState>;

export interface PitDeps {
  /** VIRTUAL. */
  readonly clock: Clock;
  /** On VIRTUAL; its callback is `onTimer`. */
  readonly timer: Timer;
  /** ISA IRQ 0. */
  readonly irq: IrqLine;
}

/** Behind this many transitions the output stops catching up one by one; see `onTimer`. */
const MAX_BACKLOG = 1000;

/** Whole input ticks in `time` ns. Exact: seconds and remainder are converted apart. */
export function pitTicks(time: number): number {
  const seconds = Math.floor(time / NS_PER_SECOND);
  const rest = time - seconds * NS_PER_SECOND;
  return seconds * PIT_FREQUENCY + Math.floor((rest * PIT_FREQUENCY) / NS_PER_SECOND);
}

/** First nanosecond at which `pitTicks` is `ticks`. */
export function pitNs(ticks: number): number {
  const seconds = Math.floor(ticks / PIT_FREQUENCY);
  const rest = ticks - seconds * PIT_FREQUENCY;
  return seconds * NS_PER_SECOND + Math.ceil((rest * NS_PER_SECOND) / PIT_FREQUENCY);
}

/** The 8254 at ports 40h–43h (byte accesses). *Thread:* any. *Lock:* BQL. */
export class I8254 implements IoHandler {
  readonly #state: PitStateView;
  readonly #channels: readonly ChannelView[];
  readonly #clock: Clock;
  readonly #timer: Timer;
  readonly #irq: IrqLine;

  constructor(state: PitStateView, deps: PitDeps) {
    this.#state = state;
    this.#channels = state.channels;
    this.#clock = deps.clock;
    this.#timer = deps.timer;
    this.#irq = deps.irq;
  }

  /** All counters run in mode 3 with the longest count, as firmware leaves them. */
  reset(): void {
    const now = this.#clock.now();
    this.#state.irqEnabled = true;
    this.#state.next = -1;
    for (let n = 0; n < 3; n++) {
      const c = this.#channels[n];
      c.mode = 3;
      c.access = RW_BOTH;
      c.bcd = false;
      c.gate = n !== 2;
      c.readHigh = c.writeHigh = false;
      c.writeLatch = 0;
      c.latch = 0;
      c.latchBytes = 0;
      c.statusLatched = false;
      c.status = 0;
      this.#load(c, 0, now);
    }
    this.#updateIrq(now);
  }

  read(offset: number, _size: number): number {
    if (offset === PORT_CONTROL) return 0; // the data sheet: no operation, bus floats
    const c = this.#channels[offset];
    if (c.statusLatched) {
      c.statusLatched = false;
      return c.status;
    }
    if (c.latchBytes !== 0) {
      c.latchBytes--;
      // A two-byte latch gives the low byte first, a one-byte latch what the access mode selects.
      return c.access === RW_MSB || (c.access === RW_BOTH && c.latchBytes === 0)
        ? c.latch >>> 8
        : c.latch & 0xff;
    }
    const value = this.#countRegister(c, this.#clock.now());
    switch (c.access) {
      case RW_LSB:
        return value & 0xff;
      case RW_MSB:
        return value >>> 8;
      default:
        c.readHigh = !c.readHigh;
        return c.readHigh ? value & 0xff : value >>> 8;
    }
  }

  write(offset: number, _size: number, value: number): void {
    const now = this.#clock.now();
    if (offset === PORT_CONTROL) this.#control(value, now);
    else this.#writeCount(offset, value, now);
  }

  /** The output of counter `n`. */
  out(n: number): boolean {
    return outputAt(this.#channels[n], this.#clock.now());
  }

  /** The gate of counter `n`. */
  gate(n: number): boolean {
    return this.#channels[n].gate;
  }

  /** Drives the gate of counter `n` (data sheet, "Gate pin operations summary"). */
  setGate(n: number, level: boolean): void {
    const c = this.#channels[n];
    if (c.gate === level) return;
    const now = this.#clock.now();
    c.gate = level;
    if (!level) {
      c.pausedAt = now;
    } else {
      switch (c.mode) {
        case 0:
        case 4: // disabled while low, then counts on
          c.start += now - Math.max(c.pausedAt, c.start);
          break;
        case 1:
        case 5: // trigger, and retrigger
          if (c.loaded) {
            c.running = true;
            c.start = now;
          }
          break;
        default: // disabled while low, then starts afresh
          c.start = now;
      }
    }
    if (n === 0) this.#updateIrq(now);
  }

  /** HPET legacy replacement: false takes IRQ 0 away, true gives it back. */
  setIrqEnabled(enabled: boolean): void {
    this.#state.irqEnabled = enabled;
    if (enabled) {
      this.#updateIrq(this.#clock.now());
    } else {
      this.#state.next = -1;
      this.#timer.del();
      this.#irq.set(false);
    }
  }

  /** Counter 0's output changes. *Thread:* main loop. The scheduled time, not now, is the time base. */
  onTimer(): void {
    let at = this.#state.next;
    if (at < 0) return;
    // A guest can ask for more transitions than the host can run; without a bound the pass that
    // works the backlog off would never end.
    const c = this.#channels[0];
    const now = this.#clock.now();
    if (now - at > pitNs(c.count * MAX_BACKLOG)) at = now;
    this.#updateIrq(at);
  }

  #control(value: number, now: number): void {
    const select = value >>> 6;
    if (select === CONTROL_READ_BACK) {
      for (let n = 0; n < 3; n++) {
        if ((value & (2 << n)) === 0) continue;
        const c = this.#channels[n];
        if ((value & RB_NO_COUNT) === 0) this.#latchCount(c, now);
        if ((value & RB_NO_STATUS) === 0 && !c.statusLatched) {
          c.statusLatched = true;
          c.status =
            (outputAt(c, now) ? STATUS_OUT : 0) |
            (c.loaded ? 0 : STATUS_NULL_COUNT) |
            (c.access << 4) |
            (c.mode << 1) |
            (c.bcd ? 1 : 0);
        }
      }
      return;
    }
    const c = this.#channels[select];
    const access = (value >>> 4) & 3;
    if (access === RW_LATCH) {
      this.#latchCount(c, now);
      return;
    }
    const mode = (value >>> 1) & 7;
    c.access = access;
    c.mode = mode > 5 ? mode - 4 : mode; // X10 and X11
    c.bcd = (value & 1) !== 0;
    c.readHigh = c.writeHigh = false;
    c.latchBytes = 0;
    c.statusLatched = false;
    c.loaded = false;
    c.running = false;
    if (select === 0) this.#updateIrq(now);
  }

  #writeCount(n: number, value: number, now: number): void {
    const c = this.#channels[n];
    switch (c.access) {
      case RW_LSB:
        this.#load(c, value, now);
        break;
      case RW_MSB:
        this.#load(c, value << 8, now);
        break;
      default:
        if (!c.writeHigh) {
          c.writeHigh = true;
          c.writeLatch = value;
          // Mode 0: "writing the first byte disables counting", OUT goes low.
          if (c.mode !== 0) return;
          c.loaded = false;
          c.running = false;
        } else {
          c.writeHigh = false;
          this.#load(c, (value << 8) | c.writeLatch, now);
        }
    }
    if (n === 0) this.#updateIrq(now);
  }

  #load(c: ChannelView, value: number, now: number): void {
    c.count = c.bcd ? fromBcd(value) || 10_000 : value || 0x10000;
    c.loaded = true;
    if (c.mode === 1 || c.mode === 5) return; // waits for its trigger
    c.running = true;
    c.start = now;
    c.pausedAt = now;
  }

  #latchCount(c: ChannelView, now: number): void {
    if (c.latchBytes !== 0) return; // the first latch holds until it is read
    c.latch = this.#countRegister(c, now);
    c.latchBytes = c.access === RW_BOTH ? 2 : 1;
  }

  /** The counting element as it reads, in the counter's number format. */
  #countRegister(c: ChannelView, now: number): number {
    const modulus = c.bcd ? 10_000 : 0x10000;
    const value = countAt(c, now) % modulus;
    return c.bcd ? toBcd(value) : value;
  }

  /** Sets IRQ 0 to the output at `now` and arms the next transition. */
  #updateIrq(now: number): void {
    if (!this.#state.irqEnabled) return;
    const c = this.#channels[0];
    this.#irq.set(outputAt(c, now));
    const ticks = nextTransition(c, now);
    if (ticks < 0) {
      this.#state.next = -1;
      this.#timer.del();
      return;
    }
    const next = Math.max(c.start + pitNs(ticks), now + 1);
    this.#state.next = next;
    this.#timer.mod(next);
  }
}

/** Ticks since the counter's start. */
function elapsed(c: ChannelView, now: number): number {
  // Modes 1 and 5 run on whatever the gate does; the others stand still while it is low.
  const until = c.gate || c.mode === 1 || c.mode === 5 ? now : Math.max(c.pausedAt, c.start);
  return pitTicks(Math.max(0, until - c.start));
}

/** Ticks that mode 3's output is high: half the count, the odd tick included. */
function highTicks(c: ChannelView): number {
  return Math.ceil(c.count / 2);
}

/** The counting element, 0..count; below zero it wraps. */
function countAt(c: ChannelView, now: number): number {
  if (!c.running) return c.count;
  const modulus = c.bcd ? 10_000 : 0x10000;
  const d = elapsed(c, now);
  switch (c.mode) {
    case 2:
      return c.count - (d % c.count);
    case 3: {
      // Counts by two from the even count at or below; both halves of the square wave do.
      const phase = d % c.count;
      const high = highTicks(c);
      const even = c.count - (c.count % 2);
      return even - 2 * (phase < high ? phase : phase - high);
    }
    default:
      return (((c.count - d) % modulus) + modulus) % modulus;
  }
}

/** The OUT pin at `now`. */
function outputAt(c: ChannelView, now: number): boolean {
  if (!c.running) return c.mode !== 0;
  switch (c.mode) {
    case 0:
    case 1:
      return elapsed(c, now) >= c.count;
    case 2:
      return !c.gate || elapsed(c, now) % c.count !== c.count - 1;
    case 3:
      return !c.gate || elapsed(c, now) % c.count < highTicks(c);
    default: // 4 and 5: one low tick at terminal count
      return elapsed(c, now) !== c.count;
  }
}

/** Ticks from the start to the output's first change after `now`; -1: none to come. */
function nextTransition(c: ChannelView, now: number): number {
  if (!c.running || (!c.gate && c.mode !== 1 && c.mode !== 5)) return -1;
  const d = elapsed(c, now);
  switch (c.mode) {
    case 0:
    case 1:
      return d < c.count ? c.count : -1;
    case 2:
    case 3: {
      if (c.count === 1) return -1; // illegal in these modes: the output does not move
      const phase = d % c.count;
      const change = c.mode === 2 ? c.count - 1 : highTicks(c);
      return d - phase + (phase < change ? change : c.count);
    }
    default:
      if (d < c.count) return c.count;
      return d === c.count ? c.count + 1 : -1;
  }
}

function fromBcd(value: number): number {
  return ((value >>> 12) & 15) * 1000 + ((value >>> 8) & 15) * 100 + ((value >>> 4) & 15) * 10 + (value & 15);
}

function toBcd(value: number): number {
  return (
    (Math.floor(value / 1000) << 12) |
    ((Math.floor(value / 100) % 10) << 8) |
    ((Math.floor(value / 10) % 10) << 4) |
    (value % 10)
  );
}
