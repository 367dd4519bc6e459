/**
 * Tier 1's emission context: operands are known, registers are wasm locals. One object serves a whole region; `begin`
 * points it at an instruction.
 */
import {
  atomicLoad8,
  Expr,
  type FuncBuilder,
  i32,
  i64,
  type Label,
  load,
  type Local,
} from '../wasm/index.ts';
import { BASE_RIP, type Insn, OPERAND } from '../cpu/decode/insn.ts';
import { CpuEnv, REASON, SEG, Segment, TLB_SET, XMM_STRIDE } from '../cpu/env.ts';
import type { Ins, OperandKind, Semantics } from '../cpu/sem/ins.ts';
import { ORDINARY } from '../cpu/sys/words.ts';
import { loadOfSize, MemoryAccess, type Runtime } from '../cpu/sem/memory-access.ts';
import { Bounds } from './bounds.ts';
import { JitFlags } from './jit-flags.ts';
import { isInKnownPage, KnownPages } from './known-pages.ts';
import { EXIT_CODE, EXIT_INDIRECT, EXIT_JUMP, EXIT_MISS, EXIT_TARGET } from './layout.ts';
import type { X87Cache } from './x87-cache.ts';

const OFF = {
  exitRequest: CpuEnv.offsetOf('exitRequest'),
  tlbSet: CpuEnv.offsetOf('tlbSet'),
  excVector: CpuEnv.offsetOf('excVector'),
  jumpTarget: CpuEnv.offsetOf('jumpTarget'),
  excError: CpuEnv.offsetOf('excError'),
  segs: CpuEnv.offsetOf('segs'),
  xmm: CpuEnv.offsetOf('xmm'),
  fpRegs: CpuEnv.offsetOf('fpRegs'),
} as const;
const FS = SEG.FS;
const LIMIT = Segment.offsetOf('limit');
const ATTRIBUTES = Segment.offsetOf('attr');
const GP = 13;

const PAGE = 4096;
/** Bytes of a table that is looked for in one page; of a larger one it is less likely. */
const MAX_TABLE = 2048;

/** An entry of a table. */
interface TableEntry {
  /** i64: where the table begins. */
  readonly table: Expr;
  /** i32: of the entry, at most `reach`. */
  readonly offset: Expr;
  readonly reach: number;
}

/** What an instruction's code needs of its region. */
export interface RegionFrame {
  readonly f: FuncBuilder;
  readonly env: Local;
  readonly tlb: Local;
  /** 32-bit code: registers and `base` are i32, otherwise i64. */
  readonly narrow: boolean;
  /** Linear address of the head's page. */
  readonly base: Local;
  readonly regs: readonly Local[];
  /** i32: `exitCode`, for the exit. */
  readonly exitCode: Local;
  readonly exitLabel: Label;
  /** The same, with flags in their locals. */
  readonly exitWithFlags: Label;
  /** i32: nonzero once the region's code was found changed by a store of its own. */
  readonly stale: Local;
  /** Wasm address of the region's valid byte. */
  readonly valid: number;
  /** A branch to region offset `at`. */
  branchTo(at: number): void;
  /** A jump to a linear address that is not known now. */
  branchIndirect(target: Expr): void;
}

/** Undefined: it is too far, as only a jump can go. */
export function exitCode(reason: number, at: number): number | undefined {
  const shifted = at << EXIT_CODE.REASON_BITS;
  return shifted >> EXIT_CODE.REASON_BITS === at ? shifted | (reason + EXIT_CODE.REASON_BIAS) : undefined;
}

export class JitIns extends MemoryAccess implements Ins {
  readonly f: FuncBuilder;
  readonly env: Expr;
  readonly flags: JitFlags;
  readonly stackSize: number;
  size = 4;
  addressSize = 8;
  kinds: readonly OperandKind[] = [];
  cond = 0;
  lock = false;
  rep = 0;
  protected readonly runtime: Runtime;
  protected readonly inlineProbes = true;
  private readonly frame: RegionFrame;
  private insn!: Insn;
  private at = 0;
  private memoryAddress: Expr | undefined;
  /** The instruction stored to memory: its own code may have changed. */
  private stores = false;
  /** Registers whose locals may differ from the env: a superset. */
  private readonly dirty = new Set<number>();
  /** The instruction's code may run again from its middle: registers go to the env at once. */
  private repeats = false;
  /** The instruction changes the MMU index. */
  private changesMode = false;
  private readonly pages: KnownPages;
  private readonly bounds = new Bounds();
  /** The memory operand is this far into a table, if its index is known to be small. */
  private tableEntry: TableEntry | undefined;
  /** In a small loop: those that it writes, which are stored where it is left. */
  private loopRegisters: ReadonlySet<number> | undefined;
  /** Those whose value from before the region somebody may want. */
  readonly registersRead = new Set<number>();
  /** A store is certain between the last load of guest memory and what comes now. */
  private storedSinceLoad = false;
  private readonly x87: X87Cache;

  constructor(frame: RegionFrame, runtime: Runtime, flags: JitFlags, x87: X87Cache) {
    super();
    this.frame = frame;
    this.f = frame.f;
    this.env = frame.env;
    this.runtime = runtime;
    this.flags = flags;
    this.x87 = x87;
    this.stackSize = frame.narrow ? 1 : 2;
    this.pages = new KnownPages(frame.f);
    frame.f.onSet = (local, value) => {
      this.bounds.assigned(local, value, this.pages.unconditional);
      this.pages.assigned(local, value);
    };
  }

  /** `inPlace`: what the TLB lacks is fetched; otherwise the region is left for tier 0. */
  begin(insn: Insn, at: number, semantics: Semantics, size: number, kinds: string, inPlace: boolean): void {
    this.insn = insn;
    this.at = at;
    this.size = size;
    this.kinds = [...kinds] as OperandKind[];
    this.addressSize = semantics.addressSizes === undefined ? 8 : insn.addrSize;
    this.cond = insn.cond;
    this.rep = semantics.reps === undefined ? 0 : insn.rep;
    const locks = insn.lock !== 0 || semantics.name === 'xchg';
    this.lock = locks && insn.memOperand === 0 && semantics.lockable === true;
    this.memoryAddress = undefined;
    this.tableEntry = undefined;
    this.stores = false;
    this.repeats = semantics.reps !== undefined;
    this.changesMode = false;
    this.missLeaves = !inPlace;
    // these call out of the region
    if (inPlace || this.repeats) this.pages.forget();
  }
  /**
   * At the start of a block; `continues`: control comes there only from the block before; `loopRegisters`: those that the
   * small loop writes that it is in.
   */
  arrive(continues: boolean, loopRegisters: ReadonlySet<number> | undefined): void {
    this.loopRegisters = loopRegisters;
    this.dirty.clear();
    for (const r of loopRegisters ?? []) {
      this.dirty.add(r);
      this.registersRead.add(r);
    }
    if (continues) return this.pages.continue();
    this.pages.arrive();
    this.bounds.arrive();
    this.storedSinceLoad = false;
  }
  /** Stores registers that have changed to the env, where they do not stay in locals. Emitted where nothing is conditional. */
  flush(): void {
    if (this.loopRegisters !== undefined) return;
    this.storeDirty();
    this.dirty.clear();
  }
  private storeDirty(): void {
    if (this.dirty.size > 0 && this.pages.unconditional) this.storedSinceLoad = true;
    for (const r of this.dirty) this.f.store(8, this.env, r * 8, this.frame.regs[r].i64u());
  }
  /**
   * Before a branch that may be conditional: the env is as it is expected elsewhere. `continues`: control comes to where it
   * leads from nowhere else. `inLoop`: it stays in a small loop.
   */
  settle(flags: boolean, continues = false, inLoop = false): void {
    if (!inLoop) this.storeDirty();
    if (!continues) this.x87.store();
    if (flags) this.flags.settle(inLoop);
  }
  /** After the instruction's code: leaves when it changed the region's own code. */
  end(): void {
    this.leaveIfStale(this.at + this.insn.length);
  }
  private leaveIfStale(to: number | Expr): void {
    if (!this.stores) return;
    const leave = (): void => (typeof to === 'number' ? this.exit(EXIT_JUMP, to) : this.exitTo(to));
    this.f.if(this.frame.stale, leave, undefined, false);
  }

  /** What is being emitted. */
  get instruction(): Insn {
    return this.insn;
  }
  /** Leaves the region for the next instruction. */
  leaveToNext(): void {
    this.exit(EXIT_JUMP, this.at + this.insn.length);
  }

  /** i64: linear address of a region offset. */
  private linearAt(at: number): Expr {
    return this.frame.base.add(at).i64u();
  }
  /** Leaves the region for a region offset. */
  exit(reason: number, at: number): void {
    const { f, frame } = this;
    const code = exitCode(reason, at);
    if (code === undefined) return this.exitTo(this.linearAt(at));
    this.storeDirty();
    this.x87.store();
    f.set(frame.exitCode, i32(code));
    f.br(this.flags.leave() ? frame.exitWithFlags : frame.exitLabel);
  }
  /** Leaves it by a jump to a linear address, which is the ip, since CS begins at 0. */
  exitTo(linear: Expr, reason = EXIT_TARGET): void {
    this.f.store(8, this.env, OFF.jumpTarget, linear);
    if (reason !== EXIT_INDIRECT) return this.exit(reason, 0);
    this.exit(reason, this.indirectExit >> EXIT_CODE.REASON_BITS);
  }
  /** `exitCode` of the indirect jump that is being emitted: with where it is, if that fits. */
  get indirectExit(): number {
    return exitCode(EXIT_INDIRECT, this.at) ?? (exitCode(EXIT_INDIRECT, 0) as number);
  }

  // --- operands ---

  private regNumber(n: number): { reg: number; high: boolean } {
    return { reg: this.insn.reg[n], high: this.insn.kind[n] === OPERAND.REG8HIGH };
  }
  /** A register's local, to be read. */
  private register(reg: number): Local {
    this.registersRead.add(reg);
    return this.frame.regs[reg];
  }
  private readRegister(reg: number, size: number, high = false): Expr {
    const local = this.register(reg);
    // not the local itself: `f.let` is to keep the value it has now
    const value = new Expr(local.type, local.code, [], local.imms);
    if (size === 8) return value.i64u();
    const low = high ? value.shrU(8).i32() : value.i32();
    return size === 4 ? low : low.low(size * 8);
  }
  private writeRegister(reg: number, value: Expr, size: number, high = false): void {
    const { f, frame } = this;
    // the env gets the whole register, also when it was not written
    const kept = size < 4 || !this.pages.unconditional;
    const local = kept ? this.register(reg) : frame.regs[reg];
    const typed = frame.narrow ? value.i32() : value.i64u();
    if (size >= 4) f.set(local, typed);
    else {
      const part = typed.low(size * 8);
      const mask = size === 2 ? 0xffffn : high ? 0xff00n : 0xffn;
      f.set(local, local.and(~mask).or(high ? part.shl(8) : part));
    }
    const { loopRegisters } = this;
    const atOnce = this.repeats || (loopRegisters !== undefined && !loopRegisters.has(reg));
    if (atOnce) f.store(8, this.env, reg * 8, local.i64u());
    else this.dirty.add(reg);
  }

  imm(_n: number, size = this.size): Expr {
    const { insn } = this;
    if (size === 8) return i64((BigInt(insn.immHi) << 32n) | BigInt(insn.immLo >>> 0));
    const bits = insn.immLo;
    return i32(size === 4 ? bits : bits & (2 ** (size * 8) - 1));
  }

  read(n: number, size = this.size): Expr {
    switch (this.kinds[n]) {
      case 'r': {
        const { reg, high } = this.regNumber(n);
        return this.f.copy(this.readRegister(reg, size, high));
      }
      case 'm':
        return this.load(this.address(n), size);
      case 'i':
        return this.imm(n, size);
      default:
        throw new Error(`operand ${n} is no integer`);
    }
  }
  write(n: number, value: Expr, size = this.size): void {
    if (this.kinds[n] === 'r') {
      const { reg, high } = this.regNumber(n);
      this.writeRegister(reg, value, size, high);
    } else {
      this.store(this.address(n), value, size);
    }
  }
  modify(n: number, change: (old: Expr) => Expr, size = this.size): void {
    if (this.kinds[n] !== 'r') return this.modifyAt(this.address(n), size, change);
    const { reg, high } = this.regNumber(n);
    this.writeRegister(reg, change(this.f.copy(this.readRegister(reg, size, high))), size, high);
  }

  address(n: number): Expr {
    if (this.kinds[n] !== 'm') throw new Error(`operand ${n} is not in memory`);
    if (this.memoryAddress !== undefined) return this.memoryAddress;
    this.memoryAddress = this.frame.narrow ? this.narrowAddress(n) : this.wideAddress(n);
    return this.memoryAddress;
  }
  private wideAddress(n: number): Expr {
    const { insn, f } = this;
    const disp =
      insn.base < 0 && insn.index < 0
        ? (BigInt(insn.dispHi) << 32n) | BigInt(insn.disp >>> 0)
        : BigInt(insn.disp);
    let a: Expr;
    if (insn.base === BASE_RIP) a = this.linearAt(this.at + insn.length + insn.disp);
    else if (insn.base >= 0) a = this.register(insn.base).add(i64(disp + BigInt(this.popped())));
    else a = i64(disp);
    const start = a;
    if (insn.index >= 0) a = this.register(insn.index).shl(insn.scale).add(a);
    if (insn.addrSize === 4) a = a.and(0xffffffffn);
    else this.findTable(n, start);
    if (insn.seg >= FS && insn.size[n] !== 0)
      a = a.add(this.envLoad('i64', OFF.segs + insn.seg * Segment.size));
    return f.copy(a);
  }
  /** POP to memory computes its address with rSP already incremented. */
  private popped(): number {
    return this.popsToMemory && this.insn.base === 4 ? this.insn.opSize : 0;
  }
  /** In 32-bit code; ES, SS and DS are flat. */
  private narrowAddress(n: number): Expr {
    const { insn, f } = this;
    let a: Expr = insn.base < 0 ? i32(insn.disp) : this.register(insn.base).add(insn.disp + this.popped());
    const start = a;
    if (insn.index >= 0) a = this.register(insn.index).shl(insn.scale).add(a);
    if (insn.addrSize === 2) a = a.and(0xffff);
    else this.findTable(n, start);
    // LEA has a segment too, and no size
    if (insn.seg < FS || insn.size[n] === 0) return f.copy(a.i64u());
    const offset = f.let(a.i64u());
    this.checkSegment(insn.seg, offset, insn.size[n]);
    const base = this.envLoad('i32', OFF.segs + insn.seg * Segment.size);
    return f.copy(base.add(offset.i32()).i64u());
  }
  /** `start`: the operand's address without its index. */
  private findTable(n: number, start: Expr): void {
    const { insn, f } = this;
    if (insn.index < 0 || insn.seg >= FS || insn.size[n] === 0) return;
    const index = this.frame.regs[insn.index];
    const most = this.bounds.of(index);
    // too large a number for a shift
    const reach = most === undefined ? MAX_TABLE : most * 2 ** insn.scale;
    if (reach >= MAX_TABLE) return;
    this.tableEntry = {
      table: f.let(start.i64u()),
      offset: f.let(index.i32().shl(insn.scale)),
      reach,
    };
  }
  /** What is not an access within the limit of an ordinary data segment is left to tier 0. */
  private checkSegment(seg: number, offset: Expr, size: number): void {
    const at = OFF.segs + seg * Segment.size;
    const ordinary = this.envLoad('i32', at + ATTRIBUTES)
      .and(ORDINARY.MASK)
      .eq(ORDINARY.VALUE);
    const last = offset.add(size - 1);
    const inside = last.leU(this.envLoad('i32', at + LIMIT).i64u());
    this.f.if(ordinary.and(inside).eqz(), () => this.exit(REASON.ALONE, this.at), undefined, false);
  }
  movedAddress(n: number, delta: Expr): Expr {
    const { insn, f } = this;
    const a = this.address(n);
    // of 32-bit code, only flat segments have such an operand here
    if (this.frame.narrow) return f.copy(a.add(delta).low(insn.addrSize * 8));
    if (insn.addrSize !== 4) return f.copy(a.add(delta));
    const segment = insn.seg >= FS ? f.let(this.envLoad('i64', OFF.segs + insn.seg * Segment.size)) : i64(0);
    return f.copy(a.sub(segment).add(delta).and(0xffffffffn).add(segment));
  }
  /** Set by the emitter for POP m. */
  popsToMemory = false;

  reg(r: number, size = this.size): Expr {
    return this.readRegister(r, size);
  }
  setReg(r: number, value: Expr, size = this.size): void {
    this.writeRegister(r, value, size);
  }

  // --- memory ---

  protected tlbBase(): Expr {
    return this.frame.tlb;
  }
  protected override beforeLoad(): void {
    // keeps V8 from merging this load with an earlier one of the same address (DESIGN.md, memory order)
    if (!this.storedSinceLoad || this.repeats) this.f.drop(atomicLoad8(this.env));
  }
  protected override loaded(value: Local, size: number): Expr {
    this.storedSinceLoad = false;
    if (size <= 2) this.bounds.set(value, 2 ** (size * 8) - 1);
    return value;
  }
  protected override stored(): void {
    if (this.pages.unconditional) this.storedSinceLoad = true;
  }
  protected override hitOrMiss(
    address: Expr,
    size: number,
    array: number,
    use: (base: Expr, offset: number) => void,
  ): void {
    const { f, tableEntry } = this;
    if (tableEntry === undefined || address !== this.memoryAddress) {
      return this.pageOrMiss(address, size, array, use);
    }
    // the page of the whole table, before the index is known
    const { table, offset, reach } = tableEntry;
    const whole = reach + size;
    const inTable = (): void => this.pageOrMiss(table, whole, array, (base, at) => use(base.add(offset), at));
    const otherwise = (): void => this.pageOrMiss(address, size, array, use);
    const start = table.i32().and(PAGE - 1);
    if (start.value !== undefined) return Number(start.value) <= PAGE - whole ? inTable() : otherwise();
    f.if(start.leU(PAGE - whole), inTable, otherwise, true);
  }
  private pageOrMiss(
    address: Expr,
    size: number,
    array: number,
    use: (base: Expr, offset: number) => void,
  ): void {
    const { f, pages } = this;
    const write = array === TLB_SET.WRITE;
    const near = pages.near(address, size, write);
    if (near === undefined) {
      const probe = this.probe(address, size, array);
      f.if(probe.hit.eqz(), () => this.miss(), undefined, false);
      return use(pages.learn(address, size, write, probe.distance.i32(), this.host(probe, address)), 0);
    }
    const { known, delta } = near;
    const inPage = (): void => use(delta < 0 ? known.host.add(delta) : known.host, Math.max(delta, 0));
    const condition = isInKnownPage(near, size);
    if (condition === undefined) return inPage();
    f.if(condition, inPage, () => super.hitOrMiss(address, size, array, use), true);
  }
  protected override afterSlowStore(): void {
    this.stores = true;
    const { f, frame } = this;
    f.set(frame.stale, load('i32_8u', i32(0), frame.valid).eqz());
  }
  protected fault(): void {
    this.exit(REASON.EXCEPTION, this.at);
  }
  protected faultIf(condition: Expr): void {
    this.f.if(condition, () => this.fault(), undefined, false);
  }
  protected override miss(): void {
    this.exit(EXIT_MISS, this.at);
  }
  sourceBase(): Expr {
    const { seg } = this.insn;
    return seg >= FS ? this.envLoad('i64', OFF.segs + seg * Segment.size) : i64(0);
  }
  esBase(): Expr {
    return i64(0);
  }
  linear(base: Expr, offset: Expr): Expr {
    const sum = base.add(offset);
    return this.f.copy(this.frame.narrow ? sum.low(32) : sum);
  }

  // --- vector and x87 registers ---

  vectorSlot(n: number): { base: Expr; offset: number } {
    const reg = this.insn.reg[n];
    return {
      base: this.env,
      offset: this.kinds[n] === 'x' ? OFF.xmm + reg * XMM_STRIDE : OFF.fpRegs + (reg & 7) * 16,
    };
  }
  readV128(n: number, unaligned = false): Expr {
    if (this.kinds[n] !== 'm') return this.f.copy(load('v128', this.env, this.vectorSlot(n).offset));
    if (!unaligned) this.checkAligned(n);
    return this.load(this.address(n), 16);
  }
  writeV128(n: number, value: Expr, unaligned = false): void {
    if (this.kinds[n] !== 'm') return this.f.store(16, this.env, this.vectorSlot(n).offset, value);
    if (!unaligned) this.checkAligned(n);
    this.store(this.address(n), value, 16);
  }
  private checkAligned(n: number): void {
    this.f.if(this.address(n).i32().and(15), () => this.raise(GP, 0), undefined, false);
  }
  readLow(n: number, size: number): Expr {
    if (this.kinds[n] === 'm') return this.load(this.address(n), size);
    return this.f.copy(loadOfSize(size, this.env, this.vectorSlot(n).offset));
  }
  writeLow(n: number, value: Expr, size: number): void {
    if (this.kinds[n] === 'm') this.store(this.address(n), value, size);
    else this.f.store(size, this.env, this.vectorSlot(n).offset, value);
  }
  stIndex(n: number): Expr {
    return i32(this.insn.reg[n]);
  }
  systemRegister(n: number): number {
    return this.insn.reg[n];
  }
  callHelper(name: string): void {
    const { runtime } = this;
    this.f.run(this.f.call(runtime.helper, this.env, i32(runtime.helperId(name)), i32(this.size)));
  }

  // --- env ---

  envLoad(kind: 'i32' | 'i64' | 'i32_8u' | 'i32_16u' | 'v128', offset: number): Expr {
    return load(kind, this.env, offset);
  }
  envStore(size: number, offset: number, value: Expr): void {
    this.f.store(size, this.env, offset, value);
    if (offset !== OFF.tlbSet) return;
    this.changesMode = true;
    this.pages.forget();
    this.f.set(this.frame.tlb, this.env.add(this.envLoad('i32', OFF.tlbSet)));
  }

  // --- leaving ---

  raise(vector: number, errorCode = -1): void {
    this.f.store(4, this.env, OFF.excVector, i32(vector));
    this.f.store(4, this.env, OFF.excError, i32(errorCode));
    this.fault();
  }
  /** TypeScript does the instruction: in tier 0, alone. */
  helper(_name: string): void {
    this.exit(REASON.ALONE, this.at);
  }
  jump(target: Expr): void {
    const to = this.f.let(target);
    this.leaveIfStale(to);
    // in another mode this region's pages have not been checked
    if (this.changesMode) this.exitTo(to);
    else this.frame.branchIndirect(to);
  }
  jumpRelative(): void {
    const to = this.at + this.insn.length + this.insn.rel;
    this.leaveIfStale(to);
    this.frame.branchTo(to);
  }
  notTaken(): void {}
  instructionIp(): Expr {
    return this.linearAt(this.at);
  }
  nextIp(): Expr {
    return this.linearAt(this.at + this.insn.length);
  }
  interruptible(): void {
    this.f.if(
      atomicLoad8(this.env, OFF.exitRequest),
      () => this.exit(REASON.KICK, this.at),
      undefined,
      false,
    );
  }
  next(): void {
    this.frame.branchTo(this.at + this.insn.length);
  }
  endBlock(): void {
    this.exit(REASON.LOOKUP, this.at + this.insn.length);
  }
}
