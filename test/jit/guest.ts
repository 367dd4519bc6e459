/**
 * The oracle's guest with tier 1 in front: code is compiled as a region where it is met first, and what cannot be
 * compiled (or a region leaves to tier 0) is executed by tier 0 one instruction at a time.
 */
import { CODE_TLB_ENTRIES, CpuEnv, REASON, TLB_SET } from '../../src/cpu/env.ts';
import type { Insn } from '../../src/cpu/decode/insn.ts';
import { debugActive } from '../../src/cpu/sys/debug.ts';
import { W_CODE_KIND, W_CPL, W_INHIBIT } from '../../src/cpu/sys/words.ts';
import { PSEUDO, RECORD } from '../../src/cpu/tier0/record.ts';
import { STATUS } from '../../src/cpu/tier0/context.ts';
import { regionImports } from '../../src/jit/client.ts';
import { RegionGraph } from '../../src/jit/graph.ts';
import {
  EXIT_COUNT,
  MAX_TARGETS,
  REGION,
  REGION_SLOTS,
  RETURN_CACHE,
  RETURN_CACHE_SIZE,
} from '../../src/jit/layout.ts';
import { type CodeSize, findRegion, isCodeSize, type Region } from '../../src/jit/region.ts';
import { buildRegionModule, isCompilable } from '../../src/jit/region-module.ts';
import { operandKinds, semanticName } from '../../src/cpu/sem/select.ts';
import type { VcpuWorker } from '../../src/machine/vcpu-worker.ts';
import { type Case, CODE, type Outcome, PAGE } from '../oracle/format.ts';
import { Guest } from '../oracle/guest.ts';
import type { Rng } from '../oracle/rng.ts';

const W = {
  ip: CpuEnv.offsetOf('ip') >>> 2,
  codePage: CpuEnv.offsetOf('codePage') >>> 2,
  jumpTarget: CpuEnv.offsetOf('jumpTarget') >>> 2,
  exitDetail: CpuEnv.offsetOf('exitDetail') >>> 2,
  exitRequest: CpuEnv.offsetOf('exitRequest') >>> 2,
  stopRequested: CpuEnv.offsetOf('stopRequested') >>> 2,
  tlbSet: CpuEnv.offsetOf('tlbSet') >>> 2,
  jumps: (CpuEnv.offsetOf('statRegionExits') >>> 2) + EXIT_COUNT.NEXT * 2,
} as const;
const CODE_PAGES = 2;
const RECORD_SIZE = 32;
const WRITABLE = 2n;
const TABLE_ADDRESS = 0xffffffffff000n;

interface Compiled {
  readonly run: Run;
  readonly description: number;
  /** Linear address of its head. */
  readonly at: number;
  /** It has blocks from which indirect jumps may lead anywhere. */
  readonly seeks: boolean;
}
type Run = (env: number, record: number) => number;
interface Internals {
  readonly worker: VcpuWorker;
  readonly vcpu: { readonly code: { oneShot(end: number): number } };
  readonly ram: number;
  readonly u64: BigUint64Array<SharedArrayBuffer>;
}

/** What `make` instantiates of WebAssembly, with the memory it imports. */
function capture<T>(make: () => T): { made: T; instance: WebAssembly.Instance; memory: WebAssembly.Memory } {
  const Original = WebAssembly.Instance;
  let instance: WebAssembly.Instance | undefined;
  let memory: WebAssembly.Memory | undefined;
  WebAssembly.Instance = function (module: WebAssembly.Module, imports?: WebAssembly.Imports) {
    const created = new Original(module, imports);
    if (imports?.env.memory instanceof WebAssembly.Memory && 'run' in created.exports) {
      instance = created;
      memory = imports.env.memory;
    }
    return created;
  } as unknown as typeof WebAssembly.Instance;
  try {
    const made = make();
    if (instance === undefined || memory === undefined) throw new Error('no instance was made');
    return { made, instance, memory };
  } finally {
    WebAssembly.Instance = Original;
  }
}

/** What tier 1 did in all cases. */
export interface TierCounts {
  regions: number;
  compiled: number;
  entered: number;
  /** Jumps from a region to another one. */
  jumped: number;
  alone: number;
  /** Regions left at a random place. */
  kicked: number;
  /** Forms of instructions that were compiled (`formKey`). */
  readonly forms: Set<string>;
}

/** What tier 1 has code for: name, operands, sizes, prefixes. */
export function formKey(insn: Insn, codeSize: CodeSize): string {
  const { cond, rep, lock, opSize, addrSize, memOperand } = insn;
  const address = memOperand < 0 ? ` a${addrSize}` : '';
  const bits = codeSize === 2 ? '' : ' in 32-bit code';
  return `${semanticName(insn)} ${operandKinds(insn)} o${opSize}${address} c${cond} rep${rep} lock${lock}${bits}`;
}

export class JitGuest {
  readonly guest: Guest;
  readonly counts: TierCounts = {
    regions: 0,
    compiled: 0,
    entered: 0,
    jumped: 0,
    alone: 0,
    kicked: 0,
    forms: new Set(),
  };
  /** Asked of each instruction: should it be compiled? */
  wanted: (insn: Insn) => boolean = () => true;
  /** Where it is set, tier 1 is left and entered at random places. */
  switching: Rng | undefined;
  private readonly inside: Internals;
  private readonly tier0: Run;
  private readonly flagWords: (env: number) => void;
  private readonly firstHandler: number;
  private readonly table: WebAssembly.Table;
  /** With which regions are entered from here: of the current generation, or 0. */
  private record = 0;
  private readonly imports: WebAssembly.Imports;
  private readonly memoryPages: number;
  private readonly regions = new Map<number, Compiled | undefined>();
  /** Where regions with indirect jumps were left for: part of those that are made from then on. */
  private readonly targets = new Set<number>();
  private slot = 0;
  private generation = 0;
  private tier1 = false;

  constructor(base: Uint8Array) {
    const { made, instance, memory } = capture(() => new Guest(base));
    this.guest = made;
    this.inside = made as unknown as Internals;
    const { worker } = this.inside;
    this.tier0 = instance.exports.run as Run;
    this.flagWords = instance.exports.flagWords as (env: number) => void;
    this.table = instance.exports.table as WebAssembly.Table;
    // no record has such a handler: regions are entered from here, and by the jump cache
    this.firstHandler = this.table.grow(REGION_SLOTS);
    this.imports = regionImports(memory, instance, worker.imports());
    this.memoryPages = memory.buffer.byteLength / 65536;
    worker.run = (env, record) => (this.tier1 && record === 0 ? this.run(env) : this.tier0(env, record));
  }

  close(): Promise<void> {
    return this.guest.close();
  }
  runTier0(c: Case): Outcome {
    this.tier1 = false;
    return this.guest.run(c);
  }
  runTier1(c: Case): Outcome {
    this.tier1 = true;
    this.regions.clear();
    this.targets.clear();
    this.forgetNotes();
    return this.guest.run(c);
  }
  /** As vCPUs do when a slot is used again. */
  private forgetNotes(): void {
    const { cpu } = this.guest;
    cpu.mmu.tlb.codeLost();
    cpu.u8.fill(0, cpu.base + RETURN_CACHE, cpu.base + RETURN_CACHE + RETURN_CACHE_SIZE);
  }

  /** Lets user code write its own pages. */
  makeCodeWritable(): void {
    const { cpu } = this.guest;
    const { ram, u64 } = this.inside;
    for (let page = 0; page < CODE_PAGES; page++) {
      let table = Number(cpu.env.cr3);
      for (let level = 3; ; level--) {
        const index = Math.floor((CODE + page * PAGE) / 2 ** (12 + 9 * level)) & 511;
        const at = (ram + table + index * 8) >>> 3;
        if (level === 0) {
          u64[at] |= WRITABLE;
          break;
        }
        table = Number(u64[at] & TABLE_ADDRESS);
      }
    }
    cpu.mmu.tlb.flushAll();
  }

  /** In place of tier 0's `run`: user code as regions. */
  private run(env: number): number {
    const { cpu } = this.guest;
    const { i32, u32, w } = cpu;
    for (;;) {
      const kind = cpu.get(W_CODE_KIND);
      if (cpu.get(W_CPL) !== 3 || !isCodeSize(kind)) return this.tier0(env, 0);
      if (cpu.get(W_INHIBIT) !== 0 || debugActive(cpu)) return REASON.LOOKUP;
      if (Atomics.load(i32, w + W.exitRequest) !== 0) return REASON.KICK;
      const region = this.switching?.once(2)
        ? undefined
        : this.regionAt(u32[w + W.ip], u32[w + W.ip + 1], kind);
      let alone = region === undefined;
      if (region !== undefined) {
        this.counts.entered++;
        const kicked = this.switching?.once(3) === true;
        // it is left where it looks at this next
        if (kicked) Atomics.store(i32, w + W.exitRequest, 1);
        const jumps = u32[w + W.jumps];
        const status = region.run(env, this.record);
        this.counts.jumped += u32[w + W.jumps] - jumps;
        this.flagWords(env);
        if (kicked && Atomics.load(i32, w + W.stopRequested) === 0) {
          Atomics.store(i32, w + W.exitRequest, 0);
          if (status - STATUS.EXIT === REASON.KICK) {
            this.counts.kicked++;
            continue;
          }
        }
        if (status === STATUS.JUMP) {
          u32[w + W.ip] = u32[w + W.jumpTarget];
          u32[w + W.ip + 1] = u32[w + W.jumpTarget + 1];
          if (region.seeks && this.targets.size < MAX_TARGETS && !this.targets.has(u32[w + W.ip])) {
            this.targets.add(u32[w + W.ip]);
            this.regions.delete(region.at);
          }
          continue;
        }
        const reason = status - STATUS.EXIT;
        if (reason === REASON.LOOKUP || reason === REASON.HOT) continue;
        // it may be one that was jumped to
        if (reason === REASON.REGION && !this.isValid(u32[w + W.exitDetail])) continue;
        alone = reason === REASON.ALONE || reason === REASON.REGION;
        if (!alone) return reason;
      }
      this.counts.alone++;
      const record = this.inside.vcpu.code.oneShot(PSEUDO.STOP);
      if (record < 0) return REASON.EXCEPTION;
      // a jump comes back too
      Atomics.store(i32, w + W.exitRequest, 1);
      const reason = this.tier0(env, record);
      if (Atomics.load(i32, w + W.stopRequested) === 0) Atomics.store(i32, w + W.exitRequest, 0);
      if (reason !== REASON.BUDGET && reason !== REASON.KICK && reason !== REASON.LOOKUP) return reason;
    }
  }

  /** The region at an address, compiled if it is new; undefined when there is none. */
  private regionAt(lo: number, hi: number, codeSize: CodeSize): Compiled | undefined {
    if (hi !== 0 || this.pageAddress(lo) < 0) return undefined;
    const { regions } = this;
    const { codeCache } = this.inside.worker;
    codeCache.reserve();
    if (codeCache.generation !== this.generation) {
      // all code was dropped
      this.generation = codeCache.generation;
      this.record = 0;
      regions.clear();
    }
    let region = regions.get(lo);
    if (region === undefined ? !regions.has(lo) : !this.isValid(region.description)) {
      region = this.compile(lo, codeSize);
      regions.set(lo, region);
    }
    const { u16, u32, w } = this.guest.cpu;
    u32[w + W.codePage] = (lo & -PAGE) >>> 0;
    u32[w + W.codePage + 1] = 0;
    if (this.record === 0) this.record = codeCache.reserveDescription(RECORD_SIZE);
    u16[(this.record + RECORD.OFFSET) >>> 1] = lo & (PAGE - 1);
    return region;
  }

  /** Wasm address of a code page, or -1 outside the code. */
  private pageAddress(lo: number): number {
    if (lo < CODE || lo >= CODE + CODE_PAGES * PAGE) return -1;
    const host = this.guest.cpu.mmu.fetchTranslate((lo & -PAGE) >>> 0, 0);
    return host < 0 ? -1 : host & -PAGE;
  }
  /** The page's descriptor, put into the code TLB. */
  private descriptor(lo: number, host: number, codeSize: CodeSize): number {
    const { cpu } = this.guest;
    const { codeCache } = this.inside.worker;
    const { desc } = codeCache.lookup(host + (lo & (PAGE - 1)), codeSize);
    const set = cpu.u32[cpu.w + W.tlbSet];
    const entry = cpu.w + ((set + TLB_SET.CODE) >>> 2) + ((lo >>> 12) & (CODE_TLB_ENTRIES - 1)) * 4;
    cpu.u32[entry + 2] = desc;
    return desc;
  }

  private isValid(description: number): boolean {
    return this.guest.cpu.u8[description + REGION.VALID] !== 0;
  }

  private compile(lo: number, codeSize: CodeSize): Compiled | undefined {
    const { cpu } = this.guest;
    const { codeCache } = this.inside.worker;
    const head = (lo & -PAGE) >>> 0;
    const targets = [...this.targets].map((at) => at - head);
    const region = findRegion(
      {
        bytes: cpu.u8,
        codeSize,
        page: (distance) => this.pageAddress(head + distance * PAGE),
        executed: () => true,
        branches: () => undefined,
        led: (at) => targets.slice((at >>> 2) % (targets.length + 1)),
        compilable: (insn) => isCompilable(insn, codeSize) && this.wanted(insn),
      },
      lo & (PAGE - 1),
      targets,
    );
    if (region === undefined) return undefined;
    const descriptors = region.pages.map((d) =>
      this.descriptor(head + d * PAGE, this.pageAddress(head + d * PAGE), codeSize),
    );
    const slot = this.slot++ % REGION_SLOTS;
    if (slot === 0) this.forgetNotes();
    const description = codeCache.locked(() => this.publish(region, descriptors, slot));
    this.note(region);
    const bytes = buildRegionModule(
      region,
      { description, slot, descriptors, firstHandler: this.firstHandler, name: 'region' },
      this.memoryPages,
    );
    const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), this.imports);
    const seeks = region.blocks.some(({ end }) => end === 'indirect');
    const run = instance.exports.region as Run;
    this.table.set(this.firstHandler + slot, run);
    return { run, description, at: lo, seeks };
  }
  /** Makes a change of its code end the region, as the JIT worker does; the head's record stays as it is. */
  private publish(region: Region, descriptors: readonly number[], slot: number): number {
    const { u32 } = this.guest.cpu;
    const { codeCache } = this.inside.worker;
    for (const { steps } of region.blocks) {
      for (const { at, insn } of steps) {
        for (let byte = at; byte < at + insn.length; byte++) {
          const distance = Math.floor(byte / PAGE);
          const offset = byte - distance * PAGE;
          codeCache.cover(descriptors[region.pages.indexOf(distance)], offset, offset + 1);
        }
      }
    }
    const description = codeCache.reserveDescription(REGION.SIZE);
    const w = description >>> 2;
    u32[w + REGION.SLOT / 4] = slot;
    u32[w + REGION.HANDLER / 4] = this.firstHandler + slot;
    // one entry, which no record leads to
    u32[w + REGION.ENTRY_COUNT / 4] = 0;
    u32[w + REGION.ENTRIES / 4 + 1] = new RegionGraph(region).index(region.head) as number;
    u32[w + REGION.PAGES / 4] = descriptors.length;
    descriptors.forEach((d, i) => {
      u32[w + REGION.PAGE_LIST / 4 + i * 2] = region.pages[i];
      u32[w + REGION.PAGE_LIST / 4 + i * 2 + 1] = d;
    });
    this.guest.cpu.u8[description + REGION.VALID] = 1;
    codeCache.publishRegion(description, this.firstHandler, this.firstHandler, descriptors);
    return description;
  }
  private note(region: Region): void {
    this.counts.regions++;
    for (const { steps } of region.blocks) {
      this.counts.compiled += steps.length;
      for (const { insn } of steps) this.counts.forms.add(formKey(insn, region.codeSize));
    }
  }
}
