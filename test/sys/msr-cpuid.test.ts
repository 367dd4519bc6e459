import { describe, expect, test } from 'vitest';
import { apicIdOf, CpuModel, CpuModelError } from '../../src/cpu/sys/cpuid.ts';
import { HELPERS } from '../../src/cpu/sys/helpers.ts';
import { readMsr, MSR } from '../../src/cpu/sys/msr.ts';
import { CR4, EFER, STATUS, VEC } from '../../src/cpu/sys/words.ts';
import { type Bench, longMode, makeBench, protectedMode, raised, run } from './bench-machine.ts';

function toCr(b: Bench, n: number, value: number | bigint): number {
  return run(b, HELPERS.mov_to_cr, 8, n, value);
}

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
