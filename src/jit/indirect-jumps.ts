/**
 * What regions have found out of each indirect jump. An interpreter's loop is reached in many places, and a region may begin
 * in each of them; one that knows a part of what the loop's jump leads to would hand on to the others all the time. So
 * when one becomes wider, it gets all that any of them knows of the jump.
 */
import { RegionGraph } from './graph.ts';
import { MAX_TARGETS } from './layout.ts';
import type { Region } from './region.ts';

interface Jump {
  /** Distances from the jump, in the order in which they were seen. */
  readonly led: Set<number>;
  /** Code that it leads to leads to it. */
  loops: boolean;
}

/** By a number for where they are. */
export class IndirectJumps {
  private readonly jumps = new Map<number, Jump>();

  private of(jump: number): Jump {
    let known = this.jumps.get(jump);
    if (known === undefined) this.jumps.set(jump, (known = { led: new Set(), loops: false }));
    return known;
  }
  /** The first are enough: a region has no more targets. */
  leads(jump: number, distance: number): void {
    const { led } = this.of(jump);
    if (led.size < MAX_TARGETS) led.add(distance);
  }
  loops(jump: number): void {
    this.of(jump).loops = true;
  }
  /** Where one that is part of a loop has led. What functions share, as a jump that stands for their calls, is none. */
  shared(jump: number): Iterable<number> {
    const known = this.jumps.get(jump);
    return known?.loops === true ? known.led : [];
  }
  clear(): void {
    this.jumps.clear();
  }
}

/** The indirect jumps of a region that are part of a loop, by their offset. */
export function loopingJumps(region: Region): number[] {
  const graph = new RegionGraph(region);
  const ways = region.blocks.map((): number[] => []);
  for (const [from, to] of graph.edges()) ways[from].push(to);
  const loops = (i: number): boolean => {
    const reached = new Set<number>();
    const pending = graph.ways(i);
    while (pending.length > 0) {
      const to = pending.pop() as number;
      if (to === i) return true;
      if (reached.has(to)) continue;
      reached.add(to);
      pending.push(...ways[to]);
    }
    return false;
  };
  const found: number[] = [];
  region.blocks.forEach(({ steps, copy }, i) => {
    if (copy === 0 && loops(i)) found.push(steps[steps.length - 1].at);
  });
  return found;
}
