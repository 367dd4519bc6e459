/** What a virtio device is, in shared memory, and who may touch what when. VIRTIO 1.1, 2.1 to 2.6. */
import {
  array,
  atomicI32,
  bool,
  bytes,
  Mutex,
  placed,
  struct,
  u16,
  u32,
  type ViewOf,
} from '@smp86/atomics-sync';
import { msixPbaSize, msixTableSize } from '../pci/msi.ts';
import { PciFunctionState } from '../pci/pci.ts';
import { VirtqueueState } from './virtqueue.ts';

/** Most queues of a device: one a vCPU. */
export const MAX_QUEUES = 64;
/** A vector for each queue, and one for configuration changes. */
export const MAX_VECTORS = MAX_QUEUES + 1;

/** Device status bits (2.1). */
export const STATUS = {
  ACKNOWLEDGE: 1,
  DRIVER: 2,
  DRIVER_OK: 4,
  FEATURES_OK: 8,
  NEEDS_RESET: 0x40,
  FAILED: 0x80,
} as const;

/** Feature bits of all devices; from 32 on in the high word (6). */
export const FEATURE = {
  NOTIFY_ON_EMPTY: 24,
  ANY_LAYOUT: 27,
  INDIRECT_DESC: 28,
  EVENT_IDX: 29,
  VERSION_1: 32,
} as const;

/** ISR status bits (4.1.4.5). */
export const ISR = { QUEUE: 1, CONFIG: 2 } as const;

/**
 * Who has the queues, in `VirtioState.run`.
 *
 *   IDLE      nobody: registers are changed under the BQL
 *   RUNNING   the thread that serves the device; registers of queues do not change
 *   STOPPING  as RUNNING, but the guest has asked for a reset: no new request is taken
 *
 * IDLE → RUNNING and RUNNING → STOPPING are made under the BQL, STOPPING → IDLE by the serving thread when no
 * request is in flight, with a futex wake. A reset of the machine makes it IDLE while the serving thread is quiesced.
 */
export const RUN = { IDLE: 0, RUNNING: 1, STOPPING: 2 } as const;

/** One device on virtio-pci. *Lock:* BQL, but for atomic words. Snapshot version 1. */
export const VirtioState = struct({
  pci: PciFunctionState,
  /** Bits of STATUS. Written under the BQL, but for NEEDS_RESET: the serving thread sets it. */
  status: atomicI32,
  /** Bits of ISR: set by the serving thread, cleared by the guest's read. */
  isr: atomicI32,
  /** RUN. */
  run: atomicI32,
  /** Bumped whenever the device starts to run: the serving thread then makes its queues anew. */
  epoch: atomicI32,
  /** Bit per queue: the driver says that there are requests. Set by any thread, cleared by the serving thread. */
  kicks: array(atomicI32, MAX_QUEUES / 32),
  /** Counts changes of the device's configuration. */
  generation: atomicI32,
  /** A reset waits for the serving thread. */
  resetting: bool,
  deviceFeatureSelect: u32,
  driverFeatureSelect: u32,
  featuresLow: u32,
  featuresHigh: u32,
  queueSelect: u16,
  /** MSI-X vector of configuration changes, or NO_VECTOR. */
  configVector: u16,
  queues: array(VirtqueueState, MAX_QUEUES),
  /** Protects what follows; a leaf (docs/threads.md). */
  msixLock: placed(Mutex),
  msixTable: bytes(msixTableSize(MAX_VECTORS)),
  msixPending: bytes(msixPbaSize(MAX_VECTORS)),
});
export type VirtioStateView = ViewOf<typeof VirtioState>;

/** Is feature `bit` in the pair of words? */
export function hasFeature(low: number, high: number, bit: number): boolean {
  return bit < 32 ? ((low >>> bit) & 1) !== 0 : ((high >>> (bit - 32)) & 1) !== 0;
}

/** The words of a set of feature bits. */
export function featureWords(bits: readonly number[]): { low: number; high: number } {
  let low = 0;
  let high = 0;
  for (const bit of bits) {
    if (bit < 32) low |= 1 << bit;
    else high |= 1 << (bit - 32);
  }
  return { low: low >>> 0, high: high >>> 0 };
}
