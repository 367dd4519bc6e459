/**
 * Moving the x87 state between `CpuEnv` and its memory images: the 14- and 28-byte environments, FSAVE, and the
 * legacy region of FXSAVE and XSAVE. Source: Intel SDM vol. 1, 8.1.10, 10.5, 13.4.1. *Thread:* vCPU.
 */
import { CpuEnv, XMM_STRIDE } from '../env.ts';
import type { Cpu } from '../sys/cpu.ts';
import { EXCEPTIONS, FCW, FPU, FSW, INTEGER_BIT } from './layout.ts';

const FPU_WORDS = FPU.regs >>> 2;
const XMM_WORDS = CpuEnv.offsetOf('xmm') >>> 2;
const XMM_STRIDE_WORDS = XMM_STRIDE >>> 2;
export const MXCSR_WORD = CpuEnv.offsetOf('mxcsr') >>> 2;
/** MXCSR bits that exist: all of the low 16 (DAZ included). */
export const MXCSR_MASK = 0xffff;
export const MXCSR_INIT = 0x1f80;
const NO_TOP = 0xffff & ~(7 << FSW.TOP_SHIFT);

function set16(cpu: Cpu, offset: number, value: number): void {
  cpu.u16[(cpu.base + offset) >>> 1] = value;
}
function get16(cpu: Cpu, offset: number): number {
  return cpu.u16[(cpu.base + offset) >>> 1];
}
function topOf(cpu: Cpu): number {
  return cpu.u32[(cpu.base + FPU.top) >>> 2];
}

/** The status word as FNSTSW shows it. */
export function statusWord(cpu: Cpu): number {
  return get16(cpu, FPU.status) | (topOf(cpu) << FSW.TOP_SHIFT);
}

/** Loads control and status words; ES and B follow from the flags and masks, whatever the image says. */
export function setControlStatus(cpu: Cpu, control: number, status: number): void {
  set16(cpu, FPU.control, (control & FCW.WRITABLE) | FCW.FIXED);
  const pending = (status & ~control & EXCEPTIONS) !== 0;
  const flags = status & NO_TOP & ~(FSW.ES | FSW.B);
  set16(cpu, FPU.status, pending ? flags | FSW.ES | FSW.B : flags);
  cpu.u32[(cpu.base + FPU.top) >>> 2] = (status >>> FSW.TOP_SHIFT) & 7;
}

/** FNINIT: the data registers keep their contents. */
export function initControl(cpu: Cpu): void {
  setControlStatus(cpu, FCW.INIT, 0);
  cpu.u8[cpu.base + FPU.tags] = 0;
  set16(cpu, FPU.opcode, 0);
  set16(cpu, FPU.cs, 0);
  set16(cpu, FPU.ds, 0);
  setPointers(cpu, 0, 0, 0, 0);
}

function setPointers(cpu: Cpu, ipLo: number, ipHi: number, dpLo: number, dpHi: number): void {
  const w = cpu.base >>> 2;
  cpu.u32[w + (FPU.ip >>> 2)] = ipLo;
  cpu.u32[w + (FPU.ip >>> 2) + 1] = ipHi;
  cpu.u32[w + (FPU.dp >>> 2)] = dpLo;
  cpu.u32[w + (FPU.dp >>> 2) + 1] = dpHi;
}

/** The 2-bit tags of FSTENV: 0 valid, 1 zero, 2 special, 3 empty; by physical register. */
function fullTags(cpu: Cpu): number {
  const valid = cpu.u8[cpu.base + FPU.tags];
  let tags = 0;
  for (let i = 0; i < 8; i++) {
    let tag = 3;
    if (valid & (1 << i)) {
      const mantissa = cpu.u64[(cpu.base + FPU.regs + i * 16) >>> 3];
      const exponent = get16(cpu, FPU.regs + i * 16 + 8) & 0x7fff;
      if (exponent === 0) tag = mantissa === 0n ? 1 : 2;
      else tag = exponent === 0x7fff || mantissa < INTEGER_BIT ? 2 : 0;
    }
    tags |= tag << (i * 2);
  }
  return tags;
}

function abridgedTags(full: number): number {
  let valid = 0;
  for (let i = 0; i < 8; i++) if (((full >>> (i * 2)) & 3) !== 3) valid |= 1 << i;
  return valid;
}

/** Does an environment have the real-address format? */
function realFormat(cpu: Cpu): boolean {
  return !cpu.protectedNotV86();
}

/** Writes the environment to the start of the MMU's block; returns its length. */
export function putEnvironment(cpu: Cpu, size: number): number {
  const { block16, block32 } = cpu.mmu;
  const w = cpu.base >>> 2;
  const real = realFormat(cpu);
  let ip = cpu.u32[w + (FPU.ip >>> 2)];
  const dp = cpu.u32[w + (FPU.dp >>> 2)];
  const opcode = get16(cpu, FPU.opcode) & 0x7ff;
  const cs = get16(cpu, FPU.cs);
  if (real) ip = (ip + cs * 16) >>> 0;
  const words = [get16(cpu, FPU.control), statusWord(cpu), fullTags(cpu)];
  if (size === 2) {
    words.forEach((word, i) => (block16[i] = word));
    block16[3] = ip;
    block16[4] = real ? ((ip >>> 4) & 0xf000) | opcode : cs;
    block16[5] = dp;
    block16[6] = real ? (dp >>> 4) & 0xf000 : get16(cpu, FPU.ds);
    return 14;
  }
  words.forEach((word, i) => (block32[i] = word | 0xffff0000));
  if (real) {
    block32[3] = (ip & 0xffff) | 0xffff0000;
    block32[4] = ((ip >>> 16) << 12) | opcode;
    block32[5] = (dp & 0xffff) | 0xffff0000;
    block32[6] = (dp >>> 16) << 12;
  } else {
    block32[3] = ip;
    block32[4] = (opcode << 16) | cs;
    block32[5] = dp;
    block32[6] = get16(cpu, FPU.ds) | 0xffff0000;
  }
  return 28;
}

/** Loads the environment at the start of the MMU's block. */
export function takeEnvironment(cpu: Cpu, size: number): void {
  const { block16, block32 } = cpu.mmu;
  const real = realFormat(cpu);
  const step = size === 2 ? 1 : 2;
  const tags = abridgedTags(block16[2 * step]);
  setControlStatus(cpu, block16[0], block16[step]);
  cpu.u8[cpu.base + FPU.tags] = tags;
  let ip: number;
  let dp: number;
  if (size === 2) {
    ip = block16[3] | (real ? (block16[4] & 0xf000) << 4 : 0);
    dp = block16[5] | (real ? (block16[6] & 0xf000) << 4 : 0);
  } else if (real) {
    ip = block16[6] | (((block32[4] >>> 12) & 0xffff) << 16);
    dp = block16[10] | (((block32[6] >>> 12) & 0xffff) << 16);
  } else {
    ip = block32[3];
    dp = block32[5];
  }
  setPointers(cpu, ip, 0, dp, 0);
  set16(cpu, FPU.cs, real ? 0 : block16[size === 2 ? 4 : 8]);
  set16(cpu, FPU.ds, real ? 0 : block16[size === 2 ? 6 : 12]);
  if (real) set16(cpu, FPU.opcode, block16[size === 2 ? 4 : 8] & 0x7ff);
  else if (size !== 2) set16(cpu, FPU.opcode, block16[9] & 0x7ff);
}

/** ST(0)–ST(7) as FSAVE stores them, 10 bytes each, at `at` (even) in the MMU's block. */
export function putRegisters(cpu: Cpu, at: number): void {
  const { block16 } = cpu.mmu;
  const top = topOf(cpu);
  for (let i = 0; i < 8; i++) {
    const from = (cpu.base + FPU.regs + ((top + i) & 7) * 16) >>> 1;
    for (let k = 0; k < 5; k++) block16[(at >>> 1) + i * 5 + k] = cpu.u16[from + k];
  }
}
export function takeRegisters(cpu: Cpu, at: number): void {
  const { block16 } = cpu.mmu;
  const top = topOf(cpu);
  for (let i = 0; i < 8; i++) {
    const to = (cpu.base + FPU.regs + ((top + i) & 7) * 16) >>> 1;
    for (let k = 0; k < 5; k++) cpu.u16[to + k] = block16[(at >>> 1) + i * 5 + k];
  }
}

// --- the legacy region of FXSAVE and XSAVE, at the start of the MMU's block ---

/** Bytes 0–23 and 32–159. `wide`: 64-bit pointers instead of 32-bit ones with selectors. */
export function putX87(cpu: Cpu, wide: boolean): void {
  const { block, block16, block32 } = cpu.mmu;
  const w = cpu.base >>> 2;
  block16[0] = get16(cpu, FPU.control);
  block16[1] = statusWord(cpu);
  block[4] = cpu.u8[cpu.base + FPU.tags];
  block[5] = 0;
  block16[3] = get16(cpu, FPU.opcode);
  block32[2] = cpu.u32[w + (FPU.ip >>> 2)];
  block32[3] = wide ? cpu.u32[w + (FPU.ip >>> 2) + 1] : get16(cpu, FPU.cs);
  block32[4] = cpu.u32[w + (FPU.dp >>> 2)];
  block32[5] = wide ? cpu.u32[w + (FPU.dp >>> 2) + 1] : get16(cpu, FPU.ds);
  const top = topOf(cpu);
  for (let i = 0; i < 8; i++) {
    const from = w + FPU_WORDS + ((top + i) & 7) * 4;
    const to = 8 + i * 4;
    block32[to] = cpu.u32[from];
    block32[to + 1] = cpu.u32[from + 1];
    block32[to + 2] = cpu.u32[from + 2] & 0xffff;
    block32[to + 3] = 0;
  }
}

export function takeX87(cpu: Cpu, wide: boolean): void {
  const { block, block16, block32 } = cpu.mmu;
  const w = cpu.base >>> 2;
  setControlStatus(cpu, block16[0], block16[1]);
  cpu.u8[cpu.base + FPU.tags] = block[4];
  set16(cpu, FPU.opcode, block16[3] & 0x7ff);
  setPointers(cpu, block32[2], wide ? block32[3] : 0, block32[4], wide ? block32[5] : 0);
  set16(cpu, FPU.cs, wide ? 0 : block32[3]);
  set16(cpu, FPU.ds, wide ? 0 : block32[5]);
  const top = topOf(cpu);
  for (let i = 0; i < 8; i++) {
    const to = w + FPU_WORDS + ((top + i) & 7) * 4;
    const from = 8 + i * 4;
    cpu.u32[to] = block32[from];
    cpu.u32[to + 1] = block32[from + 1];
    cpu.u32[to + 2] = block32[from + 2] & 0xffff;
    cpu.u32[to + 3] = 0;
  }
}

/** The initial configuration of SDM vol. 1, 13.6: as FNINIT, and the registers are zero. */
export function initX87(cpu: Cpu): void {
  initControl(cpu);
  const first = (cpu.base >>> 2) + FPU_WORDS;
  cpu.u32.fill(0, first, first + 32);
}

export function x87InUse(cpu: Cpu): boolean {
  const w = cpu.base >>> 2;
  if (get16(cpu, FPU.control) !== FCW.INIT || statusWord(cpu) !== 0 || cpu.u8[cpu.base + FPU.tags] !== 0)
    return true;
  const pointers = [FPU.ip, FPU.ip + 4, FPU.dp, FPU.dp + 4].some(
    (offset) => cpu.u32[w + (offset >>> 2)] !== 0,
  );
  if (pointers || get16(cpu, FPU.opcode) !== 0 || get16(cpu, FPU.cs) !== 0 || get16(cpu, FPU.ds) !== 0)
    return true;
  for (let i = 0; i < 32; i++) if (cpu.u32[w + FPU_WORDS + i] !== 0) return true;
  return false;
}

/** The first `count` XMM registers, from byte 160 on. */
export function putXmm(cpu: Cpu, count: number): void {
  const { block32 } = cpu.mmu;
  const first = (cpu.base >>> 2) + XMM_WORDS;
  for (let i = 0; i < count; i++) {
    const from = first + i * XMM_STRIDE_WORDS;
    for (let k = 0; k < 4; k++) block32[40 + i * 4 + k] = cpu.u32[from + k];
  }
}
export function takeXmm(cpu: Cpu, count: number): void {
  const { block32 } = cpu.mmu;
  const first = (cpu.base >>> 2) + XMM_WORDS;
  for (let i = 0; i < count; i++) {
    const to = first + i * XMM_STRIDE_WORDS;
    for (let k = 0; k < 4; k++) cpu.u32[to + k] = block32[40 + i * 4 + k];
  }
}
export function initXmm(cpu: Cpu, count: number): void {
  const first = (cpu.base >>> 2) + XMM_WORDS;
  for (let i = 0; i < count; i++)
    cpu.u32.fill(0, first + i * XMM_STRIDE_WORDS, first + i * XMM_STRIDE_WORDS + 4);
}
export function xmmInUse(cpu: Cpu, count: number): boolean {
  const first = (cpu.base >>> 2) + XMM_WORDS;
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < 4; k++) if (cpu.u32[first + i * XMM_STRIDE_WORDS + k] !== 0) return true;
  }
  return false;
}

/** Upper halves of the YMM registers, at byte `at` of the MMU's block; component 2 of XSAVE. */
export function putYmmHigh(cpu: Cpu, count: number, at: number): void {
  const { block32 } = cpu.mmu;
  const first = (cpu.base >>> 2) + XMM_WORDS + 4;
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < 4; k++) block32[(at >>> 2) + i * 4 + k] = cpu.u32[first + i * XMM_STRIDE_WORDS + k];
  }
}
export function takeYmmHigh(cpu: Cpu, count: number, at: number): void {
  const { block32 } = cpu.mmu;
  const first = (cpu.base >>> 2) + XMM_WORDS + 4;
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < 4; k++) cpu.u32[first + i * XMM_STRIDE_WORDS + k] = block32[(at >>> 2) + i * 4 + k];
  }
}
export function initYmmHigh(cpu: Cpu, count: number): void {
  const first = (cpu.base >>> 2) + XMM_WORDS + 4;
  for (let i = 0; i < count; i++)
    cpu.u32.fill(0, first + i * XMM_STRIDE_WORDS, first + i * XMM_STRIDE_WORDS + 4);
}
export function ymmHighInUse(cpu: Cpu, count: number): boolean {
  const first = (cpu.base >>> 2) + XMM_WORDS + 4;
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < 4; k++) if (cpu.u32[first + i * XMM_STRIDE_WORDS + k] !== 0) return true;
  }
  return false;
}
