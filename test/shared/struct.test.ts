import { describe, expect, test } from 'vitest';
import {
  array,
  atomicI32,
  atomicNs,
  bool,
  bytes,
  f64,
  i32,
  Mutex,
  ns,
  padTo,
  placed,
  placedRing,
  SpscRing,
  struct,
  u16,
  u32,
  u64,
  u8,
  viewsOf,
} from '@smp86/atomics-sync';

const buffer = () => new SharedArrayBuffer(4096);

describe('layout', () => {
  test('fields lie in order, each at its natural alignment', () => {
    const S = struct({ a: u8, b: u16, c: u8, d: u32, e: u8, f: f64, g: bool, h: u64 });
    expect((['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'] as const).map((name) => S.offsetOf(name))).toEqual([
      0, 2, 4, 8, 12, 16, 24, 32,
    ]);
    expect(S.align).toBe(8);
    expect(S.size).toBe(40);
  });

  test('the size is a multiple of the alignment', () => {
    expect(struct({ a: u32, b: u8 }).size).toBe(8);
    expect(struct({ a: u8 }).size).toBe(1);
  });

  test('padTo starts the next field on a cache line', () => {
    const S = struct({ a: u8, pad: padTo(64), b: u8 });
    expect(S.offsetOf('b')).toBe(64);
    expect(S.align).toBe(64);
    expect(S.size).toBe(128);
  });

  test('a nested struct and an array keep the alignment of their elements', () => {
    const Inner = struct({ x: u8, y: u32 });
    const S = struct({ a: u8, inner: Inner, list: array(Inner, 3), after: u8, wide: array(u64, 2) });
    expect(S.offsetOf('inner')).toBe(4);
    expect(S.offsetOf('list')).toBe(12);
    expect(S.offsetOf('after')).toBe(36);
    expect(S.offsetOf('wide')).toBe(40);
    expect(S.size).toBe(56);
  });

  test('a misaligned or too far place is refused', () => {
    const S = struct({ a: u32 });
    expect(() => S.at(buffer(), 2)).toThrow(RangeError);
    expect(() => S.at(buffer(), 4096)).toThrow(RangeError);
    expect(S.at(buffer(), 4092).a).toBe(0);
  });

  test('an unknown field has no offset', () => {
    expect(() => struct({ a: u32 }).offsetOf('b' as 'a')).toThrow(RangeError);
  });
});

describe('plain fields', () => {
  const S = struct({ b: u8, flag: bool, h: u16, w: u32, s: i32, f: f64, t: ns, q: u64 });

  test('each is read and written at its width', () => {
    const shared = buffer();
    const s = S.at(shared, 64);
    const { u8: raw } = viewsOf(shared);
    s.b = 0x1ff;
    s.h = 0x12345;
    s.w = -1;
    s.s = 0xffffffff;
    s.f = 0.1;
    s.t = Infinity;
    s.q = 0x1122334455667788n;
    s.flag = true;
    expect([s.b, s.h, s.w, s.s, s.f, s.t, s.q, s.flag]).toEqual([
      0xff,
      0x2345,
      0xffffffff,
      -1,
      0.1,
      Infinity,
      0x1122334455667788n,
      true,
    ]);
    const q = 64 + S.offsetOf('q');
    expect([...raw.slice(q, q + 8)]).toEqual([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
  });

  test('neighbours do not touch each other', () => {
    const s = S.at(buffer(), 0);
    s.b = 255;
    s.h = 65535;
    s.s = -1;
    expect([s.flag, s.w, s.f, s.q]).toEqual([false, 0, 0, 0n]);
  });

  test('u64 wraps as 64 bits do', () => {
    const s = S.at(buffer(), 0);
    s.q = -1n;
    expect(s.q).toBe(0xffff_ffff_ffff_ffffn);
    s.q += 1n;
    expect(s.q).toBe(0n);
  });

  test('two views of one place see the same', () => {
    const shared = buffer();
    S.at(shared, 128).w = 7;
    expect(S.at(shared, 128).w).toBe(7);
    expect(S.at(shared, 192).w).toBe(0);
  });

  test('a place above 2 GiB is addressed right', () => {
    const memory = new WebAssembly.Memory({ initial: 40960, maximum: 40960, shared: true });
    const shared = memory.buffer as ArrayBufferLike as SharedArrayBuffer;
    const at = 2 ** 31 + 4096;
    const s = S.at(shared, at);
    s.w = 5;
    s.f = 2.5;
    s.q = 9n;
    s.h = 3;
    expect(new Uint32Array(shared, at + S.offsetOf('w'), 1)[0]).toBe(5);
    expect(new Float64Array(shared, at + S.offsetOf('f'), 1)[0]).toBe(2.5);
    expect(new BigUint64Array(shared, at + S.offsetOf('q'), 1)[0]).toBe(9n);
    expect(new Uint16Array(shared, at + S.offsetOf('h'), 1)[0]).toBe(3);
  });
});

describe('object fields', () => {
  test('nested structs and lists of them are views of their own', () => {
    const Inner = struct({ x: u8, y: u32 });
    const S = struct({ pad: u8, inner: Inner, list: array(Inner, 3) });
    const s = S.at(buffer(), 8);
    s.inner.y = 1;
    s.list[2].y = 9;
    expect(s.list.map((e) => e.y)).toEqual([0, 0, 9]);
    expect(s.list[1].$offset).toBe(8 + S.offsetOf('list') + Inner.size);
    expect(viewsOf(s.$views.buffer).u32[(s.list[2].$offset + 4) / 4]).toBe(9);
  });

  test('an array of a plain type is a typed array in place', () => {
    const S = struct({ a: u8, words: array(u16, 4), wide: array(u64, 2) });
    const s = S.at(buffer(), 64);
    s.words[1] = 0x12345;
    s.wide[1] = 5n;
    expect([...(s.words as Uint16Array)]).toEqual([0, 0x2345, 0, 0]);
    expect(viewsOf(s.$views.buffer).u16[(64 + S.offsetOf('words')) / 2 + 1]).toBe(0x2345);
    expect(s.wide[1]).toBe(5n);
    expect(s.words.length).toBe(4);
  });

  test('bytes need no alignment', () => {
    const S = struct({ a: u8, raw: bytes(5), b: u8 });
    expect([S.offsetOf('raw'), S.offsetOf('b'), S.size]).toEqual([1, 6, 7]);
    const s = S.at(buffer(), 0);
    s.raw.set([1, 2, 3, 4, 5]);
    s.b = 9;
    expect(viewsOf(s.$views.buffer).u8.slice(0, 7)).toEqual(new Uint8Array([0, 1, 2, 3, 4, 5, 9]));
  });

  test('atomic fields work on the words of the struct', () => {
    const S = struct({ a: u8, word: atomicI32, time: atomicNs, list: array(atomicI32, 2) });
    const shared = buffer();
    const s = S.at(shared, 64);
    expect([s.word.address, s.time.address, s.list[1].address]).toEqual([68, 72, 84]);
    s.word.store(6);
    expect([s.word.add(1), s.word.or(8), s.word.and(12), s.word.exchange(3)]).toEqual([6, 7, 15, 12]);
    expect(s.word.compareExchange(3, -2)).toBe(3);
    expect(s.word.load()).toBe(-2);
    expect(viewsOf(shared).i32[17]).toBe(-2);
    s.time.store(1.5);
    expect(s.time.load()).toBe(1.5);
    expect(viewsOf(shared).f64[9]).toBe(1.5);
  });

  test('an atomic field can be waited for', async () => {
    const s = struct({ word: atomicI32 }).at(buffer(), 0);
    expect(s.word.wait(1)).toBe(1);
    expect(s.word.wait(0, 1000)).toBe(2);
    const wait = s.word.waitAsync(0);
    expect(s.word.notify()).toBe(1);
    expect(await wait).toBe(0);
  });

  test('primitives and rings are placed as fields', () => {
    const S = struct({ a: u8, lock: placed(Mutex), b: u8, ring: placedRing(SpscRing, 64), c: u8 });
    expect([S.offsetOf('lock'), S.offsetOf('b'), S.offsetOf('ring'), S.offsetOf('c')]).toEqual([
      4, 20, 64, 256,
    ]);
    const s = S.at(buffer(), 64);
    s.lock.lock();
    expect(s.lock.isLocked()).toBe(true);
    s.ring.writeByte(7);
    expect(s.ring.readByte()).toBe(7);
    expect([s.b, s.c]).toEqual([0, 0]);
  });
});
