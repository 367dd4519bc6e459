/**
 * Split virtqueues, the device's side. Virtual I/O Device (VIRTIO) 1.1, 2.6.
 *
 * The rings are the guest's memory and change at any time: every field is read once, checked, and used as it was
 * read. Whatever the driver does wrong is a VirtioError.
 *
 * Memory order: `avail.idx` is loaded before the entries it covers, `used.idx` is stored after the entry, and both
 * are sequentially consistent, as are the loads and stores of flags and event indices. So of two that store one
 * word and then look at the other's, at least one sees what the other stored (2.6.7, 2.6.10).
 *
 * Notifications are asked for only before the serving thread sleeps; while it is awake it looks at `avail.idx` itself.
 */
import { bool, struct, u16, u32, type ViewOf } from '@smp86/atomics-sync';
import type { GuestRam } from '../guest-ram.ts';
import { Buffers } from './buffers.ts';
import { VirtioError } from './errors.ts';

const DESC_SIZE = 16;
const DESC_F = { NEXT: 1, WRITE: 2, INDIRECT: 4 } as const;
const AVAIL_F_NO_INTERRUPT = 1;
const USED_F_NO_NOTIFY = 1;
/** Offsets in the rings: avail { flags, idx, ring[size], used_event }, used { flags, idx, ring[size], avail_event }. */
const RING_IDX = 2;
const RING_ENTRIES = 4;
const USED_ENTRY = 8;
/** Most pieces of one request, indirect ones included. */
const MAX_PIECES = 1024;

export const NO_VECTOR = 0xffff;

/**
 * One queue. *Lock:* BQL while the device is not running; afterwards addresses and sizes are constant, indices
 * belong to the thread that serves the queue, and `vector` is read by it without a lock. Snapshot version 1.
 */
export const VirtqueueState = struct({
  descLow: u32,
  descHigh: u32,
  availLow: u32,
  availHigh: u32,
  usedLow: u32,
  usedHigh: u32,
  /** Number of descriptors, a power of two. */
  size: u16,
  /** MSI-X vector, or NO_VECTOR. */
  vector: u16,
  /** Entries of the avail ring that were taken, modulo 2^16. */
  lastAvail: u16,
  /** Copy of used.idx. */
  usedIndex: u16,
  /** used.idx when the driver was last interrupted, if `signalledValid`. */
  signalled: u16,
  signalledValid: bool,
  enabled: bool,
});
export type VirtqueueStateView = ViewOf<typeof VirtqueueState>;

/** What was negotiated, as far as queues care. */
export interface RingFeatures {
  readonly indirect: boolean;
  readonly eventIdx: boolean;
}

/** A request: buffers to read, then buffers to write. */
export interface Chain {
  /** Names the request to `push`. */
  readonly head: number;
  readonly out: Buffers;
  readonly in: Buffers;
}

/** A served queue. Made when the device starts to run. *Thread:* the one that serves it. *Lock:* none. */
export class Virtqueue {
  readonly #state: VirtqueueStateView;
  readonly #ram: GuestRam;
  readonly #features: RingFeatures;
  readonly #size: number;
  /** Notifications are not asked for. So it is at first, since one may have come to nobody. */
  #suppressed = true;
  // wasm addresses
  readonly #desc: number;
  readonly #avail: number;
  readonly #used: number;
  readonly #u16: Uint16Array<SharedArrayBuffer>;
  readonly #u32: Uint32Array<SharedArrayBuffer>;

  /** Throws VirtioError when the rings are not in RAM or misaligned. */
  constructor(state: VirtqueueStateView, ram: GuestRam, features: RingFeatures) {
    this.#state = state;
    this.#ram = ram;
    this.#features = features;
    this.#u16 = ram.views.u16;
    this.#u32 = ram.views.u32;
    const { size } = state;
    this.#size = size;
    this.#desc = this.#place('descriptor table', state.descLow, state.descHigh, size * DESC_SIZE, 16);
    this.#avail = this.#place('avail ring', state.availLow, state.availHigh, RING_ENTRIES + size * 2 + 2, 2);
    this.#used = this.#place(
      'used ring',
      state.usedLow,
      state.usedHigh,
      RING_ENTRIES + size * USED_ENTRY + 2,
      4,
    );
  }

  #place(what: string, low: number, high: number, length: number, align: number): number {
    const address = high * 2 ** 32 + low;
    if (low % align !== 0 || !this.#ram.contains(address, length)) {
      throw new VirtioError(`${what} at 0x${address.toString(16)}`);
    }
    return this.#ram.base + address;
  }

  #load16(at: number): number {
    return Atomics.load(this.#u16, at >>> 1);
  }
  #store16(at: number, value: number): void {
    Atomics.store(this.#u16, at >>> 1, value);
  }

  /** Number of requests that wait. */
  #waiting(): number {
    const waiting = (this.#load16(this.#avail + RING_IDX) - this.#state.lastAvail) & 0xffff;
    if (waiting > this.#size)
      throw new VirtioError(`avail index ${waiting} ahead in a queue of ${this.#size}`);
    return waiting;
  }

  /** Whether a request waits that no notification need tell of. Nothing is checked. */
  get more(): boolean {
    return this.#suppressed && this.#load16(this.#avail + RING_IDX) !== this.#state.lastAvail;
  }

  /** Takes the next request; undefined when there is none. Throws VirtioError. */
  pop(): Chain | undefined {
    if (this.#waiting() === 0) return undefined;
    const state = this.#state;
    const entry = this.#avail + RING_ENTRIES + (state.lastAvail & (this.#size - 1)) * 2;
    const head = this.#u16[entry >>> 1];
    state.lastAvail = (state.lastAvail + 1) & 0xffff;
    if (head >= this.#size) throw new VirtioError(`descriptor ${head} in a queue of ${this.#size}`);
    const chain = { head, out: new Buffers(this.#ram), in: new Buffers(this.#ram) };
    this.#walk(this.#desc, this.#size, head, chain, false);
    return chain;
  }

  #walk(table: number, size: number, first: number, chain: Chain, indirect: boolean): void {
    const u32 = this.#u32;
    let index = first;
    for (let seen = 0; ; seen++) {
      if (seen >= size) throw new VirtioError('descriptors in a loop');
      const at = (table + index * DESC_SIZE) >>> 2;
      const address = u32[at + 1] * 2 ** 32 + u32[at];
      const length = u32[at + 2];
      const last = u32[at + 3];
      const flags = last & 0xffff;
      if ((flags & DESC_F.INDIRECT) !== 0) {
        if (indirect || !this.#features.indirect) throw new VirtioError('indirect descriptor');
        if ((flags & DESC_F.NEXT) !== 0) throw new VirtioError('indirect descriptor with a successor');
        if (length === 0 || length % DESC_SIZE !== 0 || address % 4 !== 0) {
          throw new VirtioError(`indirect table of ${length} bytes at 0x${address.toString(16)}`);
        }
        if (!this.#ram.contains(address, length)) throw this.#outside(address, length);
        this.#walk(this.#ram.base + address, length / DESC_SIZE, 0, chain, true);
        return;
      }
      if (length === 0) throw new VirtioError('buffer of 0 bytes');
      if (!this.#ram.contains(address, length)) throw this.#outside(address, length);
      if (chain.out.count + chain.in.count >= MAX_PIECES)
        throw new VirtioError('too many buffers in a request');
      const host = this.#ram.base + address;
      if ((flags & DESC_F.WRITE) !== 0) chain.in.add(host, length);
      else if (chain.in.bytes > 0) throw new VirtioError('buffer to read after one to write');
      else chain.out.add(host, length);
      if ((flags & DESC_F.NEXT) === 0) return;
      index = last >>> 16;
      if (index >= size) throw new VirtioError(`descriptor ${index} in a table of ${size}`);
    }
  }

  #outside(address: number, length: number): VirtioError {
    return new VirtioError(`buffer of ${length} bytes at 0x${address.toString(16)}`);
  }

  /** Gives a request back; `written` is the number of bytes stored in its buffers. */
  push(head: number, written: number): void {
    const state = this.#state;
    const entry = (this.#used + RING_ENTRIES + (state.usedIndex & (this.#size - 1)) * USED_ENTRY) >>> 2;
    this.#u32[entry] = head;
    this.#u32[entry + 1] = written;
    state.usedIndex = (state.usedIndex + 1) & 0xffff;
    this.#store16(this.#used + RING_IDX, state.usedIndex);
  }

  /** Requests that the driver has made and not seen the end of, as far as event indices tell; else 0. */
  get outstanding(): number {
    if (!this.#features.eventIdx) return 0;
    const seen = this.#load16(this.#avail + RING_ENTRIES + this.#size * 2);
    const count = (this.#state.lastAvail - seen) & 0xffff;
    return count > this.#size ? 0 : count;
  }

  /** Requests that were given back since the driver was last interrupted. */
  get untold(): number {
    const state = this.#state;
    return state.signalledValid ? (state.usedIndex - state.signalled) & 0xffff : this.#size;
  }

  /** Does the driver want to hear of what was pushed since it was last asked for? (2.6.7) */
  wantsInterrupt(): boolean {
    const state = this.#state;
    if (!this.#features.eventIdx) return (this.#load16(this.#avail) & AVAIL_F_NO_INTERRUPT) === 0;
    const old = state.signalled;
    const valid = state.signalledValid;
    state.signalled = state.usedIndex;
    state.signalledValid = true;
    if (!valid) return true;
    const event = this.#load16(this.#avail + RING_ENTRIES + this.#size * 2);
    return ((state.usedIndex - event - 1) & 0xffff) < ((state.usedIndex - old) & 0xffff);
  }

  /** Asks for no notifications: the queue is looked at (`more`) until they are allowed again. */
  suppressNotifications(): void {
    if (this.#suppressed) return;
    this.#suppressed = true;
    // with event indices the old one is far behind by itself
    if (!this.#features.eventIdx) this.#store16(this.#used, USED_F_NO_NOTIFY);
  }

  /** Asks for a notification of the next request; true when one has come meanwhile. Throws VirtioError. */
  allowNotifications(): boolean {
    if (!this.#suppressed) return false;
    this.#suppressed = false;
    if (this.#features.eventIdx) {
      this.#store16(this.#used + RING_ENTRIES + this.#size * USED_ENTRY, this.#state.lastAvail);
    } else this.#store16(this.#used, 0);
    return this.#waiting() > 0;
  }
}
