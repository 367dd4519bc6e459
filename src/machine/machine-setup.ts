/**
 * Everything about a new machine that can fail because of what the user asked for: done before the first thread
 * exists, so that a mistake starts nothing.
 */
import { openSync, closeSync } from 'node:fs';
import { registerMemory, setOwnerId } from '@smp86/atomics-sync';
import { Argument, OptionError } from '../cli/option-values.ts';
import { CodeCache } from '../cpu/tier0/code-cache.ts';
import { CpuModel, CpuModelError } from '../cpu/sys/cpuid.ts';
import { adviseHugePages } from '../host/huge-pages.ts';
import { BusError } from '../hw/io-bus.ts';
import { Board } from './board.ts';
import { readBootFile, readBootFiles } from './boot/files.ts';
import { CharFiles, fileProblem } from './char-backend.ts';
import { type MachineConfig, memoryConfigOf, modelSpec } from './config.ts';
import type { MachineCreateOptions, ResolvedOptions } from './create-options.ts';
import { resolveOptions } from './create-options.ts';
import { loadGuest } from './guest-image.ts';
import { REGION_BYTES } from '../jit/layout.ts';
import { machineLayout } from './layout.ts';
import { checkStorage, storageConfigOf } from './storage-setup.ts';
import { type CharBackend, MAX_DEBUGCON, type MachineOptions } from './machine-options.ts';
import type { BootFiles } from './messages.ts';

/** A machine without threads. */
export interface MachineSetup {
  readonly options: MachineOptions;
  readonly config: MachineConfig;
  readonly boot: BootFiles;
  readonly memory: WebAssembly.Memory;
  readonly board: Board;
  /** By serial port, then by debug console. */
  readonly files: CharFiles;
  /** What is worth telling the user, one line each. */
  readonly warnings: readonly string[];
  /** Closes the log. */
  closeLog(): void;
}

const STDERR = 2;

/** *Thread:* host. *Errors:* OptionError, BootError. */
export async function setUpMachine(create: MachineCreateOptions): Promise<MachineSetup> {
  const resolved = resolveOptions(create);
  const { options } = resolved;
  const draft = configOf(options, STDERR);
  const cpuWarnings = cpuModel(draft).warnings;
  const boot = bootFiles(resolved);
  const warnings = [...cpuWarnings, ...(await checkStorage(draft.storage))];
  const memory = allocate(options);
  const layout = machineLayout(memoryConfigOf(draft));
  const buffer = memory.buffer as unknown as SharedArrayBuffer;
  // the tables and the kernel in their places, or the reason why not
  loadGuest(buffer, layout, draft, boot);
  registerMemory(memory);
  setOwnerId(-1);
  const board = wire(memory, draft);
  const now = rtcNow(options);
  board.powerOn(Math.floor(now / 1000), (now % 1000) * 1e6);
  CodeCache.init(buffer, { base: layout.codeCache, size: layout.codeCacheSize, codeMap: layout.codeMap });
  board.stopVcpus();
  board.control.resets.store(1);
  const files = await CharFiles.open([
    ...fourPorts(options).map((backend) => ({ option: 'serial', backend })),
    ...debugCons(options).map(({ backend }) => ({ option: 'debugcon', backend })),
  ]);
  let fd: number;
  try {
    fd = openLog(options.log.file);
  } catch (error) {
    await files.close();
    throw error;
  }
  const closeLog = (): void => {
    if (fd !== STDERR) closeSync(fd);
  };
  return { options, config: configOf(options, fd), boot, memory, board, files, warnings, closeLog };
}

function fourPorts(options: MachineOptions): (CharBackend | null)[] {
  return [0, 1, 2, 3].map((i) => options.serial[i] ?? null);
}
function debugCons(options: MachineOptions) {
  return options.devices.flatMap((d) => (d.driver === 'isa-debugcon' ? [d] : []));
}

function configOf(options: MachineOptions, logFd: number): MachineConfig {
  const { smp, actions, log } = options;
  const cons = debugCons(options);
  if (cons.length > MAX_DEBUGCON) {
    throw new OptionError('ERR_OPTION_VALUE', 'device', 'isa-debugcon', `at most ${MAX_DEBUGCON} of them`);
  }
  const panics = options.devices.flatMap((d) => (d.driver === 'pvpanic' ? [d.ioport] : []));
  if (panics.length > 1) throw new OptionError('ERR_OPTION_VALUE', 'device', 'pvpanic', 'only one of them');
  const pauses = actions.panic === 'pause' || (actions.panic === 'shutdown' && actions.shutdown === 'pause');
  return {
    cpus: smp.cpus,
    sockets: smp.sockets,
    dies: 1,
    cores: smp.cores,
    threads: smp.threads,
    ram: options.memory,
    hpet: options.machine.hpet,
    acpi: options.machine.acpi,
    rtc: { clock: options.rtc.clock },
    serial: fourPorts(options).map((backend) => backend !== null),
    debugExits: options.devices.flatMap((d) => (d.driver === 'isa-debug-exit' ? [d] : [])),
    debugCons: cons.map(({ iobase, readback }) => ({ iobase, readback })),
    ...(panics.length === 0 ? {} : { pvpanic: panics[0] }),
    panic: pauses ? 'pause' : actions.panic === 'none' ? 'none' : 'end',
    cpu: options.cpu,
    accel: options.accel.thread,
    ...(options.icount === undefined ? {} : { icount: options.icount }),
    ...(options.seed === undefined ? {} : { seed: options.seed }),
    jit: options.accel.jit && !(log.items.includes('nochain') || log.items.includes('hotblocks')),
    regionBytes: options.accel['tb-size'] === undefined ? REGION_BYTES : options.accel['tb-size'] << 20,
    noReboot: actions.reboot === 'shutdown',
    storage: storageConfigOf(options),
    log: { items: log.items, filter: log.filter ?? [], fd: logFd },
  };
}

function cpuModel(config: MachineConfig): CpuModel {
  const spec = modelSpec(config);
  try {
    return new CpuModel(spec, config);
  } catch (error) {
    if (error instanceof CpuModelError) throw new Argument('cpu', spec).bad(error.message);
    throw error;
  }
}

function bootFiles({ options, kernel, initrd }: ResolvedOptions): BootFiles {
  const { append } = options;
  if (kernel !== undefined) return { kernel, initrd: initrd ?? bytesOf(options.initrd), append };
  if (options.kernel === undefined) return {};
  const paths = { kernel: options.kernel, initrd: options.initrd };
  return { ...readBootFiles(paths), ...(initrd === undefined ? {} : { initrd }), append };
}
/** An initrd by path beside a kernel by contents. */
function bytesOf(path: string | undefined): Uint8Array | undefined {
  return path === undefined ? undefined : readBootFile('initrd', path);
}

function allocate(options: MachineOptions): WebAssembly.Memory {
  const { pages } = machineLayout(memoryConfigOf(configOf(options, STDERR)));
  try {
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    adviseHugePages(memory.buffer as unknown as SharedArrayBuffer);
    return memory;
  } catch (error) {
    const size = `${Math.round(options.memory / 2 ** 20)}M`;
    throw new OptionError(
      'ERR_OPTION_VALUE',
      'm',
      size,
      `the host gives no memory (${(error as Error).message})`,
    );
  }
}

function wire(memory: WebAssembly.Memory, config: MachineConfig): Board {
  try {
    return new Board(memory, config, 'create');
  } catch (error) {
    // only devices that the user places can collide
    if (error instanceof BusError)
      throw new OptionError('ERR_OPTION_VALUE', 'device', undefined, error.message);
    throw error;
  }
}

function openLog(file: string | undefined): number {
  if (file === undefined) return STDERR;
  try {
    return openSync(file, 'w');
  } catch (error) {
    throw new Argument('D', file).bad(fileProblem(error));
  }
}

/** Guest time of day at start, ms since 1970. */
function rtcNow(options: MachineOptions): number {
  const { base } = options.rtc;
  if (base.type === 'date') return base.seconds * 1000;
  const now = Date.now();
  return base.type === 'localtime' ? now - new Date(now).getTimezoneOffset() * 60_000 : now;
}
