/**
 * Word (u32) indices of the fields of `CpuEnv` that helpers touch often, counted from the env's start.
 * A 64-bit field takes two: the low half at the index, the high half after it.
 */
import { CpuEnv, Segment } from '../env.ts';

function word(name: keyof typeof CpuEnv.fields & string): number {
  return CpuEnv.offsetOf(name) >>> 2;
}

export const W_REGS = word('regs');
export const W_CODE_PAGE = word('codePage');
export const W_IP = word('ip');
export const W_NEXT_IP = word('nextIp');
export const W_EFLAGS = word('eflags');
export const W_SLOW_ADDR = word('slowAddr');
export const W_SLOW_VALUE = word('slowValue');
export const W_SCRATCH = word('scratch');
export const W_CODE_SIZE = word('codeSize');
export const W_CODE_KIND = word('codeKind');
export const W_STACK_SIZE = word('stackSize');
export const W_CPL = word('cpl');
export const W_TLB_SET = word('tlbSet');
export const W_SET_CODE_KINDS = word('setCodeKinds');
export const W_EXC_VECTOR = word('excVector');
export const W_EXC_ERROR = word('excError');
export const W_EXIT_DETAIL = word('exitDetail');
export const W_SEGS = word('segs');
export const W_LDTR = word('ldtr');
export const W_TR = word('tr');
export const W_GDT_BASE = word('gdtBase');
export const W_IDT_BASE = word('idtBase');
export const W_GDT_LIMIT = word('gdtLimit');
export const W_IDT_LIMIT = word('idtLimit');
export const W_CR0 = word('cr0');
export const W_CR2 = word('cr2');
export const W_CR3 = word('cr3');
export const W_CR4 = word('cr4');
export const W_EFER = word('efer');
export const W_XCR0 = word('xcr0');
export const W_DR = word('dr');
export const W_STAR = word('star');
export const W_LSTAR = word('lstar');
export const W_CSTAR = word('cstar');
export const W_SFMASK = word('sfmask');
export const W_KERNEL_GS_BASE = word('kernelGsBase');
export const W_SYSENTER_CS = word('sysenterCs');
export const W_SYSENTER_ESP = word('sysenterEsp');
export const W_SYSENTER_EIP = word('sysenterEip');
export const W_TSC_AUX = word('tscAux');
export const W_TSC_ADJUST = word('tscAdjust');
export const W_APIC_BASE = word('apicBase');
export const W_PDPTE = word('pdpte');
export const W_INHIBIT = word('inhibit');
export const W_BUDGET = word('budget');
export const W_NMI_MASKED = word('nmiMasked');
export const W_STAT_TLB_FILLS = word('statTlbFills');

/** Words of a `Segment` and of its parts. */
export const SEG_WORDS = Segment.size >>> 2;
export const SEG_BASE = 0;
export const SEG_LIMIT = Segment.offsetOf('limit') >>> 2;
export const SEG_ATTR = Segment.offsetOf('attr') >>> 2;
export const SEG_SELECTOR = Segment.offsetOf('selector') >>> 2;

/** Numbers of the general registers. */
export const REG = { AX: 0, CX: 1, DX: 2, BX: 3, SP: 4, BP: 5, SI: 6, DI: 7 } as const;

/** CR0 (SDM 3A 2.5). PG is bit 31: compare with `!== 0`, the value is negative as an i32. */
export const CR0 = {
  PE: 1 << 0,
  MP: 1 << 1,
  EM: 1 << 2,
  TS: 1 << 3,
  ET: 1 << 4,
  NE: 1 << 5,
  WP: 1 << 16,
  AM: 1 << 18,
  NW: 1 << 29,
  CD: 1 << 30,
  PG: 1 << 31,
} as const;
/** CR4 (SDM 3A 2.5). */
export const CR4 = {
  VME: 1 << 0,
  PVI: 1 << 1,
  TSD: 1 << 2,
  DE: 1 << 3,
  PSE: 1 << 4,
  PAE: 1 << 5,
  MCE: 1 << 6,
  PGE: 1 << 7,
  PCE: 1 << 8,
  OSFXSR: 1 << 9,
  OSXMMEXCPT: 1 << 10,
  UMIP: 1 << 11,
  FSGSBASE: 1 << 16,
  PCIDE: 1 << 17,
  OSXSAVE: 1 << 18,
  SMEP: 1 << 20,
  SMAP: 1 << 21,
} as const;
/** IA32_EFER (SDM 3A 2.2.1). */
export const EFER = { SCE: 1, LME: 1 << 8, LMA: 1 << 10, NXE: 1 << 11 } as const;

/** Exception vectors (SDM 3A table 6-1). */
export const VEC = {
  DE: 0,
  DB: 1,
  NMI: 2,
  BP: 3,
  OF: 4,
  BR: 5,
  UD: 6,
  NM: 7,
  DF: 8,
  TS: 10,
  NP: 11,
  SS: 12,
  GP: 13,
  PF: 14,
  MF: 16,
  AC: 17,
  MC: 18,
  XM: 19,
  /** Not an exception: the instruction lost a race for its operand and runs again. */
  RETRY: 0x100,
} as const;

/** What a helper instruction returns to generated code (docs/plan-boot.md). */
export const STATUS = {
  NEXT: 0,
  EXCEPTION: 1,
  LOOKUP: 2,
  HALT: 3,
  SPECIAL: 4,
} as const;

/** `exitDetail` with STATUS.SPECIAL. */
export const SPECIAL = {
  /** Triple fault: the machine resets. */
  SHUTDOWN: 1,
} as const;

/** Bits of a segment's `attr`. */
export const ATTR = {
  ACCESSED: 1 << 8,
  /** Data: writable. Code: readable. */
  RW: 1 << 9,
  /** Data: expand down. Code: conforming. */
  DC: 1 << 10,
  CODE: 1 << 11,
  S: 1 << 12,
  DPL: 3 << 13,
  DPL_SHIFT: 13,
  P: 1 << 15,
  AVL: 1 << 20,
  L: 1 << 21,
  DB: 1 << 22,
  G: 1 << 23,
  MASK: 0x00f0ff00,
} as const;
/** A data segment that allows everything within its limit: these bits of its attributes are VALUE. */
export const ORDINARY = {
  MASK: ATTR.P | ATTR.S | ATTR.RW | ATTR.CODE | ATTR.DC,
  VALUE: ATTR.P | ATTR.S | ATTR.RW,
} as const;

/** Attributes of the flat segments these instructions load, without a descriptor table. */
export const FLAT = {
  CODE64: 0x00a09b00,
  CODE32: 0x00c09b00,
  DATA: 0x00c09300,
  DPL3: 0x6000,
} as const;

/** Enable bits of the breakpoints in DR7. */
export const DR7_ENABLES = 0xff;
