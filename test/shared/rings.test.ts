import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { keepAlive, MpscRecordRing, SpscRecordRing, SpscRing, SyncError, viewsOf } from '@smp86/atomics-sync';

const at = 64;
const bytesOf = (...values: number[]) => new Uint8Array(values);

describe('SpscRing', () => {
  const make = (capacity = 16) => {
    const buffer = new SharedArrayBuffer(at + SpscRing.bytesFor(capacity));
    return new SpscRing(buffer, at, capacity);
  };

  test.each([0, 8, 24, 100, NaN, 2 ** 31])('a capacity of %d is refused', (capacity) => {
    expect(() => new SpscRing(new SharedArrayBuffer(4096), at, capacity)).toThrow(SyncError);
  });

  test('does not reach outside its bytes', () => {
    const buffer = new SharedArrayBuffer(4096);
    new Uint8Array(buffer).fill(0xaa, 0, at);
    new Uint8Array(buffer).fill(0xaa, at + SpscRing.bytesFor(64));
    const ring = new SpscRing(buffer, at, 64);
    for (let i = 0; i < 9; i++) {
      ring.write(new Uint8Array(50).fill(i));
      ring.read(new Uint8Array(50));
    }
    const raw = new Uint8Array(buffer);
    expect(raw.subarray(0, at).every((b) => b === 0xaa)).toBe(true);
    expect(raw.subarray(at + SpscRing.bytesFor(64)).every((b) => b === 0xaa)).toBe(true);
  });

  test('takes what fits, up to its whole capacity', () => {
    const ring = make();
    expect(ring.write(new Uint8Array(20))).toBe(16);
    expect([ring.available, ring.space]).toEqual([16, 0]);
    expect(ring.write(bytesOf(1))).toBe(0);
    expect(ring.writeByte(1)).toBe(false);
  });

  test('peek leaves the bytes, consume takes them', () => {
    const ring = make();
    ring.write(bytesOf(1, 2, 3, 4));
    const seen = new Uint8Array(3);
    expect(ring.peek(seen)).toBe(3);
    expect([...seen]).toEqual([1, 2, 3]);
    expect([ring.peekByte(), ring.peekByte(3), ring.peekByte(4)]).toEqual([1, 4, -1]);
    ring.consume(2);
    expect([ring.readByte(), ring.readByte(), ring.readByte()]).toEqual([3, 4, -1]);
    expect(() => ring.consume(1)).toThrow(SyncError);
  });

  test('contiguous views end at the end of the data area', () => {
    const ring = make();
    ring.write(new Uint8Array(12));
    ring.consume(10);
    expect(ring.writable().length).toBe(4);
    ring.writable().set([7, 8, 9, 10]);
    ring.commit(4);
    expect(ring.writable().length).toBe(10);
    expect(() => ring.commit(11)).toThrow(SyncError);
    expect([...ring.readable()]).toEqual([0, 0, 7, 8, 9, 10]);
  });

  test('positions go on through 2^32', () => {
    const buffer = new SharedArrayBuffer(4096);
    const ring = new SpscRing(buffer, at, 16);
    viewsOf(buffer).i32[at / 4] = -4;
    viewsOf(buffer).i32[at / 4 + 16] = -4;
    expect(ring.write(bytesOf(1, 2, 3, 4, 5, 6, 7, 8))).toBe(8);
    expect([ring.available, ring.space]).toEqual([8, 8]);
    const out = new Uint8Array(8);
    ring.read(out);
    expect([...out]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  test('behaves as a queue of bytes', () => {
    const step = fc.record({ write: fc.boolean(), n: fc.nat(80) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const ring = make(64);
        const queue: number[] = [];
        let next = 0;
        for (const { write, n } of steps) {
          const block = new Uint8Array(n);
          if (write) {
            for (let i = 0; i < n; i++) block[i] = next + i;
            const done = ring.write(block);
            expect(done).toBe(Math.min(n, 64 - queue.length));
            queue.push(...block.subarray(0, done));
            next += done;
          } else {
            const done = ring.read(block);
            expect([...block.subarray(0, done)]).toEqual(queue.splice(0, n));
          }
          expect(ring.available).toBe(queue.length);
        }
      }),
      { numRuns: 200 },
    );
  });

  test('a wait for data ends with them, with the close, or with its time', async () => {
    const ring = make();
    expect(ring.waitData(1, 1e6)).toBe(false);
    const wait = ring.waitDataAsync(2);
    ring.writeByte(1);
    ring.writeByte(2);
    expect(await keepAlive(wait)).toBe(true);
    const more = ring.waitDataAsync(3);
    ring.close();
    expect(await keepAlive(more)).toBe(false);
    expect(ring.waitData(2)).toBe(true);
    expect(ring.closed).toBe(true);
  });

  test('a wait for space ends with it, with the close, or with its time', async () => {
    const ring = make();
    ring.write(new Uint8Array(16));
    expect(ring.waitSpace(1, 1e6)).toBe(false);
    const wait = ring.waitSpaceAsync(4);
    ring.consume(4);
    expect(await keepAlive(wait)).toBe(true);
    const more = ring.waitSpaceAsync(5);
    ring.close();
    expect(await keepAlive(more)).toBe(false);
    expect(ring.waitSpace(4)).toBe(true);
    expect(() => ring.waitSpace(17)).toThrow(SyncError);
  });

  test('a long write goes through in pieces', async () => {
    const ring = make();
    const data = Uint8Array.from({ length: 100 }, (_, i) => i);
    const write = ring.writeAllAsync(data);
    const out: number[] = [];
    const piece = new Uint8Array(7);
    while (out.length < 100) {
      await keepAlive(ring.waitDataAsync());
      out.push(...piece.subarray(0, ring.read(piece)));
    }
    expect(out).toEqual([...data]);
    expect(await write).toBe(100);
  });
});

describe('SpscRecordRing', () => {
  const make = (capacity = 64) => {
    const buffer = new SharedArrayBuffer(at + SpscRecordRing.bytesFor(capacity));
    return new SpscRecordRing(buffer, at, capacity);
  };

  test('delivers records of any length, the empty one too, in order', () => {
    const ring = make();
    const records = [bytesOf(), bytesOf(1), bytesOf(1, 2, 3, 4), bytesOf(1, 2, 3, 4, 5)];
    for (const record of records) expect(ring.tryPush(record)).toBe(true);
    for (const record of records) expect(ring.tryPop()).toEqual(record);
    expect(ring.tryPop()).toBeUndefined();
    expect(ring.isEmpty).toBe(true);
  });

  test('a record lies in one piece after the wrap', () => {
    const ring = make();
    ring.tryPush(new Uint8Array(28));
    ring.tryPush(new Uint8Array(12));
    ring.consume();
    expect(ring.tryPush(Uint8Array.from({ length: 20 }, (_, i) => i))).toBe(true);
    ring.consume();
    expect(ring.peek()).toBe(20);
    expect([...ring.peekView()!]).toEqual(Array.from({ length: 20 }, (_, i) => i));
    expect(ring.peekView()!.byteOffset).toBe(ring.recordAddress);
    ring.consume();
    expect(ring.isEmpty).toBe(true);
  });

  test('the longest record fits into an empty ring wherever the tail is', () => {
    const ring = make();
    const longest = new Uint8Array(ring.maxLength).fill(9);
    for (let i = 0; i < 40; i++) {
      expect(ring.tryPush(longest)).toBe(true);
      expect(ring.tryPop()).toEqual(longest);
      ring.tryPush(new Uint8Array(i % 9));
      ring.consume();
    }
  });

  test('a record that can never fit is an error, one that does not fit now is not', () => {
    const ring = make();
    expect(ring.maxLength).toBe(28);
    expect(() => ring.tryPush(new Uint8Array(29))).toThrow(SyncError);
    ring.tryPush(new Uint8Array(28));
    ring.tryPush(new Uint8Array(28));
    expect(ring.tryPush(bytesOf())).toBe(false);
    expect(ring.reserve(0)).toBe(-1);
  });

  test('consume and popInto refuse what is not there', () => {
    const ring = make();
    expect(() => ring.consume()).toThrow(SyncError);
    expect(ring.popInto(new Uint8Array(4))).toBe(-1);
    ring.tryPush(new Uint8Array(5));
    expect(() => ring.popInto(new Uint8Array(4))).toThrow(SyncError);
    expect(ring.popInto(new Uint8Array(8))).toBe(5);
  });

  test('positions go on through 2^32', () => {
    const buffer = new SharedArrayBuffer(4096);
    const ring = new SpscRecordRing(buffer, at, 64);
    viewsOf(buffer).i32[at / 4] = -24;
    viewsOf(buffer).i32[at / 4 + 16] = -24;
    for (let i = 0; i < 9; i++) {
      ring.tryPush(new Uint8Array(i * 3).fill(i));
      expect(ring.tryPop()).toEqual(new Uint8Array(i * 3).fill(i));
    }
  });

  test('behaves as a queue of records', () => {
    const step = fc.record({ push: fc.boolean(), n: fc.nat(60) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const ring = make(128);
        const queue: Uint8Array[] = [];
        let next = 0;
        for (const { push, n } of steps) {
          if (push) {
            const record = new Uint8Array(n).fill(++next);
            if (ring.tryPush(record)) queue.push(record);
            else expect(queue.length).toBeGreaterThan(0);
          } else {
            expect(ring.tryPop()).toEqual(queue.shift());
          }
        }
        for (const record of queue) expect(ring.tryPop()).toEqual(record);
        expect(ring.isEmpty).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test('blocking and async forms wait for room and for records', async () => {
    const ring = make();
    const big = new Uint8Array(28);
    expect(ring.pop(1e6)).toBeUndefined();
    expect(ring.push(big)).toBe(true);
    expect(ring.push(big)).toBe(true);
    expect(ring.push(big, 1e6)).toBe(false);
    const push = ring.pushAsync(big);
    expect(ring.tryPop()).toEqual(big);
    expect(await keepAlive(push)).toBe(true);
    ring.consume();
    ring.consume();
    const pop = ring.popAsync();
    ring.push(bytesOf(4));
    expect(await keepAlive(pop)).toEqual(bytesOf(4));
  });

  test('after a close the rest can be read, then waits end', async () => {
    const ring = make();
    ring.push(bytesOf(1));
    ring.close();
    expect(ring.pop()).toEqual(bytesOf(1));
    expect(ring.pop()).toBeUndefined();
    expect(await ring.popAsync()).toBeUndefined();
  });
});

describe('MpscRecordRing', () => {
  const make = () => new MpscRecordRing(new SharedArrayBuffer(4096), at, 64);

  test('delivers records in the order of the pushes', () => {
    const ring = make();
    for (let i = 0; i < 100; i++) {
      expect(ring.tryPush(new Uint8Array(i % 20).fill(i))).toBe(true);
      expect(ring.peek()).toBe(i % 20);
      expect(ring.peekView()).toEqual(new Uint8Array(i % 20).fill(i));
      ring.consume();
    }
    expect(ring.isEmpty).toBe(true);
  });

  test('several producers wait for room, and each gets it', async () => {
    const ring = make();
    const record = new Uint8Array(28);
    ring.push(record);
    ring.push(record);
    expect(ring.push(record, 1e6)).toBe(false);
    const pushes = Promise.all([ring.pushAsync(record), ring.pushAsync(record), ring.pushAsync(record)]);
    for (let i = 0; i < 5; i++) expect(await keepAlive(ring.popAsync())).toEqual(record);
    expect(await keepAlive(pushes)).toEqual([true, true, true]);
  });

  test('a record too long is an error and leaves the ring usable', () => {
    const ring = make();
    expect(() => ring.push(new Uint8Array(29))).toThrow(SyncError);
    expect(ring.push(bytesOf(1))).toBe(true);
    expect(ring.tryPop()).toEqual(bytesOf(1));
  });

  test('a close ends the waits of producers and consumer', async () => {
    const ring = make();
    const pop = ring.popAsync();
    ring.close();
    expect(await keepAlive(pop)).toBeUndefined();
    while (ring.tryPush(bytesOf(1, 2, 3, 4)));
    expect(ring.push(bytesOf(1, 2, 3, 4))).toBe(false);
  });
});
