/** Where control goes from block to block of a region, by the blocks' numbers. */
import type { Block, Region } from './region.ts';

/** Does control come to what stands after a block, at once or when its call returns? */
export function goesOn({ end, calls }: Block): boolean {
  return end === 'branch' || end === 'fall' || calls;
}

export class RegionGraph {
  readonly region: Region;
  /** By copy: numbers of blocks by offset. */
  private readonly indices: Map<number, number>[];
  /** Of calls that have a copy of what they call. */
  private readonly copyOf: ReadonlyMap<Block, number>;
  /** Copies that an indirect jump leads out of: what it leads to returns by the return cache. */
  private readonly leaky: ReadonlySet<number>;

  constructor(region: Region) {
    this.region = region;
    this.indices = Array.from({ length: region.copies.length + 1 }, () => new Map<number, number>());
    region.blocks.forEach((b, i) => this.indices[b.copy].set(b.at, i));
    this.copyOf = new Map(region.copies.map((call, i) => [call, i + 1]));
    this.leaky = new Set(region.blocks.filter(({ end }) => end === 'indirect').map(({ copy }) => copy));
  }

  /** Of the block at an offset that is no copy. */
  index(at: number): number | undefined {
    return this.indices[0].get(at);
  }
  /** What a block's branch, jump or call leads to; an indirect one as a guess: where it was first seen to lead. */
  target(i: number): number | undefined {
    const block = this.region.blocks[i];
    const { end, led } = block;
    if (end === 'fall' || end === 'leave' || end === 'return') return undefined;
    const at = end === 'indirect' ? led[0] : block.target;
    const copy = block.calls ? (this.copyOf.get(block) ?? 0) : block.copy;
    return at === undefined ? undefined : this.indices[copy].get(at);
  }
  /** Blocks that an indirect jump at its end has led to. */
  ways(i: number): number[] {
    const { copy, end, calls, led } = this.region.blocks[i];
    if (end !== 'indirect' || calls) return [];
    return led.map((at) => this.indices[copy].get(at)).filter((index) => index !== undefined);
  }
  /** What comes after it, or after the call at its end. */
  next(i: number): number | undefined {
    const { copy, next } = this.region.blocks[i];
    return this.indices[copy].get(next);
  }
  /** The block at an offset that a block leads to. */
  to(i: number, at: number): number | undefined {
    const { copy, end } = this.region.blocks[i];
    return end === 'call' || end === 'indirect' ? this.target(i) : this.indices[copy].get(at);
  }
  /** A call has a copy of what it calls. */
  isInPlace(i: number): boolean {
    return this.copyOf.has(this.region.blocks[i]);
  }
  /** Where the return at the end of a copy's block leads, if it returns from that. */
  returnOf(i: number): { readonly at: number; readonly index: number } | undefined {
    const { copy, end } = this.region.blocks[i];
    if (end !== 'return' || copy === 0) return undefined;
    const call = this.region.copies[copy - 1];
    const index = this.indices[call.copy].get(call.next);
    return index === undefined ? undefined : { at: call.next, index };
  }
  /** Does a call, direct or not, return by the return cache? */
  isRemembered(i: number): boolean {
    const block = this.region.blocks[i];
    // an indirect call may lead elsewhere
    return block.calls && (block.end === 'indirect' || !this.isInPlace(i) || this.isLeaky(i));
  }
  /** A copy for a call may be left by an indirect jump. */
  isLeaky(i: number): boolean {
    return this.leaky.has(this.copyOf.get(this.region.blocks[i]) ?? 0);
  }

  /** Direct branches, also as guesses of indirect ones, calls of copies and returns from them. */
  edges(): [number, number][] {
    return this.collect((i, to) => {
      const { end } = this.region.blocks[i];
      if (end !== 'call' || this.isInPlace(i)) to(this.target(i));
      this.ways(i).forEach(to);
      if (end === 'branch' || end === 'fall') to(this.next(i));
      to(this.returnOf(i)?.index);
    });
  }
  /** Other direct calls. */
  calls(): [number, number][] {
    return this.collect((i, to) => {
      if (this.region.blocks[i].end === 'call' && !this.isInPlace(i)) to(this.target(i));
    });
  }
  private collect(visit: (i: number, to: (index: number | undefined) => void) => void): [number, number][] {
    const found: [number, number][] = [];
    this.region.blocks.forEach((_, i) =>
      visit(i, (index) => {
        if (index !== undefined) found.push([i, index]);
      }),
    );
    return found;
  }
}
