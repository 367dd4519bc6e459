import { BootError, type BootOption } from './errors.ts';
import type { PlacedRange } from './state.ts';

/** One range of the memory map. Types as in ACPI 6.5, table 15.4. */
export interface E820Entry {
  readonly base: number;
  readonly length: number;
  readonly type: number;
}
export const E820_RAM = 1;
export const E820_RESERVED = 2;
export const E820_ACPI = 3;
export const E820_NVS = 4;

const MEBIBYTE = 0x10_0000;

/** Formats bytes for an error line. */
export function sizeText(bytes: number): string {
  return bytes >= MEBIBYTE ? `${Math.ceil(bytes / MEBIBYTE)} MiB` : `${Math.ceil(bytes / 1024)} KiB`;
}

/**
 * Guest RAM as a boot protocol sees it: what is placed must lie in RAM of the memory map and overlap
 * nothing placed before. *Thread:* the one that creates the machine. *Lock:* none.
 */
export class BootMemory {
  readonly ram: Uint8Array;
  readonly view: DataView;
  readonly e820: readonly E820Entry[];
  readonly #placed: PlacedRange[] = [];

  /** `ram` begins at guest-physical 0. Ranges of `e820` beyond it are ignored when placing. */
  constructor(ram: Uint8Array, e820: readonly E820Entry[]) {
    this.ram = ram;
    this.view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
    this.e820 = e820;
  }

  get placed(): readonly PlacedRange[] {
    return [...this.#placed].sort((a, b) => a.start - b.start);
  }

  /** True when all of [start, start+size) is RAM that nothing occupies. */
  isFree(start: number, size: number): boolean {
    return this.#isRam(start, size) && this.#overlapping(start, size) === undefined;
  }

  /** Takes [start, start+size); a BootError for `option` says why it cannot. */
  reserve(option: BootOption, name: string, start: number, size: number): void {
    if (!this.#isRam(start, size)) {
      const at = `0x${start.toString(16)}`;
      throw new BootError(
        'ERR_BOOT_MEMORY',
        option,
        `${name} needs ${sizeText(size)} of RAM at ${at}, which the machine (${sizeText(this.ram.length)}) does not have`,
      );
    }
    const other = this.#overlapping(start, size);
    if (other !== undefined) {
      throw new BootError(
        'ERR_BOOT_MEMORY',
        option,
        `${name} at 0x${start.toString(16)} overlaps ${other.name} at 0x${other.start.toString(16)}`,
      );
    }
    if (size > 0) this.#placed.push({ name, start, size });
  }

  /** Reserves and writes `data`. */
  place(option: BootOption, name: string, start: number, data: Uint8Array): void {
    this.reserve(option, name, start, data.length);
    this.ram.set(data, start);
  }

  /** The highest free `align`-aligned address for `size` bytes that all lie at or above `low` and below `limit`. */
  findHigh(size: number, align: number, low: number, limit: number): number | undefined {
    let best: number | undefined;
    for (const { start, end } of this.#ramRanges()) {
      let top = Math.min(end, limit);
      for (;;) {
        const at = Math.floor((top - size) / align) * align;
        if (at < Math.max(start, low)) break;
        const other = this.#overlapping(at, size);
        if (other === undefined) {
          if (best === undefined || at > best) best = at;
          break;
        }
        top = other.start;
      }
    }
    return best;
  }

  /** The lowest free `align`-aligned address for `size` bytes at or above `low`. */
  findLow(size: number, align: number, low: number): number | undefined {
    for (const { start, end } of this.#ramRanges()) {
      let at = Math.ceil(Math.max(start, low) / align) * align;
      while (at + size <= end) {
        const other = this.#overlapping(at, size);
        if (other === undefined) return at;
        at = Math.ceil((other.start + other.size) / align) * align;
      }
    }
    return undefined;
  }

  /** Where the RAM that begins at or before `start` ends, at most `limit`; `start` when there is none. */
  ramEnd(start: number, limit: number): number {
    const range = this.#ramRanges().find((candidate) => start >= candidate.start && start < candidate.end);
    return range === undefined ? start : Math.min(range.end, limit);
  }

  #overlapping(start: number, size: number): PlacedRange | undefined {
    return this.#placed.find((range) => start < range.start + range.size && range.start < start + size);
  }

  #isRam(start: number, size: number): boolean {
    return this.#ramRanges().some((range) => start >= range.start && start + size <= range.end);
  }

  /** RAM of the map that exists, less what other entries of the map cover, adjacent ranges merged, ascending. */
  #ramRanges(): { start: number; end: number }[] {
    let ranges = this.e820
      .filter((entry) => entry.type === E820_RAM)
      .map((entry) => ({ start: entry.base, end: Math.min(entry.base + entry.length, this.ram.length) }));
    for (const entry of this.e820) {
      if (entry.type === E820_RAM) continue;
      const hole = { start: entry.base, end: entry.base + entry.length };
      ranges = ranges.flatMap((range) => [
        { start: range.start, end: Math.min(range.end, hole.start) },
        { start: Math.max(range.start, hole.end), end: range.end },
      ]);
    }
    ranges = ranges.filter((range) => range.start < range.end).sort((a, b) => a.start - b.start);
    const merged: { start: number; end: number }[] = [];
    for (const range of ranges) {
      const last = merged.at(-1);
      if (last !== undefined && range.start <= last.end) last.end = Math.max(last.end, range.end);
      else merged.push({ ...range });
    }
    return merged;
  }
}
