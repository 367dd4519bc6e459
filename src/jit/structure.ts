/**
 * Arranges a region's blocks, in their order, as nested loops: each backward branch makes an interval of blocks a
 * loop; intervals that overlap are widened until they nest. Any control flow can be expressed on it (see emit.ts): a
 * branch into the middle of a loop goes through the loop's dispatch.
 */

/** A loop over blocks `lo`..`hi`; children in order. */
export interface LoopNode {
  readonly lo: number;
  hi: number;
  readonly parent: LoopNode | undefined;
  readonly children: (LoopNode | number)[];
}

/**
 * `edges`: direct branches as [from, to] block indices (calls not included). `apart`: the root is no loop of theirs, also
 * where one has all blocks.
 */
export function loopTree(
  count: number,
  edges: readonly (readonly [number, number])[],
  apart = false,
): LoopNode {
  const ends = new Map<number, number>();
  for (const [from, to] of edges) {
    if (to <= from) ends.set(to, Math.max(ends.get(to) ?? 0, from));
  }
  // widen an interval that begins inside another one and ends behind it
  const starts = [...ends.keys()].sort((a, b) => a - b);
  for (let changed = true; changed;) {
    changed = false;
    for (const a of starts) {
      for (const b of starts) {
        const endA = ends.get(a) as number;
        const endB = ends.get(b) as number;
        if (a < b && b <= endA && endB > endA) {
          ends.set(a, endB);
          changed = true;
        }
      }
    }
  }
  const build = (lo: number, hi: number, parent: LoopNode | undefined): LoopNode => {
    const node: LoopNode = { lo, hi, parent, children: [] };
    let i = lo;
    while (i <= hi) {
      const end = ends.get(i);
      // the node's own interval is not its child
      const own = i === lo && end === hi && !(apart && parent === undefined);
      if (end !== undefined && !own) {
        node.children.push(build(i, end, node));
        i = end + 1;
      } else {
        node.children.push(i);
        i++;
      }
    }
    return node;
  };
  return build(0, count - 1, undefined);
}

/** Index in `node.children` of the child that holds block `block`, or -1. */
export function childOf(node: LoopNode, block: number): number {
  return node.children.findIndex((c) =>
    typeof c === 'number' ? c === block : block >= c.lo && block <= c.hi,
  );
}
