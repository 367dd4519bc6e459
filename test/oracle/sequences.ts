/** Makes sequences of instructions of any rows, with forward branches among them. */
import { METHOD } from '../../src/cpu/decode/row.ts';
import type { Row } from '../../src/cpu/decode/table.ts';
import { FLAG } from '../../src/cpu/flags.ts';
import {
  type Address,
  encode,
  type Fields,
  type Form,
  formsOf,
  immediateSizes,
  isDirect,
  methodOf,
  randomRegister,
} from './encode.ts';
import { type Case, CODE, DATA, defaultFx, FX, PAGE, STACK } from './format.ts';
import { newFx, randomSse, randomX87 } from './fp-values.ts';
import {
  codePatch,
  decodedRow,
  flagsFor,
  randomBases,
  randomRegisters,
  TRANSCENDENTAL,
  truncate,
  undefinedAfter,
  undefinedResult,
} from './generate.ts';
import type { Rng } from './rng.ts';
import { classOf } from './rows.ts';

/** Instructions that a sequence does not contain: they leave it, or go where nothing is prepared. */
const NOT_IN_SEQUENCE =
  /^(jmp|call|ret|retf|iret|callf|jmpf|loop|loope|loopne|jcc|jcxz|int|int1|int3|into|ud|hlt|enter|leave|popf|pop_sreg|mov_to_sreg|l[defgs]s|lss|in|out|ins|outs|cli|sti|bound|rdtsc|rdtscp|rdrand|rdseed|rdpid|wrfsbase|wrgsbase|rsm|xlat|maskmovq|maskmovdqu|popa|pusha|fxsave|fxrstor|fldenv|frstor|fnstenv|fnsave|r(cp|sqrt)[ps]s|ldmxcsr|lar|lsl|verr|verw|arpl|sysret|sysexit|mov_(from|to)_[cd]r|clts|lgdt|lidt|lldt|ltr|lmsw|invlpg|invpcid|wrmsr|rdmsr|monitor|mwait|clac|stac|swapgs|invd|wbinvd|xsetbv)$/;

/** The forms from which sequences are drawn. */
export function sequenceForms(rows: readonly Row[], mode32: boolean): Form[] {
  return rows
    .filter(
      (row) => !NOT_IN_SEQUENCE.test(row.name) && !TRANSCENDENTAL.test(row.name) && row.privilege === 'none',
    )
    .flatMap((row) => formsOf(row).filter((f) => f.mode32 === mode32));
}

/** Registers that hold pointers throughout a sequence. */
const POINTERS_64 = [3, 6, 7, 13, 14];
const POINTERS_32 = [3, 6, 7];

/** A sequence of at most `instructions`; forward branches among them. */
export function sequenceCase(
  rng: Rng,
  forms: readonly Form[],
  mode32: boolean,
  instructions: number,
  name: string,
): Case {
  const regs = randomRegisters(rng, mode32);
  const bases = mode32 ? { fs: 0n, gs: 0n } : randomBases(rng);
  const pointers = mode32 ? POINTERS_32 : POINTERS_64;
  for (const p of pointers)
    regs[p] = BigInt(DATA + PAGE - 0x200 + (rng.below(0x400) & (rng.once(8) ? ~0 : ~15)));
  regs[4] = BigInt(STACK + PAGE - 0x100 + rng.below(0x40) * 8);
  regs[5] = BigInt(rng.below(64));
  if (mode32) truncate(regs);
  const offset = rng.once(8) ? PAGE - rng.below(40) : 0x400 + rng.below(0x400);
  const pieces: { bytes: Uint8Array; boundary: number }[] = [];
  let undefinedFlags = 0;
  let length = 0;
  const undefinedBefore = new Map<number, number>();
  let branched = false;
  let fx: Uint8Array | undefined;
  for (let tries = 0; pieces.length < instructions && tries < 8 * instructions; tries++) {
    const form = rng.pick(forms);
    const { row } = form;
    if (row.flagsRead & undefinedFlags) continue;
    const bytes = sequenceInstruction(rng, form, pointers, CODE + offset + length);
    if (bytes === undefined) continue;
    const count = row.operands.at(-1) === 'CL' ? -1 : bytes[bytes.length - 1];
    if (undefinedResult(form, count)) continue;
    if (classOf(row) !== 'integer') {
      fx ??= sequenceFx(rng);
    }
    undefinedBefore.set(length, undefinedFlags);
    if (!row.flagsKept && !branched) undefinedFlags &= ~row.flagsWritten;
    undefinedFlags |= undefinedAfter(form, count);
    pieces.push({ bytes, boundary: length });
    length += bytes.length;
    if (rng.once(10) && pieces.length + 1 < instructions && undefinedFlags === 0) {
      // Jcc over what follows, filled in below
      pieces.push({ bytes: Uint8Array.of(0x70 | rng.below(16), 0), boundary: length });
      length += 2;
      branched = true;
    }
  }
  const code = new Uint8Array(length);
  pieces.forEach((p, i) => {
    if ((p.bytes[0] & 0xf0) === 0x70 && p.bytes.length === 2 && p.bytes[1] === 0) {
      const to = i + 1 + rng.below(pieces.length - i);
      const target = to < pieces.length ? pieces[to].boundary : length;
      p.bytes[1] =
        Math.min(127, target - p.boundary - 2) === target - p.boundary - 2 ? target - p.boundary - 2 : 0;
    }
    code.set(p.bytes, p.boundary);
  });
  return {
    name,
    mode32,
    rip: CODE + offset,
    rflags: flagsFor(rng) & ~FLAG.DF,
    regs,
    fsBase: bases.fs,
    gsBase: bases.gs,
    fx,
    patches: [codePatch(offset, code)],
    codeLength: length,
    undefinedFlags,
    undefinedBefore,
    ignoredRegs: 0,
    ignoredOnFault: 0,
    tolerance: 0,
    ulps: 0,
    mayFault: false,
    manyAccesses: false,
  };
}

function sequenceFx(rng: Rng): Uint8Array {
  const fx = newFx();
  fx.set(defaultFx());
  randomSse(rng, fx);
  new DataView(fx.buffer).setUint32(FX.MXCSR, 0x1f80 | (rng.below(4) << 13), true);
  randomX87(rng, fx);
  new DataView(fx.buffer).setUint16(FX.FCW, 0x37f, true);
  new DataView(fx.buffer).setUint16(FX.FSW, rng.below(8) << 11, true);
  return fx;
}

function sequenceInstruction(
  rng: Rng,
  form: Form,
  pointers: readonly number[],
  ip: number,
): Uint8Array | undefined {
  const { row, mode32 } = form;
  const register = (): number => {
    for (;;) {
      const r = randomRegister(rng, mode32);
      if (r === 4 || pointers.includes(r) ? rng.once(40) : true) return r;
    }
  };
  if (/^(bts|btr|btc|bt)$/.test(row.name) && form.memory && row.operands[1] === 'Gv') return undefined;
  let address: Address | undefined;
  if (form.memory || isDirect(row)) {
    // most operands of 16 bytes must be aligned: pointers mostly are
    const align = classOf(row) === 'MMX/SSE' && !rng.once(16) ? ~15 : ~0;
    const spot = BigInt(DATA + 0x100 + (rng.below(2 * PAGE - 0x200) & align));
    const none = {
      base: -1,
      index: -1,
      scale: 0,
      disp: 0n,
      ripRelative: false,
      direct: 0n,
      override: false,
      segment: 0,
    };
    if (isDirect(row)) address = { ...none, direct: spot };
    else if (rng.once(3)) address = { ...none, disp: spot, ripRelative: !mode32 && rng.once(2) };
    else {
      const index = align === ~0 && rng.once(4) ? 5 : -1;
      address = {
        ...none,
        base: rng.once(8) ? 4 : rng.pick(pointers),
        index,
        scale: rng.below(4),
        disp: BigInt((rng.below(256) - 128) & align),
      };
    }
  }
  const fields: Fields = {
    reg: row.codes.some((c) => methodOf(c) === METHOD.S) ? rng.pick([0, 2, 3, 4, 5]) : register(),
    rm: register(),
    opcodeReg: register(),
    vvvv: row.codes.some((c) => methodOf(c) === METHOD.H || methodOf(c) === METHOD.B) ? register() : 0,
    address,
    immediates: immediateSizes(form, false).map(() => rng.value()),
    rex: !mode32 && rng.once(2),
    override: false,
    segment: 0,
    ip,
  };
  // repeated string instructions would run for as long as rCX says
  if (form.rep) return undefined;
  const bytes = encode(form, fields);
  return bytes.length <= 15 && decodedRow(bytes, mode32) === row.id ? bytes : undefined;
}
