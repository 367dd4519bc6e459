/** A fault planted in the shipped sources. */
import type { Patch } from '../scenario.ts';

export interface Mutation {
  readonly name: string;
  /** Where it has to show. */
  readonly scenario: string;
  readonly patches: readonly Patch[];
  /** What was done to the source. */
  readonly note: string;
}

/** Makes faults of one file. */
export function plant(file: string) {
  return (name: string, scenario: string, note: string, find: string, replace: string): Mutation => ({
    name,
    scenario,
    note,
    patches: [{ file, find, replace }],
  });
}
