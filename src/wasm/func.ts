/** Statements of one generated WebAssembly function. */
import { ByteWriter } from './bytes.ts';
import { Expr, Local, type ValType } from './expr.ts';

export const TYPE_CODE: Record<ValType, number> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b };

/** A block, loop or if that branches can name. */
export interface Label {
  readonly depth: number;
}

/** A function that can be called: its index in the module and its signature. */
export interface FuncRef {
  readonly index: number;
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
}

const STORE = {
  i32: 0x36,
  i64: 0x37,
  f32: 0x38,
  f64: 0x39,
  i32_8: 0x3a,
  i32_16: 0x3b,
  i64_8: 0x3c,
  i64_16: 0x3d,
  i64_32: 0x3e,
  v128: 0xfd000b,
} as const;

const NOP = 0x01;

export class FuncBuilder implements FuncRef {
  readonly index: number;
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
  readonly name: string;
  private readonly code = new ByteWriter(4096);
  private readonly localTypes: ValType[] = [];
  private readonly free: Record<ValType, Local[]> = { i32: [], i64: [], f32: [], f64: [], v128: [] };
  private scopeLocals: Local[] = [];
  private depth = 0;
  /** Called before each assignment of a local variable. */
  onSet: ((local: Local, value: Expr) => void) | undefined;
  private readonly hints: { at: number; likely: number }[] = [];

  constructor(name: string, index: number, params: readonly ValType[], results: readonly ValType[]) {
    this.name = name;
    this.index = index;
    this.params = params;
    this.results = results;
  }

  /** How many blocks, loops and ifs are open. */
  get nesting(): number {
    return this.depth;
  }
  /** Bytes of code so far. */
  get position(): number {
    return this.code.length;
  }
  /** Makes code from one position to another do nothing: whole statements. */
  erase(from: number, to: number): void {
    this.code.buffer.fill(NOP, from, to);
  }

  param(i: number): Local {
    return new Local(this.params[i], i);
  }

  /** A local variable; released for reuse at the end of the enclosing `scope`. Its first value is unspecified unless `init` is given. */
  local(type: ValType, init?: Expr): Local {
    let local = this.free[type].pop();
    if (local === undefined) {
      local = new Local(type, this.params.length + this.localTypes.length);
      this.localTypes.push(type);
    }
    this.scopeLocals.push(local);
    if (init !== undefined) this.set(local, init);
    return local;
  }

  /** Evaluates `e` here, once. Constants and locals are given back as they are: do not reassign the source while the result is in use. */
  let(e: Expr): Expr {
    if (e.isConst || e instanceof Local) return e;
    return this.local(e.type, e);
  }

  /** As `let`, but always a fresh local. */
  copy(e: Expr): Local {
    return this.local(e.type, e);
  }

  /** Runs `body`; locals it made are free for reuse afterwards. */
  scope(body: () => void): void {
    const outer = this.scopeLocals;
    this.scopeLocals = [];
    body();
    for (const l of this.scopeLocals) this.free[l.type].push(l);
    this.scopeLocals = outer;
  }
  /** A local that no scope releases. */
  lasting(type: ValType): Local {
    const local = this.local(type);
    this.scopeLocals.pop();
    return local;
  }

  set(local: Local, e: Expr): void {
    if (local.type !== e.type) throw new TypeError(`set ${local.type} local to ${e.type}`);
    this.onSet?.(local, e);
    this.expr(e);
    this.code.byte(0x21);
    this.code.u32(local.index);
  }

  /** Writes an expression tree; its value is left on the stack. */
  expr(e: Expr): void {
    for (const a of e.args) this.expr(a);
    const { code } = this;
    if (e.value !== undefined) {
      code.byte(e.code);
      switch (e.type) {
        case 'i32':
          code.s32(Number(e.value));
          break;
        case 'i64':
          code.s64(BigInt(e.value));
          break;
        case 'f32':
          code.bytes(new Uint8Array(new Float32Array([Number(e.value)]).buffer));
          break;
        case 'f64':
          code.bytes(new Uint8Array(new Float64Array([Number(e.value)]).buffer));
          break;
      }
      return;
    }
    this.opcode(e.code);
    for (const imm of e.imms) code.u32(imm);
    if (e.raw !== undefined) code.bytes(e.raw);
  }

  private opcode(op: number): void {
    if (op > 0xff) {
      this.code.byte(op >>> 16);
      this.code.u32(op & 0xffff);
    } else {
      this.code.byte(op);
    }
  }

  private storeOp(kind: keyof typeof STORE, addr: Expr, offset: number, value: Expr): void {
    this.expr(addr);
    this.expr(value);
    this.opcode(STORE[kind]);
    this.code.byte(0);
    this.code.u32(offset);
  }
  /** Stores the low `size` bytes (1, 2, 4, 8; 16 for v128) of an i32, i64, f32, f64 or v128 value. */
  store(size: number, addr: Expr, offset: number, value: Expr): void {
    switch (value.type) {
      case 'i32':
        if (size === 8) throw new TypeError('8-byte store of an i32');
        return this.storeOp(size === 1 ? 'i32_8' : size === 2 ? 'i32_16' : 'i32', addr, offset, value);
      case 'i64':
        return this.storeOp(
          size === 1 ? 'i64_8' : size === 2 ? 'i64_16' : size === 4 ? 'i64_32' : 'i64',
          addr,
          offset,
          value,
        );
      default:
        return this.storeOp(value.type, addr, offset, value);
    }
  }
  /** A full fence. */
  fence(): void {
    this.code.bytes([0xfe, 0x03, 0x00]);
  }
  atomicStore32(addr: Expr, offset: number, value: Expr): void {
    this.expr(addr);
    this.expr(value);
    this.code.bytes([0xfe, 0x17, 2]);
    this.code.u32(offset);
  }

  call(func: FuncRef, ...args: Expr[]): Expr {
    if (args.length !== func.params.length) throw new TypeError(`call: ${args.length} arguments`);
    args.forEach((a, i) => {
      if (a.type !== func.params[i])
        throw new TypeError(`call: argument ${i} is ${a.type}, not ${func.params[i]}`);
    });
    return new Expr(func.results[0] ?? 'i32', 0x10, args, [func.index]);
  }
  /** Calls a function with several results and puts them into locals. */
  callInto(locals: readonly Local[], func: FuncRef, ...args: Expr[]): void {
    if (locals.length !== func.results.length) throw new TypeError(`call: ${locals.length} results`);
    const call = this.call(func, ...args);
    this.expr(call);
    for (let i = locals.length - 1; i >= 0; i--) {
      if (locals[i].type !== func.results[i]) throw new TypeError(`call: result ${i} is ${func.results[i]}`);
      this.onSet?.(locals[i], call);
      this.code.byte(0x21);
      this.code.u32(locals[i].index);
    }
  }
  /** Calls table entry `slot` with signature index `typeIndex`. */
  callIndirect(typeIndex: number, result: ValType, slot: Expr, ...args: Expr[]): Expr {
    return new Expr(result, 0x11, [...args, slot], [typeIndex, 0]);
  }
  /** Calls table entry `slot` in place of this function, whose result is its own. */
  returnCallIndirect(typeIndex: number, slot: Expr, ...args: Expr[]): void {
    for (const a of args) this.expr(a);
    this.expr(slot);
    this.code.byte(0x13);
    this.code.u32(typeIndex);
    this.code.u32(0);
  }
  /** Evaluates a call without result, for its effect. */
  run(e: Expr): void {
    this.expr(e);
  }
  drop(e: Expr): void {
    this.expr(e);
    this.code.byte(0x1a);
  }

  block(body: (label: Label) => void): void {
    this.code.bytes([0x02, 0x40]);
    this.body(body);
  }
  loop(body: (label: Label) => void): void {
    this.code.bytes([0x03, 0x40]);
    this.body(body);
  }
  private body(body: (label: Label) => void): void {
    const label = { depth: ++this.depth };
    body(label);
    this.depth--;
    this.code.byte(0x0b);
  }

  /** `likely`: true or false gives V8 a branch hint. */
  if(condition: Expr, then: () => void, otherwise?: () => void, likely?: boolean): void {
    if (condition.value !== undefined) {
      if (Number(condition.value)) then();
      else otherwise?.();
      return;
    }
    this.expr(condition.type === 'i64' ? condition.ne(0) : condition);
    this.hint(likely);
    this.code.bytes([0x04, 0x40]);
    this.depth++;
    then();
    if (otherwise !== undefined) {
      this.code.byte(0x05);
      otherwise();
    }
    this.depth--;
    this.code.byte(0x0b);
  }
  br(label: Label): void {
    this.code.byte(0x0c);
    this.code.u32(this.depth - label.depth);
  }
  brIf(label: Label, condition: Expr, likely?: boolean): void {
    this.expr(condition.type === 'i64' ? condition.ne(0) : condition);
    this.hint(likely);
    this.code.byte(0x0d);
    this.code.u32(this.depth - label.depth);
  }
  private hint(likely: boolean | undefined): void {
    if (likely !== undefined) this.hints.push({ at: this.code.length, likely: likely ? 1 : 0 });
  }
  brTable(index: Expr, labels: readonly Label[], otherwise: Label): void {
    this.expr(index);
    this.code.byte(0x0e);
    this.code.u32(labels.length);
    for (const l of labels) this.code.u32(this.depth - l.depth);
    this.code.u32(this.depth - otherwise.depth);
  }
  /**
   * A switch over dense case numbers: `cases[i]` is emitted for `index == i`, and must leave by a branch or
   * return, or falls out after the switch.
   */
  switch(index: Expr, cases: readonly (() => void)[], otherwise: () => void): void {
    this.block((end) => {
      const labels: Label[] = [];
      const count = cases.length;
      for (let i = 0; i <= count; i++) {
        this.code.bytes([0x02, 0x40]);
        this.depth++;
      }
      for (let i = 0; i <= count; i++) labels.push({ depth: this.depth - i });
      this.brTable(index, labels.slice(0, count), labels[count]);
      for (let i = 0; i <= count; i++) {
        this.code.byte(0x0b);
        this.depth--;
        this.scope(i < count ? cases[i] : otherwise);
        this.br(end);
      }
    });
  }
  ret(...results: Expr[]): void {
    for (const e of results) this.expr(e);
    this.code.byte(0x0f);
  }
  unreachable(): void {
    this.code.byte(0x00);
  }
  /** memory.fill */
  memoryFill(addr: Expr, value: Expr, length: Expr): void {
    this.expr(addr);
    this.expr(value);
    this.expr(length);
    this.code.bytes([0xfc, 0x0b, 0x00]);
  }
  /** memory.copy */
  memoryCopy(to: Expr, from: Expr, length: Expr): void {
    this.expr(to);
    this.expr(from);
    this.expr(length);
    this.code.bytes([0xfc, 0x0a, 0x00, 0x00]);
  }

  /** The function's body as it stands in the code section (without its size), and its branch hints. */
  finish(): { body: ByteWriter; hints: { at: number; likely: number }[] } {
    const body = new ByteWriter(this.code.length + 64);
    const runs: { type: ValType; count: number }[] = [];
    for (const type of this.localTypes) {
      const last = runs.at(-1);
      if (last?.type === type) last.count++;
      else runs.push({ type, count: 1 });
    }
    body.u32(runs.length);
    for (const r of runs) {
      body.u32(r.count);
      body.byte(TYPE_CODE[r.type]);
    }
    const prefix = body.length;
    body.bytes(this.code.view());
    if (this.results.length > 0) body.byte(0x00); // unreachable: every path returns explicitly
    body.byte(0x0b);
    return { body, hints: this.hints.map((h) => ({ at: h.at + prefix, likely: h.likely })) };
  }
}
