/** Numbers told apart by a few of their bits: so an indirect jump finds its block by one look into a table. */

export interface Scattered {
  /** The table's place of a number: `(number >>> shift) & mask`. */
  readonly shift: number;
  readonly mask: number;
  /** By place: which of the numbers are there, by their index. */
  readonly places: readonly (readonly number[])[];
}
/** Most places for each number. */
const ROOM = 4;

/** Such bits of some numbers that the fewest of them share a place, in as small a table as that takes. */
export function scatter(numbers: readonly number[]): Scattered {
  let best: Scattered | undefined;
  let least = Infinity;
  for (let size = 2; size <= ROOM * numbers.length && least > 0; size *= 2) {
    for (let shift = 0; shift < 12 && least > 0; shift++) {
      const mask = size - 1;
      const places = Array.from({ length: size }, (): number[] => []);
      numbers.forEach((n, i) => places[(n >>> shift) & mask].push(i));
      const shared = places.reduce((sum, { length }) => sum + Math.max(0, length - 1), 0);
      if (shared >= least) continue;
      least = shared;
      best = { shift, mask, places };
    }
  }
  return best as Scattered;
}
