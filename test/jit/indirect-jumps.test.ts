/** What is known of indirect jumps: tables of their targets, and what regions share. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { IndirectJumps, loopingJumps } from '../../src/jit/indirect-jumps.ts';
import { isCompilable } from '../../src/jit/region-module.ts';
import { findRegion, type Region } from '../../src/jit/region.ts';
import { scatter } from '../../src/jit/scatter.ts';
import { RegionGraph } from '../../src/jit/graph.ts';

const PAGE = 4096;
const HLT = 0xf4;

test('every number is in its place of the table', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer(), { minLength: 3, maxLength: 32 }), (numbers) => {
      const { shift, mask, places } = scatter(numbers);
      expect(places.length).toBe(mask + 1);
      expect(places.flat().toSorted((a, b) => a - b)).toEqual([...numbers.keys()]);
      numbers.forEach((n, i) => expect(places[(n >>> shift) & mask]).toContain(i));
    }),
  );
});

test("a switch's cases have places of their own", () => {
  const { places } = scatter([0, 16, 32, 48, 72, 96, 128, 144, 160, 232].map((n) => n + 0xd70));
  expect(Math.max(...places.map(({ length }) => length))).toBe(1);
});

/** 32-bit code, whose only indirect jump or call has led there. */
function regionOf(code: readonly number[], head: number, led: readonly number[]): Region {
  const bytes = new Uint8Array(PAGE).fill(HLT);
  bytes.set(code);
  const region = findRegion(
    {
      bytes,
      codeSize: 1,
      page: (distance) => (distance === 0 ? 0 : -1),
      executed: () => true,
      branches: () => undefined,
      led: () => led,
      compilable: (insn) => isCompilable(insn, 1),
    },
    head,
    led,
  );
  if (region === undefined) throw new Error('no region');
  return region;
}

const INTERPRETER = [
  ...[0x8b, 0x01], //       00 mov eax, [ecx]
  ...[0xff, 0xe0], //       02 jmp eax
  ...[0x46], //             04 inc esi
  ...[0x41], //             05 inc ecx
  ...[0xeb, 0xf8], //       06 jmp 00
  ...[0x4e], //             08 dec esi
  ...[0x75, 0xfa], //       09 jnz 05
  ...[0x47], //             0b inc edi
  ...[0xeb, 0xf7], //       0c jmp 05
];

test('a loop around an indirect jump is one, wherever the region begins', () => {
  for (const head of [0, 4, 5, 8]) {
    const region = regionOf(INTERPRETER, head, [4, 8]);
    expect(loopingJumps(region)).toEqual([2]);
    const back = new RegionGraph(region).edges().filter(([from, to]) => to <= from);
    expect(new Set(back.map(([, to]) => to)).size).toBe(1);
  }
  expect(loopingJumps(regionOf([0xff, 0xe0, 0x46, HLT], 0, [2]))).toEqual([]);
  // a call
  expect(loopingJumps(regionOf([0xff, 0xd0, 0xeb, 0xfc, 0xc3], 0, [4]))).toEqual([]);
});

test('targets are shared when the jump is part of a loop', () => {
  const jumps = new IndirectJumps();
  jumps.leads(7, 100);
  expect([...jumps.shared(7)]).toEqual([]);
  jumps.loops(7);
  jumps.leads(7, -20);
  jumps.leads(7, 100);
  expect([...jumps.shared(7)]).toEqual([100, -20]);
  expect([...jumps.shared(8)]).toEqual([]);
  jumps.clear();
  expect([...jumps.shared(7)]).toEqual([]);
});
