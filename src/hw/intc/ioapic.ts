/**
 * I/O APIC. Intel 82093AA data sheet (order number 290566); the EOI register of version 20h is in the
 * ICH data sheets. 24 pins.
 */
import { array, ns, struct, u32, type ViewOf } from '@smp86/atomics-sync';
import type { Clock, IoHandler, Timer } from '../device.ts';
import { wideDestination, type ApicBus } from './apic-bus.ts';
import { DELIVERY } from './lapic-state.ts';

export const IOAPIC_BASE = 0xfec0_0000;
export const IOAPIC_SIZE = 0x1000;
export const IOAPIC_PINS = 24;

// --- registers in memory ---
const IOREGSEL = 0x00;
const IOWIN = 0x10;
const EOI = 0x40;

// --- registers behind IOREGSEL ---
const REG_ID = 0x00;
const REG_VERSION = 0x01;
const REG_ARBITRATION = 0x02;
const REG_TABLE = 0x10;

/** Version 20h (with an EOI register), number of the last pin. */
export const IOAPIC_VERSION = 0x20 | ((IOAPIC_PINS - 1) << 16);

// --- redirection entry, low half ---
const E_LOGICAL = 1 << 11;
const E_PENDING = 1 << 12;
const E_REMOTE_IRR = 1 << 14;
const E_LEVEL = 1 << 15;
const E_MASKED = 1 << 16;
const E_READ_ONLY = E_PENDING | E_REMOTE_IRR;
const E_WRITABLE = 0x1ffff & ~E_READ_ONLY;

/** After this many EOIs in a row with the line still high, the next request waits. */
const STORM = 10_000;
/** How long it waits: a level interrupt that nobody serves must not stop the machine. */
const STORM_DELAY_NS = 10_000_000;

/** Device state; snapshot version 1. *Lock:* BQL. */
export const IoapicState = struct({
  /** Scheduled time of the delayed service, for snapshots. -1: none. */
  delayed: ns,
  id: u32,
  select: u32,
  /** Levels of the pins. */
  lines: u32,
  /** Requests: an edge that was not delivered yet, the line of a level pin. */
  irr: u32,
  entryLow: array(u32, IOAPIC_PINS),
  entryHigh: array(u32, IOAPIC_PINS),
  /** EOIs in a row that found the line high. */
  stormCount: array(u32, IOAPIC_PINS),
});
export type IoapicStateView = ViewOf<typeof IoapicState>;

export interface IoapicDeps {
  readonly bus: ApicBus;
  /** Acknowledge cycle of the 8259, for pins in ExtINT mode. *Lock:* BQL. */
  readonly pic: { acknowledge(): number };
  /** VIRTUAL. */
  readonly clock: Clock;
  /** On VIRTUAL; its callback is `onTimer`. */
  readonly timer: Timer;
}

/** The I/O APIC at FEC0_0000h. *Thread:* any. *Lock:* BQL. */
export class Ioapic implements IoHandler {
  readonly #state: IoapicStateView;
  readonly #bus: ApicBus;
  readonly #deps: IoapicDeps;

  constructor(state: IoapicStateView, deps: IoapicDeps) {
    this.#state = state;
    this.#bus = deps.bus;
    this.#deps = deps;
  }

  reset(): void {
    const s = this.#state;
    s.id = 0;
    s.select = 0;
    s.lines = 0;
    s.irr = 0;
    s.delayed = -1;
    this.#deps.timer.del();
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      s.entryLow[pin] = E_MASKED;
      s.entryHigh[pin] = 0;
      s.stormCount[pin] = 0;
    }
  }

  /** Drives pin `pin`. */
  setIrq(pin: number, level: boolean): void {
    const s = this.#state;
    const bit = 1 << pin;
    const was = (s.lines & bit) !== 0;
    if (was === level) return;
    const entry = s.entryLow[pin];
    if (level) {
      s.lines |= bit;
      if ((entry & E_LEVEL) !== 0) {
        s.irr |= bit;
        if ((entry & E_REMOTE_IRR) === 0) this.#service();
      } else if ((entry & E_MASKED) === 0) {
        // "Edge-sensitive interrupts … are ignored while masked."
        s.irr |= bit;
        this.#service();
      }
    } else {
      s.lines &= ~bit;
      if ((entry & E_LEVEL) !== 0) s.irr &= ~bit;
    }
  }

  /** A local APIC ended a level-triggered interrupt. */
  eoi(vector: number): void {
    const s = this.#state;
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      const entry = s.entryLow[pin];
      if ((entry & 0xff) !== vector || (entry & E_LEVEL) === 0 || (entry & E_REMOTE_IRR) === 0) continue;
      s.entryLow[pin] = entry & ~E_REMOTE_IRR;
      if ((entry & E_MASKED) !== 0 || (s.irr & (1 << pin)) === 0) {
        s.stormCount[pin] = 0;
        continue;
      }
      const count = s.stormCount[pin] + 1;
      if (count < STORM) {
        s.stormCount[pin] = count;
        this.#service();
      } else {
        s.stormCount[pin] = 0;
        const at = this.#deps.clock.now() + STORM_DELAY_NS;
        if (s.delayed < 0 || at < s.delayed) s.delayed = at;
        this.#deps.timer.modAnticipate(at);
      }
    }
  }

  /** The delayed service. *Thread:* main loop. */
  onTimer(): void {
    this.#state.delayed = -1;
    this.#service();
  }

  read(offset: number, size: number): number {
    if ((offset & ~3) === IOREGSEL) return offset === IOREGSEL ? this.#state.select : 0;
    return offset === IOWIN && size === 4 ? this.#readSelected() : 0;
  }

  write(offset: number, size: number, value: number): void {
    if (offset === IOREGSEL) this.#state.select = value & 0xff;
    else if (size !== 4) return;
    else if (offset === IOWIN) this.#writeSelected(value);
    else if (offset === EOI) this.eoi(value & 0xff);
  }

  #readSelected(): number {
    const s = this.#state;
    switch (s.select) {
      case REG_ID:
      case REG_ARBITRATION:
        return s.id << 24;
      case REG_VERSION:
        return IOAPIC_VERSION;
    }
    const pin = (s.select - REG_TABLE) >> 1;
    if (pin < 0 || pin >= IOAPIC_PINS) return 0;
    return ((s.select & 1) !== 0 ? s.entryHigh[pin] : s.entryLow[pin]) >>> 0;
  }

  #writeSelected(value: number): void {
    const s = this.#state;
    if (s.select === REG_ID) {
      s.id = (value >>> 24) & 0xf;
      return;
    }
    const pin = (s.select - REG_TABLE) >> 1;
    if (pin < 0 || pin >= IOAPIC_PINS) return;
    const old = s.entryLow[pin];
    const bit = 1 << pin;
    if ((s.select & 1) !== 0) {
      s.entryHigh[pin] = value & 0xff00_0000;
    } else {
      let entry = (value & E_WRITABLE) | (old & E_READ_ONLY);
      if ((entry & E_LEVEL) !== 0) {
        s.irr = (s.irr & ~bit) | (s.lines & bit);
      } else {
        entry &= ~E_REMOTE_IRR;
        if ((old & E_LEVEL) !== 0) s.irr &= ~bit; // a level is no edge
      }
      s.entryLow[pin] = entry;
    }
    s.stormCount[pin] = 0;
    this.#service();
  }

  /** Sends a message for every pin that requests one and may. */
  #service(): void {
    const s = this.#state;
    for (let pending = s.irr; pending !== 0; pending &= pending - 1) {
      const pin = 31 - Math.clz32(pending & -pending);
      const entry = s.entryLow[pin];
      if ((entry & E_MASKED) !== 0) continue;
      const level = (entry & E_LEVEL) !== 0;
      if (level) {
        if ((entry & E_REMOTE_IRR) !== 0) continue; // until the EOI
        s.entryLow[pin] = entry | E_REMOTE_IRR;
      } else {
        s.irr &= ~(1 << pin);
      }
      const mode = (entry >>> 8) & 7;
      const vector = mode === DELIVERY.EXTINT ? this.#deps.pic.acknowledge() : entry & 0xff;
      const destination = wideDestination(s.entryHigh[pin] >>> 24);
      this.#bus.deliver(destination, (entry & E_LOGICAL) !== 0, mode, vector, level);
    }
  }
}
