/**
 * Registers and state of a local APIC. Intel SDM vol. 3A, "Advanced Programmable Interrupt
 * Controller (APIC)"; register numbers are those of x2APIC MSRs less 800h, which is the xAPIC
 * offset divided by 16.
 */
import { array, i32, ns, padTo, struct, u32, type ViewOf } from '@smp86/atomics-sync';

// --- register numbers ---
export const REG_ID = 0x02;
export const REG_VERSION = 0x03;
export const REG_TPR = 0x08;
export const REG_APR = 0x09;
export const REG_PPR = 0x0a;
export const REG_EOI = 0x0b;
export const REG_RRR = 0x0c;
export const REG_LDR = 0x0d;
export const REG_DFR = 0x0e;
export const REG_SVR = 0x0f;
export const REG_ISR = 0x10;
export const REG_TMR = 0x18;
export const REG_IRR = 0x20;
export const REG_ESR = 0x28;
export const REG_ICR_LOW = 0x30;
export const REG_ICR_HIGH = 0x31;
export const REG_LVT_FIRST = 0x32;
export const REG_LVT_LAST = 0x37;
export const REG_INITIAL_COUNT = 0x38;
export const REG_CURRENT_COUNT = 0x39;
export const REG_DIVIDE = 0x3e;
export const REG_SELF_IPI = 0x3f;

// --- MSRs ---
export const MSR_APIC_BASE = 0x1b;
export const MSR_TSC_DEADLINE = 0x6e0;
export const MSR_X2APIC_FIRST = 0x800;
export const MSR_X2APIC_LAST = 0x8ff;

// --- IA32_APIC_BASE ---
export const BASE_BSP = 1 << 8;
export const BASE_X2APIC = 1 << 10;
export const BASE_ENABLE = 1 << 11;
export const APIC_DEFAULT_BASE = 0xfee0_0000;
/** Bits 39:32: what 40 physical address bits leave of the high half. */
export const BASE_HIGH_MASK = 0xff;

// --- spurious interrupt vector register ---
export const SVR_ENABLE = 1 << 8;
export const SVR_MASK = 0x1ff;

// --- LVT entries, in register order ---
export const LVT_TIMER = 0;
export const LVT_THERMAL = 1;
export const LVT_PERF = 2;
export const LVT_LINT0 = 3;
export const LVT_LINT1 = 4;
export const LVT_ERROR = 5;
export const LVT_COUNT = 6;
// fields
export const LVT_MASKED = 1 << 16;
export const LVT_LEVEL = 1 << 15;
export const LVT_TIMER_PERIODIC = 1 << 17;
export const LVT_TIMER_DEADLINE = 2 << 17;
export const LVT_TIMER_MODE = 3 << 17;
/** Writable bits per entry. */
export const LVT_WRITABLE: readonly number[] = [0x700ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff];
/** Read-only bits that software may write back: delivery status, remote IRR of the LINT pins. */
export const LVT_READ_ONLY: readonly number[] = [0x1000, 0x1000, 0x1000, 0x5000, 0x5000, 0x1000];

/** Delivery modes: of the ICR, the LVT, I/O APIC entries and messages. */
export const DELIVERY = {
  FIXED: 0,
  LOWEST: 1,
  SMI: 2,
  NMI: 4,
  INIT: 5,
  SIPI: 6,
  EXTINT: 7,
} as const;

// --- interrupt command register, low half ---
export const ICR_LOGICAL = 1 << 11;
export const ICR_PENDING = 1 << 12;
export const ICR_ASSERT = 1 << 14;
export const ICR_LEVEL = 1 << 15;
/** Bits that exist in x2APIC mode. */
export const ICR_X2APIC_MASK = 0x000c_cfff;

// --- error status ---
export const ESR_SEND_VECTOR = 1 << 5;
export const ESR_RECEIVE_VECTOR = 1 << 6;
export const ESR_REGISTER = 1 << 7;

/** Version 14h, six LVT entries, no EOI-broadcast suppression. */
export const APIC_VERSION = 0x14 | ((LVT_COUNT - 1) << 16);

/** Destination that reaches every local APIC. */
export const BROADCAST = 0xffff_ffff;

/**
 * State of one local APIC; snapshot version 1. Registers are written by their vCPU; `irr`, `tmr`,
 * `errors` by any thread, so these, `isr`, `tpr` and `svr` are accessed atomically. The timer's
 * fields, `lvt[LVT_TIMER]` included, need the BQL.
 */
export const LapicState = struct({
  /** IA32_APIC_BASE. */
  baseLow: u32,
  baseHigh: u32,
  /** xAPIC ID register's 8-bit id; in x2APIC mode the id is the initial one. */
  id: u32,
  /** Logical destination register: bits 31:24 in xAPIC mode, all 32 in x2APIC mode. */
  ldr: u32,
  dfr: u32,
  icrLow: u32,
  icrHigh: u32,
  /** Error status as last latched by a write. */
  esr: u32,
  lvt: array(u32, LVT_COUNT),
  initialCount: u32,
  /** Divide configuration register. */
  divide: u32,
  /** IA32_TSC_DEADLINE; 0: disarmed. */
  deadlineLow: u32,
  deadlineHigh: u32,
  /** VIRTUAL time of the last write of the initial count. */
  loadTime: ns,
  /** Scheduled time of the next timer interrupt; -1: none. */
  nextTime: ns,
  /** VIRTUAL time of the deadline. */
  deadlineTime: ns,
  pad0: padTo(64),
  // --- atomic ---
  tpr: i32,
  svr: i32,
  /** Errors since the last write of the ESR. */
  errors: i32,
  pad1: padTo(64),
  irr: array(u32, 8),
  isr: array(u32, 8),
  tmr: array(u32, 8),
  pad2: padTo(64),
});
export type LapicStateView = ViewOf<typeof LapicState>;

/** A register of xAPIC mode. */
export function existsInXapic(register: number): boolean {
  return (
    register === REG_ID ||
    register === REG_VERSION ||
    (register >= REG_TPR && register <= REG_ESR) ||
    (register >= REG_ICR_LOW && register <= REG_CURRENT_COUNT) ||
    register === REG_DIVIDE
  );
}

/** A register of x2APIC mode. */
export function existsInX2apic(register: number): boolean {
  if (register === REG_SELF_IPI) return true;
  if (register === REG_APR || register === REG_RRR) return false;
  if (register === REG_DFR || register === REG_ICR_HIGH) return false;
  return existsInXapic(register);
}

/** True for the local APIC's MSRs whose access needs the BQL: those that touch the timer. */
export function lapicMsrNeedsLock(index: number): boolean {
  switch (index) {
    case MSR_APIC_BASE:
    case MSR_TSC_DEADLINE:
    case MSR_X2APIC_FIRST + REG_SVR:
    case MSR_X2APIC_FIRST + REG_LVT_FIRST:
    case MSR_X2APIC_FIRST + REG_INITIAL_COUNT:
    case MSR_X2APIC_FIRST + REG_CURRENT_COUNT:
    case MSR_X2APIC_FIRST + REG_DIVIDE:
      return true;
    default:
      return false;
  }
}
