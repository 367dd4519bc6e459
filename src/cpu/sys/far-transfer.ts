/**
 * Far JMP, CALL and RET: direct, and through call gates of 16, 32 and 64 bits. SDM 2: JMP, CALL, RET;
 * SDM 3A 5.8.
 */
import { SEG } from '../env.ts';
import type { Cpu } from './cpu.ts';
import {
  Descriptor,
  markAccessed,
  needDescriptor,
  READ,
  readSystemDescriptor,
  setSegment,
  setSegmentRaw,
  TYPE,
} from './descriptors.ts';
import { dropInnerSegments, IMPLICIT, loadReal, loadV86 } from './segments.ts';
import { itemHi, itemLo, Stack } from './stack.ts';
import { switchTask, SWITCH } from './tasks.ts';
import {
  ATTR,
  SEG_ATTR,
  SEG_BASE,
  SEG_LIMIT,
  SEG_SELECTOR,
  STATUS,
  VEC,
  W_CPL,
  W_NEXT_IP,
  W_TR,
} from './words.ts';

const target = new Descriptor();
const code = new Descriptor();
const stackDescriptor = new Descriptor();
const stack = new Stack();
const outer = new Stack();

/** True when a code descriptor may be entered at CPL by a far jump or call with this RPL. */
function directAccess(d: Descriptor, cpl: number, rpl: number): boolean {
  return d.conforming ? d.dpl <= cpl : rpl <= cpl && d.dpl === cpl;
}

/** The offset is good for the code segment: canonical, or within the limit. Otherwise notes #GP(0). */
export function codeOffsetOk(cpu: Cpu, d: Descriptor, lo: number, hi: number): boolean {
  if (cpu.longMode() && d.long) return cpu.mmu.canonical(hi, VEC.GP);
  // a 64-bit offset is cut to 32 bits on the way to compatibility mode
  if (lo > d.limit) {
    cpu.raise(VEC.GP, 0);
    return false;
  }
  return true;
}

/** Makes a code descriptor CS at privilege `cpl`, and goes to an offset in it. */
export function enterCode(
  cpu: Cpu,
  selector: number,
  d: Descriptor,
  cpl: number,
  lo: number,
  hi: number,
): void {
  setSegment(cpu, cpu.segWord(SEG.CS), (selector & 0xfffc) | cpl, d);
  cpu.set(W_CPL, cpl);
  cpu.setIp(lo, d.long && cpu.longMode() ? hi : 0);
  cpu.updateMode();
}

/** Far JMP to selector:offset. */
export function jmpFar(cpu: Cpu, selector: number, lo: number, hi: number): number {
  selector &= 0xffff;
  if (!cpu.protectedMode() || cpu.v86()) {
    if (lo > cpu.u32[cpu.segWord(SEG.CS) + SEG_LIMIT]) return cpu.raiseGp(0);
    if (cpu.v86()) loadV86(cpu, SEG.CS, selector);
    else loadReal(cpu, SEG.CS, selector);
    cpu.setIp(lo, 0);
    cpu.updateMode();
    return STATUS.LOOKUP;
  }
  const error = selector & 0xfffc;
  if (error === 0) return cpu.raiseGp(0);
  const cpl = cpu.cpl;
  const rpl = selector & 3;
  if (!needDescriptor(cpu, selector, target)) return STATUS.EXCEPTION;
  if (target.code) {
    if (!directAccess(target, cpl, rpl) || badLong(cpu, target)) return cpu.raiseGp(error);
    if (!target.present) return cpu.raise(VEC.NP, error);
    if (!codeOffsetOk(cpu, target, lo, hi) || !markAccessed(cpu, target)) return STATUS.EXCEPTION;
    enterCode(cpu, selector, target, cpl, lo, hi);
    return STATUS.LOOKUP;
  }
  if (target.segment) return cpu.raiseGp(error);
  const type = target.type;
  if (target.dpl < cpl || target.dpl < rpl) return cpu.raiseGp(error);
  if (type === TYPE.CALL32 || (type === TYPE.CALL16 && !cpu.longMode())) {
    if (!openCallGate(cpu, selector)) return STATUS.EXCEPTION;
    if (code.conforming ? code.dpl > cpl : code.dpl !== cpl) return cpu.raiseGp(code.selector & 0xfffc);
    const wide = cpu.longMode();
    const offset = type === TYPE.CALL16 ? target.gateOffset & 0xffff : target.gateOffset;
    const offsetHigh = wide ? target.top : 0;
    if (!codeOffsetOk(cpu, code, offset, offsetHigh) || !markAccessed(cpu, code)) return STATUS.EXCEPTION;
    enterCode(cpu, code.selector, code, cpl, offset, offsetHigh);
    return STATUS.LOOKUP;
  }
  if (cpu.longMode()) return cpu.raiseGp(error);
  return taskTarget(cpu, selector, SWITCH.JMP);
}

/** In long mode a code segment has not both L and D. */
function badLong(cpu: Cpu, d: Descriptor): boolean {
  return d.long && d.big && cpu.longMode();
}

/** JMP or CALL to a TSS or task gate; `target` is its descriptor, privileges are checked. */
function taskTarget(cpu: Cpu, selector: number, source: number): number {
  const error = selector & 0xfffc;
  switch (target.type) {
    case TYPE.TSS16:
    case TYPE.TSS32:
      if (!target.present) return cpu.raise(VEC.NP, error);
      return switchTask(cpu, selector, source, cpu.get(W_NEXT_IP), 0) ? STATUS.LOOKUP : STATUS.EXCEPTION;
    case TYPE.TASK_GATE:
      if (!target.present) return cpu.raise(VEC.NP, error);
      return switchTask(cpu, target.gateSelector, source, cpu.get(W_NEXT_IP), 0)
        ? STATUS.LOOKUP
        : STATUS.EXCEPTION;
    default:
      return cpu.raiseGp(error);
  }
}

/**
 * Reads `target` (a call gate) in full and the code descriptor it names into `code`, with the checks common
 * to JMP and CALL but those of the code's privilege.
 */
function openCallGate(cpu: Cpu, selector: number): boolean {
  const error = selector & 0xfffc;
  const long = cpu.longMode();
  if (long) {
    const result = readSystemDescriptor(cpu, selector, target);
    if (result !== READ.OK) {
      if (result === READ.LIMIT) cpu.raise(VEC.GP, error);
      return false;
    }
    // bits 12:8 of the fourth dword are the type of the upper half: 0
    if ((cpu.mmu.block32[3] & 0x1f00) !== 0) {
      cpu.raise(VEC.GP, error);
      return false;
    }
  }
  if (!target.present) {
    cpu.raise(VEC.NP, error);
    return false;
  }
  const codeSelector = target.gateSelector;
  if ((codeSelector & 0xfffc) === 0) {
    cpu.raise(VEC.GP, 0);
    return false;
  }
  if (!needDescriptor(cpu, codeSelector, code)) return false;
  if (!code.code || code.dpl > cpu.cpl || (long && (!code.long || code.big))) {
    cpu.raise(VEC.GP, codeSelector & 0xfffc);
    return false;
  }
  if (!code.present) {
    cpu.raise(VEC.NP, codeSelector & 0xfffc);
    return false;
  }
  return true;
}

/** Far CALL to selector:offset with an operand of `size` bytes. */
export function callFar(cpu: Cpu, selector: number, lo: number, hi: number, size: number): number {
  selector &= 0xffff;
  const cs = cpu.segWord(SEG.CS);
  const oldCs = cpu.u32[cs + SEG_SELECTOR];
  const env = cpu.w;
  const nextLo = cpu.u32[env + W_NEXT_IP];
  const nextHi = cpu.u32[env + W_NEXT_IP + 1];
  if (!cpu.protectedMode() || cpu.v86()) {
    if (lo > cpu.u32[cs + SEG_LIMIT]) return cpu.raiseGp(0);
    stack.current(cpu);
    stack.push(oldCs, 0);
    stack.push(nextLo, 0);
    if (!stack.write(cpu, size)) return STATUS.EXCEPTION;
    stack.commit(cpu);
    if (cpu.v86()) loadV86(cpu, SEG.CS, selector);
    else loadReal(cpu, SEG.CS, selector);
    cpu.setIp(lo, 0);
    cpu.updateMode();
    return STATUS.LOOKUP;
  }
  const error = selector & 0xfffc;
  if (error === 0) return cpu.raiseGp(0);
  const cpl = cpu.cpl;
  const rpl = selector & 3;
  if (!needDescriptor(cpu, selector, target)) return STATUS.EXCEPTION;
  if (target.code) {
    if (!directAccess(target, cpl, rpl) || badLong(cpu, target)) return cpu.raiseGp(error);
    if (!target.present) return cpu.raise(VEC.NP, error);
    if (!codeOffsetOk(cpu, target, lo, hi) || !markAccessed(cpu, target)) return STATUS.EXCEPTION;
    stack.current(cpu);
    stack.push(oldCs, 0);
    stack.push(nextLo, nextHi);
    if (!stack.write(cpu, size)) return STATUS.EXCEPTION;
    stack.commit(cpu);
    enterCode(cpu, selector, target, cpl, lo, hi);
    return STATUS.LOOKUP;
  }
  if (target.segment) return cpu.raiseGp(error);
  if (target.dpl < cpl || target.dpl < rpl) return cpu.raiseGp(error);
  const type = target.type;
  if (type === TYPE.CALL32 || (type === TYPE.CALL16 && !cpu.longMode())) {
    return callGate(cpu, selector, oldCs, nextLo, nextHi);
  }
  if (cpu.longMode()) return cpu.raiseGp(error);
  return taskTarget(cpu, selector, SWITCH.CALL);
}

function callGate(cpu: Cpu, selector: number, oldCs: number, nextLo: number, nextHi: number): number {
  if (!openCallGate(cpu, selector)) return STATUS.EXCEPTION;
  const long = cpu.longMode();
  const wide = target.type === TYPE.CALL32;
  const size = long ? 8 : wide ? 4 : 2;
  const offset = wide ? target.gateOffset : target.gateOffset & 0xffff;
  const offsetHigh = long ? target.top : 0;
  const cpl = cpu.cpl;
  if (!codeOffsetOk(cpu, code, offset, offsetHigh) || !markAccessed(cpu, code)) return STATUS.EXCEPTION;
  if (code.conforming || code.dpl === cpl) {
    stack.current(cpu);
    if (long) stack.flat(stack.spLo, stack.spHi, stack.index);
    stack.push(oldCs, 0);
    stack.push(nextLo, nextHi);
    if (!stack.write(cpu, size)) return STATUS.EXCEPTION;
    stack.commit(cpu);
    enterCode(cpu, code.selector, code, cpl, offset, offsetHigh);
    return STATUS.LOOKUP;
  }

  const newCpl = code.dpl;
  stack.current(cpu);
  const oldSs = cpu.u32[cpu.segWord(SEG.SS) + SEG_SELECTOR];
  const oldSpLo = stack.spLo;
  const oldSpHi = stack.spHi;
  const parameters = long ? 0 : target.hi & 31;
  const values = new Uint32Array(parameters);
  if (parameters > 0) {
    if (!stack.read(cpu, parameters, size)) return STATUS.EXCEPTION;
    for (let i = 0; i < parameters; i++) values[i] = itemLo(cpu, i, size);
  }
  if (!innerStack(cpu, newCpl, outer, 0)) return STATUS.EXCEPTION;
  outer.push(oldSs, 0);
  outer.push(oldSpLo, oldSpHi);
  for (let i = parameters - 1; i >= 0; i--) outer.push(values[i], 0);
  outer.push(oldCs, 0);
  outer.push(nextLo, nextHi);
  if (!outer.write(cpu, size)) return STATUS.EXCEPTION;
  useInnerStack(cpu, newCpl);
  enterCode(cpu, code.selector, code, newCpl, offset, offsetHigh);
  outer.commit(cpu);
  return STATUS.LOOKUP;
}

/**
 * Finds the stack for privilege level `cpl` from the TSS, with all checks (SDM 2 CALL, INT): into `out`; the
 * SS to load is kept for `useInnerStack`. `ext` is OR-ed to error codes. False: an exception is set.
 */
export function innerStack(cpu: Cpu, cpl: number, out: Stack, ext: number): boolean {
  const tr = cpu.w + W_TR;
  const u32 = cpu.u32;
  const limit = u32[tr + SEG_LIMIT];
  const trError = (u32[tr + SEG_SELECTOR] & 0xfffc) | ext;
  const mmu = cpu.mmu;
  if (cpu.longMode()) {
    if (!stackPointer64(cpu, 4 + cpl * 8, trError)) return false;
    out.flat(pointerLo, pointerHi, IMPLICIT);
    stackDescriptor.selector = cpl;
    return true;
  }
  const base = u32[tr + SEG_BASE];
  let sp: number;
  let ss: number;
  if (((u32[tr + SEG_ATTR] >>> 8) & 8) !== 0) {
    const at = 4 + cpl * 8;
    if (at + 5 > limit) {
      cpu.raise(VEC.TS, trError);
      return false;
    }
    if (!mmu.readBlock((base + at) >>> 0, 0, 6, IMPLICIT)) return false;
    sp = mmu.block32[0];
    ss = mmu.block16[2];
  } else {
    const at = 2 + cpl * 4;
    if (at + 3 > limit) {
      cpu.raise(VEC.TS, trError);
      return false;
    }
    if (!mmu.readBlock((base + at) >>> 0, 0, 4, IMPLICIT)) return false;
    sp = mmu.block16[0];
    ss = mmu.block16[1];
  }
  const error = (ss & 0xfffc) | ext;
  if ((ss & 0xfffc) === 0) {
    cpu.raise(VEC.TS, ext);
    return false;
  }
  if (!needDescriptor(cpu, ss, stackDescriptor, VEC.TS, ext)) return false;
  if ((ss & 3) !== cpl || stackDescriptor.dpl !== cpl || !stackDescriptor.writableData) {
    cpu.raise(VEC.TS, error);
    return false;
  }
  if (!stackDescriptor.present) {
    cpu.raise(VEC.SS, error);
    return false;
  }
  if (!markAccessed(cpu, stackDescriptor)) return false;
  out.other(stackDescriptor, sp, cpl, error);
  return true;
}

let pointerLo = 0;
let pointerHi = 0;

/** Reads an RSPn or ISTn of a 64-bit TSS; `at` is its offset. Results in module variables. */
function stackPointer64(cpu: Cpu, at: number, error: number): boolean {
  const tr = cpu.w + W_TR;
  const u32 = cpu.u32;
  if (at + 7 > u32[tr + SEG_LIMIT]) {
    cpu.raise(VEC.TS, error);
    return false;
  }
  const baseLo = u32[tr + SEG_BASE];
  const lo = (baseLo + at) >>> 0;
  const hi = lo < baseLo ? (u32[tr + SEG_BASE + 1] + 1) >>> 0 : u32[tr + SEG_BASE + 1];
  if (!cpu.mmu.readBlock(lo, hi, 8, IMPLICIT)) return false;
  pointerLo = cpu.mmu.block32[0];
  pointerHi = cpu.mmu.block32[1];
  return true;
}

/** The stack of interrupt-stack-table entry `ist` (1–7). */
export function istStack(cpu: Cpu, ist: number, out: Stack, ext: number): boolean {
  const error = (cpu.u32[cpu.w + W_TR + SEG_SELECTOR] & 0xfffc) | ext;
  if (!stackPointer64(cpu, 0x24 + (ist - 1) * 8, error)) return false;
  out.flat(pointerLo, pointerHi, IMPLICIT);
  return true;
}

/** Loads SS for the stack found by `innerStack`. */
export function useInnerStack(cpu: Cpu, cpl: number): void {
  const at = cpu.segWord(SEG.SS);
  if (cpu.longMode()) setSegmentRaw(cpu, at, cpl, 0, 0, 0);
  else setSegment(cpu, at, (stackDescriptor.selector & 0xfffc) | cpl, stackDescriptor);
}

/** Far RET; `release` bytes are dropped after the return address. */
export function retFar(cpu: Cpu, release: number, size: number): number {
  stack.current(cpu);
  if (!stack.read(cpu, 2, size)) return STATUS.EXCEPTION;
  const lo = itemLo(cpu, 0, size);
  const hi = itemHi(cpu, 0, size);
  const selector = itemLo(cpu, 1, size) & 0xffff;
  if (!cpu.protectedMode() || cpu.v86()) {
    if (lo > cpu.u32[cpu.segWord(SEG.CS) + SEG_LIMIT]) return cpu.raiseGp(0);
    stack.move(2 * size + release);
    stack.commit(cpu);
    if (cpu.v86()) loadV86(cpu, SEG.CS, selector);
    else loadReal(cpu, SEG.CS, selector);
    cpu.setIp(lo, 0);
    cpu.updateMode();
    return STATUS.LOOKUP;
  }
  if (!returnTarget(cpu, selector, code)) return STATUS.EXCEPTION;
  const rpl = selector & 3;
  if (!codeOffsetOk(cpu, code, lo, hi)) return STATUS.EXCEPTION;
  stack.move(2 * size + release);
  if (rpl === cpu.cpl) {
    if (!markAccessed(cpu, code)) return STATUS.EXCEPTION;
    stack.commit(cpu);
    enterCode(cpu, selector, code, rpl, lo, hi);
    return STATUS.LOOKUP;
  }
  if (!stack.read(cpu, 2, size)) return STATUS.EXCEPTION;
  const spLo = itemLo(cpu, 0, size);
  const spHi = itemHi(cpu, 0, size);
  const ss = itemLo(cpu, 1, size) & 0xffff;
  if (!outerStack(cpu, ss, rpl, code)) return STATUS.EXCEPTION;
  if (!markAccessed(cpu, code)) return STATUS.EXCEPTION;
  leaveToOuter(cpu, selector, code, lo, hi, ss, spLo, spHi, release);
  return STATUS.LOOKUP;
}

/** Checks the CS of a far return or IRET: into `d`. False: an exception is set. */
export function returnTarget(cpu: Cpu, selector: number, d: Descriptor): boolean {
  const error = selector & 0xfffc;
  if (error === 0) {
    cpu.raise(VEC.GP, 0);
    return false;
  }
  if (!needDescriptor(cpu, selector, d)) return false;
  const rpl = selector & 3;
  if (!d.code || rpl < cpu.cpl || badLong(cpu, d) || (d.conforming ? d.dpl > rpl : d.dpl !== rpl)) {
    cpu.raise(VEC.GP, error);
    return false;
  }
  if (!d.present) {
    cpu.raise(VEC.NP, error);
    return false;
  }
  return true;
}

/**
 * Checks the SS of a return to privilege `rpl` (an outer one, or any in 64-bit mode). A null SS is good for
 * 64-bit code below privilege 3.
 */
export function outerStack(cpu: Cpu, ss: number, rpl: number, codeDescriptor: Descriptor): boolean {
  const error = ss & 0xfffc;
  stackDescriptor.selector = ss;
  if (error === 0) {
    if (cpu.longMode() && codeDescriptor.long && rpl !== 3 && (ss & 3) === rpl) {
      stackDescriptor.lo = 0;
      stackDescriptor.hi = 0;
      return true;
    }
    cpu.raise(VEC.GP, 0);
    return false;
  }
  if (!needDescriptor(cpu, ss, stackDescriptor)) return false;
  if ((ss & 3) !== rpl || !stackDescriptor.writableData || stackDescriptor.dpl !== rpl) {
    cpu.raise(VEC.GP, error);
    return false;
  }
  if (!stackDescriptor.present) {
    cpu.raise(VEC.SS, error);
    return false;
  }
  return markAccessed(cpu, stackDescriptor);
}

/** Loads CS, SS, rIP and rSP of a return checked by `returnTarget` and `outerStack`. */
export function leaveToOuter(
  cpu: Cpu,
  selector: number,
  codeDescriptor: Descriptor,
  lo: number,
  hi: number,
  ss: number,
  spLo: number,
  spHi: number,
  release: number,
): void {
  const before = cpu.cpl;
  const rpl = selector & 3;
  const at = cpu.segWord(SEG.SS);
  if ((ss & 0xfffc) === 0) setSegmentRaw(cpu, at, ss, 0, 0, 0);
  else setSegment(cpu, at, ss, stackDescriptor);
  enterCode(cpu, selector, codeDescriptor, rpl, lo, hi);
  const width = cpu.longMode() && codeDescriptor.long ? 2 : (cpu.u32[at + SEG_ATTR] & ATTR.DB) !== 0 ? 1 : 0;
  outer.width = width;
  outer.spLo = spLo;
  outer.spHi = spHi;
  outer.move(release);
  outer.commit(cpu);
  if (rpl !== before) dropInnerSegments(cpu, rpl);
}
