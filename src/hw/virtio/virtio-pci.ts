/**
 * Virtio over PCI: modern registers behind capabilities (VIRTIO 1.1, 4.1.3 and 4.1.4) and, on a transitional device, the
 * legacy ones in an I/O BAR (4.1.4.8). A device's requests are served by one thread, which owns its queues while
 * the device runs (`RUN` in virtio-state.ts); registers are touched under the BQL.
 *
 * Two paths need no BQL. A notification (`doorbell`) sets the queue's bit in `kicks` and wakes the serving thread.
 * An interrupt from the serving thread goes through MSI-X under `msixLock`, a leaf; INTx is left to the main loop.
 */
import type { IoHandler } from '../device.ts';
import { Msix, type MsiTarget } from '../pci/msi.ts';
import { PCI, PCI_COMMAND, type PciBar, PciFunction } from '../pci/pci.ts';
import { LegacyRegisters } from './virtio-legacy.ts';
import { FEATURE, featureWords, hasFeature, ISR, RUN, STATUS, type VirtioStateView } from './virtio-state.ts';
import { NO_VECTOR, type VirtqueueStateView } from './virtqueue.ts';

const VENDOR = 0x1af4;
const CAP_VENDOR = 0x09;
const CFG = { COMMON: 1, NOTIFY: 2, ISR: 3, DEVICE: 4, PCI: 5 } as const;
const CAP = { LENGTH: 2, TYPE: 3, BAR: 4, OFFSET: 8, SIZE: 12, EXTRA: 16 } as const;
const CAP_SIZE = 16;

const LEGACY_BAR = 0;
const MSIX_BAR = 1;
const MODERN_BAR = 4;
const MSIX_BAR_SIZE = 0x1000;
const PBA_OFFSET = 0x800;
/** Each part of the modern BAR has this much. */
const PART = 0x1000;
const PARTS = { COMMON: 0, ISR: 1, DEVICE: 2, NOTIFY: 3 } as const;
const MODERN_BAR_SIZE = 4 * PART;
/** Distance of two queues' notification registers. */
const NOTIFY_MULTIPLIER = 4;

/** Registers of the common configuration (4.1.4.3). */
const COMMON = {
  DEVICE_FEATURE_SELECT: 0x00,
  DEVICE_FEATURE: 0x04,
  DRIVER_FEATURE_SELECT: 0x08,
  DRIVER_FEATURE: 0x0c,
  CONFIG_VECTOR: 0x10,
  NUM_QUEUES: 0x12,
  STATUS: 0x14,
  GENERATION: 0x15,
  QUEUE_SELECT: 0x16,
  QUEUE_SIZE: 0x18,
  QUEUE_VECTOR: 0x1a,
  QUEUE_ENABLE: 0x1c,
  QUEUE_NOTIFY_OFF: 0x1e,
  QUEUE_DESC: 0x20,
  QUEUE_DRIVER: 0x28,
  QUEUE_DEVICE: 0x30,
} as const;

/** What kind of device is behind the transport. *Lock:* BQL. */
export interface VirtioModel {
  /** Virtio device id (5). */
  readonly deviceId: number;
  readonly classCode: number;
  readonly queues: number;
  /** Descriptors of each queue after reset, a power of two. */
  readonly queueSize: number;
  /** Its own feature bits that it offers now. */
  features(): readonly number[];
  readonly configSize: number;
  /** A byte of the device configuration. */
  readConfig(offset: number): number;
  writeConfig(offset: number, size: number, value: number): void;
  /** The driver is ready. `has` tells what was negotiated. */
  started?(has: (feature: number) => boolean): void;
  reset?(): void;
}

export interface VirtioPciDeps {
  readonly msi: MsiTarget;
  /** Makes the serving thread look at `kicks` and `run`. *Thread:* any. *Lock:* none. */
  readonly wake: () => void;
  /** Has the main loop call `updateIntx`. *Thread:* any. *Lock:* none. */
  readonly postIntx: () => void;
  /** `disable-legacy=on`: no I/O BAR, and ids of a modern device. */
  readonly modernOnly: boolean;
}

/** *Thread:* any (each thread builds its own over the same state). *Lock:* BQL, unless said. */
export class VirtioPci {
  readonly pci: PciFunction;
  readonly state: VirtioStateView;
  readonly model: VirtioModel;
  readonly #deps: VirtioPciDeps;
  readonly #msix: Msix;
  readonly #vectors: number;
  readonly #legacy: LegacyRegisters | undefined;
  readonly #window: number;

  constructor(state: VirtioStateView, model: VirtioModel, deps: VirtioPciDeps) {
    this.state = state;
    this.model = model;
    this.#deps = deps;
    this.#vectors = model.queues + 1;
    const { modernOnly } = deps;
    this.#legacy = modernOnly ? undefined : new LegacyRegisters(this);
    const bars: PciBar[] = [
      { index: MSIX_BAR, space: 'memory', size: MSIX_BAR_SIZE, handler: this.#msixBar() },
      {
        index: MODERN_BAR,
        space: 'memory',
        size: MODERN_BAR_SIZE,
        handler: this.#modernBar(),
        is64: true,
        prefetchable: true,
      },
    ];
    if (this.#legacy !== undefined) {
      const needed = this.#legacy.size;
      bars.unshift({
        index: LEGACY_BAR,
        space: 'io',
        size: 2 ** Math.ceil(Math.log2(needed)),
        handler: this.#legacy,
      });
    }
    const pci = new PciFunction(
      state.pci,
      {
        vendor: VENDOR,
        device: modernOnly ? 0x1040 + model.deviceId : 0x1000 + legacyId(model.deviceId),
        classCode: model.classCode,
        revision: modernOnly ? 1 : 0,
        subsystemVendor: VENDOR,
        subsystem: modernOnly ? 0x1100 : model.deviceId,
        interruptPin: 1,
      },
      bars,
      {
        configWritten: (offset, size) => this.#configWritten(offset, size),
        configRead: (offset, size) => this.#configRead(offset, size),
      },
    );
    this.pci = pci;
    this.#msix = new Msix(
      pci,
      { vectors: this.#vectors, bar: MSIX_BAR, tableOffset: 0, pbaOffset: PBA_OFFSET },
      state.msixTable.subarray(0, this.#vectors * 16),
      state.msixPending.subarray(0, Math.ceil(this.#vectors / 64) * 8),
      deps.msi,
      state.msixLock,
    );
    this.#capability(CFG.COMMON, PARTS.COMMON, PART);
    this.#capability(CFG.ISR, PARTS.ISR, PART);
    this.#capability(CFG.DEVICE, PARTS.DEVICE, PART);
    const notify = this.#capability(CFG.NOTIFY, PARTS.NOTIFY, PART, 4);
    pci.setDefault(notify + CAP.EXTRA, 4, NOTIFY_MULTIPLIER);
    const window = this.#capability(CFG.PCI, 0, 0, 4);
    pci.setDefault(window + CAP.BAR, 1, 0);
    pci.setWritable(window + CAP.BAR, 1, 0xff);
    pci.setWritable(window + CAP.OFFSET, 4, 0xffff_ffff);
    pci.setWritable(window + CAP.SIZE, 4, 0xffff_ffff);
    pci.setWritable(window + CAP.EXTRA, 4, 0xffff_ffff);
    this.#window = window;
  }

  #capability(type: number, part: number, length: number, extra = 0): number {
    const { pci } = this;
    const at = pci.addCapability(CAP_VENDOR, CAP_SIZE + extra);
    pci.setDefault(at + CAP.LENGTH, 1, CAP_SIZE + extra);
    pci.setDefault(at + CAP.TYPE, 1, type);
    pci.setDefault(at + CAP.BAR, 1, MODERN_BAR);
    pci.setDefault(at + CAP.OFFSET, 4, part * PART);
    pci.setDefault(at + CAP.SIZE, 4, length);
    return at;
  }

  /** Machine reset. The serving thread is quiesced, or does not exist yet. */
  reset(): void {
    this.pci.reset();
    this.#msix.reset();
    this.#clear();
  }

  /** To the state after a virtio reset (2.4). No thread has the queues. */
  #clear(): void {
    const s = this.state;
    s.run.store(RUN.IDLE);
    s.resetting = false;
    s.status.store(0);
    s.isr.store(0);
    for (const word of s.kicks) word.store(0);
    s.deviceFeatureSelect = s.driverFeatureSelect = 0;
    s.featuresLow = s.featuresHigh = 0;
    s.queueSelect = 0;
    s.configVector = NO_VECTOR;
    for (const queue of s.queues) {
      queue.descLow = queue.descHigh = queue.availLow = queue.availHigh = queue.usedLow = queue.usedHigh = 0;
      queue.size = this.model.queueSize;
      queue.vector = NO_VECTOR;
      queue.lastAvail = queue.usedIndex = queue.signalled = 0;
      queue.signalledValid = queue.enabled = false;
    }
    this.pci.intx.set(false);
    this.model.reset?.();
  }

  // --- what both register sets are made of ---

  /** Features offered. `legacy`: to a driver that knows no others. */
  offered(legacy: boolean): { low: number; high: number } {
    const common = legacy
      ? [FEATURE.NOTIFY_ON_EMPTY, FEATURE.ANY_LAYOUT]
      : [FEATURE.VERSION_1, FEATURE.ANY_LAYOUT];
    return featureWords([...this.model.features(), ...common, FEATURE.INDIRECT_DESC, FEATURE.EVENT_IDX]);
  }

  /** Was feature `bit` negotiated? *Thread:* any, while the device runs. */
  has(bit: number): boolean {
    return hasFeature(this.state.featuresLow, this.state.featuresHigh, bit);
  }

  get running(): boolean {
    return this.state.run.load() !== RUN.IDLE;
  }

  /** The selected queue, if the device has it. */
  get selected(): VirtqueueStateView | undefined {
    const { queueSelect } = this.state;
    return queueSelect < this.model.queues ? this.state.queues[queueSelect] : undefined;
  }

  get msixEnabled(): boolean {
    return this.#msix.enabled;
  }

  /** A vector that the driver chose, as it reads back. */
  vector(value: number): number {
    return value < this.#vectors ? value : NO_VECTOR;
  }

  /** Device status as the driver sees it: what it was until a reset is complete. */
  readStatus(): number {
    if (this.state.resetting && this.state.run.load() === RUN.IDLE) this.#clear();
    return this.state.status.load();
  }

  writeStatus(value: number, legacy: boolean): void {
    const { state } = this;
    if (value === 0) {
      this.#requestReset(legacy);
      return;
    }
    this.settle();
    let status = value | (state.status.load() & STATUS.NEEDS_RESET);
    if ((status & STATUS.FEATURES_OK) !== 0 && !this.#featuresAccepted(legacy)) status &= ~STATUS.FEATURES_OK;
    const starts = (status & STATUS.DRIVER_OK) !== 0 && state.run.load() === RUN.IDLE;
    state.status.store(status);
    if (!starts) return;
    if (legacy) {
      // old drivers do not set it
      const command = this.pci.get(PCI.COMMAND, 2);
      this.pci.set(PCI.COMMAND, 2, command | PCI_COMMAND.MASTER);
    }
    this.model.started?.((bit) => this.has(bit));
    state.epoch.add(1);
    // requests may wait already
    for (let queue = 0; queue < this.model.queues; queue++) state.kicks[queue >>> 5].or(1 << (queue & 31));
    state.run.store(RUN.RUNNING);
    this.#deps.wake();
  }

  #featuresAccepted(legacy: boolean): boolean {
    const { featuresLow, featuresHigh } = this.state;
    const { low, high } = this.offered(legacy);
    return (featuresLow & ~low) === 0 && (featuresHigh & ~high) === 0 && this.has(FEATURE.VERSION_1);
  }

  /** A reset takes effect when the serving thread has let go. A legacy driver does not look: it is made to wait. */
  #requestReset(legacy: boolean): void {
    const { state } = this;
    if (state.run.load() === RUN.IDLE) {
      this.#clear();
      return;
    }
    state.resetting = true;
    if (state.run.compareExchange(RUN.RUNNING, RUN.STOPPING) === RUN.RUNNING) this.#deps.wake();
    if (legacy) this.settle();
  }

  /** Waits for a reset in progress. *May block:* until the requests in flight are done. */
  settle(): void {
    const { state } = this;
    if (!state.resetting) return;
    // the serving thread never takes the BQL, so it may be waited for with it
    while (state.run.load() === RUN.STOPPING) state.run.wait(RUN.STOPPING);
    this.#clear();
  }

  /** The driver says that queue `queue` has requests. *Thread:* any. *Lock:* none. */
  kick(queue: number): void {
    if (queue >= this.model.queues) return;
    this.state.kicks[queue >>> 5].or(1 << (queue & 31));
    this.#deps.wake();
  }

  /** ISR status: reading it clears it and ends INTx. */
  readIsr(): number {
    const isr = this.state.isr.exchange(0);
    this.pci.intx.set(false);
    return isr;
  }

  /** INTx follows the ISR status. *Thread:* main loop. */
  updateIntx(): void {
    if (!this.#msix.enabled) this.pci.intx.set(this.state.isr.load() !== 0);
  }

  // --- the serving thread's side; no lock ---

  /** Interrupts the driver for queue `queue`. *Thread:* serving. *Lock:* none. */
  interruptQueue(queue: number): void {
    this.#interrupt(ISR.QUEUE, this.state.queues[queue].vector);
  }

  /** Tells the driver that the configuration has changed. *Thread:* serving. *Lock:* none. */
  configChanged(): void {
    this.state.generation.add(1);
    if ((this.state.status.load() & STATUS.DRIVER_OK) !== 0) this.#interruptConfig();
  }

  /** The driver broke the rules: nothing more is served until it resets the device. *Thread:* serving. *Lock:* none. */
  needsReset(): void {
    this.state.status.or(STATUS.NEEDS_RESET);
    this.#interruptConfig();
  }

  #interruptConfig(): void {
    this.#interrupt(ISR.QUEUE | ISR.CONFIG, this.state.configVector);
  }

  #interrupt(isr: number, vector: number): void {
    if (this.#msix.enabled) {
      if (vector !== NO_VECTOR) this.#msix.notify(vector);
      return;
    }
    this.state.isr.or(isr);
    this.#deps.postIntx();
  }

  // --- BARs ---

  #msixBar(): IoHandler {
    return {
      read: (offset, size) => {
        if (offset < PBA_OFFSET) return this.#msix.table.read(offset, size);
        return this.#msix.pba.read(offset - PBA_OFFSET, size);
      },
      write: (offset, size, value) => {
        if (offset < PBA_OFFSET) this.#msix.table.write(offset, size, value);
      },
    };
  }

  #modernBar(): IoHandler {
    const notifies = (offset: number): boolean => offset >= PARTS.NOTIFY * PART;
    const kick = (offset: number): void => this.kick(Math.floor((offset % PART) / NOTIFY_MULTIPLIER));
    return {
      read: (offset, size) => this.#readModern(offset, size),
      write: (offset, size, value) => {
        if (notifies(offset)) kick(offset);
        else this.#writeModern(offset, size, value);
      },
      doorbell: (offset) => {
        if (!notifies(offset)) return false;
        kick(offset);
        return true;
      },
    };
  }

  #readModern(offset: number, size: number): number {
    const at = offset % PART;
    switch (Math.floor(offset / PART)) {
      case PARTS.COMMON:
        return this.#readCommon(at);
      case PARTS.ISR:
        return at === 0 ? this.readIsr() : 0;
      case PARTS.DEVICE:
        return this.readConfig(at, size);
      default:
        return 0;
    }
  }

  #writeModern(offset: number, size: number, value: number): void {
    const at = offset % PART;
    switch (Math.floor(offset / PART)) {
      case PARTS.COMMON:
        this.#writeCommon(at, value);
        break;
      case PARTS.DEVICE:
        if (at + size <= this.model.configSize) this.model.writeConfig(at, size, value);
        break;
    }
  }

  /** Device configuration; zero beyond its end. */
  readConfig(offset: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) {
      const at = offset + i;
      value = (value << 8) | (at < this.model.configSize ? this.model.readConfig(at) : 0);
    }
    return value >>> 0;
  }

  #readCommon(at: number): number {
    const s = this.state;
    if (at === COMMON.STATUS) return this.readStatus();
    this.settle();
    const queue = this.selected;
    const offered = this.offered(false);
    switch (at) {
      case COMMON.DEVICE_FEATURE_SELECT:
        return s.deviceFeatureSelect;
      case COMMON.DEVICE_FEATURE:
        return s.deviceFeatureSelect === 0 ? offered.low : s.deviceFeatureSelect === 1 ? offered.high : 0;
      case COMMON.DRIVER_FEATURE_SELECT:
        return s.driverFeatureSelect;
      case COMMON.DRIVER_FEATURE:
        return s.driverFeatureSelect === 0 ? s.featuresLow : s.driverFeatureSelect === 1 ? s.featuresHigh : 0;
      case COMMON.CONFIG_VECTOR:
        return s.configVector;
      case COMMON.NUM_QUEUES:
        return this.model.queues;
      case COMMON.GENERATION:
        return s.generation.load() & 0xff;
      case COMMON.QUEUE_SELECT:
        return s.queueSelect;
      case COMMON.QUEUE_SIZE:
        return queue?.size ?? 0;
      case COMMON.QUEUE_VECTOR:
        return queue?.vector ?? NO_VECTOR;
      case COMMON.QUEUE_ENABLE:
        return queue?.enabled === true ? 1 : 0;
      case COMMON.QUEUE_NOTIFY_OFF:
        return s.queueSelect;
      case COMMON.QUEUE_DESC:
        return queue?.descLow ?? 0;
      case COMMON.QUEUE_DESC + 4:
        return queue?.descHigh ?? 0;
      case COMMON.QUEUE_DRIVER:
        return queue?.availLow ?? 0;
      case COMMON.QUEUE_DRIVER + 4:
        return queue?.availHigh ?? 0;
      case COMMON.QUEUE_DEVICE:
        return queue?.usedLow ?? 0;
      case COMMON.QUEUE_DEVICE + 4:
        return queue?.usedHigh ?? 0;
      default:
        return 0;
    }
  }

  #writeCommon(at: number, value: number): void {
    const s = this.state;
    if (at === COMMON.STATUS) {
      this.writeStatus(value & 0xff, false);
      return;
    }
    this.settle();
    switch (at) {
      case COMMON.DEVICE_FEATURE_SELECT:
        s.deviceFeatureSelect = value;
        break;
      case COMMON.DRIVER_FEATURE_SELECT:
        s.driverFeatureSelect = value;
        break;
      case COMMON.DRIVER_FEATURE:
        if ((s.status.load() & STATUS.FEATURES_OK) !== 0) break;
        if (s.driverFeatureSelect === 0) s.featuresLow = value;
        else if (s.driverFeatureSelect === 1) s.featuresHigh = value;
        break;
      case COMMON.CONFIG_VECTOR:
        s.configVector = this.vector(value & 0xffff);
        break;
      case COMMON.QUEUE_SELECT:
        s.queueSelect = value & 0xffff;
        break;
      case COMMON.QUEUE_VECTOR:
        if (this.selected !== undefined) this.selected.vector = this.vector(value & 0xffff);
        break;
      default:
        // the serving thread has the queues
        if (!this.running && this.selected !== undefined) this.#writeQueue(this.selected, at, value);
    }
  }

  #writeQueue(queue: VirtqueueStateView, at: number, value: number): void {
    switch (at) {
      case COMMON.QUEUE_SIZE:
        if (value > 0 && value <= this.model.queueSize && (value & (value - 1)) === 0) queue.size = value;
        break;
      case COMMON.QUEUE_ENABLE:
        if ((value & 0xffff) === 1) queue.enabled = true;
        break;
      case COMMON.QUEUE_DESC:
        queue.descLow = value;
        break;
      case COMMON.QUEUE_DESC + 4:
        queue.descHigh = value;
        break;
      case COMMON.QUEUE_DRIVER:
        queue.availLow = value;
        break;
      case COMMON.QUEUE_DRIVER + 4:
        queue.availHigh = value;
        break;
      case COMMON.QUEUE_DEVICE:
        queue.usedLow = value;
        break;
      case COMMON.QUEUE_DEVICE + 4:
        queue.usedHigh = value;
        break;
    }
  }

  // --- the window into the BARs in configuration space (4.1.4.7) ---

  #windowTarget(): { offset: number; size: number } | undefined {
    const { pci } = this;
    const at = this.#window;
    const offset = pci.get(at + CAP.OFFSET, 4);
    const size = pci.get(at + CAP.SIZE, 4);
    const bar = pci.get(at + CAP.BAR, 1);
    if (bar !== MODERN_BAR || ![1, 2, 4].includes(size) || offset % size !== 0) return undefined;
    return offset + size > MODERN_BAR_SIZE ? undefined : { offset, size };
  }

  #touchesWindow(offset: number, size: number): boolean {
    const data = this.#window + CAP.EXTRA;
    return offset < data + 4 && offset + size > data;
  }

  #configRead(offset: number, size: number): void {
    if (!this.#touchesWindow(offset, size)) return;
    const target = this.#windowTarget();
    if (target === undefined) return;
    this.pci.set(this.#window + CAP.EXTRA, target.size, this.#readModern(target.offset, target.size));
  }

  #configWritten(offset: number, size: number): void {
    if (offset <= PCI.COMMAND && offset + size > PCI.COMMAND) this.#deps.wake();
    if (!this.#touchesWindow(offset, size)) return;
    const target = this.#windowTarget();
    if (target === undefined) return;
    const value = this.pci.get(this.#window + CAP.EXTRA, target.size);
    const at = PARTS.NOTIFY * PART;
    if (target.offset >= at) this.kick(Math.floor((target.offset - at) / NOTIFY_MULTIPLIER));
    else this.#writeModern(target.offset, target.size, value);
  }
}

/** Transitional PCI ids count otherwise than virtio ids (4.1.2.1). */
function legacyId(deviceId: number): number {
  const ids: Readonly<Record<number, number>> = { 1: 0, 2: 1, 5: 2, 3: 3, 8: 4, 4: 5, 9: 9 };
  return ids[deviceId] ?? deviceId;
}
