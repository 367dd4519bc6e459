/**
 * Port 61h: the gate and output of PIT counter 2, the speaker switch and the refresh toggle.
 * IBM PC AT technical reference, "System control port B"; 82371AB (PIIX4) data sheet, NMISC.
 */
import { struct, u8, type ViewOf } from '@smp86/atomics-sync';
import type { Clock, IoHandler } from '../device.ts';
import type { I8254 } from './i8254.ts';

const GATE2 = 1 << 0;
const SPEAKER_ON = 1 << 1;
/** Parity and channel check disables: stored, without effect. */
const CHECK_DISABLES = 3 << 2;
const REFRESH = 1 << 4;
const OUT2 = 1 << 5;

/** The refresh request toggles bit 4 every 18 PIT ticks, here in ns. */
const REFRESH_NS = 15_085;

/** Device state; snapshot version 1. *Lock:* BQL. */
export const PcSpeakerState = struct({
  /** Bits 1..3 as written. Bit 0 is the gate itself. */
  control: u8,
});
export type PcSpeakerStateView = ViewOf<typeof PcSpeakerState>;

export interface PcSpeakerDeps {
  /** VIRTUAL. */
  readonly clock: Clock;
  readonly pit: I8254;
}

/** Port 61h (byte accesses). *Thread:* any. *Lock:* BQL. */
export class PcSpeaker implements IoHandler {
  readonly #state: PcSpeakerStateView;
  readonly #clock: Clock;
  readonly #pit: I8254;

  constructor(state: PcSpeakerStateView, deps: PcSpeakerDeps) {
    this.#state = state;
    this.#clock = deps.clock;
    this.#pit = deps.pit;
  }

  /** After the PIT's reset, which closes the gate. */
  reset(): void {
    this.#state.control = 0;
  }

  read(_offset: number, _size: number): number {
    const refresh = Math.floor(this.#clock.now() / REFRESH_NS) % 2 === 1;
    return (
      this.#state.control |
      (this.#pit.gate(2) ? GATE2 : 0) |
      (refresh ? REFRESH : 0) |
      (this.#pit.out(2) ? OUT2 : 0)
    );
  }

  write(_offset: number, _size: number, value: number): void {
    this.#state.control = value & (SPEAKER_ON | CHECK_DISABLES);
    this.#pit.setGate(2, (value & GATE2) !== 0);
  }
}
