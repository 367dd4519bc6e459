/** One direction of a request's buffers: places in guest RAM, in order. */
import type { GuestRam, Pieces } from '../guest-ram.ts';

/** *Thread:* the one that serves the queue. */
export class Buffers {
  /** Of all of them together. */
  bytes = 0;
  /** How many there are. */
  count = 0;
  /** Offsets in the machine's memory and lengths by turns; those that adjoin are one. */
  readonly #places: number[] = [];
  readonly #ram: GuestRam;

  constructor(ram: GuestRam) {
    this.#ram = ram;
  }

  /** The next `length` bytes are at `host`, inside RAM. */
  add(host: number, length: number): void {
    const places = this.#places;
    const last = places.length - 2;
    if (last >= 0 && places[last] + places[last + 1] === host) places[last + 1] += length;
    else places.push(host, length);
    this.bytes += length;
    this.count++;
  }

  /** The little-endian word at byte `at`, which is inside. Read once: the guest may change it at any time. */
  word(at: number): number {
    const places = this.#places;
    const host = places[0] + at;
    if (at + 4 <= places[1] && (host & 3) === 0) return this.#ram.views.u32[host >>> 2];
    let value = 0;
    for (let i = 3; i >= 0; i--) value = (value << 8) | this.#ram.views.u8[this.#hostOf(at + i)];
    return value >>> 0;
  }

  setByte(at: number, value: number): void {
    this.#ram.views.u8[this.#hostOf(at)] = value;
  }

  #hostOf(at: number): number {
    const places = this.#places;
    let left = at;
    for (let i = 0; i < places.length; i += 2) {
      if (left < places[i + 1]) return places[i] + left;
      left -= places[i + 1];
    }
    throw new RangeError(`byte ${at} of ${this.bytes}`);
  }

  /** Views of the bytes [start, end). */
  pieces(start: number, end: number): Pieces {
    const places = this.#places;
    const { buffer } = this.#ram.views;
    const result: Uint8Array<SharedArrayBuffer>[] = [];
    for (let i = 0, at = 0; i < places.length && at < end; i += 2) {
      const length = places[i + 1];
      const from = Math.max(start - at, 0);
      const to = Math.min(end - at, length);
      if (from < to) result.push(new Uint8Array(buffer, places[i] + from, to - from));
      at += length;
    }
    return result;
  }

  /** All of it was stored. */
  written(): void {
    const places = this.#places;
    for (let i = 0; i < places.length; i += 2) this.#ram.writtenAt(places[i], places[i + 1]);
  }
}
