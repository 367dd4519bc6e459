/**
 * What the emitter knows of how large values are in a stretch of code that is executed from its start to its end: the
 * index of a table that came from a byte is below 256, so the table's page can be looked up before the index is known.
 */
import { type Expr, Local, LOCAL_GET } from '../wasm/index.ts';

const MOST = 2 ** 31;
const WORD = { i32: 32, i64: 64, f32: 0, f64: 0, v128: 0 } as const;
// opcodes, i32 and i64 (WebAssembly core specification, 5.4)
const LOAD_8 = [0x2d, 0x31];
const LOAD_16 = [0x2f, 0x33];
const COMPARE = { FIRST: 0x45, LAST: 0x5a } as const;
const ADD = [0x6a, 0x7c];
const AND = [0x71, 0x83];
const OR_XOR = [0x72, 0x73, 0x84, 0x85];
const SHL = [0x74, 0x86];
const SHR_U = [0x76, 0x88];
/** i32.wrap_i64, i64.extend_i32_u */
const SAME = [0xa7, 0xad];
const SELECT = 0x1b;

export class Bounds {
  /** The largest value, without sign, by local's index. */
  private readonly most = new Map<number, number>();

  /** Control may come here from elsewhere: nothing is known. */
  arrive(): void {
    this.most.clear();
  }
  /** A local gets a value, `always` or only sometimes. */
  assigned(local: Local, value: Expr, always: boolean): void {
    const bound = this.of(value);
    const before = always ? 0 : this.most.get(local.index);
    if (bound === undefined || before === undefined) this.most.delete(local.index);
    else this.most.set(local.index, Math.max(bound, before));
  }

  /** A local is known to be at most so much. */
  set(local: Local, most: number): void {
    this.most.set(local.index, most);
  }

  /** The largest value, below 2^31, that an integer expression has as an unsigned number; undefined: not known. */
  of(e: Expr): number | undefined {
    const bound = this.bound(e);
    return bound !== undefined && bound < MOST ? bound : undefined;
  }
  private bound(e: Expr): number | undefined {
    const { code, args } = e;
    if (e.value !== undefined) return Number(BigInt.asUintN(WORD[e.type], BigInt(e.value)));
    if (e instanceof Local || code === LOCAL_GET) return this.most.get(e.imms[0]);
    if (LOAD_8.includes(code)) return 0xff;
    if (LOAD_16.includes(code)) return 0xffff;
    if (code >= COMPARE.FIRST && code <= COMPARE.LAST) return 1;
    if (SAME.includes(code)) return this.of(args[0]);
    if (code === SELECT) return this.both(args[0], args[1], Math.max);
    if (ADD.includes(code)) return this.both(args[0], args[1], (a, b) => a + b);
    if (OR_XOR.includes(code)) return this.both(args[0], args[1], (a, b) => allBits(Math.max(a, b)));
    if (AND.includes(code)) {
      const [a, b] = [this.of(args[0]), this.of(args[1])];
      return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);
    }
    const by = SHL.includes(code) || SHR_U.includes(code) ? args[1].value : undefined;
    if (by === undefined) return undefined;
    const places = Number(by) % WORD[e.type];
    const a = this.of(args[0]);
    if (SHL.includes(code)) return a === undefined ? undefined : a * 2 ** places;
    return a === undefined ? 2 ** (WORD[e.type] - places) - 1 : Math.floor(a / 2 ** places);
  }
  private both(x: Expr, y: Expr, join: (a: number, b: number) => number): number | undefined {
    const [a, b] = [this.of(x), this.of(y)];
    return a === undefined || b === undefined ? undefined : join(a, b);
  }
}

function allBits(n: number): number {
  return 2 ** (32 - Math.clz32(n)) - 1;
}
