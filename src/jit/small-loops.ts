/**
 * Small loops keep registers and flags in locals from turn to turn: what leaves them stores both. Elsewhere a register
 * is in the env by the end of its block, so that ways out, of which there are many, have nothing to store.
 */
import { isPlain, type StepInfo } from './analysis.ts';
import type { Region, Step } from './region.ts';
import type { LoopNode } from './structure.ts';

/** Each way out of a larger one would cost more code than its turns save. */
const MOST_INSTRUCTIONS = 64;
/** The same of a loop around an indirect jump, as an interpreter's: a turn is in few of its blocks, and would store what each of them writes. */
const MOST_SWITCHING = 100;
const SP = 4;

/** Registers that an instruction writes besides its operands. */
const IMPLICIT: Readonly<Record<string, readonly number[]>> = {
  cbw: [0],
  cwd: [2],
  mul: [0, 2],
  imul1: [0, 2],
  div: [0, 2],
  idiv: [0, 2],
  cmpxchg: [0],
  lahf: [0],
  push: [SP],
  pop: [SP],
  loop: [1],
  loope: [1],
  loopne: [1],
};
const WRITES_NONE = new Set(['cmp', 'test', 'bt', 'push', 'comiss', 'comisd', 'ucomiss', 'ucomisd']);
const WRITES_TWO = new Set(['xchg', 'xadd', 'mulx']);

/** Numbers of the registers that it may write. */
function written({ insn }: Step, { semantics, kinds }: StepInfo): number[] {
  const { name } = semantics;
  const operands = WRITES_NONE.has(name) ? 0 : WRITES_TWO.has(name) ? 2 : 1;
  const explicit = [...kinds.slice(0, operands)].flatMap((kind, i) => (kind === 'r' ? [insn.reg[i]] : []));
  return [...explicit, ...(IMPLICIT[name] ?? [])];
}

/** Of each small loop without loops in it: the registers that it writes. */
export function smallLoops(
  tree: LoopNode,
  region: Region,
  infos: readonly (readonly StepInfo[])[],
): ReadonlyMap<LoopNode, ReadonlySet<number>> {
  const found = new Map<LoopNode, ReadonlySet<number>>();
  const visit = (node: LoopNode): void => {
    const inner = node.children.filter((child) => typeof child !== 'number');
    inner.forEach(visit);
    if (inner.length > 0) return;
    const registers = new Set<number>();
    let count = 0;
    let most = MOST_INSTRUCTIONS;
    for (let b = node.lo; b <= node.hi; b++) {
      const { steps, end, calls } = region.blocks[b];
      count += steps.length;
      if (calls || end === 'return') return;
      if (end === 'indirect') {
        // one that is looked for comes back to the root's start with all in the env
        if (node === tree) return;
        most = MOST_SWITCHING;
      }
      for (const [i, step] of steps.entries()) {
        if (!isPlain(infos[b][i])) return;
        for (const r of written(step, infos[b][i])) registers.add(r);
      }
    }
    if (count <= most) found.set(node, registers);
  };
  visit(tree);
  return found;
}
