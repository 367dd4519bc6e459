/** Rings: everything comes out once and in order, whoever sleeps is woken, a close ends all waits. */
import { MpscRecordRing, setOwnerId, SpscRing } from '@smp86/atomics-sync';
import type { Model, Scenario } from '../scenario.ts';
import { ONE_PAUSE } from './mutex.ts';

/** The smallest there is. */
const CAPACITY = 16;
const READ = 0;
const CLOSED = 1;

function ring(model: Model): SpscRing {
  return new SpscRing(
    model.buffer,
    model.place('ring', SpscRing.bytesFor(CAPACITY), SpscRing.ALIGN),
    CAPACITY,
  );
}

/** Reads until the ring is closed and empty; bytes have to come as 1, 2, 3 … */
function readAll(model: Model, r: SpscRing, bytes: Uint8Array): void {
  const { ghost } = model;
  while (r.waitData()) {
    const n = r.read(bytes);
    for (let i = 0; i < n; i++) {
      ghost[READ]++;
      model.assert(bytes[i] === ghost[READ], 'a byte out of turn');
    }
  }
}

/** `total` bytes from the producer in pieces of `piece`; a third thread looks at the fill level, or closes. */
function stream(name: string, total: number, piece: number, closer: boolean): Scenario {
  return {
    name,
    title: `SpscRing: ${total} bytes in pieces of ${piece} through ${CAPACITY}, ${closer ? 'closed at any time by a third thread' : 'watched by a third thread'}`,
    threads: ['producer', 'consumer', closer ? 'closer' : 'watcher'],
    bytes: 1024,
    thread(model: Model, index: number) {
      const { ghost } = model;
      const r = ring(model);
      if (index === 0) {
        const bytes = Uint8Array.from({ length: total }, (_, i) => i + 1);
        return () => {
          for (let at = 0; at < total; at += piece) {
            const part = bytes.subarray(at, Math.min(at + piece, total));
            const n = r.writeAll(part);
            if (n < part.length) {
              model.assert(ghost[CLOSED] === 1, 'writeAll ended too early');
              return;
            }
          }
          if (!closer) r.close();
        };
      }
      if (index === 1) {
        const bytes = new Uint8Array(CAPACITY);
        return () => {
          readAll(model, r, bytes);
          if (!closer) model.assert(ghost[READ] === total, 'bytes are missing');
        };
      }
      if (closer) {
        return () => {
          model.step();
          ghost[CLOSED] = 1;
          r.close();
        };
      }
      return () => {
        const available = r.available;
        model.assert(available >= 0 && available <= CAPACITY, 'more bytes than there is room for');
      };
    },
  };
}

/** Two records do not fit at the same time: the second producer sleeps for room. */
const records: Scenario = {
  name: 'mpsc-records',
  title: 'MpscRecordRing: two producers, a record of half the ring each, one consumer',
  threads: ['producer 1', 'producer 2', 'consumer'],
  bytes: 1024,
  patches: [ONE_PAUSE],
  thread(model: Model, index: number) {
    const { ghost } = model;
    setOwnerId(index + 1);
    const at = model.place('ring', MpscRecordRing.bytesFor(CAPACITY), MpscRecordRing.ALIGN);
    const r = new MpscRecordRing(model.buffer, at, CAPACITY);
    if (index < 2) {
      const record = new Uint8Array(r.maxLength).fill(index + 1);
      const length = index === 0 ? 2 : 1;
      return () => {
        for (let i = 0; i < length; i++) model.assert(r.push(record), 'push gave up');
      };
    }
    return () => {
      while (ghost[READ] < 3) {
        const record = r.pop();
        model.assert(record !== undefined && record.length === r.maxLength, 'a record of another length');
        const first = record![0];
        model.assert(first === 1 || first === 2, 'a record that nobody wrote');
        model.assert(
          record!.every((byte) => byte === first),
          'a record of two halves',
        );
        ghost[READ]++;
      }
      model.assert(r.isEmpty, 'a record too many');
    };
  },
};

export const scenarios: readonly Scenario[] = [
  stream('spsc', 18, 9, false),
  stream('spsc-full', 20, 20, false),
  stream('spsc-close', 18, 18, true),
  records,
];
