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
import { setComparedFlags, type StackInstruction, type StackOperation } from './x87-stack.ts';

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

/** An instruction in parts; see `StackInstruction`. Without `fetch`, one without memory operand. */
function inParts(
  name: string,
  forms: readonly string[],
  sizes: readonly number[],
  operation: StackOperation,
  perform: (ins: Ins, operands: readonly Expr[]) => Expr | void,
  fetch: (ins: Ins) => readonly Expr[] = () => [],
  integer = false,
): Semantics {
  const stack: StackInstruction = {
    operation,
    integer,
    fetch,
    perform: (ins, operands) => {
      notePointers(ins);
      return perform(ins, operands) ?? undefined;
    },
  };
  const emit = (ins: Ins): void => {
    const bits = stack.perform(ins, fetch(ins));
    if (bits !== undefined) setComparedFlags(ins, bits);
  };
  return { ...x87(name, forms, sizes, emit), stack };
}
function ofRegisters(
  name: string,
  form: string,
  operation: StackOperation,
  perform: (ins: Ins) => Expr | void,
): Semantics {
  return inParts(name, [form], [4], operation, perform);
}
function ofMemory(
  name: string,
  sizes: readonly number[],
  integer: boolean,
  operation: StackOperation,
  perform: (ins: Ins, operands: readonly Expr[]) => void,
): Semantics {
  return inParts(name, ['m'], sizes, operation, perform, fetchMemory, integer);
}
/** A memory operand; of ten bytes, eight and two. */
function fetchMemory(ins: Ins): readonly Expr[] {
  const address = ins.address(0);
  if (ins.size !== 10) return [ins.load(address, ins.size)];
  return [ins.load(address, 8), ins.load(address.add(8), 2)];
}

/** A memory operand as an 80-bit number: mantissa and high are bound; `flags` are those of the conversion. */
function toNumber(
  ins: Ins,
  fns: X87Functions,
  value: Expr,
  integer: boolean,
): { m: Expr; e: Expr; flags: Expr } {
  const { f, env, size } = ins;
  const flags = integer
    ? f.copy(f.call(fns.fromInteger, env, signExtend(value, size, 8)))
    : f.copy(f.call(size === 4 ? fns.fromFloat32 : fns.fromFloat64, env, value));
  return {
    m: f.copy(ins.envLoad('i64', RESULT.mantissa)),
    e: f.copy(ins.envLoad('i32', RESULT.high)),
    flags,
  };
}

/** FADD, FIADD, FADDP …: all forms of one operation. */
function arithmetic(fns: X87Functions, stem: Operation): Semantics[] {
  const operation = (pops: number): StackOperation => ({ kind: 'arithmetic', operation: stem, pops });
  const registers = (name: string, pops: number): Semantics =>
    ofRegisters(name, 'ss', operation(pops), (ins) =>
      ins.f.run(ins.f.call(fns[`${stem}Registers`], ins.env, ins.stIndex(0), ins.stIndex(1), i32(pops))),
    );
  const memory = (name: string, sizes: number[], integer: boolean): Semantics =>
    ofMemory(name, sizes, integer, operation(0), (ins, [value]) => {
      const { m, e, flags } = toNumber(ins, fns, value, integer);
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
    ofRegisters(name, form, { kind: 'compare', quiet, pops, to: 'status' }, (ins) => {
      const i = form === '' ? i32(1) : ins.stIndex(1);
      ins.f.run(ins.f.call(fns.compareRegister, ins.env, i, i32(quiet ? 1 : 0), i32(pops)));
    });
  const memory = (name: string, sizes: number[], integer: boolean, pops: number): Semantics =>
    ofMemory(name, sizes, integer, { kind: 'compare', quiet: false, pops, to: 'status' }, (ins, [value]) => {
      const { m, e, flags } = toNumber(ins, fns, value, integer);
      ins.f.run(ins.f.call(fns.compareMemory, ins.env, m, e, flags, i32(pops)));
    });
  const toFlags = (name: string, quiet: boolean, pops: number): Semantics =>
    ofRegisters(name, 'ss', { kind: 'compare', quiet, pops, to: 'flags' }, (ins) => {
      const i = ins.stIndex(1);
      return ins.f.copy(ins.f.call(fns.compareFlags, ins.env, i, i32(quiet ? 1 : 0), i32(pops)));
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
    ofRegisters('ftst', '', { kind: 'compare', quiet: false, pops: 0, to: 'status', zero: true }, (ins) =>
      ins.f.run(ins.f.call(fns.compareMemory, ins.env, i64(0), i32(0), i32(0), i32(0))),
    ),
    ofRegisters('fxam', '', { kind: 'examine' }, (ins) => ins.f.run(ins.f.call(fns.examine, ins.env))),
  ];
}

function loads(fns: X87Functions): Semantics[] {
  const load: StackOperation = { kind: 'load' };
  const pushResult = (ins: Ins, flags: Expr): void => ins.f.run(ins.f.call(fns.push, ins.env, flags));
  return [
    ofRegisters('fld', 's', load, (ins) => ins.f.run(ins.f.call(fns.load, ins.env, ins.stIndex(0)))),
    ofMemory('fld', [4, 8], false, load, ({ f, env, size }, [value]) =>
      f.run(f.call(size === 4 ? fns.loadFloat32 : fns.loadFloat64, env, value)),
    ),
    ofMemory('fld', [10], false, load, (ins, [m, e]) => {
      setResult(ins.f, ins.env, m, e);
      pushResult(ins, i32(0));
    }),
    ofMemory('fild', [2, 4, 8], true, load, (ins, [value]) =>
      pushResult(ins, toNumber(ins, fns, value, true).flags),
    ),
    x87('fbld', ['m'], [10], (ins) => {
      const [m, e] = fetchMemory(ins);
      notePointers(ins);
      pushResult(ins, ins.f.copy(ins.f.call(fns.fromBcd, ins.env, m, e)));
    }),
  ];
}

/** i32: after an unmasked exception other than PE, a store to memory does not happen. */
export function isStoreStopped(env: Expr, flags: Expr): Expr {
  return flags.and(control(env).xor(-1)).and(EXCEPTIONS & ~FSW.PE);
}
/** Stores a converted number to the memory operand; `e`: the last 2 of 10 bytes. */
export function storeConverted(ins: Ins, m: Expr, e: Expr): void {
  const { f, size } = ins;
  const address = ins.address(0);
  if (size === 10) {
    const mantissa = f.let(m);
    const high = f.let(e);
    const host = ins.probeWrite(address, 10);
    f.store(8, host, 0, mantissa);
    f.store(2, host, 8, high);
    ins.commit(host, 10);
  } else if (size === 8) ins.store(address, m, 8);
  else ins.store(address, size === 2 ? m.i32().low(16) : m.i32(), size);
}

/** A store of ST(0) to memory. */
function storeMemory(
  fns: X87Functions,
  name: string,
  formats: Readonly<Record<number, number>>,
  pops: number,
  truncate = false,
): Semantics {
  const convert = ({ f, env, size }: Ins): Expr =>
    f.copy(f.call(fns.toMemory, env, i32(formats[size]), i32(truncate ? 1 : 0)));
  const finish = (ins: Ins, flags: Expr): void => {
    notePointers(ins);
    ins.f.run(ins.f.call(fns.status, ins.env, flags, i32(pops)));
  };
  const perform = (ins: Ins): undefined => {
    // computed here, and used where it is conditional
    ins.address(0);
    const flags = convert(ins);
    const store = (): void =>
      storeConverted(ins, ins.envLoad('i64', RESULT.mantissa), ins.envLoad('i32', RESULT.high));
    ins.f.if(isStoreStopped(ins.env, flags).eqz(), store, undefined, true);
    finish(ins, flags);
  };
  const operation: StackOperation = { kind: 'storeMemory', formats, pops, truncate, convert, finish };
  const sizes = Object.keys(formats).map(Number);
  return { ...x87(name, ['m'], sizes, perform), stack: { operation, fetch: () => [], perform } };
}

function stores(fns: X87Functions): Semantics[] {
  const floats = { 4: FORMAT.float32, 8: FORMAT.float64 };
  const integers = { 2: FORMAT.int16, 4: FORMAT.int32, 8: FORMAT.int64 };
  const toRegister = (name: string, pops: number): Semantics =>
    ofRegisters(name, 's', { kind: 'store', pops }, (ins) =>
      ins.f.run(ins.f.call(fns.store, ins.env, ins.stIndex(0), i32(pops))),
    );
  return [
    toRegister('fst', 0),
    toRegister('fstp', 1),
    plain('fstpnce', 's', (ins) => ins.f.run(ins.f.call(fns.storeUnchecked, ins.env, ins.stIndex(0)))),
    storeMemory(fns, 'fst', floats, 0),
    storeMemory(fns, 'fstp', { ...floats, 10: FORMAT.extended }, 1),
    storeMemory(fns, 'fist', { 2: FORMAT.int16, 4: FORMAT.int32 }, 0),
    storeMemory(fns, 'fistp', integers, 1),
    storeMemory(fns, 'fisttp', integers, 1, true),
    storeMemory(fns, 'fbstp', { 10: FORMAT.bcd }, 1),
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
  return CONSTANTS.map(([name, value, high, rest]) => {
    const mantissa = ({ env }: Ins): Expr => {
      const rounding = control(env).shrU(10).and(3);
      const up = rest === 'exact' ? i32(0) : rest === 'above' ? rounding.and(1).eqz() : rounding.eq(2);
      return i64(value).add(up.i64u());
    };
    return ofRegisters(name, '', { kind: 'constant', mantissa, high }, (ins) => {
      setResult(ins.f, ins.env, mantissa(ins), i32(high));
      ins.f.run(ins.f.call(fns.push, ins.env, i32(0)));
    });
  });
}

function moves(fns: X87Functions): Semantics[] {
  const sign = (name: string, and: number, xor: number): Semantics =>
    ofRegisters(name, '', { kind: 'sign', and, xor }, (ins) =>
      ins.f.run(ins.f.call(fns.sign, ins.env, i32(and), i32(xor))),
    );
  const conditional = (name: string, pair: number, negate: number): Semantics =>
    inParts(
      name,
      ['ss'],
      [4],
      { kind: 'move' },
      (ins, [condition]) => ins.f.run(ins.f.call(fns.move, ins.env, ins.stIndex(1), condition)),
      (ins) => [ins.f.copy(ins.flags.condition(pair * 2 + negate))],
    );
  return [
    ofRegisters('fxch', 'ss', { kind: 'exchange' }, (ins) =>
      ins.f.run(ins.f.call(fns.exchange, ins.env, ins.stIndex(1))),
    ),
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
  const unary = (
    name: string,
    fn: 'sqrt' | 'roundToInteger',
    number: 'sqrtNumber' | 'roundNumber',
  ): Semantics =>
    ofRegisters(name, '', { kind: 'unary', number }, (ins) => ins.f.run(ins.f.call(fns[fn], ins.env)));
  return [
    unary('fsqrt', 'sqrt', 'sqrtNumber'),
    unary('frndint', 'roundToInteger', 'roundNumber'),
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
