/**
 * The fast ways of transcendental instructions against the helpers that they stand for:
 *
 *   node test/fpu/transcendental.ts [--cases N] [--seed N]
 *
 * Where the fast way does the instruction, registers, tags and status must be the helper's; else nothing may change.
 */
import { parseArgs } from 'node:util';
import { emitX87Functions } from '../../src/cpu/fpu/functions.ts';
import { FPU } from '../../src/cpu/fpu/layout.ts';
import { TRANSCENDENTAL_FUNCTIONS } from '../../src/cpu/fpu/transcendental.ts';
import { TRANSCENDENTAL_HELPERS } from '../../src/cpu/fpu/transcendental-helpers.ts';
import { makeTables } from '../../src/cpu/fpu/transcendental-tables.ts';
import { ModuleBuilder } from '../../src/wasm/index.ts';
import { Random } from './cases.ts';
import { PAGES, TestMachine } from './machine.ts';

type Name = keyof typeof TRANSCENDENTAL_FUNCTIONS;
export const NAMES = Object.keys(TRANSCENDENTAL_FUNCTIONS) as Name[];

export interface Comparison {
  readonly cases: number;
  /** Cases that were left to the helper. */
  readonly left: number;
  /** Of operands that are normal, within what the instruction is for, and not of special values. */
  readonly usual: number;
  readonly leftOfUsual: number;
  /** The first difference. */
  readonly difference: string | undefined;
}

const BIAS = 16383;

/** x87 state from the first register to the tags. */
export class Comparer {
  private readonly machine = new TestMachine();
  private readonly functions: Record<string, (env: number) => number> = {};

  constructor() {
    const m = new ModuleBuilder();
    m.importMemory('env', 'memory', PAGES, PAGES);
    const fns = emitX87Functions(m);
    for (const fn of Object.values(TRANSCENDENTAL_FUNCTIONS)) m.exportFunc(fn, fns[fn]);
    const { memory, cpu } = this.machine;
    const instance = new WebAssembly.Instance(new WebAssembly.Module(m.build()), { env: { memory } });
    Object.assign(this.functions, instance.exports);
    makeTables(cpu);
  }

  /** A random number of the instruction's operand `n`; `usual`: it is one that the fast way is for. */
  private operand(random: Random, name: Name, n: number): { m: bigint; e: number; usual: boolean } {
    const pick = random.below(16);
    if (pick === 0) {
      const e = [0, 0x7fff, 0x7ffe, 1, BIAS][random.below(5)] | (random.below(2) << 15);
      return { m: random.u64() >> BigInt(random.below(64)), e, usual: false };
    }
    let m = random.u64() | (1n << 63n);
    // numbers of few bits, and near those
    const few = pick === 1;
    if (few) m = (m >> 54n) << 54n;
    if (pick === 2) m = BigInt.asUintN(64, ((m >> 54n) << 54n) + BigInt(random.below(5) - 2)) | (1n << 63n);
    const spread = (from: number, to: number): number => BIAS + from + random.below(to - from + 1);
    const sign = random.below(2) << 15;
    let e: number;
    let usual = !few;
    if (name === 'f2xm1') e = spread(-20, -1) | sign;
    else if (name === 'fyl2xp1' && n === 0) e = spread(-30, -3) | sign;
    else if (name === 'fyl2x' && n === 0) {
      e = pick < 9 ? spread(-2, 1) : spread(-200, 200);
      // near 1
      if (pick === 3) m = (1n << 63n) | (random.u64() >> BigInt(1 + random.below(60)));
      if (pick === 4) m = -1n - (random.u64() >> BigInt(1 + random.below(60)));
      if (pick === 3 || pick === 4) e = BIAS - (pick - 3);
      m = BigInt.asUintN(64, m);
      usual &&= pick !== 3 && pick !== 4;
    } else if (name === 'fsin' || name === 'fcos') {
      e = (pick < 12 ? spread(-12, 6) : spread(-30, 30)) | sign;
      usual &&= pick < 12;
    } else e = spread(-12, 12) | sign;
    return { m, e, usual };
  }

  compare(name: Name, cases: number, seed: number): Comparison {
    const random = new Random(seed);
    const { cpu } = this.machine;
    const { u8, u16, u32, u64, base } = cpu;
    const state = (): string => Buffer.from(u8.slice(base + FPU.regs, base + FPU.tags + 1)).toString('hex');
    const run = this.functions[TRANSCENDENTAL_FUNCTIONS[name]];
    const binary = name.startsWith('fy') || name === 'fpatan';
    const before = new Uint8Array(FPU.tags + 1 - FPU.regs);
    let [left, usualCases, leftOfUsual] = [0, 0, 0];
    for (let i = 0; i < cases; i++) {
      const top = random.below(8);
      u32[(base + FPU.top) >>> 2] = top;
      const control = random.below(4) === 0 ? random.below(0x10000) & 0x0fff : 0x037f;
      u16[(base + FPU.control) >>> 1] = control | (random.below(20) === 0 ? 0 : 0x20);
      u16[(base + FPU.status) >>> 1] = random.below(2) * 0x4700;
      u8[base + FPU.tags] = random.below(30) === 0 ? random.below(256) : 0xff;
      let usual = (u16[(base + FPU.control) >>> 1] & 0x20) !== 0 && u8[base + FPU.tags] === 0xff;
      const shown: string[] = [];
      for (let n = 0; n < 8; n++) {
        const x = this.operand(random, name, n);
        const at = base + FPU.regs + ((top + n) & 7) * 16;
        u64[at >>> 3] = x.m;
        u64[(at >>> 3) + 1] = 0n;
        u16[(at + 8) >>> 1] = x.e;
        if (n < (binary ? 2 : 1)) {
          usual &&= x.usual;
          shown.push(`${x.e.toString(16)}:${x.m.toString(16)}`);
        }
      }
      before.set(u8.subarray(base + FPU.regs, base + FPU.tags + 1));
      const given = state();
      const done = run(base) !== 0;
      const fast = state();
      u8.set(before, base + FPU.regs);
      if (usual) usualCases++;
      if (!done) {
        left++;
        if (usual) leftOfUsual++;
        // the scratch registers that it may use are not of the state
        if (fast === given) continue;
      } else {
        TRANSCENDENTAL_HELPERS[name](cpu, 0);
        if (state() === fast) continue;
      }
      const difference = `${name} ${shown.join(' ')} control ${control.toString(16)}: ${done ? 'done' : 'left'}\n  ${fast}\n  ${done ? state() : given}`;
      return { cases: i, left, usual: usualCases, leftOfUsual, difference };
    }
    return { cases, left, usual: usualCases, leftOfUsual, difference: undefined };
  }

  /** Nanoseconds of a call of the fast way, and of the helper's. */
  time(name: Name, seed: number): { fast: number; helper: number } {
    const random = new Random(seed);
    const { cpu } = this.machine;
    const { u8, u16, u32, u64, base } = cpu;
    u16[(base + FPU.control) >>> 1] = 0x037f;
    const run = this.functions[TRANSCENDENTAL_FUNCTIONS[name]];
    const measure = (body: () => void, calls: number): number => {
      const begin = process.hrtime.bigint();
      for (let i = 0; i < calls; i++) {
        u32[(base + FPU.top) >>> 2] = 0;
        u8[base + FPU.tags] = 0xff;
        const at = base + FPU.regs;
        u32[(at + 16) >>> 2] = i;
        u16[(at + 8) >>> 1] = name === 'f2xm1' ? BIAS - 2 : name === 'fyl2xp1' ? BIAS - 5 : BIAS + 3;
        u32[at >>> 2] = i * 77777;
        u32[(at + 4) >>> 2] = 0x80000000 | (i * 12345);
        body();
      }
      return Number(process.hrtime.bigint() - begin) / calls;
    };
    for (let n = 0; n < 2; n++) {
      u64[(base + FPU.regs + n * 16) >>> 3] = random.u64() | (1n << 63n);
      u16[(base + FPU.regs + n * 16 + 8) >>> 1] = BIAS;
    }
    measure(() => run(base), 300_000);
    return {
      fast: measure(() => run(base), 300_000),
      helper: measure(() => TRANSCENDENTAL_HELPERS[name](cpu, 0), 30_000),
    };
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      cases: { type: 'string', default: '1000000' },
      seed: { type: 'string', default: '1' },
    },
  });
  const comparer = new Comparer();
  for (const name of NAMES) {
    const c = comparer.compare(name, Number(values.cases), Number(values.seed));
    const { fast, helper } = comparer.time(name, 1);
    console.log(
      `${name}: ${c.cases} cases; of ${c.usual} usual ones ${c.leftOfUsual} left to the helper; ` +
        `${fast.toFixed(0)} ns, helper ${helper.toFixed(0)}`,
    );
    if (c.difference === undefined) continue;
    console.log(c.difference);
    process.exitCode = 1;
  }
}
