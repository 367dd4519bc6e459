/**
 * Physical region descriptor tables of a bus master IDE controller. Programming Interface for Bus Master IDE Controller
 * 1.0, 1.2: an address and a byte count (0: 64 KiB) an entry, the last one marked.
 */
import type { GuestRam } from '../guest-ram.ts';

const ENTRY = 8;
/** A table lies within 64 KiB. */
const MAX_ENTRIES = 8192;
const END_OF_TABLE = 0x8000_0000;

/** Goes through a table, a few pieces at a time. What is not RAM ends it. */
export class PrdReader {
  readonly #ram: GuestRam;
  #at: number;
  #entries = 0;
  #last = false;
  #address = 0;
  #left = 0;
  /** The table, or memory that it names, is not RAM. */
  bad = false;

  constructor(ram: GuestRam, table: number) {
    this.#ram = ram;
    this.#at = table;
  }

  /** Memory for the next `length` bytes at most, in at most `most` pieces; less where the table ends. */
  take(length: number, most: number): Uint8Array<SharedArrayBuffer>[] {
    const pieces: Uint8Array<SharedArrayBuffer>[] = [];
    let wanted = length;
    while (wanted > 0 && pieces.length < most && this.#refill()) {
      const part = Math.min(wanted, this.#left);
      const bytes = this.#ram.bytes(this.#address, part);
      if (bytes === undefined) {
        this.bad = true;
        break;
      }
      pieces.push(bytes);
      this.#address += part;
      this.#left -= part;
      wanted -= part;
    }
    return pieces;
  }

  /** Is there room left in the table? */
  get hasMore(): boolean {
    return this.#refill();
  }

  #refill(): boolean {
    if (this.#left > 0) return true;
    if (this.bad || this.#last || this.#entries === MAX_ENTRIES) return false;
    if (!this.#ram.contains(this.#at, ENTRY)) {
      this.bad = true;
      return false;
    }
    const word = (this.#ram.base + this.#at) >>> 2;
    const { u32 } = this.#ram.views;
    this.#address = (u32[word] & ~1) >>> 0;
    const second = u32[word + 1];
    this.#left = second & 0xfffe || 0x10000;
    this.#last = (second & END_OF_TABLE) !== 0;
    this.#at += ENTRY;
    this.#entries++;
    return true;
  }
}
