/**
 * Prints a function of a module that our builder made as WebAssembly text, in folded form. WebAssembly core
 * specification 3.0, chapters "Binary Format" and "Text Format". Integer and scalar operators that the builder
 * emits are known, vector ones are not.
 */

/** What makes the text readable. */
export interface TextOptions {
  /** Name of a local, without `$`. */
  local(index: number): string | undefined;
  /** A note on the offset of a load or store through a local. */
  offset?(local: number, offset: number): string | undefined;
  /** Longest line; default 110. */
  readonly width?: number;
}

/** A function that cannot be printed. */
export class TextError extends Error {
  readonly code = 'ERR_WASM_TEXT';
}

type Text = string | { readonly head: string; readonly args: readonly Text[] };
interface FuncType {
  readonly params: number;
  readonly results: number;
}

const TYPES: Readonly<Record<number, string>> = {
  0x7f: 'i32',
  0x7e: 'i64',
  0x7d: 'f32',
  0x7c: 'f64',
  0x7b: 'v128',
};
const COMPARE = 'eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u';
const FLOAT_COMPARE = 'eq ne lt gt le ge';
const INTEGER = 'clz ctz popcnt add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr';
const FLOAT = 'abs neg ceil floor trunc nearest sqrt add sub mul div min max copysign';
const of = (type: string, names: string): string[] => names.split(' ').map((n) => `${type}.${n}`);
/** Operators 45 to C4. */
/** More than any function here has. */
const MAX_LOCALS = 4096;
const NUMERIC = [
  ...['i32.eqz', ...of('i32', COMPARE), 'i64.eqz', ...of('i64', COMPARE)],
  ...[...of('f32', FLOAT_COMPARE), ...of('f64', FLOAT_COMPARE)],
  ...[...of('i32', INTEGER), ...of('i64', INTEGER), ...of('f32', FLOAT), ...of('f64', FLOAT)],
  ...of('i32', 'wrap_i64 trunc_f32_s trunc_f32_u trunc_f64_s trunc_f64_u'),
  ...of('i64', 'extend_i32_s extend_i32_u trunc_f32_s trunc_f32_u trunc_f64_s trunc_f64_u'),
  ...of('f32', 'convert_i32_s convert_i32_u convert_i64_s convert_i64_u demote_f64'),
  ...of('f64', 'convert_i32_s convert_i32_u convert_i64_s convert_i64_u promote_f32'),
  ...['i32.reinterpret_f32', 'i64.reinterpret_f64', 'f32.reinterpret_i32', 'f64.reinterpret_i64'],
  ...[...of('i32', 'extend8_s extend16_s'), ...of('i64', 'extend8_s extend16_s extend32_s')],
];
/** Operators 28 to 3E. */
const MEMORY = [
  ...'i32.load i64.load f32.load f64.load i32.load8_s i32.load8_u i32.load16_s i32.load16_u'.split(' '),
  ...'i64.load8_s i64.load8_u i64.load16_s i64.load16_u i64.load32_s i64.load32_u'.split(' '),
  ...'i32.store i64.store f32.store f64.store i32.store8 i32.store16'.split(' '),
  ...'i64.store8 i64.store16 i64.store32'.split(' '),
];
const HANDLER_PARAMS = 2;
const ATOMIC_WIDTHS = 'i32.X i64.X i32.X8 i32.X16 i64.X8 i64.X16 i64.X32'.split(' ');
const ATOMIC_RMW = 'add sub and or xor xchg cmpxchg'.split(' ');

class Reader {
  readonly bytes: Uint8Array;
  at: number;
  constructor(bytes: Uint8Array, at = 0) {
    this.bytes = bytes;
    this.at = at;
  }
  byte(): number {
    return this.bytes[this.at++];
  }
  unsigned(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const b = this.byte();
      value += (b & 127) * 2 ** shift;
      if (b < 128) return value;
    }
  }
  signed(bits: number): bigint {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const b = this.byte();
      value |= BigInt(b & 127) << shift;
      if (b < 128) return BigInt.asIntN(bits, BigInt.asIntN(Number(shift) + 7, value));
    }
  }
  name(): string {
    const length = this.unsigned();
    this.at += length;
    return new TextDecoder().decode(this.bytes.subarray(this.at - length, this.at));
  }
}

class ModuleText {
  private readonly types: FuncType[] = [];
  private readonly names: string[] = [];
  private readonly signatures: FuncType[] = [];
  private readonly bodies: number[] = [];
  private readonly exports = new Map<string, number>();
  private readonly hints = new Map<number, Map<number, number>>();
  private readonly bytes: Uint8Array;
  private readonly options: TextOptions;
  private imported = 0;

  constructor(bytes: Uint8Array, options: TextOptions) {
    this.bytes = bytes;
    this.options = options;
    const r = new Reader(bytes, 8);
    while (r.at < bytes.length) {
      const id = r.byte();
      const size = r.unsigned();
      const end = r.at + size;
      this.section(id, r);
      r.at = end;
    }
  }

  private section(id: number, r: Reader): void {
    if (id === 0) {
      if (r.name() === 'metadata.code.branch_hint') this.readHints(r);
      return;
    }
    const count = r.unsigned();
    for (let i = 0; i < count; i++) {
      if (id === 1) {
        r.byte();
        const params = r.unsigned();
        r.at += params;
        const results = r.unsigned();
        r.at += results;
        this.types.push({ params, results });
      } else if (id === 2) this.readImport(r);
      else if (id === 3) {
        this.names.push(`${this.names.length}`);
        this.signatures.push(this.types[r.unsigned()]);
      } else if (id === 7) {
        const name = r.name();
        const kind = r.byte();
        const index = r.unsigned();
        if (kind === 0) this.exports.set(name, index);
      } else if (id === 10) {
        const size = r.unsigned();
        this.bodies.push(r.at);
        r.at += size;
      }
    }
  }
  private readImport(r: Reader): void {
    r.name();
    const name = r.name();
    const kind = r.byte();
    if (kind === 0) {
      this.names.push(name);
      this.signatures.push(this.types[r.unsigned()]);
      this.imported++;
    } else if (kind === 2) {
      const limits = r.byte();
      r.unsigned();
      if ((limits & 1) !== 0) r.unsigned();
    } else {
      r.byte();
      r.byte();
      r.unsigned();
    }
  }
  private readHints(r: Reader): void {
    for (let n = r.unsigned(); n > 0; n--) {
      const found = new Map<number, number>();
      this.hints.set(r.unsigned(), found);
      for (let h = r.unsigned(); h > 0; h--) {
        const at = r.unsigned();
        r.byte();
        found.set(at, r.byte());
      }
    }
  }

  func(name: string): string[] {
    const index = this.exports.get(name);
    if (index === undefined) throw new Error(`the module exports no function ${name}`);
    const start = this.bodies[index - this.imported];
    const r = new Reader(this.bytes, start);
    const lines: string[] = [];
    const { params } = this.signatures[index];
    let local = params;
    const declared: string[] = [];
    for (let runs = r.unsigned(); runs > 0; runs--) {
      const n = r.unsigned();
      const type = TYPES[r.byte()];
      for (let i = 0; i < n; i++) declared.push(`${this.local(local++)} ${type}`);
    }
    lines.push(`;; locals: ${declared.join(', ')}`);
    this.body(r, index, start, lines);
    return lines;
  }

  private local(index: number): string {
    return `$${this.options.local(index) ?? index}`;
  }

  private body(r: Reader, index: number, start: number, lines: string[]): void {
    const hints = this.hints.get(index) ?? new Map<number, number>();
    const stack: Text[] = [];
    /** Number of each open block, loop or if; -1 for an if. */
    const open: { readonly label: string; readonly isIf: boolean }[] = [];
    let labels = 0;
    const pop = (): Text => stack.pop() ?? '(?)';
    const take = (n: number): Text[] => stack.splice(stack.length - n, n);
    const emit = (t: Text): void => {
      lines.push(...this.layout(t, '  '.repeat(open.length)));
    };
    const push = (head: string, n: number): void => void stack.push({ head, args: take(n) });
    const label = (depth: number): string => open[open.length - 1 - depth]?.label ?? 'func';
    for (;;) {
      const hint = hints.get(r.at - start);
      const note = hint === undefined ? '' : hint === 0 ? ' ;; unlikely' : ' ;; likely';
      const op = r.byte();
      switch (op) {
        case 0x00:
          emit('(unreachable)');
          break;
        case 0x01: // what was taken back
          break;
        case 0x02:
        case 0x03: {
          r.byte();
          const name = `$${op === 2 ? 'B' : 'L'}${labels++}`;
          emit(`(${op === 2 ? 'block' : 'loop'} ${name}`);
          open.push({ label: name, isIf: false });
          break;
        }
        case 0x04: {
          r.byte();
          const condition = this.layout(pop(), '  '.repeat(open.length) + '  ');
          const pad = '  '.repeat(open.length);
          if (condition.length === 1) lines.push(`${pad}(if ${condition[0].trim()} (then${note}`);
          else lines.push(`${pad}(if`, ...condition, `${pad}  (then${note}`);
          open.push({ label: `$I${labels++}`, isIf: true });
          break;
        }
        case 0x05:
          lines.push(`${'  '.repeat(open.length - 1)}) (else`);
          break;
        case 0x0b: {
          const closed = open.pop();
          if (closed === undefined) return;
          lines.push(`${'  '.repeat(open.length)}${closed.isIf ? '))' : ')'}`);
          break;
        }
        case 0x0c:
          emit(`(br ${label(r.unsigned())})`);
          break;
        case 0x0d:
          emit({ head: `br_if ${label(r.unsigned())}`, args: take(1) });
          break;
        case 0x0e: {
          const targets: string[] = [];
          for (let n = r.unsigned(); n >= 0; n--) targets.push(label(r.unsigned()));
          emit({ head: `br_table ${targets.join(' ')}`, args: take(1) });
          break;
        }
        case 0x0f:
          emit({ head: 'return', args: take(Math.min(1, stack.length)) });
          break;
        case 0x10: {
          const callee = r.unsigned();
          const { params, results } = this.signatures[callee];
          const call = { head: `call $${this.names[callee]}`, args: take(params) };
          if (results === 1) stack.push(call);
          else {
            emit(call);
            // what takes them follows
            for (let n = 0; n < results; n++) stack.push(`(;${n};)`);
          }
          break;
        }
        case 0x13: {
          // handlers are the only functions that are called so: (env, record), and the table index
          r.unsigned();
          r.unsigned();
          emit({ head: 'return_call_indirect', args: take(HANDLER_PARAMS + 1) });
          break;
        }
        case 0x1a:
          emit({ head: 'drop', args: take(1) });
          break;
        case 0x1b:
          push('select', 3);
          break;
        case 0x1c:
          for (let n = r.unsigned(); n > 0; n--) r.byte();
          push('select', 3);
          break;
        case 0x20:
          stack.push(`(local.get ${this.local(r.unsigned())})`);
          break;
        case 0x21:
          emit({ head: `local.set ${this.local(r.unsigned())}`, args: take(1) });
          break;
        case 0x41:
          stack.push(`(i32.const ${r.signed(32)})`);
          break;
        case 0x42:
          stack.push(`(i64.const ${r.signed(64)})`);
          break;
        case 0x43:
        case 0x44: {
          const view = new DataView(this.bytes.buffer, this.bytes.byteOffset + r.at, 8);
          stack.push(
            op === 0x43
              ? `(f32.const ${view.getFloat32(0, true)})`
              : `(f64.const ${view.getFloat64(0, true)})`,
          );
          r.at += op === 0x43 ? 4 : 8;
          break;
        }
        case 0xfc: {
          // of the prefix's operators two are emitted, each with its memories
          const copies = r.unsigned() === 0x0a;
          r.at += copies ? 2 : 1;
          emit({ head: copies ? 'memory.copy' : 'memory.fill', args: take(3) });
          break;
        }
        case 0xfd:
          throw new TextError('vector operators have no text here');
        case 0xfe:
          this.atomic(r, stack, emit);
          break;
        default:
          if (op >= 0x28 && op <= 0x3e) {
            r.unsigned();
            const offset = r.unsigned();
            const name = MEMORY[op - 0x28];
            if (op < 0x36) push(this.access(name, offset, stack.at(-1)), 1);
            else emit({ head: this.access(name, offset, stack.at(-2)), args: take(2) });
          } else if (op >= 0x45 && op <= 0xc4) {
            const name = NUMERIC[op - 0x45];
            push(name, isUnary(name) ? 1 : 2);
          } else {
            throw new TextError(`operator ${op.toString(16)} has no text here`);
          }
      }
    }
  }

  private atomic(r: Reader, stack: Text[], emit: (t: Text) => void): void {
    const op = r.unsigned();
    if (op === 3) {
      r.byte();
      return emit('(atomic.fence)');
    }
    r.unsigned();
    const offset = r.unsigned();
    const group = Math.floor((op - 0x10) / 7);
    const place = ATOMIC_WIDTHS[(op - 0x10) % 7];
    if (group === 0) {
      const head = this.access(place.replace('X', 'atomic.load'), offset, stack.at(-1));
      stack.push({ head, args: stack.splice(-1) });
    } else if (group === 1) {
      const head = this.access(place.replace('X', 'atomic.store'), offset, stack.at(-2));
      emit({ head, args: stack.splice(-2) });
    } else {
      const kind = ATOMIC_RMW[group - 2];
      const head = `${place.replace('X', 'atomic.rmw')}.${kind}`;
      const n = kind === 'cmpxchg' ? 3 : 2;
      stack.push({ head: this.access(head, offset, stack.at(-n)), args: stack.splice(-n) });
    }
  }

  private access(name: string, offset: number, address: Text | undefined): string {
    const base = typeof address === 'string' ? /^\(local\.get \$(.*)\)$/.exec(address)?.[1] : undefined;
    let note: string | undefined;
    for (let i = 0; base !== undefined && note === undefined && i < MAX_LOCALS; i++) {
      if (this.local(i) === `$${base}`) note = this.options.offset?.(i, offset);
    }
    return `${name}${offset === 0 ? '' : ` offset=${offset}`}${note === undefined ? '' : ` (;${note};)`}`;
  }

  private layout(t: Text, pad: string): string[] {
    const flat = pad + flatten(t);
    if (typeof t === 'string' || flat.length <= (this.options.width ?? 110)) return [flat];
    const lines = [`${pad}(${t.head}`];
    for (const a of t.args) lines.push(...this.layout(a, `${pad}  `));
    lines[lines.length - 1] += ')';
    return lines;
  }
}

function isUnary(name: string): boolean {
  return /\.(eqz|clz|ctz|popcnt|abs|neg|ceil|floor|trunc|nearest|sqrt|wrap|extend|reinterpret|convert|promote|demote|trunc_)/.test(
    name,
  );
}
function flatten(t: Text): string {
  return typeof t === 'string' ? t : `(${[t.head, ...t.args.map(flatten)].join(' ')})`;
}

/** Lines of the text of the function that `bytes` exports as `name`. */
export function functionText(bytes: Uint8Array, name: string, options: TextOptions): string[] {
  return new ModuleText(bytes, options).func(name);
}
