/**
 * Global system interrupts: where a device's line goes. ISA IRQ n is GSI n and reaches the 8259 pair
 * and I/O APIC pin n, except that IRQ 0 is on pin 2 (ACPI interrupt source override); GSI 16–23 are
 * I/O APIC pins alone.
 *
 * A line may have several sources (PCI interrupts are shared, the PIT and the HPET share IRQ 0): it
 * is high while any of them drives it.
 */
import { array, struct, u32, type ViewOf } from '@smp86/atomics-sync';
import type { IrqLine } from '../device.ts';
import type { I8259 } from './i8259.ts';
import { IOAPIC_PINS, type Ioapic } from './ioapic.ts';

export const GSI_COUNT = IOAPIC_PINS;
const ISA_IRQS = 16;
/** The pin that GSI 0 shares with GSI 2. */
const TIMER_PIN = 2;
const MAX_SOURCES = 32;

/** Device state; snapshot version 1. *Lock:* BQL. */
export const GsiState = struct({
  /** Per GSI, a bit per source that drives it high. */
  sources: array(u32, GSI_COUNT),
});
export type GsiStateView = ViewOf<typeof GsiState>;

export interface GsiDeps {
  readonly pic: I8259;
  readonly ioapic: Ioapic;
}

/** A host mistake in wiring: no such line or source. */
export class GsiError extends Error {
  readonly code = 'ERR_GSI_LINE';
  constructor(message: string) {
    super(message);
    this.name = 'GsiError';
  }
}

/** One source of one line. */
class GsiLine implements IrqLine {
  readonly #gsis: Gsis;
  readonly #gsi: number;
  readonly #bit: number;

  constructor(gsis: Gsis, gsi: number, source: number) {
    this.#gsis = gsis;
    this.#gsi = gsi;
    this.#bit = 1 << source;
  }

  set(level: boolean): void {
    this.#gsis.drive(this.#gsi, this.#bit, level);
  }
}

/** *Thread:* any. *Lock:* BQL. */
export class Gsis {
  readonly #state: GsiStateView;
  readonly #pic: I8259;
  readonly #ioapic: Ioapic;

  constructor(state: GsiStateView, deps: GsiDeps) {
    this.#state = state;
    this.#pic = deps.pic;
    this.#ioapic = deps.ioapic;
  }

  /** Before the reset of the controllers and of the devices, which drive their lines again. */
  reset(): void {
    this.#state.sources.fill(0);
  }

  /**
   * The line of GSI `gsi` (0–15: ISA IRQs) as source number `source` (0–31) drives it. A device's
   * source numbers are part of the wiring and the same in every thread. Throws GsiError.
   */
  line(gsi: number, source = 0): IrqLine {
    if (!Number.isInteger(gsi) || gsi < 0 || gsi >= GSI_COUNT) throw new GsiError(`no GSI ${gsi}`);
    if (!Number.isInteger(source) || source < 0 || source >= MAX_SOURCES) {
      throw new GsiError(`no source ${source}`);
    }
    return new GsiLine(this, gsi, source);
  }

  /** All 24 lines as `source` drives them. */
  lines(source = 0): IrqLine[] {
    return Array.from({ length: GSI_COUNT }, (_, gsi) => this.line(gsi, source));
  }

  /** The level of GSI `gsi`. */
  level(gsi: number): boolean {
    return this.#state.sources[gsi] !== 0;
  }

  /** Sets or clears source `bit` of `gsi`; a change of the line goes on to the controllers. */
  drive(gsi: number, bit: number, level: boolean): void {
    const { sources } = this.#state;
    const was = sources[gsi] !== 0;
    const now = level ? sources[gsi] | bit : sources[gsi] & ~bit;
    sources[gsi] = now;
    if (was === (now !== 0)) return;
    if (gsi < ISA_IRQS) this.#pic.setIrq(gsi, level);
    if (gsi === 0 || gsi === TIMER_PIN) {
      this.#ioapic.setIrq(TIMER_PIN, sources[0] !== 0 || sources[TIMER_PIN] !== 0);
    } else {
      this.#ioapic.setIrq(gsi, level);
    }
  }
}
