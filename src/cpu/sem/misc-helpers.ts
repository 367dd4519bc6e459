/**
 * Integer instructions done in TypeScript: locked CMPXCHG16B, random numbers.
 * Helper contract: docs/plan-boot.md. Source: Intel SDM vol. 2, CMPXCHG16B, RDRAND, RDSEED.
 */
import { FLAG, readEflags, writeEflags, ARITHMETIC } from '../flags.ts';
import type { Cpu } from '../sys/cpu.ts';
import { REG, STATUS } from '../sys/words.ts';

/** One helper instruction: gives a STATUS. */
export type Helper = (cpu: Cpu, size: number) => number;

const pair = new Uint8Array(16);
const pairWords = new Uint32Array(pair.buffer);

/** LOCK CMPXCHG16B; the address is aligned (checked by generated code). */
function compareExchange16(cpu: Cpu): number {
  const lo = cpu.addrLo;
  const hi = cpu.addrHi;
  const index = cpu.mmu.index();
  cpu.exclusive(true);
  let status: number = STATUS.NEXT;
  if (!cpu.mmu.probeWrite(lo, hi, 16, index) || !cpu.mmu.readBytes(lo, hi, 16, pair, 0, index)) {
    status = STATUS.EXCEPTION;
  } else {
    const equal =
      pairWords[0] === cpu.reg(REG.AX) &&
      pairWords[1] === cpu.regHigh(REG.AX) &&
      pairWords[2] === cpu.reg(REG.DX) &&
      pairWords[3] === cpu.regHigh(REG.DX);
    if (equal) {
      pairWords[0] = cpu.reg(REG.BX);
      pairWords[1] = cpu.regHigh(REG.BX);
      pairWords[2] = cpu.reg(REG.CX);
      pairWords[3] = cpu.regHigh(REG.CX);
      if (!cpu.mmu.writeBytes(lo, hi, 16, pair, 0, index)) status = STATUS.EXCEPTION;
    } else {
      cpu.setReg(REG.AX, pairWords[0], pairWords[1]);
      cpu.setReg(REG.DX, pairWords[2], pairWords[3]);
    }
    if (status === STATUS.NEXT) {
      const flags = readEflags(cpu.env) & ~FLAG.ZF;
      writeEflags(cpu.env, equal ? flags | FLAG.ZF : flags);
    }
  }
  cpu.exclusive(false);
  return status;
}

/** RDRAND, RDSEED: always succeed (CF = 1; the other five flags 0). */
function random(cpu: Cpu): number {
  cpu.setResult(cpu.random(), cpu.random());
  writeEflags(cpu.env, (readEflags(cpu.env) & ~ARITHMETIC) | FLAG.CF);
  return STATUS.NEXT;
}

/** By instruction name. *Thread:* vCPU. */
export const MISC_HELPERS: Readonly<Record<string, Helper>> = {
  cmpxchg16b: compareExchange16,
  rdrand: random,
  rdseed: random,
};
/** Helpers that access their memory operand themselves, and those that leave a value for operand 0. */
export const MISC_ADDRESS_ONLY: ReadonlySet<string> = new Set(['cmpxchg16b']);
export const MISC_HAS_RESULT: ReadonlySet<string> = new Set(['rdrand', 'rdseed']);
