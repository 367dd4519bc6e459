/** The command line of `smp86 stress`. */
import { parseArgs } from 'node:util';
import { StressError } from './errors.ts';
import { FAULTS, faultNamed } from './faults.ts';
import { type Placement, PLACEMENTS } from './placement.ts';
import { SCENARIOS } from './scenarios.ts';
import { TEMPO_NAMES, type TempoName } from './tempo.ts';

export const USAGE = `usage: smp86 stress [options]
       smp86 stress --merge FILE ...

Lets real threads loose on clocks, timers, contexts and bottom halves, and checks what must hold.

  --scenario NAME,...  which (default: every one but guest in turn; see --list)
  --seconds S          how long in all (default 60)
  --threads N          threads of each kind (default 4)
  --seed N             default: a new one, which is printed
  --round K            only round K, again and again
  --round-seconds S    how long a round takes (default 10, less when --seconds is short)
  --shard I/N          only the rounds of share I (1 to N); each share takes --seconds
  --jobs N             runs N shares of this shard side by side (default 1)
  --place P            ${PLACEMENTS.join(', ')}: on which CPUs threads run (default: another in each round)
  --tempo T            ${TEMPO_NAMES.join(', ')}: how hurried threads are (default: another in each round)
  --hang S             an operation that takes longer is a hang (default 10)
  --json FILE          writes the report to FILE (-: to standard output, without the text)
  --plant FAULT        plants a fault in the clock core, to see that it is found
  --list               lists scenarios and faults
  --merge              adds reports up
  --help
`;

export interface StressOptions {
  readonly scenarios: readonly string[];
  readonly seconds: number;
  readonly threads: number;
  readonly seed: number;
  readonly round: number | undefined;
  readonly roundSeconds: number | undefined;
  /** 1 … `of`. */
  readonly shard: { readonly index: number; readonly of: number };
  readonly jobs: number;
  readonly place: Placement | undefined;
  readonly tempo: TempoName | undefined;
  readonly hang: number;
  readonly fault: string | undefined;
}

export type StressCommand =
  | { readonly action: 'help' | 'list' }
  | { readonly action: 'merge'; readonly files: readonly string[]; readonly json: string | undefined }
  | { readonly action: 'run'; readonly options: StressOptions; readonly json: string | undefined };

/** Throws `ERR_STRESS_OPTION` or `ERR_STRESS_FAULT`. */
export function parseStress(args: readonly string[]): StressCommand {
  const { values, positionals } = parse(args);
  if (values.help) return { action: 'help' };
  if (values.list) return { action: 'list' };
  if (values.merge) {
    if (positionals.length === 0) throw new StressError('ERR_STRESS_OPTION', '--merge: no files are given');
    return { action: 'merge', files: positionals, json: values.json };
  }
  if (positionals.length > 0) throw new StressError('ERR_STRESS_OPTION', `${positionals[0]}: not an option`);
  const names = SCENARIOS.map((s) => s.name);
  const usual = SCENARIOS.filter((s) => s.guest === undefined).map((s) => s.name);
  const scenarios = values.scenario === undefined ? usual : values.scenario.split(',');
  for (const name of scenarios) {
    if (!names.includes(name)) wrong('scenario', name, `must be one of ${names.join(', ')}`);
  }
  if (values.place !== undefined && !PLACEMENTS.includes(values.place as Placement)) {
    wrong('place', values.place, `must be one of ${PLACEMENTS.join(', ')}`);
  }
  if (values.tempo !== undefined && !TEMPO_NAMES.includes(values.tempo as TempoName)) {
    wrong('tempo', values.tempo, `must be one of ${TEMPO_NAMES.join(', ')}`);
  }
  if (values.plant !== undefined) faultNamed(values.plant);
  return {
    action: 'run',
    json: values.json,
    options: {
      scenarios,
      seconds: number('seconds', values.seconds, 0.1, 1e6),
      threads: integer('threads', values.threads, 1, 64),
      seed: values.seed === undefined ? Date.now() % 1e6 : integer('seed', values.seed, 0, 2 ** 31 - 1),
      round: values.round === undefined ? undefined : integer('round', values.round, 0, 1e9),
      roundSeconds:
        values['round-seconds'] === undefined
          ? undefined
          : number('round-seconds', values['round-seconds'], 0.1, 1e5),
      shard: shard(values.shard),
      jobs: integer('jobs', values.jobs, 1, 64),
      place: values.place as Placement | undefined,
      tempo: values.tempo as TempoName | undefined,
      hang: number('hang', values.hang, 0.5, 3600),
      fault: values.plant,
    },
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        scenario: { type: 'string' },
        seconds: { type: 'string', default: '60' },
        threads: { type: 'string', default: '4' },
        seed: { type: 'string' },
        round: { type: 'string' },
        'round-seconds': { type: 'string' },
        shard: { type: 'string', default: '1/1' },
        jobs: { type: 'string', default: '1' },
        place: { type: 'string' },
        tempo: { type: 'string' },
        hang: { type: 'string', default: '10' },
        json: { type: 'string' },
        plant: { type: 'string' },
        list: { type: 'boolean', default: false },
        merge: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    throw new StressError('ERR_STRESS_OPTION', (error as Error).message.split('\n', 1)[0], { cause: error });
  }
}

function wrong(option: string, value: string, reason: string): never {
  throw new StressError('ERR_STRESS_OPTION', `--${option} ${value}: ${reason}`);
}

function number(option: string, text: string, low: number, high: number): number {
  const value = text.trim() === '' ? NaN : Number(text);
  if (!(value >= low && value <= high)) wrong(option, text, `must be a number from ${low} to ${high}`);
  return value;
}

function integer(option: string, text: string, low: number, high: number): number {
  const value = number(option, text, low, high);
  if (!Number.isInteger(value)) wrong(option, text, 'must be a whole number');
  return value;
}

function shard(text: string): { index: number; of: number } {
  const match = /^(\d+)\/(\d+)$/.exec(text);
  const index = Number(match?.[1]);
  const of = Number(match?.[2]);
  if (match === null || index < 1 || index > of) wrong('shard', text, 'must be I/N with I from 1 to N');
  return { index, of };
}

/** What `--list` prints. */
export function listText(): string {
  return [
    'scenarios',
    ...SCENARIOS.map((s) => `  ${s.name.padEnd(16)} ${s.title}`),
    'faults for --plant',
    ...FAULTS.map((f) => `  ${f.name.padEnd(16)} ${f.note} (scenario ${f.scenario})`),
    '',
  ].join('\n');
}
