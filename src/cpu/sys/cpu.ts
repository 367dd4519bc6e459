/**
 * What the TypeScript side of a vCPU works on. The state itself is `CpuEnv` in shared memory; this
 * object holds views on it and the vCPU's connections. One per vCPU, in the thread that runs it.
 */
import { viewsOf, type Views } from '@smp86/atomics-sync';
import { CHECKED, CpuEnv, MMU, SCRATCH_OFFSET, SEG, tlbSetOffset, type CpuEnvView } from '../env.ts';
import { FLAG } from '../flags.ts';
import type { CpuModel } from './cpuid.ts';
import { Mmu } from './mmu.ts';
import type { PhysMemory } from './phys-memory.ts';
import { allFlat } from './segment-limits.ts';
import {
  ATTR,
  CR0,
  CR4,
  EFER,
  SEG_ATTR,
  SEG_WORDS,
  STATUS,
  VEC,
  W_CODE_KIND,
  W_CODE_SIZE,
  W_CPL,
  W_CR0,
  W_CR2,
  W_CR4,
  W_EFER,
  W_EFLAGS,
  W_EXC_ERROR,
  W_EXC_VECTOR,
  W_IP,
  W_NEXT_IP,
  W_REGS,
  W_SCRATCH,
  W_SEGS,
  W_SLOW_ADDR,
  W_STACK_SIZE,
  W_SET_CODE_KINDS,
  W_TLB_SET,
} from './words.ts';

const W_INTERRUPT_REQUEST = CpuEnv.offsetOf('interruptRequest') >>> 2;

/** Port I/O. Sizes 1, 2, 4; values unsigned. Takes the BQL itself where a device needs it. */
export interface IoBus {
  read(port: number, size: number): number;
  write(port: number, size: number, value: number): void;
}

/** What the CPU core asks of its local APIC. 64-bit values are [lo, hi] pairs. */
export interface ApicHooks {
  /** x2APIC registers (MSR 0x800–0x8FF). False: #GP(0). Called only while x2APIC mode is on. */
  readMsr(index: number, out: Uint32Array): boolean;
  writeMsr(index: number, lo: number, hi: number): boolean;
  /** IA32_TSC_DEADLINE, in guest TSC ticks; 0 disarms. */
  readTscDeadline(out: Uint32Array): void;
  writeTscDeadline(lo: number, hi: number): void;
  /** The guest's TSC jumped (write to TSC or TSC_ADJUST): a deadline must be computed anew. */
  tscChanged(): void;
  /** Task priority, bits 7:4 of TPR, as CR8 shows it (0–15). */
  getCr8(): number;
  setCr8(value: number): void;
  /** IA32_APIC_BASE was written (already checked and stored in `env.apicBase`). */
  apicBaseChanged(): void;
}

export interface ClockHooks {
  /** The machine's TSC before this vCPU's TSC_ADJUST: out[0] = low, out[1] = high. */
  readTsc(out: Uint32Array): void;
}

/** The decoded-code cache's side of stores. */
export interface CodeCacheHook {
  /** Bytes from which code was decoded have been changed: drop that code everywhere. */
  written(hostOffset: number, length: number): void;
}

export interface CpuOptions {
  buffer: SharedArrayBuffer;
  /** Wasm address of the vCPU's block. */
  base: number;
  mem: PhysMemory;
  ports: IoBus;
  apic: ApicHooks;
  clock: ClockHooks;
  model: CpuModel;
  codeCache: CodeCacheHook;
  /** Code size, stack size, privilege, paging or address-space changed: look code up afresh. */
  onModeChange?: () => void;
  /** Between `exclusive(true)` and `exclusive(false)` all other vCPUs stand still. Absent: there are none. */
  exclusive?: (begin: boolean) => void;
  /** Instructions are counted (icount). */
  counting?: boolean;
  /** Source of RDRAND and RDSEED: an unsigned 32-bit number. Absent: the host's generator. */
  random?: () => number;
}

const randomWord = new Uint32Array(1);
function hostRandom(): number {
  return crypto.getRandomValues(randomWord)[0];
}

/** *Thread:* vCPU. */
export class Cpu {
  readonly env: CpuEnvView;
  readonly views: Views;
  /** Wasm address of the env. */
  readonly base: number;
  /** Index of the env's first word in `u32`. */
  readonly w: number;
  readonly u8: Uint8Array<SharedArrayBuffer>;
  readonly u16: Uint16Array<SharedArrayBuffer>;
  readonly u32: Uint32Array<SharedArrayBuffer>;
  readonly i32: Int32Array<SharedArrayBuffer>;
  readonly u64: BigUint64Array<SharedArrayBuffer>;
  readonly mem: PhysMemory;
  readonly ports: IoBus;
  readonly apic: ApicHooks;
  readonly clock: ClockHooks;
  readonly model: CpuModel;
  readonly codeCache: CodeCacheHook;
  readonly mmu: Mmu;
  onModeChange: () => void;
  exclusive: (begin: boolean) => void;
  random: () => number;
  readonly counting: boolean;
  /** Told of each exception and interrupt before it is delivered (a log); kind: KIND of exceptions.ts. */
  onDelivery: ((vector: number, error: number, kind: number) => void) | undefined = undefined;
  /** Told of each write of CR0, CR3 and CR4 that is done, by the number (a log). */
  onControl: ((register: number, value: bigint) => void) | undefined = undefined;
  /** A pair of words for hooks that return 64 bits. */
  readonly pair = new Uint32Array(2);
  /** Bits of DR6 for a debug trap after the current instruction (debug.ts). */
  pendingDebug = 0;
  /** Set by a helper that has a result in most cases: there is none now, operand 0 stays as it is. */
  keepOperand = false;
  /** Set by every delivery: an instruction that was to be followed by a single-step trap went to a handler instead. */
  delivered = false;
  /** Wasm address of the scratch area. */
  readonly scratchArea: number;

  constructor(options: CpuOptions) {
    this.views = viewsOf(options.buffer);
    this.env = CpuEnv.at(options.buffer, options.base);
    this.base = options.base;
    this.w = options.base >>> 2;
    this.u8 = this.views.u8;
    this.u16 = this.views.u16;
    this.u32 = this.views.u32;
    this.i32 = this.views.i32;
    this.u64 = this.views.u64;
    this.mem = options.mem;
    this.ports = options.ports;
    this.apic = options.apic;
    this.clock = options.clock;
    this.model = options.model;
    this.codeCache = options.codeCache;
    this.onModeChange = options.onModeChange ?? (() => {});
    this.exclusive = options.exclusive ?? (() => {});
    this.random = options.random ?? hostRandom;
    this.counting = options.counting ?? false;
    this.scratchArea = options.base + SCRATCH_OFFSET;
    this.mmu = new Mmu(this);
  }

  // --- words of the env ---

  /** A word of the env. */
  get(word: number): number {
    return this.u32[this.w + word];
  }
  set(word: number, value: number): void {
    this.u32[this.w + word] = value;
  }
  /** Sets a 64-bit field. */
  set64(word: number, lo: number, hi: number): void {
    this.u32[this.w + word] = lo;
    this.u32[this.w + word + 1] = hi;
  }
  /** Low half of a general register. */
  reg(n: number): number {
    return this.u32[this.w + W_REGS + n * 2];
  }
  regHigh(n: number): number {
    return this.u32[this.w + W_REGS + n * 2 + 1];
  }
  setReg(n: number, lo: number, hi: number): void {
    const i = this.w + W_REGS + n * 2;
    this.u32[i] = lo;
    this.u32[i + 1] = hi;
  }
  /** Writes the low `size` bytes as an instruction of that operand size does (4 bytes clear the upper half). */
  writeReg(n: number, size: number, lo: number, hi: number): void {
    const i = this.w + W_REGS + n * 2;
    if (size === 2) this.u16[i << 1] = lo;
    else if (size === 1) this.u8[i << 2] = lo;
    else {
      this.u32[i] = lo;
      this.u32[i + 1] = size === 8 ? hi : 0;
    }
  }
  /** Operand `n` of the helper instruction, low half. */
  op(n: number): number {
    return this.u32[this.w + W_SCRATCH + n * 2];
  }
  opHigh(n: number): number {
    return this.u32[this.w + W_SCRATCH + n * 2 + 1];
  }
  /** The value generated code writes to operand 0. */
  setResult(lo: number, hi: number): void {
    const i = this.w + W_SCRATCH + 8;
    this.u32[i] = lo;
    this.u32[i + 1] = hi;
  }
  get addrLo(): number {
    return this.u32[this.w + W_SLOW_ADDR];
  }
  get addrHi(): number {
    return this.u32[this.w + W_SLOW_ADDR + 1];
  }
  setIp(lo: number, hi: number): void {
    const i = this.w + W_IP;
    this.u32[i] = lo;
    this.u32[i + 1] = hi;
  }
  /** ip = nextIp. */
  advance(): void {
    const i = this.w;
    this.u32[i + W_IP] = this.u32[i + W_NEXT_IP];
    this.u32[i + W_IP + 1] = this.u32[i + W_NEXT_IP + 1];
  }

  // --- modes ---

  get cpl(): number {
    return this.u32[this.w + W_CPL];
  }
  /** Index in `u32` of segment `s`. */
  segWord(s: number): number {
    return this.w + W_SEGS + s * SEG_WORDS;
  }
  protectedMode(): boolean {
    return (this.u32[this.w + W_CR0] & CR0.PE) !== 0;
  }
  v86(): boolean {
    return (this.u32[this.w + W_EFLAGS] & FLAG.VM) !== 0;
  }
  /** Protected mode and not virtual-8086. */
  protectedNotV86(): boolean {
    return this.protectedMode() && !this.v86();
  }
  /** EFER.LMA: 64-bit or compatibility mode. */
  longMode(): boolean {
    return (this.u32[this.w + W_EFER] & EFER.LMA) !== 0;
  }
  /** 64-bit code. */
  code64(): boolean {
    return this.u32[this.w + W_CODE_SIZE] === 2;
  }
  iopl(): number {
    return (this.u32[this.w + W_EFLAGS] >>> 12) & 3;
  }

  /**
   * Derives codeSize, codeKind, stackSize and the MMU index from the segments, CPL and control registers. To be called
   * after any of them changed.
   */
  updateMode(): void {
    const u32 = this.u32;
    const w = this.w;
    const cs = u32[this.segWord(SEG.CS) + SEG_ATTR];
    const ss = u32[this.segWord(SEG.SS) + SEG_ATTR];
    const codeSize =
      (u32[w + W_EFER] & EFER.LMA) !== 0 && (cs & ATTR.L) !== 0 ? 2 : (cs & ATTR.DB) !== 0 ? 1 : 0;
    const stackSize = codeSize === 2 ? 2 : (ss & ATTR.DB) !== 0 ? 1 : 0;
    u32[w + W_CODE_SIZE] = codeSize;
    u32[w + W_CODE_KIND] = codeSize === 2 || allFlat(this) ? codeSize : codeSize | CHECKED;
    u32[w + W_STACK_SIZE] = stackSize;
    this.updateMmuIndex();
    this.onModeChange();
  }

  /** The part of `updateMode` that depends on CPL, CR4.SMAP and EFLAGS.AC only. */
  updateMmuIndex(): void {
    const u32 = this.u32;
    const w = this.w;
    const index =
      u32[w + W_CPL] === 3
        ? MMU.USER
        : (u32[w + W_CR4] & CR4.SMAP) !== 0 && (u32[w + W_EFLAGS] & FLAG.AC) !== 0
          ? MMU.KERNEL_AC
          : MMU.KERNEL;
    u32[w + W_TLB_SET] = tlbSetOffset(index);
    const kind = u32[w + W_CODE_KIND];
    if (u32[w + W_SET_CODE_KINDS + index] === kind) return;
    u32[w + W_SET_CODE_KINDS + index] = kind;
    this.mmu.tlb.dropCode(index);
  }

  /**
   * To be called after EFLAGS was loaded: derives the MMU index, and leaves generated code where an interrupt
   * may be taken now or a single step is asked for.
   */
  flagsLoaded(): void {
    this.updateMmuIndex();
    const flags = this.u32[this.w + W_EFLAGS];
    if (
      (flags & FLAG.TF) !== 0 ||
      ((flags & FLAG.IF) !== 0 && Atomics.load(this.i32, this.w + W_INTERRUPT_REQUEST) !== 0)
    ) {
      this.mmu.kickSelf();
    }
  }

  // --- exceptions ---

  /** Notes an exception; error -1: none. Returns STATUS.EXCEPTION for `return cpu.raise(…)`. */
  raise(vector: number, error: number): number {
    this.u32[this.w + W_EXC_VECTOR] = vector;
    this.i32[this.w + W_EXC_ERROR] = error;
    return STATUS.EXCEPTION;
  }
  raiseGp(error: number): number {
    return this.raise(VEC.GP, error);
  }
  raiseUd(): number {
    return this.raise(VEC.UD, -1);
  }
  /** Notes a #PF at a linear address. */
  raisePageFault(lo: number, hi: number, error: number): number {
    this.u32[this.w + W_CR2] = lo;
    this.u32[this.w + W_CR2 + 1] = hi;
    return this.raise(VEC.PF, error);
  }
}
