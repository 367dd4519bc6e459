/** How large the emitter knows values to be. */
import { describe, expect, test } from 'vitest';
import { Bounds } from '../../src/jit/bounds.ts';
import { i32, i64, load, Local } from '../../src/wasm/index.ts';

const a = new Local('i32', 0);
const b = new Local('i32', 1);
const wide = new Local('i64', 2);
const address = new Local('i32', 3);

function known(): Bounds {
  const bounds = new Bounds();
  bounds.assigned(a, load('i32_8u', address), true);
  bounds.assigned(b, i32(9), true);
  bounds.assigned(wide, a.i64u(), true);
  return bounds;
}

describe('bounds', () => {
  test('of loads, constants and what is computed from them', () => {
    const bounds = known();
    expect(bounds.of(a)).toBe(255);
    expect(bounds.of(wide)).toBe(255);
    expect(bounds.of(wide.i32())).toBe(255);
    expect(bounds.of(a.add(b))).toBe(264);
    expect(bounds.of(a.or(b))).toBe(255);
    expect(bounds.of(b.xor(b.shl(1)))).toBe(31);
    expect(bounds.of(a.shl(3))).toBe(2040);
    expect(bounds.of(a.shrU(4))).toBe(15);
    expect(bounds.of(a.and(7))).toBe(7);
    expect(bounds.of(address.and(0x3f))).toBe(63);
    expect(bounds.of(address.shrU(24))).toBe(255);
    expect(bounds.of(new Local('i64', 9).shrU(60))).toBe(15);
    expect(bounds.of(a.eq(b))).toBe(1);
    expect(bounds.of(a.eq(b).select(a, b))).toBe(255);
    expect(bounds.of(load('i32_16u', address))).toBe(65535);
    expect(bounds.of(i64(-1n))).toBeUndefined();
  });
  test('of nothing else', () => {
    const bounds = known();
    expect(bounds.of(address)).toBeUndefined();
    expect(bounds.of(a.sub(b))).toBeUndefined();
    expect(bounds.of(load('i32_8s', address))).toBeUndefined();
    expect(bounds.of(load('i32', address))).toBeUndefined();
    expect(bounds.of(a.shl(b))).toBeUndefined();
    expect(bounds.of(a.shl(24))).toBeUndefined();
    expect(bounds.of(a.or(address))).toBeUndefined();
    expect(bounds.of(new Local('i64', 9).i32())).toBeUndefined();
  });
  test('a value that is assigned sometimes has the larger bound, if both are known', () => {
    const bounds = known();
    bounds.assigned(b, i32(300), false);
    expect(bounds.of(b)).toBe(300);
    bounds.assigned(b, i32(3), false);
    expect(bounds.of(b)).toBe(300);
    bounds.assigned(b, address, false);
    expect(bounds.of(b)).toBeUndefined();
    bounds.assigned(b, i32(3), false);
    expect(bounds.of(b)).toBeUndefined();
    bounds.assigned(b, i32(3), true);
    expect(bounds.of(b)).toBe(3);
  });
  test('nothing is known where control comes from elsewhere', () => {
    const bounds = known();
    bounds.arrive();
    expect(bounds.of(a)).toBeUndefined();
  });
});
