import { describe, expect, test } from 'vitest';
import { SEG } from '../../src/cpu/env.ts';
import { FLAG } from '../../src/cpu/flags.ts';
import { HELPERS } from '../../src/cpu/sys/helpers.ts';
import { STATUS, VEC } from '../../src/cpu/sys/words.ts';
import {
  type Bench,
  host,
  longMode,
  makeBench,
  peek32,
  poke16,
  poke8,
  protectedMode,
  raised,
  run,
  TSS_BASE,
} from './bench-machine.ts';

describe('ports', () => {
  test('the kernel may access any', () => {
    const b = makeBench();
    protectedMode(b, 0);
    b.ports.value = 0x12345678;
    expect(run(b, HELPERS.in, 4, 0, 0xcf8)).toBe(STATUS.NEXT);
    expect(b.cpu.env.scratch[4]).toBe(0x12345678n);
    run(b, HELPERS.out, 1, 0x80, 0xabcd);
    expect(b.ports.log).toEqual(['in4 cf8', 'out1 80=cd']);
  });

  test('user code needs IOPL or the bitmap', () => {
    const b = makeBench();
    protectedMode(b, 3);
    poke16(b, TSS_BASE + 0x66, 0xffff);
    expect(run(b, HELPERS.in, 1, 0, 0x3f8)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, 0]);
    b.cpu.env.eflags |= FLAG.IOPL;
    expect(run(b, HELPERS.in, 1, 0, 0x3f8)).toBe(STATUS.NEXT);
    b.cpu.env.eflags &= ~FLAG.IOPL;
    poke16(b, TSS_BASE + 0x66, 0x68);
    for (let i = 0; i < 0x2000; i++) b.cpu.u8[host(TSS_BASE + 0x68) + i] = 0xff;
    poke8(b, TSS_BASE + 0x68 + 0x7f, 0xfe);
    expect(run(b, HELPERS.in, 1, 0, 0x3f8)).toBe(STATUS.NEXT);
    expect(run(b, HELPERS.in, 2, 0, 0x3f8)).toBe(STATUS.EXCEPTION);
    expect(run(b, HELPERS.in, 1, 0, 0x3f9)).toBe(STATUS.EXCEPTION);
    // the last byte of the bitmap must lie within the limit, with one after it
    poke8(b, TSS_BASE + 0x68 + 0x1fff, 0);
    b.cpu.env.tr.limit = 0x68 + 0x1fff;
    expect(run(b, HELPERS.in, 1, 0, 0xffff)).toBe(STATUS.EXCEPTION);
    b.cpu.env.tr.limit++;
    expect(run(b, HELPERS.in, 1, 0, 0xffff)).toBe(STATUS.NEXT);
  });

  function string(b: Bench, name: string, size: number, rep: number, address: number, seg = SEG.DS): number {
    const { scratch } = b.cpu.env;
    scratch[5] = BigInt(seg);
    scratch[6] = BigInt(rep);
    scratch[7] = BigInt(address);
    return HELPERS[name](b.cpu, size);
  }

  test('REP INSW and REP OUTSB', () => {
    const b = makeBench();
    protectedMode(b, 0);
    const { regs } = b.cpu.env;
    regs[1] = 3n;
    regs[2] = 0x1f0n;
    regs[7] = 0x3000n;
    b.ports.value = 0xbeef;
    expect(string(b, 'ins', 2, 3, 4)).toBe(STATUS.NEXT);
    expect([regs[1], regs[7], peek32(b, 0x3000), peek32(b, 0x3004)]).toEqual([
      0n,
      0x3006n,
      0xbeefbeef,
      0xbeef,
    ]);
    regs[1] = 2n;
    regs[6] = 0x3001n;
    b.cpu.env.eflags |= FLAG.DF;
    expect(string(b, 'outs', 1, 3, 4)).toBe(STATUS.NEXT);
    expect(b.ports.log.slice(3)).toEqual(['out1 1f0=be', 'out1 1f0=ef']);
    expect(regs[6]).toBe(0x2fffn);
  });

  test('a fault in the middle keeps what was done, and no port is read for it', () => {
    const b = makeBench();
    longMode(b, 0);
    const { regs } = b.cpu.env;
    regs[1] = 4n;
    regs[7] = 0x3ffffen;
    expect(string(b, 'ins', 1, 3, 8)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.PF, 2]);
    expect([regs[1], regs[7], b.ports.log.length]).toEqual([2n, 0x400000n, 2]);
  });

  test('an exit request is seen between two steps', () => {
    const b = makeBench();
    protectedMode(b, 0);
    b.cpu.env.regs[1] = 100n;
    b.cpu.env.exitRequest = 1;
    expect(string(b, 'ins', 1, 3, 4)).toBe(STATUS.LOOKUP);
    expect([b.cpu.env.regs[1], b.cpu.env.ip]).toEqual([99n, 0x5000n]);
  });
});
