/**
 * What the host's CPU does otherwise than smp86 because of who made it. Where the makers differ, smp86 has one
 * behaviour, Intel's (docs/rationale.md), so on an AMD host each such difference is one rule here: what the host must
 * show then, not what may be overlooked. SDM is Intel's manual, APM is AMD's (AMD64 Architecture Programmer's Manual).
 */
import { readFileSync } from 'node:fs';
import { decode } from '../../src/cpu/decode/decoder.ts';
import { Insn, PREFIX } from '../../src/cpu/decode/insn.ts';
import { ROW } from '../../src/cpu/decode/row.ts';
import { ROWS } from '../../src/cpu/decode/table.ts';
import { AMD_RULES, amdSegmentEnd } from './amd.ts';
import type { Form } from './encode.ts';
import { type Case, differences, type Outcome, PAGE } from './format.ts';

/** One instruction of a finished case, alone, with what the emulator left. */
export interface Single {
  readonly c: Case;
  readonly insn: Insn;
  readonly name: string;
  /** The image before: of the batch, and with the case's patches. */
  readonly base: Uint8Array;
  readonly image: Uint8Array;
  readonly guest: Outcome;
  /** Only to tell two permitted outcomes apart. */
  readonly host: Outcome;
}

/** A difference that the manuals leave to the maker. */
export interface Rule {
  /** What differs, with the places in the manuals. */
  readonly why: string;
  /** Instructions by their name in the table. */
  readonly names: RegExp;
  /** What the host must show; undefined where the rule does not apply. */
  readonly expected: (s: Single) => Outcome | undefined;
}

export interface HostCpu {
  readonly vendor: string;
  /** MXCSR_MASK of FXSAVE: the bits that LDMXCSR takes. SDM volume 1, 11.6.6; APM volume 1, 4.2.2. */
  readonly mxcsrMask: number;
  /** Why the host has no such instruction; undefined when it has. */
  readonly lacks: (form: Form) => string | undefined;
  /** False for forms that have a rule which judges them alone. */
  readonly inSequences: (form: Form) => boolean;
  /** The code as the host is given it: of the same length and meaning where it reads prefixes or opcodes otherwise. */
  readonly code: (code: Uint8Array, mode32: boolean) => Uint8Array;
  /** What the host must show whatever the instruction was. */
  readonly always: (c: Case, guest: Outcome, host: Outcome) => Outcome;
  readonly rules: readonly Rule[];
}

const INTEL: HostCpu = {
  vendor: 'GenuineIntel',
  mxcsrMask: 0xffff,
  lacks: () => undefined,
  inSequences: () => true,
  code: (code) => code,
  always: (c, guest) => guest,
  rules: [],
};

const OPERAND_SIZE = 0x66;
const DS_PREFIX = 0x3e;
const FAR_POINTER = /^(callf|jmpf|lss|lfs|lgs)$/;

const AMD: HostCpu = {
  vendor: 'AuthenticAMD',
  // bit 17, misaligned exception mask, where CPUID has MISALIGNSSE
  mxcsrMask: 0x2ffff,
  lacks: (form) =>
    form.wide && FAR_POINTER.test(form.row.name)
      ? 'AMD has no far pointers of 16:64 (APM volume 3, CALL (Far), LFS); checked by test/bare, intel64'
      : undefined,
  inSequences: ({ row, mode32, small }) =>
    !/^dpp[sd]$/.test(row.name) && !(row.name === 'push_sreg' && mode32 && !small),
  code(code, mode32) {
    const out = code.slice();
    eachInsn(code, mode32, (insn, at) => {
      const row = ROWS[insn.row];
      // 66 makes near branches of 64-bit code 16 bits wide (APM volume 3, 1.2.2); smp86 and Intel ignore it, as
      // everybody ignores 3E
      if (!mode32 && row.flags & ROW.FORCE64 && insn.prefixes & PREFIX.OPERAND_SIZE) {
        const prefix = code.indexOf(OPERAND_SIZE, at);
        out.copyWithin(at + 1, at, prefix);
        out[at] = DS_PREFIX;
      }
      // 0F 0D with a register is #UD (APM volume 3, PREFETCH); a NOP for Intel, as is 0F 19
      if (row.opcode === '0F.0D' && row.name === 'nop') out[out.indexOf(0x0f, at) + 1] = 0x19;
    });
    return out;
  },
  always: amdSegmentEnd,
  rules: AMD_RULES,
};

function readVendor(): string {
  return /^vendor_id\s*:\s*(\S+)/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? 'unknown';
}
/** The host's description; of an unknown maker all of Intel's behaviour is expected. */
export function hostCpu(): HostCpu {
  return readVendor() === AMD.vendor ? AMD : INTEL;
}

/** Decodes a case's code from its beginning to `length`. */
function eachInsn(code: Uint8Array, mode32: boolean, found: (insn: Insn, at: number) => void): void {
  const padded = new Uint8Array(code.length + 16).fill(0xcc);
  padded.set(code);
  const insn = new Insn();
  for (let at = 0; at < code.length;) {
    const length = decode(padded, at, 16, mode32 ? 1 : 2, insn);
    if (length > 0) found(insn, at);
    at += Math.max(length, 1);
  }
}

/** The case as the host is given it. */
export function hostCase(cpu: HostCpu, c: Case): Case {
  const { offset, bytes } = c.patches[0];
  const code = cpu.code(bytes, c.mode32);
  if (Buffer.compare(code, bytes) === 0) return c;
  return { ...c, patches: [{ offset, bytes: code }, ...c.patches.slice(1)] };
}

/**
 * The host's outcome of `given` as it would be for `c`: the code pages, which nothing can write to, differ from the
 * base image by the code.
 */
export function asIfGiven(base: Uint8Array, c: Case, given: Case, host: Outcome): Outcome {
  if (given === c) return host;
  const image = base.slice(0, CODE_PAGES);
  image.set(c.patches[0].bytes, c.patches[0].offset);
  const runs = [...differences(image, base), ...host.runs.filter((r) => r.offset >= CODE_PAGES)];
  return { ...host, runs };
}
const CODE_PAGES = 2 * PAGE;

/** What the host must show for a case after which the emulator shows `outcome`. */
export function expectedOutcome(
  cpu: HostCpu,
  base: Uint8Array,
  c: Case,
  host: Outcome,
  outcome: Outcome,
): Outcome {
  const guest = cpu.always(c, outcome, host);
  if (cpu.rules.length === 0) return guest;
  const code = new Uint8Array(c.codeLength).fill(0xcc);
  code.set(c.patches[0].bytes);
  let single: Single | undefined;
  eachInsn(code, c.mode32, (insn, at) => {
    const clipped = c.patches[0].bytes.length < c.codeLength;
    if (at !== 0 || (insn.length !== c.codeLength && !clipped)) return;
    const { name } = ROWS[insn.row];
    if (!cpu.rules.some((r) => r.names.test(name))) return;
    const image = base.slice();
    for (const p of c.patches) image.set(p.bytes, p.offset);
    single = { c, insn, name, base, image, guest, host };
  });
  if (single === undefined) return guest;
  for (const rule of cpu.rules) {
    if (!rule.names.test(single.name)) continue;
    single = { ...single, guest: rule.expected(single) ?? single.guest };
  }
  return single.guest;
}
