/**
 * What connects the local APICs: destinations, IPIs, interrupt messages, the 8259's INTR. Intel SDM
 * vol. 3A, "Issuing Interprocessor Interrupts", "Message Signalled Interrupts".
 */
import { atomicI32, struct, type ViewOf } from '@smp86/atomics-sync';
import type { IrqLine } from '../device.ts';
import { BROADCAST, DELIVERY, ESR_SEND_VECTOR, ICR_ASSERT, ICR_LEVEL, ICR_LOGICAL } from './lapic-state.ts';
import type { Lapic } from './lapic.ts';

/** Bus state; snapshot version 1. */
export const ApicBusState = struct({
  /** 1 while the 8259's INTR is active. Written under the BQL, read by any thread. */
  picLevel: atomicI32,
});
export type ApicBusStateView = ViewOf<typeof ApicBusState>;

export interface ApicBusDeps {
  /** The acknowledge cycle of the 8259. Called by vCPU threads without the BQL: takes it itself. */
  picAcknowledge(): number;
  /**
   * EOI broadcast of a level-triggered vector to the I/O APIC. Called by vCPU threads, with the BQL
   * (register in memory) or without (MSR): takes it when it is not held.
   */
  ioapicEoi(vector: number): void;
}

/** An 8-bit destination, as xAPIC, I/O APIC and messages have it, in 32 bits: FFh is everybody. */
export function wideDestination(destination: number): number {
  return destination === 0xff ? BROADCAST : destination;
}

/** All local APICs of a machine. *Thread:* any. *Lock:* none, unless said. */
export class ApicBus {
  readonly #state: ApicBusStateView;
  readonly #deps: ApicBusDeps;
  readonly #lapics: Lapic[] = [];
  /** The 8259's INTR, to all local APICs. *Lock:* BQL. */
  readonly picLine: IrqLine;

  constructor(state: ApicBusStateView, deps: ApicBusDeps) {
    this.#state = state;
    this.#deps = deps;
    this.picLine = { set: (level) => this.#setPicLine(level) };
  }

  reset(): void {
    this.#state.picLevel.store(0);
  }

  /** Part of wiring: a local APIC's constructor enrols it, in order of vCPU index. */
  attach(lapic: Lapic): void {
    this.#lapics.push(lapic);
  }

  /** Local APICs in order of vCPU index. */
  get lapics(): readonly Lapic[] {
    return this.#lapics;
  }

  /**
   * Delivers a message. `destination` is 32 bits wide (see `wideDestination`), `logical` and `level`
   * choose destination and trigger mode. Returns whether some local APIC took it.
   */
  deliver(
    destination: number,
    logical: boolean,
    deliveryMode: number,
    vector: number,
    level: boolean,
  ): boolean {
    const lapics = this.#lapics;
    if (deliveryMode === DELIVERY.LOWEST) {
      const chosen = this.#lowestPriority(destination, logical);
      return chosen !== undefined && chosen.accept(DELIVERY.FIXED, vector, level);
    }
    let taken = false;
    for (let i = 0; i < lapics.length; i++) {
      const lapic = lapics[i];
      if (lapic.matches(destination, logical) && lapic.accept(deliveryMode, vector, level)) taken = true;
    }
    return taken;
  }

  /** A write of the interrupt command register of `source`. *Thread:* its vCPU. */
  ipi(source: Lapic, command: number, destination: number): void {
    const mode = (command >>> 8) & 7;
    const vector = command & 0xff;
    // INIT level de-assert only synchronises arbitration ids, which nothing has any more.
    if (mode === DELIVERY.INIT && (command & (ICR_LEVEL | ICR_ASSERT)) === ICR_LEVEL) return;
    if (mode <= DELIVERY.LOWEST && vector < 16) {
      source.error(ESR_SEND_VECTOR);
      return;
    }
    const shorthand = (command >>> 18) & 3;
    if (shorthand === 0) {
      // The trigger bit counts for INIT alone: other IPIs are edge triggered.
      this.deliver(destination, (command & ICR_LOGICAL) !== 0, mode, vector, false);
    } else if (shorthand === 1) {
      source.accept(mode === DELIVERY.LOWEST ? DELIVERY.FIXED : mode, vector, false);
    } else {
      const lapics = this.#lapics;
      for (let i = 0; i < lapics.length; i++) {
        const lapic = lapics[i];
        if ((shorthand === 2 || lapic !== source) && lapic.enabled) lapic.accept(mode, vector, false);
      }
    }
  }

  /** A device's write of `data` to `address` in FEE0_0000h–FEEF_FFFFh. */
  msi(address: number, data: number): void {
    const logical = (address & (1 << 2)) !== 0;
    const hint = (address & (1 << 3)) !== 0;
    let mode = (data >>> 8) & 7;
    // With the redirection hint, a logical destination means one of the set.
    if (hint && logical && mode === DELIVERY.FIXED) mode = DELIVERY.LOWEST;
    const destination = wideDestination((address >>> 12) & 0xff);
    this.deliver(destination, logical, mode, data & 0xff, (data & ICR_LEVEL) !== 0);
  }

  /** The 8259 asks for an interrupt. */
  get picActive(): boolean {
    return this.#state.picLevel.load() !== 0;
  }

  picAcknowledge(): number {
    return this.#deps.picAcknowledge();
  }

  ioapicEoi(vector: number): void {
    this.#deps.ioapicEoi(vector);
  }

  #setPicLine(level: boolean): void {
    const changed = this.#state.picLevel.exchange(level ? 1 : 0) !== (level ? 1 : 0);
    if (!changed) return;
    for (let i = 0; i < this.#lapics.length; i++) this.#lapics[i].picChanged(level);
  }

  /** Among those addressed and enabled, the one with the lowest processor priority; the first of equals. */
  #lowestPriority(destination: number, logical: boolean): Lapic | undefined {
    let chosen: Lapic | undefined;
    let lowest = 256;
    for (let i = 0; i < this.#lapics.length; i++) {
      const lapic = this.#lapics[i];
      if (!lapic.softwareEnabled || !lapic.matches(destination, logical)) continue;
      const priority = lapic.ppr;
      if (priority < lowest) {
        lowest = priority;
        chosen = lapic;
      }
    }
    return chosen;
  }
}
