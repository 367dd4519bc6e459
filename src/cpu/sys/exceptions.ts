/**
 * Delivery of exceptions and interrupts: real mode, protected mode, virtual-8086 mode, long mode.
 * SDM 3A chapter 6 (6.12, 6.13, 6.14, 6.15 double fault), chapter 20 (20.1.4, 20.3).
 */
import { SEG } from '../env.ts';
import { FLAG } from '../flags.ts';
import type { Cpu } from './cpu.ts';
import { Descriptor, markAccessed, needDescriptor, setSegmentRaw, TYPE } from './descriptors.ts';
import { getEflags } from './eflags.ts';
import { codeOffsetOk, enterCode, innerStack, istStack, useInnerStack } from './far-transfer.ts';
import { IMPLICIT, loadReal } from './segments.ts';
import { Stack } from './stack.ts';
import { SWITCH, switchTask } from './tasks.ts';
import {
  REG,
  SEG_SELECTOR,
  SPECIAL,
  VEC,
  W_CPL,
  W_EFLAGS,
  W_EXC_ERROR,
  W_EXC_VECTOR,
  W_EXIT_DETAIL,
  W_IDT_BASE,
  W_IDT_LIMIT,
  W_IP,
  W_NEXT_IP,
  W_NMI_MASKED,
} from './words.ts';

/** Where an event comes from. */
export const KIND = {
  /** The instruction at `ip` faulted and will run again. */
  FAULT: 0,
  /** Between instructions (debug traps, machine check): `ip` is the next one. */
  TRAP: 1,
  /** INT n, INT3, INTO: returns to `nextIp`. */
  SOFTWARE: 2,
  /** External interrupt or NMI: `ip` is the next instruction. */
  EXTERNAL: 3,
} as const;

/** Vectors that push an error code, as a bit mask: 8, 10–14, 17, 21. */
const WITH_ERROR = 0x00227d00;
/** Contributory exceptions (SDM 3A table 6-4). */
const CONTRIBUTORY = (1 << 0) | (1 << 10) | (1 << 11) | (1 << 12) | (1 << 13);

const gateCode = new Descriptor();
const stack = new Stack();

function isContributory(vector: number): boolean {
  return vector < 32 && ((CONTRIBUTORY >>> vector) & 1) !== 0;
}

/** True when an exception of this vector has an error code. */
export function hasErrorCode(vector: number): boolean {
  return vector < 32 && ((WITH_ERROR >>> vector) & 1) !== 0;
}

/**
 * Delivers an event; `error` is its error code, −1 for none. Faults on the way are delivered in turn, with
 * double fault where the manual says so. False: triple fault; `exitDetail` is SPECIAL.SHUTDOWN.
 */
export function deliver(cpu: Cpu, vector: number, error: number, kind: number): boolean {
  if (vector === VEC.RETRY) return true;
  let current = vector;
  for (;;) {
    if (cpu.onDelivery !== undefined) cpu.onDelivery(current, error, kind);
    if (deliverOnce(cpu, current, error, kind)) {
      cpu.delivered = true;
      return true;
    }
    const next = cpu.get(W_EXC_VECTOR);
    const exception = kind === KIND.FAULT || kind === KIND.TRAP;
    const nextSerious = isContributory(next) || next === VEC.PF;
    if (exception && current === VEC.DF && nextSerious) {
      cpu.set(W_EXIT_DETAIL, SPECIAL.SHUTDOWN);
      return false;
    }
    const double =
      exception && ((isContributory(current) && isContributory(next)) || (current === VEC.PF && nextSerious));
    kind = KIND.FAULT;
    if (double) {
      current = VEC.DF;
      error = 0;
    } else {
      current = next;
      error = cpu.i32[cpu.w + W_EXC_ERROR];
    }
  }
}

/** Delivers the exception noted by `Cpu.raise`. False: triple fault. */
export function deliverRaised(cpu: Cpu): boolean {
  return deliver(cpu, cpu.get(W_EXC_VECTOR), cpu.i32[cpu.w + W_EXC_ERROR], KIND.FAULT);
}

/** Delivers an external interrupt. False: triple fault. */
export function interrupt(cpu: Cpu, vector: number): boolean {
  return deliver(cpu, vector, -1, KIND.EXTERNAL);
}

/** Delivers an NMI and masks further ones until IRET. False: triple fault. */
export function nmi(cpu: Cpu): boolean {
  cpu.set(W_NMI_MASKED, 1);
  return deliver(cpu, VEC.NMI, -1, KIND.EXTERNAL);
}

function deliverOnce(cpu: Cpu, vector: number, error: number, kind: number): boolean {
  if (!cpu.protectedMode()) return deliverReal(cpu, vector, kind);
  if (cpu.longMode()) return deliverLong(cpu, vector, error, kind);
  return deliverProtected(cpu, vector, error, kind);
}

/** EFLAGS as pushed: a fault's image has RF set, so that it does not hit its instruction breakpoint again. */
function savedFlags(cpu: Cpu, vector: number, kind: number): number {
  const flags = getEflags(cpu);
  return kind === KIND.FAULT && vector !== VEC.DB ? flags | FLAG.RF : flags;
}

/** Word of the ip to return to. */
function returnWord(kind: number): number {
  return kind === KIND.SOFTWARE ? W_NEXT_IP : W_IP;
}

/** Flags cleared on entry to a handler; interrupt gates clear IF too. */
function enterFlags(cpu: Cpu, interruptGate: boolean): void {
  cpu.u32[cpu.w + W_EFLAGS] &= ~(FLAG.TF | FLAG.VM | FLAG.RF | FLAG.NT | (interruptGate ? FLAG.IF : 0));
}

/** SDM 3A 20.1.4: the vector table holds far pointers, error codes are not pushed. */
function deliverReal(cpu: Cpu, vector: number, kind: number): boolean {
  const u32 = cpu.u32;
  const w = cpu.w;
  const offset = vector * 4;
  if (offset + 3 > u32[w + W_IDT_LIMIT]) {
    cpu.raise(VEC.GP, -1);
    return false;
  }
  const mmu = cpu.mmu;
  if (!mmu.readBlock((u32[w + W_IDT_BASE] + offset) >>> 0, 0, 4, IMPLICIT)) return false;
  const ip = mmu.block16[0];
  const cs = mmu.block16[1];
  stack.current(cpu);
  stack.push(getEflags(cpu), 0);
  stack.push(u32[cpu.segWord(SEG.CS) + SEG_SELECTOR], 0);
  stack.push(u32[w + returnWord(kind)], 0);
  if (!stack.write(cpu, 2)) return false;
  stack.commit(cpu);
  u32[w + W_EFLAGS] &= ~(FLAG.TF | FLAG.IF | FLAG.AC | FLAG.RF);
  loadReal(cpu, SEG.CS, cs);
  cpu.setIp(ip, 0);
  cpu.updateMode();
  return true;
}

let gateLo = 0;
let gateHi = 0;
let gateTop = 0;

/** Reads a gate of `size` bytes and checks limit, type, privilege and presence. */
function readGate(cpu: Cpu, vector: number, size: number, kind: number, ext: number): boolean {
  const u32 = cpu.u32;
  const w = cpu.w;
  const offset = vector * size;
  const error = (vector << 3) | 2 | ext;
  if (offset + size - 1 > u32[w + W_IDT_LIMIT]) {
    cpu.raise(VEC.GP, error);
    return false;
  }
  const baseLo = u32[w + W_IDT_BASE];
  const lo = (baseLo + offset) >>> 0;
  const hi = size === 16 && lo < baseLo ? (u32[w + W_IDT_BASE + 1] + 1) >>> 0 : u32[w + W_IDT_BASE + 1];
  const mmu = cpu.mmu;
  if (!mmu.readBlock(lo, hi, size, IMPLICIT)) return false;
  gateLo = mmu.block32[0];
  gateHi = mmu.block32[1];
  gateTop = size === 16 ? mmu.block32[2] : 0;
  // bits 12:8: S (0) and type
  const type = (gateHi >>> 8) & 31;
  const good =
    type === TYPE.INT32 ||
    type === TYPE.TRAP32 ||
    (size === 8 && (type === TYPE.TASK_GATE || type === TYPE.INT16 || type === TYPE.TRAP16));
  if (!good || (kind === KIND.SOFTWARE && ((gateHi >>> 13) & 3) < cpu.cpl)) {
    cpu.raise(VEC.GP, error);
    return false;
  }
  if ((gateHi & 0x8000) === 0) {
    cpu.raise(VEC.NP, error);
    return false;
  }
  return true;
}

/** Reads and checks the code segment of the gate into `gateCode`. */
function readGateCode(cpu: Cpu, selector: number, ext: number): boolean {
  const error = (selector & 0xfffc) | ext;
  if ((selector & 0xfffc) === 0) {
    cpu.raise(VEC.GP, ext);
    return false;
  }
  if (!needDescriptor(cpu, selector, gateCode, VEC.GP, ext)) return false;
  if (!gateCode.code || gateCode.dpl > cpu.cpl) {
    cpu.raise(VEC.GP, error);
    return false;
  }
  if (!gateCode.present) {
    cpu.raise(VEC.NP, error);
    return false;
  }
  return true;
}

/** SDM 3A 6.14. */
function deliverLong(cpu: Cpu, vector: number, error: number, kind: number): boolean {
  const ext = kind === KIND.SOFTWARE ? 0 : 1;
  if (!readGate(cpu, vector, 16, kind, ext)) return false;
  const offsetLo = ((gateLo & 0xffff) | (gateHi & 0xffff0000)) >>> 0;
  const offsetHi = gateTop;
  const selector = gateLo >>> 16;
  const ist = gateHi & 7;
  const interruptGate = ((gateHi >>> 8) & 15) === TYPE.INT32;
  if (!readGateCode(cpu, selector, ext)) return false;
  if (!gateCode.long || gateCode.big) {
    cpu.raise(VEC.GP, (selector & 0xfffc) | ext);
    return false;
  }
  const u32 = cpu.u32;
  const w = cpu.w;
  const cpl = cpu.cpl;
  const newCpl = gateCode.conforming ? cpl : gateCode.dpl;
  if (!codeOffsetOk(cpu, gateCode, offsetLo, offsetHi) || !markAccessed(cpu, gateCode)) return false;
  const oldSpLo = cpu.reg(REG.SP);
  const oldSpHi = cpu.regHigh(REG.SP);
  if (ist !== 0) {
    if (!istStack(cpu, ist, stack, ext)) return false;
  } else if (newCpl < cpl) {
    if (!innerStack(cpu, newCpl, stack, ext)) return false;
  } else stack.flat(oldSpLo, oldSpHi, cpu.mmu.index());
  stack.error = ext;
  stack.spLo = (stack.spLo & ~15) >>> 0;
  stack.push(u32[cpu.segWord(SEG.SS) + SEG_SELECTOR], 0);
  stack.push(oldSpLo, oldSpHi);
  stack.push(savedFlags(cpu, vector, kind), 0);
  stack.push(u32[cpu.segWord(SEG.CS) + SEG_SELECTOR], 0);
  const returnIp = w + returnWord(kind);
  stack.push(u32[returnIp], u32[returnIp + 1]);
  if (error >= 0) stack.push(error, 0);
  if (!stack.write(cpu, 8)) return false;
  if (newCpl < cpl) setSegmentRaw(cpu, cpu.segWord(SEG.SS), newCpl, 0, 0, 0);
  enterFlags(cpu, interruptGate);
  enterCode(cpu, selector, gateCode, newCpl, offsetLo, offsetHi);
  stack.commit(cpu);
  return true;
}

/** SDM 3A 6.12.1, 20.3 (from virtual-8086 mode). */
function deliverProtected(cpu: Cpu, vector: number, error: number, kind: number): boolean {
  const ext = kind === KIND.SOFTWARE ? 0 : 1;
  if (!readGate(cpu, vector, 8, kind, ext)) return false;
  const u32 = cpu.u32;
  const w = cpu.w;
  const type = (gateHi >>> 8) & 15;
  const selector = gateLo >>> 16;
  const returnIp = u32[w + returnWord(kind)];
  if (type === TYPE.TASK_GATE) {
    if (!switchTask(cpu, selector, SWITCH.INT, returnIp, ext)) return false;
    if (error < 0) return true;
    stack.current(cpu);
    stack.push(error, 0);
    if (!stack.write(cpu, taskErrorSize(cpu))) return false;
    stack.commit(cpu);
    return true;
  }
  const wide = (type & 8) !== 0;
  const size = wide ? 4 : 2;
  const offset = wide ? ((gateLo & 0xffff) | (gateHi & 0xffff0000)) >>> 0 : gateLo & 0xffff;
  const interruptGate = (type & 1) === 0;
  if (!readGateCode(cpu, selector, ext)) return false;
  const v86 = cpu.v86();
  const cpl = cpu.cpl;
  const newCpl = gateCode.conforming ? cpl : gateCode.dpl;
  if (v86 && newCpl !== 0) {
    cpu.raise(VEC.GP, (selector & 0xfffc) | ext);
    return false;
  }
  if (!codeOffsetOk(cpu, gateCode, offset, 0) || !markAccessed(cpu, gateCode)) return false;
  const inner = newCpl < cpl;
  if (inner) {
    if (!innerStack(cpu, newCpl, stack, ext)) return false;
    if (v86) {
      for (const seg of V86_SAVED) stack.push(u32[cpu.segWord(seg) + SEG_SELECTOR], 0);
    }
    stack.push(u32[cpu.segWord(SEG.SS) + SEG_SELECTOR], 0);
    stack.push(cpu.reg(REG.SP), 0);
  } else stack.current(cpu);
  stack.push(savedFlags(cpu, vector, kind), 0);
  stack.push(u32[cpu.segWord(SEG.CS) + SEG_SELECTOR], 0);
  stack.push(returnIp, 0);
  if (error >= 0) stack.push(error, 0);
  if (!stack.write(cpu, size)) return false;
  if (v86) {
    for (const seg of V86_SAVED) setSegmentRaw(cpu, cpu.segWord(seg), 0, 0, 0, 0);
  }
  if (inner) useInnerStack(cpu, newCpl);
  enterFlags(cpu, interruptGate);
  cpu.set(W_CPL, newCpl);
  enterCode(cpu, selector, gateCode, newCpl, offset, 0);
  stack.commit(cpu);
  return true;
}
const V86_SAVED = [SEG.GS, SEG.FS, SEG.DS, SEG.ES] as const;

/** An error code for a task is as wide as its TSS. */
function taskErrorSize(cpu: Cpu): number {
  return (cpu.env.tr.attr & (8 << 8)) !== 0 ? 4 : 2;
}
