/** A CPU over a small shared buffer, for tests of the system side. */
import { VCPU_BLOCK_SIZE, SEG } from '../../src/cpu/env.ts';
import { Cpu, type ApicHooks, type IoBus } from '../../src/cpu/sys/cpu.ts';
import { CpuModel } from '../../src/cpu/sys/cpuid.ts';
import { setSegmentRaw } from '../../src/cpu/sys/descriptors.ts';
import { PhysMap, PhysMemory, type MmioHandler } from '../../src/cpu/sys/phys-memory.ts';
import { powerOn } from '../../src/cpu/sys/reset.ts';
import { CR0, CR4, EFER, STATUS } from '../../src/cpu/sys/words.ts';

export const RAM_SIZE = 0x400000;
const MAP_BASE = 0x1000;
const CODE_MAP = 0x4000;
const ENV_BASE = 0x10000;
/** After the env, at a multiple of 64 KiB. */
const RAM_BASE = ENV_BASE + VCPU_BLOCK_SIZE;

/** Device memory that records accesses: 16 bytes repeated. */
export class TestDevice implements MmioHandler {
  readonly log: string[] = [];
  readonly bytes = new Uint8Array(4096);
  read(lo: number, hi: number, size: number): number {
    this.log.push(`r${size} ${hi.toString(16)}:${lo.toString(16)}`);
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = ((value << 8) | this.bytes[(lo + i) & 4095]) >>> 0;
    return value;
  }
  write(lo: number, hi: number, size: number, value: number): void {
    this.log.push(`w${size} ${hi.toString(16)}:${lo.toString(16)}=${value.toString(16)}`);
    for (let i = 0; i < size; i++) this.bytes[(lo + i) & 4095] = value >>> (8 * i);
  }
}

export class TestPorts implements IoBus {
  readonly log: string[] = [];
  value = 0;
  read(port: number, size: number): number {
    this.log.push(`in${size} ${port.toString(16)}`);
    return this.value;
  }
  write(port: number, size: number, value: number): void {
    this.log.push(`out${size} ${port.toString(16)}=${value.toString(16)}`);
  }
}

export class TestApic implements ApicHooks {
  readonly log: string[] = [];
  cr8 = 0;
  readMsr(index: number, out: Uint32Array): boolean {
    out[0] = index;
    return index === 0x802;
  }
  writeMsr(index: number, lo: number): boolean {
    this.log.push(`wrmsr ${index.toString(16)}=${lo.toString(16)}`);
    return index === 0x80b;
  }
  readTscDeadline(out: Uint32Array): void {
    out[0] = 5;
  }
  writeTscDeadline(lo: number): void {
    this.log.push(`deadline ${lo}`);
  }
  tscChanged(): void {
    this.log.push('tsc');
  }
  getCr8(): number {
    return this.cr8;
  }
  setCr8(value: number): void {
    this.cr8 = value;
  }
  apicBaseChanged(): void {
    this.log.push('base');
  }
}

export interface Bench {
  cpu: Cpu;
  mem: PhysMemory;
  device: TestDevice;
  ports: TestPorts;
  apic: TestApic;
  /** Code-cache notifications as [physical address, length]. */
  written: [number, number][];
  tsc: Uint32Array;
  modeChanges: { count: number };
}

export function makeBench(model = 'max'): Bench {
  const buffer = new SharedArrayBuffer(RAM_BASE + RAM_SIZE);
  const device = new TestDevice();
  const mem = new PhysMemory({
    buffer,
    ramBase: RAM_BASE,
    ramSize: RAM_SIZE,
    mapBase: MAP_BASE,
    codeMapBase: CODE_MAP,
    mmio: device,
  });
  if (MAP_BASE + PhysMap.size > CODE_MAP) throw new Error('test layout');
  mem.initMap();
  const written: [number, number][] = [];
  const tsc = Uint32Array.of(1000, 0);
  const modeChanges = { count: 0 };
  const ports = new TestPorts();
  const apic = new TestApic();
  const cpu = new Cpu({
    buffer,
    base: ENV_BASE,
    mem,
    ports,
    apic,
    clock: { readTsc: (out) => out.set(tsc) },
    model: new CpuModel(model),
    codeCache: { written: (host, length) => void written.push([host - RAM_BASE, length]) },
    onModeChange: () => void modeChanges.count++,
  });
  cpu.env.bsp = 1;
  powerOn(cpu);
  return { cpu, mem, device, ports, apic, written, tsc, modeChanges };
}

export function host(pa: number): number {
  return RAM_BASE + pa;
}
export function poke8(b: Bench, pa: number, ...bytes: number[]): void {
  bytes.forEach((v, i) => (b.cpu.u8[host(pa) + i] = v));
}
export function poke16(b: Bench, pa: number, ...values: number[]): void {
  values.forEach((v, i) => (b.cpu.u16[(host(pa) >>> 1) + i] = v));
}
export function poke32(b: Bench, pa: number, ...values: number[]): void {
  values.forEach((v, i) => (b.cpu.u32[(host(pa) >>> 2) + i] = v));
}
export function poke64(b: Bench, pa: number, ...values: bigint[]): void {
  values.forEach((v, i) => (b.cpu.u64[(host(pa) >>> 3) + i] = v));
}
export function peek16(b: Bench, pa: number): number {
  return b.cpu.u16[host(pa) >>> 1];
}
export function peek32(b: Bench, pa: number): number {
  return b.cpu.u32[host(pa) >>> 2];
}
export function peek64(b: Bench, pa: number): bigint {
  return b.cpu.u64[host(pa) >>> 3];
}
/** `count` 32-bit words from `pa`. */
export function words(b: Bench, pa: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => peek32(b, pa + i * 4));
}
export function quads(b: Bench, pa: number, count: number): bigint[] {
  return Array.from({ length: count }, (_, i) => peek64(b, pa + i * 8));
}

/** A segment descriptor; `type` is the whole byte 5 (P, DPL, S, type), `flags` G, D, L, AVL as a nibble. */
export function descriptor(base: number, limit: number, type: number, flags: number): bigint {
  return (
    (BigInt(limit & 0xffff) |
      (BigInt(base & 0xffffff) << 16n) |
      (BigInt(type) << 40n) |
      (BigInt((limit >>> 16) & 15) << 48n) |
      (BigInt(flags) << 52n) |
      (BigInt(base >>> 24) << 56n)) &
    0xffffffffffffffffn
  );
}
/** A gate of 8 bytes. */
export function gate(selector: number, offset: number, type: number, parameters = 0): bigint {
  return (
    BigInt(offset & 0xffff) |
    (BigInt(selector) << 16n) |
    (BigInt(parameters) << 32n) |
    (BigInt(type) << 40n) |
    (BigInt(offset >>> 16) << 48n)
  );
}

/** What a helper or delivery left: exception vector and error code. */
export function raised(b: Bench): [number, number] {
  return [b.cpu.env.excVector, b.cpu.env.excError];
}

/** Sets operands and runs a helper. */
export function run(
  b: Bench,
  helper: (cpu: Cpu, size: number) => number,
  size: number,
  ...operands: (number | bigint)[]
): number {
  operands.forEach((value, i) => (b.cpu.env.scratch[i] = BigInt.asUintN(64, BigInt(value))));
  return helper(b.cpu, size);
}
export { STATUS };

// --- selectors of the test GDT, at GDT_BASE ---
export const GDT_BASE = 0x10000;
export const IDT_BASE = 0x11000;
export const TSS_BASE = 0x12000;
export const LDT_BASE = 0x13000;
export const SEL = {
  CODE0: 0x08,
  DATA0: 0x10,
  CODE3: 0x1b,
  DATA3: 0x23,
  CODE64: 0x28,
  CODE64_3: 0x33,
  CONFORMING: 0x38,
  TSS: 0x40,
  /** 16 bytes in long mode. */
  LDT: 0x50,
  ABSENT: 0x60,
  READ_ONLY: 0x68,
  CODE16: 0x70,
  DATA16: 0x78,
  GATE: 0x80,
  /** Second TSS. */
  TSS2: 0x90,
  EXEC_ONLY: 0xa0,
  TASK_GATE: 0xa8,
} as const;

/** Writes the GDT and loads GDTR, IDTR; tables are not accessed yet. */
export function setupTables(b: Bench, long: boolean): void {
  const { env } = b.cpu;
  const set = (selector: number, value: bigint): void => poke64(b, GDT_BASE + (selector & ~7), value);
  set(SEL.CODE0, descriptor(0, 0xfffff, 0x9a, 0xc));
  set(SEL.DATA0, descriptor(0, 0xfffff, 0x92, 0xc));
  set(SEL.CODE3, descriptor(0, 0xfffff, 0xfa, 0xc));
  set(SEL.DATA3, descriptor(0, 0xfffff, 0xf2, 0xc));
  set(SEL.CODE64, descriptor(0, 0xfffff, 0x9a, 0xa));
  set(SEL.CODE64_3, descriptor(0, 0xfffff, 0xfa, 0xa));
  set(SEL.CONFORMING, descriptor(0, 0xfffff, 0x9e, 0xc));
  set(SEL.TSS, descriptor(TSS_BASE, 0x2067, 0x89, 0));
  set(SEL.LDT, descriptor(LDT_BASE, 0xff, 0x82, 0));
  set(SEL.ABSENT, descriptor(0, 0xfffff, 0x12, 0xc));
  set(SEL.READ_ONLY, descriptor(0, 0xfffff, 0xf0, 0xc));
  set(SEL.CODE16, descriptor(0, 0xffff, 0x9a, 0));
  set(SEL.DATA16, descriptor(0, 0xffff, 0x92, 0));
  set(SEL.EXEC_ONLY, descriptor(0, 0xfffff, 0xf8, 0xc));
  env.gdtBase = BigInt(GDT_BASE);
  env.gdtLimit = 0xff;
  env.idtBase = BigInt(IDT_BASE);
  env.idtLimit = long ? 0xfff : 0x7ff;
}

function load(b: Bench, seg: number, selector: number, attr: number): void {
  setSegmentRaw(b.cpu, b.cpu.segWord(seg), selector, 0, 0xffffffff, attr);
}

/** Protected mode without paging at privilege `cpl`: flat segments, stack at `sp`. */
export function protectedMode(b: Bench, cpl: 0 | 3, sp = 0x9000): void {
  const { env } = b.cpu;
  setupTables(b, false);
  env.cr0 = BigInt(CR0.PE | CR0.ET);
  const dpl = cpl << 13;
  load(b, SEG.CS, cpl === 0 ? SEL.CODE0 : SEL.CODE3, 0xc09b00 | dpl);
  for (const seg of [SEG.ES, SEG.SS, SEG.DS, SEG.FS, SEG.GS]) {
    load(b, seg, cpl === 0 ? SEL.DATA0 : SEL.DATA3, 0xc09300 | dpl);
  }
  env.cpl = cpl;
  env.regs[4] = BigInt(sp);
  env.tr.base = BigInt(TSS_BASE);
  env.tr.limit = 0x2067;
  env.tr.attr = 0x8b00;
  env.tr.selector = SEL.TSS;
  env.ip = 0x5000n;
  env.nextIp = 0x5002n;
  b.cpu.updateMode();
}

/** Page tables of long mode: identity for the first 4 MiB by 2 MiB pages, rights as given. */
export const PML4 = 0x100000;
export const PDPT = 0x101000;
export const PD = 0x102000;
export const PT = 0x103000;

/** 64-bit mode with identity paging (2 MiB pages, user and writable). */
export function longMode(b: Bench, cpl: 0 | 3, sp = 0x9000): void {
  const { env } = b.cpu;
  setupTables(b, true);
  poke64(b, PML4, BigInt(PDPT | 7));
  poke64(b, PDPT, BigInt(PD | 7));
  poke64(b, PD, 0x87n, 0x200087n);
  env.cr3 = BigInt(PML4);
  env.cr4 = BigInt(CR4.PAE | CR4.PGE | CR4.OSFXSR);
  env.efer = BigInt(EFER.LME | EFER.LMA | EFER.SCE | EFER.NXE);
  env.cr0 = BigInt((CR0.PE | CR0.ET | CR0.WP | CR0.PG) >>> 0);
  const dpl = cpl << 13;
  load(b, SEG.CS, cpl === 0 ? SEL.CODE64 : SEL.CODE64_3, 0xa09b00 | dpl);
  load(b, SEG.SS, cpl === 0 ? SEL.DATA0 : SEL.DATA3, 0xc09300 | dpl);
  for (const seg of [SEG.ES, SEG.DS, SEG.FS, SEG.GS]) load(b, seg, 0, 0);
  env.cpl = cpl;
  env.regs[4] = BigInt(sp);
  env.tr.base = BigInt(TSS_BASE);
  env.tr.limit = 0x2067;
  env.tr.attr = 0x8b00;
  env.tr.selector = SEL.TSS;
  env.ip = 0x5000n;
  env.nextIp = 0x5002n;
  b.cpu.mmu.tlb.flushAll();
  b.cpu.updateMode();
}
