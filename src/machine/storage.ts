/** Iothreads, drives and disk devices of a board, and where they lie in memory. */
import type { ViewOf } from '@smp86/atomics-sync';
import { ThrottleGroupState } from '../block/throttle.ts';
import { DriveState, type DriveStateView } from '../hw/block/drive.ts';
import type { IrqLine } from '../hw/device.ts';
import type { GuestRam } from '../hw/guest-ram.ts';
import { AtaDisk } from '../hw/ide/ata-disk.ts';
import { AtapiCdrom } from '../hw/ide/atapi-cdrom.ts';
import type { IdeDrive } from '../hw/ide/ide-drive.ts';
import { BUFFER_SIZE, PiixIdeState } from '../hw/ide/ide-state.ts';
import { PiixIde } from '../hw/ide/piix-ide.ts';
import type { MsiTarget } from '../hw/pci/msi.ts';
import type { PciBus } from '../hw/pci/pci.ts';
import { VirtioBlk } from '../hw/virtio/virtio-blk.ts';
import { VirtioPci } from '../hw/virtio/virtio-pci.ts';
import { VirtioState } from '../hw/virtio/virtio-state.ts';
import type { ClockSystem } from '../timer/clock.ts';
import { Iothread, IothreadTable } from './iothread.ts';
import type { StorageConfig } from './storage-config.ts';

/** Byte offsets. */
export interface StorageLayout {
  readonly iothreads: readonly number[];
  readonly drives: readonly number[];
  readonly throttleGroups: readonly number[];
  readonly virtioBlks: readonly number[];
  readonly ide: number;
  /** Transfer buffer by place; 0: there is no drive. */
  readonly ideBuffers: readonly number[];
}

/** Places for iothreads that are made while the machine runs; with the main loop, all have a timer group. */
const MORE_IOTHREADS = 4;
const MOST_IOTHREADS = 31;

export function storageLayout(config: StorageConfig, place: (size: number) => number): StorageLayout {
  const { length } = config.iothreads;
  const places = Math.max(length, Math.min(length + MORE_IOTHREADS, MOST_IOTHREADS));
  return {
    iothreads: Array.from({ length: places }, () => place(Iothread.size())),
    drives: config.drives.map(() => place(DriveState.size)),
    throttleGroups: config.throttleGroups.map(() => place(ThrottleGroupState.size)),
    virtioBlks: config.virtioBlks.map(() => place(VirtioState.size)),
    ide: place(PiixIdeState.size),
    ideBuffers: config.ide.map((drive) => (drive === null ? 0 : place(BUFFER_SIZE))),
  };
}

export interface StorageDeps {
  readonly clocks: ClockSystem;
  readonly pci: PciBus;
  readonly ram: GuestRam;
  readonly msi: MsiTarget;
  /** IRQ 14 and 15. */
  readonly ideIrqs: readonly IrqLine[];
  /** Where the IDE function is: slot and function. */
  readonly idePlace: readonly [slot: number, func: number];
  /** Has the main loop call `poll`. */
  readonly postPoll: () => void;
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
  readonly table: IothreadTable;
  readonly drives: readonly DriveStateView[];
  readonly throttleGroups: readonly ViewOf<typeof ThrottleGroupState>[];
  readonly virtioDisks: readonly VirtioDisk[];
  readonly ide: PiixIde;

  constructor(config: StorageConfig, layout: StorageLayout, deps: StorageDeps) {
    const { clocks, pci } = deps;
    const { buffer } = clocks;
    this.config = config;
    this.ram = deps.ram;
    this.drives = layout.drives.map((at) => DriveState.at(buffer, at));
    this.throttleGroups = layout.throttleGroups.map((at) => ThrottleGroupState.at(buffer, at));
    const iothreads = layout.iothreads.map((at) => new Iothread(clocks, at));
    this.table = new IothreadTable(
      iothreads,
      this.drives.map(({ home }) => home),
    );
    if (deps.create) {
      for (const iothread of iothreads) iothread.create();
      config.iothreads.forEach((_, i) => (iothreads[i].init().alive = true));
      config.drives.forEach(({ iothread }, i) => this.drives[i].home.store(iothread));
    }
    this.virtioDisks = config.virtioBlks.map(({ drive, slot, modernOnly, options }, i) => {
      const model = new VirtioBlk(this.drives[drive], options);
      const device = new VirtioPci(VirtioState.at(buffer, layout.virtioBlks[i]), model, {
        msi: deps.msi,
        wake: () => this.table.wake(drive),
        postIntx: deps.postPoll,
        modernOnly,
      });
      pci.add(device.pci, slot);
      return { device, model, drive };
    });
    this.ide = new PiixIde(PiixIdeState.at(buffer, layout.ide), {
      irqs: deps.ideIrqs,
      wake: (channel, unit) => {
        const drive = config.ide[channel * 2 + unit]?.drive;
        if (drive !== undefined) this.table.wake(drive);
      },
    });
    pci.add(this.ide.pci, ...deps.idePlace);
    this.ide.channels.forEach((channel, c) => {
      channel.drives = [0, 1].map((unit): IdeDrive | undefined => {
        const drive = config.ide[c * 2 + unit];
        if (drive === null) return undefined;
        const Kind = drive.kind === 'cdrom' ? AtapiCdrom : AtaDisk;
        const state = drive.drive === undefined ? undefined : this.drives[drive.drive];
        const transfer = new Uint8Array(buffer, layout.ideBuffers[c * 2 + unit], BUFFER_SIZE);
        return new Kind(channel.state.drives[unit], drive, state, channel.linkOf(unit), deps.ram, transfer);
      });
    });
  }

  /** Goes on with what iothreads have done, where that needs the BQL. *Thread:* main loop. */
  poll(): void {
    for (const { device } of this.virtioDisks) device.updateIntx();
    for (const channel of this.ide.channels) channel.pollRequests();
  }

  /** *Thread:* with the iothreads quiesced. */
  reset(): void {
    for (const { device } of this.virtioDisks) device.reset();
    this.ide.reset();
  }
}
