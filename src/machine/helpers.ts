/** All instructions done in TypeScript, numbered, with what the translator must know of each. */
import { NAMES } from '../cpu/decode/table.ts';
import { CpuEnv, EXIT } from '../cpu/env.ts';
import { STATE_HELPERS } from '../cpu/fpu/state-helpers.ts';
import { MISC_ADDRESS_ONLY, MISC_HAS_RESULT, MISC_HELPERS } from '../cpu/sem/misc-helpers.ts';
import { X87_HELPERS } from '../cpu/sem/x87.ts';
import { HELPERS } from '../cpu/sys/helpers.ts';
import { checkImplicit, checkSegment } from '../cpu/sys/segment-limits.ts';
import { STATUS } from '../cpu/sys/words.ts';
import type { Helper } from '../cpu/tier0/helper-call.ts';
import type { HelperTraits } from '../cpu/tier0/translate.ts';

const W_EXIT_REQUEST = CpuEnv.offsetOf('exitRequest') >>> 2;

/** PAUSE ends the turn where vCPUs share a worker: what the guest waits for may be another one's to do. */
const pause: Helper = (cpu) => {
  Atomics.or(cpu.i32, cpu.w + W_EXIT_REQUEST, EXIT.YIELD);
  return STATUS.NEXT;
};

/** By name: the decoder's, and `callf_mem`, `jmpf_mem`. */
export const ALL_HELPERS: Readonly<Record<string, Helper>> = {
  ...HELPERS,
  ...X87_HELPERS,
  ...MISC_HELPERS,
  pause,
};

/** What translated code asks before an access through a segment that may not be flat. */
const CHECKS: Readonly<Record<string, Helper>> = {
  check_segment: checkSegment,
  check_implicit: checkImplicit,
};

/** Helpers by number. The decoder's names come first, so that a name's number is its `nameId`. */
const HELPER_NAMES = [...NAMES, 'callf_mem', 'jmpf_mem', ...Object.keys(CHECKS)];
const IDS = new Map(HELPER_NAMES.map((name, i) => [name, i]));

export function helperId(name: string): number {
  const id = IDS.get(name);
  if (id === undefined) throw new Error(`no helper ${name}`);
  return id;
}
/** For logs. */
export function helperName(id: number): string {
  return HELPER_NAMES[id] ?? String(id);
}
export function helperTable(): (Helper | undefined)[] {
  return HELPER_NAMES.map((name) => ALL_HELPERS[name] ?? CHECKS[name]);
}

const ADDRESS_ONLY = new Set([
  ...'lgdt lidt sgdt sidt invlpg invpcid bound callf_mem jmpf_mem lds les lss lfs lgs'.split(' '),
  ...Object.keys(STATE_HELPERS),
  ...MISC_ADDRESS_ONLY,
]);
const HAS_RESULT = new Set([
  ...'sldt str smsw mov_from_sreg mov_from_cr mov_from_dr lar lsl rdfsbase rdgsbase rdpid in'.split(' '),
  ...'arpl lds les lss lfs lgs'.split(' '),
  ...MISC_HAS_RESULT,
]);

/** For a worker with one vCPU. */
export const HELPER_TRAITS: HelperTraits = {
  prefers: () => false,
  has: (name) => name in ALL_HELPERS,
  addressOnly: (name) => ADDRESS_ONLY.has(name),
  hasResult: (name) => HAS_RESULT.has(name),
  id: helperId,
};
/** For a worker that runs several in turn. */
export const YIELDING_TRAITS: HelperTraits = { ...HELPER_TRAITS, prefers: (name) => name === 'pause' };
