/** `isa-debug-exit`: a write ends the emulator with exit status `(value << 1) | 1`. */
import type { AccessWidth } from '../io-bus.ts';
import type { IoHandler } from '../device.ts';

/** Defaults of `-device isa-debug-exit`. */
export const DEBUG_EXIT_IOBASE = 0x501;
export const DEBUG_EXIT_IOSIZE = 2;

/** Access width to register a debug-exit of `iosize` ports with. */
export function debugExitWidth(iosize: number): AccessWidth {
  return iosize >= 4 ? 4 : iosize >= 2 ? 2 : 1;
}

/** Stateless. *Lock:* BQL. */
export class DebugExit implements IoHandler {
  readonly #exit: (status: number) => void;

  /** `exit` gets the status as a number; the host keeps its low 8 bits. */
  constructor(exit: (status: number) => void) {
    this.#exit = exit;
  }

  read(): number {
    return 0;
  }

  write(_offset: number, _size: number, value: number): void {
    this.#exit(((value << 1) | 1) >>> 0);
  }
}
