import { describe, expect, test } from 'vitest';
import { MMU, SEG } from '../../src/cpu/env.ts';
import { FLAG, readEflags, writeEflags } from '../../src/cpu/flags.ts';
import { getEflags, setEflags } from '../../src/cpu/sys/eflags.ts';
import { HELPERS } from '../../src/cpu/sys/helpers.ts';
import { writeMsr, MSR } from '../../src/cpu/sys/msr.ts';
import { ACCESS } from '../../src/cpu/sys/page-walk.ts';
import { init, startUp } from '../../src/cpu/sys/reset.ts';
import { CR0, CR4, EFER, STATUS, VEC } from '../../src/cpu/sys/words.ts';
import {
  type Bench,
  longMode,
  makeBench,
  PD,
  PDPT,
  PML4,
  poke32,
  poke64,
  protectedMode,
  raised,
  run,
  SEL,
} from './bench-machine.ts';

const N = (...bits: number[]): number => bits.reduce((a, b) => a | b, 0) >>> 0;

function toCr(b: Bench, n: number, value: number | bigint): number {
  return run(b, HELPERS.mov_to_cr, 8, n, value);
}

describe('control registers', () => {
  test('real mode to 64-bit mode, the way an operating system goes', () => {
    const b = makeBench();
    const { env } = b.cpu;
    protectedMode(b, 0);
    poke64(b, PML4, BigInt(PDPT | 7));
    poke64(b, PDPT, BigInt(PD | 7));
    poke64(b, PD, 0x87n);
    expect(toCr(b, 4, CR4.PAE)).toBe(STATUS.LOOKUP);
    expect(toCr(b, 3, PML4)).toBe(STATUS.LOOKUP);
    expect(writeMsr(b.cpu, MSR.EFER, EFER.LME, 0)).toBe(true);
    expect(toCr(b, 0, N(CR0.PE, CR0.PG))).toBe(STATUS.LOOKUP);
    expect(Number(env.efer)).toBe(EFER.LME | EFER.LMA);
    expect([env.codeSize, env.ip]).toEqual([1, env.nextIp]);
    expect(run(b, HELPERS.jmpf, 4, 0x7000, SEL.CODE64)).toBe(STATUS.LOOKUP);
    expect([env.codeSize, env.stackSize]).toEqual([2, 2]);
    // and back: paging cannot be turned off in 64-bit code
    expect(toCr(b, 0, CR0.PE)).toBe(STATUS.EXCEPTION);
    poke32(b, 0x3000, 0x7000, SEL.CODE0);
    env.slowAddr = 0x3000n;
    run(b, HELPERS.jmpf_mem, 4);
    expect(env.codeSize).toBe(1);
    expect(toCr(b, 0, CR0.PE)).toBe(STATUS.LOOKUP);
    expect(Number(env.efer)).toBe(EFER.LME);
  });

  test.each([
    ['PG without PE', 0, CR0.PG >>> 0],
    ['NW without CD', 0, N(CR0.PE, CR0.NW)],
    ['a 64-bit CR0', 0, 1n << 32n],
    ['an unknown bit of CR4', 4, 1 << 13],
    ['VME, which is not announced', 4, CR4.VME],
    ['CR8 above 15', 8, 16],
  ])('#GP(0) for %s', (_name, n, value) => {
    const b = makeBench();
    protectedMode(b, 0);
    expect(toCr(b, n, value)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, 0]);
  });

  test('LME without PAE, clearing PAE in long mode, reserved CR3 bits are #GP(0)', () => {
    const b = makeBench();
    protectedMode(b, 0);
    b.cpu.env.efer = BigInt(EFER.LME);
    expect(toCr(b, 0, N(CR0.PE, CR0.PG))).toBe(STATUS.EXCEPTION);
    longMode(b, 0);
    expect(toCr(b, 4, CR4.PGE)).toBe(STATUS.EXCEPTION);
    expect(toCr(b, 3, 1n << 40n)).toBe(STATUS.EXCEPTION);
    expect(toCr(b, 1, 0)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.UD, -1]);
  });

  test('user code may not touch them', () => {
    const b = makeBench();
    protectedMode(b, 3);
    for (const name of [
      'mov_to_cr',
      'mov_from_cr',
      'mov_to_dr',
      'mov_from_dr',
      'clts',
      'lmsw',
      'invlpg',
      'hlt',
    ]) {
      expect(run(b, HELPERS[name], 4, 0, 0), name).toBe(STATUS.EXCEPTION);
      expect(raised(b)).toEqual([VEC.GP, 0]);
    }
    for (const name of ['rdmsr', 'wrmsr', 'wbinvd', 'invd', 'lgdt', 'lldt', 'ltr']) {
      expect(run(b, HELPERS[name], 4, 0, 0), name).toBe(STATUS.EXCEPTION);
      expect(raised(b)).toEqual([VEC.GP, 0]);
    }
  });

  test('PAE paging loads the PDPTEs, and refuses reserved bits in them', () => {
    const b = makeBench();
    protectedMode(b, 0);
    poke64(b, 0x100020, BigInt(PD | 1), 0n, 0n, 0x77000n | 1n);
    b.cpu.env.cr4 = BigInt(CR4.PAE);
    expect(toCr(b, 3, 0x100020)).toBe(STATUS.LOOKUP);
    expect(toCr(b, 0, N(CR0.PE, CR0.PG))).toBe(STATUS.LOOKUP);
    expect([b.cpu.env.pdpte[0], b.cpu.env.pdpte[3]]).toEqual([BigInt(PD | 1), 0x77001n]);
    poke64(b, 0x100040, 7n);
    expect(toCr(b, 3, 0x100040)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, 0]);
    expect(b.cpu.env.cr3).toBe(0x100020n);
  });

  test('a write to CR3 flushes what is not global, a change of PGE everything', () => {
    const b = makeBench();
    longMode(b, 0);
    poke64(b, PD, 0x187n, 0x200087n);
    b.cpu.mmu.tlb.flushAll();
    b.cpu.mmu.resolve(0x1000, 0, ACCESS.READ, MMU.KERNEL);
    b.cpu.mmu.resolve(0x201000, 0, ACCESS.READ, MMU.KERNEL);
    const fills = (): bigint => b.cpu.env.statTlbFills;
    toCr(b, 3, PML4);
    const before = fills();
    b.cpu.mmu.resolve(0x1000, 0, ACCESS.READ, MMU.KERNEL);
    expect(fills()).toBe(before);
    b.cpu.mmu.resolve(0x201000, 0, ACCESS.READ, MMU.KERNEL);
    expect(fills()).toBe(before + 1n);
    toCr(b, 4, CR4.PAE);
    b.cpu.mmu.resolve(0x1000, 0, ACCESS.READ, MMU.KERNEL);
    expect(fills()).toBe(before + 2n);
  });

  test('LMSW sets PE but cannot clear it; CLTS clears TS', () => {
    const b = makeBench();
    const { env } = b.cpu;
    run(b, HELPERS.lmsw, 2, 0xfff9);
    expect(Number(env.cr0) & 15).toBe(9);
    run(b, HELPERS.lmsw, 2, 0);
    expect(Number(env.cr0) & 15).toBe(1);
    env.cr0 |= 8n;
    run(b, HELPERS.clts, 2);
    expect(Number(env.cr0) & 15).toBe(1);
  });

  test('INVPCID checks its descriptor', () => {
    const b = makeBench('max');
    longMode(b, 0);
    b.cpu.env.slowAddr = 0x3000n;
    poke64(b, 0x3000, 1n, 0n);
    expect(run(b, HELPERS.invpcid, 8, 0)).toBe(STATUS.EXCEPTION);
    poke64(b, 0x3000, 0n, 0x8000_0000_0000n);
    expect(run(b, HELPERS.invpcid, 8, 0)).toBe(STATUS.EXCEPTION);
    expect(run(b, HELPERS.invpcid, 8, 2)).toBe(STATUS.LOOKUP);
    expect(run(b, HELPERS.invpcid, 8, 4)).toBe(STATUS.EXCEPTION);
  });
});

describe('flags', () => {
  test('the fast EFLAGS functions agree with flags.ts on every combination', () => {
    const b = makeBench();
    const { env } = b.cpu;
    for (let i = 0; i < 64; i++) {
      const value =
        2 |
        (i & 1 ? FLAG.CF : 0) |
        (i & 2 ? FLAG.PF : 0) |
        (i & 4 ? FLAG.AF : 0) |
        (i & 8 ? FLAG.ZF : 0) |
        (i & 16 ? FLAG.SF : 0) |
        (i & 32 ? FLAG.OF : 0);
      setEflags(b.cpu, value);
      expect([readEflags(env), getEflags(b.cpu)]).toEqual([value, value]);
      writeEflags(env, value);
      expect(getEflags(b.cpu)).toBe(value);
    }
    env.flagRes = 0x8000_0000_0000_0010n;
    env.flagAux = 0x1_ff00;
    env.flagCarry = 1n << 62n;
    expect(getEflags(b.cpu)).toBe(readEflags(env));
  });

  test('POPF at CPL 3 cannot change IF or IOPL; AC moves the MMU index', () => {
    const b = makeBench();
    protectedMode(b, 3);
    writeEflags(b.cpu.env, 2 | FLAG.IF);
    poke32(b, 0x9000, FLAG.IOPL | FLAG.AC | FLAG.ZF);
    run(b, HELPERS.popf, 4);
    expect(readEflags(b.cpu.env)).toBe(2 | FLAG.IF | FLAG.AC | FLAG.ZF);
    longMode(b, 0);
    b.cpu.env.cr4 |= BigInt(CR4.SMAP);
    b.cpu.env.eflags = 2;
    b.cpu.updateMode();
    expect(run(b, HELPERS.stac, 4)).toBe(STATUS.NEXT);
    expect(b.cpu.mmu.index()).toBe(MMU.KERNEL_AC);
    run(b, HELPERS.clac, 4);
    expect(b.cpu.mmu.index()).toBe(MMU.KERNEL);
  });

  test('STI holds interrupts off for one instruction, only when they were disabled', () => {
    const b = makeBench();
    protectedMode(b, 0);
    writeEflags(b.cpu.env, 2);
    expect(run(b, HELPERS.sti, 4)).toBe(STATUS.LOOKUP);
    expect(b.cpu.env.inhibit).toBe(1);
    b.cpu.env.inhibit = 0;
    expect(run(b, HELPERS.sti, 4)).toBe(STATUS.NEXT);
    expect(b.cpu.env.inhibit).toBe(0);
  });

  test.each(['cli', 'sti'])('%s above IOPL is #GP(0)', (name) => {
    const b = makeBench();
    protectedMode(b, 3);
    expect(run(b, HELPERS[name], 4)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, 0]);
  });

  test('BOUND and INTO', () => {
    const b = makeBench();
    protectedMode(b, 0);
    poke32(b, 0x3000, -5 >>> 0, 5);
    b.cpu.env.slowAddr = 0x3000n;
    expect(run(b, HELPERS.bound, 4, -5 >>> 0)).toBe(STATUS.NEXT);
    expect(run(b, HELPERS.bound, 4, 6)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.BR, -1]);
    expect(run(b, HELPERS.into, 4)).toBe(STATUS.NEXT);
  });
});

describe('reset', () => {
  test('starts at FFFFFFF0 in real mode', () => {
    const { env } = makeBench().cpu;
    expect(env.segs[SEG.CS].base + env.ip).toBe(0xfffffff0n);
    expect([env.cr0, env.codeSize, env.cpl, env.dr[7]]).toEqual([0x60000010n, 0, 0, 0x400n]);
    expect(env.regs[2]).toBe(0x663n);
  });

  test('INIT keeps MSRs, and a start-up IPI begins at its page', () => {
    const b = makeBench();
    longMode(b, 0);
    b.cpu.env.lstar = 5n;
    init(b.cpu);
    startUp(b.cpu, 0x9a);
    const { env } = b.cpu;
    expect([env.lstar, env.efer, env.cr4, env.codeSize]).toEqual([5n, 0n, 0n, 0]);
    expect(env.segs[SEG.CS].base + env.ip).toBe(0x9a000n);
    expect(env.segs[SEG.CS].selector).toBe(0x9a00);
  });
});
