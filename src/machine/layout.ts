/**
 * Where everything lies in a machine's one shared memory. A function of the configuration alone, so every
 * thread computes the same.
 */
import { array, atomicI32, Mutex, padTo, SpscRing, struct, u32, type ViewOf } from '@smp86/atomics-sync';
import { MainLoop } from '../aio/main-loop.ts';
import { VCPU_BLOCK_SIZE } from '../cpu/env.ts';
import { PhysMap } from '../cpu/sys/phys-memory.ts';
import { Piix4PmState } from '../hw/acpi/piix4-pm.ts';
import { Uart16550State } from '../hw/char/uart-16550.ts';
import { FwCfgState } from '../hw/fw-cfg.ts';
import { I8042State } from '../hw/input/i8042.ts';
import { ApicBusState } from '../hw/intc/apic-bus.ts';
import { GsiState } from '../hw/intc/gsi.ts';
import { PicState } from '../hw/intc/i8259.ts';
import { IoapicState } from '../hw/intc/ioapic.ts';
import { LapicState } from '../hw/intc/lapic-state.ts';
import { BusState } from '../hw/io-bus.ts';
import { I440FxState } from '../hw/pci/i440fx.ts';
import { PciBusState } from '../hw/pci/pci.ts';
import { Piix3State } from '../hw/pci/piix3.ts';
import { Port92State } from '../hw/port92.ts';
import { Mc146818State } from '../hw/rtc/mc146818.ts';
import { PitState } from '../hw/timer/i8254.ts';
import { HpetState } from '../hw/timer/hpet.ts';
import { PcSpeakerState } from '../hw/timer/pcspk.ts';
import { ClockSystem } from '../timer/clock.ts';
import { CpuWork } from './cpu-work.ts';
import { ExclusiveState } from './exclusive.ts';
import { type StorageLayout, storageLayout } from './storage.ts';
import { NO_STORAGE, type StorageConfig } from './storage-config.ts';
import { ThrottleState } from './throttle.ts';

/** What the layout depends on. */
export interface MemoryConfig {
  readonly cpus: number;
  /** Bytes of guest RAM. */
  readonly ram: number;
  /** Number of debug consoles; default 0. */
  readonly debugCons?: number;
  /** Default: none. */
  readonly storage?: StorageConfig;
}

export const SERIAL_PORTS = 4;
const SERIAL_RING = 65536;
const FW_CFG_ARENA = 65536;
const BOOT_STATE_SIZE = 16384;
const PAGE = 65536;

/** Run states, in `MachineControl.runState`. */
export const RUN_STATE = { PAUSED: 0, RUNNING: 1, SHUTDOWN: 2 } as const;

/** Words that the host thread and the workers share. */
export const MachineControl = struct({
  pad0: padTo(64),
  /** RUN_STATE. Written under the BQL by the main loop. */
  runState: atomicI32,
  /** Bumped after each change the host thread wants to hear of; it waits on it asynchronously. */
  eventSeq: atomicI32,
  /** Number of vCPUs that are stopped. */
  stoppedCpus: atomicI32,
  /** 1: vCPU threads end. */
  quit: atomicI32,
  /** Guest bytes were written to a ring since the host last looked: a bit a serial port, then one a debug console. */
  serialPending: atomicI32,
  /** Bits of EVENT. */
  events: atomicI32,
  /** Exit status asked for through isa-debug-exit. */
  exitStatus: atomicI32,
  /** Number of resets so far. */
  resets: atomicI32,
  /** Number of vCPUs that look for a kick (`HaltPoll`). */
  polling: atomicI32,
  /** Why the guest is at its end: SHUTDOWN_CAUSE. Written by the main loop before EVENT.SHUTDOWN. */
  shutdownCause: atomicI32,
  /** Sequence number of the last COMMAND that the main loop has carried out. */
  commandDone: atomicI32,
  /** What some commands need; written by the host thread before it posts one. */
  commandFirst: atomicI32,
  commandSecond: atomicI32,
  /** What some of them come to; written before `commandDone`. */
  commandResult: atomicI32,
});
export type MachineControlView = ViewOf<typeof MachineControl>;

/** Bits of `MachineControl.events`. */
export const EVENT = {
  SHUTDOWN: 1,
  RESET: 2,
  DEBUG_EXIT: 4,
  TRIPLE_FAULT: 8,
  INTERNAL_ERROR: 16,
  /** pvpanic: the guest panicked. */
  PANIC: 32,
  /** A disk's error has stopped the machine. */
  IO_ERROR: 64,
} as const;

export const SHUTDOWN_CAUSE = {
  /** The guest powered itself off. */
  POWER_OFF: 0,
  /** The guest asked for a reset, and resets end the machine. */
  RESET: 1,
  PANIC: 2,
} as const;

const Devices = struct({
  bus: BusState,
  apicBus: ApicBusState,
  pic: PicState,
  ioapic: IoapicState,
  gsi: GsiState,
  pit: PitState,
  speaker: PcSpeakerState,
  hpet: HpetState,
  rtc: Mc146818State,
  uarts: array(Uart16550State, SERIAL_PORTS),
  pci: PciBusState,
  i440fx: I440FxState,
  piix3: Piix3State,
  pm: Piix4PmState,
  i8042: I8042State,
  port92: Port92State,
  fwCfg: FwCfgState,
  pad: u32,
});
export { Devices as DeviceStates };

export interface MachineLayout {
  readonly config: MemoryConfig;
  readonly control: number;
  readonly bql: number;
  readonly exclusive: number;
  readonly cpuWork: number;
  readonly throttle: number;
  readonly clocks: number;
  readonly mainLoop: number;
  readonly physMap: number;
  readonly codeMap: number;
  readonly devices: number;
  readonly lapics: number;
  /** A length word, then the BootState as JSON. Written by the main loop while all vCPUs are stopped. */
  readonly bootState: number;
  readonly fwCfgArena: number;
  readonly fwCfgArenaSize: number;
  /** Guest to host, then host to guest, per port. */
  readonly serialOut: readonly number[];
  readonly serialIn: readonly number[];
  /** Guest to host, per debug console. */
  readonly debugConOut: readonly number[];
  readonly serialRing: number;
  readonly storage: StorageLayout;
  readonly vcpus: number;
  readonly codeCache: number;
  readonly codeCacheSize: number;
  readonly ram: number;
  /** Size of the memory in 64 KiB pages. */
  readonly pages: number;
}

/** Most guest RAM that a machine of `cpus` vCPUs can have is what 4 GiB leave after this. */
export function machineLayout(config: MemoryConfig): MachineLayout {
  let top = PAGE; // the first page is never mapped: a null address traps nothing but finds nothing either
  const place = (size: number, align = 64): number => {
    const at = Math.ceil(top / align) * align;
    top = at + size;
    return at;
  };
  const control = place(MachineControl.size);
  const bql = place(Mutex.BYTES);
  const exclusive = place(ExclusiveState.size);
  const cpuWork = place(CpuWork.size(config.cpus));
  const throttle = place(ThrottleState.size);
  const clocks = place(ClockSystem.layout({}).size);
  const mainLoop = place(MainLoop.size({}));
  const physMap = place(PhysMap.size);
  const devices = place(Devices.size);
  const lapics = place(LapicState.size * config.cpus);
  const bootState = place(BOOT_STATE_SIZE);
  const fwCfgArena = place(FW_CFG_ARENA);
  const ring = SpscRing.bytesFor(SERIAL_RING);
  const serialOut = Array.from({ length: SERIAL_PORTS }, () => place(ring));
  const serialIn = Array.from({ length: SERIAL_PORTS }, () => place(ring));
  const debugConOut = Array.from({ length: config.debugCons ?? 0 }, () => place(ring));
  const storage = storageLayout(config.storage ?? NO_STORAGE, place);
  const codeMap = place(65536 * 16, 4096);
  const vcpus = place(VCPU_BLOCK_SIZE * config.cpus, PAGE);
  const codeCacheSize = 192 << 20;
  const codeCache = place(codeCacheSize, PAGE);
  const ram = place(config.ram, PAGE);
  return {
    config,
    control,
    bql,
    exclusive,
    cpuWork,
    throttle,
    clocks,
    mainLoop,
    physMap,
    codeMap,
    devices,
    lapics,
    bootState,
    fwCfgArena,
    fwCfgArenaSize: FW_CFG_ARENA,
    serialOut,
    serialIn,
    debugConOut,
    serialRing: SERIAL_RING,
    storage,
    vcpus,
    codeCache,
    codeCacheSize,
    ram,
    pages: Math.ceil(top / PAGE),
  };
}
