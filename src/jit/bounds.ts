/**
 * What the emitter knows of how large values are in a stretch of code that is executed from its start to its end: the
 * index of a table that came from a byte is below 256, so the table's page can be looked up before the index is known.
 */
import { type Expr, EXTEND_U, LOAD, Local, LOCAL_GET, SELECT, WRAP } from '../wasm/index.ts';

const MOST = 2 ** 31;
const WORD = { i32: 32, i64: 64, f32: 0, f64: 0, v128: 0 } as const;

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
    if (code === LOAD.i32_8u.code || code === LOAD.i64_8u.code) return 0xff;
    if (code === LOAD.i32_16u.code || code === LOAD.i64_16u.code) return 0xffff;
    if (e.isComparison) return 1;
    if (code === WRAP || code === EXTEND_U) return this.of(args[0]);
    if (code === SELECT) return this.both(args[0], args[1], Math.max);
    if (e.is('add')) return this.both(args[0], args[1], (a, b) => a + b);
    if (e.is('or') || e.is('xor')) return this.both(args[0], args[1], (a, b) => allBits(Math.max(a, b)));
    if (e.is('and')) {
      const [a, b] = [this.of(args[0]), this.of(args[1])];
      return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);
    }
    const left = e.is('shl');
    const by = left || e.is('shr_u') ? args[1].value : undefined;
    if (by === undefined) return undefined;
    const places = Number(by) % WORD[e.type];
    const a = this.of(args[0]);
    if (left) return a === undefined ? undefined : a * 2 ** places;
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
