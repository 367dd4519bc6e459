/**
 * The CPU state with which a boot protocol enters the guest, as plain data: the machine copies it
 * into the first vCPU. Values fit a number (addresses are below 4 GiB).
 */

export type GprName =
  | 'rax'
  | 'rcx'
  | 'rdx'
  | 'rbx'
  | 'rsp'
  | 'rbp'
  | 'rsi'
  | 'rdi'
  | 'r8'
  | 'r9'
  | 'r10'
  | 'r11'
  | 'r12'
  | 'r13'
  | 'r14'
  | 'r15';

/** A segment register with its hidden part. */
export interface BootSegment {
  readonly selector: number;
  readonly base: number;
  /** Limit in bytes, already scaled by G. */
  readonly limit: number;
  /** Bits 8..23 of the descriptor's second dword at their place, as in `Segment` of src/cpu/env.ts. */
  readonly attr: number;
}

export interface BootTable {
  readonly base: number;
  readonly limit: number;
}

export interface BootState {
  readonly protocol: 'linux64' | 'linux32' | 'pvh' | 'multiboot';
  readonly mode: 'long64' | 'protected32';
  readonly ip: number;
  /** Registers not named are 0. */
  readonly regs: Readonly<Partial<Record<GprName, number>>>;
  /** Only bit 1 is set: interrupts are off. */
  readonly eflags: number;
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
  readonly efer: number;
  readonly gdt: BootTable;
  readonly idt: BootTable;
  readonly cs: BootSegment;
  readonly ds: BootSegment;
  readonly es: BootSegment;
  readonly ss: BootSegment;
  readonly fs: BootSegment;
  readonly gs: BootSegment;
  readonly tr: BootSegment;
  readonly ldtr: BootSegment;
  /** What was written to guest RAM, in order of address: for `info` and for tests. */
  readonly placed: readonly PlacedRange[];
}

export interface PlacedRange {
  readonly name: string;
  readonly start: number;
  readonly size: number;
}

/** Bits of the control registers (Intel SDM volume 3, section 2.5). */
export const CR0_PE = 1 << 0;
export const CR0_ET = 1 << 4;
export const CR0_PG = 0x8000_0000;
export const CR4_PAE = 1 << 5;
export const EFER_LME = 1 << 8;
export const EFER_LMA = 1 << 10;

/** Present, code, execute/read, accessed; L and G (SDM volume 3, section 3.4.5). */
const ATTR_CODE64 = 0x00a0_9b00;
/** Present, code, execute/read, accessed; D and G. */
const ATTR_CODE32 = 0x00c0_9b00;
/** Present, data, read/write, accessed; B and G. */
const ATTR_DATA = 0x00c0_9300;
/** Present, busy 32-bit TSS. */
const ATTR_TSS = 0x0000_8b00;
/** Present LDT; with selector 0 it cannot be used. */
const ATTR_LDT = 0x0000_8200;

export const FLAT_LIMIT = 0xffff_ffff;

function flat(selector: number, attr: number): BootSegment {
  return { selector, base: 0, limit: FLAT_LIMIT, attr };
}

/** Selectors, segments and GDT bytes of a flat environment. */
export interface FlatSegments {
  readonly segments: Pick<BootState, 'cs' | 'ds' | 'es' | 'ss' | 'fs' | 'gs' | 'tr' | 'ldtr'>;
  readonly gdt: Uint8Array;
}

/** A GDT with flat code and data at the given selectors, and the segment registers loaded from it. */
export function flatSegments(bits: 32 | 64, codeSelector: number, dataSelector: number): FlatSegments {
  const cs = flat(codeSelector, bits === 64 ? ATTR_CODE64 : ATTR_CODE32);
  const data = flat(dataSelector, ATTR_DATA);
  const gdt = new Uint8Array(Math.max(codeSelector, dataSelector) + 8);
  putDescriptor(gdt, cs);
  putDescriptor(gdt, data);
  const tr = { selector: 0, base: 0, limit: 0x67, attr: ATTR_TSS };
  const ldtr = { selector: 0, base: 0, limit: 0xffff, attr: ATTR_LDT };
  return { segments: { cs, ds: data, es: data, ss: data, fs: data, gs: data, tr, ldtr }, gdt };
}

/** Writes a flat descriptor: base 0, limit 0xfffff with G (SDM volume 3, figure 3-8). */
function putDescriptor(gdt: Uint8Array, segment: BootSegment): void {
  const view = new DataView(gdt.buffer, gdt.byteOffset, gdt.byteLength);
  view.setUint32(segment.selector, 0x0000_ffff, true);
  view.setUint32(segment.selector + 4, segment.attr | 0x000f_0000, true);
}
