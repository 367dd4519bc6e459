/**
 * `pvpanic` on ISA: a guest's panic handler writes a byte of event bits to one port; a read gives the bits that
 * the machine takes. Interface: "PVPANIC DEVICE" in QEMU's docs/specs; ACPI identifier QEMU0001.
 */
import type { IoHandler } from '../device.ts';

export const PVPANIC_PORT = 0x505;
/** Events. */
export const PVPANIC_PANICKED = 1;
/** The guest panicked and its crash kernel takes over. */
export const PVPANIC_CRASH_LOADED = 2;
const SUPPORTED = PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;

/** Stateless. *Lock:* BQL. */
export class Pvpanic implements IoHandler {
  readonly #notify: (events: number) => void;

  /** `notify` gets the bits that the machine takes, at least one. */
  constructor(notify: (events: number) => void) {
    this.#notify = notify;
  }

  read(): number {
    return SUPPORTED;
  }

  write(_offset: number, _size: number, value: number): void {
    const events = value & SUPPORTED;
    if (events !== 0) this.#notify(events);
  }
}
