/** Rules for AMD hosts (host-cpu.ts): what they show where smp86 shows what Intel's CPUs do. */
import { BASE_RIP, OPERAND } from '../../src/cpu/decode/insn.ts';
import { SEG } from '../../src/cpu/env.ts';
import { FLAG } from '../../src/cpu/flags.ts';
import { amdDotProduct } from './dot-product.ts';
import { type Case, differences, FX, imageOffset, IMAGE_SIZE, type Outcome } from './format.ts';
import type { Rule, Single } from './host-cpu.ts';

const DEBUG = 1;
const BOUND_RANGE = 5;
const UNDEFINED_OPCODE = 6;
const STACK_FAULT = 12;
const PROTECTION = 13;
const PAGE_FAULT = 14;
/** Bits of a page fault's error code. */
const WRITE = 2;
const FETCH = 16;
/** Bit of the x87 status word: an unmasked exception waits. */
const ES = 0x80;
const ARITHMETIC = FLAG.CF | FLAG.PF | FLAG.AF | FLAG.ZF | FLAG.SF | FLAG.OF;
const MASK32 = 0xffffffffn;
const RSP = 4;
/** Bytes of the widest operand, less one. */
const WIDEST = 15n;
const USER_CODE32 = 0x23;
const USER_DATA = 0x2b;
const USER_CODE64 = 0x33;

function truncated(s: Single, address: bigint): bigint {
  return s.c.mode32 ? address & MASK32 : BigInt.asUintN(64, address);
}
function canonical(address: bigint): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(48, address)) === address;
}
function segmentBase({ c, insn }: Single): bigint {
  return insn.seg === SEG.FS ? c.fsBase : insn.seg === SEG.GS ? c.gsBase : 0n;
}
function ofAddressSize({ insn }: Single, value: bigint): bigint {
  return BigInt.asUintN(insn.addrSize * 8, value);
}

/** Linear address of the memory operand. */
function operandAddress(s: Single): bigint {
  const { c, insn } = s;
  const register = (r: number): bigint =>
    r < 0 ? 0n : r === BASE_RIP ? BigInt(c.rip + insn.length) : c.regs[r];
  const offset = register(insn.base) + (register(insn.index) << BigInt(insn.scale)) + BigInt(insn.disp);
  return truncated(s, segmentBase(s) + ofAddressSize(s, offset));
}
function read({ image }: Single, address: bigint, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => image[imageOffset(address + BigInt(i))] ?? 0);
}
function integer(bytes: Uint8Array): bigint {
  return bytes.reduceRight((n, b) => (n << 8n) | BigInt(b), 0n);
}

/** The emulator's memory afterwards with bytes at `address` replaced. */
function withBytes(s: Single, address: bigint, bytes: readonly number[]): Outcome {
  const base = s.base;
  const after = base.slice();
  for (const run of s.guest.runs) after.set(run.bytes, run.offset);
  bytes.forEach((b, i) => {
    const at = imageOffset(address + BigInt(i));
    if (at >= 0) after[at] = b;
  });
  return { ...s.guest, runs: differences(after.subarray(0, IMAGE_SIZE), base) };
}

/** The instruction faulted: the state is that before. */
function faulted(s: Single, trap: number, error: number, cr2: bigint): Outcome {
  const { c, guest, image, base } = s;
  const fx = guest.fx.slice();
  if (c.fx !== undefined) {
    fx.set(c.fx.subarray(0, FX.FTW + 1));
    fx.set(c.fx.subarray(FX.ST, FX.ST + 128), FX.ST);
  }
  const rflags = c.rflags | FLAG.RF;
  const data = c.mode32 ? USER_DATA : 0;
  return {
    regs: c.regs,
    rip: BigInt(c.rip),
    rflags,
    cr2,
    fsBase: c.fsBase,
    gsBase: c.gsBase,
    trap,
    error,
    selectors: Uint16Array.of(c.mode32 ? USER_CODE32 : USER_CODE64, USER_DATA, data, data, 0, 0),
    fx,
    runs: differences(image, base),
  };
}
/** The host's fault, when it is one of accessing `size` bytes at `address`: with a page fault's error bits `bits`. */
function faultAt(s: Single, address: bigint, size: number, bits: number): Outcome | undefined {
  const { host } = s;
  const last = address + BigInt(size - 1);
  if (host.trap === PAGE_FAULT && (host.error & WRITE) === bits) {
    return host.cr2 >= address && host.cr2 <= last ? faulted(s, PAGE_FAULT, host.error, host.cr2) : undefined;
  }
  const none = !canonical(address) || !canonical(last);
  return none && (host.trap === PROTECTION || host.trap === STACK_FAULT)
    ? faulted(s, host.trap, 0, 0n)
    : undefined;
}

function finished({ c, guest }: Single): boolean {
  return guest.rip !== BigInt(c.rip);
}

/** Flags of `a - b`. */
function flagsOfCompare(a: bigint, b: bigint, size: number): number {
  const bits = BigInt(size * 8);
  const result = BigInt.asUintN(size * 8, a - b);
  let parity = Number(result & 255n);
  parity ^= parity >> 4;
  const sign = (v: bigint): number => Number((v >> (bits - 1n)) & 1n);
  return (
    (a < b ? FLAG.CF : 0) |
    ((0x9669 >> (parity & 15)) & 1 ? FLAG.PF : 0) |
    (Number((a ^ b ^ result) & 16n) ? FLAG.AF : 0) |
    (result === 0n ? FLAG.ZF : 0) |
    (sign(result) ? FLAG.SF : 0) |
    (sign(a ^ b) & sign(a ^ result) ? FLAG.OF : 0)
  );
}

/**
 * An access through a segment of 4 GiB that reaches over its end is a segment fault; smp86 lets it wrap around (SDM
 * volume 3, 5.3: implementation-specific). Of any instruction, also of the one that ends a sequence.
 */
export function amdSegmentEnd(c: Case, guest: Outcome, host: Outcome): Outcome {
  const edge = c.mode32 && guest.trap === PAGE_FAULT && guest.cr2 > MASK32 - WIDEST;
  if (!edge || (host.trap !== STACK_FAULT && host.trap !== PROTECTION)) return guest;
  return { ...guest, trap: host.trap, error: 0 };
}

const STRINGS = /^(movs|cmps|stos|scas|lods)$/;

export const AMD_RULES: readonly Rule[] = [
  {
    why:
      'PUSH of a segment register with an operand of 32 bits writes the selector with zeros above it; Intel CPUs write ' +
      '16 bits and leave the rest (SDM volume 2, PUSH, allows both)',
    names: /^push_sreg$/,
    expected(s) {
      if (!s.c.mode32 || s.insn.opSize !== 4) return undefined;
      if (!finished(s)) return undefined;
      const upper = truncated(s, s.c.regs[RSP] - 2n);
      return faultAt(s, upper, 2, WRITE) ?? withBytes(s, upper, [0, 0]);
    },
  },
  {
    why: 'POP of a segment register reads an item of the whole operand size; Intel CPUs read the selector',
    names: /^pop_sreg$/,
    expected(s) {
      if (s.guest.trap === PAGE_FAULT) return undefined;
      return faultAt(s, s.c.regs[RSP] + 2n, s.insn.opSize - 2, 0);
    },
  },
  {
    why: 'INT1 under a hypervisor that intercepts #DB leaves the instruction pointer at it',
    names: /^int1$/,
    expected({ c, guest, host }) {
      return guest.trap === DEBUG && host.rip === BigInt(c.rip) ? { ...guest, rip: host.rip } : undefined;
    },
  },
  {
    why: 'SYSRET exists outside 64-bit mode (APM volume 3, SYSRET) and so is privileged there; for Intel it is #UD',
    names: /^sysret$/,
    expected({ c, guest }) {
      return c.mode32 && guest.trap === UNDEFINED_OPCODE
        ? { ...guest, trap: PROTECTION, error: 0 }
        : undefined;
    },
  },
  {
    why: 'UD0 and UD1 have no ModRM byte (APM volume 3, UD0), so none is fetched from a page that is missing',
    names: /^ud$/,
    expected(s) {
      const fetch = s.guest.trap === PAGE_FAULT && (s.guest.error & FETCH) !== 0;
      return fetch && s.host.trap === UNDEFINED_OPCODE
        ? { ...s.guest, trap: UNDEFINED_OPCODE, error: 0 }
        : undefined;
    },
  },
  {
    why:
      'a repeated string instruction with addresses of 32 bits in 64-bit code leaves the upper halves of registers ' +
      'when it does nothing; Intel CPUs clear them',
    names: STRINGS,
    expected({ c, insn, guest }) {
      if (c.mode32 || insn.addrSize !== 4 || insn.rep === 0) return undefined;
      const regs = guest.regs.slice();
      for (const r of [1, 6, 7]) if (regs[r] === (c.regs[r] & MASK32)) regs[r] = c.regs[r];
      return { ...guest, regs };
    },
  },
  {
    why: 'a single step between repetitions does not set RF (SDM volume 3, 18.3.1.1: Intel CPUs do)',
    names: STRINGS,
    expected({ c, guest }) {
      if (guest.trap !== DEBUG || guest.rip !== BigInt(c.rip)) return undefined;
      return { ...guest, rflags: guest.rflags & ~FLAG.RF };
    },
  },
  {
    why:
      'a fault or single step in a repeated CMPS or SCAS leaves the flags of the last comparison; Intel CPUs restore those before ' +
      'the instruction (SDM volume 2, REP)',
    names: /^(cmps|scas)$/,
    expected(s) {
      const { c, insn, guest } = s;
      if (insn.rep === 0 || finished(s)) return undefined;
      if (BigInt.asUintN(insn.addrSize * 8, guest.regs[1] ^ c.regs[1]) === 0n) return undefined;
      const size = insn.opSize;
      const back = BigInt(c.rflags & FLAG.DF ? size : -size);
      const last = (r: number, base: bigint): bigint =>
        integer(read(s, truncated(s, base + ofAddressSize(s, guest.regs[r] + back)), size));
      const to = last(7, 0n);
      const from = s.name === 'scas' ? BigInt.asUintN(size * 8, c.regs[0]) : last(6, segmentBase(s));
      return { ...guest, rflags: (guest.rflags & ~ARITHMETIC) | flagsOfCompare(from, to, size) };
    },
  },
  {
    why: 'CMPS accesses the operand at rSI first; which of two faults is reported, the manuals do not say',
    names: /^cmps$/,
    expected(s) {
      const { guest, host } = s;
      if (guest.trap !== PAGE_FAULT && guest.trap !== PROTECTION) return undefined;
      const source = truncated(s, segmentBase(s) + ofAddressSize(s, guest.regs[6]));
      const last = source + BigInt(s.insn.opSize - 1);
      if (host.trap === PAGE_FAULT && host.cr2 >= source && host.cr2 <= last) {
        return { ...guest, trap: PAGE_FAULT, error: host.error, cr2: host.cr2 };
      }
      return host.trap === PROTECTION && !canonical(source)
        ? { ...guest, trap: PROTECTION, error: 0 }
        : undefined;
    },
  },
  {
    why: 'BOUND reads both bounds before it compares; which of two faults is reported, the manuals do not say',
    names: /^bound$/,
    expected(s) {
      if (s.guest.trap !== BOUND_RANGE) return undefined;
      return faultAt(s, operandAddress(s), 2 * s.insn.opSize, 0);
    },
  },
  {
    why: 'CALL to a target that is not canonical stores nothing; Intel CPUs store the return address first',
    names: /^call$/,
    expected(s) {
      const { guest } = s;
      return guest.trap === PROTECTION && guest.rip === BigInt(s.c.rip)
        ? { ...guest, runs: differences(s.image, s.base) }
        : undefined;
    },
  },
  {
    why: 'RETF and IRET of 64 bits to a 32-bit segment checks the whole offset against the limit; Intel CPUs cut it first',
    names: /^(retf|iret)$/,
    expected(s) {
      const { c, insn, guest } = s;
      if (insn.opSize !== 8 || guest.selectors[0] === USER_CODE64) return undefined;
      const offset = integer(read(s, c.regs[RSP], 8));
      return offset > MASK32 ? faulted(s, PROTECTION, 0, guest.cr2) : undefined;
    },
  },
  {
    why: 'RETF to another privilege level reads the outer stack pointer before it looks at the levels',
    names: /^retf$/,
    expected(s) {
      const { c, insn, guest, host } = s;
      if (guest.trap !== PROTECTION || host.trap !== PAGE_FAULT) return undefined;
      const outer = truncated(s, c.regs[RSP] + BigInt(2 * insn.opSize + (insn.immLo & 0xffff)));
      const inside = host.cr2 >= outer && host.cr2 < outer + BigInt(2 * insn.opSize);
      return inside ? { ...guest, trap: PAGE_FAULT, error: host.error, cr2: host.cr2 } : undefined;
    },
  },
  {
    why: 'FXSAVE tells that LDMXCSR takes bit 17 (MISALIGNSSE; APM volume 2, 11.4.4.1)',
    names: /^fxsave$/,
    expected(s) {
      return finished(s) ? withBytes(s, operandAddress(s) + BigInt(FX.MASK), [0xff, 0xff, 2, 0]) : undefined;
    },
  },
  {
    why:
      'an x87 store that raises an unmasked exception, and so does not store, faults where it could not have stored; ' +
      'Intel CPUs do not look at the address',
    names: /^(fst|fstp|fist|fistp|fisttp|fbstp)$/,
    expected(s) {
      const { insn, guest } = s;
      if (!finished(s) || insn.memOperand < 0) return undefined;
      const raised = new DataView(guest.fx.buffer, guest.fx.byteOffset).getUint16(FX.FSW, true) & ES;
      return raised ? faultAt(s, operandAddress(s), insn.size[insn.memOperand], WRITE) : undefined;
    },
  },
  {
    why: 'of several NaNs DPPS and DPPD give another one (dot-product.ts)',
    names: /^dpp[sd]$/,
    expected(s) {
      const { c, insn, guest, name } = s;
      if (!finished(s) || c.fx === undefined) return undefined;
      const register = (operand: number): number => FX.XMM + insn.reg[operand] * 16;
      const from = c.fx.subarray(register(0), register(0) + 16);
      const other =
        insn.kind[1] === OPERAND.MEM
          ? read(s, operandAddress(s), 16)
          : c.fx.slice(register(1), register(1) + 16);
      const fx = guest.fx.slice();
      const mxcsr = new DataView(c.fx.buffer, c.fx.byteOffset).getUint32(FX.MXCSR, true);
      const result = fx.subarray(register(0), register(0) + 16);
      fx.set(amdDotProduct(name, from, other, insn.immLo & 255, mxcsr, result), register(0));
      return { ...guest, fx };
    },
  },
];
