/** Division of 128 bits by 64, for dividends that do not fit 64 bits. Source: Intel SDM vol. 2, DIV, IDIV. */
import type { Cpu } from '../sys/cpu.ts';
import { REG, STATUS, VEC } from '../sys/words.ts';

const MASK64 = (1n << 64n) - 1n;

function join(lo: number, hi: number): bigint {
  return (BigInt(hi) << 32n) | BigInt(lo);
}
function reg64(cpu: Cpu, n: number): bigint {
  return join(cpu.reg(n), cpu.regHigh(n));
}
function setReg64(cpu: Cpu, n: number, value: bigint): void {
  cpu.setReg(n, Number(value & 0xffffffffn), Number((value >> 32n) & 0xffffffffn));
}

/** rDX:rAX by operand 0. */
function divide(cpu: Cpu): number {
  const divisor = join(cpu.op(0), cpu.opHigh(0));
  const high = reg64(cpu, REG.DX);
  if (high >= divisor) return cpu.raise(VEC.DE, -1);
  const dividend = (high << 64n) | reg64(cpu, REG.AX);
  setReg64(cpu, REG.AX, dividend / divisor);
  setReg64(cpu, REG.DX, dividend % divisor);
  return STATUS.NEXT;
}

function divideSigned(cpu: Cpu): number {
  const divisor = BigInt.asIntN(64, join(cpu.op(0), cpu.opHigh(0)));
  if (divisor === 0n) return cpu.raise(VEC.DE, -1);
  const dividend = (BigInt.asIntN(64, reg64(cpu, REG.DX)) << 64n) | reg64(cpu, REG.AX);
  const quotient = dividend / divisor;
  if (BigInt.asIntN(64, quotient) !== quotient) return cpu.raise(VEC.DE, -1);
  setReg64(cpu, REG.AX, quotient & MASK64);
  setReg64(cpu, REG.DX, (dividend % divisor) & MASK64);
  return STATUS.NEXT;
}

/** By instruction name; a status as helper instructions give. *Thread:* vCPU. */
export const DIVIDE_HELPERS: Readonly<Record<string, (cpu: Cpu, size: number) => number>> = {
  div: divide,
  idiv: divideSigned,
};
