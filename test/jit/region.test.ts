/** Which blocks make a region, by what is known of its branches, what is copied, and in which order they are. */
import { expect, test } from 'vitest';
import { RegionGraph } from '../../src/jit/graph.ts';
import { isCompilable } from '../../src/jit/region-module.ts';
import { findRegion, type Region } from '../../src/jit/region.ts';

const PAGE = 4096;
const HLT = 0xf4;
const INC_ECX = [0xff, 0xc1];

type Counts = Readonly<Record<number, { readonly taken: number; readonly missed: number }>>;

/** Of 64-bit code at the start of a page that is filled up with HLT. `counts`: by a branch's offset; `led`: by an indirect one's. */
function regionOf(
  code: readonly number[],
  counts: Counts = {},
  targets: readonly number[] = [],
  led: (at: number) => readonly number[] = () => [],
): Region {
  const bytes = new Uint8Array(PAGE).fill(HLT);
  bytes.set(code);
  const region = findRegion(
    {
      bytes,
      codeSize: 2,
      page: (distance) => (distance === 0 ? 0 : -1),
      executed: () => true,
      branches: (at) => counts[at],
      led,
      compilable: (insn) => isCompilable(insn, 2),
    },
    0,
    targets,
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

// --- copies ---

const ADD = [0x83, 0xc0, 0x01];
const RET = [0xc3];
const call = (at: number, to: number): number[] => [
  0xe8,
  (to - at - 5) & 0xff,
  ((to - at - 5) >> 8) & 0xff,
  0,
  0,
];
/** Offset and copy of each block. */
const blocksOf = ({ blocks }: Region): [number, number][] => blocks.map(({ at, copy }) => [at, copy]);

test('a function that is called once stands where it is called', () => {
  // 00 call 0a; 05 dec ecx; 07 jnz 00; 09 hlt; 0a add eax, 1; ret
  const region = regionOf([...call(0, 0x0a), 0xff, 0xc9, 0x75, 0xf7, HLT, ...ADD, ...RET]);
  expect(blocksOf(region)).toEqual([[0, 0], [0x0a, 1], [5, 0]]); // prettier-ignore
  const graph = new RegionGraph(region);
  expect(graph.target(0)).toBe(1);
  expect(graph.returnOf(1)).toEqual({ at: 5, index: 2 });
  expect(graph.isRemembered(0)).toBe(false);
  expect(graph.edges()).toEqual([[0, 1], [1, 2], [2, 0]]); // prettier-ignore
  expect(graph.calls()).toEqual([]);
});

test('a small function is copied for each of its calls, a large one is not', () => {
  // 00 call 0d; 05 call 0d; 0a jmp 00; hlt; 0d: the function
  const calls = [...call(0, 0x0d), ...call(5, 0x0d), 0xeb, 0xf4, HLT];
  const body = (count: number): number[] => [...Array.from({ length: count }, () => ADD).flat(), ...RET];
  const small = regionOf([...calls, ...body(10)]);
  expect(blocksOf(small)).toEqual([[0, 0], [0x0d, 1], [5, 0], [0x0d, 2], [0x0a, 0]]); // prettier-ignore
  expect(small.instructions).toBe(3 + 2 * 11);
  const large = regionOf([...calls, ...body(100)]);
  expect(blocksOf(large).every(([, copy]) => copy === 0)).toBe(true);
  const graph = new RegionGraph(large);
  expect(graph.calls().length).toBe(2);
  expect(large.blocks.filter((b, i) => b.calls && graph.isRemembered(i)).length).toBe(2);
});

test('a function that calls itself, and one that never returns', () => {
  // 00 call 06; hlt; 06 call 06; 0b ret
  const recursive = regionOf([...call(0, 6), HLT, ...[0xe8, 0xfb, 0xff, 0xff, 0xff], ...RET]);
  const graph = new RegionGraph(recursive);
  const inner = recursive.blocks.findIndex(({ at, copy }) => at === 6 && copy > 0);
  expect(inner).toBeGreaterThan(0);
  expect(graph.isInPlace(inner)).toBe(false);
  expect(blocksOf(regionOf([...call(0, 6), HLT, 0xeb, 0xfe]))).toEqual([[0, 0], [6, 0]]); // prettier-ignore
});

test('what an indirect call led to is copied as a guess', () => {
  // 00 call rax; 02 dec ecx; 04 jnz 00; 06 hlt; 07 add eax, 1; ret
  const region = regionOf([0xff, 0xd0, 0xff, 0xc9, 0x75, 0xfa, HLT, ...ADD, ...RET], {}, [7], (at) =>
    at === 0 ? [7] : [],
  );
  const graph = new RegionGraph(region);
  const [from] = region.blocks.keys();
  expect(graph.isInPlace(from)).toBe(true);
  expect(region.blocks[graph.target(from) as number]).toMatchObject({ at: 7, copy: 1 });
  // it may lead elsewhere, so the original is there too, and the call is remembered
  expect(graph.index(7)).toBeDefined();
  expect(graph.isRemembered(from)).toBe(true);
});

// --- order ---

test('a branch to a lower address is none back where there is no loop', () => {
  const region = regionOf([
    ...[0xff, 0xc9], // 00 dec ecx
    ...[0x74, 0x06], // 02 jz 0a
    ...[0xeb, 0x06], // 04 jmp 0c
    ...[0xff, 0xc2], // 06 inc edx
    ...[0xeb, 0xf6], // 08 jmp 00
    ...[0xeb, 0xfe], // 0a jmp 0a
    ...[0xff, 0xc6], // 0c inc esi
    ...[0xeb, 0xf6], // 0e jmp 06
  ]);
  expect(starts(region)).toEqual([0, 4, 0x0c, 6, 0x0a]);
  const back = new RegionGraph(region).edges().filter(([from, to]) => to <= from);
  expect(back).toEqual([[3, 0], [4, 4]]); // prettier-ignore
});

test('what leaves a loop comes after it, though it is fallen into', () => {
  const region = regionOf([
    ...[0xff, 0xc9], // 00 dec ecx
    ...[0x75, 0x04], // 02 jnz 08
    ...[0xff, 0xc6], // 04 inc esi
    ...[0xeb, 0xfe], // 06 jmp 06
    ...[0xff, 0xc2], // 08 inc edx
    ...[0xeb, 0xf4], // 0a jmp 00
  ]);
  expect(starts(region)).toEqual([0, 8, 4, 6]);
});
