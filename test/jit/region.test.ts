/** Which blocks make a region, by what is known of its branches. */
import { expect, test } from 'vitest';
import { isCompilable } from '../../src/jit/region-module.ts';
import { findRegion, type Region } from '../../src/jit/region.ts';

const PAGE = 4096;
const HLT = 0xf4;
const INC_ECX = [0xff, 0xc1];

type Counts = Readonly<Record<number, { readonly taken: number; readonly missed: number }>>;

/** Of 64-bit code at the start of a page that is filled up with HLT. `counts`: by a branch's offset. */
function regionOf(code: readonly number[], counts: Counts = {}): Region {
  const bytes = new Uint8Array(PAGE).fill(HLT);
  bytes.set(code);
  const region = findRegion(
    {
      bytes,
      codeSize: 2,
      page: (distance) => (distance === 0 ? 0 : -1),
      executed: () => true,
      branches: (at) => counts[at],
      guess: () => undefined,
      compilable: (insn) => isCompilable(insn, 2),
    },
    0,
  );
  if (region === undefined) throw new Error('no region');
  return region;
}
const starts = ({ blocks }: Region): number[] => blocks.map(({ at }) => at);

const LOOP = [
  ...[0x85, 0xc0], // 00 test eax, eax
  ...[0x74, 0x04], // 02 jz 08
  ...INC_ECX, //      04
  ...[0xeb, 0x02], // 06 jmp 0a
  ...[0xff, 0xc2], // 08 inc edx
  ...[0xff, 0xcb], // 0a dec ebx
  ...[0x75, 0xf2], // 0c jnz 00
  ...[0xff, 0xc6], // 0e inc esi
  ...[0xeb, 0xfe], // 10 jmp 10
];

test('without counts both ways of a branch', () => {
  expect(starts(regionOf(LOOP))).toEqual([0, 4, 8, 0x0a, 0x0e, 0x10]);
});

test('the way that is hardly ever gone is left out, with what only it leads to', () => {
  expect(starts(regionOf(LOOP, { 2: { taken: 0, missed: 1000 } }))).toEqual([0, 4, 0x0a, 0x0e, 0x10]);
  expect(starts(regionOf(LOOP, { 2: { taken: 1000, missed: 1 } }))).toEqual([0, 8, 0x0e, 0x10]);
  expect(starts(regionOf(LOOP, { 0x0c: { taken: 100_000, missed: 3 } }))).toEqual([0, 4, 8, 0x0a]);
});

test('a branch that was executed a few times tells nothing', () => {
  expect(starts(regionOf(LOOP, { 2: { taken: 0, missed: 31 } }))).toEqual([0, 4, 8, 0x0a, 0x0e, 0x10]);
});

test('where there is no room for both, the way that is gone more often', () => {
  const LONG = 300;
  // jz over LONG instructions to as many
  const code = [
    ...[0x0f, 0x84, (LONG * 2 + 2) & 0xff, (LONG * 2 + 2) >> 8, 0, 0],
    ...Array.from({ length: LONG }, () => INC_ECX).flat(),
    ...[0xeb, 0xfe],
    ...Array.from({ length: LONG }, () => INC_ECX).flat(),
    ...[0xeb, 0xfe],
  ];
  const target = 6 + LONG * 2 + 2;
  const stepsAt = (region: Region, at: number): number =>
    region.blocks.find((b) => b.at === at)?.steps.length ?? 0;
  const often = regionOf(code, { 0: { taken: 900, missed: 100 } });
  const seldom = regionOf(code, { 0: { taken: 100, missed: 900 } });
  expect(stepsAt(often, target)).toBe(LONG);
  expect(stepsAt(often, 6)).toBeLessThan(LONG);
  expect(stepsAt(seldom, target)).toBeLessThan(LONG);
  expect(stepsAt(seldom, 6)).toBe(LONG);
});
