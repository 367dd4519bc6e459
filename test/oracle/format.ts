/**
 * What an instruction case is, what running it gives, and the byte formats in which native.c reads and writes them.
 *
 * The memory of a case is an image of eight pages, the same on the host and in the guest: two of code (read and
 * execute), two of data, one of read-only data after them, two of stack, one at a high address. All other pages
 * are unmapped. Before each case the image is the batch's base image, with the case's patches applied.
 */

export const PAGE = 4096;
export const IMAGE_PAGES = 8;
export const IMAGE_SIZE = IMAGE_PAGES * PAGE;

export const CODE = 0x10000000;
export const DATA = 0x20000000;
export const READ_ONLY = 0x20002000;
export const STACK = 0x30000000;
export const HIGH = 0x5a5a5a5a0000n;

/** Where the image's pages are mapped. */
export interface Area {
  readonly name: string;
  readonly address: bigint;
  /** First page in the image, and number of pages. */
  readonly first: number;
  readonly count: number;
  readonly write: boolean;
  readonly execute: boolean;
}
export const AREAS: readonly Area[] = [
  { name: 'code', address: BigInt(CODE), first: 0, count: 2, write: false, execute: true },
  { name: 'data', address: BigInt(DATA), first: 2, count: 2, write: true, execute: false },
  { name: 'read-only', address: BigInt(READ_ONLY), first: 4, count: 1, write: false, execute: false },
  { name: 'stack', address: BigInt(STACK), first: 5, count: 2, write: true, execute: false },
  { name: 'high', address: HIGH, first: 7, count: 1, write: true, execute: false },
];

/** Image offset of a linear address, or -1. */
export function imageOffset(address: bigint): number {
  for (const a of AREAS) {
    const d = address - a.address;
    if (d >= 0n && d < BigInt(a.count * PAGE)) return a.first * PAGE + Number(d);
  }
  return -1;
}
/** Linear address of an image offset. */
export function linearAddress(offset: number): bigint {
  const page = offset >>> 12;
  const area = AREAS.find((a) => page >= a.first && page < a.first + a.count)!;
  return area.address + BigInt(offset - area.first * PAGE);
}

export interface Patch {
  /** Image offset. */
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Offsets in an FXSAVE image (64-bit format). */
export const FX = {
  FCW: 0,
  FSW: 2,
  FTW: 4,
  FOP: 6,
  FIP: 8,
  FDP: 16,
  MXCSR: 24,
  MASK: 28,
  ST: 32,
  XMM: 160,
} as const;
export const FX_SIZE = 512;

/** Bytes of equal content that do not end a run. */
const GAP = 8;
/** Where `now` differs from `was`, page by page; `offset`: of the first byte. */
export function differences(now: Uint8Array, was: Uint8Array, offset = 0): Patch[] {
  const out: Patch[] = [];
  for (let page = 0; page < now.length; page += PAGE) {
    for (let i = page; i < page + PAGE;) {
      if (now[i] === was[i]) {
        i++;
        continue;
      }
      let end = i + 1;
      for (let j = end; j < page + PAGE && j < end + GAP; j++) if (now[j] !== was[j]) end = j + 1;
      out.push({ offset: offset + i, bytes: Uint8Array.from(now.subarray(i, end)) });
      i = end;
    }
  }
  return out;
}

export interface Case {
  /** Where it comes from, for reports: row and number, or sequence. */
  readonly name: string;
  /** 32-bit code (compatibility mode) instead of 64-bit code. */
  readonly mode32: boolean;
  readonly rip: number;
  readonly rflags: number;
  readonly regs: BigUint64Array;
  readonly fsBase: bigint;
  readonly gsBase: bigint;
  /** x87, MMX and SSE state; undefined: as after reset. */
  readonly fx: Uint8Array | undefined;
  /** Code first. */
  readonly patches: readonly Patch[];
  /** Length of the code, all of it instructions. */
  readonly codeLength: number;
  /** Flags that are undefined at the end. */
  readonly undefinedFlags: number;
  /** The same before each instruction of a sequence, by its offset in the code: what counts when that one faults. */
  readonly undefinedBefore: ReadonlyMap<number, number>;
  /** Registers that differ from CPU to CPU by nature: bit per register. */
  readonly ignoredRegs: number;
  /** The same after a fault: those that an instruction may have loaded before it. */
  readonly ignoredOnFault: number;
  /** Units in the last place by which x87 results may differ; C1 then is open too. */
  readonly ulps: number;
  /** A page fault is allowed where the mask selects no byte of the page. */
  readonly mayFault: boolean;
  /** Largest relative error of the single-precision numbers in XMM registers. */
  readonly tolerance: number;
  /** One instruction that accesses several items of memory: in any order. */
  readonly manyAccesses: boolean;
}

/** The state after a case. */
export interface Outcome {
  readonly regs: BigUint64Array;
  rip: bigint;
  rflags: number;
  cr2: bigint;
  fsBase: bigint;
  gsBase: bigint;
  /** Exception vector; TIMEOUT when it did not end. */
  trap: number;
  error: number;
  /** CS SS DS ES FS GS. */
  readonly selectors: Uint16Array;
  readonly fx: Uint8Array;
  /** Where the image differs from the base image. */
  runs: Patch[];
}
export const TIMEOUT = 255;
export const SELECTOR_NAMES = ['cs', 'ss', 'ds', 'es', 'fs', 'gs'] as const;

export function newOutcome(): Outcome {
  return {
    regs: new BigUint64Array(16),
    rip: 0n,
    rflags: 0,
    cr2: 0n,
    fsBase: 0n,
    gsBase: 0n,
    trap: 0,
    error: 0,
    selectors: new Uint16Array(6),
    fx: new Uint8Array(FX_SIZE),
    runs: [],
  };
}

/** The state that FNINIT and power-on give, as the native runner sets it for cases without one. */
export function defaultFx(): Uint8Array {
  const fx = new Uint8Array(FX_SIZE);
  const v = new DataView(fx.buffer);
  v.setUint16(FX.FCW, 0x37f, true);
  v.setUint32(FX.MXCSR, 0x1f80, true);
  return fx;
}

const CASE_HEAD = 176;
const RESULT_HEAD = 704;
const MODE32 = 1;
const HAS_FX = 2;

function align8(n: number): number {
  return (n + 7) & ~7;
}

export function writeBatch(base: Uint8Array, cases: readonly Case[]): Uint8Array {
  let size = 8 + IMAGE_SIZE;
  for (const c of cases) {
    size += CASE_HEAD + (c.fx ? FX_SIZE : 0);
    for (const p of c.patches) size += 4 + p.bytes.length;
    size = align8(size);
  }
  const out = new Uint8Array(size);
  const v = new DataView(out.buffer);
  v.setUint32(0, cases.length, true);
  out.set(base, 8);
  let at = 8 + IMAGE_SIZE;
  for (const c of cases) {
    v.setUint32(at, (c.mode32 ? MODE32 : 0) | (c.fx ? HAS_FX : 0), true);
    v.setUint16(at + 4, c.patches.length, true);
    v.setBigUint64(at + 8, BigInt(c.rip), true);
    v.setUint32(at + 16, c.rflags, true);
    for (let r = 0; r < 16; r++) v.setBigUint64(at + 24 + r * 8, c.regs[r], true);
    v.setBigUint64(at + 152, c.fsBase, true);
    v.setBigUint64(at + 160, c.gsBase, true);
    at += CASE_HEAD;
    if (c.fx) {
      out.set(c.fx, at);
      at += FX_SIZE;
    }
    for (const p of c.patches) {
      v.setUint16(at, p.offset, true);
      v.setUint16(at + 2, p.bytes.length, true);
      out.set(p.bytes, at + 4);
      at += 4 + p.bytes.length;
    }
    at = align8(at);
  }
  return out;
}

export function readResults(bytes: Uint8Array, count: number): Outcome[] {
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out: Outcome[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + RESULT_HEAD > bytes.length) throw new Error(`the native runner gave ${i} results of ${count}`);
    const o = newOutcome();
    for (let r = 0; r < 16; r++) o.regs[r] = v.getBigUint64(at + r * 8, true);
    o.rip = v.getBigUint64(at + 128, true);
    o.rflags = v.getUint32(at + 136, true);
    o.cr2 = v.getBigUint64(at + 144, true);
    o.fsBase = v.getBigUint64(at + 152, true);
    o.gsBase = v.getBigUint64(at + 160, true);
    o.trap = v.getUint32(at + 168, true);
    o.error = v.getUint32(at + 172, true);
    for (let s = 0; s < 6; s++) o.selectors[s] = v.getUint16(at + 176 + s * 2, true);
    const runs = v.getUint16(at + 188, true);
    o.fx.set(bytes.subarray(at + 192, at + 192 + FX_SIZE));
    at += RESULT_HEAD;
    for (let r = 0; r < runs; r++) {
      const offset = v.getUint16(at, true);
      const length = v.getUint16(at + 2, true);
      o.runs.push({ offset, bytes: bytes.slice(at + 4, at + 4 + length) });
      at += 4 + length;
    }
    at = align8(at);
    out.push(o);
  }
  return out;
}
