import { describe, expect, test } from 'vitest';
import { FLAG } from '../../src/cpu/flags.ts';
import { debugActive, debugTrap, instructionBreakpoint } from '../../src/cpu/sys/debug.ts';
import { HELPERS } from '../../src/cpu/sys/helpers.ts';
import { CR4, STATUS, VEC } from '../../src/cpu/sys/words.ts';
import { longMode, makeBench, protectedMode, raised, run } from './bench-machine.ts';

describe('debug registers', () => {
  test('an instruction breakpoint is a fault that RF lets pass once', () => {
    const b = makeBench();
    longMode(b, 0);
    run(b, HELPERS.mov_to_dr, 8, 0, 0x5000);
    run(b, HELPERS.mov_to_dr, 8, 7, 1);
    expect(debugActive(b.cpu)).toBe(true);
    b.cpu.env.ip = 0x5000n;
    expect(instructionBreakpoint(b.cpu)).toBe(true);
    expect(raised(b)).toEqual([VEC.DB, -1]);
    expect(b.cpu.env.dr[6]).toBe(0xffff0ff1n);
    b.cpu.env.eflags |= FLAG.RF;
    expect(instructionBreakpoint(b.cpu)).toBe(false);
    expect(instructionBreakpoint(b.cpu)).toBe(true);
  });

  test('a data breakpoint is reported after the access, and its page stays out of the TLB', () => {
    const b = makeBench();
    longMode(b, 0);
    run(b, HELPERS.mov_to_dr, 8, 1, 0x3004);
    // DR1: write, 4 bytes
    run(b, HELPERS.mov_to_dr, 8, 7, (0xd << 20) | 4);
    b.cpu.env.slowAddr = 0x3006n;
    b.cpu.mmu.slowLoad(1);
    expect(debugTrap(b.cpu, false)).toBe(false);
    b.cpu.mmu.slowStore(1);
    expect(debugTrap(b.cpu, false)).toBe(true);
    expect(b.cpu.env.dr[6]).toBe(0xffff0ff2n);
    const fills = b.cpu.env.statTlbFills;
    b.cpu.env.slowAddr = 0x3008n;
    b.cpu.mmu.slowStore(1);
    expect(b.cpu.env.statTlbFills).toBe(fills + 1n);
    expect(debugTrap(b.cpu, false)).toBe(false);
  });

  test('a single step sets BS; an I/O breakpoint needs CR4.DE', () => {
    const b = makeBench();
    protectedMode(b, 0);
    expect(debugTrap(b.cpu, true)).toBe(true);
    expect(b.cpu.env.dr[6]).toBe(0xffff4ff0n);
    run(b, HELPERS.mov_to_dr, 4, 2, 0x3f8);
    run(b, HELPERS.mov_to_dr, 4, 7, (2 << 24) | 0x10);
    run(b, HELPERS.in, 1, 0, 0x3f8);
    expect(debugTrap(b.cpu, false)).toBe(false);
    b.cpu.env.cr4 = BigInt(CR4.DE);
    run(b, HELPERS.in, 1, 0, 0x3f8);
    expect(debugTrap(b.cpu, false)).toBe(true);
  });

  test('DR4 and DR5 are DR6 and DR7, or #UD with CR4.DE; general detect', () => {
    const b = makeBench();
    protectedMode(b, 0);
    run(b, HELPERS.mov_from_dr, 4, 0, 5);
    expect(b.cpu.env.scratch[4]).toBe(0x400n);
    b.cpu.env.cr4 = BigInt(CR4.DE);
    expect(run(b, HELPERS.mov_from_dr, 4, 0, 5)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.UD, -1]);
    run(b, HELPERS.mov_to_dr, 4, 7, 1 << 13);
    expect(run(b, HELPERS.mov_from_dr, 4, 0, 0)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.DB, -1]);
    expect(b.cpu.env.dr[6]).toBe(0xffff2ff0n);
    expect(run(b, HELPERS.mov_from_dr, 4, 0, 0)).toBe(STATUS.NEXT);
  });
});
