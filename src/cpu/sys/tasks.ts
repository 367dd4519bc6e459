/**
 * Hardware task switches: by JMP, CALL, IRET and task gates, between TSSs of 16 and 32 bits (SDM 3A 7.2–7.4).
 * Not in long mode.
 */
import { SEG } from '../env.ts';
import { FLAG } from '../flags.ts';
import { loadCr3InTaskSwitch } from './control-registers.ts';
import type { Cpu } from './cpu.ts';
import {
  changeTypeBits,
  Descriptor,
  markAccessed,
  needDescriptor,
  READ,
  readDescriptor,
  setSegment,
  TYPE,
} from './descriptors.ts';
import { getEflags, setEflags } from './eflags.ts';
import { IMPLICIT, loadLdt, loadNull, loadV86 } from './segments.ts';
import {
  CR0,
  SEG_ATTR,
  SEG_BASE,
  SEG_LIMIT,
  SEG_SELECTOR,
  STATUS,
  VEC,
  W_CPL,
  W_CR0,
  W_DR,
  W_TR,
} from './words.ts';

/** What causes a switch. */
export const SWITCH = { JMP: 0, CALL: 1, IRET: 2, INT: 3 } as const;

const newTss = new Descriptor();
const oldTss = new Descriptor();
const segment = new Descriptor();
/** The new TSS's contents, since the MMU's block is reused. */
const image = new Uint8Array(104);
const image16 = new Uint16Array(image.buffer);
const image32 = new Uint32Array(image.buffer);

/** Order of the segment selectors in a TSS. */
const TSS_SEGMENTS = [SEG.ES, SEG.CS, SEG.SS, SEG.DS, SEG.FS, SEG.GS] as const;
const DATA_ORDER = [SEG.ES, SEG.DS, SEG.FS, SEG.GS] as const;
const DR6_BT = 1 << 15;

/**
 * Switches to the task of TSS `selector`. `ip` is what the old task resumes at; `ext` goes into error codes.
 * False: an exception is set, in the old task if nothing was switched yet, else in the new one.
 */
export function switchTask(cpu: Cpu, selector: number, source: number, ip: number, ext: number): boolean {
  const u32 = cpu.u32;
  const mmu = cpu.mmu;
  const error = (selector & 0xfffc) | ext;
  const badVector = source === SWITCH.IRET ? VEC.TS : VEC.GP;
  if ((selector & 0xfffc) === 0 || (selector & 4) !== 0) {
    cpu.raise(badVector, error);
    return false;
  }
  const found = readDescriptor(cpu, selector, newTss);
  if (found === READ.FAULT) return false;
  const busyType = source === SWITCH.IRET ? 2 : 0;
  const wide = (newTss.type & 8) !== 0;
  if (found === READ.LIMIT || newTss.segment || (newTss.type & ~8) !== (TYPE.TSS16 | busyType)) {
    cpu.raise(badVector, error);
    return false;
  }
  if (!newTss.present) {
    cpu.raise(VEC.NP, error);
    return false;
  }
  const length = wide ? 0x68 : 0x2c;
  if (newTss.limit < length - 1) {
    cpu.raise(VEC.TS, error);
    return false;
  }
  const base = newTss.base;
  if (!mmu.readBytes(base, 0, length, image, 0, IMPLICIT)) return false;
  const nested = source === SWITCH.CALL || source === SWITCH.INT;
  // everything that is going to be written must be writable before anything is
  if (nested && !mmu.probeWrite(base, 0, 2, IMPLICIT)) return false;
  const tr = cpu.w + W_TR;
  const oldSelector = u32[tr + SEG_SELECTOR];
  if (!nested) {
    const old = readDescriptor(cpu, oldSelector, oldTss);
    if (old === READ.FAULT) return false;
  }

  let eflags = getEflags(cpu);
  if (source === SWITCH.IRET) eflags &= ~FLAG.NT;
  if (!saveState(cpu, ip, eflags)) return false;
  if (!nested && !oldTss.segment && !changeTypeBits(cpu, oldTss, 0, 2)) return false;
  if (nested) {
    mmu.block16[0] = oldSelector;
    if (!mmu.writeBlock(base, 0, 2, IMPLICIT)) return false;
  }
  if (source !== SWITCH.IRET && !changeTypeBits(cpu, newTss, 2, 0)) return false;

  setSegment(cpu, tr, selector, newTss);
  u32[tr + SEG_ATTR] |= 2 << 8;
  u32[cpu.w + W_CR0] |= CR0.TS;
  // local breakpoints belong to the old task
  u32[cpu.w + W_DR + 14] &= ~0x155;
  return loadState(cpu, wide, nested);
}

/** Writes registers to the current TSS. */
function saveState(cpu: Cpu, ip: number, eflags: number): boolean {
  const u32 = cpu.u32;
  const mmu = cpu.mmu;
  const tr = cpu.w + W_TR;
  const base = u32[tr + SEG_BASE];
  if ((u32[tr + SEG_ATTR] & (8 << 8)) !== 0) {
    const block = mmu.block32;
    block[0] = ip;
    block[1] = eflags;
    for (let r = 0; r < 8; r++) block[2 + r] = cpu.reg(r);
    for (let s = 0; s < 6; s++) block[10 + s] = u32[cpu.segWord(TSS_SEGMENTS[s]) + SEG_SELECTOR];
    return mmu.writeBlock((base + 0x20) >>> 0, 0, 64, IMPLICIT);
  }
  const block = mmu.block16;
  block[0] = ip;
  block[1] = eflags;
  for (let r = 0; r < 8; r++) block[2 + r] = cpu.reg(r);
  for (let s = 0; s < 4; s++) block[10 + s] = u32[cpu.segWord(TSS_SEGMENTS[s]) + SEG_SELECTOR];
  return mmu.writeBlock((base + 0x0e) >>> 0, 0, 28, IMPLICIT);
}

const selectors = new Uint16Array(6);

/** Loads the new task's state from `image`. Exceptions from here on are the new task's. */
function loadState(cpu: Cpu, wide: boolean, nested: boolean): boolean {
  const u32 = cpu.u32;
  let eflags: number;
  let ip: number;
  let ldt: number;
  let trap = false;
  let cr3Ok = true;
  if (wide) {
    if ((u32[cpu.w + W_CR0] & CR0.PG) !== 0) cr3Ok = loadCr3InTaskSwitch(cpu, image32[7]);
    ip = image32[8];
    eflags = image32[9];
    for (let r = 0; r < 8; r++) cpu.setReg(r, image32[10 + r], 0);
    for (let s = 0; s < 6; s++) selectors[s] = image32[18 + s];
    ldt = image16[0x30];
    trap = (image16[0x32] & 1) !== 0;
  } else {
    ip = image16[7];
    eflags = image16[8];
    for (let r = 0; r < 8; r++) cpu.writeReg(r, 2, image16[9 + r], 0);
    for (let s = 0; s < 4; s++) selectors[s] = image16[17 + s];
    selectors[4] = 0;
    selectors[5] = 0;
    ldt = image16[21];
  }
  if (nested) eflags |= FLAG.NT;
  setEflags(cpu, eflags);
  cpu.setIp(ip, 0);
  const v86 = wide && (eflags & FLAG.VM) !== 0;
  const cpl = v86 ? 3 : selectors[SEG.CS] & 3;
  cpu.set(W_CPL, cpl);
  for (let s = 0; s < 6; s++) {
    if (v86) loadV86(cpu, TSS_SEGMENTS[s], selectors[s]);
    else loadNull(cpu, TSS_SEGMENTS[s], selectors[s]);
  }
  cpu.updateMode();
  if (!cr3Ok) {
    cpu.raise(VEC.TS, cpu.get(W_TR + SEG_SELECTOR) & 0xfffc);
    return false;
  }
  if (loadLdt(cpu, ldt, VEC.TS) === STATUS.EXCEPTION) return false;
  if (!v86) {
    if (!loadCode(cpu, selectors[SEG.CS], cpl) || !loadStack(cpu, selectors[SEG.SS], cpl)) return false;
    for (const seg of DATA_ORDER) {
      if (!loadData(cpu, seg, selectors[seg], cpl)) return false;
    }
    cpu.updateMode();
  }
  if (ip > u32[cpu.segWord(SEG.CS) + SEG_LIMIT]) {
    cpu.raise(VEC.GP, 0);
    return false;
  }
  if (trap) {
    cpu.pendingDebug |= DR6_BT;
    cpu.mmu.kickSelf();
  }
  return true;
}

function loadCode(cpu: Cpu, selector: number, cpl: number): boolean {
  const error = selector & 0xfffc;
  if (error === 0) {
    cpu.raise(VEC.TS, 0);
    return false;
  }
  if (!needDescriptor(cpu, selector, segment, VEC.TS)) return false;
  if (!segment.code || (segment.conforming ? segment.dpl > cpl : segment.dpl !== cpl)) {
    cpu.raise(VEC.TS, error);
    return false;
  }
  return finishLoad(cpu, SEG.CS, selector, VEC.NP);
}

function loadStack(cpu: Cpu, selector: number, cpl: number): boolean {
  const error = selector & 0xfffc;
  if (error === 0) {
    cpu.raise(VEC.TS, 0);
    return false;
  }
  if (!needDescriptor(cpu, selector, segment, VEC.TS)) return false;
  if (!segment.writableData || segment.dpl !== cpl || (selector & 3) !== cpl) {
    cpu.raise(VEC.TS, error);
    return false;
  }
  return finishLoad(cpu, SEG.SS, selector, VEC.SS);
}

function loadData(cpu: Cpu, seg: number, selector: number, cpl: number): boolean {
  const error = selector & 0xfffc;
  if (error === 0) return true;
  if (!needDescriptor(cpu, selector, segment, VEC.TS)) return false;
  const conformingCode = segment.code && segment.conforming;
  if (!segment.readable || (!conformingCode && (segment.dpl < cpl || segment.dpl < (selector & 3)))) {
    cpu.raise(VEC.TS, error);
    return false;
  }
  return finishLoad(cpu, seg, selector, VEC.NP);
}

function finishLoad(cpu: Cpu, seg: number, selector: number, absentVector: number): boolean {
  if (!segment.present) {
    cpu.raise(absentVector, selector & 0xfffc);
    return false;
  }
  if (!markAccessed(cpu, segment)) return false;
  setSegment(cpu, cpu.segWord(seg), selector, segment);
  return true;
}
