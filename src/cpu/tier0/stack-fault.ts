/**
 * A non-canonical address through the stack segment is #SS(0), not #GP(0) (SDM 3A 4.5.3 and 6.15). The memory paths do
 * not know which segment an address came from, so the instruction is looked at again once it has faulted.
 */
import { decode } from '../decode/decoder.ts';
import { Insn } from '../decode/insn.ts';
import { NAMES } from '../decode/table.ts';
import { SEG } from '../env.ts';
import type { Cpu } from '../sys/cpu.ts';
import { REG, VEC, W_CODE_SIZE, W_EXC_ERROR, W_EXC_VECTOR, W_IP, W_SLOW_ADDR } from '../sys/words.ts';

const MAX_INSN = 15;
/** Largest distance of an item from the pointer of an instruction that pushes or pops it. */
const ITEM = 8;

const insn = new Insn();
const code = new Uint8Array(2 * MAX_INSN);

function nonCanonical(hi: number): boolean {
  return ((hi + 0x8000) & 0xffff0000) !== 0;
}

/** Bytes of the instruction at ip; 0 when they cannot be read again. */
function fetch(cpu: Cpu): number {
  const { u32, u8, w, mmu } = cpu;
  const lo = u32[w + W_IP];
  const hi = u32[w + W_IP + 1];
  const inPage = Math.min(4096 - (lo & 4095), MAX_INSN);
  const host = mmu.fetchTranslate(lo, hi);
  if (host < 0) return 0;
  code.set(u8.subarray(host, host + inPage));
  if (inPage === MAX_INSN) return inPage;
  const nextLo = (lo + inPage) >>> 0;
  const next = mmu.fetchTranslate(nextLo, nextLo === 0 ? hi + 1 : hi);
  if (next < 0) return inPage;
  code.set(u8.subarray(next, next + MAX_INSN - inPage), inPage);
  return MAX_INSN;
}

function isNear(cpu: Cpu, reg: number): boolean {
  const { u32, w } = cpu;
  const distance = (u32[w + W_SLOW_ADDR] - cpu.reg(reg)) | 0;
  return distance >= -ITEM && distance < ITEM && nonCanonical(cpu.regHigh(reg) & ~1);
}

/** Corrects the vector of the exception that is set. To be called before it is delivered; ip is the instruction's. */
export function correctStackFault(cpu: Cpu): void {
  const { u32, w } = cpu;
  if (u32[w + W_EXC_VECTOR] !== VEC.GP || cpu.i32[w + W_EXC_ERROR] !== 0) return;
  if (u32[w + W_CODE_SIZE] !== 2 || !nonCanonical(u32[w + W_SLOW_ADDR + 1])) return;
  const length = fetch(cpu);
  cpu.raise(VEC.GP, 0);
  if (length > 0 && decode(code, 0, length, 2, insn) > 0 && throughStack(cpu)) cpu.raise(VEC.SS, 0);
  // only one exception is due to this address
  cpu.set64(W_SLOW_ADDR, 0, 0);
}

function throughStack(cpu: Cpu): boolean {
  switch (NAMES[insn.name]) {
    case 'push':
    case 'pop':
    case 'call':
    case 'ret':
    case 'pushf':
    case 'popf':
      if (isNear(cpu, REG.SP)) return true;
      break;
    case 'leave':
      return true;
  }
  return insn.memOperand >= 0 && insn.seg === SEG.SS;
}
