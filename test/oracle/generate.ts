/** Makes cases: one instruction of a given row and form, or a sequence of instructions of any rows. */
import { decode } from '../../src/cpu/decode/decoder.ts';
import { Insn } from '../../src/cpu/decode/insn.ts';
import { METHOD } from '../../src/cpu/decode/row.ts';
import type { Row } from '../../src/cpu/decode/table.ts';
import { FLAG } from '../../src/cpu/flags.ts';
import {
  type Address,
  encode,
  type Fields,
  type Form,
  isDirect,
  methodOf,
  operandSize,
  randomRegister,
} from './encode.ts';
import {
  type Case,
  CODE,
  DATA,
  defaultFx,
  FX,
  HIGH,
  IMAGE_SIZE,
  imageOffset,
  PAGE,
  type Patch,
  STACK,
} from './format.ts';
import { newFx, randomMmx, randomSse, randomX87 } from './fp-values.ts';
import {
  implicitRegisters,
  operandAddress,
  operandBytes,
  selector,
  codeSelector,
  branchTarget,
  stackBytes,
  stackPointer,
} from './prepare.ts';
import type { Rng } from './rng.ts';
import { classOf } from './rows.ts';

const ARITHMETIC = FLAG.CF | FLAG.PF | FLAG.AF | FLAG.ZF | FLAG.SF | FLAG.OF;
const FILL = 0xcc;
const SYSTEM_CALL = 0x80;
const MASK32 = 0xffffffffn;

/** The image before a case: code pages of INT3, data pages of a pattern. */
export function baseImage(rng: Rng): Uint8Array {
  const image = new Uint8Array(IMAGE_SIZE);
  image.fill(FILL, 0, 2 * PAGE);
  image.set(rng.bytes(IMAGE_SIZE - 2 * PAGE), 2 * PAGE);
  return image;
}

const insn = new Insn();

/** The row that our decoder finds for the bytes, or -1. */
export function decodedRow(bytes: Uint8Array, mode32: boolean): number {
  const padded = new Uint8Array(32);
  padded.set(bytes);
  const length = decode(padded, 0, 32, mode32 ? 1 : 2, insn);
  return length === bytes.length ? insn.row : -1;
}

const SEGMENT_BYTES_32 = [0x26, 0x36, 0x3e];
const FS = 0x64;
const GS = 0x65;

function u64(v: bigint): bigint {
  return BigInt.asUintN(64, v);
}

interface Bases {
  fs: bigint;
  gs: bigint;
}

/** Chooses an address form for `target` and sets registers so that it is reached. */
function addressFor(rng: Rng, form: Form, target: bigint, regs: BigUint64Array, bases: Bases): Address {
  const { mode32 } = form;
  let segment = 0;
  if (mode32) {
    if (rng.once(12)) segment = rng.pick(SEGMENT_BYTES_32);
  } else if (rng.once(8)) segment = rng.once(2) ? FS : GS;
  else if (rng.once(30)) segment = rng.pick([0x26, 0x2e, 0x36, 0x3e]);
  const segmentBase = segment === FS ? bases.fs : segment === GS ? bases.gs : 0n;
  const wanted = u64(target - segmentBase);
  let override = rng.once(mode32 ? 40 : 10);
  if (!mode32 && override && wanted > MASK32) override = false;
  const mask = mode32 ? (override ? 0xffffn : MASK32) : override ? MASK32 : (1n << 64n) - 1n;
  const garbage = (v: bigint): bigint => {
    if (mode32) return override ? (v & 0xffffn) | (BigInt(rng.u32()) & 0xffff0000n) : v & MASK32;
    return override ? (v & MASK32) | (rng.u64() & ~MASK32) : u64(v);
  };
  const none = { base: -1, index: -1, scale: 0, disp: 0n, ripRelative: false, direct: 0n, override, segment };
  if (isDirect(form.row)) return { ...none, direct: wanted & mask };
  const fits32 = BigInt.asUintN(64, BigInt.asIntN(32, wanted)) === wanted;
  if (mode32 && override) {
    // 16-bit forms: everything there is unmapped, but the address must be right
    const rm = rng.below(8);
    if (rm === 6 && rng.once(2)) return { ...none, disp: wanted };
    return { ...none, base: rm, disp: rng.once(2) ? 0n : BigInt(rng.below(65536)) };
  }
  const plain = (mask === MASK32 ? true : fits32) && rng.once(6);
  if (plain) {
    if (!mode32 && rng.once(2)) {
      const distance = wanted - BigInt(CODE);
      if (distance < 0x70000000n && distance > -0x70000000n)
        return { ...none, disp: wanted, ripRelative: true };
    }
    return { ...none, disp: wanted };
  }
  const registers = mode32 ? 8 : 16;
  const scale = rng.below(4);
  let index = rng.once(2) ? rng.below(registers) : -1;
  if (index === 4) index = -1;
  const disp = rng.once(3) ? 0n : rng.once(2) ? BigInt(rng.below(256) - 128) : BigInt(rng.u32() | 0);
  if (index >= 0 && rng.once(6)) {
    // index without base: the target must be a multiple away
    const left = wanted - disp;
    const aligned = (left >> BigInt(scale)) << BigInt(scale);
    regs[index] = garbage(u64(aligned) >> BigInt(scale));
    const rest = u64(wanted - (u64(regs[index] << BigInt(scale)) & mask));
    const d = BigInt.asIntN(32, rest);
    if ((u64(d) & mask) === (rest & mask)) return { ...none, index, scale, disp: d };
  }
  let base = rng.below(registers);
  if (base === index) base = (base + 1) % registers;
  if (base === 4 && (rng.once(2) || regs[4] < BigInt(STACK))) base = index === 5 ? 3 : 5;
  if (base === 4) {
    // the stack pointer stays as it is
    const d = BigInt.asIntN(32, wanted - regs[4]);
    if (u64(regs[4] + d) === wanted && !override) return { ...none, base, disp: d };
    base = index === 5 ? 3 : 5;
  }
  if (index >= 0) {
    const small = rng.once(2);
    regs[index] = garbage(small ? BigInt(rng.below(4096)) : rng.value());
    regs[base] = garbage(wanted - (regs[index] << BigInt(scale)) - disp);
    return { ...none, base, index, scale, disp };
  }
  regs[base] = garbage(wanted - disp);
  return { ...none, base, disp };
}

/** Immediates, with a view to what they mean. */
function immediatesFor(rng: Rng, form: Form): bigint[] {
  const { row } = form;
  const out: bigint[] = [];
  for (const code of row.codes) {
    switch (methodOf(code)) {
      case METHOD.J:
        out.push(branchDisplacement(rng, form));
        break;
      case METHOD.A:
        out.push(farImmediate(rng, form));
        break;
      case METHOD.IMM:
      case METHOD.UIMM:
        out.push(immediate(rng, row, out.length));
        break;
    }
  }
  return out;
}
function branchDisplacement(rng: Rng, form: Form): bigint {
  if (rng.once(8)) return BigInt(rng.u32());
  if (rng.once(3)) return BigInt(-0x60 + rng.below(0x40));
  void form;
  return BigInt(rng.below(0x60));
}
function farImmediate(rng: Rng, form: Form): bigint {
  const size = operandSize(form);
  const offset = BigInt.asUintN(size * 8, branchTarget(rng, size));
  return offset | (BigInt(codeSelector(rng)) << BigInt(size * 8));
}
function immediate(rng: Rng, row: Row, position: number): bigint {
  switch (row.name) {
    case 'int': {
      const vector = rng.once(2) ? rng.pick([3, 4]) : rng.below(256);
      return BigInt(vector === SYSTEM_CALL ? 3 : vector);
    }
    case 'enter':
      if (position === 0) return BigInt(rng.once(8) ? rng.below(65536) : rng.below(256));
      return BigInt(rng.once(8) ? rng.below(256) : rng.below(4));
    case 'ret':
    case 'retf':
      return BigInt(rng.once(4) ? rng.below(65536) : rng.below(64));
  }
  return rng.value();
}

export function flagsFor(rng: Rng): number {
  const df = rng.once(8) ? FLAG.DF : 0;
  return (rng.u32() & ARITHMETIC) | 0x202 | df;
}

function fxFor(rng: Rng, row: Row): Uint8Array | undefined {
  const cls = classOf(row);
  const state = /^(fxsave|fxrstor|ldmxcsr|stmxcsr|fwait)$/.test(row.name);
  if (cls === 'integer' && !state) return undefined;
  const fx = newFx();
  fx.set(defaultFx());
  randomSse(rng, fx);
  if (cls === 'x87' || state) randomX87(rng, fx);
  if (/^(f2xm1|fyl2xp1)$/.test(row.name)) limitExponent(rng, fx);
  else randomMmx(rng, fx);
  return fx;
}

/** Beyond a quarter or so F2XM1 and FYL2XP1 are undefined: ST(0) is made smaller. */
function limitExponent(rng: Rng, fx: Uint8Array): void {
  const v = new DataView(fx.buffer);
  const top = v.getUint16(FX.ST + 8, true);
  const exponent = top & 0x7fff;
  if (exponent > SMALL_EXPONENT && exponent < 0x7fff) {
    v.setUint16(FX.ST + 8, (top & 0x8000) | (SMALL_EXPONENT - rng.below(70)), true);
  }
}
const SMALL_EXPONENT = 0x3ffc;

/** A patch clipped to the pages that exist; undefined when none does. */
function patchAt(address: bigint, bytes: Uint8Array): Patch[] {
  const out: Patch[] = [];
  let from = 0;
  while (from < bytes.length) {
    const offset = imageOffset(u64(address) + BigInt(from));
    const inPage = PAGE - Number((address + BigInt(from)) & 4095n);
    const n = Math.min(inPage, bytes.length - from);
    // the code pages hold code
    if (offset >= 2 * PAGE) out.push({ offset, bytes: bytes.subarray(from, from + n) });
    from += n;
  }
  return out;
}

/** Sizes of pieces that lie behind each other at the top of the stack. */
interface Built {
  readonly bytes: Uint8Array;
  readonly patches: Patch[];
}

/** One instruction with its registers and memory prepared; `regs` is changed. */
function build(rng: Rng, form: Form, regs: BigUint64Array, bases: Bases, ip: number): Built {
  const { row, mode32 } = form;
  implicitRegisters(rng, form, regs);
  const rm = randomRegister(rng, mode32);
  const fields: Fields = {
    reg: registerField(rng, row, mode32),
    rm,
    opcodeReg: randomRegister(rng, mode32),
    vvvv: row.codes.some((c) => methodOf(c) === METHOD.H || methodOf(c) === METHOD.B)
      ? randomRegister(rng, mode32)
      : 0,
    address: undefined,
    immediates: immediatesFor(rng, form),
    rex: !mode32 && rng.once(2),
    override: false,
    segment: 0,
    ip,
  };
  let address: Address | undefined;
  const target = operandAddress(rng, form);
  if (form.memory || isDirect(row)) {
    if (row.name.startsWith('bt') && row.operands[1] === 'Gv') {
      // the offset reaches beyond the operand
      regs[fields.reg] = u64(BigInt(rng.once(6) ? rng.u32() | 0 : rng.below(4096) - 2048));
      address = addressFor(rng, form, target - (BigInt.asIntN(64, regs[fields.reg]) >> 3n), regs, bases);
    } else address = addressFor(rng, form, target, regs, bases);
  } else if (usesAddressSize(row) && rng.once(4)) {
    // in 64-bit code: 32-bit counters and indices, with garbage above them
    (fields as { override: boolean }).override = true;
    if (!mode32) for (const r of [1, 6, 7, 3]) if (rng.once(2)) regs[r] |= rng.u64() & ~MASK32;
  }
  if (/^(xlat|movs|cmps|lods|outs|maskmovq|maskmovdqu)$/.test(row.name)) {
    if (rng.once(8))
      (fields as { segment: number }).segment = mode32
        ? rng.pick(SEGMENT_BYTES_32)
        : rng.pick([FS, GS, 0x26, 0x2e]);
  }
  if (!form.memory && row.modrm) registerOperand(rng, form, rm, regs);
  const patches: Patch[] = [];
  if (address !== undefined) patches.push(...patchAt(target, operandBytes(rng, form, regs)));
  const onStack = stackBytes(rng, form);
  if (onStack) patches.push(...patchAt(row.name === 'leave' ? regs[5] : regs[4], onStack));
  if (/^(cmps|scas)$/.test(row.name) && rng.once(2)) {
    const same = row.name === 'scas' ? new Uint8Array(48).fill(Number(regs[0] & 255n)) : rng.bytes(48);
    patches.push(...patchAt(regs[7], same), ...(row.name === 'cmps' ? patchAt(regs[6], same) : []));
  }
  return { bytes: encode(form, { ...fields, address }), patches };
}

const ADDRESS_SIZED = /^(movs|cmps|stos|scas|lods|ins|outs|xlat|loop|loope|loopne|jcxz|maskmovq|maskmovdqu)$/;
function usesAddressSize(row: Row): boolean {
  return ADDRESS_SIZED.test(row.name);
}
function registerField(rng: Rng, row: Row, mode32: boolean): number {
  // segment registers: six exist, others are undefined opcodes
  if (row.codes.some((c) => methodOf(c) === METHOD.S))
    return rng.once(10) ? rng.below(8) : rng.pick([0, 2, 3, 4, 5]);
  if (row.codes.some((c) => methodOf(c) === METHOD.C)) return rng.pick([0, 2, 3, 4]);
  if (row.codes.some((c) => methodOf(c) === METHOD.D || methodOf(c) === METHOD.P)) return rng.below(8);
  return randomRegister(rng, mode32);
}
function registerOperand(rng: Rng, form: Form, rm: number, regs: BigUint64Array): void {
  const { name } = form.row;
  const size = operandSize(form);
  if (name === 'jmp' || name === 'call') regs[rm] = u64(branchTarget(rng, size));
  else if (/^(mov_to_sreg|lar|lsl|verr|verw|arpl)$/.test(name)) {
    regs[rm] = BigInt(selector(rng)) | (rng.once(2) ? rng.u64() & ~0xffffn : 0n);
  } else if (/^wr[fg]sbase$/.test(name) && rng.once(2)) regs[rm] = BigInt(rng.u32());
  else if (name === 'cmpxchg' && rng.once(2)) regs[0] = regs[rm];
}

export function randomRegisters(rng: Rng, mode32: boolean): BigUint64Array {
  const regs = new BigUint64Array(16);
  for (let r = 0; r < 16; r++) regs[r] = rng.value();
  regs[4] = stackPointer(rng, mode32);
  if (mode32) truncate(regs);
  return regs;
}
export function truncate(regs: BigUint64Array): void {
  for (let r = 0; r < 8; r++) regs[r] &= MASK32;
  for (let r = 8; r < 16; r++) regs[r] = 0n;
}
export function randomBases(rng: Rng): Bases {
  const one = (): bigint => {
    switch (rng.below(4)) {
      case 0:
        return 0n;
      case 1:
        return BigInt(DATA);
      case 2:
        return HIGH;
      default:
        // so far up that the sum wraps
        return u64(-BigInt(rng.u32()));
    }
  };
  return { fs: one(), gs: one() };
}

/** Registers that hold what differs between two runs on any machine. */
function ignoredRegisters(row: Row, decoded: Insn): number {
  if (row.name === 'rdtsc') return 0b101;
  if (row.name === 'rdtscp') return 0b111;
  if (/^(rdrand|rdseed|rdpid)$/.test(row.name)) return 1 << decoded.reg[0];
  return 0;
}

const MANY_ACCESSES =
  /^(iret|retf|callf|enter|pusha|popa|fxsave|fxrstor|fldenv|fnstenv|frstor|fnsave|maskmovq|maskmovdqu)$/;
/** The SDM promises an error below one unit in the last place, no particular bits (volume 1, 8.3.10). */
export const TRANSCENDENTAL = /^(f2xm1|fyl2x|fyl2xp1|fptan|fpatan|fsin|fcos|fsincos)$/;
/** RCPPS and RSQRTPS are approximations, of which the SDM gives the largest relative error only. */
const APPROXIMATE = 1.5 / 4096;
function toleranceOf(row: Row): number {
  return /^v?r(cp|sqrt)[ps]s$/.test(row.name) ? APPROXIMATE : 0;
}
/** A single instruction that faults has changed no flag. */
const FROM_START: ReadonlyMap<number, number> = new Map([[0, 0]]);
const SHIFTS = /^(shl|shr|sar|rol|ror|rcl|rcr|shld|shrd)$/;

/**
 * Flags that are undefined after an instruction. For shifts that depends on the count: OF unless it is 1, CF of SHL
 * and SHR (and all of SHLD's and SHRD's) when it exceeds the operand. Count -1: not known.
 */
export function undefinedAfter(form: Form, count: number): number {
  const { row } = form;
  if (!SHIFTS.test(row.name) || row.operands.at(-1) === '1') return row.flagsUndefined;
  const size = operandSize(form);
  const masked = count < 0 ? -1 : count & (size === 8 ? 63 : 31);
  if (masked === 0) return 0;
  if (masked === 1) return row.flagsUndefined;
  let undefinedFlags = row.flagsUndefined | FLAG.OF;
  if (/^sh[lr]$/.test(row.name) && size < 4 && (masked < 0 || masked >= size * 8)) undefinedFlags |= FLAG.CF;
  return undefinedFlags;
}
/** Shift count of a single case. */
function countOf(form: Form, regs: BigUint64Array, immediateByte: number): number {
  const last = form.row.operands.at(-1);
  return last === 'CL' ? Number(regs[1] & 255n) : immediateByte;
}
/** SHLD and SHRD of 16 bits by more than 16 give anything. */
export function undefinedResult(form: Form, count: number): boolean {
  return /^sh[lr]d$/.test(form.row.name) && operandSize(form) === 2 && (count < 0 || (count & 31) > 16);
}

/** One case of a form. Undefined when no encoding of it decodes to the row (another row has taken it). */
export function singleCase(rng: Rng, form: Form, name: string): Case | undefined {
  const { row, mode32 } = form;
  for (let attempt = 0; attempt < 32; attempt++) {
    const regs = randomRegisters(rng, mode32);
    const bases = mode32 ? { fs: 0n, gs: 0n } : randomBases(rng);
    // about one in eight crosses the page's end; one in forty runs out of the code pages
    const place = rng.below(40);
    const offset =
      place === 0
        ? 2 * PAGE - 1 - rng.below(8)
        : place < 5
          ? PAGE - 1 - rng.below(8)
          : 0x400 + rng.below(0x800);
    const built = build(rng, form, regs, bases, CODE + offset);
    if (built.bytes.length > 15) continue;
    if (decodedRow(built.bytes, mode32) !== row.id) continue;
    if (jumpsToItself(row, built.bytes)) continue;
    if (mode32) truncate(regs);
    const count = countOf(form, regs, built.bytes[built.bytes.length - 1]);
    if (undefinedResult(form, count)) continue;
    let rflags = flagsFor(rng);
    if (/^(movs|cmps|stos|scas|lods)$/.test(row.name) && rng.once(4)) rflags ^= FLAG.DF;
    if (rng.once(50)) rflags |= FLAG.TF;
    return {
      name,
      mode32,
      rip: CODE + offset,
      rflags,
      regs,
      fsBase: bases.fs,
      gsBase: bases.gs,
      fx: fxFor(rng, row),
      patches: [codePatch(offset, built.bytes), ...built.patches],
      codeLength: built.bytes.length,
      undefinedFlags: undefinedAfter(form, count),
      undefinedBefore: FROM_START,
      ignoredRegs: ignoredRegisters(row, insn),
      ignoredOnFault: row.name === 'popa' ? 0xef : 0,
      tolerance: toleranceOf(row),
      ulps: TRANSCENDENTAL.test(row.name) ? 2 : 0,
      mayFault: row.name.startsWith('maskmov'),
      manyAccesses: MANY_ACCESSES.test(row.name) || row.operands.includes('Mt'),
    };
  }
  return undefined;
}
export function codePatch(offset: number, bytes: Uint8Array): Patch {
  return { offset, bytes: bytes.subarray(0, Math.min(bytes.length, 2 * PAGE - offset)) };
}
/** A branch back into its own bytes could loop for ever. */
function jumpsToItself(row: Row, bytes: Uint8Array): boolean {
  if (!row.codes.some((c) => methodOf(c) === METHOD.J)) return false;
  return insn.rel < 0 && insn.rel >= -bytes.length;
}
