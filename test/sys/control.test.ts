import { describe, expect, test } from 'vitest';
import { MMU, SEG } from '../../src/cpu/env.ts';
import { FLAG, readEflags, writeEflags } from '../../src/cpu/flags.ts';
import { getEflags, setEflags } from '../../src/cpu/sys/eflags.ts';
import { apicIdOf, CpuModel, CpuModelError } from '../../src/cpu/sys/cpuid.ts';
import { debugActive, debugTrap, instructionBreakpoint } from '../../src/cpu/sys/debug.ts';
import { HELPERS } from '../../src/cpu/sys/helpers.ts';
import { readMsr, writeMsr, MSR } from '../../src/cpu/sys/msr.ts';
import { ACCESS } from '../../src/cpu/sys/page-walk.ts';
import { init, startUp } from '../../src/cpu/sys/reset.ts';
import { CR0, CR4, EFER, STATUS, VEC } from '../../src/cpu/sys/words.ts';
import {
  type Bench,
  host,
  longMode,
  makeBench,
  PD,
  PDPT,
  PML4,
  peek32,
  poke16,
  poke32,
  poke64,
  poke8,
  protectedMode,
  raised,
  run,
  SEL,
  TSS_BASE,
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

describe('MSRs', () => {
  function rdmsr(b: Bench, index: number): bigint | string {
    b.cpu.env.regs[1] = BigInt(index >>> 0);
    if (run(b, HELPERS.rdmsr, 4) === STATUS.EXCEPTION) return `#GP(${b.cpu.env.excError})`;
    return (b.cpu.env.regs[2] << 32n) | b.cpu.env.regs[0];
  }
  function wrmsr(b: Bench, index: number, value: bigint): string {
    b.cpu.env.regs[1] = BigInt(index >>> 0);
    b.cpu.env.regs[0] = value & 0xffffffffn;
    b.cpu.env.regs[2] = value >> 32n;
    return run(b, HELPERS.wrmsr, 4) === STATUS.EXCEPTION ? `#GP(${b.cpu.env.excError})` : 'ok';
  }

  test('an unknown one is #GP(0)', () => {
    const b = makeBench();
    expect(rdmsr(b, 0x12345)).toBe('#GP(0)');
    expect(wrmsr(b, 0x12345, 0n)).toBe('#GP(0)');
    // AMD's configuration registers read as 0
    expect(rdmsr(b, 0xc0011029)).toBe(0n);
    expect(rdmsr(makeBench('max,vendor=GenuineIntel'), 0xc0011029)).toBe('#GP(0)');
  });

  test.each([
    ['LSTAR', MSR.LSTAR, 0xffff8000_00001234n],
    ['FS_BASE', MSR.FS_BASE, 0x7fff_1234_5678n],
    ['KERNEL_GS_BASE', MSR.KERNEL_GS_BASE, 0xffffffff_80000000n],
    ['STAR', MSR.STAR, 0x0023001000000000n],
    ['PAT', MSR.PAT, 0x0407050600070106n],
    ['MTRRphysBase3', 0x206, 0xc0000006n],
    ['MTRRfix4K_F8000', 0x26f, 0x0606060606060606n],
    ['SYSENTER_EIP', MSR.SYSENTER_EIP, 0xffffffff_81000000n],
    ['TSC_AUX', MSR.TSC_AUX, 5n],
  ])('%s keeps its value', (_name, index, value) => {
    const b = makeBench();
    expect(wrmsr(b, index, value)).toBe('ok');
    expect(rdmsr(b, index)).toBe(value);
  });

  test.each([
    ['non-canonical LSTAR', MSR.LSTAR, 0x8000_0000_0000n],
    ['non-canonical GS_BASE', MSR.GS_BASE, 0x1234_8000_0000_0000n],
    ['memory type 2 in the PAT', MSR.PAT, 2n],
    ['UC- in an MTRR', 0x250, 7n],
    ['reserved bits of EFER', MSR.EFER, 2n],
    ['MTRRCAP', MSR.MTRRCAP, 0n],
    ['a 64-bit TSC_AUX', MSR.TSC_AUX, 1n << 32n],
    ['x2APIC from disabled', MSR.APIC_BASE, 0xfee00400n],
    ['an MC status that is not 0', 0x401, 1n],
    ['TSC_DEADLINE without the feature', MSR.TSC_DEADLINE, 5n],
  ])('#GP(0) for %s', (_name, index, value) => {
    expect(wrmsr(makeBench('qemu64,+rdtscp'), index, value)).toBe('#GP(0)');
  });

  test('LME cannot change while paging is on; LMA cannot be written', () => {
    const b = makeBench();
    longMode(b, 0);
    expect(wrmsr(b, MSR.EFER, 0n)).toBe('#GP(0)');
    expect(wrmsr(b, MSR.EFER, BigInt(EFER.LME))).toBe('ok');
    expect(rdmsr(b, MSR.EFER)).toBe(BigInt(EFER.LME | EFER.LMA));
  });

  test('TSC, TSC_ADJUST and RDTSC agree', () => {
    const b = makeBench();
    b.tsc.set([0xfffffff0, 1]);
    expect(wrmsr(b, MSR.TSC, 0x100n)).toBe('ok');
    expect(rdmsr(b, MSR.TSC)).toBe(0x100n);
    expect(rdmsr(b, MSR.TSC_ADJUST)).toBe(BigInt.asUintN(64, 0x100n - 0x1_ffff_fff0n));
    expect(wrmsr(b, MSR.TSC_ADJUST, 0x20n)).toBe('ok');
    expect(run(b, HELPERS.rdtsc, 4)).toBe(STATUS.NEXT);
    expect((b.cpu.env.regs[2] << 32n) | b.cpu.env.regs[0]).toBe(0x2_0000_0010n);
    expect(b.apic.log).toEqual(['tsc', 'tsc']);
    b.cpu.env.tscAux = 7n;
    run(b, HELPERS.rdtscp, 4);
    expect(b.cpu.env.regs[1]).toBe(7n);
  });

  test('CR4.TSD keeps RDTSC from user code', () => {
    const b = makeBench();
    protectedMode(b, 3);
    b.cpu.env.cr4 = BigInt(CR4.TSD);
    expect(run(b, HELPERS.rdtsc, 4)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, 0]);
  });

  test('APIC modes change only as allowed; x2APIC registers exist in that mode only', () => {
    const b = makeBench();
    expect(rdmsr(b, MSR.APIC_BASE)).toBe(0xfee00900n);
    expect(rdmsr(b, 0x802)).toBe('#GP(0)');
    expect(wrmsr(b, MSR.APIC_BASE, 0xfee00d00n)).toBe('ok');
    expect(b.apic.log).toEqual(['base']);
    expect(rdmsr(b, 0x802)).toBe(0x802n);
    expect(wrmsr(b, 0x80b, 0n)).toBe('ok');
    expect(wrmsr(b, 0x80c, 0n)).toBe('#GP(0)');
    expect(wrmsr(b, MSR.APIC_BASE, 0xfee00900n)).toBe('#GP(0)');
    expect(wrmsr(b, MSR.APIC_BASE, 0xfee00000n)).toBe('ok');
    expect(rdmsr(b, MSR.APIC_BASE)).toBe(0xfee00100n);
    expect(wrmsr(b, MSR.APIC_BASE, 0xfee00d00n)).toBe('#GP(0)');
  });

  test('the out array of a failing read is left zero', () => {
    const out = Uint32Array.of(1, 1);
    expect(readMsr(makeBench().cpu, 0x9999, out)).toBe(false);
    expect([...out]).toEqual([0, 0]);
  });
});

describe('CPUID', () => {
  const state = { apicId: 3, osxsave: false, xcr0: 1, apicEnabled: true };
  function leaf(model: CpuModel, l: number, sub = 0, s = state): number[] {
    const out = new Uint32Array(4);
    model.cpuid(l, sub, s, out);
    return [...out];
  }
  function text(values: number[]): string {
    return values
      .map((v) => String.fromCharCode(v & 255, (v >> 8) & 255, (v >> 16) & 255, v >>> 24))
      .join('');
  }

  test('vendor, hypervisor signature, brand', () => {
    const m = new CpuModel('qemu64');
    const [, b, c, d] = leaf(m, 0);
    expect(text([b, d, c])).toBe('AuthenticAMD');
    const [top, hb, hc, hd] = leaf(m, 0x40000000);
    expect([top, text([hb, hc, hd])]).toEqual([0x40000001, 'TCGTCGTCGTCG']);
    const brand = [0x80000002, 0x80000003, 0x80000004].map((l) => text(leaf(m, l))).join('');
    expect(brand.replaceAll('\0', '')).toBe('QEMU Virtual CPU version 2.5+');
  });

  test('family 15 model 107 of qemu64', () => {
    expect(leaf(new CpuModel('qemu64'), 1)[0]).toBe(0x60fb1);
  });

  test('64-bit addresses are 48 bits, physical ones 40, or as asked', () => {
    expect(leaf(new CpuModel('max'), 0x80000008)[0] & 0xffff).toBe(0x3028);
    expect(leaf(new CpuModel('max,phys-bits=36'), 0x80000008)[0] & 255).toBe(36);
    expect(() => new CpuModel('max,phys-bits=60')).toThrow(CpuModelError);
  });

  test('features can be taken and given; what is not implemented only warns', () => {
    const m = new CpuModel('qemu64,+smap,-cx16,+avx2,sse4.2=on,nx=off');
    expect([m.smap, m.has('cx16'), m.has('avx2'), m.has('sse4_2'), m.nx]).toEqual([
      true,
      false,
      false,
      true,
      false,
    ]);
    expect(m.warnings).toEqual(["warning: smp86 doesn't support requested feature: avx2"]);
    expect(() => new CpuModel('qemu64,+nosuch')).toThrow("Property '.nosuch' not found");
    expect(() => new CpuModel('nosuch')).toThrow("unable to find CPU model 'nosuch'");
  });

  test('the APIC bit follows IA32_APIC_BASE, OSXSAVE CR4', () => {
    const m = new CpuModel('max');
    expect((leaf(m, 1)[3] >>> 9) & 1).toBe(1);
    const off = leaf(m, 1, 0, { apicId: 0, osxsave: true, xcr0: 3, apicEnabled: false });
    expect([(off[3] >>> 9) & 1, (off[2] >>> 27) & 1]).toEqual([0, 1]);
  });

  test('topology of 2 sockets, 2 cores, 2 threads', () => {
    const topology = { sockets: 2, dies: 1, cores: 2, threads: 2 };
    const m = new CpuModel('max', topology);
    expect([0, 1, 2, 3, 4, 7].map((i) => apicIdOf(i, topology))).toEqual([0, 1, 2, 3, 4, 7]);
    expect([0, 1, 2, 3].map((i) => apicIdOf(i, { sockets: 1, dies: 1, cores: 3, threads: 1 }))).toEqual([
      0, 1, 2, 4,
    ]);
    expect(leaf(m, 0xb, 0)).toEqual([1, 2, 0x100, 3]);
    expect(leaf(m, 0xb, 1)).toEqual([2, 4, 0x201, 3]);
    expect(leaf(m, 0xb, 2)).toEqual([0, 0, 2, 3]);
    expect((leaf(m, 1)[1] >>> 16) & 255).toBe(4);
    expect((leaf(m, 1)[3] >>> 28) & 1).toBe(1);
    expect(leaf(m, 0x80000008)[2] & 255).toBe(3);
  });

  test('dies bring leaf 1F', () => {
    const m = new CpuModel('max', { sockets: 1, dies: 2, cores: 2, threads: 1 });
    expect(leaf(m, 0)[0]).toBe(0x1f);
    expect([0, 1, 2].map((s) => leaf(m, 0x1f, s).slice(0, 3))).toEqual([
      [0, 1, 0x100],
      [1, 2, 0x201],
      [2, 4, 0x502],
    ]);
  });

  test('the TSC is invariant, and there is no AVX, SVM or XSAVE', () => {
    for (const name of ['qemu64', 'max']) {
      const m = new CpuModel(name);
      expect((leaf(m, 0x80000007)[3] >>> 8) & 1, name).toBe(1);
      for (const feature of ['avx', 'avx2', 'svm', 'xsave', 'vme', 'la57'])
        expect(m.has(feature), feature).toBe(false);
    }
  });

  test('XSAVE, where asked for, has its leaf and its register', () => {
    const m = new CpuModel('max,+xsave,+xsaveopt');
    expect(leaf(m, 0xd)).toEqual([3, 576, 576, 0]);
    expect(leaf(m, 0xd, 1)).toEqual([1, 0, 0, 0]);
    expect(leaf(new CpuModel('max'), 0xd)).toEqual([0, 0, 0, 0]);
    const b = makeBench('max,+xsave');
    protectedMode(b, 0);
    expect(run(b, HELPERS.xsetbv, 4)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.UD, -1]);
    expect(toCr(b, 4, CR4.OSXSAVE)).toBe(STATUS.LOOKUP);
    b.cpu.env.regs[2] = 0n;
    b.cpu.env.regs[0] = 3n;
    expect(run(b, HELPERS.xsetbv, 4)).toBe(STATUS.LOOKUP);
    b.cpu.env.regs[0] = 7n;
    expect(run(b, HELPERS.xsetbv, 4)).toBe(STATUS.EXCEPTION);
    expect(raised(b)).toEqual([VEC.GP, 0]);
    run(b, HELPERS.xgetbv, 4);
    expect(b.cpu.env.regs[0]).toBe(3n);
  });

  test('max is an x86-64-v2 CPU', () => {
    const m = new CpuModel('max');
    for (const f of [
      'cx16',
      'lahf_lm',
      'popcnt',
      'pni',
      'ssse3',
      'sse4.1',
      'sse4.2',
      'syscall',
      'lm',
      'nx',
    ]) {
      expect(m.has(f), f).toBe(true);
    }
  });

  test('the instruction fills four registers', () => {
    const b = makeBench();
    b.cpu.env.regs.fill(0xffff_ffff_ffff_ffffn);
    b.cpu.env.regs[0] = 0n;
    run(b, HELPERS.cpuid, 4);
    expect(b.cpu.env.regs[0]).toBe(0xdn);
    expect(b.cpu.env.regs[3]).toBe(0x68747541n);
  });
});

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
