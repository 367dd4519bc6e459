/**
 * MC146818 real-time clock and CMOS RAM, ports 70 and 71.
 * Motorola MC146818 data sheet; Intel 82371SB datasheet 3.11 for the PC's port 70 and the century byte.
 *
 * Time is computed from the clock when it is read; the one-second update has a timer only while somebody can
 * notice it (a flag that is still clear). The periodic interrupt has one only while it is enabled.
 */
import { bool, bytes, f64, ns, struct, u32, u8, type ViewOf } from '@smp86/atomics-sync';
import { allOnes, type Clock, type IoHandler, type IrqLine, type Timer } from '../device.ts';

const SECONDS = 0;
const SECONDS_ALARM = 1;
const MINUTES = 2;
const MINUTES_ALARM = 3;
const HOURS = 4;
const HOURS_ALARM = 5;
const DAY_OF_WEEK = 6;
const DAY_OF_MONTH = 7;
const MONTH = 8;
const YEAR = 9;
const REG_A = 10;
const REG_B = 11;
const REG_C = 12;
const REG_D = 13;
const FLOPPIES = 0x10;
const EQUIPMENT = 0x14;
const BASE_MEMORY = 0x15;
const EXTENDED_MEMORY = 0x17;
const EXTENDED_MEMORY_POST = 0x30;
const CENTURY = 0x32;
const MEMORY_ABOVE_16M = 0x34;
/** The PS/2's place of the century; the same byte. */
const CENTURY_PS2 = 0x37;
const BOOT_DEVICE_3 = 0x38;
const BOOT_DEVICES = 0x3d;
const MEMORY_ABOVE_4G = 0x5b;
const CPU_COUNT = 0x5f;

const A_UIP = 0x80;
const A_DIVIDER = 0x70;
const A_DIVIDER_RESET = 0x60;
const A_DIVIDER_32K = 0x20;
const A_RATE = 0x0f;
const B_SET = 0x80;
const B_PIE = 0x40;
const B_AIE = 0x20;
const B_UIE = 0x10;
const B_SQWE = 0x08;
const B_BINARY = 0x04;
const B_24H = 0x02;
const C_IRQF = 0x80;
const C_PF = 0x40;
const C_AF = 0x20;
const C_UF = 0x10;
const FLAGS = C_PF | C_AF | C_UF;
const D_VALID = 0x80;
const HOUR_PM = 0x80;
const ALARM_ANY = 0xc0;
const EQUIPMENT_FPU = 0x02;
const EQUIPMENT_PS2_MOUSE = 0x04;

const SECOND = 1e9;
const DAY_SECONDS = 86_400;
/** UIP is set this long before the update (data sheet, t_BUC). */
const UIP_HOLD = 244_140;
/** First update after the dividers leave reset. */
const AFTER_DIVIDER_RESET = 500_000_000;
const CRYSTAL = 32_768;
/** Interrupts injected at reads of register C before the next periodic tick. */
const MAX_REINJECT = 20;

/** *Lock:* BQL. Snapshot version 1. */
export const Mc146818State = struct({
  cmos: bytes(128),
  index: u8,
  /** Bit 7 of the last write to port 70. */
  nmiMasked: bool,
  /** Guest time at `lastUpdate`, seconds since 1970, without `offset`. */
  base: f64,
  /** Sub-second part in ns. */
  offset: ns,
  /** Clock value that `base` and `offset` belong to. */
  lastUpdate: ns,
  /** Scheduled time of the next periodic interrupt. */
  nextPeriodic: ns,
  /** Current period in crystal ticks, 0: off. */
  period: u32,
  /** Clock value of the next alarm. */
  nextAlarm: ns,
  /** Periodic interrupts that the guest has not taken yet (lost_tick_policy=slew). */
  coalesced: u32,
  reinjected: u32,
});

/** What lost_tick_policy=slew needs. */
export interface RtcSlew {
  /** On the RTC's clock. */
  readonly timer: Timer;
  /** Raises IRQ 8 and says whether an interrupt controller took it (false: one is already waiting). */
  deliver(): boolean;
}

export interface Mc146818Deps {
  /** `-rtc clock=`: HOST, REALTIME or VIRTUAL. All timers are on it. */
  readonly clock: Clock;
  readonly periodicTimer: Timer;
  readonly updateTimer: Timer;
  readonly irq: IrqLine;
  /** Without it, ticks that the guest misses are dropped (lost_tick_policy=discard). */
  readonly slew?: RtcSlew;
  /** An alarm fired with AIE set: wakes a sleeping machine. */
  readonly wake?: () => void;
}

export interface CmosOptions {
  /** RAM in bytes below and above 4 GiB. */
  readonly ramBelow4G: number;
  readonly ramAbove4G?: number;
  readonly cpus: number;
  /** `-boot order=`, for firmware; up to three of `c` `d` `a` `n`. */
  readonly bootOrder?: string;
}

/** *Thread:* any; timer callbacks in the main loop. *Lock:* BQL. */
export class Mc146818 implements IoHandler {
  readonly #s: ViewOf<typeof Mc146818State>;
  readonly #deps: Mc146818Deps;

  constructor(state: ViewOf<typeof Mc146818State>, deps: Mc146818Deps) {
    this.#s = state;
    this.#deps = deps;
  }

  /** Power-on: guest time now is `seconds` since 1970 plus `nanoseconds`. CMOS RAM is filled as by firmware. */
  powerOn(seconds: number, nanoseconds: number, options: CmosOptions): void {
    const s = this.#s;
    s.cmos.fill(0);
    s.cmos[REG_A] = A_DIVIDER_32K | 6;
    s.cmos[REG_B] = B_24H;
    s.cmos[REG_D] = D_VALID;
    s.base = seconds;
    s.offset = nanoseconds;
    s.lastUpdate = this.#deps.clock.now();
    this.#fillCmos(options);
    this.#updateRegisters();
    this.reset();
  }

  #fillCmos({ ramBelow4G, ramAbove4G = 0, cpus, bootOrder = 'cad' }: CmosOptions): void {
    const { cmos } = this.#s;
    const word = (at: number, value: number): void => {
      const limited = Math.max(0, Math.min(value, 0xffff));
      cmos[at] = limited;
      cmos[at + 1] = limited >> 8;
    };
    word(BASE_MEMORY, Math.min(640, ramBelow4G / 1024));
    word(EXTENDED_MEMORY, Math.floor(ramBelow4G / 1024) - 1024);
    word(EXTENDED_MEMORY_POST, Math.floor(ramBelow4G / 1024) - 1024);
    word(MEMORY_ABOVE_16M, Math.floor((ramBelow4G - 16 * 2 ** 20) / 65536));
    const above = Math.floor(ramAbove4G / 65536);
    for (let i = 0; i < 3; i++) cmos[MEMORY_ABOVE_4G + i] = above >>> (8 * i);
    cmos[CPU_COUNT] = Math.min(cpus - 1, 255);
    cmos[FLOPPIES] = 0;
    cmos[EQUIPMENT] = EQUIPMENT_FPU | EQUIPMENT_PS2_MOUSE;
    const codes = [...bootOrder].slice(0, 3).map((d) => ' acdn'.indexOf(d));
    cmos[BOOT_DEVICES] = ((codes[1] ?? 0) << 4) | (codes[0] ?? 0);
    cmos[BOOT_DEVICE_3] = (codes[2] ?? 0) << 4;
  }

  /** RESET# pin: interrupt enables and flags clear; time, alarm and RAM stay (data sheet, RESET). */
  reset(): void {
    const s = this.#s;
    s.cmos[REG_B] &= ~(B_PIE | B_AIE | B_SQWE);
    s.cmos[REG_C] = 0;
    s.coalesced = 0;
    s.reinjected = 0;
    s.index = 0;
    s.nmiMasked = false;
    this.#deps.irq.set(false);
    this.#updatePeriodic(this.#deps.clock.now(), false);
    this.#checkUpdateTimer();
  }

  /** Bit 7 of port 70: the chipset keeps NMI from the CPUs. */
  get nmiMasked(): boolean {
    return this.#s.nmiMasked;
  }

  /** A byte of CMOS RAM, for the machine (shutdown status, boot order). */
  cmos(index: number): number {
    return this.#s.cmos[index & 0x7f];
  }
  setCmos(index: number, value: number): void {
    this.#s.cmos[index & 0x7f] = value;
  }

  /** Guest time now: seconds since 1970. */
  get seconds(): number {
    return this.#s.base + Math.floor(this.#elapsed(this.#deps.clock.now()) / SECOND);
  }

  read(offset: number, size: number): number {
    // the index register can only be written
    if ((offset & 1) === 0) return allOnes(size);
    const s = this.#s;
    const index = s.index === CENTURY_PS2 ? CENTURY : s.index;
    switch (index) {
      case SECONDS:
      case MINUTES:
      case HOURS:
      case DAY_OF_WEEK:
      case DAY_OF_MONTH:
      case MONTH:
      case YEAR:
      case CENTURY:
        if (this.#running) this.#updateRegisters();
        return s.cmos[index];
      case REG_A:
        return this.#updateInProgress() ? s.cmos[REG_A] | A_UIP : s.cmos[REG_A] & ~A_UIP;
      case REG_C:
        return this.#readFlags();
      default:
        return s.cmos[index];
    }
  }

  write(offset: number, _size: number, value: number): void {
    const s = this.#s;
    if ((offset & 1) === 0) {
      s.index = value & 0x7f;
      s.nmiMasked = (value & 0x80) !== 0;
      return;
    }
    const index = s.index === CENTURY_PS2 ? CENTURY : s.index;
    switch (index) {
      case SECONDS_ALARM:
      case MINUTES_ALARM:
      case HOURS_ALARM:
        s.cmos[index] = value;
        this.#checkUpdateTimer();
        break;
      case SECONDS:
      case MINUTES:
      case HOURS:
      case DAY_OF_WEEK:
      case DAY_OF_MONTH:
      case MONTH:
      case YEAR:
      case CENTURY:
        // the registers must be current before one of them changes
        if (this.#running) this.#updateRegisters();
        s.cmos[index] = value;
        if (this.#running) {
          this.#takeTimeFromRegisters(s.offset + (this.#deps.clock.now() - s.lastUpdate));
          this.#checkUpdateTimer();
        }
        break;
      case REG_A:
        this.#writeA(value);
        break;
      case REG_B:
        this.#writeB(value);
        break;
      case REG_C:
      case REG_D:
        break;
      default:
        s.cmos[index] = value;
    }
  }

  /** The update timer: a second of guest time has passed (or the alarm second is there). */
  onUpdateTimer(): void {
    const s = this.#s;
    s.cmos[REG_A] &= ~A_UIP;
    let flags = C_UF;
    if ((s.cmos[REG_B] & B_SET) === 0 && this.#deps.clock.now() >= s.nextAlarm) {
      flags |= C_AF;
      if ((s.cmos[REG_B] & B_AIE) !== 0) this.#deps.wake?.();
    }
    const fresh = flags & ~s.cmos[REG_C];
    s.cmos[REG_C] |= flags;
    if ((fresh & s.cmos[REG_B]) !== 0) {
      s.cmos[REG_C] |= C_IRQF;
      this.#deps.irq.set(true);
    }
    this.#checkUpdateTimer();
  }

  /** The periodic timer. Re-armed from the scheduled time, so that late callbacks lose nothing. */
  onPeriodicTimer(): void {
    const s = this.#s;
    this.#updatePeriodic(s.nextPeriodic, false);
    s.cmos[REG_C] |= C_PF;
    if ((s.cmos[REG_B] & B_PIE) === 0) return;
    s.cmos[REG_C] |= C_IRQF;
    const { slew } = this.#deps;
    if (slew === undefined) {
      this.#deps.irq.set(true);
      return;
    }
    s.reinjected = 0;
    if (!slew.deliver()) {
      s.coalesced++;
      this.#armCoalesced();
    }
  }

  /** The slew timer: tries again to deliver a tick that the guest did not take. */
  onCoalescedTimer(): void {
    const s = this.#s;
    const { slew } = this.#deps;
    if (slew === undefined) return;
    if (s.coalesced !== 0 && slew.deliver()) s.coalesced--;
    this.#armCoalesced();
  }

  #armCoalesced(): void {
    const s = this.#s;
    const { slew, clock } = this.#deps;
    if (slew === undefined) return;
    if (s.coalesced === 0) slew.timer.del();
    else slew.timer.mod(clock.now() + clockToNs(s.period));
  }

  /** True while time advances: SET clear and the divider chain on. */
  get #running(): boolean {
    const { cmos } = this.#s;
    return (cmos[REG_B] & B_SET) === 0 && (cmos[REG_A] & A_DIVIDER) <= A_DIVIDER_32K;
  }

  #elapsed(now: number): number {
    const s = this.#s;
    return now - s.lastUpdate + s.offset;
  }

  #fraction(now: number): number {
    const elapsed = this.#elapsed(now);
    return elapsed - Math.floor(elapsed / SECOND) * SECOND;
  }

  #updateInProgress(): boolean {
    if (!this.#running) return false;
    const now = this.#deps.clock.now();
    const { updateTimer } = this.#deps;
    if (updateTimer.pending && now >= updateTimer.expireTime - UIP_HOLD) {
      // seen: it must stay seen until the update, so the timer may no longer be left out
      this.#s.cmos[REG_A] |= A_UIP;
      return true;
    }
    return this.#fraction(now) >= SECOND - UIP_HOLD;
  }

  #readFlags(): number {
    const s = this.#s;
    const flags = s.cmos[REG_C];
    s.cmos[REG_C] = 0;
    this.#deps.irq.set(false);
    if ((flags & (C_UF | C_AF)) !== 0) this.#checkUpdateTimer();
    if (s.coalesced !== 0 && (s.cmos[REG_B] & B_PIE) !== 0 && s.reinjected < MAX_REINJECT) {
      s.reinjected++;
      s.cmos[REG_C] |= C_IRQF | C_PF;
      if (this.#deps.slew?.deliver() === true) s.coalesced--;
    }
    return flags;
  }

  #writeA(value: number): void {
    const s = this.#s;
    const { cmos } = s;
    const wasReset = (cmos[REG_A] & A_DIVIDER_RESET) === A_DIVIDER_RESET;
    if ((value & A_DIVIDER_RESET) === A_DIVIDER_RESET) {
      if (this.#running) this.#updateRegisters();
      cmos[REG_A] &= ~A_UIP;
    } else if (wasReset && (value & A_DIVIDER) <= A_DIVIDER_32K) {
      if ((cmos[REG_B] & B_SET) === 0) this.#takeTimeFromRegisters(AFTER_DIVIDER_RESET);
      cmos[REG_A] &= ~A_UIP;
    }
    const rateChanged = ((cmos[REG_A] ^ value) & A_RATE) !== 0;
    cmos[REG_A] = (value & ~A_UIP) | (cmos[REG_A] & A_UIP);
    if (rateChanged) this.#updatePeriodic(this.#deps.clock.now(), true);
    this.#checkUpdateTimer();
  }

  #writeB(value: number): void {
    const s = this.#s;
    const { cmos } = s;
    const periodicChanged = ((cmos[REG_B] ^ value) & B_PIE) !== 0;
    let b = value;
    if ((b & B_SET) !== 0) {
      if (this.#running) this.#updateRegisters();
      cmos[REG_A] &= ~A_UIP;
      b &= ~B_UIE;
    } else if ((cmos[REG_B] & B_SET) !== 0 && (cmos[REG_A] & A_DIVIDER) <= A_DIVIDER_32K) {
      const fraction = this.#fraction(this.#deps.clock.now());
      // the format bits of the same write say how the registers are to be read
      cmos[REG_B] = b;
      this.#takeTimeFromRegisters(fraction);
    }
    cmos[REG_B] = b;
    if ((b & cmos[REG_C] & FLAGS) !== 0) {
      cmos[REG_C] |= C_IRQF;
      this.#deps.irq.set(true);
    } else {
      cmos[REG_C] &= ~C_IRQF;
      this.#deps.irq.set(false);
    }
    if (periodicChanged) this.#updatePeriodic(this.#deps.clock.now(), true);
    this.#checkUpdateTimer();
  }

  /** Arms the periodic timer relative to `current`; after a change of rate the elapsed part of a period counts. */
  #updatePeriodic(current: number, changed: boolean): void {
    const s = this.#s;
    const oldPeriod = s.period;
    const period = this.#periodTicks();
    s.period = period;
    if (period === 0) {
      s.coalesced = 0;
      this.#deps.periodicTimer.del();
      return;
    }
    const currentTick = nsToClock(current);
    let lost = 0;
    if (changed && oldPeriod !== 0) {
      const last = nsToClock(s.nextPeriodic) - oldPeriod;
      lost = Math.min(Math.max(0, currentTick - last), period);
    }
    s.nextPeriodic = clockToNs(currentTick + period - lost) + 1;
    this.#deps.periodicTimer.mod(s.nextPeriodic);
  }

  #periodTicks(): number {
    const { cmos } = this.#s;
    const code = cmos[REG_A] & A_RATE;
    if (code === 0 || (cmos[REG_B] & B_PIE) === 0) return 0;
    return 1 << ((code <= 2 ? code + 7 : code) - 1);
  }

  /** Arms the update timer for the next moment at which a flag can newly be set. */
  #checkUpdateTimer(): void {
    const s = this.#s;
    const { cmos } = s;
    const { clock, updateTimer } = this.#deps;
    // Holding the dividers in reset stops updates; SET does not stop the timer's phase.
    if ((cmos[REG_A] & A_DIVIDER_RESET) === A_DIVIDER_RESET) {
      updateTimer.del();
      return;
    }
    const now = clock.now();
    const nextUpdate = now + SECOND - this.#fraction(now);
    s.nextAlarm = nextUpdate + (this.#secondsToAlarm(now) - 1) * SECOND;
    let next = nextUpdate;
    if ((cmos[REG_C] & C_UF) !== 0 && (cmos[REG_A] & A_UIP) === 0) {
      if ((cmos[REG_B] & B_SET) !== 0 || (cmos[REG_C] & C_AF) !== 0 || s.nextAlarm === Infinity) {
        updateTimer.del();
        return;
      }
      next = s.nextAlarm;
    }
    if (!updateTimer.pending || updateTimer.expireTime !== next) updateTimer.mod(next);
  }

  /** Whole seconds from the current one to the next that matches the alarm: 1–86400, or Infinity. */
  #secondsToAlarm(now: number): number {
    const s = this.#s;
    const { cmos } = s;
    const want = (at: number): number => {
      const value = cmos[at];
      if ((value & ALARM_ANY) === ALARM_ANY) return -1;
      return at === HOURS_ALARM ? this.#decodeHour(value) : this.#decode(value);
    };
    const second = want(SECONDS_ALARM);
    const minute = want(MINUTES_ALARM);
    const hour = want(HOURS_ALARM);
    const today = s.base + Math.floor(this.#elapsed(now) / SECOND);
    const start = today - Math.floor(today / DAY_SECONDS) * DAY_SECONDS;
    let t = start + 1;
    while (t <= start + DAY_SECONDS) {
      const inDay = t % DAY_SECONDS;
      if (hour >= 0 && Math.floor(inDay / 3600) !== hour) t += 3600 - (inDay % 3600);
      else if (minute >= 0 && Math.floor(inDay / 60) % 60 !== minute) t += 60 - (inDay % 60);
      else if (second >= 0 && inDay % 60 !== second) t++;
      else return t - start;
    }
    return Infinity;
  }

  #decode(value: number): number {
    return (this.#s.cmos[REG_B] & B_BINARY) !== 0 ? value : (value >> 4) * 10 + (value & 0x0f);
  }

  #encode(value: number): number {
    if ((this.#s.cmos[REG_B] & B_BINARY) !== 0) return value;
    return (Math.floor(value / 10) << 4) | (value % 10);
  }

  #decodeHour(value: number): number {
    if ((this.#s.cmos[REG_B] & B_24H) !== 0) return this.#decode(value);
    const hour = this.#decode(value & ~HOUR_PM) % 12;
    return (value & HOUR_PM) !== 0 ? hour + 12 : hour;
  }

  #encodeHour(hour: number): number {
    if ((this.#s.cmos[REG_B] & B_24H) !== 0) return this.#encode(hour);
    return this.#encode(hour % 12 === 0 ? 12 : hour % 12) | (hour >= 12 ? HOUR_PM : 0);
  }

  #updateRegisters(): void {
    const { cmos } = this.#s;
    const date = new Date(this.seconds * 1000);
    const year = date.getUTCFullYear();
    cmos[SECONDS] = this.#encode(date.getUTCSeconds());
    cmos[MINUTES] = this.#encode(date.getUTCMinutes());
    cmos[HOURS] = this.#encodeHour(date.getUTCHours());
    cmos[DAY_OF_WEEK] = this.#encode(date.getUTCDay() + 1);
    cmos[DAY_OF_MONTH] = this.#encode(date.getUTCDate());
    cmos[MONTH] = this.#encode(date.getUTCMonth() + 1);
    cmos[YEAR] = this.#encode(year % 100);
    cmos[CENTURY] = this.#encode(Math.floor(year / 100) % 100);
  }

  /** Sets guest time from the registers, with `fraction` ns of a second (whole seconds in it are dropped). */
  #takeTimeFromRegisters(fraction: number): void {
    const s = this.#s;
    const { cmos } = s;
    const year = this.#decode(cmos[CENTURY]) * 100 + this.#decode(cmos[YEAR]);
    const date = new Date(0);
    date.setUTCFullYear(year, this.#decode(cmos[MONTH]) - 1, this.#decode(cmos[DAY_OF_MONTH]));
    date.setUTCHours(
      this.#decodeHour(cmos[HOURS]),
      this.#decode(cmos[MINUTES]),
      this.#decode(cmos[SECONDS]),
      0,
    );
    s.base = date.getTime() / 1000;
    s.lastUpdate = this.#deps.clock.now();
    s.offset = fraction - Math.floor(fraction / SECOND) * SECOND;
  }
}

function nsToClock(time: number): number {
  const seconds = Math.floor(time / SECOND);
  return seconds * CRYSTAL + Math.floor(((time - seconds * SECOND) * CRYSTAL) / SECOND);
}

function clockToNs(ticks: number): number {
  const seconds = Math.floor(ticks / CRYSTAL);
  return seconds * SECOND + Math.floor(((ticks - seconds * CRYSTAL) * SECOND) / CRYSTAL);
}
