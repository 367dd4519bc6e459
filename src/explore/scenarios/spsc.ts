/** SpscRing: every byte comes out once and in order, whoever sleeps is woken, a close ends all waits. */
import { SpscRing } from '@smp86/atomics-sync';
import type { Model, Scenario } from '../scenario.ts';

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

export const scenarios: readonly Scenario[] = [
  stream('spsc', 18, 9, false),
  stream('spsc-full', 20, 20, false),
  stream('spsc-close', 18, 18, true),
];
