/** Jumps, loops, and instructions that set single flags. */
import { i32 } from '../../wasm/index.ts';
import { CpuEnv } from '../env.ts';
import { FLAG } from '../flags.ts';
import { type Ins, REG, type Semantics } from './ins.ts';
import { checkTarget } from './stack.ts';

const SIZES = [2, 4, 8] as const;
const EFLAGS = CpuEnv.offsetOf('eflags');
const CPL = CpuEnv.offsetOf('cpl');

function flagChange(name: string, emit: (ins: Ins) => void): Semantics {
  return { name, forms: [''], sizes: [4], emit };
}

/** LOOP, LOOPE, LOOPNE: the counter has the address size. */
function loop(name: string, zero?: boolean): Semantics {
  return {
    name,
    forms: ['j'],
    sizes: SIZES,
    addressSizes: [2, 4, 8],
    emit(ins) {
      const { f, addressSize } = ins;
      const left = f.let(ins.reg(REG.CX, addressSize).sub(1));
      const counter = f.let(addressSize === 2 ? left.low(16) : left);
      const more = counter.eqz().eqz();
      const condition =
        zero === undefined ? more : more.and(zero ? ins.flags.zero() : ins.flags.zero().eqz());
      const taken = f.let(condition);
      ins.setReg(REG.CX, counter, addressSize);
      f.if(taken, () => ins.jumpRelative());
      ins.notTaken();
    },
  };
}

export const CONTROL_SEMANTICS: readonly Semantics[] = [
  {
    name: 'jmp',
    forms: ['j', 'r', 'm'],
    sizes: SIZES,
    emit(ins) {
      if (ins.kinds[0] === 'j') ins.jumpRelative();
      else ins.jump(checkTarget(ins, ins.read(0)).i64u());
    },
  },
  {
    name: 'jcc',
    forms: ['j'],
    sizes: SIZES,
    conditional: true,
    emit(ins) {
      ins.f.if(ins.flags.condition(ins.cond), () => ins.jumpRelative());
      ins.notTaken();
    },
  },
  loop('loop'),
  loop('loope', true),
  loop('loopne', false),
  {
    name: 'jcxz',
    forms: ['j'],
    sizes: SIZES,
    addressSizes: [2, 4, 8],
    emit(ins) {
      ins.f.if(ins.reg(REG.CX, ins.addressSize).eqz(), () => ins.jumpRelative());
      ins.notTaken();
    },
  },
  flagChange('clc', (ins) => ins.flags.setCarryFlag(i32(0))),
  flagChange('stc', (ins) => ins.flags.setCarryFlag(i32(1))),
  flagChange('cmc', (ins) => ins.flags.setCarryFlag(ins.f.let(ins.flags.carry().xor(1)))),
  flagChange('cld', (ins) => ins.envStore(4, EFLAGS, ins.envLoad('i32', EFLAGS).and(~FLAG.DF))),
  flagChange('std', (ins) => ins.envStore(4, EFLAGS, ins.envLoad('i32', EFLAGS).or(FLAG.DF))),
  flagChange('lahf', (ins) => {
    const ah = ins.flags.lowByte();
    ins.setReg(REG.AX, ins.reg(REG.AX, 2).low(8).or(ah.shl(8)), 2);
  }),
  flagChange('sahf', (ins) => {
    const { f } = ins;
    ins.flags.setFromImage(ins.reg(REG.AX, 2).shrU(8), f.let(ins.flags.overflow()));
  }),
  flagChange('salc', (ins) => ins.setReg(REG.AX, i32(0).sub(ins.flags.carry()).low(8), 1)),
  flagChange('cli', (ins) => {
    ins.f.if(ins.envLoad('i32', CPL), () => ins.helper('cli'), undefined, false);
    ins.envStore(4, EFLAGS, ins.envLoad('i32', EFLAGS).and(~FLAG.IF));
  }),
  flagChange('sti', (ins) => {
    const { f } = ins;
    f.if(ins.envLoad('i32', CPL), () => ins.helper('sti'), undefined, false);
    const old = f.let(ins.envLoad('i32', EFLAGS));
    ins.envStore(4, EFLAGS, old.or(FLAG.IF));
    // an interrupt that waits is taken after the next instruction
    const waiting = ins.envLoad('i32', CpuEnv.offsetOf('interruptRequest'));
    f.if(
      old.and(FLAG.IF).eqz().and(waiting.ne(0)),
      () => {
        ins.envStore(4, CpuEnv.offsetOf('inhibit'), i32(1));
        ins.endBlock();
      },
      undefined,
      false,
    );
  }),
  flagChange('pause', () => {}),
];
