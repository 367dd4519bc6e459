/** Compiles semantics into test functions and runs them on states of the oracle's layout. */
import { ModuleBuilder, i32 } from '../../src/wasm/index.ts';
import { CpuEnv, XMM_STRIDE } from '../../src/cpu/env.ts';
import { readEflags, writeEflags } from '../../src/cpu/flags.ts';
import { makeSimdSemantics } from '../../src/cpu/sem/sse.ts';
import { STATE } from './native.ts';
import { DONE, ENV, IMMEDIATE, MEMORY, TestIns } from './test-ins.ts';

/** One test function: a semantics row in one form; `immediate` undefined: read at run time. */
export interface Form {
  readonly name: string;
  readonly form: string;
  readonly size: number;
  readonly immediate?: number;
}
const PAGES = 4;
const REGISTERS: readonly (readonly [number, number])[] = [
  [STATE.RAX, 0],
  [STATE.RCX, 1],
  [STATE.RDX, 2],
  [STATE.R8, 8],
  [STATE.R9, 9],
];

export class Machine {
  private readonly bytes: Uint8Array;
  private readonly env;
  private readonly functions: ((...args: never[]) => number)[];

  constructor(forms: readonly Form[]) {
    const m = new ModuleBuilder();
    m.importMemory('env', 'memory', PAGES, PAGES);
    const rows = makeSimdSemantics(m);
    forms.forEach((form, i) => {
      const found = rows.filter(
        (r) => r.name === form.name && r.forms.includes(form.form) && r.sizes.includes(form.size),
      );
      if (found.length !== 1)
        throw new Error(`${found.length} rows for ${form.name} ${form.form} ${form.size}`);
      const f = m.func(`${form.name}.${form.form}`, [], ['i32']);
      found[0].emit(new TestIns(f, form.form, form.size, form.immediate));
      f.ret(i32(DONE));
      m.exportFunc(`f${i}`, f);
    });
    const memory = new WebAssembly.Memory({ initial: PAGES, maximum: PAGES, shared: true });
    const instance = new WebAssembly.Instance(new WebAssembly.Module(m.build()), { env: { memory } });
    this.functions = forms.map((_, i) => instance.exports[`f${i}`] as (...args: never[]) => number);
    const buffer = memory.buffer as unknown as SharedArrayBuffer;
    this.bytes = new Uint8Array(buffer);
    this.env = CpuEnv.at(buffer, ENV);
    this.env.cr4 = 1n << 10n;
  }

  /** Runs function `i` with `state` and changes it; `immediate` for functions that read it. Gives the exception or DONE. */
  run(i: number, state: Buffer, immediate = 0): number {
    const { bytes, env } = this;
    for (let n = 0; n < 4; n++) {
      env.xmm.set(state.subarray(STATE.XMM + 16 * n, STATE.XMM + 16 * n + 16), n * XMM_STRIDE);
      env.fpRegs.set(state.subarray(STATE.MM + 8 * n, STATE.MM + 8 * n + 8), n * 16);
    }
    for (const [at, r] of REGISTERS) env.regs[r] = state.readBigUInt64LE(at);
    env.regs[7] = BigInt(MEMORY);
    env.mxcsr = state.readUInt32LE(STATE.MXCSR);
    bytes.set(state.subarray(STATE.MEMORY, STATE.MEMORY + 32), MEMORY);
    new DataView(bytes.buffer).setInt32(IMMEDIATE, immediate, true);
    writeEflags(env, state.readUInt32LE(STATE.FLAGS));
    env.fpTop = 5;
    env.fpTags = 0;
    const result = this.functions[i]();
    for (let n = 0; n < 4; n++) {
      state.set(env.xmm.subarray(n * XMM_STRIDE, n * XMM_STRIDE + 16), STATE.XMM + 16 * n);
      state.set(env.fpRegs.subarray(n * 16, n * 16 + 8), STATE.MM + 8 * n);
    }
    for (const [at, r] of REGISTERS) state.writeBigUInt64LE(env.regs[r] as bigint, at);
    state.writeUInt32LE(env.mxcsr, STATE.MXCSR);
    state.set(bytes.subarray(MEMORY, MEMORY + 32), STATE.MEMORY);
    state.writeUInt32LE(readEflags(env), STATE.FLAGS);
    return result;
  }

  setCr4(value: bigint): void {
    this.env.cr4 = value;
  }
  /** x87 state after the last run: TOP and tags. */
  x87(): { top: number; tags: number } {
    return { top: this.env.fpTop, tags: this.env.fpTags };
  }
  /** Sign and exponent word of MMX register `n`. */
  exponentWord(n: number): number {
    return this.env.fpRegs[n * 16 + 8] | (this.env.fpRegs[n * 16 + 9] << 8);
  }
}
