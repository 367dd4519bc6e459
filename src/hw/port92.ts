/** System control port A (0x92): fast A20 and fast reset. Intel 82371SB datasheet 2.5.4.3 (IBM PS/2 port A). */
import { struct, u8, type ViewOf } from '@smp86/atomics-sync';
import type { IoHandler, IrqLine } from './device.ts';

export const PORT92 = 0x92;
const FAST_RESET = 0x01;
const A20 = 0x02;

/** *Lock:* BQL. Snapshot version 1. */
export const Port92State = struct({ value: u8 });

export interface Port92Deps {
  /** Level 1: address line 20 is passed through. */
  readonly a20: IrqLine;
  readonly reset: () => void;
}

/** *Thread:* any. *Lock:* BQL. */
export class Port92 implements IoHandler {
  readonly #state: ViewOf<typeof Port92State>;
  readonly #deps: Port92Deps;

  constructor(state: ViewOf<typeof Port92State>, deps: Port92Deps) {
    this.#state = state;
    this.#deps = deps;
  }

  reset(): void {
    this.#state.value = 0;
  }

  /** As the firmware leaves it, which has switched A20 on here. */
  setUp(): void {
    this.#state.value = A20;
  }

  read(): number {
    return this.#state.value;
  }

  write(_offset: number, _size: number, value: number): void {
    const old = this.#state.value;
    this.#state.value = value & ~FAST_RESET;
    if (((old ^ value) & A20) !== 0) this.#deps.a20.set((value & A20) !== 0);
    // the reset is an edge: the bit has to be seen going from 0 to 1, and reads as 0
    if ((value & FAST_RESET) !== 0) this.#deps.reset();
  }
}
