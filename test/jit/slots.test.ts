import { expect, test } from 'vitest';
import { REGION_NOTES_SIZE } from '../../src/cpu/env.ts';
import { PAGE_CHECK_SIZE, PAGE_CHECKS, REGION_SLOTS, RETURN_CACHE } from '../../src/jit/layout.ts';
import { RegionSlots } from '../../src/jit/slots.ts';

interface Content {
  readonly name: string;
  readonly bytes: number;
  alive: boolean;
  used: boolean;
}
const content = (name: string, bytes = 10): Content => ({ name, bytes, alive: true, used: true });
function slotsOf(slots: number, bytes = 1000): RegionSlots<Content> {
  return new RegionSlots(
    { slots, bytes },
    {
      alive: (c) => c.alive,
      used: (c) => {
        const { used } = c;
        c.used = false;
        return used;
      },
    },
  );
}
function fill(slots: RegionSlots<Content>, names: string): Content[] {
  return [...names].map((name) => {
    const c = content(name);
    const slot = slots.next();
    slots.remove(slot);
    slots.put(slot, c);
    return c;
  });
}
const names = (slots: RegionSlots<Content>): string => Array.from(slots, ([, c]) => c.name).join('');

test('slots are filled up before anything is given up', () => {
  const slots = slotsOf(3);
  fill(slots, 'abc');
  expect(names(slots)).toBe('abc');
  expect(slots.count).toBe(3);
  expect(slots.bytes).toBe(30);
});

test('the slot of a region that has ended comes first, also while others are empty, if there are some', () => {
  const slots = slotsOf(8);
  const [, b] = fill(slots, 'ab');
  b.alive = false;
  fill(slots, 'c');
  expect(names(slots)).toBe('ac');
  expect(slots.count).toBe(2);
  const few = slotsOf(9);
  const [, e] = fill(few, 'de');
  e.alive = false;
  fill(few, 'f');
  expect(names(few)).toBe('def');
});

test('of live regions one goes that has not been entered lately', () => {
  const slots = slotsOf(4);
  const [a, b, c, d] = fill(slots, 'abcd');
  // the first time round everything counts as entered
  fill(slots, 'e');
  expect(names(slots)).toBe('ebcd');
  for (const one of [b, d]) one.used = true;
  fill(slots, 'f');
  expect(names(slots)).toBe('ebfd');
  expect([a, c].map((x) => x.used)).toEqual([false, false]);
});

test('where all are entered all the time one goes nevertheless', () => {
  const slots = new RegionSlots<Content>({ slots: 2, bytes: 1000 }, { alive: () => true, used: () => true });
  fill(slots, 'abcde');
  expect(slots.count).toBe(2);
});

test('bytes are bounded too', () => {
  const slots = slotsOf(100, 35);
  fill(slots, 'abc');
  expect(slots.overfull(5)).toBe(-1);
  let emptied = 0;
  for (let slot; (slot = slots.overfull(25)) >= 0; emptied++) slots.remove(slot);
  expect(emptied).toBe(2);
  expect(slots.bytes).toBe(10);
  // one that is too big by itself gets all there is
  for (let slot; (slot = slots.overfull(5000)) >= 0;) slots.remove(slot);
  expect(slots.count).toBe(0);
  expect(slots.overfull(5000)).toBe(-1);
});

test('clear forgets all', () => {
  const slots = slotsOf(2);
  fill(slots, 'ab');
  slots.clear();
  expect([slots.count, slots.bytes, names(slots), slots.next()]).toEqual([0, 0, '', 0]);
});

test("a vCPU's block has room for what regions note in it", () => {
  expect(PAGE_CHECKS + REGION_SLOTS * PAGE_CHECK_SIZE).toBeLessThanOrEqual(RETURN_CACHE + REGION_NOTES_SIZE);
});
