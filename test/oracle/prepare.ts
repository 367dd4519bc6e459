/** Register and memory contents with which an instruction does something worth comparing. */
import type { Form } from './encode.ts';
import { operandSize } from './encode.ts';
import { CODE, DATA, HIGH, PAGE, READ_ONLY, STACK } from './format.ts';
import { floatBytes, vectorBytes } from './fp-values.ts';
import type { Rng } from './rng.ts';

/** Selectors that mean something to Linux's descriptor table, and some that do not. */
const SELECTORS: readonly number[] = [
  0, 3, 0x23, 0x20, 0x2b, 0x28, 0x2a, 0x33, 0x30, 0x10, 0x18, 0x1b, 0x08, 0x40, 0x43, 0x63, 0x80, 0x2f,
  0xfff8,
];
const CODE_SELECTORS: readonly number[] = [
  0x33, 0x33, 0x33, 0x23, 0x23, 0x30, 0x20, 0x2b, 0x10, 0, 0x63, 0x88,
];
const NON_CANONICAL: readonly bigint[] = [
  0x800000000000n,
  0x8000000000000000n,
  0xffff7fffffffffffn,
  0x123456789abcdef0n,
];

export function selector(rng: Rng): number {
  return rng.once(10) ? rng.below(65536) : rng.pick(SELECTORS);
}
export function codeSelector(rng: Rng): number {
  return rng.once(12) ? rng.below(65536) : rng.pick(CODE_SELECTORS);
}
/** A place in the code pages that holds no instruction: execution ends there. */
export function landing(rng: Rng): bigint {
  return BigInt(CODE + rng.below(0x300));
}
export function nonCanonical(rng: Rng): bigint {
  return rng.pick(NON_CANONICAL);
}
/** Where a branch through a register or memory goes. */
export function branchTarget(rng: Rng, size: number): bigint {
  if (size === 2) return BigInt(rng.below(65536));
  switch (rng.below(12)) {
    case 0:
      return size === 8 ? nonCanonical(rng) : BigInt(rng.u32());
    case 1:
      return BigInt(DATA + rng.below(PAGE));
    case 2:
      return rng.value();
    default:
      return landing(rng);
  }
}

/** Address of an operand: mostly in the data pages, often at a page's edge. */
export function operandAddress(rng: Rng, form: Form): bigint {
  const near = (edge: number): bigint => BigInt(edge - 1 - rng.below(17));
  switch (rng.below(32)) {
    case 0:
    case 1:
      return near(DATA + PAGE);
    case 2:
    case 3:
      return near(READ_ONLY);
    case 4:
      return BigInt(READ_ONLY + (rng.below(PAGE) & ~15));
    case 5:
      return near(READ_ONLY + PAGE);
    case 6:
      return near(DATA);
    case 7:
      return BigInt(READ_ONLY + PAGE + rng.below(PAGE));
    case 8:
      return form.mode32 ? near(STACK) : HIGH + BigInt(rng.below(PAGE));
    case 9:
      return form.mode32
        ? BigInt(rng.u32())
        : rng.once(2)
          ? nonCanonical(rng)
          : HIGH + BigInt(PAGE - 1 - rng.below(17));
    case 10:
    case 11:
    case 12:
      return BigInt(DATA + 0x40 + rng.below(2 * PAGE - 0x400));
    default:
      return BigInt(DATA + 0x40 + (rng.below(2 * PAGE - 0x400) & ~15));
  }
}

/** Stack pointers: mostly in the middle of the stack's pages. */
export function stackPointer(rng: Rng, mode32: boolean): bigint {
  switch (rng.below(24)) {
    case 0:
      return BigInt(STACK + PAGE + rng.below(33) - 16);
    case 1:
      return BigInt(STACK + rng.below(33));
    case 2:
      return BigInt(STACK + 2 * PAGE - rng.below(33));
    case 3:
      return BigInt(STACK + 0x400 + rng.below(0x800));
    case 4:
      if (rng.once(4))
        return mode32 ? BigInt(rng.u32()) : rng.once(2) ? nonCanonical(rng) : BigInt(READ_ONLY + 0x800);
      return BigInt(STACK + 0x1800 - rng.below(8) * 8);
    default:
      return BigInt(STACK + 0x400 + rng.below(0x80) * 8);
  }
}

export function little(value: bigint, size: number): Uint8Array {
  const out = new Uint8Array(size);
  for (let i = 0; i < size; i++) out[i] = Number((value >> BigInt(8 * i)) & 255n);
  return out;
}
function join(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((p) => [...p]));
}

/** A flags image for POPF and IRET: never AC, which would make the host check alignment, nor NT. */
export function flagsImage(rng: Rng): bigint {
  const trap = rng.once(6) ? 0x100 : 0;
  return BigInt((rng.u32() & 0x00200ed5) | (rng.u32() & 0x3000) | 2 | trap);
}

/** Contents of the memory operand, by instruction. */
export function operandBytes(rng: Rng, form: Form, regs: BigUint64Array): Uint8Array {
  const size = operandSize(form);
  const { name } = form.row;
  const spec = form.row.operands.find(
    (o) => o[0] === 'M' || o[0] === 'E' || o[0] === 'W' || o[0] === 'Q' || o.includes('/'),
  );
  switch (name) {
    case 'jmp':
    case 'call':
      return little(branchTarget(rng, size), 8);
    case 'jmpf':
    case 'callf':
    case 'lds':
    case 'les':
    case 'lss':
    case 'lfs':
    case 'lgs': {
      const load = name[0] === 'l';
      return join(
        little(load ? rng.value() : branchTarget(rng, size), size),
        little(BigInt(load ? selector(rng) : codeSelector(rng)), 2),
      );
    }
    case 'mov_to_sreg':
    case 'lar':
    case 'lsl':
    case 'verr':
    case 'verw':
    case 'arpl':
      return little(BigInt(selector(rng)), 2);
    case 'bound':
      return join(little(rng.value(), size), little(rng.value(), size));
    case 'cmpxchg':
      return rng.once(2) ? little(regs[0], 8) : little(rng.value(), 8);
    case 'cmpxchg8b':
      return rng.once(2) ? join(little(regs[0], 4), little(regs[2], 4)) : rng.bytes(8);
    case 'cmpxchg16b':
      return rng.once(2) ? join(little(regs[0], 8), little(regs[2], 8)) : rng.bytes(16);
    case 'ldmxcsr':
      return little(BigInt(rng.once(5) ? rng.u32() : rng.below(65536)), 4);
  }
  if (name[0] === 'f') {
    if (spec === 'Md' && !name.startsWith('fi')) return floatBytes(rng, 4);
    if (spec === 'Mq' && !name.startsWith('fi')) return floatBytes(rng, 8);
    if (spec === 'Mt') return name === 'fbld' ? bcd(rng) : floatBytes(rng, 10);
  }
  if (spec !== undefined && (spec[0] === 'W' || spec[0] === 'Q')) return vectorBytes(rng, 16);
  return join(little(rng.value(), 8), little(rng.value(), 8));
}
function bcd(rng: Rng): Uint8Array {
  if (rng.once(6)) return rng.bytes(10);
  const out = new Uint8Array(10);
  const digits = rng.below(19);
  for (let i = 0; i < digits; i++) out[i >> 1] |= rng.below(10) << ((i & 1) * 4);
  out[9] = rng.once(2) ? 0x80 : 0;
  return out;
}

/** What lies on top of the stack. */
export function stackBytes(rng: Rng, form: Form): Uint8Array | undefined {
  const size = operandSize(form);
  const item = (v: bigint): Uint8Array => little(v, size);
  switch (form.row.name) {
    case 'ret':
      return item(branchTarget(rng, size));
    case 'retf':
      return join(
        item(branchTarget(rng, size)),
        item(BigInt(codeSelector(rng))),
        item(stackPointer(rng, false)),
        item(0x2bn),
      );
    case 'iret':
      return join(
        item(branchTarget(rng, size)),
        item(BigInt(codeSelector(rng))),
        item(flagsImage(rng)),
        item(stackPointer(rng, form.mode32)),
        item(rng.once(8) ? BigInt(selector(rng)) : 0x2bn),
      );
    case 'popf':
      return item(flagsImage(rng));
    case 'pop_sreg':
      return item(BigInt(selector(rng)) | (rng.once(2) ? rng.value() << 16n : 0n));
    case 'pop':
    case 'popa':
    case 'leave':
      return join(...Array.from({ length: 8 }, () => item(rng.value())));
    default:
      return undefined;
  }
}

/** Where RBP points for instructions that use it as a frame pointer. */
export function framePointer(rng: Rng): bigint {
  return BigInt(STACK + 0x200 + rng.below(0x100) * 8);
}

/** Sets registers that the instruction uses without naming them. */
export function implicitRegisters(rng: Rng, form: Form, regs: BigUint64Array): void {
  const { name } = form.row;
  const size = operandSize(form);
  switch (name) {
    case 'movs':
    case 'cmps':
    case 'stos':
    case 'scas':
    case 'lods':
    case 'ins':
    case 'outs':
      regs[6] = stringAddress(rng);
      regs[7] = rng.once(6) ? regs[6] + BigInt(rng.below(33) - 16) : stringAddress(rng);
      if (form.rep) regs[1] = BigInt(rng.once(8) ? rng.below(3000) : rng.below(24));
      if (name === 'scas' && rng.once(2)) regs[0] = 0n;
      return;
    case 'maskmovq':
    case 'maskmovdqu':
      regs[7] = stringAddress(rng);
      return;
    case 'xlat':
      regs[3] = BigInt(DATA + rng.below(PAGE * 2));
      return;
    case 'div':
      if (rng.once(3)) regs[2] = 0n;
      else if (rng.once(2)) regs[2] = BigInt(rng.below(200));
      if (size === 1 && rng.once(2)) regs[0] = BigInt(rng.below(1024));
      return;
    case 'idiv':
      if (rng.once(2)) {
        const shift = BigInt(64 - size * 8);
        const negative = BigInt.asIntN(64, regs[0] << shift) < 0n;
        regs[2] = negative ? 0xffffffffffffffffn : 0n;
      }
      if (size === 1 && rng.once(2)) regs[0] = BigInt.asUintN(64, BigInt(rng.below(1024) - 512));
      return;
    case 'enter':
    case 'leave':
      if (!rng.once(6)) regs[5] = framePointer(rng);
      return;
    case 'loop':
    case 'loope':
    case 'loopne':
    case 'jcxz':
      if (!rng.once(3))
        regs[1] = BigInt(rng.below(3)) | (rng.once(3) ? rng.value() << (rng.once(2) ? 32n : 16n) : 0n);
      return;
  }
}
function stringAddress(rng: Rng): bigint {
  switch (rng.below(12)) {
    case 0:
      return BigInt(DATA + PAGE + rng.below(65) - 32);
    case 1:
      return BigInt(READ_ONLY - rng.below(33));
    case 2:
      return BigInt(READ_ONLY + PAGE - rng.below(33));
    case 3:
      return BigInt(DATA + rng.below(32));
    case 4:
      return BigInt(READ_ONLY + rng.below(PAGE));
    default:
      return BigInt(DATA + 0x100 + rng.below(2 * PAGE - 0x200));
  }
}
