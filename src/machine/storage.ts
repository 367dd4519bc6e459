/** Iothreads, drives and disk devices of a board, and where they lie in memory. */
import { DriveState, type DriveStateView } from '../hw/block/drive.ts';
import type { GuestRam } from '../hw/guest-ram.ts';
import type { MsiTarget } from '../hw/pci/msi.ts';
import type { PciBus } from '../hw/pci/pci.ts';
import { VirtioBlk } from '../hw/virtio/virtio-blk.ts';
import { VirtioPci } from '../hw/virtio/virtio-pci.ts';
import { VirtioState } from '../hw/virtio/virtio-state.ts';
import type { ClockSystem } from '../timer/clock.ts';
import { Iothread } from './iothread.ts';
import type { StorageConfig } from './storage-config.ts';

/** Byte offsets. */
export interface StorageLayout {
  readonly iothreads: readonly number[];
  readonly drives: readonly number[];
  readonly virtioBlks: readonly number[];
}

export function storageLayout(config: StorageConfig, place: (size: number) => number): StorageLayout {
  return {
    iothreads: Array.from({ length: config.iothreads }, () => place(Iothread.size())),
    drives: config.drives.map(() => place(DriveState.size)),
    virtioBlks: config.virtioBlks.map(() => place(VirtioState.size)),
  };
}

export interface StorageDeps {
  readonly clocks: ClockSystem;
  readonly pci: PciBus;
  readonly ram: GuestRam;
  readonly msi: MsiTarget;
  /** Has the main loop call `updateIrqs`. */
  readonly postIrqs: () => void;
  /** This thread makes the machine. */
  readonly create: boolean;
}

/** A virtio disk: its transport and what is behind it. */
export interface VirtioDisk {
  readonly device: VirtioPci;
  readonly model: VirtioBlk;
  readonly drive: number;
}

/** *Thread:* any (each builds its own). *Lock:* BQL. */
export class Storage {
  readonly config: StorageConfig;
  readonly ram: GuestRam;
  readonly iothreads: readonly Iothread[];
  readonly drives: readonly DriveStateView[];
  readonly virtioDisks: readonly VirtioDisk[];

  constructor(config: StorageConfig, layout: StorageLayout, deps: StorageDeps) {
    const { clocks, pci } = deps;
    const { buffer } = clocks;
    this.config = config;
    this.ram = deps.ram;
    this.iothreads = layout.iothreads.map((at) =>
      deps.create ? Iothread.init(clocks, at) : Iothread.attach(clocks, at),
    );
    this.drives = layout.drives.map((at) => DriveState.at(buffer, at));
    this.virtioDisks = config.virtioBlks.map(({ drive, slot, modernOnly, options }, i) => {
      const { context } = this.iothreads[config.drives[drive].iothread];
      const model = new VirtioBlk(this.drives[drive], options);
      const device = new VirtioPci(VirtioState.at(buffer, layout.virtioBlks[i]), model, {
        msi: deps.msi,
        wake: () => context.notify(),
        postIntx: deps.postIrqs,
        modernOnly,
      });
      pci.add(device.pci, slot);
      return { device, model, drive };
    });
  }

  /** Interrupt lines follow what iothreads have signalled. *Thread:* main loop. */
  updateIrqs(): void {
    for (const { device } of this.virtioDisks) device.updateIntx();
  }

  /** *Thread:* with the iothreads quiesced. */
  reset(): void {
    for (const { device } of this.virtioDisks) device.reset();
  }
}
