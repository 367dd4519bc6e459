/** One vCPU with the real tier 0, without a machine around it: executes single instructions on given state. */
import { NAMES } from '../../src/cpu/decode/table.ts';
import { helperId } from '../../src/machine/helpers.ts';
import { CpuEnv, type CpuEnvView, REASON, VCPU_BLOCK_SIZE } from '../../src/cpu/env.ts';
import { allSemantics } from '../../src/cpu/sem/index.ts';
import { MISC_ADDRESS_ONLY, MISC_HAS_RESULT, MISC_HELPERS } from '../../src/cpu/sem/misc-helpers.ts';
import { X87_ADDRESS_ONLY, X87_HELPERS } from '../../src/cpu/sem/x87.ts';
import { Cpu } from '../../src/cpu/sys/cpu.ts';
import { CpuModel } from '../../src/cpu/sys/cpuid.ts';
import { PhysMap, PhysMemory } from '../../src/cpu/sys/phys-memory.ts';
import { powerOn } from '../../src/cpu/sys/reset.ts';
import { buildTier0 } from '../../src/cpu/tier0/build.ts';
import { callHelper } from '../../src/cpu/tier0/helper-call.ts';
import { PSEUDO, RECORD_SIZE } from '../../src/cpu/tier0/record.ts';
import { Translator } from '../../src/cpu/tier0/translate.ts';

export const PAGES = 128;
const MAP_BASE = 0x10000;
const CODE_MAP_BASE = 0x20000;
const RECORDS = 0x30000;
const ENV_BASE = 0x100000;
const RAM_BASE = 0x400000;
const RAM_SIZE = 0x200000;

/** Reason and exception of one step. */
export interface Outcome {
  reason: number;
  vector: number;
  error: number;
}

const helpers = { ...MISC_HELPERS, ...X87_HELPERS };

export class TestMachine {
  readonly cpu: Cpu;
  readonly env: CpuEnvView;
  readonly buffer: SharedArrayBuffer;
  readonly memory: WebAssembly.Memory;
  readonly ram: Uint8Array<SharedArrayBuffer>;
  readonly ramView: DataView<SharedArrayBuffer>;
  /** Offsets of the env's fields are added to this. */
  readonly envView: DataView<SharedArrayBuffer>;
  readonly translator: Translator;
  private readonly run: (env: number, record: number) => number;
  private readonly cache = new Map<string, number>();
  private nextRecord = RECORDS;

  constructor() {
    const memory = new WebAssembly.Memory({ initial: PAGES, maximum: PAGES, shared: true });
    this.memory = memory;
    this.buffer = memory.buffer as unknown as SharedArrayBuffer;
    const mem = new PhysMemory({
      buffer: this.buffer,
      ramBase: RAM_BASE,
      ramSize: RAM_SIZE,
      mapBase: MAP_BASE,
      codeMapBase: CODE_MAP_BASE,
      mmio: { read: () => 0xff, write: () => {} },
    });
    if (PhysMap.size > CODE_MAP_BASE - MAP_BASE || VCPU_BLOCK_SIZE > RAM_BASE - ENV_BASE)
      throw new Error('layout');
    mem.initMap();
    const nothing = (): never => {
      throw new Error('not here');
    };
    this.cpu = new Cpu({
      buffer: this.buffer,
      base: ENV_BASE,
      mem,
      ports: { read: nothing, write: nothing },
      apic: {
        readMsr: nothing,
        writeMsr: nothing,
        readTscDeadline: nothing,
        writeTscDeadline: nothing,
        tscChanged: () => {},
        getCr8: () => 0,
        setCr8: nothing,
        apicBaseChanged: () => {},
      },
      clock: { readTsc: nothing },
      model: new CpuModel('max'),
      codeCache: { written: () => {} },
      random: () => 0x12345678,
    });
    this.env = this.cpu.env;
    this.ram = new Uint8Array(this.buffer, RAM_BASE, RAM_SIZE);
    this.ramView = new DataView(this.buffer, RAM_BASE, RAM_SIZE);
    this.envView = new DataView(this.buffer, ENV_BASE, CpuEnv.size);
    powerOn(this.cpu);
    this.mode64();
    const module = buildTier0({ memoryPages: PAGES, semantics: allSemantics, helperId });
    this.translator = new Translator(module.handlers.table(), {
      id: helperId,
      prefers: () => false,
      has: (name) => helpers[name] !== undefined,
      addressOnly: (name) => X87_ADDRESS_ONLY.has(name) || MISC_ADDRESS_ONLY.has(name),
      hasResult: (name) => MISC_HAS_RESULT.has(name),
    });
    const table = NAMES.map((name) => helpers[name]);
    const { mmu } = this.cpu;
    const instance = new WebAssembly.Instance(new WebAssembly.Module(module.bytes), {
      env: {
        memory,
        slowLoad: (_: number, size: number) => mmu.slowLoad(size),
        slowStore: (_: number, size: number) => mmu.slowStore(size),
        rmwBegin: (_: number, size: number) => mmu.rmwBegin(size),
        rmwCommit: (_: number, size: number) => mmu.rmwCommit(size),
        helper: (_: number, id: number, size: number) => table[id](this.cpu, size),
        helperRecord: (_: number, record: number) => callHelper(this.cpu, record, table),
        exclusive: () => {},
      },
    });
    this.run = instance.exports.run as typeof this.run;
  }

  /** 64-bit code at privilege 0, without paging; x87 and SSE on. */
  mode64(): void {
    const { env } = this;
    for (let s = 0; s < 6; s++) env.segs[s].base = 0n;
    env.cr0 = 0x33n;
    env.cr4 = 0x40600n;
    env.xcr0 = 7n;
    env.codeSize = 2;
    env.stackSize = 2;
    env.ip = 0n;
    env.codePage = 0n;
    env.mxcsr = 0x1f80;
    env.fpControl = 0x37f;
    env.fpTags = 0;
  }

  /** Translates one instruction and gives its record. */
  prepare(bytes: readonly number[], codeSize = 2): number {
    const key = `${codeSize} ${bytes.join()}`;
    let record = this.cache.get(key);
    if (record === undefined) {
      const { translator } = this;
      const code = Uint8Array.from([...bytes, ...new Array<number>(16).fill(0x90)]);
      const length = translator.single(code, 0, code.length, 0x100, codeSize, PSEUDO.STOP);
      if (length !== bytes.length)
        throw new Error(`${bytes.map((b) => b.toString(16))} decodes as ${length} bytes`);
      const size = translator.count * RECORD_SIZE;
      record = this.nextRecord;
      if (record + size > ENV_BASE) throw new Error('too many instructions');
      new Uint8Array(this.buffer).set(translator.buffer.subarray(0, size), record);
      this.nextRecord += size;
      this.cache.set(key, record);
    }
    return record;
  }

  /** Executes a prepared instruction. */
  step(record: number): Outcome {
    const { env } = this;
    env.excVector = 0xff;
    const reason = this.run(ENV_BASE, record);
    if (reason === REASON.EXCEPTION) return { reason, vector: env.excVector, error: env.excError };
    return { reason, vector: -1, error: 0 };
  }
  execute(bytes: readonly number[], codeSize = 2): Outcome {
    return this.step(this.prepare(bytes, codeSize));
  }
}
