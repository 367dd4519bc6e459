import { expect, test } from 'vitest';
import { i32, i64, load, ModuleBuilder } from '../../src/wasm/index.ts';

function build(make: (m: ModuleBuilder) => void): Record<string, (...args: never[]) => unknown> {
  const m = new ModuleBuilder();
  m.importMemory('env', 'memory', 1, 1);
  make(m);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const instance = new WebAssembly.Instance(new WebAssembly.Module(m.build()), { env: { memory } });
  return instance.exports as Record<string, (...args: never[]) => unknown>;
}

test('a loop with locals, memory and a conditional computes a sum', () => {
  const { sum } = build((m) => {
    const f = m.func('sum', ['i32'], ['i64']);
    const n = f.param(0);
    const total = f.local('i64', i64(0));
    f.loop((again) => {
      f.store(8, i32(64), 0, total.add(n.i64u()));
      f.set(total, load('i64', i32(64)));
      f.set(n, n.sub(1));
      f.brIf(again, n, true);
    });
    f.ret(total);
    m.exportFunc('sum', f);
  });
  expect(sum(10 as never)).toBe(55n);
});

test('switch selects its case, and the default outside them', () => {
  const { pick } = build((m) => {
    const f = m.func('pick', ['i32'], ['i32']);
    f.switch(
      f.param(0),
      [10, 20, 30].map((v) => () => f.ret(i32(v))),
      () => f.ret(i32(-1)),
    );
    m.exportFunc('pick', f);
  });
  expect([0, 1, 2, 3, -5].map((v) => pick(v as never))).toEqual([10, 20, 30, -1, -1]);
});

test('constants fold as the wrapped operation would', () => {
  expect(i32(0x7fffffff).add(1).value).toBe(-0x80000000);
  expect(i64(-1n).shrU(60n).value).toBe(15n);
  expect(i32(0x180).sext(8).value).toBe(-128);
  expect(i32(-1).i64u().value).toBe(0xffffffffn);
});

test('locals of a finished scope are used again', () => {
  const { f } = build((m) => {
    const fn = m.func('f', [], ['i32']);
    const seen: number[] = [];
    for (let i = 0; i < 3; i++) fn.scope(() => void seen.push(fn.local('i32', i32(i)).index));
    expect(new Set(seen).size).toBe(1);
    fn.ret(i32(1));
    m.exportFunc('f', fn);
  });
  expect(f()).toBe(1);
});
