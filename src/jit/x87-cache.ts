/**
 * Registers of the x87 in locals. At the first of a row of instructions that it can serve (x87-plan.ts) it is looked whether all
 * exceptions are masked, none is waiting, and the stack is as the row needs it. If so, the row works on locals: moves
 * are no code, numbers go through functions of numbers, and status, tags and TOP are made where somebody may see them:
 * where the row ends, and on every way out of it. If not, each instruction is done by functions on the env.
 */
import { type Expr, type FuncBuilder, i32, i64, load, type Local } from '../wasm/index.ts';
import { CpuEnv, SEG, Segment } from '../cpu/env.ts';
import { operationParts } from '../cpu/fpu/arithmetic.ts';
import { FLOATS, FORMAT, usualFloat } from '../cpu/fpu/convert.ts';
import { FLAGS_SHIFT, RESULT } from '../cpu/fpu/core.ts';
import { computeNumbers } from '../cpu/fpu/numbers.ts';
import type { X87Functions } from '../cpu/fpu/functions.ts';
import { CONDITION_BITS, EXCEPTIONS, FPU, FSW } from '../cpu/fpu/layout.ts';
import { checkPending } from '../cpu/sem/fpu-check.ts';
import { isStoreStopped, storeConverted } from '../cpu/sem/x87.ts';
import { fetchControl, loadControl, statusWord } from '../cpu/sem/x87-control.ts';
import { setComparedFlags, type StackInstruction, type StackOperation } from '../cpu/sem/x87-stack.ts';
import type { StepInfo } from './analysis.ts';
import type { JitIns } from './jit-ins.ts';
import { convertUnusual, memoryNumber } from './x87-operands.ts';
import { type KnownStep, planStack, REGISTERS, roleOf, StackState } from './x87-plan.ts';

const CS_SELECTOR = CpuEnv.offsetOf('segs') + SEG.CS * Segment.size + Segment.offsetOf('selector');
/** Fewer are not worth the look. */
const MIN_OPERATIONS = 2;
/** In regions of more arithmetic instructions they are calls: in place each has some 300 bytes of WebAssembly. */
const MAX_IN_PLACE = 40;
const ALL_BITS = (1 << REGISTERS) - 1;
const CONDITIONS = CONDITION_BITS & ~FSW.C1;
/** A register: mantissa, and sign and exponent below what is of no meaning. */
interface Register {
  readonly m: Local;
  readonly e: Local;
  /** It has the value, not the env. */
  dirty: boolean;
  loaded: boolean;
}

/** What the cache has in the way of locals, made when it is first wanted. */
interface Locals {
  /** i32: the row works on locals. */
  readonly ok: Local;
  /** TOP where the row began. */
  readonly top: Local;
  /** Tags where it began, that of ST(0) lowest; above 8 bits is something. */
  readonly tags: Local;
  /** The status word but for C1 and what has been raised since. */
  readonly status: Local;
  /** What has been raised, and C1 of the last instruction, `FLAGS_SHIFT` up among others. */
  readonly raised: Local;
  readonly c1: Local;
  /** Linear address of the last memory operand. */
  readonly dp: Local;
  readonly registers: readonly Register[];
}

type Operation<K extends StackOperation['kind']> = Extract<StackOperation, { kind: K }>;

export class X87Cache {
  private readonly f: FuncBuilder;
  private readonly env: Local;
  private readonly fns: X87Functions;
  /** i64: linear address of a region offset. */
  private readonly linearAt: (at: number) => Expr;
  /** Sums and products are computed in place. */
  private readonly inPlace: boolean;
  private locals: Locals | undefined;
  private state = new StackState(() => {});
  /** Tags in the env, as far as they are known. */
  private storedValid: (boolean | undefined)[] = [];
  private statusChanged = false;
  /** Region offset of the last instruction, if the env does not have it. */
  private ip: number | undefined;
  private dpChanged = false;
  private active = false;
  /** Instructions that are left of the row. */
  private left = 0;
  /** What is emitted now is executed when the row does not work on locals. */
  private suspended = false;

  /** `infos`: of the region's instructions. */
  constructor(
    f: FuncBuilder,
    env: Local,
    fns: X87Functions,
    infos: readonly StepInfo[],
    linearAt: (at: number) => Expr,
  ) {
    const arithmetic = infos.filter(({ semantics }) => semantics.stack?.operation.kind === 'arithmetic');
    this.inPlace = arithmetic.length <= MAX_IN_PLACE;
    this.f = f;
    this.env = env;
    this.fns = fns;
    this.linearAt = linearAt;
  }

  private get l(): Locals {
    const { f } = this;
    this.locals ??= {
      ok: f.lasting('i32'),
      top: f.lasting('i32'),
      tags: f.lasting('i32'),
      status: f.lasting('i32'),
      raised: f.lasting('i32'),
      c1: f.lasting('i32'),
      dp: f.lasting('i64'),
      registers: Array.from({ length: REGISTERS }, () => ({
        m: f.lasting('i64'),
        e: f.lasting('i32'),
        dirty: false,
        loaded: false,
      })),
    };
    return this.locals;
  }

  // --- the emitter's side ---

  /**
   * Before an instruction, where nothing is conditional; `following`: it and what comes after it. False: its code is to be
   * emitted as ever.
   */
  step(ins: JitIns, info: StepInfo, at: number, following: () => Iterable<KnownStep>): boolean {
    const role = roleOf(info);
    if (this.active && this.left === 0) this.end();
    if (this.active) this.left--;
    else if (role.kind === 'stack') this.begin(following());
    if (!this.active) return false;
    switch (role.kind) {
      case 'stack':
        this.operate(ins, role.stack, at);
        return true;
      case 'statusWord':
        this.readStatus(ins);
        return true;
      case 'controlWord':
        this.writeControl(ins);
        return true;
      case 'wait':
        this.waiting(ins);
        return true;
      default:
        return false;
    }
  }
  /** All is in the env, and the row is at an end. Where nothing is conditional. */
  end(): void {
    this.store();
    this.active = false;
  }
  /** The row is at an end, and whoever goes on has stored it. */
  drop(): void {
    this.active = false;
  }

  /** Puts all into the env; what is known stays known, so this may be emitted on a way that leads away. */
  store(): void {
    if (!this.active || this.suspended) return;
    const { f, env, state } = this;
    const { ok, top, registers, dp } = this.l;
    const tagsChanged = state.valid.some((v, i) => v !== this.storedValid[i]);
    const topChanged = state.depth !== 0;
    const dirty = registers.flatMap((r, i) => (r.dirty ? [{ ...r, i }] : []));
    const { ip } = this;
    if (!tagsChanged && !topChanged && dirty.length === 0 && !this.statusChanged && ip === undefined) return;
    const store = (): void => {
      for (const { m, e, i } of dirty) {
        const slot = this.slot(i);
        f.store(8, slot, FPU.regs, m);
        f.store(2, slot, FPU.regs + 8, e);
      }
      if (topChanged) f.store(4, env, FPU.top, top.add(state.depth).and(REGISTERS - 1));
      if (tagsChanged) this.storeTags();
      if (this.statusChanged) f.store(2, env, FPU.status, this.statusBits());
      if (ip === undefined) return;
      f.store(8, env, FPU.ip, this.linearAt(ip));
      f.store(2, env, FPU.cs, load('i32_16u', env, CS_SELECTOR));
      if (this.dpChanged) f.store(8, env, FPU.dp, dp);
    };
    f.if(ok, () => f.scope(store), undefined, true);
  }
  private storeTags(): void {
    const { f, env, state } = this;
    const { tags, top } = this.l;
    const bits = (of: (v: boolean | undefined) => boolean): number =>
      state.valid.reduce((sum, v, i) => (of(v) ? sum | (1 << i) : sum), 0);
    const kept = ALL_BITS & ~bits((v) => v !== undefined);
    const rotated = f.copy(
      tags
        .and(kept)
        .or(bits((v) => v === true))
        .shl(top),
    );
    f.store(1, env, FPU.tags, rotated.or(rotated.shrU(REGISTERS)));
  }
  /** The status word without TOP. */
  private statusBits(): Expr {
    const { status, raised, c1 } = this.l;
    const sticky = raised.shrU(FLAGS_SHIFT).and(EXCEPTIONS);
    return status.or(sticky).or(c1.shrU(FLAGS_SHIFT).and(FSW.C1));
  }
  /** i32: wasm address of a register in the env, less FPU.regs. */
  private slot(register: number): Expr {
    const number = this.l.top.add(register).and(REGISTERS - 1);
    return this.f.copy(this.env.add(number.shl(4)));
  }

  // --- a row's beginning ---

  private begin(following: Iterable<KnownStep>): void {
    const plan = planStack(following);
    if (plan.operations < MIN_OPERATIONS) return;
    const { f, env } = this;
    const { ok, top, tags, status, raised, c1, registers } = this.l;
    this.active = true;
    this.left = plan.steps - 1;
    this.storedValid = new Array<boolean | undefined>(REGISTERS).fill(undefined);
    this.state = new StackState((register, valid) => (this.storedValid[register] = valid));
    for (const r of registers) r.dirty = r.loaded = false;
    this.statusChanged = this.dpChanged = false;
    this.ip = undefined;
    f.set(top, load('i32', env, FPU.top));
    f.set(status, load('i32_16u', env, FPU.status));
    const word = load('i32_8u', env, FPU.tags);
    f.set(tags, word.or(word.shl(REGISTERS)).shrU(top));
    const unmasked = load('i32_16u', env, FPU.control).and(EXCEPTIONS).xor(EXCEPTIONS);
    const waiting = status.and(FSW.ES | FSW.B);
    const different = tags.and(plan.mask).xor(plan.valid);
    f.set(ok, unmasked.or(waiting).or(different).eqz());
    f.set(c1, status.shl(FLAGS_SHIFT));
    f.set(status, status.and(0xffff & ~FSW.C1));
    f.set(raised, i32(0));
  }

  // --- registers ---

  private read(i: number): Register {
    const n = this.state.register(i);
    const r = this.l.registers[n];
    if (!r.loaded) {
      const slot = this.slot(n);
      this.f.set(r.m, load('i64', slot, FPU.regs));
      this.f.set(r.e, load('i32_16u', slot, FPU.regs + 8));
      r.loaded = true;
    }
    return r;
  }
  /** A register that is about to be overwritten. */
  private overwrite(i: number): Register {
    const r = this.l.registers[this.state.register(i)];
    r.loaded = r.dirty = true;
    return r;
  }

  // --- instructions ---

  /** Emits `body` for when the row does not work on locals. */
  private aside(body: () => void): void {
    this.suspended = true;
    body();
    this.suspended = false;
  }
  /** An exception may be waiting only when the row does not work on locals. */
  private waiting(ins: JitIns): void {
    this.f.if(this.l.ok.eqz(), () => this.aside(() => checkPending(ins)), undefined, false);
  }
  private raise(flags: Expr): void {
    const { raised, c1 } = this.l;
    this.f.set(raised, raised.or(flags));
    this.f.set(c1, flags);
  }

  private operate(ins: JitIns, stack: StackInstruction, at: number): void {
    const { f } = this;
    const { operation } = stack;
    const { kind } = operation;
    const memory = ins.kinds.includes('m');
    if (memory) this.waiting(ins);
    if (kind === 'storeMemory') {
      this.storeMemory(ins, operation);
    } else {
      const operands = stack.fetch(ins);
      let bits: Local | undefined;
      if (kind === 'compare' && operation.to === 'flags') bits = f.local('i32');
      const general = (): void =>
        this.aside(() => {
          if (!memory) checkPending(ins);
          const compared = stack.perform(ins, operands);
          if (bits !== undefined && compared !== undefined) f.set(bits, compared);
        });
      this.compute(ins, stack, operands, general, bits);
      if (bits !== undefined) setComparedFlags(ins, bits);
    }
    this.state.apply(stack, ins.instruction, ins.kinds.join(''));
    this.ip = at;
    if (memory) {
      f.set(this.l.dp, ins.address(0));
      this.dpChanged = true;
    }
    if (kind !== 'move') this.statusChanged = true;
  }

  /** Everything but stores to memory. `bits` is for what goes to EFLAGS. */
  private compute(
    ins: JitIns,
    { operation, integer }: StackInstruction,
    operands: readonly Expr[],
    general: () => void,
    bits: Local | undefined,
  ): void {
    const { f, env, fns } = this;
    const { ok, status, raised, c1 } = this.l;
    const memory = ins.kinds.includes('m');
    const reg = (n: number): number => ins.instruction.reg[n];
    const either = (usual: () => void): void => f.if(ok, usual, general, true);
    const unlessOk = (): void => f.if(ok.eqz(), general, undefined, false);
    switch (operation.kind) {
      case 'arithmetic':
        return this.arithmetic(ins, operation, operands[0], integer === true, either);
      case 'compare': {
        const a = this.read(0);
        const found = bits ?? f.local('i32');
        const quiet = i32(operation.quiet ? 1 : 0);
        const compare = (m: Expr, e: Expr, flags: Expr): void =>
          f.set(found, f.call(fns.compareNumbers, env, a.m, a.e, m, e, flags, quiet));
        if (operation.zero === true) either(() => compare(i64(0), i32(0), i32(0)));
        else if (memory) {
          const b = memoryNumber(ins, fns, operands[0], integer === true);
          either(() => compare(b.m, b.e, convertUnusual(ins, b)));
        } else {
          const b = this.read(ins.kinds.length === 0 ? 1 : reg(1));
          either(() => compare(b.m, b.e, i32(0)));
        }
        f.set(raised, raised.or(found.shl(FLAGS_SHIFT)));
        if (operation.to === 'flags') return;
        f.set(status, status.and(0xffff & ~CONDITIONS).or(found.and(CONDITIONS)));
        f.set(c1, i32(0));
        return;
      }
      case 'load': {
        if (!memory) {
          const x = this.read(reg(0));
          const to = this.overwrite(-1);
          f.set(to.m, x.m);
          f.set(to.e, x.e);
        } else if (ins.size === 10) {
          const to = this.overwrite(-1);
          f.set(to.m, operands[0]);
          f.set(to.e, operands[1]);
        } else {
          const b = memoryNumber(ins, fns, operands[0], integer === true);
          const to = this.overwrite(-1);
          f.set(to.m, b.m);
          f.set(to.e, b.e);
          if (b.unusual !== undefined) {
            const read = ins.size === 4 ? fns.readFloat32 : fns.readFloat64;
            f.if(
              b.unusual,
              () => {
                f.callInto([to.m, to.e], read, env, operands[0]);
                f.set(raised, raised.or(to.e));
              },
              undefined,
              false,
            );
          }
        }
        f.set(c1, i32(0));
        return unlessOk();
      }
      case 'constant': {
        const to = this.overwrite(-1);
        f.set(to.m, operation.mantissa(ins));
        f.set(to.e, i32(operation.high));
        f.set(c1, i32(0));
        return unlessOk();
      }
      case 'store': {
        const x = this.read(0);
        if (reg(0) !== 0) {
          const to = this.overwrite(reg(0));
          f.set(to.m, x.m);
          f.set(to.e, x.e);
        }
        f.set(c1, i32(0));
        return unlessOk();
      }
      case 'exchange': {
        const [a, b] = [this.read(0), this.read(reg(1))];
        for (const [p, q] of [
          [a.m, b.m],
          [a.e, b.e],
        ] as const) {
          // prettier-ignore
          const old = f.copy(p);
          f.set(p, q);
          f.set(q, old);
        }
        a.dirty = b.dirty = true;
        f.set(c1, i32(0));
        return unlessOk();
      }
      case 'sign': {
        const x = this.read(0);
        f.set(x.e, x.e.and(operation.and).xor(operation.xor));
        x.dirty = true;
        f.set(c1, i32(0));
        return unlessOk();
      }
      case 'unary': {
        const x = this.read(0);
        either(() => f.callInto([x.m, x.e], fns[operation.number], env, x.m, x.e));
        x.dirty = true;
        return this.raise(x.e);
      }
      case 'move': {
        const [a, b] = [this.read(0), this.read(reg(1))];
        f.set(a.m, operands[0].select(b.m, a.m));
        f.set(a.e, operands[0].select(b.e, a.e));
        a.dirty = true;
        return unlessOk();
      }
      case 'examine': {
        const x = this.read(0);
        const found = f.local('i32');
        either(() => f.set(found, f.call(fns.examineNumber, x.m, x.e)));
        f.set(status, status.and(0xffff & ~CONDITIONS).or(found.and(CONDITIONS)));
        return f.set(c1, found.shl(FLAGS_SHIFT));
      }
    }
  }

  private arithmetic(
    ins: JitIns,
    { operation }: Operation<'arithmetic'>,
    operand: Expr | undefined,
    integer: boolean,
    either: (usual: () => void) => void,
  ): void {
    const { f, env, fns } = this;
    const { usual, general, extra, reversed } = operationParts(operation, fns);
    const { reg } = ins.instruction;
    const a = this.read(operand === undefined ? reg[0] : 0);
    const order = <T>(x: T, y: T): [T, T] => (reversed ? [y, x] : [x, y]);
    const compute = (b: { m: Expr; e: Expr }): void => {
      const [x, y] = order<{ m: Expr; e: Expr }>(a, b);
      if (this.inPlace) f.scope(() => computeNumbers(f, env, fns, usual, x, y, a));
      else f.callInto([a.m, a.e], fns[usual], env, x.m, x.e, y.m, y.e);
    };
    if (operand === undefined) {
      const b = this.read(reg[1]);
      either(() => compute(b));
    } else {
      const b = memoryNumber(ins, fns, operand, integer);
      either(() => {
        if (b.unusual === undefined) return compute(b);
        f.if(
          b.unusual.eqz(),
          () => compute(b),
          () => {
            const flags = convertUnusual(ins, b);
            const clean = { m: a.m, e: a.e.and(0xffff) };
            const [x, y] = order<{ m: Expr; e: Expr }>(clean, b);
            f.set(flags, f.call(general, env, x.m, x.e, y.m, y.e, ...extra, flags));
            f.set(a.m, load('i64', env, RESULT.mantissa));
            f.set(a.e, load('i32', env, RESULT.high).or(flags.shl(FLAGS_SHIFT)));
          },
          true,
        );
      });
    }
    a.dirty = true;
    this.raise(a.e);
  }

  private storeMemory(ins: JitIns, operation: Operation<'storeMemory'>): void {
    const { f, env, fns } = this;
    const { formats, truncate, convert, finish } = operation;
    const { ok } = this.l;
    const x = this.read(0);
    // fixed where nothing is conditional
    ins.address(0);
    const m = f.local('i64');
    const e = f.local('i32');
    const flags = f.local('i32');
    f.if(
      ok,
      () => {
        switch (formats[ins.size]) {
          case FORMAT.extended:
            f.set(m, x.m);
            f.set(e, x.e);
            return f.set(flags, i32(0));
          case FORMAT.float32:
          case FORMAT.float64: {
            const [format, convert] =
              ins.size === 4 ? [FLOATS.float32, fns.toFloat32] : [FLOATS.float64, fns.toFloat64];
            const usual = usualFloat(f, env, x, format);
            return f.if(
              usual.condition,
              () => {
                const found = usual.convert();
                f.set(m, found.bits);
                f.set(flags, found.flags);
              },
              () => f.callInto([m, flags], convert, env, x.m, x.e),
              true,
            );
          }
          default:
            return f.callInto(
              [m, flags],
              fns.toInteger,
              env,
              x.m,
              x.e,
              i32(ins.size * 8),
              i32(truncate ? 1 : 0),
            );
        }
      },
      () =>
        this.aside(() => {
          f.set(flags, convert(ins));
          f.if(isStoreStopped(env, flags), () => {
            finish(ins, flags);
            ins.leaveToNext();
          }, undefined, false); // prettier-ignore
          f.set(m, load('i64', env, RESULT.mantissa));
          f.set(e, load('i32', env, RESULT.high));
        }),
      true,
    );
    storeConverted(ins, m, e);
    f.if(ok.eqz(), () => this.aside(() => finish(ins, flags)), undefined, false);
    this.raise(f.copy(flags.shl(FLAGS_SHIFT)));
  }

  // --- control instructions ---

  private readStatus(ins: JitIns): void {
    const { f } = this;
    const { ok, top } = this.l;
    const word = f.local('i32');
    const stackTop = top.add(this.state.depth).and(REGISTERS - 1);
    f.if(
      ok,
      () => f.set(word, this.statusBits().or(stackTop.shl(FSW.TOP_SHIFT))),
      () => f.set(word, statusWord(ins)),
      true,
    );
    if (ins.kinds.includes('m')) ins.store(ins.address(0), word, 2);
    else ins.write(0, word, 2);
  }
  /** The row works on when all exceptions are masked still. */
  private writeControl(ins: JitIns): void {
    const { f, env } = this;
    const { ok } = this.l;
    this.waiting(ins);
    const word = fetchControl(ins);
    f.if(
      ok.and(word.and(EXCEPTIONS).eq(EXCEPTIONS)),
      // none waits, and none does now
      () => f.store(2, env, FPU.control, word),
      () => {
        this.store();
        loadControl(ins, word);
        f.set(ok, i32(0));
      },
      true,
    );
  }
}
