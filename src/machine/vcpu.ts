/**
 * One vCPU's execution: interrupts and exceptions between stretches of generated code.
 * Several of these can live in one worker (thread=single).
 */
import { CpuEnv, EXIT, INTERRUPT, REASON, VCPU_BLOCK_SIZE } from '../cpu/env.ts';
import { FLAG } from '../cpu/flags.ts';
import { Cpu, type CpuOptions } from '../cpu/sys/cpu.ts';
import { apicIdOf } from '../cpu/sys/cpuid.ts';
import { debugActive, debugTrap, instructionBreakpoint } from '../cpu/sys/debug.ts';
import { deliver, deliverRaised, interrupt, KIND, nmi } from '../cpu/sys/exceptions.ts';
import { init, powerOn, startUp } from '../cpu/sys/reset.ts';
import {
  SEG_WORDS,
  VEC,
  W_BUDGET,
  W_CODE_PAGE,
  W_CODE_SIZE,
  W_CR2,
  W_EFLAGS,
  W_INHIBIT,
  W_NMI_MASKED,
  W_IP,
  W_SEGS,
} from '../cpu/sys/words.ts';
import { PSEUDO } from '../cpu/tier0/record.ts';
import { correctStackFault } from '../cpu/tier0/stack-fault.ts';
import { MAX_REFUSALS, REGION, RETURN_CACHE, RETURN_CACHE_SIZE } from '../jit/layout.ts';
import type { Board } from './board.ts';
import { CodeLookup } from './code-lookup.ts';
import type { HaltPoll } from './halt-poll.ts';
import { setFirmwareMtrrs } from './firmware-mtrrs.ts';
import type { VcpuWorker } from './vcpu-worker.ts';

const I = {
  exitRequest: CpuEnv.offsetOf('exitRequest') >>> 2,
  interruptRequest: CpuEnv.offsetOf('interruptRequest') >>> 2,
  halted: CpuEnv.offsetOf('halted') >>> 2,
  waitForSipi: CpuEnv.offsetOf('waitForSipi') >>> 2,
  sipiVector: CpuEnv.offsetOf('sipiVector') >>> 2,
  stopRequested: CpuEnv.offsetOf('stopRequested') >>> 2,
  codeDesc: CpuEnv.offsetOf('codeDesc') >>> 2,
  jumpTarget: CpuEnv.offsetOf('jumpTarget') >>> 2,
} as const;
const CS_WORD = W_SEGS + 1 * SEG_WORDS;
const STI = 0xfb;
const WHILE_WAITING_FOR_SIPI = INTERRUPT.INIT | INTERRUPT.SIPI | INTERRUPT.TLB_FLUSH | INTERRUPT.CODE_FLUSH;
/** Value of `inhibit` after MOV SS and POP SS. */
const INHIBIT_DEBUG = 2;

/** See `arrived`; a power of two. */
const ARRIVAL_SAMPLE = 4096;

/** Why `execute` came back. */
export type Pause = 'stop' | 'halted' | 'shutdown' | 'yield' | 'budget';

/** *Thread:* the worker that runs it. */
export class Vcpu {
  readonly cpu: Cpu;
  readonly index: number;
  private readonly code: CodeLookup;
  private readonly worker: VcpuWorker;
  private readonly board: Board;
  private readonly i32: Int32Array<SharedArrayBuffer>;
  private readonly w: number;
  /** Set when the machine's vCPUs are told to stop for good. */
  shutdown = false;
  /** The last interrupt that could be taken was held off by `afterSti`. */
  private heldOff = false;
  private arrivals = 0;

  constructor(worker: VcpuWorker, index: number, options: Omit<CpuOptions, 'buffer' | 'base'>) {
    this.worker = worker;
    this.board = worker.board;
    this.index = index;
    const base = this.board.layout.vcpus + index * VCPU_BLOCK_SIZE;
    this.cpu = new Cpu({ ...options, buffer: this.board.buffer, base });
    this.i32 = this.cpu.i32;
    this.w = this.cpu.w;
    this.code = new CodeLookup(this.cpu, worker);
    worker.add(this);
  }

  private word(index: number): number {
    return Atomics.load(this.i32, this.w + index);
  }
  get halted(): boolean {
    return this.word(I.halted) !== 0;
  }
  /** Is there anything to run or to look at? */
  get idle(): boolean {
    if (this.word(I.stopRequested) !== 0 || this.board.cpuWork.pending(this.index)) return false;
    return this.word(I.halted) !== 0 && !this.wakes();
  }
  /** Would a halted vCPU wake? */
  private wakes(): boolean {
    const request = this.word(I.interruptRequest);
    return request !== 0 && (request & this.unmasked()) !== 0;
  }
  /** Kinds of request that the vCPU's state lets it take. */
  private unmasked(): number {
    if (this.word(I.waitForSipi) !== 0) return WHILE_WAITING_FOR_SIPI;
    const { cpu } = this;
    const nmi = cpu.get(W_NMI_MASKED) !== 0 ? INTERRUPT.NMI : 0;
    const hard = (cpu.get(W_EFLAGS) & FLAG.IF) === 0 ? INTERRUPT.HARD : 0;
    return ~(nmi | hard);
  }

  get stopRequested(): boolean {
    return this.word(I.stopRequested) !== 0;
  }
  requestStop(): void {
    Atomics.store(this.i32, this.w + I.stopRequested, 1);
  }
  /** To be read before deciding to sleep. */
  get kickSequence(): number {
    return this.board.signals[this.index].sequence;
  }
  sleepUnlessKicked(seq: number): void {
    this.board.signals[this.index].sleep(seq);
  }

  /** Sleeps until kicked, when there is nothing to do. `poll`: looks for the kick first. */
  sleep(poll?: HaltPoll): void {
    const seq = this.kickSequence;
    if (!this.idle) return;
    if (poll === undefined) this.sleepUnlessKicked(seq);
    else poll.wait(this.board.signals[this.index], seq);
  }

  /**
   * Executes guest code until the vCPU halts, is asked to stop, or shuts down. With `once` (round robin) it also comes
   * back after a kick; with icount only at PAUSE, and when the budget is used up.
   */
  execute(once = false): Pause {
    const { worker, index, i32, w } = this;
    const { icount } = this.board.clocks;
    this.board.currentCpu = index;
    worker.exclusive.execStart(index);
    try {
      let first = true;
      for (;;) {
        const exit = Atomics.exchange(i32, w + I.exitRequest, 0);
        if (!first && icount !== undefined) {
          // what ends the turn anyhow comes before a stop, after which it would go on
          if ((exit & EXIT.YIELD) !== 0) return 'yield';
          // timers may have been armed by other threads
          icount.refresh();
          if (this.exhausted()) return 'budget';
        }
        if (this.word(I.stopRequested) !== 0) return 'stop';
        if (!first && once && icount === undefined) return 'yield';
        worker.exclusive.execEnd(index);
        const worked = this.processWork();
        worker.regions?.takeOldMail();
        worker.exclusive.execStart(index);
        // work may take long: kicks that came meanwhile must not end the turn before it has begun
        if (worked) continue;
        if (Atomics.load(i32, w + I.interruptRequest) !== 0) this.takeRequests();
        if (this.word(I.halted) !== 0) return 'halted';
        if (this.shutdown || !this.runUntilExit()) return 'shutdown';
        first = false;
        if (this.word(I.halted) !== 0) return 'halted';
      }
    } finally {
      worker.exclusive.execEnd(index);
    }
  }

  /** Runs what other threads have queued; false: there was nothing. Not in guest code. */
  processWork(): boolean {
    const { cpuWork } = this.board;
    if (!cpuWork.pending(this.index)) return false;
    cpuWork.process(this.index);
    return true;
  }

  /** Runs generated code until a kick, a halt, or an event that interrupts must be looked at for. False: triple fault. */
  private runUntilExit(): boolean {
    const { cpu, worker } = this;
    const { base } = cpu;
    /** One-shot code to begin with, or 0: the code at ip. */
    let record = 0;
    for (;;) {
      if (record < 0) {
        // looking the code up raised an exception
        record = 0;
        if (!this.raised()) return false;
        if (this.interruptible()) return true;
      }
      if (cpu.get(W_INHIBIT) !== 0 || debugActive(cpu)) return this.exhausted() || this.step();
      if (worker.log?.exec === true && record === 0) record = this.blockAtIp(worker.log.nochain);
      if (record < 0) continue;
      worker.log?.entered(cpu, record);
      const reason = worker.run(base, record);
      record = 0;
      if (reason !== REASON.REGION) this.prepared = 0;
      switch (reason) {
        case REASON.KICK:
          return true;
        case REASON.LOOKUP:
          // an instruction that crosses a page is executed by the lookup: not when it is to be stepped
          if (cpu.get(W_INHIBIT) !== 0 || debugActive(cpu)) break;
          if (this.interruptible()) return true;
          record = this.code.lookup();
          if (record === 0) this.arrived();
          break;
        case REASON.EXCEPTION:
          this.uncount();
          if (!this.raised()) return false;
          if (this.interruptible()) return true;
          break;
        case REASON.HALT:
          Atomics.store(this.i32, this.w + I.halted, 1);
          return true;
        case REASON.SPECIAL:
          return false;
        case REASON.HOT:
          this.requestRegion();
          break;
        case REASON.REGION:
          if (!this.prepareRegion()) record = this.code.oneShot(PSEUDO.CONTINUE);
          break;
        case REASON.ALONE:
          record = this.code.oneShot(PSEUDO.CONTINUE);
          break;
        default:
          return true;
      }
    }
  }

  /** For `-d exec`: the record at ip; with `once` generated code is left at its first jump. -1: exception set. */
  private blockAtIp(once: boolean): number {
    const { w } = this;
    const { u32, mmu } = this.cpu;
    for (;;) {
      const lo = (u32[w + W_IP] + u32[w + CS_WORD]) >>> 0;
      const hi = this.code.linearHigh();
      const entry = this.code.codeEntry(lo);
      const known = u32[entry] === (lo & ~4095) >>> 0 && u32[entry + 1] === hi;
      const desc = known ? u32[entry + 2] : 0;
      const record = desc === 0 ? 0 : u32[(desc >>> 2) + (lo & 4095)];
      if (record === 0) {
        const alone = this.code.lookup();
        if (alone !== 0) return alone;
        continue;
      }
      u32[w + W_CODE_PAGE] = (lo & ~4095) >>> 0;
      u32[w + W_CODE_PAGE + 1] = hi;
      u32[w + I.codeDesc] = desc;
      if (once) mmu.kickSelf();
      return record;
    }
  }

  // --- icount ---

  /** No instruction may be executed any more: `execute` ends the turn. */
  private exhausted(): boolean {
    return this.cpu.counting && this.cpu.i32[this.w + W_BUDGET] <= 0;
  }
  /** The instruction that faulted was not executed. */
  private uncount(): void {
    if (this.cpu.counting) this.cpu.i32[this.w + W_BUDGET]++;
  }

  // --- tier 1 ---

  /**
   * Control has come to ip by an exception, an interrupt, IRET or the like: no jump is counted there, so one in so many asks for
   * the code to be compiled.
   */
  private arrived(): void {
    this.arrivals = (this.arrivals + 1) & (ARRIVAL_SAMPLE - 1);
    if (this.arrivals !== 0) return;
    this.cpu.env.exitDetail = 0;
    this.requestRegion();
  }

  /** Asks for the code at ip, a jump's target, to be compiled. */
  private requestRegion(): void {
    const { cpu, worker, w } = this;
    const { u32 } = cpu;
    const { regions } = worker;
    if (regions === undefined) return;
    // a region's addresses are linear
    if (u32[w + CS_WORD] !== 0 || u32[w + CS_WORD + 1] !== 0) return;
    const lo = u32[w + W_IP];
    const hi = u32[w + W_IP + 1];
    const host = cpu.mmu.fetchTranslate(lo, hi);
    if (host < 0) return; // the exception is found again when the code is executed
    const desc = u32[this.code.codeEntry(lo) + 2];
    if (desc === 0) return;
    const record = u32[(desc >>> 2) + (lo & 4095)];
    if (record !== 0 && regions.isRegion(cpu.u16[record >>> 1])) return;
    regions.request({
      env: cpu.base,
      desc,
      offset: lo & 4095,
      pageLo: (lo & ~4095) >>> 0,
      pageHi: hi,
      tlbSet: u32[w + W_TLB_SET_WORD],
      from: cpu.env.exitDetail,
      site: cpu.env.exitSite,
      fromLo: u32[w + I.jumpTarget],
      fromHi: u32[w + I.jumpTarget + 1],
    });
  }

  /** Makes a region runnable that was not: its module, its pages in the code TLB. False when it cannot be. */
  private prepareRegion(): boolean {
    const { cpu, worker, w } = this;
    const { u32 } = cpu;
    const description = cpu.env.exitDetail;
    if (description === 0) return this.installRegion(cpu.env.record);
    // another may have its slot, and be the one that was to be entered
    if (Atomics.load(cpu.u8, description + REGION.VALID) === 0) {
      const lo = (u32[w + W_IP] + u32[w + CS_WORD]) >>> 0;
      cpu.mmu.tlb.forgetJump(lo, this.code.linearHigh(), cpu.mmu.index());
      return worker.regions?.takeMail() ?? false;
    }
    // refused again though its pages were there: the instruction alone, so that the guest goes on whatever the reason
    const again = this.prepared === description;
    this.prepared = again ? 0 : description;
    if (!again && this.mapRegion(description)) return true;
    const refusals = Atomics.add(u32, (description + REGION.REFUSALS) >>> 2, 1) + 1;
    if (refusals >= MAX_REFUSALS) worker.codeCache.locked(() => worker.codeCache.dropRegion(description));
    return false;
  }

  /** The table of this worker lacks the region of `record`. True also when the record is no region's any more. */
  private installRegion(record: number): boolean {
    const { cpu, worker } = this;
    const { regions } = worker;
    if (regions === undefined) return false;
    const handler = cpu.u16[record >>> 1];
    return !regions.isRegion(handler) || regions.install(regions.slotOf(handler));
  }

  /** The region that was made runnable just before; 0: none. */
  private prepared = 0;

  /** Puts a region's pages into the code TLB. False when they are not mapped, or not as they were. */
  private mapRegion(description: number): boolean {
    const { cpu, worker, w } = this;
    const { u32 } = cpu;
    const count = u32[(description + REGION.PAGES) >>> 2];
    // the head's page, which need not be the one that was to be entered
    const base = u32[w + I.jumpTarget];
    const high = u32[w + I.jumpTarget + 1];
    const cr2Low = cpu.get(W_CR2);
    const cr2High = cpu.get(W_CR2 + 1);
    for (let i = 0; i < count; i++) {
      const at = ((description + REGION.PAGE_LIST) >>> 2) + i * 2;
      const distance = (u32[at] | 0) * 4096;
      const lo = (base + distance) >>> 0;
      const carry = Math.floor((base + distance) / 2 ** 32);
      const hi = u32[w + W_CODE_SIZE] === 2 ? (high + carry) >>> 0 : 0;
      const host = cpu.mmu.fetchTranslate(lo, hi);
      if (host < 0) {
        // the guest did not go there: its CR2 stays
        cpu.set64(W_CR2, cr2Low, cr2High);
        return false;
      }
      if (!worker.codeCache.locked(() => worker.codeCache.isDescriptor(u32[at + 1], (host & ~4095) >>> 0)))
        return false;
      u32[this.code.codeEntry(lo) + 2] = u32[at + 1];
    }
    return true;
  }

  /** A request waits that can be taken now. */
  private interruptible(): boolean {
    return this.wakes();
  }

  /** Delivers the exception that is set. False: triple fault. */
  private raised(): boolean {
    correctStackFault(this.cpu);
    if (!deliverRaised(this.cpu)) return false;
    this.arrived();
    return true;
  }

  /** One instruction, with interrupts held off: after STI or MOV SS, and while a debug condition may arise. */
  private step(): boolean {
    const { cpu, worker } = this;
    const debugging = debugActive(cpu);
    const trap = (cpu.get(W_EFLAGS) & FLAG.TF) !== 0;
    // a trap that came with the instruction before this one
    if (cpu.pendingDebug !== 0 && cpu.get(W_INHIBIT) !== INHIBIT_DEBUG && debugTrap(cpu, false)) {
      return deliver(cpu, VEC.DB, -1, KIND.TRAP);
    }
    cpu.set(W_INHIBIT, 0);
    cpu.delivered = false;
    if (debugging && instructionBreakpoint(cpu)) return this.raised();
    const record = this.code.oneShot(PSEUDO.STOP);
    if (record < 0) return this.raised();
    // leave after it, also when it jumps; a repeated string instruction does one element
    cpu.mmu.kickSelf();
    const ip = cpu.get(W_IP);
    switch (worker.run(cpu.base, record)) {
      case REASON.EXCEPTION:
        this.uncount();
        return this.raised();
      case REASON.SPECIAL:
        return false;
      case REASON.HALT:
        Atomics.store(this.i32, this.w + I.halted, 1);
        break;
      case REASON.KICK:
        // between two elements: the flags that are saved have RF set (SDM 3B 17.3.1.1)
        if (cpu.get(W_IP) === ip) cpu.set(W_EFLAGS, cpu.get(W_EFLAGS) | FLAG.RF);
        break;
    }
    // MOV SS and POP SS hold debug traps off too (SDM 3A 6.8.3); the step is lost, breakpoints stay pending
    if (cpu.get(W_INHIBIT) === INHIBIT_DEBUG) return true;
    // a software interrupt clears TF and is not stepped (SDM 3B 17.3.1.4)
    if (debugging && debugTrap(cpu, trap && !cpu.delivered)) return deliver(cpu, VEC.DB, -1, KIND.TRAP);
    return true;
  }

  /** All decoded code was dropped, and regions with it. */
  private forgetRegions(): void {
    this.worker.regions?.flush();
    this.forgetNotes();
  }
  /** What regions noted, by slot, is of regions that are no more. */
  forgetNotes(): void {
    const { u8, base, mmu } = this.cpu;
    mmu.tlb.codeLost();
    u8.fill(0, base + RETURN_CACHE, base + RETURN_CACHE + RETURN_CACHE_SIZE);
  }

  // --- requests from other threads ---

  private takeRequests(): void {
    const { cpu, i32, w } = this;
    let request = Atomics.load(i32, w + I.interruptRequest);
    const signals = this.board.signals[this.index];
    if (request & INTERRUPT.TLB_FLUSH) {
      signals.clearInterrupt(INTERRUPT.TLB_FLUSH);
      cpu.mmu.tlb.flushAll();
    }
    if (request & INTERRUPT.CODE_FLUSH) {
      signals.clearInterrupt(INTERRUPT.CODE_FLUSH);
      this.forgetRegions();
    }
    if (request & INTERRUPT.INIT) {
      signals.clearInterrupt(INTERRUPT.INIT);
      this.init();
      // a SIPI that is there now was sent after this INIT: sending an INIT takes back an earlier one
      request = Atomics.load(i32, w + I.interruptRequest);
    }
    if (request & INTERRUPT.SIPI) {
      signals.clearInterrupt(INTERRUPT.SIPI);
      if (this.word(I.waitForSipi) !== 0) {
        startUp(cpu, this.word(I.sipiVector));
        Atomics.store(i32, w + I.waitForSipi, 0);
        Atomics.store(i32, w + I.halted, 0);
      }
    }
    if (this.word(I.waitForSipi) !== 0) return;
    if (cpu.get(W_INHIBIT) !== 0) return;
    if (request & INTERRUPT.SMI) signals.clearInterrupt(INTERRUPT.SMI);
    if (request & INTERRUPT.NMI && cpu.env.nmiMasked === 0) {
      signals.clearInterrupt(INTERRUPT.NMI);
      Atomics.store(i32, w + I.halted, 0);
      this.shutdown ||= !nmi(cpu);
      return;
    }
    if (request & INTERRUPT.HARD && (cpu.get(W_EFLAGS) & FLAG.IF) !== 0) {
      if (this.afterSti()) return;
      const vector = this.board.lapics[this.index].acknowledge();
      if (vector >= 0) {
        Atomics.store(i32, w + I.halted, 0);
        if (interrupt(cpu, vector)) this.arrived();
        else this.shutdown = true;
      }
    }
  }

  /**
   * The instruction before ip is STI, or looks like it: ip's is executed first. STI checks for an interrupt that
   * waits, but one may come between it and an instruction that needs a look-up; were it delivered there, the HLT of
   * an idle loop would miss it. True at most once in a row, since STI may not have been executed at all.
   */
  private afterSti(): boolean {
    const { cpu, w } = this;
    const held = this.heldOff;
    this.heldOff = false;
    if (held) return false;
    const ip = (cpu.get(W_IP) + cpu.u32[w + CS_WORD]) >>> 0;
    const high = this.code.linearHigh();
    // where it is executed its page is mapped
    const host = cpu.mmu.codeHost((ip - 1) >>> 0, ip === 0 ? (high - 1) >>> 0 : high);
    if (host < 0 || cpu.u8[host] !== STI) return false;
    this.heldOff = true;
    cpu.set(W_INHIBIT, 1);
    return true;
  }

  /** INIT: registers as after RESET but for the FPU and caches; an AP then waits for its SIPI. */
  private init(): void {
    const { cpu, i32, w, index } = this;
    init(cpu);
    this.board.bql.with(() => this.board.lapics[index].init());
    const waits = index === 0 ? 0 : 1;
    Atomics.store(i32, w + I.waitForSipi, waits);
    Atomics.store(i32, w + I.halted, waits);
  }

  /** Machine reset: power-on state; APs wait for their SIPI. What others want of it since is kept. *Thread:* vCPU. */
  reset(): void {
    const { cpu, i32, w, index } = this;
    cpu.env.index = index;
    cpu.env.apicId = apicIdOf(index, this.board.config);
    cpu.env.bsp = index === 0 ? 1 : 0;
    powerOn(cpu);
    setFirmwareMtrrs(cpu, this.board.config.ram);
    this.forgetRegions();
    const waits = index === 0 ? 0 : 1;
    Atomics.store(i32, w + I.waitForSipi, waits);
    Atomics.store(i32, w + I.halted, waits);
    this.shutdown = false;
  }
}

const W_TLB_SET_WORD = CpuEnv.offsetOf('tlbSet') >>> 2;
