/**
 * What the emitter wants to know of a region's instructions before it emits the first: which may leave the region,
 * which flags somebody may see, which blocks control can enter from anywhere.
 */
import type { Insn } from '../cpu/decode/insn.ts';
import { ROWS } from '../cpu/decode/table.ts';
import { ARITHMETIC } from '../cpu/flags.ts';
import type { Semantics } from '../cpu/sem/ins.ts';
import type { RegionGraph } from './graph.ts';
import { MAX_ENTRIES } from './layout.ts';
import { childOf, type LoopNode } from './structure.ts';

/** One instruction. */
export interface StepInfo {
  readonly semantics: Semantics;
  readonly kinds: string;
  /** It may fault, jump or otherwise end the region. */
  readonly leaves: boolean;
  readonly readsFlags: boolean;
  readonly writesFlags: boolean;
  /** Sets all arithmetic flags, whatever its operands. */
  readonly kills: boolean;
  /** Sets flags in one place of its code, all of them or all but CF. */
  readonly simple: boolean;
  /** Somebody may see the flags that it sets. */
  flagsLive: boolean;
}

/** Instructions that, with register operands, neither fault nor leave. */
const STAYS = new Set(
  (
    'add sub and or xor adc sbb cmp test inc dec not neg mov lea movzx8 movzx16 movzx32 movsx8 movsx16 movsx32 xchg ' +
    'xadd cmpxchg bswap cbw cwd setcc cmovcc nop shl shr sar rol ror rcl rcr shld shrd mul imul1 imul bt bts btr btc ' +
    'bsf bsr tzcnt lzcnt popcnt clc stc cmc cld std lahf sahf andn blsr blsi blsmsk bextr bzhi mulx rorx sarx shlx shrx'
  ).split(' '),
);
/** Besides those and SSE and x87 instructions, these neither look at registers in the env nor change them there. */
const PLAIN = new Set('jcc jmp loop loope loopne jcxz push pop div idiv movnti movbe'.split(' '));
/** They set all flags when their count is not 0. */
const SHIFTS = new Set(['shl', 'shr', 'sar', 'shld', 'shrd']);
/** They set all flags, like the arithmetic instructions that say so by themselves. */
const SET_ALL = new Set([
  'adc',
  'sbb',
  'comiss',
  'comisd',
  'ucomiss',
  'ucomisd',
  'ptest',
  'fcomi',
  'fcomip',
  'fucomi',
  'fucomip',
]);

export function stepInfo(insn: Insn, kinds: string, semantics: Semantics, size: number): StepInfo {
  const { name } = semantics;
  const row = ROWS[insn.row];
  const touchesMemory = kinds.includes('m') && name !== 'lea' && name !== 'nop';
  const leaves = touchesMemory || kinds.includes('j') || semantics.reps !== undefined || !STAYS.has(name);
  const constantShift =
    SHIFTS.has(name) && kinds.endsWith('i') && (insn.immLo & (size === 8 ? 63 : 31)) !== 0;
  const kills = semantics.setsAllFlags === true || SET_ALL.has(name) || constantShift;
  return {
    semantics,
    kinds,
    leaves,
    readsFlags: (row.flagsRead & ARITHMETIC) !== 0 || name === 'syscall',
    writesFlags: (row.flagsWritten & ARITHMETIC) !== 0,
    kills,
    simple: kills || name === 'inc' || name === 'dec',
    flagsLive: true,
  };
}

/** All that it does with registers and flags is emitted where it stands. */
export function isPlain({ semantics: { name, unit, reps } }: StepInfo): boolean {
  return reps === undefined && (unit !== undefined || STAYS.has(name) || PLAIN.has(name));
}

/** Blocks that control goes to from one, undefined where it leaves the region; undefined: anywhere. */
function successors(graph: RegionGraph, i: number): (number | undefined)[] | undefined {
  switch (graph.region.blocks[i].end) {
    case 'branch':
      return [graph.target(i), graph.next(i)];
    case 'jump':
    case 'call':
      return [graph.target(i)];
    case 'fall':
      return [graph.next(i)];
    default:
      return undefined;
  }
}

/** Tells of each block whether flags from before it may be seen, and fills `flagsLive` of its instructions. */
export function flagLiveness(graph: RegionGraph, infos: readonly (readonly StepInfo[])[]): boolean[] {
  const { blocks } = graph.region;
  const liveIn = blocks.map(() => false);
  const liveOut = (i: number): boolean => {
    const to = successors(graph, i);
    // a branch back may leave instead
    return to === undefined || to.some((index) => index === undefined || index <= i || liveIn[index]);
  };
  const pass = (i: number): boolean => {
    let live = liveOut(i);
    for (let k = infos[i].length - 1; k >= 0; k--) {
      const info = infos[i][k];
      // a repetition reads what it has set so far
      info.flagsLive = live || info.semantics.reps !== undefined;
      if (info.kills) live = false;
      if (info.leaves || info.readsFlags) live = true;
    }
    return live;
  };
  for (let changed = true; changed;) {
    changed = false;
    for (let i = blocks.length - 1; i >= 0; i--) {
      const live = pass(i);
      if (live !== liveIn[i]) {
        liveIn[i] = live;
        changed = true;
      }
    }
  }
  return liveIn;
}

/** How a branch between two blocks is made. */
export interface Way {
  /** The innermost loop around both. */
  readonly node: LoopNode;
  /** Child of `node` whose start is branched to; -1: the loop's own start, backward. */
  readonly child: number;
  /** The loop that is entered dispatches to the block. */
  readonly dispatches: boolean;
}

/** Path from the root to the innermost loop that holds a block. */
function chain(tree: LoopNode, block: number): LoopNode[] {
  const path: LoopNode[] = [tree];
  for (;;) {
    const node = path[path.length - 1];
    const child = node.children[childOf(node, block)];
    if (typeof child === 'number') return path;
    path.push(child);
  }
}

export function wayBetween(tree: LoopNode, from: number, to: number): Way {
  const path = chain(tree, from);
  let depth = path.length - 1;
  while (to < path[depth].lo || to > path[depth].hi) depth--;
  const node = path[depth];
  const target = childOf(node, to);
  if (target > childOf(node, from)) {
    const child = node.children[target];
    return { node, child: target, dispatches: typeof child !== 'number' && to !== child.lo };
  }
  return { node, child: -1, dispatches: to !== node.lo };
}

/**
 * The blocks at which a region can be entered: its head, what its indirect jumps lead to, where its calls return to, what
 * it calls, where its loops begin. Of an address with copies its original, or else one of them.
 */
export function entryBlocks(graph: RegionGraph): Set<number> {
  const { blocks, head, targets } = graph.region;
  const entries = new Map<number, number>();
  const add = (index: number | undefined): void => {
    if (index === undefined) return;
    const { at, copy } = blocks[index];
    const other = entries.get(at);
    if (other === undefined || copy < blocks[other].copy) entries.set(at, index);
  };
  const jumped = new Set(blocks.flatMap((_, i) => graph.ways(i)));
  for (const i of [head, ...targets].map((at) => graph.index(at))) {
    if (i !== undefined && (blocks[i].at === head || !jumped.has(i))) add(i);
  }
  blocks.forEach((b, i) => {
    if (b.end === 'call' && !graph.isInPlace(i)) add(graph.target(i));
    if (b.end === 'call') add(graph.index(b.target));
    // an indirect call too has a block after it only if it returns there
    if (b.calls) add(graph.next(i));
    if (b.end === 'branch' || b.end === 'jump') {
      const to = graph.target(i);
      if (to !== undefined && to <= i) add(to);
    }
  });
  return new Set(entries.values());
}

/** The blocks a region can be entered at, in the order of its description's entries: the head first, copies last. */
export function entriesOf(graph: RegionGraph): number[] {
  const { blocks } = graph.region;
  const head = graph.index(graph.region.head) as number;
  const others = [...entryBlocks(graph)].filter((i) => i !== head);
  others.sort((a, b) => Number(blocks[a].copy > 0) - Number(blocks[b].copy > 0));
  return [head, ...others].slice(0, MAX_ENTRIES);
}
