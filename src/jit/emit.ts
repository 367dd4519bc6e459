/** Emits a region as one WebAssembly function `(env, record) → status`, called like a tier 0 handler. */
import {
  atomicLoad8,
  type Expr,
  type FuncBuilder,
  type FuncRef,
  i32,
  i64,
  type Label,
  load,
  type Local,
} from '../wasm/index.ts';
import { CpuEnv, JUMP, REASON, SEG, Segment, TLB_SET } from '../cpu/env.ts';
import { checkPending, CR4_OSFXSR, FPU_OFF, isSse, reportsPending } from '../cpu/sem/fpu-check.ts';
import type { X87Functions } from '../cpu/fpu/functions.ts';
import type { FpuUnit, Semantics } from '../cpu/sem/ins.ts';
import type { Runtime } from '../cpu/sem/memory-access.ts';
import { operandKinds, operandSize, type SemanticsIndex } from '../cpu/sem/select.ts';
import { entriesOf, entryBlocks, flagLiveness, stepInfo, type StepInfo, wayBetween } from './analysis.ts';
import { RegionGraph } from './graph.ts';
import { JitIns, type RegionFrame } from './jit-ins.ts';
import { JitFlags } from './jit-flags.ts';
import {
  EXIT_CODE,
  EXIT_COUNT,
  EXIT_INDIRECT,
  EXIT_JUMP,
  EXIT_TARGET,
  PLACE,
  REGION,
  RETURN_CACHE,
  RETURN_ENTRIES,
} from './layout.ts';
import { jumpEntry, losses } from './region-runtime.ts';
import type { Region, Step } from './region.ts';
import { scatter } from './scatter.ts';
import { smallLoops } from './small-loops.ts';
import { childOf, type LoopNode, loopTree } from './structure.ts';
import { X87Cache } from './x87-cache.ts';
import type { KnownStep } from './x87-plan.ts';

const OFF = {
  tlbSet: CpuEnv.offsetOf('tlbSet'),
  jumpTarget: CpuEnv.offsetOf('jumpTarget'),
  exitRequest: CpuEnv.offsetOf('exitRequest'),
  linked: CpuEnv.offsetOf('statRegionExits') + EXIT_COUNT.NEXT * 8,
  cr0: CpuEnv.offsetOf('cr0'),
  cr4: CpuEnv.offsetOf('cr4'),
  stackSize: CpuEnv.offsetOf('stackSize'),
  csBase: CpuEnv.offsetOf('segs') + SEG.CS * Segment.size,
} as const;
const PAGE = 4096;
/** Values of `next` besides a block: no dispatch; the target of an indirect jump, in the env's `jumpTarget`, is to be looked for. */
const NONE = -1;
const SEEK = -2;
/** Blocks that an indirect jump is compared with one after the other; more are in a table. */
const MOST_COMPARED = 2;

/** Where the region is published. */
export interface RegionPlace {
  /** Wasm address of its description (REGION). */
  readonly description: number;
  readonly slot: number;
  /** Descriptor of each of the region's pages, in the order of `region.pages`. */
  readonly descriptors: readonly number[];
  /** Number of the first region slot among the handlers. */
  readonly firstHandler: number;
  /** What profilers call its code. */
  readonly name: string;
}

/** What generated code of a region calls besides its instructions' runtime. */
export interface RegionRuntime extends Runtime {
  /** (env): deferred flags in the env become words. */
  readonly flagWords: FuncRef;
  /** See region-runtime.ts. */
  readonly refuseRegion: FuncRef;
  readonly enterRegion: FuncRef;
  readonly readyRegion: FuncRef;
  readonly leaveRegion: FuncRef;
  /** Type index of a handler. */
  readonly handlerType: number;
}

export class RegionEmitter {
  private readonly f: FuncBuilder;
  private readonly region: Region;
  private readonly place: RegionPlace;
  private readonly semantics: SemanticsIndex<Semantics>;
  private readonly runtime: RegionRuntime;
  private readonly tree: LoopNode;
  private readonly graph: RegionGraph;
  private readonly infos: readonly (readonly StepInfo[])[];
  private readonly flagsLiveIn: readonly boolean[];
  private readonly entries: ReadonlySet<number>;
  /** Blocks that some loop's dispatch leads to. */
  private readonly dispatched: ReadonlySet<number>;
  /** Blocks that control reaches only by falling out of the one before. */
  private readonly continues: ReadonlySet<number>;
  /** Registers that small loops write, and by block the loop that it is in. */
  private readonly small: ReadonlyMap<LoopNode, ReadonlySet<number>>;
  private readonly smallOf = new Map<number, LoopNode>();
  /** Blocks whose indirect jump or call may lead to a target that it has not led to so far. */
  private readonly seeking: ReadonlySet<number>;
  private readonly next: Local;
  private readonly frame: RegionFrame;
  private readonly ins: JitIns;
  private readonly flags: JitFlags;
  private readonly x87: X87Cache;
  /** Labels while a loop's body is being emitted: of the loop itself, and of the start of each child. */
  private readonly labels = new Map<LoopNode, { loop: Label; children: Label[] }>();
  private current = 0;
  private exitLabel!: Label;
  private exitWithFlags!: Label;
  private readonly usesFpu: boolean;
  private readonly usesSse: boolean;
  /** Where the entry's code loads each register. */
  private registerLoads: readonly { readonly from: number; readonly to: number }[] = [];

  constructor(
    f: FuncBuilder,
    region: Region,
    place: RegionPlace,
    semantics: SemanticsIndex<Semantics>,
    runtime: RegionRuntime,
    x87: X87Functions,
  ) {
    this.f = f;
    this.region = region;
    this.place = place;
    this.semantics = semantics;
    this.runtime = runtime;
    this.graph = new RegionGraph(region);
    this.infos = region.blocks.map((b) => b.steps.map((step) => this.infoOf(step)));
    this.flagsLiveIn = flagLiveness(this.graph, this.infos);
    const edges = this.graph.edges();
    this.tree = loopTree(region.blocks.length, edges, region.targets.length > 0);
    this.small = smallLoops(this.tree, region, this.infos);
    for (const node of this.small.keys()) {
      for (let b = node.lo; b <= node.hi; b++) this.smallOf.set(b, node);
    }
    this.entries = new Set(entriesOf(this.graph));
    // an indirect jump, and what a call remembers, come through the root's dispatch
    const dispatched = new Set([...this.entries, ...entryBlocks(this.graph)]);
    this.seeking = new Set([...region.blocks.keys()].filter((i) => this.isSeeking(i)));
    if (this.seeking.size > 0)
      for (const at of region.targets) dispatched.add(this.graph.index(at) as number);
    region.blocks.forEach((_, i) => {
      const next = this.graph.isRemembered(i) ? this.graph.next(i) : undefined;
      if (next !== undefined) dispatched.add(next);
    });
    for (const [from, to] of [...edges, ...this.graph.calls()]) {
      if (wayBetween(this.tree, from, to).dispatches) dispatched.add(to);
    }
    this.dispatched = dispatched;
    this.continues = this.continuations(edges);
    this.next = f.local('i32');
    this.flags = new JitFlags(f, f.param(0), runtime.flagWords);
    const emitter = this;
    const narrow = region.codeSize === 1;
    const word = narrow ? 'i32' : 'i64';
    this.frame = {
      f,
      env: f.param(0),
      tlb: f.local('i32'),
      narrow,
      base: f.local(word),
      regs: Array.from({ length: narrow ? 8 : 16 }, () => f.local(word)),
      exitCode: f.local('i32'),
      get exitLabel() {
        return emitter.exitLabel;
      },
      get exitWithFlags() {
        return emitter.exitWithFlags;
      },
      stale: f.local('i32'),
      valid: place.description + REGION.VALID,
      branchTo: (at) => this.branchTo(at),
      branchIndirect: (target) => this.branchIndirect(target),
    };
    this.x87 = new X87Cache(f, this.frame.env, x87, this.infos.flat(), (at) => this.linear(at));
    this.ins = new JitIns(this.frame, runtime, this.flags, this.x87);
    const ofFpu = this.infos.flat().filter(({ semantics }) => semantics.unit !== undefined);
    this.usesFpu = ofFpu.length > 0;
    this.usesSse = ofFpu.some(({ semantics, kinds }) => isSse(semantics.unit as FpuUnit, [...kinds]));
  }

  private continuations(edges: readonly (readonly [number, number])[]): Set<number> {
    const { graph } = this;
    const from = new Map<number, number[]>();
    for (const [a, b] of [...edges, ...graph.calls()]) from.set(b, [...(from.get(b) ?? []), a]);
    const found = new Set<number>();
    this.region.blocks.forEach((_, i) => {
      const before = from.get(i);
      if (before?.length !== 1 || before[0] !== i - 1 || this.dispatched.has(i)) return;
      // what was emitted last is where the way to it was
      const { end } = this.region.blocks[i - 1];
      const jumps = end === 'call' || end === 'jump';
      if (end === 'indirect' || end === 'return') return;
      if ((jumps ? graph.target(i - 1) : graph.next(i - 1)) === i) found.add(i);
    });
    return found;
  }

  private isSeeking(i: number): boolean {
    const { blocks, targets } = this.region;
    const known = new Set(this.graph.ways(i).map((to) => blocks[to].at));
    return blocks[i].end === 'indirect' && targets.some((at) => !known.has(at));
  }

  private infoOf(step: Step): StepInfo {
    const kinds = operandKinds(step.insn);
    const semantics = this.semantics.of(step.insn);
    if (semantics === undefined) throw new Error('an instruction without semantics in a region');
    return stepInfo(step.insn, kinds, semantics, operandSize(step.insn, semantics));
  }

  emit(): void {
    const { f } = this;
    this.entry();
    f.block((exit) => {
      this.exitLabel = exit;
      f.block((withFlags) => {
        this.exitWithFlags = withFlags;
        this.loop(this.tree);
        f.unreachable();
      });
      this.flags.storeLeft();
    });
    this.flags.finishLeft();
    this.exit();
    this.registerLoads.forEach(({ from, to }, i) => {
      if (!this.ins.registersRead.has(i)) f.erase(from, to);
    });
  }

  /** Checks that the region may run here, loads registers and flags. */
  private entry(): void {
    const { f, frame, place, region, runtime, next } = this;
    const { env } = frame;
    const description = i32(place.description);
    const at = f.copy(f.param(1));
    f.if(at.geS(0), () => {
      f.set(at, f.call(runtime.enterRegion, env, at, description));
      f.if(at.geS(0), () => f.ret(at), undefined, false);
    });
    const typed = (e: Expr): Expr => (frame.narrow ? e.i32() : e);
    const page = typed(load('i64', env, OFF.jumpTarget)).and(typed(i64(-PAGE)));
    const distance = at.shl(16).shrS(16).shl(12);
    f.set(frame.base, region.pages.length === 1 ? page : page.sub(frame.narrow ? distance : distance.i64s()));
    f.set(frame.tlb, env.add(load('i32', env, OFF.tlbSet)));
    f.set(next, at.shrU(PLACE.BLOCK_SHIFT).and(PLACE.BLOCK_MASK));
    const base = frame.base.i64u();
    const refuseIf = (condition: Expr, reason: number): void =>
      f.if(
        condition,
        () => f.ret(f.call(runtime.refuseRegion, env, description, base, i32(reason))),
        undefined,
        false,
      );
    f.if(
      load('i32_16u', i32(0), place.description + REGION.VALID).ne(REGION.READY),
      () => {
        const status = f.copy(f.call(runtime.readyRegion, env, description, base));
        f.if(status, () => f.ret(status), undefined, false);
      },
      undefined,
      false,
    );
    if (frame.narrow) {
      // the kind of code tells that ES, SS and DS are flat, and neither of these
      const unusual = load('i64', env, OFF.csBase)
        .ne(0)
        .or(load('i32', env, OFF.stackSize).ne(1));
      refuseIf(unusual, REASON.REGION);
    }
    if (this.usesFpu) {
      // these bits change only by instructions that leave the region
      const off = load('i32', env, OFF.cr0).and(FPU_OFF);
      const noSse = load('i32', env, OFF.cr4).and(CR4_OSFXSR).eqz();
      refuseIf(this.usesSse ? off.or(noSse) : off, REASON.ALONE);
    }
    this.registerLoads = frame.regs.map((r, i) => {
      const from = f.position;
      f.set(r, load(frame.narrow ? 'i32' : 'i64', env, i * 8));
      return { from, to: f.position };
    });
    f.set(frame.stale, i32(0));
  }

  /** The one place where the region is left: registers and flags are in the env already. */
  private exit(): void {
    const { f, frame, place, runtime } = this;
    const { env, exitCode } = frame;
    const reason = exitCode.and((1 << EXIT_CODE.REASON_BITS) - 1);
    const distance = exitCode.shrS(EXIT_CODE.REASON_BITS);
    const linear = f.copy(frame.base.add(frame.narrow ? distance : distance.i64s()).i64u());
    f.if(reason.leU(EXIT_JUMP + EXIT_CODE.REASON_BIAS), () => {
      const known = reason.gtU(EXIT_TARGET + EXIT_CODE.REASON_BIAS);
      f.if(
        known,
        () => f.store(8, env, OFF.jumpTarget, linear),
        () => f.set(linear, load('i64', env, OFF.jumpTarget)),
      );
      this.enterNext(linear);
    });
    const description = i32(place.description);
    f.ret(f.call(runtime.leaveRegion, env, description, exitCode, linear, frame.base.i64u()));
  }
  /** Goes on in another region, when one was entered at the linear address before, and nobody wants the vCPU to stop. */
  private enterNext(linear: Local): void {
    const { f, frame, runtime } = this;
    const { env, tlb } = frame;
    const jump = f.copy(jumpEntry(tlb, linear));
    const otherwise = load('i64', jump, TLB_SET.JUMPS + JUMP.LINEAR)
      .xor(linear)
      .or(load('i64', jump, TLB_SET.JUMPS + JUMP.LOSSES).xor(losses(tlb)));
    f.if(
      otherwise.eqz().and(atomicLoad8(env, OFF.exitRequest).eqz()),
      () => {
        f.store(8, env, OFF.linked, load('i64', env, OFF.linked).add(i64(1)));
        const handler = load('i32', jump, TLB_SET.JUMPS + JUMP.HANDLER);
        const as = load('i32', jump, TLB_SET.JUMPS + JUMP.PLACE);
        f.returnCallIndirect(runtime.handlerType, handler, env, as);
      },
      undefined,
      true,
    );
  }

  // --- structure ---

  private loop(node: LoopNode): void {
    const { f, next } = this;
    if (this.small.has(node) && this.flagsLiveIn.slice(node.lo, node.hi + 1).includes(true)) {
      this.flags.enterLoop();
    }
    f.loop((loopLabel) => {
      const children: Label[] = [];
      this.labels.set(node, { loop: loopLabel, children });
      this.openChildren(node, children, node.children.length - 1, () => {
        const wanted: number[] = [];
        for (let b = node.lo; b <= node.hi; b++) if (this.dispatched.has(b)) wanted.push(b);
        const seeks = node === this.tree && this.seeking.size > 0;
        if (!seeks && (wanted.length === 0 || (wanted.length === 1 && wanted[0] === node.lo))) return;
        // entered or re-entered at some block: `next` says which, unless it is the first
        f.if(next.ne(NONE), () => {
          if (seeks) this.seek();
          const targets: Label[] = [];
          for (let b = node.lo; b <= node.hi; b++)
            targets.push(children[this.dispatched.has(b) ? childOf(node, b) : 0]);
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
    if (this.dispatched.has(index)) f.set(this.next, i32(NONE));
    const continues = this.continues.has(index);
    const loop = this.smallOf.get(index);
    if (!continues) flags.arrive(loop !== undefined);
    ins.arrive(continues, loop && this.small.get(loop));
    f.scope(() => {
      block.steps.forEach((step, k) => this.step(step, index, k, k === 0 && this.entries.has(index)));
      ins.flush();
      if (block.end === 'branch' || block.end === 'fall') this.branchTo(block.next);
      else if (block.end === 'leave') ins.exit(EXIT_JUMP, block.next);
      if (!this.continues.has(index + 1)) this.x87.drop();
    });
  }

  /** The instructions from one on that are executed one after the other, or not at all. */
  private *following(index: number, k: number): Iterable<KnownStep> {
    const { blocks } = this.region;
    for (; ; index++, k = 0) {
      for (; k < blocks[index].steps.length; k++)
        yield { insn: blocks[index].steps[k].insn, info: this.infos[index][k] };
      if (!this.continues.has(index + 1)) return;
    }
  }

  /** `first`: control comes here from outside the region, so it must not be sent out for what the TLB lacks. */
  private step(step: Step, index: number, k: number, first: boolean): void {
    const { ins, flags } = this;
    const info = this.infos[index][k];
    const { semantics, kinds } = info;
    if (info.leaves) ins.flush();
    flags.begin(info.flagsLive, info.writesFlags, info.simple);
    if (info.readsFlags) flags.beforeReading();
    ins.begin(step.insn, step.at, semantics, operandSize(step.insn, semantics), kinds, first);
    ins.popsToMemory = semantics.name === 'pop' && kinds === 'm';
    if (!this.x87.step(ins, info, step.at, () => this.following(index, k))) {
      // that its unit is on was checked where the region was entered
      if (semantics.unit !== undefined && reportsPending(semantics.unit, ins.kinds)) checkPending(ins);
      semantics.emit(ins);
    }
    ins.end();
  }

  private linear(at: number): Expr {
    return this.frame.base.add(at).i64u();
  }

  private branchTo(at: number): void {
    const { current, ins } = this;
    this.rememberReturn();
    const to = this.graph.to(current, at);
    if (to === undefined) ins.exit(EXIT_JUMP, at);
    else this.branch(to, at);
  }
  /** To block `to`, at offset `at`. */
  private branch(to: number, at: number): void {
    const { f, current, ins } = this;
    const { node, child, dispatches } = wayBetween(this.tree, current, to);
    const { loop, children } = this.labels.get(node) as { loop: Label; children: Label[] };
    if (child < 0) {
      f.if(atomicLoad8(this.frame.env, OFF.exitRequest), () => ins.exit(REASON.KICK, at), undefined, false);
    }
    const continues = this.continues.has(to);
    const small = this.smallOf.get(to);
    const inLoop = small !== undefined && small === this.smallOf.get(current);
    ins.settle(this.flagsLiveIn[to] && !continues, continues, inLoop);
    if (dispatches) f.set(this.next, i32(to));
    f.br(child < 0 ? loop : children[child]);
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
    return this.frame.base.or(this.place.slot).i64u();
  }
  /** At the end of a block: where its call, if there is one, returns to. */
  private rememberReturn(): void {
    const { current, graph } = this;
    const index = graph.isRemembered(current) ? graph.next(current) : undefined;
    if (index !== undefined) this.remember(this.region.blocks[current].next, index);
  }
  /** Puts a block that control may come to indirectly into the cache. */
  private remember(at: number, index: number): void {
    const { f } = this;
    const linear = f.copy(this.linear(at));
    const entry = this.returnEntry(linear);
    f.store(8, entry, RETURN_CACHE, linear);
    f.store(8, entry, RETURN_CACHE + 8, this.returnKey());
    f.store(4, entry, RETURN_CACHE + 16, i32(index));
  }
  /** In the root's dispatch: `next` becomes the block at `jumpTarget`, if an indirect jump led there before; else leaves. */
  private seek(): void {
    const { f, frame, next, region } = this;
    f.if(
      next.eq(SEEK),
      () => {
        f.block((found) => {
          const target = f.copy(load('i64', frame.env, OFF.jumpTarget));
          f.if(atomicLoad8(frame.env, OFF.exitRequest).eqz(), () => {
            for (const at of region.targets) {
              const index = this.graph.index(at) as number;
              f.if(target.eq(this.linear(at)), () => {
                f.scope(() => this.remember(at, index));
                f.set(next, i32(index));
                f.br(found);
              });
            }
          });
          f.br(this.exitLabel);
        });
      },
      undefined,
      false,
    );
  }

  /** To that of some blocks which is at a linear address, if one is. */
  private branchAmong(to: Local, ways: readonly number[]): void {
    const { f } = this;
    const branch = (index: number, likely: boolean): void => {
      const { at } = this.region.blocks[index];
      f.if(to.eq(this.linear(at)), () => this.branch(index, at), undefined, likely);
    };
    if (ways.length <= MOST_COMPARED) return ways.forEach((index) => branch(index, true));
    const { shift, mask, places } = scatter(ways.map((index) => this.region.blocks[index].at));
    const cases = places.filter((place) => place.length > 0);
    f.block((unknown) => {
      const labels: Label[] = [];
      const open = (k: number): void => {
        f.block((label) => {
          labels[k] = label;
          if (k > 0) return open(k - 1);
          const place = to.i32().sub(this.frame.base.i32()).shrU(shift).and(mask);
          const table = places.map((p) => (p.length === 0 ? unknown : labels[cases.indexOf(p)]));
          f.brTable(place, table, unknown);
        });
        for (const n of cases[k]) branch(ways[n], true);
        f.br(unknown);
      };
      open(cases.length - 1);
    });
  }
  private branchIndirect(target: Expr): void {
    const { f, frame, graph, ins } = this;
    const { end, calls } = this.region.blocks[this.current];
    const to = f.copy(target);
    const back = graph.returnOf(this.current);
    if (back !== undefined)
      f.if(to.eq(this.linear(back.at)), () => this.branch(back.index, back.at), undefined, true);
    const guess = calls ? graph.target(this.current) : undefined;
    const ways = guess === undefined ? graph.ways(this.current) : [guess];
    const returns = graph.isInPlace(this.current) && !graph.isLeaky(this.current);
    if (returns) this.branchAmong(to, ways);
    this.rememberReturn();
    if (!returns) this.branchAmong(to, ways);
    const seeks = this.seeking.has(this.current);
    if (seeks || (!calls && ways.length === 0)) {
      const entry = this.returnEntry(to);
      f.block((unknown) => {
        f.brIf(unknown, load('i64', entry, RETURN_CACHE).ne(to), false);
        f.brIf(unknown, load('i64', entry, RETURN_CACHE + 8).ne(this.returnKey()), false);
        f.brIf(unknown, atomicLoad8(frame.env, OFF.exitRequest), false);
        ins.settle(true);
        f.set(this.next, load('i32', entry, RETURN_CACHE + 16));
        f.br((this.labels.get(this.tree) as { loop: Label }).loop);
      });
    }
    if (seeks) {
      f.set(frame.exitCode, i32(ins.indirectExit));
      ins.settle(true);
      f.store(8, frame.env, OFF.jumpTarget, to);
      f.set(this.next, i32(SEEK));
      f.br((this.labels.get(this.tree) as { loop: Label }).loop);
    } else ins.exitTo(to, end === 'return' ? EXIT_TARGET : EXIT_INDIRECT);
  }
}
