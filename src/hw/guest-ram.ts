/** Guest RAM as devices see it that read and write memory by themselves (DMA). */
import { viewsOf, type Views } from '@smp86/atomics-sync';

/** Pieces of RAM, as views on it. */
export type Pieces = readonly Uint8Array<SharedArrayBuffer>[];

/** *Thread:* any (each makes its own). *Lock:* none. RAM begins at guest-physical address 0 and has no holes. */
export class GuestRam {
  readonly views: Views;
  /** Byte offset of guest-physical address 0 in the machine's memory. */
  readonly base: number;
  readonly size: number;
  readonly #written: (host: number, length: number) => void;

  /** `written` is told of what a device has stored: code may have been decoded from there. */
  constructor(
    buffer: SharedArrayBuffer,
    base: number,
    size: number,
    written: (host: number, length: number) => void,
  ) {
    this.views = viewsOf(buffer);
    this.base = base;
    this.size = size;
    this.#written = written;
  }

  /** True when [address, address + length) is RAM. Any numbers may be given. */
  contains(address: number, length: number): boolean {
    return address >= 0 && length >= 0 && address + length <= this.size;
  }

  /** The bytes themselves, not a copy; undefined when they are not all RAM. */
  bytes(address: number, length: number): Uint8Array<SharedArrayBuffer> | undefined {
    if (!this.contains(address, length)) return undefined;
    return new Uint8Array(this.views.buffer, this.base + address, length);
  }

  /** To be called after `length` bytes at `host`, an offset in the machine's memory, were stored. */
  writtenAt(host: number, length: number): void {
    this.#written(host, length);
  }

  /** The same for bytes that came from `bytes`. */
  allWritten(stored: readonly Uint8Array[]): void {
    for (const piece of stored) this.#written(piece.byteOffset, piece.length);
  }
}
