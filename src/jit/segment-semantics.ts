/**
 * What 32-bit kernels do at each entry and exit: segment registers moved and loaded, SYSENTER, SYSEXIT. Only where
 * regions contain it, in 32-bit code with flat ES, SS and DS (MOV to a segment register in 64-bit code too); tier 0, and every case that is not the usual one, leaves
 * these to TypeScript (sys/segments.ts, sys/stack-ops.ts, sys/syscall.ts). SDM 2: MOV, PUSH, POP, SYSENTER, SYSEXIT;
 * SDM 3A 3.4.5, 5.5, 5.6.
 */
import { type Expr, i32, i64 } from '../wasm/index.ts';
import { CpuEnv, MMU, SEG, tlbSetOffset } from '../cpu/env.ts';
import { FLAG } from '../cpu/flags.ts';
import { type Ins, REG, type Semantics } from '../cpu/sem/ins.ts';
import { Stack } from '../cpu/sem/stack.ts';
import { setFlatSegments } from '../cpu/sem/system.ts';
import { loadNullSegment, registerNumber, selectorOf, setSegment } from './kernel-semantics.ts';
import { ATTR, CR0, DR7_ENABLES, EFER, FLAT, ORDINARY } from '../cpu/sys/words.ts';

const OFF = {
  segs: CpuEnv.offsetOf('segs'),
  eflags: CpuEnv.offsetOf('eflags'),
  codeKind: CpuEnv.offsetOf('codeKind'),
  setCodeKinds: CpuEnv.offsetOf('setCodeKinds'),
  cpl: CpuEnv.offsetOf('cpl'),
  tlbSet: CpuEnv.offsetOf('tlbSet'),
  gdtBase: CpuEnv.offsetOf('gdtBase'),
  gdtLimit: CpuEnv.offsetOf('gdtLimit'),
  cr0: CpuEnv.offsetOf('cr0'),
  efer: CpuEnv.offsetOf('efer'),
  dr7: CpuEnv.offsetOf('dr') + 7 * 8,
  sysenterCs: CpuEnv.offsetOf('sysenterCs'),
  sysenterEsp: CpuEnv.offsetOf('sysenterEsp'),
  sysenterEip: CpuEnv.offsetOf('sysenterEip'),
} as const;
/** `codeKind` of 32-bit code with flat segments. */
const CODE_32 = 1;

function leaveIf(ins: Ins, condition: Expr): void {
  ins.f.if(condition, () => ins.helper('mov_to_sreg'), undefined, false);
}
/** Nonzero outside protected mode, and in long mode. */
function notProtected32(ins: Ins): Expr {
  return ins
    .envLoad('i32', OFF.codeKind)
    .ne(CODE_32)
    .or(ins.envLoad('i32', OFF.cr0).and(CR0.PE).eqz())
    .or(ins.envLoad('i32', OFF.efer).and(EFER.LMA));
}

/** Loads ES, DS, FS or GS with a selector (i32, bound): at CPL 0, a descriptor of the GDT that may be used as it is. */
function loadSegment(ins: Ins, seg: number, selector: Expr): void {
  const { f } = ins;
  const set = (base: Expr, limit: Expr, attr: Expr): void =>
    setSegment(ins, seg, { selector, base, limit, attr });
  const elsewhere = ins.envLoad('i32', OFF.tlbSet).ne(tlbSetOffset(MMU.KERNEL));
  leaveIf(ins, notProtected32(ins).or(ins.envLoad('i32', OFF.cpl)).or(elsewhere));
  const fromTable = (): void => {
    const beyond = selector.or(7).gtU(ins.envLoad('i32', OFF.gdtLimit));
    leaveIf(ins, selector.and(4).or(beyond));
    const offset = selector.and(0xfff8).i64u();
    const descriptor = ins.load(f.let(ins.envLoad('i64', OFF.gdtBase).add(offset).low(32)), 8);
    const low = f.let(descriptor.i32());
    const high = f.let(descriptor.shrU(32).i32());
    const ordinary = high.and(ORDINARY.MASK | ATTR.ACCESSED).eq(ORDINARY.VALUE | ATTR.ACCESSED);
    const allowed = high.shrU(ATTR.DPL_SHIFT).and(3).geU(selector.and(3));
    leaveIf(ins, ordinary.and(allowed).eqz());
    if (seg < SEG.FS) {
      // the code is made for flat ones
      const flat = low.eq(0xffff).and(high.and(0xff8f00ff).eq(0x008f0000));
      leaveIf(ins, flat.eqz());
    }
    const base = low.shrU(16).or(high.and(0xff).shl(16)).or(high.and(0xff000000));
    const raw = f.let(low.and(0xffff).or(high.and(0xf0000)));
    const limit = high.and(ATTR.G).select(raw.shl(12).or(0xfff), raw);
    set(base, limit, high.and(ATTR.MASK));
  };
  const isNull = selector.and(0xfffc).eqz();
  if (seg >= SEG.FS) f.if(isNull, () => set(i32(0), i32(0), i32(0)), fromTable);
  else {
    leaveIf(ins, isNull);
    fromTable();
  }
}

/** What keeps the short way of SYSENTER and SYSEXIT from being right: nonzero then. `set`: the MMU index after it. */
function unusualCall(ins: Ins, set: number): Expr {
  const flags = FLAG.TF | FLAG.AC | FLAG.VM;
  return notProtected32(ins)
    .or(ins.envLoad('i32', OFF.setCodeKinds + set * 4).ne(CODE_32))
    .or(ins.envLoad('i32', OFF.eflags).and(flags))
    .or(ins.envLoad('i32', OFF.dr7).and(DR7_ENABLES))
    .or(ins.envLoad('i32', OFF.sysenterCs).and(0xfffc).eqz());
}

export const SEGMENT_SEMANTICS: readonly Semantics[] = [
  {
    name: 'push_sreg',
    forms: ['n'],
    sizes: [4],
    // 16 bits are written, in the place of 32
    emit(ins) {
      const stack = new Stack(ins);
      const sp = stack.at(ins.reg(REG.SP, 8), -4);
      ins.store(stack.linear(sp), ins.f.let(selectorOf(ins, 0)), 2);
      stack.setPointer(sp);
    },
  },
  {
    name: 'pop_sreg',
    forms: ['n'],
    sizes: [4],
    emit(ins) {
      const stack = new Stack(ins);
      const sp = stack.pointer();
      const selector = ins.load(stack.linear(sp), 2);
      loadSegment(ins, registerNumber(ins, 0), selector);
      stack.setPointer(stack.at(sp, 4));
    },
  },
  {
    name: 'mov_to_sreg',
    forms: ['nr', 'nm'],
    sizes: [2, 4, 8],
    emit(ins) {
      if (ins.stackSize === 8) loadNullSegment(ins);
      else loadSegment(ins, registerNumber(ins, 0), ins.f.let(ins.read(1, 2)));
    },
  },
  {
    name: 'sysenter',
    forms: [''],
    sizes: [4],
    emit(ins) {
      ins.f.if(unusualCall(ins, MMU.KERNEL), () => ins.helper('sysenter'), undefined, false);
      const selector = ins.f.let(ins.envLoad('i32', OFF.sysenterCs));
      ins.envStore(4, OFF.eflags, ins.envLoad('i32', OFF.eflags).and(~(FLAG.VM | FLAG.IF | FLAG.RF)));
      setFlatSegments(ins, FLAT.CODE32, selector, selector.add(8), 0);
      ins.setReg(REG.SP, ins.envLoad('i32', OFF.sysenterEsp), 4);
      ins.jump(ins.envLoad('i64', OFF.sysenterEip).and(i64(0xffffffff)));
    },
  },
  {
    name: 'sysexit',
    forms: [''],
    sizes: [4],
    emit(ins) {
      const unusual = unusualCall(ins, MMU.USER).or(ins.envLoad('i32', OFF.cpl));
      ins.f.if(unusual, () => ins.helper('sysexit'), undefined, false);
      const selector = ins.f.let(ins.envLoad('i32', OFF.sysenterCs));
      const target = ins.f.let(ins.reg(REG.DX, 4));
      setFlatSegments(ins, FLAT.CODE32, selector.add(16), selector.add(24), 3);
      ins.setReg(REG.SP, ins.f.let(ins.reg(REG.CX, 4)), 4);
      ins.jump(target.i64u());
    },
  },
];
