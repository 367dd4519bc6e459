/**
 * PCI: configuration space of a function, the bus, configuration mechanism #1.
 * PCI Local Bus Specification 3.0, chapters 2.2.6 (INTx), 3.2.2.3 (mechanism #1), 6 (configuration space).
 *
 * Configuration space lies in shared memory, and so does everything that a guest can move: buses derive the
 * decoded regions from it (`PciBus.ports`, `PciBus.memory` are `RegionSource`s). Which bits can be written and
 * what a reset restores are constants of the device, built by its constructor.
 */
import { array, bool, bytes, struct, u32, u8, type ViewOf } from '@smp86/atomics-sync';
import { allOnes, type IoHandler, type IrqLine } from '../device.ts';
import type { AccessWidth, BusStateView, RegionMapper, RegionSource } from '../io-bus.ts';

/** Registers of a type 0 header (6.1). */
export const PCI = {
  VENDOR_ID: 0x00,
  DEVICE_ID: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  REVISION: 0x08,
  CLASS: 0x09,
  CACHE_LINE: 0x0c,
  LATENCY: 0x0d,
  HEADER_TYPE: 0x0e,
  BAR0: 0x10,
  SUBSYSTEM_VENDOR: 0x2c,
  SUBSYSTEM_ID: 0x2e,
  CAPABILITIES: 0x34,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,
} as const;
export const PCI_COMMAND = { IO: 1, MEMORY: 2, MASTER: 4, SERR: 0x100, INTX_DISABLE: 0x400 } as const;
export const PCI_STATUS = {
  INTERRUPT: 0x08,
  CAPABILITIES: 0x10,
  FAST_BACK_TO_BACK: 0x80,
  DEVSEL_MEDIUM: 0x200,
} as const;
const STATUS_W1C = 0xf900;
const COMMAND_WRITABLE = 0x0507;
const HEADER_MULTIFUNCTION = 0x80;
const CONFIG_SIZE = 256;
const BARS = 6;

/** One function. *Lock:* BQL. Snapshot version 1. */
export const PciFunctionState = struct({
  config: bytes(CONFIG_SIZE),
  /** The device drives its INTx pin. */
  intx: bool,
  /** INTx as the bus sees it (intx, unless disabled by the command register). */
  asserted: bool,
});
export type PciFunctionStateView = ViewOf<typeof PciFunctionState>;

export interface PciIdentity {
  readonly vendor: number;
  readonly device: number;
  /** Base class, sub-class and interface, 24 bits. */
  readonly classCode: number;
  readonly revision?: number;
  readonly subsystemVendor?: number;
  readonly subsystem?: number;
  /** 0: none, 1–4: INTA#–INTD#. */
  readonly interruptPin?: number;
  /** Status after reset: DEVSEL timing, fast back-to-back. */
  readonly status?: number;
  /** Set on function 0 of a slot with several functions. */
  readonly multifunction?: boolean;
}

export interface PciBar {
  readonly index: number;
  readonly space: 'io' | 'memory';
  /** Bytes, a power of two; at least 4 (I/O) or 16 (memory). */
  readonly size: number;
  /** Register access; not needed for plain memory. */
  readonly handler?: IoHandler;
  readonly width?: AccessWidth;
  /** The BAR is memory at this byte offset of the machine's memory. */
  readonly hostOffset?: number;
  readonly prefetchable?: boolean;
  /** Takes this BAR and the next. */
  readonly is64?: boolean;
}

/** A device's own part in its configuration space. */
export interface PciHooks {
  /** After a write that changed bytes in [offset, offset+size). */
  configWritten?(offset: number, size: number): void;
  /** Before the bus reads bytes in [offset, offset+size). */
  configRead?(offset: number, size: number): void;
  /** Port ranges beyond the BARs (the PM base). */
  mapPorts?(mapper: RegionMapper): void;
}

/** A host mistake in building a device. */
export class PciError extends Error {
  readonly code = 'ERR_PCI';
  constructor(message: string) {
    super(message);
    this.name = 'PciError';
  }
}

/** Where a function's INTx and mapping changes go; PciBus implements it. */
interface Attachment {
  intxChanged(fn: PciFunction, level: boolean): void;
  mappingChanged(): void;
}

/** A PCI function: header, BARs, capabilities, INTx. *Thread:* any. *Lock:* BQL. */
export class PciFunction {
  readonly state: PciFunctionStateView;
  readonly bars: readonly PciBar[];
  /** The INTx pin as the device drives it. */
  readonly intx: IrqLine;
  /** Slot << 3 | function; -1 before it is added to a bus. */
  devfn = -1;
  readonly #image = new Uint8Array(CONFIG_SIZE);
  readonly #writable = new Uint8Array(CONFIG_SIZE);
  readonly #clearable = new Uint8Array(CONFIG_SIZE);
  readonly #hooks: PciHooks[];
  #attachment: Attachment | undefined;
  #lastCapability = 0;
  #nextCapability = 0x40;

  constructor(
    state: PciFunctionStateView,
    identity: PciIdentity,
    bars: readonly PciBar[] = [],
    hooks?: PciHooks,
  ) {
    this.state = state;
    this.bars = bars;
    this.#hooks = hooks === undefined ? [] : [hooks];
    this.intx = { set: (level) => this.#setIntx(level) };
    this.setDefault(PCI.VENDOR_ID, 2, identity.vendor);
    this.setDefault(PCI.DEVICE_ID, 2, identity.device);
    this.setDefault(PCI.REVISION, 4, (identity.classCode << 8) | (identity.revision ?? 0));
    this.setDefault(PCI.HEADER_TYPE, 1, identity.multifunction === true ? HEADER_MULTIFUNCTION : 0);
    this.setDefault(PCI.SUBSYSTEM_VENDOR, 2, identity.subsystemVendor ?? 0);
    this.setDefault(PCI.SUBSYSTEM_ID, 2, identity.subsystem ?? 0);
    this.setDefault(PCI.INTERRUPT_PIN, 1, identity.interruptPin ?? 0);
    this.setWritable(PCI.COMMAND, 2, COMMAND_WRITABLE);
    this.setClearable(PCI.STATUS, 2, STATUS_W1C);
    this.setWritable(PCI.CACHE_LINE, 1, 0xff);
    this.setWritable(PCI.INTERRUPT_LINE, 1, 0xff);
    this.setDefault(PCI.STATUS, 2, identity.status ?? 0);
    for (const bar of bars) this.#declareBar(bar);
  }

  #declareBar(bar: PciBar): void {
    const minimum = bar.space === 'io' ? 4 : 16;
    const words = bar.is64 === true ? 2 : 1;
    if (!Number.isInteger(Math.log2(bar.size)) || bar.size < minimum || bar.index + words > BARS) {
      throw new PciError(`BAR ${bar.index} of ${bar.size} bytes`);
    }
    const at = PCI.BAR0 + bar.index * 4;
    const type = bar.space === 'io' ? 1 : (bar.is64 === true ? 4 : 0) | (bar.prefetchable === true ? 8 : 0);
    this.setDefault(at, 4, type);
    const mask = BigInt.asUintN(64, -BigInt(bar.size));
    this.setWritable(at, 4, Number(mask & 0xffffffffn));
    if (bar.is64 === true) this.setWritable(at + 4, 4, Number(mask >> 32n));
  }

  /** Sets a register's value after reset. Only while the device is built. */
  setDefault(offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) this.#image[offset + i] = value >>> (8 * i);
  }

  /** Makes bits of a register writable. Only while the device is built. */
  setWritable(offset: number, size: number, mask: number): void {
    for (let i = 0; i < size; i++) this.#writable[offset + i] = mask >>> (8 * i);
  }

  /** Makes bits of a register cleared by writing 1. Only while the device is built. */
  setClearable(offset: number, size: number, mask: number): void {
    for (let i = 0; i < size; i++) this.#clearable[offset + i] = mask >>> (8 * i);
  }

  /** Adds a capability of `length` bytes and returns its offset. Only while the device is built. */
  addCapability(id: number, length: number): number {
    const at = this.#nextCapability;
    if (at + length > CONFIG_SIZE) throw new PciError('no room for another capability');
    this.#nextCapability = (at + length + 3) & ~3;
    this.setDefault(at, 1, id);
    if (this.#lastCapability === 0) {
      this.setDefault(PCI.CAPABILITIES, 1, at);
      this.#image[PCI.STATUS] |= PCI_STATUS.CAPABILITIES;
    } else {
      this.setDefault(this.#lastCapability + 1, 1, at);
    }
    this.#lastCapability = at;
    return at;
  }

  /** Starts the capabilities at `offset`, for a device whose own registers lie from 0x40 on. */
  capabilitiesFrom(offset: number): void {
    this.#nextCapability = offset;
  }

  /** Adds a listener of configuration writes. Only while the device is built. */
  addHooks(hooks: PciHooks): void {
    this.#hooks.push(hooks);
  }

  attach(attachment: Attachment, devfn: number): void {
    this.#attachment = attachment;
    this.devfn = devfn;
  }

  /** To power-on values; regions are undecoded. *Lock:* BQL. */
  reset(): void {
    this.state.config.set(this.#image);
    this.state.intx = false;
    this.#updateIntx();
    this.#attachment?.mappingChanged();
  }

  /** A register's value, for the device itself. */
  get(offset: number, size: number): number {
    const { config } = this.state;
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | config[offset + i];
    return value >>> 0;
  }

  /** Sets a register whatever its write mask, without hooks. For the device itself. */
  set(offset: number, size: number, value: number): void {
    const { config } = this.state;
    for (let i = 0; i < size; i++) config[offset + i] = value >>> (8 * i);
  }

  /** Configuration read as from the bus. */
  readConfig(offset: number, size: number): number {
    for (const hook of this.#hooks) hook.configRead?.(offset, size);
    return this.get(offset, size);
  }

  /** Configuration write as from the bus. */
  writeConfig(offset: number, size: number, value: number): void {
    const { config } = this.state;
    const command = this.get(PCI.COMMAND, 2);
    let changed = false;
    for (let i = 0; i < size; i++) {
      const at = offset + i;
      const byte = (value >>> (8 * i)) & 0xff;
      const mask = this.#writable[at];
      const old = config[at];
      config[at] = ((old & ~mask) | (byte & mask)) & ~(byte & this.#clearable[at]);
      if (config[at] !== old) changed = true;
    }
    // A write that changes nothing can still be an order to a capability (MSI-X unmask): hooks see all writes.
    for (const hook of this.#hooks) hook.configWritten?.(offset, size);
    if (!changed) return;
    const now = this.get(PCI.COMMAND, 2);
    const decode = PCI_COMMAND.IO | PCI_COMMAND.MEMORY;
    const bars = offset < PCI.BAR0 + BARS * 4 && offset + size > PCI.BAR0;
    if (((command ^ now) & decode) !== 0 || (bars && (now & decode) !== 0)) this.mappingChanged();
    if (((command ^ now) & PCI_COMMAND.INTX_DISABLE) !== 0) this.#updateIntx();
  }

  /** To be called by the device when a range of `mapPorts` moved. */
  mappingChanged(): void {
    this.#attachment?.mappingChanged();
  }

  /** Address that `bar` decodes, or -1 when decoding is off. */
  barAddress(bar: PciBar): number {
    const command = this.get(PCI.COMMAND, 2);
    const at = PCI.BAR0 + bar.index * 4;
    const low = this.get(at, 4);
    if (bar.space === 'io') {
      const base = (low & ~3) >>> 0;
      return (command & PCI_COMMAND.IO) === 0 || base === 0 || base + bar.size > 0x10000 ? -1 : base;
    }
    const base = ((low & ~15) >>> 0) + (bar.is64 === true ? this.get(at + 4, 4) * 2 ** 32 : 0);
    // all ones is what sizing leaves behind: not an address
    const top = bar.is64 === true ? 2 ** 52 : 2 ** 32;
    return (command & PCI_COMMAND.MEMORY) === 0 || base === 0 || base + bar.size >= top ? -1 : base;
  }

  mapPorts(mapper: RegionMapper): void {
    for (const bar of this.bars) {
      if (bar.space !== 'io' || bar.handler === undefined) continue;
      const base = this.barAddress(bar);
      if (base >= 0) mapper.map(base, bar.size, bar.handler, bar.width ?? 4);
    }
    for (const hook of this.#hooks) hook.mapPorts?.(mapper);
  }

  mapMemory(mapper: RegionMapper): void {
    for (const bar of this.bars) {
      if (bar.space !== 'memory') continue;
      const base = this.barAddress(bar);
      if (base < 0) continue;
      if (bar.hostOffset !== undefined) mapper.mapRam(base, bar.size, bar.hostOffset);
      else if (bar.handler !== undefined) mapper.map(base, bar.size, bar.handler, bar.width ?? 4);
    }
  }

  /** True when the guest lets the function read and write memory. */
  get busMaster(): boolean {
    return (this.state.config[PCI.COMMAND] & PCI_COMMAND.MASTER) !== 0;
  }

  #setIntx(level: boolean): void {
    if (this.state.intx === level) return;
    this.state.intx = level;
    this.#updateIntx();
  }

  #updateIntx(): void {
    const { state } = this;
    const status = state.config[PCI.STATUS] & ~PCI_STATUS.INTERRUPT;
    state.config[PCI.STATUS] = state.intx ? status | PCI_STATUS.INTERRUPT : status;
    const asserted = state.intx && (this.get(PCI.COMMAND, 2) & PCI_COMMAND.INTX_DISABLE) === 0;
    if (asserted === state.asserted) return;
    state.asserted = asserted;
    this.#attachment?.intxChanged(this, asserted);
  }
}

/** Takes the four PIRQ lines (PIIX3). */
export interface PirqRouter {
  setPirq(pirq: number, level: boolean): void;
}

/** *Lock:* BQL. Snapshot version 1. */
export const PciBusState = struct({
  /** CONFADD: the address register of configuration mechanism #1. */
  address: u32,
  /** How many functions assert each PIRQ. */
  pirqCount: array(u8, 4),
});

export interface PciBusDeps {
  /** Whose generation counts mapping changes. */
  readonly bus: BusStateView;
  /** Called after a mapping change: vCPUs must drop TLB entries of moved memory. */
  readonly mappingChanged?: () => void;
}

const ADDRESS_ENABLE = 0x8000_0000;
const ADDRESS_MASK = 0x80ff_fffc;

/**
 * PIRQ (0–3 for A–D) that a slot's pin (1–4 for INTA#–INTD#) is wired to: the pins rotate with the slot, slot 1
 * begins with PIRQA, as on QEMU's pc board.
 */
export function pirqOf(slot: number, pin: number): number {
  return (slot - 1 + pin - 1) & 3;
}

/** PCI bus 0. *Thread:* any; each builds its own over the same state. *Lock:* BQL. */
export class PciBus {
  readonly state: ViewOf<typeof PciBusState>;
  /** I/O BARs and other moving ports, for `IoBus`. */
  readonly ports: RegionSource;
  /** Memory BARs, for `MmioBus`. */
  readonly memory: RegionSource;
  /** Set once by the machine's wiring. */
  router: PirqRouter | undefined;
  readonly #deps: PciBusDeps;
  readonly #functions: (PciFunction | undefined)[] = new Array<PciFunction | undefined>(256).fill(undefined);
  readonly #attachment: Attachment;

  constructor(state: ViewOf<typeof PciBusState>, deps: PciBusDeps) {
    this.state = state;
    this.#deps = deps;
    this.ports = { mapRegions: (mapper) => this.functions().forEach((f) => f.mapPorts(mapper)) };
    this.memory = { mapRegions: (mapper) => this.functions().forEach((f) => f.mapMemory(mapper)) };
    this.#attachment = {
      intxChanged: (fn, level) => this.#intxChanged(fn, level),
      mappingChanged: () => {
        deps.bus.generation = (deps.bus.generation + 1) >>> 0;
        this.#deps.mappingChanged?.();
      },
    };
  }

  /** Places a function. Throws PciError when the place is taken. */
  add(fn: PciFunction, slot: number, func = 0): void {
    const devfn = (slot << 3) | func;
    if (slot > 31 || func > 7) throw new PciError(`no place ${slot}.${func}`);
    if (this.#functions[devfn] !== undefined) throw new PciError(`${slot}.${func} is taken`);
    this.#functions[devfn] = fn;
    fn.attach(this.#attachment, devfn);
  }

  find(slot: number, func = 0): PciFunction | undefined {
    return this.#functions[(slot << 3) | func];
  }

  /** All functions in order of slot and function. */
  functions(): readonly PciFunction[] {
    return this.#functions.filter((f) => f !== undefined);
  }

  /** Resets the bus's own registers; the functions are reset by their devices. */
  reset(): void {
    this.state.address = 0;
  }

  get address(): number {
    return this.state.address;
  }
  set address(value: number) {
    this.state.address = (value & ADDRESS_MASK) >>> 0;
  }

  /** Access to the data port: `offset` 0–3 within CONFDATA. */
  readData(offset: number, size: number): number {
    const fn = this.#selected();
    return fn === undefined ? allOnes(size) : fn.readConfig((this.state.address & 0xfc) | offset, size);
  }

  writeData(offset: number, size: number, value: number): void {
    this.#selected()?.writeConfig((this.state.address & 0xfc) | offset, size, value);
  }

  #selected(): PciFunction | undefined {
    const { address } = this.state;
    if (address < ADDRESS_ENABLE || ((address >>> 16) & 0xff) !== 0) return undefined;
    return this.#functions[(address >>> 8) & 0xff];
  }

  #intxChanged(fn: PciFunction, level: boolean): void {
    const pin = fn.state.config[PCI.INTERRUPT_PIN];
    if (pin === 0 || pin > 4) return;
    const pirq = pirqOf(fn.devfn >> 3, pin);
    const { pirqCount } = this.state;
    const before = pirqCount[pirq] !== 0;
    pirqCount[pirq] += level ? 1 : -1;
    const after = pirqCount[pirq] !== 0;
    if (before !== after) this.router?.setPirq(pirq, after);
  }
}

/** First port and number of ports of `PciConfigPorts`; register with width 4. */
export const PCI_CONFIG_PORT = 0xcf8;
export const PCI_CONFIG_PORTS = 8;

/**
 * Ports CF8–CFF. CONFADD answers dword accesses only; a byte access to CF9 is the reset control register of the
 * south bridge (82371SB datasheet, 2.5.5). *Lock:* BQL.
 */
export class PciConfigPorts implements IoHandler {
  readonly #bus: PciBus;
  readonly #resetControl: IoHandler | undefined;

  constructor(bus: PciBus, resetControl?: IoHandler) {
    this.#bus = bus;
    this.#resetControl = resetControl;
  }

  read(offset: number, size: number): number {
    if (offset >= 4) return this.#bus.readData(offset - 4, size);
    if (offset === 0 && size === 4) return this.#bus.address;
    if (offset === 1 && size === 1 && this.#resetControl !== undefined) return this.#resetControl.read(0, 1);
    return allOnes(size);
  }

  write(offset: number, size: number, value: number): void {
    if (offset >= 4) this.#bus.writeData(offset - 4, size, value);
    else if (offset === 0 && size === 4) this.#bus.address = value;
    else if (offset === 1 && size === 1) this.#resetControl?.write(0, 1, value);
  }
}
