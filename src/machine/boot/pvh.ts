/**
 * Direct boot of an ELF kernel with a PVH entry point (Xen: docs/misc/pvh.pandoc and
 * public/arch-x86/hvm/start_info.h). Entered in protected mode, paging off, EBX at hvm_start_info.
 */
import { elfPhysical, findElfNote, isElf, loadElfSegments, parseElf } from './elf.ts';
import { BootError } from './errors.ts';
import { type BootMemory, sizeText } from './memory.ts';
import { type BootState, CR0_ET, CR0_PE, flatSegments } from './state.ts';

const XEN_ELFNOTE_PHYS32_ENTRY = 18;
const XEN_HVM_START_MAGIC = 0x336e_c578;
const START_INFO_VERSION = 1;
const START_INFO_SIZE = 56;
const MODULE_SIZE = 32;
const MEMMAP_ENTRY_SIZE = 24;

const LOW_MEMORY = 0x1000;
const CODE_SELECTOR = 0x08;
const DATA_SELECTOR = 0x10;

export interface PvhBootOptions {
  readonly kernel: Uint8Array;
  readonly initrd?: Uint8Array;
  readonly append?: string;
  readonly rsdp?: number;
}

/** The physical entry point that the PVH note gives, or undefined when there is no such note. */
export function pvhEntry(kernel: Uint8Array): number | undefined {
  if (!isElf(kernel)) return undefined;
  const note = findElfNote(kernel, parseElf(kernel), 'Xen', XEN_ELFNOTE_PHYS32_ENTRY);
  if (note === undefined || note.length < 4) return undefined;
  return new DataView(note.buffer, note.byteOffset, note.byteLength).getUint32(0, true);
}

/** Places the segments, hvm_start_info and what it points to. Throws BootError. */
export function loadPvh(memory: BootMemory, options: PvhBootOptions): BootState {
  const elf = parseElf(options.kernel);
  const entry = pvhEntry(options.kernel);
  if (entry === undefined) throw new BootError('ERR_BOOT_FORMAT', 'kernel', 'ELF file without a PVH note');
  loadElfSegments(memory, options.kernel, elf);
  const inside = elf.segments.some(
    ({ physical, memorySize }) => entry >= physical && entry < physical + memorySize,
  );
  if (!inside && elfPhysical(elf, entry) === undefined) {
    throw new BootError('ERR_BOOT_FORMAT', 'kernel', `PVH entry 0x${entry.toString(16)} is in no segment`);
  }
  const { view } = memory;
  const allocate = (name: string, size: number): number => {
    const at = memory.findLow(size, 16, LOW_MEMORY);
    if (at === undefined) throw new BootError('ERR_BOOT_MEMORY', 'm', `no room for ${name}`);
    memory.reserve('kernel', name, at, size);
    memory.ram.fill(0, at, at + size);
    return at;
  };
  const put64 = (at: number, value: number): void => view.setBigUint64(at, BigInt(value), true);

  const { segments, gdt } = flatSegments(32, CODE_SELECTOR, DATA_SELECTOR);
  const gdtAt = allocate('GDT', gdt.length);
  memory.ram.set(gdt, gdtAt);
  const infoAt = allocate('hvm_start_info', START_INFO_SIZE);
  view.setUint32(infoAt, XEN_HVM_START_MAGIC, true);
  view.setUint32(infoAt + 4, START_INFO_VERSION, true);

  const text = new TextEncoder().encode(options.append ?? '');
  const cmdlineAt = allocate('command line', text.length + 1);
  memory.ram.set(text, cmdlineAt);
  put64(infoAt + 24, cmdlineAt);
  if (options.rsdp !== undefined) put64(infoAt + 32, options.rsdp);

  const memmapAt = allocate('memory map', memory.e820.length * MEMMAP_ENTRY_SIZE);
  memory.e820.forEach((range, i) => {
    put64(memmapAt + i * MEMMAP_ENTRY_SIZE, range.base);
    put64(memmapAt + i * MEMMAP_ENTRY_SIZE + 8, range.length);
    view.setUint32(memmapAt + i * MEMMAP_ENTRY_SIZE + 16, range.type, true);
  });
  put64(infoAt + 40, memmapAt);
  view.setUint32(infoAt + 48, memory.e820.length, true);

  const initrd = options.initrd;
  if (initrd !== undefined && initrd.length > 0) {
    const at = memory.findHigh(initrd.length, 0x1000, 0x10_0000, memory.ram.length);
    if (at === undefined) {
      throw new BootError(
        'ERR_BOOT_MEMORY',
        'initrd',
        `does not fit: ${sizeText(initrd.length)} in ${sizeText(memory.ram.length)} of RAM beside the kernel`,
      );
    }
    memory.place('initrd', 'initrd', at, initrd);
    const moduleAt = allocate('module list', MODULE_SIZE);
    put64(moduleAt, at);
    put64(moduleAt + 8, initrd.length);
    view.setUint32(infoAt + 12, 1, true);
    put64(infoAt + 16, moduleAt);
  }
  return {
    protocol: 'pvh',
    mode: 'protected32',
    ip: entry,
    regs: { rbx: infoAt },
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
