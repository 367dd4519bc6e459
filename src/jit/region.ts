/**
 * Finds a region: the basic blocks reachable from a hot address by direct branches and calls, within pages whose
 * code is known, what is executed most often first. Addresses are byte offsets from the start of the head's page; they are the same in
 * every address space that maps the region's pages at the same distances.
 */
import { decode } from '../cpu/decode/decoder.ts';
import { DECODE, Insn, OPERAND } from '../cpu/decode/insn.ts';
import { NAMES } from '../cpu/decode/table.ts';
import { withCopies } from './inline.ts';
import { MAX_BLOCKS, MAX_REGION_PAGES } from './layout.ts';
import { inOrder } from './order.ts';

const PAGE = 4096;
/** Bytes of the longest instruction, and one more. */
const MAX_LENGTH = 16;
/** The optimiser takes 13–25 µs an instruction: this bounds one compilation. */
const MAX_INSTRUCTIONS = 400;
/** Of as many executions of the head: what is executed less often is left out. */
const COLD = 256;
/** Fewer executions of a branch tell nothing of it. */
const TELLING = 32;

/** Code that can be compiled, as `CpuEnv.codeSize` numbers it: 32-bit with flat ES, SS and DS, 64-bit. */
export type CodeSize = 1 | 2;
export function isCodeSize(codeKind: number): codeKind is CodeSize {
  return codeKind === 1 || codeKind === 2;
}

/** How a block ends. */
export type BlockEnd =
  /** Conditional branch (jcc, loop, jcxz): `target` or `next`. */
  | 'branch'
  | 'jump'
  /** Direct call: `target`; returns to `next`. */
  | 'call'
  | 'return'
  /** Indirect jump or call: the instruction's own code finds the way, as for a return. */
  | 'indirect'
  /** Goes on at `next`. */
  | 'fall'
  /** Leaves the region at `next`, before an instruction that is not compiled. */
  | 'leave';

export interface Step {
  readonly insn: Insn;
  readonly at: number;
}

export interface Block {
  readonly at: number;
  readonly steps: Step[];
  end: BlockEnd;
  /** Offset of the branch target; for 'branch', 'jump', 'call'. */
  target: number;
  /** Offset after the block's last instruction. */
  next: number;
  /** It ends with a call, direct or not, which returns to `next`. */
  calls: boolean;
  /** Where an indirect jump or call at its end has led, in the order in which that was seen. */
  led: readonly number[];
  /** How often it is executed for each time the head is: a guess; turns of loops are not counted. */
  readonly weight: number;
  /** Which copy of a function it belongs to (`Region.copies`, counted from 1); 0: it is the original. */
  readonly copy: number;
}

export interface Region {
  readonly head: number;
  readonly codeSize: CodeSize;
  /** Of the targets of indirect jumps that were asked for, those that are blocks of it. */
  readonly targets: readonly number[];
  /** In the order of `inOrder`. */
  readonly blocks: readonly Block[];
  /** The calls that have a copy of what they call. */
  readonly copies: readonly Block[];
  /** Distances in pages from the head's page of the pages used, 0 first. */
  readonly pages: readonly number[];
  readonly instructions: number;
  /** Where all of it leads, of executed code that was left out because the region was big enough; undefined: nowhere such. */
  readonly cut: number | undefined;
}

/** Where code bytes come from. */
export interface CodeReader {
  readonly bytes: Uint8Array;
  readonly codeSize: CodeSize;
  /** Position in `bytes` of the page at a distance (in pages) from the head's, or -1 when it is not known. */
  page(distance: number): number;
  /** Has code at this offset been executed, as far as is known? What has not is left out. */
  executed(at: number): boolean;
  /** How often the conditional branch at this offset was taken, and how often not, as far as is known. */
  branches(at: number): { readonly taken: number; readonly missed: number } | undefined;
  /** Where the indirect jump or call at this offset has led, in the order in which that was seen. */
  led(at: number): readonly number[];
  /** Can this instruction be compiled? */
  compilable(insn: Insn): boolean;
}

const CONDITIONAL = new Set(['jcc', 'loop', 'loope', 'loopne', 'jcxz']);
const INDIRECT = new Set(['ret', 'jmp', 'call', 'sysenter', 'sysexit']);

/** Code to be looked at, and how often it is executed by executions of the head: a guess, from branches counted so far. */
interface Pending {
  readonly at: number;
  readonly weight: number;
}

class Discovery {
  private readonly reader: CodeReader;
  private readonly blocks = new Map<number, Block>();
  /** Heaviest first; of the same weight in the order in which they were found. */
  private readonly pending: Pending[];
  /** Left out, for they are hardly ever executed. */
  private readonly cold = new Set<number>();
  private readonly targets: readonly number[];
  private readonly pages = new Map<number, number>();
  private instructions = 0;
  private readonly crossing = new Uint8Array(2 * MAX_LENGTH);

  constructor(reader: CodeReader, head: number, targets: readonly number[]) {
    this.reader = reader;
    this.pending = [head, ...targets].map((at) => ({ at, weight: 1 }));
    this.targets = targets;
  }

  run(head: number): Region | undefined {
    while (this.pending.length > 0 && this.blocks.size < MAX_BLOCKS && this.instructions < MAX_INSTRUCTIONS) {
      const { at, weight } = this.pending.shift() as Pending;
      if (this.blocks.has(at) || this.split(at)) continue;
      if (at !== head && !this.isExecuted(at)) continue;
      const block = this.decodeBlock(at, weight);
      if (block === undefined) continue;
      this.blocks.set(at, block);
    }
    if (!this.blocks.has(head)) return undefined;
    const blocks = [...this.blocks.values()];
    const distances = [...this.pages.keys()].filter((d) => d !== 0);
    const { codeSize } = this.reader;
    const found = {
      head,
      codeSize,
      targets: this.targets.filter((at) => this.blocks.has(at)),
      blocks,
      pages: [0, ...distances],
      instructions: this.instructions,
      cut: this.cut(),
    };
    return inOrder(withCopies(found));
  }

  private cut(): number | undefined {
    const outside = new Set<number>();
    for (const { end, target, next } of this.blocks.values()) {
      if (end === 'indirect' || end === 'return' || end === 'call') return undefined;
      for (const at of end === 'branch' ? [next, target] : [end === 'jump' ? target : next]) {
        if (!this.blocks.has(at) && !this.cold.has(at)) outside.add(at);
      }
    }
    const [at] = outside;
    const ends = outside.size !== 1 || this.instructions < MAX_INSTRUCTIONS || !this.isExecuted(at);
    return ends ? undefined : at;
  }

  private add(at: number, weight: number): void {
    if (weight * COLD < 1) {
      this.cold.add(at);
      return;
    }
    const { pending } = this;
    let i = pending.length;
    while (i > 0 && pending[i - 1].weight < weight) i--;
    pending.splice(i, 0, { at, weight });
  }
  /** Which part of the executions of a conditional branch take it. */
  private chance(branch: number): number {
    const known = this.reader.branches(branch);
    if (known === undefined || known.taken + known.missed < TELLING) return 0.5;
    return known.taken / (known.taken + known.missed);
  }

  private isExecuted(at: number): boolean {
    return this.locate(at) !== undefined && this.reader.executed(at);
  }

  /** Bytes and position of an offset, or undefined outside the known pages. */
  private locate(at: number): { position: number; limit: number } | undefined {
    const distance = Math.floor(at / PAGE);
    let page = this.pages.get(distance);
    if (page === undefined) {
      if (this.pages.size >= MAX_REGION_PAGES) return undefined;
      page = this.reader.page(distance);
      if (page < 0) return undefined;
      this.pages.set(distance, page);
    }
    const offset = at - distance * PAGE;
    return { position: page + offset, limit: PAGE - offset };
  }

  /** Decodes an instruction whose bytes go on in the next page; as `decode`. */
  private decodeCrossing(at: number, where: { position: number; limit: number }, insn: Insn): number {
    const next = this.locate(at + where.limit);
    if (next === undefined) return DECODE.MORE;
    const { bytes } = this.reader;
    const { crossing } = this;
    crossing.set(bytes.subarray(where.position, where.position + where.limit));
    crossing.set(bytes.subarray(next.position, next.position + MAX_LENGTH), where.limit);
    return decode(crossing, 0, where.limit + MAX_LENGTH, this.reader.codeSize, insn);
  }

  /** When `at` is inside a block at an instruction's start, makes two of it. */
  private split(at: number): boolean {
    for (const block of this.blocks.values()) {
      if (at <= block.at || at >= block.next) continue;
      const i = block.steps.findIndex((s) => s.at === at);
      if (i < 0) return false; // overlapping instructions: decoded separately
      const tail: Block = { ...block, at, steps: block.steps.splice(i) };
      block.end = 'fall';
      block.next = at;
      block.calls = false;
      block.led = [];
      this.blocks.set(at, tail);
      return true;
    }
    return false;
  }

  private decodeBlock(start: number, weight: number): Block | undefined {
    const block: Block = {
      at: start,
      steps: [],
      end: 'leave',
      target: 0,
      next: start,
      calls: false,
      led: [],
      weight,
      copy: 0,
    };
    for (;;) {
      const at = block.next;
      if (at !== start && this.blocks.has(at)) {
        block.end = 'fall';
        break;
      }
      if (this.instructions >= MAX_INSTRUCTIONS) break;
      const where = this.locate(at);
      if (where === undefined) break;
      const insn = new Insn();
      let length = decode(this.reader.bytes, where.position, where.limit, this.reader.codeSize, insn);
      if (length === DECODE.MORE) length = this.decodeCrossing(at, where, insn);
      if (length <= 0 || !this.reader.compilable(insn)) break;
      block.steps.push({ insn, at });
      block.next = at + length;
      this.instructions++;
      const name = NAMES[insn.name];
      if (CONDITIONAL.has(name)) {
        block.end = 'branch';
        block.target = block.next + insn.rel;
        const taken = this.chance(at);
        this.add(block.next, weight * (1 - taken));
        this.add(block.target, weight * taken);
        break;
      }
      if (!INDIRECT.has(name)) continue;
      block.calls = name === 'call';
      if (block.calls) this.add(block.next, weight);
      if (name === 'ret' || insn.count === 0 || insn.kind[0] !== OPERAND.REL) {
        block.end = name === 'ret' ? 'return' : 'indirect';
        if (block.end === 'indirect') block.led = this.reader.led(at);
        break;
      }
      block.target = block.next + insn.rel;
      block.end = block.calls ? 'call' : 'jump';
      this.add(block.target, weight);
      break;
    }
    return block.steps.length === 0 ? undefined : block;
  }
}

/**
 * The region around page offset `head`, or undefined when nothing there can be compiled. `targets`: where its indirect
 * jumps and calls have led to, which becomes part of it if there is room.
 */
export function findRegion(
  reader: CodeReader,
  head: number,
  targets: readonly number[] = [],
): Region | undefined {
  return new Discovery(reader, head, targets).run(head);
}
