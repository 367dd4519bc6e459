/**
 * IRET in every mode (SDM 2 IRET; SDM 3A 20.2.1–20.3 for virtual-8086 mode, 7.3 for task return).
 */
import { SEG } from '../env.ts';
import { ARITHMETIC, FLAG } from '../flags.ts';
import type { Cpu } from './cpu.ts';
import { Descriptor, markAccessed } from './descriptors.ts';
import { getEflags, setEflags } from './eflags.ts';
import { codeOffsetOk, enterCode, leaveToOuter, outerStack, returnTarget } from './far-transfer.ts';
import { IMPLICIT, loadReal, loadV86 } from './segments.ts';
import { itemHi, itemLo, Stack } from './stack.ts';
import { SWITCH, switchTask } from './tasks.ts';
import { REG, SEG_BASE, SEG_LIMIT, STATUS, W_CPL, W_EFLAGS, W_NEXT_IP, W_NMI_MASKED, W_TR } from './words.ts';

const code = new Descriptor();
const stack = new Stack();

/** Flags that an IRET with this operand size changes at privilege `cpl`. */
function flagMask(cpu: Cpu, size: number, cpl: number): number {
  let mask = ARITHMETIC | FLAG.TF | FLAG.DF | FLAG.NT;
  if (size > 2) mask |= FLAG.RF | FLAG.AC | FLAG.ID;
  if (cpl <= cpu.iopl()) mask |= FLAG.IF;
  if (cpl === 0) mask |= FLAG.IOPL;
  return mask;
}

function mergeFlags(cpu: Cpu, image: number, mask: number): void {
  setEflags(cpu, (getEflags(cpu) & ~mask) | (image & mask));
}

/** IRET, IRETD, IRETQ. */
export function iret(cpu: Cpu, size: number): number {
  const status = iretMode(cpu, size);
  if (status === STATUS.LOOKUP) {
    cpu.set(W_NMI_MASKED, 0);
    cpu.flagsLoaded();
  }
  return status;
}

function iretMode(cpu: Cpu, size: number): number {
  if (!cpu.protectedMode()) return iretReal(cpu, size, flagMask(cpu, size, 0));
  if (cpu.v86()) {
    if (cpu.iopl() !== 3) return cpu.raiseGp(0);
    return iretReal(cpu, size, flagMask(cpu, size, 3));
  }
  if ((cpu.get(W_EFLAGS) & FLAG.NT) !== 0) {
    if (cpu.longMode()) return cpu.raiseGp(0);
    return taskReturn(cpu);
  }
  stack.current(cpu);
  const cpl = cpu.cpl;
  // 64-bit code always pops SS:RSP too
  const full = cpu.code64();
  if (!stack.read(cpu, full ? 5 : 3, size)) return STATUS.EXCEPTION;
  const lo = itemLo(cpu, 0, size);
  const hi = itemHi(cpu, 0, size);
  const selector = itemLo(cpu, 1, size) & 0xffff;
  const image = itemLo(cpu, 2, size);
  if (full) {
    const spLo = itemLo(cpu, 3, size);
    const spHi = itemHi(cpu, 3, size);
    const ss = itemLo(cpu, 4, size) & 0xffff;
    return finishOuter(cpu, selector, lo, hi, ss, spLo, spHi, image, flagMask(cpu, size, cpl));
  }
  if (size === 4 && (image & FLAG.VM) !== 0 && cpl === 0 && !cpu.longMode()) {
    return toV86(cpu, lo, selector, image);
  }
  if (!returnTarget(cpu, selector, code)) return STATUS.EXCEPTION;
  const rpl = selector & 3;
  if (rpl === cpl) {
    if (!codeOffsetOk(cpu, code, lo, hi) || !markAccessed(cpu, code)) return STATUS.EXCEPTION;
    stack.move(3 * size);
    stack.commit(cpu);
    mergeFlags(cpu, image, flagMask(cpu, size, cpl));
    enterCode(cpu, selector, code, rpl, lo, hi);
    return STATUS.LOOKUP;
  }
  if (!stack.read(cpu, 5, size)) return STATUS.EXCEPTION;
  const spLo = itemLo(cpu, 3, size);
  const ss = itemLo(cpu, 4, size) & 0xffff;
  return finishOuter(cpu, selector, lo, hi, ss, spLo, 0, image, flagMask(cpu, size, cpl));
}

function finishOuter(
  cpu: Cpu,
  selector: number,
  lo: number,
  hi: number,
  ss: number,
  spLo: number,
  spHi: number,
  image: number,
  mask: number,
): number {
  if (
    !returnTarget(cpu, selector, code) ||
    !outerStack(cpu, ss, selector & 3, code) ||
    !codeOffsetOk(cpu, code, lo, hi) ||
    !markAccessed(cpu, code)
  ) {
    return STATUS.EXCEPTION;
  }
  mergeFlags(cpu, image, mask);
  leaveToOuter(cpu, selector, code, lo, hi, ss, spLo, spHi, 0);
  return STATUS.LOOKUP;
}

/** Real mode, and virtual-8086 mode with IOPL 3. */
function iretReal(cpu: Cpu, size: number, mask: number): number {
  stack.current(cpu);
  if (!stack.read(cpu, 3, size)) return STATUS.EXCEPTION;
  const ip = itemLo(cpu, 0, size);
  const selector = itemLo(cpu, 1, size) & 0xffff;
  const image = itemLo(cpu, 2, size);
  if (ip > cpu.u32[cpu.segWord(SEG.CS) + SEG_LIMIT]) return cpu.raiseGp(0);
  stack.move(3 * size);
  stack.commit(cpu);
  mergeFlags(cpu, image, mask);
  if (cpu.v86()) loadV86(cpu, SEG.CS, selector);
  else loadReal(cpu, SEG.CS, selector);
  cpu.setIp(ip, 0);
  cpu.updateMode();
  return STATUS.LOOKUP;
}

/** To virtual-8086 mode: the frame goes on with ESP, SS, ES, DS, FS, GS. */
function toV86(cpu: Cpu, ip: number, cs: number, image: number): number {
  if (!stack.read(cpu, 9, 4)) return STATUS.EXCEPTION;
  const sp = itemLo(cpu, 3, 4);
  const ss = itemLo(cpu, 4, 4);
  const es = itemLo(cpu, 5, 4);
  const ds = itemLo(cpu, 6, 4);
  const fs = itemLo(cpu, 7, 4);
  const gs = itemLo(cpu, 8, 4);
  // at CPL 0 every flag can be changed
  setEflags(cpu, image);
  loadV86(cpu, SEG.CS, cs);
  loadV86(cpu, SEG.SS, ss);
  loadV86(cpu, SEG.ES, es);
  loadV86(cpu, SEG.DS, ds);
  loadV86(cpu, SEG.FS, fs);
  loadV86(cpu, SEG.GS, gs);
  cpu.set(W_CPL, 3);
  cpu.setReg(REG.SP, sp, 0);
  cpu.setIp(ip & 0xffff, 0);
  cpu.updateMode();
  return STATUS.LOOKUP;
}

/** NT is set: back to the task that the TSS's link names. */
function taskReturn(cpu: Cpu): number {
  const mmu = cpu.mmu;
  if (!mmu.readBlock(cpu.get(W_TR + SEG_BASE), 0, 2, IMPLICIT)) return STATUS.EXCEPTION;
  const link = mmu.block16[0];
  return switchTask(cpu, link, SWITCH.IRET, cpu.get(W_NEXT_IP), 0) ? STATUS.LOOKUP : STATUS.EXCEPTION;
}
