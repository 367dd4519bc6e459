/**
 * Which region has which table slot, and which regions make room: modules are bounded in number and in bytes. The slot
 * of a region that has ended is used again first, once some are in use. When there is none, the slots are gone through in turn, and the first
 * region that has not been entered since the last time round is given up: about the one whose use is longest ago.
 */

/** What a slot holds. */
export interface SlotContent {
  /** Bytes of its module. */
  readonly bytes: number;
}

/** What is known of a region. */
export interface RegionUse<T> {
  /** Can it still be entered? */
  alive(region: T): boolean;
  /** Has it been entered since this was last asked? */
  used(region: T): boolean;
}

/** *Thread:* JIT worker. */
export class RegionSlots<T extends SlotContent> {
  private readonly limit: { readonly slots: number; readonly bytes: number };
  private readonly use: RegionUse<T>;
  private readonly contents: (T | undefined)[] = [];
  private hand = 0;
  private total = 0;
  private live = 0;

  constructor(limit: { readonly slots: number; readonly bytes: number }, use: RegionUse<T>) {
    this.limit = limit;
    this.use = use;
  }

  /** Modules, whether their regions can be entered or not. */
  get count(): number {
    return this.live;
  }
  /** Bytes of those modules. */
  get bytes(): number {
    return this.total;
  }
  *[Symbol.iterator](): Generator<[number, T]> {
    for (const [slot, content] of this.contents.entries()) if (content !== undefined) yield [slot, content];
  }

  /** Forgets all. */
  clear(): void {
    this.contents.length = 0;
    this.hand = 0;
    this.total = 0;
    this.live = 0;
  }

  /** Fills an empty slot. */
  put(slot: number, content: T): void {
    this.contents[slot] = content;
    this.total += content.bytes;
    this.live++;
  }
  /** Empties a slot; gives what was in it. */
  remove(slot: number): T | undefined {
    const content = this.contents[slot];
    if (content === undefined) return undefined;
    this.contents[slot] = undefined;
    this.total -= content.bytes;
    this.live--;
    return content;
  }

  /** The slot for a new region; there may be one in it. */
  next(): number {
    const dead = this.live < this.limit.slots / 4 ? -1 : this.ended();
    if (dead >= 0) return dead;
    if (this.live === this.limit.slots) return this.oldest();
    const empty = this.contents.indexOf(undefined);
    return empty < 0 ? this.contents.length : empty;
  }
  /** A slot to be emptied so that `bytes` more fit, or −1. */
  overfull(bytes: number): number {
    if (this.live === 0 || this.total + bytes <= this.limit.bytes) return -1;
    const dead = this.ended();
    return dead >= 0 ? dead : this.oldest();
  }

  private ended(): number {
    return this.contents.findIndex((c) => c !== undefined && !this.use.alive(c));
  }
  private oldest(): number {
    const { contents, use } = this;
    // the second time round finds one, unless all are entered all the time
    for (let step = 0; step < 2 * contents.length; step++) {
      const slot = this.turn();
      if (!use.used(contents[slot] as T)) return slot;
    }
    return this.turn();
  }
  /** The next slot with something in it. */
  private turn(): number {
    for (;;) {
      const slot = this.hand;
      this.hand = (slot + 1) % this.contents.length;
      if (this.contents[slot] !== undefined) return slot;
    }
  }
}
