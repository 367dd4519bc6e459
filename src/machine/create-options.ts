/** What `Machine.create` takes: everything optional, short forms in the command's syntax. */
import { fileURLToPath } from 'node:url';
import { Argument, OptionError } from '../cli/option-values.ts';
import { parseOptions } from '../cli/options.ts';
import type {
  ActionOptions,
  CharBackend,
  DeviceOptions,
  DriveOptions,
  IcountOptions,
  MachineOptions,
  NodeOptions,
  ObjectOptions,
  RtcBase,
  RtcOptions,
  SmpOptions,
} from './machine-options.ts';

/** A file, or its contents. */
export type FileSource = string | URL | Uint8Array;

/**
 * A host side in the command's short form (`'null'`, `'none'`, `'file:PATH'`), or in full. The bytes go through the
 * machine's stream in any case; `stdio` is for the caller to connect.
 */
export type SerialOption = string | CharBackend | null;

export interface MachineCreateOptions {
  readonly name?: string;
  /** Linux bzImage, ELF with a PVH note, or multiboot kernel. */
  readonly kernel?: FileSource;
  readonly initrd?: FileSource;
  /** Kernel command line. */
  readonly append?: string;
  /** Number of vCPUs, `-smp` syntax, or the parts. Default 1. */
  readonly smp?: number | string | Partial<SmpOptions>;
  /** Guest RAM in bytes, or `-m` syntax (`'512M'`). Default 128 MiB. */
  readonly memory?: number | string;
  /** `-cpu` syntax (`'max,-smap'`), or in full. Default `'qemu64'`. */
  readonly cpu?: string | Partial<MachineOptions['cpu']>;
  /** `-accel` syntax (`'tcg,thread=single'`), or in full. Default: a thread for each vCPU. */
  readonly accel?: string | Partial<MachineOptions['accel']>;
  /**
   * Time by executed instructions: `-icount` syntax (`'shift=0,sleep=off'`), or in full. The vCPUs then take turns on one
   * thread.
   */
  readonly icount?: string | (Partial<IcountOptions> & Pick<IcountOptions, 'shift'>);
  /** What the guest's random numbers follow from, below 2^64; as `-seed`. Default: the host's generator. */
  readonly seed?: number | bigint | string;
  /** `-machine` syntax (`'pc,hpet=off'`), or in full. */
  readonly machine?: string | Partial<MachineOptions['machine']>;
  /** COM1 to COM4; null or `'none'`: not there. Default: COM1 alone. */
  readonly serial?: readonly SerialOption[];
  /** `-device` syntax (`'isa-debug-exit,iobase=0xf4'`), or in full. */
  readonly devices?: readonly (string | DeviceOptions)[];
  /** `-drive` syntax (`'file=disk.qcow2,if=virtio'`); or in full, for `devices` in full. */
  readonly drives?: readonly (string | DriveOptions)[];
  /** `-blockdev` syntax, or its JSON as an object. */
  readonly blockdevs?: readonly (string | NodeOptions)[];
  /** `-object` syntax (`'iothread,id=io0'`), or in full. */
  readonly objects?: readonly (string | ObjectOptions)[];
  /** `-rtc` syntax (`'base=2030-01-01,clock=vm'`), or in full; the base may be a Date. */
  readonly rtc?: string | (Partial<Omit<RtcOptions, 'base'>> & { readonly base?: RtcBase | Date });
  /** What to do when the guest reboots, powers off or panics; as `-action`. */
  readonly actions?: Partial<ActionOptions>;
  readonly bootOrder?: string;
  /** As `-d` and `-D`; without a file, to standard error. */
  readonly log?: MachineOptions['log'];
  /** Do not run the guest until `resume()`. Default false. */
  readonly paused?: boolean;
  /** Ends the machine when it is aborted, during its creation too. */
  readonly signal?: AbortSignal;
  /** Called with each of the machine's `warnings` before a thread of it is started. */
  readonly onWarning?: (warning: string) => void;
}

/** The options in full, and files that were given by their contents. */
export interface ResolvedOptions {
  readonly options: MachineOptions;
  readonly kernel?: Uint8Array;
  readonly initrd?: Uint8Array;
}

/** A value as the command's parser sees it, so that both take and refuse the same. */
function parsed<K extends keyof MachineOptions>(field: K, option: string, text: string): MachineOptions[K] {
  return parseOptions([`-${option}`, text])[field];
}

/** For callers without types: refuses what is neither text nor an object. */
function check(option: string, value: unknown, ...others: readonly string[]): void {
  if (value === undefined || ['string', 'object', ...others].includes(typeof value)) return;
  throw new Argument(option, String(value)).bad('must be text or an object');
}

function path(option: string, source: FileSource | undefined): string | undefined {
  if (source === undefined || typeof source === 'string') return source;
  if (source instanceof Uint8Array) return undefined;
  if (source.protocol !== 'file:') throw new Argument(option, source.href).bad('not a file');
  return fileURLToPath(source);
}

function keyText(parts: object): string {
  return Object.entries(parts)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
}

/** Keys and values of an option whose parts are all words. */
function listText(first: string, parts: Readonly<Record<string, unknown>>): string {
  const words = Object.entries(parts).map(([key, value]) => {
    const text = typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value);
    return `${key}=${text.replaceAll(',', ',,')}`;
  });
  return [first, ...words].join(',');
}

function cpuOf(cpu: MachineCreateOptions['cpu']): MachineOptions['cpu'] {
  if (typeof cpu === 'string') return parsed('cpu', 'cpu', cpu);
  return parsed('cpu', 'cpu', listText(cpu?.model ?? 'qemu64', { ...cpu?.features, ...cpu?.properties }));
}

/** Which accelerator there can be depends on icount. */
function accelOf({ accel, icount, seed }: MachineCreateOptions) {
  const args = ['-accel', typeof accel === 'string' ? accel : listText('tcg', accel ?? {})];
  if (icount !== undefined) {
    const { shift, ...rest } = typeof icount === 'string' ? { shift: undefined } : icount;
    args.push('-icount', typeof icount === 'string' ? icount : listText(String(shift), rest));
  }
  if (seed !== undefined) args.push('-seed', String(seed));
  const options = parseOptions(args);
  return {
    accel: options.accel,
    ...(options.icount === undefined ? {} : { icount: options.icount }),
    ...(options.seed === undefined ? {} : { seed: options.seed }),
  };
}

function machineOf(machine: MachineCreateOptions['machine']): MachineOptions['machine'] {
  if (typeof machine === 'string') return parsed('machine', 'machine', machine);
  const { type = 'pc', ...rest } = machine ?? {};
  return parsed('machine', 'machine', listText(type, rest));
}

function memoryOf(memory: MachineCreateOptions['memory']): number {
  if (memory === undefined) return parseOptions([]).memory;
  return parsed('memory', 'm', typeof memory === 'number' ? `${memory}b` : memory);
}

function rtcOf(rtc: MachineCreateOptions['rtc']): RtcOptions {
  if (typeof rtc === 'string') return parsed('rtc', 'rtc', rtc);
  const { base, ...rest } = rtc ?? {};
  const words = parsed('rtc', 'rtc', listText('utc', rest));
  if (base === undefined) return words;
  if (!(base instanceof Date)) return { ...words, base };
  const seconds = Math.floor(base.getTime() / 1000);
  if (Number.isNaN(seconds)) throw new Argument('rtc', `base=${String(base)}`).bad('not a date');
  return { ...words, base: { type: 'date', seconds } };
}

function serialOf(serial: readonly SerialOption[]): MachineOptions['serial'] {
  if (serial.length > 4)
    throw new OptionError('ERR_OPTION_VALUE', 'serial', undefined, 'a PC has 4 serial ports');
  return serial.map((port) => (typeof port === 'string' ? parsed('serial', 'serial', port)[0] : port));
}

/** Devices and what disks are made of name each other, so what is text is read together. */
function disksOf(create: MachineCreateOptions): Pick<MachineOptions, DiskField> {
  const args: string[] = [];
  const full: { -readonly [K in DiskField]: MachineOptions[K][number][] } = {
    drives: [],
    blockdevs: [],
    objects: [],
    devices: [],
  };
  for (const [field, option] of DISK_FIELDS) {
    for (const entry of create[field] ?? []) {
      if (typeof entry === 'string') args.push(`-${option}`, entry);
      else (full[field] as (typeof entry)[]).push(entry);
    }
  }
  const text = parseOptions(args);
  return {
    drives: [...text.drives, ...full.drives],
    blockdevs: [...text.blockdevs, ...full.blockdevs],
    objects: [...text.objects, ...full.objects],
    devices: [...text.devices, ...full.devices],
  };
}
type DiskField = 'drives' | 'blockdevs' | 'objects' | 'devices';
const DISK_FIELDS = [
  ['objects', 'object'],
  ['blockdevs', 'blockdev'],
  ['drives', 'drive'],
  ['devices', 'device'],
] as const;

/** Fills in what was left out. The options of the command are taken as they are. *Errors:* OptionError. */
export function resolveOptions(create: MachineCreateOptions): ResolvedOptions {
  const { smp = 1, name, append, bootOrder } = create;
  check('smp', create.smp, 'number');
  check('m', create.memory, 'number');
  for (const option of ['kernel', 'initrd', 'append', 'cpu', 'accel', 'machine', 'rtc', 'icount'] as const) {
    check(option, create[option]);
  }
  const kernel = path('kernel', create.kernel);
  const initrd = path('initrd', create.initrd);
  const defaults = parseOptions([]);
  if (create.kernel === undefined) {
    for (const option of ['initrd', 'append'] as const) {
      if (create[option] === undefined) continue;
      throw new OptionError('ERR_OPTION_VALUE', option, undefined, 'only allowed with -kernel');
    }
  }
  const options: MachineOptions = {
    ...(name === undefined ? {} : { name }),
    machine: machineOf(create.machine),
    ...accelOf(create),
    cpu: cpuOf(create.cpu),
    smp: parsed('smp', 'smp', typeof smp === 'object' ? keyText(smp) : String(smp)),
    memory: memoryOf(create.memory),
    ...(kernel === undefined ? {} : { kernel }),
    ...(initrd === undefined ? {} : { initrd }),
    ...(append === undefined ? {} : { append }),
    serial: create.serial === undefined ? defaults.serial : serialOf(create.serial),
    ...disksOf(create),
    rtc: rtcOf(create.rtc),
    actions:
      create.actions === undefined ? defaults.actions : parsed('actions', 'action', keyText(create.actions)),
    ...(bootOrder === undefined ? {} : { bootOrder }),
    log: create.log ?? defaults.log,
  };
  return {
    options,
    ...(create.kernel instanceof Uint8Array ? { kernel: create.kernel } : {}),
    ...(create.initrd instanceof Uint8Array ? { initrd: create.initrd } : {}),
  };
}
