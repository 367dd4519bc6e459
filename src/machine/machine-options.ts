/** What a machine is made of, complete and checked, as plain data: what the command line comes to. */
import type { DiskDevice, DriveOptions, NodeOptions, ObjectOptions } from './drive-options.ts';
import type { IcountOptions } from '../timer/icount.ts';
import type { LogItem, LogRange } from './log.ts';

export type * from './drive-options.ts';
export type { IcountOptions } from '../timer/icount.ts';
export type { LogItem, LogRange } from './log.ts';

/** vCPUs and how CPUID presents them: sockets x cores x threads == maxcpus. */
export interface SmpOptions {
  readonly cpus: number;
  readonly sockets: number;
  readonly cores: number;
  readonly threads: number;
  readonly maxcpus: number;
}

/** The host side of a character device. */
export type CharBackend =
  | {
      readonly type: 'stdio';
      /** The escape Ctrl-A is interpreted: Ctrl-A x ends the machine, Ctrl-A Ctrl-A sends one. */
      readonly mux: boolean;
      /** Ctrl-C ends the command; otherwise it goes to the guest. */
      readonly signal: boolean;
    }
  | { readonly type: 'file'; readonly path: string; readonly append: boolean }
  | { readonly type: 'null' };

export type DeviceOptions =
  | { readonly driver: 'isa-debug-exit'; readonly iobase: number; readonly iosize: number }
  | {
      readonly driver: 'isa-debugcon';
      readonly iobase: number;
      readonly readback: number;
      readonly backend: CharBackend;
    }
  | { readonly driver: 'pvpanic'; readonly ioport: number }
  | DiskDevice;

export type RtcBase =
  | { readonly type: 'utc' }
  | { readonly type: 'localtime' }
  /** Seconds since 1970-01-01 UTC. */
  | { readonly type: 'date'; readonly seconds: number };

export interface RtcOptions {
  readonly base: RtcBase;
  readonly clock: 'host' | 'rt' | 'vm';
  readonly driftfix: 'none';
}

export interface ActionOptions {
  readonly reboot: 'reset' | 'shutdown';
  readonly shutdown: 'poweroff' | 'pause';
  readonly panic: 'pause' | 'shutdown' | 'exit-failure' | 'none';
}

export interface MachineOptions {
  readonly name?: string;
  readonly machine: { readonly type: 'pc'; readonly hpet: boolean; readonly acpi: boolean };
  readonly accel: {
    readonly thread: 'multi' | 'single';
    readonly jit: boolean;
    /** Compiled code that is kept, MiB of modules. */
    readonly 'tb-size'?: number;
  };
  /** Time by executed instructions; only with thread 'single'. */
  readonly icount?: IcountOptions;
  /** What the guest's random numbers follow from: decimal, below 2^64. Absent: the host's generator. */
  readonly seed?: string;
  readonly cpu: {
    readonly model: CpuModel;
    /** Features switched on (true) or off (false) by name, in CPUID spelling with `-`. */
    readonly features: Readonly<Record<string, boolean>>;
    /** What has a value of its own: vendor, phys-bits, model-id. */
    readonly properties?: Readonly<Record<string, string>>;
  };
  readonly smp: SmpOptions;
  /** Bytes of guest RAM, a multiple of 8 KiB. */
  readonly memory: number;
  /** Paths. `initrd` of a multiboot kernel is a list: see readBootFiles. */
  readonly kernel?: string;
  readonly initrd?: string;
  readonly append?: string;
  /** COM1 … COM4; `undefined` entries (JSON null) are ports that do not exist. */
  readonly serial: readonly (CharBackend | null)[];
  readonly objects: readonly ObjectOptions[];
  /** Block nodes for drives to name. */
  readonly blockdevs: readonly NodeOptions[];
  readonly drives: readonly DriveOptions[];
  readonly devices: readonly DeviceOptions[];
  readonly rtc: RtcOptions;
  readonly actions: ActionOptions;
  /** Boot order letters; recorded, without effect while only -kernel boots. */
  readonly bootOrder?: string;
  readonly log: {
    readonly items: readonly LogItem[];
    /** Where code must be that in_asm, op and exec show; default: anywhere. */
    readonly filter?: readonly LogRange[];
    readonly file?: string;
  };
}

export const CPU_MODELS = {
  qemu64: "QEMU's plain 64-bit CPU, with what every x86-64 guest needs",
  max: 'all features that smp86 has',
} as const;
export type CpuModel = keyof typeof CPU_MODELS;

/** More vCPUs than this are refused: each is a thread of the host. */
export const MAX_CPUS = 64;
/** RAM lies below 3 GiB; PCI and the interrupt controllers have the rest of the first 4. */
export const MAX_MEMORY = 3 * 2 ** 30;
export const MIN_MEMORY = 2 * 2 ** 20;
export const DEFAULT_MEMORY = 128 * 2 ** 20;
/** Serial ports of a PC. */
export const MAX_SERIAL = 4;
/** Debug consoles of a machine. */
export const MAX_DEBUGCON = 4;
