/**
 * Guest-physical memory: where a physical page lies in the machine's wasm memory, or that it belongs to
 * device handlers. The map itself is in shared memory, so that PAM writes, BAR moves and A20 changes
 * made by one vCPU are seen by all; whoever changes it then asks every vCPU for a TLB flush
 * (`INTERRUPT.TLB_FLUSH`), since TLB entries hold the results.
 */
import { array, struct, u32, viewsOf, type Views, type ViewOf } from '@smp86/atomics-sync';

/** Device memory. Sizes 1, 2, 4; `lo` and `hi` are halves of the physical address. *Lock:* takes the BQL itself. */
export interface MmioHandler {
  read(lo: number, hi: number, size: number): number;
  write(lo: number, hi: number, size: number, value: number): void;
}

const LOW_PAGES = 256;
const MAX_REGIONS = 16;

const MappedRegion = struct({
  /** First physical page number (address >> 12) and number of pages; 0 pages: unused slot. */
  page: u32,
  pages: u32,
  /** Wasm address of the first byte. */
  host: u32,
  writable: u32,
});

/** The physical map. Lock: BQL for changes; read without one (each word is complete in itself). */
export const PhysMap = struct({
  /** Pages below 1 MiB: wasm address | PAGE_WRITABLE, or 0 for device handlers (wasm page 0 is never mapped). */
  low: array(u32, LOW_PAGES),
  /** ROM, video memory and the like outside RAM. */
  regions: array(MappedRegion, MAX_REGIONS),
  /** All ones, or without bit 20 while A20 is masked. */
  a20Mask: u32,
  pad: u32,
});
export type PhysMapView = ViewOf<typeof PhysMap>;

const PAGE_WRITABLE = 1;
const W_LOW = PhysMap.offsetOf('low') >>> 2;
const W_REGIONS = PhysMap.offsetOf('regions') >>> 2;
const W_A20 = PhysMap.offsetOf('a20Mask') >>> 2;

export interface PhysMemoryOptions {
  buffer: SharedArrayBuffer;
  /** Wasm address of guest-physical address 0 of RAM. A multiple of 4096. */
  ramBase: number;
  /** Bytes of RAM, at most 0xC000_0000. A multiple of 4096. */
  ramSize: number;
  /** Wasm address of `PhysMap`. */
  mapBase: number;
  /** Wasm address of the code map: one byte per 4 KiB of wasm memory. */
  codeMapBase: number;
  mmio: MmioHandler;
}

/** Error of the host's making: a mapping that cannot be. */
export class PhysMemoryError extends Error {
  readonly code: 'REGION_UNALIGNED' | 'REGION_TABLE_FULL';
  constructor(code: PhysMemoryError['code'], message: string) {
    super(message);
    this.name = 'PhysMemoryError';
    this.code = code;
  }
}

/** *Thread:* any (each thread makes its own over the same memory). *May block:* only where a device handler does. */
export class PhysMemory {
  readonly views: Views;
  readonly ramBase: number;
  readonly ramSize: number;
  readonly mmio: MmioHandler;
  /** Nonzero for each 4 KiB page of wasm memory that decoded code came from; index = wasm address >>> 12. */
  readonly codeMap: Uint8Array<SharedArrayBuffer>;
  readonly #u32: Uint32Array<SharedArrayBuffer>;
  readonly #map: number;

  constructor(options: PhysMemoryOptions) {
    this.views = viewsOf(options.buffer);
    this.#u32 = this.views.u32;
    this.#map = options.mapBase >>> 2;
    this.ramBase = options.ramBase;
    this.ramSize = options.ramSize;
    this.mmio = options.mmio;
    this.codeMap = new Uint8Array(
      options.buffer,
      options.codeMapBase,
      Math.ceil(options.buffer.byteLength / 4096),
    );
  }

  /** Sets up the shared map: RAM below 1 MiB (all writable), no other regions, A20 on. Once per machine. */
  initMap(): void {
    const pages = Math.min(LOW_PAGES, this.ramSize >>> 12);
    for (let page = 0; page < LOW_PAGES; page++) {
      this.setLowPage(page, page < pages ? this.ramBase + page * 4096 : -1, true);
    }
    for (let i = 0; i < MAX_REGIONS * 4; i++) this.#u32[this.#map + W_REGIONS + i] = 0;
    this.setA20(true);
  }

  /** Maps a page below 1 MiB to a wasm address, or to device handlers (-1). *Lock:* BQL. */
  setLowPage(page: number, host: number, writable: boolean): void {
    this.#u32[this.#map + W_LOW + page] = host < 0 ? 0 : host | (writable ? PAGE_WRITABLE : 0);
  }

  /** Maps `size` bytes at physical `base` (at or above the end of RAM). Returns a slot number. *Lock:* BQL. */
  addRegion(base: number, size: number, host: number, writable: boolean): number {
    if (((base | size | host) & 4095) !== 0) {
      throw new PhysMemoryError('REGION_UNALIGNED', `region at ${base.toString(16)} is not page-aligned`);
    }
    for (let slot = 0; slot < MAX_REGIONS; slot++) {
      const w = this.#map + W_REGIONS + slot * 4;
      if (this.#u32[w + 1] !== 0) continue;
      this.#u32[w] = base >>> 12;
      this.#u32[w + 2] = host;
      this.#u32[w + 3] = writable ? 1 : 0;
      Atomics.store(this.#u32, w + 1, size >>> 12);
      return slot;
    }
    throw new PhysMemoryError('REGION_TABLE_FULL', 'no free slot in the physical map');
  }

  /** Takes a region out of the map. *Lock:* BQL. */
  removeRegion(slot: number): void {
    Atomics.store(this.#u32, this.#map + W_REGIONS + slot * 4 + 1, 0);
  }

  /** *Lock:* BQL. */
  setA20(enabled: boolean): void {
    this.#u32[this.#map + W_A20] = enabled ? 0xffffffff : 0xffefffff;
  }

  /** Wasm address of physical address `hi:lo` for reading, or -1: device handlers. */
  hostOffset(lo: number, hi: number): number {
    return this.#lookup(lo, hi, false);
  }

  /** Wasm address for writing, or -1: a ROM or device handlers (see `writeSmall`). */
  writeOffset(lo: number, hi: number): number {
    return this.#lookup(lo, hi, true);
  }

  #lookup(lo: number, hi: number, write: boolean): number {
    if (hi !== 0) return -1;
    const u32 = this.#u32;
    const pa = (lo & u32[this.#map + W_A20]) >>> 0;
    if (pa < this.ramSize && pa >= 0x100000) return this.ramBase + pa;
    if (pa < 0x100000) {
      const entry = u32[this.#map + W_LOW + (pa >>> 12)];
      if (entry === 0 || (write && (entry & PAGE_WRITABLE) === 0)) return -1;
      return ((entry & ~4095) >>> 0) + (pa & 4095);
    }
    const page = pa >>> 12;
    for (let slot = 0, w = this.#map + W_REGIONS; slot < MAX_REGIONS; slot++, w += 4) {
      const index = page - u32[w];
      if (index < 0 || index >= u32[w + 1]) continue;
      if (write && u32[w + 3] === 0) return -1;
      return u32[w + 2] + index * 4096 + (pa & 4095);
    }
    return -1;
  }

  /** A device read of 1, 2 or 4 bytes. */
  readDevice(lo: number, hi: number, size: number): number {
    if (hi === 0) lo &= this.#u32[this.#map + W_A20];
    return this.mmio.read(lo >>> 0, hi >>> 0, size);
  }

  /** A device write of 1, 2 or 4 bytes; a write to a ROM has no effect. */
  writeDevice(lo: number, hi: number, size: number, value: number): void {
    if (hi === 0) {
      lo &= this.#u32[this.#map + W_A20];
      if (this.#lookup(lo, 0, false) >= 0) return;
    }
    this.mmio.write(lo >>> 0, hi >>> 0, size, value >>> 0);
  }
}
