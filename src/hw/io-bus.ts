/**
 * Dispatch of port and memory-mapped accesses to device handlers.
 *
 * Every worker thread builds its own `IoBus` and `MmioBus` over the same shared device state. What is fixed
 * (legacy ports, LAPIC, IOAPIC, HPET) is registered once per thread. What a guest can move (BARs, the PM base)
 * comes from a `RegionSource`, which derives it from registers in shared memory; `BusState.generation` counts
 * the changes, and a bus asks its source again when the count is not the one it last saw.
 *
 * *Thread:* each instance belongs to one. *Lock:* BQL for accesses and changes.
 */
import { struct, u32, type ViewOf, type Views } from '@smp86/atomics-sync';
import { allOnes, type IoHandler } from './device.ts';

/** Shared by all buses of a machine. *Lock:* BQL. */
export const BusState = struct({
  /** Bumped (wrapping) after a change of any relocatable mapping. */
  generation: u32,
});
export type BusStateView = ViewOf<typeof BusState>;

/** Widest access a handler takes, in bytes; wider ones are split, low part first. */
export type AccessWidth = 1 | 2 | 4;

/** What a `RegionSource` maps its regions through. */
export interface RegionMapper {
  /** Maps `length` bytes at `base`. Where a fixed region or an earlier one lies, that one stays visible. */
  map(base: number, length: number, handler: IoHandler, width: AccessWidth): void;
  /** Maps memory that lies at byte `hostOffset` of the machine's memory (a frame buffer). Ignored by ports. */
  mapRam(base: number, length: number, hostOffset: number): void;
}

/** Gives the relocatable regions as they are now. Must depend on shared state alone. *Lock:* BQL. */
export interface RegionSource {
  mapRegions(mapper: RegionMapper): void;
}

/** A host mistake in wiring: overlapping fixed regions, an address outside the bus. */
export class BusError extends Error {
  readonly code = 'ERR_BUS_REGION';
  constructor(message: string) {
    super(message);
    this.name = 'BusError';
  }
}

const PORTS = 0x10000;

interface PortRegion {
  readonly base: number;
  readonly length: number;
  readonly width: AccessWidth;
  readonly handler: IoHandler;
}

/**
 * The 64 K port space. Unassigned ports read all ones. An access wider than its handler takes, one that crosses
 * an aligned dword and one that leaves its region are split, as the ISA and PCI bridges do.
 * *Thread:* owner. *Lock:* BQL.
 */
export class IoBus {
  readonly #state: BusStateView | undefined;
  readonly #source: RegionSource | undefined;
  /** Index in #regions per port; 0: unassigned. */
  readonly #table = new Uint16Array(PORTS);
  readonly #fixed = new Uint16Array(PORTS);
  readonly #regions: PortRegion[] = [{ base: 0, length: 0, width: 4, handler: UNASSIGNED }];
  #dynamicFrom = 1;
  #seen = -1;
  readonly #mapper: RegionMapper = {
    map: (base, length, handler, width) => this.#mapDynamic(base, length, handler, width),
    mapRam: () => {},
  };

  /** Without a state and a source the bus has fixed ports only. */
  constructor(state?: BusStateView, source?: RegionSource) {
    this.#state = state;
    this.#source = source;
  }

  /**
   * Adds a fixed region. A region shorter than `width` still takes wide accesses at its first port whole (the
   * IDE data port). Throws BusError on overlap with another fixed region.
   */
  register(base: number, length: number, handler: IoHandler, width: AccessWidth = 1): void {
    if (base < 0 || length < 1 || base + length > PORTS) throw new BusError(`ports ${hex(base)}+${length}`);
    for (let p = base; p < base + length; p++) {
      if (this.#fixed[p] !== 0) throw new BusError(`port ${hex(p)} is taken`);
    }
    this.#dropDynamic();
    const index = this.#regions.length;
    this.#regions.push({ base, length, width, handler });
    this.#fixed.fill(index, base, base + length);
    this.#table.fill(index, base, base + length);
    this.#dynamicFrom = index + 1;
    this.#seen = -1;
  }

  /** Takes back the fixed region that starts at `base`. */
  unregister(base: number): void {
    const index = this.#fixed[base];
    const region = this.#regions[index];
    if (index === 0 || region.base !== base) throw new BusError(`no region at port ${hex(base)}`);
    this.#dropDynamic();
    this.#fixed.fill(0, base, base + region.length);
    this.#table.fill(0, base, base + region.length);
    this.#seen = -1;
  }

  /** Reads `size` (1, 2, 4) bytes at `port`. */
  read(port: number, size: number): number {
    if (this.#state !== undefined && this.#state.generation !== this.#seen) this.#derive();
    return this.#read(port & 0xffff, size);
  }

  /** Writes the low `size` (1, 2, 4) bytes of `value` at `port`. */
  write(port: number, size: number, value: number): void {
    if (this.#state !== undefined && this.#state.generation !== this.#seen) this.#derive();
    this.#write(port & 0xffff, size, value);
  }

  /**
   * Does a write that needs no lock (`IoHandler.doorbell`); false: it is none. A region that another thread moves
   * meanwhile may take it still, as a write does that was under way. *Lock:* none.
   */
  doorbell(port: number, size: number, value: number): boolean {
    if (this.#state !== undefined && this.#state.generation !== this.#seen) return false;
    const region = this.#regions[this.#table[port]];
    if (region.handler.doorbell === undefined || !this.#whole(region, port, size)) return false;
    return region.handler.doorbell(port - region.base, size, value);
  }

  /** Reads a register that needs no lock (`IoHandler.readUnlocked`); undefined: it is none. *Lock:* none. */
  readUnlocked(port: number, size: number): number | undefined {
    if (this.#state !== undefined && this.#state.generation !== this.#seen) return undefined;
    const region = this.#regions[this.#table[port]];
    if (region.handler.readUnlocked === undefined || !this.#whole(region, port, size)) return undefined;
    return region.handler.readUnlocked(port - region.base, size);
  }

  #read(port: number, size: number): number {
    const region = this.#regions[this.#table[port]];
    const offset = port - region.base;
    if (size === 1) return region.handler.read(offset, 1) & 0xff;
    if (size <= region.width && this.#whole(region, port, size)) {
      return (region.handler.read(offset, size) & (size === 2 ? 0xffff : -1)) >>> 0;
    }
    const half = size >>> 1;
    const low = this.#read(port, half);
    return ((this.#read((port + half) & 0xffff, half) << (half * 8)) | low) >>> 0;
  }

  #write(port: number, size: number, value: number): void {
    const region = this.#regions[this.#table[port]];
    const offset = port - region.base;
    if (size === 1) region.handler.write(offset, 1, value & 0xff);
    else if (size <= region.width && this.#whole(region, port, size)) {
      region.handler.write(offset, size, (size === 2 ? value & 0xffff : value) >>> 0);
    } else {
      const half = size >>> 1;
      this.#write(port, half, value);
      this.#write((port + half) & 0xffff, half, value >>> (half * 8));
    }
  }

  /** True when the access goes to the region in one piece. */
  #whole(region: PortRegion, port: number, size: number): boolean {
    if (region.length === 0) return false;
    if ((port & 3) + size > 4) return false;
    const end = port - region.base + size;
    return (
      end <= region.length || (port === region.base && size <= region.width && region.length < region.width)
    );
  }

  #dropDynamic(): void {
    for (let i = this.#dynamicFrom; i < this.#regions.length; i++) {
      const { base, length } = this.#regions[i];
      this.#table.set(this.#fixed.subarray(base, base + length), base);
    }
    this.#regions.length = this.#dynamicFrom;
  }

  #derive(): void {
    this.#seen = this.#state!.generation;
    this.#dropDynamic();
    this.#source?.mapRegions(this.#mapper);
  }

  #mapDynamic(base: number, length: number, handler: IoHandler, width: AccessWidth): void {
    if (base < 0 || base + length > PORTS) return;
    const index = this.#regions.length;
    this.#regions.push({ base, length, width, handler });
    for (let p = base; p < base + length; p++) if (this.#table[p] === 0) this.#table[p] = index;
  }
}

const UNASSIGNED: IoHandler = {
  read: (_offset, size) => allOnes(size),
  write: () => {},
};

/** One mapped range of physical addresses. */
export interface MmioRegion {
  readonly base: number;
  /** First address after the region. */
  readonly end: number;
  readonly handler: IoHandler;
  readonly width: AccessWidth;
  /** Byte offset in the machine's memory when the region is plain memory, else -1. */
  readonly hostOffset: number;
}

const CACHE_SLOTS = 64;
const PAGE_SHIFT = 12;

/**
 * Physical addresses that are not RAM. Regions are kept sorted; a small page-indexed cache answers repeated
 * lookups. Addresses are numbers up to 2^52. *Thread:* owner. *Lock:* BQL.
 */
export class MmioBus {
  readonly #state: BusStateView | undefined;
  readonly #source: RegionSource | undefined;
  readonly #fixed: MmioRegion[] = [];
  #sorted: MmioRegion[] = [];
  readonly #cachePage = new Float64Array(CACHE_SLOTS).fill(-1);
  readonly #cache: MmioRegion[] = new Array<MmioRegion>(CACHE_SLOTS).fill(NO_REGION);
  #seen = -1;
  readonly #mapper: RegionMapper = {
    map: (base, length, handler, width) => this.#insertVisible(region(base, length, handler, width, -1)),
    mapRam: (base, length, hostOffset) => this.#insertVisible(this.#ramRegion(base, length, hostOffset)),
  };

  /** Without a state and a source the bus has fixed regions only. */
  constructor(state?: BusStateView, source?: RegionSource) {
    this.#state = state;
    this.#source = source;
  }

  /** Adds a fixed region. Throws BusError on overlap with another fixed region. */
  register(base: number, length: number, handler: IoHandler, width: AccessWidth = 4): void {
    this.#addFixed(region(base, length, handler, width, -1));
  }

  /** Adds fixed memory at `hostOffset` of the buffer that the bus state lies in. */
  registerRam(base: number, length: number, hostOffset: number): void {
    this.#addFixed(this.#ramRegion(base, length, hostOffset));
  }

  /** Takes back the fixed region that starts at `base`. */
  unregister(base: number): void {
    const i = this.#fixed.findIndex((r) => r.base === base);
    if (i < 0) throw new BusError(`no region at ${hex(base)}`);
    this.#fixed.splice(i, 1);
    this.#derive();
  }

  /** The region that holds `address`, or undefined: for a TLB fill, which maps plain memory directly. */
  lookup(address: number): MmioRegion | undefined {
    const found = this.#find(address);
    return found === NO_REGION ? undefined : found;
  }

  /** Reads `size` (1, 2, 4) bytes. A caller splits 8 bytes in two, low part first. */
  read(address: number, size: number): number {
    const r = this.#find(address);
    if (size <= r.width && address + size <= r.end) {
      return (r.handler.read(address - r.base, size) & (size === 4 ? -1 : size === 2 ? 0xffff : 0xff)) >>> 0;
    }
    if (size === 1) return 0xff;
    const half = size >>> 1;
    const low = this.read(address, half);
    return ((this.read(address + half, half) << (half * 8)) | low) >>> 0;
  }

  /** Writes the low `size` (1, 2, 4) bytes of `value`. */
  write(address: number, size: number, value: number): void {
    const r = this.#find(address);
    if (size <= r.width && address + size <= r.end) {
      r.handler.write(
        address - r.base,
        size,
        (size === 4 ? value : size === 2 ? value & 0xffff : value & 0xff) >>> 0,
      );
    } else if (size > 1) {
      const half = size >>> 1;
      this.write(address, half, value);
      this.write(address + half, half, value >>> (half * 8));
    }
  }

  /** As `IoBus.doorbell`. *Lock:* none. */
  doorbell(address: number, size: number, value: number): boolean {
    if (this.#state !== undefined && this.#state.generation !== this.#seen) return false;
    const r = this.#located(address);
    if (r.handler.doorbell === undefined || size > r.width || address + size > r.end) return false;
    return r.handler.doorbell(address - r.base, size, value);
  }

  /** As `IoBus.readUnlocked`. *Lock:* none. */
  readUnlocked(address: number, size: number): number | undefined {
    if (this.#state !== undefined && this.#state.generation !== this.#seen) return undefined;
    const r = this.#located(address);
    if (r.handler.readUnlocked === undefined || size > r.width || address + size > r.end) return undefined;
    return r.handler.readUnlocked(address - r.base, size);
  }

  #find(address: number): MmioRegion {
    if (this.#state !== undefined && this.#state.generation !== this.#seen) this.#derive();
    return this.#located(address);
  }

  /** Among the regions as they were last derived. */
  #located(address: number): MmioRegion {
    const page = Math.floor(address / (1 << PAGE_SHIFT));
    const slot = page & (CACHE_SLOTS - 1);
    const cached = this.#cache[slot];
    if (this.#cachePage[slot] === page && address >= cached.base && address < cached.end) return cached;
    const list = this.#sorted;
    let low = 0;
    let high = list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (list[middle].end <= address) low = middle + 1;
      else high = middle;
    }
    const found = low < list.length && list[low].base <= address ? list[low] : NO_REGION;
    if (found !== NO_REGION) {
      this.#cachePage[slot] = page;
      this.#cache[slot] = found;
    }
    return found;
  }

  #ramRegion(base: number, length: number, hostOffset: number): MmioRegion {
    if (this.#state === undefined) throw new BusError('memory needs a bus with a state');
    return region(base, length, new RamHandler(this.#state.$views, hostOffset), 4, hostOffset);
  }

  #addFixed(added: MmioRegion): void {
    if (added.end <= added.base) throw new BusError(`empty region at ${hex(added.base)}`);
    if (this.#fixed.some((r) => added.base < r.end && r.base < added.end)) {
      throw new BusError(`region ${hex(added.base)} overlaps another`);
    }
    this.#fixed.push(added);
    this.#derive();
  }

  #derive(): void {
    if (this.#state !== undefined) this.#seen = this.#state.generation;
    this.#sorted = [...this.#fixed].sort((a, b) => a.base - b.base);
    this.#source?.mapRegions(this.#mapper);
    this.#cachePage.fill(-1);
    this.#cache.fill(NO_REGION);
  }

  /** Inserts what earlier regions leave visible of `added`; a region that is partly covered stays in pieces. */
  #insertVisible(added: MmioRegion): void {
    const pieces: MmioRegion[] = [];
    let at = added.base;
    for (const r of this.#sorted) {
      if (r.end <= at) continue;
      if (r.base >= added.end) break;
      if (r.base > at) pieces.push(pieceOf(added, at, r.base));
      at = r.end;
    }
    if (at < added.end) pieces.push(pieceOf(added, at, added.end));
    this.#sorted.push(...pieces);
    this.#sorted.sort((a, b) => a.base - b.base);
  }
}

const NO_REGION: MmioRegion = { base: 0, end: 0, handler: UNASSIGNED, width: 4, hostOffset: -1 };

/** Memory reached through the bus (page walks, DMA): the TLB maps it directly otherwise. */
class RamHandler implements IoHandler {
  readonly #bytes: Uint8Array;
  readonly #base: number;
  constructor(views: Views, base: number) {
    this.#bytes = views.u8;
    this.#base = base;
  }
  read(offset: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | this.#bytes[this.#base + offset + i];
    return value >>> 0;
  }
  write(offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) this.#bytes[this.#base + offset + i] = value >>> (8 * i);
  }
}

function region(
  base: number,
  length: number,
  handler: IoHandler,
  width: AccessWidth,
  hostOffset: number,
): MmioRegion {
  return { base, end: base + length, handler, width, hostOffset };
}

function pieceOf(whole: MmioRegion, from: number, to: number): MmioRegion {
  if (from === whole.base) return { ...whole, end: to };
  const skip = from - whole.base;
  const { handler } = whole;
  const shifted: IoHandler = {
    read: (offset, size) => handler.read(offset + skip, size),
    write: (offset, size, value) => handler.write(offset + skip, size, value),
  };
  const hostOffset = whole.hostOffset < 0 ? -1 : whole.hostOffset + skip;
  return { base: from, end: to, handler: shifted, width: whole.width, hostOffset };
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
