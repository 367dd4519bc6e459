/** The WebAssembly module of one region: its imports, and what makes an instruction compilable. */
import { type FuncRef, ModuleBuilder, type ValType } from '../wasm/index.ts';
import type { Insn } from '../cpu/decode/insn.ts';
import { SEG } from '../cpu/env.ts';
import { INTEGER_SEMANTICS } from '../cpu/sem/index.ts';
import type { Semantics } from '../cpu/sem/ins.ts';
import { operandKinds, semanticName, SemanticsIndex } from '../cpu/sem/select.ts';
import { makeSimdSemantics } from '../cpu/sem/sse.ts';
import { type RegionPlace, RegionEmitter, type RegionRuntime } from './emit.ts';
import type { CodeSize, Region } from './region.ts';

/** Functions of the tier 0 instance, and of the worker, that regions import. */
export const REGION_IMPORTS = {
  probeRead: [['i32', 'i64', 'i32'], ['i32']],
  probeWrite: [['i32', 'i64', 'i32'], ['i32']],
  slowRead: [['i32', 'i64', 'i32'], ['i32']],
  slowWriteProbe: [['i32', 'i64', 'i32'], ['i32']],
  store: [['i32', 'i64', 'i64', 'i32'], ['i32']],
  slowStore: [['i32', 'i64', 'i64', 'i32'], ['i32']],
  rmwCommit: [['i32', 'i32'], ['i32']],
  exclusive: [['i32', 'i32'], []],
  flagWords: [['i32'], []],
} as const satisfies Record<string, readonly [readonly ValType[], readonly ValType[]]>;

const INTEGER = new SemanticsIndex(INTEGER_SEMANTICS);
const SIMD_NAMES = new SemanticsIndex(
  makeSimdSemantics(new ModuleBuilder()).map(({ name, forms, sizes }) => ({ name, forms, sizes })),
);

/** Can a region of this kind of code contain `insn`? */
export function isCompilable(insn: Insn, codeSize: CodeSize): boolean {
  const name = semanticName(insn);
  const kinds = operandKinds(insn);
  // MMX registers are x87 registers, whose state tier 0 keeps
  if (kinds.includes('q') || kinds.includes('s')) return false;
  const semantics = INTEGER.find(name, kinds) ?? (insn.vex === 0 ? SIMD_NAMES.find(name, kinds) : undefined);
  if (semantics === undefined) return false;
  return codeSize === 2 || isCompilable32(insn, semantics, kinds);
}
/** What only 64-bit code has, and what goes or reaches where the flat segments and a 32-bit ip do not tell. */
function isCompilable32(
  insn: Insn,
  { name, sizes }: Pick<Semantics, 'name' | 'sizes'>,
  kinds: string,
): boolean {
  if (sizes.length === 1 && sizes[0] === 8) return false;
  if (kinds.includes('j')) return insn.opSize === 4;
  if (insn.memOperand < 0 || name === 'nop' || name === 'lea') return true;
  // the segment is checked, but not for an operand that is moved from its address
  const moved = BIT_TESTS.has(name) && kinds.endsWith('r');
  return insn.seg === SEG.FS || insn.seg === SEG.GS ? !moved : insn.seg !== SEG.CS;
}
const BIT_TESTS = new Set(['bt', 'bts', 'btr', 'btc']);

function withSimd(m: ModuleBuilder): SemanticsIndex<Semantics> {
  const names = new Set(INTEGER_SEMANTICS.map((s) => s.name));
  const simd = makeSimdSemantics(m)
    .filter((s) => !names.has(s.name))
    .map((s): Semantics => ({ ...s, unit: s.unit ?? 'sse' }));
  return new SemanticsIndex([...INTEGER_SEMANTICS, ...simd]);
}

/** Builds the module; its export is `region`. `memoryPages`: size of the machine's memory in 64 KiB pages. */
export function buildRegionModule(
  region: Region,
  place: RegionPlace,
  memoryPages: number,
): Uint8Array<ArrayBuffer> {
  const m = new ModuleBuilder();
  m.importMemory('env', 'memory', memoryPages, memoryPages);
  m.importTable('env', 'table', 1);
  const refs: Record<string, FuncRef> = {};
  for (const [name, [params, results]] of Object.entries(REGION_IMPORTS)) {
    refs[name] = m.importFunc('env', name, params, results);
  }
  const runtime = {
    ...(refs as unknown as Omit<RegionRuntime, 'helper' | 'helperId' | 'handlerType'>),
    handlerType: m.typeIndex(['i32', 'i32'], ['i32']),
    helper: refs.rmwCommit,
    helperId: () => {
      throw new Error('helpers are not called from regions');
    },
  } satisfies RegionRuntime;
  const integerOnly = region.blocks.every((b) =>
    b.steps.every(({ insn }) => INTEGER.find(semanticName(insn), operandKinds(insn)) !== undefined),
  );
  const f = m.func(place.name, ['i32', 'i32'], ['i32']);
  new RegionEmitter(f, region, place, integerOnly ? INTEGER : withSimd(m), runtime).emit();
  m.exportFunc('region', f);
  return m.build();
}
