/** The litmus tests of `litmus.asm`: what each does, how its results read, what x86-TSO forbids (SDM 3A 8.2). */

/** `a`, `b`, `c` are bits 0, 1, 2 of a thread's results, `r1` and `r2` two-bit numbers in them. */
interface ThreadResults {
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly r1: number;
  readonly r2: number;
}
interface Results {
  readonly cpu0: ThreadResults;
  readonly cpu1: ThreadResults;
  readonly cpu2: ThreadResults;
  readonly cpu3: ThreadResults;
  /** What is left in X and Y. */
  readonly x: number;
  readonly y: number;
}

export interface LitmusTest {
  readonly name: string;
  /** What each CPU does. */
  readonly code: string;
  /** Default 2. */
  readonly cpus?: number;
  /** Results by name, for printing. */
  show(r: Results): string;
  forbidden(r: Results): boolean;
  /** The outcome that only a store buffer explains. */
  relaxed?(r: Results): boolean;
}

const never = (): boolean => false;
const stores = (r: Results): string => `cpu0 r=${r.cpu0.a}, cpu1 r=${r.cpu1.a}`;
const neither = (r: Results): boolean => r.cpu0.a === 0 && r.cpu1.a === 0;
const readers = (r: Results): string => `r1=${r.cpu1.a} r2=${r.cpu1.b}`;

function storeBuffering(name: string, between: string): LitmusTest {
  return {
    name,
    code: `X=1; ${between}; r=Y | Y=1; ${between}; r=X`,
    show: stores,
    forbidden: neither,
  };
}

/** Those that litmus.asm has three times, in its order: with nothing, MFENCE, or a locked instruction between accesses. */
const WITH_FENCES: readonly LitmusTest[] = [
  {
    name: 'CoRR',
    code: 'X=1 | r1=X; r2=X',
    show: readers,
    forbidden: (r) => r.cpu1.a === 1 && r.cpu1.b === 0,
  },
  {
    name: 'XYX',
    code: 'X=1; Y=1 | r1=X; r2=Y; r3=X',
    show: (r) => `r1=${r.cpu1.a} r2=${r.cpu1.b} r3=${r.cpu1.c}`,
    forbidden: (r) => (r.cpu1.a === 1 || r.cpu1.b === 1) && r.cpu1.c === 0,
  },
  {
    name: 'MP',
    code: 'X=1; Y=1 | r1=Y; r2=X',
    show: readers,
    forbidden: (r) => r.cpu1.a === 1 && r.cpu1.b === 0,
  },
  { name: 'SB', code: 'X=1; r=Y | Y=1; r=X', show: stores, forbidden: never, relaxed: neither },
  {
    name: 'LB',
    code: 'r=X; Y=1 | r=Y; X=1',
    show: stores,
    forbidden: (r) => r.cpu0.a === 1 && r.cpu1.a === 1,
  },
  {
    name: '2+2W',
    code: 'X=1; Y=2 | Y=1; X=2',
    show: (r) => `X=${r.x} Y=${r.y}`,
    forbidden: (r) => r.x === 1 && r.y === 1,
  },
  {
    name: 'R',
    code: 'X=1; Y=1 | Y=2; r=X',
    show: (r) => `r=${r.cpu1.a} Y=${r.y}`,
    forbidden: never,
    relaxed: (r) => r.y === 2 && r.cpu1.a === 0,
  },
  {
    name: 'S',
    code: 'X=2; Y=1 | r=Y; X=1',
    show: (r) => `r=${r.cpu1.a} X=${r.x}`,
    forbidden: (r) => r.cpu1.a === 1 && r.x === 2,
  },
  {
    name: 'CoWR',
    code: 'X=1; r=X | X=2',
    show: (r) => `r=${r.cpu0.a + 2 * r.cpu0.b} X=${r.x}`,
    forbidden: (r) => (r.cpu0.a === 0 && r.cpu0.b === 0) || (r.cpu0.b === 1 && r.x === 1),
  },
  {
    name: 'spin',
    code: 'X=1; Y=1 | wait for Y, unrolled; r=X',
    show: (r) => `r=${r.cpu1.a}`,
    forbidden: (r) => r.cpu1.a === 0,
  },
  {
    name: 'seqlock',
    code: 'seq++; A=n; B=n; seq++ | s=seq; a=A; b=B; s=seq?',
    show: (r) => (r.cpu1.b === 1 ? 'torn' : r.cpu1.a === 1 ? 'again' : 'read'),
    forbidden: (r) => r.cpu1.b === 1,
  },
  {
    name: 'WRC',
    code: 'X=1 | r=X; Y=r | r1=Y; r2=X',
    cpus: 3,
    show: (r) => `cpu1 r=${r.cpu1.a}, cpu2 r1=${r.cpu2.a} r2=${r.cpu2.b}`,
    forbidden: (r) => r.cpu2.a === 1 && r.cpu2.b === 0,
  },
  {
    name: 'CoWW',
    code: 'X=1 | X=2 | r1=X; r2=X',
    cpus: 3,
    show: (r) => `r1=${r.cpu2.r1} r2=${r.cpu2.r2} X=${r.x}`,
    // one order of the two stores for all: what was seen last, if both were, is what is left
    forbidden: ({ cpu2: { r1, r2 }, x }) =>
      (r1 !== 0 && r2 === 0) || (r1 !== 0 && r2 !== r1 && x !== r2) || x === 0,
  },
  {
    name: 'IRIW',
    code: 'X=1 | Y=1 | r1=X; r2=Y | r1=Y; r2=X',
    cpus: 4,
    show: (r) => `cpu2 r1=${r.cpu2.a} r2=${r.cpu2.b}, cpu3 r1=${r.cpu3.a} r2=${r.cpu3.b}`,
    forbidden: (r) => r.cpu2.a === 1 && r.cpu2.b === 0 && r.cpu3.a === 1 && r.cpu3.b === 0,
  },
];

function fenced(test: LitmusTest, fence: string): LitmusTest {
  const { relaxed, ...rest } = test;
  return {
    ...rest,
    name: `${test.name}+${fence}`,
    code: test.code.replaceAll(';', `; ${fence};`),
    // it empties the store buffer
    forbidden: (r) => test.forbidden(r) || relaxed?.(r) === true,
  };
}

/** In the order of their numbers in litmus.asm. */
export const LITMUS_TESTS: readonly LitmusTest[] = [
  ...WITH_FENCES.flatMap((test) => [test, fenced(test, 'MFENCE'), fenced(test, 'LOCK')]),
  { name: 'SB+XCHG', code: 'XCHG X,1; r=Y | XCHG Y,1; r=X', show: stores, forbidden: neither },
  storeBuffering('SB+ADD', 'LOCK ADD'),
  storeBuffering('SB+XADD', 'LOCK XADD'),
  storeBuffering('SB+CMPXCHG', 'LOCK CMPXCHG'),
  storeBuffering('SB+BTS', 'LOCK BTS'),
  {
    name: 'SB+SFENCE',
    code: 'X=1; SFENCE; LFENCE; r=Y | Y=1; SFENCE; LFENCE; r=X',
    show: stores,
    forbidden: never,
  },
  {
    name: 'MP+sizes',
    code: 'X=8 bytes; Y=1 byte | r1=Y; r2=X of 8 bytes; r3=byte 7 of X',
    show: (r) => `r1=${r.cpu1.a} r2=${r.cpu1.b} r3=${r.cpu1.c}`,
    forbidden: (r) =>
      (r.cpu1.a === 1 && (r.cpu1.b === 0 || r.cpu1.c === 0)) || (r.cpu1.b === 1 && r.cpu1.c === 0),
  },
  {
    name: 'SB+own',
    code: 'X=1; r1=X; r2=Y | Y=1; r1=Y; r2=X',
    show: (r) => `cpu0 r1=${r.cpu0.a} r2=${r.cpu0.b}, cpu1 r1=${r.cpu1.a} r2=${r.cpu1.b}`,
    // both may read the other's location as 0 (SDM 3A 8.2.3.5), neither its own
    forbidden: (r) => r.cpu0.a === 0 || r.cpu1.a === 0,
    relaxed: (r) => r.cpu0.b === 0 && r.cpu1.b === 0,
  },
  {
    // stores of one string operation may be seen in any order, but all before a later store (SDM 3A 8.2.4)
    name: 'MP+REP',
    code: 'REP STOSD X,X+4; Y=1 | r1=Y; r2=X; r3=X+4',
    show: (r) => `r1=${r.cpu1.a} r2=${r.cpu1.b} r3=${r.cpu1.c}`,
    forbidden: (r) => r.cpu1.a === 1 && (r.cpu1.b === 0 || r.cpu1.c === 0),
  },
];

/** What a key of the program's histogram stands for. */
export function outcomeOf(
  test: LitmusTest,
  key: number,
): { text: string; forbidden: boolean; relaxed: boolean } {
  const cpu = (n: number): ThreadResults => {
    const bits = key >> (3 * n);
    return { a: bits & 1, b: (bits >> 1) & 1, c: (bits >> 2) & 1, r1: bits & 3, r2: (bits >> 2) & 3 };
  };
  const results: Results = {
    cpu0: cpu(0),
    cpu1: cpu(1),
    cpu2: cpu(2),
    cpu3: cpu(3),
    x: (key >> 12) & 3,
    y: (key >> 14) & 3,
  };
  return {
    text: test.show(results),
    forbidden: test.forbidden(results),
    relaxed: test.relaxed?.(results) ?? false,
  };
}
