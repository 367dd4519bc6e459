/**
 * What each x87, MMX and SSE instruction checks before anything else: that the unit is on (#UD, #NM) and that no
 * unmasked x87 exception is waiting (#MF). Source: Intel SDM vol. 3A, 2.5 (CR0.MP, EM, TS; CR4.OSFXSR), 13.1 and
 * table 12-1; vol. 1, 8.7.
 */
import { CpuEnv } from '../env.ts';
import { FSW } from '../fpu/layout.ts';
import type { FpuUnit, Ins } from './ins.ts';

const CR0 = CpuEnv.offsetOf('cr0');
const CR4 = CpuEnv.offsetOf('cr4');
const STATUS = CpuEnv.offsetOf('fpStatus');
const CR0_MP = 1 << 1;
const CR0_EM = 1 << 2;
const CR0_TS = 1 << 3;
/** SSE needs it. */
export const CR4_OSFXSR = 1 << 9;
const INVALID_OPCODE = 6;
const DEVICE_NOT_AVAILABLE = 7;
const X87_ERROR = 16;

/** Bits of CR0 that keep instructions of some unit from being executed. */
export const FPU_OFF = CR0_EM | CR0_TS;

/** Does the instruction report a waiting x87 exception? One name may have MMX and SSE forms: the registers tell. */
export function reportsPending(kind: FpuUnit, kinds: readonly string[]): boolean {
  if (kind === 'mmx' || kind === 'sse') {
    return kinds.includes('q') || (kind === 'mmx' && !kinds.includes('x'));
  }
  return kind !== 'x87-nowait';
}

/** Is it an SSE instruction? The registers tell, too. */
export function isSse(kind: FpuUnit, kinds: readonly string[]): boolean {
  return kinds.includes('x') || ((kind === 'mmx' || kind === 'sse') && !reportsPending(kind, kinds));
}

/** An x87 exception is reported by the next waiting instruction. */
export function checkPending(ins: Ins): void {
  const summary = ins.envLoad('i32_16u', STATUS).and(FSW.ES);
  ins.f.if(summary, () => ins.raise(X87_ERROR), undefined, false);
}

/** Emits the check for an instruction of `kind`. SSE instructions with an MMX operand obey the rules of MMX too. */
export function emitFpuCheck(ins: Ins, kind: FpuUnit): void {
  const { f } = ins;
  const cr0 = (mask: number) => ins.envLoad('i32', CR0).and(mask);
  switch (kind) {
    case 'x87':
    case 'x87-nowait':
      f.if(cr0(FPU_OFF), () => ins.raise(DEVICE_NOT_AVAILABLE), undefined, false);
      break;
    case 'fwait':
      f.if(cr0(CR0_MP | CR0_TS).eq(CR0_MP | CR0_TS), () => ins.raise(DEVICE_NOT_AVAILABLE), undefined, false);
      break;
    case 'mmx':
    case 'sse': {
      const sse = isSse(kind, ins.kinds);
      const off = cr0(CR0_EM);
      const noSse = ins.envLoad('i32', CR4).and(CR4_OSFXSR).eqz();
      f.if(sse ? off.or(noSse) : off, () => ins.raise(INVALID_OPCODE), undefined, false);
      f.if(cr0(CR0_TS), () => ins.raise(DEVICE_NOT_AVAILABLE), undefined, false);
      break;
    }
  }
  if (reportsPending(kind, ins.kinds)) checkPending(ins);
}
