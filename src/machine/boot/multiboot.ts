/**
 * Multiboot 1 kernels (Multiboot Specification 0.6.96): 32-bit ELF files, or flat files whose header
 * gives the load addresses. Entered in protected mode with EAX = 0x2BADB002 and EBX at the information.
 */
import { elfPhysical, isElf, loadElfSegments, parseElf } from './elf.ts';
import { BootError } from './errors.ts';
import { type BootMemory, sizeText } from './memory.ts';
import { type BootState, CR0_ET, CR0_PE, flatSegments } from './state.ts';

const HEADER_MAGIC = 0x1bad_b002;
const BOOTLOADER_MAGIC = 0x2bad_b002;
/** The header lies in the first 8 KiB, aligned to 4 bytes (section 3.1). */
const SEARCH_SIZE = 8192;
/** Bits 3..15 are requirements that no loader knows. */
const FLAGS_UNKNOWN = 0xfff8;
const FLAG_ADDRESSES = 1 << 16;

// Multiboot information (section 3.3).
const INFO_SIZE = 116;
const INFO_MEMORY = 1 << 0;
const INFO_CMDLINE = 1 << 2;
const INFO_MODULES = 1 << 3;
const INFO_MMAP = 1 << 6;
const INFO_LOADER_NAME = 1 << 9;
const MODULE_SIZE = 16;
const MMAP_ENTRY_SIZE = 24;

const LOW_MEMORY = 0x1000;
const MODULES_ABOVE = 0x10_0000;
const PAGE_SIZE = 0x1000;
const CODE_SELECTOR = 0x08;
const DATA_SELECTOR = 0x10;
const LOADER_NAME = 'smp86';

export interface MultibootModule {
  readonly data: Uint8Array;
  /** File name and arguments. */
  readonly cmdline: string;
}

export interface MultibootOptions {
  readonly kernel: Uint8Array;
  readonly modules?: readonly MultibootModule[];
  /** The whole command line, the kernel's name first. */
  readonly cmdline?: string;
}

/** Decoded header; `addresses` is the a.out kludge. */
export interface MultibootHeader {
  readonly offset: number;
  readonly flags: number;
  readonly addresses?: {
    readonly header: number;
    readonly load: number;
    readonly loadEnd: number;
    readonly bssEnd: number;
    readonly entry: number;
  };
}

/** Finds and decodes the header; undefined when there is none. */
export function findMultibootHeader(kernel: Uint8Array): MultibootHeader | undefined {
  const view = new DataView(kernel.buffer, kernel.byteOffset, kernel.byteLength);
  const end = Math.min(kernel.length, SEARCH_SIZE);
  for (let at = 0; at + 12 <= end; at += 4) {
    if (view.getUint32(at, true) !== HEADER_MAGIC) continue;
    const flags = view.getUint32(at + 4, true);
    if ((HEADER_MAGIC + flags + view.getUint32(at + 8, true)) % 2 ** 32 !== 0) continue;
    if ((flags & FLAG_ADDRESSES) === 0) return { offset: at, flags };
    if (at + 32 > end) return undefined;
    const word = (offset: number): number => view.getUint32(at + offset, true);
    const addresses = {
      header: word(12),
      load: word(16),
      loadEnd: word(20),
      bssEnd: word(24),
      entry: word(28),
    };
    return { offset: at, flags, addresses };
  }
  return undefined;
}

/** Loads a flat file by the addresses of its header; returns the entry point. */
function loadFlat(memory: BootMemory, kernel: Uint8Array, header: MultibootHeader): number {
  const { header: headerAddress, load, loadEnd, bssEnd, entry } = header.addresses!;
  const bad = (reason: string): BootError =>
    new BootError('ERR_BOOT_FORMAT', 'kernel', `multiboot header: ${reason}`);
  const start = header.offset - (headerAddress - load);
  if (load > headerAddress) throw bad('load_addr lies above header_addr');
  if (start < 0) throw bad('load_addr lies before the beginning of the file');
  if (loadEnd !== 0 && loadEnd < load) throw bad('load_end_addr lies below load_addr');
  const size = loadEnd === 0 ? kernel.length - start : loadEnd - load;
  if (start + size > kernel.length) {
    throw new BootError(
      'ERR_BOOT_TRUNCATED',
      'kernel',
      `truncated: ${kernel.length} bytes, the multiboot header announces ${start + size}`,
    );
  }
  if (bssEnd !== 0 && bssEnd < load + size) throw bad('bss_end_addr lies below the loaded data');
  const end = bssEnd === 0 ? load + size : bssEnd;
  if (entry < load || entry >= end) throw bad('entry_addr lies outside the kernel');
  memory.reserve('kernel', 'kernel', load, end - load);
  memory.ram.set(kernel.subarray(start, start + size), load);
  memory.ram.fill(0, load + size, end);
  return entry;
}

function loadElf(memory: BootMemory, kernel: Uint8Array): number {
  if (!isElf(kernel)) {
    throw new BootError(
      'ERR_BOOT_FORMAT',
      'kernel',
      'multiboot header without load addresses in a file that is not ELF',
    );
  }
  const elf = parseElf(kernel);
  if (elf.bits === 64) {
    throw new BootError('ERR_BOOT_FORMAT', 'kernel', 'a multiboot kernel must be a 32-bit ELF file');
  }
  loadElfSegments(memory, kernel, elf);
  // The entry is a virtual address; the kernel is entered without paging.
  const entry = elfPhysical(elf, elf.entry);
  if (entry === undefined) throw new BootError('ERR_BOOT_FORMAT', 'kernel', 'ELF file: entry in no segment');
  return entry;
}

/** Places kernel, modules and information. Throws BootError. */
export function loadMultiboot(memory: BootMemory, options: MultibootOptions): BootState {
  const header = findMultibootHeader(options.kernel);
  if (header === undefined) throw new BootError('ERR_BOOT_FORMAT', 'kernel', 'no multiboot header');
  if ((header.flags & FLAGS_UNKNOWN) !== 0) {
    const flags = (header.flags & FLAGS_UNKNOWN).toString(16);
    throw new BootError('ERR_BOOT_FORMAT', 'kernel', `multiboot header requires unknown features 0x${flags}`);
  }
  const entry =
    header.addresses === undefined
      ? loadElf(memory, options.kernel)
      : loadFlat(memory, options.kernel, header);

  const { view } = memory;
  const allocate = (name: string, size: number): number => {
    const at = memory.findLow(size, 16, LOW_MEMORY);
    if (at === undefined) throw new BootError('ERR_BOOT_MEMORY', 'm', `no room for ${name}`);
    memory.reserve('kernel', name, at, size);
    memory.ram.fill(0, at, at + size);
    return at;
  };
  const putText = (name: string, text: string): number => {
    const data = new TextEncoder().encode(text);
    const at = allocate(name, data.length + 1);
    memory.ram.set(data, at);
    return at;
  };
  const { segments, gdt } = flatSegments(32, CODE_SELECTOR, DATA_SELECTOR);
  const gdtAt = allocate('GDT', gdt.length);
  memory.ram.set(gdt, gdtAt);
  const infoAt = allocate('multiboot information', INFO_SIZE);
  let flags = INFO_CMDLINE | INFO_MMAP | INFO_LOADER_NAME;
  view.setUint32(infoAt + 16, putText('command line', options.cmdline ?? ''), true);
  view.setUint32(infoAt + 64, putText('loader name', LOADER_NAME), true);

  const lower = memory.ramEnd(0, 0x10_0000);
  const upper = memory.ramEnd(0x10_0000, memory.ram.length) - 0x10_0000;
  flags |= INFO_MEMORY;
  view.setUint32(infoAt + 4, Math.floor(Math.min(lower, 0xa_0000) / 1024), true);
  view.setUint32(infoAt + 8, Math.floor(upper / 1024), true);

  const mmapAt = allocate('memory map', memory.e820.length * MMAP_ENTRY_SIZE);
  memory.e820.forEach((range, i) => {
    const at = mmapAt + i * MMAP_ENTRY_SIZE;
    view.setUint32(at, MMAP_ENTRY_SIZE - 4, true);
    view.setBigUint64(at + 4, BigInt(range.base), true);
    view.setBigUint64(at + 12, BigInt(range.length), true);
    view.setUint32(at + 20, range.type, true);
  });
  view.setUint32(infoAt + 44, memory.e820.length * MMAP_ENTRY_SIZE, true);
  view.setUint32(infoAt + 48, mmapAt, true);

  const modules = options.modules ?? [];
  if (modules.length > 0) {
    flags |= INFO_MODULES;
    const listAt = allocate('module list', modules.length * MODULE_SIZE);
    view.setUint32(infoAt + 20, modules.length, true);
    view.setUint32(infoAt + 24, listAt, true);
    modules.forEach((module, i) => {
      const at = placeModule(memory, module, i);
      view.setUint32(listAt + i * MODULE_SIZE, at, true);
      view.setUint32(listAt + i * MODULE_SIZE + 4, at + module.data.length, true);
      view.setUint32(listAt + i * MODULE_SIZE + 8, putText(`module ${i} string`, module.cmdline), true);
    });
  }
  view.setUint32(infoAt, flags, true);
  return {
    protocol: 'multiboot',
    mode: 'protected32',
    ip: entry,
    regs: { rax: BOOTLOADER_MAGIC, rbx: infoAt },
    eflags: 2,
    cr0: CR0_ET | CR0_PE,
    cr3: 0,
    cr4: 0,
    efer: 0,
    gdt: { base: gdtAt, limit: gdt.length - 1 },
    idt: { base: 0, limit: 0 },
    ...segments,
    placed: memory.placed,
  };
}

function placeModule(memory: BootMemory, module: MultibootModule, index: number): number {
  const { data } = module;
  const at = memory.findLow(Math.max(data.length, 1), PAGE_SIZE, MODULES_ABOVE);
  if (at === undefined) {
    throw new BootError(
      'ERR_BOOT_MEMORY',
      'initrd',
      `module ${index} does not fit: ${sizeText(data.length)} in ${sizeText(memory.ram.length)} of RAM`,
    );
  }
  memory.place('initrd', `module ${index}`, at, data);
  return at;
}
