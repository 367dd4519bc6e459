/**
 * The state of one vCPU, in shared memory. One definition for generated code (offsets), TypeScript
 * (views), snapshots and the gdb stub. Everything is owned by the vCPU's thread except the words
 * under "touched by other threads", which are atomic.
 */
import { array, bytes, i32, padTo, struct, u16, u32, u64, u8, type ViewOf } from '@smp86/atomics-sync';

/** A segment register or system segment, with its hidden part. */
export const Segment = struct({
  /** Base, zero-extended in legacy mode, 64 bits in long mode. */
  base: u64,
  /** Limit in bytes, already scaled by G. */
  limit: u32,
  /** Bits 8..23 of the descriptor's second dword at their place (type, S, DPL, P, AVL, L, D/B, G). */
  attr: u32,
  selector: u32,
  pad: u32,
});
export type SegmentView = ViewOf<typeof Segment>;

/** Bits of `interruptRequest`: what other threads (or the vCPU itself) want the vCPU to look at. */
export const INTERRUPT = {
  /** INTR: the LAPIC (or the 8259 through LINT0/virtual wire) has a vector to deliver. */
  HARD: 1,
  NMI: 2,
  SMI: 4,
  INIT: 8,
  SIPI: 16,
  /** Another thread asks for this vCPU's TLBs to be flushed (e.g. A20, memory map changes). */
  TLB_FLUSH: 32,
  /** All decoded code and all regions were dropped: the worker's region table is to be emptied. */
  CODE_FLUSH: 64,
} as const;

/** Bits of `exitRequest`: nonzero makes generated code, which reads the low byte alone, leave at its next check. */
export const EXIT = {
  /** interruptRequest, queued work or a stop request is to be looked at. */
  KICK: 1,
  /** The vCPU's turn ends, where several share a thread: it waits for another one. */
  YIELD: 2,
  /** The kick is another vCPU's. */
  VCPU: 4,
} as const;

/** Why generated code returned to the vCPU loop (the value `run` returns). */
export const REASON = {
  /** exitRequest was seen at a check; `ip` is that of the next instruction. */
  KICK: 0,
  /** An exception is to be delivered: `excVector`, `excError`, and CR2 for #PF; `ip` is the faulting one's. */
  EXCEPTION: 1,
  /** The next instruction is to be fetched afresh (no decoded code for it yet, mode changed, page crossing). */
  LOOKUP: 2,
  /** HLT was executed; `ip` is that of the next instruction. */
  HALT: 3,
  /** An instruction done by TypeScript asks for the loop (reset, shutdown, exclusive access …): see `exitDetail`. */
  SPECIAL: 4,
  /** The instruction budget (icount, single step) is used up. */
  BUDGET: 5,
  /** The instruction at `ip` is to be executed alone in tier 0: a region met a case it leaves to TypeScript. */
  ALONE: 6,
  /** A branch became hot: `ip` is its target, `record` the jump's record. */
  HOT: 7,
  /** A region's code is not in this worker yet, or one of its pages is not in the code TLB. */
  REGION: 8,
} as const;

/** Indices in `segs`. */
export const SEG = { ES: 0, CS: 1, SS: 2, DS: 3, FS: 4, GS: 5 } as const;

/** Entries of a TLB's arrays for reads and for writes (a power of two): 64 MiB. */
export const TLB_ENTRIES = 16384;
/**
 * Bytes of a TLB entry: tag u64, addend u32 (what added to the low half of a linear address of the page gives the wasm
 * address), info u32. The tag is the linear page address, for data less one, so that less an address it is -1 less the
 * offset in the page; or an `invalidTag`.
 */
export const TLB_ENTRY_SIZE = 16;
/** Low half of the tag of entry `n` (counted from any array's start) when it holds nothing: bits 0 and 1 are 1 and 0. */
export function invalidTag(n: number): number {
  // no address that has this entry is within a page of it, whatever the tag's high half: probes subtract
  return ((((n ^ (CODE_TLB_ENTRIES / 2)) & (CODE_TLB_ENTRIES - 1)) << 12) | 1) >>> 0;
}
/** At most TLB_ENTRIES. The code of a kernel, some 4000 pages in a row, has a place for each: each conflict costs a look-up. */
export const CODE_TLB_ENTRIES = 4096;

/** Entries and bytes of an entry of a jump cache, a power of two each. */
export const JUMP_ENTRIES = 4096;
export const JUMP_ENTRY_SIZE = 32;
/**
 * Where a region that is jumped to begins: linear address u64, the set's LOSSES of when it was last entered the long way,
 * u64; its handler, and what that gets in place of a record, u32 each.
 */
export const JUMP = { LINEAR: 0, LOSSES: 8, HANDLER: 16, PLACE: 20 } as const;

const ENTRIES_END = (2 * TLB_ENTRIES + CODE_TLB_ENTRIES) * TLB_ENTRY_SIZE;
const JUMPS_END = ENTRIES_END + JUMP_ENTRIES * JUMP_ENTRY_SIZE;
/** What `invalidTag` wants of the place where each array of entries begins. */
const ALIGNED = CODE_TLB_ENTRIES * TLB_ENTRY_SIZE;
/** One MMU index's arrays. Order and sizes are known to generated code. */
export const TLB_SET = {
  READ: 0,
  WRITE: TLB_ENTRIES * TLB_ENTRY_SIZE,
  CODE: 2 * TLB_ENTRIES * TLB_ENTRY_SIZE,
  ENTRIES_END,
  /** The jump cache. */
  JUMPS: ENTRIES_END,
  /** u64: how often a code entry was lost or replaced, and never 0: what a region found there holds until then. */
  LOSSES: JUMPS_END,
  SIZE: Math.ceil((JUMPS_END + 8) / ALIGNED) * ALIGNED,
} as const;
/** MMU indices: which TLB set applies. KERNEL_AC: supervisor with SMAP and EFLAGS.AC=1. */
export const MMU = { KERNEL: 0, USER: 1, KERNEL_AC: 2, COUNT: 3 } as const;

/** An XMM/YMM register: 16 bytes now, 32 reserved so that AVX needs no new layout. */
export const XMM_STRIDE = 32;

/** Bit of `codeKind`: accesses through ES, SS and DS are checked against limits and types. */
export const CHECKED = 4;

export const CpuEnv = struct({
  // --- known to generated code by slot offset: keep below 2^16 ---
  /** RAX RCX RDX RBX RSP RBP RSI RDI R8–R15. */
  regs: array(u64, 16),
  /** Always 0: the base or index slot of an address without one. */
  zero: u64,
  /** Linear address computed by the EA record for addresses that do not fit the fast form. */
  tmpAddr: u64,
  /** Linear address of the 4 KiB page that holds the instruction being executed. */
  codePage: u64,
  /** Instruction pointer (offset in CS), valid outside generated code. */
  ip: u64,
  /** While an instruction done by TypeScript runs: the ip of the instruction after it. */
  nextIp: u64,
  /** Lazy flags; see flags.ts. ZF: flagRes == 0. */
  flagRes: u64,
  /** CF: bit 63; OF: bit 63 xor bit 62. */
  flagCarry: u64,
  /** AF: bit 4 of (flagAux ^ flagRes); PF: even parity of (flagRes ^ flagAux>>8) & 255; SF: sign of flagRes xor bit 16. */
  flagAux: u32,
  /** EFLAGS without CF PF AF ZF SF OF (those bits are 0 here), DF included, bit 1 set. */
  eflags: u32,
  /** Scratch for generated code and its helpers. */
  slowAddr: u64,
  slowValue: u64,
  slowValueHigh: u64,
  scratch: array(u64, 8),
  /** Operands of deferred flags; see sem/deferred-flags.ts. */
  flagA: u64,
  flagB: u64,
  xmm: bytes(16 * XMM_STRIDE),
  mxcsr: u32,
  /** 0..2: 16-, 32-, 64-bit code (CS.L, CS.D). */
  codeSize: u32,
  /** `codeSize`, and CHECKED where ES, SS or DS is not flat: what decoded code depends on. */
  codeKind: u32,
  /** 0..2: 16-, 32-, 64-bit stack pointer. */
  stackSize: u32,
  cpl: u32,
  /** Byte offset from the env's start of the TLB set of the current MMU index. */
  tlbSet: u32,
  /** Instructions left before REASON.BUDGET; counts down only in icount or single-step mode. */
  budget: i32,
  /** Record of the region whose module the worker lacks, at its exit (wasm address). */
  record: u32,
  /** Page descriptor (wasm address) of the code being executed, 0 for one-shot code; see tier0/code-cache.ts. */
  codeDesc: u32,
  /** Linear address at which a handler outside the main loop wants to go on. */
  jumpTarget: u64,
  /** Exception being raised by a helper: vector, error code (-1: none). */
  excVector: u32,
  excError: i32,
  exitDetail: u32,
  /** With `exitDetail` the region that an indirect jump left for hot code: the jump's offset in it. */
  exitSite: i32,
  /** Deferred flags of a region: 0 when the three words are valid. Always 0 outside generated code. */
  flagKind: u32,
  segs: array(Segment, 6),
  // --- x87: eight 80-bit registers, 16 bytes apart: mantissa u64, sign/exponent u16 ---
  fpRegs: bytes(8 * 16),
  fpTop: u32,
  fpControl: u16,
  fpStatus: u16,
  /** Full tag word, 2 bits a register as FSTENV stores it is derived; here 1 = valid, 0 = empty, bit per register. */
  fpTags: u8,
  fpOpcode: u16,
  fpIp: u64,
  fpDp: u64,
  fpCs: u16,
  fpDs: u16,
  // --- system registers ---
  ldtr: Segment,
  tr: Segment,
  gdtBase: u64,
  idtBase: u64,
  gdtLimit: u32,
  idtLimit: u32,
  cr0: u64,
  cr2: u64,
  cr3: u64,
  cr4: u64,
  efer: u64,
  xcr0: u64,
  dr: array(u64, 8),
  star: u64,
  lstar: u64,
  cstar: u64,
  sfmask: u64,
  kernelGsBase: u64,
  sysenterCs: u64,
  sysenterEsp: u64,
  sysenterEip: u64,
  tscAux: u64,
  tscAdjust: u64,
  pat: u64,
  apicBase: u64,
  miscEnable: u64,
  mtrrDefType: u64,
  mtrrFixed: array(u64, 11),
  mtrrVar: array(u64, 16),
  /** PAE page-directory-pointer entries as loaded with CR3 (SDM 3A 4.4.1). */
  pdpte: array(u64, 4),
  mcgStatus: u64,
  mcgCtl: u64,
  /** MCi_CTL, STATUS, ADDR, MISC of the machine-check banks. */
  mcBanks: array(u64, 40),
  microcodeRev: u64,
  debugCtl: u64,
  hwcr: u64,
  /** By MMU index: the kind of code that the code entries of its TLB set were decoded for; the entries do not tell. */
  setCodeKinds: array(u32, MMU.COUNT),
  /** State of the generator behind RDRAND and RDSEED, with -seed. Not touched by reset. */
  randomState: u64,
  /** Nonzero for one instruction after STI / MOV SS: interrupts are held off. */
  inhibit: u32,
  /** NMI blocked until IRET. */
  nmiMasked: u32,
  index: u32,
  apicId: u32,
  /** Nonzero on the bootstrap processor. */
  bsp: u32,
  /** Counters (wrapping): for `info jit` and benchmarks. */
  statInstructions: u64,
  statTlbFills: u64,
  statLookups: u64,
  /** How often regions were left, by EXIT_COUNT of jit/layout.ts. */
  statRegionExits: array(u64, 12),
  // --- touched by other threads: atomic ---
  pad0: padTo(64),
  /** Bits of EXIT; generated code reads it atomically. */
  exitRequest: i32,
  /** Bits of INTERRUPT. */
  interruptRequest: i32,
  /** 1 while halted (HLT or waiting for SIPI). */
  halted: i32,
  /** 1: an AP that has not had its SIPI. */
  waitForSipi: i32,
  sipiVector: i32,
  /** Futex word that a sleeping vCPU waits on; bumped by kick. */
  kickSeq: i32,
  stopRequested: i32,
  stopped: i32,
  /** 1 while executing guest code (exclusive sections count it). */
  running: i32,
  exclusiveWaiter: i32,
  pad1: padTo(64),
});
export type CpuEnvView = ViewOf<typeof CpuEnv>;

/** Bytes reserved for the env proper, before the TLB sets. */
export const ENV_SIZE = 4096;
/** Byte offset of MMU index `i`'s TLB set from the env's start. */
export function tlbSetOffset(mmuIndex: number): number {
  return ENV_SIZE + mmuIndex * TLB_SET.SIZE;
}
/** Scratch area for device accesses, page-crossing accesses and one-instruction code, after the TLB sets. */
export const SCRATCH_OFFSET = ENV_SIZE + MMU.COUNT * TLB_SET.SIZE;
export const SCRATCH_SIZE = 4096;
/** Room for what regions note of a vCPU, after the scratch area; see jit/layout.ts. */
export const REGION_NOTES_SIZE = 40960;
/** Tables of the x87's transcendental functions, after those; see fpu/transcendental-tables.ts. */
export const FPU_TABLES_OFFSET = SCRATCH_OFFSET + SCRATCH_SIZE + REGION_NOTES_SIZE;
export const FPU_TABLES_ROOM = 24576;
/** Where write entries are, by page, a word for each of so many classes of wasm pages; see sys/tlb.ts. */
export const WRITE_PLACES_OFFSET = FPU_TABLES_OFFSET + FPU_TABLES_ROOM;
export const WRITE_CLASSES = 65536;
/** Bytes of one vCPU's block. */
export const VCPU_BLOCK_SIZE = Math.ceil((WRITE_PLACES_OFFSET + WRITE_CLASSES * 4) / 65536) * 65536;

// `invalidTag` takes any entry's number from the first set's start; that of an array's start is a multiple
if (TLB_ENTRIES % CODE_TLB_ENTRIES !== 0) throw new Error('TLB arrays do not line up');
if (CpuEnv.size > ENV_SIZE) throw new Error(`CpuEnv is ${CpuEnv.size} bytes`);
