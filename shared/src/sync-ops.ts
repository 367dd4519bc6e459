/**
 * The one seam through which every atomic operation goes. Addresses are byte offsets in the buffer,
 * multiples of 4 (of 8 for the float64 pair). All operations are sequentially consistent, so the
 * memory-order arguments of the primitives may speak of one total order of all operations.
 *
 * Two implementations work on real memory and can be mixed on the same bytes, waits included: a
 * small wasm module over a shared `WebAssembly.Memory` (about half the cost of `Atomics.*`, and no
 * BigInt for 64 bits), and `Atomics.*` for any other shared buffer. A model checker supplies a third.
 */
import { SyncError } from './errors.ts';
import { viewsOf } from './struct.ts';

/** Results of a wait: woken by notify, the word had another value, the time is over. */
export const WAIT_OK = 0;
export const WAIT_NOT_EQUAL = 1;
export const WAIT_TIMED_OUT = 2;
export type WaitResult = typeof WAIT_OK | typeof WAIT_NOT_EQUAL | typeof WAIT_TIMED_OUT;

/** Atomic operations on one shared memory. *Thread:* any. *Lock:* none. */
export interface SyncOps {
  load(addr: number): number;
  store(addr: number, value: number): void;
  /** Returns the old value; stored only if that equals `expected`. */
  compareExchange(addr: number, expected: number, value: number): number;
  /** The read-modify-write operations return the old value. */
  exchange(addr: number, value: number): number;
  add(addr: number, value: number): number;
  or(addr: number, value: number): number;
  and(addr: number, value: number): number;
  /** A float64 (a time in ns) as one atomic 64-bit word; `addr` is a multiple of 8. */
  loadF64(addr: number): number;
  storeF64(addr: number, value: number): void;
  /**
   * Sleeps while the word equals `expected`, at most `timeoutNs` (`Infinity`: for ever; the engine
   * counts microseconds, so it may end up to 1 µs early). Waiters are woken first come, first
   * served. *May block:* yes.
   */
  wait(addr: number, expected: number, timeoutNs: number): WaitResult;
  /**
   * As `wait`, without blocking the thread: a promise when it has to wait. The timeout has
   * millisecond grain and may end early, so look at a clock afterwards. A pending wait does not
   * keep the thread alive; see `keepAlive`.
   */
  waitAsync(addr: number, expected: number, timeoutNs: number): WaitResult | Promise<WaitResult>;
  /** Wakes at most `count` waiters (`Infinity`: all), blocking and async alike; returns how many. */
  notify(addr: number, count: number): number;
  /** Tells the processor that this thread spins. */
  pause(): void;
  /** Monotonic time in ns from an arbitrary start, for timeouts only. */
  now(): number;
}

const RESULT: Record<'ok' | 'not-equal' | 'timed-out', WaitResult> = {
  ok: WAIT_OK,
  'not-equal': WAIT_NOT_EQUAL,
  'timed-out': WAIT_TIMED_OUT,
};

function waitAsyncOn(
  i32: Int32Array<SharedArrayBuffer>,
  addr: number,
  expected: number,
  timeoutNs: number,
): WaitResult | Promise<WaitResult> {
  const result = Atomics.waitAsync(i32, addr >>> 2, expected | 0, Math.ceil(timeoutNs / 1e6));
  return result.async ? result.value.then((r) => RESULT[r]) : RESULT[result.value];
}

// `Atomics.pause` is newer than the oldest engine supported; without it the loop's loads must do.
const atomicsPause = (Atomics as { pause?: () => void }).pause;
const pause: () => void = atomicsPause === undefined ? () => {} : () => atomicsPause();
const now = (): number => performance.now() * 1e6;

// --- The wasm module (WebAssembly core specification 3.0, section 5; threads: prefix 0xFE) ---

const I32 = 0x7f;
const F64 = 0x7c;
const LOCAL_GET = 0x20;
const END = 0x0b;
const ATOMIC = 0xfe;

/** Operand of an atomic instruction: log2 of the natural alignment, offset 0. */
const AT_I32 = [2, 0];
const AT_I64 = [3, 0];

interface WasmFunction {
  readonly params: readonly number[];
  readonly results: readonly number[];
  readonly body: readonly number[];
}

const get = (...locals: number[]): number[] => locals.flatMap((i) => [LOCAL_GET, i]);
const f64Const = (value: number): number[] => [0x44, ...new Uint8Array(new Float64Array([value]).buffer)];
const rmw = (opcode: number): WasmFunction => ({
  params: [I32, I32],
  results: [I32],
  body: [...get(0, 1), ATOMIC, opcode, ...AT_I32],
});

const FUNCTIONS: Record<string, WasmFunction> = {
  load: { params: [I32], results: [I32], body: [...get(0), ATOMIC, 0x10, ...AT_I32] },
  store: { params: [I32, I32], results: [], body: [...get(0, 1), ATOMIC, 0x17, ...AT_I32] },
  compareExchange: {
    params: [I32, I32, I32],
    results: [I32],
    body: [...get(0, 1, 2), ATOMIC, 0x48, ...AT_I32],
  },
  exchange: rmw(0x41),
  add: rmw(0x1e),
  or: rmw(0x33),
  and: rmw(0x2c),
  loadF64: {
    params: [I32],
    results: [F64],
    body: [...get(0), ATOMIC, 0x11, ...AT_I64, 0xbf /* f64.reinterpret_i64 */],
  },
  storeF64: {
    params: [I32, F64],
    results: [],
    body: [...get(0, 1), 0xbd /* i64.reinterpret_f64 */, ATOMIC, 0x18, ...AT_I64],
  },
  wait: {
    params: [I32, I32, F64],
    results: [I32],
    body: [
      ...get(0, 1),
      ...[0x42, 0x7f], // i64.const -1: no timeout
      ...get(2),
      ...f64Const(0),
      0xa5, // f64.max: a time in the past is no wait, a negative number would be for ever
      ...[0xfc, 0x06], // i64.trunc_sat_f64_s
      ...get(2),
      ...f64Const(2 ** 62),
      0x66, // f64.ge
      0x1b, // select
      ...[ATOMIC, 0x01, ...AT_I32], // memory.atomic.wait32
    ],
  },
  notify: rmw(0x00), // memory.atomic.notify has the same shape
};

function leb(value: number): number[] {
  const out: number[] = [];
  for (; value >= 0x80; value = Math.floor(value / 128)) out.push((value % 128) | 0x80);
  out.push(value);
  return out;
}
const vector = (items: readonly (readonly number[])[]): number[] => [...leb(items.length), ...items.flat()];
const text = (s: string): number[] => [...leb(s.length), ...new TextEncoder().encode(s)];
const section = (id: number, content: readonly number[]): number[] => [
  id,
  ...leb(content.length),
  ...content,
];

/** The bytes of a module that imports `e.m`, a shared memory of any size, and exports FUNCTIONS. */
function moduleBytes(): Uint8Array<ArrayBuffer> {
  const names = Object.keys(FUNCTIONS);
  const types = names.map((name) => {
    const { params, results } = FUNCTIONS[name];
    return [0x60, ...vector(params.map((t) => [t])), ...vector(results.map((t) => [t]))];
  });
  const bodies = names.map((name) => {
    const code = [0 /* no locals */, ...FUNCTIONS[name].body, END];
    return [...leb(code.length), ...code];
  });
  const memoryType = [0x02 /* memory */, 0x03 /* shared, with a maximum */, ...leb(0), ...leb(65536)];
  return new Uint8Array([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, vector(types)),
    ...section(2, vector([[...text('e'), ...text('m'), ...memoryType]])),
    ...section(3, vector(names.map((_, i) => leb(i)))),
    ...section(7, vector(names.map((name, i) => [...text(name), 0x00, ...leb(i)]))),
    ...section(10, vector(bodies)),
  ]);
}

let compiled: WebAssembly.Module | undefined;

/** Operations on a shared wasm memory, made by wasm. @throws SyncError `bad-argument` if not shared */
export function wasmSyncOps(memory: WebAssembly.Memory): SyncOps {
  const buffer: ArrayBufferLike = memory.buffer;
  if (!(buffer instanceof SharedArrayBuffer)) throw new SyncError('bad-argument', 'memory is not shared');
  compiled ??= new WebAssembly.Module(moduleBytes());
  const wasm = new WebAssembly.Instance(compiled, { e: { m: memory } }).exports as unknown as SyncOps;
  const { i32 } = viewsOf(buffer);
  const { notify } = wasm;
  return {
    load: wasm.load,
    store: wasm.store,
    compareExchange: wasm.compareExchange,
    exchange: wasm.exchange,
    add: wasm.add,
    or: wasm.or,
    and: wasm.and,
    loadF64: wasm.loadF64,
    storeF64: wasm.storeF64,
    wait: wasm.wait,
    waitAsync: (addr, expected, timeoutNs) => waitAsyncOn(i32, addr, expected, timeoutNs),
    // Infinity would become 0; the instruction takes an unsigned count.
    notify: (addr, count) => notify(addr, count > 0x7fffffff ? -1 : count),
    pause,
    now,
  };
}

/** Operations on any shared buffer, made by `Atomics`. */
export function jsSyncOps(buffer: SharedArrayBuffer): SyncOps {
  const { i32, i64 } = viewsOf(buffer);
  const f64Bits = new Float64Array(1);
  const i64Bits = new BigInt64Array(f64Bits.buffer);
  return {
    load: (addr) => Atomics.load(i32, addr >>> 2),
    store: (addr, value) => {
      Atomics.store(i32, addr >>> 2, value);
    },
    compareExchange: (addr, expected, value) => Atomics.compareExchange(i32, addr >>> 2, expected, value),
    exchange: (addr, value) => Atomics.exchange(i32, addr >>> 2, value),
    add: (addr, value) => Atomics.add(i32, addr >>> 2, value),
    or: (addr, value) => Atomics.or(i32, addr >>> 2, value),
    and: (addr, value) => Atomics.and(i32, addr >>> 2, value),
    loadF64: (addr) => {
      i64Bits[0] = Atomics.load(i64, addr >>> 3);
      return f64Bits[0];
    },
    storeF64: (addr, value) => {
      f64Bits[0] = value;
      Atomics.store(i64, addr >>> 3, i64Bits[0]);
    },
    wait: (addr, expected, timeoutNs) => RESULT[Atomics.wait(i32, addr >>> 2, expected | 0, timeoutNs / 1e6)],
    waitAsync: (addr, expected, timeoutNs) => waitAsyncOn(i32, addr, expected, timeoutNs),
    notify: (addr, count) => Atomics.notify(i32, addr >>> 2, count),
    pause,
    now,
  };
}

const registry = new WeakMap<SharedArrayBuffer, SyncOps>();

/**
 * Makes `opsFor(memory.buffer)` the wasm operations; once per thread and memory, before the first
 * use of the buffer. The memory must not grow (growing makes a new buffer object). *Thread:* any.
 */
export function registerMemory(memory: WebAssembly.Memory): SyncOps {
  const ops = wasmSyncOps(memory);
  registry.set(memory.buffer as ArrayBufferLike as SharedArrayBuffer, ops);
  return ops;
}

/** The operations of a buffer: those of its registered memory, else `Atomics`. *Thread:* any. */
export function opsFor(buffer: SharedArrayBuffer): SyncOps {
  let ops = registry.get(buffer);
  if (ops === undefined) {
    ops = jsSyncOps(buffer);
    registry.set(buffer, ops);
  }
  return ops;
}

let alive = 0;
let aliveTimer: NodeJS.Timeout | undefined;

/**
 * Keeps the thread's event loop alive until `promise` settles: a pending `waitAsync` alone does not,
 * so a process with nothing else to do would end in the middle of it.
 */
export async function keepAlive<T>(promise: T | Promise<T>): Promise<T> {
  // One timer far in the future (2^31-1 ms is the longest there is) for all pending waits.
  const again = (): void => {
    aliveTimer = setTimeout(again, 0x7fffffff);
  };
  if (alive++ === 0) again();
  try {
    return await promise;
  } finally {
    if (--alive === 0) clearTimeout(aliveTimer);
  }
}
