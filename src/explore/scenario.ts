/** What a scenario is. Scenario files are rewritten like the code they call, so a thread's body is ordinary code. */

/** The scenario's way to the explorer. In a body, the parameter has to be named `model`. */
export interface Model {
  readonly buffer: SharedArrayBuffer;
  /**
   * Numbers that say what the threads did, for assertions. They are no part of the program: never in a race,
   * and an access belongs to the step before it.
   */
  readonly ghost: Float64Array<SharedArrayBuffer>;
  /** Names an area of shared memory; the same name gives the same area in every thread. */
  place(name: string, bytes: number, align?: number): number;
  /** Names a part of an area, for tables and messages. */
  label(name: string, at: number, bytes: number): void;
  /** Notes that this place was come to; see `reaches`. */
  reached(what: string): void;
  /** A violation, unless `condition` holds. */
  assert(condition: boolean, message: string): void;
  /** A step of its own: others may run here. */
  step(): void;
  /** One of 0 … `count` - 1; all are tried. */
  choose(count: number): number;
  /** A step: nobody may touch these bytes any more, whole lines of 64. */
  free(at: number, bytes: number): void;
}

/** A change of a source's text, before anything else is done with it. */
export interface Patch {
  /** End of the file's path. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export interface Scenario {
  readonly name: string;
  readonly title: string;
  /** Names of the threads. */
  readonly threads: readonly string[];
  /** Bytes of shared memory; default 4096. */
  readonly bytes?: number;
  /** Switches away from a thread that could go on, at most; default: no bound. */
  readonly preemptions?: number;
  /** Too large to be tried in full: random schedules only. */
  readonly random?: boolean;
  /** Constants made smaller. Each has to leave the same behaviours: say why where it is defined. */
  readonly patches?: readonly Patch[];
  /** Modules, by start of path, that are loaded; of the others only the names are needed. Default: all. */
  readonly only?: readonly string[];
  /** Threads that may sleep for ever at the end. */
  readonly daemons?: readonly string[];
  /** A wait that only its timeout can end is a lost wake-up. */
  readonly timeoutsAreLosses?: boolean;
  /** Places that some schedule has to come to: otherwise the scenario does not test what it says. */
  readonly reaches?: readonly string[];
  /** Fills in memory. Run once. */
  setup?(model: Model): void;
  /** Makes a thread's objects, once, and gives its body. What the body changes has to be shared memory, or its own. */
  thread(model: Model, index: number): () => void;
  /** Looks at the end state of every schedule. */
  end?(model: Model): void;
}

export const KIB = 1024;
