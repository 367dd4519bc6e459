/**
 * Halt polling: a vCPU that another one will wake soon looks for the kick before its thread sleeps, since waking a
 * thread costs tens of microseconds. How long is learnt from how long it was halted, as KVM's `halt_poll_ns` is (Linux,
 * Documentation/virt/kvm/halt-polling.rst): longer after a halt that a longer look would have covered, not at all
 * after a long one. Unlike KVM's it is for what other vCPUs send alone: a device's thread, which is to answer, may
 * need the core. And only while each thread that runs or looks has a core.
 *
 * The look reads `kickSeq` and nothing else, and what follows it is the sleep as it was (`signals.ts`): whatever the
 * look misses, the wait finds.
 */
import { availableParallelism } from 'node:os';
import type { AtomicI32, SyncOps } from '@smp86/atomics-sync';
import type { Exclusive } from './exclusive.ts';
import type { VcpuSignals } from './signals.ts';

/** ns */
export const HALT_POLL = { START: 10_000, MAX: 200_000 } as const;
/** Pauses between two looks at the clock: a microsecond or two. */
const PAUSES = 20;

/** *Thread:* the vCPU's own. *Lock:* none. */
export class HaltPoll {
  /** ns that the next halt looks for a kick. */
  limit = 0;
  readonly #ops: Pick<SyncOps, 'now' | 'pause'>;
  readonly #polling: AtomicI32;
  readonly #exclusive: Pick<Exclusive, 'countRunning'>;
  readonly #cores: number;

  /** `polling`: how many vCPUs look. `cores`: of the host. */
  constructor(
    ops: Pick<SyncOps, 'now' | 'pause'>,
    polling: AtomicI32,
    exclusive: Pick<Exclusive, 'countRunning'>,
    cores = availableParallelism(),
  ) {
    this.#ops = ops;
    this.#polling = polling;
    this.#exclusive = exclusive;
    this.#cores = cores;
  }

  /** Waits until there was a kick after `sequence` was read. *May block:* yes. */
  wait(signals: Pick<VcpuSignals, 'sequence' | 'sleep' | 'kickedByVcpu'>, sequence: number): void {
    const { limit } = this;
    const start = this.#ops.now();
    if (limit === 0 || !this.#look(signals, sequence, start)) signals.sleep(sequence);
    const halted = this.#ops.now() - start;
    if (!signals.kickedByVcpu || halted >= HALT_POLL.MAX) this.limit = 0;
    else if (halted > limit) this.limit = Math.min(HALT_POLL.MAX, Math.max(HALT_POLL.START, limit * 2));
  }

  /** True: kicked. */
  #look(signals: Pick<VcpuSignals, 'sequence'>, sequence: number, start: number): boolean {
    this.#polling.add(1);
    try {
      do {
        if (this.#exclusive.countRunning() + this.#polling.load() > this.#cores) return false;
        for (let i = 0; i < PAUSES; i++) {
          if (signals.sequence !== sequence) return true;
          this.#ops.pause();
        }
      } while (this.#ops.now() - start < this.limit);
      return false;
    } finally {
      this.#polling.add(-1);
    }
  }
}
