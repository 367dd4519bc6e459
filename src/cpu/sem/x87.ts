/** x87 instructions that work on numbers. Source: Intel SDM vol. 1, chapter 8; vol. 2, instruction pages. */
import { type Expr, i32, i64 } from '../../wasm/index.ts';
import { CpuEnv, SEG, Segment } from '../env.ts';
import { type Operation, OPERATIONS } from '../fpu/arithmetic.ts';
import { FORMAT } from '../fpu/convert.ts';
import { control, RESULT, setResult } from '../fpu/core.ts';
import type { X87Functions } from '../fpu/functions.ts';
import { EXCEPTIONS, FPU, FSW, SIGN_BIT } from '../fpu/layout.ts';
import { STATE_HELPERS } from '../fpu/state-helpers.ts';
import { isGenerated, TRANSCENDENTAL_FUNCTIONS } from '../fpu/transcendental.ts';
import { TRANSCENDENTAL_HELPERS } from '../fpu/transcendental-helpers.ts';
import { type Ins, type Semantics, signExtend } from './ins.ts';
import type { Helper } from './misc-helpers.ts';
import { X87_CONTROL_SEMANTICS } from './x87-control.ts';

const CS_SELECTOR = CpuEnv.offsetOf('segs') + SEG.CS * Segment.size + Segment.offsetOf('selector');

/** Notes the last instruction and its memory operand; after the last possible fault. */
function notePointers(ins: Ins): void {
  ins.envStore(8, FPU.ip, ins.instructionIp());
  ins.envStore(2, FPU.cs, ins.envLoad('i32_16u', CS_SELECTOR));
  if (ins.kinds.includes('m')) ins.envStore(8, FPU.dp, ins.address(0));
}

function x87(
  name: string,
  forms: readonly string[],
  sizes: readonly number[],
  emit: (ins: Ins) => void,
): Semantics {
  return { name, forms, sizes, unit: 'x87', emit };
}
/** An instruction without memory operand. */
function plain(name: string, form: string, emit: (ins: Ins) => void): Semantics {
  return x87(name, [form], [4], (ins) => {
    notePointers(ins);
    emit(ins);
  });
}

/** A memory operand as an 80-bit number: mantissa and high are bound; `flags` are those of the conversion. */
function readNumber(ins: Ins, fns: X87Functions, integer: boolean): { m: Expr; e: Expr; flags: Expr } {
  const { f, env, size } = ins;
  const value = ins.load(ins.address(0), size);
  const flags = integer
    ? f.copy(f.call(fns.fromInteger, env, signExtend(value, size, 8)))
    : f.copy(f.call(size === 4 ? fns.fromFloat32 : fns.fromFloat64, env, value));
  notePointers(ins);
  return {
    m: f.copy(ins.envLoad('i64', RESULT.mantissa)),
    e: f.copy(ins.envLoad('i32', RESULT.high)),
    flags,
  };
}

/** FADD, FIADD, FADDP …: all forms of one operation. */
function arithmetic(fns: X87Functions, stem: Operation): Semantics[] {
  const registers = (name: string, pops: number): Semantics =>
    plain(name, 'ss', (ins) =>
      ins.f.run(ins.f.call(fns[`${stem}Registers`], ins.env, ins.stIndex(0), ins.stIndex(1), i32(pops))),
    );
  const memory = (name: string, sizes: number[], integer: boolean): Semantics =>
    x87(name, ['m'], sizes, (ins) => {
      const { m, e, flags } = readNumber(ins, fns, integer);
      ins.f.run(ins.f.call(fns[`${stem}Memory`], ins.env, m, e, flags));
    });
  return [
    registers(`f${stem}`, 0),
    registers(`f${stem}p`, 1),
    memory(`f${stem}`, [4, 8], false),
    memory(`fi${stem}`, [2, 4], true),
  ];
}

/** FCOM, FCOMP, FICOM, FICOMP, FUCOM …. */
function comparisons(fns: X87Functions): Semantics[] {
  const registers = (name: string, quiet: boolean, pops: number, form = 'ss'): Semantics =>
    plain(name, form, (ins) => {
      const i = form === '' ? i32(1) : ins.stIndex(1);
      ins.f.run(ins.f.call(fns.compareRegister, ins.env, i, i32(quiet ? 1 : 0), i32(pops)));
    });
  const memory = (name: string, sizes: number[], integer: boolean, pops: number): Semantics =>
    x87(name, ['m'], sizes, (ins) => {
      const { m, e, flags } = readNumber(ins, fns, integer);
      ins.f.run(ins.f.call(fns.compareMemory, ins.env, m, e, flags, i32(pops)));
    });
  const toFlags = (name: string, quiet: boolean, pops: number): Semantics =>
    plain(name, 'ss', (ins) => {
      const { f } = ins;
      const call = f.call(fns.compareFlags, ins.env, ins.stIndex(1), i32(quiet ? 1 : 0), i32(pops));
      const r = f.copy(call);
      const bit = (n: number): Expr => r.shrU(n).and(1);
      ins.flags.setAll({ cf: bit(8), pf: bit(10), zf: bit(14) });
    });
  return [
    registers('fcom', false, 0),
    registers('fcomp', false, 1),
    registers('fcompp', false, 2, ''),
    registers('fucom', true, 0),
    registers('fucomp', true, 1),
    registers('fucompp', true, 2, ''),
    memory('fcom', [4, 8], false, 0),
    memory('fcomp', [4, 8], false, 1),
    memory('ficom', [2, 4], true, 0),
    memory('ficomp', [2, 4], true, 1),
    toFlags('fcomi', false, 0),
    toFlags('fcomip', false, 1),
    toFlags('fucomi', true, 0),
    toFlags('fucomip', true, 1),
    plain('ftst', '', (ins) =>
      ins.f.run(ins.f.call(fns.compareMemory, ins.env, i64(0), i32(0), i32(0), i32(0))),
    ),
    plain('fxam', '', (ins) => ins.f.run(ins.f.call(fns.examine, ins.env))),
  ];
}

function loads(fns: X87Functions): Semantics[] {
  const pushResult = (ins: Ins, flags: Expr): void => ins.f.run(ins.f.call(fns.push, ins.env, flags));
  return [
    plain('fld', 's', (ins) => ins.f.run(ins.f.call(fns.load, ins.env, ins.stIndex(0)))),
    x87('fld', ['m'], [4, 8], (ins) => {
      const { f, env, size } = ins;
      const value = ins.load(ins.address(0), size);
      notePointers(ins);
      f.run(f.call(size === 4 ? fns.loadFloat32 : fns.loadFloat64, env, value));
    }),
    x87('fld', ['m'], [10], (ins) => {
      const { m, e } = readTen(ins);
      setResult(ins.f, ins.env, m, e);
      pushResult(ins, i32(0));
    }),
    x87('fild', ['m'], [2, 4, 8], (ins) => {
      const { flags } = readNumber(ins, fns, true);
      pushResult(ins, flags);
    }),
    x87('fbld', ['m'], [10], (ins) => {
      const { m, e } = readTen(ins);
      pushResult(ins, ins.f.copy(ins.f.call(fns.fromBcd, ins.env, m, e)));
    }),
  ];
}

/** Ten bytes of memory: i64 and i32, bound. */
function readTen(ins: Ins): { m: Expr; e: Expr } {
  const address = ins.address(0);
  const m = ins.load(address, 8);
  const e = ins.load(address.add(8), 2);
  notePointers(ins);
  return { m, e };
}

/** Stores ST(0) to memory in a format; the store does not happen after an unmasked exception other than PE. */
function storeMemory(ins: Ins, fns: X87Functions, format: number, pops: number, truncate = false): void {
  const { f, env, size } = ins;
  const address = ins.address(0);
  const flags = f.copy(f.call(fns.toMemory, env, i32(format), i32(truncate ? 1 : 0)));
  const stopped = flags.and(control(env).xor(-1)).and(EXCEPTIONS & ~FSW.PE);
  f.if(
    stopped.eqz(),
    () => {
      const mantissa = ins.envLoad('i64', RESULT.mantissa);
      if (size === 10) {
        const m = f.copy(mantissa);
        const e = f.copy(ins.envLoad('i32', RESULT.high));
        const host = ins.probeWrite(address, 10);
        f.store(8, host, 0, m);
        f.store(2, host, 8, e);
        ins.commit(host, 10);
      } else if (size === 8) {
        ins.store(address, mantissa, 8);
      } else {
        ins.store(address, size === 2 ? mantissa.i32().low(16) : mantissa.i32(), size);
      }
    },
    undefined,
    true,
  );
  notePointers(ins);
  f.run(f.call(fns.status, env, flags, i32(pops)));
}

function stores(fns: X87Functions): Semantics[] {
  const integerFormat: Record<number, number> = { 2: FORMAT.int16, 4: FORMAT.int32, 8: FORMAT.int64 };
  const toRegister = (name: string, pops: number): Semantics =>
    plain(name, 's', (ins) => ins.f.run(ins.f.call(fns.store, ins.env, ins.stIndex(0), i32(pops))));
  const toFloat = (name: string, pops: number): Semantics =>
    x87(name, ['m'], [4, 8], (ins) =>
      storeMemory(ins, fns, ins.size === 4 ? FORMAT.float32 : FORMAT.float64, pops),
    );
  const toInteger = (name: string, sizes: number[], pops: number, truncate = false): Semantics =>
    x87(name, ['m'], sizes, (ins) => storeMemory(ins, fns, integerFormat[ins.size], pops, truncate));
  return [
    toRegister('fst', 0),
    toRegister('fstp', 1),
    plain('fstpnce', 's', (ins) => ins.f.run(ins.f.call(fns.storeUnchecked, ins.env, ins.stIndex(0)))),
    toFloat('fst', 0),
    toFloat('fstp', 1),
    x87('fstp', ['m'], [10], (ins) => storeMemory(ins, fns, FORMAT.extended, 1)),
    toInteger('fist', [2, 4], 0),
    toInteger('fistp', [2, 4, 8], 1),
    toInteger('fisttp', [2, 4, 8], 1, true),
    x87('fbstp', ['m'], [10], (ins) => storeMemory(ins, fns, FORMAT.bcd, 1)),
  ];
}

/**
 * Constants: the mantissa cut off after 64 bits, sign and exponent, and whether it is larger when rounded to
 * nearest (up, it always is). Source: SDM vol. 2, FLD1…; the values to more than 64 bits.
 */
const CONSTANTS: readonly [string, bigint, number, 'exact' | 'below' | 'above'][] = [
  ['fld1', 0x8000000000000000n, 0x3fff, 'exact'],
  ['fldl2t', 0xd49a784bcd1b8afen, 0x4000, 'below'],
  ['fldl2e', 0xb8aa3b295c17f0bbn, 0x3fff, 'above'],
  ['fldpi', 0xc90fdaa22168c234n, 0x4000, 'above'],
  ['fldlg2', 0x9a209a84fbcff798n, 0x3ffd, 'above'],
  ['fldln2', 0xb17217f7d1cf79abn, 0x3ffe, 'above'],
  ['fldz', 0n, 0, 'exact'],
];

function constants(fns: X87Functions): Semantics[] {
  return CONSTANTS.map(([name, mantissa, high, rest]) =>
    plain(name, '', (ins) => {
      const rounding = control(ins.env).shrU(10).and(3);
      const up = rest === 'exact' ? i32(0) : rest === 'above' ? rounding.and(1).eqz() : rounding.eq(2);
      setResult(ins.f, ins.env, i64(mantissa).add(up.i64u()), i32(high));
      ins.f.run(ins.f.call(fns.push, ins.env, i32(0)));
    }),
  );
}

function moves(fns: X87Functions): Semantics[] {
  const sign = (name: string, and: number, xor: number): Semantics =>
    plain(name, '', (ins) => ins.f.run(ins.f.call(fns.sign, ins.env, i32(and), i32(xor))));
  const conditional = (name: string, pair: number, negate: number): Semantics =>
    plain(name, 'ss', (ins) => {
      const condition = ins.flags.condition(pair * 2 + negate);
      ins.f.run(ins.f.call(fns.move, ins.env, ins.stIndex(1), condition));
    });
  return [
    plain('fxch', 'ss', (ins) => ins.f.run(ins.f.call(fns.exchange, ins.env, ins.stIndex(1)))),
    sign('fchs', 0xffff, SIGN_BIT),
    sign('fabs', 0x7fff, 0),
    ...['b', 'e', 'be', 'u'].flatMap((suffix, i) => {
      const pair = [1, 2, 3, 5][i];
      return [conditional(`fcmov${suffix}`, pair, 0), conditional(`fcmovn${suffix}`, pair, 1)];
    }),
  ];
}

function others(fns: X87Functions): Semantics[] {
  const call = (name: string, fn: keyof X87Functions, ...args: number[]): Semantics =>
    plain(name, '', (ins) => ins.f.run(ins.f.call(fns[fn], ins.env, ...args.map((a) => i32(a)))));
  return [
    call('fsqrt', 'sqrt'),
    call('frndint', 'roundToInteger'),
    call('fscale', 'scale'),
    call('fxtract', 'extract'),
    call('fprem', 'remainder', 0),
    call('fprem1', 'remainder', 1),
  ];
}

/** By a generated function, if there is one and the case is a usual one; else by the helper. */
function transcendental(ins: Ins, fns: X87Functions, name: string): void {
  if (!isGenerated(name)) return ins.helper(name);
  const done = ins.f.call(fns[TRANSCENDENTAL_FUNCTIONS[name]], ins.env);
  ins.f.if(done.eqz(), () => ins.helper(name), undefined, false);
}

/** Instructions on the x87 unit; `fns` are in the module that the semantics are emitted into. */
export function makeX87Semantics(fns: X87Functions): Semantics[] {
  return [
    ...X87_CONTROL_SEMANTICS,
    ...OPERATIONS.flatMap((operation) => arithmetic(fns, operation)),
    ...comparisons(fns),
    ...loads(fns),
    ...stores(fns),
    ...constants(fns),
    ...moves(fns),
    ...others(fns),
    ...Object.keys(TRANSCENDENTAL_HELPERS).map((name) =>
      plain(name, '', (ins) => transcendental(ins, fns, name)),
    ),
  ];
}

/** Helper instructions of the x87 and of state saving, by instruction name. */
export const X87_HELPERS: Readonly<Record<string, Helper>> = { ...STATE_HELPERS, ...TRANSCENDENTAL_HELPERS };
/** Those that access their memory operand themselves. */
export const X87_ADDRESS_ONLY: ReadonlySet<string> = new Set(Object.keys(STATE_HELPERS));
