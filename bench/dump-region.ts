/**
 * Prints the region that tier 1 finds at the start of some x86-64 code, and what it becomes:
 *
 *   node bench/dump-region.ts [--bits 32] [--head OFFSET] [--size] HEX...
 *
 * HEX is the code, at offset 0 of a page that is filled up with HLT, which is never compiled. `--size` leaves the
 * text out; code with SSE has none.
 */
import { parseArgs } from 'node:util';
import { formatInsn } from '../src/cpu/decode/format.ts';
import { CpuEnv, TLB_SET } from '../src/cpu/env.ts';
import { RETURN_CACHE } from '../src/jit/layout.ts';
import { type Block, findRegion } from '../src/jit/region.ts';
import { buildRegionModule, isCompilable } from '../src/jit/region-module.ts';
import { type LoopNode, loopTree } from '../src/jit/structure.ts';
import { functionText, TextError } from './wasm-text.ts';

const PAGE = 4096;
const HLT = 0xf4;
const PLACE = { description: 0x100000, slot: 0, descriptors: [0x200000], firstHandler: 1000, name: 'region' };
/** Of the machine's memory, in 64 KiB pages; any will do. */
const MEMORY_PAGES = 1024;
const REGISTERS = 'rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15'.split(' ');

function envField(offset: number): string | undefined {
  if (offset < 128) return REGISTERS[offset >> 3];
  if (offset >= RETURN_CACHE) return undefined;
  const names = Object.keys(CpuEnv.fields).filter((name) => !name.startsWith('pad'));
  return names.find((name) => CpuEnv.offsetOf(name as 'ip') === offset);
}
function tlbArray(local: number, offset: number): string | undefined {
  if (local < LOCALS.length) return undefined;
  if (offset >= TLB_SET.WRITE && offset < TLB_SET.CODE) return 'write TLB';
  return undefined;
}

function treeText(node: LoopNode): string {
  const children = node.children.map((c) => (typeof c === 'number' ? `${c}` : treeText(c)));
  return `[${children.join(' ')}]`;
}
function edges(blocks: readonly Block[]): [number, number][] {
  const index = new Map(blocks.map((b, i) => [b.at, i]));
  const found: [number, number][] = [];
  blocks.forEach((b, i) => {
    const ways = b.end === 'branch' ? [b.target, b.next] : b.end === 'jump' ? [b.target] : [];
    for (const at of b.end === 'fall' ? [b.next] : ways) {
      const to = index.get(at);
      if (to !== undefined) found.push([i, to]);
    }
  });
  return found;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    bits: { type: 'string', default: '64' },
    head: { type: 'string', default: '0' },
    size: { type: 'boolean', default: false },
  },
});
const codeSize = values.bits === '32' ? 1 : 2;
/** Parameters and first locals in the order in which the emitter makes them. */
const LOCALS = [
  ...['env', 'record', 'next', 'flagKind', 'flagA', 'flagB'],
  // operands of the last two instructions that set flags
  ...Array.from({ length: 18 }, (_, i) => `set${i}`),
  ...['tlb', 'page'],
  ...REGISTERS.slice(0, codeSize * 8),
  ...['exitLinear', 'exitReason', 'stale'],
];
const code = Buffer.from(positionals.join('').replace(/[^0-9a-f]/gi, ''), 'hex');
if (code.length === 0 || code.length > PAGE) {
  console.error('dump-region: give up to 4096 bytes of code in hexadecimal');
  process.exit(1);
}
const bytes = new Uint8Array(PAGE).fill(HLT);
bytes.set(code);
const region = findRegion(
  {
    bytes,
    codeSize,
    page: (distance) => (distance === 0 ? 0 : -1),
    executed: () => true,
    compilable: (insn) => isCompilable(insn, codeSize),
  },
  Number(values.head),
);
if (region === undefined) {
  console.error('dump-region: nothing there can be compiled');
  process.exit(1);
}
const hex = (n: number): string => n.toString(16).padStart(3, '0');
console.log(`region at ${hex(region.head)}: ${region.instructions} instructions`);
region.blocks.forEach((b, i) => {
  const target = b.end === 'branch' || b.end === 'jump' || b.end === 'call' ? ` to ${hex(b.target)}` : '';
  console.log(`block ${i} at ${hex(b.at)}, ends: ${b.end}${target}`);
  for (const { insn, at } of b.steps) {
    const raw = Buffer.from(bytes.subarray(at, at + insn.length)).toString('hex');
    console.log(`  ${hex(at)}  ${raw.padEnd(16)} ${formatInsn(insn, BigInt(at))}`);
  }
});
console.log(`loops: ${treeText(loopTree(region.blocks.length, edges(region.blocks)))}`);
const module = buildRegionModule(region, PLACE, MEMORY_PAGES);
console.log(`module: ${module.length} bytes`);
function printText(): void {
  const text = functionText(module, 'region', {
    local: (index) => LOCALS[index] ?? `t${index}`,
    offset: (local, offset) => (local === 0 ? envField(offset) : tlbArray(local, offset)),
  });
  console.log(text.join('\n'));
}

try {
  if (!values.size) printText();
} catch (error) {
  if (!(error instanceof TextError)) throw error;
  console.error(`dump-region: ${error.message}; see --size`);
  process.exitCode = 1;
}
