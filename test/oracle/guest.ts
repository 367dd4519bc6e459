/**
 * Runs cases on tier 0: one vCPU in user mode over page tables that map the image of a case as the native runner
 * does, and a kernel that is nothing but an interrupt table whose entries halt, with the state read from the
 * exception frame. Descriptor tables and control registers are set as Linux sets them.
 */
import { Worker } from 'node:worker_threads';
import { setOwnerId, viewsOf } from '@smp86/atomics-sync';
import { CpuEnv, SEG, VCPU_BLOCK_SIZE } from '../../src/cpu/env.ts';
import { allSemantics } from '../../src/cpu/sem/index.ts';
import type { Cpu } from '../../src/cpu/sys/cpu.ts';
import { CpuModel } from '../../src/cpu/sys/cpuid.ts';
import { setSegmentRaw } from '../../src/cpu/sys/descriptors.ts';
import { getEflags, setEflags } from '../../src/cpu/sys/eflags.ts';
import { hasErrorCode } from '../../src/cpu/sys/exceptions.ts';
import { PhysMap, PhysMemory } from '../../src/cpu/sys/phys-memory.ts';
import { powerOn } from '../../src/cpu/sys/reset.ts';
import { CR0, CR4, EFER, VEC, W_CPL, W_INHIBIT, W_LDTR, W_TR } from '../../src/cpu/sys/words.ts';
import { buildTier0 } from '../../src/cpu/tier0/build.ts';
import { NAMES } from '../../src/cpu/decode/table.ts';
import type { Helper } from '../../src/cpu/tier0/helper-call.ts';
import { CodeCache } from '../../src/cpu/tier0/code-cache.ts';
import type { Board } from '../../src/machine/board.ts';
import { Exclusive, ExclusiveState } from '../../src/machine/exclusive.ts';
import { HELPER_TRAITS, helperId, helperTable } from '../../src/machine/helpers.ts';
import { VcpuSignals } from '../../src/machine/signals.ts';
import { Vcpu } from '../../src/machine/vcpu.ts';
import { VcpuWorker } from '../../src/machine/vcpu-worker.ts';
import {
  AREAS,
  type Case,
  defaultFx,
  differences,
  FX,
  IMAGE_SIZE,
  newOutcome,
  type Outcome,
  PAGE,
  TIMEOUT,
} from './format.ts';

const WASM_PAGE = 65536;
const CODE_CACHE_SIZE = 16 << 20;
const RAM_SIZE = 2 << 20;

// guest-physical layout
const TABLES = 0x1000;
const KERNEL = 0x80000;
const IMAGE = 0x100000;

// the kernel's pages, at KERNEL_BASE: descriptor tables, interrupt table, stack, handlers
const KERNEL_BASE = 0xffff800000000000n;
const KERNEL_PAGES = 4;
const TSS = 0x400;
const IDT = 0x1000;
const STACK_TOP = 0x3000;
const HANDLERS = 0x3000;
const HANDLER_SIZE = 16;
const GDT_LIMIT = 0x7f;
const KERNEL_CODE = 0x10;
const TR = 0x40;

/** Linux's GDT (arch/x86/include/asm/segment.h); descriptors as in the SDM, volume 3A, 3.4.5. */
const GDT: Readonly<Record<number, bigint>> = {
  1: 0x00cf9b000000ffffn,
  2: 0x00af9b000000ffffn,
  3: 0x00cf93000000ffffn,
  4: 0x00cffb000000ffffn,
  5: 0x00cff3000000ffffn,
  6: 0x00affb000000ffffn,
  15: 0x0040f50000000000n,
};
const CODE32 = { selector: 0x23, attr: 0x00cffb00 };
const CODE64 = { selector: 0x33, attr: 0x00affb00 };
const USER_DATA = { selector: 0x2b, attr: 0x00cff300 };
const LIMIT = 0xffffffff;

const PTE = { P: 1n, W: 2n, U: 4n, NX: 1n << 63n } as const;
/** Gates that user code may use with INT: breakpoint and overflow. */
const USER_VECTORS: readonly number[] = [VEC.BP, VEC.OF];

const EXIT_REQUEST = CpuEnv.offsetOf('exitRequest') >>> 2;
const STOP_REQUESTED = CpuEnv.offsetOf('stopRequested') >>> 2;
const HALTED = CpuEnv.offsetOf('halted') >>> 2;

/** A host device the guest has not got: reads give all ones. */
const NO_DEVICE = { read: () => 0xffffffff, write: () => {} };

export class Guest {
  readonly cpu: Cpu;
  /** The image of the case. */
  readonly image: Uint8Array;
  private readonly worker: VcpuWorker;
  private readonly vcpu: Vcpu;
  private readonly u64: BigUint64Array<SharedArrayBuffer>;
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly ram: number;
  private readonly base: Uint8Array;
  private readonly watchdog: Worker;
  /** Two words: number of the case that runs (0: none). */
  private readonly current: Int32Array<SharedArrayBuffer>;
  private readonly freshFx = defaultFx();
  private readonly withoutHelper = new Set<string>();
  private cases = 0;

  constructor(base: Uint8Array) {
    this.base = base;
    let top = WASM_PAGE;
    const place = (size: number): number => {
      const at = top;
      top = Math.ceil((top + size) / WASM_PAGE) * WASM_PAGE;
      return at;
    };
    const vcpus = place(VCPU_BLOCK_SIZE);
    const physMap = place(PhysMap.size);
    const exclusiveAt = place(ExclusiveState.size + 64);
    const codeCache = place(CODE_CACHE_SIZE);
    const codeMap = place(65536 * 16);
    this.ram = place(RAM_SIZE);
    const pages = top / WASM_PAGE;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    const buffer = memory.buffer as unknown as SharedArrayBuffer;
    setOwnerId(2);
    const views = viewsOf(buffer);
    this.u64 = views.u64;
    this.words = views.i32;
    this.image = new Uint8Array(buffer, this.ram + IMAGE, IMAGE_SIZE);

    const mem = new PhysMemory({
      buffer,
      ramBase: this.ram,
      ramSize: RAM_SIZE,
      mapBase: physMap,
      codeMapBase: codeMap,
      mmio: NO_DEVICE,
    });
    mem.initMap();
    CodeCache.init(buffer, { base: codeCache, size: CODE_CACHE_SIZE, codeMap });
    // of a board, a vCPU that takes no interrupts uses only this
    const board = {
      buffer,
      layout: { vcpus, codeCache, codeCacheSize: CODE_CACHE_SIZE, codeMap },
      config: { cpus: 1 },
      currentCpu: 0,
      memoryWritten: () => {},
      signals: [new VcpuSignals(views.i32, vcpus)],
      cpuWork: { pending: () => false, process: () => {} },
      clocks: { icount: undefined },
    } as unknown as Board;
    const exclusive = new Exclusive(buffer, exclusiveAt, vcpus, 1);
    const tier0 = buildTier0({ memoryPages: pages, semantics: allSemantics, helperId });
    this.worker = new VcpuWorker(board, exclusive, tier0.handlers.table(), this.helpers(), HELPER_TRAITS);
    this.vcpu = new Vcpu(this.worker, 0, {
      mem,
      ports: NO_DEVICE,
      apic: {
        readMsr: () => false,
        writeMsr: () => false,
        readTscDeadline: (out) => void out.fill(0),
        writeTscDeadline: () => {},
        tscChanged: () => {},
        getCr8: () => 0,
        setCr8: () => {},
        apicBaseChanged: () => {},
      },
      clock: { readTsc: (out) => void out.fill(0) },
      model: new CpuModel('max,vendor=GenuineIntel'),
      codeCache: this.worker.codeCache,
    });
    this.cpu = this.vcpu.cpu;
    const module = new WebAssembly.Module(tier0.bytes);
    const instance = new WebAssembly.Instance(module, { env: { memory, ...this.worker.imports() } });
    this.worker.run = instance.exports.run as (env: number, record: number) => number;

    powerOn(this.cpu);
    this.setTables();
    this.setControl();
    this.image.set(base);

    this.current = new Int32Array(new SharedArrayBuffer(8));
    const at = vcpus >>> 2;
    this.watchdog = new Worker(new URL('./watchdog.ts', import.meta.url), {
      workerData: {
        current: this.current,
        words: views.i32,
        stop: at + STOP_REQUESTED,
        exit: at + EXIT_REQUEST,
      },
    });
    this.watchdog.unref();
  }

  async close(): Promise<void> {
    await this.watchdog.terminate();
  }

  /** Names of instructions that ran into #UD because neither semantics nor a helper exists. */
  get missing(): ReadonlySet<string> {
    return new Set([...this.worker.translator.missing, ...this.withoutHelper]);
  }
  /** Semantics may ask for a helper that does not exist: #UD then, and a note. */
  private helpers(): Helper[] {
    return helperTable().map((helper, id) => {
      if (helper !== undefined) return helper;
      return (cpu) => {
        this.withoutHelper.add(NAMES[id] ?? String(id));
        return cpu.raiseUd();
      };
    });
  }

  private phys64(at: number, value: bigint): void {
    this.u64[(this.ram + at) >>> 3] = value;
  }

  private setTables(): void {
    let next = TABLES + PAGE;
    const entry = (table: number, index: number, user: bigint): number => {
      const at = (this.ram + table + index * 8) >>> 3;
      if (this.u64[at] === 0n) {
        this.u64[at] = BigInt(next) | PTE.P | PTE.W | user;
        next += PAGE;
      }
      return Number(this.u64[at] & 0xffffffffff000n);
    };
    const map = (linear: bigint, physical: number, bits: bigint): void => {
      const index = (level: number): number => Number((linear >> BigInt(12 + 9 * level)) & 511n);
      const user = bits & PTE.U;
      const pt = entry(entry(entry(TABLES, index(3), user), index(2), user), index(1), user);
      this.phys64(pt + index(0) * 8, BigInt(physical) | PTE.P | bits);
    };
    for (const area of AREAS) {
      for (let i = 0; i < area.count; i++) {
        const bits = PTE.U | (area.write ? PTE.W : 0n) | (area.execute ? 0n : PTE.NX);
        map(area.address + BigInt(i * PAGE), IMAGE + (area.first + i) * PAGE, bits);
      }
    }
    for (let i = 0; i < KERNEL_PAGES; i++) map(KERNEL_BASE + BigInt(i * PAGE), KERNEL + i * PAGE, PTE.W);

    for (const [n, value] of Object.entries(GDT)) this.phys64(KERNEL + Number(n) * 8, value);
    const tss = KERNEL_BASE + BigInt(TSS);
    this.phys64(
      KERNEL + TR,
      0x67n | ((tss & 0xffffffn) << 16n) | (0x8bn << 40n) | (((tss >> 24n) & 0xffn) << 56n),
    );
    this.phys64(KERNEL + TR + 8, tss >> 32n);
    // RSP0 lies at offset 4; the bitmap's offset at 102 is beyond the limit
    const rsp0 = KERNEL_BASE + BigInt(STACK_TOP);
    this.phys64(KERNEL + TSS, (rsp0 & 0xffffffffn) << 32n);
    this.phys64(KERNEL + TSS + 8, rsp0 >> 32n);
    this.phys64(KERNEL + TSS + 96, 0x68n << 48n);
    for (let vector = 0; vector < 256; vector++) {
      const handler = KERNEL_BASE + BigInt(HANDLERS + vector * HANDLER_SIZE);
      const dpl = USER_VECTORS.includes(vector) ? 3n : 0n;
      const low =
        (handler & 0xffffn) |
        (BigInt(KERNEL_CODE) << 16n) |
        (14n << 40n) |
        (dpl << 45n) |
        (1n << 47n) |
        ((handler & 0xffff0000n) << 32n);
      this.phys64(KERNEL + IDT + vector * 16, low);
      this.phys64(KERNEL + IDT + vector * 16 + 8, handler >> 32n);
      this.cpu.u8[this.ram + KERNEL + HANDLERS + vector * HANDLER_SIZE] = 0xf4;
    }
  }

  private setControl(): void {
    const { cpu } = this;
    const { env } = cpu;
    env.cr0 = BigInt((CR0.PE | CR0.PG | CR0.WP | CR0.NE | CR0.ET | CR0.MP | CR0.AM) >>> 0);
    env.cr3 = BigInt(TABLES);
    env.cr4 = BigInt(CR4.PAE | CR4.PGE | CR4.OSFXSR | CR4.OSXMMEXCPT | CR4.FSGSBASE | CR4.UMIP | CR4.SMEP);
    env.efer = BigInt(EFER.LME | EFER.LMA | EFER.NXE | EFER.SCE);
    env.gdtBase = KERNEL_BASE;
    env.gdtLimit = GDT_LIMIT;
    env.idtBase = KERNEL_BASE + BigInt(IDT);
    env.idtLimit = 0xfff;
    setSegmentRaw(cpu, cpu.w + W_TR, TR, 0, 0x67, 0x8b00);
    env.tr.base = KERNEL_BASE + BigInt(TSS);
    setSegmentRaw(cpu, cpu.w + W_LDTR, 0, 0, 0, 0);
    cpu.mmu.tlb.flushAll();
  }

  /** Runs a case from the base image; the image is as before afterwards, and the outcome has its changes. */
  run(c: Case): Outcome {
    const { cpu, words } = this;
    for (const p of c.patches) {
      this.image.set(p.bytes, p.offset);
      this.worker.codeCache.written(this.ram + IMAGE + p.offset, p.bytes.length);
    }
    this.enter(c);
    const w = cpu.w;
    Atomics.store(words, w + HALTED, 0);
    Atomics.store(words, w + STOP_REQUESTED, 0);
    // some cases find an empty TLB
    if (++this.cases % 8 === 0) cpu.mmu.tlb.flushAll();
    Atomics.store(this.current, 0, this.cases | 0 || 1);
    const pause = this.vcpu.execute();
    Atomics.store(this.current, 0, 0);
    if (pause === 'shutdown') throw new Error(`triple fault in ${c.name}`);
    const out = this.leave(pause === 'stop');
    this.collect(out);
    return out;
  }

  private enter(c: Case): void {
    const { cpu } = this;
    const { env } = cpu;
    const flat = c.mode32 ? USER_DATA : { selector: 0, attr: 0 };
    const code = c.mode32 ? CODE32 : CODE64;
    setSegmentRaw(cpu, cpu.segWord(SEG.CS), code.selector, 0, LIMIT, code.attr);
    setSegmentRaw(cpu, cpu.segWord(SEG.SS), USER_DATA.selector, 0, LIMIT, USER_DATA.attr);
    for (const s of [SEG.DS, SEG.ES]) setSegmentRaw(cpu, cpu.segWord(s), flat.selector, 0, LIMIT, flat.attr);
    for (const s of [SEG.FS, SEG.GS]) setSegmentRaw(cpu, cpu.segWord(s), 0, 0, 0, 0);
    env.segs[SEG.FS].base = c.fsBase;
    env.segs[SEG.GS].base = c.gsBase;
    this.u64.set(c.regs, cpu.base >>> 3);
    setEflags(cpu, c.rflags);
    cpu.setIp(c.rip, 0);
    cpu.set(W_CPL, 3);
    cpu.set(W_INHIBIT, 0);
    env.cr2 = 0n;
    env.dr[6] = 0xffff0ff0n;
    this.loadFx(c.fx ?? this.freshFx);
    cpu.updateMode();
  }

  private loadFx(fx: Uint8Array): void {
    const { env } = this.cpu;
    const v = new DataView(fx.buffer, fx.byteOffset);
    const top = (v.getUint16(FX.FSW, true) >> 11) & 7;
    env.fpControl = v.getUint16(FX.FCW, true);
    env.fpStatus = v.getUint16(FX.FSW, true) & ~0x3800;
    env.fpTop = top;
    env.fpTags = fx[FX.FTW];
    env.fpOpcode = v.getUint16(FX.FOP, true);
    env.fpIp = v.getBigUint64(FX.FIP, true);
    env.fpDp = v.getBigUint64(FX.FDP, true);
    env.fpCs = 0;
    env.fpDs = 0;
    env.mxcsr = v.getUint32(FX.MXCSR, true);
    for (let i = 0; i < 8; i++)
      env.fpRegs.set(fx.subarray(FX.ST + i * 16, FX.ST + i * 16 + 16), ((top + i) & 7) * 16);
    for (let i = 0; i < 16; i++) env.xmm.set(fx.subarray(FX.XMM + i * 16, FX.XMM + i * 16 + 16), i * 32);
  }
  private storeFx(fx: Uint8Array): void {
    const { env } = this.cpu;
    const v = new DataView(fx.buffer, fx.byteOffset);
    const top = env.fpTop;
    v.setUint16(FX.FCW, env.fpControl, true);
    v.setUint16(FX.FSW, (env.fpStatus & ~0x3800) | (top << 11), true);
    fx[FX.FTW] = env.fpTags;
    v.setUint16(FX.FOP, env.fpOpcode, true);
    v.setBigUint64(FX.FIP, env.fpIp, true);
    v.setBigUint64(FX.FDP, env.fpDp, true);
    v.setUint32(FX.MXCSR, env.mxcsr, true);
    for (let i = 0; i < 8; i++) {
      const at = ((top + i) & 7) * 16;
      fx.set(env.fpRegs.subarray(at, at + 10), FX.ST + i * 16);
    }
    for (let i = 0; i < 16; i++) fx.set(env.xmm.subarray(i * 32, i * 32 + 16), FX.XMM + i * 16);
  }

  private leave(timeout: boolean): Outcome {
    const { cpu } = this;
    const { env } = cpu;
    const out = newOutcome();
    out.regs.set(this.u64.subarray(cpu.base >>> 3, (cpu.base >>> 3) + 16));
    for (const [i, s] of [SEG.CS, SEG.SS, SEG.DS, SEG.ES, SEG.FS, SEG.GS].entries())
      out.selectors[i] = env.segs[s].selector;
    out.fsBase = env.segs[SEG.FS].base;
    out.gsBase = env.segs[SEG.GS].base;
    this.storeFx(out.fx);
    if (timeout) {
      out.trap = TIMEOUT;
      out.rip = env.ip;
      out.rflags = getEflags(cpu);
      return out;
    }
    const offset = env.ip - KERNEL_BASE - BigInt(HANDLERS);
    if (offset < 0n || offset >= BigInt(256 * HANDLER_SIZE))
      throw new Error(`halted at ${env.ip.toString(16)}`);
    out.trap = Number(offset) >> 4;
    let at = Number(env.regs[4] - KERNEL_BASE);
    const pop = (): bigint => {
      const value = this.u64[(this.ram + KERNEL + at) >>> 3];
      at += 8;
      return value;
    };
    if (hasErrorCode(out.trap)) out.error = Number(pop());
    out.rip = pop();
    out.selectors[0] = Number(pop());
    out.rflags = Number(pop());
    out.regs[4] = pop();
    out.selectors[1] = Number(pop());
    out.cr2 = env.cr2;
    return out;
  }

  private collect(out: Outcome): void {
    const { image, base } = this;
    for (let page = 0; page < IMAGE_SIZE; page += PAGE) {
      const now = Buffer.from(image.buffer, image.byteOffset + page, PAGE);
      const was = Buffer.from(base.buffer, base.byteOffset + page, PAGE);
      if (now.compare(was) === 0) continue;
      out.runs.push(...differences(now, was, page));
      image.set(base.subarray(page, page + PAGE), page);
      this.worker.codeCache.written(this.ram + IMAGE + page, PAGE);
    }
  }
}
