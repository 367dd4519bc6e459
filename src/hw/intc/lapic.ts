/**
 * Local APIC: xAPIC registers in memory, x2APIC MSRs, IA32_APIC_BASE, IA32_TSC_DEADLINE. Intel SDM
 * vol. 3A, "Advanced Programmable Interrupt Controller (APIC)".
 *
 * INTERRUPT.HARD in the vCPU's request word is a hint that something may be deliverable: whoever
 * makes something deliverable sets it, `acknowledge` clears it, looks, and sets it again when
 * another interrupt waits. Sender (request bit, then priority) and vCPU (priority, then request
 * bits) both use sequentially consistent operations, so one of them sees the other.
 */
import { opsFor, type SyncOps } from '@smp86/atomics-sync';
import { INTERRUPT } from '../../cpu/env.ts';
import { allOnes, type CpuSignals, type IoHandler } from '../device.ts';
import { wideDestination, type ApicBus } from './apic-bus.ts';
import { LapicTimer, type LapicTimerDeps } from './lapic-timer.ts';
import * as R from './lapic-state.ts';
import { DELIVERY, existsInX2apic, existsInXapic, LapicState, type LapicStateView } from './lapic-state.ts';

export interface LapicDeps extends LapicTimerDeps {
  readonly bus: ApicBus;
  readonly signals: CpuSignals;
  /** Initial APIC id: the vCPU's. */
  readonly apicId: number;
  /** True on the bootstrap processor. */
  readonly bsp: boolean;
}

const AT_TPR = LapicState.offsetOf('tpr');
const AT_SVR = LapicState.offsetOf('svr');
const AT_ERRORS = LapicState.offsetOf('errors');
const AT_IRR = LapicState.offsetOf('irr');
const AT_ISR = LapicState.offsetOf('isr');
const AT_TMR = LapicState.offsetOf('tmr');

/**
 * One vCPU's local APIC. *Thread:* its vCPU, unless said. *Lock:* BQL for registers in memory and for
 * the MSRs of `lapicMsrNeedsLock`, else none.
 */
export class Lapic implements IoHandler {
  readonly #state: LapicStateView;
  readonly #bus: ApicBus;
  readonly #signals: CpuSignals;
  readonly #timer: LapicTimer;
  readonly #apicId: number;
  readonly #bsp: boolean;
  readonly #ops: SyncOps;
  // Byte addresses of the atomic words.
  readonly #tpr: number;
  readonly #svr: number;
  readonly #errors: number;
  readonly #irr: number;
  readonly #isr: number;
  readonly #tmr: number;

  /** Enrols itself with `deps.bus`. */
  constructor(state: LapicStateView, deps: LapicDeps) {
    this.#state = state;
    this.#bus = deps.bus;
    this.#signals = deps.signals;
    this.#timer = new LapicTimer(state, deps);
    this.#apicId = deps.apicId;
    this.#bsp = deps.bsp;
    this.#ops = opsFor(state.$views.buffer);
    const at = state.$offset;
    this.#tpr = at + AT_TPR;
    this.#svr = at + AT_SVR;
    this.#errors = at + AT_ERRORS;
    this.#irr = at + AT_IRR;
    this.#isr = at + AT_ISR;
    this.#tmr = at + AT_TMR;
    this.#bus.attach(this);
  }

  /** Power-up and RESET. *Lock:* BQL. */
  reset(): void {
    const s = this.#state;
    s.baseLow = R.APIC_DEFAULT_BASE + R.BASE_ENABLE + (this.#bsp ? R.BASE_BSP : 0);
    s.baseHigh = 0;
    s.id = this.#apicId & 0xff;
    this.#clear();
    // Firmware leaves the 8259 reaching the BSP through LINT0 (virtual wire).
    if (this.#bsp) s.lvt[R.LVT_LINT0] = DELIVERY.EXTINT << 8;
  }

  /** INIT: as RESET, but the id and IA32_APIC_BASE stay. *Lock:* BQL. */
  init(): void {
    this.#clear();
    if (this.#bsp) this.#state.lvt[R.LVT_LINT0] = DELIVERY.EXTINT << 8;
  }

  #clear(): void {
    const s = this.#state;
    const ops = this.#ops;
    ops.store(this.#tpr, 0);
    ops.store(this.#svr, 0xff);
    ops.store(this.#errors, 0);
    s.ldr = this.x2apic ? this.#x2apicLogicalId : 0;
    s.dfr = 0xffff_ffff;
    s.icrLow = s.icrHigh = 0;
    s.esr = 0;
    for (let i = 0; i < R.LVT_COUNT; i++) s.lvt[i] = R.LVT_MASKED;
    for (let i = 0; i < 8; i++) {
      ops.store(this.#irr + i * 4, 0);
      ops.store(this.#isr + i * 4, 0);
      ops.store(this.#tmr + i * 4, 0);
    }
    this.#timer.reset();
  }

  // --- what others see (*Thread:* any) ---

  /** IA32_APIC_BASE[11]. */
  get enabled(): boolean {
    return (this.#state.baseLow & R.BASE_ENABLE) !== 0;
  }

  get x2apic(): boolean {
    return (this.#state.baseLow & R.BASE_X2APIC) !== 0;
  }

  /** Enabled in the base MSR and in the spurious vector register. */
  get softwareEnabled(): boolean {
    return this.enabled && (this.#ops.load(this.#svr) & R.SVR_ENABLE) !== 0;
  }

  /** Physical address of the registers. */
  get base(): number {
    const s = this.#state;
    return s.baseHigh * 0x1_0000_0000 + ((s.baseLow & 0xffff_f000) >>> 0);
  }

  /** Current APIC id: 8 bits in xAPIC mode, 32 in x2APIC mode. */
  get id(): number {
    return this.x2apic ? this.#apicId : this.#state.id;
  }

  /** Processor priority: the higher of task priority and priority in service. */
  get ppr(): number {
    const tpr = this.#ops.load(this.#tpr);
    const vector = this.#highest(this.#isr);
    const service = vector < 0 ? 0 : vector & 0xf0;
    return service > (tpr & 0xf0) ? service : tpr;
  }

  /** Is this one of the receivers of a message to `destination` (32 bits, BROADCAST: all)? */
  matches(destination: number, logical: boolean): boolean {
    const s = this.#state;
    if ((s.baseLow & R.BASE_ENABLE) === 0) return false;
    if (destination === R.BROADCAST) return true;
    const x2apic = (s.baseLow & R.BASE_X2APIC) !== 0;
    if (!logical) return destination === (x2apic ? this.#apicId : s.id);
    const ldr = s.ldr;
    if (x2apic) return ldr >>> 16 === destination >>> 16 && (ldr & destination & 0xffff) !== 0;
    if (destination > 0xff) return false;
    const logicalId = ldr >>> 24;
    if (s.dfr >>> 28 === 0xf) return (logicalId & destination) !== 0;
    return logicalId >>> 4 === destination >>> 4 && (logicalId & destination & 0xf) !== 0;
  }

  /** A message arrives. Returns whether it was taken. */
  accept(deliveryMode: number, vector: number, level: boolean): boolean {
    switch (deliveryMode) {
      case DELIVERY.FIXED:
      case DELIVERY.LOWEST:
      case DELIVERY.EXTINT: // the sender has fetched the vector
        return this.#acceptVector(vector, level);
      case DELIVERY.SMI:
        this.#signals.interrupt(INTERRUPT.SMI);
        return true;
      case DELIVERY.NMI:
        this.#signals.interrupt(INTERRUPT.NMI);
        return true;
      case DELIVERY.INIT:
        this.#signals.init();
        return true;
      case DELIVERY.SIPI:
        this.#signals.sipi(vector);
        return true;
      default:
        return false;
    }
  }

  /** Records an error of the ESR and signals it through the error entry. */
  error(bit: number): void {
    // Only a new error interrupts; that also ends the recursion of a bad vector in the error entry.
    if ((this.#ops.or(this.#errors, bit) & bit) === 0) this.#local(R.LVT_ERROR);
  }

  /** The 8259's INTR changed. *Lock:* BQL. */
  picChanged(level: boolean): void {
    if (!this.enabled) {
      if (this.#bsp && level) this.#signals.interrupt(INTERRUPT.HARD);
      return;
    }
    const lvt = this.#state.lvt[R.LVT_LINT0];
    if (level) {
      this.#local(R.LVT_LINT0);
    } else if (((lvt >>> 8) & 7) === DELIVERY.FIXED && (lvt & R.LVT_LEVEL) !== 0) {
      // A level request that goes away before it was served.
      const vector = lvt & 0xff;
      this.#ops.and(this.#irr + (vector >>> 5) * 4, ~(1 << (vector & 31)));
    }
  }

  #acceptVector(vector: number, level: boolean): boolean {
    if (!this.softwareEnabled) return false;
    if (vector < 16) {
      this.error(R.ESR_RECEIVE_VECTOR);
      return false;
    }
    const ops = this.#ops;
    const word = (vector >>> 5) * 4;
    const bit = 1 << (vector & 31);
    if (level) ops.or(this.#tmr + word, bit);
    else if ((ops.load(this.#tmr + word) & bit) !== 0) ops.and(this.#tmr + word, ~bit);
    ops.or(this.#irr + word, bit);
    if (this.#beats(vector)) this.#signals.interrupt(INTERRUPT.HARD);
    return true;
  }

  /** Delivers through a local vector table entry. */
  #local(entry: number): void {
    const lvt = this.#state.lvt[entry];
    if ((lvt & R.LVT_MASKED) !== 0) return;
    const mode = entry === R.LVT_TIMER || entry === R.LVT_ERROR ? DELIVERY.FIXED : (lvt >>> 8) & 7;
    switch (mode) {
      case DELIVERY.FIXED:
        this.#acceptVector(lvt & 0xff, entry === R.LVT_LINT0 && (lvt & R.LVT_LEVEL) !== 0);
        break;
      case DELIVERY.SMI:
        this.#signals.interrupt(INTERRUPT.SMI);
        break;
      case DELIVERY.NMI:
        this.#signals.interrupt(INTERRUPT.NMI);
        break;
      case DELIVERY.EXTINT:
        this.#signals.interrupt(INTERRUPT.HARD);
        break;
    }
  }

  /** Pulses LINT1 (the PC's NMI button and NMI sources). *Thread:* any. *Lock:* BQL. */
  pulseLint1(): void {
    if (this.enabled) this.#local(R.LVT_LINT1);
    else this.#signals.interrupt(INTERRUPT.NMI);
  }

  // --- the vCPU's side ---

  /** Is there an interrupt that the processor may take when EFLAGS.IF allows? */
  hasPending(): boolean {
    return this.#deliverable() >= 0 || (this.#takesPic && this.#bus.picActive);
  }

  /**
   * The interrupt to take now: its vector, in service from here on, or -1 (the request word is a hint).
   * An interrupt of the 8259 comes when the local APIC has none; it never enters service here.
   */
  acknowledge(): number {
    this.#signals.clearInterrupt(INTERRUPT.HARD);
    let vector = this.#deliverable();
    if (vector >= 0) {
      const word = (vector >>> 5) * 4;
      const bit = 1 << (vector & 31);
      this.#ops.and(this.#irr + word, ~bit);
      this.#ops.or(this.#isr + word, bit);
    } else if (this.#takesPic && this.#bus.picActive) {
      vector = this.#bus.picAcknowledge();
    }
    this.#remind();
    return vector;
  }

  /** End of interrupt: of the highest vector in service. Broadcast when it was level triggered. */
  eoi(): void {
    const vector = this.#highest(this.#isr);
    if (vector < 0) return;
    const word = (vector >>> 5) * 4;
    const bit = 1 << (vector & 31);
    this.#ops.and(this.#isr + word, ~bit);
    if ((this.#ops.load(this.#tmr + word) & bit) !== 0) {
      this.#bus.ioapicEoi(vector);
      // A level-triggered LINT0 asks again as long as its line is high.
      const lvt = this.#state.lvt[R.LVT_LINT0];
      const mine = R.LVT_LEVEL | vector; // unmasked, fixed, level
      if ((lvt & (R.LVT_MASKED | R.LVT_LEVEL | 0x7ff)) === mine && this.#bus.picActive) {
        this.#acceptVector(vector, true);
      }
    }
    this.#remind();
  }

  /** CR8. */
  getCr8(): number {
    return (this.#ops.load(this.#tpr) >>> 4) & 0xf;
  }

  setCr8(value: number): void {
    this.#setTpr((value & 0xf) << 4);
  }

  /** The timer expired. *Thread:* main loop. *Lock:* BQL. */
  onTimer(): void {
    if (!this.#timer.due) return;
    this.#local(R.LVT_TIMER);
    this.#timer.rearm();
  }

  /** This vCPU's TSC was written or adjusted. *Lock:* BQL. */
  tscChanged(): void {
    this.#timer.tscChanged();
  }

  /** Tells the vCPU when something waits that it may take. */
  #remind(): void {
    if (this.hasPending()) this.#signals.interrupt(INTERRUPT.HARD);
  }

  /** Virtual wire: INTR of the 8259 reaches this processor. */
  get #takesPic(): boolean {
    if (!this.enabled) return this.#bsp;
    const lvt = this.#state.lvt[R.LVT_LINT0];
    return (lvt & R.LVT_MASKED) === 0 && ((lvt >>> 8) & 7) === DELIVERY.EXTINT;
  }

  /** The highest requested vector if the processor priority admits it, else -1. */
  #deliverable(): number {
    if (!this.softwareEnabled) return -1;
    const vector = this.#highest(this.#irr);
    return vector >= 0 && this.#beats(vector) ? vector : -1;
  }

  /** Is the vector's class above the task's and above all in service? */
  #beats(vector: number): boolean {
    if (vector >>> 4 <= ((this.#ops.load(this.#tpr) >>> 4) & 0xf)) return false;
    const service = this.#highest(this.#isr);
    return service < 0 || vector >>> 4 > service >>> 4;
  }

  /** Highest bit of the 256 at `at`, or -1. */
  #highest(at: number): number {
    for (let word = 7; word >= 0; word--) {
      const bits = this.#ops.load(at + word * 4);
      if (bits !== 0) return word * 32 + 31 - Math.clz32(bits);
    }
    return -1;
  }

  // --- registers in memory ---

  /** Reads at `offset` in the page. Registers are dwords 16 bytes apart; anything else reads 0. */
  read(offset: number, size: number): number {
    if (!this.enabled || this.x2apic) return allOnes(size);
    if (size !== 4 || (offset & 0xf) !== 0 || offset > 0xfff) return 0;
    return this.#readRegister(offset >>> 4) >>> 0;
  }

  /** Writes at `offset`. Beyond the page, and on the first register, it is a message, as a device's write is. */
  write(offset: number, size: number, value: number): void {
    if (size !== 4) return;
    if (offset > 0xfff || offset < 0x10) {
      this.#bus.msi(R.APIC_DEFAULT_BASE + offset, value);
      return;
    }
    if (!this.enabled || this.x2apic || (offset & 0xf) !== 0) return;
    const s = this.#state;
    const register = offset >>> 4;
    switch (register) {
      case R.REG_ID:
        s.id = value >>> 24;
        break;
      case R.REG_LDR:
        s.ldr = value & 0xff00_0000;
        break;
      case R.REG_DFR:
        s.dfr = value | 0x0fff_ffff;
        break;
      case R.REG_ICR_LOW:
        s.icrLow = value & ~R.ICR_PENDING;
        this.#bus.ipi(this, value, wideDestination(s.icrHigh >>> 24));
        break;
      case R.REG_ICR_HIGH:
        s.icrHigh = value & 0xff00_0000;
        break;
      default:
        this.#writeRegister(register, value);
    }
  }

  // --- MSRs ---

  /**
   * RDMSR of IA32_APIC_BASE, IA32_TSC_DEADLINE or 800h–8FFh: `out[0]` is the low half, `out[1]` the high.
   * Returns false for #GP.
   */
  readMsr(index: number, out: Uint32Array): boolean {
    const s = this.#state;
    out[1] = 0;
    if (index === R.MSR_APIC_BASE) {
      out[0] = s.baseLow;
      out[1] = s.baseHigh;
      return true;
    }
    if (index === R.MSR_TSC_DEADLINE) {
      const lost = this.#timer.deadlineLost;
      out[0] = lost ? 0 : s.deadlineLow;
      out[1] = lost ? 0 : s.deadlineHigh;
      return true;
    }
    const register = index - R.MSR_X2APIC_FIRST;
    if (!this.enabled || !this.x2apic || !existsInX2apic(register) || register === R.REG_EOI) return false;
    if (register === R.REG_SELF_IPI) return false; // write only
    out[0] = this.#readRegister(register);
    if (register === R.REG_ICR_LOW) out[1] = s.icrHigh;
    return true;
  }

  /** WRMSR of the same. Returns false for #GP. */
  writeMsr(index: number, low: number, high: number): boolean {
    low >>>= 0;
    high >>>= 0;
    if (index === R.MSR_APIC_BASE) return this.#writeBase(low, high);
    if (index === R.MSR_TSC_DEADLINE) {
      this.#timer.writeDeadline(low, high);
      return true;
    }
    const register = index - R.MSR_X2APIC_FIRST;
    if (!this.enabled || !this.x2apic || !existsInX2apic(register)) return false;
    const s = this.#state;
    if (register === R.REG_ICR_LOW) {
      if ((low & ~R.ICR_X2APIC_MASK) !== 0) return false;
      s.icrLow = low;
      s.icrHigh = high;
      this.#bus.ipi(this, low, high);
      return true;
    }
    if (high !== 0) return false;
    switch (register) {
      case R.REG_EOI:
      case R.REG_ESR:
        if (low !== 0) return false;
        break;
      case R.REG_TPR:
        if (low > 0xff) return false;
        break;
      case R.REG_SVR:
        if ((low & ~0x3ff) !== 0) return false;
        break;
      case R.REG_DIVIDE:
        if ((low & ~0xb) !== 0) return false;
        break;
      case R.REG_SELF_IPI:
        if (low > 0xff) return false;
        if (low < 16) this.error(R.ESR_SEND_VECTOR);
        else this.#acceptVector(low, false);
        return true;
      case R.REG_INITIAL_COUNT:
        break;
      default: {
        if (register < R.REG_LVT_FIRST || register > R.REG_LVT_LAST) return false; // read only
        const entry = register - R.REG_LVT_FIRST;
        if ((low & ~(R.LVT_WRITABLE[entry] | R.LVT_READ_ONLY[entry])) !== 0) return false;
      }
    }
    this.#writeRegister(register, low);
    return true;
  }

  // --- registers, by number ---

  #readRegister(register: number): number {
    const s = this.#state;
    if (register >= R.REG_ISR && register < R.REG_ESR) {
      const word = (register & 7) * 4;
      const at = register < R.REG_TMR ? this.#isr : register < R.REG_IRR ? this.#tmr : this.#irr;
      return this.#ops.load(at + word);
    }
    if (register >= R.REG_LVT_FIRST && register <= R.REG_LVT_LAST) return s.lvt[register - R.REG_LVT_FIRST];
    switch (register) {
      case R.REG_ID:
        return this.x2apic ? this.#apicId : s.id << 24;
      case R.REG_VERSION:
        return R.APIC_VERSION;
      case R.REG_TPR:
        return this.#ops.load(this.#tpr);
      case R.REG_APR: // arbitration is the system bus's affair since the Pentium 4
      case R.REG_EOI:
      case R.REG_RRR:
        return 0;
      case R.REG_PPR:
        return this.ppr;
      case R.REG_LDR:
        return s.ldr;
      case R.REG_DFR:
        return s.dfr;
      case R.REG_SVR:
        return this.#ops.load(this.#svr);
      case R.REG_ESR:
        return s.esr;
      case R.REG_ICR_LOW:
        return s.icrLow;
      case R.REG_ICR_HIGH:
        return s.icrHigh;
      case R.REG_INITIAL_COUNT:
        return s.initialCount;
      case R.REG_CURRENT_COUNT:
        return this.#timer.currentCount;
      case R.REG_DIVIDE:
        return s.divide;
      default:
        this.error(R.ESR_REGISTER);
        return 0;
    }
  }

  /** Registers that are the same in both modes. */
  #writeRegister(register: number, value: number): void {
    const s = this.#state;
    if (register >= R.REG_LVT_FIRST && register <= R.REG_LVT_LAST) {
      this.#writeLvt(register - R.REG_LVT_FIRST, value);
      return;
    }
    switch (register) {
      case R.REG_TPR:
        this.#setTpr(value & 0xff);
        break;
      case R.REG_EOI:
        this.eoi();
        break;
      case R.REG_SVR:
        this.#writeSvr(value & R.SVR_MASK);
        break;
      case R.REG_ESR:
        s.esr = this.#ops.exchange(this.#errors, 0);
        break;
      case R.REG_INITIAL_COUNT:
        this.#timer.setInitialCount(value);
        break;
      case R.REG_DIVIDE:
        this.#timer.setDivide(value);
        break;
      default:
        if (!existsInXapic(register)) this.error(R.ESR_REGISTER);
    }
  }

  #setTpr(value: number): void {
    this.#ops.store(this.#tpr, value);
    this.#remind();
  }

  #writeSvr(value: number): void {
    const s = this.#state;
    this.#ops.store(this.#svr, value);
    if ((value & R.SVR_ENABLE) === 0) {
      // "The mask bits for all the LVT entries are set" while software-disabled.
      const timer = s.lvt[R.LVT_TIMER];
      for (let i = 0; i < R.LVT_COUNT; i++) s.lvt[i] |= R.LVT_MASKED;
      this.#timer.lvtChanged(timer);
    }
    this.#remind();
  }

  #writeLvt(entry: number, value: number): void {
    const s = this.#state;
    const old = s.lvt[entry];
    let lvt = value & R.LVT_WRITABLE[entry];
    if ((this.#ops.load(this.#svr) & R.SVR_ENABLE) === 0) lvt |= R.LVT_MASKED;
    s.lvt[entry] = lvt;
    if (entry === R.LVT_TIMER) this.#timer.lvtChanged(old);
    // The 8259's line may be high already when the virtual wire is opened.
    else if (entry === R.LVT_LINT0) this.#remind();
  }

  // --- modes ---

  get #x2apicLogicalId(): number {
    return (((this.#apicId >>> 4) << 16) | (1 << (this.#apicId & 15))) >>> 0;
  }

  /** SDM figure "Local x2APIC State Transitions". Returns false for #GP. */
  #writeBase(low: number, high: number): boolean {
    const s = this.#state;
    const known = R.BASE_BSP | R.BASE_X2APIC | R.BASE_ENABLE;
    if ((low & 0xfff & ~known) !== 0 || (high & ~R.BASE_HIGH_MASK) !== 0) return false;
    const enable = (low & R.BASE_ENABLE) !== 0;
    const x2apic = (low & R.BASE_X2APIC) !== 0;
    if (x2apic && !enable) return false;
    if (x2apic && !this.enabled) return false; // disabled to x2APIC
    if (!x2apic && enable && this.x2apic) return false; // x2APIC to xAPIC
    const wasEnabled = this.enabled;
    const wasX2apic = this.x2apic;
    s.baseLow = (low & ~R.BASE_BSP) | (this.#bsp ? R.BASE_BSP : 0);
    s.baseHigh = high;
    if (wasEnabled && !enable) {
      // The state is lost; it comes up as after RESET when enabled again.
      s.id = this.#apicId & 0xff;
      this.#clear();
    } else if (x2apic && !wasX2apic) {
      s.ldr = this.#x2apicLogicalId;
      s.icrHigh = 0;
    }
    this.#remind();
    return true;
  }
}
