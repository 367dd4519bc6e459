/** Puts drives and disk devices together: places, ids, who uses which drive. As QEMU's pc does it. */
import type { DiskDevice, DriveOptions, IdeDevice, NodeOptions } from '../machine/drive-options.ts';
import type { DrivePlace, ParsedDrive } from './option-drives.ts';
import { Argument, type OptionError } from './option-values.ts';

/** A disk device before it has its place. */
export type PendingDisk =
  | Exclude<DiskDevice, IdeDevice>
  | (Omit<IdeDevice, 'bus' | 'unit'> & Partial<Pick<IdeDevice, 'bus' | 'unit'>>);

export interface DiskParts {
  readonly drives: readonly ParsedDrive[];
  readonly blockdevs: readonly { readonly argument: Argument; readonly node: NodeOptions }[];
  readonly devices: readonly { readonly argument: Argument; readonly device: PendingDisk }[];
  readonly iothreads: readonly string[];
  readonly snapshot: boolean;
}

export interface Disks {
  readonly drives: readonly DriveOptions[];
  readonly blockdevs: readonly NodeOptions[];
  readonly devices: readonly DiskDevice[];
}

const IDE_PLACES = 4;
const FIRST_SLOT = 2;
const SLOTS = 32;

/** *Errors:* OptionError. */
export function assembleDisks(parts: DiskParts): Disks {
  return new Assembly(parts).disks();
}

class Assembly {
  readonly #parts: DiskParts;
  readonly #drives: DriveOptions[] = [];
  /** Ids and node names, with the argument that made them. */
  readonly #names = new Map<string, 'drive' | 'automatic' | 'node'>();
  readonly #used = new Set<string>();
  readonly #ide: (IdeDevice | undefined)[] = new Array<IdeDevice | undefined>(IDE_PLACES).fill(undefined);
  readonly #counts: Record<string, number> = {};

  constructor(parts: DiskParts) {
    this.#parts = parts;
  }

  disks(): Disks {
    const { parts } = { parts: this.#parts };
    for (const { argument, node } of parts.blockdevs)
      this.#claim(argument, String(node['node-name']), 'node');
    const implied: DiskDevice[] = [];
    for (const parsed of parts.drives) {
      const device = this.#drive(parsed);
      if (device?.driver === 'virtio-blk-pci') implied.push(device);
    }
    const explicit = parts.devices.map(({ argument, device }) => this.#device(argument, device));
    const virtio = this.#withSlots([...explicit.filter((d) => d.driver === 'virtio-blk-pci'), ...implied]);
    const ide = this.#ide.filter((device) => device !== undefined);
    return {
      drives: this.#drives,
      blockdevs: parts.blockdevs.map(({ node }) => node),
      devices: [...virtio, ...ide],
    };
  }

  #claim(argument: Argument, name: string, kind: 'drive' | 'automatic' | 'node'): void {
    if (this.#names.has(name)) throw argument.bad(`id '${name}' is used twice`);
    this.#names.set(name, kind);
  }

  /** Adds a drive; gives the device that its interface implies. */
  #drive({ place, drive }: ParsedDrive): DiskDevice | undefined {
    const { argument } = place;
    const spot = place.interface === 'ide' ? this.#idePlace(place) : undefined;
    const count = (this.#counts[place.interface] = (this.#counts[place.interface] ?? -1) + 1);
    const id =
      drive.id ??
      (spot === undefined
        ? `${place.interface}${count}`
        : `ide${spot >> 1}-${place.media === 'cdrom' ? 'cd' : 'hd'}${spot & 1}`);
    this.#claim(argument, id, place.interface === 'none' ? 'drive' : 'automatic');
    const snapshot = (drive.snapshot ?? this.#parts.snapshot) && !drive.readOnly;
    this.#drives.push({ ...drive, id, given: { option: argument.option, text: argument.text }, snapshot });
    if (spot !== undefined) {
      const driver = place.media === 'cdrom' ? 'ide-cd' : 'ide-hd';
      this.#ide[spot] = {
        driver,
        ...(drive.node === undefined ? {} : { drive: id }),
        bus: spot < 2 ? 0 : 1,
        unit: spot % 2 === 0 ? 0 : 1,
      };
      return this.#ide[spot];
    }
    if (place.interface !== 'virtio') return undefined;
    return {
      driver: 'virtio-blk-pci',
      drive: id,
      queueSize: 256,
      serial: '',
      disableLegacy: false,
      discard: true,
      writeZeroes: true,
      configWce: true,
    };
  }

  #idePlace({ argument, index, bus, unit }: DrivePlace): number {
    const wanted = index ?? (unit === undefined ? undefined : (bus ?? 0) * 2 + unit);
    if ((unit ?? 0) > 1) throw argument.bad(`unit ${unit} too big (max is 1)`);
    if (wanted !== undefined) {
      if (wanted >= IDE_PLACES) throw argument.bad('an IDE drive has index 0 to 3');
      if (this.#ide[wanted] !== undefined) {
        throw argument.bad(`drive with bus=${wanted >> 1}, unit=${wanted & 1} (index=${wanted}) exists`);
      }
      return wanted;
    }
    return this.#freeIde(argument, (bus ?? 0) * 2);
  }

  #freeIde(argument: Argument, from: number): number {
    const free = this.#ide.findIndex((device, i) => i >= from && device === undefined);
    if (free < 0) throw argument.bad('all places of the IDE channels are taken');
    return free;
  }

  #device(argument: Argument, device: PendingDisk): DiskDevice {
    if (device.drive !== undefined) this.#use(argument, device.drive, device.driver === 'ide-cd');
    if (device.driver === 'virtio-blk-pci') {
      const { iothread } = device;
      if (iothread !== undefined && !this.#parts.iothreads.includes(iothread)) {
        throw argument.bad(`no -object iothread has id '${iothread}'`);
      }
      return device;
    }
    const { bus, unit } = device;
    const spot = unit === undefined ? this.#freeIde(argument, (bus ?? 0) * 2) : (bus ?? 0) * 2 + unit;
    if (this.#ide[spot] !== undefined || (bus !== undefined && spot >> 1 !== bus)) {
      throw argument.bad(`place ${spot & 1} of IDE channel ${bus ?? spot >> 1} is taken`);
    }
    const placed: IdeDevice = { ...device, bus: spot < 2 ? 0 : 1, unit: spot % 2 === 0 ? 0 : 1 };
    this.#ide[spot] = placed;
    return placed;
  }

  /** A device takes a drive, or a node that becomes one. */
  #use(argument: Argument, name: string, cdrom: boolean): void {
    const kind = this.#names.get(name);
    if (kind === undefined)
      throw argument.bad(`no -drive has id '${name}', and no -blockdev has it as node-name`);
    if (kind === 'automatic') {
      throw argument.bad(`drive '${name}' is connected to a device already (does its -drive need if=none?)`);
    }
    if (this.#used.has(name)) throw argument.bad(`drive '${name}' is used by another device`);
    this.#used.add(name);
    if (kind !== 'node') return;
    const blockdev = this.#parts.blockdevs.find((b) => b.node['node-name'] === name);
    const node = blockdev?.node;
    const given = blockdev?.argument;
    const readOnly = cdrom || node?.['read-only'] === true || node?.['read-only'] === 'on';
    this.#drives.push({
      id: name,
      ...(given === undefined ? {} : { given: { option: given.option, text: given.text } }),
      node: name,
      readOnly,
      snapshot: false,
      writeCache: true,
      werror: 'enospc',
      rerror: 'report',
      detectZeroes: 'off',
    });
  }

  /** Gives every virtio device a PCI slot: the one asked for, or the first that is free. */
  #withSlots(devices: readonly DiskDevice[]): DiskDevice[] {
    const taken = new Set<number>();
    for (const device of devices) {
      if (device.driver !== 'virtio-blk-pci' || device.addr === undefined) continue;
      if (taken.has(device.addr)) throw slotError(`PCI slot ${device.addr} is taken`);
      taken.add(device.addr);
    }
    return devices.map((device) => {
      if (device.driver !== 'virtio-blk-pci' || device.addr !== undefined) return device;
      let addr = FIRST_SLOT;
      while (taken.has(addr)) addr++;
      if (addr >= SLOTS) throw slotError('no PCI slot is free');
      taken.add(addr);
      return { ...device, addr };
    });
  }
}

function slotError(reason: string): OptionError {
  return new Argument('device', 'virtio-blk-pci').bad(reason);
}
