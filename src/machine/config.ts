import type { IcountOptions } from '../timer/icount.ts';
import type { MemoryConfig } from './layout.ts';
import type { LogConfig } from './log.ts';
import type { StorageConfig } from './storage-config.ts';

/** What the worker threads need to know of a machine. Plain data: it travels in `workerData`. */
export interface MachineConfig {
  readonly cpus: number;
  readonly sockets: number;
  readonly dies: number;
  readonly cores: number;
  readonly threads: number;
  /** Bytes. */
  readonly ram: number;
  readonly hpet: boolean;
  readonly acpi: boolean;
  readonly rtc: { readonly clock: 'host' | 'rt' | 'vm' };
  /** Which of COM1–COM4 exist. */
  readonly serial: readonly boolean[];
  readonly debugExits: readonly { readonly iobase: number; readonly iosize: number }[];
  readonly cpu: {
    readonly model: 'qemu64' | 'max';
    readonly features: Readonly<Record<string, boolean>>;
    /** What has a value of its own: vendor, phys-bits, model-id. */
    readonly properties?: Readonly<Record<string, string>>;
  };
  readonly accel: 'multi' | 'single';
  /** VIRTUAL is made of executed instructions; only with accel 'single'. */
  readonly icount?: IcountOptions;
  /** RDRAND and RDSEED give numbers that follow from this one, decimal, below 2^64. */
  readonly seed?: string;
  /** Tier 1 is on. */
  readonly jit: boolean;
  /** Bytes of modules that it keeps. */
  readonly regionBytes: number;
  /** A reset ends the machine. */
  readonly noReboot: boolean;
  readonly debugCons: readonly { readonly iobase: number; readonly readback: number }[];
  /** Port of the pvpanic device, when there is one. */
  readonly pvpanic?: number;
  /** What a panic that the guest reports does. */
  readonly panic: 'pause' | 'end' | 'none';
  readonly storage: StorageConfig;
  readonly log: LogConfig;
}

/** The part of the configuration that the memory layout depends on. */
export function memoryConfigOf(config: MachineConfig): MemoryConfig {
  return { cpus: config.cpus, ram: config.ram, debugCons: config.debugCons.length, storage: config.storage };
}

/** The CPU model in `-cpu` syntax. */
export function modelSpec(config: MachineConfig): string {
  const features = Object.entries(config.cpu.features).map(([name, on]) => `${on ? '+' : '-'}${name}`);
  const properties = Object.entries(config.cpu.properties ?? {}).map(([name, value]) => `${name}=${value}`);
  return [config.cpu.model, ...features, ...properties].join(',');
}
