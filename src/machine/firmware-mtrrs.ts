/**
 * MTRRs as PC firmware leaves them on every vCPU before an operating system runs (SDM 3A 11.11): write-back by default,
 * video memory uncached, ROM areas write-protected, the PCI hole below 4 GiB uncached.
 */
import type { Cpu } from '../cpu/sys/cpu.ts';

const TYPE = { UC: 0, WP: 5, WB: 6 } as const;
/** IA32_MTRR_DEF_TYPE: MTRRs and fixed ranges enabled. */
const ENABLED = 0xc00;
const VALID = 0x800n;
const TWO_GIB = 0x8000_0000;
const THREE_GIB = 0xc000_0000;

function eight(type: number): bigint {
  return BigInt(type) * 0x0101_0101_0101_0101n;
}

/** *Thread:* the vCPU's, after its reset. `ram`: bytes. */
export function setFirmwareMtrrs(cpu: Cpu, ram: number): void {
  const { env } = cpu;
  // 0–512 KiB by 64 KiB, 512–768 KiB by 16 KiB, 768 KiB–1 MiB by 4 KiB
  env.mtrrFixed[0] = eight(TYPE.WB);
  env.mtrrFixed[1] = eight(TYPE.WB);
  env.mtrrFixed[2] = eight(TYPE.UC);
  for (let i = 3; i < 11; i++) env.mtrrFixed[i] = eight(TYPE.WP);
  const hole = ram <= TWO_GIB ? TWO_GIB : THREE_GIB;
  const address = (BigInt(~cpu.model.reservedHigh & 0xfffff) << 32n) | 0xffff_ffffn;
  env.mtrrVar[0] = BigInt(hole | TYPE.UC) & 0xffff_ffffn;
  env.mtrrVar[1] = (BigInt(-(2 ** 32 - hole)) & address) | VALID;
  env.mtrrDefType = BigInt(ENABLED | TYPE.WB);
}
