/** Tier 0's emission context: operands are found in the record at run time. */
import {
  atomicCmpxchg,
  atomicLoad32,
  type Expr,
  type FuncBuilder,
  type FuncRef,
  i32,
  i64,
  type Label,
  load,
  type Local,
} from '../../wasm/index.ts';
import { CpuEnv, SEG, Segment, TLB_ENTRIES, TLB_SET, VCPU_BLOCK_SIZE } from '../env.ts';
import { EnvFlagStorage, FlagEmitter, LocalFlagStorage } from '../sem/flag-emitter.ts';
import type { Ins, OperandKind } from '../sem/ins.ts';
import type { HandlerForm } from './handlers.ts';
import { RECORD, SLOTS } from './record.ts';

/** Functions of the module that handlers call. */
export interface Runtime {
  /** (env, linear address, size) → wasm address or -1: TLB probe, then the slow path. */
  readonly probeRead: FuncRef;
  /** The same for read-modify-write. */
  readonly probeWrite: FuncRef;
  /** (env, linear address) → wasm address or -1, after the inlined probe missed; by size. */
  readonly slowRead: FuncRef;
  readonly slowWriteProbe: FuncRef;
  /** (env, linear address, i64 value, size) → 0 or -1. */
  readonly store: FuncRef;
  readonly slowStore: FuncRef;
  /** Imports: (env, size) → 0 | -1. */
  readonly rmwCommit: FuncRef;
  /** Imports: (env, begin 1 / end 0): all other vCPUs stand still in between. */
  readonly exclusive: FuncRef;
  /** Import: (env, helper id, size) → status. */
  readonly helper: FuncRef;
  /** Number of a helper by instruction name. */
  helperId(name: string): number;
}

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
}

const OFF = {
  codePage: CpuEnv.offsetOf('codePage'),
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
  tlbSet: CpuEnv.offsetOf('tlbSet'),
} as const;
export const FLAG_OFFSETS = {
  res: CpuEnv.offsetOf('flagRes'),
  carry: CpuEnv.offsetOf('flagCarry'),
  aux: CpuEnv.offsetOf('flagAux'),
};

const PAGE_MASK = -4096n;
const GP = 13;

/** i32: byte offset, within a TLB array, of the entry for a linear address. */
export function tlbIndex(address: Expr): Expr {
  return address.i32().shrU(8).and((TLB_ENTRIES - 1) << 4);
}

const INT_LOAD = { 1: 'i32_8u', 2: 'i32_16u', 4: 'i32', 8: 'i64', 16: 'v128' } as const;
type MemorySize = keyof typeof INT_LOAD;
export function loadOfSize(size: number, address: Expr, offset = 0): Expr {
  return load(INT_LOAD[size as MemorySize], address, offset);
}

export class Tier0Ins implements Ins {
  readonly f: FuncBuilder;
  readonly env: Expr;
  readonly size: number;
  readonly addressSize: number;
  readonly kinds: readonly OperandKind[];
  readonly cond: number;
  readonly lock: boolean;
  readonly rep: number;
  readonly flags: FlagEmitter;
  private readonly rec: Expr;
  private readonly runtime: Runtime;
  private readonly main: MainLoop | undefined;
  private readonly form: HandlerForm;
  private memoryAddress: Expr | undefined;

  constructor(f: FuncBuilder, form: HandlerForm, runtime: Runtime, env: Expr, rec: Expr, main?: MainLoop) {
    this.f = f;
    this.form = form;
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

  modifyAt(address: Expr, size: number, change: (old: Expr) => Expr): void {
    const { f } = this;
    const host = this.probeWrite(address, size);
    const plain = (at: Expr): void => {
      const old = f.let(loadOfSize(size, at));
      f.store(size, at, 0, change(old));
    };
    if (!this.lock) {
      plain(host);
      this.commit(host, size);
      return;
    }
    const inRam = this.isScratch(host).eqz();
    const aligned = size === 1 ? inRam : host.and(size - 1).eqz().and(inRam);
    f.if(
      aligned,
      () => {
        const old = f.local(size === 8 ? 'i64' : 'i32');
        const seen = f.local(old.type);
        f.set(old, loadOfSize(size, host));
        f.block((done) => {
          f.loop((again) => {
            f.set(seen, atomicCmpxchg(size, host, old, this.truncate(change(old), size)));
            f.brIf(done, seen.eq(old), true);
            f.set(old, seen);
            f.br(again);
          });
        });
      },
      () => {
        // misaligned, page-crossing or device memory: every other vCPU stands still
        f.run(f.call(this.runtime.exclusive, this.env, i32(1)));
        const again = f.copy(f.call(this.runtime.probeWrite, this.env, address, i32(size)));
        f.if(again.eq(-1), () => {
          f.run(f.call(this.runtime.exclusive, this.env, i32(0)));
          this.fault();
        });
        plain(again);
        f.if(this.isScratch(again), () => f.drop(f.call(this.runtime.rmwCommit, this.env, i32(size))));
        f.run(f.call(this.runtime.exclusive, this.env, i32(0)));
      },
      true,
    );
  }
  private truncate(v: Expr, size: number): Expr {
    return size < 4 ? v.low(size * 8) : v;
  }

  address(n: number): Expr {
    if (this.kinds[n] !== 'm') throw new Error(`${this.form.key}: operand ${n} is not in memory`);
    if (this.memoryAddress === undefined) {
      const register = (field: number): Expr => load('i64', this.env.add(load('i32_16u', this.rec, field)));
      const index = register(RECORD.INDEX).shl(load('i64_8u', this.rec, RECORD.SCALE));
      // never reused by a scope that ends earlier: handlers are one scope
      this.memoryAddress = this.f.copy(register(RECORD.BASE).add(index).add(load('i64_32s', this.rec, RECORD.DISP)));
    }
    return this.memoryAddress;
  }

  // --- fixed registers ---

  reg(r: number, size = this.size): Expr {
    return loadOfSize(size, this.env, r * 8);
  }
  setReg(r: number, value: Expr, size = this.size): void {
    this.writeSlot(this.env, value, size, r * 8);
  }

  // --- memory ---

  private faultIf(condition: Expr): void {
    if (this.main !== undefined) this.f.brIf(this.main.faultLabel, condition, false);
    else this.f.if(condition, () => this.fault(), undefined, false);
  }
  private fault(): void {
    if (this.main !== undefined) {
      this.f.br(this.main.faultLabel);
    } else {
      this.storeIp();
      this.f.ret(i32(STATUS.EXIT + 1));
    }
  }
  private isScratch(host: Expr): Expr {
    return host.sub(this.env).ltU(i32(VCPU_BLOCK_SIZE));
  }

  /** The TLB entry's address and whether it serves `size` bytes at `address`. */
  private probe(address: Expr, size: number, array: number): { entry: Local; hit: Expr } {
    const tlb = this.main?.tlb ?? this.env.add(this.envLoad('i32', OFF.tlbSet));
    const entry = this.f.copy(tlb.add(tlbIndex(address)));
    const last = size === 1 ? address : address.add(size - 1);
    return { entry, hit: load('i64', entry, array).eq(last.and(PAGE_MASK)) };
  }
  private host(address: Expr, entry: Expr, array: number): Expr {
    return address.i32().add(load('i32', entry, array + 8));
  }

  load(address: Expr, size: number): Expr {
    const { f, runtime } = this;
    const a = f.let(address);
    if (this.main === undefined) {
      const host = f.copy(f.call(runtime.probeRead, this.env, a, i32(size)));
      this.faultIf(host.eq(-1));
      return f.copy(loadOfSize(size, host));
    }
    const { entry, hit } = this.probe(a, size, TLB_SET.READ);
    const host = f.local('i32');
    f.if(
      hit,
      () => f.set(host, this.host(a, entry, TLB_SET.READ)),
      () => {
        f.set(host, f.call(runtime.slowRead, this.env, a, i32(size)));
        this.faultIf(host.eq(-1));
      },
      true,
    );
    return f.copy(loadOfSize(size, host));
  }

  store(address: Expr, value: Expr, size: number): void {
    const { f, runtime } = this;
    const a = f.let(address);
    const v = f.let(value);
    if (size === 16) return this.store16(a, v);
    const wide = v.type === 'i64' ? v : v.i64u();
    if (this.main === undefined) {
      this.faultIf(f.call(runtime.store, this.env, a, wide, i32(size)));
      return;
    }
    const { entry, hit } = this.probe(a, size, TLB_SET.WRITE);
    f.if(
      hit,
      () => f.store(size, this.host(a, entry, TLB_SET.WRITE), 0, v),
      () => this.faultIf(f.call(runtime.slowStore, this.env, a, wide, i32(size))),
      true,
    );
  }
  private store16(address: Expr, value: Expr): void {
    const host = this.probeWrite(address, 16);
    this.f.store(16, host, 0, value);
    this.commit(host, 16);
  }

  probeWrite(address: Expr, size: number): Expr {
    const { f, runtime } = this;
    const a = f.let(address);
    const host = f.local('i32');
    if (this.main === undefined) {
      f.set(host, f.call(runtime.probeWrite, this.env, a, i32(size)));
      this.faultIf(host.eq(-1));
      return host;
    }
    const { entry, hit } = this.probe(a, size, TLB_SET.WRITE);
    f.if(
      hit,
      () => f.set(host, this.host(a, entry, TLB_SET.WRITE)),
      () => {
        f.set(host, f.call(runtime.slowWriteProbe, this.env, a, i32(size)));
        this.faultIf(host.eq(-1));
      },
      true,
    );
    return host;
  }
  commit(host: Expr, size: number): void {
    const { f } = this;
    f.if(
      this.isScratch(host),
      () => this.faultIf(f.call(this.runtime.rmwCommit, this.env, i32(size))),
      undefined,
      false,
    );
  }

  tlbAddress(address: Expr, size: number, write: boolean): Expr {
    const { f } = this;
    const a = f.let(address);
    const array = write ? TLB_SET.WRITE : TLB_SET.READ;
    const { entry, hit } = this.probe(a, size, array);
    const host = f.copy(i32(0));
    f.if(hit, () => f.set(host, this.host(a, entry, array)));
    return host;
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
    return this.envLoad('i64', OFF.codePage).add(load('i64_16u', this.rec, RECORD.OFFSET)).add(plus);
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
  helper(name: string): void {
    if (this.main !== undefined) throw new Error(`${this.form.key}: helper in the main loop`);
    const { f } = this;
    let k = 0;
    this.kinds.forEach((kind, n) => {
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
    if (main !== undefined) {
      const chain = f.copy(load('i32', this.rec, RECORD.CHAIN));
      f.if(
        chain.ne(0).and(atomicLoad32(this.env, OFF.exitRequest).eqz()),
        () => {
          f.set(main.record, chain);
          f.br(main.dispatchLabel);
        },
        undefined,
        true,
      );
    }
    const linear = this.envLoad('i64', OFF.codePage).add(this.recordImm());
    if (this.size === 8) {
      if (main === undefined) return this.jumpLinear(linear);
      f.set(main.target, linear);
      f.br(main.chainLabel);
      return;
    }
    const mask = this.size === 4 ? 0xffffffffn : 0xffffn;
    const base = f.let(this.envLoad('i64', OFF.csBase));
    this.jumpLinear(linear.sub(base).and(mask).add(base).and(0xffffffffn));
  }
  interruptible(): void {
    const { f } = this;
    f.if(
      atomicLoad32(this.env, OFF.exitRequest),
      () => {
        this.storeIp();
        f.ret(i32(STATUS.EXIT + 0));
      },
      undefined,
      false,
    );
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

