/** `smp86 explore`: tries all interleavings of the scenarios, does a schedule again, plants the faults. */
import { parseArgs } from 'node:util';
import {
  allScenarios,
  CatalogueError,
  explore,
  exploreRandom,
  idOf,
  mutationNamed,
  replayId,
  tryMutation,
} from './catalogue.ts';
import type { ScenarioSource } from './execution.ts';
import { type Mutation, MUTATIONS } from './mutations/index.ts';
import { tableOf } from './report.ts';

const USAGE = `usage: smp86 explore [options] [scenario ...]
  --list               names of the scenarios
  --preemptions N      bound on switches away from a thread that could go on (default: the scenario's own)
  --random N           random schedules after that (default 200; 20 times as many where only these are)
  --seed N             of the random schedules (default 1)
  --seconds N          at most this long for a scenario (default 60)
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

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  if (values.replay !== undefined) return await showReplay(values.replay);
  if (values.mutate) return await mutate(positionals, values.json === true);
  const scenarios = (await allScenarios()).filter(
    (s) => positionals.length === 0 || positionals.some((p) => s.scenario.name === p),
  );
  for (const name of positionals) {
    if (!scenarios.some((s) => s.scenario.name === name))
      throw new CatalogueError('no-scenario', `there is no scenario ${name}`);
  }
  if (values.list) {
    for (const { scenario } of scenarios) console.log(`${scenario.name.padEnd(24)} ${scenario.title}`);
    return 0;
  }
  const mutation = values.mutation === undefined ? undefined : mutationNamed(values.mutation);
  const settings: Settings = {
    maxMs: Number(values.seconds ?? 60) * 1000,
    preemptions: values.preemptions === undefined ? undefined : Number(values.preemptions),
    random: Number(values.random ?? 200),
    seed: Number(values.seed ?? 1),
    mutation,
    json: values.json === true,
  };
  if (!settings.json)
    console.log(line('scenario', 'threads', 'bound', 'schedules', 'states', 'steps', 'ms', 'result'));
  let failed = 0;
  for (const source of scenarios) if (!(await exploreOne(source, settings))) failed++;
  return failed > 0 ? 1 : 0;
}

interface Settings {
  readonly maxMs: number;
  readonly preemptions: number | undefined;
  readonly random: number;
  readonly seed: number;
  readonly mutation: Mutation | undefined;
  readonly json: boolean;
}

/** All interleavings, then random ones; true when nothing is wrong. */
async function exploreOne(source: ScenarioSource, settings: Settings): Promise<boolean> {
  const { scenario } = source;
  const { mutation, json, maxMs } = settings;
  const threads = String(scenario.threads.length);
  if (scenario.random !== true) {
    const preemptions = settings.preemptions ?? scenario.preemptions ?? Infinity;
    const outcome = explore(source, { preemptions, maxMs }, mutation);
    const id = outcome.schedule && idOf(scenario.name, mutation?.name, outcome.schedule);
    const bound = preemptions === Infinity ? 'none' : String(preemptions);
    const { schedules, states, steps, ms, failure, complete } = outcome;
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
  const outcome = exploreRandom(source, count, settings.seed, maxMs, mutation);
  const { schedules, steps, ms, failure } = outcome;
  const id = outcome.schedule && idOf(scenario.name, mutation?.name, outcome.schedule);
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
  const { execution, replay } = await replayId(id);
  console.log(tableOf(execution, replay.steps));
  if (replay.failure === undefined) {
    console.log('no violation');
    return 0;
  }
  console.log(`${replay.failure.kind}: ${replay.failure.message}`);
  console.log(`again: npm run explore -- --replay '${id}'`);
  return 1;
}

async function mutate(names: readonly string[], json: boolean): Promise<number> {
  const mutations = names.length === 0 ? MUTATIONS : names.map(mutationNamed);
  const widest = Math.max(...mutations.map((m) => m.name.length));
  let missed = 0;
  for (const mutation of mutations) {
    const { outcome, preemptions, id, replays } = await tryMutation(mutation);
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

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof CatalogueError) && !(error instanceof SyntaxError) && !(error instanceof TypeError))
    throw error;
  console.error(`smp86 explore: ${error.message}`);
  process.exitCode = 2;
}
