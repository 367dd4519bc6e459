/** One thread of a hammer: waits until all have started, plays its role, posts its result. */
import { parentPort, workerData } from 'node:worker_threads';
import {
  Barrier,
  Condition,
  Event,
  MpscRecordRing,
  Mutex,
  Once,
  registerMemory,
  Semaphore,
  SeqLock,
  setOwnerId,
  SpinLock,
  SpscRecordRing,
  SpscRing,
  viewsOf,
} from '@smp86/atomics-sync';
import { AT, RING_CAPACITY, type HammerData } from '../hammer.ts';

const { memory, role, index, rounds, wasm } = workerData as HammerData;
const buffer = memory.buffer as ArrayBufferLike as SharedArrayBuffer;
// The odd threads use Atomics when both kinds of operations are to meet on the same words.
if (wasm === 'all' || (wasm === 'mixed' && index % 2 === 0)) registerMemory(memory);
setOwnerId(index + 1);

const { i32, u32, f64 } = viewsOf(buffer);
const mutex = new Mutex(buffer, AT.MUTEX);
const counter = AT.COUNTER >>> 2;

const roles: Record<string, () => unknown | Promise<unknown>> = {
  mutex() {
    for (let i = 0; i < rounds; i++) {
      // Every form of taking the lock takes its turn.
      const form = i % 16;
      if (form === 0) while (!mutex.lockTimed(50_000));
      else if (form !== 1 || !mutex.tryLock()) mutex.lock();
      mutex.assertHeld();
      i32[counter] = i32[counter] + 1;
      mutex.unlock();
    }
  },
  async mutexAsync() {
    for (let i = 0; i < rounds; i++) {
      await mutex.lockAsync();
      i32[counter] = i32[counter] + 1;
      mutex.unlock();
    }
  },
  spinLock() {
    const lock = new SpinLock(buffer, AT.A);
    for (let i = 0; i < rounds; i++) {
      lock.lock();
      i32[counter] = i32[counter] + 1;
      lock.unlock();
    }
  },
  /** reset; if (!condition) wait — against condition := true; set. */
  eventWaiter() {
    const event = new Event(buffer, AT.A);
    const echo = new Event(buffer, AT.B);
    for (let i = 1; i <= rounds; i++) {
      for (;;) {
        event.reset();
        if (Atomics.load(i32, counter) >= i) break;
        if (i % 4 === 0) event.waitTimed(1e6);
        else event.wait();
      }
      Atomics.store(i32, counter + 1, i);
      echo.set();
    }
  },
  async eventNotifier() {
    const event = new Event(buffer, AT.A);
    const echo = new Event(buffer, AT.B);
    for (let i = 1; i <= rounds; i++) {
      Atomics.store(i32, counter, i);
      event.set();
      for (;;) {
        echo.reset();
        if (Atomics.load(i32, counter + 1) >= i) break;
        if (i % 4 === 1) await echo.waitAsync();
        else echo.wait();
      }
    }
  },
  /** Two threads in turn: even counts are index 0's. */
  conditionPingPong() {
    const condition = new Condition(buffer, AT.A);
    for (let i = 0; i < rounds; i++) {
      mutex.lock();
      while (i32[counter] % 2 !== index) condition.wait(mutex);
      i32[counter] = i32[counter] + 1;
      condition.signal();
      mutex.unlock();
    }
  },
  /** A bounded buffer of one place, two conditions, several producers and consumers. */
  conditionQueue() {
    const full = new Condition(buffer, AT.A);
    const empty = new Condition(buffer, AT.B);
    const produces = index % 2 === 0;
    let sum = 0;
    for (let i = 0; i < rounds; i++) {
      mutex.lock();
      if (produces) {
        while (i32[counter] !== 0) empty.wait(mutex);
        i32[counter] = i + 1;
        full.signal();
        mutex.unlock();
      } else {
        while (i32[counter] === 0) full.wait(mutex);
        sum += i32[counter];
        i32[counter] = 0;
        mutex.unlock();
        empty.signal();
      }
    }
    return sum;
  },
  barrier() {
    const barrier = new Barrier(buffer, AT.A);
    let leads = 0;
    for (let i = 0; i < rounds; i++) {
      Atomics.store(i32, counter + index, i + 1);
      if (barrier.wait()) leads++;
      for (let other = 0; other < 4; other++) {
        const at = Atomics.load(i32, counter + other);
        if (at !== i + 1 && at !== i + 2) throw new Error(`round ${i}: thread ${other} is at ${at}`);
      }
    }
    return leads;
  },
  semaphore() {
    const semaphore = new Semaphore(buffer, AT.A);
    let most = 0;
    for (let i = 0; i < rounds; i++) {
      if (i % 8 !== 0) semaphore.acquire();
      else while (!semaphore.acquireTimed(100_000));
      most = Math.max(most, Atomics.add(i32, counter, 1) + 1);
      Atomics.sub(i32, counter, 1);
      semaphore.release();
    }
    return most;
  },
  once() {
    for (let i = 0; i < rounds; i++) {
      new Once(buffer, AT.A + i * 4).run(() => {
        i32[counter] = i32[counter] + 1;
      });
      if (i32[counter] < i + 1) throw new Error('returned before it was done');
    }
  },
  seqWriter() {
    const lock = new SeqLock(buffer, AT.A);
    for (let i = 1; i <= rounds; i++) {
      mutex.lock();
      lock.writeBegin();
      const value = f64[AT.B >>> 3] + 1;
      for (let k = 0; k < 4; k++) f64[(AT.B >>> 3) + k] = value;
      lock.writeEnd();
      mutex.unlock();
      if (i % 64 === 0) Atomics.wait(i32, AT.NEVER >>> 2, 0, 0.05);
    }
  },
  seqReader() {
    const lock = new SeqLock(buffer, AT.A);
    let last = 0;
    let seen = 0;
    while (last < rounds) {
      let a, b, c, d, seq;
      do {
        seq = lock.readBegin();
        a = f64[AT.B >>> 3];
        b = f64[(AT.B >>> 3) + 1];
        c = f64[(AT.B >>> 3) + 2];
        d = f64[(AT.B >>> 3) + 3];
      } while (lock.readRetry(seq));
      if (a !== b || a !== c || a !== d) throw new Error(`torn: ${a} ${b} ${c} ${d}`);
      if (a < last) throw new Error(`backwards: ${last} to ${a}`);
      if (a !== last) seen++;
      last = a;
    }
    return seen;
  },
  byteProducer() {
    const ring = new SpscRing(buffer, AT.RING, RING_CAPACITY);
    const chunk = new Uint8Array(97);
    let next = 0;
    while (next < rounds) {
      const n = Math.min(1 + ((next * 7) % 97), rounds - next);
      for (let i = 0; i < n; i++) chunk[i] = (next + i) * 31;
      if (n === 1) {
        ring.waitSpace();
        ring.writeByte(chunk[0]);
      } else ring.writeAll(chunk.subarray(0, n));
      next += n;
    }
    ring.close();
  },
  byteConsumer() {
    const ring = new SpscRing(buffer, AT.RING, RING_CAPACITY);
    const chunk = new Uint8Array(61);
    let next = 0;
    while (ring.waitData()) {
      const view = next % 3 === 0 ? ring.readable() : chunk.subarray(0, ring.peek(chunk));
      for (let i = 0; i < view.length; i++) {
        if (view[i] !== (((next + i) * 31) & 255)) throw new Error(`byte ${next + i} is ${view[i]}`);
      }
      next += view.length;
      ring.consume(view.length);
    }
    return next;
  },
  recordProducer() {
    const ring = new SpscRecordRing(buffer, AT.RING, RING_CAPACITY);
    for (let i = 0; i < rounds; i++) {
      const words = 1 + (i % 13);
      const length = words * 4 - (i % 4);
      let at: number;
      while ((at = ring.reserve(length)) < 0) ring.waitSpace(length);
      for (let k = 0; k < words; k++) u32[(at >>> 2) + k] = i + k;
      ring.commit(length);
    }
    ring.close();
  },
  async recordConsumer() {
    const ring = new SpscRecordRing(buffer, AT.RING, RING_CAPACITY);
    let next = 0;
    for (;;) {
      if (!(next % 1024 === 0 ? await ring.waitDataAsync() : ring.waitData())) break;
      const length = ring.peek();
      if (length !== (1 + (next % 13)) * 4 - (next % 4))
        throw new Error(`record ${next} has ${length} bytes`);
      const whole = length >>> 2;
      for (let k = 0; k < whole; k++) {
        if (u32[(ring.recordAddress >>> 2) + k] !== next + k) throw new Error(`record ${next} is damaged`);
      }
      ring.consume();
      next++;
    }
    return next;
  },
  async manyProducer() {
    const ring = new MpscRecordRing(buffer, AT.RING, RING_CAPACITY);
    const words = new Uint32Array(8);
    for (let i = 0; i < rounds; i++) {
      words.fill(i);
      words[0] = index;
      const record = new Uint8Array(words.buffer, 0, 8 + (i % 7) * 4);
      if (i % 512 === 0) await ring.pushAsync(record);
      else ring.push(record);
    }
  },
  /** Takes everything that the other threads produce. */
  manyConsumer() {
    const ring = new MpscRecordRing(buffer, AT.RING, RING_CAPACITY);
    const producers = 3;
    const next = new Array<number>(producers + 1).fill(0);
    for (let i = 0; i < producers * rounds; i++) {
      ring.waitData();
      const length = ring.peek();
      const at = ring.recordAddress >>> 2;
      const from = u32[at];
      const expected = next[from]++;
      if (length !== 8 + (expected % 7) * 4) throw new Error(`from ${from}: ${length} bytes for ${expected}`);
      for (let k = 1; k < length / 4; k++) {
        if (u32[at + k] !== expected) throw new Error(`from ${from}: ${u32[at + k]} for ${expected}`);
      }
      ring.consume();
    }
    return ring.isEmpty;
  },
};

Atomics.add(i32, AT.GATE >>> 2, -1);
Atomics.notify(i32, AT.GATE >>> 2);
for (let left: number; (left = Atomics.load(i32, AT.GATE >>> 2)) > 0;) Atomics.wait(i32, AT.GATE >>> 2, left);
const keep = setInterval(() => {}, 1e6);
const result = await roles[role]();
clearInterval(keep);
parentPort!.postMessage(result);
