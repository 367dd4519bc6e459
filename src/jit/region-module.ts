/** The WebAssembly module of one region: its imports, and what makes an instruction compilable. */
import { type FuncRef, ModuleBuilder, type ValType } from '../wasm/index.ts';
import type { Insn } from '../cpu/decode/insn.ts';
import { INTEGER_SEMANTICS } from '../cpu/sem/index.ts';
import type { Semantics } from '../cpu/sem/ins.ts';
import { operandKinds, semanticName, SemanticsIndex } from '../cpu/sem/select.ts';
import { makeSimdSemantics } from '../cpu/sem/sse.ts';
import { type RegionPlace, RegionEmitter, type RegionRuntime } from './emit.ts';
import type { Region } from './region.ts';

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
  makeSimdSemantics(new ModuleBuilder()).map(({ name, forms }) => ({ name, forms })),
);

/** Can a region contain `insn`? */
export function isCompilable(insn: Insn): boolean {
  const name = semanticName(insn);
  const kinds = operandKinds(insn);
  // MMX registers are x87 registers, whose state tier 0 keeps
  if (kinds.includes('q') || kinds.includes('s')) return false;
  return (
    INTEGER.find(name, kinds) !== undefined || (insn.vex === 0 && SIMD_NAMES.find(name, kinds) !== undefined)
  );
}

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
  const f = m.func('region', ['i32', 'i32'], ['i32']);
  new RegionEmitter(f, region, place, integerOnly ? INTEGER : withSimd(m), runtime).emit();
  m.exportFunc('region', f);
  return m.build();
}
