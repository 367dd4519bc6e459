/**
 * The order of a region's blocks: reverse postorder, so that a branch leads back only where there is a loop, whatever the
 * addresses; what leaves a loop comes after it, and what is fallen into right after what falls.
 */
import { goesOn, RegionGraph } from './graph.ts';
import type { Region } from './region.ts';

/** By block, the blocks that control goes to, calls and what follows their return included; what it falls into is last. */
function successors(graph: RegionGraph): number[][] {
  const { blocks, targets } = graph.region;
  const indirect = targets.map((at) => graph.index(at));
  return blocks.map((block, i) => {
    const { end } = block;
    const to: (number | undefined)[] = [];
    if (end === 'indirect') to.push(...indirect, ...graph.ways(i));
    if (end === 'return') to.push(graph.returnOf(i)?.index);
    const next = goesOn(block) ? graph.next(i) : undefined;
    const target = graph.target(i);
    // a copy comes between its call and where that returns to
    to.push(...(graph.isInPlace(i) ? [next, target] : [target, next]));
    return to.filter((index) => index !== undefined);
  });
}

/** Depth first from the roots: blocks in postorder, and edges that lead back to where the search came from. */
function search(
  ways: readonly (readonly number[])[],
  roots: readonly number[],
): { postorder: number[]; back: [number, number][] } {
  const postorder: number[] = [];
  const back: [number, number][] = [];
  const state = new Map<number, 'open' | 'done'>();
  const visit = (i: number): void => {
    state.set(i, 'open');
    for (const to of ways[i]) {
      const seen = state.get(to);
      if (seen === undefined) visit(to);
      else if (seen === 'open') back.push([i, to]);
    }
    state.set(i, 'done');
    postorder.push(i);
  };
  for (const root of roots) if (!state.has(root)) visit(root);
  return { postorder, back };
}

/** By block, the first blocks of the loops that it is in. */
function loopsOf(
  ways: readonly (readonly number[])[],
  back: readonly (readonly [number, number])[],
): Set<number>[] {
  const before: number[][] = ways.map(() => []);
  ways.forEach((list, i) => list.forEach((to) => before[to].push(i)));
  const loops: Set<number>[] = ways.map(() => new Set());
  for (const [from, head] of back) {
    loops[head].add(head);
    const pending = [from];
    while (pending.length > 0) {
      const i = pending.pop() as number;
      if (loops[i].has(head)) continue;
      loops[i].add(head);
      pending.push(...before[i]);
    }
  }
  return loops;
}

/** Blocks that a block is led to from, and those that it leads to, itself included. */
function reached(ways: readonly (readonly number[])[], from: number): Set<number> {
  const found = new Set([from]);
  for (const i of found) for (const to of ways[i]) found.add(to);
  return found;
}

/**
 * The block to begin with: the head, or another one of the loop that it is in, if there are fewer loops then. A region is
 * entered through its dispatch, so any will do.
 */
function first(ways: readonly (readonly number[])[], head: number): number {
  const loops = (root: number): number => new Set(search(ways, [root]).back.map(([, to]) => to)).size;
  let best = head;
  let least = loops(head);
  for (const i of reached(ways, head)) {
    if (least <= 1) break;
    if (!reached(ways, i).has(head)) continue;
    const count = loops(i);
    if (count >= least) continue;
    best = i;
    least = count;
  }
  return best;
}

/** The region with its blocks in that order. */
export function inOrder(region: Region): Region {
  const graph = new RegionGraph(region);
  const ways = successors(graph);
  const roots = [first(ways, graph.index(region.head) as number), ...region.blocks.keys()];
  const loops = loopsOf(ways, search(ways, roots).back);
  const left = (from: number, to: number): number =>
    [...loops[from]].filter((head) => !loops[to].has(head)).length;
  // what is visited first comes last
  const sorted = ways.map((list, i) => list.toSorted((a, b) => left(i, b) - left(i, a)));
  const blocks = search(sorted, roots)
    .postorder.reverse()
    .map((i) => region.blocks[i]);
  return { ...region, blocks };
}
