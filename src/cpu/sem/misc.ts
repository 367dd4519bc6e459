/**
 * Integer instructions outside the regular groups: wide compare-exchange, decimal adjustment, fences, cache
 * control, table look-up. Source: Intel SDM vol. 2, instruction pages.
 */
import { type Expr, load } from '../../wasm/index.ts';
import { CpuEnv } from '../env.ts';
import { FLAG } from '../flags.ts';
import { type Ins, REG, type Semantics } from './ins.ts';

const GENERAL_PROTECTION = 13;
const INVALID_OPCODE = 6;
const CR0 = CpuEnv.offsetOf('cr0');
const EFLAGS = CpuEnv.offsetOf('eflags');
const SLOW_ADDR = CpuEnv.offsetOf('slowAddr');

function evenParity(v: Expr): Expr {
  return v.and(0xff).popcnt().and(1).eqz();
}

/** SF, ZF, PF of the byte `al`; CF and AF given. OF is undefined. */
function decimalFlags(ins: Ins, al: Expr, cf: Expr, af: Expr): void {
  ins.flags.setAll({ cf, af, pf: evenParity(al), zf: al.eqz(), sf: al.shrU(7).and(1) });
}

/** DAA, DAS. */
function decimalAdjust(name: string, subtract: boolean): Semantics {
  return {
    name,
    forms: [''],
    sizes: [1],
    emit(ins) {
      const { f } = ins;
      const old = f.copy(ins.reg(REG.AX, 1));
      const carry = f.copy(ins.flags.carry());
      const low = f.let(old.and(15).gtU(9).or(ins.flags.adjust()));
      const high = f.let(old.gtU(0x99).or(carry));
      const change = f.let(low.mul(6).add(high.mul(0x60)));
      // a borrow out of the first step of DAS counts by itself; a carry out of DAA's implies the second step
      const cf = f.let(subtract ? high.or(low.and(old.ltU(6))) : high);
      const al = f.let((subtract ? old.sub(change) : old.add(change)).low(8));
      ins.setReg(REG.AX, al, 1);
      decimalFlags(ins, al, cf, low);
    },
  };
}

/** AAA, AAS. */
function asciiAdjust(name: string, subtract: boolean): Semantics {
  return {
    name,
    forms: [''],
    sizes: [1],
    emit(ins) {
      const { f } = ins;
      const ax = f.copy(ins.reg(REG.AX, 2));
      const adjust = f.let(ax.and(15).gtU(9).or(ins.flags.adjust()));
      const change = f.let(adjust.mul(0x106));
      const moved = subtract ? ax.sub(change) : ax.add(change);
      const result = f.let(moved.and(0xff0f));
      ins.setReg(REG.AX, result, 2);
      decimalFlags(ins, f.let(result.and(0xff)), adjust, adjust);
    },
  };
}

/** Touches the cache line as a one-byte load would: same faults, nothing else to do here. */
function cacheLine(name: string): Semantics {
  return {
    name,
    forms: ['m'],
    sizes: [1],
    emit: (ins) => ins.f.drop(ins.load(ins.address(0), 1)),
  };
}

/**
 * LFENCE and SFENCE need no code: generated loads and stores are in program order as far as x86 (TSO) tells,
 * and there are no weakly ordered stores.
 */
function fence(name: string, full: boolean): Semantics {
  return {
    name,
    forms: [''],
    sizes: [4],
    emit(ins) {
      if (full) ins.f.fence();
    },
  };
}

export const MISC_SEMANTICS: readonly Semantics[] = [
  {
    name: 'xlat',
    forms: [''],
    sizes: [1],
    addressSizes: [2, 4, 8],
    // as a string instruction, so that the record holds the source segment
    reps: [],
    emit(ins) {
      const { f, addressSize } = ins;
      const sum = f.let(ins.reg(REG.BX, 8).add(ins.reg(REG.AX, 1).i64u()));
      const address = ins.linear(ins.sourceBase(), sum.low(addressSize * 8));
      ins.setReg(REG.AX, ins.load(address, 1), 1);
    },
  },
  {
    name: 'cmpxchg8b',
    forms: ['m'],
    sizes: [4],
    lockable: true,
    emit(ins) {
      const { f } = ins;
      const pair = (high: number, low: number): Expr =>
        f.copy(ins.reg(high, 4).i64u().shl(32).or(ins.reg(low, 4).i64u()));
      const expected = pair(REG.DX, REG.AX);
      const replacement = pair(REG.CX, REG.BX);
      const old = f.local('i64');
      ins.modify(
        0,
        (value) => {
          f.set(old, value);
          return value.eq(expected).select(replacement, value);
        },
        8,
      );
      ins.flags.setZero(old.eq(expected));
      f.if(old.ne(expected), () => {
        ins.setReg(REG.AX, old.i32(), 4);
        ins.setReg(REG.DX, old.shrU(32).i32(), 4);
      });
    },
  },
  {
    name: 'cmpxchg16b',
    forms: ['m'],
    sizes: [8],
    lockable: true,
    emit(ins) {
      const { f } = ins;
      const address = ins.address(0);
      f.if(address.i32().and(15), () => ins.raise(GENERAL_PROTECTION, 0), undefined, false);
      if (ins.lock) {
        // no 16-byte compare-exchange exists here: done while all other vCPUs stand still
        ins.envStore(8, SLOW_ADDR, address);
        // it accesses the operand itself: a read before would be the one that faults
        ins.helper('cmpxchg16b', false);
        return;
      }
      const host = ins.probeWrite(address, 16);
      const low = f.copy(load('i64', host));
      const high = f.copy(load('i64', host, 8));
      const equal = f.let(low.eq(ins.reg(REG.AX, 8)).and(high.eq(ins.reg(REG.DX, 8))));
      f.store(8, host, 0, equal.select(ins.reg(REG.BX, 8), low));
      f.store(8, host, 8, equal.select(ins.reg(REG.CX, 8), high));
      ins.commit(host, 16);
      ins.flags.setZero(equal);
      f.if(equal.eqz(), () => {
        ins.setReg(REG.AX, low, 8);
        ins.setReg(REG.DX, high, 8);
      });
    },
  },
  {
    // the destination is written, and checked for writing, only when its RPL is raised
    name: 'arpl',
    forms: ['rr', 'mr'],
    sizes: [2],
    emit(ins) {
      const { f } = ins;
      const pe = ins.envLoad('i32', CR0).and(1);
      const v86 = ins.envLoad('i32', EFLAGS).and(FLAG.VM);
      f.if(pe.eqz().or(v86), () => ins.raise(INVALID_OPCODE), undefined, false);
      const rpl = f.let(ins.read(1).and(3));
      const old = ins.read(0);
      const raised = f.let(old.and(3).ltU(rpl));
      f.if(raised, () => ins.write(0, old.and(0xfffc).or(rpl)));
      ins.flags.setZero(raised);
    },
  },
  { name: 'movnti', forms: ['mr'], sizes: [4, 8], emit: (ins) => ins.write(0, ins.read(1)) },
  decimalAdjust('daa', false),
  decimalAdjust('das', true),
  asciiAdjust('aaa', false),
  asciiAdjust('aas', true),
  cacheLine('clflush'),
  cacheLine('clflushopt'),
  cacheLine('clwb'),
  fence('lfence', false),
  fence('sfence', false),
  fence('mfence', true),
];
