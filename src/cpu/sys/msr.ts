/**
 * Model-specific registers: RDMSR, WRMSR, and the time-stamp counter. SDM 4 chapter 2; APM 2 appendix A.
 * An unknown register is #GP(0), as on silicon; of AMD's, those that an operating system touches on any AMD
 * CPU without asking read as 0 and ignore writes when the vendor is AMD.
 */
import { CpuEnv, SEG } from '../env.ts';
import type { Cpu } from './cpu.ts';
import {
  CR0,
  EFER,
  SEG_BASE,
  STATUS,
  VEC,
  W_APIC_BASE,
  W_CR0,
  W_CSTAR,
  W_EFER,
  W_KERNEL_GS_BASE,
  W_LSTAR,
  W_SFMASK,
  W_STAR,
  W_SYSENTER_CS,
  W_SYSENTER_EIP,
  W_SYSENTER_ESP,
  W_TSC_ADJUST,
  W_TSC_AUX,
} from './words.ts';

export const MSR = {
  TSC: 0x10,
  PLATFORM_ID: 0x17,
  APIC_BASE: 0x1b,
  TSC_ADJUST: 0x3b,
  BIOS_UPDT_TRIG: 0x79,
  BIOS_SIGN_ID: 0x8b,
  MTRRCAP: 0xfe,
  SYSENTER_CS: 0x174,
  SYSENTER_ESP: 0x175,
  SYSENTER_EIP: 0x176,
  MCG_CAP: 0x179,
  MCG_STATUS: 0x17a,
  MCG_CTL: 0x17b,
  PERF_STATUS: 0x198,
  MISC_ENABLE: 0x1a0,
  DEBUGCTL: 0x1d9,
  LAST_BRANCH_FROM: 0x1db,
  LAST_INT_TO: 0x1de,
  MTRR_VAR: 0x200,
  MTRR_VAR_END: 0x210,
  MTRR_FIX64K: 0x250,
  MTRR_FIX16K: 0x258,
  MTRR_FIX4K: 0x268,
  PAT: 0x277,
  MTRR_DEF_TYPE: 0x2ff,
  MC0_CTL: 0x400,
  TSC_DEADLINE: 0x6e0,
  X2APIC: 0x800,
  X2APIC_END: 0x900,
  EFER: 0xc0000080,
  STAR: 0xc0000081,
  LSTAR: 0xc0000082,
  CSTAR: 0xc0000083,
  SFMASK: 0xc0000084,
  FS_BASE: 0xc0000100,
  GS_BASE: 0xc0000101,
  KERNEL_GS_BASE: 0xc0000102,
  TSC_AUX: 0xc0000103,
  HWCR: 0xc0010015,
} as const;

/** Machine-check banks announced. */
export const MC_BANKS = 10;
const MCG_CTL_P = 1 << 8;

/** AMD registers that read as 0 and ignore writes: performance counters, SYSCFG, TOP_MEM, NB_CFG, VM_CR, OSVW, LS/IC/DC/DE/BU_CFG … */
const AMD_ZERO: ReadonlySet<number> = new Set([
  0xc0010000, 0xc0010001, 0xc0010002, 0xc0010003, 0xc0010004, 0xc0010005, 0xc0010006, 0xc0010007, 0xc0010010,
  0xc0010016, 0xc0010017, 0xc0010018, 0xc0010019, 0xc001001a, 0xc001001d, 0xc001001f, 0xc0010055, 0xc0010058,
  0xc0010111, 0xc0010112, 0xc0010113, 0xc0010114, 0xc0010117, 0xc0010140, 0xc0010141, 0xc0011020, 0xc0011021,
  0xc0011022, 0xc0011023, 0xc0011029, 0xc001102a, 0xc001102c,
]);

const APIC_BASE_BSP = 1 << 8;
const APIC_BASE_EXTD = 1 << 10;
const APIC_BASE_EN = 1 << 11;

const W_MISC_ENABLE = CpuEnv.offsetOf('miscEnable') >>> 2;
const W_MTRR_DEF_TYPE = CpuEnv.offsetOf('mtrrDefType') >>> 2;
const W_MTRR_FIXED = CpuEnv.offsetOf('mtrrFixed') >>> 2;
const W_MTRR_VAR = CpuEnv.offsetOf('mtrrVar') >>> 2;
const W_PAT = CpuEnv.offsetOf('pat') >>> 2;
const W_MCG_STATUS = CpuEnv.offsetOf('mcgStatus') >>> 2;
const W_MCG_CTL = CpuEnv.offsetOf('mcgCtl') >>> 2;
const W_MC_BANKS = CpuEnv.offsetOf('mcBanks') >>> 2;
const W_MICROCODE_REV = CpuEnv.offsetOf('microcodeRev') >>> 2;
const W_DEBUG_CTL = CpuEnv.offsetOf('debugCtl') >>> 2;
const W_HWCR = CpuEnv.offsetOf('hwcr') >>> 2;

/** Word of an MSR that is plain 64-bit storage; −1 for others. */
function plainWord(cpu: Cpu, index: number): number {
  switch (index) {
    case MSR.STAR:
      return W_STAR;
    case MSR.LSTAR:
      return W_LSTAR;
    case MSR.CSTAR:
      return W_CSTAR;
    case MSR.SFMASK:
      return W_SFMASK;
    case MSR.FS_BASE:
      return cpu.segWord(SEG.FS) - cpu.w + SEG_BASE;
    case MSR.GS_BASE:
      return cpu.segWord(SEG.GS) - cpu.w + SEG_BASE;
    case MSR.KERNEL_GS_BASE:
      return W_KERNEL_GS_BASE;
    case MSR.SYSENTER_CS:
      return W_SYSENTER_CS;
    case MSR.SYSENTER_ESP:
      return W_SYSENTER_ESP;
    case MSR.SYSENTER_EIP:
      return W_SYSENTER_EIP;
    case MSR.PAT:
      return W_PAT;
    case MSR.MTRR_DEF_TYPE:
      return W_MTRR_DEF_TYPE;
    case MSR.MISC_ENABLE:
      return W_MISC_ENABLE;
    case MSR.MCG_STATUS:
      return W_MCG_STATUS;
    case MSR.MCG_CTL:
      return W_MCG_CTL;
    case MSR.DEBUGCTL:
      return W_DEBUG_CTL;
    default:
  }
  if (index === MSR.TSC_AUX && (cpu.model.rdtscp || cpu.model.rdpid)) return W_TSC_AUX;
  if (index === MSR.HWCR && !cpu.model.intel) return W_HWCR;
  if (index >= MSR.MTRR_VAR && index < MSR.MTRR_VAR_END) return W_MTRR_VAR + (index - MSR.MTRR_VAR) * 2;
  if (index === MSR.MTRR_FIX64K) return W_MTRR_FIXED;
  if (index === MSR.MTRR_FIX16K || index === MSR.MTRR_FIX16K + 1) {
    return W_MTRR_FIXED + (1 + index - MSR.MTRR_FIX16K) * 2;
  }
  if (index >= MSR.MTRR_FIX4K && index < MSR.MTRR_FIX4K + 8) {
    return W_MTRR_FIXED + (3 + index - MSR.MTRR_FIX4K) * 2;
  }
  if (index >= MSR.MC0_CTL && index < MSR.MC0_CTL + MC_BANKS * 4) {
    return W_MC_BANKS + (index - MSR.MC0_CTL) * 2;
  }
  return -1;
}

/** Guest TSC: the machine's plus TSC_ADJUST (SDM 3B 18.17.3). */
export function guestTsc(cpu: Cpu, out: Uint32Array): void {
  cpu.clock.readTsc(out);
  add64(out, cpu.get(W_TSC_ADJUST), cpu.get(W_TSC_ADJUST + 1));
}

function add64(pair: Uint32Array, lo: number, hi: number): void {
  const sum = pair[0] + lo;
  pair[1] = pair[1] + hi + (sum > 0xffffffff ? 1 : 0);
  pair[0] = sum;
}

/** Writing the TSC moves TSC_ADJUST by the same amount. */
function writeTsc(cpu: Cpu, lo: number, hi: number): void {
  const now = cpu.pair;
  cpu.clock.readTsc(now);
  const borrow = lo < now[0] ? 1 : 0;
  cpu.set64(W_TSC_ADJUST, lo - now[0], hi - now[1] - borrow);
  cpu.apic.tscChanged();
}

/** Reads an MSR to `out`. False: #GP(0). */
export function readMsr(cpu: Cpu, index: number, out: Uint32Array): boolean {
  out[0] = 0;
  out[1] = 0;
  const word = plainWord(cpu, index);
  if (word >= 0) {
    out[0] = cpu.get(word);
    out[1] = cpu.get(word + 1);
    return true;
  }
  switch (index) {
    case MSR.TSC:
      guestTsc(cpu, out);
      return true;
    case MSR.TSC_ADJUST:
      if (!cpu.model.tscAdjust) return false;
      out[0] = cpu.get(W_TSC_ADJUST);
      out[1] = cpu.get(W_TSC_ADJUST + 1);
      return true;
    case MSR.EFER:
      out[0] = cpu.get(W_EFER);
      return true;
    case MSR.APIC_BASE:
      out[0] = cpu.get(W_APIC_BASE);
      out[1] = cpu.get(W_APIC_BASE + 1);
      return true;
    case MSR.TSC_DEADLINE:
      if (!cpu.model.tscDeadline) return false;
      cpu.apic.readTscDeadline(out);
      return true;
    case MSR.MTRRCAP:
      // 8 variable ranges, fixed ranges, write combining
      out[0] = 8 | (1 << 8) | (1 << 10);
      return true;
    case MSR.MCG_CAP:
      out[0] = MC_BANKS | MCG_CTL_P;
      return true;
    case MSR.BIOS_SIGN_ID:
      out[0] = cpu.get(W_MICROCODE_REV);
      out[1] = cpu.get(W_MICROCODE_REV + 1);
      return true;
    case MSR.PLATFORM_ID:
      return cpu.model.intel;
    case MSR.PERF_STATUS:
      if (!cpu.model.intel) return false;
      // bus ratio of a TSC of 1 GHz
      out[0] = 1000;
      return true;
    default:
  }
  if (index >= MSR.LAST_BRANCH_FROM && index <= MSR.LAST_INT_TO) return true;
  if (index >= MSR.X2APIC && index < MSR.X2APIC_END) {
    return (cpu.get(W_APIC_BASE) & APIC_BASE_EXTD) !== 0 && cpu.apic.readMsr(index, out);
  }
  return !cpu.model.intel && AMD_ZERO.has(index);
}

function canonical(hi: number): boolean {
  return ((hi + 0x8000) & 0xffff0000) === 0;
}

/** Memory types that MTRRs and the PAT know: UC, WC, WT, WP, WB (and UC- in the PAT). */
function memoryType(type: number, pat: boolean): boolean {
  return type === 0 || type === 1 || type === 4 || type === 5 || type === 6 || (pat && type === 7);
}
function memoryTypes(lo: number, hi: number, pat: boolean): boolean {
  for (let i = 0; i < 32; i += 8) {
    if (!memoryType((lo >>> i) & 255, pat) || !memoryType((hi >>> i) & 255, pat)) return false;
  }
  return true;
}

/** Whether a plain MSR takes the value. */
function acceptable(cpu: Cpu, index: number, lo: number, hi: number): boolean {
  switch (index) {
    case MSR.LSTAR:
    case MSR.CSTAR:
    case MSR.FS_BASE:
    case MSR.GS_BASE:
    case MSR.KERNEL_GS_BASE:
    case MSR.SYSENTER_ESP:
    case MSR.SYSENTER_EIP:
      return canonical(hi);
    case MSR.PAT:
      return memoryTypes(lo, hi, true);
    case MSR.MTRR_DEF_TYPE:
      return hi === 0 && (lo & ~0xcff) === 0 && memoryType(lo & 255, false);
    case MSR.MCG_STATUS:
      return hi === 0 && (lo & ~7) === 0;
    case MSR.MCG_CTL:
      return (lo === 0 && hi === 0) || (lo === 0xffffffff && hi === 0xffffffff);
    case MSR.TSC_AUX:
      return hi === 0;
    default:
  }
  if (index >= MSR.MTRR_FIX64K && index < MSR.MTRR_FIX4K + 8) return memoryTypes(lo, hi, false);
  if (index >= MSR.MTRR_VAR && index < MSR.MTRR_VAR_END) {
    if ((hi & (cpu.model.reservedHigh | 0xfff00000)) !== 0) return false;
    return (index & 1) !== 0 ? (lo & 0x7ff) === 0 : (lo & 0xf00) === 0 && memoryType(lo & 255, false);
  }
  if (index >= MSR.MC0_CTL && index < MSR.MC0_CTL + MC_BANKS * 4) {
    const part = (index - MSR.MC0_CTL) & 3;
    // a bit for each kind of error (APM 2, 9.3.2; only the P6 wanted all ones or zeros, SDM 3B 16.3.2.1)
    if (part === 0) return true;
    // status, address and misc can only be cleared (HWCR.McStatusWrEn lets AMD's be set)
    return (lo === 0 && hi === 0) || (cpu.get(W_HWCR) & (1 << 18)) !== 0;
  }
  return true;
}

/** Writes an MSR. False: #GP(0), nothing changed. */
export function writeMsr(cpu: Cpu, index: number, lo: number, hi: number): boolean {
  const word = plainWord(cpu, index);
  if (word >= 0) {
    if (!acceptable(cpu, index, lo, hi)) return false;
    if (index === MSR.SFMASK) hi = 0;
    cpu.set64(word, lo, hi);
    return true;
  }
  switch (index) {
    case MSR.TSC:
      writeTsc(cpu, lo, hi);
      return true;
    case MSR.TSC_ADJUST:
      if (!cpu.model.tscAdjust) return false;
      cpu.set64(W_TSC_ADJUST, lo, hi);
      cpu.apic.tscChanged();
      return true;
    case MSR.EFER:
      return writeEfer(cpu, lo, hi);
    case MSR.APIC_BASE:
      return writeApicBase(cpu, lo, hi);
    case MSR.TSC_DEADLINE:
      if (!cpu.model.tscDeadline) return false;
      cpu.apic.writeTscDeadline(lo, hi);
      return true;
    case MSR.BIOS_SIGN_ID:
    case MSR.BIOS_UPDT_TRIG:
      return true;
    case MSR.PERF_STATUS:
    case MSR.PLATFORM_ID:
    case MSR.MTRRCAP:
    case MSR.MCG_CAP:
      return false;
    default:
  }
  if (index >= MSR.X2APIC && index < MSR.X2APIC_END) {
    return (cpu.get(W_APIC_BASE) & APIC_BASE_EXTD) !== 0 && cpu.apic.writeMsr(index, lo, hi);
  }
  return !cpu.model.intel && AMD_ZERO.has(index);
}

function writeEfer(cpu: Cpu, lo: number, hi: number): boolean {
  const m = cpu.model;
  const known = (m.syscall ? EFER.SCE : 0) | (m.longMode ? EFER.LME | EFER.LMA : 0) | (m.nx ? EFER.NXE : 0);
  if (hi !== 0 || (lo & ~known) !== 0) return false;
  const old = cpu.get(W_EFER);
  if (((old ^ lo) & EFER.LME) !== 0 && (cpu.get(W_CR0) & CR0.PG) !== 0) return false;
  const value = (lo & ~EFER.LMA) | (old & EFER.LMA);
  cpu.set64(W_EFER, value, 0);
  if (((old ^ value) & EFER.NXE) !== 0) cpu.mmu.tlb.flushAll();
  return true;
}

/** SDM 3A 11.12.5: which changes of the local APIC's mode are allowed. */
function writeApicBase(cpu: Cpu, lo: number, hi: number): boolean {
  const old = cpu.get(W_APIC_BASE);
  const extd = cpu.model.x2apic ? APIC_BASE_EXTD : 0;
  if ((lo & 0xfff & ~(APIC_BASE_BSP | APIC_BASE_EN | extd)) !== 0) return false;
  if ((hi & (cpu.model.reservedHigh | 0xfff00000)) !== 0) return false;
  const oldMode = old & (APIC_BASE_EN | APIC_BASE_EXTD);
  const mode = lo & (APIC_BASE_EN | APIC_BASE_EXTD);
  if (mode === APIC_BASE_EXTD) return false;
  if (mode === (APIC_BASE_EN | APIC_BASE_EXTD) && oldMode === 0) return false;
  if (mode === APIC_BASE_EN && oldMode === (APIC_BASE_EN | APIC_BASE_EXTD)) return false;
  cpu.set64(W_APIC_BASE, (lo & ~APIC_BASE_BSP) | (old & APIC_BASE_BSP), hi);
  cpu.apic.apicBaseChanged();
  return true;
}

/** RDMSR: ECX to EDX:EAX. */
export function rdmsr(cpu: Cpu): number {
  if (cpu.cpl !== 0 || !readMsr(cpu, cpu.reg(1), cpu.pair)) return cpu.raise(VEC.GP, 0);
  cpu.setReg(0, cpu.pair[0], 0);
  cpu.setReg(2, cpu.pair[1], 0);
  return STATUS.NEXT;
}

/** WRMSR. */
export function wrmsr(cpu: Cpu): number {
  const index = cpu.reg(1);
  if (cpu.cpl !== 0 || !writeMsr(cpu, index, cpu.reg(0), cpu.reg(2))) return cpu.raise(VEC.GP, 0);
  if (index !== MSR.EFER && index !== MSR.APIC_BASE) return STATUS.NEXT;
  cpu.onModeChange();
  cpu.advance();
  return STATUS.LOOKUP;
}
