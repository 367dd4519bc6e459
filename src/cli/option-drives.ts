/** `-drive`, `-blockdev`, `-object`, `-hda` … `-cdrom`, `-snapshot`: disks, with QEMU's keys and defaults. */
import { IOTHREAD_POLL_MAX_NS } from '../aio/busy-polling.ts';
import {
  type DriveOptions,
  ERROR_ACTIONS,
  type IdeDevice,
  type NodeOptions,
  type VirtioBlkDevice,
  type ObjectOptions,
} from '../machine/drive-options.ts';
import type { OptionBuilder } from './option-builder.ts';
import type { OptionSpec } from './option-table.ts';
import type { Argument } from './option-values.ts';

/** Where a drive is plugged in without a `-device`. */
export interface DrivePlace {
  readonly argument: Argument;
  readonly interface: 'ide' | 'virtio' | 'none';
  readonly media: 'disk' | 'cdrom';
  readonly bus?: number;
  readonly unit?: number;
  readonly index?: number;
}

const INTERFACES = ['ide', 'virtio', 'none'] as const;
const OTHER_INTERFACES = ['scsi', 'floppy', 'pflash', 'mtd', 'sd', 'xen'];
const THROTTLE_KEY = /^(iops|bps)-(total|read|write)(-max(-length)?)?$|^iops-size$/;
/** QEMU's old names of throttling keys. */
const THROTTLE_ALIASES: Readonly<Record<string, string>> = {
  bps: 'bps-total',
  bps_rd: 'bps-read',
  bps_wr: 'bps-write',
  iops: 'iops-total',
  iops_rd: 'iops-read',
  iops_wr: 'iops-write',
  bps_max: 'bps-total-max',
  bps_rd_max: 'bps-read-max',
  bps_wr_max: 'bps-write-max',
  iops_max: 'iops-total-max',
  iops_rd_max: 'iops-read-max',
  iops_wr_max: 'iops-write-max',
  iops_size: 'iops-size',
};

/** What `cache=` stands for: is there a write cache for the guest, past the host's cache, never flushed. */
const CACHE_MODES: Readonly<Record<string, readonly [boolean, boolean, boolean]>> = {
  none: [true, true, false],
  off: [true, true, false],
  writeback: [true, false, false],
  unsafe: [true, false, true],
  writethrough: [false, false, false],
  directsync: [false, true, false],
};

type Tree = { [key: string]: string | number | boolean | Tree };

/** Puts `a.b.c=value` at its place. */
function plant(tree: Tree, argument: Argument, key: string, value: string | boolean): void {
  const path = key.split('.');
  let at = tree;
  for (const part of path.slice(0, -1)) {
    const next = (at[part] ??= {});
    if (typeof next !== 'object') throw argument.bad(`'${key}' does not go with '${part}=${String(next)}'`);
    at = next;
  }
  const last = path[path.length - 1];
  if (typeof at[last] === 'object')
    throw argument.bad(`'${key}=${String(value)}' does not go with '${key}.…'`);
  at[last] = value;
}

/** Reads the keys of a `-drive`, each once. */
class Keys {
  readonly argument: Argument;
  readonly list: Map<string, string>;

  constructor(argument: Argument, list: Map<string, string>) {
    this.argument = argument;
    this.list = list;
  }
  take(...names: readonly string[]): string | undefined {
    let value: string | undefined;
    for (const name of names) {
      value = this.list.get(name) ?? value;
      this.list.delete(name);
    }
    return value;
  }
  switch(preset: boolean, ...names: readonly string[]): boolean {
    const value = this.take(...names);
    return value === undefined ? preset : this.argument.switch(names[0], value);
  }
  choose<T extends string>(what: string, choices: readonly T[], preset: T): T {
    const value = this.take(what) ?? preset;
    const found = choices.find((choice) => choice === value);
    if (found === undefined) throw this.argument.bad(`${what} must be ${choices.join(', ')}, not '${value}'`);
    return found;
  }
  number(name: string, max: number): number | undefined {
    const value = this.take(name);
    return value === undefined ? undefined : this.argument.integer(name, value, 0, max);
  }
}

function throttlingOf(keys: Keys): DriveOptions['throttling'] {
  const limits: Record<string, number> = {};
  let group: string | undefined;
  for (const [key, value] of [...keys.list]) {
    const name = THROTTLE_ALIASES[key] ?? /^throttling\.(.*)$/.exec(key)?.[1];
    if (name === undefined) continue;
    if (name === 'group') group = value;
    else if (THROTTLE_KEY.test(name)) limits[name] = keys.argument.size(key, value, 1);
    else continue;
    keys.list.delete(key);
  }
  if (Object.keys(limits).length === 0 && group === undefined) return undefined;
  return { ...(group === undefined ? {} : { group }), limits };
}

/** What the user said of a drive, with the place where it goes. */
export interface ParsedDrive {
  readonly place: DrivePlace;
  readonly drive: Omit<DriveOptions, 'id' | 'snapshot'> & {
    readonly id?: string;
    readonly snapshot?: boolean;
  };
}

export function parseDrive(argument: Argument, presets: Readonly<Record<string, string>> = {}): ParsedDrive {
  const list = new Map([...Object.entries(presets), ...argument.list('file')]);
  return driveOf(new Keys(argument, list));
}

function driveOf(keys: Keys): ParsedDrive {
  const { argument } = keys;
  const kind = keys.take('if') ?? 'ide';
  if (OTHER_INTERFACES.includes(kind)) throw argument.unsupported(`if=${kind} is not supported`);
  const found = INTERFACES.find((name) => name === kind);
  if (found === undefined) throw argument.bad(`if must be ${INTERFACES.join(', ')}, not '${kind}'`);
  const media = keys.choose('media', ['disk', 'cdrom'], 'disk');
  const place: DrivePlace = {
    argument,
    interface: found,
    media,
    bus: keys.number('bus', 31),
    unit: keys.number('unit', 31),
    index: keys.number('index', 1023),
  };
  if (place.index !== undefined && (place.bus !== undefined || place.unit !== undefined)) {
    throw argument.bad('index cannot be used with bus and unit');
  }
  const id = keys.take('id');
  if (id === '') throw argument.bad('id is empty');
  const snapshot = keys.take('snapshot');
  const throttling = throttlingOf(keys);
  const werror = keys.choose('werror', ERROR_ACTIONS, 'enospc');
  const rerror = keys.choose('rerror', ['report', 'ignore', 'stop', 'auto'], 'report');
  const readOnly = keys.switch(media === 'cdrom', 'read-only', 'readonly');
  const detectZeroes = keys.choose('detect-zeroes', ['off', 'on', 'unmap'], 'off');
  const cache = cacheOf(keys);
  // of no consequence here: how the host does its I/O
  for (const name of ['aio', 'copy-on-read', 'auto-read-only', 'addr', 'cyls', 'heads', 'secs', 'trans']) {
    const value = keys.take(name);
    if (name === 'copy-on-read' && value !== undefined && argument.switch(name, value)) {
      throw argument.unsupported('copy-on-read=on is not supported');
    }
  }
  const node = nodeOf(keys, cache);
  if (node === undefined && (found !== 'ide' || media !== 'cdrom'))
    throw argument.bad('file=NAME is missing');
  return {
    place,
    drive: {
      ...(id === undefined ? {} : { id }),
      ...(node === undefined ? {} : { node }),
      readOnly,
      ...(snapshot === undefined ? {} : { snapshot: argument.switch('snapshot', snapshot) }),
      writeCache: cache.writeback,
      werror,
      rerror,
      detectZeroes,
      ...(throttling === undefined ? {} : { throttling }),
    },
  };
}

interface Cache {
  writeback: boolean;
  direct: boolean;
  noFlush: boolean;
}

function cacheOf(keys: Keys): Cache {
  const mode = keys.take('cache') ?? 'writeback';
  const preset = Object.hasOwn(CACHE_MODES, mode) ? CACHE_MODES[mode] : undefined;
  if (preset === undefined) {
    throw keys.argument.bad(`cache must be ${Object.keys(CACHE_MODES).join(', ')}, not '${mode}'`);
  }
  return {
    writeback: keys.switch(preset[0], 'cache.writeback'),
    direct: keys.switch(preset[1], 'cache.direct'),
    noFlush: keys.switch(preset[2], 'cache.no-flush'),
  };
}

/** What is left describes the image: the keys of its format and file. */
function nodeOf(keys: Keys, cache: Cache): NodeOptions | undefined {
  const { argument, list } = keys;
  const driver = keys.take('format', 'driver');
  const file = keys.take('file');
  const tree: Tree = {};
  for (const [key, value] of list) plant(tree, argument, key, value);
  if (file !== undefined && file !== '') {
    // the name may have a protocol's prefix, which is for the block layer to judge
    plant(tree, argument, 'file.filename', file);
  }
  if (tree.file === undefined) {
    if (Object.keys(tree).length > 0) throw argument.bad(`'${Object.keys(tree)[0]}' without a file`);
    return undefined;
  }
  if (driver !== undefined) tree.driver = driver;
  tree.cache = { direct: cache.direct, 'no-flush': cache.noFlush };
  return tree;
}

/** `-blockdev`: JSON, or keys with dots. */
function parseBlockdev(argument: Argument): NodeOptions {
  let tree: Tree = {};
  if (argument.text.startsWith('{')) {
    try {
      tree = JSON.parse(argument.text) as Tree;
    } catch (error) {
      throw argument.bad(`not JSON (${(error as Error).message})`);
    }
  } else {
    for (const [key, value] of argument.list('driver')) plant(tree, argument, key, value);
  }
  if (typeof tree.driver !== 'string') throw argument.bad('driver=NAME is missing');
  if (typeof tree['node-name'] !== 'string') throw argument.bad('node-name=NAME is missing');
  return tree;
}

function applyObject(builder: OptionBuilder, argument: Argument): void {
  const list = argument.list('qom-type');
  const type = list.get('qom-type') ?? '';
  const parse = Object.hasOwn(OBJECTS, type) ? OBJECTS[type] : undefined;
  if (parse === undefined) {
    throw argument.unsupported(
      `object '${type}' does not exist here, only ${Object.keys(OBJECTS).join(', ')}`,
    );
  }
  const id = list.get('id') ?? '';
  if (id === '') throw argument.bad('id=NAME is missing');
  if (builder.objects.some((object) => object.id === id)) throw argument.bad(`id '${id}' is used twice`);
  builder.objects.push(parse(argument, list, id));
}

const OBJECTS: Readonly<
  Record<string, (argument: Argument, list: ReadonlyMap<string, string>, id: string) => ObjectOptions>
> = { iothread: iothreadOf, 'throttle-group': throttleGroupOf };

function iothreadOf(argument: Argument, list: ReadonlyMap<string, string>, id: string): ObjectOptions {
  argument.refuseOthers(list, [
    'qom-type',
    'id',
    'poll-max-ns',
    'poll-grow',
    'poll-shrink',
    'aio-max-batch',
    'thread-pool-min',
    'thread-pool-max',
  ]);
  const polls = ['poll-max-ns', 'poll-grow', 'poll-shrink'].map((key) => {
    const value = list.get(key);
    return value === undefined ? undefined : argument.integer(key, value, 0, Number.MAX_SAFE_INTEGER);
  });
  if (polls.every((value) => value === undefined)) return { type: 'iothread', id };
  const [maxNs = IOTHREAD_POLL_MAX_NS, grow = 0, shrink = 0] = polls;
  return { type: 'iothread', id, polling: { maxNs, grow, shrink } };
}

/** `limits.iops-total=`, or with QEMU's older prefix `x-`. */
function throttleGroupOf(argument: Argument, list: ReadonlyMap<string, string>, id: string): ObjectOptions {
  const limits: Record<string, number> = {};
  const others = new Map(list);
  for (const [key, value] of list) {
    const name = /^(?:limits\.|x-)(.*)$/.exec(key)?.[1];
    if (name === undefined || !THROTTLE_KEY.test(name)) continue;
    limits[name] = argument.size(key, value, 1);
    others.delete(key);
  }
  argument.refuseOthers(others, ['qom-type', 'id']);
  return { type: 'throttle-group', id, limits };
}

/** A value that names a file for -hda and its like: commas are part of it. */
function fixedDrive(name: string, index: number, media: 'disk' | 'cdrom'): OptionSpec {
  return {
    name,
    argument: 'FILE',
    help: media === 'cdrom' ? 'CD-ROM image: the master of the second IDE channel' : `IDE disk ${index}`,
    apply: (builder, argument) => {
      if (argument.text === '') throw argument.bad('the file name is empty');
      const keys = new Map([
        ['file', argument.text],
        ['if', 'ide'],
        ['index', String(index)],
        ['media', media],
      ]);
      builder.drives.push(driveOf(new Keys(argument, keys)));
    },
  };
}

export const DRIVE_OPTIONS: readonly OptionSpec[] = [
  {
    name: 'drive',
    argument: '[file=]FILE[,if=virtio|ide|none][,format=raw|qcow2][,id=NAME][,media=disk|cdrom]…',
    help:
      'a drive; cache=, readonly=, snapshot=, discard=, detect-zeroes=, werror=, rerror=,\n' +
      'throttling.*=, index=, bus=, unit= and the keys of formats as in QEMU',
    apply: (builder, argument) => {
      builder.drives.push(parseDrive(argument));
    },
  },
  {
    name: 'blockdev',
    argument: '[driver=]DRIVER,node-name=NAME[,file=NODE|,file.filename=FILE]…',
    help: 'a block node, as JSON or with dotted keys, for -device drive=NAME',
    apply: (builder, argument) => {
      builder.blockdevs.push({ argument, node: parseBlockdev(argument) });
    },
  },
  {
    name: 'object',
    argument: 'iothread|throttle-group,id=NAME…',
    help:
      'iothread: a thread for disks, for -device iothread=NAME; throttle-group,limits.iops-total=N…:\n' +
      'I/O limits, for -drive throttling.group=NAME and -blockdev throttle,throttle-group=NAME',
    apply: applyObject,
  },
  fixedDrive('hda', 0, 'disk'),
  fixedDrive('hdb', 1, 'disk'),
  fixedDrive('hdc', 2, 'disk'),
  fixedDrive('hdd', 3, 'disk'),
  fixedDrive('cdrom', 2, 'cdrom'),
  {
    name: 'snapshot',
    help: 'drives keep what is written in temporary files',
    apply: (builder) => {
      builder.snapshot = true;
    },
  },
];

// --- devices ---

const VIRTIO_BLK_KEYS = [
  'driver',
  'id',
  'drive',
  'iothread',
  'num-queues',
  'queue-size',
  'serial',
  'bootindex',
  'disable-legacy',
  'disable-modern',
  'discard',
  'write-zeroes',
  'config-wce',
  'write-cache',
  'scsi',
  'addr',
  'bus',
  'vectors',
  'ioeventfd',
  'share-rw',
  'logical_block_size',
  'physical_block_size',
];
const IDE_KEYS = [
  'driver',
  'id',
  'drive',
  'bus',
  'unit',
  'serial',
  'model',
  'bootindex',
  'ver',
  'write-cache',
  'share-rw',
];
const MAX_QUEUES = 64;
const MAX_SERIAL_LENGTH = 20;

export function parseVirtioBlk(argument: Argument, list: Map<string, string>): VirtioBlkDevice {
  argument.refuseOthers(list, VIRTIO_BLK_KEYS);
  const drive = list.get('drive') ?? '';
  if (drive === '') throw argument.bad('drive=NAME is missing');
  const serial = list.get('serial') ?? '';
  const queues = list.get('num-queues');
  const size = argument.integer('queue-size', list.get('queue-size') ?? '256', 4, 1024);
  if ((size & (size - 1)) !== 0) throw argument.bad('queue-size must be a power of two');
  const legacy = list.get('disable-legacy') ?? 'auto';
  const on = (key: string, preset: boolean): boolean =>
    argument.switch(key, list.get(key) ?? (preset ? 'on' : 'off'));
  if (on('scsi', false)) throw argument.unsupported('scsi=on is not supported');
  if (on('disable-modern', false)) throw argument.unsupported('disable-modern=on is not supported');
  for (const key of ['logical_block_size', 'physical_block_size']) {
    if ((list.get(key) ?? '512') !== '512')
      throw argument.unsupported(`${key} other than 512 is not supported`);
  }
  return {
    driver: 'virtio-blk-pci',
    ...optional('id', list.get('id')),
    drive,
    ...optional('iothread', list.get('iothread')),
    ...optional(
      'numQueues',
      queues === undefined ? undefined : argument.integer('num-queues', queues, 1, MAX_QUEUES),
    ),
    queueSize: size,
    serial: serial.slice(0, MAX_SERIAL_LENGTH),
    ...bootIndex(argument, list),
    disableLegacy: legacy === 'auto' ? false : argument.switch('disable-legacy', legacy),
    discard: on('discard', true),
    writeZeroes: on('write-zeroes', true),
    configWce: on('config-wce', true),
    ...optional('addr', slotOf(argument, list.get('addr'))),
  };
}

export function parseIde(
  argument: Argument,
  list: Map<string, string>,
): Omit<IdeDevice, 'bus' | 'unit'> & {
  bus?: 0 | 1;
  unit?: 0 | 1;
} {
  argument.refuseOthers(list, IDE_KEYS);
  const driver = list.get('driver') === 'ide-cd' ? 'ide-cd' : 'ide-hd';
  const drive = list.get('drive');
  if (drive === undefined && driver === 'ide-hd') throw argument.bad('drive=NAME is missing');
  const bus = list.get('bus');
  const match = bus === undefined ? undefined : /^ide\.([01])$/.exec(bus);
  if (match === null) throw argument.bad(`bus must be ide.0 or ide.1, not '${bus}'`);
  const unit = list.get('unit');
  const bit = (value: number): 0 | 1 => (value === 0 ? 0 : 1);
  return {
    driver,
    ...optional('id', list.get('id')),
    ...optional('drive', drive),
    ...optional('bus', match === undefined ? undefined : bit(Number(match[1]))),
    ...optional('unit', unit === undefined ? undefined : bit(argument.integer('unit', unit, 0, 1))),
    ...optional('serial', list.get('serial')?.slice(0, MAX_SERIAL_LENGTH)),
    ...optional('model', list.get('model')?.slice(0, 40)),
    ...bootIndex(argument, list),
  };
}

function optional<K extends string, T>(key: K, value: T | undefined): { [P in K]?: T } {
  return (value === undefined ? {} : { [key]: value }) as { [P in K]?: T };
}

function bootIndex(argument: Argument, list: Map<string, string>): { bootindex?: number } {
  const value = list.get('bootindex');
  return value === undefined ? {} : { bootindex: argument.integer('bootindex', value, 0, 2 ** 31 - 1) };
}

/** `addr=5` or `addr=5.0`, as QEMU hexadecimal. */
function slotOf(argument: Argument, value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const match = /^(?:0x)?([0-9a-f]{1,2})(?:\.0)?$/i.exec(value);
  const slot = match === null ? 32 : parseInt(match[1], 16);
  if (slot < 2 || slot > 31) throw argument.bad(`addr must be a PCI slot from 2 to 1f, not '${value}'`);
  return slot;
}
