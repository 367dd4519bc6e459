/** Every MMX and SSE instruction form against the host CPU: results, flags, MXCSR, exceptions. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { amdDotProduct } from '../oracle/dot-product.ts';
import { hostCpu } from '../oracle/host-cpu.ts';
import { CASES, type TestCase } from './cases.ts';
import { Machine } from './machine.ts';
import { missing, Native, STATE } from './native.ts';
import { DONE } from './test-ins.ts';
import { Random, randomState } from './values.ts';

const SIGFPE = 8;
const SIGSEGV = 11;
const SIMD_EXCEPTION = 19;
const GENERAL_PROTECTION = 13;

/** States tried per form; several immediates of one instruction share them. */
const PER_FORM = Number(process.env.SSE_CASES ?? 400);
const PER_IMMEDIATE = Math.max(20, PER_FORM >> 3);

const reason = missing();
if (reason !== undefined) process.stdout.write(`SIMD oracle tests skipped: ${reason}\n`);

function hex(state: Buffer, at: number, length: number): string {
  return [...state.subarray(at, at + length)].reverse().map((b) => b.toString(16).padStart(2, '0')).join('');
} // prettier-ignore

function describeState(state: Buffer): string {
  const parts: string[] = [];
  for (let i = 0; i < 4; i++) parts.push(`xmm${i}=${hex(state, STATE.XMM + 16 * i, 16)}`);
  for (let i = 0; i < 3; i++) parts.push(`mm${i}=${hex(state, STATE.MM + 8 * i, 8)}`);
  for (const [name, at] of [['rax', STATE.RAX], ['rcx', STATE.RCX], ['rdx', STATE.RDX], ['r8', STATE.R8], ['r9', STATE.R9]] as const) {
    parts.push(`${name}=${hex(state, at, 8)}`);
  }
  parts.push(`mem=${hex(state, STATE.MEMORY, 16)}`, `mxcsr=${hex(state, STATE.MXCSR, 4)}`);
  parts.push(`flags=${(state.readUInt32LE(STATE.FLAGS) & 0x8d5).toString(16)}`);
  return parts.join(' ');
} // prettier-ignore

function closeEnough(a: number, b: number, tolerance: number): boolean {
  const bits = (x: number): number => new Float32Array(Uint32Array.of(x).buffer)[0];
  if (a === b) return true;
  const [x, y] = [bits(a), bits(b)];
  // results near the smallest normal number may be flushed to zero or not
  if (Math.abs(x) < 2 ** -124 && Math.abs(y) < 2 ** -124) return a >>> 31 === b >>> 31;
  return Math.abs(x - y) <= 2 * tolerance * Math.abs(y);
}

const host = hostCpu();

/** What the host must leave where smp86 leaves `got`: of several NaNs a dot product gives the one that the maker chose. */
function expectedOf(c: TestCase, before: Buffer, got: Buffer): Buffer {
  if (!/^dpp[sd]$/.test(c.name) || host.vendor !== 'AuthenticAMD') return got;
  const out = Buffer.from(got);
  const at = STATE.XMM + 16;
  const operand = c.form[1] === 'm' ? STATE.MEMORY : STATE.XMM + 32;
  const a = before.subarray(at, at + 16);
  const b = before.subarray(operand, operand + 16);
  const mxcsr = before.readUInt32LE(STATE.MXCSR);
  out.set(amdDotProduct(c.name, a, b, c.immediate ?? 0, mxcsr, got.subarray(at, at + 16)), at);
  return out;
}

/** What differs, or undefined. `got` and `want` are states; `exception` is what the wasm function gave. */
function difference(c: TestCase, got: Buffer, want: Buffer, exception: number): string | undefined {
  const signal = want.readUInt32LE(STATE.SIGNAL);
  const expected =
    signal === SIGFPE ? SIMD_EXCEPTION : signal === SIGSEGV ? GENERAL_PROTECTION : signal === 0 ? DONE : signal;
  if (exception !== expected) return `exception ${exception}, expected ${expected}`;
  if (got.readUInt32LE(STATE.MXCSR) !== want.readUInt32LE(STATE.MXCSR)) return 'MXCSR';
  if (c.tolerance === undefined) {
    if (!got.subarray(0, STATE.MM).equals(want.subarray(0, STATE.MM))) return 'XMM';
  } else {
    for (let at = 0; at < STATE.MM; at += 4) {
      if (!closeEnough(got.readUInt32LE(at), want.readUInt32LE(at), c.tolerance)) return 'XMM';
    }
  }
  if (!got.subarray(STATE.MM, STATE.RAX).equals(want.subarray(STATE.MM, STATE.RAX))) return 'MM';
  if (!got.subarray(STATE.RAX, STATE.FLAGS).equals(want.subarray(STATE.RAX, STATE.FLAGS))) return 'general registers';
  if (!got.subarray(STATE.MEMORY).equals(want.subarray(STATE.MEMORY))) return 'memory';
  if (signal === 0 && (got.readUInt32LE(STATE.FLAGS) ^ want.readUInt32LE(STATE.FLAGS)) & c.flags) return 'EFLAGS';
  return undefined;
} // prettier-ignore

/** One semantics row in one form, with its immediates. */
interface Group {
  readonly key: string;
  readonly cases: { c: TestCase; slot: number; fixed: number }[];
  /** Machine function that reads the immediate at run time. */
  dynamic: number;
}

describe.skipIf(reason !== undefined)('SIMD instructions against the host CPU', () => {
  const groups = new Map<string, Group>();
  const forms: { name: string; form: string; size: number; immediate?: number }[] = [];
  CASES.forEach((c, slot) => {
    const key = `${c.name} ${c.form || '-'} ${c.size}`;
    let group = groups.get(key);
    if (group === undefined) {
      group = { key, cases: [], dynamic: -1 };
      if (c.immediate !== undefined) {
        group.dynamic = forms.push({ name: c.name, form: c.form, size: c.size }) - 1;
      }
      groups.set(key, group);
    }
    group.cases.push({ c, slot, fixed: forms.push(c) - 1 });
  });

  let machine: Machine;
  let native: Native;
  beforeAll(() => {
    machine = new Machine(forms);
    native = new Native(CASES.map((c) => c.text));
  });
  afterAll(() => native?.close());

  for (const group of groups.values()) {
    test(group.key, () => {
      const perCase = group.cases.length === 1 ? PER_FORM : PER_IMMEDIATE;
      const random = new Random(group.key.split('').reduce((h, ch) => (h * 31 + ch.charCodeAt(0)) | 0, 7));
      const count = perCase * group.cases.length;
      const before = Buffer.alloc(count * STATE.SIZE);
      const slots: number[] = [];
      for (let i = 0; i < count; i++) {
        const { c, slot } = group.cases[i % group.cases.length];
        randomState(random, c.values, before, i * STATE.SIZE);
        slots.push(slot);
      }
      const after = native.run(slots, before);
      const failures: string[] = [];
      for (let i = 0; i < count && failures.length < 3; i++) {
        const { c, fixed } = group.cases[i % group.cases.length];
        const input = before.subarray(i * STATE.SIZE, (i + 1) * STATE.SIZE);
        const want = after.subarray(i * STATE.SIZE, (i + 1) * STATE.SIZE);
        const functions = group.dynamic < 0 ? [fixed] : [fixed, group.dynamic];
        for (const f of functions) {
          const got = Buffer.from(input);
          const exception = machine.run(f, got, c.immediate);
          const expected = exception === DONE ? expectedOf(c, input, got) : got;
          const what = difference(c, expected, want, exception);
          if (what === undefined) {
            const x87 = machine.x87();
            const enters = c.mmx && exception === DONE;
            expect(x87).toEqual(enters ? { top: 0, tags: 0xff } : { top: 5, tags: 0 });
            continue;
          }
          const mode = f === fixed ? '' : ' (immediate at run time)';
          failures.push(
            `${c.text}${mode}: ${what}\n  in   ${describeState(input)}\n  got  ${describeState(got)}\n  want ${describeState(want)}`,
          );
          break;
        }
      }
      if (failures.length > 0) throw new Error(failures.join('\n'));
    });
  }
});
