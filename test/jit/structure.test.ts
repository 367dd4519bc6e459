import { describe, expect, it } from 'vitest';
import { childOf, type LoopNode, loopTree } from '../../src/jit/structure.ts';
import { Rng } from '../oracle/rng.ts';

type Edge = readonly [number, number];

interface Graph {
  readonly count: number;
  readonly edges: readonly Edge[];
}
function randomGraph(rng: Rng): Graph {
  const count = 1 + rng.below(rng.once(4) ? 40 : 10);
  const edges: Edge[] = [];
  for (let from = 0; from < count; from++) {
    for (let n = rng.below(3); n > 0; n--) {
      const near = Math.max(0, Math.min(count - 1, from + rng.below(9) - 4));
      edges.push([from, rng.once(3) ? rng.below(count) : near]);
    }
  }
  return { count, edges };
}
const GRAPHS = Array.from({ length: 2000 }, (_, i) => randomGraph(new Rng(11, i)));

function nodes(node: LoopNode): LoopNode[] {
  return [node, ...node.children.flatMap((c) => (typeof c === 'number' ? [] : nodes(c)))];
}
function contains(node: LoopNode, block: number): boolean {
  return block >= node.lo && block <= node.hi;
}
/** Loops around a block, outermost first. */
function chain(root: LoopNode, block: number): LoopNode[] {
  const path = [root];
  for (;;) {
    const node = path[path.length - 1];
    const child = node.children[childOf(node, block)];
    if (typeof child === 'number') return path;
    path.push(child);
  }
}

/** Where control goes from the start of `node` when `next` is set, or at its first block: as a dispatch does. */
function enter(node: LoopNode, next: number | undefined): number {
  const child = node.children[next === undefined ? 0 : childOf(node, next)];
  return typeof child === 'number' ? child : enter(child, next === child.lo ? undefined : next);
}
/** Where a branch from one block to another leads, by the labels that structured code has at that place. */
function branch(root: LoopNode, from: number, to: number): number {
  const path = chain(root, from);
  let depth = path.length - 1;
  while (!contains(path[depth], to)) depth--;
  const node = path[depth];
  const target = childOf(node, to);
  if (target > childOf(node, from)) {
    const child = node.children[target];
    return typeof child === 'number' ? child : enter(child, to === child.lo ? undefined : to);
  }
  return enter(node, to === node.lo ? undefined : to);
}

describe('the loop tree', () => {
  it('has all blocks, in order, in the root', () => {
    for (const { count, edges } of GRAPHS) {
      const root = loopTree(count, edges);
      expect([root.lo, root.hi, root.parent]).toEqual([0, count - 1, undefined]);
    }
  });
  it('divides each loop into its children without gaps', () => {
    for (const { count, edges } of GRAPHS) {
      for (const node of nodes(loopTree(count, edges))) {
        let at = node.lo;
        for (const child of node.children) {
          expect(typeof child === 'number' ? child : child.lo).toBe(at);
          at = typeof child === 'number' ? child + 1 : child.hi + 1;
        }
        expect(at).toBe(node.hi + 1);
      }
    }
  });
  it('nests: a loop is smaller than the one around it, which it names as its parent', () => {
    for (const { count, edges } of GRAPHS) {
      for (const node of nodes(loopTree(count, edges))) {
        for (const child of node.children) {
          if (typeof child === 'number') continue;
          expect(child.parent).toBe(node);
          expect(child.hi - child.lo).toBeLessThan(node.hi - node.lo);
        }
      }
    }
  });
  it('has a loop that begins at the target of each backward branch and holds the branch', () => {
    for (const { count, edges } of GRAPHS) {
      const all = nodes(loopTree(count, edges));
      for (const [from, to] of edges) {
        if (to <= from) expect(all.some((n) => n.lo === to && n.hi >= from)).toBe(true);
      }
    }
  });
  it('has no loop but the root without a backward branch to its start', () => {
    for (const { count, edges } of GRAPHS) {
      for (const node of nodes(loopTree(count, edges))) {
        if (node.parent === undefined) continue;
        expect(edges.some(([from, to]) => to === node.lo && contains(node, from) && from >= to)).toBe(true);
      }
    }
  });
  it('finds the child that holds a block, and none for a block outside', () => {
    for (const { count, edges } of GRAPHS.slice(0, 300)) {
      for (const node of nodes(loopTree(count, edges))) {
        for (let b = 0; b < count; b++) {
          const at = childOf(node, b);
          expect(at >= 0).toBe(contains(node, b));
          const child = node.children[at];
          if (at >= 0) expect(typeof child === 'number' ? child === b : contains(child, b)).toBe(true);
        }
      }
    }
  });
  it('expresses a branch from any block to any other', () => {
    for (const { count, edges } of GRAPHS.slice(0, 300)) {
      const root = loopTree(count, edges);
      for (let from = 0; from < count; from++) {
        for (let to = 0; to < count; to++) expect(branch(root, from, to)).toBe(to);
      }
    }
  });
  it('widens loops that overlap until they nest', () => {
    // 0 … 2 → 0 and 1 … 3 → 1
    const root = loopTree(5, [
      [2, 0],
      [3, 1],
    ]);
    expect(nodes(root).map((n) => [n.lo, n.hi])).toEqual([
      [0, 4],
      [0, 3],
      [1, 3],
    ]);
  });
});
