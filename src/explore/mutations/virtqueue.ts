/** Faults in split virtqueues. */
import { type Mutation, plant } from './mutation.ts';

const queue = plant('src/hw/virtio/virtqueue.ts');

export const VIRTQUEUE: readonly Mutation[] = [
  queue(
    'queue-allow-blind',
    'virtqueue',
    'a queue is not looked at after notifications were asked for',
    'return this.#waiting() > 0;',
    'return false;',
  ),
  queue(
    'queue-allow-stale',
    'virtqueue',
    'a notification is asked for of a request that was taken',
    'USED_ENTRY, this.#state.lastAvail);',
    'USED_ENTRY, (this.#state.lastAvail - 1) & 0xffff);',
  ),
  queue(
    'queue-allow-silent',
    'virtqueue',
    'no notification is asked for',
    'this.#store16(this.#used + RING_ENTRIES + this.#size * USED_ENTRY, this.#state.lastAvail);',
    '',
  ),
  queue(
    'queue-suppress-half',
    'virtqueue',
    'a queue whose notifications were asked for is never looked at again without one',
    'if (this.#suppressed) return;\n    this.#suppressed = true;',
    'if (this.#suppressed) return;',
  ),
  queue(
    'queue-tell-first',
    'virtqueue',
    'the driver is told of one request only if it was the last',
    'return ((state.usedIndex - event - 1) & 0xffff) < ((state.usedIndex - old) & 0xffff);',
    'return ((state.usedIndex - event - 1) & 0xffff) === 0;',
  ),
  queue(
    'queue-tell-all',
    'virtqueue',
    'of more is noted that the driver was told of it',
    'state.signalled = state.usedIndex;',
    'state.signalled = (state.usedIndex + 1) & 0xffff;',
  ),
  queue(
    'queue-push-early',
    'virtqueue',
    'a request is given back before it is named',
    'this.#u32[entry] = head;\n    this.#u32[entry + 1] = written;\n    state.usedIndex = (state.usedIndex + 1) & 0xffff;\n    this.#store16(this.#used + RING_IDX, state.usedIndex);',
    'state.usedIndex = (state.usedIndex + 1) & 0xffff;\n    this.#store16(this.#used + RING_IDX, state.usedIndex);\n    this.#u32[entry] = head;\n    this.#u32[entry + 1] = written;',
  ),
];
