/**
 * Runs a BootState under native QEMU: what the loader placed goes into guest RAM with `-device loader`,
 * and a ROM made here, in place of a BIOS, sets the CPU state and jumps. So the loaders are checked
 * against a machine that is not ours.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BootSegment, BootState, GprName } from '../../src/machine/boot/index.ts';

const ROM_SIZE = 0x1_0000;
/** The ROM's address below 1 MiB. */
const ROM_BASE = 0xf_0000;
const CODE = 0xe000;
const GDT = 0xd000;
const GDT_POINTER = 0xd800;
const START_GDT = 0xd900;
const START_GDT_POINTER = 0xd980;
const MSR_EFER = 0xc000_0080;
const EFER_LMA = 1 << 10;
/** Numbers of the registers in instruction encodings. */
const REGISTERS: readonly GprName[] = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi'];

function dword(value: number): number[] {
  return [value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24];
}

/** A descriptor with the segment's attributes, base 0 and limit 4 GiB. */
function descriptor(segment: BootSegment): number[] {
  return [...dword(0x0000_ffff), ...dword((segment.attr | 0x000f_0000) >>> 0)];
}

function putTable(rom: Uint8Array, at: number, pointerAt: number, segments: readonly BootSegment[]): void {
  for (const segment of segments) rom.set(descriptor(segment), at + segment.selector);
  rom.set([0x7f, 0, ...dword(ROM_BASE + at)], pointerAt);
}

/** A 64 KiB ROM whose reset vector leads to the state. */
export function stateRom(state: BootState): Uint8Array {
  const rom = new Uint8Array(ROM_SIZE);
  const flat32: BootSegment = { ...state.cs, selector: 0x08, attr: 0x00c0_9b00 };
  putTable(rom, START_GDT, START_GDT_POINTER, [flat32, { ...state.ds, selector: 0x10 }]);
  putTable(rom, GDT, GDT_POINTER, [state.cs, state.ds]);
  const enter32 = CODE + 0x40;
  rom.set(
    [
      0xfa, // cli
      ...[0x2e, 0x66, 0x0f, 0x01, 0x16, START_GDT_POINTER & 255, START_GDT_POINTER >>> 8], // lgdt cs:[…]
      ...[0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0], // cr0.PE = 1
      ...[0x66, 0xea, ...dword(ROM_BASE + enter32), 0x08, 0x00], // jmp far 8:enter32
    ],
    CODE,
  );
  const setEax = (value: number): number[] => [0xb8, ...dword(value)];
  const code = [
    ...[...setEax(0x10), 0x8e, 0xd8], // ds = 0x10, flat, so that the next table can be read
    ...[0x0f, 0x01, 0x15, ...dword(ROM_BASE + GDT_POINTER)], // lgdt […]
    ...setEax(state.cr4),
    ...[0x0f, 0x22, 0xe0], // cr4 = eax
    ...setEax(state.cr3),
    ...[0x0f, 0x22, 0xd8], // cr3 = eax
    ...[0xb9, ...dword(MSR_EFER), 0x31, 0xd2, ...setEax(state.efer & ~EFER_LMA), 0x0f, 0x30], // wrmsr
    ...setEax(state.cr0),
    ...[0x0f, 0x22, 0xc0], // cr0 = eax
    ...setEax(state.ds.selector),
    ...[0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0x8e, 0xe0, 0x8e, 0xe8], // ds es ss fs gs
    ...REGISTERS.flatMap((name, number) => [0xb8 + number, ...dword(state.regs[name] ?? 0)]),
    ...[0xea, ...dword(state.ip), state.cs.selector & 255, state.cs.selector >>> 8], // jmp far
  ];
  rom.set(code, enter32);
  rom.set([0xea, CODE & 255, CODE >>> 8, 0x00, 0xf0], ROM_SIZE - 16);
  return rom;
}

export interface StateRun {
  readonly state: BootState;
  readonly ram: Uint8Array;
  /** Ends the run when it appears in the serial output. */
  readonly until: RegExp;
  readonly timeoutMs: number;
  readonly extra?: readonly string[];
}

/** Runs until `until` matches, QEMU ends or time is up; returns the first serial port's output. */
export async function runStateInQemu(run: StateRun): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'smp86-state-'));
  try {
    const rom = join(directory, 'rom');
    writeFileSync(rom, stateRom(run.state));
    const loaders = run.state.placed.flatMap(({ start, size }, i) => {
      const file = join(directory, `part${i}`);
      writeFileSync(file, run.ram.subarray(start, start + size));
      return ['-device', `loader,file=${file},addr=${start},force-raw=on`];
    });
    const args = ['-accel', 'tcg', '-m', String(run.ram.length / 2 ** 20), '-bios', rom, '-display', 'none'];
    args.push('-serial', 'stdio', '-monitor', 'none', '-no-reboot', ...loaders, ...(run.extra ?? []));
    const child = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const done = Promise.withResolvers<void>();
    const timer = setTimeout(() => done.resolve(), run.timeoutMs);
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (run.until.test(output)) done.resolve();
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
    child.on('close', () => done.resolve());
    child.on('error', (error) => {
      output += error.message;
      done.resolve();
    });
    await done.promise;
    clearTimeout(timer);
    child.kill('SIGKILL');
    return output;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
