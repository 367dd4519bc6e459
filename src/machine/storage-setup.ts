/** From the options of a machine to its storage: which drive lives in which iothread, and what can be wrong with that. */
import { Argument } from '../cli/option-values.ts';
import { MAX_QUEUES } from '../hw/virtio/virtio-state.ts';
import type { DiskDevice, MachineOptions, VirtioBlkDevice } from './machine-options.ts';
import type { DriveConfig, StorageConfig } from './storage-config.ts';

/**
 * Drives of devices without `iothread=` share one iothread of their own, so that neither a vCPU nor the main loop ever
 * waits for a disk. *Errors:* OptionError.
 */
export function storageConfigOf(options: MachineOptions): StorageConfig {
  const { drives, devices, objects, smp } = options;
  const disks = devices.filter((device): device is DiskDevice => 'drive' in device);
  const ide = disks.find(({ driver }) => driver !== 'virtio-blk-pci');
  if (ide !== undefined)
    throw new Argument('device', ide.driver).unsupported('there is no IDE yet: use if=virtio');
  const names = objects.map(({ id }) => id);
  const homes = drives.map(({ id }) => {
    const user = disks.find(({ drive }) => drive === id);
    const name = user?.driver === 'virtio-blk-pci' ? user.iothread : undefined;
    return name === undefined ? -1 : names.indexOf(name);
  });
  const shared = homes.includes(-1);
  const configs = drives.map((drive, i): DriveConfig => {
    return { options: drive, iothread: homes[i] < 0 ? names.length : homes[i] };
  });
  const virtio = disks.filter((device): device is VirtioBlkDevice => device.driver === 'virtio-blk-pci');
  return {
    iothreads: names.length + (shared ? 1 : 0),
    drives: configs,
    blockdevs: options.blockdevs,
    virtioBlks: virtio.map((device) => ({
      drive: driveIndex(options, device.drive),
      slot: device.addr ?? 0,
      modernOnly: device.disableLegacy,
      options: {
        queues: device.numQueues ?? Math.min(smp.cpus, MAX_QUEUES),
        queueSize: device.queueSize,
        serial: device.serial,
        discard: device.discard,
        writeZeroes: device.writeZeroes,
        configWce: device.configWce,
      },
    })),
  };
}

function driveIndex({ drives }: MachineOptions, id: string): number {
  const index = drives.findIndex((drive) => drive.id === id);
  if (index < 0) throw new Argument('device', `virtio-blk-pci,drive=${id}`).bad('there is no such drive');
  return index;
}
