/**
 * A split queue between a driver and the thread that serves it, with event indices: who sleeps is woken, and is not woken
 * for each request. The queue and the notifier are the shipped ones; the driver does what Linux's does, and the serving loop is that
 * of VirtioBlkServer and AioContext, with a choice where they look at the time.
 */
import { AtomicI32, setOwnerId, viewsOf } from '@smp86/atomics-sync';
import { GuestRam } from '../../hw/guest-ram.ts';
import { Virtqueue, VirtqueueState } from '../../hw/virtio/virtqueue.ts';
import { Notifier, NotifierState } from '../../timer/notifier.ts';
import type { Model, Patch, Scenario } from '../scenario.ts';

const QUEUE = 'src/hw/virtio/virtqueue.ts';
/**
 * Indices are words here, since the explorer's operations are on words: the guest's are 16 bits, and no operation is on
 * two of them at once.
 */
const PATCHES: readonly Patch[] = [
  { file: QUEUE, find: 'const RING_IDX = 2;', replace: 'const RING_IDX = 4;' },
  { file: QUEUE, find: 'const RING_ENTRIES = 4;', replace: 'const RING_ENTRIES = 8;' },
  {
    file: QUEUE,
    find: 'return Atomics.load(this.#u16, at >>> 1);',
    replace: 'return Atomics.load(this.#u32, at >>> 2);',
  },
  {
    file: QUEUE,
    find: 'Atomics.store(this.#u16, at >>> 1, value);',
    replace: 'Atomics.store(this.#u32, at >>> 2, value);',
  },
];

/** Descriptors; and so many requests at a time. */
const SIZE = 2;
const AVAIL = 64;
const USED = 128;
const BUFFERS = 192;
const RAM_SIZE = 256;
/** In the rings, as they are patched. */
const IDX = 4;
const ENTRIES = 8;
const USED_EVENT = ENTRIES + SIZE * 2;
const AVAIL_EVENT = ENTRIES + SIZE * 8;

/** Requests that were served, and that the driver has seen the end of. */
const SERVED = 0;
const SEEN = 1;

interface Parts {
  readonly ram: GuestRam;
  readonly notifier: Notifier;
  /** As `VirtioState.kicks`. */
  readonly kicks: AtomicI32;
  /** Interrupts so far: a vCPU sleeps on it. */
  readonly irq: AtomicI32;
}

function parts(model: Model, index: number): Parts {
  setOwnerId(index + 1);
  const at = model.place('ram', RAM_SIZE, 64);
  model.label('avail.idx', at + AVAIL + IDX, 4);
  model.label('used_event', at + AVAIL + USED_EVENT, 4);
  model.label('used.idx', at + USED + IDX, 4);
  model.label('avail_event', at + USED + AVAIL_EVENT, 4);
  return {
    ram: new GuestRam(model.buffer, at, RAM_SIZE, () => {}),
    notifier: new Notifier(NotifierState.at(model.buffer, model.place('notifier', NotifierState.size, 64))),
    kicks: new AtomicI32(model.buffer, model.place('kicks', 4)),
    irq: new AtomicI32(model.buffer, model.place('irq', 4)),
  };
}

/** Has `total` requests, as many at a time as fit; looks at what is done only when it is interrupted. */
function driver(model: Model, total: number): () => void {
  const { ghost } = model;
  const { ram, notifier, kicks, irq } = parts(model, 0);
  const { u16, u32 } = viewsOf(model.buffer);
  const word = (at: number): AtomicI32 => new AtomicI32(model.buffer, ram.base + at);
  const availIdx = word(AVAIL + IDX);
  const usedEvent = word(AVAIL + USED_EVENT);
  const usedIdx = word(USED + IDX);
  const availEvent = word(USED + AVAIL_EVENT);
  return () => {
    let made = 0;
    let seen = 0;
    let handled = 0;
    while (seen < total) {
      while (made < total && made - seen < SIZE) {
        u16[(ram.base + AVAIL + ENTRIES + (made % SIZE) * 2) >>> 1] = made % SIZE;
        made++;
        availIdx.store(made);
        if (availEvent.load() !== made - 1) continue;
        kicks.or(1);
        notifier.notify();
      }
      const interrupts = irq.load();
      if (interrupts === handled) {
        irq.wait(interrupts);
        continue;
      }
      handled = interrupts;
      // until none is done after the next one was asked for
      for (let more = true; more;) {
        while (usedIdx.load() !== seen) {
          const entry = (ram.base + USED + ENTRIES + (seen % SIZE) * 8) >>> 2;
          model.assert(u32[entry] === seen % SIZE, 'another request is given back');
          seen++;
        }
        usedEvent.store(seen);
        more = usedIdx.load() !== seen;
      }
    }
    ghost[SEEN] = seen;
  };
}

/** Serves until `total` are done and told. */
function server(model: Model, total: number): () => void {
  const { ghost } = model;
  const { ram, notifier, kicks, irq } = parts(model, 1);
  const state = VirtqueueState.at(model.buffer, model.place('queue', VirtqueueState.size, 64));
  return () => {
    const queue = new Virtqueue(state, ram, { indirect: false, eventIdx: true });
    // something was given back that the driver may not know of; it is looked at again after a time
    let pushed = false;
    let looks = false;
    while (ghost[SERVED] < total || pushed) {
      notifier.accept();
      const kicked = kicks.load() !== 0;
      if (kicked) kicks.exchange(0);
      if (kicked || !looks) {
        looks = false;
        let found = false;
        if (kicked || queue.more) {
          queue.suppressNotifications();
          for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
            found = true;
            pushed = true;
            queue.push(chain.head, 1);
            ghost[SERVED]++;
          }
        }
        if (pushed) {
          if (found && model.choose(2) === 1) {
            looks = !queue.more;
          } else {
            pushed = false;
            if (queue.wantsInterrupt()) {
              irq.add(1);
              irq.notify();
            }
          }
        }
      }
      if (looks) {
        if (kicks.load() === 0) notifier.wait(1000);
        looks = false;
      } else if (kicks.load() === 0 && !pushed && !queue.more && ghost[SERVED] < total) {
        if (queue.allowNotifications()) queue.suppressNotifications();
        else {
          model.reached('the server sleeps');
          notifier.wait(Infinity);
        }
      }
    }
  };
}

function scenario(name: string, title: string, total: number): Scenario {
  return {
    name,
    title,
    threads: ['driver', 'server'],
    patches: PATCHES,
    reaches: ['the server sleeps'],
    setup(model: Model) {
      const { ram } = parts(model, 0);
      const state = VirtqueueState.at(model.buffer, model.place('queue', VirtqueueState.size, 64));
      state.size = SIZE;
      state.availLow = AVAIL;
      state.usedLow = USED;
      const { u32 } = viewsOf(model.buffer);
      for (let i = 0; i < SIZE; i++) {
        const at = (ram.base + i * 16) >>> 2;
        u32[at] = BUFFERS + i * 16;
        u32[at + 2] = 16;
      }
    },
    thread(model: Model, index: number) {
      return index === 0 ? driver(model, total) : server(model, total);
    },
    end(model: Model) {
      model.assert(model.ghost[SEEN] === total, 'the driver has not heard of all');
    },
  };
}

export const scenarios: readonly Scenario[] = [
  scenario(
    'virtqueue',
    'a driver has two requests at a time, three in all; it may be told of several at once',
    3,
  ),
];
