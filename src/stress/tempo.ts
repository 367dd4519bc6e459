/** How hurried the threads of a round are. */
export interface Tempo {
  /** Longest sleep between operations, µs; 0: they never sleep. */
  readonly nap: number;
  /** Longest time in a callback, µs. */
  readonly callback: number;
  /** One atomic operation in so many is delayed; 0: none. */
  readonly seam: number;
}

export const TEMPOS = {
  rush: { nap: 0, callback: 0, seam: 0 },
  brisk: { nap: 60, callback: 20, seam: 0 },
  calm: { nap: 400, callback: 100, seam: 0 },
  halting: { nap: 30, callback: 20, seam: 256 },
  torn: { nap: 100, callback: 50, seam: 24 },
} as const satisfies Record<string, Tempo>;
export type TempoName = keyof typeof TEMPOS;
export const TEMPO_NAMES = Object.keys(TEMPOS) as TempoName[];
