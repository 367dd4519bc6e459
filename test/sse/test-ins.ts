/** A minimal emission context: operands in fixed env slots, memory at a fixed address, no MMU. */
import { Expr, type FuncBuilder, i32, i64, load } from '../../src/wasm/index.ts';
import { CpuEnv, XMM_STRIDE } from '../../src/cpu/env.ts';
import { EnvFlagStorage, FlagEmitter } from '../../src/cpu/sem/flag-emitter.ts';
import type { Ins, OperandKind } from '../../src/cpu/sem/ins.ts';

export const ENV = 0x1_0000;
/** Memory operand. */
export const MEMORY = 0x2_0000;
/** i32: the immediate, where it is not known when code is generated. */
export const IMMEDIATE = 0x2_1000;
/** What a test function returns when no exception was raised. */
export const DONE = -1;
/** Register numbers of operands 0, 1, 2: XMM and MMX, general. */
const VECTOR = [1, 2, 0];
const GENERAL = [8, 9, 0];

const OFF = {
  regs: CpuEnv.offsetOf('regs'),
  xmm: CpuEnv.offsetOf('xmm'),
  fp: CpuEnv.offsetOf('fpRegs'),
};
const KIND = { 1: 'i32_8u', 2: 'i32_16u', 4: 'i32', 8: 'i64', 16: 'v128' } as const;

function loadOf(size: number, address: Expr, offset = 0): Expr {
  return load(KIND[size as keyof typeof KIND], address, offset);
}

export class TestIns implements Ins {
  readonly f: FuncBuilder;
  readonly env: Expr = i32(ENV);
  readonly size: number;
  readonly addressSize: number;
  readonly kinds: readonly OperandKind[];
  readonly cond = 0;
  readonly lock = false;
  readonly rep = 0;
  readonly flags: FlagEmitter;
  private readonly immediate: number | undefined;

  constructor(f: FuncBuilder, form: string, size: number, immediate: number | undefined, addressSize = 8) {
    this.f = f;
    this.kinds = [...form] as OperandKind[];
    this.size = size;
    this.addressSize = addressSize;
    this.immediate = immediate;
    const at = {
      res: CpuEnv.offsetOf('flagRes'),
      carry: CpuEnv.offsetOf('flagCarry'),
      aux: CpuEnv.offsetOf('flagAux'),
    };
    this.flags = new FlagEmitter(f, new EnvFlagStorage(f, this.env, at, load), true);
  }

  movedAddress(n: number, delta: Expr): Expr {
    return this.f.copy(this.address(n).add(delta));
  }
  imm(_n: number, size = this.size): Expr {
    const value = this.immediate === undefined ? load('i32', i32(IMMEDIATE)) : i32(this.immediate);
    return size === 8 ? value.i64s() : value;
  }
  private general(n: number): number {
    return OFF.regs + GENERAL[n] * 8;
  }
  read(n: number, size = this.size): Expr {
    switch (this.kinds[n]) {
      case 'r':
        return this.f.copy(loadOf(size, this.env, this.general(n)));
      case 'm':
        return this.load(this.address(n), size);
      case 'i':
        return this.f.let(this.imm(n, size));
      default:
        throw new Error(`operand ${n} is no integer`);
    }
  }
  private writeGeneral(offset: number, value: Expr, size: number): void {
    if (size === 4) this.f.store(8, this.env, offset, value.i64u());
    else this.f.store(size, this.env, offset, value);
  }
  write(n: number, value: Expr, size = this.size): void {
    if (this.kinds[n] === 'm') this.store(this.address(n), value, size);
    else this.writeGeneral(this.general(n), value, size);
  }
  modify(n: number, change: (old: Expr) => Expr, size = this.size): void {
    this.write(n, change(this.read(n, size)), size);
  }
  address(_n: number): Expr {
    return i64(MEMORY);
  }
  reg(r: number, size = this.size): Expr {
    return loadOf(size, this.env, OFF.regs + r * 8);
  }
  setReg(r: number, value: Expr, size = this.size): void {
    this.writeGeneral(OFF.regs + r * 8, value, size);
  }
  load(address: Expr, size: number): Expr {
    return this.f.copy(loadOf(size, address.i32()));
  }
  store(address: Expr, value: Expr, size: number): void {
    this.f.store(size, address.i32(), 0, value);
  }
  modifyAt(address: Expr, size: number, change: (old: Expr) => Expr): void {
    this.store(address, change(this.load(address, size)), size);
  }
  probeWrite(address: Expr): Expr {
    return this.f.let(address.i32());
  }
  commit(): void {}
  divide128(): Expr {
    throw new Error('no integer division');
  }
  tlbAddress(address: Expr): Expr {
    return address.i32();
  }
  sourceBase(): Expr {
    return i64(0);
  }
  esBase(): Expr {
    return i64(0);
  }
  linear(base: Expr, offset: Expr): Expr {
    return this.f.let(base.add(offset));
  }
  vectorSlot(n: number): { base: Expr; offset: number } {
    const offset = this.kinds[n] === 'x' ? OFF.xmm + VECTOR[n] * XMM_STRIDE : OFF.fp + VECTOR[n] * 16;
    return { base: this.env, offset };
  }
  readV128(n: number, unaligned = false): Expr {
    if (this.kinds[n] === 'm') {
      if (!unaligned) this.alignment(n);
      return this.load(this.address(n), 16);
    }
    const { base, offset } = this.vectorSlot(n);
    return this.f.copy(load('v128', base, offset));
  }
  private alignment(n: number): void {
    this.f.if(this.address(n).i32().and(15), () => this.raise(13));
  }
  writeV128(n: number, value: Expr, unaligned = false): void {
    if (this.kinds[n] === 'm') {
      if (!unaligned) this.alignment(n);
      return this.store(this.address(n), value, 16);
    }
    const { base, offset } = this.vectorSlot(n);
    return this.f.store(16, base, offset, value);
  }
  readLow(n: number, size: number): Expr {
    if (this.kinds[n] === 'm') return this.load(this.address(n), size);
    const { base, offset } = this.vectorSlot(n);
    return this.f.copy(loadOf(size, base, offset));
  }
  writeLow(n: number, value: Expr, size: number): void {
    if (this.kinds[n] === 'm') return this.store(this.address(n), value, size);
    const { base, offset } = this.vectorSlot(n);
    return this.f.store(size, base, offset, value);
  }
  envLoad(kind: 'i32' | 'i64' | 'i32_8u' | 'i32_16u' | 'v128', offset: number): Expr {
    return load(kind, this.env, offset);
  }
  envStore(size: number, offset: number, value: Expr): void {
    this.f.store(size, this.env, offset, value);
  }
  raise(vector: number): void {
    this.f.ret(i32(vector));
  }
  helper(name: string): void {
    throw new Error(`helper ${name}`);
  }
  jump(): void {
    throw new Error('jump');
  }
  notTaken(): void {
    throw new Error('jump');
  }
  jumpRelative(): void {
    throw new Error('jump');
  }
  nextIp(): Expr {
    return i64(0);
  }
  stIndex(): Expr {
    throw new Error('no x87 operand');
  }
  instructionIp(): Expr {
    return i64(0);
  }
  interruptible(): void {}
  next(): void {
    this.f.ret(i32(DONE));
  }
  endBlock(): void {
    this.f.ret(i32(DONE));
  }
}
