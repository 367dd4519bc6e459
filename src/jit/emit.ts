/** Emits a region as one WebAssembly function `(env, record) → status`, called like a tier 0 handler. */
import {
  atomicLoad32,
  type Expr,
  type FuncBuilder,
  i32,
  i64,
  type Label,
  load,
  type Local,
} from '../wasm/index.ts';
import { CODE_TLB_ENTRIES, CpuEnv, REASON, TLB_SET } from '../cpu/env.ts';
import type { Semantics } from '../cpu/sem/ins.ts';
import type { Runtime } from '../cpu/sem/memory-access.ts';
import { operandKinds, operandSize, semanticName, type SemanticsIndex } from '../cpu/sem/select.ts';
import { FLAG_OFFSETS, STATUS } from '../cpu/tier0/context.ts';
import { EXIT_JUMP, JitIns, type RegionFrame } from './jit-ins.ts';
import { JitFlags } from './jit-flags.ts';
import { EXIT_SAMPLE, REGION, RETURN_CACHE, RETURN_ENTRIES } from './layout.ts';
import type { Block, Region, Step } from './region.ts';
import { childOf, type LoopNode, loopTree } from './structure.ts';

const OFF = {
  codePage: CpuEnv.offsetOf('codePage'),
  tlbSet: CpuEnv.offsetOf('tlbSet'),
  ip: CpuEnv.offsetOf('ip'),
  jumpTarget: CpuEnv.offsetOf('jumpTarget'),
  exitRequest: CpuEnv.offsetOf('exitRequest'),
  exitDetail: CpuEnv.offsetOf('exitDetail'),
  cr0: CpuEnv.offsetOf('cr0'),
  cr4: CpuEnv.offsetOf('cr4'),
} as const;
const CR0_EM_TS = 0xc;
const CR4_OSFXSR = 1 << 9;
const PAGE = 4096;
const NONE = -1;

/** Where the region is published. */
export interface RegionPlace {
  /** Wasm address of its description (REGION). */
  readonly description: number;
  readonly slot: number;
  /** Descriptor of each of the region's pages, in the order of `region.pages`. */
  readonly descriptors: readonly number[];
}

export class RegionEmitter {
  private readonly f: FuncBuilder;
  private readonly region: Region;
  private readonly place: RegionPlace;
  private readonly semantics: SemanticsIndex<Semantics>;
  private readonly tree: LoopNode;
  private readonly indexOf = new Map<number, number>();
  private readonly next: Local;
  private readonly frame: RegionFrame;
  private readonly ins: JitIns;
  private readonly flags: JitFlags;
  private readonly flagLocals: { res: Local; carry: Local; aux: Local };
  /** Labels while a loop's body is being emitted: of the loop itself, and of the start of each child. */
  private readonly labels = new Map<LoopNode, { loop: Label; children: Label[] }>();
  private current = 0;
  private exitLabel!: Label;
  private readonly written = new Set<number>();
  private usesSimd = false;

  constructor(
    f: FuncBuilder,
    region: Region,
    place: RegionPlace,
    semantics: SemanticsIndex<Semantics>,
    runtime: Runtime,
  ) {
    this.f = f;
    this.region = region;
    this.place = place;
    this.semantics = semantics;
    region.blocks.forEach((b, i) => this.indexOf.set(b.at, i));
    this.tree = loopTree(region.blocks.length, this.edges());
    this.next = f.local('i32');
    this.flagLocals = { res: f.local('i64'), carry: f.local('i64'), aux: f.local('i32') };
    this.flags = new JitFlags(f, this.flagLocals);
    const emitter = this;
    this.frame = {
      f,
      env: f.param(0),
      tlb: f.local('i32'),
      base: f.local('i64'),
      regs: Array.from({ length: 16 }, () => f.local('i64')),
      written: this.written,
      exitLinear: f.local('i64'),
      exitReason: f.local('i32'),
      get exitLabel() {
        return emitter.exitLabel;
      },
      stale: f.local('i32'),
      validWord: place.description + REGION.VALID,
      branchTo: (at) => this.branchTo(at),
      branchIndirect: (target) => this.branchIndirect(target),
    };
    this.ins = new JitIns(this.frame, runtime, this.flags);
    this.usesSimd = region.blocks.some((b) => b.steps.some((s) => this.find(s).unit !== undefined));
  }

  /** Direct branches between blocks, calls not included. */
  private edges(): [number, number][] {
    const edges: [number, number][] = [];
    this.region.blocks.forEach((b, i) => {
      const to = (at: number): void => {
        const index = this.indexOf.get(at);
        if (index !== undefined) edges.push([i, index]);
      };
      if (b.end === 'branch' || b.end === 'jump') to(b.target);
      if (b.end === 'branch' || b.end === 'fall') to(b.next);
    });
    return edges;
  }

  private find(step: Step): Semantics {
    const s = this.semantics.find(semanticName(step.insn), operandKinds(step.insn));
    if (s === undefined) throw new Error('an instruction without semantics in a region');
    return s;
  }

  emit(): void {
    const { f, frame } = this;
    this.entry();
    f.block((exit) => {
      this.exitLabel = exit;
      this.loop(this.tree);
      f.unreachable();
    });
    this.exit();
    void frame;
  }

  /** Checks that the region may run here, loads registers and flags. */
  private entry(): void {
    const { f, frame, place, region } = this;
    const { env } = frame;
    f.set(frame.base, load('i64', env, OFF.codePage));
    f.set(frame.tlb, env.add(load('i32', env, OFF.tlbSet)));
    const refuse = (reason: number): void => {
      f.store(4, env, OFF.exitDetail, i32(place.description));
      f.store(8, env, OFF.ip, frame.base.add(i64(region.head)));
      f.ret(i32(STATUS.EXIT + reason));
    };
    f.if(
      load('i32', i32(0), place.description + REGION.VALID).eqz(),
      () => refuse(REASON.REGION),
      undefined,
      false,
    );
    region.pages.forEach((distance, i) => {
      if (distance === 0) return;
      const page = f.copy(frame.base.add(i64(distance * PAGE)));
      const entry = f.copy(
        frame.tlb.add(
          page
            .i32()
            .shrU(8)
            .and((CODE_TLB_ENTRIES - 1) << 4),
        ),
      );
      const same = load('i64', entry, TLB_SET.CODE)
        .eq(page)
        .and(load('i32', entry, TLB_SET.CODE + 8).eq(i32(place.descriptors[i])));
      f.if(same.eqz(), () => refuse(REASON.REGION), undefined, false);
    });
    if (this.usesSimd) {
      // these bits change only by instructions that leave the region
      const off = load('i32', env, OFF.cr0)
        .and(CR0_EM_TS)
        .or(load('i32', env, OFF.cr4).and(CR4_OSFXSR).eqz());
      f.if(off, () => refuse(REASON.ALONE), undefined, false);
    }
    frame.regs.forEach((r, i) => f.set(r, load('i64', env, i * 8)));
    f.set(this.flagLocals.res, load('i64', env, FLAG_OFFSETS.res));
    f.set(this.flagLocals.carry, load('i64', env, FLAG_OFFSETS.carry));
    f.set(this.flagLocals.aux, load('i32', env, FLAG_OFFSETS.aux));
    f.set(frame.stale, i32(0));
    f.set(this.next, i32(this.indexOf.get(region.head) as number));
  }

  /** The one place where the region is left: state goes back to the env. */
  private exit(): void {
    const { f, frame } = this;
    const { env } = frame;
    for (const r of this.written) f.store(8, env, r * 8, frame.regs[r]);
    f.store(8, env, FLAG_OFFSETS.res, this.flagLocals.res);
    f.store(8, env, FLAG_OFFSETS.carry, this.flagLocals.carry);
    f.store(4, env, FLAG_OFFSETS.aux, this.flagLocals.aux);
    f.if(frame.exitReason.eq(EXIT_JUMP), () => {
      const word = i32(this.place.description);
      const exits = f.copy(load('i32', word, REGION.EXITS).add(1));
      f.store(4, word, REGION.EXITS, exits);
      // what is often gone on with may be worth a region too
      f.set(frame.exitReason, i32(REASON.HOT));
      f.if(
        exits.and(EXIT_SAMPLE - 1),
        () => {
          f.store(8, env, OFF.jumpTarget, frame.exitLinear);
          f.ret(i32(STATUS.JUMP));
        },
        undefined,
        true,
      );
    });
    f.store(8, env, OFF.ip, frame.exitLinear);
    f.ret(frame.exitReason.add(STATUS.EXIT));
  }

  // --- structure ---

  private loop(node: LoopNode): void {
    const { f, next } = this;
    f.loop((loopLabel) => {
      const children: Label[] = [];
      this.labels.set(node, { loop: loopLabel, children });
      this.openChildren(node, children, node.children.length - 1, () => {
        // entered or re-entered at some block: `next` says which, unless it is the first
        f.if(next.ne(NONE), () => {
          const targets: Label[] = [];
          for (let b = node.lo; b <= node.hi; b++) targets.push(children[childOf(node, b)]);
          f.brTable(next.sub(node.lo), targets, targets[0]);
        });
      });
      this.labels.delete(node);
    });
  }

  /** Opens a wasm block for each child, the first innermost, so that a branch to a child's label lands at its start. */
  private openChildren(node: LoopNode, labels: Label[], k: number, dispatch: () => void): void {
    const { f } = this;
    f.block((label) => {
      labels[k] = label;
      if (k > 0) this.openChildren(node, labels, k - 1, dispatch);
      else dispatch();
    });
    const child = node.children[k];
    if (typeof child === 'number') this.block(child);
    else this.loop(child);
  }

  private block(index: number): void {
    const { f, region, ins, flags } = this;
    const block = region.blocks[index];
    this.current = index;
    f.set(this.next, i32(NONE));
    flags.forget();
    f.scope(() => {
      for (const step of block.steps) this.step(step);
      if (block.end === 'branch' || block.end === 'fall') this.branchTo(block.next);
      else if (block.end === 'leave') ins.exit(EXIT_JUMP, this.linear(block.next));
    });
  }

  private step(step: Step): void {
    const { ins, flags } = this;
    const semantics = this.find(step);
    const kinds = operandKinds(step.insn);
    ins.begin(step.insn, step.at, semantics, operandSize(step.insn, semantics), kinds);
    ins.popsToMemory = semantics.name === 'pop' && kinds === 'm';
    // a repeated instruction may leave the flags as they were
    if (semantics.reps !== undefined) flags.forget();
    semantics.emit(ins);
    if (semantics.reps !== undefined) flags.forget();
    ins.end();
  }

  private linear(at: number): Expr {
    return this.frame.base.add(i64(at));
  }

  /** Path from the root to the innermost loop that holds a block. */
  private chain(block: number): LoopNode[] {
    const path: LoopNode[] = [this.tree];
    for (;;) {
      const node = path[path.length - 1];
      const child = node.children[childOf(node, block)];
      if (typeof child === 'number') return path;
      path.push(child);
    }
  }

  private branchTo(at: number): void {
    const { f, current } = this;
    const block = this.region.blocks[current];
    if (block.end === 'call' && at === block.target) this.rememberReturn(block);
    const to = this.indexOf.get(at);
    if (to === undefined) {
      this.ins.exit(EXIT_JUMP, this.linear(at));
      return;
    }
    // the innermost loop around both; a branch back to a loop's head stays in that loop
    const path = this.chain(current);
    let depth = path.length - 1;
    while (to < path[depth].lo || to > path[depth].hi) depth--;
    const node = path[depth];
    const { loop, children } = this.labels.get(node) as { loop: Label; children: Label[] };
    const from = childOf(node, current);
    const target = childOf(node, to);
    if (target > from) {
      const child = node.children[target];
      if (typeof child !== 'number' && to !== child.lo) f.set(this.next, i32(to));
      f.br(children[target]);
      return;
    }
    f.if(
      atomicLoad32(this.frame.env, OFF.exitRequest),
      () => this.ins.exit(REASON.KICK, this.linear(at)),
      undefined,
      false,
    );
    if (to !== node.lo) f.set(this.next, i32(to));
    f.br(loop);
  }

  // --- calls and returns ---

  private returnEntry(linear: Expr): Local {
    const hash = linear
      .i32()
      .xor(linear.i32().shrU(9))
      .and(RETURN_ENTRIES - 1);
    return this.f.copy(this.frame.env.add(hash.shl(5)));
  }
  /** Which region and block an address belongs to: regions are told apart by slot, address spaces by base. */
  private returnKey(): Expr {
    return this.frame.base.or(i64(this.place.slot));
  }
  private rememberReturn(block: Block): void {
    const index = this.indexOf.get(block.next);
    if (index === undefined) return;
    const { f } = this;
    const linear = f.copy(this.linear(block.next));
    const entry = this.returnEntry(linear);
    f.store(8, entry, RETURN_CACHE, linear);
    f.store(8, entry, RETURN_CACHE + 8, this.returnKey());
    f.store(4, entry, RETURN_CACHE + 16, i32(index));
  }

  private branchIndirect(target: Expr): void {
    const { f, frame } = this;
    const block = this.region.blocks[this.current];
    const last = block.steps[block.steps.length - 1].insn;
    const to = f.copy(target);
    const isCall = block.next !== 0 && operandKinds(last).length > 0 && semanticName(last) === 'call';
    if (isCall) this.rememberReturn(block);
    else {
      const entry = this.returnEntry(to);
      const known = load('i64', entry, RETURN_CACHE)
        .eq(to)
        .and(load('i64', entry, RETURN_CACHE + 8).eq(this.returnKey()))
        .and(atomicLoad32(frame.env, OFF.exitRequest).eqz());
      f.if(
        known,
        () => {
          f.set(this.next, load('i32', entry, RETURN_CACHE + 16));
          f.br((this.labels.get(this.tree) as { loop: Label }).loop);
        },
        undefined,
        true,
      );
    }
    this.ins.exit(EXIT_JUMP, to);
  }
}
