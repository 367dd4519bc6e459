/** Carries a BootState through shared memory, and puts it into a vCPU. */
import { viewsOf } from '@smp86/atomics-sync';
import type { Cpu } from '../cpu/sys/cpu.ts';
import type { BootSegment, BootState, GprName } from './boot/state.ts';

const REGISTERS: readonly GprName[] = [
  'rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi',
  'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15',
]; // prettier-ignore

export function writeBootState(buffer: SharedArrayBuffer, at: number, state: BootState): void {
  const bytes = new TextEncoder().encode(JSON.stringify(state));
  const { u8, u32 } = viewsOf(buffer);
  u32[at >>> 2] = bytes.length;
  u8.set(bytes, at + 4);
}

/** The state, or undefined when none was written. */
export function readBootState(buffer: SharedArrayBuffer, at: number): BootState | undefined {
  const { u8, u32 } = viewsOf(buffer);
  const length = u32[at >>> 2];
  if (length === 0) return undefined;
  return JSON.parse(new TextDecoder().decode(u8.slice(at + 4, at + 4 + length))) as BootState;
}

/** Enters the guest's kernel: *Thread:* the vCPU's, after its reset. */
export function applyBootState(cpu: Cpu, state: BootState): void {
  const { env } = cpu;
  REGISTERS.forEach((name, i) => {
    env.regs[i] = BigInt(state.regs[name] ?? 0);
  });
  env.ip = BigInt(state.ip);
  env.eflags = state.eflags;
  env.cr0 = BigInt(state.cr0);
  env.cr3 = BigInt(state.cr3);
  env.cr4 = BigInt(state.cr4);
  env.efer = BigInt(state.efer);
  env.gdtBase = BigInt(state.gdt.base);
  env.gdtLimit = state.gdt.limit;
  env.idtBase = BigInt(state.idt.base);
  env.idtLimit = state.idt.limit;
  env.cpl = 0;
  const order: BootSegment[] = [state.es, state.cs, state.ss, state.ds, state.fs, state.gs];
  order.forEach((s, i) => setSegment(env.segs[i], s));
  setSegment(env.tr, state.tr);
  setSegment(env.ldtr, state.ldtr);
  cpu.mmu.tlb.flushAll();
  cpu.updateMode();
}

function setSegment(
  view: { base: bigint; limit: number; attr: number; selector: number },
  s: BootSegment,
): void {
  view.base = BigInt(s.base);
  view.limit = s.limit;
  view.attr = s.attr;
  view.selector = s.selector;
}
