/** Collects options in the order given and makes the machine's options of them. */
import {
  type ActionOptions,
  type CharBackend,
  type CpuModel,
  DEFAULT_MEMORY,
  type DeviceOptions,
  type IcountOptions,
  type LogItem,
  type LogRange,
  type MachineOptions,
  MAX_CPUS,
  MAX_SERIAL,
  type RtcOptions,
  type SmpOptions,
} from '../machine/machine-options.ts';
import type { DiskDevice, NodeOptions, ObjectOptions } from '../machine/drive-options.ts';
import { assembleDisks, type PendingDisk } from './option-disks.ts';
import type { ParsedDrive } from './option-drives.ts';
import { Argument, OptionError } from './option-values.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** A device whose backend may be named before its -chardev is seen. */
export type BackendReference =
  { readonly backend: CharBackend | null } | { readonly chardev: string; readonly argument: Argument };

type PendingDevice =
  | { driver: 'disk'; argument: Argument; device: PendingDisk }
  | Extract<DeviceOptions, { driver: 'isa-debug-exit' | 'pvpanic' }>
  | { driver: 'isa-debugcon'; iobase: number; readback: number; reference: BackendReference };

export const SMP_KEYS = ['cpus', 'sockets', 'dies', 'clusters', 'cores', 'threads', 'maxcpus'] as const;
export type SmpKey = (typeof SMP_KEYS)[number];

/** State while options are read. Its members are what the option table's handlers set. */
export class OptionBuilder {
  name: string | undefined;
  hpet = true;
  acpi = true;
  /** Accelerators in the order given; the first that exists is taken. */
  readonly accels: {
    argument: Argument;
    name: string;
    thread?: 'multi' | 'single' | undefined;
    jit?: boolean | undefined;
    size?: number | undefined;
  }[] = [];
  cpu: { model: CpuModel; features: Record<string, boolean>; properties?: Record<string, string> } = {
    model: 'qemu64',
    features: {},
  };
  readonly smp: Partial<Record<SmpKey, number>> = {};
  smpArgument: Argument | undefined;
  icount: IcountOptions | undefined;
  seed: string | undefined;
  memory = DEFAULT_MEMORY;
  kernel: string | undefined;
  initrd: string | undefined;
  append: string | undefined;
  noGraphic = false;
  noDefaults = false;
  readonly serial: BackendReference[] = [];
  readonly devices: PendingDevice[] = [];
  readonly drives: ParsedDrive[] = [];
  readonly blockdevs: { argument: Argument; node: NodeOptions }[] = [];
  readonly objects: ObjectOptions[] = [];
  snapshot = false;
  readonly chardevs = new Map<string, CharBackend>();
  rtc: RtcOptions = { base: { type: 'utc' }, clock: 'host', driftfix: 'none' };
  readonly actions: Mutable<ActionOptions> = { reboot: 'reset', shutdown: 'poweroff', panic: 'shutdown' };
  bootOrder: string | undefined;
  logItems: LogItem[] = [];
  logFile: string | undefined;
  logFilter: LogRange[] = [];

  /** Throws OptionError when options contradict each other. */
  finish(): MachineOptions {
    const accel = this.#accel();
    const serial = this.#serial();
    const disks = assembleDisks({
      drives: this.drives,
      blockdevs: this.blockdevs,
      devices: this.devices.flatMap((device) => (device.driver === 'disk' ? [device] : [])),
      iothreads: this.objects.filter(({ type }) => type === 'iothread').map(({ id }) => id),
      snapshot: this.snapshot,
    });
    const others = this.devices.flatMap((device) => (device.driver === 'disk' ? [] : [device]));
    const devices = others.map((device): Exclude<DeviceOptions, DiskDevice> => {
      if (device.driver !== 'isa-debugcon') return device;
      const { driver, iobase, readback, reference } = device;
      return { driver, iobase, readback, backend: this.#resolve(reference) ?? { type: 'null' } };
    });
    const backends = [...serial, ...devices.map((device) => ('backend' in device ? device.backend : null))];
    // One -chardev may not serve two devices either, but only the terminal cannot be opened twice.
    if (backends.filter((backend) => backend?.type === 'stdio').length > 1) {
      throw new OptionError('ERR_OPTION_VALUE', 'serial', 'stdio', 'stdio can serve one device only');
    }
    for (const [option, value] of Object.entries({ initrd: this.initrd, append: this.append })) {
      if (value !== undefined && this.kernel === undefined) {
        throw new OptionError('ERR_OPTION_VALUE', option, value, 'only allowed with -kernel');
      }
    }
    return {
      ...(this.name === undefined ? {} : { name: this.name }),
      machine: { type: 'pc', hpet: this.hpet, acpi: this.acpi },
      accel,
      ...(this.icount === undefined ? {} : { icount: this.icount }),
      ...(this.seed === undefined ? {} : { seed: this.seed }),
      cpu: this.cpu,
      smp: this.#smp(),
      memory: this.memory,
      ...(this.kernel === undefined ? {} : { kernel: this.kernel }),
      ...(this.initrd === undefined ? {} : { initrd: this.initrd }),
      ...(this.append === undefined ? {} : { append: this.append }),
      serial,
      objects: this.objects,
      blockdevs: disks.blockdevs,
      drives: disks.drives,
      devices: [...devices, ...disks.devices],
      rtc: this.rtc,
      actions: { ...this.actions },
      ...(this.bootOrder === undefined ? {} : { bootOrder: this.bootOrder }),
      log: {
        items: this.logItems,
        ...(this.logFilter.length === 0 ? {} : { filter: this.logFilter }),
        ...(this.logFile === undefined ? {} : { file: this.logFile }),
      },
    };
  }

  #accel(): MachineOptions['accel'] {
    const { icount } = this;
    const thread = icount === undefined ? 'multi' : 'single';
    // regions do not count instructions
    const jit = icount === undefined;
    if (this.accels.length === 0) return { thread, jit };
    const found = this.accels.find(({ name }) => name === 'tcg');
    if (found === undefined) {
      const { argument, name } = this.accels[0];
      throw argument.unsupported(`accelerator '${name}' does not exist here, only tcg`);
    }
    if (icount !== undefined) {
      if (found.thread === 'multi') throw found.argument.bad('icount needs thread=single');
      if (found.jit === true) throw found.argument.bad('icount and jit=on are incompatible');
    }
    return {
      thread: found.thread ?? thread,
      jit: found.jit ?? jit,
      ...(found.size === undefined ? {} : { 'tb-size': found.size }),
    };
  }

  #serial(): (CharBackend | null)[] {
    if (this.serial.length === 0) {
      if (this.noDefaults) return [];
      return [this.noGraphic ? { type: 'stdio', mux: true, signal: false } : { type: 'null' }];
    }
    const ports = this.serial.map((reference) => this.#resolve(reference));
    if (ports.length > MAX_SERIAL) {
      throw new OptionError('ERR_OPTION_VALUE', 'serial', undefined, `a PC has ${MAX_SERIAL} serial ports`);
    }
    return ports;
  }

  #resolve(reference: BackendReference): CharBackend | null {
    if (!('chardev' in reference)) return reference.backend;
    const backend = this.chardevs.get(reference.chardev);
    if (backend === undefined) throw reference.argument.bad(`no -chardev has id '${reference.chardev}'`);
    return backend;
  }

  /** Fills in what was not given, preferring cores over sockets over threads, as QEMU's pc does since 6.2. */
  #smp(): SmpOptions {
    const argument = this.smpArgument ?? new Argument('smp', '1');
    const given = this.smp;
    let { sockets = 0, cores = 0, threads = 0, maxcpus = 0, cpus = 0 } = given;
    if (cpus === 0 && maxcpus === 0) {
      sockets ||= 1;
      cores ||= 1;
      threads ||= 1;
    } else {
      maxcpus ||= cpus;
      if (cores === 0) {
        sockets ||= 1;
        threads ||= 1;
        cores = Math.floor(maxcpus / (sockets * threads));
      } else if (sockets === 0) {
        threads ||= 1;
        sockets = Math.floor(maxcpus / (cores * threads));
      }
      if (threads === 0) threads = Math.floor(maxcpus / (sockets * cores));
    }
    const total = sockets * cores * threads;
    maxcpus ||= total;
    cpus ||= maxcpus;
    if (total !== maxcpus) {
      throw argument.bad(
        `sockets (${sockets}) * cores (${cores}) * threads (${threads}) must be maxcpus (${maxcpus})`,
      );
    }
    if (maxcpus < cpus) throw argument.bad(`maxcpus (${maxcpus}) must not be less than cpus (${cpus})`);
    if (maxcpus > MAX_CPUS) throw argument.bad(`at most ${MAX_CPUS} CPUs`);
    return { cpus, sockets, cores, threads, maxcpus };
  }
}
