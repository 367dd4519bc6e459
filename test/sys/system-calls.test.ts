import { describe, expect, test } from 'vitest';
import { MMU, SEG } from '../../src/cpu/env.ts';
import { FLAG, readEflags, writeEflags } from '../../src/cpu/flags.ts';
import { HELPERS } from '../../src/cpu/sys/helpers.ts';
import { CR4, STATUS, VEC } from '../../src/cpu/sys/words.ts';
import { longMode, makeBench, protectedMode, raised, run } from './bench-machine.ts';

describe('system calls', () => {
  test('SYSCALL and SYSRET in 64-bit mode', () => {
    const b = makeBench();
    longMode(b, 3);
    const { env } = b.cpu;
    env.star = 0x0023_0010n << 32n;
    env.lstar = 0xffff_8000_0000_1000n;
    env.sfmask = BigInt(FLAG.IF | FLAG.DF);
    writeEflags(env, 2 | FLAG.IF | FLAG.CF);
    expect(run(b, HELPERS.syscall, 4)).toBe(STATUS.LOOKUP);
    expect([env.ip, env.regs[1], env.regs[11]]).toEqual([env.lstar, 0x5002n, BigInt(2 | FLAG.IF | FLAG.CF)]);
    expect([env.cpl, env.segs[SEG.CS].selector, env.segs[SEG.SS].selector, readEflags(env)]).toEqual([
      0,
      0x10,
      0x18,
      2 | FLAG.CF,
    ]);
    expect(b.cpu.mmu.index()).toBe(MMU.KERNEL);
    expect(run(b, HELPERS.sysret, 8)).toBe(STATUS.LOOKUP);
    expect([env.ip, env.cpl, env.segs[SEG.CS].selector, env.segs[SEG.SS].selector, env.codeSize]).toEqual([
      0x5002n,
      3,
      0x33,
      0x2b,
      2,
    ]);
    expect(readEflags(env)).toBe(2 | FLAG.IF | FLAG.CF);
    expect(b.cpu.mmu.index()).toBe(MMU.USER);
  });

  test('SYSRET to a 32-bit program, and SYSCALL from it through CSTAR', () => {
    const b = makeBench();
    longMode(b, 0);
    const { env } = b.cpu;
    env.star = 0x0023_0010n << 32n;
    env.cstar = 0x7777n;
    env.regs[1] = 0xf_0000_1234n;
    env.regs[11] = 2n;
    run(b, HELPERS.sysret, 4);
    expect([env.ip, env.codeSize, env.segs[SEG.CS].selector]).toEqual([0x1234n, 1, 0x23]);
    run(b, HELPERS.syscall, 4);
    expect([env.ip, env.codeSize]).toEqual([0x7777n, 2]);
  });

  test('SYSCALL without EFER.SCE is #UD; SYSRET to a non-canonical address is #GP(0)', () => {
    const b = makeBench();
    longMode(b, 0);
    b.cpu.env.regs[1] = 0x8000_0000_0000n;
    expect(run(b, HELPERS.sysret, 8)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, 0]);
    b.cpu.env.efer &= ~1n;
    expect(run(b, HELPERS.syscall, 8)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.UD, -1]);
  });

  test('SYSENTER and SYSEXIT in legacy mode', () => {
    const b = makeBench();
    protectedMode(b, 3);
    const { env } = b.cpu;
    expect(run(b, HELPERS.sysenter, 4)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, 0]);
    env.sysenterCs = 0x60n;
    env.sysenterEip = 0x1000n;
    env.sysenterEsp = 0x8000n;
    expect(run(b, HELPERS.sysenter, 4)).toBe(STATUS.LOOKUP);
    expect([env.cpl, env.ip, env.regs[4], env.segs[SEG.SS].selector]).toEqual([0, 0x1000n, 0x8000n, 0x68]);
    env.regs[1] = 0x9000n;
    env.regs[2] = 0x2000n;
    expect(run(b, HELPERS.sysexit, 4)).toBe(STATUS.LOOKUP);
    expect([env.cpl, env.ip, env.regs[4], env.segs[SEG.CS].selector]).toEqual([3, 0x2000n, 0x9000n, 0x73]);
  });

  test('SYSENTER in long mode exists on Intel only', () => {
    const amd = makeBench();
    longMode(amd, 3);
    amd.cpu.env.sysenterCs = 0x10n;
    expect(run(amd, HELPERS.sysenter, 4)).toBe(STATUS.EXCEPTION);
    const intel = makeBench('max,vendor=GenuineIntel');
    longMode(intel, 3);
    intel.cpu.env.sysenterCs = 0x10n;
    expect(run(intel, HELPERS.sysenter, 4)).toBe(STATUS.LOOKUP);
    expect(intel.cpu.env.codeSize).toBe(2);
  });

  test('SWAPGS and the FSGSBASE instructions', () => {
    const b = makeBench();
    longMode(b, 0);
    const { env } = b.cpu;
    env.kernelGsBase = 0xffff_8880_0000_0000n;
    env.segs[SEG.GS].base = 0x1234n;
    run(b, HELPERS.swapgs, 8);
    expect([env.kernelGsBase, env.segs[SEG.GS].base]).toEqual([0x1234n, 0xffff_8880_0000_0000n]);
    expect(run(b, HELPERS.rdgsbase, 8)).toBe(STATUS.EXCEPTION);
    env.cr4 |= BigInt(CR4.FSGSBASE);
    run(b, HELPERS.rdgsbase, 8);
    expect(env.scratch[4]).toBe(0xffff_8880_0000_0000n);
    expect(run(b, HELPERS.wrfsbase, 8, 0x8000_0000_0000n)).toBe(STATUS.EXCEPTION);
    run(b, HELPERS.wrfsbase, 4, 0xffff_ffff_1234_5678n);
    expect(env.segs[SEG.FS].base).toBe(0x12345678n);
  });
});
