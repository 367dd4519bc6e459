/**
 * Bytes from the guest to the host's streams. A ring that is full makes the device wait: its transmitter is busy. With
 * icount the guest must not see how fast the host reads, so the vCPU thread waits instead, without the BQL, until
 * there is room. When the machine is to stop meanwhile, the byte is kept aside until the next one is written.
 */
import type { SpscRing } from '@smp86/atomics-sync';
import type { Bql } from './bql.ts';
import type { VcpuSignals } from './signals.ts';

export interface OutputParts {
  /** Tells the host that the rings of these bits have something. */
  announce(bit: number): void;
  /** Absent: a full ring is not waited for. */
  readonly wait?: OutputWait;
}
export interface OutputWait {
  readonly bql: Bql;
  /** Of the thread that waits: the host kicks it when it has read. */
  readonly signals: VcpuSignals;
  /** The machine is to stop. */
  stopping(): boolean;
}

/** *Thread:* one instance in each worker. *Lock:* BQL. */
export class GuestOutput {
  readonly #parts: OutputParts;
  readonly #kept: { readonly ring: SpscRing; readonly bit: number; readonly byte: number }[] = [];

  constructor(parts: OutputParts) {
    this.#parts = parts;
  }

  /** False: there is no room. *May block:* with icount. */
  write(ring: SpscRing, bit: number, byte: number): boolean {
    const { wait } = this.#parts;
    if (wait === undefined) return this.#put(ring, bit, byte);
    this.#kept.push({ ring, bit, byte });
    this.#flush(wait);
    return true;
  }

  /** Writes in order what was kept; stops early only when the machine does. */
  #flush(wait: OutputWait): void {
    while (this.#kept.length > 0) {
      const [{ ring, bit, byte }] = this.#kept;
      if (this.#put(ring, bit, byte)) this.#kept.shift();
      else if (!this.#waitForRoom(ring, wait)) return;
    }
  }

  #put(ring: SpscRing, bit: number, byte: number): boolean {
    if (!ring.writeByte(byte)) return false;
    this.#parts.announce(bit);
    return true;
  }

  /** False: the machine is to stop. */
  #waitForRoom(ring: SpscRing, { bql, signals, stopping }: OutputWait): boolean {
    bql.unlock();
    try {
      for (;;) {
        const seq = signals.sequence;
        if (ring.space > 0) return true;
        if (stopping()) return false;
        signals.sleep(seq);
      }
    } finally {
      bql.lock();
    }
  }
}
