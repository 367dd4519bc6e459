/**
 * Rows of the instruction table and the notation they are written in.
 *
 * A row is one line: `OPCODE NAME[~TEXT] OPERANDS [ATTRIBUTE...]`.
 *
 * OPCODE is dot-separated: `[v.][NP|66|F3|F2.][0F|38|3A.][W0|W1.][L0|L1.]BYTE[SUFFIX]`, where `38` and `3A` are the
 * 0F 38 and 0F 3A maps, no prefix part means any prefix, NP none of 66, F2, F3. SUFFIX: `/n` ModRM.reg, with `m` or
 * `r` for memory or register only; `:XX` an exact ModRM byte (mod 3); `+8` register in the low three bits;
 * `+16` condition in the low four.
 *
 * OPERANDS use the letters of SDM volume 2, appendix A.2, and a size: E G M R C D S P Q N V W U H B L O J A;
 * `Z` the register in the opcode, `I` signed and `U…` unsigned immediates (Ub, Uw), `Rd/Mb` a register of one
 * size or memory of another. Fixed: AL eAX CL DX 1 ST0 STi XMM0 and segment registers. `-` is none.
 *
 * TEXT is what a disassembly shows when it is not NAME. Attributes: `@feature`, `lock`, `rep`, `repe`,
 * `d64` (operand size defaults to 64 bits), `f64` (is 64 bits whatever the prefix), `no64`, `only64`, `cpl0`, `cpl0ud`, `iopl`, `pm`,
 * `byte` (operand size 1), `opsize` (the mandatory 66 is also the operand-size prefix), `max32` (no 64-bit form), `mod3` (ModRM.mod is ignored), `vsib`,
 * `w=` `u=` `r=` flags written, undefined, read (letters o s z a p c d i A), `kept`: there are operands with which
 * the written flags stay as they were.
 */
import { FLAG } from '../flags.ts';

/** How an operand is found. */
export const METHOD = {
  NONE: 0,
  E: 1,
  G: 2,
  Z: 3,
  IMM: 4,
  UIMM: 5,
  J: 6,
  M: 7,
  O: 8,
  P: 9,
  Q: 10,
  V: 11,
  W: 12,
  U: 13,
  N: 14,
  R: 15,
  C: 16,
  D: 17,
  S: 18,
  H: 19,
  B: 20,
  L: 21,
  A: 22,
  FIXED: 23,
  ONE: 24,
  ST0: 25,
  STI: 26,
  FIXED_SREG: 27,
  XMM0: 28,
} as const;

/** Size codes: below SIZE_VARIABLE the size in `FIXED_SIZES`, from there on computed by the decoder. */
const SIZE_NAMES = ['', 'b', 'w', 'd', 'q', 'dq', 'qq', 't', 'fx'];
export const FIXED_SIZES = [0, 1, 2, 4, 8, 16, 32, 10, 512];
export const SIZE_VARIABLE = FIXED_SIZES.length;
/**
 * v: operand size. z: at most 4. y: 4, or 8 with W. m: 4, in 64-bit code 8. p: far pointer. s: descriptor-table
 * register image. a: bound's pair. x: vector. h, f, e: half, quarter, eighth of a vector. c: control environment. k: the whole x87 state.
 */
export const SIZE = {
  V: 9,
  Z: 10,
  Y: 11,
  M: 12,
  P: 13,
  S: 14,
  A: 15,
  X: 16,
  H: 17,
  F: 18,
  E: 19,
  C: 20,
  K: 21,
} as const;
const VARIABLE_NAMES = ['v', 'z', 'y', 'm', 'p', 's', 'a', 'x', 'h', 'f', 'e', 'c', 'k'];

/** Operand code: method | size << 8 | aux << 16 (fixed register number; or, when bit 24 is set, the size code if in memory). */
export const CODE_SPLIT = 1 << 24;

/** Bits of `Row.flags`, for the decoder. */
export const ROW = {
  LOCK: 1,
  REP: 2,
  REPE: 4,
  DEFAULT64: 8,
  FORCE64: 16,
  BYTE: 32,
  MAX32: 64,
  MOD3: 128,
  MANDATORY66: 256,
  CONDITION: 512,
  MACHINE_SIZE: 1024,
  VSIB: 2048,
  VVVV: 4096,
} as const;

/** cpl0: #GP(0) unless CPL is 0. cpl0ud: #UD then. iopl: IOPL (and, for ports, the TSS bitmap) decides. */
export type Privilege = 'none' | 'cpl0' | 'cpl0ud' | 'iopl';

export interface Row {
  /** Index in `ROWS`. */
  readonly id: number;
  /** Name by which semantics are found; one for all sizes and conditions. */
  readonly name: string;
  /** Mnemonic for disassembly. */
  readonly text: string;
  /** The opcode as written in the table. */
  readonly opcode: string;
  readonly operands: readonly string[];
  /** CPUID feature, named as in /proc/cpuinfo; 'base' for what every long-mode CPU has. */
  readonly feature: string;
  readonly flagsRead: number;
  /** Set, cleared or computed. */
  readonly flagsWritten: number;
  readonly flagsUndefined: number;
  /** True when the flags stay unchanged for some operands (shift by 0, REP with count 0). */
  readonly flagsKept: boolean;
  readonly privilege: Privilege;
  readonly no64: boolean;
  readonly only64: boolean;
  /** #UD in real and virtual-8086 mode. */
  readonly protectedOnly: boolean;
  readonly lockable: boolean;
  /** 0 no, 1 REP, 2 REPE and REPNE. */
  readonly repeatable: 0 | 1 | 2;
  readonly default64: boolean;
  readonly force64: boolean;
  readonly vex: boolean;
  /** The rest is for building the decoder's tables. */
  readonly flags: number;
  readonly codes: readonly number[];
  readonly map: number;
  readonly byte: number;
  readonly span: number;
  /** -1 any, else 0 none, 1 66, 2 F3, 3 F2. */
  readonly prefix: number;
  readonly w: number;
  readonly l: number;
  readonly modrm: boolean;
  /** ModRM.reg or -1; exact ModRM byte or -1; mod: -1 any, 0 memory, 1 register. */
  readonly reg: number;
  readonly exact: number;
  readonly mod: number;
}

const FLAG_LETTERS: Record<string, number> = {
  o: FLAG.OF,
  s: FLAG.SF,
  z: FLAG.ZF,
  a: FLAG.AF,
  p: FLAG.PF,
  c: FLAG.CF,
  d: FLAG.DF,
  i: FLAG.IF,
  A: FLAG.AC,
};

function parseFlags(letters: string, line: string): number {
  let mask = 0;
  for (const letter of letters) {
    const bit = FLAG_LETTERS[letter];
    if (bit === undefined) throw new Error(`flag '${letter}' in table row: ${line}`);
    mask |= bit;
  }
  return mask;
}

const FIXED_OPERANDS: Record<string, number> = {
  AL: METHOD.FIXED | (1 << 8),
  eAX: METHOD.FIXED | (SIZE.V << 8),
  AX: METHOD.FIXED | (2 << 8),
  CL: METHOD.FIXED | (1 << 8) | (1 << 16),
  DX: METHOD.FIXED | (2 << 8) | (2 << 16),
  '1': METHOD.ONE,
  ST0: METHOD.ST0 | (7 << 8),
  STi: METHOD.STI | (7 << 8),
  XMM0: METHOD.XMM0 | (5 << 8),
  ES: METHOD.FIXED_SREG | (2 << 8),
  CS: METHOD.FIXED_SREG | (2 << 8) | (1 << 16),
  SS: METHOD.FIXED_SREG | (2 << 8) | (2 << 16),
  DS: METHOD.FIXED_SREG | (2 << 8) | (3 << 16),
  FS: METHOD.FIXED_SREG | (2 << 8) | (4 << 16),
  GS: METHOD.FIXED_SREG | (2 << 8) | (5 << 16),
};
const LETTER_METHODS: Record<string, number> = {
  E: METHOD.E,
  G: METHOD.G,
  Z: METHOD.Z,
  I: METHOD.IMM,
  J: METHOD.J,
  M: METHOD.M,
  O: METHOD.O,
  P: METHOD.P,
  Q: METHOD.Q,
  V: METHOD.V,
  W: METHOD.W,
  U: METHOD.U,
  N: METHOD.N,
  R: METHOD.R,
  C: METHOD.C,
  D: METHOD.D,
  S: METHOD.S,
  H: METHOD.H,
  B: METHOD.B,
  L: METHOD.L,
  A: METHOD.A,
};

function sizeCode(name: string, line: string): number {
  const fixed = SIZE_NAMES.indexOf(name);
  if (fixed >= 0) return fixed;
  const variable = VARIABLE_NAMES.indexOf(name);
  if (variable < 0) throw new Error(`size '${name}' in table row: ${line}`);
  return SIZE_VARIABLE + variable;
}

function operandCode(spec: string, line: string): number {
  const fixed = FIXED_OPERANDS[spec];
  if (fixed !== undefined) return fixed;
  const slash = spec.indexOf('/');
  if (slash > 0) {
    const register = operandCode(spec.slice(0, slash), line);
    return register | (sizeCode(spec.slice(slash + 2), line) << 16) | CODE_SPLIT;
  }
  // Ub and Uw are immediates; as a register of that size U would make no sense
  if (spec === 'Ub') return METHOD.UIMM | (1 << 8);
  if (spec === 'Uw') return METHOD.UIMM | (2 << 8);
  const method = LETTER_METHODS[spec[0]];
  if (method === undefined) throw new Error(`operand '${spec}' in table row: ${line}`);
  return method | (sizeCode(spec.slice(1), line) << 8);
}

function methodOf(code: number): number {
  return code & 255;
}

const MODRM_METHODS: readonly number[] = [
  METHOD.E,
  METHOD.G,
  METHOD.M,
  METHOD.P,
  METHOD.Q,
  METHOD.V,
  METHOD.W,
  METHOD.U,
  METHOD.N,
  METHOD.R,
  METHOD.C,
  METHOD.D,
  METHOD.S,
];
const REGISTER_ONLY: readonly number[] = [METHOD.R, METHOD.U, METHOD.N];
const PREFIX_NAMES = ['NP', '66', 'F3', 'F2'];

/** What an operand list says; shared by the rows that have the same one. */
interface Operands {
  readonly specs: readonly string[];
  readonly codes: readonly number[];
  readonly modrm: boolean;
  /** -1 any, 0 memory only, 1 register only. */
  readonly mod: number;
  readonly byteFirst: boolean;
  readonly machineSize: boolean;
  readonly vvvv: boolean;
}
const operandLists = new Map<string, Operands>();

function operandList(text: string, line: string): Operands {
  const known = operandLists.get(text);
  if (known) return known;
  const specs = text === '-' ? [] : text.split(',');
  const codes = specs.map((spec) => operandCode(spec, line));
  let modrm = false;
  let memory = false;
  let register = false;
  let machineSize = false;
  let vvvv = false;
  for (const code of codes) {
    const method = methodOf(code);
    if (MODRM_METHODS.includes(method) || method === METHOD.STI) modrm = true;
    if (method === METHOD.M) memory = true;
    if (REGISTER_ONLY.includes(method) && !(code & CODE_SPLIT)) register = true;
    if (((code >> 8) & 255) === SIZE.M) machineSize = true;
    if (method === METHOD.H || method === METHOD.B) vvvv = true;
  }
  const first = codes.length > 0 ? methodOf(codes[0]) : METHOD.NONE;
  const firstIsImmediate = first === METHOD.IMM || first === METHOD.UIMM || first === METHOD.J;
  const byteFirst = codes.length > 0 && ((codes[0] >> 8) & 255) === 1 && !firstIsImmediate;
  const mod = memory ? 0 : register ? 1 : -1;
  const list = { specs, codes, modrm, mod, byteFirst, machineSize, vvvv };
  operandLists.set(text, list);
  return list;
}

/** Maps: 0..3 legacy (one byte, 0F, 0F38, 0F3A), 4..7 the same under VEX. */
export const MAP_COUNT = 8;

/** Parses one line of the table. Errors: plain Error, at start-up only. */
export function parseRow(line: string, id: number): Row {
  const [opcode, nameText, operandText, ...attributes] = line.trim().split(/ +/);
  if (operandText === undefined) throw new Error(`table row lacks operands: ${line}`);
  const parts = opcode.split('.');
  const last = parts.pop() as string;
  let map = 0;
  let prefix = -1;
  let w = -1;
  let l = -1;
  let vex = false;
  for (const part of parts) {
    if (part === 'v') vex = true;
    else if (part === '0F') map = 1;
    else if (part === '38') map = 2;
    else if (part === '3A') map = 3;
    else if (PREFIX_NAMES.includes(part)) prefix = PREFIX_NAMES.indexOf(part);
    else if (part === 'W0' || part === 'W1') w = Number(part[1]);
    else if (part === 'L0' || part === 'L1') l = Number(part[1]);
    else throw new Error(`'${part}' in table row: ${line}`);
  }
  const match = /^([0-9A-F]{2})(?:\/([0-7])([mr]?)|:([0-9A-F]{2})|\+(8|16))?$/.exec(last);
  if (!match) throw new Error(`opcode of table row: ${line}`);
  const list = operandList(operandText, line);
  const set = new Set(attributes.filter((a) => a[0] !== '@' && a[1] !== '='));
  const flagAttribute = (key: string): number => {
    const found = attributes.find((a) => a.startsWith(key));
    return found ? parseFlags(found.slice(2), line) : 0;
  };
  const reg = match[2] === undefined ? -1 : Number(match[2]);
  const exact = match[4] === undefined ? -1 : Number.parseInt(match[4], 16);
  let mod = match[3] === 'm' ? 0 : match[3] === 'r' ? 1 : -1;
  if (mod < 0 && !set.has('mod3')) mod = list.mod;
  let flags = 0;
  if (set.has('lock')) flags |= ROW.LOCK;
  if (set.has('rep')) flags |= ROW.REP;
  if (set.has('repe')) flags |= ROW.REPE;
  if (set.has('d64')) flags |= ROW.DEFAULT64;
  if (set.has('f64')) flags |= ROW.FORCE64;
  if (set.has('byte') || list.byteFirst) flags |= ROW.BYTE;
  if (set.has('max32')) flags |= ROW.MAX32;
  if (set.has('mod3')) flags |= ROW.MOD3;
  if (prefix === 1 && !set.has('opsize')) flags |= ROW.MANDATORY66;
  if (match[5] === '16') flags |= ROW.CONDITION;
  if (list.machineSize) flags |= ROW.MACHINE_SIZE;
  if (set.has('vsib')) flags |= ROW.VSIB;
  if (list.vvvv) flags |= ROW.VVVV;
  const tilde = nameText.indexOf('~');
  const name = tilde < 0 ? nameText : nameText.slice(0, tilde);
  return {
    id,
    name,
    text: tilde < 0 ? name : nameText.slice(tilde + 1),
    opcode,
    operands: list.specs,
    feature: attributes.find((a) => a.startsWith('@'))?.slice(1) ?? 'base',
    flagsRead: flagAttribute('r='),
    flagsWritten: flagAttribute('w='),
    flagsUndefined: flagAttribute('u='),
    flagsKept: set.has('kept'),
    privilege: set.has('cpl0') ? 'cpl0' : set.has('cpl0ud') ? 'cpl0ud' : set.has('iopl') ? 'iopl' : 'none',
    no64: set.has('no64'),
    only64: set.has('only64'),
    protectedOnly: vex || set.has('pm'),
    lockable: set.has('lock'),
    repeatable: set.has('rep') ? 1 : set.has('repe') ? 2 : 0,
    default64: set.has('d64'),
    force64: set.has('f64'),
    vex,
    flags,
    codes: list.codes,
    map: map + (vex ? 4 : 0),
    byte: Number.parseInt(match[1], 16),
    span: match[5] === undefined ? 1 : Number(match[5]),
    prefix,
    w,
    l,
    modrm: reg >= 0 || exact >= 0 || list.modrm,
    reg,
    exact,
    mod: exact >= 0 ? 1 : mod,
  };
}
