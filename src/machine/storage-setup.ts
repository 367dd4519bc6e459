/** From the options of a machine to its storage: which drive lives in which iothread, and what can be wrong with that. */
import { IOTHREAD_POLL_MAX_NS, type PollParameters } from '../aio/busy-polling.ts';
import { BlockError } from '../block/errors.ts';
import type { BlockNode } from '../block/node.ts';
import { checkThrottleLimits, MAX_HOMES } from '../block/throttle.ts';
import { Argument } from '../cli/option-values.ts';
import { MAX_QUEUES } from '../hw/virtio/virtio-state.ts';
import { openForCheck } from './drive.ts';
import type {
  DiskDevice,
  DriveOptions,
  IdeDevice,
  MachineOptions,
  VirtioBlkDevice,
} from './machine-options.ts';
import type { DriveConfig, IdeConfig, StorageConfig, ThrottleGroupConfig } from './storage-config.ts';

export const DEFAULT_POLLING: PollParameters = { maxNs: IOTHREAD_POLL_MAX_NS };

/**
 * Drives of devices without `iothread=` share one iothread of their own, so that neither a vCPU nor the main loop ever
 * waits for a disk. *Errors:* OptionError.
 */
export function storageConfigOf(options: MachineOptions): StorageConfig {
  const { devices, objects, smp } = options;
  const iothreads = objects.filter((object) => object.type === 'iothread');
  const drives = withImage(options);
  const disks = devices.filter((device): device is DiskDevice => 'drive' in device);
  const names = iothreads.map(({ id }) => id);
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
    throttleGroups: throttleGroups(options, drives),
    iothreads: [
      ...iothreads.map(({ polling }) => ({ polling: polling ?? DEFAULT_POLLING })),
      ...(shared ? [{ polling: DEFAULT_POLLING }] : []),
    ],
    drives: configs,
    blockdevs: options.blockdevs,
    ide: [0, 1, 2, 3].map((place) => ideConfig(options, place)),
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

/**
 * Groups by name: those of `-object`, then those that drives make. A drive without a group's name has one of its own.
 * Limits that come last count.
 */
function throttleGroups({ objects }: MachineOptions, drives: readonly DriveOptions[]): ThrottleGroupConfig[] {
  const groups = new Map<string, ThrottleGroupConfig['limits']>();
  for (const object of objects) if (object.type === 'throttle-group') groups.set(object.id, object.limits);
  for (const { id, throttling } of drives) {
    if (throttling === undefined) continue;
    const { group = id, limits } = throttling;
    if (!groups.has(group) || Object.keys(limits).length > 0) groups.set(group, limits);
  }
  return [...groups].map(([name, limits]) => ({ name, limits }));
}

/**
 * Opens and closes every image, so that what is wrong with one is found before anything starts. Returns warnings.
 * *Thread:* host. *Errors:* OptionError.
 */
export async function checkStorage(storage: StorageConfig): Promise<string[]> {
  const warnings: string[] = [];
  const groups = storage.throttleGroups.map(({ name }) => name);
  // all of them at once: two drives may not write the same image
  const roots: BlockNode[] = [];
  try {
    for (const { options } of storage.drives) {
      try {
        roots.push(await openForCheck(options, storage.blockdevs, groups, (text) => warnings.push(text)));
      } catch (error) {
        if (!(error instanceof BlockError)) throw error;
        const { option, text } = options.given ?? { option: 'drive', text: `id=${options.id}` };
        throw new Argument(option, text).bad(error.message.replaceAll('\n', ': '));
      }
    }
    checkThrottleGroups(storage);
  } finally {
    for (const root of roots) await root.close();
  }
  return warnings;
}

/** *Errors:* OptionError. */
function checkThrottleGroups({ iothreads, throttleGroups: groups }: StorageConfig): void {
  if (groups.length > 0 && iothreads.length > MAX_HOMES) {
    throw new Argument('object', 'throttle-group').bad(`at most ${MAX_HOMES} iothreads with I/O limits`);
  }
  for (const { name, limits } of groups) {
    try {
      checkThrottleLimits(limits);
    } catch (error) {
      if (!(error instanceof BlockError)) throw error;
      throw new Argument('object', `throttle-group,id=${name}`).bad(error.message);
    }
  }
}

function ideConfig(options: MachineOptions, place: number): IdeConfig | null {
  const found = options.devices.filter((device): device is IdeDevice => {
    return (
      (device.driver === 'ide-hd' || device.driver === 'ide-cd') && device.bus * 2 + device.unit === place
    );
  });
  if (found.length > 1) throw new Argument('device', found[1].driver).bad(`IDE place ${place} is taken`);
  if (found.length === 0) return null;
  const [{ driver, drive, serial, model }] = found;
  const cdrom = driver === 'ide-cd';
  const image = options.drives.find(({ id }) => id === drive);
  if (!cdrom && image?.readOnly === true) {
    // ATA has no way to say so
    const { option, text } = image.given ?? { option: 'drive', text: `id=${image.id}` };
    throw new Argument(option, text).bad('Block node is read-only');
  }
  return {
    kind: cdrom ? 'cdrom' : 'disk',
    ...(drive === undefined ? {} : { drive: driveIndex(options, drive) }),
    // QEMU's names
    serial: serial ?? `QM${String(place + 1).padStart(5, '0')}`,
    model: model ?? (cdrom ? 'QEMU DVD-ROM' : 'QEMU HARDDISK'),
  };
}

/** A drive without an image, of a CD-ROM, has nothing to do for an iothread. */
function withImage({ drives }: MachineOptions): readonly DriveOptions[] {
  return drives.filter(({ node }) => node !== undefined);
}

function driveIndex(options: MachineOptions, id: string): number {
  const index = withImage(options).findIndex((drive) => drive.id === id);
  if (index < 0) throw new Argument('device', `drive=${id}`).bad('there is no such drive');
  return index;
}
