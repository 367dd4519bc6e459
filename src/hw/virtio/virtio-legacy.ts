/** The legacy registers of a transitional device, in an I/O BAR. VIRTIO 1.1, 4.1.4.8, 2.6.2, 7.4. */
import type { IoHandler } from '../device.ts';
import { allOnes } from '../device.ts';
import type { VirtioPci } from './virtio-pci.ts';
import { NO_VECTOR, type VirtqueueStateView } from './virtqueue.ts';

const LEGACY = {
  DEVICE_FEATURES: 0,
  DRIVER_FEATURES: 4,
  QUEUE_PFN: 8,
  QUEUE_SIZE: 12,
  QUEUE_SELECT: 14,
  NOTIFY: 16,
  STATUS: 18,
  ISR: 19,
  /** These two exist while MSI-X is enabled; the device's configuration follows what exists. */
  CONFIG_VECTOR: 20,
  QUEUE_VECTOR: 22,
} as const;
const CONFIG_WITHOUT_MSIX = 20;
const CONFIG_WITH_MSIX = 24;
/** The rings of a queue lie in pages of this size, the used ring at the next page's start. */
const ALIGN = 4096;

/** *Lock:* BQL, but for `doorbell`. */
export class LegacyRegisters implements IoHandler {
  readonly #device: VirtioPci;

  constructor(device: VirtioPci) {
    this.#device = device;
  }

  /** Bytes of the register block. */
  get size(): number {
    return CONFIG_WITH_MSIX + this.#device.model.configSize;
  }

  get #config(): number {
    return this.#device.msixEnabled ? CONFIG_WITH_MSIX : CONFIG_WITHOUT_MSIX;
  }

  /** Notifications need no lock. */
  doorbell(offset: number, size: number, value: number): boolean {
    if (offset !== LEGACY.NOTIFY || size < 2) return false;
    this.#device.kick(value & 0xffff);
    return true;
  }

  read(offset: number, size: number): number {
    const device = this.#device;
    const { state } = device;
    if (offset >= this.#config) return device.readConfig(offset - this.#config, size);
    const queue = device.selected;
    switch (offset) {
      case LEGACY.DEVICE_FEATURES:
        return device.offered(true).low;
      case LEGACY.DRIVER_FEATURES:
        return state.featuresLow;
      case LEGACY.QUEUE_PFN:
        // addresses that fit a page number: it is what the driver wrote
        return queue === undefined ? 0 : ((queue.descHigh * 2 ** 32 + queue.descLow) / ALIGN) >>> 0;
      case LEGACY.QUEUE_SIZE:
        return queue?.size ?? 0;
      case LEGACY.QUEUE_SELECT:
        return state.queueSelect;
      case LEGACY.STATUS:
        return device.readStatus();
      case LEGACY.ISR:
        return device.readIsr();
      case LEGACY.CONFIG_VECTOR:
        return state.configVector;
      case LEGACY.QUEUE_VECTOR:
        return queue?.vector ?? NO_VECTOR;
      default:
        return allOnes(size);
    }
  }

  write(offset: number, size: number, value: number): void {
    const device = this.#device;
    const { state } = device;
    if (this.doorbell(offset, size, value)) return;
    if (offset === LEGACY.STATUS) {
      device.writeStatus(value & 0xff, true);
      return;
    }
    device.settle();
    const at = offset - this.#config;
    if (at >= 0) {
      if (at + size <= device.model.configSize) device.model.writeConfig(at, size, value);
      return;
    }
    const queue = device.selected;
    switch (offset) {
      case LEGACY.DRIVER_FEATURES:
        if (device.running) break;
        state.featuresLow = (value & device.offered(true).low) >>> 0;
        state.featuresHigh = 0;
        break;
      case LEGACY.QUEUE_PFN:
        if (value === 0) {
          // some drivers end their use of the device so
          device.writeStatus(0, true);
        } else if (queue !== undefined && !device.running) place(queue, value * ALIGN);
        break;
      case LEGACY.QUEUE_SELECT:
        state.queueSelect = value & 0xffff;
        break;
      case LEGACY.CONFIG_VECTOR:
        state.configVector = device.vector(value & 0xffff);
        break;
      case LEGACY.QUEUE_VECTOR:
        if (queue !== undefined) queue.vector = device.vector(value & 0xffff);
        break;
    }
  }
}

/** The layout of a queue that lies at `address` (2.6.2). */
function place(queue: VirtqueueStateView, address: number): void {
  const avail = address + queue.size * 16;
  const used = Math.ceil((avail + 4 + queue.size * 2 + 2) / ALIGN) * ALIGN;
  const high = (at: number): number => Math.floor(at / 2 ** 32);
  queue.descLow = address % 2 ** 32;
  queue.descHigh = high(address);
  queue.availLow = avail % 2 ** 32;
  queue.availHigh = high(avail);
  queue.usedLow = used % 2 ** 32;
  queue.usedHigh = high(used);
  queue.enabled = true;
}
