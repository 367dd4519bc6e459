/** One timer, armed and disarmed by any thread; its callback runs in the thread that owns its list. */
import type { Timer } from '../hw/device.ts';
import type { Callback } from './callback-registry.ts';
import type { AtomicNs } from '@smp86/atomics-sync';
import type { ClockType } from './clock-state.ts';
import type { TimerList } from './timer-list.ts';

/** ns per unit of a timer's arguments. */
export const SCALE = { NS: 1, US: 1000, MS: 1_000_000 } as const;

/** How a timer is made. */
export interface TimerOptions {
  readonly clock: ClockType;
  /** The group whose owner runs it; default 0, the main loop's. */
  readonly group?: number;
  /** Callback number, or a function, which is then registered in the calling thread: it has to be the owner. */
  readonly callback: number | Callback;
  /** Name of a function given as `callback`, for messages. */
  readonly name?: string;
  readonly arg?: number;
  /** ns per unit of the arguments of `mod`, `modAnticipate` and `expired`; default 1. */
  readonly scale?: number;
  /** Bits of ATTRIBUTE. */
  readonly attributes?: number;
}

/** A thread's view of one timer. *Thread:* any. *Lock:* the list's, inside. */
export class SharedTimer implements Timer {
  /** The timer's number, by which other threads find it. */
  readonly index: number;
  readonly list: TimerList;
  readonly #expire: AtomicNs;
  readonly #scale: number;

  constructor(scale: number, expire: AtomicNs, index: number, list: TimerList) {
    this.index = index;
    this.list = list;
    this.#expire = expire;
    this.#scale = scale;
  }

  /** Arms or moves it to `expire` (in units of its scale); at once if past. Fractions of a ns go up. */
  mod(expire: number): void {
    this.list.mod(this.index, expire * this.#scale);
  }

  /** As `mod`, but only if not pending or `expire` is earlier than what is set. */
  modAnticipate(expire: number): void {
    this.list.modAnticipate(this.index, expire * this.#scale);
  }

  /** Disarms, pending or not; does not wait for a callback in progress in another thread. */
  del(): void {
    this.list.del(this.index);
  }

  get pending(): boolean {
    return this.#expire.load() >= 0;
  }

  /** Expiry in ns whatever the scale, or -1 when not pending. */
  get expireTime(): number {
    return this.#expire.load();
  }

  /** True when pending and due at `now` (in units of its scale). */
  expired(now: number): boolean {
    const expire = this.#expire.load();
    return expire >= 0 && expire <= now * this.#scale;
  }
}
