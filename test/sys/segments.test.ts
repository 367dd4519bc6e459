import { describe, expect, test } from 'vitest';
import { SEG } from '../../src/cpu/env.ts';
import { FLAG, readEflags, writeEflags } from '../../src/cpu/flags.ts';
import { HELPERS } from '../../src/cpu/sys/helpers.ts';
import { loadSegment } from '../../src/cpu/sys/segments.ts';
import { interrupt } from '../../src/cpu/sys/exceptions.ts';
import { CR0, STATUS, VEC } from '../../src/cpu/sys/words.ts';
import {
  type Bench,
  descriptor,
  GDT_BASE,
  gate,
  IDT_BASE,
  LDT_BASE,
  longMode,
  makeBench,
  peek16,
  peek32,
  poke16,
  poke32,
  poke64,
  poke8,
  protectedMode,
  quads,
  raised,
  run,
  SEL,
  TSS_BASE,
  words,
} from './bench-machine.ts';

function typeByte(b: Bench, selector: number): number {
  return (peek32(b, GDT_BASE + (selector & ~7) + 4) >>> 8) & 255;
}

describe('loading a segment register', () => {
  test('takes base, limit and attributes, and sets the accessed bit', () => {
    const b = makeBench();
    protectedMode(b, 0);
    poke64(b, GDT_BASE + SEL.DATA0, descriptor(0x12345678, 0x23, 0x92, 0xc));
    expect(run(b, HELPERS.mov_to_sreg, 2, SEG.ES, SEL.DATA0)).toBe(STATUS.LOOKUP);
    const es = b.cpu.env.segs[SEG.ES];
    expect([es.base, es.limit, es.attr, es.selector]).toEqual([0x12345678n, 0x23fff, 0xc09300, SEL.DATA0]);
    expect(typeByte(b, SEL.DATA0)).toBe(0x93);
    expect(b.cpu.env.ip).toBe(0x5002n);
  });

  test('real mode keeps limit and attributes', () => {
    const b = makeBench();
    const ds = b.cpu.env.segs[SEG.DS];
    ds.limit = 0xffffffff;
    loadSegment(b.cpu, SEG.DS, 0x1234);
    expect([ds.base, ds.limit, ds.selector]).toEqual([0x12340n, 0xffffffff, 0x1234]);
  });

  test.each([
    ['SS null', 0, SEG.SS, 0, VEC.GP, 0],
    ['SS of another DPL', 0, SEG.SS, SEL.DATA3 & ~3, VEC.GP, SEL.DATA3 & ~3],
    ['SS with another RPL', 0, SEG.SS, SEL.DATA0 | 1, VEC.GP, SEL.DATA0],
    ['SS read-only', 3, SEG.SS, SEL.READ_ONLY | 3, VEC.GP, SEL.READ_ONLY],
    ['SS code', 0, SEG.SS, SEL.CODE0, VEC.GP, SEL.CODE0],
    ['SS not present', 0, SEG.SS, SEL.ABSENT, VEC.SS, SEL.ABSENT],
    ['DS not present', 0, SEG.DS, SEL.ABSENT, VEC.NP, SEL.ABSENT],
    ['DS of the kernel from user', 3, SEG.DS, SEL.DATA0, VEC.GP, SEL.DATA0],
    ['DS with an RPL above its DPL', 0, SEG.DS, SEL.DATA0 | 3, VEC.GP, SEL.DATA0],
    ['DS execute-only', 3, SEG.DS, SEL.EXEC_ONLY | 3, VEC.GP, SEL.EXEC_ONLY],
    ['DS a system segment', 0, SEG.DS, SEL.TSS, VEC.GP, SEL.TSS],
    ['DS beyond the GDT', 0, SEG.DS, 0x108, VEC.GP, 0x108],
    ['DS in a missing LDT', 0, SEG.DS, 0x0c, VEC.GP, 0x0c],
  ] as const)('%s', (_name, cpl, seg, selector, vector, error) => {
    const b = makeBench();
    protectedMode(b, cpl);
    // a fresh LDTR is usable after reset; here there is none
    b.cpu.env.ldtr.attr = 0;
    expect(loadSegment(b.cpu, seg, selector)).toBe(false);
    expect(raised(b)).toEqual([vector, error]);
  });

  test('a null DS is unusable; a conforming code segment can be read from any privilege', () => {
    const b = makeBench();
    protectedMode(b, 3);
    expect(loadSegment(b.cpu, SEG.DS, 3)).toBe(true);
    expect(b.cpu.env.segs[SEG.DS].attr).toBe(0);
    expect(loadSegment(b.cpu, SEG.DS, SEL.CONFORMING | 3)).toBe(true);
  });

  test('64-bit kernel code may load a null SS', () => {
    const b = makeBench();
    longMode(b, 0);
    expect(loadSegment(b.cpu, SEG.SS, 0)).toBe(true);
    expect(loadSegment(b.cpu, SEG.SS, 3)).toBe(false);
  });

  test('a load of SS holds interrupts off and ends the run of code', () => {
    const b = makeBench();
    longMode(b, 0);
    expect(run(b, HELPERS.mov_to_sreg, 2, SEG.SS, SEL.DATA0)).toBe(STATUS.LOOKUP);
    expect(b.cpu.env.inhibit).toBe(2);
  });

  test('MOV to CS is #UD', () => {
    const b = makeBench();
    expect(run(b, HELPERS.mov_to_sreg, 2, SEG.CS, 0)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.UD, -1]);
  });

  test('LDT descriptors are found through LDTR', () => {
    const b = makeBench();
    protectedMode(b, 0);
    poke64(b, LDT_BASE + 8, descriptor(0x777000, 0xfff, 0x92, 0x4));
    expect(run(b, HELPERS.lldt, 2, SEL.LDT)).toBe(STATUS.NEXT);
    expect(loadSegment(b.cpu, SEG.ES, 0x0c)).toBe(true);
    expect(b.cpu.env.segs[SEG.ES].base).toBe(0x777000n);
  });

  test('LSS loads both from memory', () => {
    const b = makeBench();
    protectedMode(b, 0);
    poke32(b, 0x3000, 0x12345678);
    poke16(b, 0x3004, SEL.DATA0);
    b.cpu.env.slowAddr = 0x3000n;
    expect(run(b, HELPERS.lss, 4)).toBe(STATUS.NEXT);
    expect(b.cpu.env.scratch[4]).toBe(0x12345678n);
  });

  test('POP SS from a 16-bit stack moves SP by the old width', () => {
    const b = makeBench();
    b.cpu.env.regs[4] = 0x5_0ffen;
    poke16(b, 0xffe, 0x77);
    expect(run(b, HELPERS.pop_sreg, 2, SEG.SS)).toBe(STATUS.LOOKUP);
    expect(b.cpu.env.regs[4]).toBe(0x51000n);
    expect(b.cpu.env.segs[SEG.SS].base).toBe(0x770n);
  });
});

describe('descriptor-table instructions', () => {
  test('LGDT and SGDT, 32 and 16 bits', () => {
    const b = makeBench();
    protectedMode(b, 0);
    poke16(b, 0x3000, 0x77, 0x5678, 0xff34);
    b.cpu.env.slowAddr = 0x3000n;
    run(b, HELPERS.lgdt, 4);
    expect([b.cpu.env.gdtBase, b.cpu.env.gdtLimit]).toEqual([0xff345678n, 0x77]);
    run(b, HELPERS.lidt, 2);
    expect(b.cpu.env.idtBase).toBe(0x345678n);
    b.cpu.env.slowAddr = 0x3010n;
    run(b, HELPERS.sgdt, 4);
    expect([peek16(b, 0x3010), peek16(b, 0x3012), peek16(b, 0x3014)]).toEqual([0x77, 0x5678, 0xff34]);
  });

  test('64-bit LIDT checks that the base is canonical', () => {
    const b = makeBench();
    longMode(b, 0);
    poke16(b, 0x3000, 0xfff, 0, 0, 0x8000, 0);
    b.cpu.env.slowAddr = 0x3000n;
    expect(run(b, HELPERS.lidt, 8)).toBe(STATUS.EXCEPTION);
    poke16(b, 0x3008, 0xffff);
    expect(run(b, HELPERS.lidt, 8)).toBe(STATUS.NEXT);
    expect(b.cpu.env.idtBase).toBe(0xffff_8000_0000_0000n);
  });

  test('LTR marks the TSS busy, and a busy one is #GP', () => {
    const b = makeBench();
    longMode(b, 0);
    poke32(b, GDT_BASE + SEL.TSS + 8, 0xffff8000);
    expect(run(b, HELPERS.ltr, 2, SEL.TSS)).toBe(STATUS.NEXT);
    expect(b.cpu.env.tr.base).toBe(0xffff8000_00000000n + BigInt(TSS_BASE));
    expect(typeByte(b, SEL.TSS)).toBe(0x8b);
    expect(run(b, HELPERS.ltr, 2, SEL.TSS)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, SEL.TSS]);
  });

  test('LLDT of something else is #GP; null makes the LDT unusable', () => {
    const b = makeBench();
    protectedMode(b, 0);
    expect(run(b, HELPERS.lldt, 2, SEL.DATA0)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, SEL.DATA0]);
    expect(run(b, HELPERS.lldt, 2, 0)).toBe(STATUS.NEXT);
    expect(b.cpu.env.ldtr.attr).toBe(0);
  });

  test('UMIP keeps user code from SGDT, SLDT, SMSW', () => {
    const b = makeBench();
    protectedMode(b, 3);
    for (const name of ['sgdt', 'sidt', 'sldt', 'str', 'smsw']) {
      b.cpu.env.cr4 = 0n;
      b.cpu.env.slowAddr = 0x3000n;
      expect(run(b, HELPERS[name], 4), name).toBe(STATUS.NEXT);
      b.cpu.env.cr4 = 1n << 11n;
      expect(run(b, HELPERS[name], 4), name).toBe(STATUS.EXCEPTION);
      expect(raised(b)).toEqual([VEC.GP, 0]);
    }
  });

  test.each(['lar', 'lsl', 'verr', 'verw', 'lldt', 'ltr', 'sldt', 'str', 'arpl'])(
    '%s is #UD in real mode',
    (name) => {
      const b = makeBench();
      expect(run(b, HELPERS[name], 2, 8, 8)).toBe(STATUS.EXCEPTION);
      expect(raised(b)).toEqual([VEC.UD, -1]);
    },
  );

  test('LAR, LSL, VERR, VERW see what the privilege allows', () => {
    const b = makeBench();
    protectedMode(b, 3);
    const zero = (): boolean => (readEflags(b.cpu.env) & FLAG.ZF) !== 0;
    run(b, HELPERS.lar, 4, 0, SEL.DATA3);
    expect([zero(), b.cpu.env.scratch[4]]).toEqual([true, 0xcff200n]);
    run(b, HELPERS.lar, 4, 55, SEL.DATA0);
    expect([zero(), b.cpu.keepOperand]).toEqual([false, true]);
    run(b, HELPERS.lsl, 4, 0, SEL.DATA3);
    expect([zero(), b.cpu.env.scratch[4]]).toEqual([true, 0xffffffffn]);
    for (const [name, selector, ok] of [
      ['verr', SEL.CODE3, true],
      ['verw', SEL.CODE3, false],
      ['verw', SEL.DATA3, true],
      ['verw', SEL.READ_ONLY, false],
      ['verr', SEL.READ_ONLY, false],
      ['verr', SEL.READ_ONLY | 3, false],
      ['verr', SEL.EXEC_ONLY, false],
      ['verr', SEL.CONFORMING, true],
      ['verr', SEL.TSS, false],
      ['verr', 0, false],
    ] as const) {
      run(b, HELPERS[name], 2, selector);
      const expected = selector === SEL.READ_ONLY || selector === (SEL.READ_ONLY | 3) ? name === 'verr' : ok;
      expect(zero(), `${name} ${selector.toString(16)}`).toBe(expected);
    }
  });

  test('ARPL', () => {
    const b = makeBench();
    protectedMode(b, 0);
    run(b, HELPERS.arpl, 2, 0x10, 0x23);
    expect([b.cpu.env.scratch[4], readEflags(b.cpu.env) & FLAG.ZF]).toEqual([0x13n, FLAG.ZF]);
    run(b, HELPERS.arpl, 2, 0x13, 0x22);
    expect([b.cpu.env.scratch[4], readEflags(b.cpu.env) & FLAG.ZF]).toEqual([0x13n, 0]);
  });
});

describe('far transfers', () => {
  test('real-mode far call and return', () => {
    const b = makeBench();
    const { env } = b.cpu;
    env.regs[4] = 0x1000n;
    env.ip = 0x100n;
    env.nextIp = 0x105n;
    expect(run(b, HELPERS.callf, 2, 0x20, 0x3000)).toBe(STATUS.LOOKUP);
    expect([env.ip, env.segs[SEG.CS].base, env.regs[4]]).toEqual([0x20n, 0x30000n, 0xffcn]);
    expect([peek16(b, 0xffc), peek16(b, 0xffe)]).toEqual([0x105, 0xf000]);
    poke8(b, 0x30020, 0xca, 6, 0);
    env.nextIp = 0x23n;
    expect(run(b, HELPERS.retf, 2, 6)).toBe(STATUS.LOOKUP);
    expect([env.ip, env.segs[SEG.CS].selector, env.regs[4]]).toEqual([0x105n, 0xf000, 0x1006n]);
  });

  test('RETF without an immediate ignores a stale operand word', () => {
    const b = makeBench();
    b.cpu.env.regs[4] = 0x1000n;
    b.cpu.env.segs[SEG.CS].base = 0n;
    b.cpu.env.ip = 0x20n;
    b.cpu.env.nextIp = 0x23n;
    poke8(b, 0x20, 0x66, 0x66, 0xcb);
    expect(run(b, HELPERS.retf, 2, 6)).toBe(STATUS.LOOKUP);
    expect(b.cpu.env.regs[4]).toBe(0x1004n);
  });

  test('a far jump from real to protected mode enters 32-bit code', () => {
    const b = makeBench();
    protectedMode(b, 0);
    const cs = b.cpu.env.segs[SEG.CS];
    cs.attr = 0x9b00;
    cs.limit = 0xffff;
    b.cpu.updateMode();
    expect(b.cpu.env.codeSize).toBe(0);
    expect(run(b, HELPERS.jmpf, 4, 0x123456, SEL.CODE0)).toBe(STATUS.LOOKUP);
    expect([b.cpu.env.codeSize, b.cpu.env.ip, cs.limit]).toEqual([1, 0x123456n, 0xffffffff]);
    expect(typeByte(b, SEL.CODE0)).toBe(0x9b);
  });

  test.each([
    ['null selector', 0, VEC.GP, 0],
    ['data segment', SEL.DATA0, VEC.GP, SEL.DATA0],
    ['code of lower privilege', SEL.CODE3, VEC.GP, SEL.CODE3 & ~3],
    ['absent segment', 0xb0, VEC.NP, 0xb0],
    ['beyond the GDT', 0x100, VEC.GP, 0x100],
  ])('JMPF: %s', (_name, selector, vector, error) => {
    const b = makeBench();
    protectedMode(b, 0);
    poke64(b, GDT_BASE + 0xb0, descriptor(0, 0xfffff, 0x1a, 0xc));
    expect(run(b, HELPERS.jmpf, 4, 0x1000, selector)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([vector, error]);
  });

  test('an offset beyond the limit is #GP(0)', () => {
    const b = makeBench();
    protectedMode(b, 0);
    expect(run(b, HELPERS.jmpf, 4, 0x10000, SEL.CODE16)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, 0]);
  });

  test('a conforming segment is entered at the caller’s privilege', () => {
    const b = makeBench();
    protectedMode(b, 3);
    expect(run(b, HELPERS.jmpf, 4, 0x1000, SEL.CONFORMING)).toBe(STATUS.LOOKUP);
    expect([b.cpu.env.cpl, b.cpu.env.segs[SEG.CS].selector]).toEqual([3, SEL.CONFORMING | 3]);
  });

  test('a call gate to the kernel switches stacks and copies parameters; RETF takes them off both', () => {
    const b = makeBench();
    protectedMode(b, 3);
    const { env } = b.cpu;
    poke64(b, GDT_BASE + SEL.GATE, gate(SEL.CODE0, 0x4000, 0xec, 2));
    poke32(b, TSS_BASE + 4, 0x8000, SEL.DATA0);
    poke32(b, 0x9000, 0xaaaa, 0xbbbb);
    expect(run(b, HELPERS.callf, 4, 0x9999, SEL.GATE | 3)).toBe(STATUS.LOOKUP);
    expect(words(b, 0x7fe8, 6)).toEqual([0x5002, SEL.CODE3, 0xaaaa, 0xbbbb, 0x9000, SEL.DATA3]);
    expect([env.cpl, env.ip, env.regs[4]]).toEqual([0, 0x4000n, 0x7fe8n]);
    env.ip = 0x4000n;
    env.nextIp = 0x4003n;
    poke8(b, 0x4000, 0xca, 8, 0);
    expect(run(b, HELPERS.retf, 4, 8)).toBe(STATUS.LOOKUP);
    expect([env.cpl, env.ip, env.regs[4]]).toEqual([3, 0x5002n, 0x9008n]);
  });

  test('a call gate of the kernel’s cannot be used by user code', () => {
    const b = makeBench();
    protectedMode(b, 3);
    poke64(b, GDT_BASE + SEL.GATE, gate(SEL.CODE0, 0x4000, 0x8c));
    expect(run(b, HELPERS.callf, 4, 0, SEL.GATE)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, SEL.GATE]);
  });

  test('a 64-bit call gate has 16 bytes and pushes 8-byte items', () => {
    const b = makeBench();
    longMode(b, 3);
    poke64(b, GDT_BASE + SEL.GATE, gate(SEL.CODE64, 0x12345678, 0xec), 0xffff8000n);
    poke32(b, TSS_BASE + 4, 0x8000, 0);
    b.cpu.env.slowAddr = 0x3000n;
    poke32(b, 0x3000, 0, SEL.GATE | 3);
    expect(run(b, HELPERS.callf_mem, 4)).toBe(STATUS.LOOKUP);
    expect(quads(b, 0x7fe0, 4)).toEqual([0x5002n, BigInt(SEL.CODE64_3), 0x9000n, BigInt(SEL.DATA3)]);
    expect([b.cpu.env.ip, b.cpu.env.cpl, b.cpu.env.segs[SEG.SS].selector]).toEqual([
      0xffff8000_12345678n,
      0,
      0,
    ]);
  });

  test('LRETQ goes from 64-bit to compatibility code of the same privilege', () => {
    const b = makeBench();
    longMode(b, 0);
    poke64(b, 0x9000, 0x6000n, BigInt(SEL.CODE0));
    expect(run(b, HELPERS.retf, 8)).toBe(STATUS.LOOKUP);
    expect([b.cpu.env.codeSize, b.cpu.env.ip, b.cpu.env.regs[4]]).toEqual([1, 0x6000n, 0x9010n]);
  });
});

describe('task switches', () => {
  const TSS2 = 0x14000;
  function setup(): Bench {
    const b = makeBench();
    protectedMode(b, 0);
    poke64(b, GDT_BASE + SEL.TSS, descriptor(TSS_BASE, 0x67, 0x8b, 0));
    poke64(b, GDT_BASE + SEL.TSS2, descriptor(TSS2, 0x67, 0x89, 0));
    poke64(b, GDT_BASE + SEL.TASK_GATE, gate(SEL.TSS2, 0, 0x85));
    poke32(b, TSS2 + 0x20, 0x6000, 2, ...[1, 2, 3, 4, 0x7000, 6, 7, 8]);
    poke32(b, TSS2 + 0x48, SEL.DATA0, SEL.CODE0, SEL.DATA0, SEL.DATA0, 0, 0);
    writeEflags(b.cpu.env, 2 | FLAG.CF);
    return b;
  }

  test('JMP to a TSS saves the old task and loads the new one', () => {
    const b = setup();
    const { env } = b.cpu;
    env.regs[0] = 0xabcdn;
    expect(run(b, HELPERS.jmpf, 4, 0, SEL.TSS2)).toBe(STATUS.LOOKUP);
    expect([peek32(b, TSS_BASE + 0x20), peek32(b, TSS_BASE + 0x24), peek32(b, TSS_BASE + 0x28)]).toEqual([
      0x5002,
      2 | FLAG.CF,
      0xabcd,
    ]);
    expect([peek32(b, TSS_BASE + 0x4c), peek32(b, TSS_BASE + 0x38)]).toEqual([SEL.CODE0, 0x9000]);
    expect([env.ip, env.regs[0], env.regs[4], env.regs[7]]).toEqual([0x6000n, 1n, 0x7000n, 8n]);
    expect([typeByte(b, SEL.TSS), typeByte(b, SEL.TSS2)]).toEqual([0x89, 0x8b]);
    expect([env.tr.selector, Number(env.cr0) & CR0.TS]).toEqual([SEL.TSS2, CR0.TS]);
  });

  test('CALL links the tasks and sets NT; IRET goes back', () => {
    const b = setup();
    const { env } = b.cpu;
    expect(run(b, HELPERS.callf, 4, 0, SEL.TASK_GATE)).toBe(STATUS.LOOKUP);
    expect(peek16(b, TSS2)).toBe(SEL.TSS);
    expect(readEflags(env) & FLAG.NT).toBe(FLAG.NT);
    expect([typeByte(b, SEL.TSS), typeByte(b, SEL.TSS2)]).toEqual([0x8b, 0x8b]);
    env.nextIp = 0x6001n;
    expect(run(b, HELPERS.iret, 4)).toBe(STATUS.LOOKUP);
    expect([env.ip, env.regs[4], env.tr.selector]).toEqual([0x5002n, 0x9000n, SEL.TSS]);
    expect(typeByte(b, SEL.TSS2)).toBe(0x89);
    // the task that was left resumes after its IRET, without NT
    expect([peek32(b, TSS2 + 0x20), peek32(b, TSS2 + 0x24) & FLAG.NT]).toEqual([0x6001, 0]);
  });

  test('an exception through a task gate pushes its error code on the new task’s stack', () => {
    const b = setup();
    poke64(b, IDT_BASE + 8 * 13, gate(SEL.TSS2, 0, 0x85));
    b.cpu.env.ip = 0x5000n;
    expect(run(b, HELPERS.int, 4, 0x99)).toBe(STATUS.LOOKUP);
    expect([b.cpu.env.ip, b.cpu.env.regs[4]]).toEqual([0x6000n, 0x6ffcn]);
    expect(peek32(b, 0x6ffc)).toBe(0x99 * 8 + 2);
    expect(peek32(b, TSS_BASE + 0x20)).toBe(0x5000);
  });

  test.each([
    ['a busy TSS', 0x8b, 0x67, VEC.GP],
    ['a TSS that is too small', 0x89, 0x66, VEC.TS],
    ['an absent TSS', 0x09, 0x67, VEC.NP],
  ])('%s is refused', (_name, type, limit, vector) => {
    const b = setup();
    poke64(b, GDT_BASE + SEL.TSS2, descriptor(TSS2, limit, type, 0));
    expect(run(b, HELPERS.jmpf, 4, 0, SEL.TSS2)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([vector, SEL.TSS2]);
    expect(b.cpu.env.tr.selector).toBe(SEL.TSS);
  });

  test('a bad segment in the new task faults there, with #TS', () => {
    const b = setup();
    poke32(b, TSS2 + 0x54, SEL.CODE0 | 3, 0);
    poke32(b, TSS2 + 0x50, SEL.CODE0);
    expect(run(b, HELPERS.jmpf, 4, 0, SEL.TSS2)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.TS, SEL.CODE0]);
    expect([b.cpu.env.tr.selector, b.cpu.env.ip]).toEqual([SEL.TSS2, 0x6000n]);
  });

  test('to a 16-bit task', () => {
    const b = setup();
    poke64(b, GDT_BASE + SEL.TSS2, descriptor(TSS2, 0x2b, 0x81, 0));
    poke16(
      b,
      TSS2 + 0x0e,
      0x600,
      2,
      1,
      2,
      3,
      4,
      0x700,
      6,
      7,
      8,
      SEL.DATA0,
      SEL.CODE16,
      SEL.DATA16,
      SEL.DATA0,
      0,
    );
    expect(run(b, HELPERS.jmpf, 4, 0, SEL.TSS2)).toBe(STATUS.LOOKUP);
    expect([b.cpu.env.ip, b.cpu.env.regs[4] & 0xffffn, b.cpu.env.codeSize]).toEqual([0x600n, 0x700n, 0]);
  });

  test('to a virtual-8086 task', () => {
    const b = setup();
    poke32(b, TSS2 + 0x24, 2 | FLAG.VM);
    poke32(b, TSS2 + 0x48, 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000);
    poke32(b, TSS2 + 0x20, 0x100);
    expect(run(b, HELPERS.jmpf, 4, 0, SEL.TSS2)).toBe(STATUS.LOOKUP);
    expect([b.cpu.env.cpl, b.cpu.env.segs[SEG.CS].base, b.cpu.env.codeSize]).toEqual([3, 0x20000n, 0]);
  });

  test('there are none in long mode', () => {
    const b = makeBench();
    longMode(b, 0);
    b.cpu.env.slowAddr = 0x3000n;
    poke32(b, 0x3000, 0, SEL.TSS);
    expect(run(b, HELPERS.jmpf_mem, 4)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, SEL.TSS]);
  });

  test('an external interrupt through a task gate resumes after IRET', () => {
    const b = setup();
    poke64(b, IDT_BASE + 8 * 0x20, gate(SEL.TSS2, 0, 0x85));
    expect(interrupt(b.cpu, 0x20)).toBe(true);
    expect(b.cpu.env.regs[4]).toBe(0x7000n);
    run(b, HELPERS.iret, 4);
    expect(b.cpu.env.ip).toBe(0x5000n);
  });
});

describe('stack instructions', () => {
  test('PUSHA and POPA', () => {
    const b = makeBench();
    protectedMode(b, 0);
    const { regs } = b.cpu.env;
    for (let i = 0; i < 8; i++) if (i !== 4) regs[i] = BigInt(i + 0x10);
    run(b, HELPERS.pusha, 4);
    expect(words(b, 0x9000 - 32, 8)).toEqual([0x17, 0x16, 0x15, 0x9000, 0x13, 0x12, 0x11, 0x10]);
    for (let i = 0; i < 8; i++) if (i !== 4) regs[i] = 0n;
    run(b, HELPERS.popa, 4);
    expect([...regs.subarray(0, 8)]).toEqual([0x10n, 0x11n, 0x12n, 0x13n, 0x9000n, 0x15n, 0x16n, 0x17n]);
  });

  test('ENTER with nested frames copies the display', () => {
    const b = makeBench();
    protectedMode(b, 0);
    b.cpu.env.regs[5] = 0xa000n;
    poke32(b, 0xa000 - 8, 0x222, 0x111);
    expect(run(b, HELPERS.enter, 4, 0x10, 3)).toBe(STATUS.NEXT);
    expect(words(b, 0x9000 - 16, 4)).toEqual([0x8ffc, 0x222, 0x111, 0xa000]);
    expect([b.cpu.env.regs[5], b.cpu.env.regs[4]]).toEqual([0x8ffcn, 0x9000n - 16n - 16n]);
  });

  test('ENTER in 64-bit code', () => {
    const b = makeBench();
    longMode(b, 0);
    b.cpu.env.regs[5] = 0x1234_5678_9abcn;
    run(b, HELPERS.enter, 8, 0x20, 0);
    expect(quads(b, 0x8ff8, 1)).toEqual([0x1234_5678_9abcn]);
    expect([b.cpu.env.regs[5], b.cpu.env.regs[4]]).toEqual([0x8ff8n, 0x8fd8n]);
  });

  test('a push beyond an expand-down segment’s limit is #SS(0)', () => {
    const b = makeBench();
    protectedMode(b, 0);
    const ss = b.cpu.env.segs[SEG.SS];
    ss.attr = 0xc09700;
    ss.limit = 0x8fff;
    expect(run(b, HELPERS.pushf, 4)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.SS, 0]);
    ss.limit = 0x7fff;
    expect(run(b, HELPERS.pushf, 4)).toBe(STATUS.NEXT);
  });
});
