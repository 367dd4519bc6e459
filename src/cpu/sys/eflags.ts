/**
 * EFLAGS for helpers, by words: `readEflags` and `writeEflags` of flags.ts without BigInt, for instructions
 * and deliveries that happen often.
 */
import { CpuEnv } from '../env.ts';
import { ARITHMETIC, FLAG, SETTABLE } from '../flags.ts';
import type { Cpu } from './cpu.ts';
import { W_EFLAGS } from './words.ts';

const W_RES = CpuEnv.offsetOf('flagRes') >>> 2;
const W_CARRY = CpuEnv.offsetOf('flagCarry') >>> 2;
const W_AUX = CpuEnv.offsetOf('flagAux') >>> 2;

/** Flags that IRET and POPF can change at the highest privilege, without VM. */
export const FLAG_ALL =
  ARITHMETIC | FLAG.TF | FLAG.IF | FLAG.DF | FLAG.IOPL | FLAG.NT | FLAG.RF | FLAG.AC | FLAG.ID;

/** The architectural EFLAGS. */
export function getEflags(cpu: Cpu): number {
  const u32 = cpu.u32;
  const w = cpu.w;
  const low = u32[w + W_RES];
  const high = u32[w + W_RES + 1];
  const carry = u32[w + W_CARRY + 1] >>> 30;
  const aux = u32[w + W_AUX];
  let f = u32[w + W_EFLAGS] & ~ARITHMETIC;
  if ((carry & 2) !== 0) f |= FLAG.CF;
  if (carry === 1 || carry === 2) f |= FLAG.OF;
  if ((low | high) === 0) f |= FLAG.ZF;
  if (high >>> 31 !== ((aux >>> 16) & 1)) f |= FLAG.SF;
  f |= (aux ^ low) & FLAG.AF;
  let parity = (low ^ (aux >>> 8)) & 255;
  parity ^= parity >>> 4;
  f |= ((0x9669 >>> (parity & 15)) & 1) << 2;
  return f;
}

/** Sets all of EFLAGS; bit 1 is set, reserved bits are cleared. Does not derive the MMU index: see `Cpu.updateMmuIndex`. */
export function setEflags(cpu: Cpu, value: number): void {
  const u32 = cpu.u32;
  const w = cpu.w;
  u32[w + W_EFLAGS] = (value & SETTABLE & ~ARITHMETIC) | 2;
  const res = (value & FLAG.ZF) !== 0 ? 0 : 1;
  u32[w + W_RES] = res;
  u32[w + W_RES + 1] = 0;
  const cf = value & 1;
  const of = (value >>> 11) & 1;
  u32[w + W_CARRY] = 0;
  u32[w + W_CARRY + 1] = (cf << 31) | ((cf ^ of) << 30);
  // the result 0 has even parity, 1 odd: bit 8 flips it where PF says otherwise
  const flip = ((value >>> 2) & 1) === (res === 0 ? 1 : 0) ? 0 : 1 << 8;
  u32[w + W_AUX] = (value & FLAG.AF) | flip | ((value & FLAG.SF) !== 0 ? 1 << 16 : 0);
}

/** Sets or clears one arithmetic flag, the others stay. */
export function setFlag(cpu: Cpu, flag: number, on: boolean): void {
  const f = getEflags(cpu);
  setEflags(cpu, on ? f | flag : f & ~flag);
}
