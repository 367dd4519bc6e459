/** Loads a kernel of any supported kind into guest RAM: what `-kernel`, `-initrd` and `-append` do. */
import { isElf, parseElf } from './elf.ts';
import { BootError } from './errors.ts';
import { isLinux, loadLinux } from './linux.ts';
import { BootMemory, type E820Entry } from './memory.ts';
import { findMultibootHeader, loadMultiboot, type MultibootModule } from './multiboot.ts';
import { loadPvh, pvhEntry } from './pvh.ts';
import type { BootState } from './state.ts';

export { BootError, type BootErrorCode } from './errors.ts';
export { type E820Entry, E820_ACPI, E820_NVS, E820_RAM, E820_RESERVED } from './memory.ts';
export type { BootSegment, BootState, BootTable, GprName, PlacedRange } from './state.ts';

export type KernelKind = 'linux' | 'multiboot' | 'pvh';

export interface LoadKernelOptions {
  /** Guest RAM from guest-physical 0 on. */
  readonly ram: Uint8Array;
  /** Bytes of `ram` that the guest has; all of it if not given. */
  readonly ramSize?: number;
  readonly kernel: Uint8Array;
  /** For Linux and PVH kernels. */
  readonly initrd?: Uint8Array;
  /** For multiboot kernels. */
  readonly modules?: readonly MultibootModule[];
  readonly append?: string;
  /** The memory map that the guest is told; nothing is placed outside its RAM. */
  readonly e820: readonly E820Entry[];
  /** Guest-physical address of the ACPI root pointer. */
  readonly rsdp?: number;
  /** First word of a multiboot kernel's command line. */
  readonly kernelName?: string;
  /** See LinuxBootOptions. */
  readonly textConsole?: boolean;
  readonly rngSeed?: Uint8Array;
}

/** What kind of kernel a file is. A multiboot header wins over a PVH note. Throws BootError. */
export function detectKernel(kernel: Uint8Array): KernelKind {
  if (kernel.length === 0) throw new BootError('ERR_BOOT_FORMAT', 'kernel', 'the file is empty');
  if (isLinux(kernel)) return 'linux';
  if (findMultibootHeader(kernel) !== undefined) return 'multiboot';
  if (isElf(kernel)) {
    parseElf(kernel);
    if (pvhEntry(kernel) !== undefined) return 'pvh';
    throw new BootError(
      'ERR_BOOT_FORMAT',
      'kernel',
      'an ELF file with neither a multiboot header nor a PVH note (a vmlinux needs CONFIG_PVH)',
    );
  }
  throw new BootError(
    'ERR_BOOT_FORMAT',
    'kernel',
    'not a kernel: no Linux bzImage, no multiboot header, no ELF file with a PVH note',
  );
}

/**
 * Writes the kernel and what belongs to it into guest RAM and returns the state to enter it with.
 * *Thread:* the one that creates the machine. *Errors:* BootError.
 */
export function loadKernel(options: LoadKernelOptions): BootState {
  const { kernel, initrd, append } = options;
  const kind = detectKernel(kernel);
  const ram = options.ramSize === undefined ? options.ram : options.ram.subarray(0, options.ramSize);
  const memory = new BootMemory(ram, options.e820);
  if (append?.includes('\0') === true) {
    throw new BootError('ERR_BOOT_CMDLINE', 'append', 'the command line contains a NUL character');
  }
  switch (kind) {
    case 'linux':
      return loadLinux(memory, options);
    case 'pvh':
      return loadPvh(memory, options);
    case 'multiboot': {
      const modules = options.modules ?? (initrd === undefined ? [] : [{ data: initrd, cmdline: 'initrd' }]);
      const cmdline = `${options.kernelName ?? 'kernel'} ${append ?? ''}`.trimEnd();
      return loadMultiboot(memory, { kernel, modules, cmdline });
    }
  }
}
