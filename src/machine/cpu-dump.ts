/** A vCPU's registers as text, laid out as QEMU's log has them (scripts read those). */
import { CpuEnv, SEG, XMM_STRIDE } from '../cpu/env.ts';
import { FLAG } from '../cpu/flags.ts';
import type { Cpu } from '../cpu/sys/cpu.ts';
import { getEflags } from '../cpu/sys/eflags.ts';
import { ATTR, CR0, REG } from '../cpu/sys/words.ts';

const LONG = 16;
const SHORT = 8;
const CODE_64 = 2;
const EFER_LMA = 1n << 10n;

/** Types of system descriptors outside and in IA-32e mode (SDM 3A table 3-2). */
const LEGACY_SYSTEM = [
  'Reserved', 'TSS16-avl', 'LDT', 'TSS16-busy', 'CallGate16', 'TaskGate', 'IntGate16', 'TrapGate16',
  'Reserved', 'TSS32-avl', 'Reserved', 'TSS32-busy', 'CallGate32', 'Reserved', 'IntGate32', 'TrapGate32',
]; // prettier-ignore
const LONG_SYSTEM: Readonly<Record<number, string>> = {
  2: 'LDT', 9: 'TSS64-avl', 11: 'TSS64-busy', 12: 'CallGate64', 14: 'IntGate64', 15: 'TrapGate64',
}; // prettier-ignore

const SEGMENT_ORDER = [
  ['ES', SEG.ES],
  ['CS', SEG.CS],
  ['SS', SEG.SS],
  ['DS', SEG.DS],
  ['FS', SEG.FS],
  ['GS', SEG.GS],
] as const;
const FLAG_LETTERS = [
  ['D', FLAG.DF],
  ['O', FLAG.OF],
  ['S', FLAG.SF],
  ['Z', FLAG.ZF],
  ['A', FLAG.AF],
  ['P', FLAG.PF],
  ['C', FLAG.CF],
] as const;

function hex(value: number | bigint, digits: number): string {
  return BigInt.asUintN(digits * 4, BigInt(value))
    .toString(16)
    .padStart(digits, '0');
}

interface SegmentState {
  readonly base: bigint;
  readonly limit: number;
  readonly attr: number;
  readonly selector: number;
}

/** Access rights in words; empty in real and virtual-8086 mode. */
function rights(attr: number, long: boolean): string {
  const dpl = `DPL=${(attr >> ATTR.DPL_SHIFT) & 3}`;
  const letter = (bit: number, name: string): string => ((attr & bit) !== 0 ? name : '-');
  if ((attr & ATTR.S) === 0) {
    const type = (attr >> 8) & 15;
    return `${dpl} ${long ? (LONG_SYSTEM[type] ?? 'Reserved') : LEGACY_SYSTEM[type]}`;
  }
  const accessed = letter(ATTR.ACCESSED, 'A');
  if ((attr & ATTR.CODE) !== 0) {
    const size = (attr & ATTR.L) !== 0 ? 64 : (attr & ATTR.DB) !== 0 ? 32 : 16;
    return `${dpl} CS${size} [${letter(ATTR.DC, 'C')}${letter(ATTR.RW, 'R')}${accessed}]`;
  }
  const size = (attr & ATTR.DB) !== 0 ? '  ' : '16';
  return `${dpl} DS${size} [${letter(ATTR.DC, 'E')}${letter(ATTR.RW, 'W')}${accessed}]`;
}

export interface DumpOptions {
  /** x87 and SSE registers too. */
  readonly fpu?: boolean;
  /** Default true. */
  readonly a20?: boolean;
}

/** *Thread:* the vCPU's, outside generated code. Several lines, each with its newline. */
export function dumpCpu(cpu: Cpu, options: DumpOptions = {}): string {
  const { env } = cpu;
  const long = (env.efer & EFER_LMA) !== 0n;
  const digits = env.codeSize === CODE_64 && long ? LONG : SHORT;
  const wide = long ? LONG : SHORT;
  const lines: string[] = [];
  const reg = (i: number): string => hex(env.regs[i], digits);
  const eflags = getEflags(cpu);
  const letters = FLAG_LETTERS.map(([name, bit]) => ((eflags & bit) !== 0 ? name : '-')).join('');
  const state =
    `[${letters}] CPL=${env.cpl} II=${env.inhibit !== 0 ? 1 : 0} A20=${options.a20 === false ? 0 : 1} ` +
    `SMM=0 HLT=${env.halted !== 0 ? 1 : 0}`;
  const { AX, BX, CX, DX, SI, DI, BP, SP } = REG;
  const p = digits === LONG ? 'R' : 'E';
  lines.push(`${p}AX=${reg(AX)} ${p}BX=${reg(BX)} ${p}CX=${reg(CX)} ${p}DX=${reg(DX)}`);
  lines.push(`${p}SI=${reg(SI)} ${p}DI=${reg(DI)} ${p}BP=${reg(BP)} ${p}SP=${reg(SP)}`);
  if (digits === LONG) {
    for (let i = 8; i < 16; i += 4) {
      lines.push([0, 1, 2, 3].map((j) => `R${String(i + j).padEnd(2)}=${reg(i + j)}`).join(' '));
    }
  }
  lines.push(`${p}IP=${hex(env.ip, digits)} ${p}FL=${hex(eflags, SHORT)} ${state}`);
  const described = (env.cr0 & BigInt(CR0.PE)) !== 0n && (eflags & FLAG.VM) === 0;
  const segment = (name: string, s: SegmentState): void => {
    // the log shows limit bits 19:16 where the descriptor has them
    const limit = (s.attr & ATTR.G) !== 0 ? s.limit >>> 12 : s.limit;
    const attr = s.attr | (limit & 0xf0000);
    const text = `${name.padEnd(3)}=${hex(s.selector, 4)} ${hex(s.base, wide)} ${hex(s.limit, 8)} ${hex(attr, 8)}`;
    lines.push(described ? `${text} ${rights(s.attr, long)}` : text);
  };
  for (const [name, index] of SEGMENT_ORDER) segment(name, env.segs[index]);
  segment('LDT', env.ldtr);
  segment('TR', env.tr);
  lines.push(`GDT=     ${hex(env.gdtBase, wide)} ${hex(env.gdtLimit, 8)}`);
  lines.push(`IDT=     ${hex(env.idtBase, wide)} ${hex(env.idtLimit, 8)}`);
  lines.push(
    `CR0=${hex(env.cr0, 8)} CR2=${hex(env.cr2, wide)} CR3=${hex(env.cr3, wide)} CR4=${hex(env.cr4, 8)}`,
  );
  const dr = (i: number): string => `DR${i}=${hex(env.dr[i], LONG)}`;
  lines.push(`${[0, 1, 2, 3].map(dr).join(' ')} `, `${dr(6)} ${dr(7)}`);
  lines.push(`EFER=${hex(env.efer, LONG)}`);
  if (options.fpu === true) lines.push(...fpuLines(cpu, digits === LONG ? 16 : 8));
  return `${lines.join('\n')}\n`;
}

function fpuLines(cpu: Cpu, xmmCount: number): string[] {
  const { env } = cpu;
  // the log's tag byte has a bit for each register that is in use
  const status = (env.fpStatus & ~0x3800) | (env.fpTop << 11);
  const lines = [
    `FCW=${hex(env.fpControl, 4)} FSW=${hex(status, 4)} [ST=${env.fpTop}] FTW=${hex(env.fpTags, 2)} MXCSR=${hex(env.mxcsr, 8)}`,
  ];
  const { u64, u16 } = cpu;
  const fp = cpu.base + CpuEnv.offsetOf('fpRegs');
  const xmm = cpu.base + CpuEnv.offsetOf('xmm');
  const fpr = (i: number): string =>
    `FPR${i}=${hex(u64[(fp + i * 16) >>> 3], 16)} ${hex(u16[(fp + i * 16 + 8) >>> 1], 4)}`;
  for (let i = 0; i < 8; i += 2) lines.push(`${fpr(i)} ${fpr(i + 1)}`);
  const register = (i: number): string => {
    const at = (xmm + i * XMM_STRIDE) >>> 3;
    return `XMM${String(i).padStart(2, '0')}=${hex(u64[at + 1], 16)} ${hex(u64[at], 16)}`;
  };
  for (let i = 0; i < xmmCount; i += 2) lines.push(`${register(i)} ${register(i + 1)}`);
  return lines;
}

/** One line about an event that is being delivered, for `-d int`. `count` numbers them. */
export function describeDelivery(
  cpu: Cpu,
  count: number,
  vector: number,
  error: number,
  software: boolean,
): string {
  const { env } = cpu;
  const cs = env.segs[SEG.CS];
  const ss = env.segs[SEG.SS];
  const detail = vector === 14 ? `CR2=${hex(env.cr2, 16)}` : `RAX=${hex(env.regs[REG.AX], 16)}`;
  return (
    `${String(count).padStart(6)}: v=${hex(vector, 2)} e=${hex(error < 0 ? 0 : error, 4)} i=${software ? 1 : 0} ` +
    `cpl=${env.cpl} IP=${hex(cs.selector, 4)}:${hex(env.ip, 16)} pc=${hex(cs.base + env.ip, 16)} ` +
    `SP=${hex(ss.selector, 4)}:${hex(env.regs[REG.SP], 16)} ${detail}\n`
  );
}

/** One line about a control register that has been written, for `-d mmu`. */
export function describeControl(n: number, value: bigint): string {
  const text = n === 0 ? `0x${hex(value, 8)}` : hex(value, n === 3 ? 16 : 8);
  return `CR${n} update: CR${n}=${text}\n`;
}
