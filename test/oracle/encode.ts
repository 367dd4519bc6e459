/**
 * Encodes instructions from the rows of the table, independently of the decoder. SDM volume 2, chapter 2 and
 * appendix A.
 */
import { METHOD, ROW, SIZE, FIXED_SIZES, SIZE_VARIABLE, CODE_SPLIT } from '../../src/cpu/decode/row.ts';
import type { Row } from '../../src/cpu/decode/table.ts';
import type { Rng } from './rng.ts';

/** One way to write a row's instruction down. */
export interface Form {
  readonly row: Row;
  readonly mode32: boolean;
  /** 66 prefix where it is an operand-size prefix. */
  readonly small: boolean;
  /** REX.W or VEX.W. */
  readonly wide: boolean;
  /** Operand in ModRM is memory. */
  readonly memory: boolean;
  readonly lock: boolean;
  /** 0, 2 (F2), 3 (F3). */
  readonly rep: 0 | 2 | 3;
  /** Added to the opcode: condition, or -1 to pick a register. */
  readonly span: number;
  readonly vexL: number;
}

/** How the memory operand's address is to be written. Register -1: none. */
export interface Address {
  readonly base: number;
  readonly index: number;
  readonly scale: number;
  readonly disp: bigint;
  /** Relative to the next instruction: `disp` is the target, fixed up when the length is known. */
  readonly ripRelative: boolean;
  /** Direct address of full width (A0–A3). */
  readonly direct: bigint;
  /** 67 prefix. */
  readonly override: boolean;
  /** Segment prefix byte, or 0. */
  readonly segment: number;
}

/** Values of the fields that are not given by the form. */
export interface Fields {
  readonly reg: number;
  readonly rm: number;
  readonly opcodeReg: number;
  readonly vvvv: number;
  readonly address: Address | undefined;
  /** Immediate by position. */
  readonly immediates: readonly bigint[];
  /** A REX prefix even when nothing needs one; a 67 prefix without a memory operand. */
  readonly rex: boolean;
  readonly override: boolean;
  readonly segment: number;
  readonly ip: number;
}

export function methodOf(code: number): number {
  return code & 255;
}
function sizeOf(code: number): number {
  return (code >> 8) & 255;
}

const MODRM_MEMORY: readonly number[] = [METHOD.E, METHOD.M, METHOD.Q, METHOD.W];
const MODRM_REGISTER: readonly number[] = [METHOD.E, METHOD.R, METHOD.Q, METHOD.W, METHOD.N, METHOD.U];

/** Operand size in bytes. */
export function operandSize(form: Form): number {
  const { flags } = form.row;
  if (flags & ROW.BYTE) return 1;
  if (form.mode32) return flags & ROW.MACHINE_SIZE ? 4 : form.small ? 2 : 4;
  let size = 4;
  if (form.wide || flags & ROW.FORCE64) size = 8;
  else if (form.small) size = 2;
  else if (flags & (ROW.DEFAULT64 | ROW.MACHINE_SIZE)) size = 8;
  return flags & ROW.MAX32 && size === 8 ? 4 : size;
}

/** Whether a ModRM operand of the row can be memory, a register. */
export function modrmKinds(row: Row): { memory: boolean; register: boolean } {
  if (!row.modrm) return { memory: false, register: true };
  let memory = row.mod !== 1;
  let register = row.mod !== 0;
  if (row.flags & ROW.MOD3 || row.exact >= 0) memory = false;
  for (const code of row.codes) {
    const m = methodOf(code);
    if (m === METHOD.M) register = false;
    if ((m === METHOD.R && !(code & CODE_SPLIT)) || m === METHOD.N || m === METHOD.U) memory = false;
  }
  // rows like `0F.18 nop Ev` leave both open
  if (!row.codes.some((c) => MODRM_MEMORY.includes(methodOf(c)) || methodOf(c) === METHOD.R)) {
    if (row.codes.some((c) => MODRM_REGISTER.includes(methodOf(c)))) memory = false;
    else if (row.mod < 0) memory = false;
  }
  return { memory, register };
}

/** True when an operand has a size that 66 or W changes, or the instruction has one without naming it. */
function sized(row: Row): boolean {
  if (row.flags & ROW.BYTE) return false;
  if (row.codes.length === 0) return true;
  return row.codes.some((code) => {
    const size = sizeOf(code);
    const m = methodOf(code);
    return (
      size === SIZE.V ||
      size === SIZE.Z ||
      size === SIZE.P ||
      size === SIZE.A ||
      m === METHOD.S ||
      m === METHOD.FIXED_SREG ||
      m === METHOD.R ||
      size === SIZE.C ||
      size === SIZE.K ||
      m === METHOD.UIMM ||
      m === METHOD.J
    );
  });
}
function hasY(row: Row): boolean {
  return row.codes.some((code) => sizeOf(code) === SIZE.Y);
}

/** Every form of a row that user code can meet. */
export function formsOf(row: Row): Form[] {
  const out: Form[] = [];
  const kinds = modrmKinds(row);
  const modes = row.no64 ? [true] : row.only64 ? [false] : [false, true];
  const spans = row.flags & ROW.CONDITION ? Array.from({ length: 16 }, (_, i) => i) : [-1];
  for (const mode32 of modes) {
    const isSized = sized(row);
    const smalls =
      row.prefix === 1
        ? [!(row.flags & ROW.MANDATORY66)]
        : row.prefix < 0 && isSized && !row.vex
          ? [false, true]
          : row.prefix === 2 && isSized
            ? [false, true]
            : [false];
    const wides =
      mode32 && !row.vex
        ? row.w === 1
          ? []
          : [false]
        : row.w >= 0
          ? [row.w === 1]
          : isSized || hasY(row)
            ? [false, true]
            : [false];
    for (const small of smalls) {
      for (const wide of wides) {
        for (const memory of [false, true]) {
          if (memory ? !kinds.memory : !kinds.register) continue;
          for (const lock of row.lockable && memory ? [false, true] : [false]) {
            for (const rep of row.repeatable === 0 ? ([0] as const) : ([0, 2, 3] as const)) {
              for (const span of spans) {
                for (const vexL of row.vex ? (row.l >= 0 ? [row.l] : [0, 1]) : [0]) {
                  out.push({ row, mode32, small, wide, memory, lock, rep, span, vexL });
                }
              }
            }
          }
        }
      }
    }
  }
  return out;
}

/** Sizes of the immediates (a far pointer is one), in order. */
export function immediateSizes(form: Form, override: boolean): number[] {
  const opSize = operandSize(form);
  const sizes: number[] = [];
  for (const code of form.row.codes) {
    const m = methodOf(code);
    const s = sizeOf(code);
    if (m === METHOD.IMM || m === METHOD.UIMM) {
      sizes.push(s < SIZE_VARIABLE ? FIXED_SIZES[s] : s === SIZE.Z ? (opSize === 2 ? 2 : 4) : opSize);
    } else if (m === METHOD.J) {
      sizes.push(s === 1 ? 1 : opSize === 2 ? 2 : 4);
    } else if (m === METHOD.A) {
      sizes.push(opSize + 2);
    } else if (m === METHOD.O) {
      sizes.push(form.mode32 ? (override ? 2 : 4) : override ? 4 : 8);
    }
  }
  return sizes;
}

/** True when the row's memory operand is a direct address in the instruction. */
export function isDirect(row: Row): boolean {
  return row.codes.some((c) => methodOf(c) === METHOD.O);
}

function little(value: bigint, size: number): number[] {
  return Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 255n));
}

function memoryBytes(form: Form, reg: number, a: Address, dispOut: { at: number }): number[] {
  const addressSize = form.mode32 ? (a.override ? 2 : 4) : a.override ? 4 : 8;
  const r = (reg & 7) << 3;
  if (a.ripRelative) {
    dispOut.at = 1;
    return [r | 5, 0, 0, 0, 0];
  }
  const d = BigInt.asIntN(32, a.disp);
  if (addressSize === 2) {
    // base -1: direct; otherwise `base` is the number of the form
    const d16 = BigInt.asIntN(16, a.disp);
    if (a.base < 0) return [r | 6, ...little(d16, 2)];
    if (d16 === 0n && a.base !== 6) return [r | a.base];
    if (d16 >= -128n && d16 < 128n) return [0x40 | r | a.base, ...little(d16, 1)];
    return [0x80 | r | a.base, ...little(d16, 2)];
  }
  if (a.base < 0 && a.index < 0) {
    return form.mode32 ? [r | 5, ...little(d, 4)] : [r | 4, 0x25, ...little(d, 4)];
  }
  const sib = a.index >= 0 || (a.base & 7) === 4;
  const sibByte = (a.scale << 6) | ((a.index < 0 ? 4 : a.index & 7) << 3) | (a.base < 0 ? 5 : a.base & 7);
  if (a.base < 0) return [r | 4, sibByte, ...little(d, 4)];
  const head = (mod: number): number[] => (sib ? [mod | r | 4, sibByte] : [mod | r | (a.base & 7)]);
  if (d === 0n && (a.base & 7) !== 5) return head(0);
  if (d >= -128n && d < 128n) return [...head(0x40), ...little(d, 1)];
  return [...head(0x80), ...little(d, 4)];
}

const MANDATORY = [0, 0x66, 0xf3, 0xf2];

/** The instruction's bytes. */
export function encode(form: Form, f: Fields): Uint8Array {
  const { row } = form;
  const bytes: number[] = [];
  const a = f.address;
  const segment = a?.segment ?? f.segment;
  if (segment) bytes.push(segment);
  if (form.lock) bytes.push(0xf0);
  if (form.small && row.prefix !== 1) bytes.push(0x66);
  if (a?.override ?? f.override) bytes.push(0x67);
  if (form.rep) bytes.push(form.rep === 2 ? 0xf2 : 0xf3);
  if (!row.vex && row.prefix > 0) bytes.push(MANDATORY[row.prefix]);

  const rm = form.memory ? 0 : f.rm;
  const usesReg = row.modrm && row.reg < 0 && row.exact < 0;
  const r = usesReg && f.reg & 8 ? 4 : 0;
  const x = a && a.index >= 8 ? 2 : 0;
  let b = 0;
  if (row.modrm) b = (form.memory ? (a?.base ?? 0) >= 8 : row.exact < 0 && rm >= 8) ? 1 : 0;
  else if (row.span === 8 && f.opcodeReg >= 8) b = 1;
  const op = row.byte + (row.span === 1 ? 0 : row.span === 16 ? form.span : f.opcodeReg & 7);
  if (row.vex) {
    const map = row.map - 4;
    const tail = (form.wide ? 0x80 : 0) | ((~f.vvvv & 15) << 3) | (form.vexL << 2) | Math.max(0, row.prefix);
    if (map === 1 && !x && !b && !form.wide && f.rex) bytes.push(0xc5, (r ? 0 : 0x80) | (tail & 0x7f));
    else bytes.push(0xc4, (r ? 0 : 0x80) | (x ? 0 : 0x40) | (b ? 0 : 0x20) | map, tail);
    bytes.push(op);
  } else {
    const rex = (form.wide ? 8 : 0) | r | x | b;
    if (!form.mode32 && (rex || f.rex)) bytes.push(0x40 | rex);
    if (row.map > 0) bytes.push(0x0f);
    if (row.map === 2) bytes.push(0x38);
    if (row.map === 3) bytes.push(0x3a);
    bytes.push(op);
  }
  let ripAt = -1;
  if (row.modrm) {
    if (row.exact >= 0) bytes.push(row.exact);
    else {
      const reg = row.reg >= 0 ? row.reg : f.reg;
      if (form.memory && a) {
        const at = { at: -1 };
        const m = memoryBytes(form, reg, a, at);
        if (at.at >= 0) ripAt = bytes.length + at.at;
        bytes.push(...m);
      } else bytes.push(0xc0 | ((reg & 7) << 3) | (rm & 7));
    }
  }
  const sizes = immediateSizes(form, a?.override ?? f.override);
  let position = 0;
  let given = 0;
  for (const code of row.codes) {
    const m = methodOf(code);
    if (m === METHOD.O) bytes.push(...little(a?.direct ?? 0n, sizes[position++]));
    else if (m === METHOD.IMM || m === METHOD.UIMM || m === METHOD.J || m === METHOD.A) {
      bytes.push(...little(f.immediates[given++] ?? 0n, sizes[position++]));
    } else if (m === METHOD.L) bytes.push((f.vvvv & 15) << 4);
  }
  if (ripAt >= 0 && a) {
    const disp = BigInt.asIntN(32, a.disp - BigInt(f.ip + bytes.length));
    little(disp, 4).forEach((v, i) => (bytes[ripAt + i] = v));
  }
  return Uint8Array.from(bytes);
}

/** A short text that names a form, for coverage. */
export function formName(form: Form): string {
  const parts = [form.mode32 ? '32' : '64', `o${operandSize(form)}`, form.memory ? 'm' : 'r'];
  if (form.lock) parts.push('lock');
  if (form.rep) parts.push(`rep${form.rep}`);
  if (form.span >= 0) parts.push(`c${form.span}`);
  if (form.vexL) parts.push('L1');
  return parts.join('.');
}

/** Registers that any operand may use. */
export function randomRegister(rng: Rng, mode32: boolean): number {
  return mode32 ? rng.below(8) : rng.below(16);
}
