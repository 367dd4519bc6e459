/** Calls an instruction done by TypeScript from its HELPER record: fetches operands, writes the result. */
import { SEG } from '../env.ts';
import type { Cpu } from '../sys/cpu.ts';
import { STATUS, W_SCRATCH, W_SLOW_ADDR } from '../sys/words.ts';
import { HELPER, HELPER_OPERAND, RECORD } from './record.ts';

/** An instruction: operand values in `cpu.op(n)`; returns a STATUS. */
export type Helper = (cpu: Cpu, size: number) => number;

const OPERAND_MASK = (1 << HELPER.OPERAND_BITS) - 1;
const SCRATCH_SEGMENT = 5;
const SCRATCH_REP = 6;
const SCRATCH_ADDRESS_SIZE = 7;

function readSlot(cpu: Cpu, slot: number, size: number, word: number): void {
  const at = cpu.base + slot;
  const { u32 } = cpu;
  u32[word + 1] = 0;
  if (size === 8) {
    u32[word] = u32[at >>> 2];
    u32[word + 1] = u32[(at >>> 2) + 1];
  } else if (size === 4) u32[word] = u32[at >>> 2];
  // byte instructions done here (IN, OUT) have DX as an operand too
  else u32[word] = cpu.u16[at >>> 1];
}

function readMemory(cpu: Cpu, size: number, word: number): boolean {
  const at = cpu.mmu.slowLoad(size);
  if (at < 0) return false;
  cpu.u32[word] = 0;
  cpu.u32[word + 1] = 0;
  for (let i = 0; i < size; i++) cpu.u8[(word << 2) + i] = cpu.u8[at + i];
  return true;
}

/** *Thread:* vCPU. The record is at wasm address `record`; `slowAddr`, `ip`, `nextIp` are set. */
export function callHelper(cpu: Cpu, record: number, helpers: readonly (Helper | undefined)[]): number {
  const { u16, u32, u8 } = cpu;
  const half = record >>> 1;
  const fields = u16[half + (RECORD.SLOT3 >>> 1)];
  const size = 1 << ((fields >>> HELPER.SIZE_SHIFT) & 3);
  const helper = helpers[u16[half + (RECORD.SLOT2 >>> 1)]];
  if (helper === undefined) return cpu.raiseUd();
  // in virtual-8086 mode some of these are undefined rather than privileged: they find out by themselves
  if ((fields & HELPER.PRIVILEGED) !== 0 && cpu.cpl !== 0 && !cpu.v86()) {
    // not the fault of the operand's address
    cpu.set64(W_SLOW_ADDR, 0, 0);
    return cpu.raiseGp(0);
  }
  const scratch = cpu.w + W_SCRATCH;
  cpu.keepOperand = false;
  let position = 0;
  let memory = -1;
  const addressLo = u32[cpu.w + W_SLOW_ADDR];
  const addressHi = u32[cpu.w + W_SLOW_ADDR + 1];
  for (let n = 0, at = scratch; n < 4; n++, at += 2) {
    switch ((fields >>> (n * HELPER.OPERAND_BITS)) & OPERAND_MASK) {
      case HELPER_OPERAND.REGISTER:
        readSlot(cpu, u16[half + ((RECORD.SLOT0 >>> 1) + position++)], size, at);
        break;
      case HELPER_OPERAND.NUMBER:
        u32[at] = u16[half + ((RECORD.SLOT0 >>> 1) + position++)];
        u32[at + 1] = 0;
        break;
      case HELPER_OPERAND.IMMEDIATE:
        u32[at] = u32[(record + RECORD.IMM) >>> 2];
        u32[at + 1] = u32[((record + RECORD.IMM) >>> 2) + 1];
        break;
      case HELPER_OPERAND.FAR:
        u32[at] = u32[(record + RECORD.IMM) >>> 2];
        u32[at + 1] = 0;
        u32[at + 2] = u32[((record + RECORD.IMM) >>> 2) + 1];
        u32[at + 3] = 0;
        break;
      case HELPER_OPERAND.VALUE:
        memory = n;
        // a destination that is only written is not read first
        if (n === 0 && (fields & HELPER.RESULT) !== 0) break;
        if (!readMemory(cpu, size, at)) return STATUS.EXCEPTION;
        break;
      case HELPER_OPERAND.WORD:
        memory = n;
        if (n === 0 && (fields & HELPER.RESULT) !== 0) break;
        if (!readMemory(cpu, 2, at)) return STATUS.EXCEPTION;
        break;
    }
  }
  const extra = u8[record + RECORD.SCALE];
  u32[scratch + SCRATCH_SEGMENT * 2] = memory < 0 ? extra & 15 : SEG.DS;
  u32[scratch + SCRATCH_REP * 2] = (extra >>> 4) & 3;
  u32[scratch + SCRATCH_ADDRESS_SIZE * 2] = 1 << (extra >>> 6);
  const status = helper(cpu, size);
  if (
    (fields & HELPER.RESULT) === 0 ||
    cpu.keepOperand ||
    (status !== STATUS.NEXT && status !== STATUS.LOOKUP)
  )
    return status;
  const lo = u32[scratch + 8];
  const hi = u32[scratch + 9];
  if ((fields & OPERAND_MASK) === HELPER_OPERAND.REGISTER) {
    cpu.writeReg(u16[half + (RECORD.SLOT0 >>> 1)] >>> 3, size, lo, hi);
    return status;
  }
  cpu.set64(W_SLOW_ADDR, addressLo, addressHi);
  cpu.env.slowValue = (BigInt(hi) << 32n) | BigInt(lo);
  const width = (fields & OPERAND_MASK) === HELPER_OPERAND.WORD ? 2 : size;
  return cpu.mmu.slowStore(width) < 0 ? STATUS.EXCEPTION : status;
}
