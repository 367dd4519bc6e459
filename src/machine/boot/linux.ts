/**
 * The Linux x86 boot protocol for bzImage kernels: Documentation/arch/x86/boot.rst (cited as "boot"),
 * zero-page.rst. A kernel with XLF_KERNEL_64 is entered in long mode, any other in protected mode.
 */
import { BootError } from './errors.ts';
import { type BootMemory, sizeText } from './memory.ts';
import {
  type BootState,
  CR0_ET,
  CR0_PE,
  CR0_PG,
  CR4_PAE,
  EFER_LMA,
  EFER_LME,
  flatSegments,
} from './state.ts';

// Offsets in the first sectors of the file and in boot_params (boot, "The Real-Mode Kernel Header").
const HDR_SETUP_SECTS = 0x1f1;
const HDR_SYSSIZE = 0x1f4;
const HDR_VID_MODE = 0x1fa;
const HDR_BOOT_FLAG = 0x1fe;
const HDR_JUMP_LENGTH = 0x201;
const HDR_MAGIC = 0x202;
const HDR_VERSION = 0x206;
const HDR_TYPE_OF_LOADER = 0x210;
const HDR_LOADFLAGS = 0x211;
const HDR_CODE32_START = 0x214;
const HDR_RAMDISK_IMAGE = 0x218;
const HDR_RAMDISK_SIZE = 0x21c;
const HDR_CMD_LINE_PTR = 0x228;
const HDR_INITRD_ADDR_MAX = 0x22c;
const HDR_KERNEL_ALIGNMENT = 0x230;
const HDR_RELOCATABLE = 0x234;
const HDR_XLOADFLAGS = 0x236;
const HDR_CMDLINE_SIZE = 0x238;
const HDR_SETUP_DATA = 0x250;
const HDR_PREF_ADDRESS = 0x258;
const HDR_INIT_SIZE = 0x260;
/** The header ends at HDR_MAGIC plus the byte at HDR_JUMP_LENGTH, and never beyond this. */
const HDR_END_MAX = 0x290;

const MAGIC_HDRS = 0x5372_6448;
const BOOT_FLAG = 0xaa55;
const LOADED_HIGH = 1 << 0;
const XLF_KERNEL_64 = 1 << 0;
const LOADER_UNDEFINED = 0xff;
const VID_MODE_NORMAL = 0xffff;

// Fields of boot_params outside the setup header (zero-page.rst).
const BP_ORIG_VIDEO_MODE = 0x006;
const BP_ORIG_VIDEO_COLS = 0x007;
const BP_ORIG_VIDEO_LINES = 0x00e;
const BP_ORIG_VIDEO_ISVGA = 0x00f;
const BP_ORIG_VIDEO_POINTS = 0x010;
const BP_EXT_MEM_K = 0x002;
const BP_ACPI_RSDP_ADDR = 0x070;
const BP_ALT_MEM_K = 0x1e0;
const BP_E820_ENTRIES = 0x1e8;
const BP_E820_TABLE = 0x2d0;
const E820_MAX_ENTRIES = 128;
const SETUP_RNG_SEED = 9;

// Low memory, below any EBDA and above the BIOS data area.
const GDT_AT = 0x1000;
const BOOT_PARAMS_AT = 0x2000;
const BOOT_PARAMS_SIZE = 0x1000;
const PAGE_TABLES_AT = 0x3000;
const SETUP_DATA_AT = 0x9000;
const CMDLINE_AT = 0xa000;
const CMDLINE_MAX = 0x1_0000;
const STACK_AT = 0x1_f000;
const STACK_SIZE = 0x1000;

/** __BOOT_CS and __BOOT_DS (boot, "64-bit Boot Protocol"). */
const BOOT_CS = 0x10;
const BOOT_DS = 0x18;

const PAGE_SIZE = 0x1000;
const DEFAULT_LOAD_ADDRESS = 0x10_0000;
/** The 64-bit entry point's offset from where the protected-mode kernel was loaded. */
const ENTRY64_OFFSET = 0x200;

/** The setup header, decoded; fields that the kernel's protocol version lacks have the documented defaults. */
export interface LinuxHeader {
  /** 0x20c is protocol 2.12. */
  readonly version: number;
  /** File offset of the protected-mode kernel. */
  readonly kernelOffset: number;
  readonly headerEnd: number;
  readonly initrdAddrMax: number;
  readonly cmdlineSize: number;
  readonly relocatable: boolean;
  readonly alignment: number;
  readonly prefAddress: number;
  /** Bytes the kernel needs from its run-time start on, until it has set up its own map. */
  readonly initSize: number;
  readonly entry64: boolean;
}

export interface LinuxBootOptions {
  readonly kernel: Uint8Array;
  readonly initrd?: Uint8Array;
  readonly append?: string;
  /** Guest-physical address of the ACPI root pointer. */
  readonly rsdp?: number;
  /** True when a VGA adapter is in 80x25 text mode: the kernel uses it as its console. */
  readonly textConsole?: boolean;
  /** Entropy for the kernel's random generator (setup_data, SETUP_RNG_SEED). */
  readonly rngSeed?: Uint8Array;
}

function u16At(data: Uint8Array, at: number): number {
  return data[at] | (data[at + 1] << 8);
}

function u32At(data: Uint8Array, at: number): number {
  return (u16At(data, at) | (u16At(data, at + 2) << 16)) >>> 0;
}

/** True when the file has a Linux setup header. */
export function isLinux(kernel: Uint8Array): boolean {
  return kernel.length >= HDR_MAGIC + 6 && u32At(kernel, HDR_MAGIC) === MAGIC_HDRS;
}

/** Decodes and validates the setup header. Throws BootError. */
export function parseLinuxHeader(kernel: Uint8Array): LinuxHeader {
  if (!isLinux(kernel)) throw new BootError('ERR_BOOT_FORMAT', 'kernel', 'not a Linux bzImage');
  if (kernel.length < HDR_END_MAX) {
    throw new BootError('ERR_BOOT_TRUNCATED', 'kernel', 'truncated: the file ends in the setup header');
  }
  if (u16At(kernel, HDR_BOOT_FLAG) !== BOOT_FLAG) {
    throw new BootError('ERR_BOOT_FORMAT', 'kernel', 'not a Linux bzImage: the boot flag 0xAA55 is missing');
  }
  const version = u16At(kernel, HDR_VERSION);
  if (version < 0x202) {
    const text = `${version >>> 8}.${String(version & 255).padStart(2, '0')}`;
    throw new BootError('ERR_BOOT_FORMAT', 'kernel', `boot protocol ${text} is older than 2.02`);
  }
  if ((kernel[HDR_LOADFLAGS] & LOADED_HIGH) === 0) {
    throw new BootError(
      'ERR_BOOT_FORMAT',
      'kernel',
      'a zImage (loaded low) cannot be booted, only a bzImage',
    );
  }
  const kernelOffset = ((kernel[HDR_SETUP_SECTS] || 4) + 1) * 512;
  // syssize counts 16-byte paragraphs; the last one may be partial.
  const announced = version >= 0x204 ? u32At(kernel, HDR_SYSSIZE) * 16 : 1;
  if (kernel.length <= kernelOffset || kernel.length + 15 < kernelOffset + announced) {
    throw new BootError(
      'ERR_BOOT_TRUNCATED',
      'kernel',
      `truncated: ${kernel.length} bytes, the header announces ${kernelOffset + announced}`,
    );
  }
  const size = kernel.length - kernelOffset;
  const alignment = version >= 0x205 ? u32At(kernel, HDR_KERNEL_ALIGNMENT) : 0;
  const prefHigh = version >= 0x20a ? u32At(kernel, HDR_PREF_ADDRESS + 4) : 0;
  const prefAddress =
    version >= 0x20a ? prefHigh * 2 ** 32 + u32At(kernel, HDR_PREF_ADDRESS) : DEFAULT_LOAD_ADDRESS;
  return {
    version,
    kernelOffset,
    headerEnd: Math.min(HDR_MAGIC + kernel[HDR_JUMP_LENGTH], HDR_END_MAX),
    initrdAddrMax: version >= 0x203 ? u32At(kernel, HDR_INITRD_ADDR_MAX) : 0x37ff_ffff,
    cmdlineSize: version >= 0x206 ? u32At(kernel, HDR_CMDLINE_SIZE) : 255,
    relocatable: version >= 0x205 && kernel[HDR_RELOCATABLE] !== 0,
    alignment: alignment === 0 ? PAGE_SIZE : alignment,
    prefAddress,
    initSize: version >= 0x20a ? Math.max(u32At(kernel, HDR_INIT_SIZE), size) : size,
    entry64: version >= 0x20c && (u16At(kernel, HDR_XLOADFLAGS) & XLF_KERNEL_64) !== 0,
  };
}

/** Places kernel, initrd, command line and boot_params, and says how to enter. Throws BootError. */
export function loadLinux(memory: BootMemory, options: LinuxBootOptions): BootState {
  const { kernel } = options;
  const header = parseLinuxHeader(kernel);
  const code = kernel.subarray(header.kernelOffset);
  const loadAddress = header.prefAddress;
  if (loadAddress < DEFAULT_LOAD_ADDRESS || loadAddress + header.initSize > 0xffff_ffff) {
    throw new BootError(
      'ERR_BOOT_FORMAT',
      'kernel',
      `bad preferred address 0x${loadAddress.toString(16)} with ${sizeText(header.initSize)} in the setup header`,
    );
  }
  // A relocatable kernel loaded lower would move itself here all the same (boot, "pref_address").
  if (!memory.isFree(loadAddress, header.initSize)) {
    throw new BootError(
      'ERR_BOOT_MEMORY',
      'm',
      `the kernel needs RAM up to ${sizeText(loadAddress + header.initSize)}, the machine has ${sizeText(memory.ram.length)}`,
    );
  }
  memory.reserve('kernel', 'kernel', loadAddress, header.initSize);
  memory.ram.set(code, loadAddress);

  const bits = header.entry64 ? 64 : 32;
  const { segments, gdt } = flatSegments(bits, BOOT_CS, BOOT_DS);
  memory.place('kernel', 'GDT', GDT_AT, gdt);
  memory.reserve('kernel', 'boot_params', BOOT_PARAMS_AT, BOOT_PARAMS_SIZE);
  memory.reserve('kernel', 'boot stack', STACK_AT, STACK_SIZE);
  if (bits === 64) placePageTables(memory);
  placeCommandLine(memory, header, options.append ?? '');
  writeBootParams(memory, header, options, loadAddress);
  if (options.initrd !== undefined && options.initrd.length > 0) placeInitrd(memory, header, options.initrd);

  return {
    protocol: bits === 64 ? 'linux64' : 'linux32',
    mode: bits === 64 ? 'long64' : 'protected32',
    ip: bits === 64 ? loadAddress + ENTRY64_OFFSET : loadAddress,
    regs: { rsi: BOOT_PARAMS_AT, rsp: STACK_AT + STACK_SIZE },
    eflags: 2,
    cr0: bits === 64 ? (CR0_PG | CR0_ET | CR0_PE) >>> 0 : CR0_ET | CR0_PE,
    cr3: bits === 64 ? PAGE_TABLES_AT : 0,
    cr4: bits === 64 ? CR4_PAE : 0,
    efer: bits === 64 ? EFER_LME | EFER_LMA : 0,
    gdt: { base: GDT_AT, limit: gdt.length - 1 },
    idt: { base: 0, limit: 0 },
    ...segments,
    placed: memory.placed,
  };
}

/** Identity map of the first 4 GiB with 2 MiB pages: PML4, PDPT, four page directories. */
function placePageTables(memory: BootMemory): void {
  // Accessed and dirty are set beforehand, so that no page walk has to write here.
  const TABLE = 0x23;
  const LARGE_PAGE = 0xe3;
  memory.reserve('kernel', 'page tables', PAGE_TABLES_AT, 6 * PAGE_SIZE);
  memory.ram.fill(0, PAGE_TABLES_AT, PAGE_TABLES_AT + 6 * PAGE_SIZE);
  const { view } = memory;
  const pdpt = PAGE_TABLES_AT + PAGE_SIZE;
  view.setUint32(PAGE_TABLES_AT, pdpt | TABLE, true);
  for (let i = 0; i < 4; i++) {
    const directory = pdpt + (i + 1) * PAGE_SIZE;
    view.setUint32(pdpt + i * 8, directory | TABLE, true);
    for (let j = 0; j < 512; j++) {
      view.setUint32(directory + j * 8, (((i << 30) | (j << 21)) >>> 0) + LARGE_PAGE, true);
    }
  }
}

function placeCommandLine(memory: BootMemory, header: LinuxHeader, append: string): void {
  const text = new TextEncoder().encode(append);
  if (text.includes(0)) {
    throw new BootError('ERR_BOOT_CMDLINE', 'append', 'the command line contains a NUL character');
  }
  const limit = Math.min(header.cmdlineSize, CMDLINE_MAX - 1);
  if (text.length > limit) {
    throw new BootError(
      'ERR_BOOT_CMDLINE',
      'append',
      `the command line has ${text.length} bytes, the kernel takes ${limit}`,
    );
  }
  const data = new Uint8Array(text.length + 1);
  data.set(text);
  memory.place('append', 'command line', CMDLINE_AT, data);
}

function writeBootParams(
  memory: BootMemory,
  header: LinuxHeader,
  options: LinuxBootOptions,
  loadAddress: number,
): void {
  const { view, e820 } = memory;
  const at = BOOT_PARAMS_AT;
  memory.ram.fill(0, at, at + BOOT_PARAMS_SIZE);
  memory.ram.set(options.kernel.subarray(HDR_SETUP_SECTS, header.headerEnd), at + HDR_SETUP_SECTS);
  view.setUint16(at + HDR_VID_MODE, VID_MODE_NORMAL, true);
  view.setUint8(at + HDR_TYPE_OF_LOADER, LOADER_UNDEFINED);
  view.setUint32(at + HDR_CODE32_START, loadAddress, true);
  view.setUint32(at + HDR_CMD_LINE_PTR, CMDLINE_AT, true);
  if (options.textConsole === true) {
    view.setUint8(at + BP_ORIG_VIDEO_MODE, 3);
    view.setUint8(at + BP_ORIG_VIDEO_COLS, 80);
    view.setUint8(at + BP_ORIG_VIDEO_LINES, 25);
    view.setUint8(at + BP_ORIG_VIDEO_ISVGA, 1);
    view.setUint16(at + BP_ORIG_VIDEO_POINTS, 16, true);
  }
  if (e820.length > E820_MAX_ENTRIES) {
    throw new BootError('ERR_BOOT_MEMORY', 'm', `${e820.length} memory ranges, the protocol takes 128`);
  }
  view.setUint8(at + BP_E820_ENTRIES, e820.length);
  e820.forEach((entry, i) => {
    const entryAt = at + BP_E820_TABLE + i * 20;
    view.setBigUint64(entryAt, BigInt(entry.base), true);
    view.setBigUint64(entryAt + 8, BigInt(entry.length), true);
    view.setUint32(entryAt + 16, entry.type, true);
  });
  // Sizes for a kernel that does not read the map, in KiB above 1 MiB.
  const aboveKiB = Math.max(0, Math.floor((memory.ram.length - 0x10_0000) / 1024));
  view.setUint16(at + BP_EXT_MEM_K, Math.min(aboveKiB, 0xfc00), true);
  view.setUint32(at + BP_ALT_MEM_K, aboveKiB, true);
  if (options.rsdp !== undefined) view.setBigUint64(at + BP_ACPI_RSDP_ADDR, BigInt(options.rsdp), true);
  if (header.version >= 0x209) {
    view.setBigUint64(at + HDR_SETUP_DATA, 0n, true);
    if (options.rngSeed !== undefined && options.rngSeed.length > 0) placeRngSeed(memory, options.rngSeed);
  }
}

/** A setup_data node: u64 next, u32 type, u32 length, data (boot, "setup_data"). */
function placeRngSeed(memory: BootMemory, seed: Uint8Array): void {
  memory.reserve('kernel', 'setup_data', SETUP_DATA_AT, 16 + seed.length);
  memory.view.setBigUint64(SETUP_DATA_AT, 0n, true);
  memory.view.setUint32(SETUP_DATA_AT + 8, SETUP_RNG_SEED, true);
  memory.view.setUint32(SETUP_DATA_AT + 12, seed.length, true);
  memory.ram.set(seed, SETUP_DATA_AT + 16);
  memory.view.setBigUint64(BOOT_PARAMS_AT + HDR_SETUP_DATA, BigInt(SETUP_DATA_AT), true);
}

function placeInitrd(memory: BootMemory, header: LinuxHeader, initrd: Uint8Array): void {
  const at = memory.findHigh(initrd.length, PAGE_SIZE, DEFAULT_LOAD_ADDRESS, header.initrdAddrMax + 1);
  if (at === undefined) {
    throw new BootError(
      'ERR_BOOT_MEMORY',
      'initrd',
      `does not fit: ${sizeText(initrd.length)} beside a kernel that needs ${sizeText(header.initSize)}, in ${sizeText(memory.ram.length)} of RAM`,
    );
  }
  memory.place('initrd', 'initrd', at, initrd);
  memory.view.setUint32(BOOT_PARAMS_AT + HDR_RAMDISK_IMAGE, at, true);
  memory.view.setUint32(BOOT_PARAMS_AT + HDR_RAMDISK_SIZE, initrd.length, true);
}
