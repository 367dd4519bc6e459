/** Compares two outcomes of a case, and describes a difference. */
import { decode } from '../../src/cpu/decode/decoder.ts';
import { formatInsn } from '../../src/cpu/decode/format.ts';
import { Insn } from '../../src/cpu/decode/insn.ts';
import { registerName } from '../../src/cpu/decode/format.ts';
import { FLAG } from '../../src/cpu/flags.ts';
import { type Case, FX, linearAddress, type Outcome, type Patch, SELECTOR_NAMES, TIMEOUT } from './format.ts';

const PAGE_FAULT = 14;
const BREAKPOINT = 3;
/** Bit of the x87 status word. */
const C1 = 0x200;
const ALIGNMENT_CHECK = 17;
/** Bytes of the frame of RETF or IRET. */
const SELECTOR_FRAME = 48;
/** Bytes of the largest frame that an instruction pushes or pops. */
const ITEMS = 64;
/** Bytes of the largest frame or state image. */
const FRAME = 512n;
/** Linux's TASK_SIZE_MAX. */
const USER_END = 0x7ffffffff000n;
const MASK32 = 0xffffffffn;
const FLAG_NAMES: readonly (readonly [number, string])[] = [
  [FLAG.CF, 'cf'],
  [FLAG.PF, 'pf'],
  [FLAG.AF, 'af'],
  [FLAG.ZF, 'zf'],
  [FLAG.SF, 'sf'],
  [FLAG.OF, 'of'],
  [FLAG.DF, 'df'],
  [FLAG.TF, 'tf'],
  [FLAG.NT, 'nt'],
  [FLAG.RF, 'rf'],
  [FLAG.AC, 'ac'],
  [FLAG.ID, 'id'],
  [FLAG.IOPL, 'iopl'],
  [FLAG.IF, 'if'],
];

/** One field that differs: the host's value and the emulator's. */
export interface Difference {
  readonly field: string;
  readonly host: string;
  readonly guest: string;
}

function hex(v: bigint | number): string {
  return v.toString(16);
}
function bytesText(b: Uint8Array): string {
  return Array.from(b, (x) => x.toString(16).padStart(2, '0')).join(' ');
}
export function flagsText(f: number): string {
  return FLAG_NAMES.filter(([bit]) => f & bit)
    .map(([, name]) => name)
    .join(' ');
}

/** True when the host's outcome says nothing about the instruction. */
export function inconclusive(host: Outcome): boolean {
  return host.trap === TIMEOUT || host.trap === ALIGNMENT_CHECK || (host.rflags & FLAG.AC) !== 0;
}

export function compare(c: Case, host: Outcome, guest: Outcome): Difference[] {
  const out: Difference[] = [];
  const note = (field: string, h: string, g: string): void => void out.push({ field, host: h, guest: g });
  if (unordered(c, host, guest) || (c.mayFault && host.trap === PAGE_FAULT)) return out;
  if (host.trap !== guest.trap) note('trap', String(host.trap), String(guest.trap));
  else {
    // Linux says "protection" for every user access beyond the user's half
    const upper = host.trap === PAGE_FAULT && host.cr2 >= USER_END;
    const mask = upper ? ~1 : ~0;
    if ((host.error & mask) !== (guest.error & mask)) note('error', hex(host.error), hex(guest.error));
    if (host.trap === PAGE_FAULT && host.cr2 !== guest.cr2 && !sameFrame(c, host.cr2, guest.cr2)) {
      note('cr2', hex(host.cr2), hex(guest.cr2));
    }
  }
  if (host.rip !== guest.rip) note('rip', hex(host.rip), hex(guest.rip));
  const count = c.mode32 ? 8 : 16;
  const mask = c.mode32 ? MASK32 : ~0n;
  for (let r = 0; r < count; r++) {
    if (((c.ignoredRegs | (host.trap === BREAKPOINT ? 0 : c.ignoredOnFault)) >> r) & 1) continue;
    if (((host.regs[r] ^ guest.regs[r]) & mask) === 0n) continue;
    note(registerName(r, c.mode32 ? 4 : 8, false), hex(host.regs[r]), hex(guest.regs[r]));
  }
  const at = host.trap === BREAKPOINT ? undefined : c.undefinedBefore.get(Number(host.rip - BigInt(c.rip)));
  const flags = ~(at ?? c.undefinedFlags);
  if ((host.rflags ^ guest.rflags) & flags) {
    note('flags', flagsText(host.rflags & flags), flagsText(guest.rflags & flags));
  }
  for (let s = 0; s < 6; s++) {
    // the host kernel's return to its handler makes every null selector in DS, ES, FS, GS zero
    if (s >= 2 && (host.selectors[s] | guest.selectors[s]) < 4) continue;
    if (host.selectors[s] !== guest.selectors[s])
      note(SELECTOR_NAMES[s], hex(host.selectors[s]), hex(guest.selectors[s]));
  }
  if (!c.mode32) {
    if (host.fsBase !== guest.fsBase) note('fs base', hex(host.fsBase), hex(guest.fsBase));
    if (host.gsBase !== guest.gsBase) note('gs base', hex(host.gsBase), hex(guest.gsBase));
  }
  compareFx(c, host, guest, note);
  compareMemory(significant(c, host, host.runs), significant(c, host, guest.runs), note);
  return out;
}

function compareFx(c: Case, a: Outcome, b: Outcome, note: (f: string, h: string, g: string) => void): void {
  const host = a.fx;
  const guest = b.fx;
  const h = new DataView(host.buffer, host.byteOffset);
  const g = new DataView(guest.buffer, guest.byteOffset);
  const word = (name: string, at: number, mask = 0xffff): void => {
    if ((h.getUint16(at, true) ^ g.getUint16(at, true)) & mask) {
      note(name, hex(h.getUint16(at, true)), hex(g.getUint16(at, true)));
    }
  };
  word('fcw', FX.FCW);
  // an MMX instruction that faults may have marked the registers valid before, and set TOP to 0
  const entered = a.trap !== BREAKPOINT && host[FX.FTW] === 0xff;
  if (!entered) {
    word('fsw', FX.FSW, c.ulps > 0 ? ~C1 : ~0);
    word('ftw', FX.FTW);
  }
  word('mxcsr', FX.MXCSR);
  const register = (name: string, at: number, size: number): void => {
    for (let i = 0; i < size; i++) {
      if (host[at + i] === guest[at + i]) continue;
      if (size === 10 && c.ulps > 0 && nearly(h, g, at, c.ulps)) return;
      if (size === 16 && c.tolerance > 0 && approximately(h, g, at, c.tolerance)) return;
      return note(name, reversed(host, at, size), reversed(guest, at, size));
    }
  };
  if (!entered) for (let i = 0; i < 8; i++) register(`st${i}`, FX.ST + i * 16, 10);
  for (let i = 0; i < 16; i++) register(`xmm${i}`, FX.XMM + i * 16, 16);
}
/** 80-bit numbers as integers, in the order of their values: neighbours differ by one. */
function ordinal(v: DataView, at: number): bigint {
  const top = BigInt(v.getUint16(at + 8, true));
  const fraction = v.getBigUint64(at, true) & ((1n << 63n) - 1n);
  const magnitude = ((top & 0x7fffn) << 63n) | fraction;
  return top >> 15n ? -magnitude : magnitude;
}
function nearly(h: DataView, g: DataView, at: number, ulps: number): boolean {
  const distance = ordinal(h, at) - ordinal(g, at);
  return distance >= -BigInt(ulps) && distance <= BigInt(ulps);
}
const FLT_MIN = 2 ** -126;
function approximately(h: DataView, g: DataView, at: number, tolerance: number): boolean {
  for (let i = 0; i < 16; i += 4) {
    if (h.getUint32(at + i, true) === g.getUint32(at + i, true)) continue;
    const x = h.getFloat32(at + i, true);
    const y = g.getFloat32(at + i, true);
    if (!(Math.abs(x - y) <= tolerance * Math.max(Math.abs(y), FLT_MIN))) return false;
  }
  return true;
}
function reversed(b: Uint8Array, at: number, size: number): string {
  return Array.from(b.subarray(at, at + size), (x) => x.toString(16).padStart(2, '0'))
    .reverse()
    .join('');
}

/**
 * Instructions that access several items (IRET, PUSHA, FXRSTOR): in which order, the manuals do not say, so a fault
 * may be at any byte of the frame.
 */
function sameFrame(c: Case, a: bigint, b: bigint): boolean {
  const distance = a > b ? a - b : b - a;
  return c.manyAccesses && distance < FRAME;
}

/** True when such a frame lies at a page's edge, or nowhere, and both sides fault: which of several faults, is open. */
function unordered(c: Case, host: Outcome, guest: Outcome): boolean {
  if (!c.manyAccesses || guest.trap === BREAKPOINT) return false;
  // of the last item of a frame, a selector, the host reads 16 bits alone
  const selector = 4096 - Number(c.regs[4] & 4095n);
  if (guest.trap === PAGE_FAULT && guest.rip === BigInt(c.rip) && selector < SELECTOR_FRAME) return true;
  if (host.trap === BREAKPOINT) return false;
  if (host.rip !== guest.rip || host.rip !== BigInt(c.rip)) return false;
  const sp = c.regs[4];
  const inPage = Number(sp & 4095n);
  const edge = inPage < ITEMS || inPage > 4096 - ITEMS || sp >> 47n !== 0n;
  return edge || (host.trap === PAGE_FAULT && guest.trap === PAGE_FAULT && host.error !== guest.error);
}

/**
 * Changes that are not just pieces of a store in several parts that a fault ended: items of a frame below the stack
 * pointer, or what lies about the faulting address.
 */
function significant(c: Case, host: Outcome, runs: readonly Patch[]): readonly Patch[] {
  if (!c.manyAccesses || host.trap === BREAKPOINT) return runs;
  return runs.filter((r) => {
    const at = linearAddress(r.offset);
    const above = host.regs[4] - at;
    const distance = host.cr2 > at ? host.cr2 - at : at - host.cr2;
    return !(above > 0n && above <= FRAME) && !(host.trap === PAGE_FAULT && distance < FRAME);
  });
}

function compareMemory(
  host: readonly Patch[],
  guest: readonly Patch[],
  note: (f: string, h: string, g: string) => void,
): void {
  let same = host.length === guest.length;
  for (let i = 0; same && i < host.length; i++) {
    same = host[i].offset === guest[i].offset && Buffer.compare(host[i].bytes, guest[i].bytes) === 0;
  }
  if (same) return;
  const text = (runs: readonly Patch[]): string =>
    runs.map((r) => `[${hex(linearAddress(r.offset))}] ${bytesText(r.bytes.subarray(0, 40))}`).join('; ');
  const only = (a: readonly Patch[], b: readonly Patch[]): Patch[] =>
    a.filter((x) => !b.some((y) => x.offset === y.offset && Buffer.compare(x.bytes, y.bytes) === 0));
  note('memory', text(only(host, guest)), text(only(guest, host)));
}

const insn = new Insn();

/** The case's instructions, one a line. */
export function disassembly(c: Case): string[] {
  const code = new Uint8Array(c.codeLength + 16).fill(0xcc);
  code.set(c.patches[0].bytes);
  const lines: string[] = [];
  for (let at = 0; at < c.codeLength;) {
    const length = decode(code, at, 16, c.mode32 ? 1 : 2, insn);
    const n = length > 0 ? length : 1;
    const text = length > 0 ? formatInsn(insn, BigInt(c.rip + at)) : '(bad)';
    lines.push(`${hex(c.rip + at)}: ${bytesText(code.subarray(at, at + n)).padEnd(30)} ${text}`);
    at += n;
  }
  return lines;
}

/** The case with its inputs, and both outcomes where they differ. */
export function report(c: Case, differences: readonly Difference[], host: Outcome): string {
  const count = c.mode32 ? 8 : 16;
  const regs = Array.from(
    { length: count },
    (_, r) => `${registerName(r, c.mode32 ? 4 : 8, false)}=${hex(c.regs[r])}`,
  );
  const lines = [
    `${c.name} (${c.mode32 ? '32' : '64'}-bit)`,
    ...disassembly(c).map((l) => `    ${l}`),
    `  in:  ${regs.join(' ')} flags=${flagsText(c.rflags)} fs=${hex(c.fsBase)} gs=${hex(c.gsBase)}`,
    ...c.patches.slice(1).map((p) => `       [${hex(linearAddress(p.offset))}] ${bytesText(p.bytes)}`),
    ...(c.fx ? fxLines(c.fx) : []),
    `  host: trap ${host.trap} error ${hex(host.error)} rip ${hex(host.rip)}`,
    ...differences.map((d) => `  ${d.field.padEnd(7)} host ${d.host}\n          emul ${d.guest}`),
  ];
  return lines.join('\n');
}
function fxLines(fx: Uint8Array): string[] {
  const v = new DataView(fx.buffer, fx.byteOffset);
  const st = Array.from({ length: 8 }, (_, i) => reversed(fx, FX.ST + i * 16, 10)).join(' ');
  const xmm = Array.from({ length: 16 }, (_, i) => reversed(fx, FX.XMM + i * 16, 16)).join(' ');
  return [
    `       fcw=${hex(v.getUint16(0, true))} fsw=${hex(v.getUint16(2, true))} ftw=${hex(fx[4])} mxcsr=${hex(v.getUint32(24, true))}`,
    `       st ${st}`,
    `       xmm ${xmm}`,
  ];
}
