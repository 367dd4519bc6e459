/** A region as text: what tier 1 finds in some code, and the WebAssembly that it becomes. */
import { formatInsn } from '../src/cpu/decode/format.ts';
import { CpuEnv, TLB_SET } from '../src/cpu/env.ts';
import { RegionGraph } from '../src/jit/graph.ts';
import { RETURN_CACHE, RETURN_CACHE_SIZE } from '../src/jit/layout.ts';
import { findRegion } from '../src/jit/region.ts';
import { buildRegionModule, isCompilable } from '../src/jit/region-module.ts';
import { type LoopNode, loopTree } from '../src/jit/structure.ts';
import { functionText } from './wasm-text.ts';

/** Most bytes of code. */
export const PAGE = 4096;
const HLT = 0xf4;
const PLACE = { description: 0x100000, slot: 0, descriptors: [0x200000], firstHandler: 1000, name: 'region' };
/** Of the machine's memory, in 64 KiB pages; any will do. */
const MEMORY_PAGES = 1024;
const EXITS = CpuEnv.offsetOf('statRegionExits');
const REGISTERS = 'rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15'.split(' ');

const FIELDS = Object.keys(CpuEnv.fields)
  .filter((name) => !name.startsWith('pad'))
  .map((name) => ({ name, at: CpuEnv.offsetOf(name as 'ip') }));

/** The env's field at an offset; inside of one, with the distance. */
function envField(offset: number): string | undefined {
  if (offset < 128) return REGISTERS[offset >> 3];
  if (offset >= CpuEnv.size) return undefined;
  const { name, at } = FIELDS.findLast((field) => field.at <= offset) as (typeof FIELDS)[number];
  return offset === at ? name : `${name}+${offset - at}`;
}
/** What lies where in a vCPU's block, besides the env itself. */
function blockArea(offset: number): string | undefined {
  const areas: [string, number, number][] = [
    ['returnCache', RETURN_CACHE, RETURN_CACHE + RETURN_CACHE_SIZE],
    ['losses', TLB_SET.LOSSES, TLB_SET.LOSSES + 8],
    ['jumps', TLB_SET.JUMPS, TLB_SET.LOSSES],
    ['codeTlb', TLB_SET.CODE, TLB_SET.JUMPS],
    ['writeTlb', TLB_SET.WRITE, TLB_SET.CODE],
    ['exits', EXITS, EXITS + 96],
  ];
  const area = areas.find(([, from, to]) => offset >= from && offset < to);
  return area === undefined ? undefined : `${area[0]}+${offset - area[1]}`;
}

function treeText(node: LoopNode): string {
  const children = node.children.map((c) => (typeof c === 'number' ? `${c}` : treeText(c)));
  return `[${children.join(' ')}]`;
}
export interface RegionText {
  /** Blocks and loops. */
  readonly structure: string;
  /** Bytes of the module. */
  readonly size: number;
  /** The module's function. *Errors:* TextError for what has no text yet. */
  wasm(): string;
}

/** Of code at offset 0 of a page that is filled up with HLT, which is never compiled. Undefined: nothing can be compiled. */
export function regionText(code: Uint8Array, bits: 32 | 64, head = 0): RegionText | undefined {
  const codeSize = bits === 32 ? 1 : 2;
  // parameters and first locals in the order in which the emitter makes them
  const locals = [
    ...['env', 'record', 'next', 'flagKind', 'flagA', 'flagB', 'unfinishedKind', 'unfinishedA'],
    ...['tlb', 'page'],
    ...REGISTERS.slice(0, codeSize * 8),
    ...['exitCode', 'stale'],
  ];
  const bytes = new Uint8Array(PAGE).fill(HLT);
  bytes.set(code);
  const region = findRegion(
    {
      bytes,
      codeSize,
      page: (distance) => (distance === 0 ? 0 : -1),
      executed: () => true,
      branches: () => undefined,
      led: () => [],
      compilable: (insn) => isCompilable(insn, codeSize),
    },
    head,
  );
  if (region === undefined) return undefined;
  const hex = (n: number): string => n.toString(16).padStart(3, '0');
  const lines = [`region at ${hex(region.head)}: ${region.instructions} instructions`];
  region.blocks.forEach((b, i) => {
    const target = b.end === 'branch' || b.end === 'jump' || b.end === 'call' ? ` to ${hex(b.target)}` : '';
    const copy = b.copy === 0 ? '' : `, for the call in ${region.blocks.indexOf(region.copies[b.copy - 1])}`;
    lines.push(`block ${i} at ${hex(b.at)}${copy}, ends: ${b.end}${target}`);
    for (const { insn, at } of b.steps) {
      const raw = Buffer.from(bytes.subarray(at, at + insn.length)).toString('hex');
      lines.push(`  ${hex(at)}  ${raw.padEnd(16)} ${formatInsn(insn, BigInt(at))}`);
    }
  });
  lines.push(`loops: ${treeText(loopTree(region.blocks.length, new RegionGraph(region).edges()))}`);
  const module = buildRegionModule(region, PLACE, MEMORY_PAGES);
  return {
    structure: lines.join('\n'),
    size: module.length,
    wasm: () =>
      functionText(module, 'region', {
        local: (index) => locals[index] ?? `t${index}`,
        offset: (local, offset) => {
          if (local === 0) return envField(offset);
          return local < locals.length ? undefined : blockArea(offset);
        },
      }).join('\n'),
  };
}
