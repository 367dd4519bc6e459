/**
 * System calls between 64-bit code of the kernel and of a user program, as they nearly always are; every other case
 * (compatibility mode, faults, single stepping, breakpoints) is left to sys/syscall.ts. APM 3 and SDM 2: SYSCALL, SYSRET,
 * SWAPGS.
 */
import { type Expr, i32, i64 } from '../../wasm/index.ts';
import { CpuEnv, MMU, SEG, Segment, tlbSetOffset } from '../env.ts';
import { ARITHMETIC, FLAG, SETTABLE } from '../flags.ts';
import { DR7_ENABLES, EFER, FLAT } from '../sys/words.ts';
import { type Ins, REG, type Semantics } from './ins.ts';

const OFF = {
  eflags: CpuEnv.offsetOf('eflags'),
  codeSize: CpuEnv.offsetOf('codeSize'),
  cpl: CpuEnv.offsetOf('cpl'),
  tlbSet: CpuEnv.offsetOf('tlbSet'),
  segs: CpuEnv.offsetOf('segs'),
  dr7: CpuEnv.offsetOf('dr') + 7 * 8,
  efer: CpuEnv.offsetOf('efer'),
  star: CpuEnv.offsetOf('star'),
  lstar: CpuEnv.offsetOf('lstar'),
  sfmask: CpuEnv.offsetOf('sfmask'),
  kernelGsBase: CpuEnv.offsetOf('kernelGsBase'),
  setCodeKinds: CpuEnv.offsetOf('setCodeKinds'),
  interruptRequest: CpuEnv.offsetOf('interruptRequest'),
} as const;
const CODE_64 = 2;
const SEGMENT = {
  BASE: Segment.offsetOf('base'),
  LIMIT: Segment.offsetOf('limit'),
  ATTR: Segment.offsetOf('attr'),
  SELECTOR: Segment.offsetOf('selector'),
} as const;
const R11 = 11;

/** What keeps the short way from being right, whatever the direction: nonzero then. `set`: the MMU index after it. */
function unusual(ins: Ins, set: number): Expr {
  return ins
    .envLoad('i32', OFF.efer)
    .and(EFER.SCE)
    .eqz()
    .or(ins.envLoad('i32', OFF.codeSize).ne(CODE_64))
    .or(ins.envLoad('i32', OFF.setCodeKinds + set * 4).ne(CODE_64))
    .or(ins.envLoad('i32', OFF.eflags).and(FLAG.TF))
    .or(ins.envLoad('i32', OFF.dr7).and(DR7_ENABLES));
}

function setFlags(ins: Ins, image: Expr): void {
  ins.envStore(4, OFF.eflags, image.and(SETTABLE & ~ARITHMETIC).or(2));
  ins.flags.setFromImage(image, image.shrU(11).and(1));
}

/** Flat code (its attributes, without DPL) and stack segments at a privilege level, and the TLB set of it. */
export function setFlatSegments(ins: Ins, code: number, cs: Expr, ss: Expr, cpl: number): void {
  const dpl = cpl === 3 ? FLAT.DPL3 : 0;
  const segment = (seg: number, selector: Expr, attr: number): void => {
    const at = OFF.segs + seg * Segment.size;
    ins.envStore(8, at + SEGMENT.BASE, i64(0));
    ins.envStore(4, at + SEGMENT.LIMIT, i32(-1));
    ins.envStore(4, at + SEGMENT.ATTR, i32(attr | dpl));
    ins.envStore(4, at + SEGMENT.SELECTOR, selector.and(0xfffc).or(cpl));
  };
  segment(SEG.CS, cs, code);
  segment(SEG.SS, ss, FLAT.DATA);
  ins.envStore(4, OFF.cpl, i32(cpl));
  ins.envStore(4, OFF.tlbSet, i32(tlbSetOffset(cpl === 3 ? MMU.USER : MMU.KERNEL)));
}

export const SYSTEM_SEMANTICS: readonly Semantics[] = [
  {
    name: 'syscall',
    forms: [''],
    sizes: [8],
    emit(ins) {
      const { f } = ins;
      const flags = f.let(
        ins
          .envLoad('i32', OFF.eflags)
          .and(~(FLAG.RF | FLAG.VM))
          .or(ins.flags.lowByte())
          .or(ins.flags.overflow().shl(11)),
      );
      const after = f.let(flags.and(ins.envLoad('i32', OFF.sfmask).xor(-1)));
      // with AC set the MMU index may be another
      const leave = unusual(ins, MMU.KERNEL).or(after.and(FLAG.AC));
      f.if(leave, () => ins.helper('syscall'), undefined, false);
      ins.setReg(REG.CX, ins.nextIp(), 8);
      ins.setReg(R11, flags.i64u(), 8);
      setFlags(ins, after);
      const selector = f.let(ins.envLoad('i32', OFF.star + 4).and(0xffff));
      setFlatSegments(ins, FLAT.CODE64, selector, selector.add(8), 0);
      ins.jump(ins.envLoad('i64', OFF.lstar));
    },
  },
  {
    name: 'sysret',
    forms: [''],
    // with a 32-bit operand it goes to compatibility mode
    sizes: [4, 8],
    emit(ins) {
      if (ins.size === 4) return ins.helper('sysret');
      const { f } = ins;
      const target = f.let(ins.reg(REG.CX, 8));
      const image = f.let(
        ins
          .reg(R11, 8)
          .i32()
          .and(SETTABLE & ~(FLAG.RF | FLAG.VM)),
      );
      const leave = unusual(ins, MMU.USER)
        .or(ins.envLoad('i32', OFF.cpl))
        .or(target.shl(16).shrS(16).ne(target))
        .or(image.and(FLAG.TF))
        // an interrupt that waits may be taken now
        .or(image.and(FLAG.IF).ne(0).and(ins.envLoad('i32', OFF.interruptRequest).ne(0)));
      f.if(leave, () => ins.helper('sysret'), undefined, false);
      setFlags(ins, image);
      const selector = f.let(ins.envLoad('i32', OFF.star + 4).shrU(16));
      setFlatSegments(ins, FLAT.CODE64, selector.add(16), selector.add(8), 3);
      ins.jump(target);
    },
  },
  {
    name: 'swapgs',
    forms: [''],
    sizes: [8],
    emit(ins) {
      const { f } = ins;
      const at = OFF.segs + SEG.GS * Segment.size + SEGMENT.BASE;
      const leave = ins.envLoad('i32', OFF.codeSize).ne(CODE_64).or(ins.envLoad('i32', OFF.cpl));
      f.if(leave, () => ins.helper('swapgs'), undefined, false);
      const old = f.copy(ins.envLoad('i64', at));
      ins.envStore(8, at, ins.envLoad('i64', OFF.kernelGsBase));
      ins.envStore(8, OFF.kernelGsBase, old);
    },
  },
];
