/** The WebAssembly module of one region: its imports, and what makes an instruction compilable. */
import { type FuncRef, ModuleBuilder, type ValType } from '../wasm/index.ts';
import type { Insn } from '../cpu/decode/insn.ts';
import { SEG } from '../cpu/env.ts';
import { emitX87Functions, type X87Functions } from '../cpu/fpu/functions.ts';
import { isGenerated } from '../cpu/fpu/transcendental.ts';
import { TRANSCENDENTAL_HELPERS } from '../cpu/fpu/transcendental-helpers.ts';
import { INTEGER_SEMANTICS, semanticsWith, X87_PREFIX } from '../cpu/sem/index.ts';
import type { FpuUnit } from '../cpu/sem/ins.ts';
import { operandKinds, SemanticsIndex } from '../cpu/sem/select.ts';
import { type SemanticsTraits, traitsOf as semanticsTraits } from '../cpu/tier0/handlers.ts';
import { helperId } from '../machine/helpers.ts';
import { KERNEL_SEMANTICS } from './kernel-semantics.ts';
import { SEGMENT_SEMANTICS } from './segment-semantics.ts';
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
  helper: [['i32', 'i32', 'i32'], ['i32']],
  exclusive: [['i32', 'i32'], []],
  divide128: [['i64', 'i64', 'i64'], ['i64']],
  flagWords: [['i32'], []],
  refuseRegion: [['i32', 'i32', 'i64', 'i32'], ['i32']],
  enterRegion: [['i32', 'i32', 'i32'], ['i32']],
  readyRegion: [['i32', 'i32', 'i64'], ['i32']],
  leaveRegion: [['i32', 'i32', 'i32', 'i64', 'i64'], ['i32']],
} as const satisfies Record<string, readonly [readonly ValType[], readonly ValType[]]>;

/** Of regions alone. */
const SYSTEM_SEMANTICS = [...KERNEL_SEMANTICS, ...SEGMENT_SEMANTICS];
const INTEGER = new SemanticsIndex([...INTEGER_SEMANTICS, ...SYSTEM_SEMANTICS]);
const SEGMENT_NAMES = new Set(['mov_from_sreg', ...SEGMENT_SEMANTICS.map((s) => s.name)]);
const ONLY_32 = new Set(['push_sreg', 'pop_sreg', 'sysenter', 'sysexit']);

/** What there is besides the integer instructions, and what the functions of the x87 take and give. */
interface Others {
  readonly traits: SemanticsIndex<SemanticsTraits>;
  readonly x87: Readonly<Record<string, Pick<FuncRef, 'params' | 'results'>>>;
}
let others: Others | undefined;
function otherSemantics(): Others {
  if (others === undefined) {
    const m = new ModuleBuilder();
    const x87 = emitX87Functions(m);
    const integer = new Set(INTEGER_SEMANTICS.map((s) => s.name));
    const semantics = semanticsWith(m, x87).filter((s) => !integer.has(s.name));
    others = {
      traits: new SemanticsIndex(semantics.map(semanticsTraits)),
      x87: x87 as unknown as Record<string, FuncRef>,
    };
  }
  return others;
}

function isHelper(name: string): boolean {
  return name in TRANSCENDENTAL_HELPERS && !isGenerated(name);
}

/** Can a region of this kind of code contain `insn`? */
export function isCompilable(insn: Insn, codeSize: CodeSize): boolean {
  const semantics = traitsOf(insn);
  if (semantics === undefined || isHelper(semantics.name)) return false;
  return codeSize === 2 ? !ONLY_32.has(semantics.name) : isCompilable32(insn, semantics);
}
function traitsOf(insn: Insn): SemanticsTraits | undefined {
  return INTEGER.of(insn) ?? (insn.vex === 0 ? otherSemantics().traits.of(insn) : undefined);
}
/** What only 64-bit code has, and what goes or reaches where the flat segments and a 32-bit ip do not tell. */
function isCompilable32(insn: Insn, { name, sizes }: SemanticsTraits): boolean {
  const kinds = operandKinds(insn);
  if (sizes.length === 1 && sizes[0] === 8) return false;
  if (kinds.includes('j')) return insn.opSize === 4;
  if (SEGMENT_NAMES.has(name)) {
    if (insn.opSize !== 4) return false;
    const n = kinds.indexOf('n');
    const seg = n < 0 ? SEG.DS : insn.reg[n];
    const loads = name === 'pop_sreg' || name === 'mov_to_sreg';
    // a load of SS holds interrupts off; of CS there is none
    if (seg > SEG.GS || (loads && (seg === SEG.CS || seg === SEG.SS))) return false;
  }
  if (insn.memOperand < 0 || name === 'nop' || name === 'lea') return true;
  // the segment is checked, but not for an operand that is moved from its address
  const moved = BIT_TESTS.has(name) && kinds.endsWith('r');
  return insn.seg === SEG.FS || insn.seg === SEG.GS ? !moved : insn.seg !== SEG.CS;
}
const BIT_TESTS = new Set(['bt', 'bts', 'btr', 'btc']);

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
  const used = new Set<FpuUnit | undefined>();
  for (const { steps } of region.blocks) for (const { insn } of steps) used.add(traitsOf(insn)?.unit);
  const integerOnly = [...used].every((unit) => unit === undefined);
  const x87: Record<string, FuncRef> = {};
  for (const [name, { params, results }] of Object.entries(otherSemantics().x87)) {
    // each import takes its time; semantics that nobody uses may name what is not there
    if (used.has('x87')) x87[name] = m.importFunc('env', `${X87_PREFIX}${name}`, params, results);
  }
  const runtime = {
    ...(refs as unknown as Omit<RegionRuntime, 'helperId' | 'handlerType'>),
    handlerType: m.typeIndex(['i32', 'i32'], ['i32']),
    helperId,
  } satisfies RegionRuntime;
  const f = m.func(place.name, ['i32', 'i32'], ['i32']);
  const semantics = integerOnly
    ? INTEGER
    : new SemanticsIndex([...semanticsWith(m, x87 as unknown as X87Functions), ...SYSTEM_SEMANTICS]);
  new RegionEmitter(f, region, place, semantics, runtime, x87 as unknown as X87Functions).emit();
  m.exportFunc('region', f);
  return m.build();
}
