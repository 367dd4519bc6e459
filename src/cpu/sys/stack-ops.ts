/**
 * Stack instructions done in TypeScript: PUSHA, POPA, PUSHF, POPF, ENTER, PUSH and POP of segment registers;
 * STI and CLI at CPL 1–3. SDM 2.
 */
import { SEG } from '../env.ts';
import { ARITHMETIC, FLAG } from '../flags.ts';
import type { Cpu } from './cpu.ts';
import { getEflags, setEflags } from './eflags.ts';
import { loadSegmentAndShadow } from './segments.ts';
import { itemHi, itemLo, Stack } from './stack.ts';
import { REG, SEG_SELECTOR, STATUS, W_EFLAGS, W_INHIBIT } from './words.ts';

const stack = new Stack();
/** The frames that ENTER copies from. */
const outer = new Stack();

/**
 * PUSH of a segment register: operand 0 is its number. Of a 32-bit item only the low 16 bits are written, as recent
 * processors do (SDM 2 PUSH); a 64-bit one is zero-extended.
 */
export function pushSegment(cpu: Cpu, size: number): number {
  stack.current(cpu);
  if (size === 4) stack.move(-2);
  stack.push(cpu.u32[cpu.segWord(cpu.op(0)) + SEG_SELECTOR], 0);
  if (!stack.write(cpu, size === 4 ? 2 : size)) return STATUS.EXCEPTION;
  stack.commit(cpu);
  return STATUS.NEXT;
}

/** POP to a segment register: 16 bits are read. */
export function popSegment(cpu: Cpu, size: number): number {
  stack.current(cpu);
  if (!stack.read(cpu, 1, 2)) return STATUS.EXCEPTION;
  const seg = cpu.op(0);
  const selector = itemLo(cpu, 0, 2) & 0xffff;
  stack.move(size);
  const spLo = stack.spLo;
  const spHi = stack.spHi;
  const width = stack.width;
  const status = loadSegmentAndShadow(cpu, seg, selector);
  if (status === STATUS.EXCEPTION) return status;
  // the pointer is as wide as the stack was before a new SS
  stack.width = width;
  stack.spLo = spLo;
  stack.spHi = spHi;
  stack.commit(cpu);
  return status;
}

/** PUSHA, PUSHAD. */
export function pusha(cpu: Cpu, size: number): number {
  stack.current(cpu);
  for (let r = 0; r < 8; r++) stack.push(cpu.reg(r), 0);
  if (!stack.write(cpu, size)) return STATUS.EXCEPTION;
  stack.commit(cpu);
  return STATUS.NEXT;
}

/** POPA, POPAD: SP's value is skipped. */
export function popa(cpu: Cpu, size: number): number {
  stack.current(cpu);
  if (!stack.read(cpu, 8, size)) return STATUS.EXCEPTION;
  for (let i = 0; i < 8; i++) {
    const r = 7 - i;
    if (r !== REG.SP) cpu.writeReg(r, size, itemLo(cpu, i, size), 0);
  }
  stack.move(8 * size);
  stack.commit(cpu);
  return STATUS.NEXT;
}

/** PUSHF: RF and VM are pushed as 0. In virtual-8086 mode only with IOPL 3. */
export function pushf(cpu: Cpu, size: number): number {
  if (cpu.v86() && cpu.iopl() !== 3) return cpu.raiseGp(0);
  stack.current(cpu);
  stack.push(getEflags(cpu) & ~(FLAG.RF | FLAG.VM), 0);
  if (!stack.write(cpu, size)) return STATUS.EXCEPTION;
  stack.commit(cpu);
  return STATUS.NEXT;
}

/** POPF: IF changes only with CPL <= IOPL, IOPL only at CPL 0. */
export function popf(cpu: Cpu, size: number): number {
  const v86 = cpu.v86();
  const iopl = cpu.iopl();
  if (v86 && iopl !== 3) return cpu.raiseGp(0);
  stack.current(cpu);
  if (!stack.read(cpu, 1, size)) return STATUS.EXCEPTION;
  const image = itemLo(cpu, 0, size);
  let mask = ARITHMETIC | FLAG.TF | FLAG.DF | FLAG.NT;
  if (size > 2) mask |= FLAG.AC | FLAG.ID;
  if (cpu.cpl <= iopl) mask |= FLAG.IF;
  if (cpu.cpl === 0) mask |= FLAG.IOPL;
  stack.move(size);
  stack.commit(cpu);
  const old = getEflags(cpu);
  // a 32-bit POPF clears RF
  const keep = size > 2 ? old & ~FLAG.RF : old;
  setEflags(cpu, (keep & ~mask) | (image & mask));
  cpu.flagsLoaded();
  if (((old ^ image) & (FLAG.TF | FLAG.AC | FLAG.IF)) === 0) return STATUS.NEXT;
  cpu.advance();
  return STATUS.LOOKUP;
}

/** CLI. */
export function cli(cpu: Cpu): number {
  if (cpu.protectedMode() && cpu.cpl > cpu.iopl()) return cpu.raiseGp(0);
  cpu.u32[cpu.w + W_EFLAGS] &= ~FLAG.IF;
  return STATUS.NEXT;
}

/** STI: interrupts are held off for one more instruction when they were disabled. */
export function sti(cpu: Cpu): number {
  if (cpu.protectedMode() && cpu.cpl > cpu.iopl()) return cpu.raiseGp(0);
  const at = cpu.w + W_EFLAGS;
  if ((cpu.u32[at] & FLAG.IF) !== 0) return STATUS.NEXT;
  cpu.u32[at] |= FLAG.IF;
  cpu.set(W_INHIBIT, 1);
  cpu.flagsLoaded();
  cpu.advance();
  return STATUS.LOOKUP;
}

/** CLAC, STAC. */
export function setAc(cpu: Cpu, on: boolean): number {
  if (!cpu.model.smap || cpu.cpl !== 0) return cpu.raiseUd();
  const at = cpu.w + W_EFLAGS;
  if (on) cpu.u32[at] |= FLAG.AC;
  else cpu.u32[at] &= ~FLAG.AC;
  cpu.updateMmuIndex();
  return STATUS.NEXT;
}

/**
 * ENTER: operand 0 is the size of the locals, operand 1 the nesting level. The outer frames' pointers are copied one
 * by one: the frames may overlap.
 */
export function enter(cpu: Cpu, size: number): number {
  const locals = cpu.op(0) & 0xffff;
  const level = cpu.op(1) & 31;
  stack.current(cpu);
  outer.current(cpu);
  const bpLo = cpu.reg(REG.BP);
  const bpHi = cpu.regHigh(REG.BP);
  outer.spLo = outer.width === 0 ? ((outer.spLo & 0xffff0000) | (bpLo & 0xffff)) >>> 0 : bpLo;
  outer.spHi = bpHi;
  stack.push(bpLo, bpHi);
  if (!stack.write(cpu, size)) return STATUS.EXCEPTION;
  const frameLo = stack.spLo;
  const frameHi = stack.spHi;
  for (let i = 1; i < level; i++) {
    outer.move(-size);
    if (!outer.read(cpu, 1, size)) return STATUS.EXCEPTION;
    stack.push(itemLo(cpu, 0, size), itemHi(cpu, 0, size));
    if (!stack.write(cpu, size)) return STATUS.EXCEPTION;
  }
  if (level > 0) {
    stack.push(frameLo, frameHi);
    if (!stack.write(cpu, size)) return STATUS.EXCEPTION;
  }
  stack.move(-locals);
  // the new top must be writable, so that the first push cannot fault half-way (SDM 2 ENTER)
  if (!probeTop(cpu)) return STATUS.EXCEPTION;
  stack.commit(cpu);
  cpu.writeReg(REG.BP, size, frameLo, frameHi);
  return STATUS.NEXT;
}

function probeTop(cpu: Cpu): boolean {
  const lo = stack.width === 2 ? stack.spLo : stack.width === 1 ? stack.spLo : stack.spLo & 0xffff;
  const base = stack.width === 2 ? 0 : stack.base;
  return cpu.mmu.probeWrite((base + lo) >>> 0, stack.width === 2 ? stack.spHi : 0, 1, stack.index);
}

/** MOV from a segment register: operand 1 is its number. */
export function movFromSegment(cpu: Cpu): number {
  cpu.setResult(cpu.u32[cpu.segWord(cpu.op(1)) + SEG_SELECTOR], 0);
  return STATUS.NEXT;
}

/** MOV to a segment register: operand 0 is its number, operand 1 the selector. */
export function movToSegment(cpu: Cpu): number {
  const seg = cpu.op(0);
  if (seg === SEG.CS || seg > SEG.GS) return cpu.raiseUd();
  return loadSegmentAndShadow(cpu, seg, cpu.op(1));
}
