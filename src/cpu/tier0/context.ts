/** Tier 0's emission context: operands are found in the record at run time. */
import {
  atomicLoad8,
  type Expr,
  type FuncBuilder,
  i32,
  i64,
  type Label,
  load,
  type Local,
} from '../../wasm/index.ts';
import { CpuEnv, REASON, SEG, Segment } from '../env.ts';
import { EnvFlagStorage, FlagEmitter, LocalFlagStorage } from '../sem/flag-emitter.ts';
import type { Ins, OperandKind, StepCounter } from '../sem/ins.ts';
import {
  INT_LOAD,
  loadOfSize,
  MemoryAccess,
  type MemorySize,
  type Runtime,
  tlbIndex,
} from '../sem/memory-access.ts';
import type { HandlerForm } from './handlers.ts';
import { HOT_PERIOD, PSEUDO, RECORD, RECORD_SIZE, SLOTS } from './record.ts';

/** Status of a handler outside the main loop. */
export const STATUS = {
  NEXT: 0,
  /** Go on at the linear address in `jumpTarget`. */
  JUMP: 1,
  /** Leave with reason `status - EXIT`. */
  EXIT: 2,
} as const;

/** Labels and locals of the main loop, for handlers inlined in it. */
export interface MainLoop {
  readonly record: Local;
  readonly tlb: Local;
  readonly target: Local;
  readonly flags: { res: Local; carry: Local; aux: Local };
  /** Go to the next record. */
  readonly nextLabel: Label;
  /** Execute `record` as it stands. */
  readonly dispatchLabel: Label;
  /** Look up the linear address in `target`. */
  readonly lookupLabel: Label;
  /** A direct jump to `target` whose record is not chained yet. */
  readonly chainLabel: Label;
  /** An exception is set: leave. */
  readonly faultLabel: Label;
  /** The jump in `record` to `target` has been taken often: leave with REASON.HOT. */
  readonly hotLabel: Label;
}

const OFF = {
  codePage: CpuEnv.offsetOf('codePage'),
  tmpAddr: CpuEnv.offsetOf('tmpAddr'),
  ip: CpuEnv.offsetOf('ip'),
  nextIp: CpuEnv.offsetOf('nextIp'),
  slowAddr: CpuEnv.offsetOf('slowAddr'),
  slowValue: CpuEnv.offsetOf('slowValue'),
  slowValueHigh: CpuEnv.offsetOf('slowValueHigh'),
  scratch: CpuEnv.offsetOf('scratch'),
  excVector: CpuEnv.offsetOf('excVector'),
  excError: CpuEnv.offsetOf('excError'),
  codeSize: CpuEnv.offsetOf('codeSize'),
  csBase: CpuEnv.offsetOf('segs') + SEG.CS * Segment.size,
  esBase: CpuEnv.offsetOf('segs') + SEG.ES * Segment.size,
  jumpTarget: CpuEnv.offsetOf('jumpTarget'),
  exitRequest: CpuEnv.offsetOf('exitRequest'),
  budget: CpuEnv.offsetOf('budget'),
  tlbSet: CpuEnv.offsetOf('tlbSet'),
} as const;
export const FLAG_OFFSETS = {
  res: CpuEnv.offsetOf('flagRes'),
  carry: CpuEnv.offsetOf('flagCarry'),
  aux: CpuEnv.offsetOf('flagAux'),
};

const GP = 13;

/** Has TypeScript check an access of a record to a segment: i32, a status. */
export function callCheck(f: FuncBuilder, env: Expr, runtime: Runtime, offset: Expr, rec: Expr): Expr {
  f.store(8, env, OFF.scratch, offset);
  f.store(8, env, OFF.scratch + 8, load('i64_16u', rec, RECORD.SLOT0));
  f.store(8, env, OFF.scratch + 16, load('i64_16u', rec, RECORD.SLOT1));
  return f.call(runtime.helper, env, i32(runtime.helperId('check_segment')), i32(0));
}

export class Tier0Ins extends MemoryAccess implements Ins {
  protected readonly inlineProbes: boolean;
  readonly f: FuncBuilder;
  readonly env: Expr;
  readonly size: number;
  readonly addressSize: number;
  readonly kinds: readonly OperandKind[];
  readonly cond: number;
  readonly lock: boolean;
  readonly rep: number;
  readonly flags: FlagEmitter;
  readonly steps: StepCounter | undefined;
  private readonly rec: Expr;
  protected readonly runtime: Runtime;
  private readonly main: MainLoop | undefined;
  private readonly form: HandlerForm;
  private memoryAddress: Expr | undefined;

  constructor(f: FuncBuilder, form: HandlerForm, runtime: Runtime, env: Expr, rec: Expr, main?: MainLoop) {
    super();
    this.f = f;
    this.form = form;
    this.inlineProbes = main !== undefined;
    this.env = env;
    this.rec = rec;
    this.runtime = runtime;
    this.main = main;
    this.size = form.size;
    this.addressSize = form.addressSize;
    this.kinds = form.kinds;
    this.cond = form.cond;
    this.lock = form.lock;
    this.rep = form.rep;
    const storage =
      main === undefined
        ? new EnvFlagStorage(f, env, FLAG_OFFSETS, (kind, addr, offset) => load(kind, addr, offset))
        : new LocalFlagStorage(f, main.flags);
    this.flags = new FlagEmitter(f, storage, !form.deadFlags);
    if (!runtime.counting) return;
    this.steps = {
      left: () => {
        const budget = f.copy(load('i32', env, OFF.budget));
        return f.copy(budget.gtS(0).select(budget.i64u(), i64(0)));
      },
      done: (n) => f.store(4, env, OFF.budget, load('i32', env, OFF.budget).sub(n.i32())),
    };
  }

  // --- operands ---

  private isRegister(n: number): boolean {
    return this.kinds[n] === 'r';
  }
  /** Record field that holds operand `n`'s slot. */
  private slotField(n: number): number {
    let position = 0;
    for (let i = 0; i < n; i++) if ('rxqs'.includes(this.kinds[i])) position++;
    return SLOTS[position];
  }
  private slotAddress(n: number): Expr {
    return this.env.add(load('i32_16u', this.rec, this.slotField(n)));
  }
  private recordImm(): Expr {
    return load('i64', this.rec, RECORD.IMM);
  }

  imm(_n: number, size = this.size): Expr {
    return size === 8 ? this.recordImm() : load('i32', this.rec, RECORD.IMM);
  }

  read(n: number, size = this.size): Expr {
    switch (this.kinds[n]) {
      case 'r':
        return this.f.let(loadOfSize(size, this.slotAddress(n)));
      case 'm':
        return this.load(this.address(n), size);
      case 'i':
        if (size === 8) return this.f.let(this.recordImm());
        return this.f.let(load(INT_LOAD[size as MemorySize], this.rec, RECORD.IMM));
      default:
        throw new Error(`${this.form.key}: operand ${n} is no integer`);
    }
  }

  private writeSlot(address: Expr, value: Expr, size: number, offset = 0): void {
    // 4-byte results are zero-extended to the whole register
    if (size === 4) this.f.store(8, address, offset, value.i64u());
    else this.f.store(size, address, offset, value);
  }

  write(n: number, value: Expr, size = this.size): void {
    if (this.isRegister(n)) this.writeSlot(this.slotAddress(n), value, size);
    else this.store(this.address(n), value, size);
  }

  modify(n: number, change: (old: Expr) => Expr, size = this.size): void {
    if (!this.isRegister(n)) return this.modifyAt(this.address(n), size, change);
    const slot = this.f.let(this.slotAddress(n));
    this.writeSlot(slot, change(this.f.let(loadOfSize(size, slot))), size);
  }

  address(n: number): Expr {
    if (this.kinds[n] !== 'm') throw new Error(`${this.form.key}: operand ${n} is not in memory`);
    if (this.memoryAddress === undefined) {
      const register = (field: number): Expr => load('i64', this.env.add(load('i32_16u', this.rec, field)));
      const index = register(RECORD.INDEX).shl(load('i64_8u', this.rec, RECORD.SCALE));
      // never reused by a scope that ends earlier: handlers are one scope
      this.memoryAddress = this.f.copy(
        register(RECORD.BASE)
          .add(index)
          .add(load('i64_32s', this.rec, RECORD.DISP)),
      );
    }
    return this.memoryAddress;
  }

  movedAddress(n: number, delta: Expr): Expr {
    const { f, rec } = this;
    const address = this.address(n);
    const result = f.copy(address.add(delta));
    // an ADDRESS record before this one tells what the address wraps at
    f.if(
      load('i32_16u', rec, RECORD.BASE).eq(OFF.tmpAddr),
      () => {
        const before = f.let(rec.sub(RECORD_SIZE));
        const segment = f.let(load('i64', this.env.add(load('i32_16u', before, RECORD.SLOT0))));
        f.set(
          result,
          result
            .sub(segment)
            .and(load('i64', before, RECORD.IMM))
            .add(segment),
        );
        f.if(load('i32', before, RECORD.CHAIN), () => f.set(result, result.and(0xffffffffn)));
        f.if(load('i32_16u', before, RECORD.HANDLER).eq(PSEUDO.CHECKED_ADDRESS), () => {
          const offset = result.sub(segment).and(load('i64', before, RECORD.IMM));
          this.faultIf(callCheck(f, this.env, this.runtime, offset, before));
        });
      },
      undefined,
      false,
    );
    return result;
  }

  // --- fixed registers ---

  reg(r: number, size = this.size): Expr {
    return loadOfSize(size, this.env, r * 8);
  }
  setReg(r: number, value: Expr, size = this.size): void {
    this.writeSlot(this.env, value, size, r * 8);
  }

  // --- memory ---

  protected tlbBase(): Expr {
    return this.main?.tlb ?? this.env.add(this.envLoad('i32', OFF.tlbSet));
  }
  protected faultIf(condition: Expr): void {
    if (this.main !== undefined) this.f.brIf(this.main.faultLabel, condition, false);
    else this.f.if(condition, () => this.fault(), undefined, false);
  }
  protected fault(): void {
    if (this.main !== undefined) {
      this.f.br(this.main.faultLabel);
    } else {
      this.storeIp();
      this.f.ret(i32(STATUS.EXIT + 1));
    }
  }
  sourceBase(): Expr {
    // the record's index slot holds the segment base's slot
    return load('i64', this.env.add(load('i32_16u', this.rec, RECORD.INDEX)));
  }
  esBase(): Expr {
    // in 64-bit mode the base of ES counts as 0
    return this.is64().select(i64(0), this.envLoad('i64', OFF.esBase));
  }
  private is64(): Expr {
    return this.envLoad('i32', OFF.codeSize).eq(2);
  }
  linear(base: Expr, offset: Expr): Expr {
    const sum = base.add(offset);
    return this.f.copy(this.is64().select(sum, sum.and(0xffffffffn)));
  }

  // --- vector registers ---

  vectorSlot(n: number): { base: Expr; offset: number } {
    return { base: this.f.let(this.slotAddress(n)), offset: 0 };
  }
  readV128(n: number, unaligned = false): Expr {
    if (this.kinds[n] !== 'm') return this.f.copy(load('v128', this.slotAddress(n)));
    if (!unaligned) this.checkAligned(n);
    return this.load(this.address(n), 16);
  }
  writeV128(n: number, value: Expr, unaligned = false): void {
    if (this.kinds[n] !== 'm') return this.f.store(16, this.slotAddress(n), 0, value);
    if (!unaligned) this.checkAligned(n);
    this.store(this.address(n), value, 16);
  }
  private checkAligned(n: number): void {
    this.f.if(this.address(n).i32().and(15), () => this.raise(GP, 0), undefined, false);
  }
  readLow(n: number, size: number): Expr {
    if (this.kinds[n] === 'm') return this.load(this.address(n), size);
    return this.f.copy(loadOfSize(size, this.slotAddress(n)));
  }
  writeLow(n: number, value: Expr, size: number): void {
    if (this.kinds[n] === 'm') this.store(this.address(n), value, size);
    else this.f.store(size, this.slotAddress(n), 0, value);
  }

  // --- x87 ---

  stIndex(n: number): Expr {
    return load('i32_16u', this.rec, this.slotField(n));
  }
  instructionIp(): Expr {
    return this.ipOf(this.linearIp(i64(0)));
  }

  // --- env ---

  envLoad(kind: 'i32' | 'i64' | 'i32_8u' | 'i32_16u' | 'v128', offset: number): Expr {
    return load(kind, this.env, offset);
  }
  envStore(size: number, offset: number, value: Expr): void {
    this.f.store(size, this.env, offset, value);
  }

  // --- leaving ---

  /** i64: linear address of the instruction plus `plus` bytes. */
  private linearIp(plus: Expr): Expr {
    return this.envLoad('i64', OFF.codePage)
      .add(load('i64_16u', this.rec, RECORD.OFFSET))
      .add(plus);
  }
  private ipOf(linear: Expr): Expr {
    return linear.sub(this.envLoad('i64', OFF.csBase));
  }
  private storeIp(): void {
    this.f.store(8, this.env, OFF.ip, this.ipOf(this.linearIp(i64(0))));
  }
  nextIp(): Expr {
    return this.f.copy(this.ipOf(this.linearIp(load('i64_8u', this.rec, RECORD.LENGTH))));
  }
  raise(vector: number, errorCode = -1): void {
    this.f.store(4, this.env, OFF.excVector, i32(vector));
    this.f.store(4, this.env, OFF.excError, i32(errorCode));
    this.fault();
  }
  helper(name: string, operands = true): void {
    if (this.main !== undefined) throw new Error(`${this.form.key}: helper in the main loop`);
    const { f } = this;
    let k = 0;
    (operands ? this.kinds : []).forEach((kind, n) => {
      const at = OFF.scratch + 8 * k++;
      if (kind === 'i') f.store(8, this.env, at, this.imm(n, 8));
      else f.store(8, this.env, at, this.read(n).i64u());
    });
    this.storeIp();
    f.store(8, this.env, OFF.nextIp, this.nextIp());
    const status = f.copy(
      f.call(this.runtime.helper, this.env, i32(this.runtime.helperId(name)), i32(this.size)),
    );
    f.if(status, () => f.ret(status.add(STATUS.EXIT)));
    f.ret(i32(STATUS.NEXT));
  }
  private jumpLinear(target: Expr): void {
    if (this.main !== undefined) {
      this.f.set(this.main.target, target);
      this.f.set(this.main.record, i32(0));
      this.f.br(this.main.lookupLabel);
    } else {
      this.f.store(8, this.env, OFF.jumpTarget, target);
      this.f.ret(i32(STATUS.JUMP));
    }
  }
  jump(target: Expr): void {
    // outside 64-bit mode an ip is at most 32 bits wide and CS has a base
    const linear = this.size === 8 ? target : target.add(this.envLoad('i64', OFF.csBase)).and(0xffffffffn);
    this.jumpLinear(linear);
  }
  jumpRelative(): void {
    const { f, main } = this;
    // 32 bits wrap around without regard to where CS begins
    const wraps = this.size === 4 ? 0xffffffffn : -1n;
    const target = (): Expr => this.envLoad('i64', OFF.codePage).add(this.recordImm()).and(i64(wraps));
    if (main !== undefined && this.size !== 2) {
      // counted in the record; see COUNT_STEP
      const count = f.copy(load('i32', this.rec, RECORD.DISP).add(load('i32_16u', this.rec, RECORD.SLOT0)));
      f.store(4, this.rec, RECORD.DISP, count);
      f.if(
        count.and(HOT_PERIOD - 1).eqz(),
        () => {
          f.set(main.target, target());
          f.br(main.hotLabel);
        },
        undefined,
        false,
      );
    }
    if (main !== undefined) {
      const chain = f.copy(load('i32', this.rec, RECORD.CHAIN));
      f.if(
        chain.ne(0).and(atomicLoad8(this.env, OFF.exitRequest).eqz()),
        () => {
          f.set(main.record, chain);
          f.br(main.dispatchLabel);
        },
        undefined,
        true,
      );
    }
    if (this.size !== 2) {
      if (main === undefined) return this.jumpLinear(target());
      f.set(main.target, target());
      f.br(main.chainLabel);
      return;
    }
    const base = f.let(this.envLoad('i64', OFF.csBase));
    this.jumpLinear(target().sub(base).and(0xffffn).add(base).and(0xffffffffn));
  }
  notTaken(): void {
    if (this.main === undefined || this.size === 2) return;
    this.f.store(4, this.rec, RECORD.MISSED, load('i32', this.rec, RECORD.MISSED).add(1));
  }
  interruptible(): void {
    const { f } = this;
    const leaveIf = (condition: Expr, reason: number): void =>
      f.if(
        condition,
        () => {
          this.storeIp();
          f.ret(i32(STATUS.EXIT + reason));
        },
        undefined,
        false,
      );
    leaveIf(atomicLoad8(this.env, OFF.exitRequest), REASON.KICK);
    if (this.steps === undefined) return;
    const budget = f.copy(this.envLoad('i32', OFF.budget).sub(1));
    leaveIf(budget.ltS(0), REASON.BUDGET);
    f.store(4, this.env, OFF.budget, budget);
  }
  next(): void {
    if (this.main !== undefined) this.f.br(this.main.nextLabel);
    else this.f.ret(i32(STATUS.NEXT));
  }
  endBlock(): void {
    const { f } = this;
    f.store(8, this.env, OFF.ip, this.nextIp());
    f.ret(i32(STATUS.EXIT + 2));
  }
}

export { loadOfSize, type Runtime, tlbIndex };
