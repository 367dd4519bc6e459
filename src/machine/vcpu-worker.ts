/** What the vCPUs of one worker share: translator, code cache, generated code and the functions that it imports. */
import { INTERRUPT, REASON, VCPU_BLOCK_SIZE } from '../cpu/env.ts';
import type { Cpu } from '../cpu/sys/cpu.ts';
import { dropCodeEntriesOf, dropWriteEntriesOf, hasWriteEntryFor } from '../cpu/sys/tlb.ts';
import type { Tier0Imports } from '../cpu/tier0/build.ts';
import { CodeCache } from '../cpu/tier0/code-cache.ts';
import { callHelper, type Helper } from '../cpu/tier0/helper-call.ts';
import type { HandlerTable } from '../cpu/tier0/handlers.ts';
import { OneShots } from '../cpu/tier0/one-shots.ts';
import { type HelperTraits, Translator } from '../cpu/tier0/translate.ts';
import type { RegionClient } from '../jit/client.ts';
import type { Board } from './board.ts';
import type { ExecLog } from './exec-log.ts';
import type { Exclusive } from './exclusive.ts';
import type { Vcpu } from './vcpu.ts';

/** *Thread:* each vCPU worker has one. */
export class VcpuWorker {
  readonly board: Board;
  readonly exclusive: Exclusive;
  readonly translator: Translator;
  readonly codeCache: CodeCache;
  readonly vcpus: Vcpu[] = [];
  readonly helpers: readonly (Helper | undefined)[];
  readonly oneShots = new OneShots();
  private readonly byBase = new Map<number, Vcpu>();
  run: (env: number, record: number) => number = () => REASON.HALT;
  /** What -d asks to be told of translated and executed code. */
  log: ExecLog | undefined;
  /** Tier 1, unless it is off. */
  regions: RegionClient | undefined;

  constructor(
    board: Board,
    exclusive: Exclusive,
    handlers: HandlerTable,
    helpers: readonly (Helper | undefined)[],
    traits: HelperTraits,
  ) {
    this.board = board;
    this.exclusive = exclusive;
    this.translator = new Translator(handlers, traits);
    this.helpers = helpers;
    const { layout, buffer } = board;
    const cache = { base: layout.codeCache, size: layout.codeCacheSize, codeMap: layout.codeMap };
    this.codeCache = new CodeCache(buffer, cache, this.translator, {
      pageBecomesCode: (hostPage) => this.pageBecomesCode(hostPage),
      exclusively: (body) => this.exclusively(body),
      regionsDropped: () => {
        for (const s of board.signals) s.kick();
      },
    });
    board.memoryWritten = (host, length) => this.codeCache.written(host, length);
  }

  private get selfIndex(): number {
    return this.board.currentCpu;
  }
  private pageBecomesCode(hostPage: number): void {
    const { board, exclusive } = this;
    const self = this.selfIndex;
    const page = (hostPage << 12) >>> 0;
    const block = (i: number): number => board.layout.vcpus + i * VCPU_BLOCK_SIZE;
    // a vCPU of this thread is not between a probe and its store
    dropWriteEntriesOf(board.buffer, block(self), page, true);
    let written = false;
    for (let i = 0; i < board.config.cpus; i++) {
      if (i !== self && hasWriteEntryFor(board.buffer, block(i), page)) written = true;
    }
    if (!written) return;
    exclusive.start(self);
    for (let i = 0; i < board.config.cpus; i++) dropWriteEntriesOf(board.buffer, block(i), page, false);
    exclusive.end(self);
  }
  private exclusively(body: () => void): void {
    const self = this.selfIndex;
    this.exclusive.start(self);
    body();
    for (let i = 0; i < this.board.config.cpus; i++) {
      this.dropCodeEntries(i);
      this.board.signals[i].interrupt(INTERRUPT.CODE_FLUSH);
    }
    this.exclusive.end(self);
  }
  private dropCodeEntries(index: number): void {
    dropCodeEntriesOf(this.board.buffer, this.board.layout.vcpus + index * VCPU_BLOCK_SIZE);
  }

  add(vcpu: Vcpu): void {
    this.vcpus.push(vcpu);
    this.byBase.set(vcpu.cpu.base, vcpu);
  }
  /** Functions that the tier 0 module imports. */
  imports(): Tier0Imports {
    // the common case of one vCPU in a worker needs no look-up
    const cpuOf = (env: number): Cpu => (this.vcpus.length === 1 ? this.vcpus[0] : this.byBase.get(env)!).cpu;
    return {
      slowLoad: (env, size) => cpuOf(env).mmu.slowLoad(size),
      slowStore: (env, size) => cpuOf(env).mmu.slowStore(size),
      rmwBegin: (env, size) => cpuOf(env).mmu.rmwBegin(size),
      rmwCommit: (env, size) => cpuOf(env).mmu.rmwCommit(size),
      helper: (env, id, size) => this.helpers[id]!(cpuOf(env), size),
      helperRecord: (env, record) => callHelper(cpuOf(env), record, this.helpers),
      exclusive: (_env, begin) => {
        if (begin) this.exclusive.start(this.selfIndex);
        else this.exclusive.end(this.selfIndex);
      },
    };
  }
}
