/** Small WebAssembly modules that show what V8 does with generated code (`v8.test.ts`, `v8-worker.ts`). */
import { atomicLoad8, type FuncBuilder, i32, load, type Local, ModuleBuilder } from '../../src/wasm/index.ts';

/** Words of the shared memory, as byte addresses. */
export const WORD = { X: 0, Y: 64, STOP: 128, GO: 192, ZERO: 256 } as const;
export const newMemory = (): WebAssembly.Memory =>
  new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });

function compile(make: (m: ModuleBuilder) => void): WebAssembly.Module {
  const m = new ModuleBuilder();
  m.importMemory('env', 'memory', 1, 1);
  make(m);
  return new WebAssembly.Module(m.build());
}

/** Multiplications between the two loads: long enough for another thread to write in between. */
const STEPS = 400;

/** What the emitter of regions has between two loads: an atomic load of the exit word, or a register's store to the env. */
export type Barrier = 'none' | 'load' | 'store';

/** `run(rounds) → how often two loads of X gave different values`, with a barrier before each load. */
export function twoLoads(barrier: Barrier): WebAssembly.Module {
  return compile((m) => {
    const f = m.func('run', ['i32'], ['i32']);
    const rounds = f.param(0);
    const different = f.local('i32', i32(0));
    const product = f.local('i32', i32(1));
    // 0, which V8 does not know
    const env = f.copy(load('i32', i32(0), WORD.ZERO));
    const host = f.copy(env.add(WORD.X));
    const loadX = () => {
      if (barrier === 'load') f.drop(atomicLoad8(env, WORD.Y));
      if (barrier === 'store') f.store(4, env, WORD.Y, rounds);
      return f.copy(load('i32', host));
    };
    f.loop((again) => {
      const first = loadX();
      for (let i = 0; i < STEPS; i++) f.set(product, product.mul(3).add(first));
      // a branch on the product: what follows is not done before it
      f.if(product.eq(i32(0x12345)), () => f.unreachable(), undefined, false);
      const second = loadX();
      f.set(different, different.add(first.ne(second)));
      f.set(product, product.or(1));
      f.set(rounds, rounds.sub(1));
      f.brIf(again, rounds, true);
    });
    f.ret(different);
    m.exportFunc('run', f);
  });
}

/** One turn of a loop as regions have it: flags are computed at each step, and only the last are read. */
function turn(f: FuncBuilder, sum: Local, flags: Local, left: Local): void {
  for (let step = 0; step < 12; step++) {
    const before = f.copy(sum);
    f.set(sum, step === 5 ? sum.xor(load('i32', sum.and(0xff0), 0x1000)) : sum.add(left.xor(step)));
    f.set(
      flags,
      before
        .and(left)
        .or(before.or(left).and(sum.xor(-1)))
        .shrU(7)
        .xor(before),
    );
  }
  f.set(sum, sum.add(flags));
  f.set(left, left.sub(1));
}

/** `run(turns) → a number`. `variant` makes the module's bytes its own. */
export function loop(variant: number): WebAssembly.Module {
  return compile((m) => {
    const f = m.func('run', ['i32'], ['i32']);
    const sum = f.local('i32', i32(variant));
    const flags = f.local('i32');
    f.loop((again) => {
      turn(f, sum, flags, f.param(0));
      f.brIf(again, f.param(0), true);
    });
    f.ret(sum);
    m.exportFunc('run', f);
  });
}

/** `run(chunks, turns)`: the same loop, with a call of the import `tick` after each chunk. */
export function chunkedLoop(): WebAssembly.Module {
  return compile((m) => {
    const tick = m.importFunc('env', 'tick', [], ['i32']);
    const f = m.func('run', ['i32', 'i32'], ['i32']);
    const [chunks, turns] = [f.param(0), f.param(1)];
    const left = f.local('i32');
    const sum = f.local('i32', i32(7));
    const flags = f.local('i32');
    f.loop((next) => {
      f.set(left, turns);
      f.loop((again) => {
        turn(f, sum, flags, left);
        f.brIf(again, left, true);
      });
      f.set(sum, sum.add(f.call(tick)));
      f.set(chunks, chunks.sub(1));
      f.brIf(next, chunks, true);
    });
    f.ret(sum);
    m.exportFunc('run', f);
  });
}

/** Shortest of some calls of `run(turns)`, ms: the host's other work only adds. */
export function shortest(run: (turns: number) => number, turns: number, calls: number): number {
  let least = Infinity;
  for (let i = 0; i < calls; i++) {
    const start = performance.now();
    run(turns);
    least = Math.min(least, performance.now() - start);
  }
  return least;
}
