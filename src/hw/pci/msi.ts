/**
 * Message-signalled interrupts: the MSI and MSI-X capabilities for a device to add.
 * PCI Local Bus Specification 3.0, 6.8.1 (MSI) and 6.8.2 (MSI-X).
 */
import type { IoHandler } from '../device.ts';
import type { PciFunction } from './pci.ts';

const CAP_MSI = 0x05;
const CAP_MSIX = 0x11;

/** Takes the memory write that a message is: on a PC, the LAPICs at FEExxxxx. *Lock:* BQL, or that of an `Msix`. */
export interface MsiTarget {
  /** `address` is 64 bits as a number (below 2^53), `data` 32 bits. */
  send(address: number, data: number): void;
}

const MSI_CONTROL = 2;
const MSI_ADDRESS = 4;
const MSI_ADDRESS_HIGH = 8;
const MSI_DATA = 12;
const MSI_MASK = 16;
const MSI_PENDING = 20;
const MSI_LENGTH = 24;
const MSI_CTRL = { ENABLE: 1, MULTIPLE_ENABLE_SHIFT: 4, WIDE: 0x80, MASKABLE: 0x100 } as const;

/** MSI with a 64-bit address and per-vector masking. State: the configuration space. *Lock:* BQL. */
export class Msi {
  readonly #fn: PciFunction;
  readonly #at: number;
  readonly #vectors: number;
  readonly #target: MsiTarget;

  /** `vectors`: a power of two up to 32. */
  constructor(fn: PciFunction, vectors: number, target: MsiTarget) {
    this.#fn = fn;
    this.#vectors = vectors;
    this.#target = target;
    const at = fn.addCapability(CAP_MSI, MSI_LENGTH);
    this.#at = at;
    fn.setDefault(at + MSI_CONTROL, 2, MSI_CTRL.WIDE | MSI_CTRL.MASKABLE | (Math.log2(vectors) << 1));
    fn.setWritable(at + MSI_CONTROL, 2, MSI_CTRL.ENABLE | (7 << MSI_CTRL.MULTIPLE_ENABLE_SHIFT));
    fn.setWritable(at + MSI_ADDRESS, 4, 0xffff_fffc);
    fn.setWritable(at + MSI_ADDRESS_HIGH, 4, 0xffff_ffff);
    fn.setWritable(at + MSI_DATA, 2, 0xffff);
    fn.setWritable(at + MSI_MASK, 4, 2 ** vectors - 1);
    fn.addHooks({
      configWritten: (offset, size) => {
        if (offset < at + MSI_LENGTH && offset + size > at) this.#deliverPending();
      },
    });
  }

  get enabled(): boolean {
    return (this.#fn.state.config[this.#at + MSI_CONTROL] & MSI_CTRL.ENABLE) !== 0;
  }

  /** Sends the message of `vector`, or keeps it pending while masked. Nothing when MSI is off. */
  notify(vector: number): void {
    if (!this.enabled || vector >= this.#vectors) return;
    const fn = this.#fn;
    const at = this.#at;
    if (((fn.get(at + MSI_MASK, 4) >>> vector) & 1) !== 0) {
      fn.set(at + MSI_PENDING, 4, fn.get(at + MSI_PENDING, 4) | (1 << vector));
      return;
    }
    const control = fn.get(at + MSI_CONTROL, 2);
    const allocated = Math.min(1 << ((control >> MSI_CTRL.MULTIPLE_ENABLE_SHIFT) & 7), this.#vectors);
    const low = allocated - 1;
    const data = (fn.get(at + MSI_DATA, 2) & ~low) | (vector & low);
    this.#target.send(fn.get(at + MSI_ADDRESS, 4) + fn.get(at + MSI_ADDRESS_HIGH, 4) * 2 ** 32, data);
  }

  #deliverPending(): void {
    if (!this.enabled) return;
    const fn = this.#fn;
    const pending = fn.get(this.#at + MSI_PENDING, 4);
    const ready = pending & ~fn.get(this.#at + MSI_MASK, 4);
    if (ready === 0) return;
    fn.set(this.#at + MSI_PENDING, 4, pending & ~ready);
    for (let v = 0; v < this.#vectors; v++) if (((ready >>> v) & 1) !== 0) this.notify(v);
  }
}

const MSIX_CONTROL = 2;
const MSIX_TABLE = 4;
const MSIX_PBA = 8;
const MSIX_LENGTH = 12;
const MSIX_CTRL = { FUNCTION_MASK: 0x4000, ENABLE: 0x8000 } as const;
const ENTRY_SIZE = 16;
const ENTRY_CONTROL = 12;
const ENTRY_MASKED = 1;

/** Bytes of shared state that `vectors` MSI-X entries need. */
export function msixTableSize(vectors: number): number {
  return vectors * ENTRY_SIZE;
}
export function msixPbaSize(vectors: number): number {
  return Math.ceil(vectors / 64) * 8;
}

export interface MsixLayout {
  /** Number of entries, 1 to 2048. */
  readonly vectors: number;
  /** The BAR that holds both, and the offsets in it (multiples of 8). */
  readonly bar: number;
  readonly tableOffset: number;
  readonly pbaOffset: number;
}

/** Held while messages are sent, by a device whose interrupts come from a thread without the BQL. */
export interface MsixLock {
  lock(): void;
  unlock(): void;
}

/**
 * MSI-X. The table and the pending bits lie in the device's state; the device routes accesses to its BAR at
 * `tableOffset` and `pbaOffset` to `table` and `pba`. *Lock:* BQL; with an `MsixLock`, `notify` needs none.
 *
 * With the lock: a sender sets its pending bit and looks at the masks inside one section; who changes a mask stores
 * first and then looks at the pending bits inside a section. If the sender's section is the later one it sees the
 * new mask, else its pending bit is seen. So no message is lost, and when a masking write has returned none is sent.
 */
export class Msix {
  readonly table: IoHandler;
  readonly pba: IoHandler;
  readonly #fn: PciFunction;
  readonly #at: number;
  readonly #layout: MsixLayout;
  readonly #entries: Uint8Array;
  readonly #pending: Uint8Array;
  readonly #target: MsiTarget;
  readonly #lock: MsixLock | undefined;

  /** `entries` and `pending` are `msixTableSize` and `msixPbaSize` bytes of shared state. */
  constructor(
    fn: PciFunction,
    layout: MsixLayout,
    entries: Uint8Array,
    pending: Uint8Array,
    target: MsiTarget,
    lock?: MsixLock,
  ) {
    this.#fn = fn;
    this.#layout = layout;
    this.#entries = entries;
    this.#pending = pending;
    this.#target = target;
    this.#lock = lock;
    const at = fn.addCapability(CAP_MSIX, MSIX_LENGTH);
    this.#at = at;
    fn.setDefault(at + MSIX_CONTROL, 2, layout.vectors - 1);
    fn.setWritable(at + MSIX_CONTROL, 2, MSIX_CTRL.FUNCTION_MASK | MSIX_CTRL.ENABLE);
    fn.setDefault(at + MSIX_TABLE, 4, layout.tableOffset | layout.bar);
    fn.setDefault(at + MSIX_PBA, 4, layout.pbaOffset | layout.bar);
    fn.addHooks({
      configWritten: (offset, size) => {
        if (offset < at + MSIX_CONTROL + 2 && offset + size > at + MSIX_CONTROL) {
          this.#locked(() => this.#deliverAll());
        }
      },
    });
    this.table = {
      read: (offset, size) => readBytes(entries, offset, size),
      write: (offset, size, value) => {
        this.#locked(() => {
          for (let i = 0; i < size && offset + i < entries.length; i++)
            entries[offset + i] = value >>> (8 * i);
          this.#deliverIfReady(Math.floor(offset / ENTRY_SIZE));
        });
      },
    };
    this.pba = { read: (offset, size) => readBytes(pending, offset, size), write: () => {} };
  }

  /** All vectors masked, none pending. The function's own reset clears the control word. */
  reset(): void {
    this.#entries.fill(0);
    this.#pending.fill(0);
    for (let v = 0; v < this.#layout.vectors; v++)
      this.#entries[v * ENTRY_SIZE + ENTRY_CONTROL] = ENTRY_MASKED;
  }

  get enabled(): boolean {
    return (this.#control & MSIX_CTRL.ENABLE) !== 0;
  }

  get #control(): number {
    return this.#fn.get(this.#at + MSIX_CONTROL, 2);
  }

  /** Sends the message of `vector`, or keeps it pending while masked. Nothing when MSI-X is off. *Thread:* any. */
  notify(vector: number): void {
    if (!this.enabled || vector >= this.#layout.vectors) return;
    this.#locked(() => {
      this.#pending[vector >> 3] |= 1 << (vector & 7);
      this.#deliverIfReady(vector);
    });
  }

  #locked(body: () => void): void {
    this.#lock?.lock();
    try {
      body();
    } finally {
      this.#lock?.unlock();
    }
  }

  #deliverAll(): void {
    for (let v = 0; v < this.#layout.vectors; v++) this.#deliverIfReady(v);
  }

  #deliverIfReady(vector: number): void {
    if (vector >= this.#layout.vectors || (this.#pending[vector >> 3] & (1 << (vector & 7))) === 0) return;
    const at = vector * ENTRY_SIZE;
    const control = this.#control;
    if ((control & (MSIX_CTRL.ENABLE | MSIX_CTRL.FUNCTION_MASK)) !== MSIX_CTRL.ENABLE) return;
    if ((this.#entries[at + ENTRY_CONTROL] & ENTRY_MASKED) !== 0) return;
    this.#pending[vector >> 3] &= ~(1 << (vector & 7));
    const address = readBytes(this.#entries, at, 4) + readBytes(this.#entries, at + 4, 4) * 2 ** 32;
    this.#target.send(address, readBytes(this.#entries, at + 8, 4));
  }
}

function readBytes(from: Uint8Array, offset: number, size: number): number {
  let value = 0;
  for (let i = size - 1; i >= 0; i--) value = (value << 8) | (from[offset + i] ?? 0);
  return value >>> 0;
}
