/**
 * Small functions once more in the place of their calls. Elsewhere a call and its return lead through the region's
 * dispatch, where all that is in locals has its place on the stack; a copy is entered and left by branches, and what is
 * known of pages at the call is known at its start. Its return looks whether it returns to that call.
 */
import { goesOn, RegionGraph } from './graph.ts';
import { MAX_BLOCKS } from './layout.ts';
import type { Block, Region } from './region.ts';

/** Instructions of a function that is copied, and of one that is called in one place only, where it is moved to. */
const MOST_COPIED = 80;
const MOST_MOVED = 120;
/** Instructions of a region with its copies. */
const MOST_INSTRUCTIONS = 640;
/** Calls within copies. */
const MOST_NESTED = 3;
/** Of as many executions of the region's head: calls that are executed less often have no copy. */
const RARE = 32;

interface Site {
  readonly call: Block;
  readonly weight: number;
  /** What the copies around it are of. */
  readonly within: readonly number[];
}
type Found = Omit<Region, 'copies'>;

/** What it calls, an indirect call as a guess. */
function callee({ end, calls, target, led }: Block): number | undefined {
  return end === 'call' ? target : calls ? led[0] : undefined;
}
function count(blocks: readonly Block[]): number {
  return blocks.reduce((sum, { steps }) => sum + steps.length, 0);
}

class Inliner {
  private readonly found: Found;
  private readonly at: ReadonlyMap<number, Block>;
  /** Calls by target, indirect ones by what they are taken to lead to. */
  private readonly callers = new Map<number, number>();
  private readonly placed: Block[] = [];
  private readonly copies: Block[] = [];
  private instructions: number;
  private blocks: number;

  constructor(found: Found) {
    this.found = found;
    this.at = new Map(found.blocks.map((b) => [b.at, b]));
    this.instructions = found.instructions;
    this.blocks = found.blocks.length;
    for (const block of found.blocks) {
      const target = callee(block);
      if (target !== undefined) this.callers.set(target, (this.callers.get(target) ?? 0) + 1);
    }
  }

  run(): Region {
    const { found } = this;
    const sites = found.blocks.map((call) => ({ call, weight: call.weight, within: [] }));
    const pending: Site[] = sites.filter(({ call }) => callee(call) !== undefined);
    while (pending.length > 0) {
      pending.sort((a, b) => b.weight - a.weight);
      pending.push(...this.place(pending.shift() as Site));
    }
    if (this.copies.length === 0) return { ...found, copies: [] };
    const blocks = [...found.blocks, ...this.placed];
    return this.reachable({ ...found, blocks, copies: this.copies });
  }

  /** Makes a copy for a call, if that is worth while; gives the calls in it. */
  private place({ call, weight, within }: Site): Site[] {
    const { found } = this;
    const target = callee(call) as number;
    const body = this.body(target);
    if (body === undefined || within.includes(target) || within.length === MOST_NESTED) return [];
    const size = count(body);
    const moved =
      within.length === 0 &&
      this.callers.get(target) === 1 &&
      target !== found.head &&
      !found.targets.includes(target);
    if (!moved) {
      if (size > MOST_COPIED || weight * RARE < 1) return [];
      if (this.instructions + size > MOST_INSTRUCTIONS || this.blocks + body.length > MAX_BLOCKS) return [];
      this.instructions += size;
      this.blocks += body.length;
    }
    const copy = this.copies.push(call);
    const blocks = body.map((b) => ({ ...b, copy }));
    this.placed.push(...blocks);
    const whole = (this.at.get(target) as Block).weight;
    return blocks
      .filter((inner) => callee(inner) !== undefined)
      .map((inner) => ({
        call: inner,
        weight: weight * Math.min(1, inner.weight / whole),
        within: [...within, target],
      }));
  }

  /** The blocks of the function at an offset; undefined: it is too large, or never returns. */
  private body(start: number): Block[] | undefined {
    const blocks = new Set<Block>();
    const pending = [start];
    let size = 0;
    let returns = false;
    while (pending.length > 0) {
      const block = this.at.get(pending.pop() as number);
      if (block === undefined || blocks.has(block)) continue;
      blocks.add(block);
      size += block.steps.length;
      if (size > MOST_MOVED) return undefined;
      returns ||= block.end === 'return';
      if (block.end === 'branch' || block.end === 'jump') pending.push(block.target);
      if (!block.calls) pending.push(...block.led);
      if (goesOn(block)) pending.push(block.next);
    }
    return returns ? [...blocks] : undefined;
  }

  /** Without the functions all of whose calls have a copy. */
  private reachable(region: Region): Region {
    const graph = new RegionGraph(region);
    const reached = new Set<number>();
    const pending: (number | undefined)[] = [region.head, ...region.targets].map((at) => graph.index(at));
    while (pending.length > 0) {
      const i = pending.pop();
      if (i === undefined || reached.has(i)) continue;
      reached.add(i);
      pending.push(graph.target(i), ...graph.ways(i));
      if (goesOn(region.blocks[i])) pending.push(graph.next(i));
    }
    const blocks = region.blocks.filter((_, i) => reached.has(i));
    return { ...region, blocks, instructions: count(blocks) };
  }
}

/** The region, with copies of functions for some of its calls. */
export function withCopies(found: Found): Region {
  return new Inliner(found).run();
}
