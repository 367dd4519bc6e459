/**
 * `smp86 explore`: tries all interleavings of the scenarios, does a schedule again, plants the faults. Manual:
 * docs/explorer.md. It loads what it runs late: without the parser, which a user may not have, it says so.
 */
import { parseArgs } from 'node:util';
import type { ScenarioSource } from '../explore/execution.ts';
import type { Mutation } from '../explore/mutations/index.ts';

const USAGE = `usage: smp86 explore [options] [scenario ...]
  --list               names of the scenarios
  --preemptions N      bound on switches away from a thread that could go on (default: the scenario's own)
  --random N           random schedules after that (default 200; 20 times as many where only these are)
  --seed N             of the random schedules (default 1)
  --seconds N          at most this long for a scenario (default 300)
  --mutate             plants the faults instead, or those named, and reports whether they are found
  --mutation NAME      explores the scenarios with this fault
  --replay ID          does one schedule again, step by step
  --json               results as JSON lines`;

const OPTIONS = {
  list: { type: 'boolean' },
  preemptions: { type: 'string' },
  random: { type: 'string' },
  seed: { type: 'string' },
  seconds: { type: 'string' },
  mutate: { type: 'boolean' },
  mutation: { type: 'string' },
  replay: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean' },
} as const;

type Catalogue = typeof import('../explore/catalogue.ts');
let catalogue: Catalogue;

/** Runs the command; returns the exit status: 0 good, 1 a violation or a fault not found, 2 a mistake of the user's. */
export async function runExplore(args: readonly string[]): Promise<number> {
  quietly();
  try {
    return await run(args);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ERR_MODULE_NOT_FOUND' && (error as Error).message.includes("'acorn'")) {
      console.error('smp86 explore: needs the parser acorn, which is not installed: npm install acorn');
      return 2;
    }
    const mistake =
      error instanceof SyntaxError || code?.startsWith('ERR_PARSE_ARGS') === true || isCatalogueError(error);
    if (!mistake) throw error;
    console.error(`smp86 explore: ${(error as Error).message}`);
    return 2;
  }
}

function isCatalogueError(error: unknown): boolean {
  return catalogue !== undefined && error instanceof catalogue.CatalogueError;
}

/** Keeps Node from warning of `stripTypeScriptTypes`, which the loader uses on purpose. */
function quietly(): void {
  const emit = process.emitWarning.bind(process) as (...args: unknown[]) => void;
  process.emitWarning = ((...args: unknown[]) => {
    if (args[1] !== 'ExperimentalWarning') emit(...args);
  }) as typeof process.emitWarning;
}

async function run(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  catalogue = await import('../explore/catalogue.ts');
  if (values.replay !== undefined) return await showReplay(values.replay);
  if (values.mutate) return await mutate(positionals, values.json === true);
  const scenarios = (await catalogue.allScenarios()).filter(
    (s) => positionals.length === 0 || positionals.some((p) => s.scenario.name === p),
  );
  for (const name of positionals) {
    if (!scenarios.some((s) => s.scenario.name === name))
      throw new catalogue.CatalogueError('no-scenario', `there is no scenario ${name}`);
  }
  if (values.list) {
    for (const { scenario } of scenarios) console.log(`${scenario.name.padEnd(24)} ${scenario.title}`);
    return 0;
  }
  const mutation = values.mutation === undefined ? undefined : catalogue.mutationNamed(values.mutation);
  const settings: Settings = {
    maxMs: (numberOf('seconds', values.seconds) ?? 300) * 1000,
    preemptions: numberOf('preemptions', values.preemptions),
    random: numberOf('random', values.random) ?? 200,
    seed: numberOf('seed', values.seed) ?? 1,
    mutation,
    json: values.json === true,
  };
  if (!settings.json)
    console.log(line('scenario', 'threads', 'bound', 'schedules', 'states', 'steps', 'ms', 'result'));
  const total: Total = { schedules: 0, states: 0, steps: 0, ms: 0 };
  let failed = 0;
  for (const source of scenarios) if (!(await exploreOne(source, settings, total))) failed++;
  if (!settings.json) {
    const { schedules, states, steps, ms } = total;
    const result = failed > 0 ? `${failed} scenarios failed` : 'no violation, no data race';
    console.log(line('all', '', '', String(schedules), String(states), String(steps), ms.toFixed(0), result));
  }
  return failed > 0 ? 1 : 0;
}

/** @throws CatalogueError `bad-number` */
function numberOf(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d+$/.test(text))
    throw new catalogue.CatalogueError('bad-number', `--${option} ${text}: not a number`);
  return Number(text);
}

interface Settings {
  readonly maxMs: number;
  readonly preemptions: number | undefined;
  readonly random: number;
  readonly seed: number;
  readonly mutation: Mutation | undefined;
  readonly json: boolean;
}

/** What the exhaustive part of all scenarios came to. */
interface Total {
  schedules: number;
  states: number;
  steps: number;
  ms: number;
}

/** All interleavings, then random ones; true when nothing is wrong. */
async function exploreOne(source: ScenarioSource, settings: Settings, total: Total): Promise<boolean> {
  const { scenario } = source;
  const { mutation, json, maxMs } = settings;
  const threads = String(scenario.threads.length);
  if (scenario.random !== true) {
    const preemptions = settings.preemptions ?? scenario.preemptions ?? Infinity;
    const outcome = catalogue.explore(source, { preemptions, maxMs }, mutation);
    const id = outcome.schedule && catalogue.idOf(scenario.name, mutation?.name, outcome.schedule);
    const bound = preemptions === Infinity ? 'none' : String(preemptions);
    const { schedules, states, steps, ms, failure, complete } = outcome;
    total.schedules += schedules;
    total.states += states;
    total.steps += steps;
    total.ms += ms;
    const counts = [schedules, states, steps, Math.round(ms)].map(String);
    const result = failure?.kind ?? (complete ? 'all covered, no violation' : 'out of time, no violation');
    if (json)
      console.log(JSON.stringify({ scenario: scenario.name, preemptions: bound, ...outcome, schedule: id }));
    else console.log(line(scenario.name, threads, bound, ...counts, result));
    if (failure !== undefined && !json) await explain(id, failure.message);
    if (failure !== undefined || !complete) return false;
  }
  const count = scenario.random === true ? settings.random * 20 : settings.random;
  if (count === 0) return true;
  const outcome = catalogue.exploreRandom(source, count, settings.seed, maxMs, mutation);
  const { schedules, steps, ms, failure } = outcome;
  const id = outcome.schedule && catalogue.idOf(scenario.name, mutation?.name, outcome.schedule);
  if (json)
    console.log(JSON.stringify({ scenario: scenario.name, seed: settings.seed, ...outcome, schedule: id }));
  else if (scenario.random === true || failure !== undefined) {
    const result = failure?.kind ?? `random, seed ${settings.seed}, no violation`;
    console.log(
      line(
        scenario.name,
        threads,
        'random',
        String(schedules),
        '',
        String(steps),
        String(Math.round(ms)),
        result,
      ),
    );
    if (failure !== undefined) await explain(id, failure.message);
  }
  return failure === undefined;
}

async function explain(id: string | undefined, message: string): Promise<void> {
  if (id === undefined) console.log(message);
  else await showReplay(id);
}

function line(...cells: readonly string[]): string {
  const widths = [24, 8, 6, 10, 9, 9, 7, 0];
  return cells
    .map((c, i) => (i === 0 || i === 7 ? c.padEnd(widths[i]) : c.padStart(widths[i])))
    .join(' ')
    .trimEnd();
}

async function showReplay(id: string): Promise<number> {
  const { execution, replay } = await catalogue.replayId(id);
  console.log(catalogue.tableOf(execution, replay.steps));
  if (replay.failure === undefined) {
    console.log('no violation');
    return 0;
  }
  console.log(`${replay.failure.kind}: ${replay.failure.message}`);
  console.log(`again: smp86 explore --replay '${id}'`);
  return 1;
}

async function mutate(names: readonly string[], json: boolean): Promise<number> {
  const chosen = names.length === 0 ? catalogue.MUTATIONS.map((m) => m.name) : names;
  const mutations = chosen.map(catalogue.mutationNamed);
  const widest = Math.max(...mutations.map((m) => m.name.length));
  let missed = 0;
  for (const mutation of mutations) {
    const { outcome, preemptions, id, replays } = await catalogue.tryMutation(mutation);
    if (id === undefined || !replays) missed++;
    if (json)
      console.log(
        JSON.stringify({
          mutation: mutation.name,
          id,
          replays,
          preemptions,
          ...outcome,
          schedule: undefined,
        }),
      );
    else {
      const how =
        id === undefined
          ? 'NOT FOUND'
          : `${outcome.failure!.kind}${replays ? '' : ' (DOES NOT REPLAY)'} with ${preemptions} preemptions, ${outcome.schedule!.length} steps`;
      console.log(
        `${mutation.name.padEnd(widest)}  ${String(Math.round(outcome.ms)).padStart(6)} ms  ${how}`,
      );
      console.log(`${''.padEnd(widest)}  ${mutation.note}${id === undefined ? '' : `  --replay '${id}'`}`);
    }
  }
  console.log(
    `${mutations.length - missed} of ${mutations.length} faults found, each with a schedule that replays`,
  );
  return missed > 0 ? 1 : 0;
}
