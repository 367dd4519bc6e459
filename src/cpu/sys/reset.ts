/**
 * CPU state after power-on, INIT and start-up IPI (SDM 3A 9.1, table 9-1; 8.4.3).
 */
import { SEG } from '../env.ts';
import type { Cpu } from './cpu.ts';
import { setSegmentRaw } from './descriptors.ts';
import { setEflags } from './eflags.ts';
import { MC_BANKS } from './msr.ts';
import { REAL_DATA } from './segments.ts';
import { ATTR, CR0, REG, W_LDTR, W_TR } from './words.ts';

const LDT_ATTR = ATTR.P | (2 << 8);
const TSS_ATTR = ATTR.P | (11 << 8);
const CODE_ATTR = REAL_DATA | ATTR.CODE;
const APIC_BASE_DEFAULT = 0xfee00800n;
const APIC_BASE_BSP = 0x100n;

/** Power-on (or machine reset) state. `env.index`, `env.apicId` and `env.bsp` are set by the machine before. */
export function powerOn(cpu: Cpu): void {
  const env = cpu.env;
  env.xmm.fill(0);
  env.mxcsr = 0x1f80;
  env.fpRegs.fill(0);
  env.fpTop = 0;
  env.fpControl = 0x40;
  env.fpStatus = 0;
  // all registers hold +0 and are valid (FTW 5555h)
  env.fpTags = 0xff;
  env.fpOpcode = 0;
  env.fpIp = 0n;
  env.fpDp = 0n;
  env.fpCs = 0;
  env.fpDs = 0;
  env.star = 0n;
  env.lstar = 0n;
  env.cstar = 0n;
  env.sfmask = 0n;
  env.kernelGsBase = 0n;
  env.sysenterCs = 0n;
  env.sysenterEsp = 0n;
  env.sysenterEip = 0n;
  env.tscAux = 0n;
  env.tscAdjust = 0n;
  env.pat = 0x0007040600070406n;
  env.miscEnable = 1n;
  env.mtrrDefType = 0n;
  env.mtrrFixed.fill(0n);
  env.mtrrVar.fill(0n);
  env.mcgStatus = 0n;
  env.mcgCtl = 0xffffffffffffffffn;
  for (let bank = 0; bank < MC_BANKS; bank++) {
    env.mcBanks.fill(0n, bank * 4, bank * 4 + 4);
    env.mcBanks[bank * 4] = 0xffffffffffffffffn;
  }
  env.microcodeRev = cpu.model.intel ? 0x100000000n : 0x01000065n;
  env.debugCtl = 0n;
  // TscFreqSel: the TSC counts at a fixed rate
  env.hwcr = 1n << 24n;
  env.xcr0 = 1n;
  env.apicBase = APIC_BASE_DEFAULT | (env.bsp !== 0 ? APIC_BASE_BSP : 0n);
  env.cr0 = BigInt(CR0.ET) | 0x60000000n;
  init(cpu);
}

/** INIT: what a start-up sequence resets; x87 and SSE state, MSRs, MTRRs, the TSC and CR0.CD/NW stay. */
export function init(cpu: Cpu): void {
  const env = cpu.env;
  env.regs.fill(0n);
  env.regs[REG.DX] = BigInt(cpu.model.signature);
  env.ip = 0xfff0n;
  setEflags(cpu, 0);
  setSegmentRaw(cpu, cpu.segWord(SEG.CS), 0xf000, 0xffff0000, 0xffff, CODE_ATTR);
  for (const seg of [SEG.ES, SEG.SS, SEG.DS, SEG.FS, SEG.GS]) {
    setSegmentRaw(cpu, cpu.segWord(seg), 0, 0, 0xffff, REAL_DATA);
  }
  setSegmentRaw(cpu, cpu.w + W_LDTR, 0, 0, 0xffff, LDT_ATTR);
  setSegmentRaw(cpu, cpu.w + W_TR, 0, 0, 0xffff, TSS_ATTR);
  env.gdtBase = 0n;
  env.gdtLimit = 0xffff;
  env.idtBase = 0n;
  env.idtLimit = 0xffff;
  env.cr0 = (env.cr0 & 0x60000000n) | BigInt(CR0.ET);
  env.cr2 = 0n;
  env.cr3 = 0n;
  env.cr4 = 0n;
  env.efer = 0n;
  env.pdpte.fill(0n);
  env.dr.fill(0n);
  env.dr[6] = 0xffff0ff0n;
  env.dr[7] = 0x400n;
  env.cpl = 0;
  env.inhibit = 0;
  env.nmiMasked = 0;
  cpu.pendingDebug = 0;
  cpu.mmu.dataBreakpoints = false;
  cpu.mmu.tlb.flushAll();
  cpu.updateMode();
}

/** Start-up IPI: execution begins in real mode at `vector` × 4096. */
export function startUp(cpu: Cpu, vector: number): void {
  setSegmentRaw(cpu, cpu.segWord(SEG.CS), (vector & 255) << 8, (vector & 255) << 12, 0xffff, CODE_ATTR);
  cpu.env.ip = 0n;
  cpu.updateMode();
}
