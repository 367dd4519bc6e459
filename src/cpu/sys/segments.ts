/**
 * Loading segment registers, LDTR and TR; LAR, LSL, VERR, VERW, ARPL; the descriptor-table instructions.
 * SDM 2: MOV, POP, LDS, LLDT, LTR, LAR, LSL, VERR, ARPL, LGDT, SGDT, SLDT, STR, SMSW, LMSW. SDM 3A 5.5–5.6, 5.10.
 */
import { MMU, SEG } from '../env.ts';
import { FLAG } from '../flags.ts';
import type { Cpu } from './cpu.ts';
import {
  changeTypeBits,
  Descriptor,
  markAccessed,
  needDescriptor,
  READ,
  readDescriptor,
  readSystemDescriptor,
  setSegment,
  setSegmentRaw,
  TYPE,
} from './descriptors.ts';
import { setFlag } from './eflags.ts';
import {
  ATTR,
  CR4,
  SEG_ATTR,
  SEG_BASE,
  SEG_LIMIT,
  SEG_SELECTOR,
  STATUS,
  VEC,
  W_CR4,
  W_GDT_BASE,
  W_GDT_LIMIT,
  W_IDT_BASE,
  W_IDT_LIMIT,
  W_INHIBIT,
  W_LDTR,
  W_TR,
} from './words.ts';

/** Attributes of segments in real and virtual-8086 mode. */
export const REAL_DATA = ATTR.P | ATTR.S | ATTR.RW | ATTR.ACCESSED;
export const V86_ATTR = REAL_DATA | ATTR.DPL;

const d = new Descriptor();

/** Loads a segment register in real mode: only base and selector change. */
export function loadReal(cpu: Cpu, seg: number, selector: number): void {
  const at = cpu.segWord(seg);
  cpu.u32[at + SEG_BASE] = (selector & 0xffff) << 4;
  cpu.u32[at + SEG_BASE + 1] = 0;
  cpu.u32[at + SEG_SELECTOR] = selector & 0xffff;
}

/** Loads a segment register in virtual-8086 mode. */
export function loadV86(cpu: Cpu, seg: number, selector: number): void {
  setSegmentRaw(cpu, cpu.segWord(seg), selector & 0xffff, (selector & 0xffff) << 4, 0xffff, V86_ATTR);
}

/** Marks a segment register unusable, with the given (null) selector. */
export function loadNull(cpu: Cpu, seg: number, selector: number): void {
  // a stack keeps its size: SS.B of an unusable SS is 0 in effect only outside 64-bit mode
  setSegmentRaw(cpu, cpu.segWord(seg), selector, 0, 0, 0);
}

/**
 * Loads ES, SS, DS, FS or GS as MOV and POP do, in any mode. True: loaded; the caller calls `updateMode`
 * for SS. False: an exception is set.
 */
export function loadSegment(cpu: Cpu, seg: number, selector: number): boolean {
  selector &= 0xffff;
  if (!cpu.protectedMode()) {
    loadReal(cpu, seg, selector);
    return true;
  }
  if (cpu.v86()) {
    loadV86(cpu, seg, selector);
    return true;
  }
  const cpl = cpu.cpl;
  const rpl = selector & 3;
  const error = selector & 0xfffc;
  if (error === 0) {
    if (seg === SEG.SS && !(cpu.code64() && cpl < 3 && rpl === cpl)) {
      cpu.raise(VEC.GP, 0);
      return false;
    }
    loadNull(cpu, seg, selector);
    return true;
  }
  if (!needDescriptor(cpu, selector, d)) return false;
  if (seg === SEG.SS) {
    if (rpl !== cpl || !d.writableData || d.dpl !== cpl) {
      cpu.raise(VEC.GP, error);
      return false;
    }
    if (!d.present) {
      cpu.raise(VEC.SS, error);
      return false;
    }
  } else {
    if (!d.readable || (!(d.code && d.conforming) && (rpl > d.dpl || cpl > d.dpl))) {
      cpu.raise(VEC.GP, error);
      return false;
    }
    if (!d.present) {
      cpu.raise(VEC.NP, error);
      return false;
    }
  }
  if (!markAccessed(cpu, d)) return false;
  setSegment(cpu, cpu.segWord(seg), selector, d);
  return true;
}

/**
 * `loadSegment` as part of an instruction. Returns what the instruction returns: code outside 64-bit mode
 * is looked up afresh when the segment's kind or flatness changed, since it was decoded for the old one.
 */
export function loadSegmentStatus(cpu: Cpu, seg: number, selector: number): number {
  const at = cpu.segWord(seg);
  const u32 = cpu.u32;
  const limit = u32[at + SEG_LIMIT];
  const attr = u32[at + SEG_ATTR];
  const flat = u32[at + SEG_BASE] === 0;
  if (!loadSegment(cpu, seg, selector)) return STATUS.EXCEPTION;
  const changed =
    limit !== u32[at + SEG_LIMIT] || attr !== u32[at + SEG_ATTR] || flat !== (u32[at + SEG_BASE] === 0);
  if (!changed || cpu.code64()) return STATUS.NEXT;
  cpu.updateMode();
  cpu.advance();
  return STATUS.LOOKUP;
}

/** MOV and POP to a segment register: as `loadSegmentStatus`, and a load of SS holds interrupts off. */
export function loadSegmentAndShadow(cpu: Cpu, seg: number, selector: number): number {
  const status = loadSegmentStatus(cpu, seg, selector);
  if (seg !== SEG.SS || status === STATUS.EXCEPTION) return status;
  cpu.set(W_INHIBIT, 2);
  // the vCPU loop looks at the shadow, so leave
  cpu.advance();
  return STATUS.LOOKUP;
}

/** LDS, LES, LFS, LGS, LSS: far pointer at slowAddr; the offset is the result, also with status LOOKUP. */
export function loadFarPointer(cpu: Cpu, seg: number, size: number): number {
  const mmu = cpu.mmu;
  if (!mmu.readBlock(cpu.addrLo, cpu.addrHi, size + 2, mmu.index())) return STATUS.EXCEPTION;
  const lo = size === 2 ? mmu.block16[0] : mmu.block32[0];
  const hi = size === 8 ? mmu.block32[1] : 0;
  const selector = mmu.block16[size >>> 1];
  cpu.setResult(lo, hi);
  return loadSegmentStatus(cpu, seg, selector);
}

/** LLDT. */
export function lldt(cpu: Cpu): number {
  if (!cpu.protectedNotV86()) return cpu.raiseUd();
  if (cpu.cpl !== 0) return cpu.raiseGp(0);
  return loadLdt(cpu, cpu.op(0) & 0xffff, VEC.GP);
}

/** Loads LDTR; `vector` for a bad selector (#TS in a task switch). */
export function loadLdt(cpu: Cpu, selector: number, vector: number): number {
  const at = cpu.w + W_LDTR;
  const error = selector & 0xfffc;
  if (error === 0) {
    setSegmentRaw(cpu, at, selector, 0, 0, 0);
    return STATUS.NEXT;
  }
  if ((selector & 4) !== 0) return cpu.raise(vector, error);
  const result = readSystemDescriptor(cpu, selector, d);
  if (result === READ.FAULT) return STATUS.EXCEPTION;
  if (result === READ.LIMIT || d.segment || d.type !== TYPE.LDT) return cpu.raise(vector, error);
  if (!d.present) return cpu.raise(vector === VEC.GP ? VEC.NP : vector, error);
  setSegment(cpu, at, selector, d);
  cpu.u32[at + SEG_BASE + 1] = d.top;
  return STATUS.NEXT;
}

/** LTR: marks the TSS busy. */
export function ltr(cpu: Cpu): number {
  if (!cpu.protectedNotV86()) return cpu.raiseUd();
  if (cpu.cpl !== 0) return cpu.raiseGp(0);
  const selector = cpu.op(0) & 0xffff;
  const error = selector & 0xfffc;
  if (error === 0 || (selector & 4) !== 0) return cpu.raiseGp(error);
  const result = readSystemDescriptor(cpu, selector, d);
  if (result === READ.FAULT) return STATUS.EXCEPTION;
  if (result === READ.LIMIT || d.segment) return cpu.raiseGp(error);
  if (d.type !== TYPE.TSS32 && (d.type !== TYPE.TSS16 || cpu.longMode())) return cpu.raiseGp(error);
  if (!d.present) return cpu.raise(VEC.NP, error);
  if (!changeTypeBits(cpu, d, 2, 0)) return STATUS.EXCEPTION;
  const at = cpu.w + W_TR;
  setSegment(cpu, at, selector, d);
  cpu.u32[at + SEG_BASE + 1] = d.top;
  return STATUS.NEXT;
}

/** Whether user code may run SGDT, SIDT, SLDT, STR, SMSW (CR4.UMIP). */
function umipFault(cpu: Cpu): boolean {
  return cpu.cpl !== 0 && (cpu.get(W_CR4) & CR4.UMIP) !== 0;
}

/** SLDT, STR: the selector is the result. */
export function storeSystemSelector(cpu: Cpu, word: number): number {
  if (!cpu.protectedNotV86()) return cpu.raiseUd();
  if (umipFault(cpu)) return cpu.raiseGp(0);
  cpu.setResult(cpu.get(word + SEG_SELECTOR), 0);
  return STATUS.NEXT;
}

/** SMSW: CR0 is the result. */
export function smsw(cpu: Cpu, cr0: number): number {
  if (umipFault(cpu)) return cpu.raiseGp(0);
  cpu.setResult(cr0, 0);
  return STATUS.NEXT;
}

/** SGDT, SIDT: limit and base to slowAddr; 8 bytes of base in 64-bit code, else 4. */
export function storeTable(cpu: Cpu, idt: boolean): number {
  if (umipFault(cpu)) return cpu.raiseGp(0);
  const baseLo = cpu.get(idt ? W_IDT_BASE : W_GDT_BASE);
  const baseHi = cpu.get((idt ? W_IDT_BASE : W_GDT_BASE) + 1);
  const limit = cpu.get(idt ? W_IDT_LIMIT : W_GDT_LIMIT);
  const mmu = cpu.mmu;
  const block = mmu.block16;
  block[0] = limit;
  block[1] = baseLo;
  block[2] = baseLo >>> 16;
  block[3] = baseHi;
  block[4] = baseHi >>> 16;
  const length = cpu.code64() ? 10 : 6;
  return mmu.writeBlock(cpu.addrLo, cpu.addrHi, length, mmu.index()) ? STATUS.NEXT : STATUS.EXCEPTION;
}

/** LGDT, LIDT. With a 16-bit operand 24 bits of the base count. */
export function loadTable(cpu: Cpu, idt: boolean, size: number): number {
  if (cpu.cpl !== 0) return cpu.raiseGp(0);
  const mmu = cpu.mmu;
  const wide = cpu.code64();
  if (!mmu.readBlock(cpu.addrLo, cpu.addrHi, wide ? 10 : 6, mmu.index())) return STATUS.EXCEPTION;
  const block = mmu.block16;
  const limit = block[0];
  let lo = (block[1] | (block[2] << 16)) >>> 0;
  const hi = wide ? (block[3] | (block[4] << 16)) >>> 0 : 0;
  if (wide && !mmu.canonical(hi, VEC.GP)) return STATUS.EXCEPTION;
  if (!wide && size === 2) lo &= 0xffffff;
  cpu.set64(idt ? W_IDT_BASE : W_GDT_BASE, lo, hi);
  cpu.set(idt ? W_IDT_LIMIT : W_GDT_LIMIT, limit);
  return STATUS.NEXT;
}

/** True when LAR or LSL accept a system descriptor of this type. */
function systemVisible(type: number, long: boolean, lsl: boolean): boolean {
  switch (type) {
    case TYPE.TSS16:
    case TYPE.TSS16_BUSY:
      return !long;
    case TYPE.LDT:
    case TYPE.TSS32:
    case TYPE.TSS32_BUSY:
      return true;
    case TYPE.CALL16:
    case TYPE.TASK_GATE:
      return !long && !lsl;
    case TYPE.CALL32:
      return !lsl;
    default:
      return false;
  }
}

/** Reads a descriptor for LAR, LSL, VERR, VERW. 0: visible, 1: not (ZF = 0), 2: exception. */
function inspect(cpu: Cpu, selector: number, lsl: boolean): number {
  if ((selector & 0xfffc) === 0) return READ.LIMIT;
  const result = readDescriptor(cpu, selector, d);
  if (result !== READ.OK) return result;
  if (!d.segment) {
    if (!systemVisible(d.type, cpu.longMode(), lsl)) return READ.LIMIT;
  } else if (d.code && d.conforming) return READ.OK;
  return d.dpl < cpu.cpl || d.dpl < (selector & 3) ? READ.LIMIT : READ.OK;
}

/** LAR. Operand 0 keeps its value when ZF is 0: the result is then what it was. */
export function lar(cpu: Cpu): number {
  if (!cpu.protectedNotV86()) return cpu.raiseUd();
  const result = inspect(cpu, cpu.op(1) & 0xffff, false);
  if (result === READ.FAULT) return STATUS.EXCEPTION;
  setFlag(cpu, FLAG.ZF, result === READ.OK);
  if (result === READ.OK) cpu.setResult(d.hi & 0x00ffff00, 0);
  else cpu.keepOperand = true;
  return STATUS.NEXT;
}

/** LSL. */
export function lsl(cpu: Cpu): number {
  if (!cpu.protectedNotV86()) return cpu.raiseUd();
  const result = inspect(cpu, cpu.op(1) & 0xffff, true);
  if (result === READ.FAULT) return STATUS.EXCEPTION;
  setFlag(cpu, FLAG.ZF, result === READ.OK);
  if (result === READ.OK) cpu.setResult(d.limit, 0);
  else cpu.keepOperand = true;
  return STATUS.NEXT;
}

/** VERR, VERW. */
export function verify(cpu: Cpu, write: boolean): number {
  if (!cpu.protectedNotV86()) return cpu.raiseUd();
  const result = inspect(cpu, cpu.op(0) & 0xffff, false);
  if (result === READ.FAULT) return STATUS.EXCEPTION;
  setFlag(cpu, FLAG.ZF, result === READ.OK && d.segment && (write ? d.writableData : d.readable));
  return STATUS.NEXT;
}

/** ARPL: raises the RPL of operand 0 to that of operand 1. */
export function arpl(cpu: Cpu): number {
  if (!cpu.protectedNotV86()) return cpu.raiseUd();
  // the operand has 16 bits; what the caller read above them goes back unchanged
  const destination = cpu.op(0);
  const rpl = cpu.op(1) & 3;
  const raise = (destination & 3) < rpl;
  setFlag(cpu, FLAG.ZF, raise);
  cpu.setResult(raise ? (destination & ~3) | rpl : destination, 0);
  return STATUS.NEXT;
}

/**
 * After a return to an outer privilege level: data segments that it may not use become null. The hidden
 * base of a segment whose selector is null already is kept (64-bit FS and GS).
 */
export function dropInnerSegments(cpu: Cpu, cpl: number): void {
  for (const seg of DATA_SEGMENTS) {
    const at = cpu.segWord(seg);
    if ((cpu.u32[at + SEG_SELECTOR] & 0xfffc) === 0) continue;
    const attr = cpu.u32[at + SEG_ATTR];
    const conformingCode = (attr & (ATTR.CODE | ATTR.DC)) === (ATTR.CODE | ATTR.DC);
    if (!conformingCode && ((attr >>> ATTR.DPL_SHIFT) & 3) < cpl) {
      cpu.u32[at + SEG_SELECTOR] = 0;
      cpu.u32[at + SEG_ATTR] = 0;
    }
  }
}
const DATA_SEGMENTS = [SEG.ES, SEG.DS, SEG.FS, SEG.GS] as const;

/** MMU index of accesses that the processor makes for itself (descriptor tables, TSS): supervisor, SMAP in force. */
export const IMPLICIT = MMU.KERNEL;
