/**
 * Limits and types of segments outside 64-bit code (SDM 3A 5.3, 5.5): whether an access is allowed, and the
 * instructions that translated code asks about where a segment is not flat.
 */
import { NAMES } from '../decode/table.ts';
import { SEG, Segment } from '../env.ts';
import { ARITHMETIC, FLAG } from '../flags.ts';
import { ACCESS_WRITE, ACCESS_SIZE } from '../tier0/record.ts';
import type { Cpu } from './cpu.ts';
import { getEflags, setEflags } from './eflags.ts';
import { ATTR, REG, SEG_ATTR, SEG_BASE, SEG_LIMIT, STATUS, VEC, W_EFLAGS, W_SEGS } from './words.ts';

const BIG = 0xffffffff;
const FREE = ATTR.P | ATTR.S | ATTR.RW;
const FREE_MASK = FREE | ATTR.CODE | ATTR.DC;

/** A segment through which every access is allowed, and whose offsets are linear addresses. */
function isFlat(cpu: Cpu, seg: number): boolean {
  const at = cpu.segWord(seg);
  const { u32 } = cpu;
  return u32[at + SEG_BASE] === 0 && u32[at + SEG_LIMIT] === BIG && (u32[at + SEG_ATTR] & FREE_MASK) === FREE;
}
/** ES, SS and DS need no checks. What goes through CS, FS and GS is checked always. */
export function allFlat(cpu: Cpu): boolean {
  return isFlat(cpu, SEG.DS) && isFlat(cpu, SEG.SS) && isFlat(cpu, SEG.ES);
}

/** Whether `size` bytes at `offset` may be accessed. */
export function segmentAllows(cpu: Cpu, seg: number, offset: number, size: number, write: boolean): boolean {
  const at = cpu.segWord(seg);
  const limit = cpu.u32[at + SEG_LIMIT];
  const attr = cpu.u32[at + SEG_ATTR];
  const last = offset + size - 1;
  const code = (attr & ATTR.CODE) !== 0;
  if (cpu.protectedNotV86()) {
    if ((attr & ATTR.P) === 0) return false;
    if (write ? code || (attr & ATTR.RW) === 0 : code && (attr & ATTR.RW) === 0) return false;
  }
  // an access over the end of 4 GiB may fault or not (SDM 3A 5.3): it wraps around
  if (code || (attr & ATTR.DC) === 0) return last <= limit || limit === BIG;
  return offset > limit && last <= ((attr & ATTR.DB) !== 0 ? BIG : 0xffff);
}
function refuse(cpu: Cpu, seg: number): number {
  return cpu.raise(seg === SEG.SS ? VEC.SS : VEC.GP, 0);
}

/** Scratch 0: offset; 1: env offset of the segment; 2: access (record.ts). */
export function checkSegment(cpu: Cpu): number {
  const seg = ((cpu.op(1) >>> 2) - W_SEGS) / (Segment.size >>> 2);
  const access = cpu.op(2);
  const write = (access & ACCESS_WRITE) !== 0;
  return segmentAllows(cpu, seg, cpu.op(0), access & ACCESS_SIZE, write) ? STATUS.NEXT : refuse(cpu, seg);
}

// --- instructions with implicit operands ---

const SCRATCH_SEGMENT = 5;
const SCRATCH_REP = 6;
const SCRATCH_ADDRESS_SIZE = 7;
/** Elements done in a row, so that interrupts are taken. */
const CHUNK = 1024;

/** One operand of a string instruction. */
interface Side {
  readonly register: number;
  readonly seg: number;
  readonly write: boolean;
}
const SOURCE = /^(movs|cmps|lods)$/;
const DESTINATION = /^(movs|cmps|stos|scas)$/;
const WRITES = /^(movs|stos)$/;
const COMPARES = /^(cmps|scas)$/;

function ofWidth(value: number, bytes: number): number {
  return bytes === 2 ? value & 0xffff : value >>> 0;
}

/** Every element of `count` is within the segment, and none wraps around. */
function allAllowed(cpu: Cpu, side: Side, count: number, size: number, width: number): boolean {
  const start = ofWidth(cpu.reg(side.register), width);
  const down = (cpu.get(W_EFLAGS) & FLAG.DF) !== 0;
  const length = count * size;
  const low = down ? start - length + size : start;
  const top = width === 2 ? 0xffff : BIG;
  return low >= 0 && low + length - 1 <= top && segmentAllows(cpu, side.seg, low, length, side.write);
}

function setCompareFlags(cpu: Cpu, a: number, b: number, size: number): void {
  const bits = size * 8;
  const mask = size === 4 ? BIG : 2 ** bits - 1;
  const result = (a - b) & mask;
  let parity = result & 255;
  parity ^= parity >> 4;
  const sign = (value: number): number => (value >>> (bits - 1)) & 1;
  const flags =
    (a < b ? FLAG.CF : 0) |
    ((0x9669 >> (parity & 15)) & 1 ? FLAG.PF : 0) |
    ((a ^ b ^ result) & 16 ? FLAG.AF : 0) |
    (result === 0 ? FLAG.ZF : 0) |
    (sign(result) ? FLAG.SF : 0) |
    (sign((a ^ b) & (a ^ result)) ? FLAG.OF : 0);
  setEflags(cpu, (getEflags(cpu) & ~ARITHMETIC) | flags);
}

/**
 * Before a string instruction, XLAT or MASKMOV in code with segments that are not flat. Operand 0 is its name. NEXT:
 * generated code may do it; otherwise it is done here, element by element, up to the one that is refused.
 */
export function checkImplicit(cpu: Cpu, size: number): number {
  const name = NAMES[cpu.op(0)];
  const seg = cpu.op(SCRATCH_SEGMENT);
  const width = cpu.op(SCRATCH_ADDRESS_SIZE);
  if (name === 'xlat') {
    const offset = ofWidth(cpu.reg(REG.BX) + (cpu.reg(REG.AX) & 255), width);
    return segmentAllows(cpu, seg, offset, 1, false) ? STATUS.NEXT : refuse(cpu, seg);
  }
  if (name === 'maskmovq' || name === 'maskmovdqu') {
    const offset = ofWidth(cpu.reg(REG.DI), width);
    const length = name === 'maskmovq' ? 8 : 16;
    return segmentAllows(cpu, seg, offset, length, true) ? STATUS.NEXT : refuse(cpu, seg);
  }
  const sides: Side[] = [];
  if (SOURCE.test(name)) sides.push({ register: REG.SI, seg, write: false });
  if (DESTINATION.test(name)) sides.push({ register: REG.DI, seg: SEG.ES, write: WRITES.test(name) });
  const rep = cpu.op(SCRATCH_REP);
  const count = rep === 0 ? 1 : ofWidth(cpu.reg(REG.CX), width);
  if (count === 0 || sides.every((side) => allAllowed(cpu, side, count, size, width))) return STATUS.NEXT;
  return elementwise(cpu, name, sides, { size, width, rep, count });
}

interface Repetition {
  readonly size: number;
  readonly width: number;
  readonly rep: number;
  readonly count: number;
}

function elementwise(cpu: Cpu, name: string, sides: readonly Side[], r: Repetition): number {
  const { mmu } = cpu;
  const { size, width } = r;
  const index = mmu.index();
  const step = (cpu.get(W_EFLAGS) & FLAG.DF) !== 0 ? -size : size;
  for (let left = r.count, done = 0; left > 0; done++) {
    if (done === CHUNK) return STATUS.LOOKUP;
    const accumulator = cpu.reg(REG.AX);
    let value = size === 4 ? accumulator : size === 2 ? accumulator & 0xffff : accumulator & 255;
    let other = value;
    for (const side of sides) {
      const offset = ofWidth(cpu.reg(side.register), width);
      if (!segmentAllows(cpu, side.seg, offset, size, side.write)) return refuse(cpu, side.seg);
      const lo = (cpu.u32[cpu.segWord(side.seg) + SEG_BASE] + offset) >>> 0;
      if (side.write) {
        mmu.block32[0] = value;
        if (!mmu.writeBlock(lo, 0, size, index)) return STATUS.EXCEPTION;
      } else {
        if (!mmu.readBlock(lo, 0, size, index)) return STATUS.EXCEPTION;
        const read = size === 4 ? mmu.block32[0] : size === 2 ? mmu.block16[0] : mmu.block[0];
        if (side.register === REG.SI) value = read;
        else other = read;
      }
    }
    for (const side of sides) {
      const moved = ofWidth(cpu.reg(side.register) + step, width);
      cpu.writeReg(side.register, width, moved, 0);
    }
    if (name === 'lods') cpu.writeReg(REG.AX, size, value, 0);
    left--;
    if (r.rep !== 0) cpu.writeReg(REG.CX, width, left, 0);
    if (!COMPARES.test(name)) continue;
    // REPE goes on while equal, REPNE while not
    const stop = r.rep === 0 || left === 0 || (value === other) !== (r.rep === 3);
    if (stop || done === CHUNK - 1) setCompareFlags(cpu, value, other, size);
    if (stop) break;
  }
  cpu.advance();
  return STATUS.LOOKUP;
}
