/**
 * What kernels do in nearly every system call, fault and switch: RDTSC, control and segment registers read, null selectors
 * loaded in 64-bit code. In regions only; tier 0, and every case that is not the usual one, leaves these to TypeScript
 * (sys/syscall.ts, sys/control-registers.ts, sys/segments.ts). SDM 2: RDTSC, MOV (control registers), MOV.
 */
import { type Expr, i32 } from '../wasm/index.ts';
import { CpuEnv, SEG, Segment } from '../cpu/env.ts';
import { type Ins, REG, type Semantics } from '../cpu/sem/ins.ts';
import { CR4 } from '../cpu/sys/words.ts';

const OFF = {
  regs: CpuEnv.offsetOf('regs'),
  segs: CpuEnv.offsetOf('segs'),
  codeSize: CpuEnv.offsetOf('codeSize'),
  cpl: CpuEnv.offsetOf('cpl'),
  cr4: CpuEnv.offsetOf('cr4'),
} as const;
const CODE_64 = 2;
/** Env offsets of the control registers that are words and nothing else when they are read. */
const CONTROL: Readonly<Record<number, number>> = {
  0: CpuEnv.offsetOf('cr0'),
  2: CpuEnv.offsetOf('cr2'),
  3: CpuEnv.offsetOf('cr3'),
  4: CpuEnv.offsetOf('cr4'),
};

/** Number of operand `n`, a segment or control register. */
export function registerNumber(ins: Ins, n: number): number {
  if (ins.systemRegister === undefined) throw new Error('system registers are known in regions only');
  return ins.systemRegister(n);
}
/** Env offset of a segment register's fields. */
function segmentAt(seg: number): number {
  return OFF.segs + seg * Segment.size;
}
/** i32: the selector in operand `n`, a segment register. */
export function selectorOf(ins: Ins, n: number): Expr {
  return ins.envLoad('i32', segmentAt(registerNumber(ins, n)) + Segment.offsetOf('selector'));
}
/** Fills a segment register; base, limit and attributes are i32, as a null selector and 32-bit code have them. */
export function setSegment(
  ins: Ins,
  seg: number,
  parts: { selector: Expr; base: Expr; limit: Expr; attr: Expr },
): void {
  const at = segmentAt(seg);
  ins.envStore(8, at + Segment.offsetOf('base'), parts.base.i64u());
  ins.envStore(4, at + Segment.offsetOf('limit'), parts.limit);
  ins.envStore(4, at + Segment.offsetOf('attr'), parts.attr);
  ins.envStore(4, at + Segment.offsetOf('selector'), parts.selector);
}

/** `mov_to_sreg` in 64-bit code: ES, DS, FS and GS with a null selector, which any privilege level may load. */
export function loadNullSegment(ins: Ins): void {
  const { f } = ins;
  const seg = registerNumber(ins, 0);
  const selector = f.let(ins.read(1, 2));
  if (seg === SEG.CS || seg === SEG.SS || seg > SEG.GS) return ins.helper('mov_to_sreg');
  const unusual = ins.envLoad('i32', OFF.codeSize).ne(CODE_64).or(selector.and(0xfffc));
  f.if(unusual, () => ins.helper('mov_to_sreg'), undefined, false);
  const zero = i32(0);
  setSegment(ins, seg, { selector, base: zero, limit: zero, attr: zero });
}

export const KERNEL_SEMANTICS: readonly Semantics[] = [
  {
    name: 'rdtsc',
    forms: [''],
    sizes: [4],
    emit(ins) {
      const refused = ins.envLoad('i32', OFF.cr4).and(CR4.TSD).ne(0).and(ins.envLoad('i32', OFF.cpl).ne(0));
      ins.f.if(refused, () => ins.helper('rdtsc'), undefined, false);
      if (ins.callHelper === undefined) throw new Error('helpers are called in regions only');
      ins.callHelper('rdtsc');
      for (const reg of [REG.AX, REG.DX]) ins.setReg(reg, ins.envLoad('i32', OFF.regs + reg * 8), 4);
    },
  },
  {
    name: 'mov_from_cr',
    forms: ['rc'],
    sizes: [4, 8],
    emit(ins) {
      const { f } = ins;
      const offset = CONTROL[registerNumber(ins, 1)];
      if (offset === undefined) return ins.helper('mov_from_cr');
      f.if(ins.envLoad('i32', OFF.cpl), () => ins.helper('mov_from_cr'), undefined, false);
      ins.write(0, f.let(ins.envLoad(ins.size === 8 ? 'i64' : 'i32', offset)));
    },
  },
  {
    name: 'mov_from_sreg',
    forms: ['rn', 'mn'],
    sizes: [2, 4, 8],
    emit(ins) {
      const selector = ins.f.let(selectorOf(ins, 1));
      if (ins.kinds[0] === 'm') ins.write(0, selector, 2);
      else ins.write(0, ins.size === 8 ? selector.i64u() : selector);
    },
  },
];
