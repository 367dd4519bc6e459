/** The host CPU as an oracle for x87 instructions, through native.c; and the same cases on tier 0. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readEflags, writeEflags } from '../../src/cpu/flags.ts';
import { putX87, putXmm, takeX87, takeXmm } from '../../src/cpu/fpu/state.ts';
import { TestMachine } from './machine.ts';

export interface Case {
  code: readonly number[];
  control: number;
  /** Status word with TOP. */
  status: number;
  /** Bit per physical register. */
  tags: number;
  /** ST(0)–ST(7): mantissa, sign and exponent. */
  registers: readonly (readonly [bigint, number])[];
  /** At rDI; of one length in all cases of a batch. */
  memory: Uint8Array;
  flags: number;
  /** Initial rAX; 0 when absent. */
  rax?: bigint;
  /** XMM0–XMM15; all zero when absent. */
  xmm?: Uint8Array;
}

/** What an instruction leaves. */
export interface After {
  control: number;
  status: number;
  tags: number;
  registers: [bigint, number][];
  memory: Uint8Array;
  flags: number;
  ax: number;
  xmm: Uint8Array;
}

const REQUEST = 544;
const RESPONSE = 528;
/** CF PF AF ZF SF OF */
const FLAGS = 0x8d5;

let directory: string | undefined;
let program: string | undefined;

/** Builds the native program; a reason when that cannot be. */
export function buildNative(): string | undefined {
  if (process.arch !== 'x64') return `the host is ${process.arch}, not x64`;
  try {
    directory = mkdtempSync(join(tmpdir(), 'smp86-fpu-'));
    program = join(directory, 'native');
    execFileSync('gcc', ['-O1', '-o', program, join(import.meta.dirname, 'native.c')], { stdio: 'pipe' });
  } catch (error) {
    return `no native oracle: ${(error as Error).message.split('\n')[0]}`;
  }
  return existsSync(program) ? undefined : 'gcc made no program';
}
export function removeNative(): void {
  if (directory !== undefined) rmSync(directory, { recursive: true });
}

function image(c: Case, bytes: Uint8Array): void {
  const v = new DataView(bytes.buffer, bytes.byteOffset, 512);
  v.setUint16(0, c.control, true);
  v.setUint16(2, c.status, true);
  v.setUint8(4, c.tags);
  c.registers.forEach(([mantissa, high], i) => {
    v.setBigUint64(32 + i * 16, mantissa, true);
    v.setUint16(40 + i * 16, high, true);
  });
  if (c.xmm !== undefined) bytes.set(c.xmm, 160);
}
function after(bytes: Uint8Array, memory: Uint8Array, flags: number, ax: number): After {
  const v = new DataView(bytes.buffer, bytes.byteOffset, 512);
  return {
    control: v.getUint16(0, true),
    status: v.getUint16(2, true),
    tags: v.getUint8(4),
    registers: Array.from({ length: 8 }, (_, i) => [
      v.getBigUint64(32 + i * 16, true),
      v.getUint16(40 + i * 16, true),
    ]),
    memory: memory.slice(),
    flags: flags & FLAGS,
    ax,
    xmm: bytes.slice(160, 416),
  };
}

export function onHost(cases: readonly Case[]): After[] {
  const bytes = cases[0].memory.length;
  const request = REQUEST + bytes;
  const response = RESPONSE + bytes;
  const input = new Uint8Array(cases.length * request);
  const v = new DataView(input.buffer);
  cases.forEach((c, i) => {
    const at = i * request;
    input.set(c.code, at);
    v.setUint32(at + 16, c.code.length, true);
    v.setUint32(at + 20, c.flags | 0x202, true);
    v.setBigUint64(at + 24, c.rax ?? 0n, true);
    image(c, input.subarray(at + 32, at + REQUEST));
    input.set(c.memory, at + REQUEST);
  });
  const { stdout, status } = spawnSync(program as string, [String(bytes)], { input, maxBuffer: 1 << 30 });
  if (status !== 0 || stdout.length !== cases.length * response) {
    throw new Error(`native: ${status}, ${stdout.length} bytes`);
  }
  const out = new DataView(stdout.buffer, stdout.byteOffset, stdout.length);
  return cases.map((_, i) => {
    const at = i * response;
    const memory = stdout.subarray(at + RESPONSE, at + response);
    return after(
      stdout.subarray(at + 16, at + RESPONSE),
      memory,
      out.getUint32(at + 8, true),
      out.getUint16(at, true),
    );
  });
}

const MEMORY = 0x1000;

export function onTier0(machine: TestMachine, cases: readonly Case[]): After[] {
  const { cpu, env } = machine;
  const { block } = cpu.mmu;
  return cases.map((c) => {
    block.fill(0, 0, 512);
    image(c, block);
    takeX87(cpu, true);
    takeXmm(cpu, 16);
    machine.ram.set(c.memory, MEMORY);
    env.regs[7] = BigInt(MEMORY);
    env.regs[0] = c.rax ?? 0n;
    env.regs[2] = 0n;
    writeEflags(env, c.flags | 2);
    const { vector } = machine.execute(c.code);
    if (vector >= 0) throw new Error(`exception ${vector} of ${hex(c.code)}`);
    putX87(cpu, true);
    putXmm(cpu, 16);
    const memory = machine.ram.subarray(MEMORY, MEMORY + c.memory.length);
    return after(block, memory, readEflags(env), Number(env.regs[0] & 0xffffn));
  });
}

export function hex(bytes: Iterable<number>): string {
  return [...bytes].map((b) => b.toString(16).padStart(2, '0')).join(' ');
}
function number([mantissa, high]: readonly [bigint, number]): string {
  return `${high.toString(16).padStart(4, '0')}:${mantissa.toString(16).padStart(16, '0')}`;
}
export function show(a: After | Case): string {
  const registers = a.registers.map(number).join(' ');
  const words = `cw ${a.control.toString(16)} sw ${a.status.toString(16)} tags ${a.tags.toString(16)} flags ${a.flags.toString(16)}`;
  return `${words} mem ${hex(a.memory.subarray(0, 16))}\n    ${registers}`;
}

/** What differs between two outcomes, as text; empty when they agree. `statusMask`: the bits that are defined. */
export function difference(host: After, ours: After, statusMask: number): string {
  const wrong: string[] = [];
  if (host.control !== ours.control) wrong.push('control');
  if ((host.status ^ ours.status) & statusMask) wrong.push('status');
  if (host.tags !== ours.tags) wrong.push('tags');
  host.registers.forEach((r, i) => {
    if (r[0] !== ours.registers[i][0] || r[1] !== ours.registers[i][1]) wrong.push(`st${i}`);
  });
  if (hex(host.memory) !== hex(ours.memory)) wrong.push('memory');
  if (host.flags !== ours.flags) wrong.push('flags');
  if (host.ax !== ours.ax) wrong.push('ax');
  if (hex(host.xmm) !== hex(ours.xmm)) wrong.push('xmm');
  return wrong.join(' ');
}
