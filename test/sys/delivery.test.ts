import { describe, expect, test } from 'vitest';
import { SEG } from '../../src/cpu/env.ts';
import { FLAG, writeEflags, readEflags } from '../../src/cpu/flags.ts';
import { deliver, interrupt, KIND, nmi } from '../../src/cpu/sys/exceptions.ts';
import { HELPERS } from '../../src/cpu/sys/helpers.ts';
import { SPECIAL, STATUS, VEC } from '../../src/cpu/sys/words.ts';
import {
  type Bench,
  gate,
  IDT_BASE,
  longMode,
  makeBench,
  host,
  PD,
  peek16,
  poke16,
  poke32,
  poke64,
  protectedMode,
  quads,
  raised,
  run,
  SEL,
  TSS_BASE,
  words,
} from './bench-machine.ts';

const FLAGS = 2 | FLAG.IF | FLAG.CF | FLAG.ZF;

function gate64(b: Bench, vector: number, selector: number, offset: bigint, type: number, ist = 0): void {
  poke64(b, IDT_BASE + vector * 16, gate(selector, Number(offset & 0xffffffffn), type, ist), offset >> 32n);
}

describe('real mode', () => {
  test('pushes FLAGS, CS, IP and goes through the vector table', () => {
    const b = makeBench();
    const { env } = b.cpu;
    poke16(b, 8 * 4, 0x1234, 0xf000);
    env.regs[4] = 0x7000n;
    env.ip = 0x100n;
    b.cpu.env.segs[SEG.CS].selector = 0x2000;
    writeEflags(env, 2 | FLAG.IF | FLAG.TF | FLAG.AC | FLAG.CF);
    expect(interrupt(b.cpu, 8)).toBe(true);
    expect(env.regs[4]).toBe(0x6ffan);
    expect([peek16(b, 0x6ffa), peek16(b, 0x6ffc), peek16(b, 0x6ffe)]).toEqual([0x100, 0x2000, 0x303]);
    expect(env.ip).toBe(0x1234n);
    expect(env.segs[SEG.CS].base).toBe(0xf0000n);
    expect(readEflags(env)).toBe(2 | FLAG.CF);
  });

  test('the stack pointer wraps at 64 KiB', () => {
    const b = makeBench();
    b.cpu.env.regs[4] = 0xaaaa0002n;
    b.cpu.env.ip = 0x77n;
    expect(interrupt(b.cpu, 8)).toBe(true);
    expect(b.cpu.env.regs[4]).toBe(0xaaaafffcn);
    expect(peek16(b, 0xfffc)).toBe(0x77);
    expect(peek16(b, 0)).toBe(2);
  });

  test('a vector beyond the table, and no vector for that either, shuts down', () => {
    const b = makeBench();
    b.cpu.env.idtLimit = 3;
    expect(deliver(b.cpu, VEC.UD, -1, KIND.FAULT)).toBe(false);
    expect(b.cpu.env.exitDetail).toBe(SPECIAL.SHUTDOWN);
  });
});

describe('protected mode', () => {
  function setup(cpl: 0 | 3): Bench {
    const b = makeBench();
    protectedMode(b, cpl);
    writeEflags(b.cpu.env, FLAGS);
    poke32(b, TSS_BASE + 4, 0x8000, SEL.DATA0);
    return b;
  }

  test('same privilege: EFLAGS, CS, EIP and the error code', () => {
    const b = setup(0);
    poke64(b, IDT_BASE + 13 * 8, gate(SEL.CODE0, 0xabc00000, 0x8e));
    expect(deliver(b.cpu, VEC.GP, 0x58, KIND.FAULT)).toBe(true);
    expect(words(b, 0x8ff0, 4)).toEqual([0x58, 0x5000, SEL.CODE0, FLAGS | FLAG.RF]);
    expect(b.cpu.env.regs[4]).toBe(0x8ff0n);
    expect(b.cpu.env.ip).toBe(0xabc00000n);
    expect(readEflags(b.cpu.env)).toBe(2 | FLAG.CF | FLAG.ZF);
  });

  test('a trap gate keeps IF, and an interrupt pushes no RF', () => {
    const b = setup(0);
    poke64(b, IDT_BASE + 0x20 * 8, gate(SEL.CODE0, 0x4000, 0x8f));
    expect(interrupt(b.cpu, 0x20)).toBe(true);
    expect(words(b, 0x8ff4, 3)).toEqual([0x5000, SEL.CODE0, FLAGS]);
    expect(readEflags(b.cpu.env) & FLAG.IF).toBe(FLAG.IF);
  });

  test('from user to kernel: the stack comes from the TSS', () => {
    const b = setup(3);
    poke64(b, IDT_BASE + 0x80 * 8, gate(SEL.CODE0, 0x4000, 0xee));
    expect(run(b, HELPERS.int, 4, 0x80)).toBe(STATUS.LOOKUP);
    expect(words(b, 0x7fec, 5)).toEqual([0x5002, SEL.CODE3, FLAGS, 0x9000, SEL.DATA3]);
    const { env } = b.cpu;
    expect([env.cpl, env.segs[SEG.CS].selector, env.segs[SEG.SS].selector]).toEqual([
      0,
      SEL.CODE0,
      SEL.DATA0,
    ]);
    expect(env.regs[4]).toBe(0x7fecn);
    expect(env.codeSize).toBe(1);
  });

  test('a 16-bit gate pushes words', () => {
    const b = setup(0);
    poke64(b, IDT_BASE + 0x20 * 8, gate(SEL.CODE0, 0x1234_4000, 0x86));
    expect(interrupt(b.cpu, 0x20)).toBe(true);
    expect(b.cpu.env.ip).toBe(0x4000n);
    expect([peek16(b, 0x8ffa), peek16(b, 0x8ffc), peek16(b, 0x8ffe)]).toEqual([0x5000, SEL.CODE0, FLAGS]);
  });

  test('INT to a gate of lower privilege is #GP(vector * 8 + 2) at the INT', () => {
    const b = setup(3);
    poke64(b, IDT_BASE + 0x80 * 8, gate(SEL.CODE0, 0x4000, 0x8e));
    poke64(b, IDT_BASE + 13 * 8, gate(SEL.CODE0, 0x6000, 0x8e));
    expect(run(b, HELPERS.int, 4, 0x80)).toBe(STATUS.LOOKUP);
    expect(words(b, 0x7fe8, 6)).toEqual([0x402, 0x5000, SEL.CODE3, FLAGS | FLAG.RF, 0x9000, SEL.DATA3]);
    expect(b.cpu.env.ip).toBe(0x6000n);
  });

  test('an absent gate is #NP with EXT for an external interrupt', () => {
    const b = setup(0);
    poke64(b, IDT_BASE + 0x20 * 8, gate(SEL.CODE0, 0x4000, 0x0e));
    poke64(b, IDT_BASE + 11 * 8, gate(SEL.CODE0, 0x6000, 0x8e));
    expect(interrupt(b.cpu, 0x20)).toBe(true);
    expect(words(b, 0x8ff0, 1)).toEqual([0x103]);
  });

  test('#GP while #GP is delivered is a double fault', () => {
    const b = setup(0);
    poke64(b, IDT_BASE + 13 * 8, gate(SEL.DATA0, 0x4000, 0x8e));
    poke64(b, IDT_BASE + 8 * 8, gate(SEL.CODE0, 0x6000, 0x8e));
    expect(deliver(b.cpu, VEC.GP, 0, KIND.FAULT)).toBe(true);
    expect(b.cpu.env.ip).toBe(0x6000n);
    expect(words(b, 0x8ff0, 2)).toEqual([0, 0x5000]);
  });

  test('#GP while #UD is delivered is delivered as such', () => {
    const b = setup(0);
    poke64(b, IDT_BASE + 13 * 8, gate(SEL.CODE0, 0x6000, 0x8e));
    expect(deliver(b.cpu, VEC.UD, -1, KIND.FAULT)).toBe(true);
    expect(b.cpu.env.ip).toBe(0x6000n);
    // gate 6: index 6, IDT, EXT
    expect(words(b, 0x8ff0, 1)).toEqual([0x33]);
  });

  test('no handler at all is a triple fault', () => {
    const b = setup(0);
    expect(deliver(b.cpu, VEC.PF, 0, KIND.FAULT)).toBe(false);
    expect(b.cpu.env.ip).toBe(0x5000n);
    expect(b.cpu.env.regs[4]).toBe(0x9000n);
  });

  test.each([
    ['null stack segment', 0, VEC.TS, 1],
    ['stack segment beyond the GDT', 0x1f8, VEC.TS, 0x1f9],
    ['stack segment of another privilege', SEL.DATA3, VEC.TS, (SEL.DATA3 & ~3) | 1],
    ['code as stack segment', SEL.CODE0, VEC.TS, SEL.CODE0 | 1],
  ])('inner stack: %s', (_name, selector, vector, error) => {
    const b = setup(3);
    poke32(b, TSS_BASE + 4, 0x8000, selector);
    poke64(b, IDT_BASE + 0x20 * 8, gate(SEL.CODE0, 0x4000, 0x8e));
    const { env } = b.cpu;
    // no handler for the fault: what was raised first is seen at the double fault
    const seen: [number, number][] = [];
    const raise = b.cpu.raise.bind(b.cpu);
    b.cpu.raise = (v: number, e: number) => {
      seen.push([v, e]);
      return raise(v, e);
    };
    interrupt(b.cpu, 0x20);
    expect(seen[0]).toEqual([vector, error]);
    expect(env.cpl).toBe(3);
  });

  test('a page fault in the handler’s stack leaves registers as they were', () => {
    const b = setup(3);
    b.cpu.env.cr3 = 0x100000n;
    poke32(b, 0x100000, 0x103007);
    // identity for the first 4 MiB but for page 7
    for (let page = 0; page < 1024; page++) poke32(b, 0x103000 + page * 4, page === 7 ? 0 : page * 4096 + 7);
    b.cpu.env.cr0 |= 0x80010000n;
    b.cpu.mmu.tlb.flushAll();
    poke32(b, TSS_BASE + 4, 0x8004, SEL.DATA0);
    poke64(b, IDT_BASE + 0x20 * 8, gate(SEL.CODE0, 0x4000, 0x8e));
    expect(interrupt(b.cpu, 0x20)).toBe(false);
    expect(b.cpu.env.cr2 >> 12n).toBe(7n);
    expect(b.cpu.env.regs[4]).toBe(0x9000n);
    expect(b.cpu.env.cpl).toBe(3);
    expect(words(b, 0x8000, 1)).toEqual([0]);
  });

  test('TF and NT are cleared; IRET brings them back', () => {
    const b = setup(0);
    writeEflags(b.cpu.env, FLAGS | FLAG.TF);
    poke64(b, IDT_BASE + 1 * 8, gate(SEL.CODE0, 0x4000, 0x8f));
    expect(deliver(b.cpu, VEC.DB, -1, KIND.TRAP)).toBe(true);
    expect(readEflags(b.cpu.env) & FLAG.TF).toBe(0);
    expect(run(b, HELPERS.iret, 4)).toBe(STATUS.LOOKUP);
    expect(readEflags(b.cpu.env)).toBe(FLAGS | FLAG.TF);
    expect([b.cpu.env.ip, b.cpu.env.regs[4]]).toEqual([0x5000n, 0x9000n]);
    expect(b.cpu.env.exitRequest).toBe(1);
  });

  test('an NMI is masked until IRET', () => {
    const b = setup(0);
    poke64(b, IDT_BASE + 2 * 8, gate(SEL.CODE0, 0x4000, 0x8e));
    expect(nmi(b.cpu)).toBe(true);
    expect(b.cpu.env.nmiMasked).toBe(1);
    run(b, HELPERS.iret, 4);
    expect(b.cpu.env.nmiMasked).toBe(0);
  });

  test('interrupt and return across privilege', () => {
    const b = setup(3);
    poke64(b, IDT_BASE + 0x20 * 8, gate(SEL.CODE0, 0x4000, 0x8e));
    interrupt(b.cpu, 0x20);
    for (const seg of [SEG.DS, SEG.ES]) {
      b.cpu.env.segs[seg].selector = SEL.DATA0;
      b.cpu.env.segs[seg].attr = 0xc09300;
    }
    expect(run(b, HELPERS.iret, 4)).toBe(STATUS.LOOKUP);
    const { env } = b.cpu;
    expect([env.cpl, env.segs[SEG.CS].selector, env.segs[SEG.SS].selector]).toEqual([
      3,
      SEL.CODE3,
      SEL.DATA3,
    ]);
    expect([env.ip, env.regs[4], readEflags(env)]).toEqual([0x5000n, 0x9000n, FLAGS]);
    // the kernel's data segments are taken away, the user's stay
    expect([env.segs[SEG.DS].selector, env.segs[SEG.FS].selector]).toEqual([0, SEL.DATA3]);
  });

  test('user code cannot change IF or IOPL by IRET', () => {
    const b = setup(3);
    poke32(b, 0x9000, 0x6000, SEL.CODE3, FLAG.IOPL | FLAG.DF);
    expect(run(b, HELPERS.iret, 4)).toBe(STATUS.LOOKUP);
    expect(readEflags(b.cpu.env)).toBe(2 | FLAG.IF | FLAG.DF);
  });

  test.each([
    ['null CS', 0, VEC.GP, 0],
    ['inner privilege', SEL.CODE0, VEC.GP, SEL.CODE0],
    ['data as CS', SEL.DATA3, VEC.GP, SEL.DATA3 & ~3],
    ['CS beyond the GDT', 0x1fb, VEC.GP, 0x1f8],
  ])('IRET: %s', (_name, selector, vector, error) => {
    const b = setup(3);
    poke32(b, 0x9000, 0x6000, selector, 2);
    expect(run(b, HELPERS.iret, 4)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([vector, error]);
    expect(b.cpu.env.regs[4]).toBe(0x9000n);
  });
});

describe('virtual-8086 mode', () => {
  function enter(iopl = 0): Bench {
    const b = makeBench();
    protectedMode(b, 0, 0x8f00);
    poke32(b, TSS_BASE + 4, 0x8000, SEL.DATA0);
    poke32(
      b,
      0x8f00,
      0x100,
      0x2000,
      FLAG.VM | FLAG.IF | 2 | (iopl << 12),
      0xfff0,
      0x3000,
      0x11,
      0x22,
      0x33,
      0x44,
    );
    expect(run(b, HELPERS.iret, 4)).toBe(STATUS.LOOKUP);
    return b;
  }

  test('IRET enters it', () => {
    const { env } = enter().cpu;
    expect([env.cpl, env.codeSize, env.stackSize]).toEqual([3, 0, 0]);
    expect(env.segs[SEG.CS].base).toBe(0x20000n);
    expect(env.segs.map((s) => s.selector)).toEqual([0x11, 0x2000, 0x3000, 0x22, 0x33, 0x44]);
    expect([env.ip, env.regs[4]]).toEqual([0x100n, 0xfff0n]);
  });

  test('an interrupt leaves it with nine words on the stack and null segments', () => {
    const b = enter();
    poke64(b, IDT_BASE + 0x20 * 8, gate(SEL.CODE0, 0x4000, 0x8e));
    expect(interrupt(b.cpu, 0x20)).toBe(true);
    expect(words(b, 0x8000 - 36, 9)).toEqual([
      0x100,
      0x2000,
      FLAG.VM | FLAG.IF | 2,
      0xfff0,
      0x3000,
      0x11,
      0x22,
      0x33,
      0x44,
    ]);
    const { env } = b.cpu;
    expect(env.segs.map((s) => s.selector)).toEqual([0, SEL.CODE0, SEL.DATA0, 0, 0, 0]);
    expect([env.cpl, readEflags(env) & (FLAG.VM | FLAG.IF)]).toEqual([0, 0]);
  });

  test('a handler that is not at privilege 0 is #GP(selector)', () => {
    const b = enter();
    poke64(b, IDT_BASE + 0x20 * 8, gate(SEL.CODE3, 0x4000, 0xee));
    poke64(b, IDT_BASE + 13 * 8, gate(SEL.CODE0, 0x6000, 0x8e));
    expect(interrupt(b.cpu, 0x20)).toBe(true);
    expect(words(b, 0x8000 - 40, 1)).toEqual([(SEL.CODE3 & ~3) | 1]);
  });

  test.each(['int', 'pushf', 'popf', 'iret'])('%s with IOPL < 3 is #GP(0)', (name) => {
    const b = enter();
    expect(run(b, HELPERS[name], 2, 0x21)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, 0]);
  });

  test('PUSHF and POPF with IOPL 3 work on 16 bits and cannot change IOPL', () => {
    const b = enter(3);
    expect(run(b, HELPERS.pushf, 2)).toBe(STATUS.NEXT);
    expect(peek16(b, 0x3ffee)).toBe(0x3202);
    poke16(b, 0x3ffee, 0x0001);
    run(b, HELPERS.popf, 2);
    expect(readEflags(b.cpu.env)).toBe(FLAG.VM | FLAG.IOPL | FLAG.CF | 2);
  });
});

describe('long mode', () => {
  function setup(cpl: 0 | 3, sp = 0x9008): Bench {
    const b = makeBench();
    longMode(b, cpl, sp);
    writeEflags(b.cpu.env, FLAGS);
    poke64(b, TSS_BASE + 0x0, 0n);
    poke32(b, TSS_BASE + 4, 0x8008, 0);
    poke32(b, TSS_BASE + 0x24, 0x7000, 0);
    return b;
  }

  test('same privilege: the frame is aligned to 16 bytes and always has SS:RSP', () => {
    const b = setup(0);
    gate64(b, 14, SEL.CODE64, 0xffff_8000_1234_5678n, 0x8e);
    expect(deliver(b.cpu, VEC.PF, 2, KIND.FAULT)).toBe(true);
    expect(quads(b, 0x8fd0, 6)).toEqual([
      2n,
      0x5000n,
      BigInt(SEL.CODE64),
      BigInt(FLAGS | FLAG.RF),
      0x9008n,
      BigInt(SEL.DATA0),
    ]);
    expect(b.cpu.env.regs[4]).toBe(0x8fd0n);
    expect(b.cpu.env.ip).toBe(0xffff_8000_1234_5678n);
  });

  test('from user to kernel: RSP0, null SS', () => {
    const b = setup(3);
    gate64(b, 0x20, SEL.CODE64, 0x4000n, 0x8e);
    expect(interrupt(b.cpu, 0x20)).toBe(true);
    expect(quads(b, 0x7fd8, 5)).toEqual([
      0x5000n,
      BigInt(SEL.CODE64_3),
      BigInt(FLAGS),
      0x9008n,
      BigInt(SEL.DATA3),
    ]);
    const { env } = b.cpu;
    expect([env.segs[SEG.SS].selector, env.segs[SEG.SS].attr, env.cpl]).toEqual([0, 0, 0]);
  });

  test('an IST stack is used whatever the privilege', () => {
    const b = setup(0);
    gate64(b, 2, SEL.CODE64, 0x4000n, 0x8e, 1);
    expect(nmi(b.cpu)).toBe(true);
    expect(b.cpu.env.regs[4]).toBe(0x7000n - 40n);
    expect(quads(b, 0x7000 - 16, 2)).toEqual([0x9008n, BigInt(SEL.DATA0)]);
  });

  test.each([
    ['a 32-bit code segment', SEL.CODE0, 0x4000n, 0x8e, SEL.CODE0 | 1],
    ['a null selector', 0, 0x4000n, 0x8e, 1],
    ['a non-canonical target', SEL.CODE64, 0x8000_0000_0000n, 0x8e, 0],
    ['a task gate', SEL.CODE64, 0x4000n, 0x85, 0x103],
  ])('gate with %s is #GP', (_name, selector, offset, type, error) => {
    const b = setup(0);
    gate64(b, 0x20, selector, offset, type);
    gate64(b, 13, SEL.CODE64, 0x6000n, 0x8e);
    expect(interrupt(b.cpu, 0x20)).toBe(true);
    expect(b.cpu.env.ip).toBe(0x6000n);
    expect(quads(b, Number(b.cpu.env.regs[4]), 1)).toEqual([BigInt(error)]);
  });

  test('a page fault while a page fault is delivered is a double fault, and one in that a triple fault', () => {
    const b = setup(3);
    gate64(b, 14, SEL.CODE64, 0x4000n, 0x8e);
    gate64(b, 8, SEL.CODE64, 0x6000n, 0x8e, 1);
    poke32(b, TSS_BASE + 4, 0x500000, 0);
    expect(deliver(b.cpu, VEC.PF, 4, KIND.FAULT)).toBe(true);
    expect(b.cpu.env.ip).toBe(0x6000n);
    expect(b.cpu.env.cr2 >> 12n).toBe(0x4ffn);
    expect(quads(b, 0x7000 - 48, 2)).toEqual([0n, 0x5000n]);
    const c = setup(3);
    gate64(c, 14, SEL.CODE64, 0x4000n, 0x8e);
    gate64(c, 8, SEL.CODE64, 0x6000n, 0x8e);
    poke32(c, TSS_BASE + 4, 0x500000, 0);
    expect(deliver(c.cpu, VEC.PF, 4, KIND.FAULT)).toBe(false);
  });

  test('a non-canonical stack met by an external interrupt is #SS with EXT', () => {
    const b = setup(0);
    b.cpu.env.regs[4] = 0x8000_0000_1000n;
    gate64(b, 0x20, SEL.CODE64, 0x4000n, 0x8e);
    gate64(b, 12, SEL.CODE64, 0x6000n, 0x8e, 1);
    expect(interrupt(b.cpu, 0x20)).toBe(true);
    expect(b.cpu.env.ip).toBe(0x6000n);
    expect(quads(b, 0x7000 - 48, 1)).toEqual([1n]);
  });

  test('IRETQ returns to user, to kernel with a null SS, and to compatibility mode', () => {
    const b = setup(0, 0x9000);
    const { env } = b.cpu;
    poke64(b, 0x9000, 0x6000n, BigInt(SEL.CODE64_3), BigInt(FLAGS), 0x7ff8n, BigInt(SEL.DATA3));
    expect(run(b, HELPERS.iret, 8)).toBe(STATUS.LOOKUP);
    expect([env.ip, env.regs[4], env.cpl, env.codeSize]).toEqual([0x6000n, 0x7ff8n, 3, 2]);
    longMode(b, 0, 0x9000);
    poke64(b, 0x9000, 0x6000n, BigInt(SEL.CODE64), BigInt(FLAGS), 0x7ff8n, 0n);
    expect(run(b, HELPERS.iret, 8)).toBe(STATUS.LOOKUP);
    expect([env.ip, env.regs[4], env.cpl]).toEqual([0x6000n, 0x7ff8n, 0]);
    longMode(b, 0, 0x9000);
    poke64(b, 0x9000, 0x6000n, BigInt(SEL.CODE3), BigInt(FLAGS), 0x7ff8n, BigInt(SEL.DATA3));
    expect(run(b, HELPERS.iret, 8)).toBe(STATUS.LOOKUP);
    expect([env.ip, env.regs[4], env.cpl, env.codeSize, env.stackSize]).toEqual([0x6000n, 0x7ff8n, 3, 1, 1]);
  });

  test('IRETQ to user keeps the base of a null FS', () => {
    const b = setup(0, 0x9000);
    b.cpu.env.segs[SEG.FS].base = 0x7f00_1234_5000n;
    poke64(b, 0x9000, 0x6000n, BigInt(SEL.CODE64_3), BigInt(FLAGS), 0x7ff8n, BigInt(SEL.DATA3));
    run(b, HELPERS.iret, 8);
    expect(b.cpu.env.segs[SEG.FS].base).toBe(0x7f00_1234_5000n);
  });

  test('IRETQ to user with a null SS, or to a non-canonical address, is #GP(0)', () => {
    const b = setup(0, 0x9000);
    poke64(b, 0x9000, 0x6000n, BigInt(SEL.CODE64_3), BigInt(FLAGS), 0x7ff8n, 3n);
    expect(run(b, HELPERS.iret, 8)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, 0]);
    poke64(b, 0x9000, 0x8000_0000_0000n, BigInt(SEL.CODE64_3), BigInt(FLAGS), 0x7ff8n, BigInt(SEL.DATA3));
    expect(run(b, HELPERS.iret, 8)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, 0]);
    expect(b.cpu.env.cpl).toBe(0);
  });

  test('IRET with NT is #GP(0)', () => {
    const b = setup(0);
    writeEflags(b.cpu.env, FLAGS | FLAG.NT);
    expect(run(b, HELPERS.iret, 8)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, 0]);
  });

  test('the accessed bit of the handler’s code segment is set', () => {
    const b = setup(0);
    gate64(b, 0x20, SEL.CODE64, 0x4000n, 0x8e);
    interrupt(b.cpu, 0x20);
    expect(b.cpu.u8[host(0x10000) + SEL.CODE64 + 5]).toBe(0x9b);
  });

  test('SMAP does not stop the processor’s own accesses, supervisor pages do', () => {
    const b = setup(3);
    gate64(b, 0x20, SEL.CODE64, 0x4000n, 0x8e);
    poke64(b, PD, 0x83n, 0x200083n);
    b.cpu.env.cr4 |= 1n << 21n;
    b.cpu.mmu.tlb.flushAll();
    expect(interrupt(b.cpu, 0x20)).toBe(true);
    poke64(b, PD, 0x87n, 0x200087n);
    b.cpu.mmu.tlb.flushAll();
    // tables in user pages: every access faults
    expect(interrupt(b.cpu, 0x20)).toBe(false);
  });
});
